// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/image/score.hpp"
#include "tests/support/display_support.hpp"

#include <cmath>
#include <complex>
#include <fstream>
#include <sstream>

namespace {

using namespace display_test;

constexpr int side = 24;

std::vector<float> truth_frame(int t) {
    return disc(side, side, 12, 12, 5 + t);
}
std::vector<float> image_frame(int t) {
    std::vector<float> image = truth_frame(t);
    for (std::size_t i = 0; i < image.size(); ++i)
        image[i] = 0.5F * image[i] + 0.125F + 0.05F * std::sin(static_cast<float>(7 * i + t));
    return image;
}

mri::GstPtr<GstBuffer> frame(int t, bool with_input = false) {
    auto buffer = buffer_of(image_frame(t), t);
    add_image(buffer.get(), mri::Role::truth, truth_frame(t), side, side);
    if (with_input)
        add_image(buffer.get(), mri::Role::input, std::vector<float>(side * side, 0.5F), side, side);
    return buffer;
}

mri::SeriesScore expected(int frames, const mri::ScoreOptions& options = {}) {
    mri::Scorer scorer(side, side, options);
    for (int t = 0; t < frames; ++t)
        scorer.add(image_frame(t), truth_frame(t));
    return scorer.finish();
}

std::vector<std::vector<std::string>> read_csv(const std::string& path) {
    std::ifstream file(path);
    std::vector<std::vector<std::string>> rows;
    for (std::string line; std::getline(file, line);) {
        std::vector<std::string> cells;
        std::istringstream cell_stream(line + ",");
        for (std::string cell; std::getline(cell_stream, cell, ',');)
            cells.push_back(cell);
        rows.push_back(cells);
    }
    return rows;
}

TEST(MriMetrics, ReportsASeriesAtItsEndAndPassesItUnchanged) {
    Harness h("mrimetrics label=test");
    h.caps(image_info(side, side, mri::SampleFormat::f32, 7));
    for (int t = 0; t < 3; ++t) {
        ASSERT_EQ(h.push(frame(t)), GST_FLOW_OK);
        EXPECT_EQ(values_of<float>(h.pull().get()), image_frame(t));
    }
    EXPECT_TRUE(h.named("mri-metrics").empty());
    h.eos();
    const auto all = h.messages(GST_MESSAGE_ELEMENT);
    ASSERT_EQ(all.size(), 2u);
    const GstStructure* m = gst_message_get_structure(all[0].get());
    ASSERT_TRUE(gst_structure_has_name(m, "mri-metrics"));
    const mri::SeriesScore s = expected(3);
    EXPECT_STREQ(gst_structure_get_string(m, "label"), "test");
    EXPECT_STREQ(gst_structure_get_string(m, "image"), "image");
    int series = 0;
    EXPECT_TRUE(gst_structure_get_int(m, "series", &series));
    EXPECT_EQ(series, 7);
    EXPECT_EQ(count(m, "frames"), 3u);
    EXPECT_EQ(count(m, "without-truth"), 0u);
    EXPECT_DOUBLE_EQ(number(m, "gain"), s.gain);
    EXPECT_DOUBLE_EQ(number(m, "psnr"), s.fitted.psnr);
    EXPECT_DOUBLE_EQ(number(m, "mse"), s.fitted.mse);
    EXPECT_DOUBLE_EQ(number(m, "nrmse"), s.fitted.nrmse);
    EXPECT_DOUBLE_EQ(number(m, "ssim"), s.fitted.ssim);
    EXPECT_DOUBLE_EQ(number(m, "psnr-moving"), s.psnr_moving);
    EXPECT_DOUBLE_EQ(number(m, "raw-psnr"), s.raw.psnr);
    EXPECT_DOUBLE_EQ(number(m, "raw-ssim"), s.raw.ssim);
    EXPECT_DOUBLE_EQ(number(m, "raw-psnr-moving"), s.psnr_moving_raw);
    EXPECT_GT(number(m, "psnr"), number(m, "raw-psnr") + 3);
    EXPECT_TRUE(gst_message_has_name(all[1].get(), "mri-metrics-summary"));
}

TEST(MriMetrics, TheSummaryIsTheMeanOverSeries) {
    Harness h("mrimetrics");
    double psnr = 0;
    for (int series = 0; series < 2; ++series) {
        h.caps(image_info(side, side, mri::SampleFormat::f32, series));
        for (int t = 0; t < 2 + series; ++t)
            ASSERT_EQ(h.push(frame(t)), GST_FLOW_OK);
        psnr += expected(2 + series).fitted.psnr / 2;
    }
    h.eos();
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 5u);
    GstStructure* raw = nullptr;
    g_object_get(h.element(), "summary", &raw, nullptr);
    const mri::StructurePtr summary(raw);
    ASSERT_TRUE(summary);
    guint series = 0;
    EXPECT_TRUE(gst_structure_get_uint(summary.get(), "series", &series));
    EXPECT_EQ(series, 2u);
    EXPECT_EQ(count(summary.get(), "frames"), 5u);
    EXPECT_NEAR(number(summary.get(), "psnr"), psnr, 1e-9); // two additions in double in another order
    EXPECT_EQ(h.named("mri-metrics").size(), 2u);
}

