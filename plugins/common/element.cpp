// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/element.hpp"

#include <deque>
#include <new>
#include <utility>

namespace mri {

namespace {

struct GErrorCode {
    GQuark domain;
    gint code;
};

GErrorCode code_of(Errc errc) {
    switch (errc) {
    case Errc::not_found:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND};
    case Errc::open_read:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ};
    case Errc::open_write:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_WRITE};
    case Errc::read:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_READ};
    case Errc::write:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_WRITE};
    case Errc::settings:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS};
    case Errc::format:
        return {GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT};
    case Errc::decode:
        return {GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE};
    case Errc::unsupported:
        return {GST_STREAM_ERROR, GST_STREAM_ERROR_NOT_IMPLEMENTED};
    case Errc::no_device:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND};
    case Errc::no_memory:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT};
    case Errc::failed:
        return {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED};
    }
    return {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED};
}

// What a GType's functions need to know of it: lives as long as the process, like the type.
struct ClassData {
    detail::ClassSpec spec;
    gpointer parent_class = nullptr;
    std::vector<Property> properties;
    GstDebugCategory* category = nullptr;
};

GQuark class_data_quark() {
    static const GQuark quark = g_quark_from_static_string("gst-mri-class-data");
    return quark;
}

ClassData& data_of_type(GType type) {
    return *static_cast<ClassData*>(g_type_get_qdata(type, class_data_quark()));
}
ClassData& data_of(gpointer instance) {
    return data_of_type(G_TYPE_FROM_INSTANCE(instance));
}
template <class Class>
Class* parent_of(gpointer instance) {
    return static_cast<Class*>(data_of(instance).parent_class);
}

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
    auto& data = data_of(object);
    Element& element = *data.spec.slot(object);
    if ((spec->flags & GST_PARAM_MUTABLE_READY) && !(spec->flags & GST_PARAM_MUTABLE_PLAYING)) {
        GST_OBJECT_LOCK(object);
        const bool running = GST_STATE(object) > GST_STATE_READY;
        GST_OBJECT_UNLOCK(object);
        if (running) {
            GST_CAT_WARNING_OBJECT(data.category, object,
                                   "%s can only be changed in the READY state: left as it was", spec->name);
            return;
        }
    }
    try {
        data.properties[id - 1].set(element, value);
    } catch (const std::exception& e) {
        GST_CAT_WARNING_OBJECT(data.category, object, "%s: %s", spec->name, e.what());
    }
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
    auto& data = data_of(object);
    try {
        data.properties[id - 1].get(*data.spec.slot(object), value);
    } catch (const std::exception& e) {
        GST_CAT_WARNING_OBJECT(data.category, object, "%s: %s", spec->name, e.what());
    }
}

void finalize(GObject* object) {
    auto& data = data_of(object);
    Element*& slot = data.spec.slot(object);
    delete slot;
    slot = nullptr;
    static_cast<GObjectClass*>(data.parent_class)->finalize(object);
}

void constructed(GObject* object) {
    auto& data = data_of(object);
    static_cast<GObjectClass*>(data.parent_class)->constructed(object);
    Element& element = *data.spec.slot(object);
    guarded(element, false, [&] {
        element.constructed();
        return true;
    });
}

void class_init(gpointer klass, gpointer class_data) {
    auto& data = *static_cast<ClassData*>(class_data);
    data.parent_class = g_type_class_peek_parent(klass);
    auto* object_class = G_OBJECT_CLASS(klass);
    auto* element_class = GST_ELEMENT_CLASS(klass);
    object_class->set_property = set_property;
    object_class->get_property = get_property;
    object_class->finalize = finalize;
    object_class->constructed = constructed;
    data.properties = data.spec.properties();
    for (std::size_t i = 0; i < data.properties.size(); ++i)
        g_object_class_install_property(object_class, static_cast<guint>(i + 1), data.properties[i].spec);
    const ElementInfo& info = *data.spec.info;
    gst_element_class_set_static_metadata(element_class, info.long_name, info.klass, info.description,
                                          "The gst-mri developers");
    const auto add_template = [&](const char* name, GstPadDirection direction, const char* text) {
        if (!text)
            return;
        auto caps = adopt(gst_caps_from_string(text));
        gst_element_class_add_pad_template(element_class,
                                           gst_pad_template_new(name, direction, GST_PAD_ALWAYS, caps.get()));
    };
    add_template("sink", GST_PAD_SINK, data.spec.sink_caps);
    add_template("src", GST_PAD_SRC, data.spec.src_caps);
    // GstBaseSrc and GstBaseSink follow an element's own error up with a general one.
    element_class->post_message = [](GstElement* e, GstMessage* message) -> gboolean {
        const auto& data_ = data_of(e);
        const Element* impl = data_.spec.slot(e);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR && GST_MESSAGE_SRC(message) == GST_OBJECT(e) &&
            impl && impl->error_sent()) {
            gst_message_unref(message);
            return TRUE;
        }
        return GST_ELEMENT_CLASS(data_.parent_class)->post_message(e, message);
    };
    data.spec.install(klass);
}

} // namespace

