// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/running_background.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace mri;

namespace {

constexpr int size = 64;
constexpr int spokes = 5;
constexpr int samples = 2 * size; // oversampled: the corners of the image are known too
constexpr std::size_t pixels = static_cast<std::size_t>(size) * size;

/// A disc in a larger one; the inner one pulsates by `motion` pixels, a beat in 20 frames.
std::vector<cfloat> scene(int frame, double motion) {
    std::vector<cfloat> image(pixels);
    const double radius = 8 + motion * std::sin(2 * 3.14159265 * frame / 20);
    for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x) {
            const double body = 0.5 * std::erfc((std::hypot(x - 32, (y - 32) * 1.2) - 26) / 1.5);
            const double heart = 0.5 * std::erfc((std::hypot(x - 28, y - 34) - radius) / 1.5);
            image[static_cast<std::size_t>(y) * size + x] =
                cfloat(std::polar(0.4 * body + 0.5 * heart, 0.02 * x));
        }
    return image;
}

struct Frame {
    std::vector<float> kxy;
    std::vector<cfloat> samples_; ///< coil c sees c + 1 times the scene
    SampledFrame view() const { return {kxy, samples_, {}, spokes}; }
};

Frame acquire(int frame, double motion, int coils = 1) {
    Frame out;
    out.kxy.resize(2 * spokes * samples);
    for (int s = 0; s < spokes; ++s)
        radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7, frame * spokes + s, spokes), samples, size,
                     out.kxy.data() + 2 * s * samples);
    Nufft nufft(size, size, {});
    nufft.set_points(out.kxy);
    const auto image = scene(frame, motion);
    constexpr std::size_t points = spokes * samples;
    out.samples_.resize(points * static_cast<std::size_t>(coils));
    for (int c = 0; c < coils; ++c) {
        cfloat* first = out.samples_.data() + static_cast<std::size_t>(c) * points;
        nufft.forward(image.data(), first, 1);
        for (std::size_t i = 0; i < points; ++i)
            first[i] *= static_cast<float>(c + 1);
    }
    return out;
}

ReconstructionSpace space(int coils = 1) {
    ReconstructionSpace s;
    s.width = s.height = size;
    s.coils = coils;
    s.strip_limit = 2;
    return s;
}

double error(const std::vector<cfloat>& image, const std::vector<cfloat>& truth) {
    double e = 0, t = 0;
    for (std::size_t p = 0; p < truth.size(); ++p) {
        e += std::norm(image[p] - truth[p]);
        t += std::norm(truth[p]);
    }
    return std::sqrt(e / t);
}

} // namespace

TEST(RunningBackground, StillScenesLoseTheirStreaks) {
    RunningBackground running(space(), Combine::none, 20);
    FrameReconstruction plain(space(), Density::ramp, Combine::none);
    const auto truth = scene(0, 0);
    std::vector<cfloat> image(pixels), mean(pixels);
    double first = 0;
    for (int f = 0; f < 60; ++f) {
        const Frame frame = acquire(f, 0);
        plain.reconstruct(frame.view(), image.data());
        for (std::size_t p = 0; p < pixels; ++p)
            mean[p] += (image[p] - mean[p]) / static_cast<float>(f + 1);
        running.reconstruct(frame.view(), image.data());
        if (f == 0)
            first = error(image, truth);
        // 5 spokes of the 101 that sample 64 pixels fully; 20 frames of them are a full set, in which the
        // mean of gridded frames has its streaks, and steps towards the data have none in the end.
        if (f == 20) {
            EXPECT_LT(error(image, truth), 0.1 * first);
        }
    }
    EXPECT_LT(error(image, truth), 0.01 * first);
    EXPECT_LT(error(image, truth), 0.25 * error(mean, truth)) << "no better than the mean of gridded frames";
}

