// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/launcher/runner.hpp"

#include "pipelines/launcher/stage_times.hpp"
#include "pipelines/launcher/table.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <unistd.h>
#include <utility>

namespace mri {

volatile std::sig_atomic_t interrupts = 0;

namespace {

constexpr GstClockTime poll_interval = 50 * GST_MSECOND;
constexpr GstClockTime redraw_interval = 200 * GST_MSECOND;
/// Between two lines about what an end waits for.
constexpr GstClockTime wait_interval = GST_SECOND;
/// Time for finishing files after a timeout.
constexpr GstClockTime finish_grace = 30 * GST_SECOND;
/// Rows kept of each kind of report; a long run drops the oldest.
constexpr std::size_t max_rows = 200;

struct ParseContextFree {
    void operator()(GstParseContext* context) const noexcept { gst_parse_context_free(context); }
};

std::string print(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

std::string describe_source(GstMessage* message) {
    GstObject* source = GST_MESSAGE_SRC(message);
    if (!source)
        return "pipeline";
    const GString_ptr name(gst_object_get_name(source));
    std::string text = name ? name.get() : "?";
    if (GST_IS_ELEMENT(source))
        if (GstElementFactory* factory = gst_element_get_factory(GST_ELEMENT(source)))
            if (!text.starts_with(GST_OBJECT_NAME(factory)))
                text += " (" + std::string(GST_OBJECT_NAME(factory)) + ")";
    return text;
}

std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    while (!text.empty() && text.back() == ' ')
        text.pop_back();
    return text;
}

/// What a message lacks and its debug text has: GStreamer's ready-made sentences ("Resource not found.") name
/// no thing.
std::string elaborate(const GError* what, const gchar* debug) {
    const GString_ptr stock(gst_error_get_message(what->domain, what->code));
    if (!debug || (g_strcmp0(stock.get(), what->message) != 0 &&
                   !g_str_has_prefix(what->message, "Internal data stream error")))
        return {};
    // file(line): function (): path:\ntext
    const char* text = std::strchr(debug, '\n');
    return text && text[1] ? " (" + one_line(text + 1) + ")" : "";
}

std::string cell(const GValue* value) {
    if (G_VALUE_HOLDS_DOUBLE(value))
        return print("%.4g", g_value_get_double(value));
    if (G_VALUE_HOLDS_FLOAT(value))
        return print("%.4g", g_value_get_float(value));
    if (G_VALUE_HOLDS_STRING(value))
        return g_value_get_string(value) ? g_value_get_string(value) : "";
    const GString_ptr text(gst_value_serialize(value));
    return text ? text.get() : "";
}

std::string shortened(std::string text) {
    constexpr std::size_t most = 60;
    if (text.size() > most)
        text = text.substr(0, most - 3) + "...";
    return text;
}

/// Table of the elements' messages of one name (mri-metrics ...).
struct Report {
    std::vector<std::string> headings{"element"};
    std::vector<std::vector<std::string>> rows;

