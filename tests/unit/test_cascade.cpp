// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/module.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/kernels/direct3d/convolution3d.hpp"
#include "models/kernels/winograd3d/winograd3d.hpp"
#include "models/torch/data_consistency.hpp"
#include "models/training/trainer.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/support/temp_dir.hpp"

#include <ATen/core/grad_mode.h>
#include <cmath>
#include <gtest/gtest.h>
#include <random>

namespace {

using namespace mri;

const RunOptions plain{"cpu", Precision::float32, 1};

/// A blob that moves over the frames, and its radial samples.
struct Scene {
    explicit Scene(int coils_ = 1, int frames_ = 6, int side_ = 24, int spokes_ = 5)
        : shape{frames_, side_, side_}, coils(coils_) {
        if (coils > 1)
            maps = synthetic_sensitivities(coils, side_, side_, 3);
        Nufft nufft(side_, side_, {.tolerance = 1e-5});
        for (int t = 0; t < frames_; ++t) {
            std::vector<cfloat> image;
            for (int y = 0; y < side_; ++y)
                for (int x = 0; x < side_; ++x) {
                    const double dx = x - side_ / 2.0 - 2 * std::sin(t), dy = y - side_ / 2.0;
                    image.push_back(cfloat(
                        std::polar(0.3 * (dx * dx + dy * dy < 80) + 0.6 * std::exp(-(dx * dx + dy * dy) / 12),
                                   0.1 * x)));
                }
            truth.insert(truth.end(), image.begin(), image.end());
            auto& k =
                kxy.emplace_back(2 * static_cast<std::size_t>(spokes_) * static_cast<std::size_t>(side_));
            for (int s = 0; s < spokes_; ++s)
                radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7,
                                         static_cast<std::uint64_t>(t * spokes_ + s), spokes_),
                             side_, side_,
                             k.data() + 2 * static_cast<std::size_t>(s) * static_cast<std::size_t>(side_));
            auto& w = weights.emplace_back(k.size() / 2);
            clipped_ramp_weights(k, side_, spokes_, w.data());
            std::vector<cfloat> coil_images;
            for (int c = 0; c < coils; ++c)
                for (std::size_t p = 0; p < image.size(); ++p)
                    coil_images.push_back(coils > 1 ? image[p] *
                                                          maps[static_cast<std::size_t>(c) * image.size() + p]
                                                    : image[p]);
            nufft.set_points(k);
            nufft.forward(coil_images.data(),
                          samples.emplace_back(w.size() * static_cast<std::size_t>(coils)).data(), coils);
        }
        std::mt19937 engine(5);
        std::normal_distribution<float> normal(0, 0.1f);
        for (const cfloat v : truth)
            start.push_back(v + cfloat(normal(engine), normal(engine)));
    }

    std::vector<SampledFrame> frames() const {
        std::vector<SampledFrame> out;
        for (std::size_t t = 0; t < kxy.size(); ++t)
            out.push_back({kxy[t], samples[t], weights[t]});
        return out;
    }
    std::shared_ptr<WindowOperator> data() const {
        auto out = std::make_shared<WindowOperator>(
            WindowOperator::Options{.width = shape.width, .height = shape.height});
        out->set_window(frames(), coils, maps);
        return out;
    }
    SampledWindow window(const std::vector<SampledFrame>& views) const { return {start, views, coils, maps}; }

    WindowShape shape;
    int coils;
    std::vector<std::vector<float>> kxy, weights;
    std::vector<std::vector<cfloat>> samples;
    std::vector<cfloat> truth, maps, start;
};

at::Tensor series(const std::vector<cfloat>& values, const WindowShape& shape) {
    return at::view_as_real(at::from_blob(const_cast<cfloat*>(values.data()),
                                          {shape.frames, shape.height, shape.width}, at::kComplexFloat))
        .clone();
}

double distance(std::span<const cfloat> a, std::span<const cfloat> b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum += std::norm(a[i] - b[i]);
    return std::sqrt(sum / static_cast<double>(a.size()));
}

