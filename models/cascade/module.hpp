// SPDX-License-Identifier: LGPL-2.1-or-later
// The cascade's arithmetic. Only for sources of models/: it includes LibTorch.
#pragma once

#include "models/cascade/cascade.hpp"
#include "models/torch/data_consistency.hpp"
#include "models/torch/trained_module.hpp"
#include "models/torch/winograd3d_autograd.hpp"

namespace mri {

/// Memory of a stream's earlier frames: of each convolution the two inputs before, of the start its
/// mean.
struct CascadeMemory {
    std::vector<at::Tensor> inputs; ///< [block * layers + layer]: [2, H, W, C]
    at::Tensor mean;                ///< [H, W, 2]
    int frames = 0;
};

class CascadeModule : public TrainedModule {
  public:
    /// Takes the tensors of `file`, which cascade_options_of() has checked.
    CascadeModule(const CascadeOptions& options, const TensorFile& file);
    /// He-uniform weights from `seed`; the last convolution of each block is 0 and that of each layer small:
    /// an untrained cascade is so many gradient steps.
    CascadeModule(const CascadeOptions& options, std::uint64_t seed);

    /// Computes with convolutions of our own from here on, in float32 on the CPU and on so many threads,
    /// where this processor has them; says whether it has. They are for training, and know no stream.
    bool use_own_convolutions(int threads);
    bool own_convolutions() const { return own_ != nullptr; }

    /// `start` is [T, H, W, 2] in float32; convolutions are computed in `type`. Returns the images, likewise.
    /// With `past`, which a causal cascade alone can use, the frames follow those before. With `cycle`, which
    /// a causal one cannot use, the first frame follows upon the last.
    at::Tensor reconstruct(const at::Tensor& start, const RadialConsistency& data, at::ScalarType type,
                           CascadeMemory* past = nullptr, bool cycle = false) const;

    const CascadeOptions& options() const { return options_; }

  private:
    at::Tensor mean_of(const at::Tensor& start, CascadeMemory* past) const;
    /// A layer and its ReLU: [T, H, W, C] to such, of the last layer the first two channels count.
    at::Tensor convolve(const at::Tensor& f, int block, int layer, CascadeMemory* past, bool cycle) const;

    CascadeOptions options_;
    std::shared_ptr<SeriesConvolution> own_; ///< null: LibTorch's
};

} // namespace mri
