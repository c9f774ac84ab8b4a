// SPDX-License-Identifier: LGPL-2.1-or-later
// One frame of k-space.
#pragma once

#include <complex>
#include <cstddef>
#include <span>

namespace mri {

using cfloat = std::complex<float>;

/// One frame of k-space as the caller holds it; nothing is copied. Once constructed its sizes fit each other and its
/// values are finite: whoever takes one checks neither again.
struct SampledFrame {
    std::span<const float> kxy;      ///< [readout][sample][2], cycles per reconstructed field of view
    std::span<const cfloat> samples; ///< [coil][readout][sample]
    /// [readout][sample], areas of the samples in (cycles per field of view)^2 (density.hpp), or empty
    std::span<const float> weights;
    int readouts = 1; ///< that share the points of `kxy` evenly

    /// Throws Errc::format for a frame without a sample, for sizes that do not fit, and for positions, samples or
    /// weights that are not finite, and for negative weights.
    SampledFrame(std::span<const float> positions, std::span<const cfloat> values,
                 std::span<const float> areas = {}, int count = 1);

    std::size_t points() const noexcept { return kxy.size() / 2; }
    std::size_t coils() const noexcept { return samples.size() / points(); }
    int samples_per_readout() const noexcept { return static_cast<int>(points()) / readouts; }
    /// The same frame with other areas, one a point.
    SampledFrame with(std::span<const float> areas) const {
        SampledFrame other = *this;
        other.weights = areas;
        return other;
    }
};

} // namespace mri
