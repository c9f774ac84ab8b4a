// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/display/render.hpp"
#include "plugins/math/base/error.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace {

using namespace mri;

struct Picture {
    Picture(int width, int height, PixelFormat format)
        : stride((width * bytes_of(format) + 3) / 4 * 4),
          data(stride * height, std::byte{99}),
          canvas{data, width, height, stride, format} {}
    int at(int x, int y, int byte = 0) const {
        return static_cast<int>(data[y * stride + x * bytes_of(canvas.format) + byte]);
    }
    std::size_t stride;
    std::vector<std::byte> data;
    Canvas canvas;
};

TEST(Render, GreyIsLinearBetweenTheLevelsAndClippedOutside) {
    Picture p(6, 1, PixelFormat::gray8);
    draw(p.canvas, 0, 0, std::vector<float>{0, 1, 2, 3, 4, std::numeric_limits<float>::quiet_NaN()}, 6, 1, 1,
         {1, 3}, ColorMap::grey);
    const int expected[] = {0, 0, 128, 255, 255, 0}; // 127.5 is rounded up
    for (int x = 0; x < 6; ++x)
        EXPECT_EQ(p.at(x, 0), expected[x]) << x;
}

TEST(Render, SixteenBitsAreLittleEndian) {
    Picture p(3, 1, PixelFormat::gray16);
    draw(p.canvas, 0, 0, std::vector<float>{0, 0.5, 1}, 3, 1, 1, {0, 1}, ColorMap::viridis);
    EXPECT_EQ(p.at(0, 0) + 256 * p.at(0, 0, 1), 0);
    EXPECT_EQ(p.at(1, 0) + 256 * p.at(1, 0, 1), 32768);
    EXPECT_EQ(p.at(2, 0) + 256 * p.at(2, 0, 1), 65535);
}

TEST(Render, ColoursAreThoseOfTheMaps) {
    using C = std::array<std::uint8_t, 3>;
    // Ends of the published maps: viridis #440154 to #fde725, inferno #000004 to #fcffa4.
    EXPECT_EQ(colors(ColorMap::viridis)[0], (C{68, 1, 84}));
    EXPECT_EQ(colors(ColorMap::viridis)[255], (C{253, 231, 37}));
    EXPECT_EQ(colors(ColorMap::inferno)[255], (C{252, 255, 164}));
    EXPECT_EQ(colors(ColorMap::hot)[255], (C{255, 255, 255}));
    EXPECT_EQ(colors(ColorMap::grey)[77], (C{77, 77, 77}));
    for (int c = 0; c < 3; ++c) // cyclic
        EXPECT_NEAR(colors(ColorMap::twilight)[0][c], colors(ColorMap::twilight)[255][c], 4) << c;
    Picture p(2, 1, PixelFormat::rgba);
    draw(p.canvas, 0, 0, std::vector<float>{0, 1}, 2, 1, 1, {0, 1}, ColorMap::viridis);
    EXPECT_EQ(p.at(0, 0, 2), 84);
    EXPECT_EQ(p.at(1, 0, 0), 253);
    EXPECT_EQ(p.at(1, 0, 3), 255);
}

TEST(Render, EnlargesByWholePixelsAndTouchesNothingElse) {
    Picture p(8, 7, PixelFormat::gray8);
    draw(p.canvas, 1, 2, std::vector<float>{0, 1, 1, 0}, 2, 2, 2, {0, 1}, ColorMap::grey);
    for (int y = 0; y < 7; ++y)
        for (int x = 0; x < 8; ++x) {
            const bool inside = x >= 1 && x < 5 && y >= 2 && y < 6;
            const int expected = ((x - 1) / 2 + (y - 2) / 2) % 2 ? 255 : 0;
            EXPECT_EQ(p.at(x, y), inside ? expected : 99) << x << ", " << y;
        }
}