TEST(MriMetrics, ScoresComplexImagesByTheirMagnitude) {
    Harness h("mrimetrics");
    h.caps(image_info(side, side, mri::SampleFormat::c64));
    for (int t = 0; t < 3; ++t) {
        std::vector<mri::cfloat> image;
        for (const float v : image_frame(t))
            image.push_back(std::polar(v, 2.5F));
        auto buffer = buffer_of(image, t);
        add_image(buffer.get(), mri::Role::truth, truth_frame(t), side, side);
        ASSERT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
    }
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 1u);
    // |polar(v)| is v to a few ulp of single precision, 1e-7 of pixels near 0.6 whose errors are near 0.03.
    EXPECT_NEAR(number(m[0].get(), "psnr"), expected(3).fitted.psnr, 1e-3);
}

TEST(MriMetrics, FitAndCropAreProperties) {
    Harness h("mrimetrics fit=none crop-width=16 crop-height=0");
    h.caps(image_info(side, side));
    for (int t = 0; t < 2; ++t)
        ASSERT_EQ(h.push(frame(t)), GST_FLOW_OK);
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 1u);
    EXPECT_DOUBLE_EQ(number(m[0].get(), "psnr"), expected(2, {16, 0, false}).fitted.psnr);
    EXPECT_STREQ(gst_structure_get_string(m[0].get(), "fit"), "none");
}

TEST(MriMetrics, ScoresTheNetworksInputToo) {
    Harness h("mrimetrics input=true");
    h.caps(image_info(side, side));
    for (int t = 0; t < 2; ++t)
        ASSERT_EQ(h.push(frame(t, true)), GST_FLOW_OK);
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 2u);
    EXPECT_STREQ(gst_structure_get_string(m[1].get(), "image"), "input");
    EXPECT_DOUBLE_EQ(number(m[1].get(), "gain"), 0); // a constant image
    EXPECT_LT(number(m[1].get(), "psnr"), number(m[0].get(), "psnr"));
    GstStructure* raw = nullptr;
    g_object_get(h.element(), "summary", &raw, nullptr);
    const mri::StructurePtr summary(raw);
    EXPECT_DOUBLE_EQ(number(summary.get(), "input-psnr"), number(m[1].get(), "psnr"));
}

