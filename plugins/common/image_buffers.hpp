// SPDX-License-Identifier: LGPL-2.1-or-later
// From image buffers to the plain planes that the mathematics takes.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/math/image/magnitude.hpp"

#include <vector>

namespace mri {

/// Magnitudes [y][x] of an image buffer of any format and number of channels. Throws Errc::format when its
/// size is not that of `info`.
inline std::vector<float> magnitude_of(GstBuffer* buffer, const ImageInfo& info) {
    info.check_size(gst_buffer_get_size(buffer));
    if (info.format == SampleFormat::c64)
        return magnitude(Mapped<const cfloat>(buffer).span(), info.channels);
    return magnitude(Mapped<const float>(buffer).span(), info.channels);
}

/// Phase [y][x], likewise.
inline std::vector<float> phase_of(GstBuffer* buffer, const ImageInfo& info) {
    info.check_size(gst_buffer_get_size(buffer));
    if (info.format == SampleFormat::c64)
        return phase(Mapped<const cfloat>(buffer).span(), info.channels);
    return phase(Mapped<const float>(buffer).span(), info.channels);
}

} // namespace mri
