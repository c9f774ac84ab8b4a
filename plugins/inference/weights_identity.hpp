// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

namespace mri {

/// Name of a weights file without its folders, and the SHA-256 of its bytes: "unet.safetensors, SHA-256 0123...". The
/// name alone where the file cannot be read (any more).
std::string weights_identity(const std::string& weights);

} // namespace mri
