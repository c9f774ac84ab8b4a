// SPDX-License-Identifier: LGPL-2.1-or-later
#include "background.hpp"

#include "density.hpp"
#include "plugins/common/error.hpp"
#include "plugins/common/sizes.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace mri {

namespace {

/// A window larger than this is a mistake, not a scan: 2^28 complex samples are 2 GiB.
constexpr std::size_t most_samples = std::size_t{1} << 28;

double dot(const std::vector<cfloat>& a, const std::vector<cfloat>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum +=
            static_cast<double>(a[i].real()) * b[i].real() + static_cast<double>(a[i].imag()) * b[i].imag();
    return sum;
}

} // namespace

struct StaticBackground::State {
    explicit State(const Options& o)
        : options(o),
          window_nufft(o.width, o.height, {.tolerance = o.tolerance, .threads = o.threads}),
          frame_nufft(o.width, o.height, {.tolerance = o.tolerance, .threads = o.threads}),
          pixels(static_cast<std::size_t>(o.width) * static_cast<std::size_t>(o.height)),
          scale(static_cast<float>(density_scale(o.width, o.height))) {}

    Options options;
    Nufft window_nufft;
    Nufft frame_nufft;
    std::size_t pixels;
    float scale;
    int coils = 0;
    std::size_t points = 0;           ///< of the window
    std::vector<std::size_t> offsets; ///< first point of each frame, and the end
    std::vector<float> kxy;
    std::vector<cfloat> background;                ///< [coil][y][x]
    std::vector<cfloat> rest;                      ///< y - A M: [coil][point of the window]
    std::vector<cfloat> right, direction, product; ///< one coil's image each
    std::vector<cfloat> data;                      ///< one coil's samples
    std::vector<cfloat> frame_rest;                ///< [coil][point of a frame]

    /// product = 1 / (W H) A^H W A direction
    void apply(std::span<const float> weights) {
        window_nufft.forward(direction.data(), data.data(), 1);
        window_nufft.adjoint(data.data(), weights, product.data(), 1);
        for (cfloat& value : product)
            value *= scale;
    }

    /// Conjugate gradients (Hestenes and Stiefel) for one coil, from zero.
    void solve_coil(const cfloat* samples, std::span<const float> weights, cfloat* solution) {
        window_nufft.adjoint(samples, weights, right.data(), 1);
        for (cfloat& value : right)
            value *= scale;
        std::fill(solution, solution + pixels, cfloat{});
        direction = right;
        double power = dot(right, right);
        const double start = power;
        // The transforms' own error is what stops progress; below it a step only fits rounding.
        const double enough = start * options.tolerance * options.tolerance;
        for (int k = 0; k < options.iterations && power > enough; ++k) {
            apply(weights);
            const double curvature = dot(direction, product);
            if (!(curvature > 0))
                break;
            const float step = static_cast<float>(power / curvature);
            for (std::size_t p = 0; p < pixels; ++p) {
                solution[p] += step * direction[p];
                right[p] -= step * product[p];
            }
            const double next = dot(right, right);
            const float keep = static_cast<float>(next / power);
            power = next;
            for (std::size_t p = 0; p < pixels; ++p)
                direction[p] = right[p] + keep * direction[p];
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
    for (const cfloat& sample : s.rest)
        if (!std::isfinite(sample.real()) || !std::isfinite(sample.imag()))
            throw Error(Errc::format, "a k-space frame has samples that are not finite");
    for (const float k : s.kxy)
        if (!std::isfinite(k))
            throw Error(Errc::format, "a trajectory has positions that are not finite");

    s.window_nufft.set_points(s.kxy);
    s.background.resize(s.pixels * static_cast<std::size_t>(coils));
    s.right.resize(s.pixels);
    s.direction.resize(s.pixels);
    s.product.resize(s.pixels);
    s.data.resize(s.points);
    for (std::size_t c = 0; c < static_cast<std::size_t>(coils); ++c) {
        cfloat* samples = s.rest.data() + c * s.points;
        cfloat* image = s.background.data() + c * s.pixels;
        s.solve_coil(samples, window_weights, image);
        s.window_nufft.forward(image, s.data.data(), 1);
        for (std::size_t i = 0; i < s.points; ++i)
            samples[i] -= s.data[i];
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
    for (std::size_t p = 0; p < coils * s.pixels; ++p)
        images[p] *= s.scale;
}

} // namespace mri
