// SPDX-License-Identifier: LGPL-2.1-or-later
// From a picture through the simulated scanner and back: scale, position and truth of whole chains.
#include "tests/support/gst_test.hpp"

#include <cmath>

namespace {

using namespace mri;
using test::values_of;

struct Image {
    GstClockTime pts, duration;
    std::vector<float> pixels, truth;
};

std::vector<float> magnitudes(GstSample* sample) {
    const auto info = ImageInfo::from_caps(gst_sample_get_caps(sample));
    GstBuffer* buffer = gst_sample_get_buffer(sample);
    if (info.format == SampleFormat::f32)
        return values_of<float>(buffer);
    std::vector<float> result;
    for (const cfloat value : values_of<cfloat>(buffer))
        result.push_back(std::abs(value));
    return result;
}

std::vector<Image> run(const std::string& chain) {
    std::vector<Image> images;
    const auto result =
        test::run_pipeline(chain + " ! appsink sync=false", 60, [&](const std::string&, GstSample* s) {
            GstBuffer* buffer = gst_sample_get_buffer(s);
            GstSample* truth = side_of(buffer, Role::truth);
            images.push_back({GST_BUFFER_PTS(buffer), GST_BUFFER_DURATION(buffer), magnitudes(s),
                              truth ? magnitudes(truth) : std::vector<float>()});
        });
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty()) << result.errors[0];
    EXPECT_TRUE(result.warnings.empty()) << result.warnings[0];
    return images;
}

const std::string scene = "mriphantomsrc num-buffers=4 width=64 height=64 seed=3 framerate=25/1 ! ";

// Least-squares factor that takes the image to its truth, and the relative error that is left without it.
std::pair<double, double> gain_and_error(const Image& image) {
    double cross = 0, own = 0, error = 0, size = 0;
    for (std::size_t i = 0; i < image.pixels.size(); ++i) {
        const double x = image.pixels[i], y = image.truth.at(i);
        cross += x * y;
        own += x * x;
        error += (x - y) * (x - y);
        size += y * y;
    }
    return {cross / own, std::sqrt(error / size)};
}

TEST(SimulatedScan, ACartesianScanComesBackAsItWas) {
    for (const std::string scan : {"", " oversampling=2 coils=3 phase=2"}) {
        const auto images =
            run(scene + "mrisim trajectory=cartesian acceleration=1" + scan + " ! mriframer ! mrigrid");
        ASSERT_EQ(images.size(), 4u);
        for (std::size_t i = 0; i < images.size(); ++i) {
            EXPECT_EQ(images[i].pts, i * 40 * GST_MSECOND);
            EXPECT_EQ(images[i].duration, 40 * GST_MSECOND);
            ASSERT_EQ(images[i].truth.size(), images[i].pixels.size());
            // All of k-space is there: what is left are the tolerances of two transforms, 1e-5 and mrigrid's
            // 5e-4.
            EXPECT_LT(gain_and_error(images[i]).second, 1e-3);
        }
    }
}

TEST(SimulatedScan, ARadialScanHasTheScaleOfTheTruth) {
    // A full set by Nyquist at the rim, pi N / 2, the readout oversampled: what is missing are the corners of
    // k-space.
    for (const std::string scan : {"", " coils=4 phase=2"}) {
        const auto images = run(scene + "mrisim spokes=101 oversampling=2" + scan + " ! mriframer ! mrigrid");
        ASSERT_EQ(images.size(), 4u);
        for (const auto& image : images) {
            const auto [gain, error] = gain_and_error(image);
            EXPECT_NEAR(gain, 1, 0.02);
            EXPECT_LT(
                error,
                0.1); // a shift by one pixel or an angle of the wrong sign makes it several times as much
        }
    }
}

TEST(SimulatedScan, ASpiralScanHasTheScaleOfTheTruth) {
    for (const std::string scan : {"", " spiral-exponent=1.5", " coils=4 phase=2"}) {
        const auto images =
            run(scene + "mrisim trajectory=spiral interleaves=16 spokes=16 angles=regular oversampling=2" +
                scan + " ! mriframer ! mrigrid");
        ASSERT_EQ(images.size(), 4u);
        for (const auto& image : images) {
            const auto [gain, error] = gain_and_error(image);
            EXPECT_NEAR(gain, 1, 0.02) << scan;
            EXPECT_LT(error, 0.12) << scan; // the corners of k-space, as above; seen: 0.10
        }
    }
    // Fewer interleaves that go on at the golden angle: a window of frames is a full set again.
    const std::string few =
        scene + "mrisim trajectory=spiral interleaves=16 spokes=5 angles=golden ! mriframer ! ";
    const auto alone = run(few + "mrigrid"), together = run(few + "mrirecon window=4");
    ASSERT_EQ(together.size(), 4u);
    for (int i = 0; i < 4; ++i)
        EXPECT_LT(gain_and_error(together[i]).second, 0.5 * gain_and_error(alone[i]).second);
}

