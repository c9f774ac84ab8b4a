// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/intensity.hpp"
#include "models/crnn/cartesian_grid.hpp"
#include "models/crnn/crnn.hpp"
#include "tests/support/exact_dft.hpp"
#include "tests/support/network_support.hpp"

#include <complex>
#include <limits>
#include <numbers>
#include <tuple>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int width = 12;
constexpr int height = 10;

class MriCrnn : public testing::Test {
  protected:
    MriCrnn() {
        TensorFile file = read_safetensors(env("GST_MRI_GOLDEN_DIR") + "/crnn/small.safetensors");
        std::erase_if(file.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
        write_safetensors(weights_, file);
    }

    std::string line(const std::string& more = "") const {
        return "mricrnn precision=float32 threads=1 window=4 weights=" + weights_ + " " + more;
    }
    static ImageInfo image() { return image_info(width, height, 0, SampleFormat::c64); }
    static KspaceInfo kspace() {
        KspaceInfo info;
        info.alignment = Alignment::frame;
        info.samples = width;
        info.width = width;
        info.height = height;
        info.trajectory = Trajectory::cartesian;
        info.framerate = {25, 1};
        return info;
    }
    /// Lines 1, 4, 5 and another one of each frame, any values.
    static std::vector<int> lines(int frame) { return {1, 4, 5, 6 + frame % 4}; }
    static std::vector<cfloat> samples(int frame) {
        std::vector<cfloat> out;
        for (const int line : lines(frame))
            for (int x = 0; x < width; ++x)
                out.emplace_back(std::cos(0.3F * static_cast<float>(x + line)),
                                 0.1F * static_cast<float>(frame));
        return out;
    }
    static std::vector<float> positions(int frame) {
        std::vector<float> out;
        for (const int line : lines(frame))
            for (int x = 0; x < width; ++x) {
                out.push_back(static_cast<float>(x - width / 2));
                out.push_back(static_cast<float>(line - height / 2));
            }
        return out;
    }
    static std::vector<cfloat> pixels(int frame) {
        std::vector<cfloat> out;
        for (const float v : blob(width, height, frame))
            out.emplace_back(v, 0.2F * v);
        return out;
    }
    static std::vector<cfloat> times(std::vector<cfloat> values, float gain) {
        for (cfloat& v : values)
            v *= gain;
        return values;
    }
    static GstPtr<GstBuffer> frame(int f, const KspaceInfo& info = kspace(), float gain = 1) {
        auto side = frame_of(times(samples(f), gain), f);
        auto trajectory = std::make_shared<TrajectoryData>();
        trajectory->readouts = 4;
        trajectory->samples = width;
        trajectory->kxy = positions(f);
        add_trajectory(side.get(), trajectory);
        auto buffer = frame_of(times(pixels(f), gain), f);
        add_side(buffer.get(), Role::kspace, side.get(), info.to_caps().get());
        return buffer;
    }

    /// Sums of |s(k) - y|^2 and |y|^2 over the samples of a frame, by the definition of s(k), and their
    /// number.
    static std::tuple<double, double, double> distance(const std::vector<cfloat>& pixels, int frame) {
        const auto y = samples(frame);
        const auto k = positions(frame);
        const auto signal = mri::test::exact_forward(k, pixels.data(), width, height);
        double rest = 0, power = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            rest += std::norm(signal[i] - std::complex<double>(y[i]));
            power += std::norm(std::complex<double>(y[i]));
        }
        return {rest, power, static_cast<double>(y.size())};
    }

    TempDir folder_;
    std::string weights_ = folder_.path("small.safetensors");
};

