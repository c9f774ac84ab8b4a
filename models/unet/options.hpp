// SPDX-License-Identifier: LGPL-2.1-or-later
// Options of a residual 3D U-Net, written into and read from a weights file. No LibTorch
// here.
#pragma once

#include "models/files/weights.hpp"

#include <map>
#include <string>
#include <vector>

namespace mri {

/// The residual 3D U-Net of Hauptmann et al., Magn Reson Med 2019;81:1143, magnitude in and magnitude out:
/// `convolutions` of them (two) a level at f, `middle` and `bottleneck` filters, 2x2x2 max pooling,
/// transposed convolutions back, out = ReLU(conv6 + input). All kernels are 3x3x3.
struct UnetOptions {
    int filters = 32;     ///< filters f of the first level
    int middle = 0;       ///< filters of the second level; 0 means 2 f (UCL's later recipe: 64, 92, 128)
    int bottleneck = 0;   ///< filters of the deepest level; 0 means 4 f
    float leak = 0.0F;    ///< slope of the activation below zero: 0 is ReLU, 0.1 is UCL's LeakyReLU
    bool up_relu = false; ///< activation after the transposed convolutions, as in the paper's figure
    /// Two input channels: the difference of the magnitude from the window's mean over time, and that mean.
    /// What moves is small beside what stands still, and bfloat16 has only 8 bits for it.
    bool mean_input = false;
    int convolutions = 2; ///< of each level, down and up

    int middle_filters() const { return middle > 0 ? middle : 2 * filters; }
    int bottleneck_filters() const { return bottleneck > 0 ? bottleneck : 4 * filters; }
    int input_channels() const { return mean_input ? 2 : 1; }
    bool operator==(const UnetOptions&) const = default;
};

inline constexpr const char* unet_kind = "unet3d"; ///< `network` in a weights file's metadata

/// The convolutions of level 1 to 5 in order, 4 and 5 on the way back: conv1, conv1_1 as in the seed's names,
/// then conv1_1_3, conv1_1_4.
std::vector<std::string> unet_level(const UnetOptions& options, int level);

/// Name and shape of each tensor of the network, in the seed's names: conv1.weight, conv1.bias,
/// conv1_1.weight, ...
TensorShapes unet_tensors(const UnetOptions& options);

/// Throws Errc::settings where an option is outside of its range (filters 1..1024, middle and
/// bottleneck up to 8192, leak 0..1, 1 to 4 convolutions).
void check_unet_options(const UnetOptions& options);

/// The options as metadata of a weights file.
std::map<std::string, std::string> unet_metadata(const UnetOptions& options);

/// The options of a weights file: from its metadata, or, where it has none (a state dict exported from
/// elsewhere), from the shapes of conv1, conv2 and conv3 and the names of level 1. Throws Errc::decode,
/// naming each missing, extra or misshapen tensor.
UnetOptions unet_options_of(const TensorFile& file, const std::string& name);

} // namespace mri
