// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/crnn/cartesian_grid.hpp"
#include "models/crnn/crnn.hpp"
#include "models/files/torch_state_dict.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/convolutions.hpp"

#include <cmath>
#include <complex>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <numbers>
#include <random>
#include <string>

namespace {

using namespace mri;
using cfloat = std::complex<float>;

std::string golden(const std::string& name) {
    const char* folder = std::getenv("GST_MRI_GOLDEN_DIR");
    return std::string(folder ? folder : "tests/golden") + "/crnn/" + name;
}

std::vector<std::byte> bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    std::vector<std::byte> out(text.size());
    std::memcpy(out.data(), text.data(), text.size());
    return out;
}

std::vector<cfloat> complex_of(const NamedTensor& tensor) {
    std::vector<cfloat> out(tensor.values.size() / 2);
    std::memcpy(static_cast<void*>(out.data()), tensor.values.data(), tensor.values.size() * sizeof(float));
    return out;
}

double largest_difference(const std::vector<cfloat>& a, const std::vector<cfloat>& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        largest = std::max(largest, static_cast<double>(std::abs(a[i] - b[i])));
    return largest;
}

const RunOptions plain{"cpu", Precision::float32, 1};

struct Case {
    TensorFile weights;
    std::vector<cfloat> image, k0, hard, soft;
    std::vector<float> mask;
    WindowShape shape{3, 10, 8};
};

