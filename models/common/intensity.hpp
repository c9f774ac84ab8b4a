// SPDX-License-Identifier: LGPL-2.1-or-later
// The intensity that a network sees: one factor, no offset.
#pragma once

#include <cstddef>
#include <span>

namespace mri {

/// The scale by which a window is divided before a network: the 99.5th percentile over the pixels of the
/// image averaged over time. Unlike minimum and maximum of a window it hardly moves from one window to the
/// next, so the pictures do not flicker. `window` is [frames][pixels], magnitudes; an image that is zero
/// there gives 1. Throws Errc::format when sizes do not fit or a value is not finite.
float intensity_scale(std::span<const float> window, std::size_t frames);

/// The scale along a stream: that of its first window, kept until the gain changes, which is when a window's
/// own estimate is more than a quarter off (between windows of one series it varies by 2 to 4 % at 13
/// spokes).
class StreamScale {
  public:
    /// The scale for this window. Throws what intensity_scale() throws.
    float update(std::span<const float> window, std::size_t frames);
    /// A new series: the next window counts as the first.
    void reset() { scale_ = 0; }

  private:
    float scale_ = 0;
};

/// Name of that estimator in the metadata of weights files.
inline constexpr const char* intensity_name = "p99.5-of-time-average";

} // namespace mri