TEST(Render, RefusesPanelsThatDoNotFit) {
    Picture p(8, 8, PixelFormat::gray8);
    const std::vector<float> values(16);
    EXPECT_THROW(draw(p.canvas, 5, 0, values, 4, 4, 1, {}, ColorMap::grey), Error);
    EXPECT_THROW(draw(p.canvas, 0, 0, values, 4, 4, 3, {}, ColorMap::grey), Error);
    EXPECT_THROW(draw(p.canvas, -1, 0, values, 4, 4, 1, {}, ColorMap::grey), Error);
    EXPECT_THROW(draw(p.canvas, 0, 0, values, 4, 5, 1, {}, ColorMap::grey), Error);
    EXPECT_THROW(panel_layout(3, 8000, 10, 2, false), Error);
    EXPECT_THROW(panel_layout(1, 8192, 8192, 64, true), Error);
}

TEST(Render, PanelsLieSideBySideBelowTheirCaptions) {
    const PanelLayout l = panel_layout(3, 100, 80, 2, true);
    EXPECT_EQ(l.width(), 3 * 200 + 2 * 2);
    EXPECT_EQ(l.height(), 160 + l.caption_height);
    EXPECT_EQ(l.caption_height % 2, 0);
    EXPECT_EQ(l.x(2), 404);
    const PanelLayout one = panel_layout(1, 100, 80, 1, false);
    EXPECT_EQ(one.width(), 100);
    EXPECT_EQ(one.height(), 80);
}

TEST(Render, CaptionsAreWrittenIntoTheirStripAlone) {
    const PanelLayout l = panel_layout(2, 64, 40, 1, true);
    Picture p(l.width(), l.height(), PixelFormat::gray8);
    clear(p.canvas);
    draw_caption(p.canvas, l, 1, "a text that is far too long for its panel");
    draw_caption(p.canvas, l, 0, "");
    int bright = 0;
    for (int y = 0; y < l.height(); ++y)
        for (int x = 0; x < l.width(); ++x)
            if (p.at(x, y) > 64) {
                ++bright;
                EXPECT_GE(x, l.x(1));
                EXPECT_LT(y, l.caption_height);
            }
    EXPECT_GT(bright, 20);
}

TEST(Render, ImagesOfAnotherSizeShareTheOrigin) {
    std::vector<float> small(9); // 3 x 3, origin 1, 1
    small[4] = 5;
    const auto large = recentre(small, 3, 3, 6, 4); // origin 3, 2
    EXPECT_EQ(large[2 * 6 + 3], 5);
    EXPECT_EQ(recentre(large, 6, 4, 3, 3), small);
    EXPECT_THROW(recentre(small, 3, 4, 3, 3), Error);
}

TEST(SteadyLevels, AreKeptAfterTheFirstFrameThatIsNotConstant) {
    SteadyLevels levels(0, 100, 0);
    const Levels nothing = levels.next(std::vector<float>(4, 3.0F));
    EXPECT_EQ(nothing.low, 3);
    EXPECT_GT(nothing.high, nothing.low);
    for (const float gain : {1.0F, 2.0F, 0.5F}) {
        const Levels l = levels.next(std::vector<float>{1 * gain, 2 * gain, 5 * gain});
        EXPECT_EQ(l.low, 1);
        EXPECT_EQ(l.high, 5);
    }
    levels.reset();
    EXPECT_EQ(levels.next(std::vector<float>{2, 10}).high, 10);
}

TEST(SteadyLevels, FollowWithTheirTimeConstant) {
    SteadyLevels levels(0, 100, 10);
    levels.next(std::vector<float>{0, 1});
    Levels l;
    for (int t = 0; t < 10; ++t)
        l = levels.next(std::vector<float>{0, 2});
    EXPECT_NEAR(l.high, 2 - std::exp(-1), 1e-9);
}

TEST(SteadyLevels, LeaveOutWhatIsNoNumber) {
    SteadyLevels levels(0, 100, 0);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    levels.next(std::vector<float>{nan, nan});
    const Levels l = levels.next(std::vector<float>{nan, 1, 3, std::numeric_limits<float>::infinity()});
    EXPECT_EQ(l.low, 1);
    EXPECT_EQ(l.high, 3);
}

} // namespace
