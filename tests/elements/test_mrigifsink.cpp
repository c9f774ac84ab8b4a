// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/display_support.hpp"
#include "tests/support/gif_reader.hpp"

#include <gst/video/video.h>

#include <filesystem>
#include <fstream>

namespace {

using namespace display_test;

GstStaticPadTemplate any_src =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);

/// The sink alone behind a source pad of the test's own.
class GifSink : public ::testing::Test {
  protected:
    void SetUp() override {
        element_ =
            mri::adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mrigifsink", nullptr))));
        watch_ = std::make_unique<mri::test::BusWatch>(element_.get());
        h_ = gst_harness_new_empty();
    }
    void TearDown() override {
        gst_element_set_state(element_.get(), GST_STATE_NULL);
        watch_.reset();
        gst_harness_teardown(h_);
    }
    std::string path() const { return folder_.path("a.gif"); }
    void set(const char* name, const char* value) {
        gst_util_set_object_arg(G_OBJECT(element_.get()), name, value);
    }
    void play() {
        set("location", path().c_str());
        if (h_->element)
            gst_harness_play(h_);
        else // starts it, so not before it has a location
            gst_harness_add_element_full(h_, element_.get(), &any_src, "sink", nullptr, nullptr);
    }
    void caps(const char* format, int width, int height, const char* rate = "25/1") {
        const std::string text = std::string("video/x-raw,format=") + format +
                                 ",width=" + std::to_string(width) + ",height=" + std::to_string(height) +
                                 ",framerate=" + rate;
        gst_harness_set_src_caps_str(h_, text.c_str());
    }
    GstFlowReturn push(const std::vector<std::uint8_t>& picture, GstClockTime pts = GST_CLOCK_TIME_NONE,
                       GstClockTime duration = GST_CLOCK_TIME_NONE) {
        return gst_harness_push(h_, mri::test::buffer_of(picture, pts, duration).release());
    }
    bool eos() { return gst_harness_push_event(h_, gst_event_new_eos()); }
    std::size_t files() const {
        namespace fs = std::filesystem;
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()));
    }
    mri::GstPtr<GstElement> element_;
    GstHarness* h_ = nullptr;
    std::unique_ptr<mri::test::BusWatch> watch_;
    mri::test::TempDir folder_;
};

std::vector<std::uint8_t> grey(int frame) { // 4 x 3, so that lines need no padding
    std::vector<std::uint8_t> p;
    for (int i = 0; i < 12; ++i)
        p.push_back(static_cast<std::uint8_t>(20 * i + frame));
    return p;
}

TEST_F(GifSink, WritesGreyPicturesExactly) {
    play();
    caps("GRAY8", 4, 3);
    for (int t = 0; t < 3; ++t)
        ASSERT_EQ(push(grey(t), t * 40 * GST_MSECOND, 40 * GST_MSECOND), GST_FLOW_OK);
    EXPECT_FALSE(std::filesystem::exists(path()));
    ASSERT_TRUE(eos());
    EXPECT_EQ(files(), 1u);
    const ReadGif gif = read_gif(path());
    ASSERT_EQ(gif.frames.size(), 3u);
    EXPECT_EQ(gif.repeats, 0);
    for (int t = 0; t < 3; ++t) {
        EXPECT_EQ(gif.frames[t].delay, 4);
        for (int i = 0; i < 12; ++i) {
            const std::uint8_t v = grey(t)[i];
            EXPECT_EQ(gif.frames[t].pixels[i], (std::array<std::uint8_t, 3>{v, v, v}));
        }
    }
}

