// SPDX-License-Identifier: LGPL-2.1-or-later
// The networks' inference on the processor with the convolutions of plane_convolution.hpp, wherever
// planes::kernels() has some; LibTorch's way (unet_module.hpp, causal_unet_module.hpp, crnn.cpp) does the
// same elsewhere and in training. Pure C++: no LibTorch. Buffers are kept from call to call.
#pragma once

#include "models/causal_unet/causal_unet.hpp"
#include "models/files/safetensors.hpp"
#include "models/kernels/planes/plane_convolution.hpp"
#include "models/unet/options.hpp"
#include "plugins/math/base/threads.hpp"

#include <complex>
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
    struct Ring {
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
    Ring rings_[5]; ///< conv1_1, conv2_2, conv3_3, conv4_4, conv5_5
    planes::Frames in_[3], skip_[3], up_[2], last_;
};

/// The CRNN of crnn.hpp without normalisations.
class PlaneCrnn {
  public:
    /// What a causal network keeps of the frame before: the states of the cell.
    struct Past {
        planes::Frames states;   ///< one of each iteration, and a free one
        std::vector<int> places; ///< of each iteration's in `states`, then the free one's
        bool begun = false;      ///< the states are not 0
    };

    /// Names of the cell's three convolutions; `units` layers that are recurrent over iterations only.
    PlaneCrnn(const TensorFile& file, const std::string& input, const std::string& hidden,
              const std::string& iteration, int units, planes::Type type, int threads);
    /// A new window: hidden states are 0.
    void begin(int frames, int height, int width);
    /// The next frame of a causal network, which makes `iterations` steps of it. Where `past` is of frames of
    /// another size it begins anew.
    void begin(Past& past, int iterations, int height, int width);
    /// An iteration without its data consistency: `change` is what the network adds to `image`, [T][H][W].
    void step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change);
    /// The same of the frame of a causal network, `iteration` from 0 on in order.
    void step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change, Past& past,
              int iteration);

  private:
    void prepare(int frames, const planes::Layout& features);
    planes::Source before(const planes::Frames& state) const;
    void give(std::span<const std::complex<float>> image, const planes::Source& previous);
    void recur(int t, const planes::Word* hidden, planes::Word* out);
    void after_cell(planes::Source cell, std::span<std::complex<float>> change);

    planes::Type type_;
    ThreadPool pool_;
    int filters_;
    std::vector<planes::Convolution> layers_; ///< given, hidden, units, last
    planes::Frames image_, given_, back_, change_;
    std::vector<planes::Frames> states_; ///< of the cell over a window, then of the units
    bool first_ = true;                  ///< the states are 0
};

} // namespace mri