void Element::post_error(const Error& error) noexcept {
    if (!gst_)
        return;
    if (error_posted_.exchange(true)) {
        GST_CAT_ERROR_OBJECT(category_, gst_, "after the first error: %s", error.what());
        return;
    }
    const auto [domain, code] = code_of(error.code());
    gst_element_message_full(gst_, GST_MESSAGE_ERROR, domain, code, g_strdup(error.what()),
                             error.detail().empty() ? nullptr : g_strdup(error.detail().c_str()), "gst-mri",
                             data_of(gst_).spec.info->name, 0);
    error_sent_ = true;
}

void Element::post_warning(const std::string& text, const std::string& detail) noexcept {
    gst_element_message_full(gst_, GST_MESSAGE_WARNING, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                             g_strdup(text.c_str()), detail.empty() ? nullptr : g_strdup(detail.c_str()),
                             "gst-mri", data_of(gst_).spec.info->name, 0);
}

void Element::post_message(StructurePtr structure) noexcept {
    gst_element_post_message(gst_, gst_message_new_element(GST_OBJECT(gst_), structure.release()));
}

void Element::post_progress(GstProgressType type, const std::string& code, const std::string& text) noexcept {
    gst_element_post_message(gst_,
                             gst_message_new_progress(GST_OBJECT(gst_), type, code.c_str(), text.c_str()));
}

void post_current_exception(Element& element) noexcept {
    try {
        throw;
    } catch (const Error& e) {
        element.post_error(e);
    } catch (const std::bad_alloc&) {
        element.post_error(Error(Errc::no_memory, "Out of memory"));
    } catch (const std::exception& e) {
        // Other libraries' texts can run over many lines (LibTorch adds a stack): the first is for the user.
        const std::string text = e.what();
        element.post_error(Error(Errc::failed, text.substr(0, text.find('\n')), text));
    } catch (...) {
        element.post_error(Error(Errc::failed, "An unknown exception was thrown"));
    }
}

namespace detail {

GType register_enum(const std::string& type_name, const std::vector<GEnumValue>& values) {
    if (const GType known = g_type_from_name(type_name.c_str()))
        return known;
    // GLib keeps the pointer: the table lives as long as the type, that is as the process.
    static std::deque<std::vector<GEnumValue>> tables;
    auto& table = tables.emplace_back(values);
    table.push_back({0, nullptr, nullptr});
    return g_enum_register_static(type_name.c_str(), table.data());
}

std::string camel_case(const std::string& name) {
    std::string camel;
    bool up = true;
    for (const char c : name) {
        if (c == '-') {
            up = true;
        } else {
            camel += up ? static_cast<char>(g_ascii_toupper(c)) : c;
            up = false;
        }
    }
    return camel;
}

GParamFlags param_flags(Mutable when, bool writable) {
    int flags = G_PARAM_READABLE | G_PARAM_STATIC_STRINGS;
    if (writable)
        flags |=
            G_PARAM_WRITABLE | (when == Mutable::ready ? GST_PARAM_MUTABLE_READY : GST_PARAM_MUTABLE_PLAYING);
    return static_cast<GParamFlags>(flags);
}

} // namespace detail

// ---- Transform
// ------------------------------------------------------------------------------------------------------

GstPtr<GstCaps> Transform::transform_caps(GstPadDirection, GstCaps* caps) {
    return retain(caps);
}

