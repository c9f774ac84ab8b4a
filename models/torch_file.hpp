// SPDX-License-Identifier: LGPL-2.1-or-later
// State dicts that PyTorch before 1.6 saved: four pickles, a list of storages, raw data. Pure C++.
#pragma once

#include "safetensors.hpp"

#include <cstddef>
#include <span>
#include <string>

namespace mri {

/// True when the bytes begin as such a file does.
bool is_legacy_torch(std::span<const std::byte> bytes);

/// Reads the tensors of a state dict: floating-point ones, as float32, by name. A pickle is a program; this
/// runs the few instructions that a state dict needs and calls nothing. All sizes and offsets are checked
/// against the file. Throws Errc::decode for damaged files, Errc::unsupported for other content than a state
/// dict of tensors.
TensorFile parse_legacy_torch(std::span<const std::byte> bytes, const std::string& name);

/// Reads a weights file of either kind: safetensors, or a state dict of PyTorch before 1.6.
/// Throws as read_safetensors() and parse_legacy_torch() do.
TensorFile read_weights(const std::string& path);

} // namespace mri