/// The slope of `f` at x along `direction`, by autograd and by a symmetric difference, relative to each
/// other.
template <typename F>
void expect_gradient(const at::Tensor& x, F&& f, double tolerance) {
    at::manual_seed(1);
    const at::Tensor direction = at::randn_like(x);
    at::Tensor at_x = x.clone().requires_grad_(true);
    f(at_x).backward();
    const double slope = (at_x.grad() * direction).sum().template item<double>();
    const at::NoGradGuard no_grad;
    constexpr double step =
        1e-2; // the functions are of degree two in x at most along what is tested: no higher terms
    const double difference =
        (f(x + step * direction).template item<double>() - f(x - step * direction).template item<double>()) /
        (2 * step);
    EXPECT_GT(std::abs(slope), 1e-3);
    EXPECT_NEAR(slope, difference, tolerance * std::abs(slope));
}

TEST(RadialConsistency, GradientsAgreeWithFiniteDifferences) {
    for (const int coils : {1, 3}) {
        const Scene scene(coils);
        const RadialConsistency data(scene.data());
        const at::Tensor x = series(scene.start, scene.shape);
        const at::Tensor probe = at::randn_like(x);
        // Quadratic forms: the difference is exact but for float32 rounding of sums of 7,000 terms over a
        // step of 1e-2.
        expect_gradient(
            x, [&](const at::Tensor& v) { return (data.normal(v) * v).sum(); }, 1e-3);
        expect_gradient(
            x, [&](const at::Tensor& v) { return data.gradient_step(v, 0.7).square().sum(); }, 1e-3);
        // The steps' lengths depend on x as well: higher terms of some per cent of the step.
        expect_gradient(
            x,
            [&](const at::Tensor& v) {
                return (data.conjugate_gradients(v, at::scalar_tensor(0.3f), 3) * probe).sum();
            },
            2e-2);
        at::Tensor eta = at::full({1}, 0.8f).requires_grad_(true);
        data.gradient_step(x, eta).square().sum().backward();
        EXPECT_TRUE(eta.grad().defined());
    }
}

TEST(RadialConsistency, ConjugateGradientsSolve) {
    const Scene scene(3);
    const RadialConsistency data(scene.data());
    const at::Tensor z = series(scene.start, scene.shape);
    const at::Tensor mu = at::scalar_tensor(0.5f);
    const at::Tensor x = data.conjugate_gradients(z, mu, 30);
    const at::Tensor rest = data.misfit(x) + mu * (z - x);
    // The operator's condition number is below 2 / 0.5 + 1: 30 steps reach rounding.
    EXPECT_LT((rest.norm() / data.misfit(z).norm()).item<double>(), 1e-4);
    // A few already come closer than a step.
    const auto far = [&](const at::Tensor& v) {
        return (data.misfit(v) + mu * (z - v)).norm().item<double>();
    };
    EXPECT_LT(far(data.conjugate_gradients(z, mu, 3)), far(data.gradient_step(z, 1.0)));
}

TEST(Cascade, UntrainedIsGradientSteps) {
    const Scene scene;
    const CascadeModule module({.blocks = 3, .filters = 4, .layers = 3}, 1);
    const RadialConsistency data(scene.data());
    const at::Tensor x = series(scene.start, scene.shape);
    at::Tensor expected = x;
    for (int i = 0; i < 3; ++i)
        expected = data.gradient_step(expected, 1.0);
    EXPECT_TRUE(at::equal(module.reconstruct(x, data, at::kFloat), expected));
    EXPECT_LT(
        distance({reinterpret_cast<const cfloat*>(expected.const_data_ptr<float>()), scene.truth.size()},
                 scene.truth),
        distance(scene.start, scene.truth));
}

/// Weights in which every layer does something.
TensorFile random_weights(const CascadeOptions& options, unsigned seed = 1) {
    TensorFile file;
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0, 0.1f);
    for (const auto& [name, shape] : cascade_tensors(options)) {
        NamedTensor tensor{shape, {}};
        for (std::size_t i = 0; i < tensor.count(); ++i)
            tensor.values.push_back(name.ends_with("eta") ? 0.9f : normal(engine));
        file.tensors[name] = tensor;
    }
    file.metadata = cascade_metadata(options);
    return file;
}

