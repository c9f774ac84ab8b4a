// SPDX-License-Identifier: LGPL-2.1-or-later
#include "data_gen/scanner/simulate.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/exact_dft.hpp"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <numbers>
#include <set>

namespace {

using namespace mri;
using namespace mri::test;

// An image without symmetry, so that a swapped axis, sign or centre shows.
std::vector<cfloat> picture(int width, int height, double shift = 0) {
    std::vector<cfloat> image(static_cast<std::size_t>(width) * height);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const double u = (x - 0.6 * width - shift) / width, v = (y - 0.4 * height) / height;
            image[static_cast<std::size_t>(y) * width + x] =
                cfloat(static_cast<float>(std::exp(-20 * u * u - 50 * v * v)), static_cast<float>(0.3 * u));
        }
    return image;
}

SimulateSettings with_readouts(int readouts) {
    SimulateSettings s;
    s.readouts = readouts;
    return s;
}

TEST(Simulate, FullSetAndAccelerationAreThoseOfTheField) {
    EXPECT_EQ(full_set({.trajectory = Trajectory::radial}, 192, 192), 181);
    EXPECT_EQ(full_set({.trajectory = Trajectory::radial}, 128, 128), 121);
    EXPECT_EQ(full_set({.trajectory = Trajectory::cartesian}, 192, 150), 150);
    EXPECT_THROW(full_set({.trajectory = Trajectory::arbitrary}, 192, 150), Error);
    for (std::size_t row = 0; row < simulated_trajectories; ++row)
        EXPECT_GT(full_set({.trajectory = trajectory_kinds[row].trajectory}, 192, 150), 0);
    SimulateSettings s;
    for (const auto& [acceleration, spokes] :
         {std::pair{13.0, 13}, {20.0, 9}, {23.0, 7}, {1.0, 181}, {500.0, 1}}) {
        s.acceleration = acceleration;
        EXPECT_EQ(readouts_per_frame(s, 192, 192), spokes) << acceleration;
    }
    s.oversampling = 2;
    EXPECT_EQ(samples_per_readout(s, 192, 160), 384);
    s.trajectory = Trajectory::cartesian;
    EXPECT_EQ(samples_per_readout(s, 192, 160), 384);
    EXPECT_EQ(samples_per_readout(s, 160, 192), 320);
}

TEST(Simulate, SpokesAreTheImagesFourierTransform) {
    for (const auto& [width, height, oversampling] : {std::tuple{32, 32, 1}, {32, 32, 2}, {36, 25, 1}}) {
        SimulateSettings s = with_readouts(5);
        s.oversampling = oversampling;
        Simulator simulator(s, width, height);
        const auto image = picture(width, height);
        for (int repeat = 0; repeat < 2; ++repeat) {
            const auto frame = simulator.acquire(simulator.seen(image));
            ASSERT_EQ(frame.data.size(), static_cast<std::size_t>(5) * simulator.samples());
            const auto want = exact_forward(frame.trajectory, image.data(), width, height);
            // The transform's tolerance is 1e-5; the float32 trajectory is shared by both sides.
            EXPECT_LT(relative_error(frame.data, want), 1e-5) << width << " x " << height;
        }
    }
}

TEST(Simulate, TheTrajectoryIsTheTinyGoldenAngles) {
    SimulateSettings s = with_readouts(4);
    Simulator simulator(s, 32, 32);
    const auto image = simulator.seen(picture(32, 32));
    const double step = std::numbers::pi / ((std::sqrt(5.0) + 1) / 2 + 6);
    EXPECT_NEAR(step * 180 / std::numbers::pi, 23.63, 0.005);
    for (std::uint64_t f = 0; f < 3; ++f) {
        const auto frame = simulator.acquire(image);
        for (int r = 0; r < 4; ++r) {
            EXPECT_EQ(frame.angle[r], 4 * f + r);
            EXPECT_EQ(frame.step[r], static_cast<std::uint32_t>(r));
            const double angle = step * static_cast<double>(4 * f + r);
            for (int i = 0; i < 32;
                 ++i) { // from -16 to 15, rounded to float32: 2^-24 of 16 and of the angle's sine
                EXPECT_NEAR(frame.trajectory[2 * (32 * r + i)], (i - 16) * std::cos(angle), 4e-6);
                EXPECT_NEAR(frame.trajectory[2 * (32 * r + i) + 1], (i - 16) * std::sin(angle), 4e-6);
            }
        }
    }
    s.rotating = false;
    s.negative = true;
    Simulator still(s, 32, 32);
    const auto first = still.acquire(image), second = still.acquire(image);
    EXPECT_EQ(first.trajectory, second.trajectory);
    EXPECT_EQ(second.angle.front(), 0u);
    EXPECT_NEAR(first.trajectory[2 * 32 + 1], -16 * std::sin(-step), 4e-6);
}

