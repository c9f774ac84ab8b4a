// SPDX-License-Identifier: LGPL-2.1-or-later
#define GST_USE_UNSTABLE_API // the tracing hooks
#include "pipelines/launcher/stage_times.hpp"

#include <algorithm>
#include <ctime>
#include <gst/base/gstbasesink.h>
#include <gst/gsttracer.h>
#include <optional>

namespace {

// GstTracer is abstract; hooks want an instance to belong to.
using MriStageTracer = GstTracer;
using MriStageTracerClass = GstTracerClass;
G_DEFINE_TYPE(MriStageTracer, mri_stage_tracer, GST_TYPE_TRACER)
void mri_stage_tracer_class_init(MriStageTracerClass*) {}
void mri_stage_tracer_init(MriStageTracer*) {}

GstClockTime thread_cpu() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return GST_TIMESPEC_TO_TIME(t);
}

} // namespace

namespace mri {

// What one streaming thread is inside of: pushes not returned yet, innermost last.
struct StageTimes::Thread {
    struct Push {
        GstPad* pad;
        GstElement* receiver;
    };
    std::vector<Push> pushes;
    std::optional<GstClockTime> wall; // at the last boundary
    GstClockTime cpu = 0;
};

namespace {

constexpr GstClockTimeDiff late_after = 5 * GST_MSECOND;

/// The pad's element.
GstPtr<GstElement> parent_of(GstPad* pad) {
    GstPtr<GstObject> parent = adopt(gst_object_get_parent(GST_OBJECT(pad)));
    // A ghost pad's inner half belongs to the ghost pad.
    if (parent && GST_IS_PAD(parent.get()))
        parent = adopt(gst_object_get_parent(parent.get()));
    if (!parent || !GST_IS_ELEMENT(parent.get()))
        return {};
    return adopt(GST_ELEMENT(parent.release()));
}

/// The element, or the bin with it that stands in the pipeline itself.
GstPtr<GstElement> stage_of(GstPtr<GstElement> element) {
    while (element) {
        auto parent = adopt(gst_object_get_parent(GST_OBJECT(element.get())));
        if (!parent || !GST_IS_ELEMENT(parent.get()) || GST_IS_PIPELINE(parent.get()))
            break;
        element = adopt(GST_ELEMENT(parent.release()));
    }
    return element;
}

} // namespace

struct StageHooks {
    static StageTimes::Thread& thread() {
        static thread_local StageTimes::Thread own;
        return own;
    }
    static void push_pre(GObject*, GstClockTime, GstPad* pad, GstBuffer* buffer) {
        times->pre(pad, 1, buffer);
    }
    static void push_list_pre(GObject*, GstClockTime, GstPad* pad, GstBufferList* list) {
        times->pre(pad, gst_buffer_list_length(list), nullptr);
    }
    static void push_post(GObject*, GstClockTime, GstPad* pad, GstFlowReturn) { times->post(pad); }
    static void event_pre(GObject*, GstClockTime, GstPad* pad, GstEvent*) {
        if (GST_PAD_IS_SRC(pad))
            times->pre(pad, 0, nullptr);
    }
    static void event_post(GObject*, GstClockTime, GstPad* pad, gboolean) { times->post(pad); }

