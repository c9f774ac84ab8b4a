// SPDX-License-Identifier: LGPL-2.1-or-later
// JPEG 2000 codestreams by OpenJPEG, which DCMTK does not read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// An image of one component.
struct Jpeg2000Image {
    int precision = 0;                ///< bits of a sample
    std::vector<std::int32_t> pixels; ///< [y][x]
};

/// Whether this build has OpenJPEG.
bool has_jpeg2000() noexcept;

/// Decodes a codestream, or a JP2 file that holds one. Its header is read before anything is allocated.
///
/// Returns the reason in `reason` and no pixels when it is damaged, or no image of one component of
/// `width` x `height` with 1 to 16 bits.
Jpeg2000Image decode_jpeg2000(std::span<const std::uint8_t> data, int width, int height, std::string& reason);

} // namespace mri
