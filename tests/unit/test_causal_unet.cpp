// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/causal_unet.hpp"
#include "models/common/running_mean.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/convolutions.hpp"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>

namespace {

using namespace mri;

const RunOptions plain{"cpu", Precision::float32, 1};
constexpr int layers = 13;

/// Weights of which every layer counts: He's variance, conv6 too.
TensorFile random_network(const CausalUnetOptions& options, unsigned seed = 1) {
    std::mt19937 random(seed);
    TensorFile file;
    file.metadata = causal_unet_metadata(options);
    for (const auto& [name, shape] : causal_unet_tensors(options)) {
        NamedTensor tensor{shape, {}};
        const auto inputs = static_cast<float>(tensor.count()) / static_cast<float>(shape[0]);
        for (std::size_t i = 0; i < tensor.count(); ++i)
            tensor.values.push_back((static_cast<float>(random() % 20001) / 10000 - 1) *
                                    std::sqrt(6 / inputs));
        file.tensors[name] = tensor;
    }
    return file;
}

std::vector<float> random_series(const WindowShape& shape, unsigned seed = 2) {
    std::mt19937 random(seed);
    std::vector<float> out(shape.count());
    for (float& value : out)
        value = static_cast<float>(random() % 10001) / 10000;
    return out;
}

/// The series in pieces of these lengths, without a reset in between.
std::vector<float> run_in(CausalUnet& network, const std::vector<float>& input, WindowShape shape,
                          const std::vector<int>& pieces) {
    std::vector<float> output(input.size());
    std::size_t done = 0;
    for (const int frames : pieces) {
        shape.frames = frames;
        network.run(std::span(input).subspan(done, shape.count()),
                    std::span(output).subspan(done, shape.count()), shape);
        done += shape.count();
    }
    EXPECT_EQ(done, input.size());
    return output;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
    return largest;
}

double largest(std::span<const float> values) {
    return largest_difference(values, std::vector<float>(values.size()));
}

/// The network's definition in loops: [frame][channel][y][x] of the sizes given.
struct Series {
    int frames, channels, height, width;
    std::vector<double> values;

    Series(int t, int c, int h, int w)
        : frames(t), channels(c), height(h), width(w), values(std::size_t(t) * c * h * w) {}
    double& at(int t, int c, int y, int x) {
        return values[((std::size_t(t) * channels + c) * height + y) * width + x];
    }
    /// 0 outside of the image; before the first frame is the first frame.
    double get(int t, int c, int y, int x) {
        return x < 0 || y < 0 || x >= width || y >= height ? 0 : at(std::max(t, 0), c, y, x);
    }
};

class Definition {
  public:
    explicit Definition(const TensorFile& file) : file_(file) {}

    Series run(const std::vector<float>& input, const WindowShape& shape, int mean_frames) const {
        Series x(shape.frames, 2, shape.height, shape.width);
        Series magnitude(shape.frames, 1, shape.height, shape.width);
        std::copy(input.begin(), input.end(), magnitude.values.begin());
        for (int y = 0; y < shape.height; ++y)
            for (int col = 0; col < shape.width; ++col) {
                double mean = 0;
                for (int t = 0; t < shape.frames; ++t) {
                    const double value = magnitude.at(t, 0, y, col);
                    mean += (value - mean) / std::min(t + 1, mean_frames);
                    x.at(t, 0, y, col) = value - mean;
                    x.at(t, 1, y, col) = mean;
                }
            }
        const Series level1 = pair("conv1", "conv1_1", x);
        const Series level2 = pair("conv2", "conv2_2", pool(level1));
        const Series level3 = pair("conv3", "conv3_3", pool(level2));
        const Series back2 = pair("conv4", "conv4_4", joined(up("convT1", level3), level2));
        const Series back1 = pair("conv5", "conv5_5", joined(up("convT2", back2), level1));
        Series out = convolve("conv6", back1);
        for (std::size_t i = 0; i < out.values.size(); ++i)
            out.values[i] = std::max(0.0, out.values[i] + magnitude.values[i]);
        return out;
    }

