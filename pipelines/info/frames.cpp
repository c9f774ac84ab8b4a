// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/info/frames.hpp"

#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <map>

namespace mri {

namespace {

CounterValues counters_of(const Readout& r) {
    return {r.kspace_encode_step_1,
            r.kspace_encode_step_2,
            r.average,
            r.slice,
            r.contrast,
            r.phase,
            r.repetition,
            r.set,
            r.segment};
}

/// What the frames show. The streaming thread alone uses it until the pipeline has stopped.
struct Collector {
    FramesFound found;
    std::array<bool, counter_names.size()> constant, differs{};
    std::optional<CounterValues> first;
    std::set<int> series;
    std::map<int, GstClockTime> last_pts; // of a series
    std::vector<double> steps_ms;
    std::optional<double> duration_ms;
    std::optional<Error> error;

    Collector() { constant.fill(true); }

    void add(GstBuffer* buffer, GstPad* pad) {
        const auto caps = adopt(gst_pad_get_current_caps(pad));
        const auto kspace = KspaceInfo::from_caps(caps.get());
        const auto readouts = readouts_of(buffer);
        if (found.frames++ == 0) {
            found.caps = kspace;
            found.fewest_readouts = readouts.size();
            for (const Readout& r : readouts)
                if (!(r.flags & flag::parallel_calibration))
                    found.lines.insert(r.kspace_encode_step_1);
            if (const auto trajectory = trajectory_of(buffer))
                for (std::size_t i = 0; i + 1 < trajectory->kxy.size(); i += 2)
                    found.radius = std::max<double>(found.radius,
                                                    std::hypot(trajectory->kxy[i], trajectory->kxy[i + 1]));
            if (GST_BUFFER_DURATION_IS_VALID(buffer))
                duration_ms = static_cast<double>(GST_BUFFER_DURATION(buffer)) / 1e6;
        }
        found.fewest_readouts = std::min(found.fewest_readouts, readouts.size());
        found.most_readouts = std::max(found.most_readouts, readouts.size());
        for (const Readout& r : readouts) {
            const CounterValues values = counters_of(r), begin = counters_of(readouts.front());
            if (!first)
                first = values;
            for (std::size_t c = 0; c < values.size(); ++c) {
                constant[c] &= values[c] == begin[c];
                differs[c] |= values[c] != (*first)[c];
            }
        }
        series.insert(kspace.series);
        if (!GST_BUFFER_PTS_IS_VALID(buffer))
            return;
        const GstClockTime pts = GST_BUFFER_PTS(buffer);
        if (const auto last = last_pts.find(kspace.series); last != last_pts.end() && pts > last->second)
            steps_ms.push_back(static_cast<double>(pts - last->second) / 1e6);
        last_pts[kspace.series] = pts;
    }

    void finish() {
        found.series = series.size();
        for (std::size_t c = 0; c < counter_names.size(); ++c)
            if (found.frames > 1 && constant[c] && differs[c])
                found.made_by.emplace_back(counter_names[c]);
        if (!steps_ms.empty())
            found.frame_time_ms = median(steps_ms);
        else
            found.frame_time_ms = duration_ms;
    }
};

void on_frame(GstElement*, GstBuffer* buffer, GstPad* pad, gpointer data) {
    auto& all = *static_cast<Collector*>(data);
    if (all.error)
        return;
    try {
        all.add(buffer, pad);
    } catch (const Error& error) { // must not pass GObject's frames
        all.error = error;
    } catch (const std::exception& error) {
        all.error = Error(Errc::failed, error.what());
    }
}

GstPtr<GstElement> make(const char* factory) {
    GstElement* element = gst_element_factory_make(factory, nullptr);
    if (!element)
        throw Error(Errc::unsupported, fmt::format("There is no element {}; its plugin is not installed, not "
                                                   "built, or failed to load",
                                                   factory));
    return adopt(GST_ELEMENT(gst_object_ref_sink(element)));
}

} // namespace

FramesFound find_frames(const std::string& path, const std::string& group) {
    const auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_pipeline_new(nullptr))));
    const auto source = make("ismrmrdsrc"), framer = make("mriframer"), sink = make("fakesink");
    g_object_set(source.get(), "location", path.c_str(), "group", group.c_str(), nullptr);
    g_object_set(sink.get(), "sync", FALSE, "signal-handoffs", TRUE, nullptr);
    for (const auto& element : {source, framer, sink})
        gst_bin_add(GST_BIN(pipeline.get()), element.get());
    if (!gst_element_link_many(source.get(), framer.get(), sink.get(), nullptr))
        throw Error(Errc::failed, "ismrmrdsrc and mriframer do not fit each other");

    Collector all;
    const gulong handler = g_signal_connect(sink.get(), "handoff", G_CALLBACK(on_frame), &all);
    const auto bus = adopt(gst_element_get_bus(pipeline.get()));
    const bool refused = gst_element_set_state(pipeline.get(), GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE;
    std::vector<std::string> messages;
    std::optional<Error> failure;
    for (bool over = false; !over;) {
        const auto message = adopt(gst_bus_timed_pop(bus.get(), refused ? 0 : GST_CLOCK_TIME_NONE));
        if (!message)
            break;
        const auto type = GST_MESSAGE_TYPE(message.get());
        over = type == GST_MESSAGE_EOS || type == GST_MESSAGE_ERROR;
        GError* raw = nullptr;
        gchar* raw_debug = nullptr;
        if (type == GST_MESSAGE_ERROR)
            gst_message_parse_error(message.get(), &raw, &raw_debug);
        else if (type == GST_MESSAGE_WARNING)
            gst_message_parse_warning(message.get(), &raw, &raw_debug);
        else if (type == GST_MESSAGE_INFO)
            gst_message_parse_info(message.get(), &raw, &raw_debug);
        const GErrorPtr what(raw);
        const GString_ptr debug(raw_debug);
        if (!what)
            continue;
        if (type == GST_MESSAGE_ERROR)
            failure = Error(Errc::decode, what->message, debug ? debug.get() : "");
        else if (std::find(messages.begin(), messages.end(), what->message) == messages.end())
            messages.emplace_back(what->message);
    }
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    g_signal_handler_disconnect(sink.get(), handler);
    if (refused && !failure)
        failure = Error(Errc::failed, "ismrmrdsrc does not start");
    all.finish();
    all.found.messages = std::move(messages);
    all.found.error = failure ? failure : all.error;
    return std::move(all.found);
}

} // namespace mri
