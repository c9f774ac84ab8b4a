// SPDX-License-Identifier: LGPL-2.1-or-later
// Every network on a CUDA device beside the processor; skipped where there is none.
#include "models/cascade/cascade.hpp"
#include "models/causal_unet/causal_unet.hpp"
#include "models/crnn/crnn.hpp"
#include "models/unet/unet.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

using namespace mri;

namespace {

using cfloat = std::complex<float>;

constexpr WindowShape shape{8, 24, 16};

std::vector<float> randoms(std::size_t count, float low, float high, unsigned seed) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> value(low, high);
    std::vector<float> out(count);
    for (float& v : out)
        v = value(engine);
    return out;
}

TensorFile random_weights(const TensorShapes& shapes, std::map<std::string, std::string> metadata) {
    TensorFile file;
    for (const auto& [name, extents] : shapes) {
        NamedTensor tensor{extents, {}};
        tensor.values = randoms(tensor.count(), -0.15F, 0.15F, 7);
        file.tensors[name] = tensor;
    }
    file.metadata = std::move(metadata);
    return file;
}

/// `compute` on the processor in float32 and on the device in both precisions.
void expect_the_same(const std::function<std::vector<float>(const RunOptions&)>& compute) {
    const std::vector<float> expected = compute({"cpu", Precision::float32, 1});
    double power = 0;
    for (const float v : expected)
        power += static_cast<double>(v) * v;
    ASSERT_GT(power, 0.0);
    for (const auto& [precision, tolerance] :
         {std::pair{Precision::float32, 1e-3}, {Precision::bfloat16, 0.05}}) {
        SCOPED_TRACE(precision == Precision::float32 ? "float32" : "bfloat16");
        std::vector<float> out;
        try {
            out = compute({"cuda", precision, 1});
        } catch (const Error& e) {
            if (e.code() == Errc::no_device)
                GTEST_SKIP() << e.what();
            throw;
        }
        ASSERT_EQ(out.size(), expected.size());
        double error = 0;
        for (std::size_t i = 0; i < out.size(); ++i)
            error += std::pow(static_cast<double>(out[i]) - expected[i], 2);
        EXPECT_LT(std::sqrt(error / power), tolerance);
    }
}

std::vector<float> parts(const std::vector<cfloat>& values) {
    const auto* first = reinterpret_cast<const float*>(values.data());
    return {first, first + 2 * values.size()};
}

std::vector<cfloat> complex_randoms(std::size_t count, unsigned seed) {
    const std::vector<float> values = randoms(2 * count, -1, 1, seed);
    std::vector<cfloat> out;
    for (std::size_t i = 0; i < count; ++i)
        out.emplace_back(values[2 * i], values[2 * i + 1]);
    return out;
}

TEST(CudaNetworks, Unet) {
    UnetOptions options;
    options.filters = 4;
    options.mean_input = true;
    const TensorFile weights = random_weights(unet_tensors(options), unet_metadata(options));
    const std::vector<float> input = randoms(shape.count(), 0, 1, 1);
    expect_the_same([&](const RunOptions& run) {
        std::vector<float> out(input.size());
        Unet(weights, "random", run).run(input, out, shape, 1.0F);
        return out;
    });
}

TEST(CudaNetworks, CausalUnetAsAStream) {
    const CausalUnetOptions options{4, 20};
    const TensorFile weights = random_weights(causal_unet_tensors(options), causal_unet_metadata(options));
    const std::vector<float> input = randoms(shape.count(), 0, 1, 2);
    expect_the_same([&](const RunOptions& run) {
        std::vector<float> out(input.size());
        CausalUnet network(weights, "random", run);
        const std::size_t half = input.size() / 2;
        const WindowShape part{shape.frames / 2, shape.height, shape.width};
        network.run(std::span(input).first(half), std::span(out).first(half), part);
        network.run(std::span(input).subspan(half), std::span(out).subspan(half), part);
        return out;
    });
}

TEST(CudaNetworks, CrnnOnTheGrid) {
    const char* folder = std::getenv("GST_MRI_GOLDEN_DIR");
    TensorFile weights =
        read_safetensors(std::string(folder ? folder : "tests/golden") + "/crnn/small.safetensors");
    std::erase_if(weights.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
    const std::vector<cfloat> image = complex_randoms(shape.count(), 3);
    std::vector<cfloat> kspace = complex_randoms(shape.count(), 4);
    std::vector<float> mask(shape.count());
    for (std::size_t i = 0; i < mask.size(); ++i) {
        mask[i] = i / static_cast<std::size_t>(shape.width) % 3 == 0 ? 1.0F : 0.0F;
        kspace[i] *= mask[i];
    }
    expect_the_same([&](const RunOptions& run) {
        std::vector<cfloat> out(image.size());
        Crnn(weights, "small", {}, run).run(image, kspace, mask, out, shape);
        return parts(out);
    });
}

/// Radial samples: the gridding may be on the processor while the network is on the device.
TEST(CudaNetworks, CascadeOnSpokes) {
    constexpr int spokes = 5, samples = 24;
    std::vector<std::vector<float>> kxy, areas;
    std::vector<std::vector<cfloat>> data;
    std::vector<SampledFrame> frames;
    for (int t = 0; t < shape.frames; ++t) {
        auto& k = kxy.emplace_back(std::size_t{2} * spokes * samples);
        for (int s = 0; s < spokes; ++s)
            radial_spoke(
                spoke_angle(AngleScheme::tiny_golden, 7, static_cast<std::uint64_t>(t * spokes + s), spokes),
                samples, samples, k.data() + std::size_t{2} * static_cast<std::size_t>(s) * samples);
        areas.emplace_back(std::size_t{spokes} * samples, 1.0F);
        data.push_back(complex_randoms(std::size_t{spokes} * samples, static_cast<unsigned>(10 + t)));
    }
    for (std::size_t t = 0; t < kxy.size(); ++t)
        frames.push_back({kxy[t], data[t], areas[t]});
    const std::vector<cfloat> start = complex_randoms(shape.count(), 5);
    for (const bool causal : {false, true}) {
        SCOPED_TRACE(causal ? "causal" : "windows");
        const CascadeOptions options{.blocks = 2, .filters = 4, .layers = 2, .causal = causal};
        const TensorFile weights = random_weights(cascade_tensors(options), cascade_metadata(options));
        expect_the_same([&](const RunOptions& run) {
            std::vector<cfloat> out(start.size());
            Cascade network(weights, "random", run);
            causal ? network.stream({start, frames, 1, {}}, out, shape)
                   : network.run({start, frames, 1, {}}, out, shape);
            return parts(out);
        });
        if (IsSkipped())
            return;
    }
}

} // namespace
