// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cartesian_grid.hpp"

#include "plugins/common/error.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

namespace mri {

void place_on_grid(std::span<const std::complex<float>> samples, std::span<const float> kxy, int width,
                   int height, std::span<std::complex<float>> grid, std::span<float> mask) {
    const std::size_t points = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    if (width < 1 || height < 1 || grid.size() != points || mask.size() != points ||
        kxy.size() != 2 * samples.size())
        throw Error(Errc::format, "Cartesian samples, their positions and their grid are of different sizes");
    std::fill(grid.begin(), grid.end(), std::complex<float>());
    std::fill(mask.begin(), mask.end(), 0.0F);
    const double norm = 1.0 / std::sqrt(static_cast<double>(points));
    const auto line = [](float k, int extent) -> long {
        const double nearest = std::nearbyint(k);
        if (!(std::abs(k - nearest) <= 1e-3) || std::abs(nearest) > extent / 2)
            throw Error(Errc::format, "a sample at " + std::to_string(k) +
                                          " cycles does not lie on a Cartesian grid of " +
                                          std::to_string(extent) +
                                          " lines: its field of view or matrix is not that of the image");
        return static_cast<long>(nearest);
    };
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const long kx = line(kxy[2 * i], width);
        const long ky = line(kxy[2 * i + 1], height);
        const double turns =
            static_cast<double>(kx * (width / 2)) / width + static_cast<double>(ky * (height / 2)) / height;
        const double angle = -2.0 * std::numbers::pi * (turns - std::floor(turns));
        const std::complex<double> factor = std::polar(norm, angle);
        const auto column = static_cast<std::size_t>((kx + width) % width);
        const auto row = static_cast<std::size_t>((ky + height) % height);
        const std::size_t at = row * static_cast<std::size_t>(width) + column;
        grid[at] += std::complex<float>(std::complex<double>(samples[i]) * factor);
        mask[at] += 1.0F;
    }
    for (std::size_t at = 0; at < points; ++at)
        if (mask[at] > 0.0F) {
            grid[at] /= mask[at];
            mask[at] = 1.0F;
        }
}

} // namespace mri
