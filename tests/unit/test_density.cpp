// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

using namespace mri;

namespace {

std::vector<float> radial(int spokes, int samples, int n) {
    std::vector<float> k(2 * static_cast<std::size_t>(spokes) * samples);
    for (int s = 0; s < spokes; ++s)
        radial_spoke(spoke_angle(AngleScheme::regular, 7, s, spokes), samples, n,
                     k.data() + 2 * static_cast<std::size_t>(s) * samples);
    return k;
}

/// Soft-edged ellipses: little energy in the corners of k-space, which no spoke reaches.
std::vector<cfloat> scene(int width, int height) {
    std::vector<cfloat> image(static_cast<std::size_t>(width) * height);
    const auto add = [&](double cx, double cy, double rx, double ry, double value) {
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x) {
                const double dx = (x - width / 2 - cx * width) / (rx * width);
                const double dy = (y - height / 2 - cy * height) / (ry * height);
                const double edge = (std::hypot(dx, dy) - 1) * std::min(rx * width, ry * height);
                image[static_cast<std::size_t>(y) * width + x] +=
                    static_cast<float>(value * 0.5 * std::erfc(edge / 1.5));
            }
    };
    add(0, 0, 0.38, 0.33, 0.5);
    add(0.1, -0.05, 0.12, 0.15, 0.5);
    add(-0.15, 0.1, 0.08, 0.06, -0.3);
    return image;
}

struct Fit {
    double scale; ///< least-squares factor from truth to image
    double error; ///< relative l2 error after it
};

Fit fit(const std::vector<cfloat>& image, const std::vector<cfloat>& truth) {
    double it = 0, tt = 0, ii = 0;
    for (std::size_t p = 0; p < image.size(); ++p) {
        it += (image[p] * std::conj(truth[p])).real();
        tt += std::norm(truth[p]);
        ii += std::norm(image[p]);
    }
    return {it / tt, std::sqrt(std::max(0.0, 1 - it * it / (tt * ii)))};
}

Fit grid(const std::vector<float>& k, const std::vector<float>& weights, int width, int height) {
    const std::vector<cfloat> truth = scene(width, height);
    Nufft nufft(width, height, {});
    nufft.set_points(k);
    std::vector<cfloat> samples(k.size() / 2);
    std::vector<cfloat> image(truth.size());
    nufft.forward(truth.data(), samples.data(), 1);
    nufft.adjoint(samples.data(), weights, image.data(), 1);
    for (cfloat& value : image)
        value *= static_cast<float>(density_scale(width, height));
    return fit(image, truth);
}

} // namespace

TEST(Density, FullySampledImageKeepsItsScale) {
    // The number of spokes that samples a disc fully is pi/2 N = 151 here. With the readout oversampled twice
    // the filter is the projection's own (no lag of two pixels wraps): what is left is the ring between the
    // last circle of k-space and its corners, and the spokes' finite number. The scale may not move by more
    // than one percent.
    const int n = 96;
    for (const int spokes : {151, 201, 302}) {
        const std::vector<float> k = radial(spokes, 2 * n, n);
        std::vector<float> w(k.size() / 2);
        ramp_weights(k, 2 * n, spokes, w.data());
        const Fit f = grid(k, w, n, n);
        EXPECT_NEAR(f.scale, 1.0, 0.01) << spokes;
        EXPECT_LT(f.error, 0.04) << spokes;
    }
}

TEST(Density, ScaleIsTheSameWithoutReadoutOversampling) {
    // The filter now wraps along the spoke, an error of shape that no weight removes; the scale still holds
    // to a tenth.
    const int n = 96;
    const std::vector<float> k = radial(201, n, n);
    std::vector<float> w(k.size() / 2);
    ramp_weights(k, n, 201, w.data());
    const Fit f = grid(k, w, n, n);
    EXPECT_NEAR(f.scale, 1.0, 0.1);
    EXPECT_LT(f.error, 0.2);
}

