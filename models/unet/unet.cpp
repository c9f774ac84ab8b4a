// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/unet/unet.hpp"

#include "models/common/intensity.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/torch/runtime.hpp"
#include "models/unet/module.hpp"
#include "models/unet/planes.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <c10/core/InferenceMode.h>
#include <cmath>

namespace mri {

namespace {

constexpr std::size_t max_window_values = std::size_t{1} << 31;

int padded(int extent) {
    return (extent + 3) / 4 * 4;
}

/// Throws Errc::no_memory for windows that no network of this kind could be run on.
void check_size(const WindowShape& shape, int channels) {
    if (shape.frames < 1 || shape.height < 1 || shape.width < 1)
        throw Error(Errc::format, "a window without pixels cannot be computed");
    checked_product({static_cast<std::size_t>(shape.frames) + 3, static_cast<std::size_t>(shape.height) + 3,
                     static_cast<std::size_t>(shape.width) + 3, static_cast<std::size_t>(channels)},
                    max_window_values, "a network's window");
}

/// The window divided by `scale`, edges repeated up to multiples of 4, as [T][H][W][channels].
at::Tensor network_input(std::span<const float> window, const WindowShape& shape, float scale,
                         bool with_mean) {
    const int frames = padded(shape.frames);
    const int height = padded(shape.height);
    const int width = padded(shape.width);
    const int channels = with_mean ? 2 : 1;
    check_size(shape, channels);
    const float factor = 1.0F / scale;
    const std::size_t pixels = shape.pixels();
    std::vector<float> mean;
    if (with_mean) {
        mean.assign(pixels, 0.0F);
        for (int t = 0; t < shape.frames; ++t)
            for (std::size_t i = 0; i < pixels; ++i)
                mean[i] += window[static_cast<std::size_t>(t) * pixels + i];
        for (float& value : mean)
            value *= factor / static_cast<float>(shape.frames);
    }
    at::Tensor tensor = at::empty({1, frames, height, width, channels}, at::kFloat);
    float* out = tensor.data_ptr<float>();
    for (int t = 0; t < frames; ++t) {
        const std::size_t frame = static_cast<std::size_t>(std::min(t, shape.frames - 1)) * pixels;
        for (int y = 0; y < height; ++y) {
            const std::size_t row = static_cast<std::size_t>(std::min(y, shape.height - 1)) *
                                    static_cast<std::size_t>(shape.width);
            for (int x = 0; x < width; ++x) {
                const std::size_t i = row + static_cast<std::size_t>(std::min(x, shape.width - 1));
                *out++ = window[frame + i] * factor - (with_mean ? mean[i] : 0.0F);
                if (with_mean)
                    *out++ = mean[i];
            }
        }
    }
    return tensor.permute({0, 4, 1, 2, 3}); // as the network counts, in the memory format it is fastest with
}

} // namespace

struct Unet::State {
    State(const TensorFile& file, const std::string& name, const RunOptions& run)
        : options(run),
          device(open_device(run.device)),
          type(compute_type(run.precision, device)),
          metadata(file.metadata),
          unet(unet_options_of(file, name)) {
        if (device.is_cpu() && planes::kernels(plane_type(type))) {
            planes.emplace(unet, file, plane_type(type), run.threads);
            return;
        }
        const c10::InferenceMode inference;
        module.emplace(unet, file);
        module->to(device, type);
    }

    RunOptions options;
    at::Device device;
    at::ScalarType type;
    std::map<std::string, std::string> metadata;
    UnetOptions unet;
    std::optional<UnetModule> module; // where there are no planes
    std::optional<PlaneUnet> planes;
};

Unet Unet::load(const std::string& path, const RunOptions& options) {
    return {read_weights(path), path, options};
}

Unet::Unet(const TensorFile& file, const std::string& name, const RunOptions& options)
    : state_(
          torch_call("loading the network", [&] { return std::make_unique<State>(file, name, options); })) {}

Unet::Unet(Unet&&) noexcept = default;
Unet& Unet::operator=(Unet&&) noexcept = default;
Unet::~Unet() = default;

const UnetOptions& Unet::unet() const {
    return state_->unet;
}

const std::map<std::string, std::string>& Unet::metadata() const {
    return state_->metadata;
}

std::optional<int> Unet::trained_frames() const {
    return mri::trained_frames(state_->metadata);
}

std::string Unet::precision() const {
    return state_->type == at::kBFloat16 ? "bfloat16" : "float32";
}

void Unet::run(std::span<const float> input, std::span<float> output, const WindowShape& shape,
               std::optional<float> scale) {
    if (shape.frames < 1 || shape.height < 1 || shape.width < 1 || input.size() != shape.count() ||
        output.size() != shape.count())
        throw Error(Errc::format, "a window of " + std::to_string(input.size()) + " values is not " +
                                      std::to_string(shape.frames) + " frames of " +
                                      std::to_string(shape.height) + " x " + std::to_string(shape.width));
    if (!scale)
        scale = intensity_scale(input, static_cast<std::size_t>(shape.frames));
    torch_call("the network", [&] {
        set_torch_threads(state_->options.threads);
        const c10::InferenceMode inference;
        const at::Tensor x = network_input(input, shape, *scale, unet().mean_input);
        at::Tensor y;
        if (state_->planes) {
            y = at::empty({1, 1, x.size(2), x.size(3), x.size(4)}, at::kFloat);
            state_->planes->run(values_of(x), values_of(y), static_cast<int>(x.size(2)),
                                static_cast<int>(x.size(3)), static_cast<int>(x.size(4)));
        } else {
            y = state_->module->forward(x.to(state_->device), state_->type).to(at::kCPU);
        }
        y = y.squeeze(0)
                .squeeze(0)
                .narrow(0, 0, shape.frames)
                .narrow(1, 0, shape.height)
                .narrow(2, 0, shape.width)
                .contiguous();
        const float* from = y.data_ptr<float>();
        std::transform(from, from + shape.count(), output.begin(), [s = *scale](float v) { return v * s; });
    });
}

double Unet::warm_up(const WindowShape& shape) {
    check_size(shape, unet().input_channels());
    const std::vector<float> input(shape.count(), 0.0F);
    std::vector<float> output(shape.count());
    return seconds_of_last(2, [&] { run(input, output, shape, 1.0F); });
}

} // namespace mri
