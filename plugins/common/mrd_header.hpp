// SPDX-License-Identifier: LGPL-2.1-or-later
// What elements behind the source need of the MRD header.
#pragma once

#include <string>

namespace mri {

/// encodingLimits of the first encoding: the maximum of each index; 0 where the header has none.
struct HeaderLimits {
    int slice = 0;
    int phase = 0;
    int repetition = 0;
    double noise_bandwidth = 0; ///< relativeReceiverNoiseBandwidth; 0 where there is none above 0
};

/// Throws Errc::decode when the text is no well-formed XML.
HeaderLimits parse_header_limits(const std::string& xml);

} // namespace mri
