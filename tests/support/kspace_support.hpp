// SPDX-License-Identifier: LGPL-2.1-or-later
// K-space frames for the tests of the reconstructing elements, by the exact transform in double precision.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "tests/support/exact_dft.hpp"
#include "tests/support/gst_test.hpp"

#include <cmath>
#include <complex>
#include <numbers>
#include <random>
#include <vector>

namespace mri::test {

/// exact_forward() of exact_dft.hpp of images [coil][y][x]: samples [coil][point].
inline std::vector<cfloat> exact_forward(const std::vector<cfloat>& images, int width, int height,
                                         const std::vector<float>& kxy) {
    const std::size_t pixels = static_cast<std::size_t>(width) * height;
    std::vector<cfloat> out;
    for (std::size_t first = 0; first < images.size(); first += pixels)
        for (const cdouble& sample : exact_forward(kxy, images.data() + first, width, height))
            out.emplace_back(sample);
    return out;
}

/// The conjugate transpose with weights (areas, scale included; empty: 1).
inline std::vector<cfloat> exact_adjoint(const std::vector<cfloat>& samples, int width, int height,
                                         const std::vector<float>& kxy, const std::vector<double>& weights) {
    const std::size_t points = kxy.size() / 2;
    std::vector<cfloat> out;
    std::vector<cdouble> weighted(points);
    for (std::size_t first = 0; first < samples.size(); first += points) {
        for (std::size_t i = 0; i < points; ++i)
            weighted[i] = cdouble(samples[first + i]) * (weights.empty() ? 1.0 : weights[i]);
        for (const cdouble& pixel : exact_adjoint(kxy, weighted.data(), width, height))
            out.emplace_back(pixel);
    }
    return out;
}

/// `spokes` spokes from `first` on, at the tiny golden angle.
inline std::vector<float> spokes_of(int first, int spokes, int samples, int n) {
    std::vector<float> kxy(2 * static_cast<std::size_t>(spokes) * samples);
    for (int s = 0; s < spokes; ++s)
        radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, first + s, spokes), samples, n,
                     kxy.data() + 2 * static_cast<std::size_t>(s) * samples);
    return kxy;
}

inline std::vector<cfloat> random_values(std::size_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<cfloat> values(count);
    for (cfloat& value : values) {
        const float re = normal(engine);
        value = {re, normal(engine)};
    }
    return values;
}

inline KspaceInfo radial_info(int n, int samples, int coils = 1, int series = 0) {
    KspaceInfo info;
    info.alignment = Alignment::frame;
    info.coils = coils;
    info.samples = samples;
    info.width = info.height = n;
    info.fov_x = info.fov_y = 300;
    info.trajectory = Trajectory::radial;
    info.framerate = {25, 1};
    info.series = series;
    return info;
}

/// A frame with its trajectory; PTS 40 ms times `number`.
inline GstPtr<GstBuffer> kspace_frame(const std::vector<cfloat>& samples, const std::vector<float>& kxy,
                                      int readouts, int number = 0, std::vector<float> density = {}) {
    auto buffer = buffer_of(samples, number * 40 * GST_MSECOND, 40 * GST_MSECOND);
    auto trajectory = std::make_shared<TrajectoryData>();
    trajectory->readouts = readouts;
    trajectory->samples = static_cast<int>(kxy.size() / 2) / readouts;
    trajectory->kxy = kxy;
    trajectory->density = std::move(density);
    add_trajectory(buffer.get(), trajectory);
    std::vector<Readout> heads(static_cast<std::size_t>(readouts));
    for (int r = 0; r < readouts; ++r)
        heads[r].angle_index = number * readouts + r;
    add_readouts(buffer.get(), std::move(heads));
    return buffer;
}

/// Two discs with a smooth phase; the inner one's radius is given.
inline std::vector<cfloat> discs(int n, double radius) {
    std::vector<cfloat> image(static_cast<std::size_t>(n) * n);
    for (int y = 0; y < n; ++y)
        for (int x = 0; x < n; ++x) {
            const double body = 0.5 * std::erfc((std::hypot(x - n / 2, (y - n / 2) * 1.2) - 0.4 * n) / 1.5);
            const double heart = 0.5 * std::erfc((std::hypot(x - 0.45 * n, y - 0.55 * n) - radius) / 1.5);
            image[static_cast<std::size_t>(y) * n + x] =
                cfloat(std::polar(0.4 * body + 0.5 * heart, 0.05 * x));
        }
    return image;
}

/// What coils of these sensitivities, [coil][y][x], see of an image.
inline std::vector<cfloat> seen_by(std::vector<cfloat> maps, const std::vector<cfloat>& image) {
    for (std::size_t i = 0; i < maps.size(); ++i)
        maps[i] *= image[i % image.size()];
    return maps;
}

} // namespace mri::test
