// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/image/magnitude.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>

namespace mri {
namespace {

template <class T>
std::size_t plane(std::span<const T> image, int channels) {
    if (channels < 1 || image.size() % static_cast<std::size_t>(channels) != 0)
        throw Error(Errc::format, "an image of " + std::to_string(image.size()) + " values cannot have " +
                                      std::to_string(channels) + " channels");
    return image.size() / static_cast<std::size_t>(channels);
}

template <class T>
std::vector<float> magnitude_of(std::span<const T> image, int channels) {
    const std::size_t pixels = plane(image, channels);
    std::vector<float> out(pixels);
    if (channels == 1) {
        // Not std::abs of a complex number: its guard against overflow makes it several times slower, and the
        // product of two single precision numbers does not overflow where images live.
        for (std::size_t p = 0; p < pixels; ++p)
            out[p] = std::sqrt(std::norm(image[p]));
        return out;
    }
    for (int c = 0; c < channels; ++c)
        for (std::size_t p = 0; p < pixels; ++p)
            out[p] += std::norm(image[c * pixels + p]);
    for (float& value : out)
        value = std::sqrt(value);
    return out;
}

template <class T>
std::vector<float> phase_of(std::span<const T> image, int channels) {
    const std::size_t pixels = plane(image, channels);
    std::vector<float> out(pixels);
    for (std::size_t p = 0; p < pixels; ++p)
        out[p] = static_cast<float>(std::arg(image[p]));
    return out;
}

} // namespace

std::vector<float> magnitude(std::span<const std::complex<float>> image, int channels) {
    return magnitude_of(image, channels);
}
std::vector<float> magnitude(std::span<const float> image, int channels) {
    return magnitude_of(image, channels);
}
std::vector<float> phase(std::span<const std::complex<float>> image, int channels) {
    return phase_of(image, channels);
}
std::vector<float> phase(std::span<const float> image, int channels) {
    return phase_of(image, channels);
}

float largest_value(std::span<const float> values) {
    // In the order of their bits, absolute values are in their own order, and what is not finite lies above them all.
    std::uint32_t most = 0;
    for (const float value : values)
        most = std::max(most, std::bit_cast<std::uint32_t>(value) & 0x7fffffffU);
    const float largest = std::bit_cast<float>(most);
    return std::isfinite(largest) ? largest : std::numeric_limits<float>::quiet_NaN();
}

} // namespace mri