TEST_F(MriCrnn, ComputesWhatTheLibraryDoes) {
    auto h = harness(line("iterations=3 tau=0.5 noise=0.5"));
    gst_harness_set_src_caps(h.get(), image().to_caps().release());
    EXPECT_GT(gst_harness_query_latency(h.get()), 3 * frame_time);
    std::vector<cfloat> input;
    std::vector<float> magnitude;
    const std::size_t count = static_cast<std::size_t>(width) * height;
    std::vector<cfloat> grid(4 * count);
    std::vector<float> mask(4 * count);
    for (int f = 0; f < 4; ++f) {
        ASSERT_EQ(gst_harness_push(h.get(), frame(f).release()), GST_FLOW_OK);
        for (const cfloat value : pixels(f)) {
            input.push_back(value);
            magnitude.push_back(std::abs(value));
        }
        const std::size_t at = static_cast<std::size_t>(f) * count;
        place_on_grid(samples(f), positions(f), width, height, std::span(grid).subspan(at, count),
                      std::span(mask).subspan(at, count));
    }
    const float scale = intensity_scale(magnitude, 4);
    for (std::vector<cfloat>* values : {&input, &grid})
        for (cfloat& value : *values)
            value /= scale;
    std::vector<cfloat> expected(input.size());
    Crnn::load(weights_, {3, 0.5F}, {"cpu", Precision::float32, 1})
        .run(input, grid, mask, expected, {4, height, width});
    for (int f = 0; f < 4; ++f) {
        const auto buffer = adopt(gst_harness_try_pull(h.get()));
        ASSERT_TRUE(buffer);
        EXPECT_EQ(GST_BUFFER_PTS(buffer.get()), static_cast<GstClockTime>(f) * frame_time);
        EXPECT_TRUE(side_of(buffer.get(), Role::kspace));
        const auto values = values_of<cfloat>(buffer.get());
        for (std::size_t i = 0; i < count; ++i) // the same arithmetic twice, one thread
            ASSERT_EQ(values[i], expected[static_cast<std::size_t>(f) * count + i] * scale);

        const auto [rest, power, number] = distance(values, f);
        const auto consistency = consistency_of(buffer.get());
        ASSERT_TRUE(consistency);
        EXPECT_GT(rest, 1e-3 * power) << "nothing is left: no test at all";
        // float32 sums of 120 pixels
        EXPECT_NEAR(consistency->residual, std::sqrt(rest / power), 1e-4 * std::sqrt(rest / power));
        EXPECT_NEAR(consistency->noise_ratio, std::sqrt(rest / number) / (std::sqrt(2.0) * 0.5), 1e-3);
    }
}

TEST_F(MriCrnn, HardConsistencyLeavesNothing) {
    auto h = harness(line("iterations=2"));
    gst_harness_set_src_caps(h.get(), image().to_caps().release());
    for (int f = 0; f < 4; ++f)
        ASSERT_EQ(gst_harness_push(h.get(), frame(f).release()), GST_FLOW_OK);
    for (int f = 0; f < 4; ++f) {
        const auto buffer = adopt(gst_harness_try_pull(h.get()));
        ASSERT_TRUE(buffer);
        const auto consistency = consistency_of(buffer.get());
        ASSERT_TRUE(consistency);
        EXPECT_LT(consistency->residual, 1e-5); // a transform there and back in float32
        EXPECT_EQ(consistency->noise_ratio, 0.0) << "the noise is not known";
    }
}

TEST_F(MriCrnn, OneErrorForWhatItCannotUse) {
    const auto error = [this](GstPtr<GstBuffer> buffer) {
        auto h = harness(line());
        BusWatch bus(h->element);
        gst_harness_set_src_caps(h.get(), image().to_caps().release());
        GstFlowReturn flow = gst_harness_push(h.get(), buffer.release());
        for (int f = 1; f < 4 && flow == GST_FLOW_OK; ++f)
            flow = gst_harness_push(h.get(), frame(f).release());
        EXPECT_EQ(flow, GST_FLOW_ERROR);
        const auto errors = bus.errors();
        EXPECT_EQ(errors.size(), 1U);
        return errors.empty() ? std::string() : errors.front();
    };
    EXPECT_NE(error(frame_of(pixels(0), 0)).find("without its k-space"), std::string::npos);
    KspaceInfo other = kspace();
    other.height = height + 2;
    EXPECT_NE(error(frame(0, other)).find("12 x 12"), std::string::npos);
    EXPECT_EQ(run_pipeline("mriphantomsrc num-buffers=1 ! mrisim trajectory=cartesian ! mriframer ! mrigrid "
                           "combine=none attach-kspace=true ! mricrnn weights=/nowhere.pth ! fakesink")
                  .errors.size(),
              1U);
}

