// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/running_background.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/density.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <future>
#include <vector>

namespace mri {

struct RunningBackground::State {
    State(const ReconstructionSpace& s, Combine c, int n)
        : space(s),
          combine(c),
          frames(n),
          pixels(static_cast<std::size_t>(s.width) * static_cast<std::size_t>(s.height)),
          nufft(s.width, s.height, Nufft::Options{.tolerance = s.tolerance, .threads = s.threads}, s.device),
          background(pixels * static_cast<std::size_t>(s.coils)),
          step(background.size()) {}

    ReconstructionSpace space;
    Combine combine;
    int frames;
    std::size_t pixels;
    DeviceNufft nufft;
    int count = 0;                         ///< frames in the background
    std::vector<cfloat> background;        ///< M: [coil][y][x]
    std::vector<cfloat> image;             ///< of the frame, likewise
    std::vector<cfloat> step;              ///< likewise
    std::vector<cfloat> rest;              ///< [coil][point]
    std::vector<cfloat> maps;              ///< sensitivities: [coil][y][x]
    std::size_t version = 0;               ///< of them
    bool bounded = false;                  ///< some step was
    std::size_t seen = 0;                  ///< frames since forget()
    std::future<std::vector<cfloat>> next; ///< maps that are being made

    bool adaptive() const { return combine == Combine::adaptive && space.coils > 1; }

    /// The maps of this frame.
    void update_maps() {
        constexpr std::size_t each = 16, delay = 8; // frames
        ++seen;
        const auto estimate = [this](const std::vector<cfloat>& images) {
            std::vector<cfloat> out(images.size());
            estimate_sensitivities(images.data(), space.coils, space.width, space.height, out.data());
            return out;
        };
        const auto take = [this](std::vector<cfloat> made) {
            maps = std::move(made);
            ++version;
            nufft.set_sensitivities(maps.data(), space.coils);
        };
        const bool due = sensitivities_due(seen, each);
        if (due && seen <= each)
            take(estimate(background));
        else if (due)
            next =
                std::async(std::launch::async, [estimate, images = background] { return estimate(images); });
        else if (seen % each == delay && next.valid())
            take(next.get());
    }

    /// Areas of the clipped ramp, times `share`, for adjoints of the image's scale.
    std::vector<float> areas(const SampledFrame& frame, double strip_limit, double share) const {
        ReconstructionSpace clipped = space;
        clipped.strip_limit = strip_limit;
        auto out = sample_areas(clipped, std::span(&frame, 1), Density::clipped);
        for (float& area : out)
            area *= static_cast<float>(share * density_scale(space.width, space.height));
        return out;
    }

    /// rest = y - A x.
    void find_rest(const SampledFrame& frame, const std::vector<cfloat>& x) {
        rest.resize(frame.samples.size());
        nufft.forward(x.data(), rest.data(), space.coils);
        for (std::size_t i = 0; i < rest.size(); ++i)
            rest[i] = frame.samples[i] - rest[i];
    }

    /// Sum of weights |rest|^2.
    double misfit(std::span<const float> weights) const {
        double sum = 0;
        for (std::size_t i = 0; i < rest.size(); ++i)
            sum +=
                static_cast<double>(weights[i % weights.size()]) * std::norm(std::complex<double>(rest[i]));
        return sum;
    }

    /// The largest eigenvalue of A^H weights A, from below by power iteration from the step that `weights` made.
    double norm_of(std::span<const float> weights) {
        std::vector<cfloat> x(pixels), samples(weights.size());
        for (std::size_t p = 0; p < step.size(); ++p)
            x[p % pixels] += step[p];
        double norm = 1;
        for (int k = 0; k < 8; ++k) {
            const double power = arrays::dot(x.data(), x.data(), pixels);
            if (!(power > 0) || !std::isfinite(power))
                break;
            arrays::scale(x.data(), static_cast<float>(1 / std::sqrt(power)), pixels);
            nufft.forward(x.data(), samples.data(), 1);
            nufft.adjoint(samples.data(), weights, x.data(), 1);
            norm = std::sqrt(arrays::dot(x.data(), x.data(), pixels));
        }
        return norm;
    }

    /// background += A^H weights (y - A background), and the rest of what comes out. A step that takes it further from
    /// the frame, as one of an eigenvalue above 2 does, is taken again by the inverse of the largest; whether it was.
    bool take_step(const SampledFrame& frame, std::span<const float> weights) {
        constexpr double further = 1.05; // rounding, and the transforms' tolerance, stay below
        find_rest(frame, background);
        const double before = misfit(weights);
        nufft.adjoint(rest.data(), weights, step.data(), space.coils);
        arrays::add_scaled(background.data(), 1, step.data(), background.size());
        find_rest(frame, background);
        if (!(misfit(weights) > further * before))
            return false;
        const double share = 1 / (1.1 * std::max(norm_of(weights), 1.0));
        arrays::add_scaled(background.data(), static_cast<float>(share - 1), step.data(), background.size());
        find_rest(frame, background);
        return true;
    }
};

RunningBackground::RunningBackground(const ReconstructionSpace& space, Combine combine, int frames) {
    if (frames < 1)
        throw Error(Errc::settings, "a running background needs at least one frame");
    if (kind_of(space.trajectory).grid)
        throw Error(Errc::settings,
                    "a running background is for trajectories that rotate, not for Cartesian ones");
    check_space(space);
    state_ = std::make_unique<State>(space, combine, frames);
}

RunningBackground::~RunningBackground() = default;
RunningBackground::RunningBackground(RunningBackground&&) noexcept = default;
RunningBackground& RunningBackground::operator=(RunningBackground&&) noexcept = default;

bool RunningBackground::bounded() const {
    return state_->bounded;
}

void RunningBackground::forget() {
    state_->bounded = false;
    state_->count = 0;
    state_->seen = 0;
    state_->next = {}; // waits for it
}

std::span<const cfloat> RunningBackground::sensitivities() const {
    return state_->maps;
}

std::size_t RunningBackground::sensitivities_version() const {
    return state_->version;
}

void RunningBackground::reconstruct(const SampledFrame& frame, cfloat* images) {
    State& s = *state_;
    check_frame(s.space, frame);

    s.nufft.set_points(frame.kxy);
    if (s.count == 0)
        std::fill(s.background.begin(), s.background.end(), cfloat{});
    s.count = std::min(s.count + 1, s.frames);
    const bool bounded = s.take_step(frame, s.areas(frame, s.count, 1.0 / s.count));
    s.bounded = s.bounded || bounded;
    std::vector<float> areas = s.areas(frame, s.space.strip_limit, 1.0);
    if (bounded) {
        const auto share = static_cast<float>(1 / std::max(s.norm_of(areas), 1.0));
        for (float& area : areas)
            area *= share;
    }
    if (s.adaptive()) {
        s.update_maps();
        s.nufft.adjoint_sense(s.rest.data(), areas, images);
        combine_coils(s.background.data(), s.maps.data(), s.space.coils, s.pixels, s.step.data());
        arrays::add_scaled(images, 1, s.step.data(), s.pixels);
        return;
    }
    s.image = s.background;
    s.nufft.adjoint(s.rest.data(), areas, s.step.data(), s.space.coils);
    arrays::add_scaled(s.image.data(), 1, s.step.data(), s.image.size());
    if (s.combine == Combine::rss)
        root_sum_of_squares(s.image.data(), s.space.coils, s.pixels, images);
    else
        std::copy(s.image.begin(), s.image.end(), images);
}

} // namespace mri
