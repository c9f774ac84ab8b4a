// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/causal_unet.hpp"
#include "models/unet/unet.hpp"
#include "tests/support/network_support.hpp"

#include <complex>
#include <fstream>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int width = 20;
constexpr int height = 12;

class MriUnet : public testing::Test {
  protected:
    MriUnet() { write_safetensors(weights_, small_network()); }

    std::string line(const std::string& more = "") const {
        return "mriunet precision=float32 threads=1 weights=" + weights_ + " " + more;
    }
    static void set_caps(const Harness& h, const ImageInfo& info) {
        gst_harness_set_src_caps(h.get(), info.to_caps().release());
    }
    static GstFlowReturn push(const Harness& h, int frame, int w = width, int ht = height) {
        return gst_harness_push(h.get(), frame_of(blob(w, ht, frame), frame).release());
    }
    static GstPtr<GstBuffer> pull(const Harness& h) { return adopt(gst_harness_try_pull(h.get())); }
    static guint received(const Harness& h) { return gst_harness_buffers_received(h.get()); }
    static void eos(const Harness& h) { gst_harness_push_event(h.get(), gst_event_new_eos()); }

    /// What the library makes of these frames.
    std::vector<float> expected(const std::vector<int>& frames) const {
        std::vector<float> input;
        for (const int f : frames) {
            const auto pixels = blob(width, height, f);
            input.insert(input.end(), pixels.begin(), pixels.end());
        }
        std::vector<float> output(input.size());
        Unet::load(weights_, {"cpu", Precision::float32, 1})
            .run(input, output, {static_cast<int>(frames.size()), height, width});
        return output;
    }

    static void expect_frame(GstBuffer* buffer, const std::vector<float>& window, std::size_t index) {
        const auto pixels = values_of<float>(buffer);
        ASSERT_EQ(pixels.size(), static_cast<std::size_t>(width) * height);
        for (std::size_t i = 0; i < pixels.size();
             ++i) // the same arithmetic, twice: one thread, so the same bits
            ASSERT_EQ(pixels[i], window[index * pixels.size() + i]) << "pixel " << i;
    }

    TempDir folder_;
    std::string weights_ = folder_.path("small.safetensors");
};

TEST_F(MriUnet, GivesOneFrameForEachWithItsTimesAndMetas) {
    auto h = harness(line("attach-input=true"));
    set_caps(h, image_info(width, height));
    const auto truth_caps = image_info(width, height).to_caps();
    for (int f = 0; f < 8; ++f) {
        EXPECT_EQ(received(h), 0U) << "a window was emitted early";
        auto buffer = frame_of(blob(width, height, f), f);
        add_side(buffer.get(), Role::truth, buffer_of(std::vector<float>(width * height)).get(),
                 truth_caps.get());
        ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
    }
    const auto window = expected({0, 1, 2, 3, 4, 5, 6, 7});
    for (int f = 0; f < 8; ++f) {
        const auto image = pull(h);
        ASSERT_TRUE(image);
        EXPECT_EQ(GST_BUFFER_PTS(image.get()), static_cast<GstClockTime>(f) * frame_time);
        EXPECT_EQ(GST_BUFFER_DURATION(image.get()), frame_time);
        EXPECT_TRUE(side_of(image.get(), Role::truth));
        GstSample* input = side_of(image.get(), Role::input);
        ASSERT_TRUE(input);
        EXPECT_EQ(values_of<float>(gst_sample_get_buffer(input)), blob(width, height, f));
        expect_frame(image.get(), window, static_cast<std::size_t>(f));
    }
    const auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    EXPECT_EQ(ImageInfo::from_caps(caps.get()), image_info(width, height));
}

TEST_F(MriUnet, TakesTheMagnitudeOfComplexImages) {
    auto h = harness(line());
    set_caps(h, image_info(width, height, 0, SampleFormat::c64));
    for (int f = 0; f < 8; ++f) {
        std::vector<cfloat> pixels;
        for (const float v : blob(width, height, f))
            pixels.emplace_back(0.0F, -v);
        ASSERT_EQ(gst_harness_push(h.get(), frame_of(pixels, f).release()), GST_FLOW_OK);
    }
    const auto window = expected({0, 1, 2, 3, 4, 5, 6, 7});
    for (std::size_t f = 0; f < 8; ++f)
        expect_frame(pull(h).get(), window, f);
    const auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    EXPECT_EQ(ImageInfo::from_caps(caps.get()), image_info(width, height));
}