TEST_F(MriCrnn, TakesSpokesOfSeveralCoils) {
    std::vector<std::vector<cfloat>> images, starts;
    const RunResult result = run_pipeline(
        "mriphantomsrc num-buffers=4 width=32 height=32 ! mrisim spokes=7 coils=3 ! mriframer ! mrirecon "
        "window=4 attach-kspace=true combine=adaptive attach-sensitivities=true ! " +
            line("attach-input=true") + " ! appsink name=out",
        60, [&](const std::string&, GstSample* sample) {
            GstBuffer* buffer = gst_sample_get_buffer(sample);
            images.push_back(values_of<cfloat>(buffer));
            starts.push_back(values_of<cfloat>(gst_sample_get_buffer(side_of(buffer, Role::input))));
        });
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty()) << result.errors.front();
    ASSERT_EQ(images.size(), 4U);
    for (std::size_t t = 0; t < 4; ++t) {
        double change = 0, power = 0;
        for (std::size_t i = 0; i < images[t].size(); ++i) {
            ASSERT_TRUE(std::isfinite(std::norm(images[t][i])));
            change += std::norm(images[t][i] - starts[t][i]);
            power += std::norm(starts[t][i]);
        }
        // Random weights spoil the picture, and the samples hold it: neither nothing nor everything changes.
        EXPECT_GT(change, 1e-6 * power);
        EXPECT_LT(change, power);
    }
}

/// K-space frames give what they give behind the element that makes the images of them: the same arithmetic
/// twice, one thread.
TEST_F(MriCrnn, KspaceBeginsAsBehindTheReconstruction) {
    struct Case {
        std::string simulation, front, more = "";
    };
    for (const auto& [simulation, front, more] :
         {Case{"trajectory=cartesian acceleration=4", "mrigrid combine=none attach-kspace=true"},
          Case{"trajectory=cartesian acceleration=4 oversampling=2",
               "mrigrid combine=none attach-kspace=true"},
          Case{"trajectory=cartesian acceleration=4 coils=4",
               "mrigrid combine=adaptive attach-kspace=true attach-sensitivities=true"},
          Case{"spokes=7", "mrirecon window=4 attach-kspace=true"},
          Case{"spokes=7 coils=4", "mrirecon window=4 attach-kspace=true attach-sensitivities=true"},
          Case{"trajectory=cartesian acceleration=4", "mrigrid combine=none attach-kspace=true",
               "causal=true "},
          Case{"spokes=7 coils=4",
               "mrigrid background=20 combine=adaptive attach-kspace=true attach-sensitivities=true",
               "causal=true "}}) {
        SCOPED_TRACE(simulation + " " + more);
        const auto run = [&](const std::string& between) {
            std::vector<std::vector<cfloat>> images, starts;
            const RunResult result = run_pipeline(
                "mriphantomsrc num-buffers=8 width=32 height=32 ! mrisim snr=30 seed=2 " + simulation +
                    " ! mriframer ! " + between + line(more + "attach-input=true") + " ! appsink name=out",
                60, [&](const std::string&, GstSample* sample) {
                    GstBuffer* buffer = gst_sample_get_buffer(sample);
                    EXPECT_TRUE(side_of(buffer, Role::truth));
                    images.push_back(values_of<cfloat>(buffer));
                    starts.push_back(values_of<cfloat>(gst_sample_get_buffer(side_of(buffer, Role::input))));
                });
            EXPECT_TRUE(result.eos);
            EXPECT_TRUE(result.errors.empty()) << result.errors.front();
            return std::pair(images, starts);
        };
        const auto direct = run(""), expected = run(front + " ! ");
        ASSERT_EQ(direct.first.size(), 8U);
        EXPECT_EQ(direct.first, expected.first);
        EXPECT_EQ(direct.second, expected.second);
        EXPECT_NE(direct.first, direct.second);
    }
}

