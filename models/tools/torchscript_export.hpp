// SPDX-License-Identifier: LGPL-2.1-or-later
// Our networks as TorchScript modules. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/files/safetensors.hpp"

#include <string>

namespace mri {

/// Writes the network of a weights file as a TorchScript module whose state dict has the file's names. It
/// computes in float32.
///
/// U-Net: magnitude [1, 1, T, H, W] in and out, T, H and W multiples of 4, already divided by the intensity
/// scale. Causal U-Net: the same axes, T any, no scale; frame 0 is the first of its series. Both get a
/// description beside them (path + ".modelinfo"), so that mritorch runs them.
///
/// CRNN: (x, k, m) -> x as in Qin et al.'s public reference, each [N, 2, H, W, T] with real and imaginary
/// part as channels: aliased image, measured coefficients of its orthonormal, unshifted FFT, mask. Iterations
/// and data consistency are those of the file's preset, and it is causal where the file's metadata say so.
/// No description: mritorch has one input.
///
/// Throws what reads the options of each network (unet_options_of() and the like) throws, Errc::unsupported
/// for a cascade, whose data consistency is this product's gridding, and for tensors whose names are more than letters,
/// digits, "_" and ".", Errc::open_write and Errc::write.
void write_torchscript(const std::string& path, const TensorFile& weights, const std::string& name);

} // namespace mri
