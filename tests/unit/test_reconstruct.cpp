// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/reconstruct.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"

#include <gtest/gtest.h>

#include <cmath>

using namespace mri;

namespace {

constexpr int n = 32;
constexpr int coils = 5;
constexpr int spokes = 7;
constexpr int samples = 2 * n;
constexpr std::size_t pixels = static_cast<std::size_t>(n) * n;

ReconstructionSpace space(int threads = 1) {
    ReconstructionSpace s;
    s.width = s.height = n;
    s.coils = coils;
    s.threads = threads;
    return s;
}

std::vector<cfloat> disc(double radius) {
    std::vector<cfloat> object(pixels);
    for (int y = 0; y < n; ++y)
        for (int x = 0; x < n; ++x)
            object[static_cast<std::size_t>(y) * n + x] =
                cfloat(std::polar(0.5 * std::erfc(std::hypot(x - 15, y - 17) - radius), 0.05 * x));
    return object;
}

/// A frame of a disc in a ring of coils.
struct Frame {
    std::vector<float> kxy;
    std::vector<cfloat> data;

    explicit Frame(int number, std::uint64_t array = 2)
        : kxy(static_cast<std::size_t>(2) * spokes * samples),
          data(static_cast<std::size_t>(coils) * spokes * samples) {
        const auto maps = synthetic_sensitivities(coils, n, n, array);
        const auto object = disc(11 + std::sin(0.7 * number));
        for (int s = 0; s < spokes; ++s)
            radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, number * spokes + s, spokes), samples, n,
                         kxy.data() + static_cast<std::size_t>(2 * s) * samples);
        Nufft nufft(n, n);
        nufft.set_points(kxy);
        nufft.forward_sense(object.data(), maps.data(), data.data(), coils);
    }
    SampledFrame view() const { return {kxy, data, {}, spokes}; }
};

double relative_error(const std::vector<cfloat>& found, const std::vector<cfloat>& expected) {
    double error = 0, power = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        error += std::norm(std::complex<double>(found[i]) - std::complex<double>(expected[i]));
        power += std::norm(std::complex<double>(expected[i]));
    }
    return std::sqrt(error / power);
}

} // namespace

TEST(FrameReconstruction, AdaptiveImagesAreTheCoilsImagesBySensitivities) {
    FrameReconstruction adaptive(space(), Density::ramp, Combine::adaptive);
    FrameReconstruction threaded(space(3), Density::ramp, Combine::adaptive);
    FrameReconstruction plain(space(), Density::ramp, Combine::none);
    std::vector<cfloat> image(pixels), other(pixels), images(coils * pixels), expected(pixels);
    std::size_t version = adaptive.sensitivities_version();
    std::vector<int> changes;
    for (int f = 0; f < 70; ++f) {
        const Frame frame(f);
        adaptive.reconstruct(frame.view(), image.data());
        plain.reconstruct(frame.view(), images.data());
        const auto maps = adaptive.sensitivities();
        ASSERT_EQ(maps.size(), images.size());
        combine_coils(images.data(), maps.data(), coils, pixels, expected.data());
        // Whether coils are summed in the transform's last pass or from their images: rounding of five
        // products, and the maps' norm of 1 to 1e-6.
        ASSERT_LT(relative_error(image, expected), 3e-6) << f;
        threaded.reconstruct(frame.view(), other.data());
        ASSERT_EQ(image, other) << f;
        if (adaptive.sensitivities_version() != version)
            changes.push_back(f + 1);
        version = adaptive.sensitivities_version();
    }
    EXPECT_EQ(changes, (std::vector<int>{1, 2, 4, 8, 16, 32, 48, 64}));
}

TEST(FrameReconstruction, SensitivitiesOfAnAverageAreThoseOfTheArray) {
    // One frame of 7 spokes makes maps of streaks; the average over 32 of them makes those that images
    // without streaks would have made.
    FrameReconstruction adaptive(space(), Density::ramp, Combine::adaptive);
    std::vector<cfloat> images = synthetic_sensitivities(coils, n, n, 2), ideal(images.size());
    const auto object = disc(11);
    for (std::size_t i = 0; i < images.size(); ++i)
        images[i] *= object[i % pixels];
    estimate_sensitivities(images.data(), coils, n, n, ideal.data());
    std::vector<cfloat> image(pixels);
    const auto miss = [&] {
        const auto maps = adaptive.sensitivities();
        double sum = 0, count = 0;
        for (int y = 0; y < n; ++y)
            for (int x = 0; x < n; ++x)
                if (std::hypot(x - 15, y - 17) < 10) {
                    std::complex<double> product = 0;
                    for (std::size_t c = 0; c < coils; ++c) {
                        const std::size_t p = c * pixels + static_cast<std::size_t>(y) * n + x;
                        product += std::complex<double>(std::conj(maps[p]) * ideal[p]);
                    }
                    sum += 1 - std::abs(product);
                    ++count;
                }
        return sum / count;
    };
    adaptive.reconstruct(Frame(0).view(), image.data());
    const double first = miss();
    for (int f = 1; f < 32; ++f)
        adaptive.reconstruct(Frame(f).view(), image.data());
    // 224 spokes are four times a full set: what is left is the disc's own motion.
    EXPECT_LT(miss(), 0.2 * first) << first << " " << miss();

    // Another array behind the same caps: forgotten, its maps are what they would be from the start.
    adaptive.forget_coils();
    adaptive.reconstruct(Frame(40, 9).view(), image.data());
    FrameReconstruction fresh(space(), Density::ramp, Combine::adaptive);
    std::vector<cfloat> expected(pixels);
    fresh.reconstruct(Frame(40, 9).view(), expected.data());
    EXPECT_EQ(image, expected);
    EXPECT_TRUE(std::equal(fresh.sensitivities().begin(), fresh.sensitivities().end(),
                           adaptive.sensitivities().begin(), adaptive.sensitivities().end()));
}

TEST(FrameReconstruction, OtherCombinationsKnowNoSensitivities) {
    EXPECT_TRUE(FrameReconstruction(space(), Density::ramp, Combine::rss).sensitivities().empty());
    auto one = space();
    one.coils = 1;
    EXPECT_TRUE(FrameReconstruction(one, Density::ramp, Combine::adaptive).sensitivities().empty());
}