TEST_F(MriUnet, AHopEmitsTheMiddle) {
    auto h = harness(line("window=4 hop=2"));
    set_caps(h, image_info(width, height));
    for (int f = 0; f < 6; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    EXPECT_EQ(received(h), 5U); // 0..2 of the first window, 3 and 4 of the second
    eos(h);
    EXPECT_EQ(received(h), 6U);
    const auto second = expected({2, 3, 4, 5});
    for (std::size_t f = 0; f < 3; ++f)
        EXPECT_TRUE(pull(h));
    // The scale is that of the first window, the expected one's its own: equal to float rounding and their
    // difference in the network's biases, which the scales' ratio (within 1 %) multiplies.
    const auto pixels = values_of<float>(pull(h).get());
    for (std::size_t i = 0; i < pixels.size(); ++i)
        ASSERT_NEAR(pixels[i], second[pixels.size() + i], 0.01);
}

TEST_F(MriUnet, AShortSeriesIsPaddedAtTheEnd) {
    auto h = harness(line());
    set_caps(h, image_info(width, height));
    for (int f = 0; f < 3; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    EXPECT_EQ(received(h), 0U);
    eos(h);
    ASSERT_EQ(received(h), 3U);
    const auto window = expected({0, 0, 0, 1, 2, 2, 2, 2});
    for (std::size_t f = 0; f < 3; ++f)
        expect_frame(pull(h).get(), window, f + 2);
}

TEST_F(MriUnet, NewCapsDrainTheOldSeries) {
    auto h = harness(line());
    set_caps(h, image_info(width, height, 0));
    for (int f = 0; f < 5; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    set_caps(h, image_info(16, 16, 1));
    EXPECT_EQ(received(h), 5U);
    for (int f = 0; f < 8; ++f)
        ASSERT_EQ(push(h, f, 16, 16), GST_FLOW_OK);
    ASSERT_EQ(received(h), 13U);
    for (int f = 0; f < 13; ++f)
        EXPECT_EQ(gst_buffer_get_size(pull(h).get()), sizeof(float) * (f < 5 ? width * height : 16 * 16));
    const auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    EXPECT_EQ(ImageInfo::from_caps(caps.get()), image_info(16, 16, 1));
}

TEST_F(MriUnet, AFlushForgetsTheWindow) {
    auto h = harness(line());
    set_caps(h, image_info(width, height));
    for (int f = 0; f < 5; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    for (int f = 10; f < 18; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    ASSERT_EQ(received(h), 8U);
    EXPECT_EQ(GST_BUFFER_PTS(pull(h).get()), 10 * frame_time);
}

TEST_F(MriUnet, LatencyIsUnknownAndThenTheWindows) {
    auto h = harness(line("window=6 hop=3"));
    auto query = adopt(gst_query_new_latency());
    EXPECT_FALSE(gst_pad_peer_query(h->sinkpad, query.get()));
    set_caps(h, image_info(width, height));
    const GstClockTime latency = gst_harness_query_latency(h.get());
    // Five frames of waiting and the time of a window: that of this tiny one is above 0 and far below a
    // second.
    EXPECT_GT(latency, 5 * frame_time);
    EXPECT_LT(latency, 5 * frame_time + GST_SECOND);
}

TEST_F(MriUnet, LatencyComesFromDurationsWithoutAFramerate) {
    auto h = harness(line("window=6"));
    set_caps(h, image_info(width, height, 0, SampleFormat::f32, {0, 1}));
    auto query = adopt(gst_query_new_latency());
    EXPECT_FALSE(gst_pad_peer_query(h->sinkpad, query.get()));
    ASSERT_EQ(push(h, 0), GST_FLOW_OK);
    EXPECT_GT(gst_harness_query_latency(h.get()), 5 * frame_time);
}

TEST_F(MriUnet, BadWeightsAreOneError) {
    const std::string corrupt = folder_.path("corrupt.safetensors");
    std::ofstream(corrupt) << "this is no weights file, whatever its name says";
    TensorFile file = small_network();
    file.tensors.erase("conv5.weight");
    const std::string incomplete = folder_.path("incomplete.safetensors");
    write_safetensors(incomplete, file);
    const struct {
        std::string property;
        std::string part;
    } cases[] = {{"weights=" + folder_.path("missing.safetensors"), "missing.safetensors"},
                 {"weights=nowhere.safetensors", "nowhere.safetensors"},
                 {"weights=" + corrupt, "corrupt.safetensors"},
                 {"weights=" + incomplete, "conv5.weight"},
                 {"weights=" + weights_ + " device=abacus", "abacus"},
                 {"weights=" + weights_ + " device=cuda:99", "cuda:99"},
                 {"weights=" + weights_ + " window=4 hop=5", "hop of 5"}};
    for (const auto& c : cases) {
        const RunResult result =
            run_pipeline("mriphantomsrc num-buffers=4 ! mriunet " + c.property + " ! fakesink");
        ASSERT_EQ(result.errors.size(), 1U) << c.property;
        EXPECT_NE(result.errors[0].find(c.part), std::string::npos) << result.errors[0];
        EXPECT_FALSE(result.eos);
    }
}

/// As read out of a checkpoint with two state dicts.
TEST_F(MriUnet, SaysThatTheFileHoldsOtherWeightsToo) {
    const TempDir folder;
    TensorFile file = small_network();
    file.metadata["state-dict"] = "model";
    file.metadata["other-state-dicts"] = "ema, params";
    write_safetensors(folder.path("two.safetensors"), file);
    const auto run =
        run_pipeline("mriphantomsrc num-buffers=8 width=16 height=16 ! mriunet threads=1 window=4 weights=" +
                     folder.path("two.safetensors") + " ! fakesink");
    EXPECT_TRUE(run.eos);
    ASSERT_EQ(run.warnings.size(), 1U);
    for (const char* part : {"'model'", "ema, params", "two.safetensors"})
        EXPECT_NE(run.warnings[0].find(part), std::string::npos) << run.warnings[0];
}

TEST_F(MriUnet, WhatTheNetworkThrowsIsOneError) {
    // A window of 1000 frames of 8192 x 8192 is refused by the library in the streaming thread.
    auto big = harness(line("window=1000"));
    BusWatch big_bus(big->element);
    set_caps(big, image_info(8192, 8192));
    EXPECT_EQ(big_bus.errors().size(), 1U);

    // A value that is not a number reaches the network with the window's last frame.
    auto h = harness(line("window=4"));
    BusWatch bus(h->element);
    set_caps(h, image_info(width, height));
    for (int f = 0; f < 3; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    auto pixels = blob(width, height, 3);
    pixels[7] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(gst_harness_push(h.get(), frame_of(pixels, 3).release()), GST_FLOW_ERROR);
    ASSERT_EQ(bus.errors().size(), 1U);
    EXPECT_NE(bus.errors()[0].find("not finite"), std::string::npos) << bus.errors()[0];

    auto wrong = harness(line("window=4"));
    BusWatch wrong_bus(wrong->element);
    set_caps(wrong, image_info(width, height));
    EXPECT_EQ(push(wrong, 0, width + 1, height), GST_FLOW_ERROR);
    EXPECT_EQ(wrong_bus.errors().size(), 1U);
}

TEST_F(MriUnet, StartsAgainWithOtherSettings) {
    GError* error = nullptr;
    auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(
        ("mriphantomsrc num-buffers=10 width=32 height=32 ! mriunet name=net threads=1 weights=" + weights_ +
         " ! fakesink sync=false")
            .c_str(),
        &error))));
    ASSERT_FALSE(error);
    auto net = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "net"));
    auto bus = adopt(gst_element_get_bus(pipeline.get()));
    for (const int window : {4, 8, 3}) {
        g_object_set(net.get(), "window", window, nullptr);
        gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
        auto message = adopt(gst_bus_timed_pop_filtered(
            bus.get(), 30 * GST_SECOND, static_cast<GstMessageType>(GST_MESSAGE_EOS | GST_MESSAGE_ERROR)));
        ASSERT_TRUE(message);
        EXPECT_EQ(GST_MESSAGE_TYPE(message.get()), GST_MESSAGE_EOS) << window;
        gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    }
    gst_element_set_state(pipeline.get(), GST_STATE_READY);
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
}

// ---- weights of a causal U-Net

class CausalMriUnet : public MriUnet {
  protected:
    CausalMriUnet() { write_safetensors(causal_, causal_network()); }

    std::string causal_line(const std::string& more = "") const {
        return "mriunet precision=float32 threads=1 weights=" + causal_ + " " + more;
    }
    /// What the library makes of these frames of a series, one after the other.
    std::vector<std::vector<float>> streamed(const std::vector<int>& frames) const {
        auto network = CausalUnet::load(causal_, {"cpu", Precision::float32, 1});
        std::vector<std::vector<float>> out;
        for (const int f : frames) {
            out.emplace_back(static_cast<std::size_t>(width) * height);
            network.run(blob(width, height, f), out.back(), {1, height, width});
        }
        return out;
    }
    static void expect_series(const Harness& h, const std::vector<std::vector<float>>& series) {
        for (std::size_t f = 0; f < series.size(); ++f) {
            const auto image = pull(h);
            ASSERT_TRUE(image) << f;
            EXPECT_EQ(values_of<float>(image.get()), series[f]) << f; // one thread twice: the same bits
        }
        EXPECT_EQ(gst_harness_buffers_in_queue(h.get()), 0U);
    }

    std::string causal_ = folder_.path("causal.safetensors");
};

TEST_F(CausalMriUnet, GivesEachFrameAtOnce) {
    auto h = harness(causal_line("window=20 hop=7 attach-input=true")); // which count for windows alone
    set_caps(h, image_info(width, height));
    EXPECT_LT(gst_harness_query_latency(h.get()), 5 * frame_time) << "it waits for a window";
    const auto series = streamed({0, 1, 2, 3});
    for (int f = 0; f < 4; ++f) {
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
        ASSERT_EQ(received(h), static_cast<guint>(f + 1));
        const auto image = pull(h);
        EXPECT_EQ(values_of<float>(image.get()), series[static_cast<std::size_t>(f)]);
        EXPECT_EQ(GST_BUFFER_PTS(image.get()), static_cast<GstClockTime>(f) * frame_time);
        GstSample* input = side_of(image.get(), Role::input);
        ASSERT_TRUE(input);
        EXPECT_EQ(values_of<float>(gst_sample_get_buffer(input)), blob(width, height, f));
    }
    EXPECT_NE(streamed({3})[0], series[3]) << "what was before does not count: no test at all";
    eos(h);
    EXPECT_EQ(received(h), 4U);
}

TEST_F(CausalMriUnet, BeginsAnewWithASeriesAfterAGapAndAfterAFlush) {
    auto h = harness(causal_line());
    set_caps(h, image_info(width, height));
    const auto first = streamed({0, 1});
    const auto second = streamed({2, 3});
    for (const int f : {0, 1})
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    expect_series(h, first);

    auto gap = frame_of(blob(width, height, 2), 2);
    GST_BUFFER_FLAG_SET(gap.get(), GST_BUFFER_FLAG_DISCONT);
    ASSERT_EQ(gst_harness_push(h.get(), gap.release()), GST_FLOW_OK);
    ASSERT_EQ(push(h, 3), GST_FLOW_OK);
    expect_series(h, second);

    set_caps(h, image_info(width, height, 1));
    for (const int f : {0, 1})
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    expect_series(h, first);

    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    for (const int f : {2, 3})
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    expect_series(h, second);
}

TEST_F(CausalMriUnet, DoesNotTakeAWindowedNetworksPlace) {
    auto h = harness(line("name=net"));
    BusWatch bus(h->element);
    set_caps(h, image_info(width, height));
    const auto net = adopt(gst_bin_get_by_name(GST_BIN(h->element), "net"));
    g_object_set(net.get(), "weights", causal_.c_str(), nullptr);
    for (int i = 0; i < 200 && bus.warnings().empty(); ++i)
        g_usleep(20000);
    ASSERT_EQ(bus.warnings().size(), 1U);
    EXPECT_NE(bus.warnings()[0].find("causal.safetensors"), std::string::npos) << bus.warnings()[0];
    for (int f = 0; f < 8; ++f)
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
    const auto window = expected({0, 1, 2, 3, 4, 5, 6, 7});
    expect_frame(pull(h).get(), window, 0);
}

TEST_F(CausalMriUnet, BadWeightsAndFramesAreOneError) {
    TensorFile file = causal_network();
    file.tensors.erase("conv5.weight");
    write_safetensors(causal_, file);
    const RunResult result =
        run_pipeline("mriphantomsrc num-buffers=4 ! mriunet weights=" + causal_ + " ! fakesink");
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("conv5.weight"), std::string::npos) << result.errors[0];

    write_safetensors(causal_, causal_network());
    auto h = harness(causal_line());
    BusWatch bus(h->element);
    set_caps(h, image_info(width, height));
    auto pixels = blob(width, height, 0);
    pixels[7] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(gst_harness_push(h.get(), frame_of(pixels, 0).release()), GST_FLOW_ERROR);
    ASSERT_EQ(bus.errors().size(), 1U);
    EXPECT_NE(bus.errors()[0].find("not finite"), std::string::npos) << bus.errors()[0];
}

} // namespace
