// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/prewhitening.hpp"
#include "tests/support/bart.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

using namespace mri;
using mri::test::Bart;

namespace {

using cdouble = std::complex<double>;

std::vector<cfloat> normal_values(std::size_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0, std::sqrt(0.5f));
    std::vector<cfloat> values(count);
    for (cfloat& value : values) {
        const float re = normal(engine);
        value = {re, normal(engine)};
    }
    return values;
}

/// Noise [coil][sample] of levels 1, 1.5, 2 ... with neighbours coupled.
std::vector<cfloat> coupled_noise(std::size_t coils, std::size_t samples, unsigned seed) {
    const auto white = normal_values(coils * samples, seed);
    std::vector<cfloat> noise(white.size());
    for (std::size_t c = 0; c < coils; ++c)
        for (std::size_t i = 0; i < samples; ++i)
            noise[c * samples + i] =
                (1.0f + 0.5f * static_cast<float>(c)) *
                (white[c * samples + i] + cfloat(0.3f, 0.4f) * white[(c + 1) % coils * samples + i]);
    return noise;
}

std::string error_of(const NoiseCovariance& noise) {
    try {
        whitening_matrix(noise);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::format);
        return error.what();
    }
    return "";
}

} // namespace

TEST(Prewhitening, CovarianceIsTheMeanOfTheProducts) {
    NoiseCovariance noise(2);
    noise.add(std::vector<cfloat>{{1, 0}, {0, 2}, {0, 1}, {3, 0}}, 5);
    noise.add(std::vector<cfloat>{{1, 1}, {2, 0}}, 5);
    EXPECT_EQ(noise.samples(), 3u);
    EXPECT_EQ(noise.sample_time(), 5);
    const auto c = noise.matrix();
    ASSERT_EQ(c.size(), 4u);
    // sum |a|^2 = 1 + 4 + 2; sum a conj(b) = 1 * -i + 2i * 3 + (1 + i) * 2; sum |b|^2 = 1 + 9 + 4.
    EXPECT_EQ(c[0], cdouble(3.5));
    EXPECT_EQ(c[1], cdouble(1, 3.5));
    EXPECT_EQ(c[2], cdouble(1, -3.5));
    EXPECT_EQ(c[3], cdouble(7));
}

TEST(Prewhitening, WhitenedNoiseHasTheUnitMatrixAsItsCovariance) {
    const int coils = 12;
    const std::size_t samples = 300;
    NoiseCovariance before(coils);
    NoiseCovariance after(coils);
    std::vector<std::vector<cfloat>> readouts;
    for (unsigned r = 0; r < 4; ++r) {
        readouts.push_back(coupled_noise(coils, samples, r));
        before.add(readouts.back(), 0);
    }
    const auto matrix = whitening_matrix(before);
    std::vector<cfloat> white(coils * samples);
    for (const auto& readout : readouts) {
        mix_coils(matrix, coils, coils, readout.data(), samples, white.data());
        after.add(white, 0);
    }
    const auto c = after.matrix();
    for (int a = 0; a < coils; ++a)
        for (int b = 0; b < coils; ++b) {
            // The same noise: only float32 rounding (6e-8) of sums of 12 terms, of a matrix whose condition
            // is below 30.
            EXPECT_NEAR(std::abs(c[a * coils + b] - cdouble(a == b)), 0, 1e-5) << a << " " << b;
            if (b > a) {
                EXPECT_EQ(matrix[a * coils + b], cfloat(0));
            }
        }
}

TEST(Prewhitening, ScaleFollowsTheSampleTimesAndTheBandwidth) {
    EXPECT_DOUBLE_EQ(noise_scale(5, 5, 1), 1);
    // A sample that takes four times as long has half the noise: it is doubled.
    EXPECT_DOUBLE_EQ(noise_scale(5, 20, 1), 2);
    EXPECT_DOUBLE_EQ(noise_scale(5, 5, 0.79), std::sqrt(0.79));
    EXPECT_DOUBLE_EQ(noise_scale(0, 20, 1), 1);
    EXPECT_DOUBLE_EQ(noise_scale(5, 0, 1), 1);
}

