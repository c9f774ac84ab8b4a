// SPDX-License-Identifier: LGPL-2.1-or-later
// What all elements around a network share, seen through mriunet: weights changed while playing, statistics,
// windows that come too late, blending of windows that overlap.
#include "models/common/overlap.hpp"
#include "models/unet/unet.hpp"
#include "tests/support/network_support.hpp"

#include <chrono>
#include <fstream>
#include <thread>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int width = 12;
constexpr int height = 8;
constexpr std::size_t pixels = std::size_t{width} * height;

class NetworkElement : public testing::Test {
  protected:
    NetworkElement() {
        TensorFile file = small_network();
        write_safetensors(first_, file);
        for (float& value : file.tensors.at("conv6.bias").values)
            value += 0.25F; // the output's level tells the two networks apart
        write_safetensors(second_, file);
        std::ofstream(bad_) << "this is no weights file, whatever its name says";
    }

    Harness start(const std::string& more) const {
        auto h = harness("mriunet name=net precision=float32 threads=1 weights=" + first_ + " " + more);
        gst_harness_set_src_caps(h.get(), image_info(width, height).to_caps().release());
        return h;
    }
    static void push(const Harness& h, int frame) {
        ASSERT_EQ(gst_harness_push(h.get(), frame_of(blob(width, height, frame), frame).release()),
                  GST_FLOW_OK);
    }
    static std::vector<std::vector<float>> pull_all(const Harness& h) {
        std::vector<std::vector<float>> out;
        while (const auto buffer = adopt(gst_harness_try_pull(h.get())))
            out.push_back(values_of<float>(buffer.get()));
        return out;
    }
    static std::vector<float> run(const std::string& weights, const std::vector<int>& frames) {
        std::vector<float> input;
        for (const int f : frames) {
            const auto frame = blob(width, height, f);
            input.insert(input.end(), frame.begin(), frame.end());
        }
        std::vector<float> output(input.size());
        Unet::load(weights, {"cpu", Precision::float32, 1})
            .run(input, output, {static_cast<int>(frames.size()), height, width});
        return output;
    }
    static GstPtr<GstElement> element(const Harness& h) {
        return adopt(gst_bin_get_by_name(GST_BIN(h->element), "net"));
    }
    static StructurePtr statistics(const Harness& h) {
        GstStructure* out = nullptr;
        g_object_get(element(h).get(), "statistics", &out, nullptr);
        return StructurePtr(out);
    }
    static guint64 count(const Harness& h, const char* field) {
        guint64 value = 0;
        EXPECT_TRUE(gst_structure_get_uint64(statistics(h).get(), field, &value)) << field;
        return value;
    }
    static std::string weights_of(const Harness& h) {
        gchar* text = nullptr;
        g_object_get(element(h).get(), "weights", &text, nullptr);
        const GString_ptr owner(text);
        return text;
    }
    static void set_weights(const Harness& h, const std::string& name) {
        g_object_set(element(h).get(), "weights", name.c_str(), nullptr);
    }
    /// Pushes windows until `done`; false after half a minute.
    static bool push_until(const Harness& h, int& frame, int window, const std::function<bool()>& done) {
        for (int attempt = 0; attempt < 3000; ++attempt) {
            for (int i = 0; i < window; ++i, ++frame)
                push(h, frame);
            if (done())
                return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }

    TempDir folder_;
    std::string first_ = folder_.path("first.safetensors");
    std::string second_ = folder_.path("second.safetensors");
    std::string bad_ = folder_.path("bad.safetensors");
};

// Weights that make an image some million times as bright.
TEST_F(NetworkElement, AnImageThatIsNoneIsMarkedAndTold) {
    TensorFile file = small_network();
    for (float& value : file.tensors.at("conv6.bias").values)
        value = 1e6F;
    write_safetensors(first_, file);
    auto h = start("window=2");
    BusWatch bus(h->element);
    for (int f = 0; f < 4; ++f)
        push(h, f);
    int images = 0;
    while (const auto buffer = adopt(gst_harness_try_pull(h.get()))) {
        EXPECT_TRUE(GST_BUFFER_FLAG_IS_SET(buffer.get(), GST_BUFFER_FLAG_CORRUPTED));
        ++images;
    }
    EXPECT_GT(images, 0);
    const auto warnings = bus.warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_NE(warnings[0].find("times as bright"), std::string::npos) << warnings[0];
}

TEST_F(NetworkElement, CountsAndTimes) {
    auto h = start("window=4 hop=2");
    EXPECT_EQ(count(h, "frames"), 0U);
    // Caps alone came: the network is warm and its time known before the first buffer.
    double warm_up = 0;
    ASSERT_TRUE(gst_structure_get_double(statistics(h).get(), "warm-up-milliseconds", &warm_up));
    EXPECT_GT(warm_up, 0);
    EXPECT_GT(gst_harness_query_latency(h.get()), 3 * frame_time);
    for (int f = 0; f < 8; ++f)
        push(h, f);
    double later = 0;
    gst_structure_get_double(statistics(h).get(), "warm-up-milliseconds", &later);
    EXPECT_EQ(later, warm_up) << "buffers are computed, and nothing is warmed up with them";
    EXPECT_EQ(count(h, "windows"), 3U);
    EXPECT_EQ(count(h, "frames"), 7U);
    gst_harness_push_event(h.get(), gst_event_new_eos());
    EXPECT_EQ(count(h, "frames"), 8U);
    EXPECT_EQ(count(h, "windows"), 3U) << "the last window was computed twice";
    EXPECT_EQ(count(h, "dropped"), 0U);
    const auto s = statistics(h);
    double sum = 0;
    for (const char* field : {"load-milliseconds", "warm-up-milliseconds", "network-milliseconds"}) {
        double value = 0;
        ASSERT_TRUE(gst_structure_get_double(s.get(), field, &value)) << field;
        EXPECT_GT(value, 0) << field;
    }
    for (const char* field : {"prepare-milliseconds", "network-milliseconds", "output-milliseconds"}) {
        double value = -1;
        ASSERT_TRUE(gst_structure_get_double(s.get(), field, &value)) << field;
        EXPECT_GE(value, 0) << field;
        sum += value;
    }
    double longest = 0;
    gst_structure_get_double(s.get(), "longest-milliseconds", &longest);
    // The longest of three windows lasted at least their mean and at most their sum (and the rest of the last
    // one's, emitted at EOS: within a thousandth).
    EXPECT_GE(longest, 0.999 * sum / 3);
    EXPECT_LE(longest, 3.001 * sum);
}

TEST_F(NetworkElement, TheLastWindowAgainGivesItsOwnFrames) {
    auto h = start("window=4 hop=2");
    for (int f = 0; f < 4; ++f)
        push(h, f);
    gst_harness_push_event(h.get(), gst_event_new_eos());
    const auto out = pull_all(h);
    const auto expected = run(first_, {0, 1, 2, 3});
    ASSERT_EQ(out.size(), 4U);
    for (std::size_t f = 0; f < 4; ++f)
        for (std::size_t i = 0; i < pixels; ++i) // the same arithmetic twice, one thread
            ASSERT_EQ(out[f][i], expected[f * pixels + i]) << "frame " << f;
}

TEST_F(NetworkElement, NewWeightsTakeOverBetweenTwoWindows) {
    auto h = start("window=4");
    BusWatch bus(h->element);
    int frame = 0;
    for (; frame < 4; ++frame)
        push(h, frame);
    set_weights(h, second_);
    std::vector<StructurePtr> messages;
    ASSERT_TRUE(push_until(h, frame, 4, [&] {
        for (auto& message : bus.element_messages())
            messages.push_back(std::move(message));
        return !messages.empty();
    }));
    ASSERT_EQ(messages.size(), 1U);
    EXPECT_TRUE(gst_structure_has_name(messages[0].get(), "mri-weights"));
    EXPECT_EQ(gst_structure_get_string(messages[0].get(), "weights"), second_);
    EXPECT_EQ(weights_of(h), second_);
    EXPECT_EQ(count(h, "swaps"), 1U);
    for (int i = 0; i < 4; ++i, ++frame)
        push(h, frame);
    EXPECT_TRUE(bus.warnings().empty());

    // All frames came, in order; the picture changes once, at the beginning of a window.
    const auto out = pull_all(h);
    ASSERT_EQ(out.size(), static_cast<std::size_t>(frame));
    const auto before = run(first_, {0, 1, 2, 3}); // the blob repeats every four frames
    const auto after = run(second_, {0, 1, 2, 3});
    bool changed = false;
    for (std::size_t w = 0; w < out.size() / 4; ++w) {
        changed |= out[4 * w][0] != before[0];
        for (std::size_t i = 0; i < 4 * pixels; ++i)
            ASSERT_EQ(out[4 * w + i / pixels][i % pixels], (changed ? after : before)[i]) << "window " << w;
    }
    EXPECT_TRUE(changed);
}

TEST_F(NetworkElement, BadWeightsLeaveTheOldOnesAtWork) {
    TensorFile file = small_network();
    file.tensors.erase("conv5.weight");
    const std::string incomplete = folder_.path("incomplete.safetensors");
    write_safetensors(incomplete, file);
    auto h = start("window=4");
    BusWatch bus(h->element);
    int frame = 0;
    std::size_t told = 0;
    for (const auto& [name, part] :
         {std::pair{bad_, bad_},
          {incomplete, std::string("conv5.weight")},
          {folder_.path("missing.safetensors"), std::string("missing.safetensors")}}) {
        set_weights(h, name);
        std::vector<std::string> warnings;
        ASSERT_TRUE(push_until(h, frame, 4, [&] {
            warnings = bus.warnings();
            return warnings.size() > told;
        })) << name;
        ASSERT_EQ(warnings.size(), ++told);
        EXPECT_NE(warnings.back().find(part), std::string::npos) << warnings.back();
        EXPECT_NE(warnings.back().find(first_), std::string::npos) << warnings.back();
        EXPECT_EQ(weights_of(h), first_);
    }
    EXPECT_TRUE(bus.errors().empty());
    EXPECT_TRUE(bus.element_messages().empty());
    EXPECT_EQ(count(h, "swaps"), 0U);
    const auto expected = run(first_, {0, 1, 2, 3});
    const auto out = pull_all(h);
    ASSERT_EQ(out.size(), static_cast<std::size_t>(frame));
    for (std::size_t f = 0; f < out.size(); ++f)
        for (std::size_t i = 0; i < pixels; ++i)
            ASSERT_EQ(out[f][i], expected[f % 4 * pixels + i]) << "frame " << f;
}

TEST_F(NetworkElement, OfManyChangesTheLastOneCounts) {
    auto h = start("window=4");
    BusWatch bus(h->element);
    for (const std::string& name : {second_, first_, second_, first_, second_})
        set_weights(h, name);
    int frame = 0;
    // One swap at least; the message of the last one is the last that comes.
    ASSERT_TRUE(push_until(h, frame, 4, [&] { return count(h, "swaps") > 0; }));
    for (int i = 0; i < 4; ++i, ++frame)
        push(h, frame);
    EXPECT_EQ(weights_of(h), second_);
    const auto out = pull_all(h);
    EXPECT_EQ(out.back(), [&] {
        const auto window = run(second_, {0, 1, 2, 3});
        return std::vector<float>(window.end() - static_cast<std::ptrdiff_t>(pixels), window.end());
    }());
}

TEST_F(NetworkElement, AStopInTheMiddleOfLoadingIsClean) {
    for (int i = 0; i < 3; ++i) {
        auto h = start("window=4");
        BusWatch bus(h->element);
        set_weights(h, i == 1 ? bad_ : second_);
        gst_element_set_state(h->element, GST_STATE_NULL);
        EXPECT_TRUE(bus.errors().empty());
    }
}

TEST_F(NetworkElement, NewWeightsBeforeAndAcrossCaps) {
    auto h = harness("mriunet name=net precision=float32 threads=1 window=4 weights=" + first_);
    BusWatch bus(h->element);
    set_weights(h, second_); // no caps yet: nothing to warm up with
    int frame = 0;
    gst_harness_set_src_caps(h.get(), image_info(width, height).to_caps().release());
    ASSERT_TRUE(push_until(h, frame, 4, [&] { return count(h, "swaps") == 1; }));
    set_weights(h, first_);
    gst_harness_set_src_caps(h.get(), image_info(16, 16, 1).to_caps().release());
    for (int attempt = 0; attempt < 3000 && count(h, "swaps") < 2; ++attempt) {
        for (int i = 0; i < 4; ++i)
            ASSERT_EQ(gst_harness_push(h.get(), frame_of(blob(16, 16, i), i).release()), GST_FLOW_OK);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(count(h, "swaps"), 2U);
    EXPECT_TRUE(bus.errors().empty());
    EXPECT_TRUE(bus.warnings().empty());
}

TEST_F(NetworkElement, LateWindowsAreSkippedAndCounted) {
    auto h = start("window=4");
    BusWatch bus(h->element);
    // Earliest = 120 + 2 * 100 ms: the first two windows (frames 0 to 7, of 40 ms) end before.
    gst_harness_push_upstream_event(
        h.get(), gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 1.0, 100 * GST_MSECOND, 121 * GST_MSECOND));
    for (int f = 0; f < 12; ++f)
        push(h, f);
    EXPECT_EQ(count(h, "dropped"), 8U);
    EXPECT_EQ(count(h, "windows"), 1U);
    ASSERT_EQ(gst_harness_buffers_received(h.get()), 4U);
    const auto first = adopt(gst_harness_try_pull(h.get()));
    EXPECT_EQ(GST_BUFFER_PTS(first.get()), 8 * frame_time);
    EXPECT_TRUE(GST_BUFFER_FLAG_IS_SET(first.get(), GST_BUFFER_FLAG_DISCONT));
    const auto second = adopt(gst_harness_try_pull(h.get()));
    EXPECT_FALSE(GST_BUFFER_FLAG_IS_SET(second.get(), GST_BUFFER_FLAG_DISCONT));
    gst_element_set_state(h->element, GST_STATE_NULL);
    EXPECT_EQ(count(h, "dropped"), 8U) << "still to be read after the run";
    gst_element_set_state(h->element, GST_STATE_PAUSED);
    EXPECT_EQ(count(h, "dropped"), 0U);
}

TEST_F(NetworkElement, BlendingIsTheMeanOverTheWindows) {
    constexpr int frames = 7;
    for (const auto& [name, blend] :
         {std::pair{"none", Blend::none}, {"mean", Blend::mean}, {"centre", Blend::centre}}) {
        // The blob repeats every four frames: all windows have one scale, so the network alone is compared.
        auto h = start("window=4 hop=1 blend=" + std::string(name));
        for (int f = 0; f < frames; ++f)
            push(h, f);
        // Settled frames leave with the first window that is complete, as central ones do.
        EXPECT_EQ(gst_harness_buffers_received(h.get()), blend == Blend::none ? 5U : 4U) << name;
        gst_harness_push_event(h.get(), gst_event_new_eos());
        const auto out = pull_all(h);
        ASSERT_EQ(out.size(), std::size_t{frames}) << name;
        std::vector<std::vector<float>> windows;
        for (int start = 0; start + 4 <= frames; ++start)
            windows.push_back(run(first_, {start, start + 1, start + 2, start + 3}));
        const double triangle[] = {1, 2, 2, 1};
        for (int f = 0; f < frames; ++f)
            for (std::size_t i = 0; i < pixels; ++i) {
                double sum = 0;
                double weights = 0;
                for (int start = 0; start + 4 <= frames; ++start) {
                    const int place = f - start;
                    if (place < 0 || place > 3)
                        continue;
                    // Without blending: place 1 of its window, but for the edges of the first and the last.
                    const int own = std::clamp(f - 1, 0, frames - 4);
                    const double weight = blend == Blend::mean     ? 1
                                          : blend == Blend::centre ? triangle[place]
                                          : start == own           ? 1
                                                                   : 0;
                    sum +=
                        weight * static_cast<double>(windows[static_cast<std::size_t>(start)]
                                                            [static_cast<std::size_t>(place) * pixels + i]);
                    weights += weight;
                }
                // Values near 1, up to four sums in float32, and scales that agree to their own rounding.
                ASSERT_NEAR(out[static_cast<std::size_t>(f)][i], sum / weights, 4e-6)
                    << name << ", frame " << f << ", pixel " << i;
            }
    }
}

TEST_F(NetworkElement, BlendedSeriesDoNotMix) {
    auto h = start("window=4 hop=2 blend=mean");
    for (const int side : {12, 16, 12}) {
        gst_harness_set_src_caps(h.get(), image_info(side, 8, side).to_caps().release());
        for (int f = 0; f < 6; ++f)
            ASSERT_EQ(gst_harness_push(h.get(), frame_of(blob(side, 8, f), f).release()), GST_FLOW_OK);
    }
    gst_harness_push_event(h.get(), gst_event_new_eos());
    const auto out = pull_all(h);
    ASSERT_EQ(out.size(), 18U);
    for (std::size_t f = 0; f < 6; ++f)
        EXPECT_EQ(out[f], out[12 + f]) << "frame " << f;
}

} // namespace
