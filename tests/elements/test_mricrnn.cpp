// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cartesian_grid.hpp"
#include "models/crnn.hpp"
#include "models/intensity.hpp"
#include "network_support.hpp"

#include <complex>

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
    static GstPtr<GstBuffer> frame(int f, const KspaceInfo& info = kspace()) {
        auto side = frame_of(samples(f), f);
        auto trajectory = std::make_shared<TrajectoryData>();
        trajectory->readouts = 4;
        trajectory->samples = width;
        trajectory->kxy = positions(f);
        add_trajectory(side.get(), trajectory);
        auto buffer = frame_of(pixels(f), f);
        add_side(buffer.get(), Role::kspace, side.get(), info.to_caps().get());
        return buffer;
    }

    TempDir folder_;
    std::string weights_ = folder_.path("small.safetensors");
};

TEST_F(MriCrnn, ComputesWhatTheLibraryDoes) {
    auto h = harness(line("iterations=3 tau=0.5"));
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
        std::string simulation, front;
    };
    for (const auto& [simulation, front] :
         {Case{"trajectory=cartesian acceleration=4", "mrigrid combine=none attach-kspace=true"},
          Case{"trajectory=cartesian acceleration=4 coils=4",
               "mrigrid combine=adaptive attach-kspace=true attach-sensitivities=true"},
          Case{"spokes=7", "mrirecon window=4 attach-kspace=true"},
          Case{"spokes=7 coils=4", "mrirecon window=4 attach-kspace=true attach-sensitivities=true"}}) {
        SCOPED_TRACE(simulation);
        const auto run = [&](const std::string& between) {
            std::vector<std::vector<cfloat>> images, starts;
            const RunResult result = run_pipeline(
                "mriphantomsrc num-buffers=6 width=32 height=32 ! mrisim snr=30 seed=2 " + simulation +
                    " ! mriframer ! " + between + line("attach-input=true") + " ! appsink name=out",
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
        ASSERT_EQ(direct.first.size(), 6U);
        EXPECT_EQ(direct.first, expected.first);
        EXPECT_EQ(direct.second, expected.second);
        EXPECT_NE(direct.first, direct.second);
    }
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

} // namespace
