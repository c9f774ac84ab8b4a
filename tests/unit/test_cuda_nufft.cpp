// SPDX-License-Identifier: LGPL-2.1-or-later
// The transform for CUDA devices. CudaKernels and CudaTransform run the devices' kernels on the stand-in of
// emulation.hpp; CudaDevice needs a GPU and is skipped without one.
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/transform/cuda/cuda_nufft.hpp"
#include "plugins/math/transform/cuda/pipeline.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/support/exact_dft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstdlib>
#include <dlfcn.h>
#include <limits>
#include <numbers>
#include <random>
#include <set>
#include <thread>
#include <vector>

using namespace mri;
using namespace mri::cuda;
using namespace mri::test;
using emulation::Order;

namespace {

constexpr double two_pi = 2 * std::numbers::pi;

std::vector<cfloat> random_complex(std::size_t n, unsigned seed) {
    std::mt19937 gen(seed);
    std::normal_distribution<float> d;
    std::vector<cfloat> v(n);
    for (auto& c : v)
        c = {d(gen), d(gen)};
    return v;
}

std::vector<float> random_points(int n, int w, int h, unsigned seed) {
    std::mt19937 gen(seed);
    std::uniform_real_distribution<double> d(-0.5, 0.5);
    std::vector<float> v;
    for (int i = 0; i < n; ++i) {
        v.push_back(static_cast<float>(d(gen) * w));
        v.push_back(static_cast<float>(d(gen) * h));
    }
    return v;
}

std::vector<float> radial_points(int spokes, int samples, int w, int h) {
    std::vector<float> v;
    for (int s = 0; s < spokes; ++s)
        for (int i = 0; i < samples; ++i) {
            const double a = s * std::numbers::pi * 0.6180339887,
                         r = static_cast<double>(i - samples / 2) / samples;
            v.push_back(static_cast<float>(r * w * std::cos(a)));
            v.push_back(static_cast<float>(r * h * std::sin(a)));
        }
    return v;
}

struct Opened {
    Design plan;
    std::shared_ptr<EmulationLog> log = std::make_shared<EmulationLog>();
    CudaNufft nufft;

    explicit Opened(Design d, Order order = Order::ascending, std::size_t grid_bytes = std::size_t{1} << 30)
        : plan(d), nufft(d.x.pixels, d.y.pixels, open_emulation(d, order, grid_bytes, log)) {}
};

Design like(const Nufft& nufft) {
    return design(nufft.width(), nufft.height(), nufft.kernel_width(), nufft.grid_width(),
                  nufft.grid_height());
}

/// The adjoint with a combination, as the processor does it.
std::vector<cfloat> on_processor(Nufft& nufft, const std::vector<cfloat>& samples,
                                 const std::vector<float>& weights, Combination combination, int coils,
                                 const std::vector<cfloat>& maps = {}) {
    const std::size_t pixels = static_cast<std::size_t>(nufft.width() * nufft.height());
    std::vector<cfloat> images(pixels * static_cast<std::size_t>(coils)), one(pixels);
    nufft.adjoint(samples.data(), weights, images.data(), coils);
    switch (combination) {
    case Combination::none:
        return images;
    case Combination::rss:
        root_sum_of_squares(images.data(), coils, pixels, one.data());
        return one;
    case Combination::least_squares:
        combine_coils(images.data(), maps.data(), coils, pixels, one.data());
        return one;
    case Combination::adjoint:
        for (std::size_t i = 0; i < images.size(); ++i)
            one[i % pixels] += std::conj(maps[i]) * images[i];
        return one;
    }
    return {};
}

std::vector<cfloat> on_device(CudaNufft& nufft, const std::vector<cfloat>& samples,
                              const std::vector<float>& weights, Combination combination, int coils) {
    std::vector<cfloat> images(static_cast<std::size_t>(nufft.width() * nufft.height()) *
                               static_cast<std::size_t>(combination == Combination::none ? coils : 1));
    if (combination == Combination::none)
        nufft.adjoint(samples.data(), weights, images.data(), coils);
    else if (combination == Combination::rss)
        nufft.adjoint_rss(samples.data(), weights, images.data(), coils);
    else
        nufft.adjoint_sense(samples.data(), weights, images.data(),
                            combination == Combination::least_squares);
    return images;
}

constexpr Combination combinations[] = {Combination::none, Combination::rss, Combination::adjoint,
                                        Combination::least_squares};

std::vector<float> some_weights(std::size_t n) {
    std::vector<float> w;
    for (std::size_t i = 0; i < n; ++i)
        w.push_back(0.1f + 0.01f * static_cast<float>(i % 97));
    return w;
}

/// Everything both can do, compared.
void compare(CudaNufft& device, Nufft& processor, const std::vector<float>& k, int coils, double bound) {
    const std::size_t points = k.size() / 2,
                      pixels = static_cast<std::size_t>(device.width() * device.height());
    device.set_points(k);
    processor.set_points(k);
    const auto samples = random_complex(points * static_cast<std::size_t>(coils), 3);
    const auto maps = random_complex(pixels * static_cast<std::size_t>(coils), 4);
    const auto weights = some_weights(points);
    device.set_sensitivities(maps.data(), coils);
    for (const Combination combination : combinations)
        EXPECT_LT(relative_error(on_device(device, samples, weights, combination, coils),
                                 on_processor(processor, samples, weights, combination, coils, maps)),
                  bound)
            << "combination " << static_cast<int>(combination);
    std::vector<cfloat> a(samples.size()), b(samples.size());
    device.forward(maps.data(), a.data(), coils);
    processor.forward(maps.data(), b.data(), coils);
    EXPECT_LT(relative_error(a, b), bound) << "forward";
    const auto image = random_complex(pixels, 5);
    auto seen = maps;
    for (std::size_t i = 0; i < seen.size(); ++i)
        seen[i] *= image[i % pixels];
    device.forward_sense(image.data(), a.data());
    processor.forward(seen.data(), b.data(), coils);
    EXPECT_LT(relative_error(a, b), bound) << "forward through maps";
}

// --- the stand-in itself

int sum_of_neighbours[8];

__global__ void exchange(int barriers) {
    __shared__ int values[8];
    const int t = static_cast<int>(threadIdx.x);
    values[t] = t + 10 * static_cast<int>(blockIdx.x);
    if (barriers)
        __syncthreads();
    sum_of_neighbours[t] = values[t] + values[7 - t];
}

__global__ void diverge(int) {
    if (threadIdx.x % 2)
        __syncthreads();
}

} // namespace

