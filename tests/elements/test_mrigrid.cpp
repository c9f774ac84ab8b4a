// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/running_background.hpp"
#include "plugins/math/transform/cuda/device.hpp"
#include "tests/support/kspace_support.hpp"

#include <algorithm>
#include <string>

using namespace mri;
using namespace mri::test;

namespace {

void set_caps(const Harness& h, const KspaceInfo& info) {
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
}
GstFlowReturn push(const Harness& h, GstPtr<GstBuffer> buffer) {
    return gst_harness_push(h.get(), buffer.release());
}
GstPtr<GstBuffer> pull(const Harness& h) {
    return adopt(gst_harness_try_pull(h.get()));
}
ImageInfo out_caps(const Harness& h) {
    auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    return caps ? ImageInfo::from_caps(caps.get()) : ImageInfo{};
}

/// pi |k| dk / spokes, 2 / pi^2 of the neighbour's at the centre, over the pixels: written out once more, in
/// double.
std::vector<double> ramp(const std::vector<float>& kxy, int samples, int spokes, int n) {
    std::vector<double> weights(kxy.size() / 2);
    const double dk = static_cast<double>(n) / samples;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double k = std::abs(static_cast<int>(i % samples) - samples / 2) * dk;
        weights[i] =
            std::numbers::pi * std::max(k, 2 / std::pow(std::numbers::pi, 2) * dk) * dk / spokes / (n * n);
    }
    return weights;
}

constexpr int n = 20;
constexpr int samples = 40;
constexpr int spokes = 7;

} // namespace

TEST(MriGrid, EachCoilIsTheAdjointTransform) {
    const auto kxy = spokes_of(3, spokes, samples, n);
    const auto data = random_values(3 * kxy.size() / 2, 1);
    for (const bool with_ramp : {false, true}) {
        auto h = harness(with_ramp ? "mrigrid combine=none" : "mrigrid combine=none density=none");
        set_caps(h, radial_info(n, samples, 3));
        ASSERT_EQ(push(h, kspace_frame(data, kxy, spokes, 5)), GST_FLOW_OK);
        const auto image = pull(h);
        ASSERT_TRUE(image);
        const auto expected =
            exact_adjoint(data, n, n, kxy, with_ramp ? ramp(kxy, samples, spokes, n) : std::vector<double>());
        // The default tolerance of the transform; float32 rounding is a hundredth of it.
        EXPECT_LT(relative_error(values_of<cfloat>(image.get()), expected), 5e-4);
        const ImageInfo info = out_caps(h);
        EXPECT_EQ(info.format, SampleFormat::c64);
        EXPECT_EQ(info.channels, 3);
        EXPECT_EQ(info.width, n);
        EXPECT_EQ(info.fov_x, 300);
        EXPECT_EQ(info.framerate, (Fraction{25, 1}));
        EXPECT_EQ(GST_BUFFER_PTS(image.get()), 200 * GST_MSECOND);
        EXPECT_EQ(GST_BUFFER_DURATION(image.get()), 40 * GST_MSECOND);
        ASSERT_EQ(readouts_of(image.get()).size(), static_cast<std::size_t>(spokes));
        EXPECT_EQ(readouts_of(image.get())[2].angle_index, 5 * spokes + 2);
    }
}

TEST(MriGrid, RootSumOfSquaresIsRealAndTheDefault) {
    const auto kxy = spokes_of(0, spokes, samples, n);
    const auto data = random_values(3 * kxy.size() / 2, 2);
    auto h = harness("mrigrid");
    set_caps(h, radial_info(n, samples, 3));
    ASSERT_EQ(push(h, kspace_frame(data, kxy, spokes)), GST_FLOW_OK);
    const auto coils = exact_adjoint(data, n, n, kxy, ramp(kxy, samples, spokes, n));
    std::vector<double> expected(n * n);
    for (std::size_t p = 0; p < expected.size(); ++p)
        expected[p] = std::sqrt(std::norm(cdouble(coils[p])) + std::norm(cdouble(coils[n * n + p])) +
                                std::norm(cdouble(coils[2 * n * n + p])));
    EXPECT_LT(relative_error(values_of<float>(pull(h).get()), expected), 5e-4);
    EXPECT_EQ(out_caps(h).format, SampleFormat::f32);
    EXPECT_EQ(out_caps(h).channels, 1);
}

