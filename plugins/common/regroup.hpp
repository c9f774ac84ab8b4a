// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/element_base.hpp"
#include "plugins/common/series_count.hpp"

#include <mutex>
#include <optional>

namespace mri {

/// Regroups buffers: any number in, any number out, between one sink and one source pad.
class Regroup : public Element {
  public:
    using GstParent = GstElement;
    static GType parent_type() { return GST_TYPE_ELEMENT; }
    static void install(gpointer klass);
    static void set_up(Element& element);

    virtual void start() {}
    virtual void stop() {}
    /// New caps came (the old ones' data were drained before). Calls set_src_caps() when it can.
    virtual void set_caps(const GstCaps* caps) = 0;
    virtual GstFlowReturn chain(GstPtr<GstBuffer> buffer) = 0;
    /// Pushes what is pending: at EOS, before other caps, before a new segment and after lost data (DISCONT).
    virtual GstFlowReturn drain() { return GST_FLOW_OK; }
    /// After lost data, for whom it makes a difference.
    virtual GstFlowReturn drain_lost() { return drain(); }
    /// Forgets what is pending, at FLUSH_STOP.
    virtual void flush() {}
    /// Sees each serialised sink event that the base does not handle, before it goes on; false swallows it.
    virtual bool event(GstEvent*) { return true; }
    /// Time that the element adds between a buffer's PTS and its being pushed; nullopt while it is not known.
    virtual std::optional<GstClockTime> latency() { return GstClockTime{0}; }
    /// Caps that the element accepts given what downstream accepts; the default is the template.
    virtual GstPtr<GstCaps> sink_caps_query(GstCaps* filter);
    /// Whether caps beside the template may come in nevertheless: set_caps() then throws what is wrong with
    /// them, where upstream would only say that something was not negotiated.
    virtual bool explains(const GstCaps*) { return false; }

  protected:
    /// Sends caps downstream when they differ from the last ones.
    void set_src_caps(const GstPtr<GstCaps>& caps);
    GstFlowReturn push(GstPtr<GstBuffer> buffer);
    GstPad* sink_pad() const noexcept { return sink_pad_; }
    GstPad* src_pad() const noexcept { return src_pad_; }
    /// Whether what comes in is live.
    bool live() const;
    /// Posts a LATENCY message when latency() is not what was said last.
    void update_latency();
    /// Downstream said (QoS) that a buffer of this PTS and duration would come too late.
    bool too_late(GstBuffer* buffer);
    /// Posts a QoS message for a buffer that was not computed; both counts are since the element was made.
    void post_qos(GstBuffer* buffer, guint64 processed, guint64 dropped);

  private:
    friend struct RegroupGlue;
    GstPad* sink_pad_ = nullptr; // owned by the element
    GstPad* src_pad_ = nullptr;
    GstPtr<GstCaps> sink_current_;
    GstPtr<GstCaps> src_current_;
    SeriesCount count_;                // of what is pushed
    GstPtr<GstEvent> pending_segment_; // waits for the first source caps: caps come before the segment
    bool have_buffers_ = false;        // since the last start, flush or drain
    GstClockTime told_latency_ = GST_CLOCK_TIME_NONE; // streaming thread
    GstSegment segment_{};                            // of the sink pad; streaming thread
    std::mutex qos_mutex_;                            // guards qos_earliest_; nothing is called under it
    GstClockTime qos_earliest_ = GST_CLOCK_TIME_NONE; // running time
};

} // namespace mri