TEST(CudaEmulation, ABarrierHoldsEveryThread) {
    for (const Order order : {Order::ascending, Order::descending, Order::shuffled}) {
        emulation::launch({3}, {8}, order, [] { exchange(1); });
        const int block = order == Order::ascending    ? 2
                          : order == Order::descending ? 0
                                                       : sum_of_neighbours[0] / 20;
        for (const int sum : sum_of_neighbours)
            EXPECT_EQ(sum, 7 + 20 * block);
    }
}

TEST(CudaEmulation, AMissingBarrierShows) {
    emulation::launch({1}, {8}, Order::ascending, [] { exchange(1); });
    std::set<int> seen;
    for (const unsigned blocks : {1u, 2u}) {
        emulation::launch({blocks}, {8}, Order::ascending, [] { exchange(0); });
        seen.insert(sum_of_neighbours, sum_of_neighbours + 8);
    }
    EXPECT_GT(seen.size(), 1u) << "threads must see what others wrote before, not what they will write";
}

TEST(CudaEmulation, RefusesWhatADeviceWould) {
    EXPECT_THROW(emulation::launch({1}, {8}, Order::ascending, [] { diverge(0); }), Error);
    EXPECT_THROW(emulation::launch({1}, {1025}, Order::ascending, [] {}), Error);
    EXPECT_THROW(emulation::launch({1, 65536}, {1}, Order::ascending, [] {}), Error);
    EXPECT_THROW(emulation::launch({0}, {1}, Order::ascending, [] {}), Error);
    EXPECT_THROW(__syncthreads(), Error);
}

// --- kernel by kernel

