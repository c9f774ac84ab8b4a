// SPDX-License-Identifier: LGPL-2.1-or-later
// Networks as TorchScript modules: what LibTorch computes with the module is what the network computes, and
// where there is a python with torch, so does that. (The U-Net: tests/pipelines/test_mri_weights.cpp.)
#include "models/causal_unet/causal_unet.hpp"
#include "models/crnn/crnn.hpp"
#include "models/files/model_info.hpp"
#include "models/tools/torchscript_export.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/torch_python.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <complex>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

using namespace mri;

namespace {

using cfloat = std::complex<float>;
const RunOptions plain{"cpu", Precision::float32, 1};

class TorchExport : public testing::Test {
  protected:
    std::string path(const std::string& name) const { return folder_ / name; }

    std::vector<float> randoms(std::size_t count, float low = -1, float high = 1) {
        std::uniform_real_distribution<float> value(low, high);
        std::vector<float> out(count);
        for (float& v : out)
            v = value(random_);
        return out;
    }
    /// What the module gives for tensors that are named in order; in python too where there is one, which
    /// must also find the parameters under the file's names.
    std::vector<float> run(const TensorFile& inputs, const TensorFile& weights) {
        const c10::InferenceMode inference;
        auto module = torch::jit::load(path("net.pt"));
        std::vector<c10::IValue> arguments;
        for (const auto& [name, tensor] : inputs.tensors) {
            at::Tensor x = at::empty(tensor.shape, at::kFloat);
            std::memcpy(x.data_ptr(), tensor.values.data(), tensor.values.size() * sizeof(float));
            arguments.emplace_back(x);
        }
        const at::Tensor y = module.forward(arguments).toTensor().contiguous();
        std::vector<float> out(static_cast<std::size_t>(y.numel()));
        std::memcpy(out.data(), y.data_ptr(), out.size() * sizeof(float));
        if (!test::torch_python().empty()) {
            write_safetensors(path("in.safetensors"), inputs);
            EXPECT_EQ(test::run_torch_python("evaluate " + path("net.pt") + " " + path("in.safetensors") +
                                             " " + path("out.safetensors")),
                      0);
            const TensorFile python = read_safetensors(path("out.safetensors"));
            EXPECT_EQ(python.tensors.at("y").shape, y.sizes().vec());
            EXPECT_EQ(python.tensors.size(), weights.tensors.size() + 1);
            for (const auto& [name, tensor] : weights.tensors)
                EXPECT_EQ(python.tensors.at(name).values, tensor.values) << name;
            for (std::size_t i = 0; i < out.size(); ++i)
                EXPECT_NEAR(python.tensors.at("y").values[i], out[i], 1e-5) << i;
        }
        return out;
    }

    std::mt19937 random_{1};
    test::TempDir folder_;
};

TEST_F(TorchExport, CausalUnet) {
    const CausalUnetOptions options{3, 4};
    TensorFile weights;
    weights.metadata = causal_unet_metadata(options);
    weights.metadata["window"] = "8"; // of its training
    for (const auto& [name, shape] : causal_unet_tensors(options)) {
        NamedTensor tensor{shape, {}};
        tensor.values = randoms(tensor.count(), -0.3F, 0.3F);
        weights.tensors[name] = tensor;
    }
    write_torchscript(path("net.pt"), weights, "random");
    const ModelInfo info = read_model_info(path("net.pt.modelinfo"));
    EXPECT_FALSE(info.frames()) << "any number";
    EXPECT_FALSE(info.scaled) << "the network commutes with the gain";
    const WindowShape shape{9, 7, 13}; // more frames than the running mean counts, no multiples of 4
    const std::vector<float> input = randoms(shape.count(), 0, 1);
    std::vector<float> expected(input.size());
    CausalUnet(weights, "random", plain).run(input, expected, shape);
    const std::vector<float> y = run({{{"x", {{1, 1, 9, 7, 13}, input}}}, {}}, weights);
    ASSERT_EQ(y.size(), expected.size());
    double change = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        // Float32 sums of at most 27 x 12 products of values of order 1, in an order that may differ.
        EXPECT_NEAR(y[i], expected[i], 2e-5) << i;
        change = std::max(change, std::abs(static_cast<double>(y[i]) - input[i]));
    }
    EXPECT_GT(change, 0.01) << "the network does nothing: no test at all";
}

TEST_F(TorchExport, CrnnOfBothPresets) {
    const char* folder = std::getenv("GST_MRI_GOLDEN_DIR");
    for (const auto& [preset, time] : {std::pair<std::string, std::string>{"small", "window"},
                                       {"seed", "window"},
                                       {"small", "causal"},
                                       {"seed", "causal"}}) {
        SCOPED_TRACE(time);
        TensorFile weights = read_safetensors(std::string(folder ? folder : "tests/golden") + "/crnn/" +
                                              preset + ".safetensors");
        std::erase_if(weights.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
        weights.metadata["time"] = time;
        write_torchscript(path("net.pt"), weights, preset);
        const WindowShape shape{5, 6, 8};
        const std::size_t count = shape.count();
        std::vector<cfloat> image(count), k0(count), expected(count);
        std::vector<float> mask(count);
        for (std::size_t i = 0; i < count; ++i) {
            const auto v = randoms(4);
            image[i] = {v[0], v[1]};
            mask[i] = i / 8 % 3 == 0 ? 1.0F : 0.0F; // every third line
            k0[i] = mask[i] * cfloat{v[2], v[3]};
        }
        Crnn(weights, preset, {}, plain).run(image, k0, mask, expected, shape);

        // [1, 2, H, W, T], as PyTorch's users have them.
        const auto reference_order = [&](const auto& value_of) {
            NamedTensor out{{1, 2, 6, 8, 5}, {}};
            for (int channel = 0; channel < 2; ++channel)
                for (std::size_t pixel = 0; pixel < 48; ++pixel)
                    for (std::size_t t = 0; t < 5; ++t)
                        out.values.push_back(value_of(t * 48 + pixel, channel));
            return out;
        };
        const auto part = [](const std::vector<cfloat>& values) {
            return [&values](std::size_t i, int channel) {
                return channel == 0 ? values[i].real() : values[i].imag();
            };
        };
        const TensorFile inputs{{{"1x", reference_order(part(image))},
                                 {"2k", reference_order(part(k0))},
                                 {"3m", reference_order([&](std::size_t i, int) { return mask[i]; })}},
                                {}};
        const std::vector<float> y = run(inputs, weights);
        const NamedTensor ours = reference_order(part(expected));
        ASSERT_EQ(y.size(), ours.values.size());
        // Values of order 1 after 5 or 10 iterations of 5 layers, each a float32 sum of at most 60 products;
        // a normalisation divides by deviations below 1.
        double largest = 0;
        double change = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            largest = std::max(largest, std::abs(static_cast<double>(y[i]) - ours.values[i]));
            change =
                std::max(change, std::abs(static_cast<double>(y[i]) - inputs.tensors.at("1x").values[i]));
        }
        EXPECT_LT(largest, 1e-4) << preset;
        EXPECT_GT(change, 0.1) << preset;
    }
}

TEST_F(TorchExport, ACascadeIsNone) {
    TensorFile cascade;
    cascade.metadata = {{"network", "cascade"}};
    try {
        write_torchscript(path("net.pt"), cascade, "cascade.safetensors");
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::unsupported);
        EXPECT_NE(std::string(e.what()).find("gridding"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("'cascade.safetensors'"), std::string::npos) << e.what();
    }
    EXPECT_FALSE(std::filesystem::exists(path("net.pt")));
}

} // namespace
