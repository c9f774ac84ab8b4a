// SPDX-License-Identifier: LGPL-2.1-or-later
// The U-Net's arithmetic in LibTorch, for training and where there are no convolutions of our own. Only for sources
// of models/: it includes LibTorch.
#pragma once

#include "models/torch/trained_module.hpp"
#include "models/unet/options.hpp"

#include <ATen/ATen.h>
#include <cstdint>

namespace mri {

class UnetModule : public ImageModule {
  public:
    /// Takes the tensors of `file`, which unet_options_of() has checked.
    UnetModule(const UnetOptions& options, const TensorFile& file);
    /// He-uniform weights from `seed`, biases 0, and conv6 all 0: an untrained network gives back its input.
    UnetModule(const UnetOptions& options, std::uint64_t seed);

    /// T, H, W are multiples of 4. Returns ReLU(conv6 + magnitude); the magnitude is the sum of the input's
    /// channels.
    at::Tensor forward(const at::Tensor& input, at::ScalarType type) const override;

    const UnetOptions& options() const { return options_; }

  private:
    at::Tensor activate(at::Tensor x) const;
    at::Tensor convolve(const char* layer, const at::Tensor& x, at::ScalarType type) const;
    at::Tensor up(const char* layer, const at::Tensor& x, at::ScalarType type) const;

    UnetOptions options_;
};

} // namespace mri
