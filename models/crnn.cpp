// SPDX-License-Identifier: LGPL-2.1-or-later
#include "crnn.hpp"

#include "plugins/common/error.hpp"
#include "plugins/common/sizes.hpp"
#include "torch_file.hpp"
#include "torch_runtime.hpp"
#include "unet_module.hpp"

#include <algorithm>
#include <c10/core/InferenceMode.h>
#include <chrono>
#include <cmath>
#include <cstring>
#include <set>

namespace mri {

namespace {

constexpr std::size_t max_window_values = std::size_t{1} << 30;

using Parameters = std::map<std::string, at::Tensor>;

/// Checks names and shapes against those of the reference; returns its number of filters.
std::int64_t check_tensors(const TensorFile& file, const std::string& name) {
    const auto first = file.tensors.find("bcrnn.CRNN_model.i2h.weight");
    if (first == file.tensors.end() || first->second.shape.size() != 4 || first->second.shape[0] < 1 ||
        first->second.shape[0] > 4096 || first->second.shape[2] < 1 || first->second.shape[2] > 31 ||
        first->second.shape[2] % 2 == 0)
        throw Error(Errc::decode,
                    "the weights file '" + name +
                        "' holds no CRNN: it has no usable tensor 'bcrnn.CRNN_model.i2h.weight'");
    const std::int64_t f = first->second.shape[0];
    const std::int64_t k = first->second.shape[2];
    std::set<std::string> known;
    std::string problems;
    const auto expect = [&](const std::string& tensor, const std::vector<std::int64_t>& shape) {
        known.insert(tensor);
        const auto it = file.tensors.find(tensor);
        if (it == file.tensors.end())
            problems += (problems.empty() ? "" : ", ") + tensor + " is missing";
        else if (it->second.shape != shape)
            problems += (problems.empty() ? "" : ", ") + tensor + " is " + it->second.shape_text() +
                        " instead of " + NamedTensor{shape, {}}.shape_text();
    };
    const auto layer = [&](const std::string& tensor, std::int64_t from, std::int64_t to) {
        expect(tensor + ".weight", {to, from, k, k});
        expect(tensor + ".bias", {to});
    };
    layer("bcrnn.CRNN_model.i2h", 2, f);
    layer("bcrnn.CRNN_model.h2h", f, f);
    layer("bcrnn.CRNN_model.ih2ih", f, f);
    for (const char* tensor : {"conv1_x", "conv1_h", "conv2_x", "conv2_h", "conv3_x", "conv3_h"})
        layer(tensor, f, f);
    layer("conv4_x", f, 2);
    for (const auto& [tensor, content] : file.tensors)
        if (!known.contains(tensor))
            problems += (problems.empty() ? "" : ", ") + tensor + " is extra";
    if (!problems.empty())
        throw Error(Errc::decode, "the weights file '" + name + "' does not fit a CRNN with " +
                                      std::to_string(f) + " filters: " + problems);
    return f;
}

at::Tensor complex_tensor(std::span<const std::complex<float>> values, const WindowShape& shape) {
    at::Tensor out = at::empty({shape.frames, shape.height, shape.width}, at::kComplexFloat);
    std::memcpy(out.data_ptr(), values.data(), values.size_bytes());
    return out;
}

} // namespace

struct Crnn::State {
    State(const TensorFile& file, const std::string& name, const CrnnOptions& o, const RunOptions& r)
        : options(o),
          run(r),
          device(open_device(r.device)),
          type(compute_type(r.precision, device)),
          metadata(file.metadata),
          filters(check_tensors(file, name)) {
        const c10::InferenceMode inference;
        for (const auto& [tensor, content] : file.tensors) {
            if (!std::all_of(content.values.begin(), content.values.end(),
                             [](float v) { return std::isfinite(v); }))
                throw Error(Errc::decode, "the weights file '" + name +
                                              "' holds values that are not finite in '" + tensor + "'");
            at::Tensor parameter = to_torch(content).to(device, type);
            if (parameter.dim() == 4)
                parameter = parameter.contiguous(at::MemoryFormat::ChannelsLast);
            parameters[tensor] = parameter;
        }
    }

    at::Tensor convolve(const std::string& layer, const at::Tensor& x) const {
        const at::Tensor& weight = parameters.at(layer + ".weight");
        return at::conv2d(x, weight, parameters.at(layer + ".bias"), 1, weight.size(2) / 2);
    }

    /// h_t = ReLU(i2h(x_t) + h2h(h_{t-1}) + ih2ih(previous iteration's h_t)), forwards and backwards, summed.
    /// What does not depend on the direction is computed once and for all frames together.
    at::Tensor recurrent(const at::Tensor& x, const at::Tensor& previous) const {
        const at::Tensor input =
            convolve("bcrnn.CRNN_model.i2h", x) + convolve("bcrnn.CRNN_model.ih2ih", previous);
        at::Tensor sum = at::zeros_like(input);
        const std::int64_t frames = x.size(0);
        for (const bool forwards : {true, false}) {
            at::Tensor hidden = at::zeros_like(input.narrow(0, 0, 1));
            for (std::int64_t i = 0; i < frames; ++i) {
                const std::int64_t t = forwards ? i : frames - 1 - i;
                hidden = at::relu(input.narrow(0, t, 1) + convolve("bcrnn.CRNN_model.h2h", hidden));
                sum.narrow(0, t, 1).add_(hidden);
            }
        }
        return sum;
    }

