// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/sampling/trajectory.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

namespace mri {

double tiny_golden_step(int n) {
    if (n < 1)
        throw Error(Errc::settings, "the tiny golden angle needs N of 1 or more, not " + std::to_string(n));
    return std::numbers::pi / (std::numbers::phi + n - 1);
}

int nearest_tiny_golden(double step) {
    const double per_half_turn = std::numbers::pi / step;
    if (!(per_half_turn > 0 && per_half_turn < 1e9))
        throw Error(Errc::settings,
                    "no tiny golden angle has a step of " + std::to_string(step) + " radians");
    return std::max(1, static_cast<int>(std::lround(per_half_turn - std::numbers::phi + 1)));
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

namespace {

/// Lengths along the spiral from its centre to t = i / steps, i = 0 .. steps, by the trapezoidal rule.
std::vector<double> spiral_lengths(const Spiral& s) {
    if (s.interleaves < 1 || !(s.exponent >= 1) || !(s.exponent <= 8) || !(s.extent > 0) ||
        !(s.extent <= 65536))
        throw Error(Errc::settings,
                    "a spiral needs an interleave or more, an exponent of 1 to 8 and an extent");
    const double turns = s.extent / 2 * s.exponent / s.interleaves;
    if (!(turns <= 65536))
        throw Error(Errc::settings, "a spiral of " + std::to_string(turns) + " turns is too long");
    const double w = 2 * std::numbers::pi * turns;
    // |dk/dt| is smooth: a hundred steps a turn leave 1e-4 of a sample.
    const int steps = 1000 + 100 * static_cast<int>(turns);
    const auto speed = [&](double t) {
        return s.extent / 2 *
               std::hypot(s.exponent * std::pow(t, s.exponent - 1), w * std::pow(t, s.exponent));
    };
    std::vector<double> lengths(static_cast<std::size_t>(steps) + 1);
    for (int i = 1; i <= steps; ++i)
        lengths[i] =
            lengths[i - 1] +
            (speed(static_cast<double>(i - 1) / steps) + speed(static_cast<double>(i) / steps)) / 2 / steps;
    return lengths;
}

} // namespace

int spiral_samples(const Spiral& spiral, double spacing) {
    const double samples = std::ceil(spiral_lengths(spiral).back() / spacing) + 1;
    if (!(samples <= 1 << 20))
        throw Error(Errc::settings, "an interleave of " + std::to_string(samples) + " samples is too long");
    return std::max(2, static_cast<int>(samples));
}

void spiral_interleave(const Spiral& spiral, double angle, int samples, float* kxy) {
    const auto lengths = spiral_lengths(spiral);
    if (samples < 2)
        throw Error(Errc::settings, "an interleave needs two samples or more");
    const double w = std::numbers::pi * spiral.extent * spiral.exponent / spiral.interleaves;
    std::size_t step = 0;
    for (int i = 0; i < samples; ++i) {
        const double length = lengths.back() * i / (samples - 1);
        while (step + 2 < lengths.size() && lengths[step + 1] < length)
            ++step;
        const double part = (length - lengths[step]) / (lengths[step + 1] - lengths[step]);
        const double t =
            std::min(1.0, (static_cast<double>(step) + part) / static_cast<double>(lengths.size() - 1));
        const double radius = spiral.extent / 2 * std::pow(t, spiral.exponent);
        kxy[2 * i] = static_cast<float>(radius * std::cos(angle + w * t));
        kxy[2 * i + 1] = static_cast<float>(radius * std::sin(angle + w * t));
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
