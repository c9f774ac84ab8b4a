// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/winograd3d_autograd.hpp"

#include <c10/core/GradMode.h>
#include <cstring>
#include <torch/csrc/autograd/custom_function.h>
#include <utility>

namespace mri {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

winograd3d::Shape shape_of(const at::Tensor& x) {
    return {static_cast<int>(x.size(0)), static_cast<int>(x.size(1)), static_cast<int>(x.size(2))};
}

std::span<const float> values_of(const at::Tensor& weight) {
    return {weight.const_data_ptr<float>(), static_cast<std::size_t>(weight.numel())};
}

std::vector<const float*> frames_of(const at::Tensor& x, int reach, bool cycle) {
    return winograd3d::inputs(static_cast<int>(x.size(0)), 0, reach, cycle,
                              [&](int t) { return x.const_data_ptr<float>() + t * x.stride(0); });
}

} // namespace

struct SeriesConvolution::Function : torch::autograd::Function<SeriesConvolution::Function> {
    /// The object outlives the graph: it belongs to the module whose parameters the graph leads to.
    struct Holder : torch::CustomClassHolder {
        explicit Holder(SeriesConvolution& o) : owner(o) {}
        SeriesConvolution& owner;
    };

    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                              const c10::intrusive_ptr<Holder>& holder, std::int64_t reach, bool cycle,
                              bool rectified, bool relu) {
        const at::Tensor w = weight.contiguous();
        const winograd3d::Winograd3dWeights kernels(values_of(w), static_cast<int>(w.size(0)),
                                                    static_cast<int>(w.size(1)));
        at::Tensor out =
            holder->owner.forward(x, frames_of(x, static_cast<int>(reach), cycle), kernels, relu);
        ctx->saved_data["owner"] = c10::IValue::make_capsule(holder);
        ctx->saved_data["reach"] = reach;
        ctx->saved_data["cycle"] = cycle;
        ctx->saved_data["rectified"] = rectified;
        ctx->save_for_backward({x, w});
        return out;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
        const auto holder = c10::static_intrusive_pointer_cast<Holder>(ctx->saved_data["owner"].toCapsule());
        SeriesConvolution& owner = holder->owner;
        const variable_list saved = ctx->get_saved_variables();
        const at::Tensor &x = saved[0], &w = saved[1];
        const int out = static_cast<int>(w.size(0)), in = static_cast<int>(w.size(1));
        const auto reach = static_cast<int>(ctx->saved_data["reach"].toInt());
        const bool cycle = ctx->saved_data["cycle"].toBool();
        at::Tensor g = gradients.front();
        if (const std::int64_t missing = winograd3d::stored(out) - g.size(3); missing > 0)
            g = at::constant_pad_nd(g, {0, missing});
        g = g.contiguous();
        at::Tensor to_weight = at::zeros(w.sizes(), w.options());
        const std::vector<const float*> inputs = frames_of(x, reach, cycle);
        winograd3d::gradient(owner.pool_, owner.scratch_, owner.kernels_,
                             {inputs.data(), g.const_data_ptr<float>(), in, out, shape_of(x)},
                             {to_weight.data_ptr<float>(), static_cast<std::size_t>(to_weight.numel())});
        at::Tensor to_input;
        if (ctx->needs_input_grad(0)) {
            // What an input reaches lies on the other side of it in time.
            const auto transposed = winograd3d::Winograd3dWeights::transposed(values_of(w), out, in);
            to_input = owner.forward(g, frames_of(g, 2 - reach, cycle), transposed, false,
                                     ctx->saved_data["rectified"].toBool() ? x : at::Tensor());
            if (const std::int64_t missing = x.size(3) - to_input.size(3); missing > 0)
                to_input = at::constant_pad_nd(to_input, {0, missing});
        }
        return {to_input, to_weight, {}, {}, {}, {}, {}};
    }
};

std::shared_ptr<SeriesConvolution> SeriesConvolution::create(int most_channels, int threads) {
    const winograd3d::Winograd3dKernels* kernels = winograd3d::kernels();
    if (!kernels || most_channels > winograd3d::most_channels)
        return nullptr;
    return std::shared_ptr<SeriesConvolution>(new SeriesConvolution(*kernels, threads));
}

at::Tensor SeriesConvolution::forward(const at::Tensor& x, const std::vector<const float*>& in,
                                      const winograd3d::Winograd3dWeights& weights, bool relu,
                                      const at::Tensor& rectified) {
    const int channels = weights.narrow() ? weights.out() : winograd3d::stored(weights.out());
    at::Tensor out = at::empty({x.size(0), x.size(1), x.size(2), channels}, x.options());
    std::vector<float*> frames;
    for (std::int64_t t = 0; t < x.size(0); ++t)
        frames.push_back(out.data_ptr<float>() + t * out.stride(0));
    winograd3d::Winograd3dConvolution convolution{in.data(),   frames.data(), weights,
                                                  shape_of(x), relu,          false};
    std::vector<const float*> passed;
    if (rectified.defined()) {
        passed = frames_of(rectified, 2, false);
        convolution.rectified = passed.data();
    }
    winograd3d::convolve(pool_, scratch_, kernels_, convolution);
    return out;
}

at::Tensor SeriesConvolution::operator()(const at::Tensor& x, const at::Tensor& weight, const Time& time,
                                         bool rectified, bool relu) {
    const at::Tensor series = x.contiguous();
    if (!c10::GradMode::is_enabled()) {
        const at::Tensor w = weight.contiguous();
        return forward(series, frames_of(series, time.reach, time.cycle),
                       {values_of(w), static_cast<int>(w.size(0)), static_cast<int>(w.size(1))}, relu);
    }
    return Function::apply(series, weight, c10::make_intrusive<Function::Holder>(*this),
                           static_cast<std::int64_t>(time.reach), time.cycle, rectified, relu);
}

} // namespace mri
