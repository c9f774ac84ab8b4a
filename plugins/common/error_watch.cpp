// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/error_watch.hpp"

#include <utility>

namespace mri {

void ErrorWatch::start(GstElement* element) {
    stop();
    *seen_ = false;
    auto outermost = retain(GST_OBJECT(element));
    while (auto parent = adopt(gst_object_get_parent(outermost.get())))
        outermost = std::move(parent);
    bus_ = adopt(gst_element_get_bus(GST_ELEMENT(outermost.get())));
    if (!bus_)
        return;
    using Seen = std::shared_ptr<std::atomic<bool>>;
    gst_bus_enable_sync_message_emission(bus_.get());
    handler_ = g_signal_connect_data(
        bus_.get(), "sync-message::error",
        G_CALLBACK(+[](GstBus*, GstMessage*, gpointer seen) { **static_cast<Seen*>(seen) = true; }),
        new Seen(seen_), [](gpointer seen, GClosure*) { delete static_cast<Seen*>(seen); },
        static_cast<GConnectFlags>(0));
}

void ErrorWatch::stop() {
    if (!bus_)
        return;
    g_signal_handler_disconnect(bus_.get(), handler_);
    gst_bus_disable_sync_message_emission(bus_.get());
    bus_.reset();
}

} // namespace mri