TEST(MriGrid, FileDensityIsUsedAsItIs) {
    const auto kxy = spokes_of(0, spokes, samples, n);
    const auto data = random_values(kxy.size() / 2, 3);
    std::vector<float> density(kxy.size() / 2);
    std::vector<double> weights(density.size());
    for (std::size_t i = 0; i < density.size(); ++i) {
        density[i] = 0.1f + 0.01f * static_cast<float>(i % 17);
        weights[i] = static_cast<double>(density[i]) / (n * n);
    }
    auto h = harness("mrigrid combine=none density=file");
    BusWatch bus(h->element);
    set_caps(h, radial_info(n, samples));
    ASSERT_EQ(push(h, kspace_frame(data, kxy, spokes, 0, density)), GST_FLOW_OK);
    EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), exact_adjoint(data, n, n, kxy, weights)),
              5e-4);
    EXPECT_EQ(push(h, kspace_frame(data, kxy, spokes, 1)), GST_FLOW_ERROR);
    ASSERT_EQ(bus.errors().size(), 1u);
    EXPECT_NE(bus.errors()[0].find("density"), std::string::npos);
}

TEST(MriGrid, CartesianFrameIsTheInverseFourierTransformOfTheCentralColumns) {
    // Readout oversampled twice over 2 x 12 = 24 columns; the object fills them, and the outer ones must go.
    const int width = 12, height = 10, coils = 3;
    const auto wide = random_values(static_cast<std::size_t>(coils) * 2 * width * height, 4);
    KspaceInfo info = radial_info(n, 2 * width, coils);
    info.width = width;
    info.height = height;
    info.trajectory = Trajectory::cartesian;
    info.encoded_width = 2 * width;
    info.encoded_height = height;
    info.encoded_fov_x = 600;
    info.encoded_fov_y = 300;
    std::vector<float> of_file, of_frame;
    for (int line : {7, 1, 2, 3, 9, 5, 6, 0, 8, 4}) {
        std::vector<float> k(2 * 2 * width);
        cartesian_line(line, height, 2 * width, 2 * width, k.data()); // cycles per encoded field of view
        of_file.insert(of_file.end(), k.begin(), k.end());
        for (int i = 0; i < 2 * width; ++i)
            k[2 * i] /= 2;
        of_frame.insert(of_frame.end(), k.begin(), k.end());
    }
    const auto data = exact_forward(wide, 2 * width, height, of_file);
    std::vector<cfloat> expected;
    for (int c = 0; c < coils; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = width / 2; x < width / 2 + width; ++x)
                expected.push_back(wide[(static_cast<std::size_t>(c) * height + y) * 2 * width + x]);
    auto h = harness("mrigrid combine=none");
    set_caps(h, info);
    ASSERT_EQ(push(h, kspace_frame(data, of_frame, height)), GST_FLOW_OK);
    // float32 all the way: samples of 240 pixels, an FFT of 240.
    EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), expected), 2e-6);

    // A line that is not there is zero: the same as the exact adjoint of the others.
    const std::size_t line = static_cast<std::size_t>(2) * 2 * width;
    std::vector<float> fewer(of_frame.begin() + line, of_frame.end());
    std::vector<float> fewer_file(of_file.begin() + line, of_file.end());
    const auto fewer_data = exact_forward(wide, 2 * width, height, fewer_file);
    const auto zero_filled =
        exact_adjoint(fewer_data, 2 * width, height, fewer_file,
                      std::vector<double>(fewer_file.size() / 2, 1.0 / (2 * width * height)));
    expected.clear();
    for (int c = 0; c < coils; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = width / 2; x < width / 2 + width; ++x)
                expected.push_back(zero_filled[(static_cast<std::size_t>(c) * height + y) * 2 * width + x]);
    ASSERT_EQ(push(h, kspace_frame(fewer_data, fewer, height - 1, 1)), GST_FLOW_OK);
    EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), expected), 2e-6);

    // A line measured twice counts once.
    std::vector<float> twice = of_frame;
    twice.insert(twice.end(), of_frame.begin(), of_frame.begin() + line);
    std::vector<float> twice_file = of_file;
    twice_file.insert(twice_file.end(), of_file.begin(), of_file.begin() + line);
    ASSERT_EQ(push(h, kspace_frame(exact_forward(wide, 2 * width, height, twice_file), twice, height + 1, 2)),
              GST_FLOW_OK);
    expected.clear();
    for (int c = 0; c < coils; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = width / 2; x < width / 2 + width; ++x)
                expected.push_back(wide[(static_cast<std::size_t>(c) * height + y) * 2 * width + x]);
    EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), expected), 2e-6);
}

