// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/data_consistency.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <torch/csrc/autograd/custom_function.h>
#include <utility>

namespace mri {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::span<const cfloat> series_of(const at::Tensor& x) {
    return {reinterpret_cast<const cfloat*>(x.const_data_ptr<float>()),
            static_cast<std::size_t>(x.numel() / 2)};
}

at::Tensor transformed(WindowOperator& data, const at::Tensor& x) {
    const at::Tensor host = x.detach().to(at::kCPU, at::kFloat).contiguous();
    at::Tensor out = at::empty_like(host);
    data.normal(series_of(host), {reinterpret_cast<cfloat*>(out.data_ptr<float>()),
                                  static_cast<std::size_t>(out.numel() / 2)});
    return out.to(x.device());
}

/// Keeps the operator alive as long as the graph.
struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<WindowOperator> d) : data(std::move(d)) {}
    std::shared_ptr<WindowOperator> data;
};

struct Normal : torch::autograd::Function<Normal> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                              const c10::intrusive_ptr<Holder>& holder) {
        ctx->saved_data["data"] = c10::IValue::make_capsule(holder);
        return transformed(*holder->data, x);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
        const auto holder = c10::static_intrusive_pointer_cast<Holder>(ctx->saved_data["data"].toCapsule());
        return {transformed(*holder->data, gradients.front()), at::Tensor()};
    }
};

} // namespace

RadialConsistency::RadialConsistency(std::shared_ptr<WindowOperator> data, const at::Device& device)
    : data_(std::move(data)) {
    const std::span<const cfloat> b = data_->right();
    at::Tensor right =
        at::empty({static_cast<std::int64_t>(data_->frames()), data_->height(), data_->width(), 2},
                  at::TensorOptions(at::kFloat));
    std::memcpy(right.data_ptr<float>(), b.data(), b.size_bytes());
    right_ = right.to(device);
}

std::shared_ptr<WindowOperator> window_operator(std::shared_ptr<WindowOperator> data,
                                                const WindowShape& shape, int threads,
                                                const at::Device& device) {
    if (data && data->width() == shape.width && data->height() == shape.height)
        return data;
    WindowOperator::Options options{.width = shape.width, .height = shape.height, .threads = threads};
    if (device.is_cuda())
        options.device = {ComputeDevice::Kind::cuda, device.index()};
    return std::make_shared<WindowOperator>(options);
}

void check_window(const SampledWindow& window, std::size_t values, const WindowShape& shape) {
    if (window.start.size() != shape.count() || values != shape.count() ||
        window.frames.size() != static_cast<std::size_t>(shape.frames))
        throw Error(Errc::format, "start, k-space and output must all be " + std::to_string(shape.frames) +
                                      " frames of " + std::to_string(shape.height) + " x " +
                                      std::to_string(shape.width));
}

std::shared_ptr<WindowOperator> take_samples(std::shared_ptr<WindowOperator> data,
                                             const SampledWindow& window, std::size_t values,
                                             const WindowShape& shape, int threads,
                                             const at::Device& device) {
    check_window(window, values, shape);
    data = window_operator(std::move(data), shape, threads, device);
    data->set_window(window.frames, window.coils, window.maps);
    return data;
}

EmptyScan::EmptyScan(const WindowShape& shape, double strip_limit) : start_(shape.count()) {
    constexpr int spokes = 13;
    const int readout = std::max(shape.width, shape.height);
    const auto length = static_cast<std::size_t>(readout);
    samples_.resize(spokes * length);
    kxy_.resize(2 * samples_.size());
    areas_.resize(samples_.size());
    for (std::size_t i = 0; i < spokes; ++i)
        radial_spoke(spoke_angle(AngleScheme::golden, 0, i, spokes), readout, readout,
                     kxy_.data() + 2 * i * length);
    clipped_ramp_weights(kxy_, readout, spokes, areas_.data(), 1.0, strip_limit);
    frames_.assign(static_cast<std::size_t>(std::max(1, shape.frames)), {kxy_, samples_, areas_});
}

at::Tensor RadialConsistency::normal(const at::Tensor& x) const {
    return Normal::apply(x, c10::make_intrusive<Holder>(data_));
}

at::Tensor RadialConsistency::conjugate_gradients(const at::Tensor& z, const at::Tensor& mu,
                                                  int steps) const {
    at::Tensor x = z;
    // (b + mu z) - (N + mu) z = b - N z.
    at::Tensor rest = misfit(z);
    at::Tensor direction = rest;
    at::Tensor power = (rest * rest).sum();
    // A perfect fit has no direction left; the smallest normal number keeps its 0 / 0 a 0.
    constexpr float smallest = 1.2e-38F;
    for (int k = 0; k < steps; ++k) {
        const at::Tensor product = normal(direction) + mu * direction;
        const at::Tensor length = power / ((direction * product).sum() + smallest);
        x = x + length * direction;
        if (k + 1 == steps)
            break;
        rest = rest - length * product;
        const at::Tensor next = (rest * rest).sum();
        direction = rest + next / (power + smallest) * direction;
        power = next;
    }
    return x;
}

} // namespace mri