TEST(CudaKernels, PlaceGivesTheKaiserBesselKernel) {
    const Design d = design(21, 40, 5e-4);
    const auto k = random_points(300, 21, 40, 1);
    std::vector<Cell> cells(300);
    std::vector<float> weights(300 * 2 * max_taps);
    unsigned cursor = 7;
    PlaceArgs a{};
    a.kxy = k.data();
    a.points = 300;
    a.taps = d.taps;
    a.cells_x = d.x.cells;
    a.cells_y = d.y.cells;
    a.per_pixel_x = 1.0 / 21;
    a.per_pixel_y = 1.0 / 40;
    a.terms_x = d.x.terms;
    a.terms_y = d.y.terms;
    std::copy(d.x.coefficients.begin(), d.x.coefficients.end(), a.x);
    std::copy(d.y.coefficients.begin(), d.y.coefficients.end(), a.y);
    a.cells = cells.data();
    a.weights = weights.data();
    a.cursor = &cursor;
    emulation::launch({blocks(300, place_threads)}, {place_threads}, Order::shuffled, [&] { place(a); });
    EXPECT_EQ(cursor, 0u);
    for (int i = 0; i < 300; ++i)
        for (const bool along_y : {false, true}) {
            const Axis& axis = along_y ? d.y : d.x;
            const double sigma = std::min(2.0, static_cast<double>(axis.cells) / axis.pixels);
            const double ratio = d.taps * (1 - 0.5 / sigma);
            const double beta = std::numbers::pi * std::sqrt(ratio * ratio - 0.8);
            const double at =
                (static_cast<double>(k[static_cast<std::size_t>(2 * i + along_y)]) / axis.pixels + 0.5) *
                axis.cells;
            const int first =
                along_y ? cells[static_cast<std::size_t>(i)].y : cells[static_cast<std::size_t>(i)].x;
            ASSERT_GE(first, 0);
            ASSERT_LT(first, axis.cells);
            for (int j = 0; j < max_taps; ++j) {
                double t = first + j - at;
                t -= axis.cells * std::round(t / axis.cells);
                const double u = 2 * t / d.taps;
                const double expected =
                    j < d.taps ? std::cyl_bessel_i(0, beta * std::sqrt(std::max(0.0, 1 - u * u))) /
                                     std::cyl_bessel_i(0, beta)
                               : 0;
                // A position is right to 1e-7 cells of the kernel's half, its slope is below 3; the sum of 25
                // positive terms is right to some rounding steps of 6e-8.
                EXPECT_NEAR(weights[static_cast<std::size_t>((2 * i + along_y) * max_taps + j)], expected,
                            1e-6);
            }
        }
}

TEST(CudaKernels, BinListsEachPointInEveryTileItReaches) {
    // 20 and 30 cells: the last tiles are 4 and 6 cells wide, and kernels reach around the ends.
    constexpr int width = 20, height = 30, taps = 7, points = 700, across = 3, down = 4;
    std::mt19937 gen(4);
    std::vector<Cell> cells;
    for (int i = 0; i < points; ++i)
        cells.push_back({static_cast<int>(gen() % width), static_cast<int>(gen() % height)});
    for (const Order order : {Order::ascending, Order::shuffled}) {
        std::vector<Range> tiles(across * down);
        std::vector<unsigned> list(9 * points, ~0u);
        unsigned cursor = 0;
        const BinArgs a{cells.data(), points,  taps,         width,      height,
                        across,       &cursor, tiles.data(), list.data()};
        emulation::launch({across * down}, {bin_threads}, order, [&] { bin(a); });
        std::size_t all = 0;
        for (int t = 0; t < across * down; ++t) {
            std::set<unsigned> expected;
            for (unsigned i = 0; i < points; ++i)
                for (int j = 0; j < taps * taps; ++j)
                    if ((cells[i].x + j % taps) % width / tile == t % across &&
                        (cells[i].y + j / taps) % height / tile == t / across)
                        expected.insert(i);
            const Range r = tiles[static_cast<std::size_t>(t)];
            ASSERT_LE(r.begin + r.count, list.size());
            EXPECT_EQ(std::set<unsigned>(list.begin() + r.begin, list.begin() + r.begin + r.count), expected);
            EXPECT_EQ(r.count, expected.size()) << "each once";
            all += r.count;
        }
        EXPECT_EQ(cursor, all);
    }
}

