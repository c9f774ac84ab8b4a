// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/crnn/cartesian_grid.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
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

std::optional<GridSamples> without_oversampling(std::span<const std::complex<float>> samples,
                                                std::span<const float> kxy, int readout, int width) {
    const auto n = static_cast<std::size_t>(std::max(readout, 0));
    if (n < 2 || width < 1 || samples.size() < n || samples.size() % n != 0 ||
        kxy.size() != 2 * samples.size())
        return std::nullopt;
    const double step = static_cast<double>(kxy[2]) - static_cast<double>(kxy[0]);
    const double density = step > 0 ? std::nearbyint(1 / step) : 0;
    if (!(density >= 2 && density <= 8) || std::abs(step * density - 1) > 1e-3)
        return std::nullopt;
    const auto over = static_cast<std::size_t>(density);
    const auto columns = static_cast<std::size_t>(width), turn = over * columns;
    std::vector<std::complex<double>> wave(turn); // exp(2 pi i q / (over W))
    for (std::size_t q = 0; q < turn; ++q)
        wave[q] = std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(q) / static_cast<double>(turn));
    const auto at = [turn](std::int64_t q) {
        const auto period = static_cast<std::int64_t>(turn);
        return static_cast<std::size_t>((q % period + period) % period);
    };
    GridSamples out;
    out.density = static_cast<int>(over);
    std::vector<std::complex<double>> line(columns);
    for (std::size_t first = 0; first < samples.size(); first += n) {
        const double begin = std::nearbyint(static_cast<double>(kxy[2 * first]) * density);
        for (std::size_t j = 0; j < n; ++j) {
            const float* k = &kxy[2 * (first + j)];
            if (!(std::abs(static_cast<double>(k[0]) * density - begin - static_cast<double>(j)) <= 1e-2) ||
                std::abs(k[0]) > static_cast<float>(width) || !(std::abs(k[1] - kxy[2 * first + 1]) <= 1e-3F))
                throw Error(Errc::format, "a readout is not along kx in steps of 1/" + std::to_string(over) +
                                              " cycle like the first one");
        }
        const auto k0 = static_cast<std::int64_t>(begin); // in steps
        const auto half = static_cast<std::int64_t>(width / 2);
        for (std::size_t x = 0; x < columns; ++x) {
            const std::int64_t place = static_cast<std::int64_t>(x) - half;
            std::complex<double> sum;
            for (std::size_t j = 0; j < n; ++j)
                sum += std::complex<double>(samples[first + j]) *
                       wave[at((k0 + static_cast<std::int64_t>(j)) * place)];
            line[x] = sum / static_cast<double>(turn);
        }
        for (std::size_t j = 0; j < n; ++j) {
            const std::int64_t k = k0 + static_cast<std::int64_t>(j);
            if (k % static_cast<std::int64_t>(over) != 0)
                continue;
            std::complex<double> sum;
            for (std::size_t x = 0; x < columns; ++x)
                sum += line[x] * std::conj(wave[at(k * (static_cast<std::int64_t>(x) - half))]);
            out.samples.emplace_back(sum);
            out.kxy.insert(out.kxy.end(),
                           {static_cast<float>(k / static_cast<std::int64_t>(over)), kxy[2 * first + 1]});
        }
    }
    return out;
}

} // namespace mri
