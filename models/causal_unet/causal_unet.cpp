// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/causal_unet.hpp"

#include "models/causal_unet/module.hpp"
#include "models/causal_unet/planes.hpp"
#include "models/common/running_mean.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/torch/runtime.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <c10/core/InferenceMode.h>
#include <cmath>
#include <optional>

namespace mri {

namespace {

constexpr std::size_t max_values = std::size_t{1} << 31; // in one layer
constexpr int max_filters = 1024;
constexpr int max_mean_frames = 1000;

int padded(int extent) {
    return (extent + 3) / 4 * 4;
}

} // namespace

void check_causal_unet_options(const CausalUnetOptions& options) {
    if (options.filters < 1 || options.filters > max_filters)
        throw Error(Errc::settings,
                    "a causal U-Net needs 1 to 1024 filters, not " + std::to_string(options.filters));
    if (options.mean_frames < 1 || options.mean_frames > max_mean_frames)
        throw Error(Errc::settings, "a causal U-Net's running mean needs 1 to 1000 frames, not " +
                                        std::to_string(options.mean_frames));
}

TensorShapes causal_unet_tensors(const CausalUnetOptions& options) {
    const std::int64_t f = options.filters;
    TensorShapes out;
    const auto frame = [&out](const char* name, std::int64_t from, std::int64_t to) {
        out.emplace_back(std::string(name) + ".weight", std::vector<std::int64_t>{to, from, 3, 3});
    };
    const auto past = [&out](const char* name, std::int64_t filters) {
        out.emplace_back(std::string(name) + ".weight",
                         std::vector<std::int64_t>{filters, filters, causal_taps, 3, 3});
    };
    const auto up = [&out](const char* name, std::int64_t from, std::int64_t to) {
        out.emplace_back(std::string(name) + ".weight", std::vector<std::int64_t>{from, to, 2, 2});
    };
    frame("conv1", 2, f);
    past("conv1_1", f);
    frame("conv2", f, 2 * f);
    past("conv2_2", 2 * f);
    frame("conv3", 2 * f, 4 * f);
    past("conv3_3", 4 * f);
    up("convT1", 4 * f, 2 * f);
    frame("conv4", 4 * f, 2 * f);
    past("conv4_4", 2 * f);
    up("convT2", 2 * f, f);
    frame("conv5", 2 * f, f);
    past("conv5_5", f);
    frame("conv6", f, 1);
    return out;
}

std::map<std::string, std::string> causal_unet_metadata(const CausalUnetOptions& options) {
    return {{"network", causal_unet_kind},
            {"filters", std::to_string(options.filters)},
            {"mean-frames", std::to_string(options.mean_frames)}};
}

CausalUnetOptions causal_unet_options_of(const TensorFile& file, const std::string& name) {
    if (network_of(file) != causal_unet_kind)
        throw Error(Errc::decode, "the weights file '" + name + "' holds " +
                                      (network_of(file).empty() ? "no named network"
                                                                : "the network '" + network_of(file) + "'") +
                                      ", not a causal U-Net ('" + causal_unet_kind + "')");
    const Metadata metadata(file.metadata, name);
    CausalUnetOptions options;
    options.filters = metadata.number("filters", 0);
    options.mean_frames = metadata.number("mean-frames", options.mean_frames);
    try {
        check_causal_unet_options(options);
    } catch (const Error& e) {
        throw Error(Errc::decode, "the weights file '" + name + "' cannot be used: " + e.what());
    }
    check_tensors(file, name, causal_unet_tensors(options),
                  "a causal U-Net with " + std::to_string(options.filters) + " filters");
    return options;
}

struct CausalUnet::State {
    State(const TensorFile& file, const std::string& name, const RunOptions& r)
        : run(r),
          device(open_device(r.device)),
          type(compute_type(r.precision, device)),
          metadata(file.metadata),
          unet(causal_unet_options_of(file, name)),
          mean(unet.mean_frames) {
        if (device.is_cpu() && planes::kernels(plane_type(type))) {
            planes.emplace(unet, file, plane_type(type), r.threads);
            return;
        }
        const c10::InferenceMode inference;
        module.emplace(unet, file);
        module->to(device, type);
    }

