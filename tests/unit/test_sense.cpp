// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/sense.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/support/bart.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

using namespace mri;
using mri::test::Bart;

namespace {

using cdouble = std::complex<double>;

template <class A, class B>
double relative_error(const A& found, const B& expected) {
    double error = 0, power = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        error += std::norm(cdouble(found[i]) - cdouble(expected[i]));
        power += std::norm(cdouble(expected[i]));
    }
    return std::sqrt(error / power);
}

/// A scan of two soft discs by a ring of coils.
struct Scan {
    int n, coils, spokes, samples;
    std::vector<cfloat> object, maps, data;
    std::vector<float> kxy, ones, areas;

    Scan(int n_, int coils_, int spokes_)
        : n(n_),
          coils(coils_),
          spokes(spokes_),
          samples(2 * n_),
          maps(synthetic_sensitivities(coils, n, n, 3)) {
        for (int y = 0; y < n; ++y)
            for (int x = 0; x < n; ++x) {
                const double body = 0.5 * std::erfc((std::hypot(x - 0.47 * n, y - 0.51 * n) - 0.37 * n));
                const double heart = 0.5 * std::erfc((std::hypot(x - 0.56 * n, y - 0.44 * n) - 0.11 * n));
                object.push_back(cfloat(std::polar(0.5 * body + 0.5 * heart, 0.03 * x)));
            }
        kxy.resize(static_cast<std::size_t>(2 * samples * spokes));
        for (int s = 0; s < spokes; ++s)
            radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, s, spokes), samples, n,
                         kxy.data() + static_cast<std::size_t>(2 * s) * samples);
        ones.assign(kxy.size() / 2, 1.0f);
        areas.resize(ones.size());
        clipped_ramp_weights(kxy, samples, spokes, areas.data());
        data.resize(ones.size() * static_cast<std::size_t>(coils));
        Nufft nufft(n, n, {.tolerance = 1e-6});
        nufft.set_points(kxy);
        nufft.forward_sense(object.data(), maps.data(), data.data(), coils);
    }
    std::size_t pixels() const { return object.size(); }
    SampledFrame frame() const { return {kxy, data, areas}; }
};