TEST(MriGrid, AdaptiveCombinationKeepsThePhaseAndStartsAnewWithThePlane) {
    const int size = 32, many = 60, coils = 4;
    const auto truth = discs(size, 5);
    const auto maps = synthetic_sensitivities(coils, size, size, 2);
    const auto images = seen_by(maps, truth);
    const auto kxy = spokes_of(0, many, 2 * size, size);
    const auto data = exact_forward(images, size, size, kxy);
    // Another plane: the coils in another order.
    std::vector<cfloat> turned = data;
    std::rotate(turned.begin(), turned.begin() + kxy.size() / 2, turned.end());

    auto h = harness("mrigrid combine=adaptive");
    set_caps(h, radial_info(size, 2 * size, coils));
    ASSERT_EQ(push(h, kspace_frame(data, kxy, many, 0)), GST_FLOW_OK);
    const auto first = values_of<cfloat>(pull(h).get());
    EXPECT_EQ(out_caps(h).format, SampleFormat::c64);
    EXPECT_EQ(out_caps(h).channels, 1);
    double error = 0, power = 0;
    for (std::size_t p = 0; p < truth.size(); ++p) {
        error += std::pow(std::abs(first[p]) - std::abs(truth[p]), 2);
        power += std::norm(truth[p]);
    }
    // 60 spokes are 1.2 times a full set: what is left is gridding's own error and that of the estimated
    // maps.
    EXPECT_LT(std::sqrt(error / power), 0.1);

    auto moved = kspace_frame(turned, kxy, many, 1);
    std::vector<Readout> heads(many);
    for (Readout& head : heads)
        head.position = {0, 0, 8};
    add_readouts(moved.get(), heads);
    ASSERT_EQ(push(h, moved), GST_FLOW_OK);
    const auto second = values_of<cfloat>(pull(h).get());
    auto fresh = harness("mrigrid combine=adaptive");
    set_caps(fresh, radial_info(size, 2 * size, coils));
    ASSERT_EQ(push(fresh, kspace_frame(turned, kxy, many, 1)), GST_FLOW_OK);
    EXPECT_EQ(second, values_of<cfloat>(pull(fresh).get()));
}

TEST(MriGrid, SideDataRidesAlongAndOutlivesThePipeline) {
    const auto kxy = spokes_of(0, spokes, samples, n);
    const auto data = random_values(kxy.size() / 2, 5);
    GstPtr<GstBuffer> image;
    {
        auto h = harness("mrigrid attach-kspace=true");
        set_caps(h, radial_info(n, samples));
        auto frame = kspace_frame(data, kxy, spokes);
        ImageInfo truth;
        truth.width = truth.height = n;
        add_side(frame.get(), Role::truth, buffer_of(std::vector<float>(n * n, 0.5f)).get(),
                 truth.to_caps().get());
        ASSERT_EQ(push(h, std::move(frame)), GST_FLOW_OK);
        image = pull(h);
    }
    ASSERT_TRUE(image);
    EXPECT_TRUE(side_of(image.get(), Role::truth));
    GstSample* kspace = side_of(image.get(), Role::kspace);
    ASSERT_TRUE(kspace);
    EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(kspace)), data);
    EXPECT_EQ(KspaceInfo::from_caps(gst_sample_get_caps(kspace)).samples, samples);
    EXPECT_TRUE(trajectory_of(gst_sample_get_buffer(kspace)));
}

