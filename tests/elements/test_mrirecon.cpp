// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/reconstruct.hpp"
#include "tests/support/kspace_support.hpp"

#include <algorithm>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int n = 16;
constexpr int samples = 32;
constexpr int spokes = 5;

void set_caps(const Harness& h, const KspaceInfo& info) {
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
}
GstFlowReturn push(const Harness& h, GstPtr<GstBuffer> buffer) {
    return gst_harness_push(h.get(), buffer.release());
}
GstPtr<GstBuffer> pull(const Harness& h) {
    return adopt(gst_harness_try_pull(h.get()));
}
void eos(const Harness& h) {
    gst_harness_push_event(h.get(), gst_event_new_eos());
}

std::vector<float> trajectory(int frame) {
    return spokes_of(frame * spokes, spokes, samples, n);
}
double radius(int frame) {
    return 3 + 0.5 * std::sin(frame);
}

GstPtr<GstBuffer> moving_frame(int frame) {
    const auto kxy = trajectory(frame);
    return kspace_frame(exact_forward(discs(n, radius(frame)), n, n, kxy), kxy, spokes, frame);
}

/// min(limit, pi |k| / spokes) dk, the centre's |k| being 2 / pi^2 dk, over the pixels.
std::vector<double> clipped(std::size_t points, int all_spokes, double limit) {
    std::vector<double> weights(points);
    const double dk = static_cast<double>(n) / samples;
    for (std::size_t i = 0; i < points; ++i) {
        const double k = std::max(std::abs(static_cast<int>(i % samples) - samples / 2) * dk,
                                  2 / std::pow(std::numbers::pi, 2) * dk);
        weights[i] = std::min(limit, std::numbers::pi * k / all_spokes) * dk / (n * n);
    }
    return weights;
}

/// The same reconstruction written out with exact transforms: conjugate gradients from zero, then the
/// residual.
std::vector<std::vector<cfloat>> expected_window(const std::vector<int>& frames, int iterations,
                                                 double limit = 2) {
    std::vector<float> all;
    std::vector<cfloat> data;
    for (const int f : frames) {
        const auto kxy = trajectory(f);
        const auto y = exact_forward(discs(n, radius(f)), n, n, kxy);
        all.insert(all.end(), kxy.begin(), kxy.end());
        data.insert(data.end(), y.begin(), y.end());
    }
    const auto weights = clipped(data.size(), spokes * static_cast<int>(frames.size()), limit);
    const auto dot = [](const std::vector<cfloat>& a, const std::vector<cfloat>& b) {
        double sum = 0;
        for (std::size_t i = 0; i < a.size(); ++i)
            sum += (cdouble(a[i]) * std::conj(cdouble(b[i]))).real();
        return sum;
    };
    std::vector<cfloat> mean(n * n);
    std::vector<cfloat> rest = exact_adjoint(data, n, n, all, weights);
    std::vector<cfloat> direction = rest;
    double power = dot(rest, rest);
    for (int k = 0; k < iterations; ++k) {
        const auto product = exact_adjoint(exact_forward(direction, n, n, all), n, n, all, weights);
        const float step = static_cast<float>(power / dot(direction, product));
        for (std::size_t p = 0; p < mean.size(); ++p) {
            mean[p] += step * direction[p];
            rest[p] -= step * product[p];
        }
        const double next = dot(rest, rest);
        for (std::size_t p = 0; p < mean.size(); ++p)
            direction[p] = rest[p] + static_cast<float>(next / power) * direction[p];
        power = next;
    }
    std::vector<std::vector<cfloat>> images;
    for (std::size_t f = 0; f < frames.size(); ++f) {
        const auto kxy = trajectory(frames[f]);
        auto residual = exact_forward(discs(n, radius(frames[f])), n, n, kxy);
        const auto of_mean = exact_forward(mean, n, n, kxy);
        for (std::size_t i = 0; i < residual.size(); ++i)
            residual[i] -= of_mean[i];
        auto image = exact_adjoint(residual, n, n, kxy, clipped(residual.size(), spokes, limit));
        for (std::size_t p = 0; p < image.size(); ++p)
            image[p] += mean[p];
        images.push_back(std::move(image));
    }
    return images;
}

} // namespace

