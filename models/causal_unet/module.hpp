// SPDX-License-Identifier: LGPL-2.1-or-later
// The causal U-Net's arithmetic. Only for sources of models/: it includes LibTorch.
#pragma once

#include "models/causal_unet/causal_unet.hpp"
#include "models/torch/trained_module.hpp"

#include <ATen/ATen.h>
#include <map>
#include <string>

namespace mri {

inline constexpr std::int64_t causal_taps = 3; ///< frames that a layer over time sees

/// Memory of the frames so far: the last `causal_taps` - 1 inputs of each layer over time,
/// [frames, channels, H, W]. Empty before the first frame of a series.
struct CausalUnetMemory {
    std::map<std::string, at::Tensor> layers;
};

class CausalUnetModule : public ImageModule {
  public:
    /// Takes the tensors of `file`, which causal_unet_options_of() has checked.
    CausalUnetModule(const CausalUnetOptions& options, const TensorFile& file);
    /// He-uniform weights from `seed`, and conv6 all 0: an untrained network gives back its input.
    CausalUnetModule(const CausalUnetOptions& options, std::uint64_t seed);

    /// `input` is [1, 2, T, H, W], difference and running mean, with H and W multiples of 4; computes in
    /// `type`. Returns ReLU(conv6 + magnitude) as float32, [1, 1, T, H, W]. `memory` holds the frames before
    /// and takes these; without one (and where it is empty) frame 0 is the first: to each layer it is as if
    /// that frame had always been there.
    at::Tensor forward(const at::Tensor& input, at::ScalarType type, CausalUnetMemory* memory) const;
    at::Tensor forward(const at::Tensor& input, at::ScalarType type) const override {
        return forward(input, type, nullptr);
    }

    const CausalUnetOptions& options() const { return options_; }

  private:
    CausalUnetOptions options_;
};

} // namespace mri