TEST(CudaKernels, SpreadAndInterpolateAreTransposes) {
    constexpr int width = 22, height = 24, taps = 5, points = 150, across = 3, down = 3, coils = 5;
    std::mt19937 gen(8);
    std::uniform_real_distribution<float> uniform(0.1f, 1);
    std::vector<Cell> cells;
    std::vector<float> weights(points * 2 * max_taps);
    for (int i = 0; i < points; ++i) {
        cells.push_back({static_cast<int>(gen() % width), static_cast<int>(gen() % height)});
        for (int j = 0; j < taps; ++j)
            for (int axis = 0; axis < 2; ++axis)
                weights[static_cast<std::size_t>((2 * i + axis) * max_taps + j)] = uniform(gen);
    }
    const auto samples = random_complex(points * coils, 1);
    const auto density = some_weights(points);
    std::vector<Range> tiles(across * down);
    std::vector<unsigned> list(9 * points);
    unsigned cursor = 0;
    const BinArgs b{cells.data(), points, taps, width, height, across, &cursor, tiles.data(), list.data()};
    emulation::launch({across * down}, {bin_threads}, Order::ascending, [&] { bin(b); });

    std::vector<cdouble> expected(width * height * coils);
    for (int c = 0; c < coils; ++c)
        for (int i = 0; i < points; ++i)
            for (int j = 0; j < taps * taps; ++j) {
                const std::size_t x =
                    static_cast<std::size_t>((cells[static_cast<std::size_t>(i)].x + j % taps) % width);
                const std::size_t y =
                    static_cast<std::size_t>((cells[static_cast<std::size_t>(i)].y + j / taps) % height);
                const double w =
                    static_cast<double>(weights[static_cast<std::size_t>(2 * i * max_taps + j % taps)]) *
                    weights[static_cast<std::size_t>((2 * i + 1) * max_taps + j / taps)];
                expected[(static_cast<std::size_t>(c) * height + y) * width + x] +=
                    w * static_cast<double>(density[static_cast<std::size_t>(i)]) *
                    cdouble(samples[static_cast<std::size_t>(c * points + i)]);
            }
    // The grid starts full of NaN: every cell must be written.
    std::vector<cfloat> grid(expected.size(), cfloat(std::numeric_limits<float>::quiet_NaN()));
    const SpreadArgs s{reinterpret_cast<const Complex*>(samples.data()),
                       density.data(),
                       cells.data(),
                       weights.data(),
                       tiles.data(),
                       list.data(),
                       reinterpret_cast<Complex*>(grid.data()),
                       points,
                       coils,
                       taps,
                       width,
                       height,
                       across};
    emulation::launch({across * down, blocks(coils, coils_per_thread)}, {tile * tile}, Order::shuffled,
                      [&] { spread(s); });
    // Sums of some tens of terms in float32.
    EXPECT_LT(relative_error(grid, expected), 1e-6);

    std::vector<cfloat> back(samples.size(), cfloat(std::numeric_limits<float>::quiet_NaN()));
    const InterpolateArgs in{reinterpret_cast<const Complex*>(grid.data()),
                             cells.data(),
                             weights.data(),
                             reinterpret_cast<Complex*>(back.data()),
                             points,
                             coils,
                             taps,
                             width,
                             height};
    emulation::launch({blocks(points, interpolate_threads), blocks(coils, coils_per_thread)},
                      {interpolate_threads}, Order::shuffled, [&] { interpolate(in); });
    // <G, spread(D s)> = <interpolate(G), D s>, here with G = spread(D s)
    double norm = 0;
    cdouble product = 0;
    for (const cfloat g : grid)
        norm += std::norm(cdouble(g));
    for (std::size_t i = 0; i < back.size(); ++i)
        product +=
            std::conj(cdouble(samples[i])) * static_cast<double>(density[i % points]) * cdouble(back[i]);
    EXPECT_LT(std::abs(product - norm), 1e-6 * norm);
}

// --- the transform

TEST(CudaTransform, IsTheProcessorsTransform) {
    struct Case {
        int width, height, coils;
        double tolerance;
    };
    for (const Case c : {Case{32, 32, 3, 1e-4}, {33, 20, 1, 1e-5}, {17, 48, 6, 1e-6}, {24, 25, 9, 1e-4}}) {
        SCOPED_TRACE(testing::Message() << c.width << "x" << c.height << " coils " << c.coils);
        Nufft processor(c.width, c.height, {.tolerance = c.tolerance, .threads = 1});
        Opened device(like(processor));
        compare(device.nufft, processor, radial_points(7, 2 * c.width, c.width, c.height), c.coils, 1e-5);
        compare(device.nufft, processor, random_points(301, c.width, c.height, 5), c.coils, 1e-5);
    }
    // The processor's polynomials are off by up to a fiftieth of the tolerance, in units of the kernel's
    // peak: up to 2e-6 above, and here 1e-5, over taps whose root mean square is about a quarter of the peak.
    // That is 4e-5 of a sum when all taps are off by as much; above, float32 rounding (1e-6) is what remains.
    Nufft processor(32, 40);
    Opened device(like(processor));
    compare(device.nufft, processor, radial_points(9, 64, 32, 40), 4, 1e-4);
}

