// SPDX-License-Identifier: LGPL-2.1-or-later
// Cartesian k-space on the grid of the discrete Fourier transform. Pure C++.
#pragma once

#include <complex>
#include <span>

namespace mri {

/// Puts samples onto the [height][width] grid of an orthonormal, unshifted FFT of the image array, and 1 into
/// `mask` where there are any (several on one point: their mean). Grid and mask are overwritten.
///
/// With s(k) = sum over pixels of m(x, y) exp(-2 pi i (kx (x - W/2) / W + ky (y - H/2) / H)) the transform's
/// coefficient is s(k) exp(-2 pi i (kx (W/2) / W + ky (H/2) / H)) / sqrt(W H), W/2 and H/2 being integer
/// quotients. `kxy` are (kx, ky) of each sample in cycles per field of view. Throws Errc::format where one is
/// not on the grid (1e-3 cycles) or outside of -N/2 .. N/2, or where sizes do not fit.
void place_on_grid(std::span<const std::complex<float>> samples, std::span<const float> kxy, int width,
                   int height, std::span<std::complex<float>> grid, std::span<float> mask);

} // namespace mri
