// SPDX-License-Identifier: LGPL-2.1-or-later
// The U-Net's arithmetic. Only for sources of this folder: it includes LibTorch.
#pragma once

#include "unet.hpp"

#include <ATen/ATen.h>
#include <map>
#include <string>

namespace mri {

/// Parameters by name and the forward pass. Autograd follows it when the parameters ask for gradients.
class UnetModule {
  public:
    /// Takes the tensors of `file`, which unet_options_of() has checked.
    UnetModule(const UnetOptions& options, const TensorFile& file);
    /// He-uniform weights from `seed`, biases 0, and conv6 all 0: an untrained network gives back its input.
    UnetModule(const UnetOptions& options, std::uint64_t seed);

    /// Moves the parameters; convolutions are fastest with the channels innermost.
    void to(const at::Device& device, at::ScalarType type);

    /// `input` is [N, channels, T, H, W] with T, H, W multiples of 4; computes in `type` (parameters are cast
    /// when they are kept in another one, and the cast is differentiable). Returns ReLU(conv6 + magnitude)
    /// as float32, [N, 1, T, H, W]; the magnitude is the sum of the input's channels.
    at::Tensor forward(const at::Tensor& input, at::ScalarType type) const;

    std::map<std::string, at::Tensor>& parameters() { return parameters_; }
    const std::map<std::string, at::Tensor>& parameters() const { return parameters_; }
    const UnetOptions& options() const { return options_; }
    /// A copy of the parameters as float32 in memory.
    std::map<std::string, NamedTensor> tensors() const;

  private:
    at::Tensor activate(at::Tensor x) const;
    at::Tensor convolve(const char* layer, const at::Tensor& x, at::ScalarType type) const;
    at::Tensor up(const char* layer, const at::Tensor& x, at::ScalarType type) const;

    UnetOptions options_;
    std::map<std::string, at::Tensor> parameters_;
};

/// Copies between float tensors and memory.
at::Tensor to_torch(const NamedTensor& tensor);
NamedTensor from_torch(const at::Tensor& tensor);

} // namespace mri
