// SPDX-License-Identifier: LGPL-2.1-or-later
// Iterative parallel imaging: an undersampled frame by the sensitivities of its coils.
#pragma once

#include "plugins/math/recon/background.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace mri {

/// CG-SENSE (Pruessmann, Weiger, Boernert, Boesiger, MRM 46:638, 2001): the image x of one frame that
/// minimises
///     1/(W H) sum over c of |W^(1/2) (A S_c x - y_c)|^2 + l2 |x - x0|^2
/// by conjugate gradients on its normal equations, from x0. W are the samples' areas, which make the
/// equations well conditioned (their density compensation); S_c the sensitivities, whose root sum of squares
/// is taken to be 1 (their intensity correction). Without l2 noise grows with the iterations, whose number
/// then regularises.
class Sense {
  public:
    struct Options {
        int width = 0;           ///< pixels
        int height = 0;          ///< pixels
        int iterations = 10;     ///< conjugate gradient steps at most
        double tolerance = 5e-4; ///< relative error of a transform; steps end when the residual is below it
        int threads = 1;
        ComputeDevice device{}; ///< of the transforms; resolved
    };

    /// Throws Errc::settings for sizes or counts that are not positive.
    explicit Sense(const Options& options);
    ~Sense();
    Sense(Sense&&) noexcept;
    Sense& operator=(Sense&&) noexcept;

    /// Takes the sensitivities of `coils` coils, [coil][height][width]; copied. Empty: one coil of
    /// sensitivity 1. Throws Errc::format when the size does not fit.
    void set_sensitivities(std::span<const cfloat> maps, int coils);

    /// Solves one frame: `image` is x0 on entry and the solution on return. `l2` is in units of the data
    /// term's eigenvalues, which lie around 1 for fully sampled data with the areas of density.hpp. The frame
    /// has weights. Returns the steps that were taken. Throws Errc::format when sizes do not fit or
    /// sensitivities have not been set, Errc::settings for an l2 below 0.
    int solve(const SampledFrame& frame, double l2, std::span<cfloat> image);

    /// Scales an image, of another contrast or gain perhaps, to agree best with the frame. Throws likewise.
    void scale_to(const SampledFrame& frame, std::span<cfloat> image);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
