// SPDX-License-Identifier: LGPL-2.1-or-later
// Data consistency with non-Cartesian samples as differentiable operations. Only for sources of models/:
// it includes LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/common/sampled_window.hpp"
#include "plugins/math/recon/window_operator.hpp"

#include <ATen/ATen.h>
#include <memory>
#include <vector>

namespace mri {

/// The samples of a window, as WindowOperator::set_window() took them. Image series here are float32 tensors
/// [T, H, W, 2] (real, imaginary) on any device; transforms are computed where the operator says.
class RadialConsistency {
  public:
    /// `data` has its window set and is not set anew while a graph that uses it may still run backwards.
    explicit RadialConsistency(std::shared_ptr<WindowOperator> data, const at::Device& device = at::kCPU);

    /// N x. Autograd follows it: N is self-adjoint, so the gradient is N of the gradient.
    at::Tensor normal(const at::Tensor& x) const;
    /// b = adjoint of the weighted samples.
    const at::Tensor& right() const { return right_; }
    /// b - N x, minus the gradient of the data term: what a network is told of the data.
    at::Tensor misfit(const at::Tensor& x) const { return right_ - normal(x); }

    /// x + step (b - N x): one gradient step; `step` is a tensor of one value or a number.
    template <typename Step>
    at::Tensor gradient_step(const at::Tensor& x, const Step& step) const {
        return x + step * misfit(x);
    }

    /// `steps` conjugate gradient steps (Hestenes and Stiefel) for (N + mu) x = b + mu z, from z: the data
    /// step of MoDL (Aggarwal et al., IEEE TMI 2019). All frames share their steps. Differentiable in z and
    /// mu.
    at::Tensor conjugate_gradients(const at::Tensor& z, const at::Tensor& mu, int steps) const;

  private:
    std::shared_ptr<WindowOperator> data_;
    at::Tensor right_;
};

/// `data` where it is for images of that size already, else a new operator; on a GPU where `device` is one.
std::shared_ptr<WindowOperator> window_operator(std::shared_ptr<WindowOperator> data,
                                                const WindowShape& shape, int threads,
                                                const at::Device& device);

/// Throws Errc::format where the start of a window, its frames or the `values` of the output are not those of
/// `shape`.
void check_window(const SampledWindow& window, std::size_t values, const WindowShape& shape);

/// The operator with the samples of a window. Throws what check_window() and WindowOperator::set_window()
/// throw.
std::shared_ptr<WindowOperator> take_samples(std::shared_ptr<WindowOperator> data,
                                             const SampledWindow& window, std::size_t values,
                                             const WindowShape& shape, int threads, const at::Device& device);

/// Samples that are all 0, on 13 spokes a frame: what networks are warmed up with.
class EmptyScan {
  public:
    explicit EmptyScan(const WindowShape& shape, double strip_limit = 1);
    EmptyScan(const EmptyScan&) = delete;
    EmptyScan& operator=(const EmptyScan&) = delete;

    SampledWindow window() const { return {start_, frames_, 1, {}}; }

  private:
    std::vector<float> kxy_, areas_;
    std::vector<cfloat> samples_, start_;
    std::vector<SampledFrame> frames_;
};

} // namespace mri
