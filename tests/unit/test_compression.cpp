// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/compression.hpp"
#include "plugins/math/coils/prewhitening.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/support/bart.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

using namespace mri;
using mri::test::Bart;

namespace {

using cdouble = std::complex<double>;

std::vector<cdouble> random_matrix(std::size_t entries, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<cdouble> values(entries);
    for (cdouble& value : values) {
        const double re = normal(engine);
        value = {re, normal(engine)};
    }
    return values;
}

/// a [n][m] times the conjugate transpose of b [k][m].
std::vector<cdouble> times_adjoint(const std::vector<cdouble>& a, const std::vector<cdouble>& b,
                                   std::size_t m) {
    const std::size_t n = a.size() / m, k = b.size() / m;
    std::vector<cdouble> out(n * k);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < k; ++j)
            for (std::size_t l = 0; l < m; ++l)
                out[i * k + j] += a[i * m + l] * std::conj(b[j * m + l]);
    return out;
}

std::vector<cdouble> in_double(std::span<const cfloat> values) {
    return {values.begin(), values.end()};
}

constexpr int size = 48;
constexpr int coils = 16;
constexpr int spokes = 13;
constexpr int samples = 2 * size;

/// Frame `number` of an object in a ring of coils, 13 spokes at the tiny golden angle: [coil][spoke][sample].
std::vector<cfloat> frame(int number, double noise = 0) {
    static const auto maps = synthetic_sensitivities(coils, size, size, 4);
    std::vector<cfloat> images(maps);
    for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x) {
            const double r = std::hypot(x - 22, y - 25);
            const double inner = std::hypot(x - 28, y - 20);
            const float value = (r < 18 ? 0.5f : 0) + (inner < 6 ? 0.5f : 0);
            for (std::size_t c = 0; c < coils; ++c)
                images[(c * size + y) * size + x] *= value;
        }
    std::vector<float> kxy(2 * spokes * samples);
    for (int s = 0; s < spokes; ++s)
        radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, number * spokes + s, spokes), samples, size,
                     kxy.data() + static_cast<std::size_t>(2 * s) * samples);
    Nufft nufft(size, size);
    nufft.set_points(kxy);
    std::vector<cfloat> data(static_cast<std::size_t>(coils) * spokes * samples);
    nufft.forward(images.data(), data.data(), coils);
    std::mt19937 engine(static_cast<unsigned>(number));
    std::normal_distribution<float> normal(0, static_cast<float>(noise));
    for (cfloat& value : data) {
        const float re = normal(engine);
        value += cfloat(re, normal(engine));
    }
    return data;
}

constexpr std::size_t count = static_cast<std::size_t>(spokes) * samples;

double power_of(std::span<const cfloat> values) {
    double power = 0;
    for (const cfloat& value : values)
        power += std::norm(cdouble(value));
    return power;
}

} // namespace

TEST(Compression, EigenvaluesAndVectorsAreThoseOfTheMatrix) {
    for (const std::size_t n : {1u, 2u, 5u, 32u}) {
        const auto half = random_matrix(n * n, static_cast<unsigned>(n));
        const auto matrix = times_adjoint(half, half, n);
        const HermitianEigen eigen = hermitian_eigen(matrix, static_cast<int>(n));
        ASSERT_EQ(eigen.values.size(), n);
        double trace = 0, sum = 0;
        for (std::size_t i = 0; i < n; ++i) {
            trace += matrix[i * n + i].real();
            sum += eigen.values[i];
            if (i > 0) {
                EXPECT_LE(eigen.values[i], eigen.values[i - 1]);
            }
            for (std::size_t a = 0; a < n; ++a) {
                cdouble product = 0;
                for (std::size_t b = 0; b < n; ++b)
                    product += matrix[a * n + b] * eigen.vectors[i * n + b];
                // Double rounding over n products of the largest eigenvalue.
                EXPECT_NEAR(std::abs(product - eigen.values[i] * eigen.vectors[i * n + a]), 0,
                            1e-13 * static_cast<double>(n) * eigen.values[0]);
            }
        }
        EXPECT_NEAR(sum, trace, 1e-12 * trace);
        const auto gram = times_adjoint(eigen.vectors, eigen.vectors, n);
        for (std::size_t i = 0; i < n * n; ++i)
            EXPECT_NEAR(std::abs(gram[i] - cdouble(i % (n + 1) == 0)), 0, 1e-13 * static_cast<double>(n + 1));
    }
    EXPECT_THROW(hermitian_eigen(std::vector<cdouble>(3), 2), Error);
}

