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

/// Metadata of a state dict that lay in a checkpoint: the entries that lead to it ("model/state_dict"), and others
/// that lead to tensors too and were not taken ("ema, params").
inline constexpr const char* state_dict_key = "state-dict";
inline constexpr const char* other_state_dicts_key = "other-state-dicts";

/// Reads the tensors of a state dict: floating-point ones of any width, as float32 (what is too large becomes
/// infinite: check_finite()), by name.
///
/// In a checkpoint the state dict is looked for under model, state_dict, model_state_dict, net, network, generator,
/// ema and params, in this order, also in one of them inside another; the first that holds tensors is taken, and the
/// metadata say which (state_dict_key, other_state_dicts_key). Anything beside it (arguments, paths, numpy's numbers,
/// optimisers) is passed over.
///
/// A pickle is a program, of protocol 2 to 5; this runs the few instructions that a state dict needs and calls nothing.
/// All sizes and offsets are checked against the file; memory beside the file's bytes is at most three times these and
/// 64 MB. Throws Errc::decode for damaged files, Errc::unsupported for other content than a state dict of tensors,
/// Errc::no_memory for pickles of too many values.
TensorFile parse_legacy_torch(std::span<const std::byte> bytes, const std::string& name);

/// The same for a zip (PyTorch 1.6 and later). The metadata map comes back from files that format_torch()
/// made.
TensorFile parse_torch(std::span<const std::byte> bytes, const std::string& name);

/// The bytes of a state dict that torch.load(weights_only=True) reads; the metadata map rides along in an
/// entry that PyTorch does not look at.
std::vector<std::byte> format_torch(const TensorFile& file);

/// Reads a weights file of any kind: safetensors, or a state dict of PyTorch, old or new; of a checkpoint of
/// mritrain the weights as they were, the running average of them where it had one. Names come without what trainings
/// put around a network: "module." and "model." in front, in any order and number, "_orig_mod." anywhere. Throws as
/// read_safetensors(), parse_legacy_torch() and parse_torch() do, and Errc::decode where two names become one.
TensorFile read_weights(const std::string& path);

} // namespace mri