    /// Edges repeated up to multiples of 4, as [1][T][H][W][difference, mean] in memory.
    at::Tensor network_input(std::span<const float> frames, const WindowShape& shape) {
        const int height = padded(shape.height);
        const int width = padded(shape.width);
        at::Tensor tensor = at::empty({1, shape.frames, height, width, 2}, at::kFloat);
        float* out = tensor.data_ptr<float>();
        const std::size_t pixels = shape.pixels();
        for (std::size_t t = 0; t < static_cast<std::size_t>(shape.frames); ++t) {
            const std::span<const float> frame = frames.subspan(t * pixels, pixels);
            const std::span<const float> average = mean.update(frame);
            for (int y = 0; y < height; ++y) {
                const std::size_t row = static_cast<std::size_t>(std::min(y, shape.height - 1)) *
                                        static_cast<std::size_t>(shape.width);
                for (int x = 0; x < width; ++x) {
                    const std::size_t i = row + static_cast<std::size_t>(std::min(x, shape.width - 1));
                    *out++ = frame[i] - average[i];
                    *out++ = average[i];
                }
            }
        }
        return tensor.permute({0, 4, 1, 2, 3});
    }

    void reset() {
        mean.reset();
        memory.layers.clear();
        if (planes)
            planes->reset();
        height = width = 0;
    }

    RunOptions run;
    at::Device device;
    at::ScalarType type;
    std::map<std::string, std::string> metadata;
    CausalUnetOptions unet;
    RunningMean mean;
    std::optional<CausalUnetModule> module; // where there are no planes
    CausalUnetMemory memory;
    std::optional<PlaneCausalUnet> planes;
    int height = 0; // of the frames so far; 0: there were none
    int width = 0;
};

CausalUnet CausalUnet::load(const std::string& path, const RunOptions& options) {
    return {read_weights(path), path, options};
}

CausalUnet::CausalUnet(const TensorFile& file, const std::string& name, const RunOptions& options)
    : state_(
          torch_call("loading the network", [&] { return std::make_unique<State>(file, name, options); })) {}

CausalUnet::CausalUnet(CausalUnet&&) noexcept = default;
CausalUnet& CausalUnet::operator=(CausalUnet&&) noexcept = default;
CausalUnet::~CausalUnet() = default;

const CausalUnetOptions& CausalUnet::options() const {
    return state_->unet;
}

const std::map<std::string, std::string>& CausalUnet::metadata() const {
    return state_->metadata;
}

std::string CausalUnet::precision() const {
    return state_->type == at::kBFloat16 ? "bfloat16" : "float32";
}

void CausalUnet::reset() {
    state_->reset();
}

void CausalUnet::run(std::span<const float> input, std::span<float> output, const WindowShape& shape) {
    State& s = *state_;
    if (shape.frames < 1 || shape.height < 1 || shape.width < 1 || input.size() != shape.count() ||
        output.size() != shape.count())
        throw Error(Errc::format, std::to_string(input.size()) + " values are not " +
                                      std::to_string(shape.frames) + " frames of " +
                                      std::to_string(shape.height) + " x " + std::to_string(shape.width));
    checked_product({static_cast<std::size_t>(shape.frames) + causal_taps - 1,
                     static_cast<std::size_t>(padded(shape.height)),
                     static_cast<std::size_t>(padded(shape.width)),
                     static_cast<std::size_t>(2 * options().filters)},
                    max_values, "a network's frames");
    // One value that is not a number would stay in the mean for good.
    if (!std::all_of(input.begin(), input.end(), [](float v) { return std::isfinite(v); }))
        throw Error(Errc::format, "an image holds a value that is not finite");
    if (shape.height != s.height || shape.width != s.width)
        s.reset();
    s.height = shape.height;
    s.width = shape.width;
    try {
        torch_call("the network", [&] {
            set_torch_threads(s.run.threads);
            const c10::InferenceMode inference;
            const at::Tensor x = s.network_input(input, shape);
            at::Tensor y;
            if (s.planes) {
                y = at::empty({1, 1, x.size(2), x.size(3), x.size(4)}, at::kFloat);
                s.planes->run(values_of(x), values_of(y), shape.frames, static_cast<int>(x.size(3)),
                              static_cast<int>(x.size(4)));
            } else {
                y = s.module->forward(x.to(s.device), s.type, &s.memory).to(at::kCPU);
            }
            y = y.squeeze(0).squeeze(0).narrow(1, 0, shape.height).narrow(2, 0, shape.width).contiguous();
            std::copy_n(y.data_ptr<float>(), shape.count(), output.begin());
        });
    } catch (...) {
        s.reset(); // some layers have seen the frame and others have not
        throw;
    }
}

double CausalUnet::warm_up(const WindowShape& shape) {
    checked_product({static_cast<std::size_t>(std::max(shape.frames, 1)),
                     static_cast<std::size_t>(std::max(shape.height, 1)),
                     static_cast<std::size_t>(std::max(shape.width, 1))},
                    max_values / static_cast<std::size_t>(2 * options().filters), "a network's frames");
    const std::vector<float> input(shape.count(), 0.0F);
    std::vector<float> output(shape.count());
    const double seconds = seconds_of_last(3, [&] { run(input, output, shape); });
    reset();
    return seconds;
}

} // namespace mri
