// SPDX-License-Identifier: LGPL-2.1-or-later
// Compressed sensing of a window of frames: total variation along time.
#pragma once

#include "plugins/math/recon/background.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace mri {

/// Minimises over the images x_t of a window
///     1/2 sum over t, c of |W_t^(1/2) (A_t S_c x_t - y_tc)|^2 / (W H) + lambda sum over t of |x_t -
///     x_(t-1)|_1
/// by the alternating direction method of multipliers (Boyd et al., Found. Trends Mach. Learn. 2011, section
/// 6.4), its quadratic part by conjugate gradients. The model is that of Feng et al., MRM 2014 (GRASP): still
/// parts are sampled by all frames, moving ones pay for their steps.
///
/// Where k-space is not sampled by any frame nothing pulls an image back to what it should be, so that
/// the start matters: it is a still image after a few steps of conjugate gradients from zero, which leave
/// those parts near zero. For the same reason many more iterations than the default make the function
/// smaller and the images worse.
///
/// With the weights of clipped_ramp_weights() (limit 1) A^H W A / (W H) is near the identity, so that few
/// steps do. Results do not depend on the number of threads.
class TemporalTv {
  public:
    struct Options {
        int width = 0;           ///< pixels
        int height = 0;          ///< pixels
        int iterations = 7;      ///< steps of solve(), each with six of conjugate gradients
        bool cycle = false;      ///< the first frame follows upon the last: one more difference
        double tolerance = 5e-4; ///< relative error of a transform
        int threads = 1;         ///< in all, 0 = one per core; frames are what is shared out
        ComputeDevice device{};  ///< of the transforms; resolved
    };

    /// Throws Errc::settings for sizes or counts that are not positive.
    explicit TemporalTv(const Options& options);
    ~TemporalTv();
    TemporalTv(TemporalTv&&) noexcept;
    TemporalTv& operator=(TemporalTv&&) noexcept;

    /// Solves a window from its own start. `maps`: [coil][height][width] with root sum of squares 1, empty
    /// for one coil of sensitivity 1. `lambda` is in units of the images. Frames have weights; throws
    /// Errc::format when sizes do not fit.
    void solve(std::span<const SampledFrame> frames, int coils, std::span<const cfloat> maps, double lambda);

    /// Goes on from the last solution: `frames` is the window now, of which the last `fresh` frames are new
    /// and the others the newest of the last window, with the same samples. A new frame starts as the image
    /// before it. `new_maps`: the sensitivities are others than last time. `steps` as Options::iterations,
    /// each with `gradient_steps` of conjugate gradients. Without a last solution, with other coils, or when
    /// all is new, it is solve(). Not for a cycle (Errc::settings).
    void slide(std::span<const SampledFrame> frames, std::size_t fresh, int coils,
               std::span<const cfloat> maps, bool new_maps, double lambda, int steps, int gradient_steps);

    /// The solution's frame `index`: [height][width], until the next solve() or slide().
    std::span<const cfloat> image(std::size_t index) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
