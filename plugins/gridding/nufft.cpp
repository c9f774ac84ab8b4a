// SPDX-License-Identifier: LGPL-2.1-or-later
#include "nufft.hpp"

#include "plugins/common/error.hpp"
#include "simd.hpp"
#include "threads.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

namespace mri {

namespace {

using simd::max_group;
using simd::max_lanes;
using simd::pad;
using simd::window;

constexpr int max_size = 8192;
constexpr std::size_t max_points = std::size_t(1) << 27;
constexpr double pi = std::numbers::pi;

/// Modified Bessel function of the first kind, order 0, by its power series (all terms positive, so no
/// cancellation).
double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; k < 500; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
        if (term < 1e-18 * sum)
            break;
    }
    return sum;
}

/// Kernel width in cells and least oversampling for a tolerance.
struct Accuracy {
    double tolerance;
    int width;
    double oversampling;
};
// The aliasing error of the Kaiser-Bessel kernel falls like exp(-pi width sqrt(1 - 1 / oversampling)). The
// window is 8 cells wide, so that finer tolerances come from a larger grid. tests/unit/test_nufft.cpp holds
// each line to its tolerance.
constexpr Accuracy accuracies[] = {
    {1e-2, 4, 1.25}, {1.5e-3, 5, 1.25}, {5e-4, 6, 1.25}, {1e-4, 7, 1.25}, {1e-5, 7, 1.5}, {1e-6, 7, 2.0},
};

Accuracy accuracy(double tolerance) {
    if (!(tolerance >= 1e-6 && tolerance <= 0.1))
        throw Error(Errc::settings, "the tolerance of a non-uniform transform is " +
                                        std::to_string(tolerance) + ", not 1e-6..0.1");
    for (const auto& a : accuracies)
        if (a.tolerance <= tolerance)
            return a;
    return accuracies[std::size(accuracies) - 1];
}

/// The next even length from `least` on that has only small factors and few passes.
int grid_size(double least) {
    // below twice the window a window could reach around the grid and meet itself
    int n = std::max(2 * window, int(std::ceil(least - 1e-9)));
    for (n += n % 2;; n += 2) {
        int rest = n;
        for (int p : {2, 3, 5})
            while (rest % p == 0)
                rest /= p;
        if (rest == 1)
            return n;
    }
}

/// The kernel along one axis.
struct Axis {
    int pixels = 0, cells = 0, taps = 0;
    static constexpr int max_degree = 15;
    int degree = 0;
    /// coefficients[d][tap] of the polynomials in z = 2 f - 1, where f in [0, 1) is how far the first tap
    /// lies from the left end of the kernel
    std::array<std::array<float, window>, max_degree + 1> coefficients{};
    std::vector<float> apodisation;

    Axis(int pixels_, int taps_, double oversampling)
        : pixels(pixels_), cells(grid_size(pixels_ * oversampling)), taps(taps_) {
        // beyond an oversampling of 2 the best beta for that grid would make a kernel needlessly narrow
        double sigma = std::min(2.0, double(cells) / pixels);
        double ratio = taps / sigma * (sigma - 0.5);
        double beta = pi * std::sqrt(std::max(ratio * ratio - 0.8, 0.1)); // Beatty et al., equation 5
        double norm = bessel_i0(beta);
        auto kernel = [&](double t) { // t in cells from the centre
            double u = 1 - 4 * t * t / (double(taps) * taps);
            return bessel_i0(beta * std::sqrt(std::max(u, 0.0))) / norm;
        };
        fit(kernel);

        // Transform of the kernel at pixel i: integral of kernel(t) exp(2 pi i t x / cells), known in closed
        // form. The grid's cell 0 is k = -cells/2, which multiplies pixel x by (-1)^x.
        apodisation.resize(std::size_t(pixels));
        for (int i = 0; i < pixels; i++) {
            int x = i - pixels / 2;
            double w = pi * taps * x / cells, a = beta * beta - w * w;
            double s = std::sqrt(std::abs(a));
            double sinc = s < 1e-9 ? 1 : a > 0 ? std::sinh(s) / s : std::sin(s) / s;
            apodisation[std::size_t(i)] = float((x % 2 ? -1 : 1) * norm / (taps * sinc));
        }
    }

