// SPDX-License-Identifier: LGPL-2.1-or-later
// The convolutional recurrent network for Cartesian cine. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/common/sampled_window.hpp"
#include "models/files/safetensors.hpp"
#include "plugins/math/recon/window_operator.hpp"

#include <complex>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// The networks that the published code and the first product of this kind trained; they differ in their
/// cell.
enum class CrnnPreset {
    automatic, ///< what the names of the tensors say
    reference, ///< no batch normalisation; 5 iterations, hard data consistency
    seed       ///< batch normalisation with the statistics of the data; 10 iterations, tau = 0.2
};

/// Options that a weights file does not hold.
struct CrnnOptions {
    int iterations = 0; ///< each a pass of the network and a step of data consistency; they share their
                        ///< weights. 0: preset's
    /// Weight of the measured data: k = (1 - m) k + m (k + tau k0) / (1 + tau). Infinite: hard, k = (1 - m) k
    /// + m k0. Negative: the preset's.
    float tau = -1.0F;
    CrnnPreset preset = CrnnPreset::automatic;
    bool causal = false; ///< causal whatever the file says; one that says so is in any case
};

/// Qin et al., IEEE Trans Med Imaging 2019;38:280 (arXiv 1712.01751), with weights named as in their public
/// reference.
///
/// Per iteration, with the hidden states of the iteration before as second input: a layer that is recurrent
/// over frames (forwards and backwards, outputs summed), three or any other number that are recurrent over
/// iterations only, one plain convolution; a residual step; data consistency.
///
/// Preset `seed` has a batch normalisation after the ReLU inside the recurrence, over the pixels of the
/// frame, and one that all layers recurrent over iterations share, over frames and pixels; both take mean and
/// variance of the data at hand, never stored ones.
///
/// A causal network runs the cell forwards only, h_t^(i) = ReLU(i2h(x_t^(i)) + h2h(h_{t-1}^(i)) +
/// ih2ih(h_t^(i-1))) in iteration i, so that a frame needs of those before it one state of the cell for each
/// iteration. Everything else is of each frame alone: the shared normalisation takes its statistics over the
/// pixels of the frame, and conjugate gradients make their steps frame by frame. The tensors are those of the
/// network over windows, and a weights file whose metadata say `time` = `causal` is of a causal one. Weights
/// that were trained in both directions run too, though their later layers were made for the sum of two
/// passes.
class Crnn {
  public:
    /// Reads a weights file (what read_weights() reads) with bcrnn.CRNN_model.{i2h,h2h,ih2ih} (preset seed:
    /// iteration_to_hidden, hidden_to_hidden, iterationHidden_to_iterationHidden, and the normalisations
    /// bcrnn.CRNN_model.<any> and <any>), conv{1,2,3}_{x,h} and conv4_x, each .weight and .bias; filters,
    /// kernel size and number of layers are those of the file. Throws what read_weights() throws,
    /// Errc::decode naming each tensor that is missing, extra or misshapen, Errc::settings for a preset that
    /// the file is not of, and Errc::no_device.
    static Crnn load(const std::string& path, const CrnnOptions& options, const RunOptions& run);
    Crnn(const TensorFile& file, const std::string& name, const CrnnOptions& options, const RunOptions& run);

    Crnn(Crnn&&) noexcept;
    Crnn& operator=(Crnn&&) noexcept;
    ~Crnn();

    /// Reconstructs a window. All are [frames][height][width]: the aliased image, the measured coefficients
    /// of its orthonormal, unshifted FFT (0 elsewhere), and the mask (1 where measured). Output: the image.
    /// Throws Errc::format for sizes that do not fit (of a causal network also for values that are not
    /// finite, which would stay in its states), Errc::failed or Errc::no_memory out of LibTorch.
    void run(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
             std::span<const float> mask, std::span<std::complex<float>> output, const WindowShape& shape);

    /// The same from samples on any trajectory and of several coils. Data consistency is then a gradient step
    /// of length one towards them where it is hard, and else (N + 1/tau) x = b + z / tau by a few conjugate
    /// gradient steps (window_operator.hpp), which is what tau means on a grid.
    void run(const SampledWindow& window, std::span<std::complex<float>> output, const WindowShape& shape);

    /// The next frames of a stream through a causal network, as run() takes them: the states of earlier
    /// frames are kept and used, so that a frame costs a frame's work and the images are those that run()
    /// makes of all frames together. Frames of another size begin a new stream. Throws Errc::settings for a network
    /// that is not causal, Errc::failed where its states have grown beyond all bounds, and what run() throws;
    /// then the stream begins anew.
    void stream(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
                std::span<const float> mask, std::span<std::complex<float>> output, const WindowShape& shape);
    void stream(const SampledWindow& frames, std::span<std::complex<float>> output, const WindowShape& shape);
    /// Residual of each frame of the last run() or stream(): of those on a
    /// grid, as of the others, but that all weigh alike and `rms` is of the grid's coefficients.
    const std::vector<WindowOperator::Residual>& residuals() const;
    /// The next frame of stream() is the first.
    void reset();

    /// Runs a window of zeros on a grid and one on spokes, of a causal network as the frames of a stream,
    /// which then begins anew; the seconds that the second took, whose steps towards the data are the longer
    /// ones.
    double warm_up(const WindowShape& shape);

    bool causal() const;
    int filters() const;
    int iterations() const;
    CrnnPreset preset() const;
    const std::map<std::string, std::string>& metadata() const;
    std::string precision() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
