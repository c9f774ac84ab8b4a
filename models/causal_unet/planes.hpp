// SPDX-License-Identifier: LGPL-2.1-or-later
// The causal U-Net's inference on the processor with the convolutions of plane_convolution.hpp, wherever
// planes::kernels() has some; module.hpp does the same in LibTorch. Pure C++: no LibTorch. Buffers are kept from call to call.
#pragma once

#include "models/causal_unet/causal_unet.hpp"
#include "models/files/safetensors.hpp"
#include "models/kernels/planes/plane_convolution.hpp"
#include "plugins/math/base/threads.hpp"

#include <map>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// CausalUnetModule's arithmetic, with its memory.
class PlaneCausalUnet {
  public:
    PlaneCausalUnet(const CausalUnetOptions& options, const TensorFile& file, planes::Type type, int threads);
    /// The frames that follow: `input` is [T][H][W][2], H and W multiples of 4; `output` [T][H][W].
    void run(std::span<const float> input, std::span<float> output, int frames, int height, int width);
    /// The next frame is the first of its series.
    void reset();

  private:
    /// Inputs of a layer over time: these frames and the two before them.
    struct LayerHistory {
        planes::Frames frames;
        int first = 0; ///< place of the older one of the two
        bool begun = false;

        void prepare(int count, const planes::Layout& layout);
        planes::Word* at(int t) { return frames.frame((first + t) % frames.count()); }
        std::vector<planes::Word*> outputs(int count);
        planes::Source source(int count);
        void advance(int count);
    };
    void prepare(int frames, int height, int width);

    int filters_;
    planes::Type type_;
    ThreadPool pool_;
    std::map<std::string, std::vector<planes::Convolution>> layers_;
    LayerHistory histories_[5]; ///< conv1_1, conv2_2, conv3_3, conv4_4, conv5_5
    planes::Frames in_[3], skip_[3], up_[2], last_;
};

} // namespace mri