TEST(CudaTransform, StaysBelowItsTolerance) {
    for (const double tolerance : {1e-2, 2e-3, 5e-4, 1e-4, 1e-5, 1e-6})
        for (const auto& [w, h] : {std::pair{24, 24}, {15, 22}}) {
            SCOPED_TRACE(testing::Message() << tolerance << " " << w << "x" << h);
            Opened device(design(w, h, tolerance));
            const auto k = random_points(200, w, h, 5);
            const auto s = random_complex(200, 1), m = random_complex(static_cast<std::size_t>(w * h), 2);
            std::vector<cfloat> image(m.size()), samples(s.size());
            device.nufft.set_points(k);
            device.nufft.adjoint(s.data(), {}, image.data(), 1);
            device.nufft.forward(m.data(), samples.data(), 1);
            EXPECT_LT(relative_error(image, exact_adjoint(k, s.data(), w, h)), tolerance);
            EXPECT_LT(relative_error(samples, exact_forward(k, m.data(), w, h)), tolerance);
        }
}

TEST(CudaTransform, AnySizeAndAnyPosition) {
    for (const auto& [w, h] : {std::pair{1, 1}, {2, 1}, {1, 3}, {5, 7}, {16, 13}, {40, 9}}) {
        Opened device(design(w, h, 5e-4));
        auto k = random_points(60, w, h, 6);
        for (const float rim : {-0.5f, 0.5f, 1.5f, -3.25f}) { // at the rim and around it
            k.push_back(rim * static_cast<float>(w));
            k.push_back(-rim * static_cast<float>(h));
        }
        const auto s = random_complex(k.size() / 2, 1),
                   m = random_complex(static_cast<std::size_t>(w * h), 2);
        std::vector<cfloat> image(m.size()), samples(s.size());
        device.nufft.set_points(k);
        device.nufft.adjoint(s.data(), {}, image.data(), 1);
        device.nufft.forward(m.data(), samples.data(), 1);
        // Periodic in k: a shift by W turns pixel x by exp(2 pi i (x - W/2)) = 1.
        EXPECT_LT(relative_error(image, exact_adjoint(k, s.data(), w, h)), 5e-4) << w << "x" << h;
        EXPECT_LT(relative_error(samples, exact_forward(k, m.data(), w, h)), 5e-4) << w << "x" << h;
    }
    Opened device(design(8, 8, 5e-4));
    const std::vector<float> far = {3e38f, -3e38f, 1e9f, -1e-38f};
    const auto s = random_complex(2, 1);
    std::vector<cfloat> image(64);
    device.nufft.set_points(far);
    device.nufft.adjoint(s.data(), {}, image.data(), 1);
    for (const cfloat v : image)
        EXPECT_TRUE(std::isfinite(v.real()) && std::isfinite(v.imag()));
}

// Both directions use the same float32 weights and the same FFT: <A x, y> and <x, A* y> differ by rounding
// alone. An element of either is a sum of n terms rounded at 6e-8 each, errors adding like noise; 1e-6 |A x|
// |y| leaves room.
TEST(CudaTransform, DirectionsAreAdjoint) {
    constexpr int w = 28, h = 30, coils = 3;
    Opened device(design(w, h, 1e-2));
    const auto k = radial_points(8, 56, w, h);
    device.nufft.set_points(k);
    const auto maps = random_complex(w * h * coils, 1), x = random_complex(w * h, 2);
    const auto y = random_complex(k.size() / 2 * coils, 3);
    device.nufft.set_sensitivities(maps.data(), coils);
    std::vector<cfloat> ax(y.size()), ay(x.size());
    device.nufft.forward_sense(x.data(), ax.data());
    device.nufft.adjoint_sense(y.data(), {}, ay.data(), false);
    cdouble left = 0, right = 0;
    double a = 0, b = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        left += cdouble(ax[i]) * std::conj(cdouble(y[i]));
        a += std::norm(cdouble(ax[i]));
        b += std::norm(cdouble(y[i]));
    }
    for (std::size_t i = 0; i < x.size(); ++i)
        right += cdouble(x[i]) * std::conj(cdouble(ay[i]));
    EXPECT_LT(std::abs(left - right), 1e-6 * std::sqrt(a * b));
}