TEST(SimulatedScan, GradientDelaysAreUndone) {
    const std::string scan = scene + "mrisim spokes=51 oversampling=2 coils=6 phase=1 ";
    const std::string late = scan + "delay-x=0.8 delay-y=-0.6 delay-xy=0.2 ";
    const auto mean = [](const std::vector<Image>& images) {
        double sum = 0;
        for (const auto& image : images)
            sum += gain_and_error(image).second / static_cast<double>(images.size());
        return sum;
    };
    // Iterations, since weights of the samples cannot make good for a centre that no sample hits.
    const std::string recon = " ! mrirecon window=4 iterations=10 strip-limit=1";
    const double without = mean(run(scan + "! mriframer" + recon));
    const double wrong = mean(run(late + "! mriframer" + recon));
    const double ring = mean(run(late + "! mriframer gradient-delay=ring" + recon));
    const double fixed =
        mean(run(late + "! mriframer gradient-delay=fixed delay-x=0.8 delay-y=-0.6 delay-xy=0.2" + recon));
    EXPECT_GT(wrong, 1.5 * without) << without;
    EXPECT_LT(fixed, 1.25 * without) << without; // samples are not in the same places; seen: 1.14
    EXPECT_NEAR(ring, fixed, 0.02 * fixed);
}

TEST(SimulatedScan, DelaysBeyondTheLargestAreLeftAndAWarningSaysSo) {
    const auto result =
        test::run_pipeline(scene + "mrisim spokes=21 coils=8 oversampling=2 delay-x=4 delay-y=4 ! "
                                   "mriframer gradient-delay=ring ! fakesink");
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(result.warnings.size(), 1U) << "once a series";
    EXPECT_NE(result.warnings[0].find("Gradient delays are not corrected"), std::string::npos)
        << result.warnings[0];
    for (const auto& message : result.messages)
        EXPECT_FALSE(gst_structure_has_name(message.get(), "mri-gradient-delay"));
}

TEST(SimulatedScan, FramesByIndexByCountByTimeAndAtOnceAreTheSame) {
    const auto expected = run(scene + "mrisim spokes=10 alignment=frame ! mrigrid");
    ASSERT_EQ(expected.size(), 4u);
    for (const std::string framer : {"mriframer", "mriframer readouts=10", "mriframer time=40"}) {
        const auto got = run(scene + "mrisim spokes=10 ! " + framer + " ! mrigrid");
        ASSERT_EQ(got.size(), 4u) << framer;
        for (std::size_t i = 0; i < got.size(); ++i) {
            EXPECT_EQ(got[i].pixels, expected[i].pixels) << framer;
            EXPECT_EQ(got[i].truth, expected[i].truth) << framer;
            EXPECT_EQ(got[i].pts, expected[i].pts) << framer;
        }
    }
}

TEST(SimulatedScan, ASlidingWindowHasMoreFrames) {
    const auto images = run(scene + "mrisim spokes=10 ! mriframer readouts=10 stride=5 ! mrigrid");
    ASSERT_EQ(images.size(), 7u);
    for (std::size_t i = 0; i < images.size(); ++i) {
        EXPECT_EQ(images[i].pts, i * 20 * GST_MSECOND);
        EXPECT_EQ(images[i].duration, 20 * GST_MSECOND);
        EXPECT_FALSE(images[i].truth.empty())
            << i; // every ten readouts have one middle of a scan's frame among them
    }
}

TEST(SimulatedScan, ALiveScanKeepsItsPace) {
    const GstClockTime begin = gst_util_get_timestamp();
    const auto result = test::run_pipeline(
        "mriphantomsrc is-live=true num-buffers=8 width=32 height=32 framerate=25/1 ! mrisim "
        "! mriframer ! queue ! fakesink name=end sync=true");
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty());
    // The last of 8 images is made 7 frames of 40 ms after the first.
    EXPECT_GE(gst_util_get_timestamp() - begin, 280 * GST_MSECOND);
}

} // namespace
