// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/calibration.hpp"
#include "tests/support/exact_dft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <memory>

using namespace mri;

namespace {

constexpr int n = 48, coils = 6;
constexpr std::size_t pixels = static_cast<std::size_t>(n) * n;

ReconstructionSpace space(double over_y = 1) {
    ReconstructionSpace s;
    s.width = s.height = n;
    s.coils = coils;
    s.over_y = over_y;
    s.trajectory = Trajectory::cartesian;
    return s;
}

std::vector<cfloat> object() {
    std::vector<cfloat> image(pixels);
    for (int y = 0; y < n; ++y)
        for (int x = 0; x < n; ++x)
            image[static_cast<std::size_t>(y) * n + x] =
                cfloat(std::polar(0.5 * std::erfc((std::hypot(x - 24, y - 23) - 17) / 1.5) +
                                      0.3 * std::erfc((std::hypot(x - 30, y - 20) - 5) / 1.5),
                                  0.04 * x - 0.02 * y));
    return image;
}

/// Lines of k-space as a ring of coils sees the object, by the exact sum.
struct Lines {
    std::vector<float> kxy;
    std::vector<cfloat> data;
    int count = 0;

    template <class Range>
    Lines(const Range& lines, double over_y = 1) {
        for (const int line : lines) {
            for (int x = -n / 2; x < n / 2; ++x) {
                kxy.push_back(static_cast<float>(x));
                kxy.push_back(static_cast<float>(line / over_y));
            }
            ++count;
        }
        const auto maps = synthetic_sensitivities(coils, n, n, 4);
        const auto truth = object();
        for (std::size_t c = 0; c < coils; ++c) {
            std::vector<cfloat> seen(pixels);
            for (std::size_t p = 0; p < pixels; ++p)
                seen[p] = maps[c * pixels + p] * truth[p];
            for (const auto& sample : test::exact_forward(kxy, seen.data(), n, n))
                data.emplace_back(sample);
        }
    }
    SampledFrame view() const { return {kxy, data, {}, count}; }
};

std::vector<int> every(int step, int from = -n / 2, int to = n / 2) {
    std::vector<int> lines;
    for (int line = from; line < to; line += step)
        lines.push_back(line);
    return lines;
}

/// Error of the magnitudes.
double error_of(const std::vector<cfloat>& image) {
    std::vector<float> found, truth;
    for (const cfloat& value : image)
        found.push_back(std::abs(value));
    for (const cfloat& value : object())
        truth.push_back(std::abs(value));
    return test::relative_error(found, truth);
}

} // namespace

TEST(LineStep, RegularGapsAreSeen) {
    const auto step = [](std::initializer_list<std::vector<int>> frames, double over_y = 1) {
        std::vector<Lines> lines;
        for (const auto& frame : frames)
            lines.emplace_back(frame, over_y);
        std::vector<SampledFrame> views;
        for (const Lines& frame : lines)
            views.push_back(frame.view());
        return line_step(space(over_y), views);
    };
    EXPECT_EQ(step({every(1)}), 1);
    EXPECT_EQ(step({every(3)}), 3);
    EXPECT_EQ(step({every(3)}, 1.3), 3) << "lines lie 1 / 1.3 cycles apart";
    EXPECT_EQ(step({every(2, -10)}), 2) << "partial Fourier";
    EXPECT_EQ(step({every(1, -10)}), 1) << "partial Fourier leaves no gap";
    EXPECT_EQ(step({every(2), every(2, -n / 2 + 1)}), 1) << "together they are whole";
    EXPECT_EQ(step({every(4), every(4)}), 4);
    // Every fourth, and all around the centre.
    std::vector<int> dense = every(4);
    for (int line = -6; line < 6; ++line)
        if ((line + n / 2) % 4 != 0)
            dense.push_back(line);
    EXPECT_EQ(step({dense}), 4);
    EXPECT_EQ(step({{-24, -19, -12, -9, -4, -2, -1, 0, 1, 3, 9, 11, 17, 22}}), 1) << "irregular";
    ReconstructionSpace radial = space();
    radial.trajectory = Trajectory::radial;
    const Lines lines(every(3));
    const SampledFrame view = lines.view();
    EXPECT_EQ(line_step(radial, {&view, 1}), 1);
}

TEST(Calibration, ReferenceLinesGiveTheArraysSensitivities) {
    const Lines reference(every(1, -12, 12));
    const auto found = calibrate(space(), reference.view());
    ASSERT_TRUE(found);
    const auto maps = synthetic_sensitivities(coils, n, n, 4);
    const auto truth = object();
    double miss = 0, count = 0;
    for (std::size_t p = 0; p < pixels; ++p) {
        if (std::abs(truth[p]) < 0.3f)
            continue;
        std::complex<double> product = 0;
        for (std::size_t c = 0; c < coils; ++c)
            product += std::complex<double>(std::conj(found->maps[c * pixels + p]) * maps[c * pixels + p]);
        miss += 1 - std::abs(product);
        ++count;
    }
    // Vectors of length 1: a miss of 2e-3 is an angle of 0.06. The maps change by about as much over the half width
    // of a pixel of the reference lines' image.
    EXPECT_LT(miss / count, 2e-3);
}

