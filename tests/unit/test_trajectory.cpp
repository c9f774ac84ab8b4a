// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

using namespace mri;

namespace {
constexpr double degree = std::numbers::pi / 180;
} // namespace

TEST(Trajectory, StepsOfThePapers) {
    // Winkelmann 2007: 111.246 degrees; Wundrak 2016, table 1: 32.04 for N = 5, 23.63 for N = 7.
    EXPECT_NEAR(tiny_golden_step(1) / degree, 111.246, 5e-4);
    EXPECT_NEAR(tiny_golden_step(5) / degree, 32.04, 5e-3);
    EXPECT_NEAR(tiny_golden_step(7) / degree, 23.63, 5e-3);
    EXPECT_NEAR(spoke_angle(AngleScheme::golden, 7, 1, 0), tiny_golden_step(1), 1e-12);
    EXPECT_THROW(tiny_golden_step(0), Error);
    EXPECT_THROW(spoke_angle(AngleScheme::tiny_golden, 0, 3, 13), Error);
}

TEST(Trajectory, TinyGoldenAngleOfAStep) {
    for (int n = 1; n < 40; ++n)
        EXPECT_EQ(nearest_tiny_golden(tiny_golden_step(n)), n);
    // 47.25 degrees are 3.81 steps a half turn: those of 3 and of 4 make 3.62 and 4.62.
    EXPECT_EQ(nearest_tiny_golden(2 * tiny_golden_step(7)), 3);
    EXPECT_EQ(nearest_tiny_golden(3), 1);
    EXPECT_THROW(nearest_tiny_golden(0), Error);
    EXPECT_THROW(nearest_tiny_golden(-1), Error);
    EXPECT_THROW(nearest_tiny_golden(std::numeric_limits<double>::quiet_NaN()), Error);
}

TEST(Trajectory, AngleFollowsTheIndexWithoutDrift) {
    // An index as after a day at 4 ms: the same angle as from the step's exact fraction of a turn, taken bit
    // by bit.
    const std::uint64_t index = (std::uint64_t{1} << 32) - 17;
    const long double turn = 2 * std::numbers::pi_v<long double>;
    const long double step = turn / 2 / (std::numbers::phi_v<long double> + 6);
    long double angle = 0;
    long double power = step;
    for (int bit = 0; bit < 33; ++bit) {
        if (index >> bit & 1)
            angle = std::fmod(angle + power, turn);
        power = std::fmod(2 * power, turn);
    }
    EXPECT_NEAR(spoke_angle(AngleScheme::tiny_golden, 7, index, 13), static_cast<double>(angle), 1e-9);
    for (std::uint64_t i = 0; i < 1000; ++i) {
        const double a = spoke_angle(AngleScheme::tiny_golden, 7, i, 13);
        EXPECT_GE(a, 0);
        EXPECT_LT(a, 2 * std::numbers::pi);
    }
}

TEST(Trajectory, NegativeSenseMirrorsTheAngle) {
    for (const auto scheme : {AngleScheme::tiny_golden, AngleScheme::golden, AngleScheme::regular})
        for (std::uint64_t i = 0; i < 40; ++i) {
            const double plus = spoke_angle(scheme, 7, i, 13);
            const double minus = spoke_angle(scheme, 7, i, 13, true);
            EXPECT_NEAR(std::cos(plus), std::cos(minus), 1e-12);
            EXPECT_NEAR(std::sin(plus), -std::sin(minus), 1e-12);
        }
}

TEST(Trajectory, RegularSpokesShareTheHalfTurnAndRepeat) {
    for (std::uint64_t i = 0; i < 26; ++i)
        EXPECT_NEAR(spoke_angle(AngleScheme::regular, 7, i, 13),
                    std::numbers::pi * static_cast<double>(i % 13) / 13, 1e-12);
    EXPECT_THROW(spoke_angle(AngleScheme::regular, 7, 0, 0), Error);
}

TEST(Trajectory, FibonacciCountsLeaveTwoGapsOnly) {
    EXPECT_EQ(fibonacci_spokes(7, 1), 1);
    EXPECT_EQ(fibonacci_spokes(7, 13), 15);
    EXPECT_EQ(fibonacci_spokes(7, 15), 15);
    EXPECT_EQ(fibonacci_spokes(7, 16), 23);
    EXPECT_EQ(fibonacci_spokes(1, 12), 13);
    const auto different_gaps = [](int spokes) {
        std::vector<double> angles;
        for (int i = 0; i < spokes; ++i)
            angles.push_back(
                std::fmod(spoke_angle(AngleScheme::tiny_golden, 7, i, spokes), std::numbers::pi));
        std::sort(angles.begin(), angles.end());
        angles.push_back(angles.front() + std::numbers::pi);
        std::vector<double> gaps;
        for (int i = 0; i < spokes; ++i) {
            const double gap = angles[i + 1] - angles[i];
            if (std::none_of(gaps.begin(), gaps.end(), [&](double g) { return std::abs(g - gap) < 1e-9; }))
                gaps.push_back(gap);
        }
        return gaps.size();
    };
    for (const int count : {15, 23, 38, 61})
        EXPECT_EQ(different_gaps(count), 2u) << count;
    EXPECT_EQ(different_gaps(13), 3u);
}

