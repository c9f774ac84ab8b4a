// SPDX-License-Identifier: LGPL-2.1-or-later
// Layout of a CRNN, read from the names and shapes of its weights. Pure C++.
#pragma once

#include "models/crnn/crnn.hpp"

#include <cstdint>
#include <set>
#include <string>

namespace mri {

inline constexpr const char* crnn_kind = "crnn"; ///< `network` in a weights file's metadata

struct CrnnLayout {
    CrnnPreset preset = CrnnPreset::reference;
    std::int64_t filters = 0;
    std::int64_t kernel = 0;
    int units = 0;                        ///< layers that are recurrent over iterations only
    std::string input, hidden, iteration; ///< names of the cell's convolutions
    std::string cell_norm, shared_norm;   ///< of the normalisations; empty: none
    bool causal = false;                  ///< what the file says of itself
};

/// Checks names, shapes and values. Throws Errc::decode, naming each tensor that is missing, extra or
/// misshapen.
CrnnLayout crnn_layout_of(const TensorFile& file, const std::string& name);

/// Whether a tensor is the weight, bias or the like of one of `layers`.
bool belongs_to(const std::string& tensor, const std::set<std::string>& layers);

} // namespace mri