    static inline StageTimes* times = nullptr;
};

StageTimes& StageTimes::install() {
    // Never freed: a streaming thread may be inside a hook to the very end.
    static StageTimes* const times = [] {
        StageHooks::times = new StageTimes;
        auto* tracer = static_cast<GstTracer*>(g_object_new(mri_stage_tracer_get_type(), nullptr));
        GST_OBJECT_FLAG_SET(tracer, GST_OBJECT_FLAG_MAY_BE_LEAKED);
        gst_tracing_register_hook(tracer, "pad-push-pre", G_CALLBACK(StageHooks::push_pre));
        gst_tracing_register_hook(tracer, "pad-push-post", G_CALLBACK(StageHooks::push_post));
        gst_tracing_register_hook(tracer, "pad-push-list-pre", G_CALLBACK(StageHooks::push_list_pre));
        gst_tracing_register_hook(tracer, "pad-push-list-post", G_CALLBACK(StageHooks::push_post));
        gst_tracing_register_hook(tracer, "pad-push-event-pre", G_CALLBACK(StageHooks::event_pre));
        gst_tracing_register_hook(tracer, "pad-push-event-post", G_CALLBACK(StageHooks::event_post));
        gst_object_unref(tracer);
        return StageHooks::times;
    }();
    return *times;
}

StageTimes::Stage& StageTimes::stage(GstElement* element) {
    const auto [it, fresh] = stages_.try_emplace(element);
    if (fresh) {
        const GString_ptr name(gst_object_get_name(GST_OBJECT(element)));
        it->second.name = name.get();
        it->second.order = stages_.size();
    }
    return it->second;
}

void StageTimes::pre(GstPad* pad, std::uint64_t buffers, GstBuffer* buffer) {
    Thread& thread = StageHooks::thread();
    const GstClockTime wall = gst_util_get_timestamp();
    const GstClockTime cpu = thread_cpu();
    const auto peer = adopt(gst_pad_get_peer(pad));
    const auto receiver = peer ? parent_of(peer.get()) : GstPtr<GstElement>();
    const auto from = stage_of(parent_of(pad));
    const auto to = stage_of(receiver);
    const auto caps = buffers ? adopt(gst_pad_get_current_caps(pad)) : GstPtr<GstCaps>();
    const bool sized = caps && gst_caps_get_size(caps.get()) > 0;
    const GstStructure* kind = sized ? gst_caps_get_structure(caps.get(), 0) : nullptr;
    {
        const std::lock_guard lock(mutex_);
        // What lies before a thread's first boundary is not known and left out.
        if (from && thread.wall) {
            Stage& s = stage(from.get());
            s.cpu += cpu - thread.cpu;
            if (!thread.pushes.empty())
                s.wall += wall - *thread.wall;
        }
        if (from && from.get() != to.get()) {
            Stage& s = stage(from.get());
            s.buffers_out += buffers;
            if (kind && gst_structure_has_name(kind, "application/x-mri-image"))
                s.images_out += buffers;
            else if (kind && gst_structure_has_name(kind, "video/x-raw"))
                s.pictures_out += buffers;
            if (to)
                stage(to.get()).buffers_in += buffers;
        }
    }
    if (buffer && receiver && GST_IS_BASE_SINK(receiver.get()))
        arrives(receiver.get(), pad, buffer);
    thread.pushes.push_back({pad, to.get()});
    thread.wall = gst_util_get_timestamp();
    thread.cpu = thread_cpu();
}

void StageTimes::post(GstPad* pad) {
    Thread& thread = StageHooks::thread();
    const auto it = std::find_if(thread.pushes.rbegin(), thread.pushes.rend(),
                                 [&](const auto& p) { return p.pad == pad; });
    if (it == thread.pushes.rend())
        return;
    const GstClockTime wall = gst_util_get_timestamp();
    const GstClockTime cpu = thread_cpu();
    {
        const std::lock_guard lock(mutex_);
        // The receiver is alive: it is still inside the call that is about to return.
        if (it->receiver && thread.wall) {
            Stage& s = stage(it->receiver);
            s.wall += wall - *thread.wall;
            s.cpu += cpu - thread.cpu;
        }
    }
    thread.pushes.erase(std::prev(it.base()), thread.pushes.end());
    thread.wall = gst_util_get_timestamp();
    thread.cpu = thread_cpu();
}

void StageTimes::arrives(GstElement* sink, GstPad* pad, GstBuffer* buffer) {
    auto* base = GST_BASE_SINK(sink);
    const auto clock = adopt(gst_element_get_clock(sink));
    const auto event = adopt(gst_pad_get_sticky_event(pad, GST_EVENT_SEGMENT, 0));
    if (!gst_base_sink_get_sync(base) || !clock || !event || !GST_BUFFER_PTS_IS_VALID(buffer))
        return;
    const GstSegment* segment = nullptr;
    gst_event_parse_segment(event.get(), &segment);
    if (segment->format != GST_FORMAT_TIME)
        return;
    const GstClockTime running =
        gst_segment_to_running_time(segment, GST_FORMAT_TIME, GST_BUFFER_PTS(buffer));
    if (!GST_CLOCK_TIME_IS_VALID(running))
        return;
    const GString_ptr name(gst_object_get_name(GST_OBJECT(sink)));
    // The first frame brings the sink to PLAYING; before that there is no base time to be late against.
    const bool playing = GST_STATE(sink) == GST_STATE_PLAYING;
    const GstClockTime due = gst_element_get_base_time(sink) + running + gst_base_sink_get_latency(base);
    const GstClockTimeDiff late = GST_CLOCK_DIFF(due, gst_clock_get_time(clock.get()));
    const std::lock_guard lock(mutex_);
    Lateness& l = lateness_[name.get()];
    ++l.frames;
    if (!playing)
        return;
    l.worst = l.worst ? std::max(*l.worst, late) : late;
    if (late > late_after)
        ++l.late;
}

std::vector<StageTimes::Stage> StageTimes::stages() const {
    std::vector<Stage> all;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& entry : stages_)
            all.push_back(entry.second);
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
    return all;
}

std::map<std::string, StageTimes::Lateness> StageTimes::lateness() const {
    const std::lock_guard lock(mutex_);
    return lateness_;
}

} // namespace mri