/// Gaussian elimination with pivots: matrix [size][size].
std::vector<cdouble> solve_directly(std::vector<cdouble> a, std::vector<cdouble> b) {
    const std::size_t n = b.size();
    for (std::size_t k = 0; k < n; ++k) {
        std::size_t pivot = k;
        for (std::size_t i = k; i < n; ++i)
            if (std::abs(a[i * n + k]) > std::abs(a[pivot * n + k]))
                pivot = i;
        std::swap_ranges(a.begin() + static_cast<std::ptrdiff_t>(k * n),
                         a.begin() + static_cast<std::ptrdiff_t>((k + 1) * n),
                         a.begin() + static_cast<std::ptrdiff_t>(pivot * n));
        std::swap(b[k], b[pivot]);
        for (std::size_t i = k + 1; i < n; ++i) {
            const cdouble factor = a[i * n + k] / a[k * n + k];
            for (std::size_t j = k; j < n; ++j)
                a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    }
    for (std::size_t k = n; k-- > 0;) {
        for (std::size_t j = k + 1; j < n; ++j)
            b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
    return b;
}

} // namespace

TEST(Sense, IsTheDirectSolutionOfTheNormalEquations) {
    // 12 x 12 pixels by 4 coils and 5 spokes of 24 samples: 480 equations for 144 unknowns.
    Scan scan(12, 4, 5);
    // Data that no image explains, so that the weights count.
    for (std::size_t i = 0; i < scan.data.size(); i += 3)
        scan.data[i] += cfloat(0.5f, -0.25f);
    const std::size_t pixels = scan.pixels(), points = scan.ones.size();
    const double l2 = 0.02;
    std::vector<cfloat> start(pixels);
    for (std::size_t p = 0; p < pixels; ++p)
        start[p] = cfloat(0.1f, 0.05f * static_cast<float>(p % 5));

    std::vector<cdouble> normal(pixels * pixels), right(pixels), row(pixels);
    for (std::size_t c = 0; c < 4; ++c)
        for (std::size_t i = 0; i < points; ++i) {
            const double weight = scan.areas[i] / 144.0;
            for (std::size_t p = 0; p < pixels; ++p) {
                const double x = static_cast<double>(p % 12) - 6, y = static_cast<double>(p / 12) - 6;
                row[p] = cdouble(scan.maps[c * pixels + p]) *
                         std::polar(1.0, -2 * std::numbers::pi *
                                             (scan.kxy[2 * i] * x / 12 + scan.kxy[2 * i + 1] * y / 12));
            }
            for (std::size_t p = 0; p < pixels; ++p) {
                right[p] += weight * std::conj(row[p]) * cdouble(scan.data[c * points + i]);
                for (std::size_t q = 0; q < pixels; ++q)
                    normal[p * pixels + q] += weight * std::conj(row[p]) * row[q];
            }
        }
    for (std::size_t p = 0; p < pixels; ++p) {
        normal[p * pixels + p] += l2;
        right[p] += l2 * cdouble(start[p]);
    }
    const auto expected = solve_directly(normal, right);

    Sense sense({.width = 12, .height = 12, .iterations = 200, .tolerance = 1e-6});
    sense.set_sensitivities(scan.maps, 4);
    std::vector<cfloat> image = start;
    const int steps = sense.solve(scan.frame(), l2, image);
    // Steps end at a residual of 1e-6; the smallest eigenvalue is l2 or more, the right side's gain at most
    // 1, so that the image is that of the equations to 1e-6 / 0.02.
    EXPECT_LT(relative_error(image, expected), 5e-5);
    EXPECT_LT(steps, 200);
    EXPECT_GT(steps, 10);
}

TEST(Sense, CoilsGiveBackWhatSpokesLeaveOut) {
    // 64 x 64 by 13 spokes: a sixth of the half turn's Nyquist count.
    const Scan scan(64, 8, 13);
    std::vector<cfloat> gridded(scan.pixels()), image(scan.pixels());
    Nufft nufft(64, 64);
    nufft.set_points(scan.kxy);
    std::vector<float> ramp(scan.ones.size());
    ramp_weights(scan.kxy, scan.samples, scan.spokes, ramp.data());
    for (float& w : ramp)
        w *= static_cast<float>(density_scale(64, 64));
    nufft.adjoint_sense(scan.data.data(), ramp, scan.maps.data(), gridded.data(), 8);
    Sense sense({.width = 64, .height = 64, .iterations = 10});
    sense.set_sensitivities(scan.maps, 8);
    sense.solve(scan.frame(), 0, image);
    // Without noise and with the true maps: 8 coils make up for the factor of 6 that is left out, all but the
    // smallest eigenvalues in ten steps.
    EXPECT_LT(relative_error(image, scan.object), 0.25 * relative_error(gridded, scan.object));
    // More regularisation holds on to the start, here nothing.
    std::vector<cfloat> held(scan.pixels());
    sense.solve(scan.frame(), 10, held);
    double power = 0, whole = 0;
    for (std::size_t p = 0; p < held.size(); ++p) {
        power += std::norm(held[p]);
        whole += std::norm(image[p]);
    }
    EXPECT_LT(power, 0.05 * whole);
}

TEST(Sense, TheSolutionIsAFixedPointAndThreadsDoNotMatter) {
    const Scan scan(32, 5, 9);
    std::vector<std::vector<cfloat>> images;
    for (const int threads : {1, 3}) {
        Sense sense({.width = 32, .height = 32, .iterations = 7, .threads = threads});
        sense.set_sensitivities(scan.maps, 5);
        images.emplace_back(scan.pixels());
        sense.solve(scan.frame(), 0.01, images.back());
    }
    EXPECT_EQ(images[0], images[1]);
    // From the truth, data without noise leave nothing to do but the transform's own error, 5e-4.
    Sense sense({.width = 32, .height = 32, .iterations = 5});
    sense.set_sensitivities(scan.maps, 5);
    auto image = scan.object;
    sense.solve(scan.frame(), 0.01, image);
    EXPECT_LT(relative_error(image, scan.object), 2e-3);
}

TEST(Sense, OneCoilWithoutMapsIsTheIterativeInverse) {
    const Scan scan(24, 1, 60);
    Sense sense({.width = 24, .height = 24, .iterations = 20});
    sense.set_sensitivities({}, 1);
    std::vector<cfloat> image(scan.pixels());
    sense.solve(scan.frame(), 0, image);
    // Fully sampled inside the disc of k-space; the corners, a part of 1 - pi / 4, are not, and hold little
    // of soft discs.
    EXPECT_LT(relative_error(image, scan.object), 0.02);
}

TEST(Sense, WhatDoesNotFitIsRefused) {
    EXPECT_THROW(Sense({.width = 0, .height = 4}), Error);
    EXPECT_THROW(Sense({.width = 4, .height = 4, .iterations = 0}), Error);
    const Scan scan(16, 3, 5);
    Sense sense({.width = 16, .height = 16});
    std::vector<cfloat> image(scan.pixels());
    EXPECT_THROW(sense.solve(scan.frame(), 0, image), Error);
    EXPECT_THROW(sense.set_sensitivities(scan.maps, 4), Error);
    EXPECT_THROW(sense.set_sensitivities({}, 3), Error);
    sense.set_sensitivities(scan.maps, 3);
    EXPECT_THROW(sense.solve(scan.frame(), -1, image), Error);
    EXPECT_THROW(sense.solve(scan.frame(), std::nan(""), image), Error);
    SampledFrame bare = scan.frame();
    bare.weights = {};
    EXPECT_THROW(sense.solve(bare, 0, image), Error);
    EXPECT_THROW(sense.solve(scan.frame(), 0, std::span(image).first(100)), Error);
    EXPECT_NO_THROW(sense.solve(scan.frame(), 0, image));
}

TEST(Sense, AgreesWithBart) {
    if (Bart::missing())
        GTEST_SKIP() << "there is no program bart";
    Scan scan(64, 8, 13);
    const Bart bart;
    std::vector<cfloat> points;
    for (std::size_t i = 0; i < scan.ones.size(); ++i)
        points.insert(points.end(), {cfloat(scan.kxy[2 * i]), cfloat(scan.kxy[2 * i + 1]), cfloat(0)});
    const auto samples = static_cast<std::size_t>(scan.samples),
               spokes = static_cast<std::size_t>(scan.spokes);
    bart.write("points", {{0, 3}, {1, samples}, {2, spokes}}, points);
    bart.write("data", {{1, samples}, {2, spokes}, {3, 8}}, scan.data);
    bart.write("maps", {{0, 64}, {1, 64}, {3, 8}}, scan.maps);
    // The same equations without weights, the same steps from zero. BART's transform is scaled to be unitary,
    // 1 / sqrt(W H), which its image shows.
    for (const auto& [l2, steps] : {std::pair{0.01, 10}, {0.1, 30}}) {
        bart.run("pics -w 1 -l2 -r " + std::to_string(l2) + " -i " + std::to_string(steps) +
                 " -t points data maps theirs");
        auto theirs = bart.read("theirs");
        ASSERT_EQ(theirs.size(), scan.pixels());
        for (cfloat& value : theirs)
            value /= 64.0f;
        Sense sense({.width = 64, .height = 64, .iterations = steps, .tolerance = 1e-6});
        sense.set_sensitivities(scan.maps, 8);
        std::vector<cfloat> ours(scan.pixels());
        sense.solve({scan.kxy, scan.data, scan.ones}, l2, ours);
        // BART's gridding of the point spread function is good to some 1e-4, and the steps carry that along.
        EXPECT_LT(relative_error(ours, theirs), 5e-4) << l2;
    }
}
