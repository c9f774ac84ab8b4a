// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/unet/module.hpp"

#include "models/networks.hpp"
#include "models/torch/script.hpp"
#include "models/training/task.hpp"

#include <random>
#include <string>

namespace mri {

UnetModule::UnetModule(const UnetOptions& options, const TensorFile& file) : options_(options) {
    take(unet_tensors(options), file);
}

UnetModule::UnetModule(const UnetOptions& options, std::uint64_t seed) : options_(options) {
    std::mt19937_64 random(seed);
    for (const auto& [name, shape] : unet_tensors(options)) {
        if (shape.size() != 5 || name.starts_with("conv6")) {
            set(name, zeros(shape));
            continue;
        }
        // A transposed convolution of stride 2 adds up an eighth of its 27 taps for each output.
        const bool transposed = name.starts_with("convT");
        const double inputs =
            static_cast<double>(transposed ? shape[0] : shape[1]) * (transposed ? 27.0 / 8.0 : 27.0);
        set(name, he_uniform(shape, inputs, options.leak, random));
    }
}

at::Tensor UnetModule::activate(at::Tensor x) const {
    return options_.leak > 0.0F ? at::leaky_relu_(x, options_.leak) : at::relu_(x);
}

at::Tensor UnetModule::convolve(const char* layer, const at::Tensor& x, at::ScalarType type) const {
    const std::string name(layer);
    return at::conv3d(x, parameters().at(name + ".weight").to(type), parameters().at(name + ".bias").to(type),
                      1, 1);
}

at::Tensor UnetModule::up(const char* layer, const at::Tensor& x, at::ScalarType type) const {
    const std::string name(layer);
    at::Tensor y = at::conv_transpose3d(x, parameters().at(name + ".weight").to(type),
                                        parameters().at(name + ".bias").to(type), 2, 1, 1);
    return options_.up_relu ? activate(y) : y;
}

at::Tensor UnetModule::forward(const at::Tensor& input, at::ScalarType type) const {
    const at::Tensor x = input.to(type);
    const auto level = [&](int number, at::Tensor y) {
        for (const std::string& name : unet_level(options_, number))
            y = activate(convolve(name.c_str(), y, type));
        return y;
    };
    const at::Tensor level1 = level(1, x);
    const at::Tensor level2 = level(2, at::max_pool3d(level1, 2));
    const at::Tensor level3 = level(3, at::max_pool3d(level2, 2));
    const at::Tensor back2 = level(4, at::cat({up("convT1", level3, type), level2}, 1));
    const at::Tensor back1 = level(5, at::cat({up("convT2", back2, type), level1}, 1));
    // The residual is added in float32: the input's own digits survive a computation in bfloat16.
    const at::Tensor magnitude = options_.mean_input ? input.sum(1, true) : input;
    return at::relu(convolve("conv6", back1, type).to(at::kFloat) + magnitude.to(at::kFloat));
}

namespace {

std::string unet_code(const UnetOptions& options) {
    Script s("def forward(self, x)");
    const auto act = [&](const std::string& value) {
        return options.leak > 0 ? "torch.leaky_relu(" + value + ", " + number_text(options.leak) + ")"
                                : "torch.relu(" + value + ")";
    };
    const auto convolve = [&](const std::string& layer) {
        return Script::call("conv3d", "x", Script::parameter(layer + ".weight"),
                            Script::parameter(layer + ".bias"), "[1, 1, 1], [1, 1, 1]");
    };
    const auto level = [&](int number) {
        for (const std::string& name : unet_level(options, number))
            s.line("x = " + act(convolve(name)));
    };
    const auto up = [&](const std::string& layer, const std::string& skip) {
        const std::string y =
            Script::call("conv_transpose3d", "x", Script::parameter(layer + ".weight"),
                         Script::parameter(layer + ".bias"), "[2, 2, 2], [1, 1, 1], [1, 1, 1]");
        s.line("x = torch.cat([" + (options.up_relu ? act(y) : y) + ", " + skip + "], 1)");
    };
    s.line("magnitude = x");
    if (options.mean_input) {
        s.line("mean = torch.mean(x, [2], True)");
        s.line("x = torch.cat([x - mean, mean.expand_as(x)], 1)");
    }
    s.pad(true);
    level(1);
    s.line("level1 = x");
    s.line("x = torch.max_pool3d(x, [2, 2, 2])");
    level(2);
    s.line("level2 = x");
    s.line("x = torch.max_pool3d(x, [2, 2, 2])");
    level(3);
    up("convT1", "level2");
    level(4);
    up("convT2", "level1");
    level(5);
    s.line("return torch.relu(" + Script::crop(convolve("conv6")) + " + magnitude)");
    return s.text();
}

} // namespace

NetworkScript unet_script(const TensorFile& weights, const std::string& name) {
    return {"UNet", unet_code(unet_options_of(weights, name)),
            ScriptImages{"gst-mri-unet", trained_frames(weights.metadata), true}};
}

std::unique_ptr<TrainingTask> make_unet_task(const TrainOptions& options, const ComputeTarget& target) {
    return make_image_task(
        options, target,
        {std::make_unique<UnetModule>(options.network, options.seed), options.network.mean_input, 0, 0});
}

} // namespace mri