TEST(MriMetrics, ScoresTheGriddedImageToo) {
    Harness h("mrimetrics input=true gridded=true");
    h.caps(image_info(side, side));
    for (int t = 0; t < 2; ++t) {
        auto buffer = frame(t, true);
        // The truth itself as gridded image: its error is that of single precision alone.
        add_image(buffer.get(), mri::Role::gridded, truth_frame(t), side, side);
        ASSERT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
    }
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 3u);
    EXPECT_STREQ(gst_structure_get_string(m[2].get(), "image"), "gridded");
    EXPECT_NEAR(number(m[2].get(), "gain"), 1, 1e-5);
    EXPECT_LT(number(m[2].get(), "nrmse"), 1e-5);
    GstStructure* raw = nullptr;
    g_object_get(h.element(), "summary", &raw, nullptr);
    const mri::StructurePtr summary(raw);
    EXPECT_DOUBLE_EQ(number(summary.get(), "gridded-nrmse"), number(m[2].get(), "nrmse"));
    EXPECT_DOUBLE_EQ(number(summary.get(), "input-psnr"), number(m[1].get(), "psnr"));
    EXPECT_DOUBLE_EQ(number(summary.get(), "psnr"), number(m[0].get(), "psnr"));
}

TEST(MriMetrics, FramesWithoutTruthPassWithOneWarningAndAreCounted) {
    Harness h("mrimetrics");
    h.caps(image_info(side, side));
    for (int t = 0; t < 3; ++t)
        ASSERT_EQ(h.push(buffer_of(image_frame(t), t)), GST_FLOW_OK);
    ASSERT_EQ(h.push(frame(0)), GST_FLOW_OK);
    h.eos();
    EXPECT_EQ(gst_harness_buffers_received(h.get()), 4u);
    const auto all = h.messages(GST_MESSAGE_WARNING | GST_MESSAGE_ELEMENT | GST_MESSAGE_ERROR);
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(GST_MESSAGE_TYPE(all[0].get()), GST_MESSAGE_WARNING);
    const GstStructure* m = gst_message_get_structure(all[1].get());
    EXPECT_EQ(count(m, "without-truth"), 3u);
    EXPECT_EQ(count(m, "frames"), 1u);
    EXPECT_FALSE(gst_structure_has_field(m, "psnr-moving")) << "nothing moves in one frame";
}

TEST(MriMetrics, NothingIsReportedWithoutAnyTruth) {
    Harness h("mrimetrics");
    h.caps(image_info(side, side));
    ASSERT_EQ(h.push(buffer_of(image_frame(0))), GST_FLOW_OK);
    h.eos();
    EXPECT_TRUE(h.messages(GST_MESSAGE_ELEMENT).empty());
}

TEST(MriMetrics, WritesATableWithARowForEachFrame) {
    const mri::test::TempDir folder;
    const std::string path = folder.path("metrics.csv");
    {
        Harness h("mrimetrics");
        gst_element_set_state(h.parsed(), GST_STATE_NULL);
        g_object_set(h.element(), "location", path.c_str(), "label", "a \"b\", c", nullptr);
        gst_harness_play(h.get());
        h.caps(image_info(side, side, mri::SampleFormat::f32, 3));
        for (int t = 0; t < 2; ++t)
            ASSERT_EQ(h.push(frame(t)), GST_FLOW_OK);
        h.eos();
        EXPECT_TRUE(h.errors().empty());
    }
    const auto rows = read_csv(path);
    ASSERT_EQ(rows.size(), 4u);
    ASSERT_EQ(rows[0].size(), 15u);
    EXPECT_EQ(rows[0][7], "psnr");
    const mri::SeriesScore s = expected(2);
    // The label is quoted and its comma makes the row one cell longer for this simple reader.
    EXPECT_EQ(rows[1][0] + "," + rows[1][1], "\"a \"\"b\"\", c\"");
    EXPECT_EQ(rows[2][4], "1");
    EXPECT_EQ(rows[2][5], "40000000");
    EXPECT_NEAR(std::stod(rows[2][8]), s.frames_fitted[1].psnr, 1e-4); // printed with six digits
    EXPECT_EQ(rows[3][4], "all");
    EXPECT_NEAR(std::stod(rows[3][9]), s.fitted.ssim, 1e-5);
    EXPECT_NEAR(std::stod(rows[3][10]), s.psnr_moving, 1e-4);
    EXPECT_NEAR(std::stod(rows[3][15]), s.psnr_moving_raw, 1e-4);
}

