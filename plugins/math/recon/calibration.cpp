// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/calibration.hpp"

#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/trajectory_kind.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <set>

namespace mri {

namespace {

/// Reference lines on either side of the centre.
constexpr int fewest = 4;
/// Gaps that make a pattern, and the share of them that must be alike.
constexpr int pattern = 4;
constexpr double alike = 0.75;

long cell(double k, double over) {
    return std::lround(k * over);
}

/// Cells on either side of the centre up to the first that is missing.
long reach(const std::set<long>& cells) {
    long result = 0;
    while (cells.count(result) && cells.count(-result))
        ++result;
    return result;
}

} // namespace

std::optional<CoilCalibration> calibrate(const ReconstructionSpace& space, const SampledFrame& reference) {
    if (!kind_of(space.trajectory).grid)
        return std::nullopt;
    check_frame(space, reference);
    std::set<long> columns, lines;
    for (std::size_t i = 0; i < reference.points(); ++i) {
        columns.insert(cell(reference.kxy[2 * i], space.over_x));
        lines.insert(cell(reference.kxy[2 * i + 1], space.over_y));
    }
    if (reach(lines) < fewest || reach(columns) < fewest)
        return std::nullopt;
    // Cycles per field of view; along x as far as along y in physical k-space.
    const double extent_y = static_cast<double>(reach(lines)) / space.over_y;
    const double extent_x =
        std::min(static_cast<double>(reach(columns)) / space.over_x, extent_y / space.aspect);
    const auto hann = [](double k, double extent) {
        const double c = std::abs(k) < extent ? std::cos(std::numbers::pi / 2 * k / extent) : 0;
        return c * c;
    };
    std::vector<cfloat> samples(reference.samples.begin(), reference.samples.end());
    const std::size_t points = reference.points();
    for (std::size_t i = 0; i < points; ++i) {
        const auto window = static_cast<float>(hann(reference.kxy[2 * i], extent_x) *
                                               hann(reference.kxy[2 * i + 1], extent_y));
        for (std::size_t c = 0; c < static_cast<std::size_t>(space.coils); ++c)
            samples[c * points + i] *= window;
    }
    CoilCalibration result;
    result.images.resize(static_cast<std::size_t>(space.coils) * space.width * space.height);
    FrameReconstruction(space, Density::ramp, Combine::none)
        .reconstruct({reference.kxy, samples, {}, reference.readouts}, result.images.data());
    result.maps.resize(result.images.size());
    estimate_sensitivities(result.images.data(), space.coils, space.width, space.height, result.maps.data());
    return result;
}

int line_step(const ReconstructionSpace& space, std::span<const SampledFrame> frames) {
    if (!kind_of(space.trajectory).grid)
        return 1;
    std::set<long> lines;
    for (const SampledFrame& frame : frames)
        for (int r = 0; r < frame.readouts; ++r)
            lines.insert(cell(frame.kxy[2 * static_cast<std::size_t>(r) * frame.samples_per_readout() + 1],
                              space.over_y));
    std::map<long, int> gaps;
    int all = 0;
    for (auto next = lines.begin(); next != lines.end();) {
        const long line = *next;
        if (++next != lines.end() && *next - line > 1) {
            ++gaps[*next - line];
            ++all;
        }
    }
    const auto most = std::max_element(gaps.begin(), gaps.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (all < pattern || most->second < alike * all)
        return 1;
    return static_cast<int>(std::min<long>(most->first, 1024));
}

} // namespace mri