TEST(Cascade, RunsFromAFileAndCommutesWithTheGain) {
    const CascadeOptions options{.blocks = 2, .filters = 4, .layers = 3};
    for (const int coils : {1, 3}) {
        Scene scene(coils);
        Cascade network(random_weights(options), "test", plain);
        EXPECT_EQ(network.options(), options);
        EXPECT_EQ(network.precision(), "float32");
        std::vector<cfloat> output(scene.truth.size()), louder(scene.truth.size());
        const auto views = scene.frames();
        const auto residual = network.run(scene.window(views), output, scene.shape);
        ASSERT_EQ(residual.size(), 6U);
        EXPECT_EQ(network.convolutions(), "LibTorch"); // four filters: as the module
        const CascadeModule module(options, random_weights(options));
        const at::Tensor same =
            module.reconstruct(series(scene.start, scene.shape), RadialConsistency(scene.data()), at::kFloat)
                .contiguous();
        EXPECT_EQ(
            distance(output, {reinterpret_cast<const cfloat*>(same.const_data_ptr<float>()), output.size()}),
            0.0);
        EXPECT_GT(distance(output, scene.start), 0.01) << "the layers do nothing: no test at all";

        // A power of two changes no digit of float32.
        for (auto& frame : scene.samples)
            for (cfloat& v : frame)
                v *= 64;
        for (cfloat& v : scene.start)
            v *= 64;
        const auto louder_views = scene.frames();
        const auto louder_residual = network.run(scene.window(louder_views), louder, scene.shape);
        for (cfloat& v : louder)
            v /= 64;
        EXPECT_EQ(louder, output);
        EXPECT_DOUBLE_EQ(louder_residual[2].relative, residual[2].relative);
        EXPECT_DOUBLE_EQ(louder_residual[2].rms, 64 * residual[2].rms);

        // bfloat16 keeps 8 bits of what the blocks add.
        Cascade coarse(random_weights(options), "test", {"cpu", Precision::bfloat16, 1});
        coarse.run(scene.window(louder_views), louder, scene.shape);
        for (cfloat& v : louder)
            v /= 64;
        EXPECT_LT(distance(louder, output), 0.02 * distance(output, scene.start) + 1e-3);
        EXPECT_GT(network.warm_up(scene.shape), 0.0);
    }
}

/// How a causal stream is cut into calls, and what of it may differ from all frames at once.
void expect_stream_is_series(Cascade& network, const Scene& scene, double tolerance) {
    const auto views = scene.frames();
    std::vector<cfloat> whole(scene.truth.size()), parts(whole.size()), unused(whole.size());
    network.run(scene.window(views), whole, scene.shape);
    const std::size_t pixels = scene.shape.pixels();
    const auto stream = [&](std::size_t first, std::size_t count) {
        SampledWindow window = scene.window(views);
        window.start = window.start.subspan(first * pixels, count * pixels);
        window.frames = window.frames.subspan(first, count);
        network.stream(window, std::span(parts).subspan(first * pixels, count * pixels),
                       {static_cast<int>(count), scene.shape.height, scene.shape.width});
    };
    EXPECT_GT(network.warm_up({1, scene.shape.height, scene.shape.width}), 0.0); // leaves nothing behind
    EXPECT_THROW(network.warm_up({1000, 8192, 8192}), Error) << "half a terabyte";
    for (int round = 0; round < 2; ++round) { // the second after a reset
        const std::size_t split[] = {0, 1, 2, 4, 5, 6};
        for (std::size_t i = 0; i < 5; ++i) {
            stream(split[i], split[i + 1] - split[i]);
            if (i == 2) // a series at once is none of the stream's business
                network.run(scene.window(views), unused, scene.shape);
        }
        EXPECT_LE(distance(parts, whole), tolerance) << round;
        network.reset();
    }
    // Without the frames before, a frame is another: the past counts.
    stream(4, 1);
    EXPECT_GT(
        distance(std::span(parts).subspan(4 * pixels, pixels), std::span(whole).subspan(4 * pixels, pixels)),
        0.01);

    // The future does not: a later frame changes nothing before it.
    Scene other;
    for (cfloat& v : other.samples[5])
        v *= 3;
    for (std::size_t i = 5 * pixels; i < 6 * pixels; ++i)
        other.start[i] *= 3;
    const auto other_views = other.frames();
    network.run(other.window(other_views), parts, scene.shape);
    EXPECT_EQ(distance(std::span(parts).first(5 * pixels), std::span(whole).first(5 * pixels)), 0.0);
    EXPECT_GT(distance(std::span(parts).last(pixels), std::span(whole).last(pixels)), 0.1);
}