void Transform::install(gpointer klass) {
    auto* c = GST_BASE_TRANSFORM_CLASS(klass);
    c->start = [](GstBaseTransform* t) -> gboolean {
        auto& self = impl_of<Transform>(t);
        self.allow_errors();
        if (guarded(self, false, [&] { return self.start(); }))
            return TRUE;
        guarded(self, false, [&] { return self.stop(), true; });
        return FALSE;
    };
    c->stop = [](GstBaseTransform* t) -> gboolean {
        auto& self = impl_of<Transform>(t);
        return guarded(self, FALSE, [&]() -> gboolean { return self.stop(), TRUE; });
    };
    c->transform_caps = [](GstBaseTransform* t, GstPadDirection direction, GstCaps* caps,
                           GstCaps* filter) -> GstCaps* {
        auto& self = impl_of<Transform>(t);
        return guarded(self, static_cast<GstCaps*>(nullptr), [&] {
            auto result = self.transform_caps(direction, caps);
            if (filter)
                result = adopt(gst_caps_intersect_full(filter, result.get(), GST_CAPS_INTERSECT_FIRST));
            return result.release();
        });
    };
    c->set_caps = [](GstBaseTransform* t, GstCaps* in, GstCaps* out) -> gboolean {
        auto& self = impl_of<Transform>(t);
        return guarded(self, FALSE, [&]() -> gboolean { return self.set_caps(in, out), TRUE; });
    };
    c->prepare_output_buffer = [](GstBaseTransform* t, GstBuffer* in, GstBuffer** out) -> GstFlowReturn {
        auto& self = impl_of<Transform>(t);
        if (gst_base_transform_is_passthrough(t)) {
            *out = in;
            return GST_FLOW_OK;
        }
        return guarded(self, GST_FLOW_ERROR, [&] {
            auto buffer = new_buffer<std::byte>(self.output_size(in));
            copy_metas(buffer.get(), in);
            *out = buffer.release();
            return GST_FLOW_OK;
        });
    };
    c->transform = [](GstBaseTransform* t, GstBuffer* in, GstBuffer* out) -> GstFlowReturn {
        auto& self = impl_of<Transform>(t);
        return guarded(self, GST_FLOW_ERROR, [&] { return self.transform(in, out), GST_FLOW_OK; });
    };
    c->transform_ip = [](GstBaseTransform* t, GstBuffer* buffer) -> GstFlowReturn {
        auto& self = impl_of<Transform>(t);
        return guarded(self, GST_FLOW_ERROR, [&] { return self.inspect(buffer), GST_FLOW_OK; });
    };
    c->sink_event = [](GstBaseTransform* t, GstEvent* event) -> gboolean {
        auto& self = impl_of<Transform>(t);
        if (!guarded(self, false, [&] { return self.event(event), true; })) {
            gst_event_unref(event);
            return FALSE;
        }
        return parent_of<GstBaseTransformClass>(t)->sink_event(t, event);
    };
}

// ---- Source
// ---------------------------------------------------------------------------------------------------------

struct SourceGlue {
    static GstFlowReturn create(GstPushSrc* src, GstBuffer** out) {
        auto& self = impl_of<Source>(src);
        return guarded(self, GST_FLOW_ERROR, [&] {
            try {
                auto buffer = self.create();
                if (!buffer)
                    return GST_FLOW_EOS;
                *out = buffer.release();
                return GST_FLOW_OK;
            } catch (const Source::Flushing&) {
                return GST_FLOW_FLUSHING;
            }
        });
    }
};

void Source::install(gpointer klass) {
    auto* base = GST_BASE_SRC_CLASS(klass);
    base->start = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        self.allow_errors();
        if (guarded(self, false, [&] { return self.start(); }))
            return TRUE;
        guarded(self, false, [&] { return self.stop(), true; });
        return FALSE;
    };
    base->stop = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.stop(), TRUE; });
    };
    base->unlock = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.unlock(), TRUE; });
    };
    base->unlock_stop = [](GstBaseSrc* s) -> gboolean {
        auto& self = impl_of<Source>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.unlock_stop(), TRUE; });
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
}

void Source::push_event(GstPtr<GstEvent> event) {
    gst_pad_push_event(GST_BASE_SRC_PAD(gst()), event.release());
}

// ---- Regroup
// --------------------------------------------------------------------------------------------------------

struct RegroupGlue {
    static Regroup& of(GstObject* parent) { return impl_of<Regroup>(parent); }

