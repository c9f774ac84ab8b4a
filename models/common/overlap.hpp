// SPDX-License-Identifier: LGPL-2.1-or-later
// One picture of each frame out of the windows that hold it. Pure C++.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mri {

/// Combination of the outputs of overlapping windows.
enum class Blend {
    none,  ///< the last window's alone
    mean,  ///< the mean of all windows that hold the frame
    centre ///< the same, a frame counting more the further it is from its window's edges
};

/// Weight of frame `index` of a window of `window` frames: 1 for Blend::mean, for Blend::centre 1 at the
/// window's edges and 1 more for each frame inwards. Blend::none weighs nothing: 1.
float blend_weight(Blend blend, std::size_t index, std::size_t window);

/// Adds up windows of frames as they slide along a series.
class Overlap {
  public:
    /// `frame_values` numbers make a frame.
    Overlap(std::size_t window, std::size_t frame_values, Blend blend);

    /// Adds the output of the window that begins at frame `start` of the series: [window][frame_values].
    /// Starts may only grow, until reset(). Throws Errc::format for a wrong size or a start that goes back.
    void add(std::span<const float> output, std::size_t start);
    /// Writes frame `index` of the window added last, 0 <= index < window: the weighted mean over all windows
    /// added that hold it. Throws Errc::format for a wrong size.
    void frame(std::size_t index, std::span<float> out) const;
    /// A new series.
    void reset();

  private:
    std::size_t window_;
    std::size_t frame_values_;
    Blend blend_;
    std::size_t start_ = 0;
    std::vector<float> sum_;    // [window][frame_values] of weight * output, from frame start_ on
    std::vector<float> weight_; // [window], their sum; 0 where no window was added
};

} // namespace mri
