// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/sampling/density.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/transform/nufft.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <string>

namespace mri {

namespace {

/// |k| of the Ram-Lak filter at the centre, in units of the sample spacing.
constexpr double centre_radius = 2 / (std::numbers::pi * std::numbers::pi);

void radial_weights(std::span<const float> kxy, int samples, int readouts, float* weights, double aspect,
                    double largest) {
    if (samples < 2 || readouts < 1)
        throw Error(Errc::format,
                    "density weights of radial spokes need 2 samples and 1 readout or more, not " +
                        std::to_string(samples) + " and " + std::to_string(readouts));
    const std::size_t points = static_cast<std::size_t>(samples) * static_cast<std::size_t>(readouts);
    if (kxy.size() != 2 * points)
        throw Error(Errc::format, "a trajectory of " + std::to_string(kxy.size() / 2) +
                                      " points does not fit " + std::to_string(readouts) + " readouts of " +
                                      std::to_string(samples) + " samples");
    if (!(aspect > 0) || !std::isfinite(aspect))
        throw Error(Errc::format, "the field of view has no usable aspect ratio");
    for (int r = 0; r < readouts; ++r) {
        const float* k = kxy.data() + 2 * static_cast<std::size_t>(r) * samples;
        float* w = weights + static_cast<std::size_t>(r) * samples;
        for (int i = 0; i < samples; ++i) {
            const int before = std::max(i - 1, 0);
            const int after = std::min(i + 1, samples - 1);
            const double dx = static_cast<double>(k[2 * after]) - k[2 * before];
            const double dy = static_cast<double>(k[2 * after + 1]) - k[2 * before + 1];
            const double dk = std::hypot(dx, dy) / (after - before);
            // The sector's angle in cycles per field of view when it is pi / readouts in physical k-space,
            // where the direction is (dx, dy / aspect): d phi = d theta * aspect * |physical|^2 / |scaled|^2.
            const double scaled = dx * dx + dy * dy;
            const double physical = dx * dx + dy * dy / (aspect * aspect);
            const double turn = scaled > 0 ? aspect * physical / scaled : 1.0;
            const double radius =
                std::max(std::hypot(static_cast<double>(k[2 * i]), k[2 * i + 1]), centre_radius * dk);
            w[i] = static_cast<float>(std::min(largest, std::numbers::pi * radius * turn / readouts) * dk);
        }
    }
}

} // namespace

void ramp_weights(std::span<const float> kxy, int samples, int readouts, float* weights, double aspect) {
    radial_weights(kxy, samples, readouts, weights, aspect, HUGE_VAL);
}

void clipped_ramp_weights(std::span<const float> kxy, int samples, int readouts, float* weights,
                          double aspect, double limit) {
    radial_weights(kxy, samples, readouts, weights, aspect, limit);
}

std::vector<float> pipe_weights(std::span<const float> kxy, int width, int height, int iterations,
                                int threads) {
    if (width < 1 || height < 1 || kxy.size() % 2 != 0)
        throw Error(Errc::format, "density weights need a trajectory of (kx, ky) pairs and an image size");
    for (const float k : kxy)
        if (!std::isfinite(k))
            throw Error(Errc::format, "the trajectory has positions that are not finite");
    const std::size_t points = kxy.size() / 2;
    if (points == 0)
        return {};
    const std::size_t pixels =
        checked_product({static_cast<std::size_t>(width), static_cast<std::size_t>(height), 4},
                        std::size_t{1} << 28, "the grid of the density weights");
    // A field of view of twice the size: its positions are 2 k, its triangle of full width is sinc^2 over one
    // cycle.
    std::vector<float> doubled(kxy.begin(), kxy.end());
    for (float& k : doubled)
        k *= 2;
    Nufft nufft(2 * width, 2 * height, {.tolerance = 1e-3, .threads = threads});
    nufft.set_points(doubled);
    std::vector<cfloat> image(pixels);
    std::vector<cfloat> ones(points, 1.0f);
    std::vector<cfloat> smoothed(points);
    std::vector<float> weights(points, 1.0f);
    const float scale = 1.0f / (static_cast<float>(width) * static_cast<float>(height));
    for (int iteration = 0; iteration < iterations; ++iteration) {
        nufft.adjoint(ones.data(), weights, image.data(), 1);
        for (int y = 0; y < 2 * height; ++y) {
            const float ty = 1.0f - std::abs(static_cast<float>(y - height)) / static_cast<float>(height);
            for (int x = 0; x < 2 * width; ++x) {
                const float tx = 1.0f - std::abs(static_cast<float>(x - width)) / static_cast<float>(width);
                image[static_cast<std::size_t>(y) * 2 * width + x] *= tx * ty * scale;
            }
        }
        nufft.forward(image.data(), smoothed.data(), 1);
        for (std::size_t i = 0; i < points; ++i)
            // The kernel is positive and every sample is its own neighbour; the floor only guards rounding.
            weights[i] /= std::max(smoothed[i].real(), 1e-6f * weights[i]);
    }
    return weights;
}

bool PipeWeights::is_turned(std::span<const float> kxy) const {
    // The turn is that of the outermost point; then all others must have come along.
    std::size_t far = 0;
    float largest = 0;
    for (std::size_t i = 0; i < kxy.size(); i += 2)
        if (const float power = kxy_[i] * kxy_[i] + kxy_[i + 1] * kxy_[i + 1]; power > largest) {
            largest = power;
            far = i;
        }
    if (!(largest > 0))
        return false;
    const std::complex<double> turn =
        std::complex<double>(kxy[far], kxy[far + 1]) / std::complex<double>(kxy_[far], kxy_[far + 1]);
    // Positions are float32: a turn moves them by their rounding, 1e-5 of a cycle at the rim of 192 pixels.
    constexpr double same = 1e-3;
    if (std::abs(std::abs(turn) - 1) * std::sqrt(largest) > same)
        return false;
    for (std::size_t i = 0; i < kxy.size(); i += 2)
        if (!(std::abs(turn * std::complex<double>(kxy_[i], kxy_[i + 1]) -
                       std::complex<double>(kxy[i], kxy[i + 1])) < same))
            return false;
    return true;
}

std::span<const float> PipeWeights::weights(std::span<const float> kxy) {
    const bool alike = kxy.size() == kxy_.size() && !kxy.empty();
    if (alike && (std::equal(kxy.begin(), kxy.end(), kxy_.begin()) || (width_ == height_ && is_turned(kxy))))
        return weights_;
    weights_ = pipe_weights(kxy, width_, height_, iterations_, threads_);
    kxy_.assign(kxy.begin(), kxy.end());
    ++computed_;
    return weights_;
}

} // namespace mri
