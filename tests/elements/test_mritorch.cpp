// SPDX-License-Identifier: LGPL-2.1-or-later
// The modules are PyTorch's own: without a python with torch these tests skip, but for the exported U-Net.
#include "models/common/intensity.hpp"
#include "models/tools/torchscript_export.hpp"
#include "models/torch/user_module.hpp"
#include "tests/support/network_support.hpp"
#include "tests/support/torch_python.hpp"

#include <fstream>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int width = 12;
constexpr int height = 8;
constexpr std::size_t pixels = std::size_t{width} * height;

class MriTorch : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new TempDir;
        made_ = !torch_python().empty() && run_torch_python("modules " + folder_->path()) == 0;
    }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }
    void SetUp() override {
        if (torch_python().empty())
            GTEST_SKIP() << no_torch_python;
        ASSERT_TRUE(made_) << "python could not make the modules";
    }

    /// Writes the description of a module and gives the element's launch line.
    static std::string line(const std::string& module, const std::string& type, const std::string& dims,
                            const std::string& more = "", const std::string& input_more = "",
                            const std::string& out_type = "", const std::string& out_dims = "",
                            const std::string& out_more = "") {
        const auto tensor = [](const std::string& name, const std::string& direction, const std::string& t,
                               const std::string& d, const std::string& rest) {
            return "[" + name + "]\ndir=" + direction + "\ntype=" + t + "\ndims=" + d + "\n" + rest + "\n";
        };
        std::ofstream(folder_->path(module) + ".modelinfo")
            << "[modelinfo]\nversion=1.0\n"
            << tensor("x", "input", type, dims, input_more)
            << tensor("y", "output", out_type.empty() ? type : out_type, out_dims.empty() ? dims : out_dims,
                      out_more);
        return "mritorch threads=1 trusted=true weights=" + folder_->path(module) + " " + more;
    }
    static Harness start(const std::string& launch, const ImageInfo& info) {
        auto h = harness(launch);
        gst_harness_set_src_caps(h.get(), info.to_caps().release());
        return h;
    }
    static ImageInfo real_image() { return image_info(width, height); }
    static ImageInfo complex_image() { return image_info(width, height, 0, SampleFormat::c64); }
    static GstFlowReturn push(const Harness& h, int frame) {
        return gst_harness_push(h.get(), frame_of(blob(width, height, frame), frame).release());
    }
    static std::vector<cfloat> complex_pixels(int frame) {
        std::vector<cfloat> out;
        for (const float v : blob(width, height, frame))
            out.emplace_back(v, 0.25F * v - 1.0F);
        return out;
    }
    /// The one error of a line that cannot start.
    static std::string load_error_of(const std::string& launch) {
        const auto errors = run_pipeline("mriphantomsrc num-buffers=1 ! " + launch + " ! fakesink").errors;
        EXPECT_EQ(errors.size(), 1U) << launch;
        return errors.empty() ? "" : errors.front();
    }
    /// The one error of a line that is given caps and frames.
    static std::string error_of(const std::string& launch, const ImageInfo& info = real_image()) {
        auto h = harness(launch);
        BusWatch bus(h->element);
        gst_harness_set_src_caps(h.get(), info.to_caps().release());
        push(h, 0);
        const auto errors = bus.errors();
        EXPECT_EQ(errors.size(), 1U) << launch;
        return errors.empty() ? "" : errors.front();
    }
    static void expect_part(const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << "'" << text << "' does not say '" << part << "'";
    }

    static TempDir* folder_;
    static bool made_;
};

TempDir* MriTorch::folder_ = nullptr;
bool MriTorch::made_ = false;