TEST(Compression, AsManyVirtualCoilsAsTheArrayHasDegreesOfFreedomKeepAllOfIt) {
    // Three sources in eight coils.
    const std::size_t n = 500;
    const auto sources = random_matrix(3 * n, 1);
    const auto mixing = random_matrix(8 * 3, 2);
    std::vector<cfloat> data(8 * n);
    for (std::size_t c = 0; c < 8; ++c)
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t s = 0; s < 3; ++s)
                data[c * n + i] += cfloat(mixing[c * 3 + s] * sources[s * n + i]);
    CoilCompression compression(8, 3);
    const auto matrix = compression.next(data.data(), n);
    ASSERT_EQ(matrix.size(), 24u);
    std::vector<cfloat> out(3 * n);
    mix_coils(matrix, 3, 8, data.data(), n, out.data());
    // float32 sums of products.
    EXPECT_NEAR(power_of(out) / power_of(data), 1, 1e-5);
    EXPECT_NEAR(compression.kept(), 1, 1e-6);
    CoilCompression two(8, 2);
    const auto smaller = two.next(data.data(), n);
    out.resize(2 * n);
    mix_coils(smaller, 2, 8, data.data(), n, out.data());
    EXPECT_NEAR(power_of(out) / power_of(data), two.kept(), 1e-5);
    EXPECT_LT(two.kept(), 0.99);
}

TEST(Compression, RowsAreOrthonormalSoThatWhiteNoiseStaysWhite) {
    CoilCompression compression(coils, 6);
    for (int f = 0; f < 5; ++f) {
        const auto matrix = in_double(compression.next(frame(f, 0.5).data(), count));
        const auto gram = times_adjoint(matrix, matrix, coils);
        for (std::size_t i = 0; i < gram.size(); ++i)
            // The matrix is rounded to float32.
            EXPECT_NEAR(std::abs(gram[i] - cdouble(i % 7 == 0)), 0, 1e-6);
    }
}

TEST(Compression, VirtualCoilsStayTheSameFromFrameToFrame) {
    constexpr int n = 6;
    CoilCompression compression(coils, n);
    std::vector<cdouble> last;
    for (int f = 0; f < 33; ++f) {
        const auto matrix = in_double(compression.next(frame(f, 0.5).data(), count));
        if (!last.empty()) {
            const auto overlap = times_adjoint(matrix, last, coils);
            for (std::size_t i = 0; i < n; ++i)
                // Each virtual coil is itself: neither another one nor turned in phase. A new basis by itself
                // has any phase, and any order where powers are alike.
                EXPECT_NEAR(std::abs(overlap[i * n + i] - 1.0), 0, 0.02) << f << " " << i;
        }
        last = matrix;
    }
    compression.forget();
    const auto anew = in_double(compression.next(frame(40).data(), count));
    CoilCompression fresh(coils, n);
    EXPECT_EQ(anew, in_double(fresh.next(frame(40).data(), count)));
}

TEST(Compression, WhatDoesNotFitIsRefused) {
    EXPECT_THROW(CoilCompression(4, 0), Error);
    EXPECT_THROW(CoilCompression(4, 5), Error);
    CoilCompression compression(coils, 2);
    auto data = frame(0);
    const auto good = in_double(compression.next(data.data(), count));
    compression.forget();
    data[count + 3] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(compression.next(data.data(), count), Error);
    EXPECT_EQ(in_double(compression.next(frame(0).data(), count)), good);
}

TEST(Compression, SpansTheSameCoilsAsBart) {
    if (Bart::missing())
        GTEST_SKIP() << "there is no program bart";
    const auto data = frame(0, 0.2);
    const Bart bart;
    bart.write("data", {{0, samples}, {1, spokes}, {3, coils}}, data);
    for (const int n : {4, 8}) {
        bart.run("cc -S -A -p " + std::to_string(n) + " data theirs");
        const auto theirs = bart.read("theirs");
        ASSERT_EQ(theirs.size(), n * count);
        CoilCompression compression(coils, n);
        std::vector<cfloat> ours(n * count);
        mix_coils(compression.next(data.data(), count), n, coils, data.data(), count, ours.data());
        // Principal components are the best there is, so that both keep the same power, to the rounding of
        // BART's float32 covariance.
        EXPECT_NEAR(power_of(ours) / power_of(theirs), 1, 1e-5) << n;
        EXPECT_NEAR(power_of(ours) / power_of(data), compression.kept(), 1e-5) << n;
        // Before any turn each virtual coil is BART's but for a phase.
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
            cdouble product = 0;
            double a = 0, b = 0;
            for (std::size_t k = i * count; k < (i + 1) * count; ++k) {
                product += cdouble(ours[k]) * std::conj(cdouble(theirs[k]));
                a += std::norm(cdouble(ours[k]));
                b += std::norm(cdouble(theirs[k]));
            }
            // The angle between two estimates of an eigenvector grows as rounding over the gap between
            // neighbouring eigenvalues, here above 1e-3 of the largest.
            EXPECT_GT(std::abs(product) / std::sqrt(a * b), 1 - 1e-4) << n << " " << i;
        }
    }
}