Case small_case() {
    Case c;
    c.weights = read_safetensors(golden("small.safetensors"));
    c.image = complex_of(c.weights.tensors.at("golden.image"));
    c.k0 = complex_of(c.weights.tensors.at("golden.k0"));
    c.hard = complex_of(c.weights.tensors.at("golden.hard"));
    c.soft = complex_of(c.weights.tensors.at("golden.soft"));
    c.mask = c.weights.tensors.at("golden.mask").values;
    std::erase_if(c.weights.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
    return c;
}

/// An array of a .npz (a zip of uncompressed .npy) as floats; complex ones as pairs.
std::vector<float> npz(const std::vector<std::byte>& file, const std::string& name) {
    const std::string text(reinterpret_cast<const char*>(file.data()), file.size());
    const std::size_t entry = text.find(name + ".npy");
    const std::size_t magic = text.find("\x93NUMPY", entry);
    if (entry == std::string::npos || magic == std::string::npos)
        return {};
    std::uint16_t header = 0;
    std::memcpy(&header, text.data() + magic + 8, 2);
    const std::string about = text.substr(magic + 10, header);
    std::size_t count = about.find("c8") != std::string::npos ? 2 : 1;
    for (std::size_t at = about.find("shape") + 9; about[at] != ')';) {
        char* end = nullptr;
        count *= std::strtoul(about.c_str() + at, &end, 10);
        at = static_cast<std::size_t>(end - about.c_str());
        while (about[at] == ',' || about[at] == ' ')
            ++at;
    }
    std::vector<float> out(count);
    std::memcpy(out.data(), text.data() + magic + 10 + header, count * sizeof(float));
    return out;
}

struct EveryCrnn : test::EveryConvolution {};
INSTANTIATE_TEST_SUITE_P(Convolutions, EveryCrnn, test::every_convolution(), test::convolution_name);

TEST_P(EveryCrnn, AgreesWithTheReference) {
    const Case c = small_case();
    std::vector<cfloat> output(c.image.size());
    for (const bool soft : {false, true}) {
        CrnnOptions options{3, soft ? 0.2F : std::numeric_limits<float>::infinity()};
        Crnn network(c.weights, "small", options, plain);
        EXPECT_EQ(network.filters(), 3);
        network.run(c.image, c.k0, c.mask, output, c.shape);
        // Values of order 1; three iterations of five layers, each a float32 sum of at most 60 products.
        EXPECT_LT(largest_difference(output, soft ? c.soft : c.hard), 1e-5);
    }
    EXPECT_GT(largest_difference(c.hard, c.soft), 1e-2) << "the two do not differ: no test at all";
    EXPECT_GT(largest_difference(c.hard, c.image), 1e-2);
}

TEST(Crnn, AgreesWithTheSeed) {
    TensorFile file = read_safetensors(golden("seed.safetensors"));
    const auto image = complex_of(file.tensors.at("golden.image"));
    const auto k0 = complex_of(file.tensors.at("golden.k0"));
    const auto expected = complex_of(file.tensors.at("golden.soft"));
    const auto mask = file.tensors.at("golden.mask").values;
    std::erase_if(file.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
    std::vector<cfloat> output(image.size());
    Crnn network(file, "seed", {4}, plain); // tau = 0.2 is the preset's
    EXPECT_EQ(network.preset(), CrnnPreset::seed);
    EXPECT_EQ(network.filters(), 4);
    network.run(image, k0, mask, output, {3, 10, 8});
    // Values of order 1; four iterations of four layers in float32, the normalisations each of a gain of 0.5
    // to 0.7 over a standard deviation of some tenths; the vector is in double precision.
    EXPECT_LT(largest_difference(output, expected), 5e-5);
    EXPECT_GT(largest_difference(expected, image), 1e-2);
    EXPECT_EQ(Crnn(file, "seed", {}, plain).iterations(), 10);

    // Each of its normalisations counts.
    for (const std::string norm : {"bn.weight", "bcrnn.CRNN_model.bn.bias"}) {
        TensorFile other = file;
        other.tensors.at(norm).values[0] += 0.5F;
        Crnn(other, "other", {4}, plain).run(image, k0, mask, output, {3, 10, 8});
        EXPECT_GT(largest_difference(output, expected), 1e-3) << norm;
    }
    file.tensors.erase("bn.bias");
    file.tensors.erase("bcrnn.CRNN_model.bn.weight");
    try {
        const Crnn incomplete(file, "seed", {}, plain);
        ADD_FAILURE();
    } catch (const Error& e) {
        const std::string text = e.what();
        EXPECT_NE(text.find("bn.bias is missing"), std::string::npos) << text;
        EXPECT_NE(text.find("bcrnn.CRNN_model.<normalisation>.weight is missing"), std::string::npos) << text;
    }
}

TEST(Crnn, SamplesAnywhereAreThoseOnTheGridWhereTheyLieThere) {
    const Case c = small_case();
    const WindowShape& shape = c.shape;
    // Some lines of each frame, random values: at grid points of area 1, N replaces exactly the measured
    // coefficients.
    std::mt19937 engine(3);
    std::normal_distribution<float> normal(0, 0.3F);
    std::vector<std::vector<float>> kxy, areas;
    std::vector<std::vector<cfloat>> samples;
    std::vector<cfloat> grid(c.image.size()), on_grid(c.image.size()), anywhere(c.image.size());
    std::vector<float> mask(c.image.size());
    std::vector<SampledFrame> frames;
    for (int t = 0; t < shape.frames; ++t) {
        auto& k = kxy.emplace_back();
        auto& y = samples.emplace_back();
        for (int line = t % 3; line < shape.height; line += 3)
            for (int x = 0; x < shape.width; ++x) {
                k.push_back(static_cast<float>(x - shape.width / 2));
                k.push_back(static_cast<float>(line - shape.height / 2));
                y.emplace_back(normal(engine) * 5, normal(engine) * 5);
            }
        areas.emplace_back(y.size(), 1.0F);
        const std::size_t at = static_cast<std::size_t>(t) * shape.pixels();
        place_on_grid(y, k, shape.width, shape.height, std::span(grid).subspan(at, shape.pixels()),
                      std::span(mask).subspan(at, shape.pixels()));
    }
    for (std::size_t t = 0; t < kxy.size(); ++t)
        frames.push_back({kxy[t], samples[t], areas[t]});
    for (const float tau : {std::numeric_limits<float>::infinity(), 0.7F}) {
        Crnn network(c.weights, "small", {3, tau}, plain);
        network.run(c.image, grid, mask, on_grid, shape);
        network.run({c.image, frames}, anywhere, shape);
        // The transforms' relative error is 5e-4, three times, on images of order 1.
        EXPECT_LT(largest_difference(anywhere, on_grid), 5e-3) << tau;
        EXPECT_GT(largest_difference(on_grid, c.image), 0.1) << tau;
    }
}

TEST_P(EveryCrnn, AgreesWithThePublishedWeights) {
    const char* data = std::getenv("GST_MRI_DATA");
    if (!data || !*data)
        GTEST_SKIP() << "GST_MRI_DATA is not set";
    const std::string folder = std::string(data) + "/crnn/";
    if (!std::ifstream(folder + "crnn_mri_d5_c5.pth"))
        GTEST_SKIP() << "there is no " << folder << "crnn_mri_d5_c5.pth";
    const struct {
        const char* name;
        WindowShape shape;
        const char* output;
        CrnnOptions options;
    } cases[] = {{"crnn_golden_32x40x4.npz", {4, 32, 40}, "out_hardDC", {}},
                 {"crnn_golden_32x40x4.npz", {4, 32, 40}, "out_tau02", {5, 0.2F}},
                 {"crnn_golden_256x16x4.npz", {4, 256, 16}, "out_hardDC", {}}};
    for (const auto& c : cases) {
        const auto file = bytes_of(folder + c.name);
        const std::size_t pixels = c.shape.pixels();
        // [T, 2, H, W] there, interleaved here.
        const auto interleave = [&](const std::vector<float>& planes) {
            std::vector<cfloat> out(c.shape.count());
            for (std::size_t i = 0; i < out.size(); ++i) {
                const std::size_t real = i / pixels * 2 * pixels + i % pixels;
                out[i] = {planes[real], planes[real + pixels]};
            }
            return out;
        };
        const auto image = interleave(npz(file, "input"));
        const auto expected = interleave(npz(file, c.output));
        const auto mask = npz(file, "mask");
        const auto pairs = npz(file, "k0");
        std::vector<cfloat> k0(c.shape.count());
        ASSERT_EQ(pairs.size(), 2 * k0.size());
        std::memcpy(static_cast<void*>(k0.data()), pairs.data(), pairs.size() * sizeof(float));
        Crnn network = Crnn::load(folder + "crnn_mri_d5_c5.pth", c.options, plain);
        EXPECT_EQ(network.filters(), 64);
        std::vector<cfloat> output(image.size());
        network.run(image, k0, mask, output, c.shape);
        // Values up to 1.2; five iterations of convolutions with 576 products: 1e-4 is the arithmetic,
        // anything else is not.
        EXPECT_LT(largest_difference(output, expected), 1e-4) << c.name << " " << c.output;
        EXPECT_GT(largest_difference(image, expected), 1e-2);
    }
}

TEST(Crnn, KeepsToTheMeasuredData) {
    const Case c = small_case();
    Crnn network(c.weights, "small", {2, std::numeric_limits<float>::infinity()}, plain);
    const std::vector<float> all(c.mask.size(), 1.0F);
    std::vector<cfloat> output(c.image.size());
    // With every coefficient measured the image follows from them, whatever the network thinks.
    network.run(std::vector<cfloat>(c.image.size()), c.k0, all, output, c.shape);
    EXPECT_LT(largest_difference(output, c.image), 1e-5);
}

TEST(Crnn, NamesWhatIsWrong) {
    const Case c = small_case();
    TensorFile file = c.weights;
    file.tensors.erase("conv2_h.bias");
    file.tensors["conv5_x.bias"] = {{1}, {0}};
    file.tensors["conv4_x.bias"] = {{3}, {0, 0, 0}};
    try {
        const Crnn network(file, "w.pth", {}, plain);
        ADD_FAILURE();
    } catch (const Error& e) {
        const std::string text = e.what();
        EXPECT_EQ(e.code(), Errc::decode);
        EXPECT_NE(text.find("conv2_h.bias is missing"), std::string::npos) << text;
        EXPECT_NE(text.find("conv5_x.bias is extra"), std::string::npos) << text;
        EXPECT_NE(text.find("conv4_x.bias is [3] instead of [2]"), std::string::npos) << text;
    }
    EXPECT_THROW(Crnn({}, "w.pth", {}, plain), Error);
    EXPECT_THROW(Crnn(c.weights, "w.pth", {-1, 1.0F}, plain), Error);
    EXPECT_THROW(Crnn(c.weights, "w.pth", {5, std::nanf("")}, plain), Error);
    EXPECT_THROW(Crnn(c.weights, "w.pth", {5, 1.0F, CrnnPreset::seed}, plain), Error);
    Crnn network(c.weights, "w.pth", {}, plain);
    std::vector<cfloat> output(c.image.size());
    EXPECT_THROW(network.run(c.image, c.k0, std::span(c.mask).first(7), output, c.shape), Error);
    EXPECT_THROW(network.warm_up({1000, 8192, 8192}), Error);
}

// ---- causal networks

using Complex = std::complex<double>;
using Image = std::vector<Complex>; // [y][x]
using Maps = std::vector<double>;   // [channel][y][x]

/// Images, and what was measured of them: lines of a grid, and samples anywhere.
struct Scan {
    WindowShape shape{5, 10, 8};
    std::vector<cfloat> image, k0;
    std::vector<float> mask;
    std::vector<std::vector<float>> kxy, areas;
    std::vector<std::vector<cfloat>> samples;

    explicit Scan(unsigned seed) {
        std::mt19937 engine(seed);
        std::uniform_real_distribution<float> value(-1, 1);
        for (std::size_t i = 0; i < shape.count(); ++i) {
            image.emplace_back(value(engine), value(engine));
            mask.push_back((i / 8 + i / 80) % 3 == 0 ? 1.0F : 0.0F); // other lines in each frame
            k0.push_back(mask.back() * cfloat(value(engine), value(engine)));
        }
        for (int t = 0; t < shape.frames; ++t) {
            auto& k = kxy.emplace_back();
            auto& area = areas.emplace_back();
            auto& y = samples.emplace_back();
            for (int i = 0; i < 30; ++i) {
                k.push_back(4 * value(engine));
                k.push_back(5 * value(engine));
                area.push_back(0.75F + 0.25F * value(engine));
                y.emplace_back(5 * value(engine), 5 * value(engine));
            }
        }
    }

    std::vector<SampledFrame> frames() const {
        std::vector<SampledFrame> out;
        for (std::size_t t = 0; t < kxy.size(); ++t)
            out.push_back({kxy[t], samples[t], areas[t]});
        return out;
    }
    /// Frames `first` to `first` + `count` - 1 alone.
    void stream(Crnn& network, bool radial, int first, int count, std::vector<cfloat>& output) const {
        const auto at = static_cast<std::size_t>(first) * shape.pixels();
        const auto values = [&](auto& all) {
            return std::span(all).subspan(at, static_cast<std::size_t>(count) * shape.pixels());
        };
        const WindowShape part{count, shape.height, shape.width};
        const auto all = frames();
        const auto some =
            std::span(all).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
        if (radial)
            network.stream({values(image), some}, values(output), part);
        else
            network.stream(values(image), values(k0), values(mask), values(output), part);
    }
    std::vector<cfloat> run(Crnn& network, bool radial) const {
        std::vector<cfloat> output(shape.count());
        const auto all = frames();
        if (radial)
            network.run({image, all}, output, shape);
        else
            network.run(image, k0, mask, output, shape);
        return output;
    }
};

/// A causal network as it is written down, iteration after iteration over all frames, in double precision.
class Definition {
  public:
    Definition(const TensorFile& file, const Scan& scan, int iterations, double tau, bool radial)
        : file_(file), scan_(scan), iterations_(iterations), tau_(tau), radial_(radial) {
        seed_ = file.tensors.contains(cell("iteration_to_hidden.weight"));
        while (file.tensors.contains("conv" + std::to_string(layers_) + "_h.weight"))
            ++layers_;
    }

    std::vector<cfloat> run() const {
        const auto frames = static_cast<std::size_t>(scan_.shape.frames);
        const std::size_t pixels = scan_.shape.pixels();
        std::vector<Image> image(frames);
        for (std::size_t i = 0; i < scan_.image.size(); ++i)
            image[i / pixels].emplace_back(scan_.image[i]);
        std::vector<std::vector<Maps>> before(layers_, std::vector<Maps>(frames)); // of the cell, conv1 ...
        for (int i = 0; i < iterations_; ++i) {
            std::vector<std::vector<Maps>> now = before;
            for (std::size_t t = 0; t < frames; ++t) {
                Maps x(2 * pixels);
                for (std::size_t p = 0; p < pixels; ++p) {
                    x[p] = image[t][p].real();
                    x[pixels + p] = image[t][p].imag();
                }
                now[0][t] = active(
                    {convolved(cell(seed_ ? "iteration_to_hidden" : "i2h"), x),
                     convolved(cell(seed_ ? "hidden_to_hidden" : "h2h"), t > 0 ? now[0][t - 1] : Maps()),
                     convolved(cell(seed_ ? "iterationHidden_to_iterationHidden" : "ih2ih"), before[0][t])},
                    cell("bn"));
                for (std::size_t n = 1; n < layers_; ++n) {
                    const std::string name = "conv" + std::to_string(n);
                    now[n][t] = active(
                        {convolved(name + "_x", now[n - 1][t]), convolved(name + "_h", before[n][t])}, "bn");
                }
                const Maps step = convolved("conv" + std::to_string(layers_) + "_x", now.back()[t]);
                for (std::size_t p = 0; p < pixels; ++p)
                    image[t][p] += Complex(step[p], step[pixels + p]);
                image[t] = radial_ ? near_samples(t, image[t]) : near_grid(t, image[t]);
            }
            before = now;
        }
        std::vector<cfloat> out;
        for (const Image& frame : image)
            out.insert(out.end(), frame.begin(), frame.end());
        return out;
    }

  private:
    static std::string cell(const std::string& name) { return "bcrnn.CRNN_model." + name; }

    /// No input: zeros.
    Maps convolved(const std::string& layer, const Maps& in) const {
        const NamedTensor& weight = file_.tensors.at(layer + ".weight");
        const int outputs = static_cast<int>(weight.shape[0]), inputs = static_cast<int>(weight.shape[1]);
        const int kernel = static_cast<int>(weight.shape[2]);
        const int height = scan_.shape.height, width = scan_.shape.width;
        Maps out;
        for (int o = 0; o < outputs; ++o)
            for (int y = 0; y < height; ++y)
                for (int x = 0; x < width; ++x) {
                    double sum = file_.tensors.at(layer + ".bias").values[static_cast<std::size_t>(o)];
                    for (int tap = 0; tap < inputs * kernel * kernel && !in.empty(); ++tap) {
                        const int from_y = y + tap / kernel % kernel - kernel / 2;
                        const int from_x = x + tap % kernel - kernel / 2;
                        const int c = tap / (kernel * kernel);
                        if (from_y >= 0 && from_x >= 0 && from_y < height && from_x < width)
                            sum +=
                                weight.values[static_cast<std::size_t>(o * inputs * kernel * kernel + tap)] *
                                in[static_cast<std::size_t>((c * height + from_y) * width + from_x)];
                    }
                    out.push_back(sum);
                }
        return out;
    }

    /// ReLU of the sum; in the seed then normalised over the pixels of the frame.
    Maps active(const std::vector<Maps>& parts, const std::string& norm) const {
        Maps out(parts[0].size());
        for (const Maps& part : parts)
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] += part[i];
        for (double& v : out)
            v = std::max(v, 0.0);
        const std::size_t pixels = scan_.shape.pixels();
        for (std::size_t c = 0; seed_ && c < out.size() / pixels; ++c) {
            const std::span<double> map = std::span(out).subspan(c * pixels, pixels);
            double mean = 0, variance = 0;
            for (const double v : map)
                mean += v / static_cast<double>(pixels);
            for (const double v : map)
                variance += (v - mean) * (v - mean) / static_cast<double>(pixels);
            for (double& v : map)
                v = (v - mean) / std::sqrt(variance + 1e-5) * file_.tensors.at(norm + ".weight").values[c] +
                    file_.tensors.at(norm + ".bias").values[c];
        }
        return out;
    }

    Image transformed(const Image& in, double sign) const {
        const int height = scan_.shape.height, width = scan_.shape.width;
        Image out;
        for (int v = 0; v < height; ++v)
            for (int u = 0; u < width; ++u) {
                Complex sum;
                for (int y = 0; y < height; ++y)
                    for (int x = 0; x < width; ++x)
                        sum += in[static_cast<std::size_t>(y * width + x)] *
                               std::polar(1.0, sign * 2 * std::numbers::pi *
                                                   (static_cast<double>(u * x) / width +
                                                    static_cast<double>(v * y) / height));
                out.push_back(sum / std::sqrt(static_cast<double>(in.size())));
            }
        return out;
    }

    Image near_grid(std::size_t t, const Image& image) const {
        Image k = transformed(image, -1);
        for (std::size_t p = 0; p < k.size(); ++p) {
            const Complex k0(scan_.k0[t * k.size() + p]);
            if (scan_.mask[t * k.size() + p] > 0)
                k[p] = std::isinf(tau_) ? k0 : (k[p] + tau_ * k0) / (1 + tau_);
        }
        return transformed(k, 1);
    }

    /// The operator is the product's own, of this frame alone.
    Image near_samples(std::size_t t, const Image& image) const {
        WindowOperator data({.width = scan_.shape.width, .height = scan_.shape.height});
        const auto frames = scan_.frames();
        data.set_window(std::span(frames).subspan(t, 1), 1, {});
        const auto product = [&](const Image& x, double mu) {
            const std::vector<cfloat> in(x.begin(), x.end());
            std::vector<cfloat> out(in.size());
            data.normal(in, out);
            Image sum(out.begin(), out.end());
            for (std::size_t p = 0; p < sum.size(); ++p)
                sum[p] += mu * x[p];
            return sum;
        };
        Image x = image;
        Image rest = product(x, 0);
        for (std::size_t p = 0; p < rest.size(); ++p)
            rest[p] = Complex(data.right()[p]) - rest[p];
        const auto add = [](Image& to, double factor, const Image& what) {
            for (std::size_t p = 0; p < to.size(); ++p)
                to[p] += factor * what[p];
        };
        if (std::isinf(tau_)) {
            add(x, 1, rest);
            return x;
        }
        // (N + 1/tau) x = b + image / tau, from the image.
        const auto dot = [](const Image& a, const Image& b) {
            double sum = 0;
            for (std::size_t p = 0; p < a.size(); ++p)
                sum += (std::conj(a[p]) * b[p]).real();
            return sum;
        };
        Image direction = rest;
        for (int step = 0; step < 5; ++step) {
            const Image along = product(direction, 1 / tau_);
            const double power = dot(rest, rest);
            const double length = power / dot(direction, along);
            add(x, length, direction);
            add(rest, -length, along);
            const double factor = dot(rest, rest) / power;
            for (std::size_t p = 0; p < rest.size(); ++p)
                direction[p] = rest[p] + factor * direction[p];
        }
        return x;
    }

    const TensorFile& file_;
    const Scan& scan_;
    int iterations_;
    double tau_;
    bool radial_, seed_ = false;
    std::size_t layers_ = 1; // that are recurrent
};

TensorFile golden_weights(const std::string& name) {
    TensorFile file = read_safetensors(golden(name));
    std::erase_if(file.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
    return file;
}

CrnnOptions causal_options(int iterations, float tau) {
    return {iterations, tau, CrnnPreset::automatic, true};
}

constexpr float hard = std::numeric_limits<float>::infinity();

TEST_P(EveryCrnn, ACausalOneIsItsDefinition) {
    const Scan scan(1);
    for (const std::string name : {"small.safetensors", "seed.safetensors"}) {
        const TensorFile file = golden_weights(name);
        for (const bool radial : {false, true})
            for (const float tau : {hard, 0.2F}) {
                SCOPED_TRACE(name + (radial ? " radial " : " Cartesian ") + std::to_string(tau));
                const std::vector<cfloat> expected = Definition(file, scan, 4, tau, radial).run();
                Crnn network(file, name, causal_options(4, tau), plain);
                EXPECT_TRUE(network.causal());
                // Values of order 1; four iterations of five layers, each a float32 sum of at most 60
                // products, and a normalisation may divide by some tenths.
                EXPECT_LT(largest_difference(scan.run(network, radial), expected), 5e-5);

                // The same arithmetic frame by frame, however the frames come.
                std::vector<cfloat> streamed(expected.size());
                for (const auto& [first, count] : {std::pair{0, 2}, {2, 1}, {3, 1}, {4, 1}})
                    scan.stream(network, radial, first, count, streamed);
                EXPECT_LT(largest_difference(streamed, expected), 5e-5);

                // A window in between is no part of the stream, which goes on after it.
                network.reset();
                std::vector<cfloat> again(expected.size());
                scan.stream(network, radial, 0, 3, again);
                scan.run(network, radial);
                scan.stream(network, radial, 3, 2, again);
                EXPECT_LT(largest_difference(again, expected), 5e-5);

                Crnn both(file, name, {4, tau}, plain);
                EXPECT_GT(largest_difference(scan.run(both, radial), expected), 1e-2)
                    << "as in both directions: no test at all";
            }
    }
}

TEST_P(EveryCrnn, ACausalOneRemembersAndDoesNotForesee) {
    const Scan scan(1), other(2);
    const std::size_t pixels = scan.shape.pixels();
    for (const std::string name : {"small.safetensors", "seed.safetensors"})
        for (const bool radial : {false, true}) {
            SCOPED_TRACE(name + (radial ? " radial" : " Cartesian"));
            Crnn network(golden_weights(name), name, causal_options(3, 0.5F), plain);
            const auto images = scan.run(network, radial);
            Scan changed = scan;
            const auto at = static_cast<std::ptrdiff_t>(2 * pixels);
            std::copy_n(other.image.begin() + at, pixels, changed.image.begin() + at);
            std::copy_n(other.k0.begin() + at, pixels, changed.k0.begin() + at);
            changed.kxy[2] = other.kxy[2];
            changed.samples[2] = other.samples[2];
            changed.areas[2] = other.areas[2];
            const auto after = changed.run(network, radial);
            for (std::size_t t = 0; t < 5; ++t) {
                double difference = 0;
                for (std::size_t i = t * pixels; i < (t + 1) * pixels; ++i)
                    difference = std::max<double>(difference, std::abs(after[i] - images[i]));
                if (t < 2)
                    EXPECT_EQ(difference, 0.0) << t << " knows of a later frame";
                else
                    EXPECT_GT(difference, 1e-3) << t << " does not remember"; // 50 times the rounding
            }
        }
}

TEST_P(EveryCrnn, AStreamBeginsAnew) {
    const Scan scan(1);
    Crnn network(golden_weights("small.safetensors"), "small", causal_options(3, hard), plain);
    const std::size_t pixels = scan.shape.pixels();
    std::vector<cfloat> output(scan.shape.count());
    const auto frame = [&](int t) {
        scan.stream(network, false, t, 1, output);
        const auto at = output.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(t) * pixels);
        return std::vector<cfloat>(at, at + static_cast<std::ptrdiff_t>(pixels));
    };
    // The same arithmetic each time, on one thread: the same bits.
    const auto first = frame(1);
    EXPECT_NE(frame(1), first) << "what was before does not count: no test at all";
    network.reset();
    EXPECT_EQ(frame(1), first) << "reset()";
    EXPECT_GT(network.warm_up({1, 10, 8}), 0.0);
    EXPECT_EQ(frame(1), first) << "warm_up()";

    const std::vector<cfloat> zeros(12);
    std::vector<cfloat> small(12);
    network.stream(zeros, zeros, std::vector<float>(12), small, {1, 3, 4});
    EXPECT_EQ(frame(1), first) << "another size";

    const auto refused = [&](const std::vector<cfloat>& image, const std::vector<cfloat>& kspace,
                             std::size_t mask, Errc code) {
        try {
            std::vector<cfloat> to(pixels);
            network.stream(image, kspace, std::vector<float>(mask), to, {1, 10, 8});
            ADD_FAILURE() << "it was taken";
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), code) << e.what();
        }
        EXPECT_EQ(frame(1), first) << "an error";
    };
    const std::vector<cfloat> good(pixels);
    std::vector<cfloat> bad = good;
    bad[7] = {0, std::nanf("")};
    refused(bad, good, pixels, Errc::format);
    refused(good, bad, pixels, Errc::format);
    refused(good, good, pixels - 1, Errc::format);

    const auto frames = scan.frames();
    std::vector<cfloat> to(pixels);
    EXPECT_THROW(network.stream({bad, std::span(frames).first(1)}, to, {1, 10, 8}), Error);
    EXPECT_THROW(network.stream({good, std::span(frames).first(2)}, to, {1, 10, 8}), Error);
}

