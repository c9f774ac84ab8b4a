// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/kernels/winograd3d/winograd3d.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

namespace {

using namespace mri;
using namespace mri::winograd3d;

struct Case {
    int in, out, reach;
    bool cycle;
    Shape shape;
};

/// Channels that vectors hold whole, in part and in several groups; few outputs; sizes that are no multiple
/// of a tile, smaller than one, and wider than a strip; the three ways to look at time.
const Case cases[] = {
    {6, 16, 1, false, {5, 13, 11}}, {16, 16, 1, true, {4, 10, 9}},  {16, 2, 1, false, {4, 9, 13}},
    {2, 16, 0, false, {4, 9, 13}},  {16, 6, 2, false, {3, 8, 8}},   {24, 20, 1, false, {3, 7, 50}},
    {3, 2, 1, false, {3, 6, 6}},    {16, 1, 0, false, {3, 9, 101}}, {17, 33, 1, true, {1, 3, 2}},
    {8, 8, 2, true, {2, 5, 3}},
};

class Problem {
    std::mt19937 engine_{7};

    std::vector<float> random(int channels, int kept) {
        std::normal_distribution<float> normal;
        std::vector<float> values(static_cast<std::size_t>(c.shape.frames) * frame *
                                  static_cast<std::size_t>(kept));
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<int>(i % static_cast<std::size_t>(kept)) < channels ? normal(engine_) : 0;
        return values;
    }

  public:
    explicit Problem(const Case& c)
        : c(c),
          frame(static_cast<std::size_t>(c.shape.height) * static_cast<std::size_t>(c.shape.width)),
          in(random(c.in, stored(c.in))),
          out(random(c.out, stored(c.out))) {
        std::normal_distribution<float> normal;
        weights.resize(static_cast<std::size_t>(c.out) * static_cast<std::size_t>(c.in) * 27);
        for (float& w : weights)
            w = normal(engine_);
    }

    std::vector<const float*> frames_in() const {
        return inputs(c.shape.frames, 0, c.reach, c.cycle,
                      [&](int t) { return in.data() + at(t, 0, 0, 0, c.in); });
    }
    std::vector<const float*> frames_out(int reach) const {
        return inputs(c.shape.frames, 0, reach, c.cycle,
                      [&](int t) { return out.data() + at(t, 0, 0, 0, c.out); });
    }

    /// Calls with each term of the convolution: indices of input, output and weight.
    template <typename F>
    void for_each_term(const F& f) const {
        for (int t = 0; t < c.shape.frames; ++t)
            for (int y = 0; y < c.shape.height; ++y)
                for (int x = 0; x < c.shape.width; ++x)
                    for (int k = 0; k < 27; ++k) {
                        int from = t + k / 9 + c.reach - 2;
                        if (c.cycle)
                            from = (from + 2 * c.shape.frames) % c.shape.frames;
                        const int sy = y + k / 3 % 3 - 1, sx = x + k % 3 - 1;
                        if (from < 0 || from >= c.shape.frames || sy < 0 || sy >= c.shape.height || sx < 0 ||
                            sx >= c.shape.width)
                            continue;
                        for (int o = 0; o < c.out; ++o)
                            for (int i = 0; i < c.in; ++i)
                                f(at(from, sy, sx, i, c.in), at(t, y, x, o, c.out),
                                  static_cast<std::size_t>((o * c.in + i) * 27 + k));
                    }
    }
    std::size_t at(int t, int y, int x, int channel, int channels) const {
        return static_cast<std::size_t>(((t * c.shape.height + y) * c.shape.width + x) * stored(channels) +
                                        channel);
    }