TEST(CudaTransform, TheOrderOfThreadsAndBatchesChangesNothing) {
    constexpr int w = 20, h = 26, coils = 7;
    const Design d = design(w, h, 5e-4);
    const auto k = radial_points(9, 40, w, h);
    const auto samples = random_complex(k.size() / 2 * coils, 3), maps = random_complex(w * h * coils, 4);
    const auto weights = some_weights(k.size() / 2);
    const std::size_t grid = static_cast<std::size_t>(d.x.cells * d.y.cells) * sizeof(Complex);
    std::vector<std::vector<cfloat>> first;
    for (const auto& [order, bytes] : {std::pair{Order::ascending, 100 * grid},
                                       {Order::descending, 100 * grid},
                                       {Order::shuffled, 100 * grid},
                                       {Order::shuffled, 3 * grid},
                                       {Order::ascending, std::size_t{0}}}) {
        Opened device(d, order, bytes);
        device.nufft.set_points(k);
        device.nufft.set_sensitivities(maps.data(), coils);
        std::vector<std::vector<cfloat>> results;
        for (const Combination combination : combinations)
            results.push_back(on_device(device.nufft, samples, weights, combination, coils));
        results.emplace_back(samples.size());
        device.nufft.forward(maps.data(), results.back().data(), coils);
        results.emplace_back(samples.size());
        device.nufft.forward_sense(maps.data(), results.back().data());
        if (first.empty())
            first = results;
        EXPECT_EQ(results, first);
    }
}

TEST(CudaTransform, PlansAndMemoryAreKept) {
    Opened device(design(24, 24, 5e-4));
    const auto samples = random_complex(4 * 480, 1);
    std::vector<cfloat> image(24 * 24), many(4 * 24 * 24), back(samples.size());
    std::size_t memory = 0;
    for (int frame = 0; frame < 5; ++frame) {
        auto k = radial_points(10, 48, 24, 24);
        k[0] += 0.01f * static_cast<float>(frame);
        *device.log = {.allocated = device.log->allocated};
        device.nufft.set_points(k);
        device.nufft.adjoint_rss(samples.data(), {}, image.data(), 4);
        EXPECT_EQ(device.log->launches, 4) << "place, bin, spread, crop";
        EXPECT_EQ(device.log->ffts, 1);
        EXPECT_EQ(device.log->uploaded, (k.size() + 2 * samples.size()) * sizeof(float));
        EXPECT_EQ(device.log->downloaded, image.size() * sizeof(cfloat)) << "one image, not one a coil";
        *device.log = {.allocated = device.log->allocated};
        device.nufft.set_points(k);
        EXPECT_EQ(device.log->launches, 0) << "the same trajectory";
        device.nufft.adjoint(samples.data(), {}, many.data(), 4);
        EXPECT_EQ(device.log->launches, 2) << "spread, crop";
        device.nufft.forward(many.data(), back.data(), 4);
        EXPECT_EQ(device.log->launches, 4) << "and pad, interpolate";
        if (frame == 0)
            memory = device.log->allocated;
        EXPECT_EQ(device.log->allocated, memory);
    }
}

TEST(CudaTransform, AnotherTrajectoryAfterAnother) {
    Nufft processor(24, 20, {.tolerance = 1e-4, .threads = 1});
    Opened device(like(processor));
    for (const int points : {100, 700, 3, 256, 257, 1}) {
        SCOPED_TRACE(points);
        compare(device.nufft, processor, random_points(points, 24, 20, static_cast<unsigned>(points)), 2,
                1e-5);
    }
}

TEST(CudaTransform, ABadSampleSpoilsItsOwnCoil) {
    Opened device(design(16, 16, 5e-4));
    const auto k = random_points(100, 16, 16, 1);
    auto clean = random_complex(200, 2), s = clean;
    s[17] = {std::numeric_limits<float>::quiet_NaN(), 0};
    device.nufft.set_points(k);
    std::vector<cfloat> a(512), b(512);
    device.nufft.adjoint(s.data(), {}, a.data(), 2);
    device.nufft.adjoint(clean.data(), {}, b.data(), 2);
    EXPECT_TRUE(std::isnan(a[0].real()));
    EXPECT_TRUE(std::equal(a.begin() + 256, a.end(), b.begin() + 256));
}

