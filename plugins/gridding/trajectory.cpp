// SPDX-License-Identifier: LGPL-2.1-or-later
#include "trajectory.hpp"

#include "plugins/common/error.hpp"

#include <cmath>
#include <numbers>

namespace mri {

double tiny_golden_step(int n) {
    if (n < 1)
        throw Error(Errc::settings, "the tiny golden angle needs N of 1 or more, not " + std::to_string(n));
    return std::numbers::pi / (std::numbers::phi + n - 1);
}

int fibonacci_spokes(int n, int spokes) {
    if (n < 1)
        throw Error(Errc::settings, "the tiny golden angle needs N of 1 or more, not " + std::to_string(n));
    std::int64_t before = 1;
    std::int64_t current = n;
    if (spokes <= 1)
        return 1;
    while (current < spokes) {
        const std::int64_t next = before + current;
        before = current;
        current = next;
    }
    return static_cast<int>(current);
}

double spoke_angle(AngleScheme scheme, int n, std::uint64_t index, int spokes, bool negative) {
    constexpr long double turn = 2 * std::numbers::pi_v<long double>;
    long double angle = 0;
    if (scheme == AngleScheme::regular) {
        if (spokes < 1)
            throw Error(Errc::settings, "regular angles need 1 spoke or more, not " + std::to_string(spokes));
        angle = turn / 2 * static_cast<long double>(index % static_cast<std::uint64_t>(spokes)) / spokes;
    } else {
        const int order = scheme == AngleScheme::golden ? 1 : n;
        if (order < 1)
            throw Error(Errc::settings,
                        "the tiny golden angle needs N of 1 or more, not " + std::to_string(n));
        // Long double: an index of 2^32 (half a year at 4 ms a spoke) times a step in double is off by 4e-7
        // radians.
        const long double step = turn / 2 / (std::numbers::phi_v<long double> + order - 1);
        angle = std::fmod(step * static_cast<long double>(index), turn);
    }
    if (negative && angle > 0)
        angle = turn - angle;
    return static_cast<double>(angle);
}

void radial_spoke(double angle, int samples, double extent, float* kxy) {
    const double step = extent / samples;
    const double dx = std::cos(angle) * step;
    const double dy = std::sin(angle) * step;
    for (int i = 0; i < samples; ++i) {
        kxy[2 * i] = static_cast<float>((i - samples / 2) * dx);
        kxy[2 * i + 1] = static_cast<float>((i - samples / 2) * dy);
    }
}

void cartesian_line(int line, int lines, int samples, double extent, float* kxy) {
    const double step = extent / samples;
    for (int i = 0; i < samples; ++i) {
        kxy[2 * i] = static_cast<float>((i - samples / 2) * step);
        kxy[2 * i + 1] = static_cast<float>(line - lines / 2);
    }
}

} // namespace mri
