// SPDX-License-Identifier: LGPL-2.1-or-later
#define GST_USE_UNSTABLE_API // the tracing hooks
#include "stage_times.hpp"

#include <algorithm>
#include <ctime>
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

GstPtr<GstElement> parent_of(GstPad* pad) {
    GstPtr<GstObject> parent = adopt(gst_object_get_parent(GST_OBJECT(pad)));
    // A ghost pad's inner half belongs to the ghost pad.
    if (parent && GST_IS_PAD(parent.get()))
        parent = adopt(gst_object_get_parent(parent.get()));
    if (!parent || !GST_IS_ELEMENT(parent.get()))
        return {};
    return adopt(GST_ELEMENT(parent.release()));
}

GstPtr<GstElement> receiver_of(GstPad* pad) {
    const auto peer = adopt(gst_pad_get_peer(pad));
    return peer ? parent_of(peer.get()) : GstPtr<GstElement>();
}

} // namespace

struct StageHooks {
    static StageTimes::Thread& thread() {
        static thread_local StageTimes::Thread own;
        return own;
    }
    static void push_pre(GObject*, GstClockTime, GstPad* pad, GstBuffer*) { times->pre(pad, 1); }
    static void push_list_pre(GObject*, GstClockTime, GstPad* pad, GstBufferList* list) {
        times->pre(pad, gst_buffer_list_length(list));
    }
    static void push_post(GObject*, GstClockTime, GstPad* pad, GstFlowReturn) { times->post(pad); }
    static void event_pre(GObject*, GstClockTime, GstPad* pad, GstEvent* event) {
        if (GST_EVENT_TYPE(event) == GST_EVENT_QOS && GST_PAD_IS_SINK(pad)) {
            const auto sink = parent_of(pad);
            if (sink && GST_OBJECT_FLAG_IS_SET(sink.get(), GST_ELEMENT_FLAG_SINK))
                times->quality(sink.get(), event);
        }
        if (GST_PAD_IS_SRC(pad))
            times->pre(pad, 0);
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
        const GstElementFactory* factory = gst_element_get_factory(element);
        it->second.name = name.get();
        it->second.factory = factory ? GST_OBJECT_NAME(factory) : "";
        it->second.order = static_cast<guint>(stages_.size());
    }
    return it->second;
}

void StageTimes::pre(GstPad* pad, std::uint64_t buffers) {
    Thread& thread = StageHooks::thread();
    const GstClockTime wall = gst_util_get_timestamp();
    const GstClockTime cpu = thread_cpu();
    const auto from = parent_of(pad);
    const auto to = receiver_of(pad);
    const auto caps = buffers ? adopt(gst_pad_get_current_caps(pad)) : GstPtr<GstCaps>();
    const bool sized = caps && gst_caps_get_size(caps.get()) > 0;
    const GstStructure* kind = sized ? gst_caps_get_structure(caps.get(), 0) : nullptr;
    {
        const std::lock_guard lock(mutex_);
        if (from) {
            Stage& s = stage(from.get());
            s.buffers_out += buffers;
            if (kind && gst_structure_has_name(kind, "application/x-mri-image"))
                s.images_out += buffers;
            else if (kind && gst_structure_has_name(kind, "video/x-raw"))
                s.pictures_out += buffers;
            if (thread.pushes.empty())
                s.starts_thread = true;
            // A boundary before the first one is not known: that piece is left out.
            if (thread.wall) {
                s.cpu += cpu - thread.cpu;
                if (!thread.pushes.empty())
                    s.wall += wall - *thread.wall;
            }
        }
        if (to)
            stage(to.get()).buffers_in += buffers;
    }
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

void StageTimes::quality(GstElement* sink, GstEvent* event) {
    GstClockTimeDiff jitter = 0;
    gst_event_parse_qos(event, nullptr, nullptr, &jitter, nullptr);
    const GString_ptr name(gst_object_get_name(GST_OBJECT(sink)));
    const std::lock_guard lock(mutex_);
    Lateness& l = lateness_[name.get()];
    ++l.frames;
    if (jitter > 0) {
        ++l.late;
        l.worst = std::max(l.worst, static_cast<GstClockTime>(jitter));
    }
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
