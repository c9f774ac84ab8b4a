// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/background.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/sampling/density.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>

namespace mri {

namespace {

/// A window larger than this is a mistake, not a scan: 2^28 complex samples are 2 GiB.
constexpr std::size_t most_samples = std::size_t{1} << 28;

} // namespace

struct StaticBackground::State {
    explicit State(const Options& o)
        : options(o),
          window_nufft(o.width, o.height, {.tolerance = o.tolerance, .threads = o.threads}, o.device),
          frame_nufft(o.width, o.height, {.tolerance = o.tolerance, .threads = o.threads}, o.device),
          pixels(static_cast<std::size_t>(o.width) * static_cast<std::size_t>(o.height)),
          scale(static_cast<float>(density_scale(o.width, o.height))) {}

    Options options;
    DeviceNufft window_nufft;
    DeviceNufft frame_nufft;
    std::size_t pixels;
    float scale;
    int coils = 0;
    std::size_t points = 0;           ///< of the window
    std::vector<std::size_t> offsets; ///< first point of each frame, and the end
    std::vector<float> kxy;
    std::vector<cfloat> background;                ///< [coil][y][x]
    std::vector<cfloat> rest;                      ///< y - A M: [coil][point of the window]
    std::vector<cfloat> right, direction, product; ///< [coil of a batch][y][x]
    std::vector<cfloat> data;                      ///< [coil of a batch][point of the window]
    std::vector<cfloat> frame_rest;                ///< [coil][point of a frame]

    double power_of(const std::vector<cfloat>& a, const std::vector<cfloat>& b, std::size_t coil) const {
        return arrays::dot(a.data() + coil * pixels, b.data() + coil * pixels, pixels);
    }