/// Readouts that were sampled twice as densely, of a phantom within the field of view, give the same images.
TEST_F(MriCrnn, OversampledReadoutsChangeNothing) {
    const auto run = [&](const std::string& oversampling) {
        std::vector<cfloat> images;
        const RunResult result = run_pipeline(
            "mriphantomsrc num-buffers=4 width=32 height=32 ! mrisim trajectory=cartesian acceleration=4 " +
                oversampling + " ! mriframer ! " + line() + " ! appsink name=out",
            60, [&](const std::string&, GstSample* sample) {
                const auto image = values_of<cfloat>(gst_sample_get_buffer(sample));
                images.insert(images.end(), image.begin(), image.end());
            });
        EXPECT_TRUE(result.errors.empty()) << result.errors.front();
        return images;
    };
    const auto once = run("oversampling=1"), twice = run("oversampling=2");
    ASSERT_EQ(once.size(), 4U * 32 * 32);
    ASSERT_EQ(twice.size(), once.size());
    double difference = 0, power = 0;
    for (std::size_t i = 0; i < once.size(); ++i) {
        difference += std::norm(once[i] - twice[i]);
        power += std::norm(once[i]);
    }
    EXPECT_LT(difference, 1e-4 * power); // of the gridded start and the network's float32
    EXPECT_GT(power, 0.0);
}

TEST_F(MriCrnn, OneErrorForKspaceThatItCannotUse) {
    const auto error = [this](const KspaceInfo& info, GstPtr<GstBuffer> buffer) {
        auto h = harness(line());
        BusWatch bus(h->element);
        gst_harness_set_src_caps(h.get(), info.to_caps().release());
        EXPECT_NE(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
        gst_harness_push_event(h.get(), gst_event_new_eos());
        const auto errors = bus.errors();
        EXPECT_EQ(errors.size(), 1U);
        return errors.empty() ? std::string() : errors.front();
    };
    KspaceInfo readouts = kspace();
    readouts.alignment = Alignment::readout;
    EXPECT_NE(error(readouts, frame_of(samples(0), 0)).find("mriframer"), std::string::npos);
    EXPECT_NE(error(kspace(), frame_of(samples(0), 0)).find("trajectory meta"), std::string::npos);
    KspaceInfo wide = kspace();
    wide.samples = width + 1;
    EXPECT_NE(error(wide, frame_of(samples(0), 0)).find("not a whole number of readouts"), std::string::npos);
}

TEST_F(MriCrnn, RunsBehindTheScanner) {
    int frames = 0;
    const RunResult result =
        run_pipeline("mriphantomsrc num-buffers=6 width=32 height=32 ! mrisim trajectory=cartesian "
                     "acceleration=4 ! mriframer ! mrigrid "
                     "combine=none attach-kspace=true ! " +
                         line() + " ! appsink name=out",
                     60, [&frames](const std::string&, GstSample* sample) {
                         ++frames;
                         EXPECT_TRUE(side_of(gst_sample_get_buffer(sample), Role::truth));
                     });
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty()) << result.errors.front();
    EXPECT_EQ(frames, 6);
}

// ---- frame by frame

class CausalMriCrnn : public MriCrnn {
  protected:
    CausalMriCrnn() {
        TensorFile file = read_safetensors(weights_);
        file.metadata["time"] = "causal";
        write_safetensors(causal_, file);
    }

