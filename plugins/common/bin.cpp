// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/bin.hpp"

#include "plugins/common/registration.hpp"

namespace mri {

void Bin::install(gpointer klass) {
    GST_BIN_CLASS(klass)->handle_message = [](GstBin* b, GstMessage* message) {
        auto& self = impl_of<Bin>(b);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS && GST_IS_ELEMENT(GST_MESSAGE_SRC(message)) &&
            !guarded(self, [&] { self.child_eos(GST_ELEMENT(GST_MESSAGE_SRC(message))); })) {
            gst_message_unref(message);
            return;
        }
        parent_of<GstBinClass>(b)->handle_message(b, message);
    };
    GST_ELEMENT_CLASS(klass)->change_state = [](GstElement* e,
                                                GstStateChange change) -> GstStateChangeReturn {
        auto& self = impl_of<Bin>(e);
        if (change == GST_STATE_CHANGE_NULL_TO_READY) {
            self.allow_errors();
            if (!guarded(self, [&] { self.prepare(); }))
                return GST_STATE_CHANGE_FAILURE;
        }
        const auto result = parent_of<GstElementClass>(e)->change_state(e, change);
        if (change == GST_STATE_CHANGE_READY_TO_NULL)
            guarded(self, [&] { self.release(); });
        return result;
    };
}

} // namespace mri
