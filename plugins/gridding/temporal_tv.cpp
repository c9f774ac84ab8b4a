// SPDX-License-Identifier: LGPL-2.1-or-later
#include "temporal_tv.hpp"

#include "arrays.hpp"
#include "density.hpp"
#include "plugins/common/error.hpp"
#include "plugins/common/sizes.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace mri {

namespace {

/// 2^28 complex values are 2 GiB.
constexpr std::size_t most_values = std::size_t{1} << 28;

/// Pixels that the dual iteration keeps in the cache with all their frames.
constexpr std::size_t block = 64;

/// Dual steps for the variation in each outer step. The dual is kept from step to step, so that one is enough
/// for convergence, and more of them win nothing.
constexpr int dual_steps = 1;

/// Steps of power iteration for the largest eigenvalue of A^H W A / (W H).
constexpr int power_steps = 15;

} // namespace

struct TemporalTv::State {
    explicit State(const Options& o)
        : options(o),
          pixels(static_cast<std::size_t>(o.width) * static_cast<std::size_t>(o.height)),
          scale(static_cast<float>(density_scale(o.width, o.height))) {}

    Options options;
    std::size_t pixels;
    float scale;
    std::vector<DeviceNufft> nuffts; ///< one a frame: its points are planned once a window
    std::vector<cfloat> coil_images, samples;
    std::vector<cfloat> step, dual; ///< [frame][pixel]

    /// out = 1 / (W H) sum over c of S_c^H A^H W (A S_c x - y_c) of one frame; without y when `data` is null.
    void gradient(std::size_t t, const SampledFrame& frame, const cfloat* data, int coils,
                  std::span<const cfloat> maps, const cfloat* x, cfloat* out) {
        const std::size_t n = static_cast<std::size_t>(coils);
        const std::size_t points = frame.kxy.size() / 2;
        const cfloat* images = x;
        if (!maps.empty()) {
            for (std::size_t c = 0; c < n; ++c)
                arrays::multiply(coil_images.data() + c * pixels, maps.data() + c * pixels, x, pixels);
            images = coil_images.data();
        }
        samples.resize(n * points);
        nuffts[t].forward(images, samples.data(), coils);
        if (data)
            arrays::add_scaled(samples.data(), -1, data, n * points);
        nuffts[t].adjoint(samples.data(), frame.weights, coil_images.data(), coils);
        std::fill(out, out + pixels, cfloat{});
        if (maps.empty())
            arrays::add_scaled(out, scale, coil_images.data(), pixels);
        for (std::size_t c = 0; c < n && !maps.empty(); ++c)
            arrays::add_conjugate_product(out, scale, maps.data() + c * pixels,
                                          coil_images.data() + c * pixels, pixels);
    }

    /// images = argmin 1/2 |images - step|^2 + bound sum |images_(t+1) - images_t|, the dual warm from last
    /// time.
    void variation(std::size_t frames, float bound, cfloat* images) {
        // A bound of zero would leave nothing of the dual, and its square must stay a normal number.
        const float inverse = 1 / std::max(bound * bound, 1e-30f);
        std::vector<float> z(2 * block * frames), u(2 * block * (frames + 1)), x(2 * block * frames);
        for (std::size_t first = 0; first < pixels; first += block) {
            const std::size_t width = std::min(block, pixels - first);
            // u[0] and u[frames] stay zero: the ends are free.
            std::fill(u.begin(), u.end(), 0.0f);
            for (std::size_t t = 0; t < frames; ++t)
                for (std::size_t p = 0; p < width; ++p) {
                    const cfloat value = step[t * pixels + first + p];
                    z[(2 * t) * block + p] = value.real();
                    z[(2 * t + 1) * block + p] = value.imag();
                    if (t > 0) {
                        const cfloat kept = dual[t * pixels + first + p];
                        u[(2 * t) * block + p] = kept.real();
                        u[(2 * t + 1) * block + p] = kept.imag();
                    }
                }
            // x = z - D^H u with (D x)_t = x_t - x_(t-1), t = 1 .. frames - 1; |D|^2 <= 4.
            const auto primal = [&] {
                for (std::size_t i = 0; i < 2 * block * frames; ++i)
                    x[i] = z[i] - u[i] + u[i + 2 * block];
            };
            for (int k = 0; k < dual_steps; ++k) {
                primal();
                for (std::size_t t = 1; t < frames; ++t) {
                    float* re = u.data() + (2 * t) * block;
                    float* im = re + block;
                    const float* xr = x.data() + (2 * t) * block;
                    const float* xi = xr + block;
                    for (std::size_t p = 0; p < block; ++p) {
                        const float a = re[p] + 0.25f * (xr[p] - xr[p - 2 * block]);
                        const float b = im[p] + 0.25f * (xi[p] - xi[p - 2 * block]);
                        const float keep = 1 / std::sqrt(std::max(1.0f, (a * a + b * b) * inverse));
                        re[p] = a * keep;
                        im[p] = b * keep;
                    }
                }
            }
            primal();
            for (std::size_t t = 0; t < frames; ++t)
                for (std::size_t p = 0; p < width; ++p) {
                    images[t * pixels + first + p] = {x[(2 * t) * block + p], x[(2 * t + 1) * block + p]};
                    if (t > 0)
                        dual[t * pixels + first + p] = {u[(2 * t) * block + p], u[(2 * t + 1) * block + p]};
                }
        }
    }
};

