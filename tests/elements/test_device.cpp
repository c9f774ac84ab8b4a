// SPDX-License-Identifier: LGPL-2.1-or-later
// The property device of the elements that transform. What a GPU computes is tested where there is one.
#include "plugins/math/transform/cuda/cuda_nufft.hpp"
#include "tests/support/kspace_support.hpp"

#include <atomic>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int n = 24;
constexpr int samples = 48;
constexpr int spokes = 9;
constexpr int coils = 3;

/// Lines of the log that say that the processor computes.
class FallBackLines {
  public:
    FallBackLines() {
        (gst_debug_remove_log_function)(gst_debug_log_default); // this one looks, and prints nothing
        gst_debug_set_default_threshold(GST_LEVEL_INFO);
        (gst_debug_add_log_function)(&FallBackLines::see, this, nullptr);
    }
    ~FallBackLines() {
        gst_debug_remove_log_function_by_data(this);
        gst_debug_set_default_threshold(GST_LEVEL_NONE);
        (gst_debug_add_log_function)(gst_debug_log_default, nullptr, nullptr);
    }
    FallBackLines(const FallBackLines&) = delete;
    FallBackLines& operator=(const FallBackLines&) = delete;
    int count() const { return count_; }

  private:
    static void see(GstDebugCategory*, GstDebugLevel level, const char*, const char*, int, GObject*,
                    GstDebugMessage* message, gpointer self) {
        const std::string text = gst_debug_message_get(message);
        if (level == GST_LEVEL_INFO && text.find("on the processor: ") != std::string::npos)
            ++static_cast<FallBackLines*>(self)->count_;
    }
    std::atomic<int> count_{0};
};

class Device : public testing::TestWithParam<const char*> {
  protected:
    static GstPtr<GstElement> element(const std::string& device) {
        auto e = adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make(GetParam(), nullptr))));
        if (!device.empty())
            gst_util_set_object_arg(G_OBJECT(e.get()), "device", device.c_str());
        return e;
    }
};

} // namespace

TEST_P(Device, ThatIsNotThereIsOneErrorBeforeTheFirstBuffer) {
    for (const std::string wrong : {"cuda:99", "abacus", "cuda:", "cuda:x"}) {
        auto e = element(wrong);
        {
            BusWatch bus(e.get());
            EXPECT_EQ(gst_element_set_state(e.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE) << wrong;
            const auto errors = bus.errors();
            ASSERT_EQ(errors.size(), 1u) << wrong;
            EXPECT_NE(errors[0].find(wrong == "cuda:99" ? "CUDA device" : wrong), std::string::npos)
                << errors[0];
        }
        gst_element_set_state(e.get(), GST_STATE_NULL);
    }
}

TEST_P(Device, CudaWithoutOneSaysWhy) {
    std::string why;
    if (CudaNufft::devices(&why) > 0)
        GTEST_SKIP() << "this machine has a CUDA device";
    auto e = element("cuda");
    {
        BusWatch bus(e.get());
        EXPECT_EQ(gst_element_set_state(e.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        const auto errors = bus.errors();
        ASSERT_EQ(errors.size(), 1u);
        EXPECT_NE(errors[0].find(why), std::string::npos) << errors[0];
    }
    gst_element_set_state(e.get(), GST_STATE_NULL);
}

TEST_P(Device, AutomaticFallsBackWithOneLine) {
    const bool gpu = CudaNufft::devices() > 0;
    for (const std::string device : {"", "auto", "cpu"}) {
        const FallBackLines lines;
        auto e = element(device);
        EXPECT_EQ(gst_element_set_state(e.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
        EXPECT_EQ(lines.count(), gpu || device == "cpu" ? 0 : 1) << device;
        gst_element_set_state(e.get(), GST_STATE_NULL);
    }
}

INSTANTIATE_TEST_SUITE_P(Elements, Device, testing::Values("mrigrid", "mrirecon", "mrisim"),
                         [](const auto& info) { return info.param; });

namespace {

/// What an element makes of frames, on a device.
std::vector<cfloat> grid(const std::string& fragment, const std::string& device) {
    auto h = harness(fragment + " device=" + device);
    gst_harness_set_src_caps(h.get(), radial_info(n, samples, coils).to_caps().release());
    std::vector<cfloat> images;
    for (int frame = 0; frame < 4; ++frame) {
        const auto kxy = spokes_of(frame, spokes, samples, n);
        const auto data = random_values(coils * kxy.size() / 2, static_cast<unsigned>(frame));
        if (gst_harness_push(h.get(), kspace_frame(data, kxy, spokes).release()) != GST_FLOW_OK)
            return {};
        const auto image = adopt(gst_harness_pull(h.get()));
        for (const cfloat value : values_of<cfloat>(image.get()))
            images.push_back(value);
    }
    return images;
}

} // namespace

TEST(DeviceResults, GriddingIsTheSameOnAGpu) {
    std::string why;
    if (CudaNufft::devices(&why) == 0)
        GTEST_SKIP() << "no CUDA device: " << why;
    for (const char* fragment :
         {"mrigrid combine=none tolerance=1e-5", "mrigrid combine=adaptive tolerance=1e-5"}) {
        const auto cpu = grid(fragment, "cpu"), gpu = grid(fragment, "cuda");
        ASSERT_EQ(cpu.size(), gpu.size());
        ASSERT_FALSE(cpu.empty());
        double difference = 0, power = 0;
        for (std::size_t i = 0; i < cpu.size(); ++i) {
            difference += std::norm(cpu[i] - gpu[i]);
            power += std::norm(cpu[i]);
        }
        // Both are within 1e-5 of the exact sums; the adaptive combination divides by at least half its maps.
        EXPECT_LT(std::sqrt(difference / power), 1e-4) << fragment;
    }
}

TEST(DeviceResults, ScansAreTheSameOnAGpu) {
    std::string why;
    if (CudaNufft::devices(&why) == 0)
        GTEST_SKIP() << "no CUDA device: " << why;
    const auto scan = [](const std::string& device) {
        std::vector<cfloat> all;
        const auto result = run_pipeline("mriphantomsrc num-buffers=2 width=64 height=64 ! mrisim coils=4 "
                                         "spokes=7 alignment=frame device=" +
                                             device + " ! appsink name=out sync=false",
                                         60, [&](const std::string&, GstSample* sample) {
                                             const auto values =
                                                 values_of<cfloat>(gst_sample_get_buffer(sample));
                                             all.insert(all.end(), values.begin(), values.end());
                                         });
        EXPECT_TRUE(result.eos);
        return all;
    };
    const auto cpu = scan("cpu"), gpu = scan("cuda");
    ASSERT_EQ(cpu.size(), gpu.size());
    ASSERT_FALSE(cpu.empty());
    double difference = 0, power = 0;
    for (std::size_t i = 0; i < cpu.size(); ++i) {
        difference += std::norm(cpu[i] - gpu[i]);
        power += std::norm(cpu[i]);
    }
    EXPECT_LT(std::sqrt(difference / power), 2e-5) << "each within 1e-5";
}
