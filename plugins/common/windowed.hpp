// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/metas.hpp"
#include "plugins/common/regroup.hpp"
#include "plugins/common/window.hpp"

#include <atomic>
#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

namespace mri {

/// Computes frames in windows. They come out one for one, in order, with their PTS and metas.
class Windowed : public Regroup {
  public:
    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override;
    GstFlowReturn drain() override;
    void flush() override;
    std::optional<GstClockTime> latency() final;

  protected:
    using Frames = Windows<GstPtr<GstBuffer>>;
    /// Called in start() or set_caps(): the schedule of what follows. Throws Errc::settings.
    void set_window(std::size_t window, std::size_t hop, Emit emit = Emit::central);
    /// Frame duration for the latency (GST_CLOCK_TIME_NONE: not known) and measured time of a window.
    void set_timing(GstClockTime frame, GstClockTime compute);
    /// Computes frames first..first+count-1 of the window: one output buffer each, in order, made with
    /// new_output(). The base pushes them.
    virtual std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) = 0;
    /// Whether a window is left out when all frames that it emits would come too late (QoS). Otherwise it is
    /// computed, for what follows, and not pushed.
    virtual bool leaves_late_out() const { return true; }
    /// A buffer of `bytes` with the time stamps and metas of the window's item `index`; side data added later
    /// replace those of the input.
    static GstPtr<GstBuffer> new_output(const Frames::Job& job, std::size_t index, std::size_t bytes) {
        auto buffer = new_buffer<std::byte>(bytes);
        copy_metas(buffer.get(), job.items.at(index).get());
        return buffer;
    }
    /// Checks a buffer on entry; throws.
    virtual void check(GstBuffer*) {}
    std::size_t pending() const { return windows_ ? windows_->pending() : 0; }

    /// Frames that were not pushed because they would have come too late (QoS). Each such window is told by a
    /// QoS message, and the frame that comes after it is marked DISCONT.
    guint64 skipped() const noexcept { return skipped_; }
    /// Whether all frames that the job emits would come too late.
    bool all_late(const Frames::Job& job);
    /// Counts and tells that they are not pushed.
    void skip(const Frames::Job& job);

  private:
    GstFlowReturn run(const Frames::Job& job);
    std::atomic<guint64> skipped_{0};
    guint64 emitted_ = 0;           // frames; streaming thread
    bool after_skip_ = false;       // streaming thread
    std::optional<Frames> windows_; // streaming thread
    std::mutex timing_mutex_;       // guards the three below; nothing is called under it
    GstClockTime frame_ = GST_CLOCK_TIME_NONE;
    GstClockTime compute_ = 0;
    std::size_t wait_ = 0;
};

} // namespace mri
