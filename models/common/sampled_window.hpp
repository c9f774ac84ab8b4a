// SPDX-License-Identifier: LGPL-2.1-or-later
// A window of images and the samples that they were made of, as networks with data consistency take them.
#pragma once

#include "plugins/math/recon/window_operator.hpp"

#include <complex>
#include <span>

namespace mri {

/// Nothing is copied.
struct SampledWindow {
    std::span<const std::complex<float>> start; ///< [frame][y][x]
    std::span<const SampledFrame> frames;       ///< areas: Density::clipped (reconstruct.hpp)
    int coils = 1;
    std::span<const std::complex<float>> maps{}; ///< sensitivities [coil][y][x]; empty for one coil
};

} // namespace mri