TEST_P(EveryCrnn, StatesThatGrowBeyondAllBoundsAreAnError) {
    TensorFile file = golden_weights("small.safetensors");
    for (float& weight : file.tensors.at("bcrnn.CRNN_model.h2h.weight").values)
        weight = 1000;
    for (float& bias : file.tensors.at("bcrnn.CRNN_model.h2h.bias").values)
        bias = 1;
    const Scan scan(1);
    Crnn network(file, "wild", causal_options(2, 0.2F), plain);
    std::vector<cfloat> output(scan.shape.count());
    scan.stream(network, false, 0, 1, output);
    const std::vector<cfloat> first = output;
    try {
        for (int i = 0; i < 20; ++i) // each of them at least a thousandfold: float32 ends at 10^38
            scan.stream(network, false, 1 + i % 4, 1, output);
        ADD_FAILURE() << "nothing grew";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::failed);
        EXPECT_NE(std::string(e.what()).find("grown"), std::string::npos) << e.what();
    }
    std::fill(output.begin(), output.end(), cfloat());
    scan.stream(network, false, 0, 1, output);
    EXPECT_TRUE(std::equal(output.begin(), output.begin() + 80, first.begin())) << "the stream is not new";
}

TEST(Crnn, TheFileOrTheOptionsSayThatItIsCausal) {
    TensorFile file = golden_weights("small.safetensors");
    EXPECT_FALSE(Crnn(file, "w", {}, plain).causal());
    EXPECT_TRUE(Crnn(file, "w", causal_options(0, -1), plain).causal());
    file.metadata["time"] = "window";
    EXPECT_FALSE(Crnn(file, "w", {}, plain).causal());
    EXPECT_TRUE(Crnn(file, "w", causal_options(0, -1), plain).causal());
    file.metadata["time"] = "causal";
    EXPECT_TRUE(Crnn(file, "w", {}, plain).causal());
    file.metadata["time"] = "backwards";
    try {
        const Crnn network(file, "w.safetensors", {}, plain);
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::decode);
        EXPECT_NE(std::string(e.what()).find("backwards"), std::string::npos) << e.what();
    }

    file.metadata.clear();
    Crnn network(file, "w", {}, plain);
    const Scan scan(1);
    std::vector<cfloat> output(scan.shape.count());
    for (const bool radial : {false, true})
        try {
            scan.stream(network, radial, 0, 1, output);
            ADD_FAILURE() << "a network over windows took a frame";
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Errc::settings);
        }
}