TEST(Simulate, TheFirstSpokeIsGivenOrDrawnForEachSeries) {
    SimulateSettings s = with_readouts(3);
    const auto image = picture(32, 32);
    const auto first = [&](std::uint64_t series) {
        Simulator simulator(s, 32, 32, series);
        return simulator.acquire(simulator.seen(image)).angle.front();
    };
    s.first_spoke = 40;
    EXPECT_EQ(first(0), 40u);
    EXPECT_EQ(first(1), 40u);
    s.first_spoke = -1;
    EXPECT_EQ(first(0), first(0));
    std::set<std::uint64_t> drawn;
    for (std::uint64_t series = 0; series < 8; ++series)
        drawn.insert(first(series));
    EXPECT_GT(drawn.size(), 6u); // of 10007: two equal pairs among 8 have a chance below 1e-5
}

TEST(Simulate, ASpokeIsACircleInPixelsWhenTheImageIsNotSquare) {
    Simulator simulator(with_readouts(7), 48, 32);
    const auto frame = simulator.acquire(simulator.seen(picture(48, 32)));
    ASSERT_EQ(frame.samples, 48);
    for (int r = 0; r < 7; ++r) // the rim lies at half a cycle per pixel in every direction
        EXPECT_NEAR(std::hypot(frame.trajectory[2 * 48 * r] / 48, frame.trajectory[2 * 48 * r + 1] / 32), 0.5,
                    1e-6);
}

TEST(Simulate, CartesianLinesKeepTheCentreAndChangeWithTheFrame) {
    SimulateSettings s;
    s.trajectory = Trajectory::cartesian;
    s.acceleration = 4;
    s.oversampling = 2;
    const int width = 24, height = 64;
    Simulator simulator(s, width, height);
    const auto image = picture(width, height);
    std::set<std::vector<std::uint32_t>> masks;
    for (int f = 0; f < 5; ++f) {
        const auto frame = simulator.acquire(simulator.seen(image));
        ASSERT_EQ(frame.readouts, 16);
        EXPECT_TRUE(std::is_sorted(frame.step.begin(), frame.step.end()));
        EXPECT_EQ(std::set(frame.step.begin(), frame.step.end()).size(), 16u);
        EXPECT_LT(frame.step.back(), 64u);
        for (std::uint32_t line = 28; line < 36; ++line)
            EXPECT_TRUE(std::binary_search(frame.step.begin(), frame.step.end(), line)) << line;
        for (int r = 0; r < 16; ++r) {
            EXPECT_EQ(frame.trajectory[2 * 48 * r + 1], static_cast<float>(frame.step[r]) - 32);
            EXPECT_EQ(frame.trajectory[2 * 48 * r], -12.0F);
            EXPECT_EQ(frame.trajectory[2 * (48 * r + 24)], 0.0F);
        }
        const auto want = exact_forward(frame.trajectory, image.data(), width, height);
        EXPECT_LT(relative_error(frame.data, want), 1e-5);
        masks.insert(frame.step);
    }
    EXPECT_EQ(masks.size(), 5u); // 8 of 56 lines: two equal ones have a chance below 1e-8

    s.rotating = false;
    Simulator still(s, width, height);
    EXPECT_EQ(still.acquire(image).step, still.acquire(image).step);
    s.acceleration = 1;
    Simulator full(s, width, height);
    EXPECT_EQ(full.acquire(image).step.size(), 64u);
}