TEST(Cascade, ACausalStreamIsTheSeriesAtOnce) {
    CascadeOptions options{.blocks = 2, .filters = 4, .layers = 3, .causal = true, .mean_frames = 3};
    const Scene scene;
    for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
        Cascade network(random_weights(options), "test", {"cpu", precision, 1});
        EXPECT_EQ(network.options(), options);
        // The sums' order may differ with the number of frames. Values are of order 1 and each step adds
        // a few tenths: float32 keeps 1e-7 of that, bfloat16 4e-3.
        expect_stream_is_series(network, scene, precision == Precision::float32 ? 1e-5 : 5e-3);
    }
    for (const int layers : {2, 3, 4}) {
        options.filters = 16;
        options.layers = layers;
        for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
            Cascade network(random_weights(options), "test", {"cpu", precision, 2});
            if (network.convolutions() != "LibTorch")
                expect_stream_is_series(network, scene, 0); // the sums of our own have one order
        }
    }
    Cascade windows(random_weights({.blocks = 2, .filters = 4, .layers = 3}), "test", plain);
    const auto views = scene.frames();
    std::vector<cfloat> output(scene.truth.size());
    EXPECT_THROW(windows.stream(scene.window(views), output, scene.shape), Error);
}

/// A cascade whose convolutions are LibTorch's, as on a processor without AVX2. Gridding is not touched:
/// it is planned by the first window.
Cascade torch_cascade(const TensorFile& file, Precision precision) {
    const Isa best = processor::selected();
    processor::select(Isa::portable);
    Cascade network(file, "test", {"cpu", precision, 1});
    processor::select(best);
    EXPECT_EQ(network.convolutions(), "LibTorch");
    return network;
}

/// Images by float32, by LibTorch in bfloat16 and by our own convolutions.
struct ThreeWays {
    ThreeWays(const TensorFile& file, const Scene& scene) {
        const auto views = scene.frames();
        const auto run = [&](Cascade network, std::vector<cfloat>& out) {
            out.resize(scene.truth.size());
            return network.run(scene.window(views), out, scene.shape);
        };
        const auto exact_residual = run(torch_cascade(file, Precision::float32), exact);
        run(torch_cascade(file, Precision::bfloat16), torch);
        std::vector<cfloat> one_thread;
        run(Cascade(file, "test", {"cpu", Precision::bfloat16, 1}), one_thread);
        Cascade network(file, "test", {"cpu", Precision::bfloat16, 3});
        EXPECT_EQ(network.convolutions(), "avx512_bf16");
        const auto residual = run(std::move(network), own);
        EXPECT_EQ(one_thread, own) << "the number of threads counts";
        // A residual follows the images: bfloat16 keeps 8 bits of what the blocks add.
        for (std::size_t t = 0; t < residual.size(); ++t)
            EXPECT_NEAR(residual[t].relative, exact_residual[t].relative,
                        0.02 * exact_residual[t].relative + 1e-3);
    }
    std::vector<cfloat> exact, torch, own;
};

