// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/network_start.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/recon/calibration.hpp"

namespace mri {

WindowReconstruction window_start(ReconstructionSpace space, const StartRecipe& recipe) {
    space.strip_limit = recipe.strip_limit;
    return {space, recipe.density, recipe.combine, recipe};
}

RunningBackground running_start(ReconstructionSpace space, const StartRecipe& recipe) {
    space.strip_limit = recipe.strip_limit;
    return {space, recipe.combine, recipe.background_frames};
}

NetworkStart::NetworkStart(const ReconstructionSpace& space, StartKind kind, const StartRecipe& recipe)
    : kind_(kind),
      space_(space),
      pixels_(static_cast<std::size_t>(space.width) * static_cast<std::size_t>(space.height)) {
    switch (kind) {
    case StartKind::windows:
        windows_ = window_start(space, recipe);
        break;
    case StartKind::running:
        running_ = running_start(space, recipe);
        break;
    case StartKind::gridded:
        gridded_.emplace(space, Density::ramp, recipe.combine);
        break;
    }
}

void NetworkStart::window(std::span<const SampledFrame> frames, std::span<cfloat> images) {
    if (!windows_ || images.size() != frames.size() * pixels_)
        throw Error(Errc::failed, "a network's start was asked for another window");
    windows_->solve(frames);
    ++solved_;
    step_ = windows_->line_step();
    for (std::size_t t = 0; t < frames.size(); ++t)
        windows_->reconstruct(t, images.data() + t * pixels_);
}

void NetworkStart::next(const SampledFrame& frame, std::span<cfloat> image) {
    if (windows_ || image.size() != pixels_)
        throw Error(Errc::failed, "a network's start was asked for another frame");
    if (running_)
        running_->reconstruct(frame, image.data());
    else
        gridded_->reconstruct(frame, image.data());
    step_ = gridded_ ? mri::line_step(space_, {&frame, 1}) : 1;
}

void NetworkStart::set_calibration(std::shared_ptr<const CoilCalibration> calibration) {
    if (windows_)
        windows_->set_calibration(std::move(calibration));
    else if (gridded_)
        gridded_->set_calibration(std::move(calibration));
}

std::span<const cfloat> NetworkStart::sensitivities() const {
    return windows_   ? windows_->sensitivities()
           : running_ ? running_->sensitivities()
                      : gridded_->sensitivities();
}

std::size_t NetworkStart::sensitivities_version() const {
    return windows_   ? solved_
           : running_ ? running_->sensitivities_version()
                      : gridded_->sensitivities_version();
}

void NetworkStart::forget() {
    if (windows_)
        windows_->forget();
    if (running_)
        running_->forget();
}

void NetworkStart::forget_plane() {
    forget();
    if (gridded_)
        gridded_->forget_coils();
}

std::vector<std::vector<float>> network_areas(ReconstructionSpace space, std::span<const SampledFrame> frames,
                                              double strip_limit) {
    space.strip_limit = strip_limit;
    std::vector<std::vector<float>> out;
    for (std::size_t t = 0; t < frames.size(); ++t)
        out.push_back(sample_areas(space, frames.subspan(t, 1), Density::clipped));
    return out;
}

} // namespace mri
