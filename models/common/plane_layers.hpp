// SPDX-License-Identifier: LGPL-2.1-or-later
// Layers of networks made of the convolutions of plane_convolution.hpp. Pure C++: no LibTorch.
#pragma once

#include "models/files/safetensors.hpp"
#include "models/kernels/planes/plane_convolution.hpp"
#include "plugins/math/base/threads.hpp"

#include <span>
#include <string>
#include <vector>

namespace mri::planes {

/// Part of a layer's weights for one source: `channels` of a weight [out][in]([t])[y][x] from `first` on.
struct WeightPart {
    const NamedTensor* weight;
    int first, channels;
};

/// The layer's `.bias` in the file; empty where there is none.
std::vector<float> bias_of(const TensorFile& file, const std::string& layer);

/// A convolution that keeps the size, of one source for each part; `causal`: over the frames before instead of
/// those around. `slope` is the activation's below zero: 1 is none.
Convolution convolution(Type type, const std::vector<WeightPart>& parts, std::vector<float> bias, float slope,
                        bool causal = false);
/// The same of the layer's `.weight` and `.bias` in the file, of one source.
Convolution convolution(Type type, const TensorFile& file, const std::string& layer, float slope,
                        bool causal = false);
/// The same over what was concatenated: the up-sampled half and the skipped one.
Convolution joining(Type type, const TensorFile& file, const std::string& layer, float slope);

/// A transposed convolution of stride 2, weight [in][out]([t])[y][x]: one convolution for each parity of (t),
/// y, x, in this order. Kernels of 3 have a padding of 1, those of 2 none.
std::vector<Convolution> transposed(Type type, const TensorFile& file, const std::string& layer, float slope);

/// All frames as a layer's source.
Source source_of(const Frames& frames);

/// Runs a layer of one convolution.
void run(ThreadPool& pool, std::vector<Convolution>& layer, const std::vector<Source>& sources, Frames& out);
/// Runs a layer of transposed().
void run_up(ThreadPool& pool, std::vector<Convolution>& layer, const Source& source, Frames& out);

/// Makes new frames where these are of another shape; returns whether they were.
bool fit(Frames& frames, int count, const Layout& layout);

/// Copies `input` [t][y][x][channels] into the frames.
void set_frames(ThreadPool& pool, Frames& frames, std::span<const float> input);

/// output [t][y][x] = ReLU(change + magnitude), the magnitude being the sum of a pixel's `channels` of `input`.
void add_magnitude(ThreadPool& pool, const Frames& change, std::span<const float> input,
                   std::span<float> output, int channels);

} // namespace mri::planes
