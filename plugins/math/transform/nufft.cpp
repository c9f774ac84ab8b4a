// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/nufft.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/threads.hpp"
#include "plugins/math/transform/simd.hpp"

#include <algorithm>
#include <array>
#include <bit>
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

/// The next even length from `least` on that has only small factors, or one with code of its own if it is
/// hardly more.
int grid_size(double least) {
    // below twice the window a window could reach around the grid and meet itself
    int n = std::max(2 * window, int(std::ceil(least - 1e-9)));
    for (int a : simd::two_step_factors)
        if (16 * a >= n && 16 * a <= 1.15 * n)
            return 16 * a;
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
    FftLine fft;
    std::vector<float> twiddles;
    std::vector<simd::AxisPlan::Step> in, out;
    std::vector<std::int32_t> slot, pixel_slot;

    Axis(int pixels_, Accuracy spec)
        : pixels(pixels_), cells(grid_size(pixels_ * spec.oversampling)), taps(spec.width), fft(cells) {
        // beyond an oversampling of 2 the best beta for that grid would make a kernel needlessly narrow
        double sigma = std::min(2.0, double(cells) / pixels);
        double ratio = taps / sigma * (sigma - 0.5);
        double beta = pi * std::sqrt(std::max(ratio * ratio - 0.8,
                                              0.1)); // Beatty et al., equation 5
        double norm = bessel_i0(beta);
        auto kernel = [&](double t) { // t in cells from the centre
            double u = 1 - 4 * t * t / (double(taps) * taps);
            return bessel_i0(beta * std::sqrt(std::max(u, 0.0))) / norm;
        };
        // Errors of single taps add up like noise to less than their peak, and must not show beside the
        // kernel's own: a fiftieth of the tolerance, but no less than float32 resolves.
        double enough = std::max(spec.tolerance / 50, 3e-8);
        for (degree = 3; degree < max_degree && fit(kernel) > enough;)
            degree++;

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
        order();
    }

    /// In which order a transform takes and gives its cells.
    void order() {
        int factor = 0;
        for (int a : simd::two_step_factors)
            if (16 * a == cells)
                factor = a;
        std::vector<int> first(static_cast<std::size_t>(cells)), last(first);
        slot.assign(std::size_t(cells), 0);
        for (int i = 0; i < cells; i++) {
            if (factor == 0) {
                first[std::size_t(i)] = last[std::size_t(i)] = slot[std::size_t(i)] = i;
                continue;
            }
            // input 16 a + b (Cooley and Tukey), or, for coprime factors, 16 a + A b (Good and Thomas)
            int a = i % factor, b = i / factor, k1 = i / 16, k2 = i % 16;
            bool coprime = factor % 2 == 1;
            first[std::size_t(i)] = coprime ? (16 * a + factor * b) % cells : 16 * a + b;
            int k = k1 + factor * k2;
            if (coprime)
                for (k = k1; k % 16 != k2; k += factor) {
                }
            last[std::size_t(i)] = k;
            slot[std::size_t(k)] = k1 * simd::two_step_row + k2;
        }
        if (factor && factor % 2 == 0)
            for (int b = 0; b < 16; b++)
                for (int a = 1; a < factor; a++) {
                    twiddles.push_back(float(std::cos(2 * pi * a * b / cells)));
                    twiddles.push_back(float(-std::sin(2 * pi * a * b / cells)));
                }
        auto step = [&](int cell) {
            int pixel = cell + pixels / 2 < cells ? cell + pixels / 2 : cell + pixels / 2 - cells;
            if (pixel >= pixels)
                return simd::AxisPlan::Step{cell, -1, 0};
            return simd::AxisPlan::Step{cell, pixel, apodisation[std::size_t(pixel)]};
        };
        for (int i = 0; i < cells; i++) {
            in.push_back(step(first[std::size_t(i)]));
            out.push_back(step(last[std::size_t(i)]));
        }
        for (int i = 0; i < pixels; i++) {
            int cell = i - pixels / 2 < 0 ? i - pixels / 2 + cells : i - pixels / 2;
            pixel_slot.push_back(slot[std::size_t(cell)]);
        }
        auto whole = [](std::size_t n) { return (n + max_lanes - 1) / max_lanes * max_lanes; };
        slot.resize(whole(slot.size()), 0);
        pixel_slot.resize(whole(pixel_slot.size()), 0);
        apodisation.resize(whole(apodisation.size()), 0);
    }

    simd::AxisPlan plan() const {
        bool two =
            cells % 16 == 0 && std::find(std::begin(simd::two_step_factors), std::end(simd::two_step_factors),
                                         cells / 16) != std::end(simd::two_step_factors);
        return {pixels,    cells,      two ? cells / 16 : 0, &fft.plan(),       twiddles.data(),
                in.data(), out.data(), slot.data(),          pixel_slot.data(), apodisation.data()};
    }

    /// floats of a worker's line buffer
    std::size_t scratch() const {
        return std::max(fft.scratch(),
                        std::size_t(2 * max_lanes * simd::two_step_row) * std::size_t(cells / 16 + 1));
    }

    /// Piecewise polynomials of `degree` through the kernel, one per tap, by interpolation at Chebyshev
    /// nodes. Returns the largest error seen between the nodes.
    template <class F>
    double fit(F kernel) {
        auto n = std::size_t(degree) + 1;
        double worst = 0;
        for (int j = 0; j < taps; j++) {
            // the first tap lies at -taps/2 + f, tap j at -taps/2 + f + j
            auto at = [&](double z) { return kernel((z + 1) / 2 + j - taps / 2.0); };
            std::vector<double> nodes(n), c(n), t0(n), t1(n);
            for (std::size_t i = 0; i < n; i++)
                nodes[i] = at(std::cos(pi * (double(i) + 0.5) / double(n)));
            // Chebyshev coefficients, then monomials by the recurrence T(k+1) = 2 z T(k) - T(k-1)
            t0[0] = 1;
            t1[1] = 1;
            for (std::size_t k = 0; k < n; k++) {
                double a = 0;
                for (std::size_t i = 0; i < n; i++)
                    a += nodes[i] * std::cos(pi * double(k) * (double(i) + 0.5) / double(n));
                a *= (k ? 2.0 : 1.0) / double(n);
                for (std::size_t d = 0; d < n; d++)
                    c[d] += a * t0[d];
                std::vector<double> t2(n);
                for (std::size_t d = 0; d < n; d++)
                    t2[d] = (d ? 2 * t1[d - 1] : 0.0) - t0[d];
                t0.swap(t1);
                t1.swap(t2);
            }
            for (std::size_t d = 0; d < n; d++)
                coefficients[d][std::size_t(j)] = float(c[d]);
            for (int i = 0; i <= 40; i++) {
                double z = i / 20.0 - 1, v = 0;
                for (std::size_t d = n; d-- > 0;)
                    v = v * z + c[d];
                worst = std::max(worst, std::abs(v - at(z)));
            }
        }
        return worst;
    }
};

} // namespace