  private:
    Series convolve(const std::string& layer, Series x) const {
        const NamedTensor& w = file_.tensors.at(layer + ".weight");
        const int taps = w.shape.size() == 5 ? static_cast<int>(w.shape[2]) : 1;
        Series out(x.frames, static_cast<int>(w.shape[0]), x.height, x.width);
        std::size_t i = 0;
        for (int o = 0; o < out.channels; ++o)
            for (int c = 0; c < x.channels; ++c)
                for (int k = 0; k < taps; ++k)
                    for (int dy = -1; dy <= 1; ++dy)
                        for (int dx = -1; dx <= 1; ++dx, ++i)
                            for (int t = 0; t < x.frames; ++t)
                                for (int y = 0; y < x.height; ++y)
                                    for (int col = 0; col < x.width; ++col)
                                        out.at(t, o, y, col) +=
                                            double(w.values[i]) *
                                            x.get(t - (taps - 1) + k, c, y + dy, col + dx);
        return out;
    }
    static Series relu(Series x) {
        for (double& value : x.values)
            value = std::max(0.0, value);
        return x;
    }
    Series pair(const char* first, const char* second, const Series& x) const {
        return relu(convolve(second, relu(convolve(first, x))));
    }
    static Series pool(Series x) {
        Series out(x.frames, x.channels, x.height / 2, x.width / 2);
        for (int t = 0; t < x.frames; ++t)
            for (int c = 0; c < x.channels; ++c)
                for (int y = 0; y < out.height; ++y)
                    for (int col = 0; col < out.width; ++col)
                        out.at(t, c, y, col) = std::max(
                            std::max(x.at(t, c, 2 * y, 2 * col), x.at(t, c, 2 * y, 2 * col + 1)),
                            std::max(x.at(t, c, 2 * y + 1, 2 * col), x.at(t, c, 2 * y + 1, 2 * col + 1)));
        return out;
    }
    Series up(const std::string& layer, Series x) const {
        const NamedTensor& w = file_.tensors.at(layer + ".weight");
        Series out(x.frames, static_cast<int>(w.shape[1]), 2 * x.height, 2 * x.width);
        for (int t = 0; t < x.frames; ++t)
            for (int o = 0; o < out.channels; ++o)
                for (int y = 0; y < out.height; ++y)
                    for (int col = 0; col < out.width; ++col)
                        for (int c = 0; c < x.channels; ++c)
                            out.at(t, o, y, col) +=
                                double(w.values[((std::size_t(c) * out.channels + o) * 2 + y % 2) * 2 +
                                                col % 2]) *
                                x.at(t, c, y / 2, col / 2);
        return out;
    }
    static Series joined(Series a, Series b) {
        Series out(a.frames, a.channels + b.channels, a.height, a.width);
        for (int t = 0; t < a.frames; ++t)
            for (int c = 0; c < out.channels; ++c)
                for (int y = 0; y < a.height; ++y)
                    for (int col = 0; col < a.width; ++col)
                        out.at(t, c, y, col) =
                            c < a.channels ? a.at(t, c, y, col) : b.at(t, c - a.channels, y, col);
        return out;
    }

