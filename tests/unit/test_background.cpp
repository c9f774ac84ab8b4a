// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/recon/background.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

using namespace mri;

namespace {

constexpr int size = 64;
constexpr int frames = 20;
constexpr std::size_t pixels = static_cast<std::size_t>(size) * size;

/// A disc in a larger one; the inner one pulsates by `motion` pixels over the window.
std::vector<cfloat> scene(int frame, double motion) {
    std::vector<cfloat> image(pixels);
    const double radius = 8 + motion * std::sin(2 * 3.14159265 * frame / frames);
    for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x) {
            const double body = 0.5 * std::erfc((std::hypot(x - 32, (y - 32) * 1.2) - 26) / 1.5);
            const double heart = 0.5 * std::erfc((std::hypot(x - 28, y - 34) - radius) / 1.5);
            image[static_cast<std::size_t>(y) * size + x] =
                cfloat(std::polar(0.4 * body + 0.5 * heart, 0.02 * x));
        }
    return image;
}

struct Window {
    std::vector<std::vector<float>> kxy, weights;
    std::vector<std::vector<cfloat>> samples;
    std::vector<float> window_weights;
    std::vector<SampledFrame> frames_;
};

Window acquire(double motion, int coils = 1, int spokes = 5, int samples = size) {
    Window w;
    Nufft nufft(size, size, {});
    std::vector<float> all;
    for (int f = 0; f < frames; ++f) {
        std::vector<float> k(2 * spokes * samples);
        for (int s = 0; s < spokes; ++s)
            radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, f * spokes + s, spokes), samples, size,
                         k.data() + 2 * s * samples);
        all.insert(all.end(), k.begin(), k.end());
        nufft.set_points(k);
        std::vector<cfloat> y(static_cast<std::size_t>(coils) * spokes * samples);
        const auto image = scene(f, motion);
        for (int c = 0; c < coils; ++c) {
            nufft.forward(image.data(), y.data() + static_cast<std::size_t>(c) * spokes * samples, 1);
            for (int i = 0; i < spokes * samples; ++i)
                y[static_cast<std::size_t>(c) * spokes * samples + i] *= static_cast<float>(c + 1);
        }
        std::vector<float> weights(spokes * samples);
        clipped_ramp_weights(k, samples, spokes, weights.data());
        w.kxy.push_back(std::move(k));
        w.samples.push_back(std::move(y));
        w.weights.push_back(std::move(weights));
    }
    w.window_weights.resize(all.size() / 2);
    clipped_ramp_weights(all, samples, spokes * frames, w.window_weights.data());
    for (int f = 0; f < frames; ++f)
        w.frames_.push_back({w.kxy[f], w.samples[f], w.weights[f]});
    return w;
}

double error(std::span<const cfloat> image, const std::vector<cfloat>& truth) {
    double e = 0, t = 0;
    for (std::size_t p = 0; p < truth.size(); ++p) {
        e += std::norm(image[p] - truth[p]);
        t += std::norm(truth[p]);
    }
    return std::sqrt(e / t);
}

} // namespace

TEST(Background, StaticSceneIsSolvedAndLeavesNoResidual) {
    const Window w = acquire(0, 1, 10, 2 * size);
    StaticBackground solver({.width = size, .height = size, .iterations = 15});
    solver.solve(w.frames_, w.window_weights, 1);
    // 200 spokes are twice a full set for 64 pixels, so that no gap of the golden angle is wider than a
    // cycle, and the readout is oversampled, so that the corners of the image are known too. What no spoke
    // reaches are the corners of k-space beyond the circle of radius N/2: the truth's own share there is the
    // error that must remain, and little more may.
    std::vector<cfloat> spectrum = scene(0, 0);
    Fft2d(size, size).forward(spectrum.data(), true);
    double corners = 0, all = 0;
    for (int v = 0; v < size; ++v)
        for (int u = 0; u < size; ++u) {
            const double power = std::norm(spectrum[static_cast<std::size_t>(v) * size + u]);
            all += power;
            corners += std::hypot(u - size / 2, v - size / 2) > size / 2 ? power : 0;
        }
    EXPECT_LT(error(solver.background(), scene(0, 0)), 1.2 * std::sqrt(corners / all) + 0.002);
    std::vector<cfloat> residual(pixels);
    solver.residual(3, w.frames_[3], residual.data());
    double energy = 0, of_truth = 0;
    const auto truth = scene(0, 0);
    for (std::size_t p = 0; p < pixels; ++p) {
        energy += std::norm(residual[p]);
        of_truth += std::norm(truth[p]);
    }
    EXPECT_LT(std::sqrt(energy / of_truth), 0.01);
}