TEST(MriMetrics, ALocationThatCannotBeWrittenIsOneError) {
    Harness h("mrimetrics");
    gst_element_set_state(h.parsed(), GST_STATE_NULL);
    g_object_set(h.element(), "location", "/nonexistent/folder/metrics.csv", nullptr);
    EXPECT_EQ(gst_element_set_state(h.parsed(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    const auto errors = h.errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("/nonexistent/folder/metrics.csv"), std::string::npos);
}

TEST(MriMetrics, ATruthOfAnotherSizeIsOneError) {
    Harness h("mrimetrics");
    h.caps(image_info(side, side));
    for (int i = 0; i < 2; ++i) {
        auto buffer = buffer_of(image_frame(0));
        add_image(buffer.get(), mri::Role::truth, std::vector<float>(100), 10, 10);
        EXPECT_EQ(h.push(std::move(buffer)), GST_FLOW_ERROR);
    }
    const auto errors = h.errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("10x10"), std::string::npos);
}

TEST(MriMetrics, AFlushDropsTheSeriesSoFar) {
    Harness h("mrimetrics");
    h.caps(image_info(side, side));
    ASSERT_EQ(h.push(frame(4)), GST_FLOW_OK);
    h.flush();
    for (int t = 0; t < 2; ++t)
        ASSERT_EQ(h.push(frame(t)), GST_FLOW_OK);
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 1u);
    EXPECT_EQ(count(m[0].get(), "frames"), 2u);
    EXPECT_DOUBLE_EQ(number(m[0].get(), "psnr"), expected(2).fitted.psnr);
}

TEST(MriMetrics, ALongSeriesIsReportedInParts) {
    Harness h("mrimetrics max-frames=2");
    h.caps(image_info(side, side));
    for (int t = 0; t < 3; ++t)
        ASSERT_EQ(h.push(frame(t)), GST_FLOW_OK);
    EXPECT_EQ(h.named("mri-metrics").size(), 1u);
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 1u);
    int part = 0;
    EXPECT_TRUE(gst_structure_get_int(m[0].get(), "part", &part));
    EXPECT_EQ(part, 1);
    EXPECT_EQ(count(m[0].get(), "frames"), 1u);
}

// A harness answers as a live source does.
TEST(MriMetrics, ALiveSeriesIsScoredInPartsOf300) {
    Harness h("mrimetrics");
    h.caps(image_info(side, side));
    for (int t = 0; t < 300; ++t) {
        ASSERT_TRUE(h.named("mri-metrics").empty()) << t;
        ASSERT_EQ(h.push(frame(t % 5)), GST_FLOW_OK);
        h.pull();
    }
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 1u);
    EXPECT_EQ(count(m[0].get(), "frames"), 300u);
}

TEST(MriMetrics, ComesBackAfterStateCycles) {
    Harness h("mrimetrics");
    for (int cycle = 0; cycle < 3; ++cycle) {
        gst_harness_play(h.get());
        h.caps(image_info(side, side, mri::SampleFormat::f32, cycle));
        ASSERT_EQ(h.push(frame(0)), GST_FLOW_OK);
        gst_element_set_state(h.parsed(), GST_STATE_NULL);
    }
    gst_harness_play(h.get());
    h.caps(image_info(side, side, mri::SampleFormat::f32, 9));
    ASSERT_EQ(h.push(frame(0)), GST_FLOW_OK);
    h.eos();
    const auto m = h.named("mri-metrics");
    ASSERT_EQ(m.size(), 1u) << "a series cut short by a stop is not reported";
}

} // namespace
