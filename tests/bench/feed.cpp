// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/feed.hpp"

namespace mri::bench {

namespace {

/// Takes the error off a message; empty when it is none.
std::string error_text(GstMessage* message) {
    if (GST_MESSAGE_TYPE(message) != GST_MESSAGE_ERROR)
        return {};
    GError* raw = nullptr;
    gst_message_parse_error(message, &raw, nullptr);
    const GErrorPtr error(raw);
    return std::string(GST_OBJECT_NAME(GST_MESSAGE_SRC(message))) + ": " + error->message;
}

GstPtr<GstElement> parse(const std::string& line, bool ghost_pads) {
    GError* raw = nullptr;
    GstElement* element =
        ghost_pads ? gst_parse_bin_from_description_full(line.c_str(), TRUE, nullptr,
                                                         GST_PARSE_FLAG_FATAL_ERRORS, &raw)
                   : gst_parse_launch_full(line.c_str(), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &raw);
    const GErrorPtr error(raw);
    if (!element)
        throw Error(Errc::settings, "'" + line + "' cannot be built: " + (raw ? raw->message : "unknown"));
    return adopt(GST_ELEMENT(gst_object_ref_sink(element)));
}

} // namespace

void run_line(const std::string& line, const std::function<void(const Item&)>& on_item) {
    const auto pipeline = parse(line + " ! fakesink name=benchmark-end sync=false async=false", false);
    const auto end = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "benchmark-end"));
    const auto pad = adopt(gst_element_get_static_pad(end.get(), "sink"));
    gst_pad_add_probe(
        pad.get(), GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad* probed, GstPadProbeInfo* info, gpointer data) {
            const auto& callback = *static_cast<const std::function<void(const Item&)>*>(data);
            callback({retain(GST_PAD_PROBE_INFO_BUFFER(info)), adopt(gst_pad_get_current_caps(probed))});
            return GST_PAD_PROBE_OK;
        },
        const_cast<std::function<void(const Item&)>*>(&on_item), nullptr);
    const auto bus = adopt(gst_element_get_bus(pipeline.get()));
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    const auto message = adopt(gst_bus_timed_pop_filtered(
        bus.get(), GST_CLOCK_TIME_NONE, static_cast<GstMessageType>(GST_MESSAGE_EOS | GST_MESSAGE_ERROR)));
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    if (const std::string text = error_text(message.get()); !text.empty())
        throw Error(Errc::failed, text);
}

Feed::Feed(const std::string& elements, std::function<void(const Item&)> on_item)
    : elements_(elements),
      on_item_(std::move(on_item)),
      bin_(parse(elements, true)),
      bus_(adopt(gst_bus_new())) {
    gst_element_set_bus(bin_.get(), bus_.get());
    const auto sink = adopt(gst_element_get_static_pad(bin_.get(), "sink"));
    const auto src = adopt(gst_element_get_static_pad(bin_.get(), "src"));
    if (!sink || !src)
        throw Error(Errc::settings, "'" + elements + "' has no open pad at either end");
    // Without templates pads would hold on to the first caps that they see.
    static GstStaticPadTemplate any_src =
        GST_STATIC_PAD_TEMPLATE("in", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
    static GstStaticPadTemplate any_sink =
        GST_STATIC_PAD_TEMPLATE("out", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
    in_ = adopt(GST_PAD(gst_object_ref_sink(gst_pad_new_from_static_template(&any_src, "in"))));
    out_ = adopt(GST_PAD(gst_object_ref_sink(gst_pad_new_from_static_template(&any_sink, "out"))));
    gst_pad_set_element_private(out_.get(), this);
    gst_pad_set_chain_function(out_.get(), &Feed::chain);
    if (gst_pad_link(in_.get(), sink.get()) != GST_PAD_LINK_OK ||
        gst_pad_link(src.get(), out_.get()) != GST_PAD_LINK_OK)
        throw Error(Errc::settings, "'" + elements + "' cannot be linked");
    gst_pad_set_active(out_.get(), TRUE);
    if (gst_element_set_state(bin_.get(), GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        fail("does not start");
    gst_pad_set_active(in_.get(), TRUE);
    gst_pad_push_event(in_.get(), gst_event_new_stream_start("benchmark"));
}

Feed::~Feed() {
    if (in_)
        gst_pad_set_active(in_.get(), FALSE);
    if (out_)
        gst_pad_set_active(out_.get(), FALSE);
    gst_element_set_state(bin_.get(), GST_STATE_NULL);
    gst_element_set_bus(bin_.get(), nullptr);
}

void Feed::set_caps(GstCaps* caps) {
    if (caps_ && gst_caps_is_strictly_equal(caps_.get(), caps))
        return;
    const bool first = !caps_;
    caps_ = retain(caps);
    if (!gst_pad_push_event(in_.get(), gst_event_new_caps(caps)))
        fail("refuses its caps");
    if (first) {
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        gst_pad_push_event(in_.get(), gst_event_new_segment(&segment));
    }
}

void Feed::push(GstBuffer* buffer) {
    if (gst_pad_push(in_.get(), gst_buffer_ref(buffer)) != GST_FLOW_OK)
        fail("refuses a buffer");
}

void Feed::end() {
    gst_pad_push_event(in_.get(), gst_event_new_eos());
    if (const auto message = adopt(gst_bus_pop_filtered(bus_.get(), GST_MESSAGE_ERROR)))
        throw Error(Errc::failed, error_text(message.get()));
}

GstFlowReturn Feed::chain(GstPad* pad, GstObject*, GstBuffer* buffer) {
    auto* self = static_cast<Feed*>(gst_pad_get_element_private(pad));
    const Item item{adopt(buffer), adopt(gst_pad_get_current_caps(pad))};
    if (self->on_item_)
        self->on_item_(item);
    return GST_FLOW_OK;
}

void Feed::fail(const std::string& what) {
    const auto message = adopt(gst_bus_pop_filtered(bus_.get(), GST_MESSAGE_ERROR));
    throw Error(Errc::failed, message ? error_text(message.get()) : "'" + elements_ + "' " + what);
}

} // namespace mri::bench
