// SPDX-License-Identifier: LGPL-2.1-or-later
// An unrolled cascade for radial cine: networks over (x, y, t) between steps towards the measured samples.
// Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/common/sampled_window.hpp"
#include "models/files/weights.hpp"

#include <complex>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// From a start x (a static background and each frame's gridded residual: background.hpp), with its mean over
/// time M, each of `blocks` does
///
///     g <- b - N x,                            the misfit (window_operator.hpp)
///     x <- x + conv(... ReLU(conv(x - M, M, g))),
///     x <- x + eta (b - N x),
///
/// on the whole field of view and on complex numbers, which are two channels: `layers` convolutions of 3x3x3
/// over (x, y, t) with `filters` channels between them, and a step size eta, all learned, each block its own.
/// Many small blocks won over few large ones, over blocks on two scales and over features carried from block
/// to block when all had the same time to learn. No layer has a bias: the network commutes with the gain of
/// the data (Mohan et al., ICLR 2020) and needs no intensity scale.
///
/// A causal cascade sees past frames only: its kernels reach two frames back in place of one to either side,
/// M is the running mean over `mean_frames`, and the steps towards the samples are those of a frame alone in
/// any case. The start is RunningBackground's (running_background.hpp).
struct CascadeOptions {
    int blocks = 12;
    int filters = 16;
    int layers = 3;
    bool causal = false;
    int mean_frames = 20;   ///< of a causal one
    double strip_limit = 1; ///< of the clipped ramp in N: cycles

    bool operator==(const CascadeOptions&) const = default;
};

inline constexpr const char* cascade_kind = "cascade"; ///< `network` in a weights file's metadata

TensorShapes cascade_tensors(const CascadeOptions& options);
/// Throws Errc::settings where an option is outside of its range.
void check_cascade_options(const CascadeOptions& options);
std::map<std::string, std::string> cascade_metadata(const CascadeOptions& options);
/// The options of a weights file. Throws Errc::decode, naming each missing, extra or misshapen tensor.
CascadeOptions cascade_options_of(const TensorFile& file, const std::string& name);

class Cascade {
  public:
    /// Reads a weights file. Throws what read_weights() and cascade_options_of() throw, and Errc::no_device.
    static Cascade load(const std::string& path, const RunOptions& run);
    Cascade(const TensorFile& file, const std::string& name, const RunOptions& run);

    Cascade(Cascade&&) noexcept;
    Cascade& operator=(Cascade&&) noexcept;
    ~Cascade();

    /// Reconstructs a window: `output` is [frame][y][x]. Returns how far each frame is from its samples.
    /// With `cycle` the first frame follows upon the last, as in a gated series of one beat; not of a causal
    /// network (Errc::settings).
    /// Throws Errc::format for sizes that do not fit or samples that are not finite, Errc::failed or
    /// Errc::no_memory out of LibTorch.
    std::vector<WindowOperator::Residual> run(const SampledWindow& window,
                                              std::span<std::complex<float>> output, const WindowShape& shape,
                                              bool cycle = false);

    /// The next frames of a stream through a causal cascade: what earlier frames computed is kept and used,
    /// so that a frame costs a frame's work and the images are those that run() makes of all frames together,
    /// to rounding. Throws Errc::settings for a network that is not causal, and what run() throws; then the
    /// stream begins anew.
    std::vector<WindowOperator::Residual>
    stream(const SampledWindow& frames, std::span<std::complex<float>> output, const WindowShape& shape);
    /// The next frame of stream() is the first.
    void reset();

    /// Runs a window of zeros on 13 spokes twice, of a causal cascade as the frames of a stream, which then
    /// begins anew; the seconds that the second run took. Throws what run() throws.
    double warm_up(const WindowShape& shape);

    const CascadeOptions& options() const;
    const std::map<std::string, std::string>& metadata() const;
    std::string precision() const;
    /// Whose convolutions: our own in bfloat16, "avx512_bf16" (convolution3d.hpp), or in float32, "avx512"
    /// and "avx2" (winograd3d.hpp), or "LibTorch".
    std::string convolutions() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