    std::string causal_line(const std::string& more = "") const {
        return "mricrnn name=net precision=float32 threads=1 weights=" + causal_ + " " + more;
    }
    /// What the library makes of these frames, one after the other; `scale` is of the series so far.
    std::vector<std::vector<cfloat>> streamed(const std::vector<int>& frames, StreamScale& scale,
                                              const CrnnOptions& options = {}, float gain = 1) const {
        auto network = Crnn::load(causal_, options, {"cpu", Precision::float32, 1});
        std::vector<std::vector<cfloat>> out;
        const std::size_t count = static_cast<std::size_t>(width) * height;
        for (const int f : frames) {
            std::vector<cfloat> input = times(pixels(f), gain), grid(count);
            std::vector<float> magnitude, mask(count);
            for (const cfloat value : input)
                magnitude.push_back(std::abs(value));
            place_on_grid(times(samples(f), gain), positions(f), width, height, grid, mask);
            const float factor = scale.update(magnitude, 1);
            for (std::vector<cfloat>* values : {&input, &grid})
                for (cfloat& value : *values)
                    value /= factor;
            network.stream(input, grid, mask, out.emplace_back(count), {1, height, width});
            for (cfloat& value : out.back())
                value *= factor;
        }
        return out;
    }
    static void push_frames(const Harness& h, const std::vector<int>& frames) {
        for (const int f : frames)
            ASSERT_EQ(gst_harness_push(h.get(), frame(f).release()), GST_FLOW_OK) << f;
    }
    static void expect_series(const Harness& h, const std::vector<std::vector<cfloat>>& series) {
        for (std::size_t f = 0; f < series.size(); ++f) {
            const auto image = adopt(gst_harness_try_pull(h.get()));
            ASSERT_TRUE(image) << f;
            EXPECT_EQ(values_of<cfloat>(image.get()), series[f]) << f; // one thread twice: the same bits
        }
        EXPECT_EQ(gst_harness_buffers_in_queue(h.get()), 0U);
    }

    std::string causal_ = folder_.path("causal.safetensors");
};

TEST_F(CausalMriCrnn, GivesEachFrameAtOnce) {
    // By the file's word and by the property, for a file that says nothing; windows do not count.
    for (const bool property : {false, true}) {
        auto h = harness(property ? line("causal=true hop=3 iterations=3 tau=0.5 attach-input=true")
                                  : causal_line("window=20 hop=7 iterations=3 tau=0.5 attach-input=true"));
        gst_harness_set_src_caps(h.get(), image().to_caps().release());
        EXPECT_LT(gst_harness_query_latency(h.get()), 3 * frame_time) << "it waits for a window";
        StreamScale scale, alone;
        const auto series = streamed({0, 1, 2, 3}, scale, {3, 0.5F});
        for (int f = 0; f < 4; ++f) {
            push_frames(h, {f});
            ASSERT_EQ(gst_harness_buffers_received(h.get()), static_cast<guint>(f + 1));
            const auto image = adopt(gst_harness_try_pull(h.get()));
            EXPECT_EQ(values_of<cfloat>(image.get()), series[static_cast<std::size_t>(f)]);
            EXPECT_EQ(GST_BUFFER_PTS(image.get()), static_cast<GstClockTime>(f) * frame_time);
            EXPECT_TRUE(side_of(image.get(), Role::kspace));
            GstSample* input = side_of(image.get(), Role::input);
            ASSERT_TRUE(input);
            EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(input)), pixels(f));
        }
        EXPECT_NE(streamed({3}, alone, {3, 0.5F})[0], series[3])
            << "what was before does not count: no test at all";
        gst_harness_push_event(h.get(), gst_event_new_eos());
        EXPECT_EQ(gst_harness_buffers_received(h.get()), 4U);
    }
}