TemporalTv::TemporalTv(const Options& options) {
    if (options.width < 1 || options.height < 1 || options.iterations < 1)
        throw Error(Errc::settings, "a temporal variation needs an image size and at least one iteration");
    state_ = std::make_unique<State>(options);
}
TemporalTv::~TemporalTv() = default;
TemporalTv::TemporalTv(TemporalTv&&) noexcept = default;
TemporalTv& TemporalTv::operator=(TemporalTv&&) noexcept = default;

void TemporalTv::solve(std::span<const SampledFrame> frames, int coils, std::span<const cfloat> maps,
                       double lambda, std::span<cfloat> images) {
    State& s = *state_;
    const std::size_t n = frames.size();
    const std::size_t all = checked_product({n, s.pixels}, most_values, "a window of images");
    if (coils < 1 || n == 0 || images.size() != all ||
        (maps.empty() ? coils != 1 : maps.size() != s.pixels * static_cast<std::size_t>(coils)))
        throw Error(Errc::format, "the images, sensitivities and frames of a window do not fit each other");
    for (std::size_t t = 0; t < n; ++t) {
        const std::size_t points = frames[t].kxy.size() / 2;
        if (points == 0 || frames[t].weights.size() != points ||
            frames[t].samples.size() != points * static_cast<std::size_t>(coils))
            throw Error(Errc::format, "frame " + std::to_string(t) + " of a window has " +
                                          std::to_string(points) + " points, " +
                                          std::to_string(frames[t].weights.size()) + " weights and " +
                                          std::to_string(frames[t].samples.size()) + " samples");
    }
    while (s.nuffts.size() < n)
        s.nuffts.emplace_back(s.options.width, s.options.height,
                              Nufft::Options{.tolerance = s.options.tolerance, .threads = s.options.threads},
                              s.options.device);
    for (std::size_t t = 0; t < n; ++t)
        s.nuffts[t].set_points(frames[t].kxy);
    s.coil_images.resize(s.pixels * static_cast<std::size_t>(coils));
    s.dual.assign(all, cfloat{});
    s.step.resize(all);

    // The step is one over the largest eigenvalue; all frames have alike trajectories, so the first tells it.
    // The start is noise, which no eigenvector escapes: an image would have little of those at the rim of
    // k-space.
    std::vector<cfloat> x(s.pixels);
    std::mt19937 engine(1);
    for (cfloat& value : x) {
        const float re = static_cast<float>(engine()) - 0x1p31f;
        value = {re, static_cast<float>(engine()) - 0x1p31f};
    }
    std::vector<cfloat> product(s.pixels);
    double largest = 1;
    for (int k = 0; k < power_steps; ++k) {
        const double norm = arrays::dot(x.data(), x.data(), s.pixels);
        if (!(norm > 0))
            break;
        arrays::scale(x.data(), static_cast<float>(1 / std::sqrt(norm)), s.pixels);
        s.gradient(0, frames[0], nullptr, coils, maps, x.data(), product.data());
        largest = std::max(largest, std::sqrt(arrays::dot(product.data(), product.data(), s.pixels)));
        x.swap(product);
    }
    // Below 2 / L all converges; power iteration comes from below, by up to a tenth in 15 steps.
    const float eta = static_cast<float>(1.55 / largest);
    for (int k = 0; k < s.options.iterations; ++k) {
        for (std::size_t t = 0; t < n; ++t) {
            const cfloat* image = images.data() + t * s.pixels;
            s.gradient(t, frames[t], frames[t].samples.data(), coils, maps, image, product.data());
            arrays::subtract_scaled(s.step.data() + t * s.pixels, image, eta, product.data(), s.pixels);
        }
        s.variation(n, static_cast<float>(lambda) * eta, images.data());
    }
}

} // namespace mri