TEST(MriRecon, AWindowIsItsBackgroundAndEachFramesResidual) {
    auto h = harness("mrirecon window=4 iterations=3 strip-limit=1");
    set_caps(h, radial_info(n, samples));
    for (int f = 0; f < 4; ++f) {
        EXPECT_FALSE(pull(h)) << "a window was emitted early";
        ASSERT_EQ(push(h, moving_frame(f)), GST_FLOW_OK);
    }
    const auto expected = expected_window({0, 1, 2, 3}, 3, 1);
    for (int f = 0; f < 4; ++f) {
        const auto image = pull(h);
        ASSERT_TRUE(image);
        // Six transforms of 5e-4 each in the conjugate gradients, two after them.
        EXPECT_LT(relative_error(values_of<cfloat>(image.get()), expected[f]), 8 * 5e-4) << f;
        EXPECT_EQ(GST_BUFFER_PTS(image.get()), f * 40 * GST_MSECOND);
        EXPECT_EQ(GST_BUFFER_DURATION(image.get()), 40 * GST_MSECOND);
        EXPECT_EQ(readouts_of(image.get())[1].angle_index, f * spokes + 1);
    }
    auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    const ImageInfo info = ImageInfo::from_caps(caps.get());
    EXPECT_EQ(info.format, SampleFormat::c64);
    EXPECT_EQ(info.channels, 1);
    EXPECT_EQ(info.width, n);
}

TEST(MriRecon, HopsAndTheEndGiveEachFrameOnce) {
    auto h = harness("mrirecon window=4 hop=2 iterations=2");
    set_caps(h, radial_info(n, samples));
    for (int f = 0; f < 7; ++f)
        ASSERT_EQ(push(h, moving_frame(f)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 5u); // 0..2 of the first window, 3 and 4 of the second
    eos(h);
    ASSERT_EQ(gst_harness_buffers_received(h.get()), 7u);
    const auto second = expected_window({2, 3, 4, 5}, 2);
    for (int f = 0; f < 7; ++f) {
        const auto image = pull(h);
        EXPECT_EQ(GST_BUFFER_PTS(image.get()), f * 40 * GST_MSECOND);
        if (f == 3 || f == 4) {
            EXPECT_LT(relative_error(values_of<cfloat>(image.get()), second[f - 2]), 6 * 5e-4) << f;
        }
    }
}

TEST(MriRecon, AShortSeriesIsPaddedWithItsEdges) {
    auto h = harness("mrirecon window=4 iterations=2");
    set_caps(h, radial_info(n, samples));
    ASSERT_EQ(push(h, moving_frame(0)), GST_FLOW_OK);
    ASSERT_EQ(push(h, moving_frame(1)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 0u);
    eos(h);
    ASSERT_EQ(gst_harness_buffers_received(h.get()), 2u);
    const auto expected = expected_window({0, 0, 1, 1}, 2);
    EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), expected[1]), 6 * 5e-4);
    EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), expected[2]), 6 * 5e-4);
}

// GStreamer's memory can be mapped 255 times; more is a critical, which ends the program here.
TEST(MriRecon, AFrameThatFillsALongWindowIsMappedOnce) {
    const auto before =
        g_log_set_always_fatal(static_cast<GLogLevelFlags>(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL));
    auto h = harness("mrirecon window=600 iterations=1");
    set_caps(h, radial_info(n, samples));
    ASSERT_EQ(push(h, moving_frame(0)), GST_FLOW_OK);
    eos(h);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 1u);
    g_log_set_always_fatal(before);
}