    const Case c;
    const std::size_t frame;
    std::vector<float> in, out, weights;
};

/// The frames of a result with `kept` channels a pixel.
std::vector<float*> frames_of(std::vector<float>& values, const Problem& p, std::size_t kept) {
    std::vector<float*> out;
    for (std::size_t t = 0; t < static_cast<std::size_t>(p.c.shape.frames); ++t)
        out.push_back(values.data() + t * p.frame * kept);
    return out;
}

/// All instruction sets of this processor; a skip where there is none.
std::vector<const Winograd3dKernels*> all_kernels() {
    std::vector<const Winograd3dKernels*> out;
    const Isa best = processor::selected();
    for (const Isa isa : processor::available()) {
        processor::select(isa);
        if (const Winograd3dKernels* k = kernels())
            out.push_back(k);
    }
    processor::select(best);
    return out;
}

/// What sums of float32 may differ by: the transforms multiply values by up to 5 twice and add up to 36 of
/// them, each rounded to 6e-8 of values that are some ten times those of the direct sum; errors of either
/// sign make it the root of that. `largest` is the largest sum of magnitudes.
double tolerance(double largest) {
    return 60 * static_cast<double>(std::numeric_limits<float>::epsilon()) * largest;
}

class Winograd3d : public ::testing::Test {
  protected:
    Winograd3dScratch scratch; // of all calls, as in use

