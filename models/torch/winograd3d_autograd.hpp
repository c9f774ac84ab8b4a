// SPDX-License-Identifier: LGPL-2.1-or-later
// winograd3d.hpp on tensors, with its gradients. Only for sources of models/: it includes LibTorch.
#pragma once

#include "models/kernels/winograd3d/winograd3d.hpp"

#include <ATen/ATen.h>
#include <memory>

namespace mri {

/// Convolutions of 3x3x3 over series of features [T, H, W, C] in float32 on the CPU, where C is
/// winograd3d::stored() of the channels. Threads share their pixels.
class SeriesConvolution {
  public:
    /// Null where the processor has no such convolutions or there are more than 256 channels.
    static std::shared_ptr<SeriesConvolution> create(int most_channels, int threads);

    /// The frames that an output frame t sees: t + reach - 2, ..., t + reach, of a cycle in the round.
    struct Time {
        int reach = 1;
        bool cycle = false;
    };
    /// `weight` is [out, in, 3, 3, 3]; the result is [T, H, W, stored(out)], without the negative ones with
    /// `relu`. Of one or two outputs it is [T, H, W, out]. Autograd follows it. What `relu` gave goes into
    /// another call with `rectified`, and nowhere else: that one's gradient passes the rectifier, on its way
    /// to memory. It is not for one or two channels.
    at::Tensor operator()(const at::Tensor& x, const at::Tensor& weight, const Time& time, bool rectified,
                          bool relu);

  private:
    struct Function;

    SeriesConvolution(const winograd3d::Winograd3dKernels& kernels, int threads)
        : kernels_(kernels), pool_(threads) {}
    at::Tensor forward(const at::Tensor& x, const std::vector<const float*>& in,
                       const winograd3d::Winograd3dWeights& weights, bool relu,
                       const at::Tensor& rectified = {});

    const winograd3d::Winograd3dKernels& kernels_;
    ThreadPool pool_;
    winograd3d::Winograd3dScratch scratch_;
};

} // namespace mri
