// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/element_base.hpp"
#include "plugins/common/error_watch.hpp"

#include <gst/base/gstbasesink.h>

namespace mri {

/// The end of a pipeline, on GstBaseSink.
class Sink : public Element {
  public:
    using GstParent = GstBaseSink;
    static GType parent_type() { return GST_TYPE_BASE_SINK; }
    static void install(gpointer klass);
    static void set_up(Element& element);

    virtual bool start() { return true; }
    virtual void stop() {}
    virtual void set_caps(const GstCaps* caps) = 0;
    virtual GstFlowReturn render(GstBuffer* buffer) = 0;
    /// At EOS, before the message is posted: finish files, wait for work. Returns early after unlock(). Not called
    /// where failed(): nothing may look finished then, and stop() discards.
    virtual void eos() {}
    /// In place of eos() where no buffer has come. The default throws: nothing is written, and that is told.
    virtual void eos_without_buffers();
    virtual void event(GstEvent*) {}
    virtual void flush() {}
    virtual void unlock() {}
    virtual void unlock_stop() {}
    /// Synchronise to the clock by default?
    virtual bool sync_by_default() const { return false; }

  protected:
    /// Whether any element of the pipeline has posted an error since start().
    bool failed() const noexcept { return watch_.seen() || error_sent(); }

  private:
    ErrorWatch watch_;
    bool came_ = false; // a buffer, since start(); streaming thread
};

} // namespace mri
