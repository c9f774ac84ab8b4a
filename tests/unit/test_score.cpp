// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/image/score.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

std::vector<float> uniform(std::uint32_t state, std::size_t count) {
    std::vector<float> out(count);
    for (float& value : out) {
        state = 1664525u * state + 1013904223u;
        value = static_cast<float>(state >> 8) / 16777216.0F;
    }
    return out;
}

struct Series {
    int width, height, frames;
    std::vector<float> truth, image;
};

/// The series of tests/golden/score.py.
Series make_series(int frames, int height, int width, float gain, float offset, float noise) {
    const std::size_t count = static_cast<std::size_t>(frames) * height * width;
    const auto u = uniform(1, count), v = uniform(2, count);
    Series s{width, height, frames, std::vector<float>(count), std::vector<float>(count)};
    std::size_t i = 0;
    for (int t = 0; t < frames; ++t)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x, ++i) {
                const int dx = x - width / 2 - 3 * t, dy = y - height / 2 + t, r = width / 4;
                const float disc = dx * dx + dy * dy < r * r ? 1.0F : 0.0F;
                s.truth[i] = 0.2F + 0.6F * disc + 0.125F * u[i];
                s.image[i] = gain * s.truth[i] + offset + noise * (v[i] - 0.5F);
            }
    return s;
}

mri::SeriesScore score(const Series& s, const mri::ScoreOptions& options = {}) {
    mri::Scorer scorer(s.width, s.height, options);
    const std::size_t pixels = static_cast<std::size_t>(s.width) * s.height;
    for (int t = 0; t < s.frames; ++t)
        scorer.add(std::span(s.image).subspan(t * pixels, pixels),
                   std::span(s.truth).subspan(t * pixels, pixels));
    return scorer.finish();
}

std::map<std::string, double> golden() {
    const char* dir = std::getenv("GST_MRI_GOLDEN_DIR");
    std::ifstream file(std::string(dir ? dir : "tests/golden") + "/score.txt");
    std::map<std::string, double> values;
    std::string key;
    for (double value; file >> key >> value;)
        values[key] = value;
    return values;
}

// The made-up pixels of the two programs agree to a few ulp of single precision (1.2e-7 at 1, where the
// compiler fuses a multiplication with an addition and numpy does not); the errors compared are of the order
// 0.1, so the derived figures agree to a few times 1e-6 relative, and a decibel moves by 10 / ln 10 times
// that: 1e-5 covers both.
constexpr double tolerance = 1e-5;

void expect_golden(const std::string& name, const mri::SeriesScore& s) {
    const auto expected = golden();
    ASSERT_EQ(expected.size(), 34u) << "tests/golden/score.txt is missing or not what score.py writes";
    const auto near = [&](const std::string& key, double value) {
        EXPECT_NEAR(value, expected.at(name + "." + key), tolerance) << name << "." << key;
    };
    near("gain", s.gain);
    near("offset", s.offset);
    EXPECT_EQ(s.moving_pixels, static_cast<std::size_t>(expected.at(name + ".moving_pixels")));
    for (const bool fitted : {true, false}) {
        const std::string kind = fitted ? "fitted." : "raw.";
        const mri::ScoreValues& v = fitted ? s.fitted : s.raw;
        const mri::ScoreValues& frame = (fitted ? s.frames_fitted : s.frames_raw).at(1);
        near(kind + "mse", v.mse);
        near(kind + "nrmse", v.nrmse);
        near(kind + "psnr", v.psnr);
        near(kind + "ssim", v.ssim);
        near(kind + "ssim_frame1", frame.ssim);
        near(kind + "psnr_frame1", frame.psnr);
        near(kind + "psnr_moving", fitted ? s.psnr_moving : s.psnr_moving_raw);
    }
}

TEST(Score, AgreesWithScikitImageOnTheCentreOfALargerImage) {
    const mri::SeriesScore s = score(make_series(4, 140, 151, 0.625F, 0.125F, 0.25F));
    EXPECT_EQ(s.frames, 4u);
    expect_golden("large", s);
}

TEST(Score, AgreesWithScikitImageOnASmallImageThatNeedsClipping) {
    expect_golden("small", score(make_series(5, 33, 40, 1.5F, -0.25F, 0.75F)));
}

