// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/gst_test.hpp"

#include <set>

namespace {

using namespace mri;
using test::buffer_of;
using test::values_of;

constexpr int side = 16;
constexpr GstClockTime frame_time = 40 * GST_MSECOND;

ImageInfo image_info(int series = 0, SampleFormat format = SampleFormat::f32) {
    ImageInfo info;
    info.format = format;
    info.width = info.height = side;
    info.fov_x = info.fov_y = 320;
    info.framerate = {25, 1};
    info.series = series;
    return info;
}

std::vector<float> picture(int number) {
    std::vector<float> image(side * side);
    for (int i = 0; i < side * side; ++i)
        image[i] = static_cast<float>((i * 7 + number * 31) % 64) / 64;
    return image;
}

class MriSim : public ::testing::Test {
  protected:
    void open(const std::string& line, const ImageInfo& info = image_info()) {
        h = test::harness(line);
        ASSERT_TRUE(h);
        element = adopt(gst_harness_find_element(h.get(), "mrisim"));
        bus = std::make_unique<test::BusWatch>(element.get());
        caps(info);
    }
    void TearDown() override {
        bus.reset();
        element.reset();
        h.reset();
    }
    void caps(const ImageInfo& info) { gst_harness_set_src_caps(h.get(), info.to_caps().release()); }
    GstFlowReturn push(int number) {
        return gst_harness_push(h.get(),
                                buffer_of(picture(number), number * frame_time, frame_time).release());
    }
    GstPtr<GstBuffer> pull() { return adopt(gst_harness_try_pull(h.get())); }
    std::vector<GstPtr<GstBuffer>> pull_all() {
        std::vector<GstPtr<GstBuffer>> all;
        while (auto buffer = pull())
            all.push_back(std::move(buffer));
        return all;
    }
    KspaceInfo out() {
        const auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
        return KspaceInfo::from_caps(caps.get());
    }

    test::Harness h{nullptr};
    GstPtr<GstElement> element;
    std::unique_ptr<test::BusWatch> bus;
};

TEST_F(MriSim, ReadoutsHaveIndicesFlagsTimesAndTrajectories) {
    open("mrisim spokes=5 oversampling=2 coils=3");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    ASSERT_EQ(push(1), GST_FLOW_OK);
    const auto info = out();
    EXPECT_EQ(info.alignment, Alignment::readout);
    EXPECT_EQ(info.coils, 3);
    EXPECT_EQ(info.samples, 32);
    EXPECT_EQ(info.width, side);
    EXPECT_EQ(info.fov_x, 320);
    EXPECT_EQ(info.encoded_fov_x, 2 * info.fov_x);
    EXPECT_EQ(info.trajectory, Trajectory::radial);
    EXPECT_EQ(info.framerate, (Fraction{25, 1}));

    const auto readouts = pull_all();
    ASSERT_EQ(readouts.size(), 10u);
    for (std::size_t i = 0; i < readouts.size(); ++i) {
        GstBuffer* buffer = readouts[i].get();
        EXPECT_EQ(gst_buffer_get_size(buffer), 3 * 32 * sizeof(cfloat));
        EXPECT_EQ(GST_BUFFER_PTS(buffer), i * frame_time / 5);
        EXPECT_EQ(GST_BUFFER_DURATION(buffer), frame_time / 5);
        const auto heads = readouts_of(buffer);
        ASSERT_EQ(heads.size(), 1u);
        EXPECT_EQ(heads[0].kspace_encode_step_1, i % 5);
        EXPECT_EQ(heads[0].repetition, i / 5);
        EXPECT_EQ(heads[0].scan_counter, i);
        EXPECT_EQ(heads[0].angle_index, static_cast<std::int64_t>(i));
        EXPECT_EQ(heads[0].center_sample, 16);
        EXPECT_EQ(bool(heads[0].flags & flag::first_in_repetition), i % 5 == 0);
        EXPECT_EQ(bool(heads[0].flags & flag::last_in_repetition), i % 5 == 4);
        const auto trajectory = trajectory_of(buffer);
        ASSERT_TRUE(trajectory);
        EXPECT_EQ(trajectory->readouts, 1);
        EXPECT_EQ(trajectory->samples, 32);
        EXPECT_EQ(side_of(buffer, Role::truth) != nullptr, i % 5 == 2);
    }
    GstSample* truth = side_of(readouts[7].get(), Role::truth);
    EXPECT_EQ(values_of<float>(gst_sample_get_buffer(truth)), picture(1));
    EXPECT_EQ(ImageInfo::from_caps(gst_sample_get_caps(truth)), image_info());
}

TEST_F(MriSim, ASpiralBeginsInTheCentre) {
    open("mrisim trajectory=spiral interleaves=4 spokes=2 oversampling=2");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto info = out();
    EXPECT_EQ(info.trajectory, Trajectory::spiral);
    const auto readouts = pull_all();
    ASSERT_EQ(readouts.size(), 2u);
    const auto trajectory = trajectory_of(readouts[1].get());
    ASSERT_TRUE(trajectory);
    EXPECT_EQ(trajectory->samples, info.samples);
    EXPECT_NEAR(std::hypot(trajectory->kxy[0], trajectory->kxy[1]), 0, 1e-6);
    EXPECT_NEAR(std::hypot(trajectory->kxy[2 * info.samples - 2], trajectory->kxy[2 * info.samples - 1]),
                side / 2, 1e-4);
    EXPECT_EQ(readouts_of(readouts[1].get())[0].center_sample, 0);
    TearDown();
    open("mrisim trajectory=spiral delay-x=1");
    EXPECT_NE(push(0), GST_FLOW_OK);
    const auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("delays"), std::string::npos) << errors[0];
}

