// SPDX-License-Identifier: LGPL-2.1-or-later
// The U-Net's inference on the processor with the convolutions of plane_convolution.hpp, wherever planes::kernels() has
// some; module.hpp does the same in LibTorch. Pure C++: no LibTorch. Buffers are kept from call to call.
#pragma once

#include "models/files/safetensors.hpp"
#include "models/kernels/planes/plane_convolution.hpp"
#include "models/unet/options.hpp"
#include "plugins/math/base/threads.hpp"

#include <map>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// UnetModule's arithmetic.
class PlaneUnet {
  public:
    /// The tensors of `file` have been checked; `threads` 0: one per core.
    PlaneUnet(const UnetOptions& options, const TensorFile& file, planes::Type type, int threads);
    /// `input` is [T][H][W][channels], T, H and W multiples of 4; `output` [T][H][W].
    void run(std::span<const float> input, std::span<float> output, int frames, int height, int width);

  private:
    void prepare(int frames, int height, int width);

    UnetOptions options_;
    planes::Type type_;
    ThreadPool pool_;
    std::map<std::string, std::vector<planes::Convolution>> layers_;
    /// Levels 1 to 3: what was pooled (of level 1 the input), the skip, and two that come and go.
    planes::Frames in_[3], skip_[3], a_[3], b_[3], last_;
};

} // namespace mri
