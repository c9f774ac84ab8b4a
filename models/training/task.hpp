// SPDX-License-Identifier: LGPL-2.1-or-later
// Subject of the trainer's loop: a module, how a sample of a window is drawn and judged, and how a whole
// window is computed for validation. Only for sources of models/: it includes LibTorch.
#pragma once

#include "models/torch/trained_module.hpp"
#include "models/training/trainer.hpp"
#include "models/training/window_cache.hpp"

#include <ATen/ATen.h>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mri {

/// Device and type of a module's computation.
struct ComputeTarget {
    at::Device device;
    at::ScalarType type;
};

class TrainingTask {
  public:
    /// A whole validation window as it was computed, in the units of the stream, beside its truth.
    struct Judged {
        WindowShape shape;
        double loss = 0; ///< as in training
        std::vector<float> output;
        std::vector<float> truth; ///< both magnitudes [frames][height][width]
    };

    virtual ~TrainingTask() = default;

    virtual TrainedModule& module() = 0;
    /// Loss of a sample of the window; the same seed draws the same sample.
    virtual at::Tensor loss(const TrainingWindow& window, std::uint64_t seed) = 0;
    /// In how many ways each validation window is judged.
    virtual int views() const { return 1; }
    /// A window that is not varied, in one of these ways, through the module, or with `input_only` what the
    /// module starts from.
    virtual Judged judge(const TrainingWindow& window, int view, bool input_only) = 0;
    /// The parameters to begin with, out of a weights file. Throws Errc::decode where it holds another
    /// network.
    virtual std::map<std::string, NamedTensor> initial(const TensorFile& file,
                                                       const std::string& name) const = 0;
};

/// loss_of(): both are [1, 1, T, H, W].
at::Tensor loss_of(Loss kind, const at::Tensor& output, const at::Tensor& truth);

/// A network from images to images, as make_image_task() trains it.
struct ImageNetwork {
    std::unique_ptr<ImageModule> module;
    bool mean_input = false; ///< as in SampleOptions
    int running_mean = 0;    ///< likewise
    int settling_frames = 0; ///< the first frames of a series, which are not judged
};
std::unique_ptr<TrainingTask> make_image_task(const TrainOptions& options, const ComputeTarget& target,
                                              ImageNetwork network);

} // namespace mri