    void add(const std::string& element, const std::vector<std::pair<std::string, std::string>>& fields) {
        std::vector<std::string> row{element};
        for (const auto& [name, text] : fields) {
            auto column = std::find(headings.begin() + 1, headings.end(), name);
            if (column == headings.end())
                column = headings.insert(column, name);
            const auto index = static_cast<std::size_t>(column - headings.begin());
            row.resize(std::max(row.size(), index + 1));
            row[index] = text;
        }
        if (rows.size() == max_rows)
            rows.erase(rows.begin());
        rows.push_back(std::move(row));
    }
};

/// The columns of messages that have more fields than a line has room for; others are shown whole.
const std::map<std::string, std::vector<const char*>> shown_fields{
    {"mri-metrics",
     {"label", "image", "series", "frames", "psnr", "ssim", "psnr-moving", "raw-psnr", "raw-ssim",
      "raw-psnr-moving"}},
    {"mri-train",
     {"step", "loss", "learning-rate", "seconds-per-step", "validation-loss", "validation-psnr",
      "validation-ssim", "validation-psnr-moving", "saved"}},
};

using Reports = std::map<std::string, Report>;

std::vector<std::pair<std::string, std::string>> fields_of(const GstStructure* structure,
                                                           const std::vector<const char*>* only,
                                                           const std::string& prefix = {}) {
    std::vector<std::pair<std::string, std::string>> fields;
    const auto take = [&](const std::string& name) {
        if (const GValue* value = gst_structure_get_value(structure, (prefix + name).c_str()))
            fields.emplace_back(name, shortened(cell(value)));
    };
    if (only) {
        for (const char* name : *only)
            take(name);
    } else {
        for (gint i = 0; i < gst_structure_n_fields(structure); ++i)
            take(gst_structure_nth_field_name(structure, i));
    }
    return fields;
}

void add_report(Reports& reports, const std::string& element, const GstStructure* structure) {
    const std::string name = gst_structure_get_name(structure);
    Report& report = reports[name];
    if (name == "mri-metrics-summary") {
        // One message has the means of several images, told apart by the beginning of their fields' names.
        static constexpr std::pair<const char*, const char*> images[] = {
            {"image", ""}, {"input", "input-"}, {"gridded", "gridded-"}};
        static const std::vector<const char*> figures{
            "series", "frames", "psnr", "ssim", "psnr-moving", "raw-psnr", "raw-ssim", "raw-psnr-moving"};
        const gchar* label = gst_structure_get_string(structure, "label");
        for (const auto& [image, prefix] : images) {
            auto fields = fields_of(structure, &figures, prefix);
            if (fields.empty())
                continue;
            fields.insert(fields.begin(), {{"label", label ? label : ""}, {"image", image}});
            report.add(element, fields);
        }
        return;
    }
    // Where pictures go is told by an INFO message already; a step is news for a moment, a validation worth a
    // row.
    if (name == "mri-display" ||
        (name == "mri-train" && !gst_structure_has_field(structure, "validation-psnr")))
        return;
    const auto shown = shown_fields.find(name);
    report.add(element, fields_of(structure, shown == shown_fields.end() ? nullptr : &shown->second));
}

class Runner {
  public:
    Runner(GstPtr<GstElement> pipeline, const RunOptions& options)
        : pipeline_(std::move(pipeline)),
          options_(options),
          bus_(adopt(gst_element_get_bus(pipeline_.get()))),
          tty_(!options.quiet && isatty(STDERR_FILENO)) {}

    ~Runner() { gst_element_set_state(pipeline_.get(), GST_STATE_NULL); }
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;

    ExitCode run() {
        started_ = gst_util_get_timestamp();
        // A failed change of state has its reason on the bus, or has none.
        const bool refused =
            gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE;
        while (!done_) {
            const auto message = adopt(gst_bus_timed_pop(bus_.get(), refused ? 0 : poll_interval));
            if (message)
                handle(message.get());
            else if (refused)
                fail("the pipeline does not start", {});
            if (!done_)
                watch();
        }
        clear_status();
        finish();
        return code_;
    }

  private:
    void say(const std::string& line) {
        clear_status();
        std::fprintf(stderr, "%s\n", line.c_str());
    }

    void fail(const std::string& line, const std::string& debug) {
        if (code_ != ExitCode::pipeline_error) {
            say("mri-launch: " + line);
            if (options_.verbose && !debug.empty())
                say("  " + debug);
        }
        code_ = ExitCode::pipeline_error;
        done_ = true;
    }

    void handle(GstMessage* message) {
        switch (GST_MESSAGE_TYPE(message)) {
        case GST_MESSAGE_EOS:
            done_ = true;
            break;
        case GST_MESSAGE_ERROR:
        case GST_MESSAGE_WARNING: {
            const bool error = GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR;
            GError* raw = nullptr;
            gchar* raw_debug = nullptr;
            if (error)
                gst_message_parse_error(message, &raw, &raw_debug);
            else
                gst_message_parse_warning(message, &raw, &raw_debug);
            const GErrorPtr what(raw);
            const GString_ptr debug(raw_debug);
            std::string line = describe_source(message) + ": " + one_line(what->message);
            line += elaborate(what.get(), debug.get());
            if (error) {
                fail(line, debug ? debug.get() : "");
            } else {
                say("mri-launch: warning: " + line);
                if (options_.verbose && debug)
                    say("  " + std::string(debug.get()));
            }
            break;
        }
        case GST_MESSAGE_INFO: {
            GError* raw = nullptr;
            gst_message_parse_info(message, &raw, nullptr);
            if (const GErrorPtr what(raw); !options_.quiet)
                say(describe_source(message) + ": " + one_line(what->message));
            break;
        }
        case GST_MESSAGE_LATENCY:
            gst_bin_recalculate_latency(GST_BIN(pipeline_.get()));
            break;
        case GST_MESSAGE_CLOCK_LOST:
            gst_element_set_state(pipeline_.get(), GST_STATE_PAUSED);
            gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING);
            break;
        case GST_MESSAGE_PROGRESS:
            progress(message);
            break;
        case GST_MESSAGE_ELEMENT: {
            const GstStructure* structure = gst_message_get_structure(message);
            if (structure && g_str_has_prefix(gst_structure_get_name(structure), "mri-"))
                add_report(reports_, describe_source(message), structure);
            break;
        }
        default:
            break;
        }
    }