/// In a cycle no frame is the first: frames that are counted from another one come to the same images.
TEST(Cascade, ACycleHasNoFirstFrame) {
    const Scene scene;
    const auto views = scene.frames();
    const std::size_t pixels = scene.shape.pixels();
    constexpr std::size_t by = 2;
    Scene turned;
    std::rotate_copy(scene.start.begin(), scene.start.begin() + by * pixels, scene.start.end(),
                     turned.start.begin());
    auto turned_views = views;
    std::rotate(turned_views.begin(), turned_views.begin() + by, turned_views.end());
    const auto difference = [&](Cascade network, bool cycle) {
        std::vector<cfloat> images(scene.truth.size()), other(images.size());
        network.run(scene.window(views), images, scene.shape, cycle);
        network.run(turned.window(turned_views), other, scene.shape, cycle);
        std::rotate(images.begin(), images.begin() + by * pixels, images.end());
        return distance(images, other);
    };
    const TensorFile file = random_weights({.blocks = 2, .filters = 16, .layers = 3});
    EXPECT_GT(difference(torch_cascade(file, Precision::float32), false), 0.01);
    // The mean over time is summed in another order.
    EXPECT_LT(difference(torch_cascade(file, Precision::float32), true), 1e-5);
    if (winograd3d::kernels()) {
        EXPECT_GT(difference({file, "test", {"cpu", Precision::float32, 2}}, false), 0.01);
        EXPECT_LT(difference({file, "test", {"cpu", Precision::float32, 2}}, true), 1e-5);
    }
    if (convolution3d::kernels()) {
        EXPECT_GT(difference({file, "test", {"cpu", Precision::bfloat16, 2}}, false), 0.01);
        // A rounding of the mean can turn one of bfloat16, 4e-3 of a value of order 1, here and there.
        EXPECT_LT(difference({file, "test", {"cpu", Precision::bfloat16, 2}}, true), 1e-3);
    }

    Cascade causal(random_weights({.blocks = 2, .filters = 4, .layers = 2, .causal = true}), "test", plain);
    std::vector<cfloat> output(scene.truth.size());
    EXPECT_THROW(causal.run(scene.window(views), output, scene.shape, true), Error);
}

TEST(Cascade, OwnConvolutionsRoundAsLibTorchsDo) {
    if (!convolution3d::kernels())
        GTEST_SKIP() << "this processor has no AVX512_BF16";
    for (const CascadeOptions& options :
         {CascadeOptions{.blocks = 3}, CascadeOptions{.blocks = 2, .filters = 32, .layers = 2},
          CascadeOptions{.blocks = 2, .layers = 4, .causal = true, .mean_frames = 3},
          CascadeOptions{.blocks = 1, .filters = 48, .layers = 5}})
        for (const int coils : {1, 3}) {
            // More rows and frames than a thread computes at a time, and no multiple of a tile.
            const Scene scene(coils, coils > 1 ? 3 : 9, 37);
            const ThreeWays images(random_weights(options), scene);
            const double rounding = distance(images.torch, images.exact);
            EXPECT_GT(rounding, 0.0);
            // Both round weights and features to bfloat16, at the same places: their errors are of one size,
            // as root mean squares of 10,000 pixels and more, but not the same errors.
            EXPECT_LT(distance(images.own, images.exact), 1.3 * rounding)
                << options.filters << " filters, " << options.layers << " layers, " << coils << " coils";
            EXPECT_GT(distance(images.exact, scene.start), 20 * rounding) << "the layers do nothing";
        }
}

TEST(Cascade, OwnConvolutionsInSinglePrecisionAreLibTorchs) {
    if (!winograd3d::kernels())
        GTEST_SKIP() << "this processor has neither AVX2 nor AVX-512";
    for (const CascadeOptions& options :
         {CascadeOptions{.blocks = 3}, CascadeOptions{.blocks = 2, .filters = 20, .layers = 2},
          CascadeOptions{.blocks = 2, .filters = 12, .layers = 4, .causal = true, .mean_frames = 3}})
        for (const bool cycle : {false, true}) {
            if (cycle && options.causal)
                continue;
            const Scene scene(1, 5, 37);
            const auto views = scene.frames();
            const TensorFile file = random_weights(options);
            const auto run = [&](Cascade network) {
                std::vector<cfloat> out(scene.truth.size());
                network.run(scene.window(views), out, scene.shape, cycle);
                return out;
            };
            Cascade own(file, "test", {"cpu", Precision::float32, 2});
            EXPECT_EQ(own.convolutions(), winograd3d::kernels()->name);
            const std::vector<cfloat> images = run(std::move(own));
            EXPECT_EQ(run({file, "test", {"cpu", Precision::float32, 1}}), images)
                << "the number of threads counts";
            // Values of order 1, sums of some hundred terms, and their errors go through all layers.
            EXPECT_LT(distance(images, run(torch_cascade(file, Precision::float32))), 2e-5);
            EXPECT_GT(distance(images, scene.start), 0.01) << "the layers do nothing";
        }
}