TEST(RunningBackground, MovingScenesAreFollowed) {
    constexpr double motion = 3;
    RunningBackground running(space(), Combine::none, 20);
    FrameReconstruction plain(space(), Density::clipped, Combine::none);
    std::vector<cfloat> frozen(pixels), image(pixels);
    for (int f = 0; f < 20; ++f) {
        const auto truth = scene(f, motion);
        for (std::size_t p = 0; p < pixels; ++p)
            frozen[p] += truth[p] / 20.0F;
    }
    double of_running = 0, of_frozen = 0;
    for (int f = 0; f < 60; ++f) {
        const Frame frame = acquire(f, motion);
        const auto truth = scene(f, motion);
        running.reconstruct(frame.view(), image.data());
        const double mine = error(image, truth);
        plain.reconstruct(frame.view(), image.data());
        EXPECT_LT(mine, error(image, truth)) << f; // of the frame alone
        if (f >= 20) {
            of_running += mine;
            of_frozen += error(frozen, truth);
        }
    }
    EXPECT_LT(of_running, of_frozen) << "the true mean, frozen, is no worse";
}

TEST(RunningBackground, ForgetsAndTellsCoilsApart) {
    const std::vector<Frame> frames{acquire(0, 3, 2), acquire(1, 3, 2), acquire(2, 3, 2)};
    const auto last = [&](RunningBackground& running, std::size_t channels) {
        std::vector<cfloat> images(pixels * channels);
        for (const Frame& frame : frames)
            running.reconstruct(frame.view(), images.data());
        return images;
    };
    RunningBackground each(space(2), Combine::none, 2);
    const auto coils = last(each, 2);
    EXPECT_NE(last(each, 2), coils) << "nothing is kept from frame to frame";
    each.forget();
    EXPECT_EQ(last(each, 2), coils); // the same arithmetic: the same bits
    RunningBackground together(space(2), Combine::rss, 2);
    const auto combined = last(together, 1);
    for (std::size_t p = 0; p < pixels; ++p) {
        ASSERT_NEAR(combined[p].real(), std::sqrt(5.0) * std::abs(coils[p]), 1e-4)
            << p; // coil 1 sees it twice
        ASSERT_EQ(combined[p].imag(), 0.0F);
    }
}

/// Coils with sensitivities of their own are put together by what the background tells of them; the same over
/// and over, though a thread makes them.
TEST(RunningBackground, CombinesBySensitivitiesOfTheBackground) {
    constexpr int coils = 4, frames = 60;
    const auto maps = synthetic_sensitivities(coils, size, size, 3);
    const auto truth = scene(0, 0);
    std::vector<Frame> data;
    for (int f = 0; f < frames; ++f) {
        Frame frame = acquire(f, 0);
        const std::size_t points = frame.samples_.size();
        Nufft nufft(size, size, {});
        nufft.set_points(frame.kxy);
        std::vector<cfloat> seen(maps.size());
        for (std::size_t i = 0; i < seen.size(); ++i)
            seen[i] = maps[i] * truth[i % pixels];
        frame.samples_.resize(points * coils);
        nufft.forward(seen.data(), frame.samples_.data(), coils);
        data.push_back(std::move(frame));
    }
    RunningBackground running(space(coils), Combine::adaptive, 20);
    EXPECT_TRUE(running.sensitivities().empty());
    std::vector<cfloat> image(pixels), again(pixels);
    std::vector<int> renewed;
    for (int f = 0; f < frames; ++f) {
        const std::size_t before = running.sensitivities_version();
        running.reconstruct(data[static_cast<std::size_t>(f)].view(), image.data());
        if (running.sensitivities_version() != before)
            renewed.push_back(f + 1);
    }
    EXPECT_EQ(renewed, (std::vector<int>{1, 2, 4, 8, 16, 40, 56}));
    // Up to the phase that no coil can know, and where the body is.
    double e = 0, t = 0;
    ASSERT_EQ(running.sensitivities().size(), maps.size());
    for (std::size_t p = 0; p < pixels; ++p) {
        if (std::abs(truth[p]) < 0.2)
            continue;
        e += std::pow(std::abs(image[p]) - std::abs(truth[p]), 2);
        t += std::norm(truth[p]);
        std::complex<double> along = 0;
        for (std::size_t c = 0; c < coils; ++c)
            along += std::complex<double>(std::conj(maps[c * pixels + p]) *
                                          running.sensitivities()[c * pixels + p]);
        EXPECT_GT(std::abs(along), 0.98) << p;
    }
    EXPECT_LT(std::sqrt(e / t), 0.03);
    RunningBackground twin(space(coils), Combine::adaptive, 20);
    for (const Frame& frame : data)
        twin.reconstruct(frame.view(), again.data());
    EXPECT_EQ(image, again);
    twin.forget();
    for (const Frame& frame : data)
        twin.reconstruct(frame.view(), again.data());
    EXPECT_EQ(image, again);
}

