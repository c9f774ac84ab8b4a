// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/display_support.hpp"

#include <gst/video/video.h>

#include <cmath>
#include <complex>
#include <numbers>

namespace {

using namespace display_test;
using mri::cfloat;

struct Video {
    GstVideoInfo info{};
    std::vector<std::uint8_t> data;
    int at(int x, int y, int byte = 0) const {
        return data[static_cast<std::size_t>(y) * GST_VIDEO_INFO_PLANE_STRIDE(&info, 0) +
                    x * GST_VIDEO_INFO_COMP_PSTRIDE(&info, 0) + byte];
    }
};

Video pull(Harness& h) {
    Video v;
    const auto buffer = h.pull();
    if (!buffer || !gst_video_info_from_caps(&v.info, h.out_caps().get())) {
        ADD_FAILURE() << "no video came";
        return v;
    }
    v.data = values_of<std::uint8_t>(buffer.get());
    EXPECT_EQ(v.data.size(), GST_VIDEO_INFO_SIZE(&v.info));
    return v;
}

/// x + 1 in each column, 6 x 3.
std::vector<float> columns(float gain = 1) {
    std::vector<float> image;
    for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 6; ++x)
            image.push_back(gain * static_cast<float>(x + 1));
    return image;
}

TEST(MriVideo, ShowsMagnitudesWithinTheWindow) {
    Harness h("mrivideo window=4 level=3");
    h.caps(image_info(6, 3));
    ASSERT_EQ(h.push(buffer_of(columns(), 2)), GST_FLOW_OK);
    const Video v = pull(h);
    EXPECT_EQ(GST_VIDEO_INFO_FORMAT(&v.info), GST_VIDEO_FORMAT_GRAY8);
    EXPECT_EQ(GST_VIDEO_INFO_FPS_N(&v.info), 25);
    const int expected[] = {0, 64, 128, 191, 255, 255}; // from 1 to 5
    for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 6; ++x)
            EXPECT_EQ(v.at(x, y), expected[x]);
}

TEST(MriVideo, KeepsItsLevelsWithinASeriesAndFindsThemAnewForTheNext) {
    Harness h("mrivideo percentile-low=0 percentile-high=100");
    h.caps(image_info(6, 3));
    ASSERT_EQ(h.push(buffer_of(columns())), GST_FLOW_OK);
    const Video first = pull(h);
    EXPECT_EQ(first.at(0, 0), 0);
    EXPECT_EQ(first.at(5, 2), 255);
    ASSERT_EQ(h.push(buffer_of(columns(0.5F), 1)), GST_FLOW_OK);
    const Video darker = pull(h);
    EXPECT_EQ(darker.at(5, 0), 102); // 3 between 1 and 6
    h.caps(image_info(6, 3, mri::SampleFormat::f32, 1));
    ASSERT_EQ(h.push(buffer_of(columns(0.5F), 2)), GST_FLOW_OK);
    EXPECT_EQ(pull(h).at(5, 0), 255);
}

TEST(MriVideo, ShowsPhaseAndAllItsFormats) {
    for (const char* format : {"GRAY8", "GRAY16_LE", "RGBA"}) {
        Harness h("mrivideo mode=phase");
        const std::string caps = std::string("video/x-raw,format=") + format;
        gst_harness_set_sink_caps_str(h.get(), caps.c_str());
        h.caps(image_info(3, 1, mri::SampleFormat::c64));
        const float pi = std::numbers::pi_v<float>;
        ASSERT_EQ(
            h.push(buffer_of(std::vector<cfloat>{std::polar(3.0F, -pi / 2), 1.0F, std::polar(0.1F, pi / 2)})),
            GST_FLOW_OK);
        const Video v = pull(h);
        EXPECT_STREQ(GST_VIDEO_INFO_NAME(&v.info), format);
        const bool wide = GST_VIDEO_INFO_FORMAT(&v.info) == GST_VIDEO_FORMAT_GRAY16_LE;
        for (int x = 0; x < 3; ++x) {
            const double t = (x + 1) / 4.0;
            const int value = wide ? v.at(x, 0) + 256 * v.at(x, 0, 1) : v.at(x, 0);
            // pi in single precision moves a value by 1e-7 of the range: one step where it is rounded.
            EXPECT_NEAR(value, std::lround(t * (wide ? 65535 : 255)), 1) << format << ", " << x;
        }
    }
}

