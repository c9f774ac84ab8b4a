// SPDX-License-Identifier: LGPL-2.1-or-later
// The convolutional recurrent network for Cartesian cine. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "network.hpp"

#include <complex>
#include <limits>
#include <memory>
#include <span>
#include <string>

namespace mri {

/// What the weights file does not say.
struct CrnnOptions {
    int iterations =
        5; ///< each a pass of the network and a step of data consistency; they share their weights
    /// Weight of the measured data: k = (1 - m) k + m (k + tau k0) / (1 + tau). Infinite: hard, k = (1 - m) k
    /// + m k0.
    float tau = std::numeric_limits<float>::infinity();
};

/// Qin et al., IEEE Trans Med Imaging 2019;38:280 (arXiv 1712.01751), with weights named as in their public
/// reference.
///
/// Per iteration, with the hidden states of the iteration before as second input: a layer that is recurrent
/// over frames (forwards and backwards, outputs summed), three that are recurrent over iterations only, one
/// plain convolution; a residual step; data consistency.
class Crnn {
  public:
    /// Reads a weights file (safetensors, or a state dict of PyTorch before 1.6) with
    /// bcrnn.CRNN_model.{i2h,h2h,ih2ih}, conv{1,2,3}_{x,h} and conv4_x, each .weight and .bias; filters and
    /// kernel size are those of the file. Throws what read_weights() throws, Errc::decode naming each tensor
    /// that is missing, extra or misshapen, and Errc::no_device.
    static Crnn load(const std::string& path, const CrnnOptions& options, const RunOptions& run);
    Crnn(const TensorFile& file, const std::string& name, const CrnnOptions& options, const RunOptions& run);

    Crnn(Crnn&&) noexcept;
    Crnn& operator=(Crnn&&) noexcept;
    ~Crnn();

    /// Reconstructs a window. All are [frames][height][width]: the aliased image, the measured coefficients
    /// of its orthonormal, unshifted FFT (0 elsewhere), and the mask (1 where measured). Output: the image.
    /// Throws Errc::format for sizes that do not fit, Errc::failed or Errc::no_memory out of LibTorch.
    void run(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
             std::span<const float> mask, std::span<std::complex<float>> output, const WindowShape& shape);

    /// Runs a window of zeros twice; the seconds that the second run took.
    double warm_up(const WindowShape& shape);

    int filters() const;
    const std::map<std::string, std::string>& metadata() const;
    std::string precision() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
