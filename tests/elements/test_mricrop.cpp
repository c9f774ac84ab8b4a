// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/display_support.hpp"

#include <complex>

namespace {

using namespace display_test;
using mri::cfloat;

/// Pixel values that name their place: x + 1000 y.
std::vector<float> ramp(int width, int height, int channels = 1) {
    std::vector<float> image;
    for (int c = 0; c < channels; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                image.push_back(static_cast<float>(x + 1000 * y + 500000 * c));
    return image;
}

/// Where a ramp was cut.
void expect_cut(const std::vector<float>& got, int x0, int y0, int width, int height) {
    ASSERT_EQ(got.size(), static_cast<std::size_t>(width) * height);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            ASSERT_EQ(got[static_cast<std::size_t>(y) * width + x], x0 + x + 1000 * (y0 + y))
                << x << ", " << y;
}

TEST(MriCrop, CutsTheCentreAndShrinksTheFieldOfView) {
    Harness h("mricrop width=8 height=6");
    mri::ImageInfo in = image_info(20, 15);
    in.fov_x = 400;
    in.fov_y = 300;
    h.caps(in);
    ASSERT_EQ(h.push(buffer_of(ramp(20, 15), 3)), GST_FLOW_OK);
    const auto out = h.pull();
    ASSERT_TRUE(out);
    // The origin 10, 7 becomes 4, 3.
    expect_cut(values_of<float>(out.get()), 6, 4, 8, 6);
    EXPECT_EQ(GST_BUFFER_PTS(out.get()), 120 * GST_MSECOND);
    EXPECT_EQ(GST_BUFFER_DURATION(out.get()), 40 * GST_MSECOND);
    const mri::ImageInfo info = mri::ImageInfo::from_caps(h.out_caps().get());
    EXPECT_EQ(info.width, 8);
    EXPECT_EQ(info.height, 6);
    EXPECT_DOUBLE_EQ(info.fov_x, 160);
    EXPECT_DOUBLE_EQ(info.fov_y, 120);
    EXPECT_EQ(info.framerate, (mri::Fraction{25, 1}));
}

TEST(MriCrop, CutsEachChannelOfComplexImages) {
    Harness h("mricrop width=2 height=2");
    h.caps(image_info(4, 4, mri::SampleFormat::c64, 0, 2));
    std::vector<cfloat> image;
    for (int i = 0; i < 32; ++i)
        image.emplace_back(static_cast<float>(i), static_cast<float>(-i));
    ASSERT_EQ(h.push(buffer_of(image)), GST_FLOW_OK);
    const auto out = values_of<cfloat>(h.pull().get());
    const std::vector<cfloat> expected{{5, -5},   {6, -6},   {9, -9},   {10, -10},
                                       {21, -21}, {22, -22}, {25, -25}, {26, -26}};
    EXPECT_EQ(out, expected);
}

TEST(MriCrop, CutsWhatRidesAlongAndLeavesTheInputAlone) {
    Harness h("mricrop width=8 height=8");
    h.caps(image_info(16, 16));
    auto buffer = buffer_of(std::vector<float>(256, 1.0F));
    add_image(buffer.get(), mri::Role::truth, ramp(16, 16), 16, 16);
    add_image(buffer.get(), mri::Role::input, ramp(16, 16), 16, 16);
    add_image(buffer.get(), mri::Role::gridded, ramp(10, 10), 10, 10); // of a size of its own: stays
    const auto kept = buffer;
    ASSERT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
    const auto out = h.pull();
    for (const auto role : {mri::Role::truth, mri::Role::input}) {
        GstSample* side = mri::side_of(out.get(), role);
        ASSERT_NE(side, nullptr);
        EXPECT_EQ(mri::ImageInfo::from_caps(gst_sample_get_caps(side)).width, 8);
        expect_cut(values_of<float>(gst_sample_get_buffer(side)), 4, 4, 8, 8);
    }
    EXPECT_EQ(gst_buffer_get_size(gst_sample_get_buffer(mri::side_of(out.get(), mri::Role::gridded))), 400u);
    GstSample* before = mri::side_of(kept.get(), mri::Role::truth);
    EXPECT_EQ(gst_buffer_get_size(gst_sample_get_buffer(before)), 1024u);
}

TEST(MriCrop, CutsSensitivitiesOnceForAllFramesThatShareThem) {
    Harness h("mricrop width=2 height=2");
    h.caps(image_info(4, 4, mri::SampleFormat::c64));
    const auto maps_of = [](float sign) {
        std::vector<cfloat> maps; // two coils
        for (int i = 0; i < 32; ++i)
            maps.emplace_back(static_cast<float>(i), sign);
        const auto caps = image_info(4, 4, mri::SampleFormat::c64, 0, 2).to_caps();
        return mri::adopt(gst_sample_new(buffer_of(maps).get(), caps.get(), nullptr, nullptr));
    };
    const auto cut_of = [&](const mri::GstPtr<GstSample>& maps) {
        auto buffer = buffer_of(std::vector<cfloat>(16));
        mri::add_side(buffer.get(), mri::Role::sensitivities, maps.get());
        EXPECT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
        return mri::retain(mri::side_of(h.pull().get(), mri::Role::sensitivities));
    };
    const auto maps = maps_of(1);
    const auto first = cut_of(maps);
    ASSERT_TRUE(first);
    const mri::ImageInfo info = mri::ImageInfo::from_caps(gst_sample_get_caps(first.get()));
    EXPECT_EQ(info.width, 2);
    EXPECT_EQ(info.channels, 2);
    const std::vector<cfloat> expected{{5, 1}, {6, 1}, {9, 1}, {10, 1}, {21, 1}, {22, 1}, {25, 1}, {26, 1}};
    EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(first.get())), expected);
    EXPECT_EQ(cut_of(maps).get(), first.get());
    const auto other = cut_of(maps_of(-1));
    EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(other.get())).front(), (cfloat{5, -1}));

    // Another series with the same maps and another rectangle.
    h.caps(image_info(4, 4, mri::SampleFormat::c64, 1));
    EXPECT_NE(cut_of(maps).get(), first.get());
}