TEST(Background, MovingFramesAreBetterThanGriddedOnesAndThanTheMean) {
    const Window w = acquire(3);
    StaticBackground solver({.width = size, .height = size});
    solver.solve(w.frames_, w.window_weights, 1);
    std::vector<cfloat> image(pixels), gridded(pixels);
    Nufft nufft(size, size, {});
    double of_mean = 0, of_both = 0, of_gridded = 0;
    for (int f = 0; f < frames; ++f) {
        const auto truth = scene(f, 3);
        solver.residual(f, w.frames_[f], image.data());
        for (std::size_t p = 0; p < pixels; ++p)
            image[p] += solver.background()[p];
        nufft.set_points(w.kxy[f]);
        nufft.adjoint(w.samples[f].data(), w.weights[f], gridded.data(), 1);
        for (cfloat& value : gridded)
            value *= static_cast<float>(density_scale(size, size));
        of_mean += error(solver.background(), truth) / frames;
        of_both += error(image, truth) / frames;
        of_gridded += error(gridded, truth) / frames;
    }
    EXPECT_LT(of_both, 0.85 * of_mean) << of_both << " against the mean's " << of_mean;
    EXPECT_LT(of_both, 0.3 * of_gridded) << of_both << " against the gridded " << of_gridded;
}

TEST(Background, CoilsAreSolvedIndependently) {
    const Window one = acquire(2);
    const Window three = acquire(2, 3);
    StaticBackground solver({.width = size, .height = size});
    solver.solve(one.frames_, one.window_weights, 1);
    const std::vector<cfloat> reference(solver.background().begin(), solver.background().end());
    std::vector<cfloat> residual(pixels), residuals(3 * pixels);
    solver.residual(7, one.frames_[7], residual.data());
    solver.solve(three.frames_, three.window_weights, 3);
    solver.residual(7, three.frames_[7], residuals.data());
    for (int c = 0; c < 3; ++c) {
        std::vector<cfloat> expected(reference), rest(residual);
        for (cfloat& value : expected)
            value *= static_cast<float>(c + 1);
        // Linear in the data: only rounding differs, amplified by six steps.
        EXPECT_LT(error(solver.background().subspan(c * pixels, pixels), expected), 1e-4);
        for (cfloat& value : rest)
            value *= static_cast<float>(c + 1);
        EXPECT_LT(error(std::span(residuals).subspan(c * pixels, pixels), rest), 1e-3);
    }
}

TEST(Background, BadInputIsOneError) {
    Window w = acquire(0);
    StaticBackground solver({.width = size, .height = size});
    EXPECT_THROW(solver.solve({}, {}, 1), Error);
    EXPECT_THROW(solver.solve(w.frames_, w.window_weights, 2), Error);
    EXPECT_THROW(solver.solve(w.frames_, std::span(w.window_weights).first(10), 1), Error);
    w.samples[4][17] = {NAN, 0};
    EXPECT_THROW(SampledFrame(w.kxy[4], w.samples[4], w.weights[4]), Error);
    EXPECT_THROW(StaticBackground({.width = 0, .height = 4}), Error);
}
