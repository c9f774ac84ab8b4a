// SPDX-License-Identifier: LGPL-2.1-or-later
#include "data_gen/scenes/canvas.hpp"
#include "data_gen/scenes/heart.hpp"
#include "data_gen/scenes/random.hpp"
#include "plugins/math/base/error.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

namespace {

using mri::HeartOptions;
using mri::HeartScene;

constexpr int side = 192;

std::vector<float> render(const HeartScene& scene, double time, int size = side) {
    std::vector<float> pixels(static_cast<std::size_t>(size) * static_cast<std::size_t>(size));
    scene.render(time, size, size, scene.natural_fov(), scene.natural_fov(), pixels.data());
    return pixels;
}

std::vector<float> ventricle(const HeartScene& scene, double time, int size = side) {
    std::vector<float> pixels(static_cast<std::size_t>(size) * static_cast<std::size_t>(size));
    scene.render_ventricle(time, size, size, scene.natural_fov(), scene.natural_fov(), pixels.data());
    return pixels;
}

HeartOptions options(std::uint64_t seed, double heart_rate = 70.0, double breathing_rate = 15.0) {
    HeartOptions o;
    o.seed = seed;
    o.heart_rate = heart_rate;
    o.breathing_rate = breathing_rate;
    return o;
}

double rms_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum / static_cast<double>(a.size()));
}

TEST(Random, GivesTheReferenceNumbersOfSplitmix64) {
    // First outputs of the public-domain reference implementation (Vigna) for the seed 1234567.
    mri::Random random(1234567);
    EXPECT_EQ(random.next(), 6457827717110365317u);
    EXPECT_EQ(random.next(), 3203168211198807973u);
    EXPECT_EQ(random.next(), 9817491932198370423u);
}

TEST(Blob, AreaAndDistanceAgreeWithTheOutline) {
    mri::Blob blob;
    blob.centre = {3.0f, -2.0f};
    blob.radius = 20.0f;
    blob.set(2, 0.1f, 0.05f);
    blob.set(3, -0.04f, 0.03f);
    // The polygon through 4096 points of the outline: its area misses the curve's by 1 in 10^6.
    double area = 0.0;
    const int n = 4096;
    for (int i = 0; i < n; ++i) {
        const auto at = [&](int k) {
            const double angle = 2.0 * 3.14159265358979 * k / n;
            float r, slope;
            blob.outline(static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle)), r, slope);
            return std::pair{r * std::cos(angle), r * std::sin(angle)};
        };
        const auto [x0, y0] = at(i);
        const auto [x1, y1] = at(i + 1);
        area += 0.5 * (x0 * y1 - x1 * y0);
        const mri::Point on{blob.centre.x + static_cast<float>(x0), blob.centre.y + static_cast<float>(y0)};
        EXPECT_NEAR(blob.distance(on), 0.0f, 1e-3f);
    }
    EXPECT_NEAR(blob.area(), area, 1e-4 * area);
    EXPECT_NEAR(blob.radius_for(blob.area()), blob.radius, 1e-4f);
    EXPECT_LT(blob.distance(blob.centre), -10.0f);
    EXPECT_GT(blob.distance({100.0f, 0.0f}), 60.0f);
}

TEST(HeartScene, IsAFunctionOfSeedAndTimeAlone) {
    const HeartScene first(options(7)), second(options(7));
    const auto late = render(first, 3.21);
    render(second, 0.5);
    EXPECT_EQ(render(second, 3.21), late);
    // Many threads at once, one scene.
    std::vector<std::vector<float>> images(4);
    std::vector<std::thread> threads;
    for (auto& image : images)
        threads.emplace_back([&] { image = render(first, 3.21); });
    for (auto& thread : threads)
        thread.join();
    for (const auto& image : images)
        EXPECT_EQ(image, late);
}

