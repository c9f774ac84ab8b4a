// SPDX-License-Identifier: LGPL-2.1-or-later
// Compressed sensing of a window of frames: total variation along time.
#pragma once

#include "background.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace mri {

/// Minimises over the images x_t of a window
///     1/2 sum over t, c of |W_t^(1/2) (A_t S_c x_t - y_tc)|^2 / (W H) + lambda sum over t of |x_(t+1) -
///     x_t|_1
/// by proximal gradient steps whose dual variable is carried along (Loris and Verhoeven, Inverse Problems
/// 2011). The model is that of Feng et al., MRM 2014 (GRASP): still parts are sampled by all frames, moving
/// ones pay for their steps. Momentum (FISTA) is left out: with a dual that is solved in part only it hovers
/// above the minimum.
///
/// With the weights of clipped_ramp_weights() (limit 1) A^H W A / (W H) is near the identity, so that few
/// steps do.
class TemporalTv {
  public:
    struct Options {
        int width = 0;           ///< pixels
        int height = 0;          ///< pixels
        int iterations = 25;     ///< proximal gradient steps
        double tolerance = 5e-4; ///< relative error of a transform
        int threads = 1;
        ComputeDevice device{}; ///< of the transforms; resolved
    };

    /// Throws Errc::settings for sizes or counts that are not positive.
    explicit TemporalTv(const Options& options);
    ~TemporalTv();
    TemporalTv(TemporalTv&&) noexcept;
    TemporalTv& operator=(TemporalTv&&) noexcept;

    /// `images`: [frame][height][width], the start on entry and the solution on return. `maps`:
    /// [coil][height][width] with root sum of squares 1, empty for one coil of sensitivity 1. `lambda` is in
    /// units of the images. Frames have weights; throws Errc::format when sizes do not fit.
    void solve(std::span<const SampledFrame> frames, int coils, std::span<const cfloat> maps, double lambda,
               std::span<cfloat> images);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
