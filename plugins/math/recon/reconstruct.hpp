// SPDX-License-Identifier: LGPL-2.1-or-later
// From k-space frames to images: what mrigrid and mrirecon call.
#pragma once

#include "plugins/math/recon/sampled_frame.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory_kind.hpp"
#include "plugins/math/transform/cuda/device.hpp"

#include <complex>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace mri {

struct CoilCalibration; // calibration.hpp

/// Which area of k-space a sample stands for.
enum class Density {
    ramp,    ///< its share of the disc: the frame alone at its own scale (density.hpp; other trajectories:
             ///< pipe_weights)
    clipped, ///< the ramp, but never more than a strip one cycle wide
    none,    ///< no weight and no scale: the plain sum
    file     ///< as the data say
};

enum class Combine {
    none,    ///< one image a coil
    rss,     ///< root of the sum of squares: real, noise becomes an offset
    adaptive ///< complex, by sensitivities estimated from an average over frames
};

/// Constants of a series.
struct ReconstructionSpace {
    int width = 0;     ///< pixels
    int height = 0;    ///< pixels
    double aspect = 1; ///< field of view: height / width
    double over_x =
        1; ///< encoded / reconstructed field of view: Cartesian samples lie 1 / over_x cycles apart
    double over_y = 1; ///< likewise between lines
    int coils = 1;
    Trajectory trajectory = Trajectory::radial;
    double tolerance = 5e-4; ///< relative error of a transform
    double strip_limit = 1;  ///< Density::clipped: largest area of a sample over its spacing, in cycles
    int threads = 1;         ///< 0: one per core
    /// Device of the transforms, resolved by ComputeDevice::resolve(); Cartesian frames: the
    /// processor
    ComputeDevice device{};
};

/// Number of images that come out: the coils without a combination, else 1.
int combined_channels(Combine combine, int coils) noexcept;

/// Throw Errc::format for a space that cannot be computed in, and for a frame of another number of coils.
void check_space(const ReconstructionSpace& space);
void check_frame(const ReconstructionSpace& space, const SampledFrame& frame);

/// Areas of the samples in (cycles per field of view)^2, one for each of `frames` taken together in their
/// order. For Density::none all 1. Throws Errc::format when a frame has no density of its own and
/// Density::file asks for it. `pipe` remembers the areas of trajectories that are neither radial nor
/// Cartesian.
std::vector<float> sample_areas(const ReconstructionSpace& space, std::span<const SampledFrame> frames,
                                Density density, PipeWeights* pipe = nullptr);

/// Frame by frame: density compensation, adjoint transform, combination of the coils. Radial and other
/// trajectories go through the non-uniform transform; Cartesian ones through the FFT of their encoded field
/// of view, with lines that are not there left zero, samples that are there twice averaged, and the
/// oversampled rim cut off. Where the encoded field of view is no whole number of reconstructed pixels (phase
/// oversampling of any percentage) the same sum is evaluated at the pixels' places (ChirpTransform).
class FrameReconstruction {
  public:
    /// Throws Errc::settings or Errc::format for what cannot work.
    FrameReconstruction(const ReconstructionSpace& space, Density density, Combine combine);
    ~FrameReconstruction();
    FrameReconstruction(FrameReconstruction&&) noexcept;
    FrameReconstruction& operator=(FrameReconstruction&&) noexcept;

