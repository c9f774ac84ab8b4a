// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/source.hpp"

#include "plugins/common/registration.hpp"

namespace mri {

struct SourceGlue {
    static GstPadProbeReturn hold_eos(GstPad*, GstPadProbeInfo* info, gpointer source) {
        const auto& self = *static_cast<Source*>(source);
        const bool eos = GST_EVENT_TYPE(gst_pad_probe_info_get_event(info)) == GST_EVENT_EOS;
        return eos && (self.watch_.seen() || self.error_sent()) ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
    }
    /// After another element's error GstBaseSrc adds "Internal data stream error", which says nothing more.
    static gboolean post_message(GstElement* e, GstMessage* message) {
        const auto& self = impl_of<Source>(e);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR && GST_MESSAGE_SRC(message) == GST_OBJECT(e)) {
            GError* error = nullptr;
            gst_message_parse_error(message, &error, nullptr);
            const bool general = g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED);
            g_error_free(error);
            if (self.error_sent() || (general && self.watch_.seen())) {
                gst_message_unref(message);
                return TRUE;
            }
        }
        return parent_of<GstElementClass>(e)->post_message(e, message);
    }
    static GstFlowReturn create(GstPushSrc* src, GstBuffer** out) {
        auto& self = impl_of<Source>(src);
        return guarded(self, GST_FLOW_ERROR, [&] {
            try {
                auto buffer = self.create();
                if (!buffer)
                    return GST_FLOW_EOS;
                *out = self.count_.number(std::move(buffer)).release();
                return GST_FLOW_OK;
            } catch (const Source::Flushing&) {
                return GST_FLOW_FLUSHING;
            }
        });
    }
};

void Source::set_up(Element& element) {
    gst_base_src_set_format(GST_BASE_SRC(element.gst()), GST_FORMAT_TIME);
    gst_pad_add_probe(GST_BASE_SRC_PAD(element.gst()), GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
                      SourceGlue::hold_eos, static_cast<Source*>(&element), nullptr);
}

void Source::install(gpointer klass) {
    auto* base = GST_BASE_SRC_CLASS(klass);
    base->start = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        self.allow_errors();
        self.watch_.start(self.gst());
        if (guarded(self, false, [&] { return self.start(); }))
            return TRUE;
        guarded(self, [&] { self.stop(); });
        self.watch_.stop();
        return FALSE;
    };
    base->stop = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        self.count_.reset();
        const bool stopped = guarded(self, [&] { self.stop(); });
        self.watch_.stop();
        return stopped;
    };
    base->unlock = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        return guarded(self, [&] { self.unlock(); });
    };
    base->unlock_stop = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        return guarded(self, [&] { self.unlock_stop(); });
    };
    // Caps come from create(), which knows them; the default would fixate the template and send that first.
    base->negotiate = [](GstBaseSrc*) -> gboolean { return TRUE; };
    base->is_seekable = [](GstBaseSrc*) -> gboolean { return FALSE; };
    base->get_times = [](GstBaseSrc* s, GstBuffer* buffer, GstClockTime* start, GstClockTime* end) {
        *start = *end = GST_CLOCK_TIME_NONE;
        if (!gst_base_src_is_live(s) || !GST_BUFFER_PTS_IS_VALID(buffer))
            return;
        *start = GST_BUFFER_PTS(buffer);
        if (impl_of<Source>(s).wait_for_end() && GST_BUFFER_DURATION_IS_VALID(buffer))
            *start += GST_BUFFER_DURATION(buffer);
    };
    base->query = [](GstBaseSrc* s, GstQuery* query) -> gboolean {
        auto& self = impl_of<Source>(s);
        GstFormat format = GST_FORMAT_UNDEFINED;
        if (GST_QUERY_TYPE(query) == GST_QUERY_DURATION) {
            gst_query_parse_duration(query, &format, nullptr);
            const auto length = guarded(self, std::optional<GstClockTime>(), [&] { return self.duration(); });
            if (format == GST_FORMAT_TIME && length) {
                gst_query_set_duration(query, GST_FORMAT_TIME, static_cast<gint64>(*length));
                return TRUE;
            }
            return FALSE;
        }
        return parent_of<GstBaseSrcClass>(s)->query(s, query);
    };
    GST_PUSH_SRC_CLASS(klass)->create = SourceGlue::create;
    GST_ELEMENT_CLASS(klass)->post_message = SourceGlue::post_message;
    // Whether the source is live decides what the change to PAUSED returns, so it must be known before that.
    GST_ELEMENT_CLASS(klass)->change_state = [](GstElement* e,
                                                GstStateChange change) -> GstStateChangeReturn {
        auto& self = impl_of<Source>(e);
        if (change == GST_STATE_CHANGE_READY_TO_PAUSED)
            gst_base_src_set_live(GST_BASE_SRC(e), self.is_live());
        return parent_of<GstElementClass>(e)->change_state(e, change);
    };
}

void Source::set_caps(const GstPtr<GstCaps>& caps) {
    if (!gst_base_src_set_caps(GST_BASE_SRC(gst()), caps.get())) {
        // Caps that are refused because the pipeline is being stopped are no error.
        GstPad* pad = GST_BASE_SRC_PAD(gst());
        const auto peer = adopt(gst_pad_get_peer(pad));
        if (GST_PAD_IS_FLUSHING(pad) || (peer && GST_PAD_IS_FLUSHING(peer.get())))
            throw Flushing{};
        const GString_ptr text(gst_caps_to_string(caps.get()));
        throw Error(Errc::format, "Downstream does not accept what this source makes", text.get());
    }
    count_.follow(caps.get());
}

void Source::push_event(GstPtr<GstEvent> event) {
    gst_pad_push_event(GST_BASE_SRC_PAD(gst()), event.release());
}

} // namespace mri