TEST(Calibration, LinesThatDoNotSurroundTheCentreAreOfNoUse) {
    EXPECT_FALSE(calibrate(space(), Lines(every(1, 5, 20)).view()));
    EXPECT_FALSE(calibrate(space(), Lines(every(1, -12, 3)).view()));
    EXPECT_FALSE(calibrate(space(), Lines(every(2)).view()));
    ReconstructionSpace radial = space();
    radial.trajectory = Trajectory::radial;
    EXPECT_FALSE(calibrate(radial, Lines(every(1)).view()));
    ReconstructionSpace fewer = space();
    fewer.coils = 5;
    EXPECT_THROW(calibrate(fewer, Lines(every(1)).view()), Error);
}

TEST(Calibration, RegularGapsAreUnfolded) {
    const auto calibration =
        std::make_shared<const CoilCalibration>(*calibrate(space(), Lines(every(1, -12, 12)).view()));
    std::vector<cfloat> image(pixels);
    for (const int step : {2, 3})
        for (const auto method : {WindowMethod::background, WindowMethod::sense})
            for (const bool alone : {false, true}) {
                if (alone && method == WindowMethod::sense)
                    continue;
                const Lines lines(every(step));
                WindowOptions options;
                options.method = method;
                WindowReconstruction recon(space(), Density::clipped, Combine::adaptive, options);
                const auto solve = [&] {
                    const std::vector<SampledFrame> window(3, lines.view());
                    if (alone)
                        recon.solve_alone(lines.view());
                    else
                        recon.solve(window);
                    recon.reconstruct(0, image.data());
                    return error_of(image);
                };
                EXPECT_GT(solve(), 0.3) << "aliased without the reference lines";
                EXPECT_EQ(recon.line_step(), step);
                recon.set_calibration(calibration);
                EXPECT_LT(solve(), step == 2 ? 0.03 : 0.06) << step;
                EXPECT_TRUE(recon.by_sense());
                // Reference lines of another contrast and gain: they tell the coils alone.
                auto other = std::make_shared<CoilCalibration>(*calibration);
                for (cfloat& value : other->images)
                    value *= cfloat(0, 40);
                recon.set_calibration(other);
                EXPECT_LT(solve(), step == 2 ? 0.03 : 0.06) << step;
                EXPECT_EQ(recon.sensitivities().size(), coils * pixels);
                recon.set_calibration(nullptr);
                EXPECT_GT(solve(), 0.3);
            }
}

TEST(Calibration, FramesThatFillEachOthersGapsKeepTheirBackground) {
    const auto calibration =
        std::make_shared<const CoilCalibration>(*calibrate(space(), Lines(every(1, -12, 12)).view()));
    const Lines even(every(2)), odd(every(2, -n / 2 + 1));
    const std::vector<SampledFrame> window{even.view(), odd.view()};
    WindowReconstruction recon(space(), Density::clipped, Combine::adaptive, {});
    recon.set_calibration(calibration);
    recon.solve(window);
    EXPECT_FALSE(recon.by_sense());
    EXPECT_EQ(recon.line_step(), 1);
    std::vector<cfloat> image(pixels);
    recon.reconstruct(1, image.data());
    EXPECT_LT(error_of(image), 0.02);
}

TEST(Calibration, FramesAreCombinedByIt) {
    const auto calibration =
        std::make_shared<const CoilCalibration>(*calibrate(space(), Lines(every(1, -12, 12)).view()));
    const Lines whole(every(1));
    FrameReconstruction recon(space(), Density::ramp, Combine::adaptive);
    std::vector<cfloat> image(pixels), own(pixels);
    recon.reconstruct(whole.view(), own.data());
    const std::size_t version = recon.sensitivities_version();
    recon.set_calibration(calibration);
    EXPECT_NE(recon.sensitivities_version(), version);
    recon.reconstruct(whole.view(), image.data());
    recon.reconstruct(whole.view(), image.data());
    EXPECT_EQ(std::vector<cfloat>(recon.sensitivities().begin(), recon.sensitivities().end()),
              calibration->maps);
    EXPECT_LT(error_of(image), 0.02);
    recon.set_calibration(nullptr);
    recon.reconstruct(whole.view(), image.data());
    EXPECT_EQ(image, own) << "from its start";
}

TEST(WindowReconstruction, AFrameAloneIsItsOwnGriddedImage) {
    const Lines lines(every(1));
    WindowReconstruction recon(space(), Density::clipped, Combine::none, {});
    FrameReconstruction plain(space(), Density::ramp, Combine::none);
    std::vector<cfloat> found(coils * pixels), expected(coils * pixels);
    recon.solve_alone(lines.view());
    recon.reconstruct(0, found.data());
    plain.reconstruct(lines.view(), expected.data());
    EXPECT_EQ(found, expected);
    WindowOptions sense;
    sense.method = WindowMethod::sense;
    WindowReconstruction other(space(), Density::clipped, Combine::adaptive, sense);
    EXPECT_THROW(other.solve_alone(lines.view()), Error);
}