    /// `x` and `k0` are complex [T, H, W], `mask` real.
    at::Tensor consistent(const at::Tensor& x, const at::Tensor& k0, const at::Tensor& mask) const {
        const at::Tensor k = at::fft_fft2(x, std::nullopt, {-2, -1}, "ortho");
        const at::Tensor measured =
            std::isinf(options.tau) ? k0 : (k + k0 * options.tau) / (1.0 + static_cast<double>(options.tau));
        return at::fft_ifft2(k * (1 - mask) + measured * mask, std::nullopt, {-2, -1}, "ortho");
    }

    at::Tensor forward(at::Tensor image, const at::Tensor& k0, const at::Tensor& mask) const {
        const std::int64_t frames = image.size(0);
        const at::Tensor zero =
            at::zeros({frames, filters, image.size(1), image.size(2)}, at::TensorOptions(device).dtype(type))
                .contiguous(at::MemoryFormat::ChannelsLast);
        at::Tensor h0 = zero;
        at::Tensor h1 = zero;
        at::Tensor h2 = zero;
        at::Tensor h3 = zero;
        for (int i = 0; i < options.iterations; ++i) {
            // [T, H, W, 2] in memory is [T, 2, H, W] with the channels innermost.
            const at::Tensor x = at::view_as_real(image).permute({0, 3, 1, 2}).to(type);
            h0 = recurrent(x, h0);
            h1 = at::relu(convolve("conv1_x", h0) + convolve("conv1_h", h1));
            h2 = at::relu(convolve("conv2_x", h1) + convolve("conv2_h", h2));
            h3 = at::relu(convolve("conv3_x", h2) + convolve("conv3_h", h3));
            const at::Tensor step = convolve("conv4_x", h3).to(at::kFloat).permute({0, 2, 3, 1}).contiguous();
            image = consistent(image + at::view_as_complex(step), k0, mask);
        }
        return image;
    }

    CrnnOptions options;
    RunOptions run;
    at::Device device;
    at::ScalarType type;
    std::map<std::string, std::string> metadata;
    std::int64_t filters;
    Parameters parameters;
};

Crnn Crnn::load(const std::string& path, const CrnnOptions& options, const RunOptions& run) {
    return {read_weights(path), path, options, run};
}

Crnn::Crnn(const TensorFile& file, const std::string& name, const CrnnOptions& options,
           const RunOptions& run) {
    if (options.iterations < 1 || options.iterations > 1000)
        throw Error(Errc::settings,
                    "a CRNN needs 1 to 1000 iterations, not " + std::to_string(options.iterations));
    if (!(options.tau >= 0.0F))
        throw Error(Errc::settings, "the weight of the measured data must not be negative");
    state_ =
        torch_call("loading the network", [&] { return std::make_unique<State>(file, name, options, run); });
}

Crnn::Crnn(Crnn&&) noexcept = default;
Crnn& Crnn::operator=(Crnn&&) noexcept = default;
Crnn::~Crnn() = default;

int Crnn::filters() const {
    return static_cast<int>(state_->filters);
}

const std::map<std::string, std::string>& Crnn::metadata() const {
    return state_->metadata;
}

std::string Crnn::precision() const {
    return state_->type == at::kBFloat16 ? "bfloat16" : "float32";
}

void Crnn::run(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
               std::span<const float> mask, std::span<std::complex<float>> output, const WindowShape& shape) {
    if (shape.frames < 1 || shape.height < 1 || shape.width < 1)
        throw Error(Errc::format, "a window without pixels cannot be computed");
    checked_product(
        {static_cast<std::size_t>(shape.frames), shape.pixels(), static_cast<std::size_t>(filters())},
        max_window_values, "a network's window");
    if (image.size() != shape.count() || kspace.size() != shape.count() || mask.size() != shape.count() ||
        output.size() != shape.count())
        throw Error(Errc::format, "image, k-space, mask and output must all be " +
                                      std::to_string(shape.frames) + " frames of " +
                                      std::to_string(shape.height) + " x " + std::to_string(shape.width));
    torch_call("the network", [&] {
        set_torch_threads(state_->run.threads);
        const c10::InferenceMode inference;
        at::Tensor m = at::empty({shape.frames, shape.height, shape.width}, at::kFloat);
        std::memcpy(m.data_ptr(), mask.data(), mask.size_bytes());
        const at::Tensor y =
            state_
                ->forward(complex_tensor(image, shape).to(state_->device),
                          complex_tensor(kspace, shape).to(state_->device), m.to(state_->device))
                .to(at::kCPU)
                .contiguous();
        std::memcpy(output.data(), y.data_ptr(), output.size_bytes());
    });
}

double Crnn::warm_up(const WindowShape& shape) {
    checked_product({static_cast<std::size_t>(std::max(1, shape.frames)), shape.pixels(),
                     static_cast<std::size_t>(filters())},
                    max_window_values, "a network's window");
    const std::vector<std::complex<float>> zeros(shape.count());
    const std::vector<float> mask(shape.count(), 0.0F);
    std::vector<std::complex<float>> output(shape.count());
    double seconds = 0;
    for (int i = 0; i < 2; ++i) {
        const auto start = std::chrono::steady_clock::now();
        run(zeros, zeros, mask, output, shape);
        seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    return seconds;
}

} // namespace mri
