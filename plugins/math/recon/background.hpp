// SPDX-License-Identifier: LGPL-2.1-or-later
// A window of undersampled frames as a static background plus what each frame adds to it.
#pragma once

#include "plugins/math/recon/sampled_frame.hpp"
#include "plugins/math/transform/cuda/device.hpp"

#include <complex>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace mri {

/// The reconstruction of a window of frames whose trajectory rotates, so that together they sample k-space
/// fully:
///     M   = argmin sum over the window of W |A M - y|^2, by conjugate gradients on A^H W A,
///     x_t = M + 1 / (W H) A_t^H W_t (y_t - A_t M).
/// The background is free of streaks; the residual carries the motion, and its streaks are as weak as the
/// motion is.
class StaticBackground {
  public:
    struct Options {
        int width = 0;           ///< pixels
        int height = 0;          ///< pixels
        int iterations = 6;      ///< conjugate gradient steps for M
        double tolerance = 5e-4; ///< relative error of a transform
        int threads = 1;
        ComputeDevice device{}; ///< of the transforms; resolved
    };

    /// Throws Errc::settings for sizes or counts that are not positive.
    explicit StaticBackground(const Options& options);
    ~StaticBackground();
    StaticBackground(StaticBackground&&) noexcept;
    StaticBackground& operator=(StaticBackground&&) noexcept;

    /// Solves M for a window; `window_weights`, one a sample in the order of the frames, are the areas when
    /// all frames are taken together. Afterwards background() and residual() are valid until the next
    /// solve(); the frames are not needed any more, except for their trajectories and weights in residual().
    /// Throws Errc::format when sizes do not fit each other or when the window holds no sample.
    void solve(std::span<const SampledFrame> frames, std::span<const float> window_weights, int coils);

    /// M: [coils][height][width].
    std::span<const cfloat> background() const;

    /// Writes 1 / (W H) A_t^H W_t (y_t - A_t M) of the frame at `index` of the window:
    /// [coils][height][width].
    void residual(std::size_t index, const SampledFrame& frame, cfloat* images);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
