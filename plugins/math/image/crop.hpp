// SPDX-License-Identifier: LGPL-2.1-or-later
// Position of the heart, and a rectangle cut out of an image. Pure C++.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mri {

/// A rectangle inside an image, in pixels.
struct CropBox {
    int x = 0, y = 0, width = 0, height = 0;
    bool operator==(const CropBox&) const = default;
};

/// The rectangle of at most width x height (0: the whole edge) whose origin pixel (N/2) is that of the image.
CropBox centre_box(int image_width, int image_height, int width, int height);

/// The rectangle of at most width x height centred on (x, y), moved as little as needed to lie inside the
/// image.
CropBox box_around(double x, double y, int image_width, int image_height, int width, int height);

/// Copies `box` of each of `channels` planes of image_width x image_height elements of `element` bytes.
/// Throws Errc::format when the spans or the box do not fit.
void crop(std::span<const std::byte> image, int image_width, int image_height, int channels,
          std::size_t element, const CropBox& box, std::span<std::byte> out);

/// Finds what moves: the centre of mass of the temporal standard deviation of the magnitudes.
///
/// Only pixels above a quarter of the deviation's 99.5th percentile weigh, so that noise and aliasing spread
/// over the whole field of view do not pull the centre to the middle. Two sums per pixel are kept, whatever
/// the number of frames.
class MotionCentre {
  public:
    MotionCentre(int width, int height);

    /// Adds a frame of width * height magnitudes. Throws Errc::format on another size.
    void add(std::span<const float> magnitude);

    int frames() const { return frames_; }

    struct Point {
        double x, y; ///< pixels
    };
    /// The centre; the image's own (N/2) when nothing moves or fewer than two frames were added.
    Point centre() const;

  private:
    int width_, height_, frames_ = 0;
    std::vector<double> mean_, square_; // Welford's running mean and sum of squared deviations
};

} // namespace mri