TEST(TorchFile, ReadsAnOldStateDict) {
    const TensorFile old = read_weights(golden("small.pth"));
    const Case c = small_case();
    for (const auto& [name, tensor] : c.weights.tensors) {
        ASSERT_TRUE(old.tensors.contains(name)) << name;
        EXPECT_EQ(old.tensors.at(name).shape, tensor.shape) << name;
        EXPECT_EQ(old.tensors.at(name).values, tensor.values) << name;
    }
    EXPECT_EQ(old.tensors.at("extra.transposed").shape, (std::vector<std::int64_t>{3, 2}));
    EXPECT_EQ(old.tensors.at("extra.transposed").values, (std::vector<float>{0, 3, 1, 4, 2, 5}));
    EXPECT_EQ(old.tensors.at("extra.view").values, (std::vector<float>{3, 4, 5, 6}));
    EXPECT_EQ(old.tensors.at("extra.whole").values.size(), 10U);
    EXPECT_EQ(old.tensors.size(), c.weights.tensors.size() + 3);
}

TEST(TorchFile, RefusesWhatIsCut) {
    const auto bytes = bytes_of(golden("small.pth"));
    ASSERT_TRUE(is_legacy_torch(bytes));
    for (std::size_t n = 0; n < bytes.size(); n += n < 6000 ? 1 : 97)
        EXPECT_THROW(parse_legacy_torch(std::span(bytes).first(n), "cut"), Error) << n;
}