TEST_F(GifSink, WritesColoursWithPaddedLines) {
    set("loop", "1");
    play();
    caps("RGB", 3, 2); // lines of 9 bytes are padded to 12
    std::vector<std::uint8_t> p(24);
    for (int y = 0; y < 2; ++y)
        for (int i = 0; i < 9; ++i)
            p[y * 12 + i] = static_cast<std::uint8_t>(100 * y + 10 * i);
    ASSERT_EQ(push(p, 0), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    const ReadGif gif = read_gif(path());
    ASSERT_EQ(gif.frames.size(), 1u);
    EXPECT_EQ(gif.repeats, -1);
    EXPECT_EQ(gif.frames[0].delay, 4); // the caps' rate
    EXPECT_EQ(gif.frames[0].pixels[5], (std::array<std::uint8_t, 3>{160, 170, 180}));
}

TEST_F(GifSink, DelaysFollowTheTimeStampsWithoutDrift) {
    play();
    caps("GRAY8", 4, 3, "0/1");
    const GstClockTime frame = 39 * GST_MSECOND;
    for (int t = 0; t < 21; ++t)
        ASSERT_EQ(push(grey(t), GST_SECOND + t * frame, frame), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    const ReadGif gif = read_gif(path());
    ASSERT_EQ(gif.frames.size(), 21u);
    int total = 0;
    for (const auto& f : gif.frames) {
        EXPECT_TRUE(f.delay == 3 || f.delay == 4) << f.delay;
        total += f.delay;
    }
    EXPECT_EQ(total, 82); // 21 x 39 ms = 819 ms
}

TEST_F(GifSink, LeavesOutPicturesThatNoBrowserShows) {
    play();
    caps("GRAY8", 4, 3, "200/1");
    for (int t = 0; t < 40; ++t)
        ASSERT_EQ(push(grey(t), t * 5 * GST_MSECOND, 5 * GST_MSECOND), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    const ReadGif gif = read_gif(path());
    int total = 0;
    for (const auto& f : gif.frames) {
        EXPECT_GE(f.delay, 2);
        total += f.delay;
    }
    // 40 x 5 ms; the last picture is shown for two hundredths, even where its time stamps leave it none.
    EXPECT_GE(total, 20);
    EXPECT_LE(total, 22);
}

TEST_F(GifSink, PicturesBeyondTheMostAreLeftOutWithOneWarning) {
    set("max-frames", "3");
    play();
    caps("GRAY8", 4, 3);
    for (int t = 0; t < 6; ++t)
        ASSERT_EQ(push(grey(t), t * 40 * GST_MSECOND, 40 * GST_MSECOND), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    const ReadGif gif = read_gif(path());
    ASSERT_EQ(gif.frames.size(), 3u);
    EXPECT_EQ(gif.frames[2].delay, 4);
    EXPECT_EQ(gif.frames[2].pixels[1][0], grey(2)[1]);
    const auto warnings = watch_->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("max-frames"), std::string::npos);
}

TEST_F(GifSink, ADelayCanBeSet) {
    set("delay", "7");
    play();
    caps("GRAY8", 4, 3);
    ASSERT_EQ(push(grey(0), 0), GST_FLOW_OK);
    ASSERT_EQ(push(grey(1)), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    for (const auto& f : read_gif(path()).frames)
        EXPECT_EQ(f.delay, 7);
}

TEST_F(GifSink, ALocationThatCannotBeWrittenIsOneErrorAtOnce) {
    set("location", "/nonexistent/folder/a.gif");
    EXPECT_EQ(gst_element_set_state(element_.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    auto errors = watch_->errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("/nonexistent/folder/a.gif"), std::string::npos);
    gst_element_set_state(element_.get(), GST_STATE_NULL);
    set("location", "");
    EXPECT_EQ(gst_element_set_state(element_.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    EXPECT_EQ(watch_->errors().size(), 2u);
}

TEST_F(GifSink, WithoutPicturesThatIsAnErrorAndNothingIsWritten) {
    play();
    caps("GRAY8", 4, 3);
    EXPECT_FALSE(eos());
    EXPECT_EQ(files(), 0u);
    EXPECT_EQ(watch_->errors().size(), 1u);
}

TEST_F(GifSink, AChangeOfSizeIsOneError) {
    play();
    caps("GRAY8", 4, 3);
    ASSERT_EQ(push(grey(0), 0), GST_FLOW_OK);
    caps("GRAY8", 8, 3);
    EXPECT_NE(push(std::vector<std::uint8_t>(24), 1), GST_FLOW_OK);
    const auto errors = watch_->errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("8x3"), std::string::npos);
}

TEST_F(GifSink, StoppedHalfwayItKeepsTheOldFileAndStartsAnewAfterwards) {
    std::ofstream(path()) << "old";
    play();
    caps("GRAY8", 4, 3);
    ASSERT_EQ(push(grey(0), 0), GST_FLOW_OK);
    gst_element_set_state(element_.get(), GST_STATE_NULL);
    EXPECT_EQ(files(), 1u);
    EXPECT_EQ(std::filesystem::file_size(path()), 3u);
    play();
    caps("GRAY8", 4, 3);
    ASSERT_EQ(push(grey(1), 0), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    const ReadGif gif = read_gif(path());
    ASSERT_EQ(gif.frames.size(), 1u);
    EXPECT_EQ(gif.frames[0].pixels[0][0], 1);
}

TEST_F(GifSink, AFlushStartsTheAnimationAnew) {
    play();
    caps("GRAY8", 4, 3);
    ASSERT_EQ(push(grey(0), 0), GST_FLOW_OK);
    gst_harness_push_event(h_, gst_event_new_flush_start());
    gst_harness_push_event(h_, gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h_, gst_event_new_segment(&segment));
    ASSERT_EQ(push(grey(5), 0), GST_FLOW_OK);
    ASSERT_TRUE(eos());
    const ReadGif gif = read_gif(path());
    ASSERT_EQ(gif.frames.size(), 1u);
    EXPECT_EQ(gif.frames[0].pixels[0][0], 5);
}

} // namespace
