// SPDX-License-Identifier: LGPL-2.1-or-later
// The images that a network begins with, and the samples that they are made of.
#include "data_gen/scanner/simulate.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/recon/network_start.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace mri;

namespace {

constexpr int size = 48;
constexpr int frames = 8;
constexpr std::size_t pixels = std::size_t{size} * size;

/// A body with a bright disc that moves to and fro.
std::vector<float> scene(int frame) {
    std::vector<float> image(pixels);
    for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x) {
            const double body = 0.5 * std::erfc(std::hypot(x - 24, y - 24) - 18);
            const double heart = 0.5 * std::erfc(std::hypot(x - 22 - 2 * std::sin(0.8 * frame), y - 25) - 6);
            image[static_cast<std::size_t>(y) * size + x] = static_cast<float>(0.4 * body + 0.5 * heart);
        }
    return image;
}

struct Scan {
    explicit Scan(int coils, Trajectory trajectory = Trajectory::radial) {
        SimulateSettings s;
        s.coils = coils;
        s.trajectory = trajectory;
        s.readouts = trajectory == Trajectory::cartesian ? 24 : 7;
        Simulator simulator(s, size, size);
        for (int t = 0; t < frames; ++t)
            data.push_back(simulator.acquire(simulator.seen(scene(t)), {}, {}));
        space.width = space.height = size;
        space.coils = coils;
        space.trajectory = trajectory;
    }
    std::vector<SampledFrame> views() const {
        std::vector<SampledFrame> out;
        for (const SimulatedFrame& frame : data)
            out.emplace_back(frame.trajectory, frame.data, std::span<const float>(), frame.readouts);
        return out;
    }
    std::vector<SimulatedFrame> data;
    ReconstructionSpace space;
};

} // namespace

// The recipe in its own words, apart from the class: what weights were trained with must not change unnoticed.
TEST(NetworkStart, TheRecipeIsWhatTheShippedWeightsWereTrainedWith) {
    for (const int coils : {1, 3}) {
        const Scan scan(coils);
        const auto views = scan.views();
        ReconstructionSpace space = scan.space;
        space.strip_limit = 2;
        space.tolerance = 5e-4;
        std::vector<cfloat> image(pixels), made(frames * pixels);

        NetworkStart windows(scan.space, StartKind::windows);
        windows.window(views, made);
        WindowReconstruction window(space, Density::clipped, Combine::adaptive,
                                    {.method = WindowMethod::background, .iterations = 6});
        window.solve(views);
        for (std::size_t t = 0; t < frames; ++t) {
            window.reconstruct(t, image.data());
            EXPECT_TRUE(std::equal(image.begin(), image.end(),
                                   made.begin() + static_cast<std::ptrdiff_t>(t * pixels)));
        }
        EXPECT_EQ(windows.sensitivities().size(), coils > 1 ? coils * pixels : 0);

        NetworkStart running(scan.space, StartKind::running);
        RunningBackground background(space, Combine::adaptive, 20);
        std::vector<cfloat> other(pixels);
        for (const SampledFrame& view : views) {
            running.next(view, other);
            background.reconstruct(view, image.data());
            EXPECT_EQ(other, image);
        }
        EXPECT_TRUE(std::ranges::equal(running.sensitivities(), background.sensitivities()));
    }
}

TEST(NetworkStart, CartesianFramesAreGriddedByThemselves) {
    const Scan scan(2, Trajectory::cartesian);
    NetworkStart gridded(scan.space, StartKind::gridded);
    FrameReconstruction frame(scan.space, Density::ramp, Combine::adaptive);
    std::vector<cfloat> image(pixels), other(pixels);
    for (const SampledFrame& view : scan.views()) {
        gridded.next(view, image);
        frame.reconstruct(view, other.data());
        EXPECT_EQ(image, other);
    }
    EXPECT_THROW(NetworkStart(scan.space, StartKind::running), Error);
}