TEST(Cascade, GradientsOfOwnConvolutionsAreLibTorchs) {
    if (!winograd3d::kernels())
        GTEST_SKIP() << "this processor has neither AVX2 nor AVX-512";
    for (const CascadeOptions& options :
         {CascadeOptions{.blocks = 2}, CascadeOptions{.blocks = 1, .filters = 6, .layers = 4},
          CascadeOptions{.blocks = 2, .filters = 20, .layers = 2, .causal = true, .mean_frames = 3}}) {
        const Scene scene(1, 5, 21);
        const RadialConsistency data(scene.data());
        const auto gradients = [&](bool own) {
            CascadeModule module(options, random_weights(options));
            if (own && !module.use_own_convolutions(2))
                ADD_FAILURE() << "there are none";
            for (auto& [name, parameter] : module.parameters())
                parameter.requires_grad_(true);
            at::Tensor start = series(scene.start, scene.shape).requires_grad_(true);
            const at::Tensor images = module.reconstruct(start, data, at::kFloat);
            (images - series(scene.truth, scene.shape)).square().sum().backward();
            std::map<std::string, at::Tensor> out{{"start", start.grad()}};
            for (auto& [name, parameter] : module.parameters())
                out[name] = parameter.grad();
            return out;
        };
        const auto ours = gradients(true), theirs = gradients(false);
        for (const auto& [name, expected] : theirs) {
            const double largest = expected.abs().max().item<double>();
            ASSERT_GT(largest, 0) << name;
            // A rectifier at its corner may fall to either side, a pixel among thousands.
            EXPECT_LT((ours.at(name) - expected).abs().max().item<double>(), 1e-3 * largest) << name;
        }
    }
}

double psnr(const std::vector<cfloat>& images, const std::vector<cfloat>& truth) {
    double peak = 0, error = 0;
    for (std::size_t i = 0; i < truth.size(); ++i) {
        const double value = std::abs(truth[i]), difference = std::abs(images[i]) - value;
        peak = std::max(peak, value);
        error += difference * difference;
    }
    return 10 * std::log10(peak * peak * static_cast<double>(truth.size()) / error);
}

TEST(Cascade, OwnConvolutionsKeepTheQualityOfTheShippedOne) {
    if (!convolution3d::kernels())
        GTEST_SKIP() << "this processor has no AVX512_BF16";
    std::string path;
    try {
        path = find_weights("cascade.safetensors");
    } catch (const Error& e) {
        GTEST_SKIP() << e.what();
    }
    const Scene scene(1, 10, 64, 7);
    const ThreeWays images(read_weights(path), scene);
    const double exact = psnr(images.exact, scene.truth);
    EXPECT_NEAR(psnr(images.own, scene.truth), exact, 0.05);
    EXPECT_GT(exact, psnr(scene.start, scene.truth) + 1) << "the network does nothing here";
}

