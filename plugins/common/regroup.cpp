// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/regroup.hpp"

#include "plugins/common/registration.hpp"

namespace mri {

struct RegroupGlue {
    static Regroup& of(GstObject* parent) { return impl_of<Regroup>(parent); }

    static void set_up(Regroup& self) {
        GstElement* element = self.gst();
        auto* klass = GST_ELEMENT_GET_CLASS(element);
        self.sink_pad_ = gst_pad_new_from_template(gst_element_class_get_pad_template(klass, "sink"), "sink");
        self.src_pad_ = gst_pad_new_from_template(gst_element_class_get_pad_template(klass, "src"), "src");
        gst_pad_set_chain_function(self.sink_pad_, chain);
        gst_pad_set_event_function(self.sink_pad_, sink_event);
        gst_pad_set_query_function(self.sink_pad_, sink_query);
        gst_pad_set_event_function(self.src_pad_, src_event);
        gst_pad_set_query_function(self.src_pad_, src_query);
        gst_element_add_pad(element, self.sink_pad_);
        gst_element_add_pad(element, self.src_pad_);
        gst_segment_init(&self.segment_, GST_FORMAT_TIME);
    }

    static GstFlowReturn chain(GstPad*, GstObject* parent, GstBuffer* raw) {
        auto& self = of(parent);
        auto buffer = adopt(raw);
        return guarded(self, GST_FLOW_ERROR, [&]() -> GstFlowReturn {
            if (!self.sink_current_)
                return GST_FLOW_NOT_NEGOTIATED;
            if (GST_BUFFER_FLAG_IS_SET(buffer.get(), GST_BUFFER_FLAG_DISCONT) && self.have_buffers_) {
                const auto flow = self.drain_lost();
                if (flow != GST_FLOW_OK)
                    return flow;
            }
            self.have_buffers_ = true;
            return self.chain(std::move(buffer));
        });
    }

    static bool drained(Regroup& self) {
        self.have_buffers_ = false;
        const auto flow = guarded(self, GST_FLOW_ERROR, [&] { return self.drain(); });
        return flow == GST_FLOW_OK || flow == GST_FLOW_EOS || flow == GST_FLOW_FLUSHING ||
               flow == GST_FLOW_NOT_LINKED;
    }

    static gboolean sink_event(GstPad* pad, GstObject* parent, GstEvent* raw) {
        auto& self = of(parent);
        auto event = adopt(raw);
        const auto forward = [&] { return gst_pad_push_event(self.src_pad_, event.release()); };
        switch (GST_EVENT_TYPE(event.get())) {
        case GST_EVENT_CAPS: {
            GstCaps* caps = nullptr;
            gst_event_parse_caps(event.get(), &caps);
            if (self.sink_current_ && gst_caps_is_strictly_equal(self.sink_current_.get(), caps))
                return TRUE;
            if (!drained(self))
                return FALSE;
            self.sink_current_ = retain(caps);
            const bool ok = guarded(self, [&] { self.set_caps(caps); });
            if (!ok)
                self.sink_current_.reset();
            return ok;
        }
        case GST_EVENT_STREAM_START:
            return drained(self) ? forward() : FALSE;
        case GST_EVENT_SEGMENT:
            if (!drained(self))
                return FALSE;
            gst_event_copy_segment(event.get(), &self.segment_);
            if (!self.src_current_) {
                self.pending_segment_ = event;
                return TRUE;
            }
            return forward();
        case GST_EVENT_EOS:
            if (self.error_sent()) // of a stream that broke off here
                return TRUE;
            return drained(self) ? forward() : FALSE;
        case GST_EVENT_FLUSH_STOP:
            guarded(self, [&] { self.flush(); });
            self.have_buffers_ = false;
            gst_segment_init(&self.segment_, GST_FORMAT_TIME);
            {
                const std::lock_guard lock(self.qos_mutex_);
                self.qos_earliest_ = GST_CLOCK_TIME_NONE;
            }
            return forward();
        case GST_EVENT_FLUSH_START:
            return gst_pad_event_default(pad, parent, event.release());
        case GST_EVENT_GAP:
            // A gap inside a group says nothing that the group's own times do not say.
            if (self.have_buffers_ || !self.src_current_)
                return TRUE;
            return forward();
        default:
            if (!guarded(self, false, [&] { return self.event(event.get()); }))
                return TRUE;
            return gst_pad_event_default(pad, parent, event.release());
        }
    }

    static gboolean src_event(GstPad* pad, GstObject* parent, GstEvent* event) {
        auto& self = of(parent);
        if (GST_EVENT_TYPE(event) == GST_EVENT_QOS) {
            GstClockTimeDiff diff = 0;
            GstClockTime stamp = GST_CLOCK_TIME_NONE;
            gst_event_parse_qos(event, nullptr, nullptr, &diff, &stamp);
            const std::lock_guard lock(self.qos_mutex_);
            if (!GST_CLOCK_TIME_IS_VALID(stamp) || (diff < 0 && stamp < static_cast<GstClockTime>(-diff)))
                self.qos_earliest_ = GST_CLOCK_TIME_NONE;
            else
                self.qos_earliest_ = stamp + static_cast<GstClockTime>(diff > 0 ? 2 * diff : diff);
        }
        return gst_pad_event_default(pad, parent, event);
    }