TEST(Density, CentreIsAFifthOfItsNeighbour) {
    for (const int oversampling : {1, 2, 3}) {
        const int samples = 64 * oversampling;
        const std::vector<float> k = radial(20, samples, 64);
        std::vector<float> w(k.size() / 2);
        ramp_weights(k, samples, 20, w.data());
        const double dk = 1.0 / oversampling;
        // Positions are float32 of up to 32: relative error 6e-8 * 32 / dk in a difference, 1e-5 at most.
        EXPECT_NEAR(w[samples / 2] / w[samples / 2 + 1], 2 / std::pow(std::numbers::pi, 2), 1e-4);
        EXPECT_NEAR(w[samples / 2 + 5] / (std::numbers::pi * 5 * dk * dk / 20), 1.0, 1e-4);
    }
}

TEST(Density, RampSumsToTheAreaOfTheDisc) {
    // sum over -N/2 <= i < N/2 of pi |k| dk = pi (N/2)^2, plus the centre's 2 / pi.
    const int n = 64;
    const std::vector<float> k = radial(37, n, n);
    std::vector<float> w(k.size() / 2);
    ramp_weights(k, n, 37, w.data());
    double area = 0;
    for (const float value : w)
        area += value;
    EXPECT_NEAR(area, std::numbers::pi * n * n / 4 + 2 / std::numbers::pi, 1e-3 * area);
}

TEST(Density, RectangularFieldOfViewKeepsScaleAndShape) {
    // Field of view 2 : 3 with square pixels: spokes even in physical space. k in cycles per field of view is
    // stretched.
    const int width = 64, height = 96;
    const int spokes = 201, samples = 2 * height;
    std::vector<float> k;
    for (int s = 0; s < spokes; ++s) {
        std::vector<float> spoke(2 * samples);
        radial_spoke(std::numbers::pi * s / spokes, samples, width, spoke.data());
        for (int i = 0; i < samples; ++i)
            spoke[2 * i + 1] *= static_cast<float>(height) / width;
        k.insert(k.end(), spoke.begin(), spoke.end());
    }
    std::vector<float> w(k.size() / 2);
    ramp_weights(k, samples, spokes, w.data(), static_cast<double>(height) / width);
    const Fit f = grid(k, w, width, height);
    EXPECT_NEAR(f.scale, 1.0, 0.015);
    EXPECT_LT(f.error, 0.05);
    ramp_weights(k, samples, spokes, w.data());
    EXPECT_GT(grid(k, w, width, height).error, 2 * f.error)
        << "the aspect must matter, or this tests nothing";
}

TEST(Density, ClippedRampNeverExceedsAStrip) {
    const int n = 64;
    const std::vector<float> k = radial(13, 2 * n, n);
    std::vector<float> ramp(k.size() / 2), clipped(k.size() / 2);
    ramp_weights(k, 2 * n, 13, ramp.data());
    clipped_ramp_weights(k, 2 * n, 13, clipped.data());
    for (std::size_t i = 0; i < ramp.size(); ++i) {
        EXPECT_LE(clipped[i], 0.5f + 1e-4f);
        EXPECT_FLOAT_EQ(clipped[i], std::min(ramp[i], std::max(clipped[i], 0.4999f)));
    }
    std::vector<float> wider(k.size() / 2);
    clipped_ramp_weights(k, 2 * n, 13, wider.data(), 1.0, 2.0);
    for (std::size_t i = 0; i < ramp.size(); ++i)
        EXPECT_NEAR(wider[i], std::min(ramp[i], 1.0f), 1e-3f); // spacings of float32 positions
    // Neighbouring spokes are a cycle apart where pi |k| = 13: a radius of 4.1.
    EXPECT_LT(clipped[n + 8], 0.49f);
    EXPECT_NEAR(clipped[n + 9], 0.5f, 1e-4f);
}

TEST(Density, ClippedRampKeepsTheLargestEigenvalueNearTwo) {
    // Power iteration on A^H W A / (W H): the bound that lets a step of size 1 converge. The plain ramp is
    // far above it.
    const int n = 64, spokes = 7;
    std::vector<float> k(2 * spokes * n);
    for (int s = 0; s < spokes; ++s)
        radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, s, spokes), n, n, k.data() + 2 * s * n);
    Nufft nufft(n, n, {});
    nufft.set_points(k);
    std::vector<cfloat> samples(k.size() / 2);
    const auto largest = [&](const std::vector<float>& w) {
        std::vector<cfloat> image = scene(n, n);
        double norm = 0;
        for (int i = 0; i < 40; ++i) {
            norm = 0;
            for (const cfloat& v : image)
                norm += std::norm(v);
            norm = std::sqrt(norm);
            for (cfloat& v : image)
                v /= static_cast<float>(norm);
            nufft.forward(image.data(), samples.data(), 1);
            nufft.adjoint(samples.data(), w, image.data(), 1);
            for (cfloat& v : image)
                v *= static_cast<float>(density_scale(n, n));
        }
        norm = 0;
        for (const cfloat& v : image)
            norm += std::norm(v);
        return std::sqrt(norm);
    };
    std::vector<float> w(samples.size());
    clipped_ramp_weights(k, n, spokes, w.data());
    EXPECT_LT(largest(w), 2.1);
    ramp_weights(k, n, spokes, w.data());
    EXPECT_GT(largest(w), 5);
}