TEST(HeartScene, StaysWithinZeroAndOneAndUsesTheRange) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        const HeartScene scene(options(seed));
        for (const double time : {0.0, 0.4, 2.9}) {
            const auto image = render(scene, time);
            const auto [low, high] = std::minmax_element(image.begin(), image.end());
            EXPECT_GE(*low, 0.0f);
            EXPECT_LE(*high, 1.0f);
            EXPECT_GT(*high, 0.9f) << "seed " << seed; // 1 is the 99.9th percentile at time 0
            const double mean =
                std::accumulate(image.begin(), image.end(), 0.0) / static_cast<double>(image.size());
            EXPECT_GT(mean, 0.03) << "seed " << seed;
            EXPECT_LT(mean, 0.7) << "seed " << seed;
        }
    }
}

TEST(HeartScene, RepeatsWithTheHeartRateInABreathHold) {
    const HeartScene scene(options(11, 75.0, 0.0));
    const double period = 60.0 / 75.0;
    const auto image = render(scene, 0.3);
    // A period added in double moves the phase by 1e-16 of a beat: rounding of float coordinates only.
    EXPECT_LT(rms_difference(image, render(scene, 0.3 + period)), 1e-5);
    EXPECT_LT(rms_difference(image, render(scene, 0.3 + 20.0 * period)), 1e-5);
    EXPECT_GT(rms_difference(image, render(scene, 0.3 + 0.4 * period)), 1e-2);
    EXPECT_NEAR(scene.ventricle_area(1.1), scene.ventricle_area(1.1 + 3.0 * period),
                1e-6 * scene.ventricle_area(1.1));
}

TEST(HeartScene, BreathesWithItsRate) {
    const HeartScene scene(options(12, 60.0, 12.0)); // 5 beats a breath
    const auto image = render(scene, 0.0);
    EXPECT_LT(rms_difference(image, render(scene, 5.0)), 1e-5);
    EXPECT_GT(rms_difference(image, render(scene, 2.0)),
              1e-2); // the same phase of the beat, another of the breath
}

TEST(HeartScene, StandsStillAtRateZero) {
    const HeartScene scene(options(13, 0.0, 0.0));
    EXPECT_EQ(render(scene, 0.0), render(scene, 17.3));
}

TEST(HeartScene, ContractsAndFillsOnceABeat) {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        const HeartScene scene(options(seed, 60.0, 0.0));
        std::vector<double> area;
        for (int i = 0; i < 200; ++i)
            area.push_back(scene.ventricle_area(i / 200.0));
        const auto [low, high] = std::minmax_element(area.begin(), area.end());
        // Fractional area changes of 0.10 to 0.65 are drawn.
        EXPECT_GE(1.0 - *low / *high, 0.099) << "seed " << seed;
        EXPECT_LE(1.0 - *low / *high, 0.651) << "seed " << seed;
        EXPECT_GT(*high, 150.0);
        EXPECT_LT(*high, 4500.0);
        // Smooth: no step of more than a tenth of the stroke in 5 ms.
        int falls = 0;
        for (std::size_t i = 0; i < area.size(); ++i) {
            const double step = area[(i + 1) % area.size()] - area[i];
            EXPECT_LT(std::abs(step), 0.1 * (*high - *low));
            const double before = area[i] - area[(i + area.size() - 1) % area.size()];
            falls += before >= 0.0 && step < -1e-9 ? 1 : 0;
        }
        EXPECT_EQ(falls, 1) << "seed " << seed; // ejection is the only time the cavity shrinks
    }
}

TEST(HeartScene, RenderedVentricleHasTheExactArea) {
    for (std::uint64_t seed = 21; seed <= 26; ++seed) {
        const HeartScene scene(options(seed));
        const double pixel = scene.natural_fov() / side, fine_pixel = scene.natural_fov() / (4 * side);
        for (const double time : {0.0, 0.25, 0.5}) {
            const auto coarse = ventricle(scene, time), fine = ventricle(scene, time, 4 * side);
            const double area = std::accumulate(coarse.begin(), coarse.end(), 0.0) * pixel * pixel;
            const double fine_area = std::accumulate(fine.begin(), fine.end(), 0.0) * fine_pixel * fine_pixel;
            const double exact = scene.ventricle_area(time);
            // A linear ramp of width w across an edge of curvature 1/R adds w^2 / (12 R^2) of a disc's area:
            // 2e-3 for w = 2.2 mm and R = 12 mm; trabeculae have smaller radii of curvature, so ten times
            // that.
            EXPECT_NEAR(area, exact, 0.02 * exact) << "seed " << seed << " at " << time;
            EXPECT_NEAR(fine_area, exact, 0.02 * exact) << "seed " << seed << " at " << time;
            EXPECT_NEAR(area, fine_area, 0.005 * exact) << "seed " << seed << " at " << time;
        }
    }
}

