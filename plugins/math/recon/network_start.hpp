// SPDX-License-Identifier: LGPL-2.1-or-later
// The images that a network begins with: one recipe for mrirecon and mrigrid, for the networks' elements, and for
// training.
#pragma once

#include "plugins/math/recon/reconstruct.hpp"
#include "plugins/math/recon/running_background.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace mri {

/// Recipe of a network's starting images; the defaults are the recipe of the shipped weights. A network that meets other
/// images than it was trained on is worse, and nothing says so.
struct StartRecipe : WindowOptions {
    Combine combine = Combine::adaptive;
    Density density = Density::clipped;
    /// Strip limit of each frame's residual, in cycles: wider than one, because a background took the still parts.
    double strip_limit = 2;
    /// Frames that a running background averages.
    int background_frames = 20;
};

/// `space` with the recipe's strip limit. Throw what the classes' constructors throw.
WindowReconstruction window_start(ReconstructionSpace space, const StartRecipe& recipe = {});
RunningBackground running_start(ReconstructionSpace space, const StartRecipe& recipe = {});

/// Which of a scan's frames an image is made of.
enum class StartKind {
    windows, ///< those of its window: a static background and the frame's residual
    running, ///< itself and those before it: a running background and the frame's residual
    gridded  ///< itself: each frame by its own density, for Cartesian frames
};

/// Frames to images [y][x] of all coils together, by the recipe.
class NetworkStart {
  public:
    /// Throws Errc::settings or Errc::format for what cannot work.
    NetworkStart(const ReconstructionSpace& space, StartKind kind, const StartRecipe& recipe = {});

    StartKind kind() const noexcept { return kind_; }

    /// StartKind::windows only: writes the images of a window's frames, [frame][y][x]. Throws Errc::format for
    /// frames that do not fit the space, Errc::failed for another kind or size.
    void window(std::span<const SampledFrame> frames, std::span<cfloat> images);
    /// The other kinds only: takes the next frame and writes its image, [y][x]. Throws likewise.
    void next(const SampledFrame& frame, std::span<cfloat> image);

    /// Sensitivities of reference lines, for Cartesian frames; null: none. See WindowReconstruction and
    /// FrameReconstruction.
    void set_calibration(std::shared_ptr<const CoilCalibration> calibration);
    /// line_step() of the last window; 1 for StartKind::running, of the last frame for StartKind::gridded.
    int line_step() const noexcept { return step_; }
    /// RunningBackground::bounded().
    bool bounded() const { return running_ && running_->bounded(); }
    /// Whether the frames of the last window were solved by the coils' sensitivities.
    bool by_sense() const { return windows_ && windows_->by_sense(); }

    /// Sensitivities that combined the last images, [coil][y][x], root sum of squares 1; empty for one coil.
    std::span<const cfloat> sensitivities() const;
    /// Another number whenever they may have other values.
    std::size_t sensitivities_version() const;
    /// The next frame has none before it: a new series, or data were lost.
    void forget();
    /// Likewise, and the imaged plane is another: its sensitivities hold no longer.
    void forget_plane();

  private:
    StartKind kind_;
    ReconstructionSpace space_;
    std::size_t pixels_;
    int step_ = 1;
    std::size_t solved_ = 0;                      // windows
    std::optional<WindowReconstruction> windows_; // one of these three
    std::optional<RunningBackground> running_;
    std::optional<FrameReconstruction> gridded_;
};

/// Areas of each frame's samples as networks weigh them: the ramp, clipped at strips of `strip_limit` cycles.
std::vector<std::vector<float>> network_areas(ReconstructionSpace space, std::span<const SampledFrame> frames,
                                              double strip_limit);

} // namespace mri