    /// Piecewise polynomials through the kernel, one per tap, by interpolation at Chebyshev nodes.
    template <class F>
    void fit(F kernel) {
        // a few more degrees than taps bring the fit below float32 rounding (measured: 2e-8 of the peak)
        degree = std::min(max_degree, taps + 4);
        int n = degree + 1;
        for (int j = 0; j < taps; j++) {
            std::vector<double> nodes(static_cast<std::size_t>(n)), c(static_cast<std::size_t>(n), 0.0);
            for (int i = 0; i < n; i++) {
                double z = std::cos(pi * (i + 0.5) / n);
                // the first tap lies at -taps/2 + f, tap j at -taps/2 + f + j
                nodes[std::size_t(i)] = kernel((z + 1) / 2 + j - taps / 2.0);
            }
            // Chebyshev coefficients, then monomials by the recurrence T(k+1) = 2 z T(k) - T(k-1)
            std::vector<double> t0(std::size_t(n), 0.0), t1(std::size_t(n), 0.0);
            t0[0] = 1;
            t1[1] = 1;
            for (int k = 0; k < n; k++) {
                double a = 0;
                for (int i = 0; i < n; i++)
                    a += nodes[std::size_t(i)] * std::cos(pi * k * (i + 0.5) / n);
                a *= (k ? 2.0 : 1.0) / n;
                for (int d = 0; d < n; d++)
                    c[std::size_t(d)] += a * t0[std::size_t(d)];
                std::vector<double> t2(std::size_t(n), 0.0);
                for (int d = 0; d < n; d++)
                    t2[std::size_t(d)] = (d ? 2 * t1[std::size_t(d - 1)] : 0.0) - t0[std::size_t(d)];
                t0.swap(t1);
                t1.swap(t2);
            }
            for (int d = 0; d < n; d++)
                coefficients[std::size_t(d)][std::size_t(j)] = float(c[std::size_t(d)]);
        }
    }

    /// Position k -> first cell of the kernel (may be negative, down to -window/2) and its taps.
    int locate(double k, float* weights) const {
        double turns = k / pixels + 0.5; // cell 0 is k = -pixels/2
        double u = (turns - std::floor(turns)) * cells;
        double first = std::ceil(u - taps / 2.0);
        float z = float(2 * (first - (u - taps / 2.0)) - 1);
        for (int j = 0; j < taps; j++) {
            float v = coefficients[std::size_t(degree)][std::size_t(j)];
            for (int d = degree - 1; d >= 0; d--)
                v = v * z + coefficients[std::size_t(d)][std::size_t(j)];
            weights[j] = v;
        }
        return int(first);
    }
};

} // namespace

struct Nufft::Impl {
    Accuracy spec;
    Axis x, y;
    FftLine fft_x, fft_y;
    const simd::Kernels& kernels;
    ThreadPool pool;
    simd::NufftPlan plan{};
    std::size_t scratch_floats = 0;
    std::vector<AlignedFloats> scratch;
    AlignedFloats taps;
    std::array<std::vector<simd::Group>, max_group> groups;
    std::vector<std::int32_t> first_x, first_y;

    Impl(int width, int height, Options o)
        : spec(accuracy(o.tolerance)),
          x(check(width, "width"), spec.width, spec.oversampling),
          y(check(height, "height"), spec.width, spec.oversampling),
          fft_x(x.cells),
          fft_y(y.cells),
          kernels(simd::kernels(simd::selected())),
          pool(o.threads) {
        plan.width = width;
        plan.height = height;
        plan.grid_x = x.cells;
        plan.grid_y = y.cells;
        // an odd number of 64-byte lines a row spreads columns over all sets of the cache
        plan.stride = (pad + (y.cells + max_lanes - 1) / max_lanes * max_lanes + pad + 7) / 8 * 8;
        if (plan.stride / 8 % 2 == 0)
            plan.stride += 8;
        plan.fft_x = &fft_x.plan();
        plan.fft_y = &fft_y.plan();
        plan.apod_x = x.apodisation.data();
        plan.apod_y = y.apodisation.data();
        layout(0);
    }

