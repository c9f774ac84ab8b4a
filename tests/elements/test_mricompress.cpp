// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/support/kspace_support.hpp"

using namespace mri;
using namespace mri::test;

namespace {

constexpr int n = 32;
constexpr int samples = 64;
constexpr int spokes = 20;
constexpr int coils = 12;

std::vector<cfloat> scan(int first, std::uint64_t seed = 3) {
    const auto images = seen_by(synthetic_sensitivities(coils, n, n, seed), discs(n, 5));
    Nufft nufft(n, n);
    nufft.set_points(spokes_of(first, spokes, samples, n));
    std::vector<cfloat> data(static_cast<std::size_t>(coils) * spokes * samples);
    nufft.forward(images.data(), data.data(), coils);
    return data;
}

GstPtr<GstBuffer> frame(int number, std::uint64_t seed = 3) {
    return kspace_frame(scan(number * spokes, seed), spokes_of(number * spokes, spokes, samples, n), spokes,
                        number);
}

void set_caps(const Harness& h, const KspaceInfo& info) {
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
}
GstFlowReturn push(const Harness& h, GstPtr<GstBuffer> buffer) {
    return gst_harness_push(h.get(), buffer.release());
}
GstPtr<GstBuffer> pull(const Harness& h) {
    return adopt(gst_harness_try_pull(h.get()));
}
KspaceInfo out_caps(const Harness& h) {
    auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
    return caps ? KspaceInfo::from_caps(caps.get()) : KspaceInfo{};
}
double power_of(const std::vector<cfloat>& values) {
    double power = 0;
    for (const cfloat& value : values)
        power += std::norm(cdouble(value));
    return power;
}

} // namespace

TEST(MriCompress, FewCoilsKeepMostOfTheSignalAndAllOfTheFacts) {
    auto h = harness("mricompress coils=5");
    set_caps(h, radial_info(n, samples, coils, 2));
    auto in = frame(3);
    const auto trajectory = trajectory_of(in.get());
    const double power = power_of(values_of<cfloat>(in.get()));
    ASSERT_EQ(push(h, std::move(in)), GST_FLOW_OK);
    const auto out = pull(h);
    ASSERT_TRUE(out);
    KspaceInfo expected = radial_info(n, samples, 5, 2);
    EXPECT_EQ(out_caps(h), expected);
    EXPECT_EQ(gst_buffer_get_size(out.get()), 5 * spokes * samples * sizeof(cfloat));
    const double kept = power_of(values_of<cfloat>(out.get())) / power;
    // A ring's sensitivities over the object are smooth: a few combinations hold nearly all.
    EXPECT_GT(kept, 0.98);
    EXPECT_LT(kept, 1 + 1e-5);
    EXPECT_EQ(trajectory_of(out.get()), trajectory);
    EXPECT_EQ(readouts_of(out.get()).size(), static_cast<std::size_t>(spokes));
    EXPECT_EQ(GST_BUFFER_PTS(out.get()), 120 * GST_MSECOND);
}

TEST(MriCompress, ImagesOfTheVirtualCoilsAreThoseOfTheArray) {
    auto h = harness("mricompress coils=6 ! mrigrid");
    auto all = harness("mrigrid");
    set_caps(h, radial_info(n, samples, coils));
    set_caps(all, radial_info(n, samples, coils));
    for (int f = 0; f < 4; ++f) {
        ASSERT_EQ(push(h, frame(f)), GST_FLOW_OK);
        ASSERT_EQ(push(all, frame(f)), GST_FLOW_OK);
        // What 6 of 12 coils lose of the power is below 1e-2, of the amplitude 1e-1 at most.
        EXPECT_LT(relative_error(values_of<float>(pull(h).get()), values_of<float>(pull(all).get())), 0.1);
    }
}

TEST(MriCompress, SmallArraysPassAsTheyAre) {
    for (const char* line : {"mricompress coils=16", "mricompress coils=0"}) {
        auto h = harness(line);
        set_caps(h, radial_info(n, samples, coils));
        ASSERT_EQ(push(h, frame(0)), GST_FLOW_OK);
        EXPECT_EQ(values_of<cfloat>(pull(h).get()), scan(0));
        EXPECT_EQ(out_caps(h).coils, coils);
    }
}

