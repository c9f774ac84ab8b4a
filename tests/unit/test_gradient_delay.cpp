// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/gradient_delay.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

using namespace mri;

namespace {

/// Three discs, none of them in the centre.
std::vector<cfloat> object(int width, int height) {
    std::vector<cfloat> image(static_cast<std::size_t>(width) * height);
    const double discs[3][4] = {{0.12, -0.05, 0.28, 1}, {-0.2, 0.15, 0.12, 0.6}, {0.1, 0.2, 0.08, -0.5}};
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (const auto& d : discs)
                image[static_cast<std::size_t>(y) * width + x] +=
                    static_cast<float>(d[3] * 0.5 *
                                       std::erfc((std::hypot(static_cast<double>(x) / width - 0.5 - d[0],
                                                             static_cast<double>(y) / height - 0.5 - d[1]) -
                                                  d[2]) *
                                                 width / 1.5));
    return image;
}

struct Scan {
    int coils, spokes, samples;
    std::vector<float> kxy; ///< nominal
    std::vector<cfloat> data;

    Scan(const GradientDelay& delay, int coils_, int spokes_, int oversampling, double noise = 0,
         int first = 0, int height = 64)
        : coils(coils_),
          spokes(spokes_),
          samples(64 * oversampling),
          kxy(2 * static_cast<std::size_t>(spokes_) * samples) {
        for (int s = 0; s < spokes; ++s)
            radial_spoke(
                spoke_angle(AngleScheme::tiny_golden, 7, static_cast<std::uint64_t>(first + s), spokes),
                samples, 64, kxy.data() + 2 * static_cast<std::size_t>(s) * samples);
        const double aspect = height / 64.0;
        for (std::size_t i = 1; i < kxy.size(); i += 2)
            kxy[i] *= static_cast<float>(aspect);
        auto real = kxy;
        shift_spokes(real, samples, delay, aspect);
        const auto truth = object(64, height);
        std::vector<cfloat> images = truth;
        if (coils > 1) {
            images = synthetic_sensitivities(coils, 64, height, 1);
            for (std::size_t i = 0; i < images.size(); ++i)
                images[i] *= truth[i % truth.size()];
        }
        data.resize(static_cast<std::size_t>(coils) * kxy.size() / 2);
        Nufft nufft(64, height, {.tolerance = 1e-5});
        nufft.set_points(real);
        nufft.forward(images.data(), data.data(), coils);
        std::mt19937 engine(7);
        std::normal_distribution<float> normal;
        float peak = 0;
        for (const cfloat& value : data)
            peak = std::max(peak, std::abs(value));
        for (cfloat& value : data) {
            const float re = normal(engine), im = normal(engine);
            value += static_cast<float>(noise) * peak * cfloat(re, im);
        }
    }
    DelayFit give(GradientDelayEstimator& estimator) const {
        return estimator.add(data, kxy, coils, spokes, samples);
    }
    /// Turns each spoke's phase, as eddy currents do.
    void turn_phases(float most) {
        std::mt19937 engine(5);
        std::uniform_real_distribution<float> angle(-most, most);
        std::vector<cfloat> turns;
        for (int s = 0; s < spokes; ++s)
            turns.push_back(std::polar(1.0f, angle(engine)));
        for (std::size_t i = 0; i < data.size(); ++i)
            data[i] *= turns[i / static_cast<std::size_t>(samples) % turns.size()];
    }
};

double distance(const GradientDelay& a, const GradientDelay& b) {
    return std::max({std::abs(a.x - b.x), std::abs(a.y - b.y), std::abs(a.xy - b.xy)});
}

} // namespace

TEST(GradientDelay, AShiftIsTheMatrixTimesTheDirection) {
    std::vector<float> k(2 * 8);
    radial_spoke(0.5, 8, 4, k.data()); // spacing 1/2
    const auto before = k;
    shift_spokes(k, 8, {.x = 0.4, .y = -0.2, .xy = 0.1});
    for (int i = 0; i < 8; ++i) {
        EXPECT_NEAR(k[2 * i] - before[2 * i], 0.5 * (0.4 * std::cos(0.5) + 0.1 * std::sin(0.5)), 1e-6);
        EXPECT_NEAR(k[2 * i + 1] - before[2 * i + 1], 0.5 * (0.1 * std::cos(0.5) - 0.2 * std::sin(0.5)),
                    1e-6);
    }
    // The other way along the same line the gradients are late the other way.
    radial_spoke(0.5 + 3.14159265358979, 8, 4, k.data());
    const float x = k[8];
    shift_spokes(k, 8, {.x = 0.4, .y = -0.2, .xy = 0.1});
    EXPECT_NEAR(k[8] - x, -0.5 * (0.4 * std::cos(0.5) + 0.1 * std::sin(0.5)), 1e-6);
}

TEST(GradientDelay, KnownDelaysAreFound) {
    for (const GradientDelay delay :
         {GradientDelay{0.3, -0.2, 0.1}, {-0.8, 0.5, -0.15}, {1.5, 1.2, 0}, {0, 0, 0}})
        for (const auto& [coils, spokes, oversampling] :
             {std::tuple{8, 13, 1}, {8, 13, 2}, {4, 7, 1}, {1, 21, 2}}) {
            GradientDelayEstimator estimator;
            Scan(delay, coils, spokes, oversampling).give(estimator);
            const auto found = estimator.estimate();
            ASSERT_TRUE(found);
            // Readouts without oversampling end before their signal does: the interpolation between samples
            // is then the limit. With it, the table's.
            EXPECT_LT(distance(*found, delay), oversampling > 1 ? 0.01 : 0.04)
                << coils << " coils, " << spokes << " spokes: " << found->x << " " << found->y << " "
                << found->xy << " for " << delay.x << " " << delay.y << " " << delay.xy;
        }
}

