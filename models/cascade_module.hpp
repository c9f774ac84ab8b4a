// SPDX-License-Identifier: LGPL-2.1-or-later
// The cascade's arithmetic. Only for sources of this folder: it includes LibTorch.
#pragma once

#include "cascade.hpp"
#include "radial_consistency.hpp"
#include "unet_module.hpp"

namespace mri {

class CascadeModule : public TrainedModule {
  public:
    /// Takes the tensors of `file`, which cascade_options_of() has checked.
    CascadeModule(const CascadeOptions& options, const TensorFile& file);
    /// He-uniform weights from `seed`; the last convolution of each block is 0 and that of each layer small:
    /// an untrained cascade is so many gradient steps.
    CascadeModule(const CascadeOptions& options, std::uint64_t seed);

    /// `start` is [T, H, W, 2] in float32; convolutions are computed in `type`. Returns the
    /// images, likewise.
    at::Tensor reconstruct(const at::Tensor& start, const RadialConsistency& data, at::ScalarType type) const;

    const CascadeOptions& options() const { return options_; }

  private:
    CascadeOptions options_;
};

} // namespace mri