TEST(MriVideo, AColourMapNeedsRgba) {
    Harness h("mrivideo colormap=viridis window=1 level=0.5");
    h.caps(image_info(2, 1));
    ASSERT_EQ(h.push(buffer_of(std::vector<float>{0, 1})), GST_FLOW_OK);
    const Video v = pull(h);
    ASSERT_EQ(GST_VIDEO_INFO_FORMAT(&v.info), GST_VIDEO_FORMAT_RGBA);
    const int expected[2][4] = {{68, 1, 84, 255}, {253, 231, 37, 255}};
    for (int x = 0; x < 2; ++x)
        for (int c = 0; c < 4; ++c)
            EXPECT_EQ(v.at(x, 0, c), expected[x][c]);
    Harness grey("mrivideo colormap=hot");
    gst_harness_set_sink_caps_str(grey.get(), "video/x-raw,format=GRAY8");
    grey.caps(image_info(2, 1));
    EXPECT_NE(grey.push(buffer_of(std::vector<float>{0, 1})), GST_FLOW_OK);
}

TEST(MriVideo, PutsPanelsSideBySideEachWithItsLevels) {
    Harness h(
        "mrivideo panels=truth,input,image,error captions=none scale=3 percentile-low=0 percentile-high=100");
    h.caps(image_info(6, 3));
    auto buffer = buffer_of(columns());
    std::vector<float> truth = columns();
    truth[0] = 3.5F; // half of the truth's range of 5 away from the image's 1
    add_image(buffer.get(), mri::Role::truth, truth, 6, 3);
    add_image(buffer.get(), mri::Role::input, columns(10), 6, 3);
    ASSERT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
    const Video v = pull(h);
    ASSERT_EQ(GST_VIDEO_INFO_WIDTH(&v.info), 4 * 18 + 3 * 2);
    ASSERT_EQ(GST_VIDEO_INFO_HEIGHT(&v.info), 9);
    EXPECT_EQ(v.at(0, 0), 128);  // truth: 3.5 between 1 and 6
    EXPECT_EQ(v.at(17, 8), 255); // its brightest corner
    EXPECT_EQ(v.at(18, 0), 0);   // the gap
    EXPECT_EQ(v.at(20, 0), 0);   // input: levels of its own
    EXPECT_EQ(v.at(20 + 17, 0), 255);
    EXPECT_EQ(v.at(40 + 3, 0), 51);  // image: 2 between 1 and 6
    EXPECT_EQ(v.at(60, 0), 128);     // error: 2.5 over the truth's range of 5
    EXPECT_EQ(v.at(60 + 2, 2), 128); // the whole square
    EXPECT_EQ(v.at(60 + 3, 3), 0);
}

TEST(MriVideo, WritesCaptionsAboveSeveralPanels) {
    Harness h("mrivideo panels=truth,image scale=4");
    h.caps(image_info(32, 16));
    auto buffer = buffer_of(std::vector<float>(32 * 16));
    add_image(buffer.get(), mri::Role::truth, std::vector<float>(32 * 16), 32, 16);
    ASSERT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
    const Video v = pull(h);
    const int strip = GST_VIDEO_INFO_HEIGHT(&v.info) - 64;
    EXPECT_GT(strip, 0);
    int bright = 0;
    for (int y = 0; y < GST_VIDEO_INFO_HEIGHT(&v.info); ++y)
        for (int x = 0; x < GST_VIDEO_INFO_WIDTH(&v.info); ++x)
            if (v.at(x, y) > 64) {
                ++bright;
                EXPECT_LT(y, strip);
            }
    EXPECT_GT(bright, 50);
}

TEST(MriVideo, CaptionsTellHowFarTheImageIsFromItsSamples) {
    const auto shown = [](const std::string& captions, const std::optional<mri::Consistency>& figures) {
        Harness h("mrivideo scale=8 captions=\"" + captions + "\"");
        h.caps(image_info(32, 16));
        auto buffer = buffer_of(std::vector<float>(32 * 16));
        if (figures)
            add_consistency(buffer.get(), *figures);
        EXPECT_EQ(h.push(std::move(buffer)), GST_FLOW_OK);
        return pull(h).data;
    };
    const std::string both = "{residual} off {noise}";
    EXPECT_EQ(shown(both, mri::Consistency{0.1234, 1.057}), shown("12.3 % off 1.06", {}));
    EXPECT_EQ(shown(both, mri::Consistency{0.1234, 0}), shown("12.3 % off -", {}));
    EXPECT_EQ(shown(both, {}), shown("- off -", {}));
    EXPECT_NE(shown("12.3 % off 1.06", {}), shown("- off -", {}));
}