TEST(MriRecon, ANewSeriesDrainsAndAFlushForgets) {
    auto h = harness("mrirecon window=3");
    set_caps(h, radial_info(n, samples, 1, 0));
    ASSERT_EQ(push(h, moving_frame(0)), GST_FLOW_OK);
    ASSERT_EQ(push(h, moving_frame(1)), GST_FLOW_OK);
    set_caps(h, radial_info(n, samples, 1, 1));
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 2u);
    ASSERT_EQ(push(h, moving_frame(2)), GST_FLOW_OK);
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    for (int f = 3; f < 6; ++f)
        ASSERT_EQ(push(h, moving_frame(f)), GST_FLOW_OK);
    eos(h);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 5u) << "frame 2 was flushed, the others come once";
    auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    EXPECT_EQ(ImageInfo::from_caps(caps.get()).series, 1);
}

TEST(MriRecon, LostDataEndAWindow) {
    auto h = harness("mrirecon window=3");
    set_caps(h, radial_info(n, samples));
    ASSERT_EQ(push(h, moving_frame(0)), GST_FLOW_OK);
    auto frame = moving_frame(5);
    GST_BUFFER_FLAG_SET(frame.get(), GST_BUFFER_FLAG_DISCONT);
    ASSERT_EQ(push(h, std::move(frame)), GST_FLOW_OK);
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 1u);
}

TEST(MriRecon, LatencyIsUnknownAndThenTheWindows) {
    auto h = harness("mrirecon window=4");
    auto query = adopt(gst_query_new_latency());
    EXPECT_FALSE(gst_pad_peer_query(h->sinkpad, query.get()));
    set_caps(h, radial_info(n, samples));
    EXPECT_EQ(gst_harness_query_latency(h.get()), 3 * 40 * GST_MSECOND);
    // A live source: the measured time of a window comes on top, and less than a frame's time of it here.
    ASSERT_EQ(push(h, moving_frame(0)), GST_FLOW_OK);
    const GstClockTime live = gst_harness_query_latency(h.get());
    EXPECT_GT(live, 3 * 40 * GST_MSECOND);
    EXPECT_LT(live, 3 * 40 * GST_MSECOND + GST_SECOND);
}

TEST(MriRecon, CoilsAreCombinedByTheBackgroundsSensitivities) {
    const int size = 32, coils = 4, each = 15;
    const auto truth = discs(size, 5);
    const auto maps = synthetic_sensitivities(coils, size, size, 2);
    const auto images = seen_by(maps, truth);
    for (const char* combine : {"adaptive", "rss", "none"}) {
        auto h = harness(std::string("mrirecon window=4 iterations=10 combine=") + combine);
        set_caps(h, radial_info(size, 2 * size, coils));
        for (int f = 0; f < 4; ++f) {
            const auto kxy = spokes_of(f * each, each, 2 * size, size);
            ASSERT_EQ(push(h, kspace_frame(exact_forward(images, size, size, kxy), kxy, each, f)),
                      GST_FLOW_OK);
        }
        const auto image = pull(h);
        ASSERT_TRUE(image);
        std::vector<float> magnitude;
        if (std::string(combine) == "rss") {
            magnitude = values_of<float>(image.get());
        } else {
            const auto values = values_of<cfloat>(image.get());
            if (std::string(combine) == "none") {
                // 60 spokes: 1.2 times a full set of 32 pixels.
                EXPECT_LT(relative_error(values, images), 0.03);
                continue;
            }
            for (const cfloat& value : values)
                magnitude.push_back(std::abs(value));
        }
        std::vector<float> expected;
        for (const cfloat& value : truth)
            expected.push_back(std::abs(value));
        EXPECT_LT(relative_error(magnitude, expected), 0.03) << combine;
    }
}