TEST(Simulate, LinesAreDenserTowardsTheCentre) {
    int inner = 0, outer = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed)
        for (const int line : cartesian_lines(128, 32, 8, 3, seed)) {
            inner += std::abs(line - 64) < 32 && !(line >= 60 && line < 68);
            outer += std::abs(line - 64) >= 32;
        }
    EXPECT_EQ(inner + outer, 200 * 24);
    // The integrals of (1 - r)^3 over the inner and the outer half are 0.234 and 0.016; that lines are drawn
    // without replacement, from 56 and 64 of them, and the floor of the weights even it out a good deal.
    EXPECT_GT(inner, 3 * outer);
    EXPECT_GT(outer, 0);
}

TEST(Simulate, CoilsSeeTheImageThroughTheirSensitivities) {
    SimulateSettings s = with_readouts(3);
    const int n = 32;
    s.coils = 4;
    Simulator simulator(s, n, n);
    const auto frame = simulator.acquire(simulator.seen(picture(n, n)));
    ASSERT_EQ(frame.data.size(), 4u * 3 * n);
    // Sensitivities with a root sum of squares of 1: delta images show them one pixel at a time.
    std::vector<cfloat> delta(n * n);
    delta[10 * n + 20] = 1;
    const auto echo = simulator.acquire(delta);
    double sum = 0;
    for (int c = 0; c < 4; ++c)
        sum += std::norm(cdouble(echo.data[static_cast<std::size_t>(c) * 3 * n + n / 2]));
    EXPECT_NEAR(sum, 1, 1e-4);
    // Each coil's share is its own.
    EXPECT_GT(relative_error(std::vector(frame.data.begin(), frame.data.begin() + 3 * n),
                             std::vector(frame.data.begin() + 3 * n, frame.data.begin() + 6 * n)),
              0.1);
}

TEST(Simulate, TheBackgroundPhaseIsSmoothAndKeepsTheMagnitude) {
    const int n = 64;
    const auto phase = background_phase(n, n, 1.5, 9);
    const auto [low, high] = std::minmax_element(phase.begin(), phase.end());
    EXPECT_LE(*high - *low, 3.0F + 1e-5F);
    EXPECT_GT(*high - *low, 1.0F);
    double steepest = 0;
    for (int y = 0; y < n; ++y)
        for (int x = 1; x < n; ++x)
            steepest = std::max<double>(steepest, std::abs(phase[y * n + x] - phase[y * n + x - 1]));
    // Nodes are 12.6 pixels apart and differ by 3 rad at most; Catmull-Rom's steepest slope is below twice
    // the chord's.
    EXPECT_LT(steepest, 2 * 3.0 / 12.6);
    EXPECT_NE(background_phase(n, n, 1.5, 10), phase);

    SimulateSettings s = with_readouts(3);
    s.phase = 1.5;
    const Simulator simulator(s, n, n);
    const auto image = picture(n, n);
    const auto seen = simulator.seen(image);
    bool turned = false;
    for (std::size_t i = 0; i < seen.size(); ++i) {
        EXPECT_NEAR(std::abs(seen[i]), std::abs(image[i]), 1e-6);
        turned |= std::abs(seen[i] - image[i]) > 0.1F;
    }
    EXPECT_TRUE(turned);
}