    const TensorFile& file_;
};

struct EveryCausalUnet : test::EveryConvolution {};
INSTANTIATE_TEST_SUITE_P(Convolutions, EveryCausalUnet, test::every_convolution(), test::convolution_name);

TEST_P(EveryCausalUnet, ComputesItsDefinition) {
    const CausalUnetOptions options{2, 3};
    const WindowShape shape{5, 8, 12};
    const TensorFile file = random_network(options);
    const auto input = random_series(shape);
    Series expected = Definition(file).run(input, shape, options.mean_frames);
    CausalUnet network(file, "random", plain);
    const auto output = run_in(network, input, shape, {5});
    double difference = 0;
    for (std::size_t i = 0; i < output.size(); ++i)
        difference = std::max(difference, std::abs(output[i] - expected.values[i]));
    // 13 layers of sums of at most 27 x 8 products in float32: the rounding of one, 2^-24 of its largest sum,
    // adds up to far less than 1e-5 of the largest value.
    EXPECT_LT(difference, 1e-5 * largest(output));
    EXPECT_GT(largest_difference(output, input), 0.1) << "the network does nothing: no test at all";
}

TEST_P(EveryCausalUnet, AStreamIsTheSeries) {
    const WindowShape shape{14, 18, 27}; // no multiples of 4
    const TensorFile file = random_network({8, 6});
    const auto input = random_series(shape);
    for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
        CausalUnet network(file, "random", {"cpu", precision, 1});
        const auto whole = run_in(network, input, shape, {14});
        // Other shapes may take other kernels, which add in another order: in float32 sums of at most 27 x 32
        // products, in bfloat16 a rounding of 2^-9 in each layer (8 bits of significand), which the largest
        // activations bound: those of He's weights stay near the input's.
        const double bound =
            (precision == Precision::float32 ? 1e-5 : layers / 512.0) * std::max(1.0, largest(whole));
        for (const std::vector<int>& pieces : {std::vector<int>(14, 1), std::vector<int>{1, 5, 2, 6}}) {
            network.reset();
            EXPECT_LT(largest_difference(run_in(network, input, shape, pieces), whole), bound)
                << network.precision() << ", " << pieces.size() << " pieces";
        }
        EXPECT_GT(largest_difference(whole, input), 0.1) << "the network does nothing";
        // What a frame would be without those before it is something else.
        CausalUnet fresh(file, "random", {"cpu", precision, 1});
        const std::span<const float> last(input.end() - static_cast<std::ptrdiff_t>(shape.pixels()),
                                          input.end());
        std::vector<float> alone(shape.pixels());
        fresh.run(last, alone, {1, shape.height, shape.width});
        EXPECT_GT(largest_difference(alone, std::span(whole).last(shape.pixels())), 5 * bound)
            << "the past does not count";
    }
}

TEST(CausalUnet, BeginsAnew) {
    const WindowShape shape{6, 16, 16};
    const TensorFile file = random_network({4, 20});
    const auto first = random_series(shape, 3);
    const auto second = random_series(shape, 4);
    const std::vector<int> singly(6, 1);
    CausalUnet fresh(file, "random", plain);
    const auto expected = run_in(fresh, second, shape, singly);
    EXPECT_GT(largest_difference(run_in(fresh, second, shape, singly), expected), 1e-3)
        << "a second time it remembers the first";

    // The same arithmetic on one thread: the same bits.
    CausalUnet network(file, "random", plain);
    run_in(network, first, shape, singly);
    network.reset();
    EXPECT_EQ(run_in(network, second, shape, singly), expected);
    run_in(network, random_series({2, 8, 24}), {2, 8, 24}, {1, 1});
    EXPECT_EQ(run_in(network, second, shape, singly), expected) << "frames of another size";
    auto bad = first;
    bad[7] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> output(bad.size());
    EXPECT_THROW(network.run(bad, output, shape), Error);
    network.reset();
    EXPECT_EQ(run_in(network, second, shape, singly), expected);
    EXPECT_GT(network.warm_up({1, 16, 16}), 0.0);
    EXPECT_EQ(run_in(network, second, shape, singly), expected) << "warm_up() leaves nothing behind";
}

TEST(CausalUnet, TheFutureDoesNotCount) {
    const WindowShape shape{8, 16, 16};
    CausalUnet network(random_network({4, 20}), "random", plain);
    auto input = random_series(shape);
    const auto before = run_in(network, input, shape, {8});
    for (std::size_t i = 5 * shape.pixels(); i < 6 * shape.pixels(); ++i)
        input[i] = 1 - input[i];
    network.reset();
    const auto after = run_in(network, input, shape, {8});
    const auto frame = [&](const std::vector<float>& series, std::size_t t) {
        return std::span(series).subspan(t * shape.pixels(), shape.pixels());
    };
    for (std::size_t t = 0; t < 5; ++t)
        EXPECT_EQ(largest_difference(frame(after, t), frame(before, t)), 0.0) << t;
    for (std::size_t t = 5; t < 8; ++t)
        EXPECT_GT(largest_difference(frame(after, t), frame(before, t)), 1e-3) << t;
}