TEST(MriRecon, CartesianFramesThatShareTheLinesAreSolvedToo) {
    const auto truth = discs(n, 3);
    KspaceInfo info = radial_info(n, n);
    info.trajectory = Trajectory::cartesian;
    auto h = harness("mrirecon window=4");
    set_caps(h, info);
    for (int f = 0; f < 4; ++f) {
        std::vector<float> kxy;
        for (int line = f; line < n; line += 4) {
            std::vector<float> one(2 * n);
            cartesian_line(line, n, n, n, one.data());
            kxy.insert(kxy.end(), one.begin(), one.end());
        }
        ASSERT_EQ(push(h, kspace_frame(exact_forward(truth, n, n, kxy), kxy, n / 4, f)), GST_FLOW_OK);
    }
    for (int f = 0; f < 4; ++f)
        // Every line once: the transform is orthogonal, and one step of conjugate gradients is exact.
        EXPECT_LT(relative_error(values_of<cfloat>(pull(h).get()), truth), 2e-3);
}

TEST(MriRecon, TemporalVariationFollowsMotionMoreClosely) {
    double error[2] = {0, 0};
    for (const bool tv : {false, true}) {
        auto h = harness(tv ? "mrirecon window=12 method=tv" : "mrirecon window=12");
        set_caps(h, radial_info(n, samples));
        for (int f = 0; f < 12; ++f)
            ASSERT_EQ(push(h, moving_frame(f)), GST_FLOW_OK);
        for (int f = 0; f < 12; ++f) {
            const auto image = pull(h);
            ASSERT_TRUE(image);
            error[tv] += relative_error(values_of<cfloat>(image.get()), discs(n, radius(f))) / 12;
        }
    }
    EXPECT_LT(error[1], 0.8 * error[0]) << error[1] << " against " << error[0];
    auto h = harness("mrirecon window=2 method=tv combine=rss");
    BusWatch bus(h->element);
    set_caps(h, radial_info(n, samples, 2));
    EXPECT_NE(push(h, buffer_of(std::vector<cfloat>(2 * spokes * samples))), GST_FLOW_OK);
    ASSERT_EQ(bus.errors().size(), 1u);
    EXPECT_NE(bus.errors()[0].find("combine"), std::string::npos);
}

namespace {

constexpr int ring = 4;

/// [coil][spoke][sample] of a moving frame, seen by a ring of four coils.
std::vector<cfloat> ring_data(int frame) {
    static const auto maps = synthetic_sensitivities(ring, n, n, 2);
    const auto object = discs(n, radius(frame));
    std::vector<cfloat> images(maps);
    for (std::size_t i = 0; i < images.size(); ++i)
        images[i] *= object[i % object.size()];
    return exact_forward(images, n, n, trajectory(frame));
}

std::vector<cfloat> sensitivities_of(GstBuffer* image) {
    GstSample* sample = side_of(image, Role::sensitivities);
    if (!sample)
        return {};
    EXPECT_EQ(ImageInfo::from_caps(gst_sample_get_caps(sample)).channels, ring);
    return values_of<cfloat>(gst_sample_get_buffer(sample));
}

} // namespace

TEST(MriRecon, SenseSolvesEachFramesEquations) {
    for (const double l2 : {0.02, 0.2}) {
        auto h = harness("mrirecon method=sense window=3 start=zero strip-limit=1 tolerance=1e-5 "
                         "sense-iterations=200 attach-sensitivities=true l2=" +
                         std::to_string(l2));
        set_caps(h, radial_info(n, samples, ring));
        for (int f = 0; f < 3; ++f)
            ASSERT_EQ(push(h, kspace_frame(ring_data(f), trajectory(f), spokes, f)), GST_FLOW_OK);
        for (int f = 0; f < 3; ++f) {
            const auto out = pull(h);
            ASSERT_TRUE(out);
            EXPECT_EQ(GST_BUFFER_PTS(out.get()), f * 40 * GST_MSECOND);
            const auto image = values_of<cfloat>(out.get());
            const auto maps = sensitivities_of(out.get());
            ASSERT_EQ(image.size(), static_cast<std::size_t>(n) * n);
            ASSERT_EQ(maps.size(), ring * image.size());
            // sum over c of S_c^H A^H W (y_c - A S_c x) - l2 x, written out with exact transforms.
            const auto kxy = trajectory(f);
            const auto weights = clipped(kxy.size() / 2, spokes, 1);
            const auto combined = [&](const std::vector<cfloat>& data) {
                const auto each = exact_adjoint(data, n, n, kxy, weights);
                std::vector<cdouble> sum(image.size());
                for (std::size_t i = 0; i < each.size(); ++i)
                    sum[i % sum.size()] += std::conj(cdouble(maps[i])) * cdouble(each[i]);
                return sum;
            };
            std::vector<cfloat> seen(maps);
            for (std::size_t i = 0; i < seen.size(); ++i)
                seen[i] *= image[i % image.size()];
            const auto data = ring_data(f);
            auto rest = exact_forward(seen, n, n, kxy);
            for (std::size_t i = 0; i < rest.size(); ++i)
                rest[i] = data[i] - rest[i];
            const auto right = combined(data);
            const auto left = combined(rest);
            double error = 0, power = 0;
            for (std::size_t p = 0; p < image.size(); ++p) {
                error += std::norm(left[p] - l2 * cdouble(image[p]));
                power += std::norm(right[p]);
            }
            // Steps end at 1e-5 of the right side; the transforms are good to 1e-5 each, and what they carry
            // from step to step grows by the square root of the condition, here at most 7.
            EXPECT_LT(std::sqrt(error / power), 1e-4) << l2 << " " << f;
        }
    }
}