TEST(Cascade, OneErrorForWhatItCannotUse) {
    const CascadeOptions options{.blocks = 2, .filters = 4, .layers = 2};
    const auto message = [](const TensorFile& file) -> std::string {
        try {
            Cascade(file, "bad.safetensors", plain);
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    };
    TensorFile file = random_weights(options);
    file.tensors.erase("blocks.1.eta");
    EXPECT_NE(message(file).find("missing: blocks.1.eta"), std::string::npos) << message(file);
    file = random_weights(options);
    file.metadata["blocks"] = "many";
    EXPECT_NE(message(file).find("many"), std::string::npos) << message(file);
    file.metadata["blocks"] = "2000000";
    EXPECT_NE(message(file).find("bad.safetensors"), std::string::npos) << message(file);
    file = random_weights(options);
    file.metadata.erase("network");
    EXPECT_NE(message(file).find("holds no cascade"), std::string::npos) << message(file);
    file = random_weights(options);
    file.tensors["blocks.0.conv.0.weight"].values[3] = std::nanf("");
    EXPECT_NE(message(file).find("not finite"), std::string::npos) << message(file);

    const Scene scene;
    Cascade network(random_weights(options), "test", plain);
    std::vector<cfloat> output(scene.truth.size());
    const auto views = scene.frames();
    auto window = scene.window(views);
    window.start = std::span(scene.start).first(100);
    EXPECT_THROW(network.run(window, output, scene.shape), Error);
    window = scene.window(views);
    window.frames = std::span(views).first(5);
    EXPECT_THROW(network.run(window, output, scene.shape), Error);
    window = scene.window(views);
    window.coils = 2;
    EXPECT_THROW(network.run(window, output, scene.shape), Error);
}

class CascadeTraining : public testing::Test {
  protected:
    TrainOptions tiny(const std::string& name) const {
        TrainOptions o;
        o.kind = NetworkKind::cascade;
        o.cascade = {.blocks = 2, .filters = 4, .layers = 2};
        o.scan.spokes_min = 3;
        o.scan.spokes_max = 6;
        o.scan.coils = 2;
        o.scan.validation_spokes = {4, 6};
        o.weights = folder_ / (name + ".safetensors");
        o.checkpoint = folder_ / (name + ".checkpoint");
        o.steps = 60;
        o.patch = 20;
        o.loss = Loss::mixed;
        o.average = 0.9;
        o.learning_rate = 5e-3;
        o.run = plain;
        return o;
    }
    static void fill(Trainer& trainer) {
        for (int i = 0; i < 4; ++i) {
            const Scene scene(1, 6 + i, 28);
            std::vector<float> truth;
            for (const cfloat v : scene.truth)
                truth.push_back(std::abs(v));
            trainer.add({}, truth, scene.shape, i == 3);
        }
    }

    test::TempDir folder_;
};

TEST_F(CascadeTraining, LearnsAndResumesAsIfNeverStopped) {
    TrainOptions o = tiny("once");
    Trainer once(o);
    fill(once);
    const TrainResult result = once.run({});
    ASSERT_TRUE(result.finished && result.input && result.validation);
    // The start is a least-squares background with a gridded residual; a minute's network must beat it.
    EXPECT_GT(result.validation->psnr, result.input->psnr + 0.5);
    const Cascade network = Cascade::load(o.weights, plain);
    EXPECT_EQ(network.options(), o.cascade);

    o = tiny("twice");
    o.resume = true;
    for (int part = 0; part < 2; ++part) {
        Trainer trainer(o);
        fill(trainer);
        std::stop_source stop;
        const TrainResult rest = trainer.run(
            [&](const TrainProgress& p) {
                if (part == 0 && p.step >= 20)
                    stop.request_stop();
            },
            stop.get_token());
        EXPECT_EQ(rest.finished, part == 1);
    }
    EXPECT_EQ(read_safetensors(tiny("once").checkpoint).tensors.at("model/blocks.1.conv.0.weight").values,
              read_safetensors(o.checkpoint).tensors.at("model/blocks.1.conv.0.weight").values);
}

TEST_F(CascadeTraining, RefusesWhatCannotWork) {
    TrainOptions o = tiny("bad");
    o.loss = Loss::ssim;
    EXPECT_THROW(Trainer{o}, Error);
    o = tiny("bad");
    o.scan.spokes_max = 2;
    EXPECT_THROW(Trainer{o}, Error);
    o = tiny("bad");
    o.cascade.layers = 1;
    EXPECT_THROW(Trainer{o}, Error);
    Trainer trainer(tiny("bad"));
    const std::vector<float> frames(4 * 8 * 8, 1.0f);
    EXPECT_THROW(trainer.add(frames, frames, {4, 8, 8}), Error) << "a cascade takes the truth alone";
}

} // namespace
