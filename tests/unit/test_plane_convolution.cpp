// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/plane_convolution.hpp"

#include "plugins/common/error.hpp"
#include "plugins/gridding/simd.hpp"
#include "plugins/gridding/threads.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace mri;
using namespace mri::planes;

/// Values that bfloat16 holds exactly: quarters from -2 to 2.
class Random {
  public:
    float next() { return static_cast<float>(static_cast<int>(engine_() % 17) - 8) / 4; }
    std::vector<float> values(std::size_t count) {
        std::vector<float> out(count);
        for (float& v : out)
            v = next();
        return out;
    }

  private:
    std::mt19937 engine_{3};
};

/// A series [t][y][x][c] as plain numbers.
struct Series {
    int frames, height, width, channels;
    std::vector<float> values;

    std::size_t frame_size() const { return values.size() / static_cast<std::size_t>(frames); }
    float at(int t, int y, int x, int c) const {
        if (t < 0 || y < 0 || x < 0 || t >= frames || y >= height || x >= width)
            return 0;
        return values[static_cast<std::size_t>(((t * height + y) * width + x) * channels + c)];
    }
    Frames planes(Type type) const {
        Frames out(frames, Layout(type, channels, height, width));
        for (int t = 0; t < frames; ++t)
            out.set(t, std::span(values).subspan(static_cast<std::size_t>(t) * frame_size(), frame_size()));
        return out;
    }
};

Series random_series(Random& random, int frames, int height, int width, int channels) {
    return {frames, height, width, channels,
            random.values(static_cast<std::size_t>(frames * height * width * channels))};
}

/// Channel c of pixel x in row y of frame t.
float value_of(const Frames& frames, int t, int y, int x, int c) {
    const Layout& l = frames.layout();
    if (l.type == Type::float32)
        return std::bit_cast<float>(frames.frame(t)[y * l.row + c * l.plane + x]);
    const Word word = frames.frame(t)[y * l.row + c / 2 * l.plane + x];
    return std::bit_cast<float>(c % 2 == 0 ? word << 16 : word & 0xFFFF0000U);
}

bool runs(simd::Isa isa) {
    const std::vector<simd::Isa> list = simd::available();
    return std::find(list.begin(), list.end(), isa) != list.end();
}

/// With the kernels of an instruction set.
class PlaneConvolution : public testing::TestWithParam<std::pair<simd::Isa, Type>> {
  protected:
    void SetUp() override {
        const auto [isa, type] = GetParam();
        if (!runs(isa))
            GTEST_SKIP() << "this processor does not run " << simd::name(isa);
        simd::select(isa);
        if (type == Type::bfloat16 && !kernels(type))
            GTEST_SKIP() << "this processor has no kernels of bfloat16";
        ASSERT_NE(kernels(type), nullptr);
    }
    void TearDown() override { simd::select(simd::available().back()); }
};

/// What lies beside the pixels is read as zeros by the next layer.
void expect_zeros_beside(const Frames& frames) {
    const Layout& l = frames.layout();
    for (int t = 0; t < frames.count(); ++t)
        for (std::ptrdiff_t i = 0; i < l.frame; ++i)
            if (i % l.plane >= l.width) {
                ASSERT_EQ(frames.frame(t)[i], 0U) << i;
            }
}

// Products of quarters are sixteenths and the sums are below 2^12, so float32 adds them exactly; bfloat16
// rounds the result once, to 8 bits.
float tolerance(Type type, float value) {
    return type == Type::float32 ? 0.0F : std::abs(value) / 256;
}