    static void setup(Regroup& self) {
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
                const auto flow = self.drain();
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
            const bool ok = guarded(self, false, [&] { return self.set_caps(caps), true; });
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
            return drained(self) ? forward() : FALSE;
        case GST_EVENT_FLUSH_STOP:
            guarded(self, false, [&] { return self.flush(), true; });
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
            if (!guarded(self, false, [&] { return self.start(), true; })) {
                guarded(self, false, [&] { return self.stop(), true; });
                return GST_STATE_CHANGE_FAILURE;
            }
        }
        const auto result = parent_of<GstElementClass>(element)->change_state(element, change);
        if (change == GST_STATE_CHANGE_PAUSED_TO_READY) {
            guarded(self, false, [&] { return self.flush(), true; });
            guarded(self, false, [&] { return self.stop(), true; });
            self.sink_current_.reset();
            self.src_current_.reset();
            self.pending_segment_.reset();
            self.have_buffers_ = false;
            const std::lock_guard lock(self.qos_mutex_);
            self.qos_earliest_ = GST_CLOCK_TIME_NONE;
        }
        return result;
    }
};

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
    gst_pad_push_event(src_pad_, gst_event_new_caps(caps.get()));
    if (pending_segment_)
        gst_pad_push_event(src_pad_, pending_segment_.release());
}

GstFlowReturn Regroup::push(GstPtr<GstBuffer> buffer) {
    return gst_pad_push(src_pad_, buffer.release());
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

// ---- Windowed
// -------------------------------------------------------------------------------------------------------

void Windowed::set_window(std::size_t window, std::size_t hop, Emit emit) {
    windows_.emplace(window, hop, emit);
    const std::lock_guard lock(timing_mutex_);
    wait_ = windows_->wait();
}

void Windowed::set_wait_before(std::size_t frames) {
    const std::lock_guard lock(timing_mutex_);
    wait_before_ = frames;
}

void Windowed::set_timing(GstClockTime frame, GstClockTime compute) {
    {
        const std::lock_guard lock(timing_mutex_);
        frame_ = frame;
        compute_ = compute;
    }
    update_latency();
}

std::optional<GstClockTime> Windowed::latency() {
    const std::lock_guard lock(timing_mutex_);
    if (!GST_CLOCK_TIME_IS_VALID(frame_))
        return std::nullopt;
    return (wait_before_ + wait_) * frame_ + compute_;
}

GstFlowReturn Windowed::chain(GstPtr<GstBuffer> buffer) {
    if (!windows_)
        return GST_FLOW_NOT_NEGOTIATED;
    check(buffer.get());
    const auto job = windows_->push(std::move(buffer));
    return job ? run(*job) : GST_FLOW_OK;
}

GstFlowReturn Windowed::drain() {
    if (!windows_)
        return GST_FLOW_OK;
    const auto job = windows_->drain();
    return job ? run(*job) : GST_FLOW_OK;
}

void Windowed::flush() {
    if (windows_)
        windows_->reset();
}

GstFlowReturn Windowed::run(const Frames::Job& job) {
    const bool late = all_late(job);
    if (late && leaves_late_out()) {
        skip(job);
        return GST_FLOW_OK;
    }
    std::vector<GstPtr<GstBuffer>> outputs;
    try {
        outputs = process(job);
    } catch (...) {
        windows_->reset(); // the end of the stream would ask for the same window once more
        throw;
    }
    if (outputs.size() != job.count)
        throw Error(Errc::failed, "A window gave " + std::to_string(outputs.size()) + " frames instead of " +
                                      std::to_string(job.count));
    if (late) {
        skip(job);
        return GST_FLOW_OK;
    }
    for (auto& output : outputs) {
        if (std::exchange(after_skip_, false))
            GST_BUFFER_FLAG_SET(output.get(), GST_BUFFER_FLAG_DISCONT);
        ++emitted_;
        const auto flow = push(std::move(output));
        if (flow != GST_FLOW_OK)
            return flow;
    }
    return GST_FLOW_OK;
}

bool Windowed::all_late(const Frames::Job& job) {
    bool late = true;
    for (std::size_t i = 0; i < job.count; ++i)
        late &= too_late(job.items[job.first + i].get());
    return late;
}

void Windowed::skip(const Frames::Job& job) {
    skipped_ += job.count;
    after_skip_ = true;
    MRI_DEBUG("skipping %zu frames that would come too late", job.count);
    post_qos(job.items[job.first].get(), emitted_, skipped_);
}

// ---- Sink
// -----------------------------------------------------------------------------------------------------------

void Sink::install(gpointer klass) {
    auto* c = GST_BASE_SINK_CLASS(klass);
    c->start = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        self.allow_errors();
        if (guarded(self, false, [&] { return self.start(); }))
            return TRUE;
        guarded(self, false, [&] { return self.stop(), true; });
        return FALSE;
    };
    c->stop = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.stop(), TRUE; });
    };
    c->set_caps = [](GstBaseSink* s, GstCaps* caps) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.set_caps(caps), TRUE; });
    };
    c->render = [](GstBaseSink* s, GstBuffer* buffer) -> GstFlowReturn {
        auto& self = impl_of<Sink>(s);
        return guarded(self, GST_FLOW_ERROR, [&] { return self.render(buffer); });
    };
    c->unlock = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.unlock(), TRUE; });
    };
    c->unlock_stop = [](GstBaseSink* s) -> gboolean {
        auto& self = impl_of<Sink>(s);
        return guarded(self, FALSE, [&]() -> gboolean { return self.unlock_stop(), TRUE; });
    };
    c->event = [](GstBaseSink* s, GstEvent* event) -> gboolean {
        auto& self = impl_of<Sink>(s);
        const bool ok = guarded(self, false, [&] {
            self.event(event);
            if (GST_EVENT_TYPE(event) == GST_EVENT_EOS)
                self.eos();
            else if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_STOP)
                self.flush();
            return true;
        });
        if (!ok) {
            gst_event_unref(event);
            return FALSE;
        }
        return parent_of<GstBaseSinkClass>(s)->event(s, event);
    };
}