TEST(Density, PipeFindsTheCellsOfACartesianGrid) {
    // Unit cells inside the grid; only its border, without neighbours, may claim more.
    const int n = 24;
    std::vector<float> k;
    for (int y = -n / 2; y < n / 2; ++y)
        for (int x = -n / 2; x < n / 2; ++x) {
            k.push_back(static_cast<float>(x));
            k.push_back(static_cast<float>(y));
        }
    const std::vector<float> w = pipe_weights(k, n, n);
    for (int y = 3; y < n - 3; ++y)
        for (int x = 3; x < n - 3; ++x)
            // sinc^2 vanishes at whole cycles: the neighbours do not count; the transform's own error is
            // 1e-3.
            EXPECT_NEAR(w[y * n + x], 1.0, 5e-3);
}

TEST(Density, PipeAgreesWithTheRampInScale) {
    const int n = 64, spokes = 101;
    const std::vector<float> k = radial(spokes, 2 * n, n);
    const Fit f = grid(k, pipe_weights(k, n, n), n, n);
    EXPECT_NEAR(f.scale, 1.0, 0.05);
    EXPECT_LT(f.error, 0.1);
}

TEST(Density, PipeWeighsASpiral) {
    // An Archimedean spiral whose turns are one cycle apart, sampled evenly in angle: a sample at radius r
    // stands for 2 pi r / 400. The kernel averages over a cycle, so the iteration may differ from that by a
    // few percent.
    const int n = 48;
    std::vector<float> k, area;
    for (int i = 0; i < n / 2 * 400; ++i) {
        const double turns = i / 400.0;
        k.push_back(static_cast<float>(turns * std::cos(2 * std::numbers::pi * turns)));
        k.push_back(static_cast<float>(turns * std::sin(2 * std::numbers::pi * turns)));
        area.push_back(static_cast<float>(2 * std::numbers::pi * turns / 400));
    }
    const std::vector<float> w = pipe_weights(k, n, n);
    // Turn by turn, since neighbours along a turn may share their area unevenly. The kernel is a product in x
    // and y, wider along diagonals: there it counts part of the next turn, and weights are up to a tenth
    // smaller.
    for (int turn = 2; turn < n / 2 - 2; ++turn) {
        double found = 0, expected = 0;
        for (int i = turn * 400; i < (turn + 1) * 400; ++i) {
            found += w[i];
            expected += area[i];
        }
        EXPECT_NEAR(found / expected, 0.95, 0.05) << turn;
    }
    const Fit exact = grid(k, area, n, n);
    const Fit f = grid(k, w, n, n);
    EXPECT_NEAR(f.scale, 1.0, 0.02);
    EXPECT_LT(f.error, 1.05 * exact.error)
        << "a spiral at the limit of sampling is as inexact with its true areas";
}

TEST(Density, RefusesSizesThatDoNotFit) {
    std::vector<float> k(20), w(10);
    EXPECT_THROW(ramp_weights(k, 3, 3, w.data()), Error);
    EXPECT_THROW(ramp_weights(k, 1, 10, w.data()), Error);
    EXPECT_THROW(ramp_weights(k, 5, 2, w.data(), 0), Error);
    k[3] = NAN;
    EXPECT_THROW(pipe_weights(k, 8, 8), Error);
}

