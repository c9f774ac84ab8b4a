// SPDX-License-Identifier: LGPL-2.1-or-later
// What the trainer's loop trains: a module, how a sample of a window is drawn and judged, and how a whole
// window is computed for validation. Only for sources of this folder: it includes LibTorch.
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
    /// What names the network in a weights file, and how its input is scaled.
    virtual std::map<std::string, std::string> metadata() const = 0;
};

/// loss_of(): both are [1, 1, T, H, W].
at::Tensor loss_of(Loss kind, const at::Tensor& output, const at::Tensor& truth);

/// The task that the options describe.
std::unique_ptr<TrainingTask> make_image_task(const TrainOptions& options, const at::Device& device,
                                              at::ScalarType type);
std::unique_ptr<TrainingTask> make_cascade_task(const TrainOptions& options, const at::Device& device,
                                                at::ScalarType type);

} // namespace mri
