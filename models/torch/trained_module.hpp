// SPDX-License-Identifier: LGPL-2.1-or-later
// Networks whose parameters are LibTorch's tensors, for inference and for training. Only for sources of models/: it
// includes LibTorch.
#pragma once

#include "models/files/weights.hpp"

#include <ATen/ATen.h>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace mri {

/// Parameters by name.
class TrainedModule {
  public:
    virtual ~TrainedModule() = default;

    /// Moves the parameters; convolutions are fastest with the channels innermost.
    void to(const at::Device& device, at::ScalarType type);

    std::map<std::string, at::Tensor>& parameters() { return parameters_; }
    const std::map<std::string, at::Tensor>& parameters() const { return parameters_; }
    /// A copy of the parameters as float32 in memory.
    std::map<std::string, NamedTensor> tensors() const;

  protected:
    TrainedModule() = default;
    TrainedModule(TrainedModule&&) = default;
    TrainedModule& operator=(TrainedModule&&) = default;

    /// Takes the tensors of `file`, which were checked.
    void take(const TensorShapes& shapes, const TensorFile& file);
    void set(const std::string& name, const NamedTensor& tensor);
    static NamedTensor zeros(const std::vector<std::int64_t>& shape);
    /// He et al., ICCV 2015: uniform, of variance 2 / ((1 + leak^2) inputs).
    static NamedTensor he_uniform(const std::vector<std::int64_t>& shape, double inputs, float leak,
                                  std::mt19937_64& random);

  private:
    std::map<std::string, at::Tensor> parameters_;
};

/// A network from images to images. Autograd follows the forward pass when the parameters ask for gradients.
class ImageModule : public TrainedModule {
  public:
    /// `input` is [N, channels, T, H, W] in float32; computes in `type` (parameters are cast when they are
    /// kept in another one, and the cast is differentiable). Returns magnitudes as float32, [N, 1, T, H, W].
    virtual at::Tensor forward(const at::Tensor& input, at::ScalarType type) const = 0;
};

/// Copies between float tensors and memory.
at::Tensor to_torch(const NamedTensor& tensor);
NamedTensor from_torch(const at::Tensor& tensor);

} // namespace mri