    /// Writes [channel][height][width] with combined_channels() channels. Throws Errc::format when the frame does not
    /// fit the space.
    void reconstruct(const SampledFrame& frame, cfloat* images);
    /// Resets the adaptive combination, as when the imaged plane has moved. Until then sensitivities come
    /// from the average over the first 32 frames and then a running one of each fourth; they are made again
    /// after 1, 2, 4, 8, 16 frames and then after each 16.
    void forget_coils();
    /// Sensitivities of reference lines for the adaptive combination, in place of those of the average; null: the
    /// average starts again.
    void set_calibration(std::shared_ptr<const CoilCalibration> calibration);
    /// Sensitivities that combined the last image, [coil][height][width], root sum of squares 1; empty unless
    /// several coils are combined adaptively.
    std::span<const cfloat> sensitivities() const;
    /// Another number whenever they have other values.
    std::size_t sensitivities_version() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Methods of WindowReconstruction.
enum class WindowMethod {
    background,        ///< a static background and each frame's gridded residual (background.hpp)
    sense,             ///< each frame by the coils' sensitivities (sense.hpp)
    temporal_variation ///< sparse steps along time, with the coils' sensitivities (temporal_tv.hpp)
};

struct WindowOptions {
    WindowMethod method = WindowMethod::background;
    int iterations = 6;    ///< conjugate gradient steps for the background
    int tv_iterations = 7; ///< steps of the temporal variation
    double lambda = 0.004; ///< weight of the variation, in units of the 99.5th percentile of the background
    bool cycle = false;    ///< temporal variation: the first frame follows upon the last
    int slide_iterations = 2;     ///< steps of the temporal variation in slide()
    int slide_gradient_steps = 3; ///< conjugate gradient steps in each of them
    int sense_iterations = 10;    ///< conjugate gradient steps of each frame
    double l2 = 0.03;             ///< sense.hpp
    bool from_background = true;  ///< what CG-SENSE starts from and l2 holds on to: the background, else zero
};

/// Window by window. Sensitivities for the adaptive combination come from the background, which is free of
/// streaks; those of WindowMethod::sense from the mean of the backgrounds of some 32 frames, so that windows
/// may be short.
class WindowReconstruction {
  public:
    /// `density` is ramp, clipped or file; clipped suits both methods best. Throws Errc::settings for
    /// Density::none, and for sense and temporal_variation of several coils that are not combined adaptively.
    WindowReconstruction(const ReconstructionSpace& space, Density density, Combine combine,
                         const WindowOptions& options);
    ~WindowReconstruction();
    WindowReconstruction(WindowReconstruction&&) noexcept;
    WindowReconstruction& operator=(WindowReconstruction&&) noexcept;

    /// Takes the frames of a window, which must stay until the last image is out; throws as reconstruct()
    /// does.
    void solve(std::span<const SampledFrame> frames);
    /// Temporal variation alone: goes on from the last window with a few steps. `frames` is the window now,
    /// of which the last `fresh` frames are new; the others are the newest of the last window. The
    /// background, and with it sensitivities and brightness, is solved anew whenever the window has doubled,
    /// and then after as many frames as it holds. Throws Errc::settings for another method.
    void slide(std::span<const SampledFrame> frames, std::size_t fresh);
    /// Sensitivities of reference lines for the adaptive combination of Cartesian frames, in place of the
    /// background's; null: none. With them, frames of WindowMethod::background whose lines together leave regular gaps
    /// (line_step()) are solved as WindowMethod::sense does, from the reference lines' image and not from a background,
    /// which would be aliased.
    void set_calibration(std::shared_ptr<const CoilCalibration> calibration);
    /// line_step() of the window that was solved last.
    int line_step() const;
    /// Whether its frames are solved by the coils' sensitivities.
    bool by_sense() const;
    /// Takes one frame that no other belongs with, for reconstruct(0) of WindowMethod::background: its own gridded
    /// image (Density::ramp or file), which no background blurs, or, where by_sense() says so, that of the coils'
    /// sensitivities. Throws as solve() does, Errc::settings for another method.
    void solve_alone(const SampledFrame& frame);
    /// Forgets earlier windows: the next slide() starts from nothing, and the average of WindowMethod::sense's
    /// sensitivities starts again.
    void forget();
    /// Writes frame `index` of the window: [channel][height][width].
    void reconstruct(std::size_t index, cfloat* images);
    /// Sensitivities of the last solve(), [coil][height][width]; empty for one coil or without adaptive
    /// combination.
    std::span<const cfloat> sensitivities() const;
    /// Writes the plain gridded image of frame `index` (Density::ramp), combined likewise.
    void gridded(std::size_t index, cfloat* images);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