TEST(PipeWeights, AFullySampledSpiralComesBackAtItsOwnScale) {
    const int n = 64;
    for (const double exponent : {1.0, 1.5}) {
        const Spiral spiral{16, exponent, n};
        const int samples = spiral_samples(spiral, 0.5);
        std::vector<float> kxy(2 * 16 * static_cast<std::size_t>(samples));
        for (int r = 0; r < 16; ++r)
            spiral_interleave(spiral, 2 * std::numbers::pi * r / 16, samples,
                              kxy.data() + 2 * static_cast<std::size_t>(r) * samples);
        auto weights = pipe_weights(kxy, n, n);
        // They tile the disc, but for its rim: there half of the kernel lies where nothing was sampled, and
        // the outermost cycle, 2 / 32 of the area, counts for less.
        double sum = 0;
        for (const float w : weights)
            sum += w;
        const double disc = std::numbers::pi * 32 * 32;
        EXPECT_GT(sum, disc * (1 - 2.0 / 32 - 0.01));
        EXPECT_LT(sum, disc * 1.01);

        // A smooth object, so that what lies in the corners of k-space is nothing.
        std::vector<cfloat> truth(n * n), image(n * n), data(kxy.size() / 2);
        for (int y = 0; y < n; ++y)
            for (int x = 0; x < n; ++x)
                truth[static_cast<std::size_t>(y) * n + x] = static_cast<float>(
                    0.5 * std::erfc((std::hypot(x - 0.45 * n, 1.2 * (y - 0.5 * n)) - 0.3 * n) / 3));
        Nufft nufft(n, n);
        nufft.set_points(kxy);
        nufft.forward(truth.data(), data.data(), 1);
        for (float& w : weights)
            w *= static_cast<float>(density_scale(n, n));
        nufft.adjoint(data.data(), weights, image.data(), 1);
        double product = 0, power = 0, error = 0;
        for (std::size_t i = 0; i < truth.size(); ++i) {
            product += (std::conj(truth[i]) * image[i]).real();
            power += std::norm(truth[i]);
            error += std::norm(image[i] - truth[i]);
        }
        RecordProperty("scale_" + std::to_string(exponent), std::to_string(product / power));
        RecordProperty("error_" + std::to_string(exponent), std::to_string(std::sqrt(error / power)));
        EXPECT_NEAR(product / power, 1, 0.02);
        EXPECT_LT(std::sqrt(error / power), 0.02); // seen: 0.009 and 0.002
    }
}

TEST(PipeWeights, ATrajectoryThatComesAgainOrTurnedIsComputedOnce) {
    const Spiral spiral{12, 1, 32};
    const int samples = spiral_samples(spiral);
    const auto set = [&](double angle, double stretch = 1) {
        std::vector<float> k(2 * 3 * static_cast<std::size_t>(samples));
        for (int r = 0; r < 3; ++r)
            spiral_interleave(spiral, angle + 2 * spoke_angle(AngleScheme::golden, 1, r, 3), samples,
                              k.data() + 2 * static_cast<std::size_t>(r) * samples);
        for (std::size_t i = 1; i < k.size(); i += 2)
            k[i] *= static_cast<float>(stretch);
        return k;
    };
    PipeWeights cached(32, 32);
    const auto first = cached.weights(set(0));
    const std::vector<float> kept(first.begin(), first.end());
    EXPECT_EQ(kept, pipe_weights(set(0), 32, 32));
    const auto turned = cached.weights(set(0.83));
    EXPECT_EQ(cached.computed(), 1u);
    EXPECT_EQ(std::vector<float>(turned.begin(), turned.end()), kept);
    // What it would have been: the kernel is not quite round.
    const auto own = pipe_weights(set(0.83), 32, 32);
    double error = 0, power = 0;
    for (std::size_t i = 0; i < own.size(); ++i) {
        error += std::pow(own[i] - kept[i], 2);
        power += std::pow(own[i], 2);
    }
    RecordProperty("error_turned", std::to_string(std::sqrt(error / power)));
    EXPECT_LT(std::sqrt(error / power), 0.03);
    cached.weights(set(0, 0.9));
    EXPECT_EQ(cached.computed(), 2u) << "a squeezed one is another one";
    cached.weights(set(0));
    EXPECT_EQ(cached.computed(), 3u);
    auto moved = set(0);
    moved[7] += 0.01f;
    cached.weights(moved);
    EXPECT_EQ(cached.computed(), 4u);
    PipeWeights oblong(32, 24);
    oblong.weights(set(0));
    oblong.weights(set(0.83));
    EXPECT_EQ(oblong.computed(), 2u) << "a turn in cycles per field of view is none in the body";
}