    void progress(GstMessage* message) {
        GstProgressType type{};
        gchar* raw_code = nullptr;
        gchar* raw_text = nullptr;
        gst_message_parse_progress(message, &type, &raw_code, &raw_text);
        const GString_ptr code(raw_code);
        const GString_ptr text(raw_text);
        if (options_.quiet || !text)
            return;
        note_ = one_line(text.get());
        // On a terminal what goes on stands in the status line; a log gets at most one such line a second.
        if (type == GST_PROGRESS_TYPE_CONTINUE) {
            if (tty_ || gst_util_get_timestamp() - note_time_ < GST_SECOND)
                return;
            note_time_ = gst_util_get_timestamp();
        }
        say(describe_source(message) + ": " + note_);
        note_.clear();
    }

    /// Between messages: interrupts, the timeout, the status line.
    void watch() {
        const GstClockTime now = gst_util_get_timestamp();
        if (interrupts > seen_interrupts_) {
            seen_interrupts_ = interrupts;
            code_ = ExitCode::interrupted;
            if (interrupts > 1) {
                say("mri-launch: stopped at once; files may be incomplete");
                done_ = true;
                return;
            }
            end("interrupted: finishing (again to stop at once)");
        }
        if (options_.timeout_s && !ending_ &&
            now - started_ >
                static_cast<GstClockTime>(*options_.timeout_s * static_cast<double>(GST_SECOND))) {
            code_ = ExitCode::timed_out;
            end("the time is over: finishing");
        }
        if (ending_ && code_ == ExitCode::timed_out && now > *ending_ + finish_grace)
            fail("the pipeline did not end after its time was over", {});
        if (ending_ && now - std::max(*ending_, waited_) > wait_interval) {
            waited_ = now;
            if (const std::string name = waited_for(); !name.empty() && name != awaited_ && !options_.quiet)
                say("mri-launch: waiting for " + (awaited_ = name));
        }
        if (tty_ && now - drawn_ > redraw_interval) {
            drawn_ = now;
            draw();
        }
    }

    void end(const std::string& why) {
        say("mri-launch: " + why);
        ending_ = gst_util_get_timestamp();
        // What works on after the end of its data (mritrain) has a property for this.
        const std::unique_ptr<GstIterator, void (*)(GstIterator*)> all(
            gst_bin_iterate_recurse(GST_BIN(pipeline_.get())), gst_iterator_free);
        gst_iterator_foreach(
            all.get(),
            [](const GValue* item, gpointer) {
                auto* element = G_OBJECT(g_value_get_object(item));
                const GParamSpec* stop = g_object_class_find_property(G_OBJECT_GET_CLASS(element), "stop");
                if (stop && stop->value_type == G_TYPE_BOOLEAN && (stop->flags & G_PARAM_WRITABLE))
                    g_object_set(element, "stop", TRUE, nullptr);
            },
            nullptr);
        if (is_live())
            drop_what_waits();
        // A bin's answer to this says nothing: it is that of its own pads, and a pipeline has none.
        gst_element_send_event(pipeline_.get(), gst_event_new_eos());
    }

