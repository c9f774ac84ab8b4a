// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mridisplaysink
//
// Shows video in a window where there is a display, and records it into a file where there is none, so that
// one pipeline serves a desk and a server. A window is opened when DISPLAY or WAYLAND_DISPLAY is set and a
// sink can open it; else `location` is written: H.264 in MP4 or Matroska, or VP8 in WebM, by its ending, with
// whichever encoder is installed (an MP4 becomes a WebM when there is none for H.264). %date in it becomes
// the date and time. An INFO message and an element message `mri-display` (fields mode, sink or encoder,
// location) say which way was taken. With `gif-location` an animated GIF is recorded too. `display` forces
// one or the other.
//
// A recording appears under its name when it is complete, at EOS; what was there before stays until then. One that is
// stopped before, or in a pipeline of which any element has posted an error, is kept as `location` and ".partial", and a
// warning says so; what a killed process leaves has that name and two numbers, and the next run tells of it. An MP4 is written in fragments, so that such
// files play too. The picture's size may not change while it is recorded. Latency: that of the window's sink; a recording is not
// synchronised to the clock. Caps: video/x-raw of any format.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=30 ! mrivideo ! mridisplaysink display=file location=heart.mp4
// ]|
#include "plugins/common/abandoned.hpp"
#include "plugins/common/element.hpp"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

namespace {

using namespace mri;

enum class DisplayMode { automatic, window, file };

struct DisplaySettings {
    DisplayMode display = DisplayMode::automatic;
    std::string location = "gst-mri-%date.mp4";
    std::string gif_location;
    std::string video_sink;
    bool sync = true;
};

bool is_there(const char* factory) {
    return static_cast<bool>(adopt(gst_element_factory_find(factory)));
}

GstPtr<GstElement> make(const char* factory) {
    GstElement* made = gst_element_factory_make(factory, nullptr);
    if (!made)
        throw Error(Errc::unsupported,
                    std::string("The element ") + factory + ", which the display needs, is not installed");
    return adopt(GST_ELEMENT(gst_object_ref_sink(made)));
}

std::string with_date(std::string location) {
    const std::string mark = "%date";
    const auto place = location.find(mark);
    if (place == std::string::npos)
        return location;
    std::unique_ptr<GDateTime, void (*)(GDateTime*)> now(g_date_time_new_now_local(), g_date_time_unref);
    const GString_ptr text(g_date_time_format(now.get(), "%Y%m%d-%H%M%S"));
    return location.replace(place, mark.size(), text.get());
}

struct Encoder {
    const char* factory;
    const char* launch; // with what brings its output into every container
    bool h264;
};
// Quality well above what an eye tells apart; no frame waits for later ones, so that a short series comes out
// whole.
constexpr Encoder encoders[] = {
    {"x264enc",
     "x264enc tune=zerolatency speed-preset=veryfast pass=qual quantizer=17 key-int-max=50 ! h264parse",
     true},
    {"openh264enc", "openh264enc rate-control=off qp-min=16 qp-max=20 gop-size=50 ! h264parse", true},
    {"vp8enc",
     "vp8enc deadline=1 end-usage=cq cq-level=6 min-quantizer=2 max-quantizer=20 target-bitrate=20000000 "
     "keyframe-max-dist=50",
     false},
};

struct Recording {
    std::string location;
    const Encoder* encoder;
    std::string mux;
};

Recording choose_recording(const std::string& pattern) {
    std::string location = with_date(pattern);
    const auto dot = location.rfind('.');
    std::string ending = dot == std::string::npos ? "" : location.substr(dot);
    std::transform(ending.begin(), ending.end(), ending.begin(), g_ascii_tolower);
    if (ending != ".mp4" && ending != ".mkv" && ending != ".webm")
        throw Error(Errc::settings, "The recording '" + location + "' must end in .mp4, .mkv or .webm");
    const auto usable = [&](bool any) {
        return std::find_if(std::begin(encoders), std::end(encoders), [&](const Encoder& e) {
            return is_there(e.factory) && (!e.h264 || is_there("h264parse")) &&
                   (any || (ending == ".mkv") || e.h264 == (ending == ".mp4"));
        });
    };
    const auto* encoder = usable(false);
    if (encoder == std::end(encoders) && ending == ".mp4") {
        ending = ".webm";
        location.replace(dot, std::string::npos, ending);
        encoder = usable(false);
    }
    const std::string mux = ending == ".mp4" ? "mp4mux" : ending == ".mkv" ? "matroskamux" : "webmmux";
    if (encoder == std::end(encoders) || !is_there(mux.c_str()))
        throw Error(Errc::unsupported, "Nothing installed can record '" + location + "'",
                    "x264enc, openh264enc or vp8enc, and mp4mux, matroskamux or webmmux are looked for");
    return {location, encoder,
            mux == "mp4mux" ? "mp4mux fragment-duration=1000 fragment-mode=first-moov-then-finalise" : mux};
}

class MriDisplaySink : public Configured<Bin, DisplaySettings> {
  public:
    static constexpr ElementInfo info{"mridisplaysink", "GstMriDisplaySink", "MRI display sink", "Sink/Video",
                                      "Shows video in a window, or records it where there is no display"};
    static constexpr const char* sink_caps = "video/x-raw";
    static constexpr const char* src_caps = nullptr;
    static void properties(Properties<MriDisplaySink>& p) {
        p.choice("display", "Destination of the video", &DisplaySettings::display,
                 {{DisplayMode::automatic, "auto", "A window where there is a display, else the file"},
                  {DisplayMode::window, "window", "A window, or an error"},
                  {DisplayMode::file, "file", "The file"}});
        p.string("location", "File to record (.mp4, .mkv, .webm); %date becomes the date and time",
                 &DisplaySettings::location);
        p.string("gif-location", "Animated GIF to write as well; empty: none",
                 &DisplaySettings::gif_location);
        p.string("video-sink", "Element that opens the window; empty: the first that works",
                 &DisplaySettings::video_sink);
        p.boolean("sync", "Show frames in the window when their time comes", &DisplaySettings::sync);
        p.computed(g_param_spec_string("path", nullptr, "File that is recorded; empty for a window", nullptr,
                                       Properties<MriDisplaySink>::readable()),
                   [](MriDisplaySink& e, GValue* v) {
                       const std::lock_guard lock(e.path_mutex_);
                       g_value_set_string(v, e.path_.c_str());
                   });
    }
    static void install(gpointer klass);
    void constructed() override;

