// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/image/crop.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace {

std::vector<std::uint16_t> cut(const std::vector<std::uint16_t>& image, int w, int h, int channels,
                               mri::CropBox box) {
    std::vector<std::uint16_t> out(static_cast<std::size_t>(box.width) * box.height * channels);
    mri::crop(std::as_bytes(std::span(image)), w, h, channels, 2, box,
              std::as_writable_bytes(std::span(out)));
    return out;
}

TEST(Crop, TheOriginPixelStaysTheOrigin) {
    for (const int image : {8, 9, 192})
        for (const int size : {5, 6, 7, 8}) {
            const mri::CropBox box = mri::centre_box(image, image, size, size);
            EXPECT_EQ(box.x + size / 2, image / 2) << size << " of " << image;
            EXPECT_GE(box.x, 0);
            EXPECT_LE(box.x + box.width, image);
        }
}

TEST(Crop, AWantedSizeBeyondTheImageOrZeroKeepsTheWholeEdge) {
    EXPECT_EQ(mri::centre_box(100, 200, 128, 0), (mri::CropBox{0, 0, 100, 200}));
}

TEST(Crop, ABoxAroundAPointStaysInside) {
    EXPECT_EQ(mri::box_around(50.4, 60, 200, 100, 32, 32), (mri::CropBox{34, 44, 32, 32}));
    EXPECT_EQ(mri::box_around(0, 99, 200, 100, 32, 32), (mri::CropBox{0, 68, 32, 32}));
    EXPECT_EQ(mri::box_around(199, 0, 200, 100, 300, 32), (mri::CropBox{0, 0, 200, 32}));
}

TEST(Crop, CopiesTheRowsOfEachChannel) {
    std::vector<std::uint16_t> image(2 * 4 * 5); // [2][4][5]
    for (std::size_t i = 0; i < image.size(); ++i)
        image[i] = static_cast<std::uint16_t>(i);
    EXPECT_EQ(cut(image, 5, 4, 2, {1, 2, 3, 2}),
              (std::vector<std::uint16_t>{11, 12, 13, 16, 17, 18, 31, 32, 33, 36, 37, 38}));
}

TEST(Crop, RefusesBoxesAndSizesThatDoNotFit) {
    const std::vector<std::uint16_t> image(20);
    EXPECT_THROW(cut(image, 5, 4, 1, {3, 0, 3, 2}), mri::Error);
    EXPECT_THROW(cut(image, 5, 4, 1, {-1, 0, 3, 2}), mri::Error);
    EXPECT_THROW(cut(image, 5, 4, 1, {0, 0, 0, 2}), mri::Error);
    EXPECT_THROW(cut(image, 5, 5, 1, {0, 0, 2, 2}), mri::Error);
    EXPECT_THROW(cut(image, 5, 4, 1, {2147483647, 0, 3, 2}), mri::Error);
}

TEST(MotionCentre, FindsTheMovingDiscUnderNoise) {
    const int w = 96, h = 80;
    mri::MotionCentre motion(w, h);
    std::uint32_t state = 1;
    for (int t = 0; t < 10; ++t) {
        std::vector<float> frame(static_cast<std::size_t>(w) * h);
        for (int y = 0; y < h; ++y)
            for (int x = 0; x < w; ++x) {
                state = 1664525u * state + 1013904223u;
                const int r2 = (x - 60) * (x - 60) + (y - 30) * (y - 30), r = 8 + t % 5;
                frame[static_cast<std::size_t>(y) * w + x] =
                    (r2 < r * r ? 1.0F : 0.5F) + 0.05F * static_cast<float>(state >> 8) / 16777216.0F;
            }
        motion.add(frame);
    }
    // The ring between the radii 8 and 12 changes by 0.5, the noise by 0.05 / sqrt(12): a quarter of the
    // ring's deviation lies well above it, so the centre is that of the ring, within the raster's half pixel.
    EXPECT_EQ(motion.frames(), 10);
    EXPECT_NEAR(motion.centre().x, 60, 0.5);
    EXPECT_NEAR(motion.centre().y, 30, 0.5);
}

TEST(MotionCentre, IsTheMiddleWhenNothingMoves) {
    mri::MotionCentre motion(9, 8);
    const std::vector<float> frame(72, 0.5F);
    motion.add(frame);
    EXPECT_EQ(motion.centre().x, 4);
    motion.add(frame);
    EXPECT_EQ(motion.centre().x, 4);
    EXPECT_EQ(motion.centre().y, 4);
    EXPECT_THROW(motion.add(std::vector<float>(71)), mri::Error);
}

} // namespace
