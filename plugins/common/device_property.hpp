// SPDX-License-Identifier: LGPL-2.1-or-later
// The property device of elements that transform.
#pragma once

#include "plugins/common/element.hpp"
#include "plugins/math/transform/cuda/device.hpp"

namespace mri {

/// Where `element` computes, from what its property says; to be called in start(). A fall-back of auto is one
/// line in the log. Throws Errc::settings, or Errc::no_device when a GPU is asked for that is not there.
inline ComputeDevice device_for(Element& element, const std::string& text) {
    std::string reason;
    const ComputeDevice device = ComputeDevice::parse(text).resolve(reason);
    if (!reason.empty())
        MRI_LOG_AT(GST_LEVEL_INFO, &element, "on the processor: %s", reason.c_str());
    return device;
}

inline constexpr const char* device_blurb =
    "Where transforms are computed: cpu, cuda, cuda:N (an NVIDIA GPU), auto (a GPU where there is one)";

} // namespace mri