TEST_F(CausalMriCrnn, BeginsAnewWithASeriesAfterAGapAFlushAndWithAnotherGain) {
    auto h = harness(causal_line());
    gst_harness_set_src_caps(h.get(), image().to_caps().release());
    StreamScale scale;
    push_frames(h, {0, 1});
    expect_series(h, streamed({0, 1}, scale));

    auto gap = frame(2);
    GST_BUFFER_FLAG_SET(gap.get(), GST_BUFFER_FLAG_DISCONT);
    ASSERT_EQ(gst_harness_push(h.get(), gap.release()), GST_FLOW_OK);
    push_frames(h, {3});
    expect_series(h, streamed({2, 3}, scale));

    gst_harness_set_src_caps(h.get(), image_info(width, height, 1, SampleFormat::c64).to_caps().release());
    StreamScale other; // of the new series
    push_frames(h, {1, 2});
    expect_series(h, streamed({1, 2}, other));

    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    push_frames(h, {2, 3});
    expect_series(h, streamed({2, 3}, other));

    for (const int f : {0, 1}) // another gain: what is remembered is of the old one
        ASSERT_EQ(gst_harness_push(h.get(), frame(f, kspace(), 4).release()), GST_FLOW_OK);
    expect_series(h, streamed({0, 1}, other, {}, 4));
}

TEST_F(CausalMriCrnn, DoesNotTakeAWindowedNetworksPlace) {
    auto h = harness(line("name=net"));
    BusWatch bus(h->element);
    gst_harness_set_src_caps(h.get(), image().to_caps().release());
    const auto net = adopt(gst_bin_get_by_name(GST_BIN(h->element), "net"));
    g_object_set(net.get(), "weights", causal_.c_str(), nullptr);
    for (int i = 0; i < 200 && bus.warnings().empty(); ++i)
        g_usleep(20000);
    ASSERT_EQ(bus.warnings().size(), 1U);
    EXPECT_NE(bus.warnings()[0].find("causal.safetensors"), std::string::npos) << bus.warnings()[0];
    push_frames(h, {0, 1, 2});
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 0U) << "a window is not full";
}

TEST_F(CausalMriCrnn, WhatIsNotFiniteIsOneError) {
    auto h = harness(causal_line());
    BusWatch bus(h->element);
    gst_harness_set_src_caps(h.get(), image().to_caps().release());
    push_frames(h, {0});
    auto bad = frame(1);
    {
        GstMapInfo map;
        ASSERT_TRUE(gst_buffer_map(bad.get(), &map, GST_MAP_WRITE));
        reinterpret_cast<float*>(map.data)[7] = std::numeric_limits<float>::quiet_NaN();
        gst_buffer_unmap(bad.get(), &map);
    }
    EXPECT_EQ(gst_harness_push(h.get(), bad.release()), GST_FLOW_ERROR);
    ASSERT_EQ(bus.errors().size(), 1U);
    EXPECT_NE(bus.errors()[0].find("not finite"), std::string::npos) << bus.errors()[0];
}

TEST_F(CausalMriCrnn, TakesSpokesOfSeveralCoilsFrameByFrame) {
    const auto images_of = [&](const std::string& network) {
        std::vector<std::vector<cfloat>> images;
        const RunResult result = run_pipeline(
            "mriphantomsrc num-buffers=4 width=32 height=32 ! mrisim spokes=7 coils=3 ! mriframer ! mrigrid "
            "background=20 combine=adaptive attach-kspace=true attach-sensitivities=true ! " +
                network + " ! appsink name=out",
            60, [&](const std::string&, GstSample* sample) {
                images.push_back(values_of<cfloat>(gst_sample_get_buffer(sample)));
            });
        EXPECT_TRUE(result.eos);
        EXPECT_TRUE(result.errors.empty()) << result.errors.front();
        return images;
    };
    const auto causal = images_of(causal_line("tau=0.5"));
    const auto windowed = images_of(line("tau=0.5"));
    ASSERT_EQ(causal.size(), 4U);
    ASSERT_EQ(windowed.size(), 4U);
    double difference = 0, power = 0;
    for (std::size_t t = 0; t < 4; ++t)
        for (std::size_t i = 0; i < causal[t].size(); ++i) {
            ASSERT_TRUE(std::isfinite(std::norm(causal[t][i])));
            difference += std::norm(causal[t][i] - windowed[t][i]);
            power += std::norm(windowed[t][i]);
        }
    // Random weights spoil both pictures in their own way, and the samples hold both.
    EXPECT_GT(difference, 1e-6 * power);
    EXPECT_LT(difference, power);
}

} // namespace
