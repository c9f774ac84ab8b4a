// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/transform.hpp"

#include "plugins/common/metas.hpp"
#include "plugins/common/registration.hpp"

namespace mri {

GstPtr<GstCaps> Transform::transform_caps(GstPadDirection, GstCaps* caps) {
    return retain(caps);
}

void Transform::set_up(Element& element) {
    auto& self = static_cast<Transform&>(element);
    gst_base_transform_set_in_place(GST_BASE_TRANSFORM(self.gst()), FALSE);
    gst_base_transform_set_passthrough(GST_BASE_TRANSFORM(self.gst()), self.always_passthrough());
}

void Transform::install(gpointer klass) {
    auto* c = GST_BASE_TRANSFORM_CLASS(klass);
    c->start = [](GstBaseTransform* t) -> gboolean {
        auto& self = impl_of<Transform>(t);
        self.allow_errors();
        if (guarded(self, false, [&] { return self.start(); }))
            return TRUE;
        guarded(self, [&] { self.stop(); });
        return FALSE;
    };
    c->stop = [](GstBaseTransform* t) -> gboolean {
        auto& self = impl_of<Transform>(t);
        return guarded(self, [&] { self.stop(); });
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
        return guarded(self, [&] { self.set_caps(in, out); });
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
        return guarded(self, [&] { self.transform(in, out); }) ? GST_FLOW_OK : GST_FLOW_ERROR;
    };
    c->transform_ip = [](GstBaseTransform* t, GstBuffer* buffer) -> GstFlowReturn {
        auto& self = impl_of<Transform>(t);
        return guarded(self, [&] { self.inspect(buffer); }) ? GST_FLOW_OK : GST_FLOW_ERROR;
    };
    c->sink_event = [](GstBaseTransform* t, GstEvent* event) -> gboolean {
        auto& self = impl_of<Transform>(t);
        if (GST_EVENT_TYPE(event) == GST_EVENT_EOS && self.error_sent()) { // of a stream that broke off here
            gst_event_unref(event);
            return TRUE;
        }
        if (!guarded(self, [&] { self.event(event); })) {
            gst_event_unref(event);
            return FALSE;
        }
        return parent_of<GstBaseTransformClass>(t)->sink_event(t, event);
    };
}

} // namespace mri
