// SPDX-License-Identifier: LGPL-2.1-or-later
// Pixels of the images in a DICOM file: their form, and the images as floats.
#pragma once

#include "plugins/source/dicom/dataset.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mri {

/// Meaning of stored values, the same for all images of a file.
struct PixelFormat {
    int width = 0, height = 0;
    int frames = 1;
    int bits_allocated = 0, bits_stored = 0, high_bit = 0;
    bool is_signed = false, inverted = false;
    std::optional<std::pair<int, int>> padding; ///< stored values from first to second are no signal
};

/// Reads the form and checks that the pixel data can hold it, without decoding them. Throws DicomUnusable:
/// no_image for what is none, unreadable for what is damaged or in a form that is not supported.
PixelFormat read_pixel_format(DcmDataset& data);

/// A file that is open for its images.
class DicomPixels {
  public:
    /// Throws DicomUnusable.
    explicit DicomPixels(const std::string& path);

    const std::string& path() const { return path_; }
    const PixelFormat& format() const { return format_; }

    /// Decodes image `frame.index` into float [height][width]. Throws DicomUnusable.
    void read(const DicomFrame& frame, float* out);

  private:
    std::vector<std::uint16_t> stored_values(int index, int& bits);

    std::string path_;
    std::unique_ptr<DcmFileFormat> file_;
    PixelFormat format_;
};

} // namespace mri