TEST(GradientDelay, SpokesOfOtherPhasesDoNotDriveTheDelaysToWhereThereIsNoSignal) {
    // The difference at the crossings by itself is then least some samples off the centre, where the signal is a
    // hundredth. A phase of 0.2 rad changes a signal that falls by a third a sample as much as 0.5 sample would; of
    // 13 spokes, 78 pairs of them, a fifth of that remains.
    for (const GradientDelay delay : {GradientDelay{-0.6, -0.6, 0}, {0.3, -0.2, 0.1}, {0, 0, 0}}) {
        Scan scan(delay, 8, 13, 2);
        scan.turn_phases(0.2f);
        GradientDelayEstimator estimator;
        EXPECT_EQ(scan.give(estimator), DelayFit::found);
        const auto found = estimator.estimate();
        ASSERT_TRUE(found);
        EXPECT_LT(distance(*found, delay), 0.1) << found->x << " " << found->y << " " << found->xy;
    }
}

TEST(GradientDelay, WhatCannotBeADelayIsRefused) {
    // Beyond the largest one that is looked at.
    GradientDelayEstimator narrow(1, 0.5);
    EXPECT_EQ(Scan({1.5, 1.2, 0}, 8, 13, 2).give(narrow), DelayFit::at_bound);
    EXPECT_FALSE(narrow.estimate());
    // Spokes of noise agree nowhere.
    Scan noise({}, 4, 13, 2);
    std::mt19937 engine(11);
    std::normal_distribution<float> normal;
    for (cfloat& value : noise.data)
        value = {normal(engine), normal(engine)};
    GradientDelayEstimator estimator;
    EXPECT_EQ(noise.give(estimator), DelayFit::inconsistent);
    EXPECT_FALSE(estimator.estimate());
    // Frames of a scan whose delays change: what the first ones say makes later ones worse.
    GradientDelayEstimator changed;
    for (int f = 0; f < 8; ++f)
        EXPECT_EQ(Scan({1.2, 1.0, 0}, 8, 13, 2, 0, 13 * f).give(changed), DelayFit::found);
    EXPECT_EQ(Scan({-0.3, -0.3, 0}, 8, 13, 2, 0, 13 * 8).give(changed), DelayFit::inconsistent);
    EXPECT_FALSE(changed.estimate());
    // One frame that cannot be used does not spoil what others found.
    GradientDelayEstimator good;
    EXPECT_EQ(Scan({0.3, -0.2, 0.1}, 8, 13, 2).give(good), DelayFit::found);
    EXPECT_EQ(noise.give(good), DelayFit::inconsistent);
    EXPECT_EQ(Scan({0.3, -0.2, 0.1}, 8, 13, 2, 0, 13).give(good), DelayFit::found);
    EXPECT_LT(distance(*good.estimate(), {0.3, -0.2, 0.1}), 0.01);
}

TEST(GradientDelay, AWideFieldOfViewIsSeenInPhysicalDirections) {
    const GradientDelay delay{0.4, -0.3, 0.2};
    GradientDelayEstimator estimator(48.0 / 64);
    Scan(delay, 8, 13, 2, 0, 0, 48).give(estimator);
    ASSERT_TRUE(estimator.estimate());
    EXPECT_LT(distance(*estimator.estimate(), delay), 0.01);
}

TEST(GradientDelay, NoiseAveragesOutOverFrames) {
    const GradientDelay delay{0.3, -0.2, 0.1};
    GradientDelayEstimator one, many;
    double first = 0;
    for (int f = 0; f < 16; ++f) {
        GradientDelayEstimator alone;
        const Scan scan(delay, 8, 13, 2, 0.01, 13 * f);
        scan.give(alone);
        scan.give(many);
        first += std::pow(distance(*alone.estimate(), delay), 2) / 16;
    }
    // Sixteen independent frames: a quarter of a frame's error; half leaves room for chance.
    EXPECT_LT(distance(*many.estimate(), delay), 0.5 * std::sqrt(first)) << std::sqrt(first);
    many.forget();
    EXPECT_FALSE(many.estimate());
}

TEST(GradientDelay, NothingComesOfNothing) {
    GradientDelayEstimator estimator;
    EXPECT_FALSE(estimator.estimate());
    Scan one({}, 2, 1, 1);
    one.give(estimator);
    EXPECT_FALSE(estimator.estimate()) << "a single spoke crosses none";
    Scan silent({}, 2, 13, 1);
    std::fill(silent.data.begin(), silent.data.end(), cfloat{});
    silent.give(estimator);
    EXPECT_FALSE(estimator.estimate());

    Scan scan({}, 2, 5, 1);
    EXPECT_THROW(estimator.add(scan.data, scan.kxy, 3, 5, 64), Error);
    EXPECT_THROW(estimator.add(scan.data, std::span(scan.kxy).first(10), 2, 5, 64), Error);
    scan.data[3 * 64 + 32] = {NAN, 0};
    EXPECT_THROW(scan.give(estimator), Error);
    std::vector<float> point(2 * 8, 1.0f);
    EXPECT_THROW(shift_spokes(point, 8, {}), Error);
    EXPECT_THROW(shift_spokes(std::span(point).first(14), 8, {}), Error);
    EXPECT_THROW(GradientDelayEstimator(1, 100), Error);
}