    /// Whether a source is live. Sinks that do not wait for the clock say of themselves that they are not.
    bool is_live() {
        for (const auto& element : elements()) {
            if (!GST_OBJECT_FLAG_IS_SET(element.get(), GST_ELEMENT_FLAG_SOURCE) || GST_IS_BIN(element.get()))
                continue;
            const auto query = adopt(gst_query_new_latency());
            gboolean live = FALSE;
            if (gst_element_query(element.get(), query.get()))
                gst_query_parse_latency(query.get(), &live, nullptr, nullptr);
            if (live)
                return true;
        }
        return false;
    }

    /// Buffers that wait in queues: of a live scan nobody sees them in time, and a network that is slower than the
    /// scan would go on with them for minutes. What elements hold is finished.
    void drop_what_waits() {
        for (const auto& element : elements()) {
            if (!is_queue(element.get()))
                continue;
            if (const auto pad = adopt(gst_element_get_static_pad(element.get(), "src")))
                gst_pad_add_probe(
                    pad.get(), GST_PAD_PROBE_TYPE_BUFFER,
                    [](GstPad*, GstPadProbeInfo*, gpointer) { return GST_PAD_PROBE_DROP; }, nullptr, nullptr);
        }
    }

    static bool is_queue(GstElement* element) {
        GstElementFactory* factory = gst_element_get_factory(element);
        return factory && std::strcmp(GST_OBJECT_NAME(factory), "queue") == 0;
    }

    std::vector<GstPtr<GstElement>> elements() {
        std::vector<GstPtr<GstElement>> found;
        const std::unique_ptr<GstIterator, void (*)(GstIterator*)> all(
            gst_bin_iterate_recurse(GST_BIN(pipeline_.get())), gst_iterator_free);
        gst_iterator_foreach(
            all.get(),
            [](const GValue* item, gpointer list) {
                static_cast<std::vector<GstPtr<GstElement>>*>(list)->push_back(
                    retain(GST_ELEMENT(g_value_get_object(item))));
            },
            &found);
        return found;
    }

    static bool at_end(GstPad* pad) {
        return static_cast<bool>(adopt(gst_pad_get_sticky_event(pad, GST_EVENT_EOS, 0)));
    }

    /// The element that has been given the end of its data and has not passed it on; empty when there is none.
    std::string waited_for() {
        for (const auto& element : elements()) {
            const auto in = adopt(gst_element_get_static_pad(element.get(), "sink"));
            const auto out = adopt(gst_element_get_static_pad(element.get(), "src"));
            if (!in || !out || at_end(out.get()))
                continue;
            const auto before = adopt(gst_pad_get_peer(in.get()));
            if (!before || !at_end(before.get()))
                continue;
            if (!is_queue(element.get()))
                return name_of(element.get());
            // The queue's thread is in what stands behind it.
            if (const auto next = adopt(gst_pad_get_peer(out.get())))
                if (const auto busy = adopt(gst_pad_get_parent_element(next.get())))
                    return name_of(busy.get());
        }
        return {};
    }

    static std::string name_of(GstElement* element) {
        const GString_ptr name(gst_object_get_name(GST_OBJECT(element)));
        return name ? name.get() : "?";
    }

    void draw() {
        gint64 position = -1;
        gint64 duration = -1;
        gst_element_query_position(pipeline_.get(), GST_FORMAT_TIME, &position);
        gst_element_query_duration(pipeline_.get(), GST_FORMAT_TIME, &duration);
        std::string line;
        constexpr double second = 1e9;
        if (position >= 0 && duration > 0) {
            constexpr int width = 40;
            const double part =
                std::clamp(static_cast<double>(position) / static_cast<double>(duration), 0.0, 1.0);
            const int full = static_cast<int>(part * width);
            line = "[" + std::string(full, '#') + std::string(width - full, '.') + "] " +
                   print("%3.0f %%", 100 * part) + print("  %.1f", static_cast<double>(position) / second) +
                   print(" of %.1f s", static_cast<double>(duration) / second);
        } else if (position >= 0) {
            line = print("%.1f s", static_cast<double>(position) / second);
        }
        if (!note_.empty())
            line += (line.empty() ? "" : "  ") + note_;
        if (line.empty())
            return;
        std::fprintf(stderr, "\r\033[K%s", line.c_str());
        std::fflush(stderr);
        status_shown_ = true;
    }

    void clear_status() {
        if (status_shown_)
            std::fprintf(stderr, "\r\033[K");
        status_shown_ = false;
    }