TEST(TorchFile, SurvivesDamage) {
    // Any single byte of the pickles may be anything: an error or some other tensors, but nothing out of
    // bounds (run this under AddressSanitizer) and nothing absurdly large.
    const auto bytes = bytes_of(golden("small.pth"));
    std::mt19937 random(1);
    for (int i = 0; i < 4000; ++i) {
        auto damaged = bytes;
        damaged[random() % 5000] = static_cast<std::byte>(random() % 256);
        try {
            std::size_t count = 0;
            for (const auto& [name, tensor] : parse_legacy_torch(damaged, "damaged").tensors)
                count += tensor.values.size();
            EXPECT_LE(count, bytes.size());
        } catch (const Error&) {
            // as it should
        }
    }
}

TEST(TorchFile, CallsNothing) {
    // The magic number, the version, {} and a pickle that would call os.system("true"): its result is left out like
    // anything that is no tensor, and then nothing is there.
    const auto good = bytes_of(golden("small.pth"));
    std::string text(reinterpret_cast<const char*>(good.data()), 15);
    text += std::string("\x80\x02M\xe9\x03.\x80\x02}.", 10);
    text += std::string("\x80\x02", 2) + "cos\nsystem\nX" + std::string("\x04\0\0\0", 4) + "true\x85R.";
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    try {
        parse_legacy_torch(bytes, "evil.pth");
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::decode);
    }
}

