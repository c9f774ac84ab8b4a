// SPDX-License-Identifier: LGPL-2.1-or-later
// State dicts as PyTorch saves them: a zip of a pickle and raw data; before 1.6 four pickles, a list of
// storages and raw data. Pure C++.
#pragma once

#include "models/files/safetensors.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// True when the bytes begin as such a file does.
bool is_legacy_torch(std::span<const std::byte> bytes);

/// Reads the tensors of a state dict: floating-point ones of any width, as float32 (what is too large becomes
/// infinite: check_finite()), by name (without the prefix "module." of networks that were trained on several
/// devices; also out of a checkpoint's "state_dict" or "model_state_dict"). A pickle is a program; this runs
/// the few instructions that a state dict needs and calls nothing. All sizes and offsets are checked against
/// the file. Throws Errc::decode for damaged files, Errc::unsupported for other content than a state dict of
/// tensors.
TensorFile parse_legacy_torch(std::span<const std::byte> bytes, const std::string& name);

/// The same for a zip (PyTorch 1.6 and later). The metadata map comes back from files that format_torch()
/// made.
TensorFile parse_torch(std::span<const std::byte> bytes, const std::string& name);

/// The bytes of a state dict that torch.load(weights_only=True) reads; the metadata map rides along in an
/// entry that PyTorch does not look at.
std::vector<std::byte> format_torch(const TensorFile& file);

/// Reads a weights file of any kind: safetensors, or a state dict of PyTorch, old or new; of a checkpoint of
/// mritrain the weights as they were, the running average of them where it had one. Throws as
/// read_safetensors(), parse_legacy_torch() and parse_torch() do.
TensorFile read_weights(const std::string& path);

} // namespace mri
