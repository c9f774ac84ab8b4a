// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/sense.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/density.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace mri {

struct Sense::State {
    explicit State(const Options& o)
        : options(o),
          pixels(static_cast<std::size_t>(o.width) * static_cast<std::size_t>(o.height)),
          scale(static_cast<float>(density_scale(o.width, o.height))),
          nufft(o.width, o.height, {.tolerance = o.tolerance, .threads = o.threads}, o.device) {}

    Options options;
    std::size_t pixels;
    float scale;
    DeviceNufft nufft;
    int coils = 0;
    std::vector<cfloat> maps;
    std::vector<cfloat> samples, rest, direction, product;

    void check(const SampledFrame& frame, std::size_t image) const {
        if (coils == 0)
            throw Error(Errc::format, "CG-SENSE has not been given sensitivities");
        const std::size_t points = frame.points();
        if (points == 0 || frame.weights.size() != points || image != pixels ||
            frame.samples.size() != points * static_cast<std::size_t>(coils))
            throw Error(Errc::format, "a frame of " + std::to_string(points) + " points, " +
                                          std::to_string(frame.weights.size()) + " weights and " +
                                          std::to_string(frame.samples.size()) + " samples does not fit " +
                                          std::to_string(coils) + " coils");
    }

    /// out = (1 / (W H) sum over c of S_c^H A^H W A S_c + l2) x
    void normal(const cfloat* x, std::span<const float> weights, float l2, cfloat* out) {
        nufft.forward_sense(x, samples.data());
        nufft.adjoint_sense(samples.data(), weights, out);
        arrays::scale(out, scale, pixels);
        arrays::add_scaled(out, l2, x, pixels);
    }
};

Sense::Sense(const Options& options) {
    if (options.width < 1 || options.height < 1 || options.iterations < 1)
        throw Error(Errc::settings, "CG-SENSE needs an image size and at least one iteration");
    state_ = std::make_unique<State>(options);
}
Sense::~Sense() = default;
Sense::Sense(Sense&&) noexcept = default;
Sense& Sense::operator=(Sense&&) noexcept = default;

void Sense::set_sensitivities(std::span<const cfloat> maps, int coils) {
    State& s = *state_;
    if (coils < 1 || (maps.empty() ? coils != 1 : maps.size() != s.pixels * static_cast<std::size_t>(coils)))
        throw Error(Errc::format, "sensitivities of " + std::to_string(maps.size()) + " values do not fit " +
                                      std::to_string(coils) + " coils of " + std::to_string(s.pixels) +
                                      " pixels");
    if (maps.empty())
        s.maps.assign(s.pixels, cfloat(1));
    else
        s.maps.assign(maps.begin(), maps.end());
    s.coils = coils;
    s.nufft.set_sensitivities(s.maps.data(), coils);
}

void Sense::scale_to(const SampledFrame& frame, std::span<cfloat> image) {
    State& s = *state_;
    s.check(frame, image.size());
    const std::size_t points = frame.points();
    s.nufft.set_points(frame.kxy);
    s.samples.resize(frame.samples.size());
    s.nufft.forward_sense(image.data(), s.samples.data());
    std::complex<double> common = 0;
    double power = 0;
    for (std::size_t i = 0; i < s.samples.size(); ++i) {
        const double weight = frame.weights[i % points];
        common +=
            weight * std::complex<double>(std::conj(s.samples[i])) * std::complex<double>(frame.samples[i]);
        power += weight * std::norm(std::complex<double>(s.samples[i]));
    }
    const cfloat factor = power > 0 ? cfloat(common / power) : cfloat{};
    for (cfloat& pixel : image)
        pixel *= factor;
}

int Sense::solve(const SampledFrame& frame, double l2, std::span<cfloat> image) {
    State& s = *state_;
    s.check(frame, image.size());
    if (!(l2 >= 0) || !std::isfinite(l2))
        throw Error(Errc::settings,
                    "the regularisation of CG-SENSE is " + std::to_string(l2) + ": it must be 0 or more");
    const float weight = static_cast<float>(l2);
    s.nufft.set_points(frame.kxy);
    s.samples.resize(frame.samples.size());
    s.rest.resize(s.pixels);
    s.product.resize(s.pixels);

    // For the step z = x - x0: (N + l2) z = A^H W (y - A x0).
    s.nufft.forward_sense(image.data(), s.samples.data());
    for (std::size_t i = 0; i < s.samples.size(); ++i)
        s.samples[i] = frame.samples[i] - s.samples[i];
    s.nufft.adjoint_sense(s.samples.data(), frame.weights, s.rest.data());
    arrays::scale(s.rest.data(), s.scale, s.pixels);
    s.direction = s.rest;
    double power = arrays::dot(s.rest.data(), s.rest.data(), s.pixels);
    const double enough = power * s.options.tolerance * s.options.tolerance;
    int step = 0;
    for (; step < s.options.iterations && power > enough; ++step) {
        s.normal(s.direction.data(), frame.weights, weight, s.product.data());
        const double curvature = arrays::dot(s.direction.data(), s.product.data(), s.pixels);
        if (!(curvature > 0))
            break;
        const float length = static_cast<float>(power / curvature);
        arrays::add_scaled(image.data(), length, s.direction.data(), s.pixels);
        arrays::add_scaled(s.rest.data(), -length, s.product.data(), s.pixels);
        const double next = arrays::dot(s.rest.data(), s.rest.data(), s.pixels);
        arrays::scale_and_add(s.direction.data(), static_cast<float>(next / power), s.rest.data(), s.pixels);
        power = next;
    }
    return step;
}

} // namespace mri
