// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/sink.hpp"

#include "plugins/common/registration.hpp"

namespace mri {

namespace {

void log_unfinished(const Element& element) {
    GST_CAT_INFO_OBJECT(element.category(), element.gst(), "an element has failed: nothing is finished");
}

} // namespace

void Sink::set_up(Element& element) {
    auto& self = static_cast<Sink&>(element);
    gst_base_sink_set_sync(GST_BASE_SINK(self.gst()), self.sync_by_default());
}

void Sink::eos_without_buffers() {
    throw Error(Errc::failed, "The stream ended before anything came: nothing was written");
}

void Sink::install(gpointer klass) {
    auto* c = GST_BASE_SINK_CLASS(klass);
    c->start = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        self.allow_errors();
        self.came_ = false;
        self.watch_.start(self.gst());
        if (guarded(self, false, [&] { return self.start(); }))
            return TRUE;
        guarded(self, [&] { self.stop(); });
        self.watch_.stop();
        return FALSE;
    };
    c->stop = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        const bool stopped = guarded(self, [&] { self.stop(); });
        self.watch_.stop();
        return stopped;
    };
    c->set_caps = [](GstBaseSink* s, GstCaps* caps) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, [&] { self.set_caps(caps); });
    };
    c->render = [](GstBaseSink* s, GstBuffer* buffer) -> GstFlowReturn {
        auto& self = impl_of<Sink>(s);
        self.came_ = true;
        return guarded(self, GST_FLOW_ERROR, [&] { return self.render(buffer); });
    };
    c->unlock = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, [&] { self.unlock(); });
    };
    c->unlock_stop = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, [&] { self.unlock_stop(); });
    };
    c->event = [](GstBaseSink* s, GstEvent* event) -> gboolean {
        auto& self = impl_of<Sink>(s);
        const bool ok = guarded(self, [&] {
            self.event(event);
            if (GST_EVENT_TYPE(event) == GST_EVENT_EOS) {
                if (self.failed())
                    log_unfinished(self);
                else if (self.came_)
                    self.eos();
                else
                    self.eos_without_buffers();
            } else if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_STOP)
                self.flush();
        });
        if (!ok) {
            gst_event_unref(event);
            return FALSE;
        }
        return parent_of<GstBaseSinkClass>(s)->event(s, event);
    };
}

} // namespace mri
