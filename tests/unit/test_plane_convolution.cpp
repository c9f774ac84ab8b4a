// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/kernels/planes/plane_convolution.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/base/threads.hpp"

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

bool runs(Isa isa) {
    const std::vector<Isa> list = processor::available();
    return std::find(list.begin(), list.end(), isa) != list.end();
}

/// With the kernels of an instruction set.
class PlaneConvolution : public testing::TestWithParam<std::pair<Isa, Type>> {
  protected:
    void SetUp() override {
        const auto [isa, type] = GetParam();
        if (!runs(isa))
            GTEST_SKIP() << "this processor does not run " << processor::name(isa);
        processor::select(isa);
        if (type == Type::bfloat16 && !kernels(type))
            GTEST_SKIP() << "this processor has no kernels of bfloat16";
        ASSERT_NE(kernels(type), nullptr);
    }
    void TearDown() override { processor::select(processor::available().back()); }
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
/// Three rows of few channels are summed directly, not by minimal filtering.
void check(Type type, int width, int first, int second, int outputs) {
    Random random;
    ThreadPool pool(2);
    const Series a = random_series(random, 3, 3, width, first);
    const Series b = random_series(random, 3, 3, width, second);
    const Series added = random_series(random, 3, 3, width, outputs);
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
    Frames out(3, Layout(type, outputs, 3, width));
    const std::vector<const Word*> add = in_c.inputs();
    layer.run(pool, std::vector<Source>{{in_a.inputs(), in_a.layout()}, {in_b.inputs(), in_b.layout()}},
              {out.outputs(), out.layout()}, &add);
    for (int t = 0; t < 3; ++t)
        for (int y = 0; y < 3; ++y)
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

/// A layer with 3x3 taps over the image, wide enough for minimal filtering, and its input.
struct Layer {
    std::vector<int> inputs{12, 9};
    int outputs = 13;
    int frames = 3, height = 9, width = 21;
    int first_dt = -1, last_dt = 1;
    int lead = 0;     ///< frames before the first output
    int missing = -1; ///< a frame of the first source that is not there
    bool add = true;

    std::vector<Convolution::Tap> taps() const {
        std::vector<Convolution::Tap> out;
        for (int source = 0; source < static_cast<int>(inputs.size()); ++source)
            for (int dt = first_dt; dt <= last_dt; ++dt)
                for (int dy = -1; dy <= 1; ++dy)
                    for (int dx = -1; dx <= 1; ++dx)
                        out.push_back({source, dt, dy, dx});
        return out;
    }
};

class FilteredLayer {
  public:
    explicit FilteredLayer(const Layer& layer) : layer_(layer), taps_(layer.taps()) {
        std::mt19937 engine(7);
        std::normal_distribution<float> normal;
        const auto values = [&](std::size_t count) {
            std::vector<float> out(count);
            for (float& v : out)
                v = normal(engine);
            return out;
        };
        const auto series = [&](int frames, int channels) {
            return Series{frames, layer.height, layer.width, channels,
                          values(static_cast<std::size_t>(frames * layer.height * layer.width * channels))};
        };
        for (const int channels : layer.inputs) {
            in_.push_back(series(layer.frames + layer.lead, channels));
            most_ = std::max(most_, channels);
        }
        if (layer.missing >= 0) {
            const auto frame = static_cast<std::ptrdiff_t>(in_[0].frame_size());
            std::fill_n(in_[0].values.begin() + layer.missing * frame, frame, 0.0F);
        }
        for (const Series& s : in_)
            planes_.push_back(s.planes(Type::float32));
        added_ = series(layer.frames, layer.outputs);
        weights_ = values(taps_.size() * static_cast<std::size_t>(layer.outputs * most_));
        bias_ = values(static_cast<std::size_t>(layer.outputs));
    }

    Convolution convolution() const {
        const auto weight = [this](int tap, int output, int input) { return at(tap, output, input); };
        return {Type::float32, layer_.inputs, layer_.outputs, taps_, weight, bias_, slope};
    }

    /// Output frames `first` and on, as many as `out` has; `step` 2: to odd rows and even pixels.
    void run(int threads, int first, Frames& out, int step = 1) const {
        ThreadPool pool(threads);
        std::vector<Source> sources;
        for (const Frames& planes : planes_)
            sources.push_back({planes.inputs(), planes.layout(), layer_.lead + first});
        if (layer_.missing >= 0)
            sources[0].frames[static_cast<std::size_t>(layer_.missing)] = nullptr;
        const Frames added = added_.planes(Type::float32);
        std::vector<const Word*> add;
        for (int t = 0; t < out.count(); ++t)
            add.push_back(added.frame(first + t));
        Convolution layer = convolution();
        for (int again = 0; again < 2; ++again) // buffers are kept
            layer.run(pool, sources, {out.outputs(), out.layout(), step, step - 1, 0},
                      layer_.add ? &add : nullptr);
    }

    /// The exact sum of an output.
    double expected(int t, int y, int x, int o) const {
        double sum = bias_[static_cast<std::size_t>(o)];
        if (layer_.add)
            sum += added_.at(t, y, x, o);
        for (std::size_t k = 0; k < taps_.size(); ++k) {
            const Series& from = in_[static_cast<std::size_t>(taps_[k].source)];
            for (int c = 0; c < from.channels; ++c)
                sum += static_cast<double>(at(static_cast<int>(k), o, c)) *
                       from.at(t + layer_.lead + taps_[k].dt, y + taps_[k].dy, x + taps_[k].dx, c);
        }
        return std::max(sum, slope * sum);
    }

  private:
    static constexpr float slope = 0.25F;
    float at(int tap, int output, int input) const {
        return weights_[static_cast<std::size_t>((tap * layer_.outputs + output) * most_ + input)];
    }

    Layer layer_;
    std::vector<Convolution::Tap> taps_;
    std::vector<Series> in_;
    std::vector<Frames> planes_;
    Series added_{};
    std::vector<float> weights_, bias_;
    int most_ = 0;
};

/// Of the outputs from their exact sums, over the largest output.
double check_filtered(const Layer& layer) {
    const FilteredLayer filtered(layer);
    Frames out(layer.frames, Layout(Type::float32, layer.outputs, layer.height, layer.width));
    filtered.run(2, 0, out);
    double difference = 0, largest = 0;
    for (int t = 0; t < layer.frames; ++t)
        for (int y = 0; y < layer.height; ++y)
            for (int x = 0; x < layer.width; ++x)
                for (int o = 0; o < layer.outputs; ++o) {
                    const double expected = filtered.expected(t, y, x, o);
                    largest = std::max(largest, std::abs(expected));
                    // NaN must not be less than anything
                    const double d = std::abs(value_of(out, t, y, x, o) - expected);
                    difference = d <= difference ? difference : d;
                }
    expect_zeros_beside(out);
    return difference / largest;
}

// Inputs, weights and sums at the points are some units larger than the pixels' and cancel again: single
// roundings of 2^-24 become some 1e-6 of the largest output. A wrong coefficient is off by some tenths.
constexpr double filtered_tolerance = 1e-5;

TEST_P(PlaneConvolution, FiltersFramesOfAnyHeight) {
    if (GetParam().second != Type::float32)
        GTEST_SKIP() << "bfloat16 is not filtered";
    for (int height = 1; height <= 13; ++height) {
        Layer layer;
        layer.height = height;
        EXPECT_LT(check_filtered(layer), filtered_tolerance) << height;
    }
}

TEST_P(PlaneConvolution, FiltersFramesOfAnyWidth) {
    if (GetParam().second != Type::float32)
        GTEST_SKIP() << "bfloat16 is not filtered";
    // One piece, several, and such as end beside one.
    for (const int width : {1, 7, 8, 16, 17, 33, 127, 128, 129, 200, 257}) {
        Layer layer;
        layer.frames = 1;
        layer.width = width;
        EXPECT_LT(check_filtered(layer), filtered_tolerance) << width;
    }
}

TEST_P(PlaneConvolution, FiltersLayersOfAnyKind) {
    if (GetParam().second != Type::float32)
        GTEST_SKIP() << "bfloat16 is not filtered";
    const auto kind = [](auto change) {
        Layer layer;
        change(layer);
        return check_filtered(layer);
    };
    EXPECT_LT(kind([](Layer& l) { l.add = false; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.inputs = {2, 40}; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.inputs = {8, 9, 10}; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.first_dt = l.last_dt = 0; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.first_dt = -2, l.last_dt = 0; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.first_dt = -2, l.last_dt = 0, l.lead = 2; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.frames = 7, l.missing = 2; }), filtered_tolerance);
    EXPECT_LT(kind([](Layer& l) { l.inputs = {12}, l.frames = 1, l.missing = 0; }), filtered_tolerance);
    for (int outputs = 1; outputs <= 34; outputs += 3)
        EXPECT_LT(kind([&](Layer& l) { l.outputs = outputs, l.inputs = {33}, l.frames = 1; }),
                  filtered_tolerance)
            << outputs;
}

TEST_P(PlaneConvolution, FilteringDependsOnNothingElse) {
    if (GetParam().second != Type::float32)
        GTEST_SKIP() << "bfloat16 is not filtered";
    Layer layer;
    layer.frames = 6;
    layer.first_dt = -2, layer.last_dt = 0, layer.lead = 2;
    const FilteredLayer filtered(layer);
    const Layout layout(Type::float32, layer.outputs, layer.height, layer.width);
    Frames whole(layer.frames, layout);
    filtered.run(1, 0, whole);
    const auto expect_same = [&](const Frames& frames, int first, const std::string& what) {
        for (int t = 0; t < frames.count(); ++t)
            EXPECT_TRUE(std::equal(frames.frame(t), frames.frame(t) + layout.frame, whole.frame(first + t)))
                << what << ": " << t;
    };
    // 40 threads share out runs of frames.
    for (const int threads : {2, 3, 40}) {
        Frames out(layer.frames, layout);
        filtered.run(threads, 0, out);
        expect_same(out, 0, std::to_string(threads) + " threads");
    }
    for (int t = 0; t < layer.frames; ++t) {
        Frames out(1, layout);
        filtered.run(2, t, out);
        expect_same(out, t, "a frame alone");
    }
    // The sums are not those of the direct way: what is not filtered has other roundings.
    Frames spread(1, Layout(Type::float32, layer.outputs, 2 * layer.height, 2 * layer.width));
    layer.add = false; // its frames are of the small size
    const FilteredLayer without(layer);
    without.run(1, 0, spread, 2);
    without.run(1, 0, whole);
    double difference = 0;
    for (int y = 0; y < layer.height; ++y)
        for (int x = 0; x < layer.width; ++x)
            for (int o = 0; o < layer.outputs; ++o) {
                const float a = value_of(whole, 0, y, x, o), b = value_of(spread, 0, 2 * y + 1, 2 * x, o);
                EXPECT_EQ(value_of(spread, 0, 2 * y, 2 * x, o), 0.0F);
                difference = std::max(difference, static_cast<double>(std::abs(a - b)));
            }
    EXPECT_GT(difference, 0.0) << "nothing was filtered: no test at all";
    EXPECT_LT(difference, 1e-3);
    expect_zeros_beside(spread);
}

INSTANTIATE_TEST_SUITE_P(Kernels, PlaneConvolution,
                         testing::Values(std::pair(Isa::avx2, Type::float32),
                                         std::pair(Isa::avx512, Type::float32),
                                         std::pair(Isa::avx512, Type::bfloat16)),
                         [](const auto& info) {
                             return std::string(processor::name(info.param.first)) +
                                    (info.param.second == Type::float32 ? "Float32" : "Bfloat16");
                         });

TEST(PlaneConvolutionKernels, AreThoseOfTheInstructionSet) {
    processor::select(Isa::portable);
    EXPECT_EQ(kernels(Type::float32), nullptr);
    EXPECT_EQ(kernels(Type::bfloat16), nullptr);
    for (const auto& [isa, lanes] : {std::pair(Isa::avx2, 8), std::pair(Isa::avx512, 16)})
        if (runs(isa)) {
            processor::select(isa);
            ASSERT_NE(kernels(Type::float32), nullptr) << processor::name(isa);
            EXPECT_EQ(kernels(Type::float32)->lanes, lanes) << processor::name(isa);
        }
    if (runs(Isa::avx2)) {
        processor::select(Isa::avx2);
        EXPECT_EQ(kernels(Type::bfloat16), nullptr);
    }
    processor::select(processor::available().back());
}

} // namespace
