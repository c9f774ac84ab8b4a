// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/kspace_support.hpp"

using namespace mri;
using namespace mri::test;

namespace {

constexpr int coils = 4;
constexpr int samples = 64;
constexpr int noise_samples = 256;

KspaceInfo readout_info(int length, int channels = coils, int series = 0) {
    KspaceInfo info = radial_info(32, length, channels, series);
    info.alignment = Alignment::readout;
    return info;
}

/// A readout [coil][sample] of noise: coil c of level 1 + c, coupled to its neighbour.
std::vector<cfloat> noise_values(int length, unsigned seed) {
    const auto white = random_values(static_cast<std::size_t>(coils) * length, seed);
    std::vector<cfloat> noise(white.size());
    for (std::size_t c = 0; c < coils; ++c)
        for (std::size_t i = 0; i < static_cast<std::size_t>(length); ++i)
            noise[c * length + i] = static_cast<float>(1 + c) *
                                    (white[c * length + i] + 0.5f * white[(c + 1) % coils * length + i]);
    return noise;
}

GstPtr<GstBuffer> readout(const std::vector<cfloat>& values, std::uint64_t flags = 0, float time = 5) {
    auto buffer = buffer_of(values);
    Readout head;
    head.flags = flags;
    head.sample_time_us = time;
    add_readouts(buffer.get(), {head});
    return buffer;
}

class MriWhiten : public ::testing::Test {
  protected:
    Harness h = harness("mriwhiten");

    void use(const std::string& line) { h = harness(line); }
    void caps(const KspaceInfo& info) const { gst_harness_set_src_caps(h.get(), info.to_caps().release()); }
    GstFlowReturn push(GstPtr<GstBuffer> buffer) const { return gst_harness_push(h.get(), buffer.release()); }
    GstPtr<GstBuffer> pull() const { return adopt(gst_harness_try_pull(h.get())); }

    /// Four noise readouts, of `time` us a sample.
    void push_noise(float time = 5) const {
        caps(readout_info(noise_samples));
        for (unsigned i = 0; i < 4; ++i)
            ASSERT_EQ(push(readout(noise_values(noise_samples, i), flag::noise, time)), GST_FLOW_OK);
    }

    /// Covariance, [coil][coil], of many noise readouts that go through as if they were images.
    std::vector<cdouble> covariance_behind(float time = 5) const {
        caps(readout_info(samples));
        std::vector<cdouble> sums(coils * coils);
        constexpr int many = 100;
        for (unsigned i = 0; i < many; ++i) {
            EXPECT_EQ(push(readout(noise_values(samples, 100 + i), 0, time)), GST_FLOW_OK);
            const auto out = pull();
            if (!out)
                return sums;
            const auto values = values_of<cfloat>(out.get());
            for (std::size_t a = 0; a < coils; ++a)
                for (std::size_t b = 0; b < coils; ++b)
                    for (std::size_t s = 0; s < samples; ++s)
                        sums[a * coils + b] += cdouble(values[a * samples + s]) *
                                               std::conj(cdouble(values[b * samples + s])) /
                                               static_cast<double>(many * samples);
        }
        return sums;
    }

    std::string error_after(const std::function<void()>& work) const {
        BusWatch bus(h->element);
        work();
        const auto errors = bus.errors();
        EXPECT_EQ(errors.size(), 1u);
        return errors.empty() ? "" : errors[0];
    }
};

/// 1024 samples make the covariance and 6400 test it: each entry errs by some sqrt(1/1024 + 1/6400) = 0.034.
constexpr double estimate = 0.034;

} // namespace

TEST_F(MriWhiten, NoiseReadoutsGoNoFurtherAndTheRestIsWhite) {
    push_noise();
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 0u);
    EXPECT_FALSE(adopt(gst_pad_get_current_caps(h->sinkpad)));
    const auto c = covariance_behind();
    for (int a = 0; a < coils; ++a)
        for (int b = 0; b < coils; ++b)
            EXPECT_NEAR(std::abs(c[a * coils + b] - cdouble(a == b)), 0, 4 * estimate) << a << " " << b;
    const auto out = adopt(gst_pad_get_current_caps(h->sinkpad));
    KspaceInfo expected = readout_info(samples);
    expected.noise = std::sqrt(0.5); // of either part, where both together have a variance of 1
    EXPECT_EQ(KspaceInfo::from_caps(out.get()), expected);
}

