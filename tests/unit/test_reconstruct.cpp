// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/reconstruct.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/support/exact_dft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

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

TEST(Reconstruction, ImagesScaleWithTheSamplesFrom1eMinus30To1e30) {
    for (const auto combine : {Combine::rss, Combine::adaptive})
        for (const bool window : {false, true}) {
            std::vector<cfloat> expected(pixels), image(pixels);
            for (const float scale : {1.0f, 1e30f, 1e-30f}) {
                std::vector<Frame> frames;
                for (int f = 0; f < 3; ++f) {
                    frames.emplace_back(f);
                    for (cfloat& value : frames.back().data)
                        value *= scale;
                }
                std::vector<SampledFrame> views;
                for (const Frame& frame : frames)
                    views.push_back(frame.view());
                if (window) {
                    WindowReconstruction recon(space(), Density::clipped, combine, {});
                    recon.solve(views);
                    recon.reconstruct(1, image.data());
                } else {
                    FrameReconstruction recon(space(), Density::ramp, combine);
                    recon.reconstruct(views[1], image.data());
                }
                for (cfloat& value : image)
                    value /= scale;
                if (scale == 1)
                    expected = image;
                // Rounding of float32, which conjugate gradients raise some ten times.
                EXPECT_LT(relative_error(image, expected), 1e-4) << scale << window;
            }
        }
}

TEST(Reconstruction, ASilentWindowGivesZero) {
    std::vector<Frame> frames;
    for (int f = 0; f < 3; ++f) {
        frames.emplace_back(f);
        std::fill(frames.back().data.begin(), frames.back().data.end(), cfloat{});
    }
    std::vector<SampledFrame> views;
    for (const Frame& frame : frames)
        views.push_back(frame.view());
    std::vector<cfloat> image(pixels, cfloat(1));
    for (const auto method :
         {WindowMethod::background, WindowMethod::sense, WindowMethod::temporal_variation}) {
        WindowOptions options;
        options.method = method;
        WindowReconstruction recon(space(), Density::clipped, Combine::adaptive, options);
        recon.solve(views);
        recon.reconstruct(1, image.data());
        EXPECT_EQ(image, std::vector<cfloat>(pixels)) << static_cast<int>(method);
    }
    for (const auto combine : {Combine::rss, Combine::adaptive}) {
        std::fill(image.begin(), image.end(), cfloat(1));
        FrameReconstruction(space(), Density::ramp, combine).reconstruct(views[0], image.data());
        EXPECT_EQ(image, std::vector<cfloat>(pixels));
    }
}

namespace {

/// Cartesian lines: samples first_x .. last_x of the lines first_y .. last_y, 0 at the centre of k-space.
struct Lines {
    const char* name;
    int width, height;
    double over_x, over_y;
    int first_x, last_x, first_y, last_y;
};

} // namespace

class CartesianLines : public testing::TestWithParam<Lines> {};

TEST_P(CartesianLines, GiveTheFourierSumAtThePixels) {
    const Lines& p = GetParam();
    ReconstructionSpace s;
    s.width = p.width;
    s.height = p.height;
    s.over_x = p.over_x;
    s.over_y = p.over_y;
    s.coils = 2;
    s.trajectory = Trajectory::cartesian;
    const int readouts = p.last_y - p.first_y + 1, length = p.last_x - p.first_x + 1;
    std::vector<float> kxy;
    for (int line = p.first_y; line <= p.last_y; ++line)
        for (int x = p.first_x; x <= p.last_x; ++x) {
            kxy.push_back(static_cast<float>(x / p.over_x));
            kxy.push_back(static_cast<float>(line / p.over_y));
        }
    std::vector<cfloat> data(static_cast<std::size_t>(s.coils) * readouts * length);
    std::mt19937 engine(3);
    std::normal_distribution<float> normal;
    for (cfloat& value : data)
        value = {normal(engine), normal(engine)};
    const std::size_t size = static_cast<std::size_t>(p.width) * p.height;
    for (const auto density : {Density::ramp, Density::none}) {
        FrameReconstruction reconstruction(s, density, Combine::none);
        std::vector<cfloat> images(size * 2);
        reconstruction.reconstruct({kxy, data, {}, readouts}, images.data());
        const double scale = density == Density::none ? 1 : 1 / (p.width * p.over_x * (p.height * p.over_y));
        for (std::size_t c = 0; c < 2; ++c) {
            auto exact = test::exact_adjoint(kxy, data.data() + c * kxy.size() / 2, p.width, p.height);
            for (auto& value : exact)
                value *= scale;
            const std::vector<cfloat> image(images.begin() + static_cast<std::ptrdiff_t>(c * size),
                                            images.begin() + static_cast<std::ptrdiff_t>((c + 1) * size));
            // Positions are float32: 2^-24 of some 20 cycles, 4e-6 of a turn at the rim of the pixels; a float32
            // transform errs by 1e-6.
            EXPECT_LT(test::relative_error(image, exact), 2e-5);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    Geometry, CartesianLines,
    testing::Values(Lines{"whole", 32, 32, 2, 1, -32, 31, -16, 15},
                    Lines{"phase_oversampling_of_20_per_cent", 32, 32, 2, 1.2, -32, 31, -20, 19},
                    Lines{"phase_oversampling_of_37_per_cent", 32, 24, 2, 1.37, -32, 31, -17, 16},
                    Lines{"both_ways", 33, 21, 1.27, 1.13, -21, 20, -12, 11},
                    Lines{"a_line_more_than_whole_ones", 32, 32, 1, 1.14, -16, 15, -19, 18},
                    Lines{"a_rim_that_repeats", 32, 32, 1, 31.4 / 32, -16, 15, -16, 15},
                    Lines{"partial_fourier", 32, 32, 1, 1.2, -16, 15, -5, 19},
                    Lines{"partial_fourier_of_whole_ones", 32, 32, 1, 1, -16, 15, -4, 15},
                    Lines{"asymmetric_echo", 32, 32, 2, 1.1, -11, 31, -17, 17},
                    Lines{"zero_filled", 64, 48, 2, 1.3, -32, 31, -16, 15},
                    Lines{"zero_filled_whole", 64, 48, 2, 1, -32, 31, -16, 15}),
    [](const auto& test) { return test.param.name; });

TEST(FrameReconstruction, AnEncodedFieldOfViewIsNotSmallerThanTheImage) {
    ReconstructionSpace s = space();
    s.trajectory = Trajectory::cartesian;
    s.over_y = 0.9;
    EXPECT_THROW(FrameReconstruction(s, Density::ramp, Combine::rss), Error);
    s.over_y = 0.98; // 31.36 of 32 pixels
    EXPECT_NO_THROW(FrameReconstruction(s, Density::ramp, Combine::rss));
}