TEST(NetworkStart, AfterLostDataTheBackgroundBeginsAgain) {
    const Scan scan(1);
    const auto views = scan.views();
    std::vector<cfloat> first(pixels), image(pixels);
    NetworkStart start(scan.space, StartKind::running);
    start.next(views[3], first);
    start.next(views[4], image);
    EXPECT_NE(image, first);
    start.forget();
    start.next(views[3], image);
    EXPECT_EQ(image, first);
}

TEST(NetworkStart, AreasAreClippedAtTheNetworksStrips) {
    const Scan scan(1);
    const auto narrow = network_areas(scan.space, scan.views(), 1),
               wide = network_areas(scan.space, scan.views(), 2);
    ASSERT_EQ(narrow.size(), static_cast<std::size_t>(frames));
    EXPECT_EQ(narrow[0].size(), scan.data[0].trajectory.size() / 2);
    float most = 0, most_wide = 0;
    for (std::size_t i = 0; i < narrow[0].size(); ++i) {
        EXPECT_LE(narrow[0][i], wide[0][i]);
        most = std::max(most, narrow[0][i]);
        most_wide = std::max(most_wide, wide[0][i]);
    }
    // Seven spokes lie further than two cycles apart at the rim of 24 cycles: strips of one and of two.
    EXPECT_NEAR(most_wide / most, 2, 1e-3);
}

TEST(NetworkStart, AnotherKindOrSizeIsRefused) {
    const Scan scan(1);
    const auto views = scan.views();
    std::vector<cfloat> image(pixels), window(frames * pixels);
    NetworkStart windows(scan.space, StartKind::windows), running(scan.space, StartKind::running);
    EXPECT_THROW(windows.next(views[0], image), Error);
    EXPECT_THROW(running.window(views, window), Error);
    EXPECT_THROW(windows.window(views, image), Error);
    EXPECT_THROW(running.next(views[0], window), Error);
    const Scan coils(2);
    EXPECT_THROW(running.next(coils.views()[0], image), Error);
}

TEST(SampledFrame, HoldsNothingThatDoesNotFit) {
    const std::vector<float> kxy{0, 0, 1, 0, 2, 0, 3, 0};
    const std::vector<cfloat> samples(8, 1);
    const std::vector<float> weights(4, 1);
    const SampledFrame good(kxy, samples, weights, 2);
    EXPECT_EQ(good.points(), 4U);
    EXPECT_EQ(good.coils(), 2U);
    EXPECT_EQ(good.samples_per_readout(), 2);
    const auto refuses = [](auto make) {
        try {
            make();
        } catch (const Error& e) {
            return e.code() == Errc::format;
        }
        return false;
    };
    EXPECT_TRUE(refuses([&] { SampledFrame({}, samples); }));
    EXPECT_TRUE(refuses([&] { SampledFrame(kxy, {}); }));
    EXPECT_TRUE(refuses([&] { SampledFrame(std::span(kxy).first(7), samples); }));
    EXPECT_TRUE(refuses([&] { SampledFrame(kxy, std::span(samples).first(7)); }));
    EXPECT_TRUE(refuses([&] { SampledFrame(kxy, samples, std::span(weights).first(3)); }));
    EXPECT_TRUE(refuses([&] { SampledFrame(kxy, samples, weights, 3); }));
    EXPECT_TRUE(refuses([&] { SampledFrame(kxy, samples, weights, 0); }));
    auto bad_kxy = kxy;
    bad_kxy[3] = std::numeric_limits<float>::infinity();
    EXPECT_TRUE(refuses([&] { SampledFrame(bad_kxy, samples); }));
    auto bad_samples = samples;
    bad_samples[5] = {0, std::numeric_limits<float>::quiet_NaN()};
    EXPECT_TRUE(refuses([&] { SampledFrame(kxy, bad_samples); }));
    for (const float bad : {-1.0F, std::numeric_limits<float>::quiet_NaN()}) {
        auto bad_weights = weights;
        bad_weights[0] = bad;
        EXPECT_TRUE(refuses([&] { SampledFrame(kxy, samples, bad_weights); }));
    }
}
