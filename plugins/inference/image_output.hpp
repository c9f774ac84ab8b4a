// SPDX-License-Identifier: LGPL-2.1-or-later
// The images of a network's windows, one for each frame.
#pragma once

#include "models/common/overlap.hpp"
#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/window.hpp"
#include "plugins/math/recon/window_operator.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace mri {

/// Frames of a series out of the windows that hold them: images, and with data consistency how far each is from its
/// samples.
class ImageOutput {
  public:
    using Job = Windows<GstPtr<GstBuffer>>::Job;

    /// `frames` of a window, of kind `info`. With `noise` each image says how far it is from its samples; it is the
    /// standard deviation in a sample's real and imaginary part, 0: as the caps of the image's k-space say.
    ImageOutput(std::size_t frames, const ImageInfo& info, Blend blend, std::optional<double> noise);

    /// Whether the job's window was the last one to be computed: at its end a series may ask for the remaining frames
    /// of a window once more.
    bool holds(const Job& job) const { return computed_ == name_of(job); }
    /// Begins the job's window. True where nothing of its series was computed before.
    bool begin(const Job& job);
    /// Memory for the window that was begun: [frame] of an image's values, complex ones as two.
    std::span<float> window() noexcept { return window_; }
    /// Takes window() and, with `noise`, the residuals of its frames.
    void add(const Job& job, std::span<const WindowOperator::Residual> residuals);
    /// Writes frame `index` of that window into a buffer, which has its k-space as side data where `noise` is 0.
    void write(std::size_t index, GstBuffer* image) const;

  private:
    using Name = std::pair<std::size_t, std::size_t>; // of a window: its series, and its start there
    static Name name_of(const Job& job) { return {job.series, job.start}; }

    std::optional<double> noise_;
    Overlap images_;
    Overlap residuals_; // relative, rms
    std::vector<float> window_;
    std::optional<Name> computed_; // the window in images_
};

} // namespace mri
