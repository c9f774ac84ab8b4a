// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/float_types.hpp"
#include "models/kernels/direct3d/convolution3d.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

namespace {

using namespace mri;
using namespace mri::convolution3d;
using Layer = DirectWeights::Layer;

struct SeriesShape {
    int frames, height, width;
};

struct Case {
    Layer layer;
    int in, out;
};

int channels_of(const Case& c) {
    return c.layer == Layer::first ? packed : block;
}
int blocks_of(const Case& c) {
    return c.layer == Layer::first ? 1 : c.in / block;
}

/// A convolution with random features and weights, and what its sums should be.
class Problem {
  public:
    Problem(const Case& c, const SeriesShape& s, int reach)
        : c_(c),
          s_(s),
          reach_(reach),
          in(s.frames, blocks_of(c), channels_of(c), s.height, s.width),
          plain(static_cast<std::size_t>(c.out) * static_cast<std::size_t>(c.in) * 27) {
        std::normal_distribution<float> normal;
        for (float& w : plain)
            w = 0.2F * normal(engine_);
        for (int t = 0; t < s.frames; ++t)
            for (int channel = 0; channel < c.in; ++channel)
                for (int y = 0; y < s.height; ++y)
                    for (int x = 0; x < s.width; ++x)
                        *at(t, channel, y, x) = bfloat16_of(normal(engine_));
    }

    std::uint16_t* at(int t, int channel, int y, int x) {
        const int n = channels_of(c_);
        return in.row(t, channel / n, y) + (x + 1) * n + channel % n;
    }

    /// The sum, and the sum of magnitudes, on which its rounding error depends.
    std::pair<double, double> sum(int out, int t, int y, int x) {
        double sum = 0, magnitude = 0;
        for (int channel = 0; channel < c_.in; ++channel)
            for (int k = 0; k < 27; ++k) {
                const int dt = t + k / 9 + reach_ - 2, dy = y + k / 3 % 3 - 1, dx = x + k % 3 - 1;
                if (dt < 0 || dt >= s_.frames || dy < 0 || dy >= s_.height || dx < 0 || dx >= s_.width)
                    continue;
                const float weight = float_of_bfloat16(
                    bfloat16_of(plain[static_cast<std::size_t>((out * c_.in + channel) * 27 + k)]));
                const double term = static_cast<double>(weight) * float_of_bfloat16(*at(dt, channel, dy, dx));
                sum += term;
                magnitude += std::abs(term);
            }
        return {sum, magnitude};
    }

  private:
    Case c_;
    SeriesShape s_;
    int reach_;
    std::mt19937 engine_{7};