  protected:
    void prepare() override;
    void release() override;
    void child_eos(GstElement* child) override;

  private:
    GstPtr<GstElement> open_window(const DisplaySettings& s);
    GstElement* add(GstPtr<GstElement> element);
    GstElement* add_parsed(const std::string& launch);
    GstElement* add_recorder(const Recording& recording);
    std::string path_of_recording() {
        const std::lock_guard lock(path_mutex_);
        return path_;
    }
    void set_path(const std::string& path) {
        const std::lock_guard lock(path_mutex_);
        path_ = path;
    }
    void say(const std::string& text, StructurePtr structure);
    void keep_partial();
    bool is_of_recording(GstMessage* message) const {
        return recorder_ && (GST_MESSAGE_SRC(message) == GST_OBJECT(recorder_) ||
                             gst_object_has_as_ancestor(GST_MESSAGE_SRC(message), GST_OBJECT(recorder_)));
    }

    GstPad* ghost_ = nullptr; // owned by the element
    std::mutex path_mutex_;   // guards path_; nothing is called under it
    std::string path_;

    std::optional<AtomicFile> recorded_; // what the recorder writes
    GstElement* recorder_ = nullptr;     // a child
    std::atomic<bool> came_{false};      // a picture
    ErrorWatch watch_;
};

/// Errors of what records become one, which names the recording.
void MriDisplaySink::install(gpointer klass) {
    Bin::install(klass);
    static const auto handle = GST_BIN_CLASS(klass)->handle_message;
    GST_BIN_CLASS(klass)->handle_message = [](GstBin* b, GstMessage* message) {
        auto& self = impl_of<MriDisplaySink>(b);
        if (GST_MESSAGE_TYPE(message) != GST_MESSAGE_ERROR || !self.is_of_recording(message)) {
            handle(b, message);
            return;
        }
        GError* error = nullptr;
        gchar* debug = nullptr;
        gst_message_parse_error(message, &error, &debug);
        const GErrorPtr owner(error);
        const GString_ptr text(debug);
        self.post_error(Error(Errc::write,
                              "The recording '" + self.path_of_recording() + "' broke off: " + error->message,
                              text ? text.get() : ""));
        gst_message_unref(message);
    };
}

void MriDisplaySink::constructed() {
    gst_bin_set_suppressed_flags(
        bin(), static_cast<GstElementFlags>(GST_ELEMENT_FLAG_SOURCE | GST_ELEMENT_FLAG_SINK));
    GST_OBJECT_FLAG_SET(gst(), GST_ELEMENT_FLAG_SINK);
    ghost_ = gst_ghost_pad_new_no_target_from_template(
        "sink", gst_element_class_get_pad_template(GST_ELEMENT_GET_CLASS(gst()), "sink"));
    gst_element_add_pad(gst(), ghost_);
}

/// A sink that stands in READY, so has its display open; nothing when none can.
GstPtr<GstElement> MriDisplaySink::open_window(const DisplaySettings& s) {
    const auto open = [this](const std::string& name) -> GstPtr<GstElement> {
        if (!is_there(name.c_str()))
            return nullptr;
        auto sink = make(name.c_str());
        if (gst_element_set_state(sink.get(), GST_STATE_READY) != GST_STATE_CHANGE_FAILURE)
            return sink;
        MRI_INFO("%s cannot open a window here", name.c_str());
        gst_element_set_state(sink.get(), GST_STATE_NULL);
        return nullptr;
    };
    if (!s.video_sink.empty()) {
        make(s.video_sink.c_str()); // what was asked for by name is no matter of luck
        return open(s.video_sink);
    }
    if (g_getenv("WAYLAND_DISPLAY"))
        if (auto sink = open("waylandsink"))
            return sink;
    if (!g_getenv("DISPLAY"))
        return nullptr;
    // The plainer sink first, and held while the better one is tried: an X server that loses its last client
    // resets itself, and refuses who comes meanwhile.
    auto plain = open("ximagesink");
    auto better = open("xvimagesink");
    if (plain && better) {
        gst_element_set_state(plain.get(), GST_STATE_NULL);
        plain.reset();
    }
    return better ? better : plain;
}

GstElement* MriDisplaySink::add(GstPtr<GstElement> element) {
    GstElement* raw = element.get();
    if (!gst_bin_add(bin(), raw))
        throw Error(Errc::failed, "An element could not be added to the display");
    return raw;
}

GstElement* MriDisplaySink::add_parsed(const std::string& launch) {
    GError* error = nullptr;
    GstElement* made = gst_parse_bin_from_description_full(launch.c_str(), TRUE, nullptr,
                                                           GST_PARSE_FLAG_FATAL_ERRORS, &error);
    const GErrorPtr owner(error);
    if (!made)
        throw Error(Errc::unsupported, "An element that the display needs is not installed", error->message);
    return add(adopt(GST_ELEMENT(gst_object_ref_sink(made))));
}

GstElement* MriDisplaySink::add_recorder(const Recording& recording) {
    GstElement* recorder =
        add_parsed("videoconvert ! videobox name=even ! videoconvert ! "
                   "capsfilter caps=video/x-raw,format=I420 ! " +
                   std::string(recording.encoder->launch) + " ! " + recording.mux + " ! filesink name=file");
    const auto file = adopt(gst_bin_get_by_name(GST_BIN(recorder), "file"));
    g_object_set(file.get(), "location", recorded_->temporary().c_str(), nullptr);
    // 4:2:0 needs even edges: a column or line of black is added where they are odd.
    const auto even = adopt(gst_bin_get_by_name(GST_BIN(recorder), "even"));
    const auto pad = adopt(gst_element_get_static_pad(recorder, "sink"));
    gst_pad_add_probe(
        pad.get(), GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
        [](GstPad*, GstPadProbeInfo* probe, gpointer box) {
            GstEvent* event = GST_PAD_PROBE_INFO_EVENT(probe);
            if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
                GstCaps* caps = nullptr;
                gst_event_parse_caps(event, &caps);
                const GstStructure* s = gst_caps_get_structure(caps, 0);
                int width = 0, height = 0;
                gst_structure_get_int(s, "width", &width);
                gst_structure_get_int(s, "height", &height);
                g_object_set(box, "right", -(width % 2), "bottom", -(height % 2), nullptr);
            }
            return GST_PAD_PROBE_OK;
        },
        gst_object_ref(even.get()), gst_object_unref);
    gst_pad_add_probe(
        pad.get(), GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo*, gpointer came) {
            *static_cast<std::atomic<bool>*>(came) = true;
            return GST_PAD_PROBE_REMOVE;
        },
        &came_, nullptr);
    return recorder;
}