TEST(MriCrop, ASmallerImageIsKeptWhole) {
    Harness h("mricrop"); // 128 x 128
    h.caps(image_info(20, 150));
    ASSERT_EQ(h.push(buffer_of(ramp(20, 150))), GST_FLOW_OK);
    expect_cut(values_of<float>(h.pull().get()), 0, 11, 20, 128);
}

/// Frame `t` of a disc that beats around (x, y), radius 6 to 9.
std::vector<float> beat(int width, int height, int x, int y, int t) {
    return disc(width, height, x, y, 6 + t % 4);
}

TEST(MriCrop, MotionHoldsTheFirstFramesAndThenStaysWhereItIs) {
    Harness h("mricrop mode=motion window=4 width=32 height=32");
    h.caps(image_info(96, 80));
    for (int t = 0; t < 3; ++t)
        ASSERT_EQ(h.push(buffer_of(beat(96, 80, 60, 30, t), t)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 0u);
    ASSERT_EQ(h.push(buffer_of(beat(96, 80, 60, 30, 3), 3)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 4u);
    for (int t = 0; t < 4; ++t) {
        const auto out = h.pull();
        EXPECT_EQ(GST_BUFFER_PTS(out.get()), t * 40 * GST_MSECOND);
        EXPECT_EQ(values_of<float>(out.get()), beat(32, 32, 16, 16, t)); // the disc in the middle
    }
    // Something else moving far away does not move the picture any more.
    ASSERT_EQ(h.push(buffer_of(ramp(96, 80), 4)), GST_FLOW_OK);
    expect_cut(values_of<float>(h.pull().get()), 44, 14, 32, 32);
}

TEST(MriCrop, ThePlaceMovesWithTheCentre) {
    Harness h("mricrop mode=motion window=4 width=32 height=32");
    mri::ImageInfo in = image_info(96, 80);
    in.fov_x = 192; // 2 mm
    in.fov_y = 240; // 3 mm
    h.caps(in);
    mri::Readout readout;
    readout.position = {10, 20, 30};
    readout.read_dir = {0, 1, 0};
    readout.phase_dir = {0, 0, -1};
    for (int t = 0; t < 4; ++t) {
        auto frame = buffer_of(beat(96, 80, 60, 30, t), t);
        mri::add_readouts(frame.get(), {readout, readout});
        ASSERT_EQ(h.push(std::move(frame)), GST_FLOW_OK);
    }
    // The centre goes from the pixel 48, 40 to 60, 30: 24 mm along x, -30 mm along y.
    const auto out = h.pull();
    const auto readouts = mri::readouts_of(out.get());
    ASSERT_EQ(readouts.size(), 2u);
    for (const mri::Readout& moved : readouts)
        EXPECT_EQ(moved.position, (std::array<float, 3>{10, 44, 60}));
}

TEST(MriCrop, MotionStartsAnewWithASeriesAndDrainsAShortOne) {
    Harness h("mricrop mode=motion window=8 width=32 height=32");
    h.caps(image_info(96, 80, mri::SampleFormat::f32, 0));
    for (int t = 0; t < 4; ++t)
        ASSERT_EQ(h.push(buffer_of(beat(96, 80, 60, 30, t), t)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 0u);
    h.caps(image_info(96, 80, mri::SampleFormat::f32, 1)); // drains series 0
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 4u);
    for (int t = 0; t < 4; ++t)
        EXPECT_EQ(values_of<float>(h.pull().get()), beat(32, 32, 16, 16, t));
    for (int t = 0; t < 4; ++t)
        ASSERT_EQ(h.push(buffer_of(beat(96, 80, 25, 50, t), t)), GST_FLOW_OK);
    h.eos();
    for (int t = 0; t < 4; ++t)
        EXPECT_EQ(values_of<float>(h.pull().get()), beat(32, 32, 16, 16, t));
}

TEST(MriCrop, FlushForgetsTheFramesHeld) {
    Harness h("mricrop mode=motion window=4 width=32 height=32");
    h.caps(image_info(96, 80));
    for (int t = 0; t < 3; ++t)
        ASSERT_EQ(h.push(buffer_of(beat(96, 80, 20, 20, t), t)), GST_FLOW_OK);
    h.flush();
    for (int t = 0; t < 4; ++t)
        ASSERT_EQ(h.push(buffer_of(beat(96, 80, 60, 30, t), t)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 4u);
    EXPECT_EQ(values_of<float>(h.pull().get()), beat(32, 32, 16, 16, 0));
}

TEST(MriCrop, LatencyIsTheWindowsWaitForMotionAndNoneForTheCentre) {
    Harness motion("mricrop mode=motion window=5");
    motion.caps(image_info(64, 64));
    EXPECT_EQ(gst_harness_query_latency(motion.get()), 4 * 40 * GST_MSECOND);
    Harness centre("mricrop");
    centre.caps(image_info(64, 64));
    EXPECT_EQ(gst_harness_query_latency(centre.get()), 0u);
}

TEST(MriCrop, ABufferOfTheWrongSizeIsOneError) {
    for (const char* launch : {"mricrop width=8 height=8", "mricrop mode=motion width=8 height=8"}) {
        Harness h(launch);
        h.caps(image_info(16, 16));
        EXPECT_EQ(h.push(buffer_of(std::vector<float>(255))), GST_FLOW_ERROR);
        EXPECT_EQ(h.push(buffer_of(std::vector<float>(255))), GST_FLOW_ERROR);
        EXPECT_EQ(h.errors().size(), 1u);
    }
}

TEST(MriCrop, ComesBackAfterStateCyclesWithOtherSettings) {
    Harness h("mricrop mode=motion window=2 width=8 height=8");
    for (int cycle = 0; cycle < 3; ++cycle) {
        gst_harness_play(h.get());
        h.caps(image_info(16, 16, mri::SampleFormat::f32, cycle));
        ASSERT_EQ(h.push(buffer_of(ramp(16, 16))), GST_FLOW_OK);
        const bool centre = cycle == 2;
        EXPECT_EQ(gst_harness_buffers_in_queue(h.get()), centre ? 1u : 0u);
        while (gst_harness_buffers_in_queue(h.get()))
            expect_cut(values_of<float>(h.pull().get()), 4, 4, 8, 8);
        gst_element_set_state(h.parsed(), GST_STATE_READY);
        if (cycle == 1)
            gst_util_set_object_arg(G_OBJECT(h.element()), "mode", "centre");
    }
}

} // namespace