TEST_F(MriTorch, RunsFrameByFrame) {
    auto h = start(line("frame.pt", "float32", "1,1,-1,-1", "attach-input=true"), real_image());
    EXPECT_LT(gst_harness_query_latency(h.get()), frame_time) << "a frame waits for no other";
    for (int f = 0; f < 3; ++f) {
        ASSERT_EQ(push(h, f), GST_FLOW_OK);
        const auto out = adopt(gst_harness_try_pull(h.get()));
        ASSERT_TRUE(out);
        EXPECT_EQ(GST_BUFFER_PTS(out.get()), static_cast<GstClockTime>(f) * frame_time);
        EXPECT_TRUE(side_of(out.get(), Role::input));
        const auto in = blob(width, height, f);
        const auto values = values_of<float>(out.get());
        for (std::size_t i = 0; i < pixels; ++i) // 2 x + 1: exact but for one rounding
            ASSERT_FLOAT_EQ(values[i], 2 * in[i] + 1);
    }
}

TEST_F(MriTorch, RunsOverWindowsWithTheirScale) {
    for (const bool scaled : {false, true}) {
        auto h = start(line("window.pt", "float64", "1,1,4,-1,-1", "hop=2",
                            scaled ? "mri-scale=p99.5-of-time-average" : ""),
                       real_image());
        std::vector<float> window;
        for (int f = 0; f < 4; ++f) {
            const auto frame = blob(width, height, f);
            window.insert(window.end(), frame.begin(), frame.end());
            ASSERT_EQ(push(h, f), GST_FLOW_OK);
        }
        ASSERT_EQ(gst_harness_buffers_received(h.get()), 3U);
        for (std::size_t f = 0; f < 3; ++f) {
            const auto out = values_of<float>(adopt(gst_harness_try_pull(h.get())).get());
            for (std::size_t i = 0; i < pixels; ++i) {
                double mean = 0;
                for (std::size_t t = 0; t < 4; ++t)
                    mean += 0.25 * window[t * pixels + i];
                // The module is linear: the scale cancels, but for float32 rounding of values up to 1.
                ASSERT_NEAR(out[i], window[f * pixels + i] - mean, 5e-7) << scaled;
            }
        }
    }
}

TEST_F(MriTorch, HalfTypesGoInAndOut) {
    // 11 and 8 bits of significand: what goes in and each of two results is rounded by half a unit of the
    // last.
    for (const auto& [type, unit] : {std::pair{"float16", 1.0 / 2048}, {"bfloat16", 1.0 / 256}}) {
        auto h = start(line("frame.pt", type, "1,1,-1,-1"), real_image());
        ASSERT_EQ(push(h, 1), GST_FLOW_OK) << type;
        const auto values = values_of<float>(adopt(gst_harness_try_pull(h.get())).get());
        const auto in = blob(width, height, 1);
        double largest = 0;
        for (std::size_t i = 0; i < pixels; ++i) {
            const double expected = 2.0 * static_cast<double>(in[i]) + 1;
            ASSERT_NEAR(values[i], expected, 1.5 * unit * expected) << type;
            largest = std::max(largest, std::abs(static_cast<double>(values[i]) - expected));
        }
        EXPECT_GT(largest, 0.01 * unit) << "it was computed with more bits than " << type << " has";
    }
}

TEST_F(MriTorch, AxesMayComeInAnyOrder) {
    // The module takes the mean over its third axis, which is time here too.
    const auto outputs = [](const std::string& launch) {
        auto h = start(launch, real_image());
        std::vector<std::vector<float>> out;
        for (int f = 0; f < 4; ++f)
            EXPECT_EQ(push(h, f), GST_FLOW_OK);
        while (const auto buffer = adopt(gst_harness_try_pull(h.get())))
            out.push_back(values_of<float>(buffer.get()));
        return out;
    };
    const auto expected = outputs(line("window.pt", "float32", "1,1,4,-1,-1"));
    ASSERT_EQ(expected.size(), 4U);
    for (const std::string axes : {"HWT", "WHT"})
        EXPECT_EQ(outputs(line("window.pt", "float32", "-1,-1,4", "", "mri-axes=" + axes, "", "",
                               "mri-axes=" + axes)),
                  expected)
            << axes;
    EXPECT_NE(outputs(line("window.pt", "float32", "-1,4,-1", "", "mri-axes=HTW", "", "", "mri-axes=HTW")),
              expected)
        << "the mean over x is another";
    // In one way round and out the other: x and y change places.
    auto h = start(line("frame.pt", "float32", "-1,-1", "", "mri-axes=HW", "", "", "mri-axes=WH"),
                   image_info(height, height));
    const auto in = blob(height, height, 0);
    ASSERT_EQ(gst_harness_push(h.get(), frame_of(in, 0).release()), GST_FLOW_OK);
    const auto out = values_of<float>(adopt(gst_harness_try_pull(h.get())).get());
    for (std::size_t y = 0; y < height; ++y)
        for (std::size_t x = 0; x < height; ++x)
            ASSERT_FLOAT_EQ(out[y * height + x], 2 * in[x * height + y] + 1);
}