TEST(CudaTransform, RefusesBadInput) {
    EXPECT_THROW(design(0, 4, 5e-4), Error);
    EXPECT_THROW(design(4, 8193, 5e-4), Error);
    EXPECT_THROW(design(4, 4, 0.0), Error);
    EXPECT_THROW(design(4, 4, std::nan("")), Error);
    EXPECT_THROW(design(32, 32, 6, 30, 40), Error);
    EXPECT_THROW(design(32, 32, 9, 40, 40), Error);
    Opened device(design(8, 8, 5e-4));
    CudaNufft& nufft = device.nufft;
    std::vector<float> k = {1, 2, 3, 4, std::numeric_limits<float>::infinity(), 0};
    std::vector<cfloat> image(64, 7.0f), samples(2);
    nufft.adjoint(samples.data(), {}, image.data(), 1);
    EXPECT_EQ(image, std::vector<cfloat>(64)) << "no points: zero";
    nufft.set_points(std::span(k).first(4));
    EXPECT_THROW(nufft.set_points(k), Error);
    EXPECT_THROW(nufft.set_points(std::span(k).first(3)), Error);
    EXPECT_EQ(nufft.points(), 2u) << "the points before stay in force";
    EXPECT_THROW(nufft.adjoint(samples.data(), std::vector<float>(1), image.data(), 1), Error);
    EXPECT_THROW(nufft.adjoint(samples.data(), {}, image.data(), -1), Error);
    EXPECT_THROW(nufft.forward(image.data(), samples.data(), -1), Error);
    EXPECT_THROW(nufft.adjoint_sense(samples.data(), {}, image.data(), true), Error)
        << "no sensitivities yet";
    EXPECT_THROW(nufft.forward_sense(image.data(), samples.data()), Error);
    EXPECT_THROW(nufft.set_sensitivities(image.data(), 0), Error);
    EXPECT_NO_THROW(nufft.forward(image.data(), samples.data(), 0));
    nufft.set_points({});
    EXPECT_EQ(nufft.points(), 0u);
}

TEST(CudaTransform, TooLittleMemoryIsAnErrorAndAllIsGivenBack) {
    auto log = std::make_shared<EmulationLog>();
    log->limit = 40'000; // less than one grid of 80 x 80
    const Design d = design(64, 64, 5e-4);
    try {
        CudaNufft nufft(64, 64, open_emulation(d, Order::ascending, 1 << 30, log));
        const auto k = random_points(10, 64, 64, 1);
        const auto s = random_complex(10, 1);
        std::vector<cfloat> image(64 * 64);
        nufft.set_points(k);
        nufft.adjoint(s.data(), {}, image.data(), 1);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_memory);
    }
    EXPECT_EQ(log->allocated, 0u);
}

// --- with a GPU

struct CudaDevice : testing::Test {
    void SetUp() override {
        std::string reason;
        if (CudaNufft::devices(&reason) == 0)
            GTEST_SKIP() << "no CUDA device: " << reason;
    }
};

TEST(CudaTransform, TellsTheTimeOfItsKernels) {
    const Nufft host(32, 24);
    Opened gpu(like(host));
    EXPECT_THROW(gpu.nufft.kernel_milliseconds(), Error);
    const std::vector<float> kxy{0, 0, 1, 2, -3, 4};
    gpu.nufft.set_points(kxy);
    std::vector<cfloat> samples(6, 1), images(2 * 32 * 24);
    for (int direction = 0; direction < 2; ++direction) {
        const auto begin = std::chrono::steady_clock::now();
        direction ? gpu.nufft.forward(images.data(), samples.data(), 2)
                  : gpu.nufft.adjoint(samples.data(), {}, images.data(), 2);
        const std::chrono::duration<double, std::milli> call = std::chrono::steady_clock::now() - begin;
        EXPECT_GT(gpu.nufft.kernel_milliseconds(), 0);
        EXPECT_LE(gpu.nufft.kernel_milliseconds(), call.count());
    }
}

// The counts that the bench prints, by hand for a case that can be reckoned: 2 coils, 10 points, a grid of 32 x 64.
TEST(CudaTransform, CountsItsWork) {
    const Design d = design(16, 32, 4, 32, 64);
    const Work adjoint = adjoint_work(d, 10, 2), forward = forward_work(d, 10, 2);
    const double cells = 32 * 64 * 2, pixels = 16 * 32 * 2, values = 10 * 2, plan = 10 * (8 + 2 * 8 * 4);
    const double fft = 4 * 8 * cells, fft_flops = 5 * 11 * cells;
    EXPECT_DOUBLE_EQ(adjoint.bytes, fft + 8 * values + plan + 8 * cells + 2 * 8 * pixels);
    EXPECT_DOUBLE_EQ(forward.bytes, fft + 8 * (pixels + cells) + 8 * (cells + values) + plan);
    EXPECT_DOUBLE_EQ(adjoint.flops, fft_flops + 4 * 16 * values + 3 * pixels);
    EXPECT_DOUBLE_EQ(forward.flops, fft_flops + 4 * 16 * values + 3 * pixels);
}