    void SetUp() override {
        if (all_kernels().empty())
            GTEST_SKIP() << "this processor has neither AVX2 nor AVX-512";
    }
};

TEST_F(Winograd3d, ConvolutionsAreTheDirectSums) {
    for (const Case& c : cases) {
        const Problem p(c);
        std::vector<double> sum(p.out.size()), magnitude(p.out.size());
        p.for_each_term([&](std::size_t i, std::size_t o, std::size_t w) {
            const double term = static_cast<double>(p.in[i]) * p.weights[w];
            sum[o] += term;
            magnitude[o] += std::abs(term);
        });
        const double most = tolerance(*std::max_element(magnitude.begin(), magnitude.end()));
        const Winograd3dWeights weights(p.weights, c.out, c.in);
        const auto frames = p.frames_in();
        const auto kept = static_cast<std::size_t>(weights.narrow() ? c.out : stored(c.out));
        for (const Winograd3dKernels* k : all_kernels())
            for (const bool relu : {false, true}) {
                std::vector<std::vector<float>> results;
                for (const int threads : {1, 3}) {
                    ThreadPool pool(threads);
                    // Whatever was there before does not count.
                    std::vector<float>& out = results.emplace_back(
                        static_cast<std::size_t>(c.shape.frames) * p.frame * kept, 1e30F);
                    convolve(pool, scratch, *k,
                             {frames.data(), frames_of(out, p, kept).data(), weights, c.shape, relu, false});
                }
                EXPECT_EQ(results[0], results[1]) << "the number of threads counts";
                for (std::size_t pixel = 0; pixel < results[0].size() / kept; ++pixel)
                    for (std::size_t o = 0; o < kept; ++o) {
                        const double exact =
                            sum[pixel * static_cast<std::size_t>(stored(c.out)) + o]; // 0 beyond the outputs
                        ASSERT_NEAR(results[0][pixel * kept + o], relu ? std::max(0.0, exact) : exact, most)
                            << k->name << " " << c.in << " to " << c.out << ", pixel " << pixel << ", output "
                            << o;
                    }
            }
    }
}

TEST_F(Winograd3d, FewOutputsAreAddedWhereAskedFor) {
    const Problem p(cases[2]);
    const Winograd3dWeights weights(p.weights, p.c.out, p.c.in);
    ASSERT_TRUE(weights.narrow());
    const auto frames = p.frames_in();
    ThreadPool pool(1);
    for (const Winograd3dKernels* k : all_kernels()) {
        std::vector<float> out(static_cast<std::size_t>(p.c.shape.frames) * p.frame * 2), added;
        convolve(pool, scratch, *k,
                 {frames.data(), frames_of(out, p, 2).data(), weights, p.c.shape, false, false});
        added.assign(out.size(), 2.0F);
        convolve(pool, scratch, *k,
                 {frames.data(), frames_of(added, p, 2).data(), weights, p.c.shape, false, true});
        for (std::size_t i = 0; i < out.size(); ++i)
            ASSERT_EQ(added[i], 2.0F + out[i]);
    }
    const Problem wide(cases[0]);
    const Winograd3dWeights many(wide.weights, wide.c.out, wide.c.in);
    std::vector<float> out(wide.out.size());
    const auto wide_frames = wide.frames_in();
    EXPECT_THROW(
        convolve(pool, scratch, *all_kernels().front(),
                 {wide_frames.data(), frames_of(out, wide, 16).data(), many, wide.c.shape, false, true}),
        Error);
}

/// Sums that are pending are all that a stream knows of frames before.
TEST_F(Winograd3d, FewOutputsGoOnInAStream) {
    for (const int outputs : {2, 1}) {
        Problem p({16, outputs, 0, false, {7, 9, 101}});
        p.in[p.at(2, 3, 3, 5, p.c.in)] = std::numeric_limits<float>::quiet_NaN();
        const Winograd3dWeights weights(p.weights, p.c.out, p.c.in);
        const auto kept = static_cast<std::size_t>(outputs);
        const auto frames = p.frames_in();
        ThreadPool pool(2);
        for (const Winograd3dKernels* k : all_kernels()) {
            std::vector<float> whole(static_cast<std::size_t>(p.c.shape.frames) * p.frame * kept);
            convolve(pool, scratch, *k,
                     {frames.data(), frames_of(whole, p, kept).data(), weights, p.c.shape, false, false});
            std::vector<float> stream(whole.size()), pending(pending_floats(p.c.shape));
            const auto to = frames_of(stream, p, kept);
            int first = 0;
            for (const int count : {1, 1, 3, 2}) {
                std::vector<const float*> from(frames.begin() + first, frames.begin() + first + count + 2);
                from[0] = from[1] = nullptr;
                Winograd3dConvolution part{from.data(), to.data() + first,
                                           weights,     {count, p.c.shape.height, p.c.shape.width},
                                           false,       false};
                part.pending = pending.data();
                convolve(pool, scratch, *k, part);
                first += count;
            }
            ASSERT_EQ(first, p.c.shape.frames);
            for (std::size_t i = 0; i < whole.size(); ++i) {
                if (std::isnan(whole[i])) {
                    ASSERT_TRUE(std::isnan(stream[i]));
                    continue;
                }
                ASSERT_EQ(stream[i], whole[i]) << k->name << ", value " << i;
            }
            const auto numbers = [&](int t) {
                const auto* frame = whole.data() + static_cast<std::size_t>(t) * p.frame * kept;
                return std::none_of(frame, frame + p.frame * kept, [](float v) { return std::isnan(v); });
            };
            for (int t = 0; t < p.c.shape.frames; ++t)
                EXPECT_EQ(numbers(t), t < 2 || t > 4) << "frame " << t << " of those that see frame 2";
        }
    }
    Problem wide(cases[0]);
    const Winograd3dWeights many(wide.weights, wide.c.out, wide.c.in);
    std::vector<float> out(wide.out.size()), pending(pending_floats(wide.c.shape));
    const auto frames = wide.frames_in();
    const auto to = frames_of(out, wide, 16);
    Winograd3dConvolution refused{frames.data(), to.data(), many, wide.c.shape, false, false};
    refused.pending = pending.data();
    ThreadPool pool(1);
    EXPECT_THROW(convolve(pool, scratch, *all_kernels().front(), refused), Error);
}

TEST_F(Winograd3d, TransposedKernelsGiveTheGradientOfTheInput) {
    for (const Case& c : cases) {
        const Problem p(c);
        std::vector<double> sum(p.in.size()), magnitude(p.in.size());
        p.for_each_term([&](std::size_t i, std::size_t o, std::size_t w) {
            const double term = static_cast<double>(p.out[o]) * p.weights[w];
            sum[i] += term;
            magnitude[i] += std::abs(term);
        });
        const double most = tolerance(*std::max_element(magnitude.begin(), magnitude.end()));
        const Winograd3dWeights weights = Winograd3dWeights::transposed(p.weights, c.out, c.in);
        const auto frames = p.frames_out(2 - c.reach);
        const auto kept = static_cast<std::size_t>(weights.narrow() ? c.in : stored(c.in));
        ThreadPool pool(2);
        for (const Winograd3dKernels* k : all_kernels()) {
            std::vector<float> out(static_cast<std::size_t>(c.shape.frames) * p.frame * kept, 1e30F);
            convolve(pool, scratch, *k,
                     {frames.data(), frames_of(out, p, kept).data(), weights, c.shape, false, false});
            for (std::size_t i = 0; i < out.size(); ++i)
                ASSERT_NEAR(out[i], sum[i / kept * static_cast<std::size_t>(stored(c.in)) + i % kept], most)
                    << k->name << " " << c.in << " to " << c.out;
            // Through a rectifier that gave the input.
            const auto rectified = inputs(c.shape.frames, 0, 2, false,
                                          [&](int t) { return p.in.data() + p.at(t, 0, 0, 0, c.in); });
            std::vector<float> passed(out.size(), 1e30F);
            const auto to = frames_of(passed, p, kept);
            Winograd3dConvolution through{frames.data(), to.data(), weights, c.shape, false, false};
            through.rectified = rectified.data();
            if (weights.narrow()) {
                EXPECT_THROW(convolve(pool, scratch, *k, through), Error);
                continue;
            }
            convolve(pool, scratch, *k, through);
            for (std::size_t i = 0; i < out.size(); ++i)
                ASSERT_EQ(passed[i], p.in[i] > 0 ? out[i] : 0.0F) << k->name;
        }
    }
}

TEST_F(Winograd3d, GradientsOfTheKernelsAreTheDirectSums) {
    for (const Case& c : cases) {
        const Problem p(c);
        std::vector<double> sum(p.weights.size()), magnitude(p.weights.size());
        p.for_each_term([&](std::size_t i, std::size_t o, std::size_t w) {
            const double term = static_cast<double>(p.out[o]) * p.in[i];
            sum[w] += term;
            magnitude[w] += std::abs(term);
        });
        const double most = tolerance(*std::max_element(magnitude.begin(), magnitude.end()));
        const auto frames = p.frames_in();
        for (const Winograd3dKernels* k : all_kernels()) {
            std::vector<std::vector<float>> results;
            for (const int threads : {1, 3}) {
                ThreadPool pool(threads);
                std::vector<float>& out = results.emplace_back(p.weights.size(), 1.0F); // it is added to
                gradient(pool, scratch, *k, {frames.data(), p.out.data(), c.in, c.out, c.shape}, out);
                for (std::size_t i = 0; i < out.size(); ++i)
                    ASSERT_NEAR(out[i], 1 + sum[i], most) << k->name << " " << c.in << " to " << c.out;
            }
            EXPECT_EQ(results[0], results[1]) << "the number of threads counts";
        }
    }
}

TEST_F(Winograd3d, WhatIsNotANumberIsSeen) {
    const Case c{16, 16, 1, false, {1, 8, 8}};
    Problem p(c);
    p.in[p.at(0, 3, 3, 5, c.in)] = std::numeric_limits<float>::quiet_NaN();
    const Winograd3dWeights weights(p.weights, c.out, c.in);
    const auto frames = p.frames_in();
    ThreadPool pool(1);
    for (const Winograd3dKernels* k : all_kernels()) {
        std::vector<float> out(p.out.size());
        convolve(pool, scratch, *k,
                 {frames.data(), frames_of(out, p, group).data(), weights, c.shape, true, false});
        EXPECT_TRUE(std::isnan(out[p.at(0, 3, 3, 0, c.out)])) << "the rectifier hides it";
    }
}

TEST(Winograd3dWeights, RefusesSizesThatDoNotFit) {
    const std::vector<float> values(27 * 4);
    EXPECT_NO_THROW(Winograd3dWeights(values, 2, 2));
    EXPECT_THROW(Winograd3dWeights(values, 2, 3), Error);
    EXPECT_THROW(Winograd3dWeights(values, 0, 2), Error);
    EXPECT_THROW(Winograd3dWeights::transposed(values, 4, 2), Error);
    EXPECT_THROW(Winograd3dWeights(std::vector<float>(27 * 257), 257, 1), Error);
}

} // namespace