/// Readouts of twice and three times the samples, of pixels within the field of view and beside it: the first
/// give what readouts on the grid give, the others nothing.
TEST(CartesianGrid, OversampledReadoutsComeToTheGrid) {
    for (const auto& [width, over] : {std::pair{8, 2}, {7, 3}}) {
        const auto readouts = [&](int density, bool beside) {
            GridSamples out;
            for (const int ky : {-1, 2})
                for (int j = -(width / 2) * density; j < (width - width / 2) * density; ++j) {
                    const double kx = static_cast<double>(j) / density;
                    std::complex<double> s;
                    for (int x = 0; x < width; ++x) {
                        const double value = 1 + x * x % 5 + ky, place = x - width / 2;
                        s += value * std::polar(1.0, -2 * std::numbers::pi * kx * place / width);
                        if (beside) { // from half a field of view on to a whole one
                            const double there = width - width / 2 + x % (width / 2);
                            s += 100.0 * std::polar(1.0, -2 * std::numbers::pi * kx * there / width);
                        }
                    }
                    out.samples.emplace_back(s);
                    out.kxy.insert(out.kxy.end(), {static_cast<float>(kx), static_cast<float>(ky)});
                }
            return out;
        };
        const GridSamples expected = readouts(1, false), dense = readouts(over, true);
        EXPECT_FALSE(without_oversampling(expected.samples, expected.kxy, width, width));
        const auto reduced = without_oversampling(dense.samples, dense.kxy, over * width, width);
        ASSERT_TRUE(reduced);
        EXPECT_EQ(reduced->kxy, expected.kxy);
        EXPECT_LT(largest_difference(reduced->samples, expected.samples), 1e-3);
        GridSamples bent = dense;
        bent.kxy[static_cast<std::size_t>(2 * over * width) + 4] += 0.25F; // of the second readout
        EXPECT_THROW(without_oversampling(bent.samples, bent.kxy, over * width, width), Error);
    }
}

