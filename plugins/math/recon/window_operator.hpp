// SPDX-License-Identifier: LGPL-2.1-or-later
// The normal equations of a window of undersampled frames: what iterations of networks and solvers need of
// the data.
#pragma once

#include "plugins/math/base/threads.hpp"
#include "plugins/math/recon/sampled_frame.hpp"
#include "plugins/math/transform/cuda/device.hpp"

#include <complex>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace mri {

/// How often the readouts of a frame with weights lie upon each other: the largest area that its samples have in a cell
/// of one cycle, over the largest that one readout has in one. 1.0 to 1.7 for spokes that turn, whatever the limit of
/// their strips; N for N spokes at one angle, whose operator's norm is as many times too large.
double crowding(const SampledFrame& frame);
/// Above it crowding() is more than chance.
inline constexpr double crowded = 2.2;

/// With A_t the non-uniform transform of frame t, W_t the areas of its samples and S_c the sensitivities:
///
///     normal:  N x_t = 1 / (W H) sum over c of conj(S_c) A_t^H W_t A_t S_c x_t
///     right(): b_t   = 1 / (W H) sum over c of conj(S_c) A_t^H W_t y_tc
///
/// so that b - N x is minus the gradient of 1/(2 W H) sum of W |A S x - y|^2. N is self-adjoint up to float32
/// rounding, since both transforms use the same kernel. With the clipped ramp (density.hpp) its eigenvalues
/// lie near one (the areas of a crowded frame are divided by its crowding()) and a step x + b - N x is the radial analogue of replacing the measured samples. Frames are
/// shared out over threads; results do not depend on their number. One object is not for use from two threads
/// at once.
class WindowOperator {
  public:
    struct Options {
        int width = 0;           ///< pixels
        int height = 0;          ///< pixels
        double tolerance = 5e-4; ///< relative error of a transform
        int threads = 1;         ///< 0: one per core
        ComputeDevice device{};  ///< of the transforms; resolved
    };

    /// Throws Errc::settings for sizes that are not positive.
    explicit WindowOperator(const Options& options);

    /// Takes a window: trajectories and weights are copied, right() is computed from the samples. `maps` are
    /// the sensitivities [coil][y][x], copied; empty for one coil of sensitivity 1. Throws Errc::format when
    /// sizes do not fit; the window before is then lost.
    void set_window(std::span<const SampledFrame> frames, int coils, std::span<const cfloat> maps);

    std::size_t frames() const noexcept { return weights_.size(); }
    int width() const noexcept { return options_.width; }
    int height() const noexcept { return options_.height; }
    /// b: [frame][y][x].
    std::span<const cfloat> right() const noexcept { return right_; }

    /// out = N x, both [frame][y][x]. Throws Errc::format for other sizes.
    void normal(std::span<const cfloat> x, std::span<cfloat> out);
    /// Calls take(t, N x_t) for each frame, on the thread that computed it: what comes next finds it in the
    /// cache, and may change x_t. Throws as above, and what `take` throws.
    void normal(std::span<const cfloat> x,
                const std::function<void(std::size_t t, std::span<const cfloat> normal)>& take);

    /// Distance of an image from the samples of its frame.
    struct Residual {
        double relative = 0; ///< root of sum W |A S x - y|^2 over sum W |y|^2; 0 of a frame without signal
        double rms = 0; ///< root of sum W |A S x - y|^2 over coils times sum W: of a sample, in its own unit
    };
    /// Residual of each frame, from x and N x alone: sum W |A S x - y|^2 / (W H) = <x, N x> - 2 Re <x, b> + <y, W y> /
    /// (W H). `normal_x` is what normal() made of x.
    std::vector<Residual> residual(std::span<const cfloat> x, std::span<const cfloat> normal_x) const;
    /// The same of frame t alone: x and N x are [y][x].
    Residual residual(std::size_t t, std::span<const cfloat> x, std::span<const cfloat> normal_x) const;

  private:
    struct Scratch {
        std::vector<cfloat> samples, normal;
    };

    void check_size(std::size_t size, const char* what) const;
    DeviceNufft& nufft(std::size_t t);
    void adjoint(std::size_t t, const cfloat* samples, cfloat* out);
    /// N x_t
    void apply(std::size_t t, const cfloat* x, Scratch& scratch, cfloat* out);

    Options options_;
    std::size_t pixels_;
    float scale_;
    int coils_ = 1;
    ThreadPool pool_;
    std::vector<DeviceNufft> nuffts_; ///< one a frame: its points are planned once
    std::optional<DeviceNufft> lone_; ///< of a window of one frame: its coils are what threads share out
    std::vector<std::vector<float>> weights_;
    std::vector<cfloat> maps_;
    std::vector<cfloat> right_;
    std::vector<double> power_;    ///< <y, W y> / (W H) of each frame
    std::vector<double> area_;     ///< sum of W over a frame, times coils / (W H)
    std::vector<Scratch> scratch_; ///< of each thread
};

} // namespace mri
