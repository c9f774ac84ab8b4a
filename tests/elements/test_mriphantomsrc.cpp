// SPDX-License-Identifier: LGPL-2.1-or-later
#include "data_gen/scenes/heart.hpp"
#include "tests/support/gst_test.hpp"

#include <cmath>
#include <map>

namespace {

using namespace mri;
using namespace mri::test;

struct Frame {
    ImageInfo info;
    GstClockTime pts, duration;
    bool discont;
    std::vector<float> pixels;
};

struct Played {
    RunResult result;
    std::vector<Frame> frames;
};

Played run(const std::string& properties, const std::string& sink = "appsink sync=false") {
    Played out;
    out.result = run_pipeline(
        "mriphantomsrc " + properties + " ! " + sink, 60, [&](const std::string&, GstSample* sample) {
            GstBuffer* buffer = gst_sample_get_buffer(sample);
            out.frames.push_back({ImageInfo::from_caps(gst_sample_get_caps(sample)), GST_BUFFER_PTS(buffer),
                                  GST_BUFFER_DURATION(buffer),
                                  GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT) != 0,
                                  values_of<float>(buffer)});
        });
    return out;
}

TEST(MriPhantomSrc, ShowsTheSceneOfItsSeed) {
    const auto [result, frames] =
        run("seed=5 width=64 height=48 framerate=20/1 heart-rate=90 breathing-rate=12 num-buffers=4");
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty());
    ASSERT_EQ(frames.size(), 4u);
    HeartOptions options;
    options.seed = 5;
    options.heart_rate = 90.0;
    options.breathing_rate = 12.0;
    const HeartScene scene(options);
    for (std::size_t i = 0; i < frames.size(); ++i) {
        const ImageInfo& info = frames[i].info;
        EXPECT_EQ(info.format, SampleFormat::f32);
        EXPECT_EQ(info.channels, 1);
        EXPECT_EQ(info.width, 64);
        EXPECT_EQ(info.height, 48);
        EXPECT_DOUBLE_EQ(info.fov_x, scene.natural_fov());
        EXPECT_DOUBLE_EQ(info.fov_y, scene.natural_fov() * 48 / 64);
        EXPECT_EQ(info.framerate, (Fraction{20, 1}));
        EXPECT_EQ(info.series, 0);
        std::vector<float> expected(64 * 48);
        scene.render(static_cast<double>(i) / 20.0, 64, 48, info.fov_x, info.fov_y, expected.data());
        EXPECT_EQ(frames[i].pixels, expected) << i;
    }
}

TEST(MriPhantomSrc, SeriesFollowWithoutAGapInTime) {
    const auto [result, frames] = run("seed=8 width=32 height=32 framerate=30/1 series=3 frames=5");
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(frames.size(), 15u);
    for (std::size_t i = 0; i < frames.size(); ++i) {
        EXPECT_EQ(frames[i].info.series, static_cast<int>(i / 5));
        // Exact thirds of 0.1 s, rounded down once.
        EXPECT_EQ(frames[i].pts, i * GST_SECOND / 30);
        EXPECT_EQ(frames[i].pts + frames[i].duration, (i + 1) * GST_SECOND / 30);
        EXPECT_EQ(frames[i].discont, i == 0);
    }
    EXPECT_NE(frames[0].pixels, frames[5].pixels);
    // The second series is the first one of the next seed.
    const auto next = run("seed=9 width=32 height=32 framerate=30/1 num-buffers=1");
    ASSERT_EQ(next.frames.size(), 1u);
    EXPECT_EQ(next.frames[0].pixels, frames[5].pixels);
}

TEST(MriPhantomSrc, SpreadChangesTheRatesAndNotTheAnatomy) {
    const auto plain = run("seed=8 width=32 height=32 num-buffers=10 heart-rate=60");
    const auto spread = run("seed=8 width=32 height=32 num-buffers=10 heart-rate=60 rate-spread=0.5");
    ASSERT_EQ(plain.frames.size(), 10u);
    ASSERT_EQ(spread.frames.size(), 10u);
    EXPECT_EQ(plain.frames[0].info.fov_x, spread.frames[0].info.fov_x);
    EXPECT_NE(plain.frames[9].pixels, spread.frames[9].pixels);
}

