// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "tests/support/bart.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

using namespace mri;

namespace {

constexpr int size = 64;
constexpr int coils = 8;
constexpr std::size_t pixels = static_cast<std::size_t>(size) * size;

/// Two discs on air, with a smooth phase.
std::vector<cfloat> object() {
    std::vector<cfloat> image(pixels);
    for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x) {
            const double r = std::hypot(x - 32, y - 30);
            const double inner = std::hypot(x - 26, y - 35);
            const double value = (r < 25 ? 0.5 : 0) + (inner < 8 ? 0.4 : 0);
            image[static_cast<std::size_t>(y) * size + x] = cfloat(std::polar(value, 0.03 * x - 0.02 * y));
        }
    return image;
}

std::vector<cfloat> coil_images(const std::vector<cfloat>& image, const std::vector<cfloat>& maps,
                                double noise) {
    std::mt19937 engine(5);
    std::normal_distribution<float> normal(0, static_cast<float>(noise / std::sqrt(2.0)));
    std::vector<cfloat> out(maps.size());
    for (std::size_t c = 0; c < maps.size() / pixels; ++c)
        for (std::size_t p = 0; p < pixels; ++p) {
            const float re = normal(engine);
            out[c * pixels + p] = maps[c * pixels + p] * image[p] + cfloat(re, normal(engine));
        }
    return out;
}

/// Of magnitudes, relative to the truth.
double nrmse(const std::vector<cfloat>& image, const std::vector<cfloat>& truth) {
    double error = 0, power = 0;
    for (std::size_t p = 0; p < pixels; ++p) {
        error += std::pow(std::abs(image[p]) - std::abs(truth[p]), 2);
        power += std::norm(truth[p]);
    }
    return std::sqrt(error / power);
}

} // namespace

TEST(Coils, SyntheticSensitivitiesAreNormalisedSmoothAndReproducible) {
    const auto maps = synthetic_sensitivities(coils, size, size, 3);
    ASSERT_EQ(maps.size(), coils * pixels);
    double roughest = 0;
    for (std::size_t p = 0; p < pixels; ++p) {
        double power = 0;
        for (int c = 0; c < coils; ++c) {
            power += std::norm(maps[c * pixels + p]);
            if (p % size != 0)
                roughest = std::max(
                    roughest, static_cast<double>(std::abs(maps[c * pixels + p] - maps[c * pixels + p - 1])));
        }
        EXPECT_NEAR(power, 1.0, 1e-5);
    }
    // The loops are a third of the field of view: over one of 64 pixels nothing changes by more than 1 / (0.3
    // * 64).
    EXPECT_LT(roughest, 1 / (0.3 * size));
    EXPECT_EQ(maps, synthetic_sensitivities(coils, size, size, 3));
    EXPECT_NE(maps, synthetic_sensitivities(coils, size, size, 4));
    // Each coil is strongest on its own side: no two are alike.
    for (int a = 0; a < coils; ++a)
        for (int b = 0; b < a; ++b) {
            cfloat ab{};
            float aa = 0, bb = 0;
            for (std::size_t p = 0; p < pixels; ++p) {
                ab += std::conj(maps[a * pixels + p]) * maps[b * pixels + p];
                aa += std::norm(maps[a * pixels + p]);
                bb += std::norm(maps[b * pixels + p]);
            }
            EXPECT_LT(std::abs(ab), 0.98f * std::sqrt(aa * bb));
        }
    for (const cfloat& value : synthetic_sensitivities(1, 4, 4, 9))
        EXPECT_EQ(value, cfloat(1));
    EXPECT_THROW(synthetic_sensitivities(0, 4, 4, 9), Error);
}

TEST(Coils, RootSumOfSquaresOfNormalisedMapsIsTheMagnitude) {
    const auto truth = object();
    const auto images = coil_images(truth, synthetic_sensitivities(coils, size, size, 1), 0);
    std::vector<cfloat> combined(pixels);
    root_sum_of_squares(images.data(), coils, pixels, combined.data());
    for (std::size_t p = 0; p < pixels; ++p) {
        EXPECT_NEAR(combined[p].real(), std::abs(truth[p]), 2e-6);
        EXPECT_EQ(combined[p].imag(), 0.0f);
    }
}

TEST(Coils, KnownMapsGiveTheTruthBack) {
    const auto truth = object();
    const auto maps = synthetic_sensitivities(coils, size, size, 1);
    const auto images = coil_images(truth, maps, 0);
    std::vector<cfloat> combined(pixels);
    combine_coils(images.data(), maps.data(), coils, pixels, combined.data());
    for (std::size_t p = 0; p < pixels; ++p)
        EXPECT_NEAR(std::abs(combined[p] - truth[p]), 0, 2e-6);
    const std::vector<cfloat> none(coils * pixels);
    combine_coils(images.data(), none.data(), coils, pixels, combined.data());
    EXPECT_EQ(combined[100], cfloat{});
}

