// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/module.hpp"

#include <random>

namespace mri {

CausalUnetModule::CausalUnetModule(const CausalUnetOptions& options, const TensorFile& file)
    : options_(options) {
    take(causal_unet_tensors(options), file);
}

CausalUnetModule::CausalUnetModule(const CausalUnetOptions& options, std::uint64_t seed) : options_(options) {
    std::mt19937_64 random(seed);
    for (const auto& [name, shape] : causal_unet_tensors(options)) {
        // A transposed convolution of stride 2 and kernel 2 adds up one tap for each output.
        const double inputs = name.starts_with("convT") ? static_cast<double>(shape[0])
                              : shape.size() == 5       ? static_cast<double>(shape[1] * causal_taps * 9)
                                                        : static_cast<double>(shape[1] * 9);
        set(name, name == "conv6.weight" ? zeros(shape) : he_uniform(shape, inputs, 0.0F, random));
    }
}

at::Tensor CausalUnetModule::forward(const at::Tensor& input, at::ScalarType type,
                                     CausalUnetMemory* memory) const {
    const auto weight = [&](const char* layer) {
        return parameters().at(std::string(layer) + ".weight").to(type);
    };
    // Frames are a batch, [T, C, H, W] with the channels innermost in memory: a series [1, C, T, H, W] with
    // the channels innermost is the same memory.
    const auto frame = [&](const char* layer, const at::Tensor& x) {
        return at::conv2d(x, weight(layer), {}, 1, 1);
    };
    const auto past = [&](const char* layer, const at::Tensor& x) {
        at::Tensor before = memory ? memory->layers[layer] : at::Tensor();
        if (!before.defined())
            before = x.narrow(0, 0, 1).expand({causal_taps - 1, -1, -1, -1});
        const at::Tensor joined = at::cat({before, x}, 0).contiguous(at::MemoryFormat::ChannelsLast);
        if (memory)
            memory->layers[layer] = joined.narrow(0, joined.size(0) - (causal_taps - 1), causal_taps - 1);
        const at::Tensor series = joined.permute({0, 2, 3, 1}).unsqueeze(0).permute({0, 4, 1, 2, 3});
        const at::Tensor y = at::conv3d(series, weight(layer), {}, 1, at::IntArrayRef{0, 1, 1});
        return y.permute({0, 2, 3, 4, 1}).squeeze(0).permute({0, 3, 1, 2});
    };
    const auto pair = [&](const char* first, const char* second, const at::Tensor& x) {
        return past(second, frame(first, x).relu_()).relu_();
    };
    const auto up = [&](const char* layer, const at::Tensor& x) {
        return at::conv_transpose2d(x, weight(layer), {}, 2);
    };
    const at::Tensor x = input.permute({0, 2, 3, 4, 1}).squeeze(0).permute({0, 3, 1, 2});
    const at::Tensor level1 = pair("conv1", "conv1_1", x.to(type));
    const at::Tensor level2 = pair("conv2", "conv2_2", at::max_pool2d(level1, 2));
    const at::Tensor level3 = pair("conv3", "conv3_3", at::max_pool2d(level2, 2));
    const at::Tensor back2 = pair("conv4", "conv4_4", at::cat({up("convT1", level3), level2}, 1));
    const at::Tensor back1 = pair("conv5", "conv5_5", at::cat({up("convT2", back2), level1}, 1));
    // The residual is added in float32: the input's own digits survive a computation in bfloat16.
    const at::Tensor y = at::relu(frame("conv6", back1).to(at::kFloat) + x.sum(1, true).to(at::kFloat));
    return y.permute({1, 0, 2, 3}).unsqueeze(0);
}

} // namespace mri