/// A layer of 3x3x3 over two sources of so many channels, and with frames that are added, against its sums.
void check(Type type, int width, int first, int second, int outputs) {
    Random random;
    ThreadPool pool(2);
    const Series a = random_series(random, 3, 4, width, first);
    const Series b = random_series(random, 3, 4, width, second);
    const Series added = random_series(random, 3, 4, width, outputs);
    std::vector<Convolution::Tap> taps;
    for (int source = 0; source < 2; ++source)
        for (int dt = -1; dt <= 1; ++dt)
            for (int dy = -1; dy <= 1; ++dy)
                for (int dx = -1; dx <= 1; ++dx)
                    taps.push_back({source, dt, dy, dx});
    const int most = std::max(first, second);
    const std::vector<float> weights =
        random.values(taps.size() * static_cast<std::size_t>(outputs) * static_cast<std::size_t>(most));
    const auto weight = [&](int tap, int output, int input) {
        return weights[static_cast<std::size_t>((tap * outputs + output) * most + input)];
    };
    const std::vector<float> bias = random.values(static_cast<std::size_t>(outputs));
    Convolution layer(type, {first, second}, outputs, taps, weight, bias, 0.25F);
    const Frames in_a = a.planes(type), in_b = b.planes(type), in_c = added.planes(type);
    Frames out(3, Layout(type, outputs, 4, width));
    const std::vector<const Word*> add = in_c.inputs();
    layer.run(pool, std::vector<Source>{{in_a.inputs(), in_a.layout()}, {in_b.inputs(), in_b.layout()}},
              {out.outputs(), out.layout()}, &add);
    for (int t = 0; t < 3; ++t)
        for (int y = 0; y < 4; ++y)
            for (int x = 0; x < width; ++x)
                for (int o = 0; o < outputs; ++o) {
                    float sum = bias[static_cast<std::size_t>(o)] + added.at(t, y, x, o);
                    for (std::size_t k = 0; k < taps.size(); ++k) {
                        const Series& from = taps[k].source == 0 ? a : b;
                        for (int c = 0; c < from.channels; ++c)
                            sum += weight(static_cast<int>(k), o, c) *
                                   from.at(t + taps[k].dt, y + taps[k].dy, x + taps[k].dx, c);
                    }
                    const float expected = std::max(sum, 0.25F * sum);
                    ASSERT_NEAR(value_of(out, t, y, x, o), expected, tolerance(type, expected))
                        << width << " wide, " << outputs << " outputs: " << t << " " << y << " " << x << " "
                        << o;
                }
    expect_zeros_beside(out);
}

TEST_P(PlaneConvolution, ComputesItsDefinition) {
    // Widths of 1 to 9 vectors with and without a rest, numbers of channels odd and even.
    for (const auto& [width, first, second, outputs] :
         {std::array{16, 3, 2, 5}, std::array{5, 1, 4, 17}, std::array{31, 2, 1, 1}, std::array{40, 4, 3, 32},
          std::array{64, 2, 2, 7}, std::array{70, 1, 1, 6}})
        check(GetParam().second, width, first, second, outputs);
}

TEST_P(PlaneConvolution, ComputesItsDefinitionInEveryTile) {
    for (const int width : {3, 8, 15, 24, 31, 48, 64})
        for (int outputs = 1; outputs <= 17; ++outputs)
            check(GetParam().second, width, 1, 2, outputs);
}

TEST_P(PlaneConvolution, WritesEveryOtherPixelOfAnUpSampledFrame) {
    const Type type = GetParam().second;
    Random random;
    ThreadPool pool(1);
    const Series in = random_series(random, 1, 3, 21, 2);
    Convolution layer(
        type, {2}, 2, {{0, 0, 0, 0}}, [](int, int o, int i) { return o == i ? 2.0F : 0.0F; }, {}, 1.0F);
    const Frames from = in.planes(type);
    Frames out(1, Layout(type, 2, 6, 42));
    const Source source{from.inputs(), from.layout()};
    layer.run(pool, std::span(&source, 1), {out.outputs(), out.layout(), 2, 1, 1});
    layer.run(pool, std::span(&source, 1), {out.outputs(), out.layout(), 2, 0, 0});
    for (int y = 0; y < 6; ++y)
        for (int x = 0; x < 42; ++x)
            for (int c = 0; c < 2; ++c)
                EXPECT_EQ(value_of(out, 0, y, x, c), y % 2 == x % 2 ? 2 * in.at(0, y / 2, x / 2, c) : 0.0F);
    expect_zeros_beside(out);
}

TEST_P(PlaneConvolution, LeavesOutFramesThatAreNotThere) {
    const Type type = GetParam().second;
    Random random;
    ThreadPool pool(1);
    const Series in = random_series(random, 2, 2, 4, 1);
    const Frames from = in.planes(type);
    Convolution layer(
        type, {1}, 1, {{0, -1, 0, 0}, {0, 0, 0, 0}}, [](int, int, int) { return 1.0F; }, {}, 1.0F);
    Frames out(2, Layout(Type::float32, 1, 2, 4));
    const Source source{{nullptr, from.frame(0), from.frame(1)}, from.layout(), 1};
    layer.run(pool, std::span(&source, 1), {out.outputs(), out.layout()});
    for (int t = 0; t < 2; ++t)
        for (int x = 0; x < 4; ++x)
            EXPECT_EQ(value_of(out, t, 1, x, 0), in.at(t, 1, x, 0) + in.at(t - 1, 1, x, 0));
}