TEST(MriCompress, ASeriesAndAPlaneStartAnew) {
    auto h = harness("mricompress coils=4");
    set_caps(h, radial_info(n, samples, coils, 0));
    ASSERT_EQ(push(h, frame(0)), GST_FLOW_OK);
    pull(h);
    auto fresh = harness("mricompress coils=4");
    set_caps(fresh, radial_info(n, samples, coils, 1));
    ASSERT_EQ(push(fresh, frame(1, 9)), GST_FLOW_OK);
    const auto expected = values_of<cfloat>(pull(fresh).get());

    auto moved = frame(1, 9);
    std::vector<Readout> heads(spokes);
    for (Readout& head : heads)
        head.slice_dir = {0, 1, 0};
    add_readouts(moved.get(), heads);
    ASSERT_EQ(push(h, moved), GST_FLOW_OK);
    EXPECT_EQ(values_of<cfloat>(pull(h).get()), expected);

    set_caps(h, radial_info(n, samples, coils, 1));
    ASSERT_EQ(push(h, frame(1, 9)), GST_FLOW_OK);
    EXPECT_EQ(values_of<cfloat>(pull(h).get()), expected);
}

TEST(MriCompress, BadFramesAreOneError) {
    auto h = harness("mricompress coils=4");
    BusWatch bus(h->element);
    set_caps(h, radial_info(n, samples, coils));
    auto data = scan(0);
    data[5] = {0, HUGE_VALF};
    EXPECT_EQ(push(h, kspace_frame(data, spokes_of(0, spokes, samples, n), spokes)), GST_FLOW_ERROR);
    EXPECT_EQ(push(h, kspace_frame(data, spokes_of(0, spokes, samples, n), spokes)), GST_FLOW_ERROR);
    const auto errors = bus.errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("not finite"), std::string::npos);

    auto cut = harness("mricompress coils=4");
    BusWatch cut_bus(cut->element);
    set_caps(cut, radial_info(n, samples, coils));
    EXPECT_EQ(push(cut, buffer_of(std::vector<cfloat>(coils * samples + 1))), GST_FLOW_ERROR);
    EXPECT_EQ(cut_bus.errors().size(), 1u);
}

TEST(MriCompress, ReferenceLinesAreCompressedByTheFramesMatrix) {
    auto h = harness("mricompress coils=5");
    auto info = radial_info(n, samples, coils);
    set_caps(h, info);
    // Lines of their own length: unit vectors of the coils, so that what comes out is the matrix.
    std::vector<cfloat> lines(static_cast<std::size_t>(coils) * coils);
    for (std::size_t c = 0; c < coils; ++c)
        lines[c * coils + c] = 1;
    info.samples = coils;
    const auto trajectory = std::vector<float>(2 * coils, 0.0f);
    auto sample = adopt(
        gst_sample_new(kspace_frame(lines, trajectory, 1).get(), info.to_caps().get(), nullptr, nullptr));
    GstPtr<GstSample> last;
    for (int f = 0; f < 4; ++f) {
        auto in = frame(f);
        const auto data = values_of<cfloat>(in.get());
        add_side(in.get(), Role::calibration, sample.get());
        ASSERT_EQ(push(h, std::move(in)), GST_FLOW_OK);
        const auto out = pull(h);
        ASSERT_TRUE(out);
        GstSample* mixed = side_of(out.get(), Role::calibration);
        ASSERT_NE(mixed, nullptr);
        EXPECT_EQ(KspaceInfo::from_caps(gst_sample_get_caps(mixed)).coils, 5);
        GstBuffer* buffer = gst_sample_get_buffer(mixed);
        ASSERT_TRUE(trajectory_of(buffer));
        EXPECT_EQ(trajectory_of(buffer)->samples, coils);
        const auto matrix = values_of<cfloat>(buffer);
        ASSERT_EQ(matrix.size(), 5U * coils);
        std::vector<cdouble> expected;
        const std::size_t count = data.size() / coils;
        for (std::size_t a = 0; a < 5; ++a)
            for (std::size_t i = 0; i < count; ++i) {
                cdouble sum = 0;
                for (std::size_t b = 0; b < coils; ++b)
                    sum += cdouble(matrix[a * coils + b]) * cdouble(data[b * count + i]);
                expected.push_back(sum);
            }
        EXPECT_LT(relative_error(values_of<cfloat>(out.get()), expected), 1e-6) << f;
        // The matrix is made anew after 1, 2 and 4 frames.
        EXPECT_EQ(mixed == last.get(), f == 2) << f;
        last = retain(mixed);
    }
    // Lines of another array are an error.
    BusWatch bus(h->element);
    auto in = frame(4);
    info.coils = 3;
    add_side(
        in.get(), Role::calibration,
        adopt(gst_sample_new(gst_sample_get_buffer(sample.get()), info.to_caps().get(), nullptr, nullptr))
            .get());
    EXPECT_NE(push(h, std::move(in)), GST_FLOW_OK);
    EXPECT_EQ(bus.errors().size(), 1U);
}

TEST(MriCompress, StatesCycle) {
    EXPECT_TRUE(cycle_states("mricompress").empty());
}
