// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/window_operator.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/sampling/density.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <unordered_map>

namespace mri {

namespace {

/// 2^28 complex values are 2 GiB.
constexpr std::size_t most_values = std::size_t{1} << 28;

WindowOperator::Options checked(const WindowOperator::Options& options) {
    if (options.width < 1 || options.height < 1)
        throw Error(Errc::settings, "the transforms of a window need an image size");
    return options;
}

} // namespace

double crowding(const SampledFrame& frame) {
    if (frame.readouts == 1)
        return 1;
    std::unordered_map<std::uint64_t, float> all, own;
    const auto n = static_cast<std::size_t>(frame.samples_per_readout());
    float most = 0, most_of_one = 0;
    for (std::size_t i = 0; i < frame.weights.size(); ++i) {
        if (i % n == 0)
            own.clear();
        const auto x = static_cast<std::uint32_t>(std::lround(frame.kxy[2 * i]));
        const auto y = static_cast<std::uint32_t>(std::lround(frame.kxy[2 * i + 1]));
        const std::uint64_t cell = std::uint64_t{y} << 32 | x;
        most = std::max(most, all[cell] += frame.weights[i]);
        most_of_one = std::max(most_of_one, own[cell] += frame.weights[i]);
    }
    return most_of_one > 0 ? static_cast<double>(most) / most_of_one : 1;
}

WindowOperator::WindowOperator(const Options& options)
    : options_(checked(options)),
      pixels_(static_cast<std::size_t>(options.width) * static_cast<std::size_t>(options.height)),
      scale_(static_cast<float>(density_scale(options.width, options.height))),
      // A GPU takes one frame after the other: its own threads are what works.
      pool_(options.device.kind == ComputeDevice::Kind::cuda ? 1 : options.threads),
      scratch_(static_cast<std::size_t>(pool_.threads())) {}

void WindowOperator::check_size(std::size_t size, const char* what) const {
    if (size != frames() * pixels_)
        throw Error(Errc::format, std::string(what) + " of " + std::to_string(size) +
                                      " pixels does not fit " + std::to_string(frames()) + " frames of " +
                                      std::to_string(options_.height) + " x " +
                                      std::to_string(options_.width));
}

DeviceNufft& WindowOperator::nufft(std::size_t t) {
    return frames() == 1 ? *lone_ : nuffts_[t];
}

/// 1 / (W H) sum over coils of conj(S_c) A_t^H W_t y_c
void WindowOperator::adjoint(std::size_t t, const cfloat* samples, cfloat* out) {
    if (maps_.empty())
        nufft(t).adjoint(samples, weights_[t], out, 1);
    else
        nufft(t).adjoint_sense(samples, weights_[t], out);
    arrays::scale(out, scale_, pixels_);
}

void WindowOperator::set_window(std::span<const SampledFrame> frames, int coils,
                                std::span<const cfloat> maps) {
    weights_.clear();
    right_.clear();
    const auto n = static_cast<std::size_t>(std::max(coils, 0));
    if (coils < 1 || (maps.empty() ? coils != 1 : maps.size() != n * pixels_))
        throw Error(Errc::format, "sensitivities of " + std::to_string(maps.size()) + " values do not fit " +
                                      std::to_string(coils) + " coils of " + std::to_string(pixels_) +
                                      " pixels");
    const std::size_t all = checked_product({frames.size(), pixels_}, most_values, "a window of images");
    checked_product({n, pixels_}, most_values, "the images of the coils");
    for (std::size_t t = 0; t < frames.size(); ++t) {
        const std::size_t points = frames[t].kxy.size() / 2;
        if (points == 0 || frames[t].weights.size() != points || frames[t].samples.size() != n * points)
            throw Error(Errc::format, "frame " + std::to_string(t) + " of a window has " +
                                          std::to_string(points) + " points, " +
                                          std::to_string(frames[t].weights.size()) + " weights and " +
                                          std::to_string(frames[t].samples.size()) + " samples of " +
                                          std::to_string(coils) + " coils");
    }
    coils_ = coils;
    maps_.assign(maps.begin(), maps.end());
    const auto transform = [this](int threads) {
        return DeviceNufft(options_.width, options_.height,
                           Nufft::Options{.tolerance = options_.tolerance, .threads = threads},
                           options_.device);
    };
    while (frames.size() > 1 && nuffts_.size() < frames.size())
        nuffts_.push_back(transform(1));
    if (frames.size() == 1 && !lone_)
        lone_ = transform(options_.threads);
    right_.resize(all);
    power_.assign(frames.size(), 0);
    area_.assign(frames.size(), 0);
    for (const SampledFrame& frame : frames)
        weights_.emplace_back(frame.weights.begin(), frame.weights.end());
    pool_.parallel_for(static_cast<int>(frames.size()), [&](int index, int) {
        const auto t = static_cast<std::size_t>(index);
        const SampledFrame& frame = frames[t];
        nufft(t).set_points(frame.kxy);
        if (const double times = crowding(frame); times > crowded)
            for (float& weight : weights_[t])
                weight /= static_cast<float>(times);
        if (!maps_.empty())
            nufft(t).set_sensitivities(maps_.data(), coils_);
        adjoint(t, frame.samples.data(), right_.data() + t * pixels_);
        const std::size_t points = weights_[t].size();
        double power = 0;
        for (std::size_t i = 0; i < frame.samples.size(); ++i)
            power += static_cast<double>(weights_[t][i % points]) * std::norm(frame.samples[i]);
        power_[t] = power * scale_;
        for (const float weight : weights_[t])
            area_[t] += static_cast<double>(weight) * coils_ * scale_;
    });
}

void WindowOperator::apply(std::size_t t, const cfloat* x, Scratch& s, cfloat* out) {
    s.samples.resize(weights_[t].size() * static_cast<std::size_t>(coils_));
    if (maps_.empty())
        nufft(t).forward(x, s.samples.data(), 1);
    else
        nufft(t).forward_sense(x, s.samples.data());
    adjoint(t, s.samples.data(), out);
}

void WindowOperator::normal(std::span<const cfloat> x, std::span<cfloat> out) {
    check_size(x.size(), "an image series");
    check_size(out.size(), "a result");
    pool_.parallel_for(static_cast<int>(frames()), [&](int index, int worker) {
        const auto t = static_cast<std::size_t>(index);
        apply(t, x.data() + t * pixels_, scratch_[static_cast<std::size_t>(worker)],
              out.data() + t * pixels_);
    });
}

void WindowOperator::normal(std::span<const cfloat> x,
                            const std::function<void(std::size_t t, std::span<const cfloat> normal)>& take) {
    check_size(x.size(), "an image series");
    pool_.parallel_for(static_cast<int>(frames()), [&](int index, int worker) {
        const auto t = static_cast<std::size_t>(index);
        Scratch& s = scratch_[static_cast<std::size_t>(worker)];
        s.normal.resize(pixels_);
        apply(t, x.data() + t * pixels_, s, s.normal.data());
        take(t, s.normal);
    });
}

WindowOperator::Residual WindowOperator::residual(std::size_t t, std::span<const cfloat> x,
                                                  std::span<const cfloat> normal_x) const {
    const double power = arrays::dot(x.data(), normal_x.data(), pixels_) -
                         2 * arrays::dot(x.data(), right_.data() + t * pixels_, pixels_) + power_[t];
    // Rounding may leave a little below nothing of a perfect fit.
    const double rest = std::max(0.0, power);
    return {.relative = power_[t] > 0 ? std::sqrt(rest / power_[t]) : 0.0,
            .rms = area_[t] > 0 ? std::sqrt(rest / area_[t]) : 0.0};
}

std::vector<WindowOperator::Residual> WindowOperator::residual(std::span<const cfloat> x,
                                                               std::span<const cfloat> normal_x) const {
    check_size(x.size(), "an image series");
    check_size(normal_x.size(), "a result");
    std::vector<Residual> out;
    for (std::size_t t = 0; t < frames(); ++t)
        out.push_back(residual(t, x.subspan(t * pixels_, pixels_), normal_x.subspan(t * pixels_, pixels_)));
    return out;
}

} // namespace mri