TEST_P(PlaneConvolution, PoolsAndAdds) {
    const Type type = GetParam().second;
    Random random;
    ThreadPool pool(2);
    for (const int width : {2, 32, 74}) {
        const Series in = random_series(random, 2, 4, width, 3);
        const Frames from = in.planes(type);
        for (const bool over_time : {false, true}) {
            Frames out(over_time ? 1 : 2, Layout(type, 3, 2, width / 2));
            max_pool(pool, from.inputs(), from.layout(), out.outputs(), out.layout(), over_time);
            for (int t = 0; t < out.count(); ++t)
                for (int y = 0; y < 2; ++y)
                    for (int x = 0; x < width / 2; ++x)
                        for (int c = 0; c < 3; ++c) {
                            float expected = -100;
                            for (int i = 0; i < 4; ++i)
                                for (int f = 0; f < (over_time ? 2 : 1); ++f)
                                    expected = std::max(
                                        expected, in.at(over_time ? f : t, 2 * y + i / 2, 2 * x + i % 2, c));
                            ASSERT_EQ(value_of(out, t, y, x, c), expected);
                        }
            expect_zeros_beside(out);
        }
        const Series more = random_series(random, 2, 4, width, 3);
        Frames sum = in.planes(type);
        const Frames second = more.planes(type);
        add(pool, sum.frame(1), second.frame(1), sum.layout());
        for (int t = 0; t < 2; ++t)
            for (int y = 0; y < 4; ++y)
                for (int x = 0; x < width; ++x)
                    for (int c = 0; c < 3; ++c)
                        ASSERT_EQ(value_of(sum, t, y, x, c),
                                  in.at(t, y, x, c) + (t == 1 ? more.at(t, y, x, c) : 0));
    }
}

TEST_P(PlaneConvolution, RefusesFramesOfAnotherShape) {
    const Type type = GetParam().second;
    ThreadPool pool(1);
    Convolution layer(
        type, {2}, 2, {{0, 0, 0, 0}}, [](int, int, int) { return 1.0F; }, {}, 1.0F);
    const Frames in(1, Layout(type, 2, 4, 8)), other(1, Layout(type, 4, 4, 8));
    Frames out(1, Layout(type, 2, 4, 8)), wide(1, Layout(type, 2, 4, 9));
    const Source good{in.inputs(), in.layout()}, bad{other.inputs(), other.layout()};
    EXPECT_THROW(layer.run(pool, std::span(&bad, 1), {out.outputs(), out.layout()}), Error);
    EXPECT_THROW(layer.run(pool, std::span(&good, 1), {wide.outputs(), wide.layout()}), Error);
    EXPECT_THROW(Layout(type, 0, 1, 1), Error);
    EXPECT_THROW(Layout(type, 1 << 20, 1 << 20, 1 << 20), Error);
    const auto one = [](int, int, int) { return 1.0F; };
    EXPECT_THROW(Convolution(type, {1}, 1, {{0, 0, 0, 16}}, one, {}, 1.0F), Error);
}

INSTANTIATE_TEST_SUITE_P(Kernels, PlaneConvolution,
                         testing::Values(std::pair(simd::Isa::avx2, Type::float32),
                                         std::pair(simd::Isa::avx512, Type::float32),
                                         std::pair(simd::Isa::avx512, Type::bfloat16)),
                         [](const auto& info) {
                             return std::string(simd::name(info.param.first)) +
                                    (info.param.second == Type::float32 ? "Float32" : "Bfloat16");
                         });

TEST(PlaneConvolutionKernels, AreThoseOfTheInstructionSet) {
    simd::select(simd::Isa::portable);
    EXPECT_EQ(kernels(Type::float32), nullptr);
    EXPECT_EQ(kernels(Type::bfloat16), nullptr);
    for (const auto& [isa, lanes] : {std::pair(simd::Isa::avx2, 8), std::pair(simd::Isa::avx512, 16)})
        if (runs(isa)) {
            simd::select(isa);
            ASSERT_NE(kernels(Type::float32), nullptr) << simd::name(isa);
            EXPECT_EQ(kernels(Type::float32)->lanes, lanes) << simd::name(isa);
        }
    if (runs(simd::Isa::avx2)) {
        simd::select(simd::Isa::avx2);
        EXPECT_EQ(kernels(Type::bfloat16), nullptr);
    }
    simd::select(simd::available().back());
}

} // namespace