TEST(Score, TheFitRemovesAnyScaleAndOffset) {
    const mri::SeriesScore s = score(make_series(3, 40, 40, 0.25F, 0.5F, 0));
    // Single precision pixels: an error of 1e-7 a pixel after the gain of 4 is 128 dB; 100 dB leaves room.
    EXPECT_GT(s.fitted.psnr, 100);
    EXPECT_NEAR(s.gain, 4, 1e-5);
    EXPECT_NEAR(s.offset, -2, 1e-5);
    EXPECT_LT(s.raw.psnr, 15);
    EXPECT_LT(s.raw.ssim, s.fitted.ssim);
}

TEST(Score, WithoutFitTheFittedFiguresAreTheRawOnes) {
    const Series series = make_series(3, 40, 40, 0.5F, 0.125F, 0.25F);
    const mri::SeriesScore s = score(series, {.fit = false});
    EXPECT_EQ(s.gain, 1);
    EXPECT_EQ(s.offset, 0);
    EXPECT_EQ(s.fitted.psnr, score(series).raw.psnr);
    EXPECT_EQ(s.fitted.psnr, s.raw.psnr);
}

TEST(Score, EqualImagesAreInfinitelyGood) {
    Series s = make_series(2, 16, 16, 1, 0, 0);
    s.image = s.truth;
    const mri::SeriesScore r = score(s, {.fit = false});
    EXPECT_TRUE(std::isinf(r.fitted.psnr));
    EXPECT_EQ(r.fitted.mse, 0);
    EXPECT_NEAR(r.fitted.ssim, 1, 1e-12); // rounding of double sums of 49 terms
}

TEST(Score, AFrozenHeartScoresWorseWhereItMoves) {
    Series s = make_series(4, 64, 64, 1, 0, 0);
    const std::size_t pixels = 64 * 64;
    for (std::size_t p = 0; p < pixels; ++p) {
        float mean = 0;
        for (int t = 0; t < 4; ++t)
            mean += s.truth[t * pixels + p] / 4;
        for (int t = 0; t < 4; ++t)
            s.image[t * pixels + p] = mean;
    }
    const mri::SeriesScore r = score(s);
    EXPECT_GT(r.moving_pixels, 0u);
    EXPECT_LT(r.moving_pixels, pixels / 2);
    EXPECT_LT(r.psnr_moving, r.fitted.psnr - 3);
}

TEST(Score, NothingMovesInASingleFrame) {
    const mri::SeriesScore s = score(make_series(1, 16, 16, 1, 0, 0.1F));
    EXPECT_EQ(s.moving_pixels, 0u);
    EXPECT_TRUE(std::isnan(s.psnr_moving));
}

TEST(Score, AConstantImageIsFittedByItsLevel) {
    Series s = make_series(2, 16, 16, 0, 0.5F, 0);
    const mri::SeriesScore r = score(s);
    EXPECT_EQ(r.gain, 0);
    double mean = 0;
    for (const float v : s.truth)
        mean += v / s.truth.size();
    EXPECT_NEAR(r.offset, mean, 1e-6);
}

TEST(Score, StartsAnewAfterASeries) {
    mri::Scorer scorer(16, 16);
    const Series s = make_series(2, 16, 16, 1, 0, 0.5F);
    const auto frame = [&](const std::vector<float>& a, int t) { return std::span(a).subspan(t * 256, 256); };
    EXPECT_EQ(scorer.finish().frames, 0u);
    scorer.add(frame(s.image, 0), frame(s.truth, 0));
    const double first = scorer.finish().fitted.mse;
    EXPECT_EQ(scorer.frames(), 0u);
    scorer.add(frame(s.image, 1), frame(s.truth, 1));
    scorer.finish();
    scorer.add(frame(s.image, 0), frame(s.truth, 0));
    EXPECT_EQ(scorer.finish().fitted.mse, first);
}

TEST(Score, RefusesWhatCannotBeScored) {
    EXPECT_THROW(mri::Scorer(6, 100), mri::Error);
    EXPECT_THROW(mri::Scorer(100, 100, {.crop_width = 128, .crop_height = 5}), mri::Error);
    mri::Scorer scorer(16, 16);
    const std::vector<float> right(256), wrong(255);
    EXPECT_THROW(scorer.add(right, wrong), mri::Error);
    EXPECT_THROW(scorer.add(wrong, right), mri::Error);
}

} // namespace