// ---- Bin
// ------------------------------------------------------------------------------------------------------------

void Bin::install(gpointer klass) {
    GST_ELEMENT_CLASS(klass)->change_state = [](GstElement* e,
                                                GstStateChange change) -> GstStateChangeReturn {
        auto& self = impl_of<Bin>(e);
        if (change == GST_STATE_CHANGE_NULL_TO_READY) {
            self.allow_errors();
            if (!guarded(self, false, [&] { return self.prepare(), true; }))
                return GST_STATE_CHANGE_FAILURE;
        }
        const auto result = parent_of<GstElementClass>(e)->change_state(e, change);
        if (change == GST_STATE_CHANGE_READY_TO_NULL)
            guarded(self, false, [&] { return self.release(), true; });
        return result;
    };
}

// ---- registration
// ---------------------------------------------------------------------------------------------------

namespace detail {

GType register_element_type(const ClassSpec& spec) {
    GTypeQuery parent{};
    g_type_query(spec.parent, &parent);
    static std::deque<ClassData> all; // lives as long as the types
    static std::mutex mutex;          // guards `all`
    ClassData* data = nullptr;
    {
        const std::lock_guard lock(mutex);
        data = &all.emplace_back();
    }
    data->spec = spec;
    data->category = _gst_debug_category_new(spec.info->name, 0, spec.info->long_name);
    GTypeInfo info{};
    info.class_size = static_cast<guint16>(parent.class_size);
    info.class_init = class_init;
    info.class_data = data;
    info.instance_size = spec.instance_size;
    info.instance_init = [](GTypeInstance* instance, gpointer klass) {
        auto& d = data_of_type(G_TYPE_FROM_CLASS(klass));
        Element* element = d.spec.create();
        d.spec.slot(instance) = element;
        element->attach(GST_ELEMENT(instance), d.category);
        if (auto* regroup = dynamic_cast<Regroup*>(element)) {
            RegroupGlue::setup(*regroup);
        } else if (auto* transform = dynamic_cast<Transform*>(element)) {
            gst_base_transform_set_in_place(GST_BASE_TRANSFORM(instance), FALSE);
            gst_base_transform_set_passthrough(GST_BASE_TRANSFORM(instance), transform->always_passthrough());
        } else if (dynamic_cast<Source*>(element)) {
            gst_base_src_set_format(GST_BASE_SRC(instance), GST_FORMAT_TIME);
        } else if (auto* sink = dynamic_cast<Sink*>(element)) {
            gst_base_sink_set_sync(GST_BASE_SINK(instance), sink->sync_by_default());
        }
    };
    const GType type =
        g_type_register_static(spec.parent, spec.info->type_name, &info, static_cast<GTypeFlags>(0));
    g_type_set_qdata(type, class_data_quark(), data);
    return type;
}

} // namespace detail

} // namespace mri