    static int check(int size, const char* what) {
        if (size < 1 || size > max_size)
            throw Error(Errc::settings, "an image " + std::string(what) + " of " + std::to_string(size) +
                                            " pixels is not in 1.." + std::to_string(max_size));
        return size;
    }

    /// Places the scratch of a worker: grid, tiles, two line buffers, weighted samples.
    void layout(std::size_t points) {
        auto up = [](std::size_t n) { return (n + max_lanes - 1) / max_lanes * max_lanes; };
        std::size_t grid = std::size_t(plan.stride) * 2 * std::size_t(plan.grid_x + 2 * pad);
        std::size_t tiles = 2 * std::max(up(std::size_t(plan.width)) * up(std::size_t(plan.grid_y)),
                                         up(std::size_t(plan.grid_y)) * up(std::size_t(plan.width)));
        std::size_t line = std::max(fft_x.scratch(), fft_y.scratch());
        plan.grid_at = 0;
        plan.tiles_at = long(grid);
        plan.line_at = long(grid + tiles);
        plan.samples_at = long(grid + tiles + line);
        std::size_t need = grid + tiles + line + up(2 * points);
        if (need <= scratch_floats)
            return;
        std::vector<AlignedFloats> fresh;
        for (int i = 0; i < pool.threads(); i++)
            fresh.emplace_back(need);
        scratch.swap(fresh);
        scratch_floats = need;
    }

    void set_points(std::span<const float> kxy) {
        if (kxy.size() % 2)
            throw Error(Errc::format, "a trajectory of " + std::to_string(kxy.size()) +
                                          " numbers: pairs of kx and ky are needed");
        std::size_t n = kxy.size() / 2;
        if (n > max_points)
            throw Error(Errc::format, "a trajectory of " + std::to_string(n) + " points: at most " +
                                          std::to_string(max_points) + " are handled");
        for (std::size_t i = 0; i < n; i++)
            if (!std::isfinite(kxy[2 * i]) || !std::isfinite(kxy[2 * i + 1]))
                throw Error(Errc::format, "point " + std::to_string(i) + " of the trajectory is not finite");
        layout(n);
        if (taps.size() < n * 2 * window)
            taps = AlignedFloats(n * 2 * window);
        first_x.resize(n);
        first_y.resize(n);
        for (std::size_t i = 0; i < n; i++) {
            float* t = taps.data() + i * 2 * window;
            std::fill_n(t, 2 * window, 0.f);
            first_y[i] = y.locate(kxy[2 * i + 1], t);
            first_x[i] = x.locate(kxy[2 * i], t + window);
        }
        group(n);
        plan.points = int(n);
        plan.taps = taps.data();
    }