void MriDisplaySink::say(const std::string& text, StructurePtr structure) {
    gst_element_message_full(gst(), GST_MESSAGE_INFO, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_FAILED,
                             g_strdup(text.c_str()), nullptr, "gst-mri", info.name, 0);
    post_message(std::move(structure));
}

void MriDisplaySink::prepare() {
    release();
    watch_.start(gst());
    const DisplaySettings s = settings();
    GstElement* first = nullptr;
    auto window = s.display == DisplayMode::file ? nullptr : open_window(s);
    if (window) {
        if (g_object_class_find_property(G_OBJECT_GET_CLASS(window.get()), "sync"))
            g_object_set(window.get(), "sync", static_cast<gboolean>(s.sync), nullptr);
        const std::string name = GST_OBJECT_NAME(gst_element_get_factory(window.get()));
        GstElement* sink = add(std::move(window));
        first = add(make("videoconvert"));
        if (!gst_element_link(first, sink))
            throw Error(Errc::failed, "The window's sink takes no video");
        say("The video is shown in a window (" + name + ")",
            StructurePtr(gst_structure_new("mri-display", "mode", G_TYPE_STRING, "window", "sink",
                                           G_TYPE_STRING, name.c_str(), nullptr)));
    } else if (s.display == DisplayMode::window) {
        throw Error(Errc::not_found, "No window can be opened to show the video in",
                    "neither DISPLAY nor WAYLAND_DISPLAY names a display that a video sink can open");
    } else {
        const Recording recording = choose_recording(s.location);
        tell_abandoned(*this, recording.location);
        recorded_.emplace(recording.location, "The recording '" + recording.location + "' cannot be written");
        first = recorder_ = add_recorder(recording);
        set_path(recording.location);
        say((s.display == DisplayMode::file ? "The video is recorded into '"
                                            : "There is no display: the video is recorded into '") +
                recording.location + "' (" + recording.encoder->factory + ")",
            StructurePtr(gst_structure_new("mri-display", "mode", G_TYPE_STRING, "file", "encoder",
                                           G_TYPE_STRING, recording.encoder->factory, "location",
                                           G_TYPE_STRING, recording.location.c_str(), nullptr)));
    }
    if (!s.gif_location.empty()) {
        GstElement* gif = add_parsed("queue ! videoconvert ! mrigifsink name=gif");
        const auto sink = adopt(gst_bin_get_by_name(GST_BIN(gif), "gif"));
        g_object_set(sink.get(), "location", with_date(s.gif_location).c_str(), nullptr);
        GstElement* queue = add(make("queue"));
        GstElement* tee = add(make("tee"));
        if (!gst_element_link(tee, queue) || !gst_element_link(queue, first) || !gst_element_link(tee, gif))
            throw Error(Errc::failed, "The GIF could not be recorded beside the video");
        first = tee;
    }
    const auto target = adopt(gst_element_get_static_pad(first, "sink"));
    if (!gst_ghost_pad_set_target(GST_GHOST_PAD(ghost_), target.get()))
        throw Error(Errc::failed, "The display's pad could not be set up");
}