    void finish() {
        std::vector<GstPtr<GstElement>> sinks;
        if (options_.stats)
            sinks = find_sinks();
        const double elapsed = static_cast<double>(gst_util_get_timestamp() - started_) / 1e9;
        std::vector<SinkCounts> counts;
        for (const auto& sink : sinks)
            counts.push_back(count(sink.get()));
        const auto latency = options_.stats ? query_latency() : std::nullopt;
        // What is posted while stopping (the last series' figures) belongs to the reports.
        gst_element_set_state(pipeline_.get(), GST_STATE_NULL);
        while (const auto message = adopt(gst_bus_pop(bus_.get())))
            if (GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_ELEMENT)
                handle(message.get());
        if (options_.quiet || code_ == ExitCode::pipeline_error)
            return;
        // The means over one series are that series again.
        if (reports_["mri-metrics-summary"].rows.size() == reports_["mri-metrics"].rows.size())
            reports_.erase("mri-metrics-summary");
        for (const auto& [name, report] : reports_)
            if (!report.rows.empty())
                std::printf("\n%s\n%s", name.c_str(), format_table(report.headings, report.rows).c_str());
        if (options_.stats)
            print_stats(counts, latency, elapsed);
        std::fflush(stdout);
    }

    struct SinkCounts {
        std::string name;
        guint64 dropped = 0;
    };

    std::vector<GstPtr<GstElement>> find_sinks() {
        std::vector<GstPtr<GstElement>> sinks;
        GstIterator* it = gst_bin_iterate_recurse(GST_BIN(pipeline_.get()));
        GValue item = G_VALUE_INIT;
        for (bool more = true; more;) {
            switch (gst_iterator_next(it, &item)) {
            case GST_ITERATOR_OK: {
                auto* element = GST_ELEMENT(g_value_get_object(&item));
                // GstBaseSink's own property; a bin that is a sink has none.
                if (GST_OBJECT_FLAG_IS_SET(element, GST_ELEMENT_FLAG_SINK) && !GST_IS_BIN(element) &&
                    g_object_class_find_property(G_OBJECT_GET_CLASS(element), "stats"))
                    sinks.push_back(retain(element));
                g_value_reset(&item);
                break;
            }
            case GST_ITERATOR_RESYNC:
                sinks.clear();
                gst_iterator_resync(it);
                break;
            default:
                more = false;
            }
        }
        g_value_unset(&item);
        gst_iterator_free(it);
        return sinks;
    }

    static SinkCounts count(GstElement* sink) {
        SinkCounts counts;
        const GString_ptr name(gst_object_get_name(GST_OBJECT(sink)));
        counts.name = name.get();
        GstStructure* raw = nullptr;
        g_object_get(sink, "stats", &raw, nullptr);
        if (const StructurePtr stats(raw); stats) {
            gst_structure_get_uint64(stats.get(), "dropped", &counts.dropped);
        }
        return counts;
    }

    std::optional<GstClockTime> query_latency() {
        GstQuery* query = gst_query_new_latency();
        std::optional<GstClockTime> latency;
        if (gst_element_query(pipeline_.get(), query)) {
            gboolean live = FALSE;
            GstClockTime low = 0;
            gst_query_parse_latency(query, &live, &low, nullptr);
            if (live)
                latency = low;
        }
        gst_query_unref(query);
        return latency;
    }

