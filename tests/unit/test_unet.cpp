// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/intensity.hpp"
#include "models/unet/options.hpp"
#include "models/unet/unet.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/convolutions.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>

namespace {

using namespace mri;

std::string golden(const std::string& name) {
    const char* folder = std::getenv("GST_MRI_GOLDEN_DIR");
    return std::string(folder ? folder : "tests/golden") + "/unet/" + name;
}

struct Case {
    TensorFile weights;
    std::vector<float> input;
    std::vector<float> output;
    WindowShape shape;
};

/// A file of make_unet_golden.py: the weights, and what an independent implementation made of an input.
Case load(const std::string& name) {
    Case c;
    c.weights = read_safetensors(golden(name));
    const NamedTensor input = c.weights.tensors.at("golden.input");
    c.shape = {static_cast<int>(input.shape[0]), static_cast<int>(input.shape[1]),
               static_cast<int>(input.shape[2])};
    c.input = input.values;
    c.output = c.weights.tensors.at("golden.output").values;
    c.weights.tensors.erase("golden.input");
    c.weights.tensors.erase("golden.output");
    return c;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
    return largest;
}

const RunOptions plain{"cpu", Precision::float32, 1};

struct EveryUnet : test::EveryConvolution {};
INSTANTIATE_TEST_SUITE_P(Convolutions, EveryUnet, test::every_convolution(), test::convolution_name);

TEST_P(EveryUnet, AgreesWithTheReference) {
    for (const char* name : {"seed.safetensors", "figure.safetensors", "ucl.safetensors", "one.safetensors",
                             "three.safetensors", "four.safetensors"}) {
        const Case c = load(name);
        Unet network(c.weights, name, plain);
        std::vector<float> output(c.input.size());
        network.run(c.input, output, c.shape, 1.0F);
        // Values of order 1, float32 sums of at most 27 x 64 products in another order: 1e-5 at the very
        // most.
        EXPECT_LT(largest_difference(output, c.output), 1e-5) << name;
        EXPECT_GT(largest_difference(c.output, c.input), 1e-2) << "the network does nothing: no test at all";
    }
}

TEST(Unet, ReadsItsOptions) {
    EXPECT_EQ(unet_options_of(load("seed.safetensors").weights, "seed"),
              (UnetOptions{3, 0, 0, 0.0F, false, false}));
    EXPECT_EQ(unet_options_of(load("ucl.safetensors").weights, "ucl"),
              (UnetOptions{2, 3, 5, 0.1F, false, false}));
    EXPECT_EQ(unet_options_of(load("figure.safetensors").weights, "figure"),
              (UnetOptions{2, 0, 16, 0.1F, true, true}));
    for (const int convolutions : {1, 3, 4}) {
        const std::string name = std::string(convolutions == 1   ? "one"
                                             : convolutions == 3 ? "three"
                                                                 : "four") +
                                 ".safetensors";
        TensorFile file = load(name).weights;
        EXPECT_EQ(unet_options_of(file, name).convolutions, convolutions);
        file.metadata.clear();
        EXPECT_EQ(unet_options_of(file, name).convolutions, convolutions) << "names tell it";
    }
    // A bare state dict: what shapes can tell.
    TensorFile bare = load("figure.safetensors").weights;
    bare.metadata.clear();
    EXPECT_EQ(unet_options_of(bare, "bare"), (UnetOptions{2, 0, 16, 0.0F, false, true}));
}

TEST(Unet, HasThePublishedNumberOfParameters) {
    std::size_t count = 0;
    for (const auto& [name, shape] : unet_tensors(UnetOptions{}))
        count += NamedTensor{shape, {}}.count();
    EXPECT_EQ(count, 1550753U); // at 32 filters, one input channel
}

TEST_P(EveryUnet, Bfloat16StaysClose) {
    const Case c = load("seed.safetensors");
    Unet network(c.weights, "seed", {"cpu", Precision::bfloat16, 1});
    EXPECT_EQ(network.precision(), "bfloat16");
    std::vector<float> output(c.input.size());
    network.run(c.input, output, c.shape, 1.0F);
    // 8 bits of significand: each of 13 layers adds a relative rounding of 2^-9 to values of order 1.
    EXPECT_LT(largest_difference(output, c.output), 13.0 / 512);
    EXPECT_GT(largest_difference(output, c.output), 0.0) << "this was computed in float32";
}

TEST(Unet, ScalesWithItsInput) {
    const Case c = load("figure.safetensors");
    Unet network(c.weights, "figure", plain);
    std::vector<float> output(c.input.size());
    std::vector<float> big(c.input.size());
    std::vector<float> input = c.input;
    network.run(input, output, c.shape);
    for (float& value : input)
        value *= 1024.0F; // a power of two: not even the rounding differs
    network.run(input, big, c.shape);
    for (float& value : big)
        value /= 1024.0F;
    EXPECT_LT(largest_difference(big, output), 1e-6);
}

TEST(Unet, NamesWhatIsWrongInAFile) {
    const auto message = [](TensorFile file) -> std::string {
        try {
            unet_options_of(file, "w.safetensors");
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Errc::decode);
            return e.what();
        }
        ADD_FAILURE() << "nothing was thrown";
        return {};
    };
    const TensorFile good = load("seed.safetensors").weights;
    TensorFile file = good;
    file.tensors.erase("conv4_4.bias");
    file.tensors["conv9.weight"] = {{1}, {0}};
    file.tensors["conv6.bias"] = {{2}, {0, 0}};
    const std::string text = message(file);
    EXPECT_NE(text.find("missing: conv4_4.bias"), std::string::npos) << text;
    EXPECT_NE(text.find("wrong shape: conv6.bias [2] instead of [1]"), std::string::npos) << text;
    EXPECT_NE(text.find("extra: conv9.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("w.safetensors"), std::string::npos) << text;

    for (const auto& [key, value] : std::map<std::string, std::string>{{"filters", "-1"},
                                                                       {"filters", "1e9"},
                                                                       {"leak", "nan"},
                                                                       {"up-relu", "maybe"},
                                                                       {"input", "phase"},
                                                                       {"network", "crnn"}}) {
        file = good;
        file.metadata[key] = value;
        EXPECT_NE(message(file).find(value), std::string::npos) << key;
    }
    EXPECT_NE(message({}).find("conv1.weight"), std::string::npos);

    file = good;
    file.tensors["conv2.weight"].values[5] = std::numeric_limits<float>::quiet_NaN();
    try {
        const Unet network(file, "w.safetensors", plain);
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("conv2.weight"), std::string::npos) << e.what();
    }
}

TEST(Unet, RefusesWindowsThatDoNotFit) {
    const Case c = load("seed.safetensors");
    Unet network(c.weights, "seed", plain);
    std::vector<float> output(c.input.size());
    EXPECT_THROW(network.run(c.input, output, {c.shape.frames, c.shape.height, c.shape.width + 1}), Error);
    EXPECT_THROW(network.run(c.input, std::span(output).first(5), c.shape), Error);
    EXPECT_THROW(network.run({}, {}, {0, 4, 4}), Error);
    try {
        network.warm_up({1000, 8192, 8192});
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_memory);
    }
    EXPECT_GT(network.warm_up(c.shape), 0.0);
}

