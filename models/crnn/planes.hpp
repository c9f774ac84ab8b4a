// SPDX-License-Identifier: LGPL-2.1-or-later
// The CRNN's inference on the processor with the convolutions of plane_convolution.hpp, wherever planes::kernels() has
// some; crnn.cpp does the same in LibTorch. Pure C++: no LibTorch. Buffers are kept from call to call.
#pragma once

#include "models/files/safetensors.hpp"
#include "models/kernels/planes/plane_convolution.hpp"
#include "plugins/math/base/threads.hpp"

#include <complex>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// Memory of a causal network: the cell's states in the frame before.
struct PlaneCrnnMemory {
    planes::Frames states;   ///< one of each iteration, and a free one
    std::vector<int> places; ///< of each iteration's in `states`, then the free one's
    bool begun = false;      ///< the states are not 0
};

/// The CRNN of crnn.hpp without normalisations.
class PlaneCrnn {
  public:
    /// Names of the cell's three convolutions; `units` layers that are recurrent over iterations only.
    PlaneCrnn(const TensorFile& file, const std::string& input, const std::string& hidden,
              const std::string& iteration, int units, planes::Type type, int threads);
    /// A new window: hidden states are 0.
    void begin(int frames, int height, int width);
    /// The next frame of a causal network, which makes `iterations` steps of it. Where `past` is of frames of
    /// another size it begins anew.
    void begin(PlaneCrnnMemory& past, int iterations, int height, int width);
    /// An iteration without its data consistency: `change` is what the network adds to `image`, [T][H][W].
    void step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change);
    /// The same of the frame of a causal network, `iteration` from 0 on in order.
    void step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change,
              PlaneCrnnMemory& past, int iteration);

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
