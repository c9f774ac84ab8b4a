// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/gst_test.hpp"

#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <gst/gsttracerfactory.h>

namespace mri::test {

namespace {

GstTracer* leaks_tracer() {
    GList* tracers = gst_tracing_get_active_tracers();
    GstTracer* found = nullptr;
    for (GList* t = tracers; t; t = t->next) {
        if (!found && g_str_has_prefix(G_OBJECT_TYPE_NAME(t->data), "GstLeaksTracer"))
            found = static_cast<GstTracer*>(gst_object_ref(t->data));
    }
    g_list_free_full(tracers, gst_object_unref);
    return found;
}

class GstEnvironment : public ::testing::Environment {
  public:
    void SetUp() override {
        std::setlocale(LC_ALL, ""); // as gst-launch-1.0 does
        g_setenv("GST_TRACERS", "leaks", TRUE);
        // Under a sanitizer the plugin scanner would have to be instrumented too; in-process scanning needs
        // nothing.
        gst_registry_fork_set_enabled(FALSE);
        gst_init(nullptr, nullptr);
        g_log_set_always_fatal(
            static_cast<GLogLevelFlags>(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR | G_LOG_FATAL_MASK));
    }

    void TearDown() override {
        gst_task_cleanup_all(); // a thread lets go of its task only after the state change that ended it
        GstTracer* tracer = leaks_tracer();
        ASSERT_NE(tracer, nullptr) << "the leaks tracer is not active";
        GstStructure* live = nullptr;
        g_signal_emit_by_name(tracer, "get-live-objects", &live);
        gst_object_unref(tracer);
        if (live) {
            const GValue* list = gst_structure_get_value(live, "live-objects-list");
            const guint count = list ? gst_value_list_get_size(list) : 0;
            if (count > 0) {
                const GString_ptr text(gst_structure_to_string(live));
                ADD_FAILURE() << count << " GStreamer objects leaked: " << text.get();
            }
            gst_structure_free(live);
        }
    }
};

[[maybe_unused]] const auto* const environment =
    ::testing::AddGlobalTestEnvironment(new GstEnvironment); // NOLINT: gtest owns it

std::string message_text(GstMessage* message, void (*parse)(GstMessage*, GError**, gchar**)) {
    GError* error = nullptr;
    gchar* debug = nullptr;
    parse(message, &error, &debug);
    const GErrorPtr error_owner(error);
    const GString_ptr debug_owner(debug);
    return error ? error->message : "";
}

} // namespace

Harness harness(const std::string& launch_line) {
    return Harness(gst_harness_new_parse(launch_line.c_str()));
}

BusWatch::BusWatch(GstElement* element) : element_(retain(element)), bus_(adopt(gst_bus_new())) {
    gst_element_set_bus(element, bus_.get());
}

BusWatch::~BusWatch() {
    gst_element_set_bus(element_.get(), nullptr);
}

void BusWatch::drain() {
    while (auto message = adopt(gst_bus_pop(bus_.get()))) {
        switch (GST_MESSAGE_TYPE(message.get())) {
        case GST_MESSAGE_ERROR:
            errors_.push_back(message_text(message.get(), gst_message_parse_error));
            break;
        case GST_MESSAGE_WARNING:
            warnings_.push_back(message_text(message.get(), gst_message_parse_warning));
            break;
        case GST_MESSAGE_ELEMENT:
            elements_.emplace_back(gst_structure_copy(gst_message_get_structure(message.get())));
            break;
        default:
            break;
        }
    }
}

std::vector<std::string> BusWatch::errors() {
    drain();
    return errors_;
}

std::vector<std::string> BusWatch::warnings() {
    drain();
    return warnings_;
}

std::vector<StructurePtr> BusWatch::element_messages() {
    drain();
    return std::move(elements_);
}

RunResult run_pipeline(const std::string& launch_line, double seconds,
                       const std::function<void(const std::string&, GstSample*)>& on_sample) {
    RunResult result;
    GError* error = nullptr;
    GstElement* raw =
        gst_parse_launch_full(launch_line.c_str(), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &error);
    const GErrorPtr parse_error(error);
    if (!raw) {
        result.errors.push_back(std::string("parse: ") + (error ? error->message : "unknown"));
        return result;
    }
    gst_object_ref_sink(raw);
    auto pipeline = adopt(raw);
    if (!GST_IS_PIPELINE(raw)) { // a single element: give it a pipeline around
        auto* whole = gst_pipeline_new(nullptr);
        gst_bin_add(GST_BIN(whole), pipeline.release());
        pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(whole)));
    }
    if (on_sample) {
        auto iterator = std::unique_ptr<GstIterator, void (*)(GstIterator*)>(
            gst_bin_iterate_all_by_element_factory_name(GST_BIN(pipeline.get()), "appsink"),
            gst_iterator_free);
        using Callback = std::function<void(const std::string&, GstSample*)>;
        gst_iterator_foreach(
            iterator.get(),
            [](const GValue* item, gpointer data) {
                auto* sink = GST_ELEMENT(g_value_get_object(item));
                g_object_set(sink, "emit-signals", TRUE, nullptr);
                g_signal_connect(sink, "new-sample",
                                 G_CALLBACK(+[](GstElement* appsink, gpointer callback) -> GstFlowReturn {
                                     GstSample* sample = nullptr;
                                     g_signal_emit_by_name(appsink, "pull-sample", &sample);
                                     if (!sample)
                                         return GST_FLOW_EOS;
                                     const auto owner = adopt(sample);
                                     const GString_ptr name(gst_element_get_name(appsink));
                                     (*static_cast<const Callback*>(callback))(name.get(), sample);
                                     return GST_FLOW_OK;
                                 }),
                                 data);
            },
            const_cast<Callback*>(&on_sample));
    }
    auto bus = adopt(gst_element_get_bus(pipeline.get()));
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    const gint64 end = g_get_monotonic_time() + static_cast<gint64>(seconds * 1e6);
    bool failed = false;
    while (!result.eos) {
        const gint64 left = failed ? 0 : end - g_get_monotonic_time();
        auto message =
            adopt(gst_bus_timed_pop(bus.get(), left > 0 ? static_cast<GstClockTime>(left) * 1000 : 0));
        if (!message) {
            if (!failed)
                result.errors.push_back("timeout after " + std::to_string(seconds) + " s");
            break;
        }
        switch (GST_MESSAGE_TYPE(message.get())) {
        case GST_MESSAGE_EOS:
            result.eos = true;
            break;
        case GST_MESSAGE_LATENCY:
            gst_bin_recalculate_latency(GST_BIN(pipeline.get()));
            break;
        case GST_MESSAGE_ERROR:
            result.errors.push_back(std::string(GST_OBJECT_NAME(GST_MESSAGE_SRC(message.get()))) + ": " +
                                    message_text(message.get(), gst_message_parse_error));
            if (!failed) { // those that follow at once belong to the picture
                failed = true;
                g_usleep(100000);
            }
            break;
        case GST_MESSAGE_WARNING:
            result.warnings.push_back(std::string(GST_OBJECT_NAME(GST_MESSAGE_SRC(message.get()))) + ": " +
                                      message_text(message.get(), gst_message_parse_warning));
            break;
        case GST_MESSAGE_ELEMENT:
            result.messages.emplace_back(gst_structure_copy(gst_message_get_structure(message.get())));
            break;
        default:
            break;
        }
    }
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    return result;
}

std::string header_of(GstPad* pad) {
    for (guint i = 0;; ++i) {
        const auto event = adopt(gst_pad_get_sticky_event(pad, GST_EVENT_CUSTOM_DOWNSTREAM_STICKY, i));
        if (!event)
            return {};
        if (auto xml = mri::header_of(event.get()); !xml.empty())
            return xml;
    }
}

std::string env(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::vector<std::string> cycle_states(const std::string& factory, int times) {
    auto* made = gst_element_factory_make(factory.c_str(), nullptr);
    EXPECT_NE(made, nullptr) << factory;
    if (!made)
        return {"no such element"};
    auto element = adopt(GST_ELEMENT(gst_object_ref_sink(made)));
    BusWatch watch(element.get());
    for (int i = 0; i < times; ++i) {
        gst_element_set_state(element.get(), GST_STATE_PLAYING);
        gst_element_set_state(element.get(), GST_STATE_NULL);
    }
    return watch.errors();
}

} // namespace mri::test