TEST(Simulate, NoiseIsAsLoudAsAsked) {
    const int n = 48;
    for (const int oversampling : {1, 2}) {
        SimulateSettings s = with_readouts(61);
        s.oversampling = oversampling;
        s.coils = 2;
        Simulator silent(s, n, n);
        s.snr_db = 20;
        Simulator noisy(s, n, n);
        const auto image = silent.seen(picture(n, n));
        const auto clean = silent.acquire(image), loud = noisy.acquire(image);
        double power = 0, noise = 0, real = 0, signal = 0;
        cdouble mean = 0;
        for (const auto value : image)
            signal += std::norm(cdouble(value));
        for (std::size_t i = 0; i < clean.data.size(); ++i) {
            const cdouble difference = cdouble(loud.data[i]) - cdouble(clean.data[i]);
            noise += std::norm(difference);
            real += difference.real() * difference.real();
            mean += difference;
        }
        const double count = static_cast<double>(clean.data.size());
        power = signal / s.coils; // Parseval: the mean of |s|^2 over the Cartesian grid, per coil
        // The estimate of a variance from 5856 (or 11712) complex values has a relative deviation of 1 /
        // sqrt(count) = 1.3 %: 0.3 dB are more than five of them.
        EXPECT_NEAR(10 * std::log10(power / (noise / count / oversampling)), 20, 0.3);
        EXPECT_NEAR(real / noise, 0.5, 5 * 0.5 / std::sqrt(count));
        EXPECT_LT(std::abs(mean) / count, 5 * std::sqrt(noise / count / count));
        EXPECT_NEAR(noisy.noise_sigma() * noisy.noise_sigma() * 2, noise / count, 0.07 * noise / count);
    }
}

TEST(Simulate, NoiseGivesTheCartesianImageThatRatio) {
    SimulateSettings s;
    s.trajectory = Trajectory::cartesian;
    s.acceleration = 1;
    s.snr_db = 14;
    const int n = 64;
    Simulator simulator(s, n, n);
    const auto image = picture(n, n);
    const auto frame = simulator.acquire(image);
    // Reconstructed by the inverse transform at a few pixels: all lines are there, in order.
    double noise = 0, signal = 0;
    int count = 0;
    for (const auto value : image)
        signal += std::norm(cdouble(value)) / static_cast<double>(image.size());
    for (int y = 0; y < n; y += 4)
        for (int x = 0; x < n; x += 4, ++count) {
            cdouble value = 0;
            for (int j = 0; j < n; ++j)
                for (int i = 0; i < n; ++i)
                    value += cdouble(frame.data[j * n + i]) *
                             std::polar(
                                 1.0 / (n * n),
                                 2 * std::numbers::pi *
                                     (double(i - n / 2) * (x - n / 2) + double(j - n / 2) * (y - n / 2)) / n);
            noise += std::norm(value - cdouble(image[y * n + x]));
        }
    // 256 independent complex values: 1 / sqrt(256) = 6 % = 0.27 dB a standard deviation.
    EXPECT_NEAR(10 * std::log10(signal / (noise / count)), 14, 1.2);
}

TEST(Simulate, MotionMixesTheNeighboursLinearlyInTime) {
    SimulateSettings s = with_readouts(7);
    Simulator still(s, 32, 32);
    const auto a = picture(32, 32, -3), b = picture(32, 32), c = picture(32, 32, 4);
    s.motion = true;
    Simulator moving(s, 32, 32);
    const auto frame = moving.acquire(b, a, c);
    const int mid = moving.middle();
    ASSERT_EQ(mid, 3);
    for (int r = 0; r < 7; ++r) {
        std::vector<cfloat> mixed(b.size());
        const auto& other = r < mid ? a : c;
        const float part = static_cast<float>(std::abs(r - mid)) / 7;
        for (std::size_t i = 0; i < b.size(); ++i)
            mixed[i] = (1 - part) * b[i] + part * other[i];
        const auto want =
            exact_forward({frame.trajectory.begin() + 64 * r, frame.trajectory.begin() + 64 * (r + 1)},
                          mixed.data(), 32, 32);
        EXPECT_LT(
            relative_error(std::vector(frame.data.begin() + 32 * r, frame.data.begin() + 32 * (r + 1)), want),
            1.5e-5) // the tolerance of each of two transforms, and float32 mixing
            << r;
    }
    const auto alone = moving.acquire(b);
    still.acquire(b);
    EXPECT_EQ(alone.data, still.acquire(b).data); // without neighbours nothing moves
}