TEST(Coils, AdaptiveCombinationBeatsRootSumOfSquaresInNoise) {
    const auto truth = object();
    const auto maps = synthetic_sensitivities(coils, size, size, 1);
    // 15 dB: the power of the coils' signal (maps of root sum of squares 1: the truth's) over that of one
    // coil's noise.
    double power = 0;
    for (const cfloat& value : truth)
        power += std::norm(value);
    const double noise = std::sqrt(power / pixels) * std::pow(10, -15.0 / 20);
    const auto images = coil_images(truth, maps, noise);
    std::vector<cfloat> rss(pixels), adaptive(pixels), estimated(coils * pixels);
    root_sum_of_squares(images.data(), coils, pixels, rss.data());
    estimate_sensitivities(images.data(), coils, size, size, estimated.data());
    combine_coils(images.data(), estimated.data(), coils, pixels, adaptive.data());
    const double of_rss = nrmse(rss, truth);
    const double of_adaptive = nrmse(adaptive, truth);
    RecordProperty("nrmse_rss", std::to_string(of_rss));
    RecordProperty("nrmse_adaptive", std::to_string(of_adaptive));
    EXPECT_LT(of_adaptive, 0.75 * of_rss) << of_adaptive << " against " << of_rss;
}

TEST(Coils, EstimatedMapsMatchTheTrueOnesInsideTheObject) {
    const auto truth = object();
    const auto maps = synthetic_sensitivities(coils, size, size, 1);
    std::vector<cfloat> estimated(coils * pixels);
    estimate_sensitivities(coil_images(truth, maps, 0).data(), coils, size, size, estimated.data());
    for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x) {
            const std::size_t p = static_cast<std::size_t>(y) * size + x;
            float norm = 0;
            cfloat projection{};
            for (int c = 0; c < coils; ++c) {
                norm += std::norm(estimated[c * pixels + p]);
                projection += std::conj(estimated[c * pixels + p]) * maps[c * pixels + p];
            }
            EXPECT_NEAR(norm, 1.0f, 1e-4f);
            // Over seven pixels the maps turn a little: the dominant vector of the patch is not quite the
            // centre's.
            if (std::hypot(x - 32, y - 30) < 20) {
                EXPECT_GT(std::abs(projection), 0.995f) << x << " " << y;
            }
        }
}

TEST(Coils, MapsOfASilentArrayAreFinite) {
    const std::vector<cfloat> nothing(coils * pixels);
    std::vector<cfloat> maps(coils * pixels);
    estimate_sensitivities(nothing.data(), coils, size, size, maps.data());
    for (const cfloat& value : maps)
        EXPECT_TRUE(std::isfinite(value.real()) && std::isfinite(value.imag()));
}

TEST(Coils, EstimatedMapsAreThoseOfBart) {
    if (test::Bart::missing())
        GTEST_SKIP() << "there is no program bart";
    constexpr std::size_t n = 128, all = n * n;
    const test::Bart bart;
    bart.run("phantom -x 128 -k -s 8 kspace");
    bart.run("fft -u -i 3 kspace images");
    bart.run("ecalib -m1 -c 0 -r 20 kspace espirit");
    bart.run("caldir 24 kspace direct");
    const auto images = bart.read("images");
    ASSERT_EQ(images.size(), coils * all);
    std::vector<cfloat> maps(images.size());
    estimate_sensitivities(images.data(), coils, n, n, maps.data());

    std::vector<double> brightness(all);
    for (std::size_t i = 0; i < images.size(); ++i)
        brightness[i % all] += std::norm(images[i]);
    const double strongest = *std::max_element(brightness.begin(), brightness.end());
    for (const auto& [name, least] : {std::pair{"espirit", 0.998}, {"direct", 0.9995}}) {
        const auto theirs = bart.read(name);
        ASSERT_EQ(theirs.size(), maps.size());
        double sum = 0, count = 0;
        for (std::size_t p = 0; p < all; ++p) {
            if (brightness[p] < 0.01 * strongest)
                continue;
            std::complex<double> product = 0;
            double power = 0;
            for (std::size_t c = 0; c < coils; ++c) {
                product += std::complex<double>(std::conj(maps[c * all + p]) * theirs[c * all + p]);
                power += std::norm(theirs[c * all + p]);
            }
            sum += std::abs(product) / std::sqrt(power);
            ++count;
        }
        // Direct calibration sees the 24 central lines, whose pixels are 5 wide: as much as our patch.
        // ESPIRiT fits kernels to them and is off at a few pixels of the skull.
        EXPECT_GT(sum / count, least) << name << " over " << count << " pixels";
    }
}