TEST_F(MriSim, AFrameIsItsReadouts) {
    open("mrisim spokes=4 coils=2 snr=20 seed=3");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto readouts = pull_all();
    ASSERT_EQ(readouts.size(), 4u);
    TearDown();
    open("mrisim spokes=4 coils=2 snr=20 seed=3 alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto frame = pull();
    ASSERT_TRUE(frame);
    EXPECT_FALSE(pull());
    EXPECT_EQ(out().alignment, Alignment::frame);
    EXPECT_EQ(out().readouts_in(gst_buffer_get_size(frame.get())), 4);
    EXPECT_EQ(GST_BUFFER_PTS(frame.get()), 0u);
    EXPECT_EQ(GST_BUFFER_DURATION(frame.get()), frame_time);
    EXPECT_NE(side_of(frame.get(), Role::truth), nullptr);
    EXPECT_EQ(readouts_of(frame.get()).size(), 4u);
    EXPECT_EQ(trajectory_of(frame.get())->readouts, 4);
    const auto all = values_of<cfloat>(frame.get());
    for (int r = 0; r < 4; ++r) {
        const auto one = values_of<cfloat>(readouts[r].get());
        for (int c = 0; c < 2; ++c)
            for (int i = 0; i < side; ++i)
                ASSERT_EQ(all[(c * 4 + r) * side + i], one[c * side + i]);
    }
}

TEST_F(MriSim, DownstreamDecidesOnTheAlignment) {
    open("mrisim spokes=4 ! capsfilter caps=application/x-mri-kspace,alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    EXPECT_EQ(out().alignment, Alignment::frame);
    EXPECT_EQ(pull_all().size(), 1u);
}

TEST_F(MriSim, ANewSeriesStartsTheSpokesAnew) {
    open("mrisim spokes=3 coils=2 alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    ASSERT_EQ(push(1), GST_FLOW_OK);
    caps(image_info(1));
    ASSERT_EQ(push(2), GST_FLOW_OK);
    const auto frames = pull_all();
    ASSERT_EQ(frames.size(), 3u);
    EXPECT_EQ(readouts_of(frames[1].get())[0].angle_index, 3);
    EXPECT_EQ(readouts_of(frames[1].get())[0].repetition, 1);
    EXPECT_EQ(readouts_of(frames[2].get())[0].angle_index, 0);
    EXPECT_EQ(readouts_of(frames[2].get())[0].repetition, 0);
    EXPECT_EQ(out().series, 1);
}

TEST_F(MriSim, AStaticScanRepeatsItself) {
    open("mrisim spokes=3 rotating=false alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto frames = pull_all();
    EXPECT_EQ(values_of<cfloat>(frames[0].get()), values_of<cfloat>(frames[1].get()));
    EXPECT_EQ(trajectory_of(frames[0].get())->kxy, trajectory_of(frames[1].get())->kxy);
}

TEST_F(MriSim, CartesianReadoutsKnowTheirLine) {
    open("mrisim trajectory=cartesian spokes=6 centre-lines=4");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    EXPECT_EQ(out().trajectory, Trajectory::cartesian);
    EXPECT_EQ(out().center_line, 8);
    std::set<int> lines;
    for (const auto& buffer : pull_all()) {
        const int line = readouts_of(buffer.get())[0].kspace_encode_step_1;
        lines.insert(line);
        EXPECT_EQ(trajectory_of(buffer.get())->kxy[1], static_cast<float>(line - 8));
    }
    EXPECT_EQ(lines.size(), 6u);
    for (const int line : {6, 7, 8, 9})
        EXPECT_TRUE(lines.count(line));
}

TEST_F(MriSim, ThePhaseIsPartOfTheTruth) {
    open("mrisim spokes=3 phase=1 alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto frame = pull();
    GstSample* truth = side_of(frame.get(), Role::truth);
    ASSERT_NE(truth, nullptr);
    EXPECT_EQ(ImageInfo::from_caps(gst_sample_get_caps(truth)).format, SampleFormat::c64);
    const auto seen = values_of<cfloat>(gst_sample_get_buffer(truth));
    const auto image = picture(0);
    ASSERT_EQ(seen.size(), image.size());
    for (std::size_t i = 0; i < image.size(); ++i)
        EXPECT_NEAR(std::abs(seen[i]), image[i], 1e-6);
}

TEST_F(MriSim, ARepetitionTimeOfItsOwnSetsThePace) {
    open("mrisim spokes=5 tr=3");
    gst_harness_push(h.get(), buffer_of(picture(0), GST_SECOND, frame_time).release());
    gst_harness_push(h.get(), buffer_of(picture(1), GST_SECOND + frame_time, frame_time).release());
    const auto readouts = pull_all();
    ASSERT_EQ(readouts.size(), 10u);
    for (std::size_t i = 0; i < 10; ++i) {
        EXPECT_EQ(GST_BUFFER_PTS(readouts[i].get()), GST_SECOND + i * 3 * GST_MSECOND);
        EXPECT_EQ(GST_BUFFER_DURATION(readouts[i].get()), 3 * GST_MSECOND);
    }
    EXPECT_EQ(out().framerate, (Fraction{200, 3}));
}

TEST_F(MriSim, MotionWaitsForTheNextImageAndDrains) {
    open("mrisim spokes=5 motion=true alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    EXPECT_FALSE(pull());
    ASSERT_EQ(push(1), GST_FLOW_OK);
    EXPECT_EQ(pull_all().size(), 1u);
    EXPECT_EQ(gst_harness_query_latency(h.get()), frame_time);
    gst_harness_push_event(h.get(), gst_event_new_eos());
    const auto last = pull();
    ASSERT_TRUE(last);
    EXPECT_EQ(GST_BUFFER_PTS(last.get()), frame_time);
    EXPECT_EQ(values_of<float>(gst_sample_get_buffer(side_of(last.get(), Role::truth))), picture(1));
}

TEST_F(MriSim, AFlushForgetsTheImageThatWaits) {
    open("mrisim spokes=5 motion=true alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    ASSERT_EQ(push(5), GST_FLOW_OK);
    gst_harness_push_event(h.get(), gst_event_new_eos());
    const auto frames = pull_all();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(values_of<float>(gst_sample_get_buffer(side_of(frames[0].get(), Role::truth))), picture(5));
}

TEST_F(MriSim, TheCapsTellTheNoise) {
    open("mrisim spokes=13 coils=2 alignment=frame");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    EXPECT_EQ(out().noise, 0.0);
    const auto clean = values_of<cfloat>(pull().get());
    TearDown();
    open("mrisim spokes=13 coils=2 alignment=frame snr=10");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto noisy = values_of<cfloat>(pull().get());
    ASSERT_EQ(noisy.size(), clean.size());
    double power = 0;
    for (std::size_t i = 0; i < noisy.size(); ++i)
        power += std::norm(noisy[i] - clean[i]) / 2 / static_cast<double>(noisy.size());
    // 416 samples of two parts each: their deviation errs by 1 / sqrt(4 * 416) = 2.5 %.
    EXPECT_NEAR(out().noise / std::sqrt(power), 1, 0.1);
}

TEST_F(MriSim, TheHeaderSaysWhatTheScanWas) {
    open("mrisim spokes=5 coils=2");
    ASSERT_EQ(push(0), GST_FLOW_OK);
    const auto xml = mri::test::header_of(h->sinkpad);
    for (const char* part : {"<receiverChannels>2</receiverChannels>", "<trajectory>radial</trajectory>",
                             "<kspace_encoding_step_1><minimum>0</minimum><maximum>4</maximum>",
                             "<repetition>", "<x>320.000000</x>", "<TR>8.000000</TR>"})
        EXPECT_NE(xml.find(part), std::string::npos) << part << " in " << xml;
}

TEST_F(MriSim, WrongInputIsOneError) {
    open("mrisim");
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<float>(7), 0).release()), GST_FLOW_ERROR);
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<float>(7), 0).release()), GST_FLOW_ERROR);
    EXPECT_EQ(bus->errors().size(), 1u);
    TearDown();
    auto coils = image_info();
    coils.channels = 2;
    open("mrisim", coils);
    EXPECT_NE(push(0), GST_FLOW_OK);
    ASSERT_EQ(bus->errors().size(), 1u);
    EXPECT_NE(bus->errors()[0].find("one channel"), std::string::npos) << bus->errors()[0];
    TearDown();
    open("mrisim trajectory=cartesian spokes=17");
    EXPECT_NE(push(0), GST_FLOW_OK);
    ASSERT_EQ(bus->errors().size(), 1u);
    EXPECT_NE(bus->errors()[0].find("16 lines"), std::string::npos) << bus->errors()[0];
}

TEST_F(MriSim, StatesCycle) {
    EXPECT_TRUE(test::cycle_states("mrisim").empty());
}

} // namespace
