// SPDX-License-Identifier: LGPL-2.1-or-later
// Several receive coils: combining their images, estimating and simulating their sensitivities.
#pragma once

#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mri {

using cfloat = std::complex<float>;

/// combined[pixel] = sqrt(sum over coils |image|^2), real. `images`: [coils][pixels].
void root_sum_of_squares(const cfloat* images, int coils, std::size_t pixels, cfloat* combined);

/// Relative coil sensitivities by adaptive reconstruction (Walsh, Gmitro, Marcellin, MRM 2000): at each pixel
/// the dominant eigenvector of the coils' covariance over a square neighbourhood of `patch` pixels (odd; 7 by
/// default), the matched filter for white noise of equal level in all coils. Root sum of squares 1 at each
/// pixel. An eigenvector's phase is arbitrary: here the virtual coil that sees most of the whole image (the
/// dominant eigenvector of the total covariance; Buehrer et al., MRM 2007, use it for compression) has phase
/// 0, so that the combined image keeps its phase and the maps are smooth. They are solved for at every second
/// pixel of every second row and interpolated between. `images`, `maps`:
/// [coils][height][width]; they may not overlap.
void estimate_sensitivities(const cfloat* images, int coils, int width, int height, cfloat* maps,
                            int patch = 7);

/// Whether sensitivities from an average over frames are estimated anew with frame number `frame` (from 1
/// on): whenever their number has doubled, and then after each `each` frames.
constexpr bool sensitivities_due(std::size_t frame, std::size_t each) {
    return (frame < each && std::has_single_bit(frame)) || frame % each == 0;
}

/// combined[pixel] = sum over coils conj(map) image / sum |map|^2: the least-squares estimate (Roemer et al.,
/// MRM 1990); 0 where all maps are 0. `images`, `maps`: [coils][pixels]. `combined` may be the first coil of
/// `images`.
void combine_coils(const cfloat* images, const cfloat* maps, int coils, std::size_t pixels, cfloat* combined);

/// Smooth sensitivities of a ring of `coils` loops around the field of view, with root sum of squares 1 at
/// each pixel. Each is the field of a circular loop, radius 0.35 of the field of view, seen at a distance:
/// amplitude a^3 / (a^2 + d^2)^(3/2) (Biot-Savart on the axis of the loop) with a phase that turns along the
/// loop's direction, as the transverse field of a loop beside the object does. `seed` moves loops, sizes and
/// phases by up to a tenth. One coil has the sensitivity 1. Returns [coils][height][width]. Throws
/// Errc::settings for coils < 1.
std::vector<cfloat> synthetic_sensitivities(int coils, int width, int height, std::uint64_t seed);

} // namespace mri