TEST(MriPhantomSrc, TakesTheFieldOfView) {
    const auto [result, frames] = run("width=64 height=32 fov=400 num-buffers=1");
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_DOUBLE_EQ(frames[0].info.fov_x, 400.0);
    EXPECT_DOUBLE_EQ(frames[0].info.fov_y, 200.0);
}

TEST(MriPhantomSrc, LivePacesByTheClock) {
    const auto start = g_get_monotonic_time();
    const auto [result, frames] = run("is-live=true width=32 height=32 framerate=20/1 num-buffers=7");
    const auto elapsed = g_get_monotonic_time() - start;
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(frames.size(), 7u);
    EXPECT_GE(elapsed, 6 * G_USEC_PER_SEC / 20); // the seventh frame is due 6 frame durations after the first
    for (std::size_t i = 0; i < frames.size(); ++i)
        EXPECT_EQ(frames[i].pts - frames[0].pts, i * GST_SECOND / 20);
    // GstBaseSrc moves the first buffer of a live source to the running time at which it was made.
    EXPECT_LT(frames[0].pts, GST_SECOND);
}

TEST(MriPhantomSrc, LiveAnswersTheLatencyQuery) {
    auto h = harness("mriphantomsrc is-live=true width=16 height=16 framerate=100/1 num-buffers=3");
    gst_harness_use_systemclock(h.get());
    gst_harness_play(h.get());
    const auto first = adopt(gst_harness_pull(h.get()));
    ASSERT_TRUE(first);
    EXPECT_LE(gst_harness_query_latency(h.get()), 10 * GST_MSECOND); // no more than a frame
}

TEST(MriPhantomSrc, KnowsItsDuration) {
    auto h = harness("mriphantomsrc width=16 height=16 framerate=10/1 series=2 frames=15");
    gst_harness_play(h.get());
    const auto first = adopt(gst_harness_pull(h.get()));
    ASSERT_TRUE(first);
    gint64 duration = 0;
    ASSERT_TRUE(gst_pad_peer_query_duration(h->sinkpad, GST_FORMAT_TIME, &duration));
    EXPECT_EQ(duration, 3 * static_cast<gint64>(GST_SECOND));
}

TEST(MriPhantomSrc, StartsAgainWithOtherSettings) {
    auto element =
        adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mriphantomsrc", nullptr))));
    ASSERT_TRUE(element);
    Harness h(gst_harness_new_with_element(element.get(), nullptr, "src"));
    for (const int width : {16, 32}) {
        g_object_set(element.get(), "width", width, "height", 16, "num-buffers", 1, nullptr);
        gst_harness_play(h.get());
        const auto buffer = adopt(gst_harness_pull(h.get()));
        ASSERT_TRUE(buffer);
        EXPECT_EQ(gst_buffer_get_size(buffer.get()), static_cast<gsize>(width) * 16 * sizeof(float));
        EXPECT_EQ(GST_BUFFER_PTS(buffer.get()), 0u);
        gst_element_set_state(element.get(), GST_STATE_NULL);
    }
}

TEST(MriPhantomSrc, SurvivesStateCycles) {
    auto element =
        adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mriphantomsrc", nullptr))));
    ASSERT_TRUE(element);
    // Linked: a source alone finds out that nobody takes what it makes.
    Harness h(gst_harness_new_with_element(element.get(), nullptr, "src"));
    BusWatch watch(element.get());
    for (int i = 0; i < 5; ++i) {
        gst_element_set_state(element.get(), GST_STATE_PLAYING);
        gst_element_set_state(element.get(), GST_STATE_NULL);
    }
    EXPECT_EQ(watch.errors(), std::vector<std::string>{});
}

TEST(MriPhantomSrc, SaysOnceThatSeriesNeedFrames) {
    const auto [result, frames] = run("series=2");
    EXPECT_FALSE(result.eos);
    ASSERT_EQ(result.errors.size(), 1u);
    EXPECT_NE(result.errors[0].find("frames"), std::string::npos) << result.errors[0];
    EXPECT_TRUE(frames.empty());
}

} // namespace