struct Nufft::Impl {
    Accuracy spec;
    Axis x, y;
    const simd::TransformKernels& kernels;
    ThreadPool pool;
    simd::NufftPlan plan{};
    std::size_t scratch_floats = 0;
    std::vector<AlignedFloats> scratch;
    AlignedFloats taps;
    std::array<std::vector<simd::Group>, max_group> groups, found;
    // of each point: first cell and place in it along kx and ky, and the shift of its taps in its window
    std::vector<std::int32_t> first;
    std::vector<float> z;
    std::vector<std::uint8_t> shift;
    int degree, spare; // of the polynomials; cells by which a window is wider
                       // than the kernel
    /// polynomials for all shifts in a window: [shift along ky][shift along kx][degree + 1][2][window], ky
    /// before kx
    AlignedFloats polynomials;
    std::vector<cfloat> seen; ///< [worker][y][x]: a coil's image on its way forward

    Impl(int width, int height, Options o)
        : spec(accuracy(o.tolerance)),
          x(check(width, "width"), spec),
          y(check(height, "height"), spec),
          kernels(simd::kernels()),
          pool(o.threads) {
        plan.x = x.plan();
        plan.y = y.plan();
        // an odd number of 64-byte lines a row spreads columns over all sets of the cache
        plan.stride = (pad + (y.cells + max_lanes - 1) / max_lanes * max_lanes + pad + 7) / 8 * 8;
        if (plan.stride / 8 % 2 == 0)
            plan.stride += 8;
        layout(0);
        degree = std::max(x.degree, y.degree);
        spare = window - spec.width;
        auto shifts = std::size_t(spare) + 1, row = std::size_t(2 * window), rows = std::size_t(degree) + 1;
        polynomials = AlignedFloats(shifts * shifts * rows * row);
        for (std::size_t sy = 0; sy < shifts; sy++)
            for (std::size_t sx = 0; sx < shifts; sx++)
                for (std::size_t d = 0; d < rows; d++) {
                    float* to = polynomials.data() + ((sy * shifts + sx) * rows + d) * row;
                    for (std::size_t j = 0; j < std::size_t(spec.width); j++) {
                        to[sy + j] = y.coefficients[d][j];
                        to[window + sx + j] = x.coefficients[d][j];
                    }
                }
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
        // between the passes whole blocks of pixels lie in the rows of the grid
        std::size_t rows =
            std::max(std::size_t(x.cells + 2 * pad), std::size_t(pad) + up(std::size_t(x.pixels)));
        std::size_t grid = std::size_t(plan.stride) * 2 * rows;
        std::size_t line = std::max(x.scratch(), y.scratch());
        plan.grid_at = 0;
        plan.line_at = long(grid);
        plan.samples_at = long(grid + line);
        std::size_t need = grid + line + up(2 * points);
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
        // what is planned with is not what the transforms read: a failure leaves those as they are
        first.resize(2 * n);
        z.resize(2 * n);
        shift.resize(n);
        simd::Placement placement{
            {1.0 / x.pixels, 1.0 / y.pixels}, {double(x.cells), double(y.cells)}, spec.width / 2.0};
        std::uint32_t largest = kernels.place(placement, kxy.data(), n, first.data(), z.data());
        if (largest >= std::bit_cast<std::uint32_t>(std::numeric_limits<float>::infinity()))
            for (std::size_t i = 0; i < n; i++)
                if (!std::isfinite(kxy[2 * i]) || !std::isfinite(kxy[2 * i + 1]))
                    throw Error(Errc::format,
                                "point " + std::to_string(i) + " of the trajectory is not finite");
        if (largest > std::bit_cast<std::uint32_t>(1e6f)) {
            // numbers whose last bit is coarser than a cell mean little, but must not leave the grid
            std::vector<float> near(kxy.begin(), kxy.end());
            for (std::size_t i = 0; i < near.size(); i++)
                near[i] = float(std::fmod(double(near[i]), double(i % 2 ? y.pixels : x.pixels)));
            kernels.place(placement, near.data(), n, first.data(), z.data());
        }
        layout(n);
        if (taps.size() < n * 2 * window)
            taps = AlignedFloats(n * 2 * window);
        group(n);
        kernels.taps(polynomials.data(), degree, shift.data(), z.data(), n, taps.data());
        plan.points = int(n);
        plan.taps = taps.data();
    }

