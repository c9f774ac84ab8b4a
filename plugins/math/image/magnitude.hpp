// SPDX-License-Identifier: LGPL-2.1-or-later
// Magnitude or phase of an image's pixels, whatever its format. Pure C++.
#pragma once

#include <complex>
#include <cstddef>
#include <span>
#include <vector>

namespace mri {

/// Magnitudes of an image [channel][pixel]: the absolute value, and the root of the sum of squares over
/// channels when there are several. Throws Errc::format when `image` is not a whole number of channels.
std::vector<float> magnitude(std::span<const std::complex<float>> image, int channels);
std::vector<float> magnitude(std::span<const float> image, int channels);

/// Phase of an image [channel][pixel] in -pi..pi: of its first channel when there are several, 0 or pi for a
/// real one.
std::vector<float> phase(std::span<const std::complex<float>> image, int channels);
std::vector<float> phase(std::span<const float> image, int channels);

/// The largest absolute value; not a number where a value is not finite.
float largest_value(std::span<const float> values);

} // namespace mri