TEST_F(MriTorch, ComplexImagesGoAsChannelsOrAsComplexNumbers) {
    for (const auto& [module, type, dims] :
         {std::tuple{"turn.pt", "float32", "1,2,-1,-1"}, {"complex64.pt", "complex64", "-1,-1"}}) {
        auto h = start(line(module, type, dims), complex_image());
        ASSERT_EQ(gst_harness_push(h.get(), frame_of(complex_pixels(1), 0).release()), GST_FLOW_OK);
        const auto out = adopt(gst_harness_try_pull(h.get()));
        ASSERT_TRUE(out) << module;
        const auto in = complex_pixels(1);
        const auto values = values_of<cfloat>(out.get());
        ASSERT_EQ(values.size(), pixels);
        for (std::size_t i = 0; i < pixels; ++i) {
            ASSERT_EQ(values[i].real(), -in[i].imag()) << module;
            ASSERT_EQ(values[i].imag(), in[i].real()) << module;
        }
        // Real images have an imaginary part of 0.
        auto real = start(line(module, type, dims), real_image());
        ASSERT_EQ(push(real, 0), GST_FLOW_OK);
        const auto turned = values_of<cfloat>(adopt(gst_harness_try_pull(real.get())).get());
        EXPECT_EQ(turned[5].imag(), blob(width, height, 0)[5]);
    }
}

TEST_F(MriTorch, TheOutputMayHaveAnotherSize) {
    auto h = start(line("half.pt", "float32", "1,1,8,12", "", "", "float32", "1,1,4,6"), real_image());
    ASSERT_EQ(push(h, 0), GST_FLOW_OK);
    const auto out = adopt(gst_harness_try_pull(h.get()));
    ASSERT_TRUE(out);
    const auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    EXPECT_EQ(ImageInfo::from_caps(caps.get()).width, 6);
    EXPECT_EQ(values_of<float>(out.get())[7], blob(width, height, 0)[2 * width + 2]);
}

TEST_F(MriTorch, OneSentenceNamesBothSides) {
    const std::string shape = error_of(line("frame.pt", "float32", "1,1,64,-1"));
    expect_part(shape, "1,1,64,-1");
    expect_part(shape, "12 x 8");
    const std::string complex = error_of(line("frame.pt", "float32", "1,1,-1,-1"), complex_image());
    expect_part(complex, "1,1,-1,-1");
    expect_part(complex, "complex images of 12 x 8");
    const std::string type = error_of(line("double.pt", "float32", "1,1,-1,-1"));
    expect_part(type, "Double");
    expect_part(type, "float32");
    const std::string size = error_of(line("half.pt", "float32", "1,1,-1,-1"));
    expect_part(size, "[1, 1, 4, 6]");
    expect_part(size, "[1, 1, 8, 12]");
    expect_part(error_of(line("pair.pt", "float32", "1,1,-1,-1")), "Tuple");
    expect_part(load_error_of(line("window.pt", "float32", "1,1,4,-1,-1", "window=6")), "window of 6");
    expect_part(error_of(line("turn.pt", "float32", "1,1,-1,-1")), "module failed"); // it needs two channels
}

