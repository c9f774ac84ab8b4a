// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/module.hpp"

#include "models/networks.hpp"
#include "models/torch/script.hpp"
#include "models/training/task.hpp"

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

namespace {

/// The convolutions within a frame are 4-D tensors; a series is convolved with them as 1 x 3 x 3.
std::string causal_code(const CausalUnetOptions& options) {
    Script s("def forward(self, x)");
    const auto frame = [&](const std::string& layer) {
        return Script::call("conv3d", "x", Script::parameter(layer + ".weight") + ".unsqueeze(2)", "None",
                            "[1, 1, 1], [0, 1, 1]");
    };
    const auto pair = [&](const std::string& first, const std::string& second) {
        s.line("x = torch.relu(" + frame(first) + ")");
        s.line("first = x[:, :, 0:1]"); // as if it had always been there
        std::string joined = "torch.cat([";
        for (std::int64_t tap = 1; tap < causal_taps; ++tap)
            joined += "first, ";
        s.line("x = " + joined + "x], 2)");
        s.line("x = torch.relu(" +
               Script::call("conv3d", "x", Script::parameter(second + ".weight"), "None",
                            "[1, 1, 1], [0, 1, 1]") +
               ")");
    };
    const auto up = [&](const std::string& layer, const std::string& skip) {
        s.line("x = torch.cat([" +
               Script::call("conv_transpose3d", "x", Script::parameter(layer + ".weight") + ".unsqueeze(2)",
                            "None", "[1, 2, 2]") +
               ", " + skip + "], 1)");
    };
    s.line("magnitude = x");
    s.line("mean = x[:, :, 0]");
    s.line("means = [mean]");
    s.begin("for t in range(1, x.size(2))");
    s.line("mean = mean + (x[:, :, t] - mean) / min(t + 1, " + std::to_string(options.mean_frames) + ")");
    s.line("means.append(mean)");
    s.end();
    s.line("average = torch.stack(means, 2)");
    s.line("x = torch.cat([x - average, average], 1)");
    s.pad(false);
    pair("conv1", "conv1_1");
    s.line("level1 = x");
    s.line("x = torch.max_pool3d(x, [1, 2, 2])");
    pair("conv2", "conv2_2");
    s.line("level2 = x");
    s.line("x = torch.max_pool3d(x, [1, 2, 2])");
    pair("conv3", "conv3_3");
    up("convT1", "level2");
    pair("conv4", "conv4_4");
    up("convT2", "level1");
    pair("conv5", "conv5_5");
    s.line("return torch.relu(" + Script::crop(frame("conv6")) + " + magnitude)");
    return s.text();
}

} // namespace

NetworkScript causal_unet_script(const TensorFile& weights, const std::string& name) {
    return {"CausalUNet", causal_code(causal_unet_options_of(weights, name)),
            ScriptImages{"gst-mri-causal-unet", std::nullopt, false}};
}

std::unique_ptr<TrainingTask> make_causal_unet_task(const TrainOptions& options,
                                                    const ComputeTarget& target) {
    constexpr int settling_frames = 4; // whose running mean is of too few
    return make_image_task(options, target,
                           {std::make_unique<CausalUnetModule>(options.causal, options.seed), true,
                            options.causal.mean_frames, settling_frames});
}

} // namespace mri