TEST(CartesianGrid, IsTheTransformOfTheArray) {
    // s(k) as the conventions define it, for a few pixels, against the orthonormal DFT of the array.
    for (const auto& [width, height] : {std::pair{6, 5}, {8, 4}, {7, 7}}) {
        const std::size_t points = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
        std::mt19937 random(3);
        std::vector<cfloat> image(points);
        for (cfloat& value : image)
            value = {static_cast<float>(random() % 100), static_cast<float>(random() % 100)};
        std::vector<cfloat> samples;
        std::vector<float> kxy;
        std::vector<cfloat> expected(points);
        for (int ky = -(height / 2); ky < height - height / 2; ++ky)
            for (int kx = -(width / 2); kx < width - width / 2; ++kx) {
                std::complex<double> s;
                std::complex<double> f;
                for (int y = 0; y < height; ++y)
                    for (int x = 0; x < width; ++x) {
                        const std::complex<double> m(image[static_cast<std::size_t>(y * width + x)]);
                        const auto wave = [&](double dx, double dy) {
                            return std::polar(1.0,
                                              -2.0 * std::numbers::pi * (kx * dx / width + ky * dy / height));
                        };
                        s += m * wave(x - width / 2, y - height / 2);
                        f += m * wave(x, y);
                    }
                samples.emplace_back(s);
                kxy.push_back(static_cast<float>(kx));
                kxy.push_back(static_cast<float>(ky));
                expected[static_cast<std::size_t>((ky + height) % height * width + (kx + width) % width)] =
                    cfloat(f / std::sqrt(static_cast<double>(points)));
            }
        std::vector<cfloat> grid(points);
        std::vector<float> mask(points);
        place_on_grid(samples, kxy, width, height, grid, mask);
        // Sums up to 50 x 141 in float32: 7000 x 2^-24 x a few.
        EXPECT_LT(largest_difference(grid, expected), 2e-3) << width << " x " << height;
        for (const float value : mask)
            EXPECT_EQ(value, 1.0F);

        // A sample that came twice counts once.
        place_on_grid(std::vector<cfloat>{{2, 0}, {4, 0}}, std::vector<float>{0, 0, 0, 0}, width, height,
                      grid, mask);
        EXPECT_NEAR(grid[0].real(), 3.0 / std::sqrt(static_cast<double>(points)), 1e-5);
        EXPECT_EQ(mask[0], 1.0F);
        EXPECT_EQ(mask[1], 0.0F);
    }
    std::vector<cfloat> grid(16);
    std::vector<float> mask(16);
    const std::vector<cfloat> one(1);
    EXPECT_FALSE(without_oversampling(one, std::vector<float>{0, 0}, 1, 4));
    EXPECT_THROW(place_on_grid(one, std::vector<float>{0.5F, 0}, 4, 4, grid, mask), Error);
    EXPECT_THROW(place_on_grid(one, std::vector<float>{0, 3}, 4, 4, grid, mask), Error);
    EXPECT_THROW(place_on_grid(one, std::vector<float>{0, std::nanf("")}, 4, 4, grid, mask), Error);
    EXPECT_THROW(place_on_grid(one, std::vector<float>{0}, 4, 4, grid, mask), Error);
}

} // namespace