TEST(Trajectory, SpokeReachesTheFullRadiusAndHitsTheCentre) {
    for (const int oversampling : {1, 2}) {
        const int samples = 192 * oversampling;
        std::vector<float> k(2 * samples);
        radial_spoke(0.3, samples, 192, k.data());
        EXPECT_EQ(k[samples], 0.0f);
        EXPECT_EQ(k[samples + 1], 0.0f);
        EXPECT_NEAR(k[0], -96 * std::cos(0.3), 1e-5);
        EXPECT_NEAR(k[1], -96 * std::sin(0.3), 1e-5);
        EXPECT_NEAR(std::hypot(k[2] - k[0], k[3] - k[1]), 1.0 / oversampling, 1e-5);
    }
    std::vector<float> odd(2 * 5);
    radial_spoke(0, 5, 5, odd.data());
    EXPECT_EQ(odd[0], -2.0f);
    EXPECT_EQ(odd[8], 2.0f);
}

TEST(Trajectory, CartesianLinesAreUnitCells) {
    std::vector<float> k(2 * 8);
    cartesian_line(0, 6, 8, 4, k.data());
    EXPECT_EQ(k[0], -2.0f);
    EXPECT_EQ(k[1], -3.0f);
    EXPECT_EQ(k[2] - k[0], 0.5f);
    cartesian_line(3, 6, 8, 4, k.data());
    EXPECT_EQ(k[8], 0.0f);
    EXPECT_EQ(k[9], 0.0f);
}

TEST(TrajectoryKind, NamesLeadBack) {
    for (const TrajectoryKind& kind : trajectory_kinds) {
        EXPECT_EQ(trajectory_from(kind.name), kind.trajectory);
        EXPECT_STREQ(to_string(kind.trajectory), kind.name);
        EXPECT_FALSE(kind.spokes && kind.grid) << kind.name;
    }
    EXPECT_FALSE(trajectory_from("rosette"));
    EXPECT_FALSE(trajectory_from(""));
}

TEST(Trajectory, InterleavesOfASpiralAreACycleApartAtTheRim) {
    for (const double exponent : {1.0, 2.0}) {
        const Spiral spiral{12, exponent, 64};
        const int samples = spiral_samples(spiral);
        std::vector<float> k(2 * static_cast<std::size_t>(samples));
        spiral_interleave(spiral, 0.7, samples, k.data());
        EXPECT_NEAR(std::hypot(k[0], k[1]), 0, 1e-6);
        EXPECT_NEAR(std::hypot(k[2 * samples - 2], k[2 * samples - 1]), 32, 1e-4);
        EXPECT_NEAR(std::atan2(k[2 * samples - 1], k[2 * samples - 2]),
                    std::remainder(0.7 + std::numbers::pi * 64 * exponent / 12, 2 * std::numbers::pi), 1e-4);
        double angle = 0;
        for (int i = 1; i < samples; ++i) {
            const double step = std::hypot(k[2 * i] - k[2 * i - 2], k[2 * i + 1] - k[2 * i - 1]);
            EXPECT_LE(step, 1.0001);
            if (std::hypot(k[2 * i], k[2 * i + 1]) > 6) {
                EXPECT_GT(step, 0.95); // a chord of an arc that is nearly a cycle long
            }
            if (i < 2)
                continue;
            angle +=
                std::remainder(std::atan2(k[2 * i + 1], k[2 * i]) - std::atan2(k[2 * i - 1], k[2 * i - 2]),
                               2 * std::numbers::pi);
        }
        if (exponent == 1) { // of the first step, out of the centre, the angle is not counted
            EXPECT_NEAR(angle, std::numbers::pi * 64 * exponent / 12, 1.5);
        }
        // The slope of the radius at the rim: a turn moves it by as many cycles as there are interleaves.
        const int last = samples - 1;
        const double dr =
            std::hypot(k[2 * last], k[2 * last + 1]) - std::hypot(k[2 * last - 2], k[2 * last - 1]);
        const double da = std::remainder(std::atan2(k[2 * last + 1], k[2 * last]) -
                                             std::atan2(k[2 * last - 1], k[2 * last - 2]),
                                         2 * std::numbers::pi);
        EXPECT_NEAR(dr / da * 2 * std::numbers::pi, 12, 0.4);
    }
    EXPECT_EQ(spiral_samples({12, 1, 64}, 0.5), 2 * spiral_samples({12, 1, 64}) - 1);
    float k[4];
    EXPECT_THROW(spiral_samples({0, 1, 64}), Error);
    EXPECT_THROW(spiral_samples({12, 0.5, 64}), Error);
    EXPECT_THROW(spiral_samples({12, 1, 64}, 1e-9), Error);
    EXPECT_THROW(spiral_interleave({12, 1, 64}, 0, 1, k), Error);
    EXPECT_THROW(spiral_interleave({12, 1, NAN}, 0, 2, k), Error);
}