TEST(MriGrid, SensitivitiesRideAlongAndAreSharedWhileTheyStay) {
    const int size = 32, coils = 3, few = 9;
    const auto truth = discs(size, 5);
    const auto maps = synthetic_sensitivities(coils, size, size, 2);
    const auto images = seen_by(maps, truth);
    auto h = harness("mrigrid combine=adaptive attach-sensitivities=true");
    auto plain = harness("mrigrid combine=none");
    set_caps(h, radial_info(size, 2 * size, coils, 4));
    set_caps(plain, radial_info(size, 2 * size, coils, 4));
    std::vector<GstPtr<GstBuffer>> out;
    for (int f = 0; f < 5; ++f) {
        const auto kxy = spokes_of(f * few, few, 2 * size, size);
        const auto data = exact_forward(images, size, size, kxy);
        ASSERT_EQ(push(h, kspace_frame(data, kxy, few, f)), GST_FLOW_OK);
        ASSERT_EQ(push(plain, kspace_frame(data, kxy, few, f)), GST_FLOW_OK);
        out.push_back(pull(h));
        GstSample* sample = side_of(out.back().get(), Role::sensitivities);
        ASSERT_TRUE(sample);
        const ImageInfo info = ImageInfo::from_caps(gst_sample_get_caps(sample));
        EXPECT_EQ(info.format, SampleFormat::c64);
        EXPECT_EQ(info.channels, coils);
        EXPECT_EQ(info.width, size);
        EXPECT_EQ(info.fov_y, 300);
        EXPECT_EQ(info.series, 4);
        // The image is the coils' images by just these sensitivities.
        const auto seen = values_of<cfloat>(gst_sample_get_buffer(sample));
        const auto each = values_of<cfloat>(pull(plain).get());
        std::vector<cfloat> combined(truth.size());
        combine_coils(each.data(), seen.data(), coils, truth.size(), combined.data());
        EXPECT_LT(relative_error(values_of<cfloat>(out.back().get()), combined), 3e-6);
    }
    const auto buffer = [&](std::size_t i) {
        return gst_sample_get_buffer(side_of(out[i].get(), Role::sensitivities));
    };
    // Made after 1, 2 and 4 frames.
    EXPECT_NE(buffer(0), buffer(1));
    EXPECT_EQ(buffer(1), buffer(2));
    EXPECT_NE(buffer(2), buffer(3));
    EXPECT_EQ(buffer(3), buffer(4));

    auto one = harness("mrigrid combine=adaptive attach-sensitivities=true");
    set_caps(one, radial_info(n, samples));
    const auto kxy = spokes_of(0, spokes, samples, n);
    ASSERT_EQ(push(one, kspace_frame(random_values(kxy.size() / 2, 6), kxy, spokes)), GST_FLOW_OK);
    const auto image = pull(one);
    GstSample* sample = side_of(image.get(), Role::sensitivities);
    ASSERT_TRUE(sample);
    EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(sample)), std::vector<cfloat>(n * n, cfloat(1)));
}