TEST(CudaWithoutDevice, IsOneClearError) {
    std::string reason;
    const int count = CudaNufft::devices(&reason);
    EXPECT_EQ(count == 0, !reason.empty());
    try {
        CudaNufft nufft(16, 16, {.tolerance = 5e-4, .device = count});
        FAIL() << "there is no such device";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_device);
        EXPECT_NE(std::string(e.what()).find("There is no CUDA device"), std::string::npos);
    }
}

TEST_F(CudaDevice, IsTheProcessorsTransform) {
    struct Case {
        int size, spokes, coils;
        double tolerance;
    };
    for (const Case c :
         {Case{192, 15, 16, 1e-4}, {256, 34, 32, 1e-4}, {33, 7, 1, 1e-6}, {128, 201, 5, 1e-5}}) {
        SCOPED_TRACE(c.size);
        Nufft processor(c.size, c.size, {.tolerance = c.tolerance, .threads = 1});
        CudaNufft device(c.size, c.size, {.tolerance = c.tolerance, .device = 0});
        // The grids may differ: both are within their tolerance of the same sums.
        compare(device, processor, radial_points(c.spokes, 2 * c.size, c.size, c.size), c.coils,
                2 * c.tolerance);
    }
}

TEST_F(CudaDevice, IsTheStandInsTransform) {
    const Design d = design(48, 40, 5e-4);
    CudaNufft device(48, 40);
    Opened stand_in(d);
    const auto k = radial_points(11, 96, 48, 40);
    const auto samples = random_complex(k.size() / 2 * 5, 1), maps = random_complex(48 * 40 * 5, 2);
    for (CudaNufft* nufft : {&device, &stand_in.nufft}) {
        nufft->set_points(k);
        nufft->set_sensitivities(maps.data(), 5);
    }
    // The same kernels; fused multiply-adds and another FFT: rounding.
    for (const Combination combination : combinations)
        EXPECT_LT(
            relative_error(on_device(device, samples, some_weights(k.size() / 2), combination, 5),
                           on_device(stand_in.nufft, samples, some_weights(k.size() / 2), combination, 5)),
            1e-5);
}

TEST_F(CudaDevice, RunsAreTheSameBitForBit) {
    const auto k = radial_points(15, 384, 192, 192);
    const auto samples = random_complex(k.size() / 2 * 8, 1);
    std::vector<cfloat> first;
    for (int run = 0; run < 5; ++run) {
        CudaNufft device(192, 192);
        device.set_points(k);
        const auto image = on_device(device, samples, {}, Combination::rss, 8);
        if (first.empty())
            first = image;
        EXPECT_EQ(image, first);
    }
}

TEST_F(CudaDevice, ObjectsWorkSideBySide) {
    const auto k = radial_points(15, 192, 96, 96);
    const auto samples = random_complex(k.size() / 2 * 8, 1);
    const auto run = [&] {
        CudaNufft device(96, 96);
        std::vector<cfloat> image;
        for (int frame = 0; frame < 20; ++frame) {
            auto turned = k;
            turned[0] += static_cast<float>(frame % 2);
            device.set_points(turned);
            image = on_device(device, samples, {}, Combination::rss, 8);
        }
        return image;
    };
    const auto expected = run();
    std::vector<std::vector<cfloat>> results(4);
    std::vector<std::thread> threads;
    for (auto& result : results)
        threads.emplace_back([&] { result = run(); });
    for (auto& thread : threads)
        thread.join();
    for (const auto& result : results)
        EXPECT_EQ(result, expected);
}

// The module that devices need, as it is built, on whatever machine this is.
TEST(CudaModule, OpensAndSaysWhatThereIs) {
    const char* path = std::getenv("GST_MRI_CUDA_MODULE");
    if (!path || !*path)
        GTEST_SKIP() << "this build is without CUDA (GST_MRI_CUDA_MODULE is not set)";
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ASSERT_TRUE(library) << dlerror();
    const auto* module = static_cast<const Module*>(dlsym(library, module_symbol));
    ASSERT_TRUE(module);
    EXPECT_EQ(module->version, module_version);
    std::string reason;
    const int count = module->devices(reason);
    EXPECT_EQ(count == 0, !reason.empty());
    try { // an error must come through from one library to another
        module->open(design(16, 16, 5e-4), count);
        FAIL() << "there is no such device";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_device) << e.what() << " " << e.detail();
    }
}