TEST_F(MriWhiten, SampleTimesAndBandwidthScaleTheNoise) {
    // A quarter of the bandwidth has a quarter of the noise; the readouts here have not, and come out larger.
    push_noise(5);
    EXPECT_NEAR(covariance_behind(20)[0].real(), 4, 4 * 4 * estimate);
    // The scale follows the readouts, not the stream.
    EXPECT_NEAR(covariance_behind(5)[0].real(), 1, 4 * estimate);

    const std::string xml = "<ismrmrdHeader><acquisitionSystemInformation><relativeReceiverNoiseBandwidth> "
                            "0.5 </relativeReceiverNoiseBandwidth></acquisitionSystemInformation>"
                            "</ismrmrdHeader>";
    for (const auto& [line, scale] :
         {std::pair{"mriwhiten", 0.5}, std::pair{"mriwhiten bandwidth=0.25", 0.25}}) {
        use(line);
        push_noise();
        ASSERT_TRUE(gst_harness_push_event(h.get(), new_header_event(xml).release()));
        EXPECT_NEAR(covariance_behind()[0].real(), scale, scale * 4 * estimate) << line;
    }
}

TEST_F(MriWhiten, FactsAndDiscontinuityRideAlong) {
    push_noise();
    caps(readout_info(samples));
    auto noise = readout(noise_values(samples, 9), flag::noise);
    GST_BUFFER_FLAG_SET(noise.get(), GST_BUFFER_FLAG_DISCONT);
    ASSERT_EQ(push(std::move(noise)), GST_FLOW_OK);
    auto image = readout(noise_values(samples, 10), flag::last_in_repetition);
    GST_BUFFER_PTS(image.get()) = 7 * GST_MSECOND;
    auto trajectory = std::make_shared<TrajectoryData>();
    trajectory->readouts = 1;
    trajectory->samples = samples;
    trajectory->kxy.resize(2 * samples);
    add_trajectory(image.get(), trajectory);
    ASSERT_EQ(push(std::move(image)), GST_FLOW_OK);
    const auto out = pull();
    ASSERT_TRUE(out);
    EXPECT_TRUE(GST_BUFFER_FLAG_IS_SET(out.get(), GST_BUFFER_FLAG_DISCONT));
    EXPECT_EQ(GST_BUFFER_PTS(out.get()), 7 * GST_MSECOND);
    EXPECT_EQ(readouts_of(out.get())[0].flags, flag::last_in_repetition);
    EXPECT_EQ(trajectory_of(out.get()), trajectory);
}

TEST_F(MriWhiten, NoiseOutlivesAFlush) {
    push_noise();
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    EXPECT_NEAR(covariance_behind()[0].real(), 1, 4 * estimate);
}

TEST_F(MriWhiten, WhatCannotBeWhitenedIsOneError) {
    EXPECT_NE(error_after([&] {
                  caps(readout_info(samples));
                  EXPECT_EQ(push(readout(noise_values(samples, 1))), GST_FLOW_ERROR);
                  EXPECT_EQ(push(readout(noise_values(samples, 1))), GST_FLOW_ERROR);
              }).find("noise=true"),
              std::string::npos);
    use("mriwhiten");
    EXPECT_NE(error_after([&] {
                  caps(readout_info(3));
                  EXPECT_EQ(push(readout(noise_values(3, 1), flag::noise)), GST_FLOW_OK);
                  caps(readout_info(samples));
                  EXPECT_EQ(push(readout(noise_values(samples, 1))), GST_FLOW_ERROR);
              }).find("3 samples are too few for 4 coils"),
              std::string::npos);
    use("mriwhiten");
    EXPECT_NE(error_after([&] {
                  auto dead = noise_values(samples, 1);
                  std::fill_n(dead.begin() + samples, samples, cfloat{});
                  caps(readout_info(samples));
                  EXPECT_EQ(push(readout(dead, flag::noise)), GST_FLOW_OK);
                  EXPECT_EQ(push(readout(noise_values(samples, 1))), GST_FLOW_ERROR);
              }).find("coil 1 hold no noise"),
              std::string::npos);
    use("mriwhiten");
    EXPECT_NE(error_after([&] {
                  caps(readout_info(samples));
                  EXPECT_EQ(push(readout(noise_values(2 * samples, 1), flag::noise)), GST_FLOW_ERROR);
              }).find("more than the one readout"),
              std::string::npos);
}

TEST_F(MriWhiten, AnotherArrayNeedsNoiseOfItsOwn) {
    push_noise();
    const std::string text = error_after([&] {
        caps(readout_info(samples, 2, 1));
        EXPECT_EQ(push(readout(random_values(2 * samples, 1))), GST_FLOW_ERROR);
    });
    EXPECT_NE(text.find("No noise readout"), std::string::npos) << text;
}

TEST_F(MriWhiten, StatesCycle) {
    EXPECT_TRUE(cycle_states("mriwhiten").empty());
}