TEST_F(MriTorch, SaysWhatToDoWithOtherFiles) {
    const std::string exported = load_error_of(line("exported.pt2", "float32", "1,1,-1,-1"));
    expect_part(exported, "aoti_compile_and_package");
    expect_part(load_error_of(line("state.pth", "float32", "1,1,-1,-1")), "state dict");
    std::ofstream(folder_->path("noise.pt")) << "no module";
    expect_part(load_error_of(line("noise.pt", "float32", "1,1,-1,-1")), "noise.pt");
    expect_part(load_error_of("mritorch trusted=true weights=" + folder_->path("missing.pt")), "missing.pt");
    const std::string other = line("frame.pt", "float32", "1,1,-1,-1");
    expect_part(load_error_of(other + "model-info=/nowhere.modelinfo"), "/nowhere.modelinfo");
    std::ofstream(folder_->path("named")) << "[modelinfo]\nversion=1.0\n[image]\ndir=input\ntype=float32\n"
                                             "dims=-1,-1\n[y]\ndir=output\ntype=float32\ndims=-1,-1\n";
    const std::string named = load_error_of(other + "model-info=" + folder_->path("named"));
    expect_part(named, "'image'");
    expect_part(named, "'x'");
}

TEST_F(MriTorch, ACompiledPackageRunsOnlyWhenTrusted) {
    const int status = run_torch_python("compiled " + folder_->path());
    if (status != 0)
        GTEST_SKIP() << "AOTInductor cannot compile here (no compiler that it can use)";
    const std::string launch = line("compiled.pt2", "float32", "1,1,8,12");
    expect_part(load_error_of(launch + "trusted=false"), "trusted=true");
    const auto maps = [] {
        std::ifstream in("/proc/self/maps");
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    auto h = start(launch, real_image());
    ASSERT_EQ(push(h, 2), GST_FLOW_OK);
    const auto values = values_of<float>(adopt(gst_harness_try_pull(h.get())).get());
    const auto in = blob(width, height, 2);
    for (std::size_t i = 0; i < pixels; ++i)
        ASSERT_FLOAT_EQ(values[i], 2 * in[i] + 1);
    EXPECT_NE(maps().find("aotinductor"), std::string::npos) << "it is the package that ran";
    EXPECT_EQ(maps().find("libtorch_cuda"), std::string::npos) << "nobody asked for CUDA";
}

TEST(MriTorchUnet, RunsTheExportedUnet) {
    const TempDir folder;
    const std::string module = folder.path("net.pt");
    write_torchscript(module, small_network(), "small");
    // A module is a program: nothing of it is loaded unless its maker is trusted.
    const auto errors =
        run_pipeline("mriphantomsrc num-buffers=1 ! mritorch weights=" + module + " ! fakesink").errors;
    ASSERT_EQ(errors.size(), 1U);
    for (const char* part : {"program", "trusted=true", "safetensors", "state dict"})
        EXPECT_NE(errors[0].find(part), std::string::npos) << errors[0];
    auto h = harness("mritorch threads=1 trusted=true weights=" + module);
    gst_harness_set_src_caps(h.get(), image_info(width, height).to_caps().release());
    auto unet = harness("mriunet threads=1 precision=float32 weights=" + [&] {
        write_safetensors(folder.path("net.safetensors"), small_network());
        return folder.path("net.safetensors");
    }());
    gst_harness_set_src_caps(unet.get(), image_info(width, height).to_caps().release());
    for (int f = 0; f < 8; ++f)
        for (const Harness* each : {&h, &unet})
            ASSERT_EQ(gst_harness_push(each->get(), frame_of(blob(width, height, f), f).release()),
                      GST_FLOW_OK);
    for (int f = 0; f < 8; ++f) {
        const auto a = values_of<float>(adopt(gst_harness_try_pull(h.get())).get());
        const auto b = values_of<float>(adopt(gst_harness_try_pull(unet.get())).get());
        ASSERT_EQ(a.size(), pixels);
        for (std::size_t i = 0; i < pixels; ++i) // as in the tests of mri-weights
            ASSERT_NEAR(a[i], b[i], 2e-5);
    }
}

} // namespace