TEST(MriRecon, SenseFrameByFrameAveragesItsSensitivities) {
    auto h = harness("mrirecon method=sense window=1 attach-sensitivities=true");
    set_caps(h, radial_info(n, samples, ring));
    // What images without streaks and motion would give.
    auto images = synthetic_sensitivities(ring, n, n, 2);
    const auto object = discs(n, 3);
    for (std::size_t i = 0; i < images.size(); ++i)
        images[i] *= object[i % object.size()];
    std::vector<cfloat> ideal(images.size());
    estimate_sensitivities(images.data(), ring, n, n, ideal.data());
    std::vector<double> miss;
    for (int f = 0; f < 16; ++f) {
        ASSERT_EQ(push(h, kspace_frame(ring_data(f), trajectory(f), spokes, f)), GST_FLOW_OK);
        const auto out = pull(h);
        ASSERT_TRUE(out) << "no latency with a window of one frame";
        const auto maps = sensitivities_of(out.get());
        double sum = 0, count = 0;
        for (int p = 0; p < n * n; ++p)
            if (std::hypot(p % n - n / 2, 1.2 * (p / n - n / 2)) < 0.35 * n) {
                cdouble product = 0;
                for (int c = 0; c < ring; ++c)
                    product += std::conj(cdouble(maps[c * n * n + p])) * cdouble(ideal[c * n * n + p]);
                sum += 1 - std::abs(product);
                ++count;
            }
        miss.push_back(sum / count);
    }
    // Streaks of one frame are in its maps; those of 16 frames cancel.
    EXPECT_LT(miss.back(), 0.5 * miss.front()) << miss.front() << " " << miss.back();

    // Another plane: coils in another order. It starts anew.
    auto turned = ring_data(16);
    std::rotate(turned.begin(), turned.begin() + spokes * samples, turned.end());
    auto moved = kspace_frame(turned, trajectory(16), spokes, 16);
    std::vector<Readout> heads(spokes);
    for (Readout& head : heads)
        head.slice_dir = {0, 1, 0};
    add_readouts(moved.get(), heads);
    ASSERT_EQ(push(h, std::move(moved)), GST_FLOW_OK);
    auto fresh = harness("mrirecon method=sense window=1 attach-sensitivities=true");
    set_caps(fresh, radial_info(n, samples, ring));
    ASSERT_EQ(push(fresh, kspace_frame(turned, trajectory(16), spokes, 16)), GST_FLOW_OK);
    const auto anew = pull(h), expected = pull(fresh);
    EXPECT_EQ(values_of<cfloat>(anew.get()), values_of<cfloat>(expected.get()));
    EXPECT_EQ(sensitivities_of(anew.get()), sensitivities_of(expected.get()));
}

