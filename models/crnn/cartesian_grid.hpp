// SPDX-License-Identifier: LGPL-2.1-or-later
// Cartesian k-space on the grid of the discrete Fourier transform. Pure C++.
#pragma once

#include <complex>
#include <optional>
#include <span>
#include <vector>

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

/// Samples and their positions, as in place_on_grid().
struct GridSamples {
    std::vector<std::complex<float>> samples;
    std::vector<float> kxy;
    int density = 1; ///< how many samples came to one: their noise is its square root times as large
};

/// Readouts of `readout` samples each along kx that were taken 2 to 8 times as densely as the image's grid,
/// as scanners do, brought to its density: what lies beside the field of view along x goes, and its noise
/// with it (the transform along the readout, its middle, and back). Nothing where the first readout is of no
/// such density. Throws Errc::format where other readouts are of another one.
std::optional<GridSamples> without_oversampling(std::span<const std::complex<float>> samples,
                                                std::span<const float> kxy, int readout, int width);

} // namespace mri
