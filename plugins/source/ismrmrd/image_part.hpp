// SPDX-License-Identifier: LGPL-2.1-or-later
// Images as receivers of MRD take them: the part of a complex image, in float or in 16-bit integers.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mri {

/// Part of an image's pixels that is stored.
enum class ImagePart { all, complex, magnitude, phase, real, imaginary };

/// Type of the stored pixels.
enum class PixelType { float32, int16 };

/// What of images of one series is stored, and how. The scale of integers and the window are those of the first image
/// that is not all zero, and stay. One series, one object.
class ImageEncoder {
  public:
    /// `complex`: the images are. Throws Errc::settings for parts that they do not have, and for complex pixels in
    /// integers.
    ImageEncoder(ImagePart part, PixelType type, bool complex);

    /// What is stored: never `all`.
    ImagePart part() const { return part_; }
    /// ISMRMRD's image_type and data_type of what is stored.
    std::uint16_t image_type() const;
    std::uint16_t data_type() const;

    /// Stored pixels of an image; valid until the next call. Integers are round(value / slope()), held to the range
    /// of 16 bits.
    std::span<const std::byte> encode(std::span<const std::complex<float>> image);
    std::span<const std::byte> encode(std::span<const float> image);

    /// Value of a stored integer's unit; 0 for float, and as long as all was zero. The scale has room for images
    /// twice as bright as the first one; that of phases is pi / 32767.
    double slope() const { return slope_; }
    /// Window of a display in stored values: up to the 99.5th percentile of the first image's magnitudes; 0 wide where
    /// there is none, as for complex images.
    double window_centre() const { return centre_; }
    double window_width() const { return width_; }
    /// Pixels of all images so far that lay outside of 16 bits.
    std::uint64_t clipped() const { return clipped_; }

  private:
    std::span<const std::byte> store();
    void look(std::vector<float> magnitudes);

    ImagePart part_;
    PixelType type_;
    bool as_is_; // real images are stored with their signs, and called magnitudes
    std::vector<std::complex<float>> complex_;
    std::vector<float> values_;
    std::vector<std::int16_t> integers_;
    double slope_ = 0, centre_ = 0, width_ = 0;
    std::uint64_t clipped_ = 0;
};

} // namespace mri
