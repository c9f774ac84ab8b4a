// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/running_background.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/density.hpp"

#include <algorithm>
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

    /// x += A^H areas (y - A x).
    void add_misfit(const SampledFrame& frame, std::vector<cfloat>& x, std::span<const float> areas) {
        find_rest(frame, x);
        nufft.adjoint(rest.data(), areas, step.data(), space.coils);
        arrays::add_scaled(x.data(), 1, step.data(), x.size());
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

void RunningBackground::forget() {
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
    s.add_misfit(frame, s.background, s.areas(frame, s.count, 1.0 / s.count));
    const std::vector<float> areas = s.areas(frame, s.space.strip_limit, 1.0);
    if (s.adaptive()) {
        s.update_maps();
        s.find_rest(frame, s.background);
        s.nufft.adjoint_sense(s.rest.data(), areas, images);
        combine_coils(s.background.data(), s.maps.data(), s.space.coils, s.pixels, s.step.data());
        arrays::add_scaled(images, 1, s.step.data(), s.pixels);
        return;
    }
    s.image = s.background;
    s.add_misfit(frame, s.image, areas);
    if (s.combine == Combine::rss)
        root_sum_of_squares(s.image.data(), s.space.coils, s.pixels, images);
    else
        std::copy(s.image.begin(), s.image.end(), images);
}

} // namespace mri