    /// Conjugate gradients (Hestenes and Stiefel) for the coils of a batch, each with its own steps, from
    /// zero.
    void solve_batch(const cfloat* samples, std::span<const float> weights, std::size_t batch,
                     cfloat* solution) {
        const std::size_t all = batch * pixels;
        right.resize(all);
        product.resize(all);
        data.resize(batch * points);
        const int count = static_cast<int>(batch);
        window_nufft.adjoint(samples, weights, right.data(), count);
        arrays::scale(right.data(), scale, all);
        std::fill(solution, solution + all, cfloat{});
        direction = right;
        std::vector<double> power(batch), enough(batch);
        for (std::size_t c = 0; c < batch; ++c) {
            power[c] = power_of(right, right, c);
            // The transforms' own error is what stops progress; below it a step only fits rounding.
            enough[c] = power[c] * options.tolerance * options.tolerance;
        }
        const auto unfinished = [&] {
            bool some = false;
            for (std::size_t c = 0; c < batch; ++c)
                some = some || power[c] > enough[c];
            return some;
        };
        for (int k = 0; k < options.iterations && unfinished(); ++k) {
            window_nufft.forward(direction.data(), data.data(), count);
            window_nufft.adjoint(data.data(), weights, product.data(), count);
            arrays::scale(product.data(), scale, all);
            for (std::size_t c = 0; c < batch; ++c) {
                const double curvature = power_of(direction, product, c);
                if (!(power[c] > enough[c]) || !(curvature > 0))
                    continue;
                const float step = static_cast<float>(power[c] / curvature);
                arrays::add_scaled(solution + c * pixels, step, direction.data() + c * pixels, pixels);
                arrays::add_scaled(right.data() + c * pixels, -step, product.data() + c * pixels, pixels);
                const double next = power_of(right, right, c);
                const float keep = static_cast<float>(next / power[c]);
                power[c] = next;
                arrays::scale_and_add(direction.data() + c * pixels, keep, right.data() + c * pixels, pixels);
            }
        }
    }
};

StaticBackground::StaticBackground(const Options& options) {
    if (options.width < 1 || options.height < 1 || options.iterations < 1)
        throw Error(Errc::settings, "a static background needs an image size and at least one iteration");
    state_ = std::make_unique<State>(options);
}

StaticBackground::~StaticBackground() = default;
StaticBackground::StaticBackground(StaticBackground&&) noexcept = default;
StaticBackground& StaticBackground::operator=(StaticBackground&&) noexcept = default;

void StaticBackground::solve(std::span<const SampledFrame> frames, std::span<const float> window_weights,
                             int coils) {
    State& s = *state_;
    if (coils < 1)
        throw Error(Errc::format, "k-space frames need at least one coil");
    s.offsets.assign(1, 0);
    for (const SampledFrame& frame : frames) {
        const std::size_t points = frame.kxy.size() / 2;
        if (frame.samples.size() != points * static_cast<std::size_t>(coils))
            throw Error(Errc::format, "a frame of " + std::to_string(frame.samples.size()) +
                                          " samples does not fit its trajectory of " +
                                          std::to_string(points) + " points and " + std::to_string(coils) +
                                          " coils");
        s.offsets.push_back(s.offsets.back() + points);
    }
    s.points = s.offsets.back();
    if (s.points == 0)
        throw Error(Errc::format, "a window of frames holds no sample");
    if (window_weights.size() != s.points)
        throw Error(Errc::format, "a window of " + std::to_string(s.points) + " samples has " +
                                      std::to_string(window_weights.size()) + " density weights");
    const std::size_t all = checked_product({s.points, static_cast<std::size_t>(coils)}, most_samples,
                                            "a window of k-space frames");
    s.coils = coils;
    s.kxy.resize(2 * s.points);
    s.rest.resize(all);
    for (std::size_t f = 0; f < frames.size(); ++f) {
        const std::size_t first = s.offsets[f];
        const std::size_t points = s.offsets[f + 1] - first;
        std::copy(frames[f].kxy.begin(), frames[f].kxy.end(),
                  s.kxy.begin() + static_cast<std::ptrdiff_t>(2 * first));
        for (std::size_t c = 0; c < static_cast<std::size_t>(coils); ++c)
            std::copy_n(frames[f].samples.data() + c * points, points, s.rest.data() + c * s.points + first);
    }

    s.window_nufft.set_points(s.kxy);
    s.background.resize(s.pixels * static_cast<std::size_t>(coils));
    // Coils are what threads share out; a batch of as many keeps the scratch small. A GPU wants them all.
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    const bool gpu = s.options.device.kind == ComputeDevice::Kind::cuda;
    const std::size_t at_once = gpu                     ? static_cast<std::size_t>(coils)
                                : s.options.threads > 0 ? static_cast<std::size_t>(s.options.threads)
                                                        : cores;
    for (std::size_t c = 0; c < static_cast<std::size_t>(coils); c += at_once) {
        const std::size_t batch = std::min(at_once, static_cast<std::size_t>(coils) - c);
        cfloat* samples = s.rest.data() + c * s.points;
        cfloat* image = s.background.data() + c * s.pixels;
        s.solve_batch(samples, window_weights, batch, image);
        s.window_nufft.forward(image, s.data.data(), static_cast<int>(batch));
        arrays::add_scaled(samples, -1, s.data.data(), batch * s.points);
    }
}

std::span<const cfloat> StaticBackground::background() const {
    return state_->background;
}

void StaticBackground::residual(std::size_t index, const SampledFrame& frame, cfloat* images) {
    State& s = *state_;
    if (index + 1 >= s.offsets.size())
        throw Error(Errc::failed, "the window has no frame " + std::to_string(index));
    const std::size_t first = s.offsets[index];
    const std::size_t points = s.offsets[index + 1] - first;
    if (frame.kxy.size() != 2 * points || frame.weights.size() != points)
        throw Error(Errc::format, "a frame of the window came back with " +
                                      std::to_string(frame.kxy.size() / 2) + " points and " +
                                      std::to_string(frame.weights.size()) + " weights, not " +
                                      std::to_string(points));
    const std::size_t coils = static_cast<std::size_t>(s.coils);
    if (points == 0) {
        std::fill(images, images + coils * s.pixels, cfloat{});
        return;
    }
    s.frame_rest.resize(points * coils);
    for (std::size_t c = 0; c < coils; ++c)
        std::copy_n(s.rest.data() + c * s.points + first, points, s.frame_rest.data() + c * points);
    s.frame_nufft.set_points(frame.kxy);
    s.frame_nufft.adjoint(s.frame_rest.data(), frame.weights, images, s.coils);
    arrays::scale(images, s.scale, coils * s.pixels);
}

} // namespace mri