TEST(Prewhitening, MixingIsTheMatrixProduct) {
    const auto matrix = normal_values(2 * 3, 1);
    const std::size_t count = 300; // more than two runs of the cache
    const auto in = normal_values(3 * count, 2);
    std::vector<cfloat> out(2 * count);
    mix_coils(matrix, 2, 3, in.data(), count, out.data());
    for (std::size_t a = 0; a < 2; ++a)
        for (std::size_t i = 0; i < count; ++i) {
            cdouble sum = 0;
            for (std::size_t b = 0; b < 3; ++b)
                sum += cdouble(matrix[a * 3 + b]) * cdouble(in[b * count + i]);
            // Six products of numbers around 1 in float32.
            ASSERT_NEAR(std::abs(cdouble(out[a * count + i]) - sum), 0, 4e-6);
        }
    EXPECT_THROW(mix_coils(matrix, 3, 3, in.data(), count, out.data()), Error);
}

TEST(Prewhitening, WhatCannotBeWhitenedIsAnErrorThatNamesTheCoil) {
    {
        NoiseCovariance few(8);
        few.add(coupled_noise(8, 15, 1), 0);
        EXPECT_NE(error_of(few).find("15 samples are too few for 8 coils"), std::string::npos)
            << error_of(few);
        few.add(coupled_noise(8, 1, 2), 0);
        EXPECT_EQ(error_of(few), "");
    }
    EXPECT_NE(error_of(NoiseCovariance(2)).find("too few"), std::string::npos);
    auto readout = coupled_noise(4, 100, 3);
    {
        auto dead = readout;
        std::fill_n(dead.begin() + 200, 100, cfloat{});
        NoiseCovariance noise(4);
        noise.add(dead, 0);
        EXPECT_NE(error_of(noise).find("coil 2 hold no noise"), std::string::npos) << error_of(noise);
    }
    {
        auto sum = readout;
        for (std::size_t i = 0; i < 100; ++i)
            sum[300 + i] = sum[i] * cfloat(0.3f, 0.1f) - sum[100 + i] * 1.7f;
        NoiseCovariance noise(4);
        noise.add(sum, 0);
        EXPECT_NE(error_of(noise).find("coil 3 is a combination"), std::string::npos) << error_of(noise);
    }
}

TEST(Prewhitening, ReadoutsThatDoNotFitAreRefused) {
    EXPECT_THROW(NoiseCovariance(0), Error);
    NoiseCovariance noise(2);
    EXPECT_THROW(noise.add(std::vector<cfloat>(3), 0), Error);
    EXPECT_THROW(noise.add({}, 0), Error);
    std::vector<cfloat> readout(4, cfloat(1));
    readout[1] = {0, std::numeric_limits<float>::infinity()};
    EXPECT_THROW(noise.add(readout, 0), Error);
    EXPECT_EQ(noise.samples(), 0u);
    noise.add(std::vector<cfloat>(4, cfloat(1)), 5);
    EXPECT_THROW(noise.add(std::vector<cfloat>(4, cfloat(1)), 2.5), Error);
}

TEST(Prewhitening, AgreesWithBart) {
    if (Bart::missing())
        GTEST_SKIP() << "there is no program bart";
    const int coils = 8;
    const std::size_t noise_samples = 512;
    const std::size_t samples = 200;
    const auto noise = coupled_noise(coils, noise_samples, 4);
    const auto data = normal_values(coils * samples, 5);
    const Bart bart;
    bart.write("noise", {{0, noise_samples}, {3, coils}}, noise);
    bart.write("data", {{0, samples}, {3, coils}}, data);
    bart.run("whiten data noise white matrix covariance");
    const auto theirs = bart.read("white");

    NoiseCovariance covariance(coils);
    covariance.add(noise, 0);
    std::vector<cfloat> ours(data.size());
    mix_coils(whitening_matrix(covariance), coils, coils, data.data(), samples, ours.data());
    ASSERT_EQ(theirs.size(), ours.size());
    double error = 0, power = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
        error += std::norm(cdouble(ours[i]) - cdouble(theirs[i]));
        power += std::norm(cdouble(theirs[i]));
    }
    // BART's covariance is summed in float32 (512 terms: 6e-8 sqrt(512) = 1.4e-6) and inverted so.
    EXPECT_LT(std::sqrt(error / power), 1e-5);
}