    /// Joins neighbours whose kernels fit into one window.
    void group(std::size_t n) {
        for (auto& list : found)
            list.clear();
        plan.touches_pad = false;
        const std::int32_t* f = first.data();
        for (std::size_t i = 0; i < n;) {
            std::int32_t x0 = f[2 * i], y0 = f[2 * i + 1];
            std::size_t count = 1;
            auto extend = [&](std::size_t to) {
                std::int32_t xa = x0, xb = x0, ya = y0, yb = y0;
                for (std::size_t c = 0; c < to; c++) {
                    xa = std::min(xa, f[2 * (i + c)]);
                    xb = std::max(xb, f[2 * (i + c)]);
                    ya = std::min(ya, f[2 * (i + c) + 1]);
                    yb = std::max(yb, f[2 * (i + c) + 1]);
                }
                if (xb - xa > spare || yb - ya > spare)
                    return false;
                count = to;
                x0 = xa;
                y0 = ya;
                return true;
            };
            if (i + 4 > n || !extend(4))
                for (std::size_t to = 2; to <= std::min<std::size_t>(3, n - i) && extend(to);)
                    to++;
            for (std::size_t c = 0; c < count; c++)
                shift[i + c] = std::uint8_t((f[2 * (i + c) + 1] - y0) * (spare + 1) + f[2 * (i + c)] - x0);
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
};

Nufft::Nufft(int width, int height) : Nufft(width, height, Options()) {}
Nufft::Nufft(int width, int height, Options options)
    : impl_(std::make_unique<Impl>(width, height, options)) {}
Nufft::~Nufft() = default;
Nufft::Nufft(Nufft&&) noexcept = default;
Nufft& Nufft::operator=(Nufft&&) noexcept = default;

int Nufft::width() const noexcept {
    return impl_->x.pixels;
}
int Nufft::height() const noexcept {
    return impl_->y.pixels;
}
int Nufft::grid_width() const noexcept {
    return impl_->x.cells;
}
int Nufft::grid_height() const noexcept {
    return impl_->y.cells;
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

void Nufft::check(std::span<const float> weights, int coils) const {
    if (coils < 0)
        throw Error(Errc::format, std::to_string(coils) + " coils");
    if (!weights.empty() && weights.size() != points())
        throw Error(Errc::format, std::to_string(weights.size()) + " weights for " +
                                      std::to_string(points()) + " points of the trajectory");
}

void Nufft::adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils) {
    auto& p = *impl_;
    check(weights, coils);
    std::size_t pixels = std::size_t(p.x.pixels) * std::size_t(p.y.pixels);
    if (points() == 0) {
        std::fill_n(images, pixels * std::size_t(coils), cfloat{});
        return;
    }
    p.pool.parallel_for(coils, [&](int coil, int worker) {
        float* scratch = p.scratch[std::size_t(worker)].data();
        float* image = reinterpret_cast<float*>(images + std::size_t(coil) * pixels);
        p.kernels.adjoint_grid(p.plan, reinterpret_cast<const float*>(samples + std::size_t(coil) * points()),
                               weights.empty() ? nullptr : weights.data(), scratch);
        for (int x0 = 0; x0 < p.x.pixels; x0 += p.kernels.lanes)
            p.kernels.adjoint_store(p.plan, x0, image, scratch);
    });
}

/// Calls add(coil, x0, scratch) for each block of columns of each coil. Blocks wait for the same block of the
/// coil before, so that sums are the same whatever the number of threads. That coil was handed out earlier
/// and waits for none but earlier ones, and the kernels throw nothing: nobody waits for ever.
template <class Add>
void Nufft::add_coils(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils,
                      Add add) {
    auto& p = *impl_;
    check(weights, coils);
    std::fill_n(image, std::size_t(p.x.pixels) * std::size_t(p.y.pixels), cfloat{});
    if (points() == 0)
        return;
    const int lanes = p.kernels.lanes;
    std::vector<Turns> blocks(
        std::size_t((p.x.pixels + lanes - 1) / lanes)); // each coil has one turn a block
    p.pool.parallel_for(coils, [&](int coil, int worker) {
        float* scratch = p.scratch[std::size_t(worker)].data();
        p.kernels.adjoint_grid(p.plan, reinterpret_cast<const float*>(samples + std::size_t(coil) * points()),
                               weights.empty() ? nullptr : weights.data(), scratch);
        for (int x0 = 0; x0 < p.x.pixels; x0 += lanes) {
            Turns& block = blocks[std::size_t(x0 / lanes)];
            block.wait_for(coil);
            add(coil, x0, scratch);
            block.pass(coil);
        }
    });
}

void Nufft::adjoint_sense(const cfloat* samples, std::span<const float> weights, const cfloat* maps,
                          cfloat* image, int coils) {
    auto& p = *impl_;
    std::size_t pixels = std::size_t(p.x.pixels) * std::size_t(p.y.pixels);
    add_coils(samples, weights, image, coils, [&](int coil, int x0, float* scratch) {
        p.kernels.adjoint_add_product(p.plan, x0,
                                      reinterpret_cast<const float*>(maps + std::size_t(coil) * pixels),
                                      reinterpret_cast<float*>(image), scratch);
    });
}

void Nufft::adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils) {
    auto& p = *impl_;
    add_coils(samples, weights, image, coils, [&](int, int x0, float* scratch) {
        p.kernels.adjoint_add_square(p.plan, x0, reinterpret_cast<float*>(image), scratch);
    });
    std::size_t pixels = std::size_t(p.x.pixels) * std::size_t(p.y.pixels);
    for (std::size_t i = 0; i < pixels; i++)
        image[i] = std::sqrt(image[i].real());
}

void Nufft::forward(const cfloat* images, cfloat* samples, int coils) {
    auto& p = *impl_;
    if (coils < 0)
        throw Error(Errc::format, std::to_string(coils) + " coils");
    if (points() == 0)
        return;
    std::size_t pixels = std::size_t(p.x.pixels) * std::size_t(p.y.pixels);
    p.pool.parallel_for(coils, [&](int coil, int worker) {
        p.kernels.forward(p.plan, reinterpret_cast<const float*>(images + std::size_t(coil) * pixels),
                          reinterpret_cast<float*>(samples + std::size_t(coil) * points()),
                          p.scratch[std::size_t(worker)].data());
    });
}

void Nufft::forward_sense(const cfloat* image, const cfloat* maps, cfloat* samples, int coils) {
    auto& p = *impl_;
    check({}, coils);
    if (points() == 0)
        return;
    std::size_t pixels = std::size_t(p.x.pixels) * std::size_t(p.y.pixels);
    p.seen.resize(std::size_t(p.pool.threads()) * pixels);
    p.pool.parallel_for(coils, [&](int coil, int worker) {
        cfloat* seen = p.seen.data() + std::size_t(worker) * pixels;
        arrays::multiply(seen, maps + std::size_t(coil) * pixels, image, pixels);
        p.kernels.forward(p.plan, reinterpret_cast<const float*>(seen),
                          reinterpret_cast<float*>(samples + std::size_t(coil) * points()),
                          p.scratch[std::size_t(worker)].data());
    });
}

} // namespace mri
