// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers of buffers in their series: a buffer's offset.
#pragma once

#include "plugins/common/gst_ptr.hpp"

namespace mri {

/// Counts what goes out of a pad. One thread, that of the stream.
class SeriesCount {
  public:
    /// A new value of `series` in the caps begins a new count.
    void follow(const GstCaps* caps) {
        int series = 0;
        gst_structure_get_int(gst_caps_get_structure(caps, 0), "series", &series);
        if (series != series_)
            next_ = 0;
        series_ = series;
    }

    /// Gives the buffer its number where it has none yet: one that was computed from another has that one's.
    GstPtr<GstBuffer> number(GstPtr<GstBuffer> buffer) {
        if (!GST_BUFFER_OFFSET_IS_VALID(buffer.get())) {
            buffer = adopt(gst_buffer_make_writable(buffer.release()));
            GST_BUFFER_OFFSET(buffer.get()) = next_;
            GST_BUFFER_OFFSET_END(buffer.get()) = next_ + 1;
        }
        ++next_;
        return buffer;
    }

    void reset() { *this = {}; }

  private:
    int series_ = 0;
    guint64 next_ = 0;
};

} // namespace mri