  public:
    DirectFrames in;
    std::vector<float> plain;
};

class Convolution3d : public testing::Test {
  protected:
    void SetUp() override {
        if (!kernels())
            GTEST_SKIP() << "this processor has no AVX512_BF16";
    }
};

constexpr SeriesShape shapes[] = {{1, 1, 1},  {3, 2, 7},  {2, 3, 8},  {4, 2, 9},  {1, 2, 16},
                                  {3, 3, 17}, {3, 1, 24}, {2, 2, 25}, {1, 2, 43}, {1, 1, 65}};

TEST_F(Convolution3d, IsTheSumOfItsTerms) {
    for (const Case& c : {Case{Layer::first, 6, 16}, Case{Layer::first, 8, 32}, Case{Layer::first, 2, 16},
                          Case{Layer::hidden, 16, 16}, Case{Layer::hidden, 32, 48}})
        for (const SeriesShape& s : shapes)
            for (const int reach : {0, 1}) {
                Problem p(c, s, reach);
                const DirectWeights weights(c.layer, p.plain, c.out, c.in);
                DirectFrames out(s.frames, c.out / block, block, s.height, s.width);
                std::fill_n(out.row(0, 0, 0),
                            out.block_stride() * static_cast<std::size_t>(s.frames * (c.out / block)),
                            std::uint16_t{0x7fc0}); // NaN: whatever is not written is seen
                bool negative = false;
                for (int t = 0; t < s.frames; ++t)
                    for (int y = 0; y < s.height; ++y)
                        for (int group = 0; group < c.out / block; ++group) {
                            DirectRow row = rows_around(p.in, weights, s.width, t, reach, y, 0, s.frames);
                            row.weights = weights.of(group);
                            std::uint16_t* features = out.row(t, group, y);
                            (c.layer == Layer::first ? kernels()->first : kernels()->hidden)(row, features);
                            for (int x = 0; x < s.width; ++x)
                                for (int lane = 0; lane < block; ++lane) {
                                    const auto [sum, magnitude] = p.sum(group * block + lane, t, y, x);
                                    negative |= sum < 0;
                                    // float32 rounds at each of 27 `in` additions, bfloat16 once
                                    const double bound =
                                        27 * c.in * 0x1p-24 * magnitude + 0x1p-8 * std::max(0.0, sum) + 1e-30;
                                    ASSERT_NEAR(float_of_bfloat16(features[(x + 1) * block + lane]),
                                                std::max(0.0, sum), bound)
                                        << c.in << " to " << c.out << ", width " << s.width << ", x " << x;
                                }
                            for (int i = (s.width + 1) * block; i < row_pixels(s.width) * block; ++i)
                                ASSERT_EQ(features[i], 0) << "beyond the image, width " << s.width;
                            ASSERT_EQ(features[0], 0x7fc0) << "the first column is not written";
                        }
                EXPECT_TRUE(negative) << "nothing to rectify";
            }
}

TEST_F(Convolution3d, LastLayerAddsToTheImagesAlone) {
    for (const Case& c : {Case{Layer::last, 16, 2}, Case{Layer::last, 48, 2}})
        for (const SeriesShape& s : shapes)
            for (const int reach : {0, 1}) {
                Problem p(c, s, reach);
                const DirectWeights weights(c.layer, p.plain, c.out, c.in);
                constexpr float before = 0.75F, guard = -1234.5F;
                const int t = s.frames - 1, y = s.height / 2;
                std::vector<float> x(2 * static_cast<std::size_t>(s.width) + 64, guard);
                std::fill_n(x.begin() + 32, 2 * s.width, before);
                kernels()->last(rows_around(p.in, weights, s.width, t, reach, y, 0, s.frames), x.data() + 32);
                for (int i = 0; i < 2 * s.width; ++i) {
                    const auto [sum, magnitude] = p.sum(i % 2, t, y, i / 2);
                    ASSERT_NEAR(x[static_cast<std::size_t>(32 + i)], before + sum,
                                27 * c.in * 0x1p-24 * (magnitude + before))
                        << "width " << s.width << ", value " << i;
                }
                for (int i = 0; i < 32; ++i) {
                    ASSERT_EQ(x[static_cast<std::size_t>(i)], guard);
                    ASSERT_EQ(x[static_cast<std::size_t>(32 + 2 * s.width + i)], guard);
                }
            }
}

TEST_F(Convolution3d, DataStepFeedsTheNextBlock) {
    std::mt19937 engine(3);
    std::normal_distribution<float> normal;
    for (const int width : {1, 7, 8, 9, 24, 31}) {
        const auto n = 2 * static_cast<std::size_t>(width);
        std::vector<float> x(n + 16, -7.0F), nx(n), b(n), mean(n);
        for (std::size_t i = 0; i < n; ++i) {
            x[i] = normal(engine);
            nx[i] = normal(engine);
            b[i] = normal(engine);
            mean[i] = normal(engine);
        }
        const std::vector<float> start = x;
        DirectFrames out(1, 1, packed, 1, width);
        kernels()->data_step({x.data(), nx.data(), b.data(), mean.data(), 0.8F, out.row(0, 0, 0), width});
        for (std::size_t i = 0; i < n; ++i) {
            const double g = static_cast<double>(b[i]) - nx[i];
            ASSERT_NEAR(x[i], start[i] + 0.8 * g, 1e-6) << width; // values below 10, two roundings
            const std::uint16_t* pixel = out.row(0, 0, 0) + (i / 2 + 1) * packed;
            // a bfloat16 is within 2^-9 of what is rounded; the difference of two values below 5 within 1e-6
            const auto expect = [&](std::size_t channel, double value) {
                ASSERT_NEAR(float_of_bfloat16(pixel[channel]), value, 0x1p-8 * std::abs(value) + 1e-6)
                    << width;
            };
            expect(i % 2, x[i] - mean[i]);
            expect(2 + i % 2, mean[i]);
            expect(4 + i % 2, g);
            ASSERT_EQ(pixel[6 + i % 2], 0);
        }
        for (std::size_t i = n; i < x.size(); ++i)
            ASSERT_EQ(x[i], -7.0F);
        for (int i = 0; i < packed; ++i)
            ASSERT_EQ(out.row(0, 0, 0)[i], 0);
        for (int i = (width + 1) * packed; i < row_pixels(width) * packed; ++i)
            ASSERT_EQ(out.row(0, 0, 0)[i], 0);
        std::vector<float> alone = start;
        kernels()->data_step({alone.data(), nx.data(), b.data(), nullptr, 0.8F, nullptr, width});
        EXPECT_EQ(alone, x);
    }
}

TEST_F(Convolution3d, SeesWhatIsNotANumber) {
    Problem p({Layer::hidden, 16, 16}, {1, 1, 9}, 1);
    *p.at(0, 3, 0, 4) = 0x7fc0;
    const DirectWeights weights(Layer::hidden, p.plain, 16, 16);
    DirectFrames out(1, 1, block, 1, 9);
    kernels()->hidden(rows_around(p.in, weights, 9, 0, 1, 0, 0, 1), out.row(0, 0, 0));
    for (int x = 0; x < 9; ++x)
        EXPECT_EQ(std::isnan(float_of_bfloat16(out.row(0, 0, 0)[(x + 1) * block])), x >= 3 && x <= 5) << x;
}

TEST(ConvolutionFrames, KeepFramesThatStay) {
    DirectFrames ring(3, 2, block, 2, 5);
    for (std::int64_t t = 0; t < 5; ++t)
        for (int b = 0; b < 2; ++b)
            for (int y = 0; y < 2; ++y)
                ring.row(t, b, y)[block + 1] = static_cast<std::uint16_t>(100 * t + 10 * b + y);
    ring.grow(5, 3, 4);
    EXPECT_EQ(ring.slots(), 5);
    for (std::int64_t t = 3; t < 5; ++t)
        for (int b = 0; b < 2; ++b)
            for (int y = 0; y < 2; ++y)
                EXPECT_EQ(ring.row(t, b, y)[block + 1], 100 * t + 10 * b + y);
}

TEST(ConvolutionWeights, RoundAndRefuse) {
    EXPECT_EQ(bfloat16_of(1.0F), 0x3f80);
    EXPECT_EQ(bfloat16_of(1.0F + 0x1p-8F), 0x3f80) << "a tie goes to the even neighbour";
    EXPECT_EQ(bfloat16_of(1.0F + 3 * 0x1p-8F), 0x3f82);
    EXPECT_EQ(bfloat16_of(-1.0F - 0x1.8p-8F), 0xbf81);
    EXPECT_TRUE(std::isnan(float_of_bfloat16(bfloat16_of(std::numeric_limits<float>::signaling_NaN()))));
    const std::vector<float> values(16 * 16 * 27, 1.0F);
    EXPECT_NO_THROW(DirectWeights(Layer::hidden, values, 16, 16));
    EXPECT_THROW(DirectWeights(Layer::hidden, values, 16, 15), Error);
    EXPECT_THROW(DirectWeights(Layer::hidden, std::span(values).first(100), 16, 16), Error);
    EXPECT_THROW(DirectWeights(Layer::last, values, 16, 16), Error);
    EXPECT_THROW(DirectWeights(Layer::first, values, 16, 16), Error);
}

TEST(ConvolutionKernels, FollowTheInstructionSetOfGridding) {
    const Isa best = processor::selected();
    processor::select(Isa::portable);
    EXPECT_EQ(kernels(), nullptr);
    processor::select(best);
}

} // namespace