    void print_stats(const std::vector<SinkCounts>& sinks, std::optional<GstClockTime> latency,
                     double elapsed) const {
        const auto stages = StageTimes::install().stages();
        // A frame is an image, or a picture where the pipeline has no images; encoders and muxers count
        // otherwise.
        guint64 images = 0;
        guint64 pictures = 0;
        for (const auto& s : stages) {
            images = std::max(images, s.images_out);
            pictures = std::max(pictures, s.pictures_out);
        }
        const guint64 frames = images ? images : pictures;
        const auto per_frame = [&](GstClockTime time) {
            return frames ? print("%.2f", static_cast<double>(time) / 1e6 / static_cast<double>(frames))
                          : std::string("-");
        };
        std::vector<std::vector<std::string>> rows;
        for (const auto& s : stages) {
            if (s.buffers_in + s.buffers_out == 0)
                continue;
            rows.push_back({s.name, std::to_string(s.buffers_in), std::to_string(s.buffers_out),
                            s.buffers_in == 0 ? "-" : per_frame(s.wall), per_frame(s.cpu)});
        }
        std::printf(
            "\nms a frame: wall, inside the element (a sink's waiting included); cpu, processor time of its "
            "streaming threads\n%s",
            format_table({"stage", "buffers in", "out", "wall ms", "cpu ms"}, rows).c_str());
        rows.clear();
        const auto lateness = StageTimes::install().lateness();
        for (const auto& sink : sinks) {
            const auto late = lateness.find(sink.name);
            if (late == lateness.end())
                continue; // it does not show frames at their time
            // A sink drops by itself, and by its reports of quality makes elements before it leave frames
            // out.
            const guint64 arrived = late->second.frames;
            const guint64 dropped = sink.dropped + (frames > arrived ? frames - arrived : 0);
            rows.push_back(
                {sink.name, std::to_string(arrived - std::min(arrived, sink.dropped)),
                 std::to_string(late->second.late),
                 late->second.worst ? print("%.1f", static_cast<double>(*late->second.worst) / 1e6) : "-",
                 std::to_string(dropped)});
        }
        if (!rows.empty())
            std::printf("\nframes at their time: late is more than 5 ms after it\n%s",
                        format_table({"sink", "shown", "late", "latest by ms", "dropped"}, rows).c_str());
        std::printf("\n%" G_GUINT64_FORMAT " frames in %.1f s, %.1f a second", frames, elapsed,
                    elapsed > 0 ? static_cast<double>(frames) / elapsed : 0.0);
        if (latency)
            std::printf("; latency %.0f ms", static_cast<double>(*latency) / 1e6);
        std::printf("\n");
    }

    GstPtr<GstElement> pipeline_;
    const RunOptions& options_;
    GstPtr<GstBus> bus_;
    bool tty_;
    bool done_ = false;
    bool status_shown_ = false;
    ExitCode code_ = ExitCode::ok;
    GstClockTime started_ = 0;
    GstClockTime drawn_ = 0;
    GstClockTime waited_ = 0; // when the line about it was looked for
    std::string awaited_;     // the element of the last such line
    GstClockTime note_time_ = 0;
    std::optional<GstClockTime> ending_;
    int seen_interrupts_ = 0;
    std::string note_;
    Reports reports_;
};

} // namespace

GstPtr<GstElement> parse_pipeline(const std::string& text) {
    const std::unique_ptr<GstParseContext, ParseContextFree> context(gst_parse_context_new());
    GError* raw = nullptr;
    GstElement* element =
        gst_parse_launch_full(text.c_str(), context.get(), GST_PARSE_FLAG_FATAL_ERRORS, &raw);
    const GErrorPtr error(raw);
    // A floating reference is nobody's yet.
    GstPtr<GstElement> pipeline =
        element ? adopt(GST_ELEMENT(gst_object_ref_sink(element))) : GstPtr<GstElement>();
    if (error || !pipeline) {
        std::string missing;
        gchar** names = gst_parse_context_get_missing_elements(context.get());
        for (gchar** name = names; name && *name; ++name)
            missing += (missing.empty() ? "" : ", ") + std::string(*name);
        g_strfreev(names);
        if (!missing.empty() && error && error->code == GST_PARSE_ERROR_NO_SUCH_ELEMENT)
            throw Error(Errc::unsupported, "There is no element " + missing +
                                               "; its plugin is not installed, not built, or failed to load");
        throw Error(Errc::settings, error ? one_line(error->message) : "The pipeline is empty");
    }
    if (!GST_IS_PIPELINE(pipeline.get())) {
        auto whole = adopt(GST_ELEMENT(gst_object_ref_sink(gst_pipeline_new(nullptr))));
        gst_bin_add(GST_BIN(whole.get()), pipeline.get());
        pipeline = std::move(whole);
    }
    return pipeline;
}

ExitCode run_pipeline(const std::string& text, const RunOptions& options) {
    if (options.stats)
        StageTimes::install();
    auto pipeline = parse_pipeline(text);
    if (!options.name.empty())
        gst_object_set_name(GST_OBJECT(pipeline.get()), options.name.c_str());
    return Runner(std::move(pipeline), options).run();
}

} // namespace mri