    static gboolean sink_query(GstPad* pad, GstObject* parent, GstQuery* query) {
        auto& self = of(parent);
        if (GST_QUERY_TYPE(query) == GST_QUERY_CAPS) {
            GstCaps* filter = nullptr;
            gst_query_parse_caps(query, &filter);
            return guarded(self, FALSE, [&]() -> gboolean {
                const auto caps = self.sink_caps_query(filter);
                gst_query_set_caps_result(query, caps.get());
                return TRUE;
            });
        }
        if (GST_QUERY_TYPE(query) == GST_QUERY_ACCEPT_CAPS) {
            GstCaps* caps = nullptr;
            gst_query_parse_accept_caps(query, &caps);
            if (guarded(self, false, [&] { return self.explains(caps); })) {
                gst_query_set_accept_caps_result(query, TRUE);
                return TRUE;
            }
        }
        return gst_pad_query_default(pad, parent, query);
    }

    static gboolean src_query(GstPad* pad, GstObject* parent, GstQuery* query) {
        auto& self = of(parent);
        if (GST_QUERY_TYPE(query) == GST_QUERY_LATENCY) {
            if (!gst_pad_peer_query(self.sink_pad_, query))
                return FALSE;
            const auto added = guarded(self, std::optional<GstClockTime>(), [&] { return self.latency(); });
            if (!added)
                return FALSE;
            gboolean live = FALSE;
            GstClockTime low = 0;
            GstClockTime high = GST_CLOCK_TIME_NONE;
            gst_query_parse_latency(query, &live, &low, &high);
            gst_query_set_latency(query, live, low + *added,
                                  GST_CLOCK_TIME_IS_VALID(high) ? high + *added : GST_CLOCK_TIME_NONE);
            return TRUE;
        }
        return gst_pad_query_default(pad, parent, query);
    }

    static GstStateChangeReturn change_state(GstElement* element, GstStateChange change) {
        auto& self = impl_of<Regroup>(element);
        if (change == GST_STATE_CHANGE_READY_TO_PAUSED) {
            self.allow_errors();
            self.told_latency_ = GST_CLOCK_TIME_NONE;
            if (!guarded(self, [&] { self.start(); })) {
                guarded(self, [&] { self.stop(); });
                return GST_STATE_CHANGE_FAILURE;
            }
        }
        const auto result = parent_of<GstElementClass>(element)->change_state(element, change);
        if (change == GST_STATE_CHANGE_PAUSED_TO_READY) {
            guarded(self, [&] { self.flush(); });
            guarded(self, [&] { self.stop(); });
            self.sink_current_.reset();
            self.src_current_.reset();
            self.pending_segment_.reset();
            self.have_buffers_ = false;
            self.count_.reset();
            const std::lock_guard lock(self.qos_mutex_);
            self.qos_earliest_ = GST_CLOCK_TIME_NONE;
        }
        return result;
    }
};

void Regroup::set_up(Element& element) {
    RegroupGlue::set_up(static_cast<Regroup&>(element));
}

void Regroup::install(gpointer klass) {
    GST_ELEMENT_CLASS(klass)->change_state = RegroupGlue::change_state;
}

GstPtr<GstCaps> Regroup::sink_caps_query(GstCaps* filter) {
    auto caps = adopt(gst_pad_get_pad_template_caps(sink_pad_));
    if (filter)
        caps = adopt(gst_caps_intersect_full(filter, caps.get(), GST_CAPS_INTERSECT_FIRST));
    return caps;
}

void Regroup::set_src_caps(const GstPtr<GstCaps>& caps) {
    if (src_current_ && gst_caps_is_strictly_equal(src_current_.get(), caps.get()))
        return;
    src_current_ = caps;
    count_.follow(caps.get());
    gst_pad_push_event(src_pad_, gst_event_new_caps(caps.get()));
    if (pending_segment_)
        gst_pad_push_event(src_pad_, pending_segment_.release());
}

GstFlowReturn Regroup::push(GstPtr<GstBuffer> buffer) {
    return gst_pad_push(src_pad_, count_.number(std::move(buffer)).release());
}

bool Regroup::live() const {
    auto query = adopt(gst_query_new_latency());
    gboolean live = FALSE;
    if (gst_pad_peer_query(sink_pad_, query.get()))
        gst_query_parse_latency(query.get(), &live, nullptr, nullptr);
    return live;
}

void Regroup::update_latency() {
    const auto now = latency();
    if (!now || *now == told_latency_)
        return;
    told_latency_ = *now;
    gst_element_post_message(gst(), gst_message_new_latency(GST_OBJECT(gst())));
}

bool Regroup::too_late(GstBuffer* buffer) {
    if (!GST_BUFFER_PTS_IS_VALID(buffer))
        return false;
    GstClockTime earliest = GST_CLOCK_TIME_NONE;
    {
        const std::lock_guard lock(qos_mutex_);
        earliest = qos_earliest_;
    }
    if (!GST_CLOCK_TIME_IS_VALID(earliest))
        return false;
    GstClockTime end = GST_BUFFER_PTS(buffer);
    if (GST_BUFFER_DURATION_IS_VALID(buffer))
        end += GST_BUFFER_DURATION(buffer);
    const auto running = gst_segment_to_running_time(&segment_, GST_FORMAT_TIME, end);
    return GST_CLOCK_TIME_IS_VALID(running) && running < earliest;
}

void Regroup::post_qos(GstBuffer* buffer, guint64 processed, guint64 dropped) {
    const GstClockTime pts = GST_BUFFER_PTS(buffer);
    GstMessage* message = gst_message_new_qos(
        GST_OBJECT(gst()), FALSE, gst_segment_to_running_time(&segment_, GST_FORMAT_TIME, pts),
        gst_segment_to_stream_time(&segment_, GST_FORMAT_TIME, pts), pts, GST_BUFFER_DURATION(buffer));
    gst_message_set_qos_stats(message, GST_FORMAT_BUFFERS, processed, dropped);
    gst_element_post_message(gst(), message);
}

} // namespace mri
