// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/element_base.hpp"
#include "plugins/common/error_watch.hpp"
#include "plugins/common/series_count.hpp"

#include <gst/base/gstpushsrc.h>
#include <optional>

namespace mri {

/// A source that makes buffers in time, on GstPushSrc. Once any element of the pipeline has posted an error it sends no
/// EOS, so that no sink completes a file of a stream that broke off.
class Source : public Element {
  public:
    using GstParent = GstPushSrc;
    static GType parent_type() { return GST_TYPE_PUSH_SRC; }
    static void install(gpointer klass);
    static void set_up(Element& element);

    /// Opens; may throw. A live source says so by is_live() (asked in constructed() and at each start).
    virtual bool start() = 0;
    virtual void stop() {}
    virtual bool is_live() const { return false; }
    /// The next buffer, or an empty pointer at the end. Caps are set by set_caps() before the first one. A
    /// live source's buffers wait for the clock at their PTS (plus their duration when `wait_for_end`).
    virtual GstPtr<GstBuffer> create() = 0;
    virtual bool wait_for_end() const { return false; }
    /// Called from another thread to end a wait inside create().
    virtual void unlock() {}
    virtual void unlock_stop() {}
    /// Length of the stream when known, for progress bars.
    virtual std::optional<GstClockTime> duration() { return std::nullopt; }

  protected:
    /// Sets the caps of the buffers that follow; throws Errc::format when downstream refuses them.
    void set_caps(const GstPtr<GstCaps>& caps);
    void push_event(GstPtr<GstEvent> event);
    /// Thrown out of create() when unlock() ended a wait: becomes GST_FLOW_FLUSHING without a message.
    struct Flushing {};
    friend struct SourceGlue;

  private:
    ErrorWatch watch_;
    SeriesCount count_; // streaming thread
};

} // namespace mri