TEST(MriRecon, SenseAndSensitivitiesWantTheAdaptiveCombination) {
    auto h = harness("mrirecon window=2 method=sense combine=none");
    BusWatch bus(h->element);
    set_caps(h, radial_info(n, samples, ring));
    EXPECT_NE(push(h, kspace_frame(ring_data(0), trajectory(0), spokes)), GST_FLOW_OK);
    ASSERT_EQ(bus.errors().size(), 1u);
    EXPECT_NE(bus.errors()[0].find("combine"), std::string::npos);

    auto element = adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mrirecon", nullptr))));
    gst_util_set_object_arg(G_OBJECT(element.get()), "combine", "rss");
    g_object_set(element.get(), "attach-sensitivities", TRUE, nullptr);
    {
        BusWatch watch(element.get());
        EXPECT_EQ(gst_element_set_state(element.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        ASSERT_EQ(watch.errors().size(), 1u);
        EXPECT_NE(watch.errors()[0].find("combine=adaptive"), std::string::npos);
    }
    gst_element_set_state(element.get(), GST_STATE_NULL);
}

TEST(MriRecon, ASlidingWindowGivesAFrameForEachFrame) {
    const int frames = 9, window = 5;
    for (const int lookahead : {0, 2}) {
        auto h = harness("mrirecon method=tv window=5 slide-iterations=1 attach-gridded=true lookahead=" +
                         std::to_string(lookahead));
        set_caps(h, radial_info(n, samples));
        EXPECT_EQ(gst_harness_query_latency(h.get()), lookahead * 40 * GST_MSECOND);
        // The library's own, given the same windows.
        ReconstructionSpace space;
        space.width = space.height = n;
        space.over_x = static_cast<double>(samples) / n;
        space.strip_limit = 2;
        WindowOptions options;
        options.method = WindowMethod::temporal_variation;
        options.slide_iterations = 1;
        WindowReconstruction library(space, Density::clipped, Combine::adaptive, options);
        std::vector<std::vector<float>> kxy;
        std::vector<std::vector<cfloat>> data;
        for (int f = 0; f < frames; ++f) {
            kxy.push_back(trajectory(f));
            data.push_back(exact_forward(discs(n, radius(f)), n, n, kxy.back()));
        }
        const auto slide_to = [&](int end, int fresh) {
            std::vector<SampledFrame> views;
            for (int f = std::max(end - window, 0); f < end; ++f)
                views.emplace_back(kxy[f], data[f], std::span<const float>(), spokes);
            library.slide(views, static_cast<std::size_t>(fresh));
        };
        const auto expect = [&](int frame, int end) {
            const auto image = pull(h);
            ASSERT_TRUE(image);
            EXPECT_EQ(GST_BUFFER_PTS(image.get()), frame * 40 * GST_MSECOND);
            EXPECT_TRUE(side_of(image.get(), Role::gridded));
            std::vector<cfloat> expected(n * n);
            library.reconstruct(static_cast<std::size_t>(frame - std::max(end - window, 0)), expected.data());
            EXPECT_EQ(values_of<cfloat>(image.get()), expected) << frame;
        };
        for (int f = 0; f < frames; ++f) {
            ASSERT_EQ(push(h, kspace_frame(data[f], kxy[f], spokes, f)), GST_FLOW_OK);
            ASSERT_EQ(gst_harness_buffers_received(h.get()),
                      static_cast<unsigned>(std::max(f + 1 - lookahead, 0)));
            if (f < lookahead)
                continue;
            slide_to(f + 1, f == lookahead ? lookahead + 1 : 1);
            expect(f - lookahead, f + 1);
        }
        eos(h);
        for (int f = frames - lookahead; f < frames; ++f)
            expect(f, frames);
        EXPECT_EQ(gst_harness_buffers_received(h.get()), static_cast<unsigned>(frames));
    }
}

TEST(MriRecon, ASlidingWindowStartsAnewWithASeries) {
    auto h = harness("mrirecon method=tv window=4 lookahead=2");
    for (int series = 0; series < 2; ++series) {
        // Fewer frames than the lookahead waits for: they come out at the series' end.
        set_caps(h, radial_info(n, samples, 1, series));
        for (int f = 0; f < 2; ++f)
            ASSERT_EQ(push(h, moving_frame(f)), GST_FLOW_OK);
    }
    eos(h);
    ASSERT_EQ(gst_harness_buffers_received(h.get()), 4u);
    std::vector<std::vector<cfloat>> images;
    for (int i = 0; i < 4; ++i)
        images.push_back(values_of<cfloat>(pull(h).get()));
    EXPECT_EQ(images[0], images[2]) << "the second series knows of the first";
}

TEST(MriRecon, ALookaheadThatCannotBeIsAnError) {
    for (const char* line :
         {"mrirecon lookahead=1", "mrirecon method=tv lookahead=1 hop=2",
          "mrirecon method=tv lookahead=1 cycle=true", "mrirecon method=tv lookahead=4 window=4"}) {
        auto bin = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(line, nullptr))));
        BusWatch bus(bin.get());
        EXPECT_EQ(gst_element_set_state(bin.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE) << line;
        ASSERT_EQ(bus.errors().size(), 1u) << line;
        EXPECT_NE(bus.errors()[0].find("lookahead"), std::string::npos) << bus.errors()[0];
        gst_element_set_state(bin.get(), GST_STATE_NULL);
    }
}