TEST(Unet, SaysWhichDeviceIsMissing) {
    const Case c = load("seed.safetensors");
    for (const auto& [device, code] : std::map<std::string, Errc>{{"gpu", Errc::settings},
                                                                  {"cuda:x", Errc::settings},
                                                                  {"cuda:", Errc::settings},
                                                                  {"cuda:99", Errc::no_device}}) {
        try {
            const Unet network(c.weights, "seed", {device, Precision::automatic, 1});
            ADD_FAILURE() << device;
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), code) << device;
            EXPECT_NE(std::string(e.what()).find("'" + device + "'"), std::string::npos) << e.what();
        }
    }
}

TEST(Unet, FindsWeightsInTheFoldersOfTheEnvironment) {
    EXPECT_EQ(find_weights("/any/where.safetensors"), "/any/where.safetensors");
    const std::filesystem::path file = golden("seed.safetensors");
    ::setenv("GST_MRI_MODELS_PATH", ("/nowhere::" + file.parent_path().string()).c_str(), 1);
    EXPECT_EQ(find_weights("figure.safetensors"), golden("figure.safetensors"));
    try {
        find_weights("none.safetensors");
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::not_found);
        EXPECT_NE(std::string(e.what()).find("/nowhere"), std::string::npos) << e.what();
    }
}

TEST(Intensity, IsAPercentileOfTheMeanOverTime) {
    // 1000 pixels whose mean over two frames is 0, 1, ... 999: the 99.5th percentile is pixel 994 (0.995 x
    // 999 = 994.0).
    std::vector<float> window(2000);
    for (std::size_t i = 0; i < 1000; ++i) {
        window[i] = 0.5F * static_cast<float>(i);
        window[1000 + i] = 1.5F * static_cast<float>(i);
    }
    EXPECT_EQ(intensity_scale(window, 2), 994.0F);
    EXPECT_EQ(intensity_scale(std::vector<float>(64, 0.0F), 4), 1.0F);
    window[3] = std::numeric_limits<float>::infinity();
    EXPECT_THROW(intensity_scale(window, 2), Error);
    EXPECT_THROW(intensity_scale(window, 3), Error);
    EXPECT_THROW(intensity_scale({}, 1), Error);
}

TEST(Intensity, HoldsAlongAStream) {
    const std::vector<float> first(16, 2.0F);
    const std::vector<float> near(16, 2.2F);
    const std::vector<float> far(16, 3.0F);
    StreamScale scale;
    EXPECT_EQ(scale.update(first, 1), 2.0F);
    EXPECT_EQ(scale.update(near, 1), 2.0F) << "a small change does not make the picture flicker";
    EXPECT_EQ(scale.update(far, 1), 3.0F) << "a change of gain counts";
    scale.reset();
    EXPECT_EQ(scale.update(near, 1), 2.2F);
}

} // namespace
