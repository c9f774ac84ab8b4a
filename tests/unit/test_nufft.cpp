// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "plugins/math/transform/simd.hpp"
#include "tests/support/exact_dft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>
#include <vector>

using namespace mri;
using namespace mri::test;

namespace {

constexpr double two_pi = 2 * std::numbers::pi;

std::vector<cfloat> random_complex(std::size_t n, unsigned seed) {
    std::mt19937 gen(seed);
    std::normal_distribution<float> d;
    std::vector<cfloat> v(n);
    for (auto& c : v)
        c = {d(gen), d(gen)};
    return v;
}

std::vector<float> random_points(int n, int w, int h, unsigned seed, double reach = 0.5) {
    std::mt19937 gen(seed);
    std::uniform_real_distribution<double> d(-reach, reach);
    std::vector<float> v;
    for (int i = 0; i < n; i++) {
        v.push_back(float(d(gen) * w));
        v.push_back(float(d(gen) * h));
    }
    return v;
}

/// Spokes through the centre, turned by the golden angle, rim to rim.
std::vector<float> radial_points(int spokes, int samples, int w, int h) {
    std::vector<float> v;
    for (int s = 0; s < spokes; s++)
        for (int i = 0; i < samples; i++) {
            double a = s * std::numbers::pi * 0.6180339887, r = double(i - samples / 2) / samples;
            v.push_back(float(r * w * std::cos(a)));
            v.push_back(float(r * h * std::sin(a)));
        }
    return v;
}

/// Relative errors of both directions against the definition.
std::pair<double, double> errors(int w, int h, const std::vector<float>& k, double tolerance) {
    Nufft nufft(w, h, {.tolerance = tolerance, .threads = 1});
    nufft.set_points(k);
    auto s = random_complex(k.size() / 2, 1), m = random_complex(std::size_t(w) * std::size_t(h), 2);
    std::vector<cfloat> image(m.size()), samples(s.size());
    nufft.adjoint(s.data(), {}, image.data(), 1);
    nufft.forward(m.data(), samples.data(), 1);
    return {relative_error(image, exact_adjoint(k, s.data(), w, h)),
            relative_error(samples, exact_forward(k, m.data(), w, h))};
}

struct EveryIsa : testing::TestWithParam<Isa> {
    void SetUp() override { processor::select(GetParam()); }
    void TearDown() override { processor::select(processor::available().back()); }
};

TEST_P(EveryIsa, StaysBelowItsTolerance) {
    for (double tolerance : {1e-2, 1e-3, 5e-4, 1e-4, 1e-5, 1e-6})
        for (auto [w, h] : {std::pair{48, 48}, {33, 40}, {45, 27}, {96, 64}}) {
            SCOPED_TRACE(testing::Message() << tolerance << " " << w << "x" << h);
            auto [ra, rf] = errors(w, h, random_points(500, w, h, 5), tolerance);
            auto [sa, sf] = errors(w, h, radial_points(11, 2 * w, w, h), tolerance);
            EXPECT_LT(ra, tolerance);
            EXPECT_LT(rf, tolerance);
            EXPECT_LT(sa, tolerance);
            EXPECT_LT(sf, tolerance);
            if (testing::Test::HasFailure() || std::getenv("GST_MRI_TEST_VERBOSE"))
                std::printf("%g %dx%d: random %.2e %.2e radial %.2e %.2e\n", tolerance, w, h, ra, rf, sa, sf);
        }
}

// Sizes where the grid is no multiple of the lanes, or the image smaller than a kernel.
TEST_P(EveryIsa, AnySize) {
    for (auto [w, h] :
         {std::pair{1, 1}, {2, 1}, {1, 3}, {3, 2}, {5, 7}, {13, 16}, {31, 17}, {100, 9}, {61, 128}}) {
        auto [a, f] = errors(w, h, random_points(200, w, h, 6), 5e-4);
        EXPECT_LT(a, 5e-4) << w << "x" << h;
        EXPECT_LT(f, 5e-4) << w << "x" << h;
    }
}

// Each length of the grid that has code of its own, along x (where it is followed by a transposition) and
// along y.
TEST_P(EveryIsa, EveryLengthOfTwoSteps) {
    for (int a : simd::two_step_factors) {
        int n = int(16 * a / 1.25);
        SCOPED_TRACE(testing::Message() << "grid " << 16 * a << " for " << n);
        ASSERT_EQ(Nufft(n, 20).grid_width(), 16 * a);
        ASSERT_EQ(Nufft(20, n).grid_height(), 16 * a);
        auto [ax, fx] = errors(n, 20, random_points(150, n, 20, 20), 5e-4);
        auto [ay, fy] = errors(20, n, random_points(150, 20, n, 21), 5e-4);
        EXPECT_LT(ax, 5e-4);
        EXPECT_LT(fx, 5e-4);
        EXPECT_LT(ay, 5e-4);
        EXPECT_LT(fy, 5e-4);
    }
}

// <A m, s> = <m, A* s>. Both sides go through the same kernel weights, so that they differ by rounding alone:
// each side is a chain of about 2 log2(G) + taps^2 / 2 + 4 < 40 float32 operations a number (G = 120 grid
// cells), errors of 6e-8 each in random directions: sqrt(40) 6e-8 = 4e-7 of |A m| |s|, times the largest
// apodisation at the image's corner, 3.4 in each direction for width 4 (measured), which the roundings of the
// grid pass through: 4e-7 * 12 = 5e-6.
TEST_P(EveryIsa, AdjointIsTheConjugateTranspose) {
    for (double tolerance : {1e-2, 5e-4, 1e-5})
        for (auto [w, h] : {std::pair{48, 96}, {37, 50}}) {
            auto k = radial_points(9, 100, w, h);
            auto more = random_points(301, w, h, 7, 0.7);
            k.insert(k.end(), more.begin(), more.end());
            std::size_t points = k.size() / 2, pixels = std::size_t(w) * std::size_t(h);
            Nufft nufft(w, h, {.tolerance = tolerance, .threads = 1});
            nufft.set_points(k);
            auto s = random_complex(points, 8), m = random_complex(pixels, 9);
            std::vector<cfloat> as(pixels), am(points);
            nufft.adjoint(s.data(), {}, as.data(), 1);
            nufft.forward(m.data(), am.data(), 1);
            cdouble left = 0, right = 0;
            double na = 0, ns = 0;
            for (std::size_t i = 0; i < points; i++) {
                left += cdouble(am[i]) * std::conj(cdouble(s[i]));
                na += std::norm(am[i]);
                ns += std::norm(s[i]);
            }
            for (std::size_t i = 0; i < pixels; i++)
                right += cdouble(m[i]) * std::conj(cdouble(as[i]));
            EXPECT_LT(std::abs(left - right), 5e-6 * std::sqrt(na * ns)) << tolerance << " " << w << "x" << h;
            EXPECT_GT(std::abs(left), 1e-3 * std::sqrt(na * ns)) << "the test would pass for zeros";
        }
}

// A single coil and the same coil among others go through the same operations; a sum of coils does not, and
// float32 rounding of the sum (6e-8 each, amplified as above) remains.
TEST_P(EveryIsa, CoilsAreIndependentAndLinear) {
    int w = 40, h = 36;
    auto k = radial_points(7, 80, w, h);
    std::size_t points = k.size() / 2, pixels = std::size_t(w * h);
    Nufft nufft(w, h);
    nufft.set_points(k);
    auto s = random_complex(3 * points, 10);
    for (std::size_t i = 0; i < points; i++)
        s[2 * points + i] = s[i] + 2.f * s[points + i];
    std::vector<cfloat> three(3 * pixels), one(pixels);
    nufft.adjoint(s.data(), {}, three.data(), 3);
    for (std::size_t c = 0; c < 3; c++) {
        nufft.adjoint(s.data() + c * points, {}, one.data(), 1);
        EXPECT_EQ(0, std::memcmp(one.data(), three.data() + c * pixels, pixels * sizeof(cfloat)));
    }
    std::vector<cfloat> sum(pixels);
    for (std::size_t i = 0; i < pixels; i++)
        sum[i] = three[i] + 2.f * three[pixels + i];
    EXPECT_LT(relative_error(sum, one), 2e-6);

    std::vector<cfloat> back(3 * points), single(points);
    nufft.forward(three.data(), back.data(), 3);
    nufft.forward(three.data() + 2 * pixels, single.data(), 1);
    EXPECT_EQ(0, std::memcmp(single.data(), back.data() + 2 * points, points * sizeof(cfloat)));
}

TEST_P(EveryIsa, WeightsMultiplySamples) {
    int w = 32, h = 32;
    auto k = random_points(150, w, h, 11);
    auto s = random_complex(150, 12);
    std::vector<float> weights(150);
    for (std::size_t i = 0; i < weights.size(); i++)
        weights[i] = float(i) / 100;
    auto product = s;
    for (std::size_t i = 0; i < weights.size(); i++)
        product[i] *= weights[i];
    Nufft nufft(w, h);
    nufft.set_points(k);
    std::vector<cfloat> a(std::size_t(w * h)), b(a.size());
    nufft.adjoint(s.data(), weights, a.data(), 1);
    nufft.adjoint(product.data(), {}, b.data(), 1);
    EXPECT_LT(relative_error(a, b), 1e-6);
}

TEST_P(EveryIsa, PointsBeyondTheRimWrap) {
    int w = 30, h = 44;
    auto inside = random_points(120, w, h, 13), outside = inside;
    // whole periods of 30 and 44 cycles are exact in float32 for numbers of this size but for the last bits
    // of k
    for (std::size_t i = 0; i < outside.size(); i += 2) {
        outside[i] += float(w) * float(int(i % 7) - 3);
        outside[i + 1] += float(h) * float(int(i % 5) - 2);
        inside[i] = outside[i] - float(w) * float(int(i % 7) - 3);
        inside[i + 1] = outside[i + 1] - float(h) * float(int(i % 5) - 2);
    }
    auto [a, f] = errors(w, h, outside, 1e-5);
    EXPECT_LT(a, 1e-5);
    EXPECT_LT(f, 1e-5);
    auto s = random_complex(120, 14);
    std::vector<cfloat> one(std::size_t(w * h)), two(one.size());
    Nufft nufft(w, h, {.tolerance = 1e-5, .threads = 1});
    nufft.set_points(inside);
    nufft.adjoint(s.data(), {}, one.data(), 1);
    nufft.set_points(outside);
    nufft.adjoint(s.data(), {}, two.data(), 1);
    EXPECT_LT(relative_error(one, two), 2e-6);
}

// Samples on the rim itself, on the first and last cell of the grid, on grid points, and all on one spot. The
// tolerance is that of positions spread evenly between grid points. On a grid point the two ends of the
// kernel, where it drops to 0 from 1 / I0(beta), meet the grid at once on both axes: 1.8 times that error was
// measured, 2 is allowed.
TEST_P(EveryIsa, EdgeSamples) {
    for (auto [w, h] : {std::pair{32, 32}, {31, 45}}) {
        std::vector<float> k;
        for (float x : {-0.5f, -0.4999999f, -0.25f, 0.f, 0.25f, 0.4999999f, 0.5f})
            for (float y : {-0.5f, 0.f, 0.37f, 0.5f}) {
                k.push_back(x * float(w));
                k.push_back(y * float(h));
            }
        for (int i = 0; i < 9; i++) {
            k.push_back(0.5f * float(w));
            k.push_back(-0.5f * float(h));
        }
        auto [a, f] = errors(w, h, k, 5e-4);
        EXPECT_LT(a, 2 * 5e-4);
        EXPECT_LT(f, 2 * 5e-4);
    }
}

TEST_P(EveryIsa, ThreadsChangeNothing) {
    int w = 48, h = 40, coils = 5;
    auto k = radial_points(8, 96, w, h);
    std::size_t points = k.size() / 2, pixels = std::size_t(w * h), n = std::size_t(coils);
    auto s = random_complex(n * points, 15);
    std::vector<float> weights(points, 0.5f);
    std::vector<cfloat> first(n * pixels), back(n * points);
    for (int threads : {1, 2, 3, 7}) {
        Nufft nufft(w, h, {.tolerance = 5e-4, .threads = threads});
        nufft.set_points(k);
        std::vector<cfloat> image(n * pixels), samples(n * points);
        nufft.adjoint(s.data(), weights, image.data(), coils);
        nufft.forward(image.data(), samples.data(), coils);
        if (threads == 1) {
            first = image;
            back = samples;
        }
        EXPECT_EQ(0, std::memcmp(first.data(), image.data(), image.size() * sizeof(cfloat))) << threads;
        EXPECT_EQ(0, std::memcmp(back.data(), samples.data(), samples.size() * sizeof(cfloat))) << threads;
    }
}

TEST_P(EveryIsa, PointsMayChangeEveryFrame) {
    int w = 24, h = 24;
    Nufft nufft(w, h);
    auto m = random_complex(std::size_t(w * h), 16);
    for (int points : {10, 400, 3, 0, 77}) {
        auto k = random_points(points, w, h, unsigned(points));
        nufft.set_points(k);
        ASSERT_EQ(nufft.points(), std::size_t(points));
        auto s = random_complex(std::size_t(points), 17);
        std::vector<cfloat> image(m.size(), {5, 5}), samples(s.size());
        nufft.adjoint(s.data(), {}, image.data(), 1);
        nufft.forward(m.data(), samples.data(), 1);
        if (points == 0) {
            for (auto c : image)
                EXPECT_EQ(c, cfloat());
            continue;
        }
        EXPECT_LT(relative_error(image, exact_adjoint(k, s.data(), w, h)), 5e-4);
        EXPECT_LT(relative_error(samples, exact_forward(k, m.data(), w, h)), 5e-4);
    }
}

TEST_P(EveryIsa, ABadSampleSpoilsItsOwnCoilAlone) {
    int w = 24, h = 20;
    auto k = random_points(60, w, h, 18);
    std::size_t pixels = std::size_t(w * h);
    auto s = random_complex(120, 19), clean = s;
    s[3] = {std::numeric_limits<float>::quiet_NaN(), 0};
    Nufft nufft(w, h);
    nufft.set_points(k);
    std::vector<cfloat> a(2 * pixels), b(2 * pixels);
    for (int round = 0; round < 2;
         round++) { // the second round shows that nothing is left behind in the scratch
        nufft.adjoint(s.data(), {}, a.data(), 2);
        nufft.adjoint(clean.data(), {}, b.data(), 2);
        EXPECT_TRUE(std::isnan(a[0].real()));
        EXPECT_EQ(0, std::memcmp(a.data() + pixels, b.data() + pixels, pixels * sizeof(cfloat)));
        for (auto c : b)
            ASSERT_TRUE(std::isfinite(c.real()));
    }
}

TEST_P(EveryIsa, CoilsCombineInTheLastPassAsTheirImagesWould) {
    const int coils = 7;
    // widths of less than a vector, of whole vectors, and neither
    for (auto [w, h] : {std::pair{5, 30}, {23, 17}, {64, 48}, {96, 80}}) {
        auto pixels = std::size_t(w * h);
        auto k = radial_points(6, 50, w, h);
        std::size_t points = k.size() / 2;
        auto s = random_complex(points * coils, 20), maps = random_complex(pixels * coils, 21);
        std::vector<float> weights(points);
        for (std::size_t i = 0; i < points; i++)
            weights[i] = 0.1f + float(i % 50) / 50;
        Nufft one(w, h);
        one.set_points(k);
        std::vector<cfloat> images(pixels * coils), image(pixels), squares(pixels);
        one.adjoint(s.data(), weights, images.data(), coils);
        std::vector<cdouble> sum(pixels), square(pixels);
        for (std::size_t c = 0; c < coils; c++)
            for (std::size_t i = 0; i < pixels; i++) {
                sum[i] += std::conj(cdouble(maps[c * pixels + i])) * cdouble(images[c * pixels + i]);
                square[i] += std::norm(cdouble(images[c * pixels + i]));
            }
        for (auto& v : square)
            v = std::sqrt(v);
        one.adjoint_sense(s.data(), weights, maps.data(), image.data(), coils);
        one.adjoint_rss(s.data(), weights, squares.data(), coils);
        // float32 sums of 7 products against those in double: 7 roundings of 6e-8 at most
        EXPECT_LT(relative_error(image, sum), 4e-7) << w;
        EXPECT_LT(relative_error(squares, square), 4e-7) << w;
        for (int threads : {2, 3, 8}) {
            Nufft many(w, h, {.threads = threads});
            many.set_points(k);
            std::vector<cfloat> again(pixels);
            for (int round = 0; round < 20; round++) {
                many.adjoint_sense(s.data(), weights, maps.data(), again.data(), coils);
                ASSERT_EQ(0, std::memcmp(again.data(), image.data(), pixels * sizeof(cfloat))) << threads;
                many.adjoint_rss(s.data(), weights, again.data(), coils);
                ASSERT_EQ(0, std::memcmp(again.data(), squares.data(), pixels * sizeof(cfloat))) << threads;
            }
        }
    }
}

TEST_P(EveryIsa, SenseTransformsAreAdjoint) {
    const int w = 40, h = 36, coils = 5;
    const auto pixels = std::size_t(w * h);
    auto k = radial_points(9, 60, w, h);
    auto x = random_complex(pixels, 22), maps = random_complex(pixels * coils, 23);
    auto y = random_complex(k.size() / 2 * coils, 24);
    Nufft nufft(w, h, {.threads = 3});
    nufft.set_points(k);
    std::vector<cfloat> ax(y.size()), ay(pixels), seen(pixels * coils), expected(y.size());
    nufft.forward_sense(x.data(), maps.data(), ax.data(), coils);
    nufft.adjoint_sense(y.data(), {}, maps.data(), ay.data(), coils);
    for (std::size_t i = 0; i < seen.size(); i++)
        seen[i] = maps[i] * x[i % pixels];
    nufft.forward(seen.data(), expected.data(), coils);
    EXPECT_LT(relative_error(ax, expected), 1e-6); // products rounded once or twice
    cdouble left = 0, right = 0;
    double size = 0;
    for (std::size_t i = 0; i < y.size(); i++) {
        left += std::conj(cdouble(ax[i])) * cdouble(y[i]);
        size += std::abs(ax[i]) * std::abs(y[i]);
    }
    for (std::size_t i = 0; i < pixels; i++)
        right += std::conj(cdouble(x[i])) * cdouble(ay[i]);
    // both directions use the same float32 weights; rounding of the terms adds up like noise
    EXPECT_LT(std::abs(left - right), 1e-6 * size);
}

INSTANTIATE_TEST_SUITE_P(Simd, EveryIsa, testing::ValuesIn(processor::available()),
                         [](const auto& i) { return std::string(processor::name(i.param)); });

TEST(Nufft, RefusesBadInput) {
    EXPECT_THROW(Nufft(0, 4), Error);
    EXPECT_THROW(Nufft(4, 8193), Error);
    EXPECT_THROW(Nufft(4, 4, {.tolerance = 0, .threads = 1}), Error);
    EXPECT_THROW(Nufft(4, 4, {.tolerance = std::nan(""), .threads = 1}), Error);
    EXPECT_THROW(Nufft(4, 4, {.tolerance = 1e-3, .threads = -2}), Error);
    Nufft nufft(8, 8);
    EXPECT_EQ(nufft.points(), 0u);
    std::vector<float> k{0, 0, 1, 1, 2, std::numeric_limits<float>::quiet_NaN()};
    nufft.set_points(std::span(k).first(4));
    try {
        nufft.set_points(k);
        FAIL() << "a point that is not finite was taken";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("point 2 "), std::string::npos) << e.what();
    }
    EXPECT_EQ(nufft.points(), 2u) << "the points before must stay in force";
    EXPECT_THROW(nufft.set_points(std::span(k).first(3)), Error);
    std::vector<float> far{3.4e38f, -3.4e38f};
    EXPECT_NO_THROW(nufft.set_points(far));
    std::vector<cfloat> s(1, {1, 0}), image(64);
    nufft.adjoint(s.data(), {}, image.data(), 1);
    EXPECT_THROW(nufft.adjoint(s.data(), std::vector<float>(2), image.data(), 1), Error);
    EXPECT_THROW(nufft.adjoint(s.data(), {}, image.data(), -1), Error);
    EXPECT_THROW(nufft.forward(image.data(), s.data(), -1), Error);
    EXPECT_NO_THROW(nufft.adjoint(s.data(), {}, image.data(), 0));
    EXPECT_NO_THROW(nufft.forward(image.data(), s.data(), 0));
    EXPECT_THROW(nufft.adjoint_sense(s.data(), {}, image.data(), image.data(), -1), Error);
    EXPECT_THROW(nufft.adjoint_rss(s.data(), std::vector<float>(2), image.data(), 1), Error);
    EXPECT_THROW(nufft.forward_sense(image.data(), image.data(), s.data(), -1), Error);
    image[5] = {7, 7};
    nufft.adjoint_rss(s.data(), {}, image.data(), 0);
    EXPECT_EQ(image[5], cfloat(0));
}

} // namespace
