// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/display/gif_writer.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/gif_reader.hpp"
#include "tests/support/temp_dir.hpp"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

namespace {

namespace fs = std::filesystem;

class Gif : public ::testing::Test {
  protected:
    std::string path() const { return folder_ / "a.gif"; }
    std::size_t files() const { return folder_.entries(); }
    mri::test::TempDir folder_;
};

mri::IndexedPicture picture(int width, int height, int colors, int shift) {
    mri::IndexedPicture p;
    for (int i = 0; i < colors; ++i)
        p.palette.push_back({static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(255 - i), 7});
    for (int i = 0; i < width * height; ++i)
        p.pixels.push_back(static_cast<std::uint8_t>((i + shift) % colors));
    return p;
}

TEST_F(Gif, ComesBackAsItWasWritten) {
    {
        mri::GifWriter writer(path(), 31, 17, 0);
        for (int t = 0; t < 3; ++t)
            writer.add(picture(31, 17, t == 1 ? 1 : 200, t), 4 + t);
        EXPECT_FALSE(fs::exists(path())) << "half a file was to be seen";
        writer.finish();
    }
    EXPECT_EQ(files(), 1u);
    const ReadGif gif = read_gif(path());
    EXPECT_EQ(gif.width, 31);
    EXPECT_EQ(gif.height, 17);
    EXPECT_EQ(gif.repeats, 0);
    ASSERT_EQ(gif.frames.size(), 3u);
    for (int t = 0; t < 3; ++t) {
        EXPECT_EQ(gif.frames[t].delay, 4 + t);
        const auto p = picture(31, 17, t == 1 ? 1 : 200, t);
        for (std::size_t i = 0; i < p.pixels.size(); ++i)
            ASSERT_EQ(gif.frames[t].pixels[i], p.palette[p.pixels[i]]) << t << ", " << i;
    }
}

TEST_F(Gif, LoopsAsOftenAsAsked) {
    for (const int loops : {1, 2, 300}) {
        mri::GifWriter writer(path(), 4, 4, loops);
        writer.add(picture(4, 4, 4, 0), 10);
        writer.finish();
        EXPECT_EQ(read_gif(path()).repeats, loops == 1 ? -1 : loops - 1);
    }
}

TEST_F(Gif, AnUnfinishedFileLeavesNothingAndKeepsTheOldOne) {
    std::ofstream(path()) << "old";
    {
        mri::GifWriter writer(path(), 4, 4, 0);
        writer.add(picture(4, 4, 4, 0), 10);
    }
    EXPECT_EQ(files(), 1u);
    std::string text;
    std::ifstream(path()) >> text;
    EXPECT_EQ(text, "old");
}

TEST_F(Gif, RefusesWhatAGifCannotHold) {
    EXPECT_THROW(mri::GifWriter(path(), 65536, 4, 0), mri::Error);
    EXPECT_THROW(mri::GifWriter("", 4, 4, 0), mri::Error);
    EXPECT_THROW(mri::GifWriter(folder_ / "missing/a.gif", 4, 4, 0), mri::Error);
    mri::GifWriter writer(path(), 4, 4, 0);
    EXPECT_THROW(writer.add(picture(5, 4, 4, 0), 10), mri::Error);
    auto bad = picture(4, 4, 4, 0);
    bad.pixels[3] = 4;
    EXPECT_THROW(writer.add(bad, 10), mri::Error);
    bad.palette.clear();
    EXPECT_THROW(writer.add(bad, 10), mri::Error);
}

TEST(Quantizer, KeepsUpTo256ColoursExactly) {
    std::vector<mri::Rgb> pixels;
    for (int i = 0; i < 1000; ++i)
        pixels.push_back({static_cast<std::uint8_t>(i % 256), static_cast<std::uint8_t>(i % 256), 5});
    mri::Quantizer quantizer;
    const auto p = quantizer.reduce(pixels);
    EXPECT_EQ(p.palette.size(), 256u);
    for (std::size_t i = 0; i < pixels.size(); ++i)
        ASSERT_EQ(p.palette[p.pixels[i]], pixels[i]);
}

TEST(Quantizer, ReducesMoreColoursWithASmallErrorAndTheSamePaletteForAllPictures) {
    // A plane of 64 x 64 colours, evenly spread over two axes: 256 boxes of 4 x 4 of them are the best cut,
    // with an error of at most 2 steps of 4 levels an axis.
    std::vector<mri::Rgb> pixels;
    for (int i = 0; i < 4096; ++i)
        pixels.push_back(
            {static_cast<std::uint8_t>(4 * (i % 64)), 100, static_cast<std::uint8_t>(4 * (i / 64))});
    mri::Quantizer quantizer;
    const auto first = quantizer.reduce(pixels);
    EXPECT_EQ(first.palette.size(), 256u);
    EXPECT_EQ(std::set<mri::Rgb>(first.palette.begin(), first.palette.end()).size(), 256u);
    for (std::size_t i = 0; i < pixels.size(); ++i)
        for (int c = 0; c < 3; ++c)
            ASSERT_LE(std::abs(first.palette[first.pixels[i]][c] - pixels[i][c]), 8) << i;
    for (auto& p : pixels)
        p[1] = 101;
    EXPECT_EQ(quantizer.reduce(pixels).palette, first.palette);
}

} // namespace
