// SPDX-License-Identifier: LGPL-2.1-or-later
// Frame by frame: a running static background plus what each frame measures beyond it. Nothing waits for
// later frames.
#pragma once

#include "plugins/math/recon/reconstruct.hpp"

#include <memory>

namespace mri {

/// The live sibling of StaticBackground, for a trajectory that rotates. With n = min(frames so far,
/// `frames`):
///     M <- M + 1 / (W H) A_t^H V_n / n (y_t - A_t M),    x_t = M + 1 / (W H) A_t^H V (y_t - A_t M).
/// V_n is the ramp clipped at strips of n cycles: in the mean over n frames each of the n times as many
/// spokes then counts as in their own ramp, and no step goes beyond the data, since 1 / n of it is a strip of
/// one cycle at most (density.hpp). These are stochastic gradient steps towards StaticBackground's solution:
/// what spokes of later frames say of the still parts goes on to improve M, and what moves fades out of it
/// over `frames`. Where a step would take M further from its samples it is shortened by the operator's norm: pictures stay
/// bounded wherever the samples lie. V is the ramp clipped at ReconstructionSpace::strip_limit. A frame costs two transforms
/// forward and two back.
class RunningBackground {
  public:
    /// `frames`: how many the background averages. Throws Errc::settings unless `frames` is above 0, and for
    /// Cartesian frames, which need no background.
    RunningBackground(const ReconstructionSpace& space, Combine combine, int frames);
    ~RunningBackground();
    RunningBackground(RunningBackground&&) noexcept;
    RunningBackground& operator=(RunningBackground&&) noexcept;

    /// Takes the next frame and writes its image, [channel][height][width] with combined_channels() channels.
    /// Throws Errc::format when the frame does not fit the space.
    void reconstruct(const SampledFrame& frame, cfloat* images);
    /// Whether a frame since forget() had a step shortened: its readouts lie so close that together they count k-space
    /// more than twice (all at one angle, say), and a whole step would go ever further from the samples.
    bool bounded() const;
    /// The next frame is the first.
    void forget();
    /// Combine::adaptive of several coils: what the last image was combined with, [coil][height][width], root
    /// sum of squares 1; else empty. They come from the background: after 1, 2, 4, 8 and 16 frames, and then
    /// every 16 frames in a thread of their own, since they take longer than a frame; each such set counts
    /// from 8 frames later on, however fast the thread was.
    std::span<const cfloat> sensitivities() const;
    /// Another number whenever they have other values.
    std::size_t sensitivities_version() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