TEST(Simulate, TheSeedDecidesEverything) {
    SimulateSettings s = with_readouts(5);
    s.coils = 3;
    s.phase = 1;
    s.snr_db = 20;
    s.seed = 42;
    const auto run = [&](std::uint64_t series) {
        Simulator simulator(s, 32, 32, series);
        const auto image = simulator.seen(picture(32, 32));
        auto data = simulator.acquire(image).data;
        const auto more = simulator.acquire(image).data;
        data.insert(data.end(), more.begin(), more.end());
        return data;
    };
    const auto first = run(0);
    EXPECT_EQ(run(0), first);
    EXPECT_NE(run(1), first);
    s.seed = 43;
    EXPECT_NE(run(0), first);
}

TEST(Simulate, RefusesWhatCannotWork) {
    const auto code = [](auto&& work) {
        try {
            work();
        } catch (const Error& error) {
            return error.code();
        }
        return Errc::failed;
    };
    SimulateSettings s;
    s.acceleration = 0.5;
    EXPECT_EQ(code([&] { Simulator(s, 32, 32); }), Errc::settings);
    s = with_readouts(33);
    s.trajectory = Trajectory::cartesian;
    EXPECT_EQ(code([&] { Simulator(s, 32, 32); }), Errc::settings);
    s = with_readouts(65535);
    s.coils = 1024;
    EXPECT_EQ(code([&] { Simulator(s, 64, 64); }), Errc::no_memory);
    EXPECT_EQ(code([&] { Simulator(SimulateSettings{}, 1, 64); }), Errc::settings);
    Simulator simulator(SimulateSettings{}, 32, 32);
    EXPECT_EQ(code([&] { simulator.acquire(picture(32, 31)); }), Errc::format);
    EXPECT_EQ(code([&] { simulator.seen(picture(31, 32)); }), Errc::format);
    EXPECT_EQ(code([&] { simulator.acquire(picture(32, 32), picture(2, 2)); }), Errc::format);
}

} // namespace

TEST(Simulate, SpiralsHaveTheirInterleavesAtTwiceTheAngle) {
    SimulateSettings s;
    s.trajectory = Trajectory::spiral;
    s.angles = AngleScheme::golden;
    s.interleaves = 8;
    s.readouts = 3;
    EXPECT_EQ(full_set(s, 64, 64), 8);
    Simulator simulator(s, 32, 32);
    EXPECT_EQ(simulator.samples(), spiral_samples({8, 1, 32}));
    const std::vector<cfloat> image(32 * 32, 1.0f);
    simulator.acquire(image);
    const auto frame = simulator.acquire(image);
    ASSERT_EQ(frame.readouts, 3);
    std::vector<float> expected(2 * static_cast<std::size_t>(frame.samples));
    spiral_interleave({8, 1, 32}, 2 * spoke_angle(AngleScheme::golden, 1, 4, 3), frame.samples,
                      expected.data()); // the second interleave of the second frame
    for (std::size_t i = 0; i < expected.size(); ++i)
        EXPECT_NEAR(frame.trajectory[expected.size() + i], expected[i], 1e-5);
    // All interleaves begin in the centre: the sum of the image.
    for (int r = 0; r < 3; ++r)
        EXPECT_NEAR(std::abs(frame.data[static_cast<std::size_t>(r) * frame.samples]), 32 * 32, 0.1);
}

TEST(Simulate, DelaysMoveTheSamplesAndNotTheTrajectory) {
    SimulateSettings s;
    s.readouts = 4;
    std::vector<cfloat> image(32 * 32);
    image[16 * 32 + 20] = 1; // four pixels right of the origin: exp(-2 pi i 4 kx / 32)
    Simulator plain(s, 32, 32);
    s.delay_x = 0.25;
    Simulator late(s, 32, 32);
    const auto a = plain.acquire(image), b = late.acquire(image);
    EXPECT_EQ(a.trajectory, b.trajectory);
    // The first spoke runs along x: all its samples are a quarter of a cycle further on.
    const cfloat turn = std::polar(1.0f, static_cast<float>(-2 * std::numbers::pi * 4 * 0.25 / 32));
    for (int i = 1; i < a.samples; ++i)
        EXPECT_NEAR(std::abs(a.data[i] * turn - b.data[i]), 0, 1e-3); // of which transforms have 1e-5 each
    s.trajectory = Trajectory::cartesian;
    EXPECT_THROW(Simulator(s, 32, 32), Error);
}
