// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/cuda/backend.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/transform/cuda/kernels.cuh"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

namespace mri::cuda {

namespace {

constexpr int max_size = 8192;
constexpr double pi = std::numbers::pi;

/// Kernel width in cells and least oversampling for a tolerance. The kernel's aliasing error falls like
/// exp(-pi taps sqrt(1 - 1 / oversampling)); what a sample costs hardly depends on the taps, what an FFT
/// costs depends on the grid, so that the smallest grid comes first. tests/unit/test_cuda_nufft.cpp holds
/// each line to its tolerance.
struct Accuracy {
    double tolerance;
    int taps;
    double oversampling;
};
constexpr Accuracy accuracies[] = {{1e-2, 4, 1.25}, {2e-3, 5, 1.25}, {5e-4, 6, 1.25},
                                   {1e-4, 7, 1.25}, {1e-5, 7, 1.5},  {1e-6, 7, 2.0}};

/// The next even length that cuFFT has fast code for. Twice the largest kernel at least: a kernel must not
/// reach around the grid and meet itself.
int grid_size(double least) {
    int n = std::max(2 * max_taps, static_cast<int>(std::ceil(least - 1e-9)));
    for (n += n % 2;; n += 2) {
        int rest = n;
        for (const int p : {2, 3, 5})
            while (rest % p == 0)
                rest /= p;
        if (rest == 1)
            return n;
    }
}

Axis axis(int pixels, int cells, int taps) {
    Axis a;
    a.pixels = pixels;
    a.cells = cells;
    // Beyond an oversampling of 2 the best beta for that grid would make a kernel needlessly narrow.
    const double sigma = std::min(2.0, static_cast<double>(cells) / pixels);
    const double ratio = taps / sigma * (sigma - 0.5);
    const double beta = pi * std::sqrt(std::max(ratio * ratio - 0.8, 0.1)); // Beatty et al., equation 5

    // The kernel is I0(beta sqrt(v)) / I0(beta), and I0(x) = sum over k of (x / 2)^(2 k) / k!^2: a power
    // series in v whose terms are all positive, so that float32 loses nothing by it.
    std::array<double, max_terms> terms{};
    double norm = 0;
    double term = 1;
    for (int k = 0; k < max_terms; ++k) {
        terms[static_cast<std::size_t>(k)] = term;
        norm += term;
        a.terms = k + 1;
        if (term < 1e-10 * norm)
            break;
        term *= (beta / (2 * (k + 1))) * (beta / (2 * (k + 1)));
    }
    for (std::size_t k = 0; k < terms.size(); ++k)
        a.coefficients[k] = static_cast<float>(terms[k] / norm);

    // The kernel's transform at pixel x: integral of kernel(t) exp(2 pi i t x / cells) dt, in closed form.
    for (int i = 0; i < pixels; ++i) {
        const int x = i - pixels / 2;
        const double w = pi * taps * x / cells;
        const double square = beta * beta - w * w;
        const double s = std::sqrt(std::abs(square));
        const double sinc = s < 1e-9 ? 1 : square > 0 ? std::sinh(s) / s : std::sin(s) / s;
        a.apodisation.push_back(static_cast<float>((x % 2 ? -1 : 1) * norm / (taps * sinc)));
    }
    return a;
}

void check_size(int width, int height) {
    for (const int size : {width, height})
        if (size < 1 || size > max_size)
            throw Error(Errc::settings, "an image of " + std::to_string(width) + " x " +
                                            std::to_string(height) + " pixels is not within 1.." +
                                            std::to_string(max_size));
}

} // namespace

Design design(int width, int height, double tolerance) {
    check_size(width, height);
    if (!(tolerance >= 1e-6 && tolerance <= 0.1))
        throw Error(Errc::settings, "the tolerance of a non-uniform transform is " +
                                        std::to_string(tolerance) + ", not 1e-6..0.1");
    Accuracy spec = *std::rbegin(accuracies);
    for (const Accuracy& a : accuracies)
        if (a.tolerance <= tolerance) {
            spec = a;
            break;
        }
    return design(width, height, spec.taps, grid_size(width * spec.oversampling),
                  grid_size(height * spec.oversampling));
}

Design design(int width, int height, int taps, int grid_width, int grid_height) {
    check_size(width, height);
    const auto fits = [](int pixels, int cells) {
        return cells % 2 == 0 && cells >= 2 * max_taps && cells >= pixels && cells <= 4 * max_size;
    };
    if (taps < 2 || taps > max_taps || !fits(width, grid_width) || !fits(height, grid_height))
        throw Error(Errc::settings, "a grid of " + std::to_string(grid_width) + " x " +
                                        std::to_string(grid_height) + " cells and a kernel of " +
                                        std::to_string(taps) + " do not suit an image of " +
                                        std::to_string(width) + " x " + std::to_string(height) + " pixels");
    return {taps, axis(width, grid_width, taps), axis(height, grid_height, taps)};
}

namespace {

struct Sizes {
    double points, coils, cells, pixels, taps;
    Sizes(const Design& design, std::size_t n, int c)
        : points(static_cast<double>(n)),
          coils(c),
          cells(static_cast<double>(design.x.cells) * design.y.cells),
          pixels(static_cast<double>(design.x.pixels) * design.y.pixels),
          taps(design.taps) {}

    static constexpr double value = 8;                   // bytes of a complex number
    static constexpr double plan = 8 + 2 * 4 * max_taps; // bytes of a sample's cell and weights
    /// Two passes over the grids; 5 N log2 N.
    Work fft() const { return {4 * value * cells * coils, 5 * cells * std::log2(cells) * coils}; }
};

} // namespace

Work adjoint_work(const Design& design, std::size_t points, int coils) {
    const Sizes n(design, points, coils);
    Work work = n.fft();
    // spread(): samples, their plan once for each group of coils, the grids; a complex number for each tap of each axis.
    const double groups = std::ceil(n.coils / coils_per_thread);
    work.bytes += n.value * n.points * n.coils + n.plan * n.points * groups + n.value * n.cells * n.coils;
    work.flops += 4 * n.taps * n.taps * n.points * n.coils;
    // crop(): the image's part of the grids, the images.
    work.bytes += 2 * n.value * n.pixels * n.coils;
    work.flops += 3 * n.pixels * n.coils;
    return work;
}

Work forward_work(const Design& design, std::size_t points, int coils) {
    const Sizes n(design, points, coils);
    Work work = n.fft();
    // pad(): images, grids.
    work.bytes += n.value * (n.pixels + n.cells) * n.coils;
    work.flops += 3 * n.pixels * n.coils;
    // interpolate(): the grids, the plan, samples.
    const double groups = std::ceil(n.coils / coils_per_thread);
    work.bytes += n.value * (n.cells + n.points) * n.coils + n.plan * n.points * groups;
    work.flops += 4 * n.taps * n.taps * n.points * n.coils;
    return work;
}

} // namespace mri::cuda