TEST(CausalUnet, CommutesWithTheGain) {
    const WindowShape shape{4, 16, 16};
    auto input = random_series(shape);
    for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
        CausalUnet network(random_network({4, 20}), "random", {"cpu", precision, 1});
        auto expected = run_in(network, input, shape, {1, 1, 1, 1});
        auto big = input;
        for (float& value : big)
            value *= 0x1p20F;
        for (float& value : expected)
            value *= 0x1p20F;
        network.reset();
        // A power of two changes no significand.
        EXPECT_EQ(run_in(network, big, shape, {1, 1, 1, 1}), expected) << network.precision();
    }
}

TEST(CausalUnet, NamesWhatIsWrongInAFile) {
    const auto message = [](const TensorFile& file) -> std::string {
        try {
            CausalUnet network(file, "w.safetensors", plain);
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Errc::decode);
            return e.what();
        }
        ADD_FAILURE() << "nothing was thrown";
        return {};
    };
    const TensorFile good = random_network({3, 20});
    EXPECT_EQ(causal_unet_options_of(good, "w"), (CausalUnetOptions{3, 20}));
    TensorFile file = good;
    file.tensors.erase("conv4_4.weight");
    file.tensors["conv9.weight"] = {{1}, {0}};
    file.tensors["conv6.weight"] = {{2}, {0, 0}};
    const std::string text = message(file);
    EXPECT_NE(text.find("missing: conv4_4.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("wrong shape: conv6.weight [2] instead of [1, 3, 3, 3]"), std::string::npos) << text;
    EXPECT_NE(text.find("extra: conv9.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("w.safetensors"), std::string::npos) << text;
    for (const auto& [key, value] : std::map<std::string, std::string>{
             {"filters", "-1"}, {"filters", "1e9"}, {"mean-frames", "0"}, {"network", "unet3d"}}) {
        file = good;
        file.metadata[key] = value;
        EXPECT_NE(message(file).find(value), std::string::npos) << key;
    }
    EXPECT_NE(message({}).find("causal-unet"), std::string::npos);
    file = good;
    file.tensors["conv2.weight"].values[5] = std::numeric_limits<float>::infinity();
    EXPECT_NE(message(file).find("conv2.weight"), std::string::npos);
}

TEST(CausalUnet, RefusesFramesThatDoNotFit) {
    CausalUnet network(random_network({2, 20}), "random", plain);
    std::vector<float> frame(64);
    EXPECT_THROW(network.run(frame, frame, {1, 8, 9}), Error);
    EXPECT_THROW(network.run(frame, std::span(frame).first(5), {1, 8, 8}), Error);
    EXPECT_THROW(network.run({}, {}, {0, 4, 4}), Error);
    try {
        network.warm_up({1000, 8192, 8192});
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_memory);
    }
}

TEST(RunningMean, IsOfAllFramesAndThenOfTheLatest) {
    RunningMean mean(3);
    const auto update = [&mean](float value) { return mean.update(std::vector<float>{value})[0]; };
    EXPECT_FLOAT_EQ(update(3), 3);
    EXPECT_FLOAT_EQ(update(5), 4);
    EXPECT_FLOAT_EQ(update(10), 6);
    EXPECT_FLOAT_EQ(update(0), 4); // 6 + (0 - 6) / 3
    mean.reset();
    EXPECT_FLOAT_EQ(update(7), 7);
    EXPECT_EQ(mean.update(std::vector<float>{1, 2}).size(), 2U);
    EXPECT_THROW(RunningMean(0), Error);
}

} // namespace
