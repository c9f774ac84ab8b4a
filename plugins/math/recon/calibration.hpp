// SPDX-License-Identifier: LGPL-2.1-or-later
// Cartesian scans that leave lines out: which, and what their reference lines tell of the coils.
#pragma once

#include "plugins/math/recon/reconstruct.hpp"

#include <optional>
#include <span>
#include <vector>

namespace mri {

/// The coils as the reference lines of a parallel acquisition show them.
struct CoilCalibration {
    std::vector<cfloat> images; ///< [coil][y][x], at the scale of the object and the lines' resolution
    std::vector<cfloat> maps;   ///< sensitivities [coil][y][x], root sum of squares 1
};

/// Images and sensitivities of Cartesian reference lines: those around the centre of k-space without a gap, and as
/// much of their readouts, within a Hann window (McKenzie et al., MRM 47:529, 2002); sensitivities by
/// estimate_sensitivities(). Nothing where fewer than 8 such lines surround the centre, and for other trajectories.
/// Throws what FrameReconstruction does.
std::optional<CoilCalibration> calibrate(const ReconstructionSpace& space, const SampledFrame& reference);

/// Lines from one measured line to the next, where the frames together leave regular gaps between the lines of
/// Cartesian k-space: images of theirs are aliased as many times. 1: no line is missing, or they are missing at
/// irregular distances (aliases that look like noise), or the trajectory is another.
int line_step(const ReconstructionSpace& space, std::span<const SampledFrame> frames);

} // namespace mri