TEST(RunningBackground, SpokesAtOneAngleStayBounded) {
    for (const auto combine : {Combine::none, Combine::adaptive}) {
        const int coils = combine == Combine::none ? 1 : 2;
        RunningBackground running(space(coils), combine, 20);
        std::vector<cfloat> image(pixels);
        Frame frame;
        for (int f = 0; f < 40; ++f) {
            frame = acquire(0, 0, coils);
            for (int s = 1; s < spokes; ++s) {
                std::copy_n(frame.kxy.begin(), 2 * samples, frame.kxy.begin() + 2 * s * samples);
                for (int c = 0; c < coils; ++c)
                    std::copy_n(frame.samples_.begin() + c * spokes * samples, samples,
                                frame.samples_.begin() + (c * spokes + s) * samples);
            }
            running.reconstruct(frame.view(), image.data());
        }
        EXPECT_TRUE(running.bounded());
        // What the spokes measured is the image's own projection, spread over the field of view.
        double most = 0;
        for (const cfloat& value : image)
            most = std::max(most, static_cast<double>(std::abs(value)));
        EXPECT_GT(most, 0.05);
        EXPECT_LT(most, 4);
        // And their frames agree with it.
        if (combine == Combine::none) {
            Nufft nufft(size, size, {});
            nufft.set_points(frame.kxy);
            std::vector<cfloat> again(frame.samples_.size());
            nufft.forward(image.data(), again.data(), 1);
            double rest = 0, power = 0;
            for (std::size_t i = 0; i < again.size(); ++i) {
                rest += std::norm(again[i] - frame.samples_[i]);
                power += std::norm(frame.samples_[i]);
            }
            EXPECT_LT(std::sqrt(rest / power), 0.2);
        }
        running.forget();
        EXPECT_FALSE(running.bounded());
        running.reconstruct(acquire(1, 0, coils).view(), image.data());
        EXPECT_FALSE(running.bounded()) << "spokes that turn need no bound";
    }
}

TEST(RunningBackground, RefusesWhatCannotWork) {
    ReconstructionSpace cartesian = space();
    cartesian.trajectory = Trajectory::cartesian;
    EXPECT_THROW(RunningBackground(cartesian, Combine::rss, 20), Error);
    EXPECT_THROW(RunningBackground(space(), Combine::rss, 0), Error);
    RunningBackground running(space(), Combine::none, 2);
    std::vector<cfloat> image(pixels), again(pixels);
    const Frame good = acquire(0, 0);
    running.reconstruct(good.view(), image.data());
    Frame bad = good;
    bad.samples_[3] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(running.reconstruct(bad.view(), again.data()), Error);
    bad = good;
    bad.kxy[3] = std::numeric_limits<float>::infinity();
    EXPECT_THROW(running.reconstruct(bad.view(), again.data()), Error);
    bad = good;
    bad.kxy.pop_back();
    EXPECT_THROW(running.reconstruct(bad.view(), again.data()), Error);
    bad = good;
    bad.samples_.pop_back();
    EXPECT_THROW(running.reconstruct(bad.view(), again.data()), Error);
    running.forget();
    running.reconstruct(good.view(), again.data());
    EXPECT_EQ(again, image) << "a refused frame left something behind";
}