    /// Joins neighbours whose kernels fit into one window, and moves their taps to their place in it.
    void group(std::size_t n) {
        std::array<std::vector<simd::Group>, max_group> found;
        int spare = window - spec.width;
        plan.touches_pad = false;
        for (std::size_t i = 0; i < n;) {
            int x0 = first_x[i], x1 = x0, y0 = first_y[i], y1 = y0;
            std::size_t count = 1;
            for (; count < max_group && i + count < n; count++) {
                int xa = std::min(x0, first_x[i + count]), xb = std::max(x1, first_x[i + count]);
                int ya = std::min(y0, first_y[i + count]), yb = std::max(y1, first_y[i + count]);
                if (xb - xa > spare || yb - ya > spare)
                    break;
                x0 = xa, x1 = xb, y0 = ya, y1 = yb;
            }
            for (std::size_t c = 0; c < count; c++) {
                float* t = taps.data() + (i + c) * 2 * window;
                shift(t, first_y[i + c] - y0);
                shift(t + window, first_x[i + c] - x0);
            }
            if (x0 < 0 || y0 < 0 || x0 + window > x.cells || y0 + window > y.cells)
                plan.touches_pad = true;
            found[count - 1].push_back({std::int32_t((x0 + pad) * plan.stride + y0 + pad), std::int32_t(i)});
            i += count;
        }
        // Neighbouring groups overlap on the grid: a load would wait for the store before it. Take them in
        // turns from distant parts of the trajectory.
        constexpr std::size_t streams = 16;
        for (int c = 0; c < max_group; c++) {
            auto &from = found[std::size_t(c)], &to = groups[std::size_t(c)];
            std::size_t count = from.size(), each = (count + streams - 1) / streams;
            to.clear();
            for (std::size_t i = 0; i < each; i++)
                for (std::size_t s = i; s < count; s += each)
                    to.push_back(from[s]);
            plan.groups[c] = to.data();
            plan.group_count[c] = int(count);
        }
    }

    void shift(float* t, int by) const {
        if (by == 0)
            return;
        for (int j = spec.width - 1; j >= 0; j--)
            t[j + by] = t[j];
        std::fill_n(t, by, 0.f);
    }
};

Nufft::Nufft(int width, int height) : Nufft(width, height, Options()) {}
Nufft::Nufft(int width, int height, Options options)
    : impl_(std::make_unique<Impl>(width, height, options)) {}
Nufft::~Nufft() = default;
Nufft::Nufft(Nufft&&) noexcept = default;
Nufft& Nufft::operator=(Nufft&&) noexcept = default;

int Nufft::width() const noexcept {
    return impl_->plan.width;
}
int Nufft::height() const noexcept {
    return impl_->plan.height;
}
int Nufft::grid_width() const noexcept {
    return impl_->plan.grid_x;
}
int Nufft::grid_height() const noexcept {
    return impl_->plan.grid_y;
}
int Nufft::kernel_width() const noexcept {
    return impl_->spec.width;
}
std::size_t Nufft::points() const noexcept {
    return std::size_t(impl_->plan.points);
}
void Nufft::set_points(std::span<const float> kxy) {
    impl_->set_points(kxy);
}

void Nufft::adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils) {
    auto& p = *impl_;
    if (coils < 0)
        throw Error(Errc::format, std::to_string(coils) + " coils");
    if (!weights.empty() && weights.size() != points())
        throw Error(Errc::format, std::to_string(weights.size()) + " weights for " +
                                      std::to_string(points()) + " points of the trajectory");
    std::size_t pixels = std::size_t(p.plan.width) * std::size_t(p.plan.height);
    if (points() == 0) {
        std::fill_n(images, pixels * std::size_t(coils), cfloat{});
        return;
    }
    p.pool.parallel_for(coils, [&](int coil, int worker) {
        p.kernels.adjoint(p.plan, reinterpret_cast<const float*>(samples + std::size_t(coil) * points()),
                          weights.empty() ? nullptr : weights.data(),
                          reinterpret_cast<float*>(images + std::size_t(coil) * pixels),
                          p.scratch[std::size_t(worker)].data());
    });
}

void Nufft::forward(const cfloat* images, cfloat* samples, int coils) {
    auto& p = *impl_;
    if (coils < 0)
        throw Error(Errc::format, std::to_string(coils) + " coils");
    if (points() == 0)
        return;
    std::size_t pixels = std::size_t(p.plan.width) * std::size_t(p.plan.height);
    p.pool.parallel_for(coils, [&](int coil, int worker) {
        p.kernels.forward(p.plan, reinterpret_cast<const float*>(images + std::size_t(coil) * pixels),
                          reinterpret_cast<float*>(samples + std::size_t(coil) * points()),
                          p.scratch[std::size_t(worker)].data());
    });
}

} // namespace mri