void MriDisplaySink::child_eos(GstElement* child) {
    if (child != recorder_ || !recorded_ || watch_.seen())
        return;
    const std::string path = path_of_recording();
    if (!came_) {
        recorded_.reset();
        throw Error(Errc::failed, "The stream ended before a picture came: '" + path + "' was not recorded");
    }
    recorded_->commit("The recording '" + path + "' could not be put in its place");
    recorded_.reset();
}

/// Keeps a recording that did not come to its end, under a name that says so.
void MriDisplaySink::keep_partial() {
    std::error_code ignored;
    const std::string path = path_of_recording();
    if (came_ && std::filesystem::file_size(recorded_->temporary(), ignored) > 0 && !ignored) {
        const std::string kept =
            recorded_->keep_partial("The recording '" + path + "' could not be kept").string();
        post_warning("'" + path + "' was not recorded to its end: what there is of it is in '" + kept + "'");
    }
}

void MriDisplaySink::release() {
    watch_.stop();
    gst_ghost_pad_set_target(GST_GHOST_PAD(ghost_), nullptr);
    while (bin()->children) {
        const auto child = retain(GST_ELEMENT(bin()->children->data));
        gst_element_set_state(child.get(), GST_STATE_NULL);
        gst_bin_remove(bin(), child.get());
    }
    recorder_ = nullptr;
    if (recorded_)
        guarded(*this, [&] { keep_partial(); });
    recorded_.reset();
    came_ = false;
    set_path("");
}

} // namespace

MRI_ELEMENT(mridisplaysink, MriDisplaySink)