TEST(HeartScene, AgreesWithASuperSampledRender) {
    for (std::uint64_t seed = 31; seed <= 33; ++seed) {
        const HeartScene scene(options(seed));
        const auto image = render(scene, 0.2);
        // 5 x 5 samples a pixel: pixel i covers the fine pixels 5 i - 2 to 5 i + 2, because pixel n/2 is the
        // origin in both (192/2 * 5 = 960/2).
        const auto fine = render(scene, 0.2, 5 * side);
        double sum = 0.0;
        int count = 0;
        for (int y = 1; y < side - 1; ++y)
            for (int x = 1; x < side - 1; ++x) {
                double mean = 0.0;
                for (int j = -2; j <= 2; ++j)
                    for (int i = -2; i <= 2; ++i)
                        mean += fine[static_cast<std::size_t>((5 * y + j) * 5 * side + 5 * x + i)] / 25.0;
                const double difference = mean - image[static_cast<std::size_t>(y * side + x)];
                sum += difference * difference;
                ++count;
            }
        // Edges are exact for straight edges along the grid; the rest is corners, slanted edges (an error of
        // up to 0.07 of the step in a pixel) and lines thinner than a pixel, together on a tenth of the
        // pixels.
        EXPECT_LT(std::sqrt(sum / count), 0.02) << "seed " << seed;
    }
}

TEST(HeartScene, SeedsGiveDifferentPatients) {
    std::vector<std::vector<float>> images;
    std::vector<double> areas;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        const HeartScene scene(options(seed, 0.0, 0.0));
        images.push_back(render(scene, 0.0));
        areas.push_back(scene.ventricle_area(0.0));
    }
    for (std::size_t i = 0; i < images.size(); ++i)
        for (std::size_t j = 0; j < i; ++j) {
            EXPECT_GT(rms_difference(images[i], images[j]), 0.1) << i << " " << j;
            EXPECT_NE(areas[i], areas[j]);
        }
}

TEST(HeartScene, RectangularPicturesShowTheSameScene) {
    const HeartScene scene(options(5));
    const double fov = scene.natural_fov();
    const auto square = render(scene, 0.1);
    std::vector<float> wide(static_cast<std::size_t>(side) * 96);
    scene.render(0.1, side, 96, fov, fov / 2.0, wide.data());
    for (int y = 0; y < 96; ++y) // 96/2 lies at 192/2
        for (int x = 0; x < side; ++x)
            ASSERT_NEAR(wide[static_cast<std::size_t>(y * side + x)],
                        square[static_cast<std::size_t>((y + 48) * side + x)], 1e-6f);
}

TEST(HeartScene, RefusesWhatCannotBe) {
    EXPECT_THROW(HeartScene(options(1, -1.0)), mri::Error);
    EXPECT_THROW(HeartScene(options(1, 70.0, 1e6)), mri::Error);
    EXPECT_THROW(HeartScene(options(1, std::numeric_limits<double>::quiet_NaN())), mri::Error);
    const HeartScene scene(options(1));
    float pixel = 0.0f;
    EXPECT_THROW(scene.render(0.0, 0, 1, 300.0, 300.0, &pixel), mri::Error);
    EXPECT_THROW(scene.render(0.0, 1, 1, 0.0, 300.0, &pixel), mri::Error);
    EXPECT_THROW(scene.render_ventricle(0.0, 1, 100000, 300.0, 300.0, &pixel), mri::Error);
}

} // namespace