TEST(MriRecon, SideDataAreTheFrameAndItsPlainImage) {
    auto h = harness("mrirecon window=2 attach-gridded=true attach-kspace=true");
    auto plain = harness("mrigrid combine=none");
    for (const auto* each : {&h, &plain})
        set_caps(*each, radial_info(n, samples));
    for (int f = 0; f < 2; ++f) {
        ASSERT_EQ(push(h, moving_frame(f)), GST_FLOW_OK);
        ASSERT_EQ(push(plain, moving_frame(f)), GST_FLOW_OK);
    }
    for (int f = 0; f < 2; ++f) {
        const auto image = pull(h);
        GstSample* gridded = side_of(image.get(), Role::gridded);
        ASSERT_TRUE(gridded);
        EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(gridded)), values_of<cfloat>(pull(plain).get()));
        EXPECT_EQ(ImageInfo::from_caps(gst_sample_get_caps(gridded)).width, n);
        GstSample* kspace = side_of(image.get(), Role::kspace);
        ASSERT_TRUE(kspace);
        EXPECT_EQ(GST_BUFFER_PTS(gst_sample_get_buffer(kspace)), f * 40 * GST_MSECOND);
    }
}

TEST(MriRecon, WhatIsWrongIsOneError) {
    const auto check = [&](GstPtr<GstBuffer> frame, const char* word) {
        auto h = harness("mrirecon window=1");
        BusWatch bus(h->element);
        set_caps(h, radial_info(n, samples));
        EXPECT_EQ(push(h, std::move(frame)), GST_FLOW_ERROR);
        ASSERT_EQ(bus.errors().size(), 1u) << word;
        EXPECT_NE(bus.errors()[0].find(word), std::string::npos) << bus.errors()[0];
    };
    const auto kxy = trajectory(0);
    auto data = random_values(kxy.size() / 2, 1);
    check(buffer_of(data), "trajectory");
    data[3] = {0, INFINITY};
    check(kspace_frame(data, kxy, spokes), "not finite");

    auto element = adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mrirecon", nullptr))));
    g_object_set(element.get(), "window", 4, "hop", 5, nullptr);
    {
        BusWatch bus(element.get());
        EXPECT_EQ(gst_element_set_state(element.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        ASSERT_EQ(bus.errors().size(), 1u);
        EXPECT_NE(bus.errors()[0].find("hop"), std::string::npos);
    }
    gst_element_set_state(element.get(), GST_STATE_NULL);
}

TEST(MriRecon, StatesGoUpAndDown) {
    EXPECT_TRUE(cycle_states("mrirecon").empty());
}