TEST(MriGrid, SensitivitiesThatNobodyMakesCannotBeAttached) {
    auto element = adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mrigrid", nullptr))));
    g_object_set(element.get(), "attach-sensitivities", TRUE, nullptr);
    {
        BusWatch bus(element.get());
        EXPECT_EQ(gst_element_set_state(element.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        ASSERT_EQ(bus.errors().size(), 1u);
        EXPECT_NE(bus.errors()[0].find("combine=adaptive"), std::string::npos) << bus.errors()[0];
    }
    gst_element_set_state(element.get(), GST_STATE_NULL);
}

TEST(MriGrid, NewCapsMidStreamAndFlush) {
    auto h = harness("mrigrid combine=none");
    const auto kxy = spokes_of(0, spokes, samples, n);
    for (const int coils : {1, 4, 2}) {
        set_caps(h, radial_info(n, samples, coils, coils));
        ASSERT_EQ(push(h, kspace_frame(random_values(coils * kxy.size() / 2, 7), kxy, spokes)), GST_FLOW_OK);
        EXPECT_EQ(gst_buffer_get_size(pull(h).get()), coils * n * n * sizeof(cfloat));
        EXPECT_EQ(out_caps(h).channels, coils);
        EXPECT_EQ(out_caps(h).series, coils);
    }
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    ASSERT_EQ(push(h, kspace_frame(random_values(kxy.size(), 8), kxy, spokes)), GST_FLOW_OK);
    EXPECT_TRUE(pull(h));
}

TEST(MriGrid, WhatIsWrongIsOneError) {
    const auto kxy = spokes_of(0, spokes, samples, n);
    auto good = random_values(kxy.size() / 2, 6);
    const auto check = [&](GstPtr<GstBuffer> frame, const char* word) {
        auto h = harness("mrigrid");
        BusWatch bus(h->element);
        set_caps(h, radial_info(n, samples));
        EXPECT_EQ(push(h, std::move(frame)), GST_FLOW_ERROR);
        EXPECT_EQ(push(h, buffer_of(good)), GST_FLOW_ERROR);
        ASSERT_EQ(bus.errors().size(), 1u) << word;
        EXPECT_NE(bus.errors()[0].find(word), std::string::npos) << bus.errors()[0];
    };
    check(buffer_of(good), "trajectory");
    check(kspace_frame(std::vector<cfloat>(good.begin(), good.end() - samples), kxy, spokes), "trajectory");
    check(buffer_of(std::vector<cfloat>(samples + 1)), "whole number");
    auto bad = good;
    bad[77] = {NAN, 0};
    check(kspace_frame(bad, kxy, spokes), "not finite");
    auto nowhere = kxy;
    nowhere[5] = INFINITY;
    check(kspace_frame(good, nowhere, spokes), "not finite");
}

TEST(MriGrid, ADeviceThatIsNotThereIsSaidBeforeTheFirstBuffer) {
    auto element = adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mrigrid", nullptr))));
    const std::string device = "cuda:" + std::to_string(CudaNufft::devices());
    g_object_set(element.get(), "device", device.c_str(), nullptr);
    {
        BusWatch bus(element.get());
        EXPECT_EQ(gst_element_set_state(element.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        ASSERT_EQ(bus.errors().size(), 1u);
        EXPECT_NE(bus.errors()[0].find("CUDA"), std::string::npos) << bus.errors()[0];
        gst_element_set_state(element.get(), GST_STATE_NULL);
        g_object_set(element.get(), "device", "abacus", nullptr);
        EXPECT_EQ(gst_element_set_state(element.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        ASSERT_EQ(bus.errors().size(), 2u);
        EXPECT_NE(bus.errors()[1].find("abacus"), std::string::npos) << bus.errors()[1];
    }
    gst_element_set_state(element.get(), GST_STATE_NULL);
}

TEST(MriGrid, StatesGoUpAndDown) {
    EXPECT_TRUE(cycle_states("mrigrid").empty());
}

TEST(MriGrid, ARunningBackgroundBeginsAnewWithASeriesAfterAGapAndAfterAFlush) {
    const auto frame = [](int number) {
        return kspace_frame(random_values(2 * spokes * samples, 10 + number),
                            spokes_of(number, spokes, samples, n), spokes, number);
    };
    // What the library makes of two frames, one after the other, with mrirecon's strips.
    ReconstructionSpace space;
    space.width = space.height = n;
    space.coils = 2;
    space.strip_limit = 2;
    RunningBackground running(space, Combine::rss, 3);
    const auto expected = [&](int number) {
        const auto kxy = spokes_of(number, spokes, samples, n);
        const auto data = random_values(2 * kxy.size() / 2, 10 + number);
        std::vector<cfloat> image(n * n);
        running.reconstruct({kxy, data, {}, spokes}, image.data());
        std::vector<float> real;
        for (const cfloat& value : image)
            real.push_back(value.real());
        return real;
    };
    const auto first = expected(0);
    const auto second = expected(1);
    EXPECT_NE((running.forget(), expected(1)), second) << "the background does not count: no test at all";

    auto h = harness("mrigrid background=3");
    set_caps(h, radial_info(n, samples, 2));
    const auto expect_both = [&](GstPtr<GstBuffer> begin) {
        ASSERT_EQ(push(h, std::move(begin)), GST_FLOW_OK);
        ASSERT_EQ(push(h, frame(1)), GST_FLOW_OK);
        EXPECT_EQ(values_of<float>(pull(h).get()), first);
        EXPECT_EQ(values_of<float>(pull(h).get()), second);
    };
    expect_both(frame(0));
    auto gap = frame(0);
    GST_BUFFER_FLAG_SET(gap.get(), GST_BUFFER_FLAG_DISCONT);
    expect_both(std::move(gap));
    auto info = radial_info(n, samples, 2);
    info.series = 1;
    set_caps(h, info);
    expect_both(frame(0));
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    expect_both(frame(0));
}

TEST(MriGrid, ARunningBackgroundTellsItsSensitivities) {
    const int size = 32, coils = 3, few = 9;
    const auto truth = discs(size, 5);
    const auto maps = synthetic_sensitivities(coils, size, size, 2);
    const auto images = seen_by(maps, truth);
    auto h = harness("mrigrid background=5 combine=adaptive attach-sensitivities=true");
    auto each = harness("mrigrid background=5 combine=none");
    for (auto* one : {&h, &each})
        set_caps(*one, radial_info(size, 2 * size, coils, 4));
    for (int f = 0; f < 5; ++f) {
        const auto kxy = spokes_of(f * few, few, 2 * size, size);
        const auto data = exact_forward(images, size, size, kxy);
        for (auto* one : {&h, &each})
            ASSERT_EQ(push(*one, kspace_frame(data, kxy, few, f)), GST_FLOW_OK);
        const auto out = pull(h);
        GstSample* sample = side_of(out.get(), Role::sensitivities);
        ASSERT_TRUE(sample);
        EXPECT_EQ(ImageInfo::from_caps(gst_sample_get_caps(sample)).channels, coils);
        const auto seen = values_of<cfloat>(gst_sample_get_buffer(sample));
        const auto apart = values_of<cfloat>(pull(each).get());
        std::vector<cfloat> combined(truth.size());
        combine_coils(apart.data(), seen.data(), coils, truth.size(), combined.data());
        EXPECT_LT(relative_error(values_of<cfloat>(out.get()), combined), 1e-5) << f;
    }
}

TEST(MriGrid, ARunningBackgroundThatCannotBeIsOneError) {
    auto h = harness("mrigrid background=5");
    BusWatch bus(h->element);
    auto cartesian = radial_info(n, samples, 1);
    cartesian.trajectory = Trajectory::cartesian;
    set_caps(h, cartesian);
    EXPECT_EQ(
        push(h, kspace_frame(random_values(spokes * samples, 1), spokes_of(0, spokes, samples, n), spokes)),
        GST_FLOW_NOT_NEGOTIATED);
    ASSERT_EQ(bus.errors().size(), 1U);
    EXPECT_NE(bus.errors()[0].find("Cartesian"), std::string::npos) << bus.errors()[0];
}

// A frame of samples as large as float32 has them: its sum is not finite.
TEST(MriGrid, AnImageThatIsNotFiniteIsMarkedAndTold) {
    const auto kxy = spokes_of(0, spokes, samples, n);
    const std::vector<cfloat> huge(kxy.size() / 2, cfloat(3e38F, 0));
    auto h = harness("mrigrid combine=none density=none");
    set_caps(h, radial_info(n, samples, 1));
    BusWatch bus(h->element);
    for (int i = 0; i < 2; ++i) {
        ASSERT_EQ(push(h, kspace_frame(huge, kxy, spokes)), GST_FLOW_OK);
        const auto image = pull(h);
        ASSERT_TRUE(image);
        EXPECT_TRUE(GST_BUFFER_FLAG_IS_SET(image.get(), GST_BUFFER_FLAG_CORRUPTED));
    }
    ASSERT_EQ(push(h, kspace_frame(random_values(kxy.size() / 2, 1), kxy, spokes)), GST_FLOW_OK);
    EXPECT_FALSE(GST_BUFFER_FLAG_IS_SET(pull(h).get(), GST_BUFFER_FLAG_CORRUPTED));
    const auto warnings = bus.warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("not finite"), std::string::npos);

    auto stopping = harness("mrigrid combine=none density=none on-bad-image=stop");
    set_caps(stopping, radial_info(n, samples, 1));
    BusWatch stopping_bus(stopping->element);
    EXPECT_EQ(push(stopping, kspace_frame(huge, kxy, spokes)), GST_FLOW_ERROR);
    ASSERT_EQ(stopping_bus.errors().size(), 1u);
}