TEST(MriVideo, APanelWithoutDataStaysBlackWithOneWarning) {
    Harness h("mrivideo panels=truth,image,error captions=none window=1 level=0.5");
    h.caps(image_info(6, 3));
    for (int t = 0; t < 2; ++t) {
        ASSERT_EQ(h.push(buffer_of(columns(), t)), GST_FLOW_OK);
        const Video v = pull(h);
        EXPECT_EQ(v.at(3, 1), 0);
        EXPECT_EQ(v.at(8 + 3, 1), 255);
        EXPECT_EQ(v.at(16 + 3, 1), 0);
    }
    EXPECT_EQ(h.messages(GST_MESSAGE_WARNING).size(), 2u); // one for the truth, one for the error
}

TEST(MriVideo, PixelsThatAreNotSquareBecomeTheAspectRatio) {
    Harness h("mrivideo");
    mri::ImageInfo info = image_info(6, 3);
    info.fov_x = 300; // 50 mm wide, 25 mm high
    info.fov_y = 75;
    h.caps(info);
    ASSERT_EQ(h.push(buffer_of(columns())), GST_FLOW_OK);
    const Video v = pull(h);
    EXPECT_EQ(GST_VIDEO_INFO_PAR_N(&v.info), 2 * GST_VIDEO_INFO_PAR_D(&v.info));
}

TEST(MriVideo, WindowAndLevelChangeWhilePlaying) {
    Harness h("mrivideo window=10 level=5");
    h.caps(image_info(6, 3));
    ASSERT_EQ(h.push(buffer_of(columns())), GST_FLOW_OK);
    EXPECT_EQ(pull(h).at(4, 0), 128);
    g_object_set(h.element(), "window", 4.0, "level", 3.0, nullptr);
    ASSERT_EQ(h.push(buffer_of(columns(), 1)), GST_FLOW_OK);
    EXPECT_EQ(pull(h).at(4, 0), 255);
}

TEST(MriVideo, AFlushFindsTheLevelsAnew) {
    Harness h("mrivideo percentile-low=0 percentile-high=100");
    h.caps(image_info(6, 3));
    ASSERT_EQ(h.push(buffer_of(columns(10))), GST_FLOW_OK);
    pull(h);
    h.flush();
    ASSERT_EQ(h.push(buffer_of(columns())), GST_FLOW_OK);
    EXPECT_EQ(pull(h).at(5, 0), 255);
}

TEST(MriVideo, UnknownPanelsAndBadPercentilesAreOneErrorEach) {
    for (const char* launch :
         {"mrivideo panels=truth,heart", "mrivideo percentile-low=99 percentile-high=1"}) {
        Harness h("mrivideo");
        gst_element_set_state(h.parsed(), GST_STATE_NULL);
        if (std::string(launch).find("heart") != std::string::npos)
            g_object_set(h.element(), "panels", "truth,heart", nullptr);
        else
            g_object_set(h.element(), "percentile-low", 99.0, "percentile-high", 1.0, nullptr);
        EXPECT_EQ(gst_element_set_state(h.parsed(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        const auto errors = h.errors();
        ASSERT_EQ(errors.size(), 1u) << launch;
        EXPECT_NE(
            errors[0].find(std::string(launch).find("heart") != std::string::npos ? "heart" : "percentile"),
            std::string::npos);
    }
}

TEST(MriVideo, ABufferOfTheWrongSizeIsOneError) {
    Harness h("mrivideo");
    h.caps(image_info(6, 3));
    EXPECT_EQ(h.push(buffer_of(std::vector<float>(17))), GST_FLOW_ERROR);
    EXPECT_EQ(h.push(buffer_of(std::vector<float>(17))), GST_FLOW_ERROR);
    EXPECT_EQ(h.errors().size(), 1u);
}

TEST(MriVideo, ComesBackAfterStateCycles) {
    Harness h("mrivideo percentile-low=0 percentile-high=100");
    for (int cycle = 0; cycle < 3; ++cycle) {
        gst_harness_play(h.get());
        h.caps(image_info(6, 3));
        ASSERT_EQ(h.push(buffer_of(columns(static_cast<float>(1 + cycle)))), GST_FLOW_OK);
        EXPECT_EQ(pull(h).at(5, 0), 255) << "levels of an earlier run";
        gst_element_set_state(h.parsed(), GST_STATE_NULL);
    }
}

} // namespace
