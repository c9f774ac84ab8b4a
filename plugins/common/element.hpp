// SPDX-License-Identifier: LGPL-2.1-or-later
// The element bases. An element is one C++ class behind one GObject:
//
//     struct MriThingSettings { int window = 20; std::string weights; };        // defaults stand here and
//     nowhere else
//
//     class MriThing : public mri::Configured<mri::Regroup, MriThingSettings> {  // or Transform, Source,
//     Sink, Bin
//       public:
//         static constexpr mri::ElementInfo info{"mrithing", "GstMriThing", "MRI thing",
//         "Filter/Converter/MRI",
//                                                "What it does in one sentence"};
//         static constexpr const char* sink_caps = MRI_IMAGE_CAPS;               // nullptr: no such pad
//         static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
//         static void properties(mri::Properties<MriThing>& p) {
//             p.integer("window", "Frames computed together", 1, 1000, &MriThingSettings::window,
//             mri::Mutable::ready);
//         }
//       protected:
//         void set_caps(const GstCaps* caps) override;                            // may throw mri::Error
//         GstFlowReturn chain(mri::GstPtr<GstBuffer> buffer) override;
//     };
//     MRI_ELEMENT(mrithing, MriThing)                                             // last line of
//     mrithing.cpp
//
// Every virtual below is called through one trampoline that is the exception firewall: what it throws becomes
// exactly one error message on the bus (an element posts no second one until it is started again), and the
// flow returns GST_FLOW_ERROR. settings() is a copy taken under a lock: take it once a buffer. State lives
// between start() and stop().
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/common/window.hpp"

#include <atomic>
#include <functional>
#include <gst/base/gstbasesink.h>
#include <gst/base/gstbasetransform.h>
#include <gst/base/gstpushsrc.h>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace mri {

struct ElementInfo {
    const char* name;      ///< factory name
    const char* type_name; ///< GType
    const char* long_name;
    const char* klass;       ///< Source/..., Filter/..., Sink/...
    const char* description; ///< one sentence
};

/// When a property may change: `ready` = only up to READY (what shapes caps or is opened in start()).
enum class Mutable { ready, playing };

/// Common part of all elements.
class Element {
  public:
    virtual ~Element() = default;
    Element() = default;
    Element(const Element&) = delete;
    Element& operator=(const Element&) = delete;

    GstElement* gst() const noexcept { return gst_; }

    /// Posts one error message for a failure; further ones are only logged until the element is started
    /// again.
    void post_error(const Error& error) noexcept;
    /// Posts a warning message on the bus.
    void post_warning(const std::string& text, const std::string& detail = {}) noexcept;
    /// Posts an element message; takes the structure.
    void post_message(StructurePtr structure) noexcept;
    void post_progress(GstProgressType type, const std::string& code, const std::string& text) noexcept;

    // Called by the glue only.
    void attach(GstElement* element, GstDebugCategory* category) noexcept {
        gst_ = element;
        category_ = category;
    }
    void allow_errors() noexcept { error_posted_ = error_sent_ = false; }
    bool error_sent() const noexcept { return error_sent_; }
    /// Called once, after construction, when pads can be set up (a bin adds its children here).
    virtual void constructed() {}

    GstDebugCategory* category() const noexcept { return category_; }

  private:
    GstElement* gst_ = nullptr;
    GstDebugCategory* category_ = nullptr;
    std::atomic<bool> error_posted_{false};
    std::atomic<bool> error_sent_{
        false}; // the message is on the bus: what the base class adds to it is dropped
};

#define MRI_LOG_AT(level, element, ...)                                                                      \
    GST_CAT_LEVEL_LOG((element)->category(), level, (element)->gst(), __VA_ARGS__)
#define MRI_INFO(...) MRI_LOG_AT(GST_LEVEL_INFO, this, __VA_ARGS__)
#define MRI_DEBUG(...) MRI_LOG_AT(GST_LEVEL_DEBUG, this, __VA_ARGS__)
#define MRI_WARNING(...) MRI_LOG_AT(GST_LEVEL_WARNING, this, __VA_ARGS__)

/// The exception firewall: runs `work`; whatever it throws is posted and `fallback` returned.
template <class R, class Work>
R guarded(Element& element, R fallback, Work&& work) noexcept;
/// Posts the exception that is being handled. Only inside a catch block.
void post_current_exception(Element& element) noexcept;

/// Adds settings() and the lock to a base. Lock order: the settings lock is innermost; nothing is called
/// under it.
template <class Base, class S>
class Configured : public Base {
  public:
    using Settings = S;
    /// A copy, taken under the lock.
    S settings() const {
        const std::lock_guard lock(settings_mutex_);
        return settings_;
    }
    template <class Change>
    void change_settings(Change&& change) {
        const std::lock_guard lock(settings_mutex_);
        change(settings_);
    }

  private:
    mutable std::mutex settings_mutex_; // guards settings_
    S settings_;
};

/// One row of an element's property table.
struct Property {
    GParamSpec* spec = nullptr;
    std::function<void(Element&, const GValue*)> set; // empty: read-only
    std::function<void(Element&, GValue*)> get;
};

template <class E>
struct Choice {
    E value;
    const char* nick;
    const char* blurb;
};

namespace detail {
GType register_enum(const std::string& type_name, const std::vector<GEnumValue>& values);
std::string camel_case(const std::string& name);
GParamFlags param_flags(Mutable when, bool writable);
} // namespace detail

/// The property table of an element class `Impl`; defaults are those of a default-constructed Impl::Settings.
template <class Impl>
class Properties {
  public:
    void integer(const char* name, const char* blurb, int low, int high, auto member,
                 Mutable when = Mutable::ready) {
        add(
            g_param_spec_int(name, nullptr, blurb, low, high, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_int(v); },
            [member](const auto& s, GValue* v) { g_value_set_int(v, static_cast<int>(s.*member)); });
    }
    void unsigned_64(const char* name, const char* blurb, guint64 low, guint64 high, auto member,
                     Mutable when = Mutable::ready) {
        add(
            g_param_spec_uint64(name, nullptr, blurb, low, high, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_uint64(v); },
            [member](const auto& s, GValue* v) { g_value_set_uint64(v, s.*member); });
    }
    void real(const char* name, const char* blurb, double low, double high, auto member,
              Mutable when = Mutable::ready) {
        add(
            g_param_spec_double(name, nullptr, blurb, low, high, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_double(v); },
            [member](const auto& s, GValue* v) { g_value_set_double(v, s.*member); });
    }
    void boolean(const char* name, const char* blurb, auto member, Mutable when = Mutable::ready) {
        add(
            g_param_spec_boolean(name, nullptr, blurb, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_boolean(v); },
            [member](const auto& s, GValue* v) { g_value_set_boolean(v, s.*member); });
    }
    void string(const char* name, const char* blurb, auto member, Mutable when = Mutable::ready) {
        const std::string preset = value(member);
        add(
            g_param_spec_string(name, nullptr, blurb, preset.empty() ? nullptr : preset.c_str(), flags(when)),
            [member](auto& s, const GValue* v) {
                const char* text = g_value_get_string(v);
                s.*member = text ? text : "";
            },
            [member](const auto& s, GValue* v) { g_value_set_string(v, (s.*member).c_str()); });
    }
    void fraction(const char* name, const char* blurb, Fraction low, Fraction high, auto member,
                  Mutable when = Mutable::ready) {
        const Fraction preset = value(member);
        add(
            gst_param_spec_fraction(name, nullptr, blurb, low.num, low.den, high.num, high.den, preset.num,
                                    preset.den, flags(when)),
            [member](auto& s, const GValue* v) {
                s.*member =
                    Fraction{gst_value_get_fraction_numerator(v), gst_value_get_fraction_denominator(v)};
            },
            [member](const auto& s, GValue* v) {
                gst_value_set_fraction(v, (s.*member).num, (s.*member).den);
            });
    }
    template <class S, class E>
    void choice(const char* name, const char* blurb, E S::*member, std::initializer_list<Choice<E>> choices,
                Mutable when = Mutable::ready) {
        std::vector<GEnumValue> values;
        for (const auto& c : choices)
            values.push_back({static_cast<gint>(c.value), c.blurb, c.nick});
        const GType type = detail::register_enum(Impl::info.type_name + detail::camel_case(name), values);
        add(
            g_param_spec_enum(name, nullptr, blurb, type, static_cast<gint>(value(member)), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = static_cast<E>(g_value_get_enum(v)); },
            [member](const auto& s, GValue* v) { g_value_set_enum(v, static_cast<gint>(s.*member)); });
    }
    /// A property whose value is computed by `get(const Impl&, GValue*)`: read-only, made with `spec` (pass
    /// flags Properties::readable()).
    void computed(GParamSpec* spec, std::function<void(Impl&, GValue*)> get) {
        rows_.push_back(
            {spec, {}, [get = std::move(get)](Element& e, GValue* v) { get(static_cast<Impl&>(e), v); }});
    }
    /// A property with accessors of its own.
    void custom(GParamSpec* spec, std::function<void(Impl&, const GValue*)> set,
                std::function<void(Impl&, GValue*)> get) {
        rows_.push_back(
            {spec, [set = std::move(set)](Element& e, const GValue* v) { set(static_cast<Impl&>(e), v); },
             [get = std::move(get)](Element& e, GValue* v) { get(static_cast<Impl&>(e), v); }});
    }
    static GParamFlags readable() { return detail::param_flags(Mutable::playing, false); }
    static GParamFlags flags(Mutable when) { return detail::param_flags(when, true); }

    std::vector<Property> take() { return std::move(rows_); }

  private:
    template <class Member>
    static auto value(Member member) {
        return typename Impl::Settings{}.*member;
    }
    template <class Set, class Get>
    void add(GParamSpec* spec, Set set, Get get) {
        rows_.push_back({spec,
                         [set](Element& e, const GValue* v) {
                             static_cast<Impl&>(e).change_settings([&](auto& s) { set(s, v); });
                         },
                         [get](Element& e, GValue* v) { get(static_cast<Impl&>(e).settings(), v); }});
    }
    std::vector<Property> rows_;
};

/// One buffer in, one buffer out, on GstBaseTransform.
class Transform : public Element {
  public:
    using GstParent = GstBaseTransform;
    static GType parent_type() { return GST_TYPE_BASE_TRANSFORM; }
    static void install(gpointer klass);

    virtual bool start() { return true; }
    virtual void stop() {}
    /// Caps that are possible on the other pad; the default passes them through. `caps` may be several
    /// structures and not fixed.
    virtual GstPtr<GstCaps> transform_caps(GstPadDirection direction, GstCaps* caps);
    /// Both caps are fixed.
    virtual void set_caps(const GstCaps* in, const GstCaps* out) = 0;
    /// Bytes of the output buffer for this input. Not called for an element that is always_passthrough().
    virtual std::size_t output_size(GstBuffer*) { return 0; }
    /// Computes `out` from `in`; time stamps and metas are on it already and it is writable.
    virtual void transform(GstBuffer*, GstBuffer*) {}
    /// true: buffers pass unchanged through inspect().
    virtual bool always_passthrough() const { return false; }
    virtual void inspect(GstBuffer*) {}
    /// Sees each sink event before it goes on.
    virtual void event(GstEvent*) {}
};

/// A source that makes buffers in time, on GstPushSrc.
class Source : public Element {
  public:
    using GstParent = GstPushSrc;
    static GType parent_type() { return GST_TYPE_PUSH_SRC; }
    static void install(gpointer klass);

    /// Opens; may throw. A live source says so by is_live() (asked in constructed() and at each start).
    virtual bool start() = 0;
    virtual void stop() {}
    virtual bool is_live() const { return false; }
    /// The next buffer, or an empty pointer at the end. Caps are set by set_caps() before the first one. A
    /// live source's buffers wait for the clock at their PTS (plus their duration when `wait_for_end`).
    virtual GstPtr<GstBuffer> create() = 0;
    virtual bool wait_for_end() const { return false; }
    /// Called from another thread to end a wait inside create().
    virtual void unlock() {}
    virtual void unlock_stop() {}
    /// Length of the stream when known, for progress bars.
    virtual std::optional<GstClockTime> duration() { return std::nullopt; }

  protected:
    /// Sets the caps of the buffers that follow; throws Errc::format when downstream refuses them.
    void set_caps(const GstPtr<GstCaps>& caps);
    void push_event(GstPtr<GstEvent> event);
    /// Thrown out of create() when unlock() ended a wait: becomes GST_FLOW_FLUSHING without a message.
    struct Flushing {};
    friend struct SourceGlue;
};

/// Regroups buffers: any number in, any number out, between one sink and one source pad.
class Regroup : public Element {
  public:
    using GstParent = GstElement;
    static GType parent_type() { return GST_TYPE_ELEMENT; }
    static void install(gpointer klass);

    virtual void start() {}
    virtual void stop() {}
    /// New caps came (the old ones' data were drained before). Calls set_src_caps() when it can.
    virtual void set_caps(const GstCaps* caps) = 0;
    virtual GstFlowReturn chain(GstPtr<GstBuffer> buffer) = 0;
    /// Pushes what is pending: at EOS, before a change of caps, before a new segment and where data were lost
    /// (DISCONT).
    virtual GstFlowReturn drain() { return GST_FLOW_OK; }
    /// Forgets what is pending, at FLUSH_STOP.
    virtual void flush() {}
    /// Sees each serialised sink event that the base does not handle itself, before it goes on; false
    /// swallows it.
    virtual bool event(GstEvent*) { return true; }
    /// Time that the element adds between a buffer's PTS and its being pushed; nullopt while it is not known.
    virtual std::optional<GstClockTime> latency() { return GstClockTime{0}; }
    /// Caps that the element accepts given what downstream accepts; the default is the template.
    virtual GstPtr<GstCaps> sink_caps_query(GstCaps* filter);
    /// Whether caps beside the template may come in nevertheless: set_caps() then throws what is wrong with
    /// them, where upstream would only say that something was not negotiated.
    virtual bool explains(const GstCaps*) { return false; }

  protected:
    /// Sends caps downstream when they differ from the last ones.
    void set_src_caps(const GstPtr<GstCaps>& caps);
    GstFlowReturn push(GstPtr<GstBuffer> buffer);
    GstPad* sink_pad() const noexcept { return sink_pad_; }
    GstPad* src_pad() const noexcept { return src_pad_; }
    /// Whether what comes in is live.
    bool live() const;
    /// Posts a LATENCY message when latency() is not what was said last.
    void update_latency();
    /// Downstream said (QoS) that a buffer of this PTS and duration would come too late.
    bool too_late(GstBuffer* buffer);
    /// Posts a QoS message for a buffer that was not computed; both counts are buffers since the element was
    /// made.
    void post_qos(GstBuffer* buffer, guint64 processed, guint64 dropped);

  private:
    friend struct RegroupGlue;
    GstPad* sink_pad_ = nullptr; // owned by the element
    GstPad* src_pad_ = nullptr;
    GstPtr<GstCaps> sink_current_;
    GstPtr<GstCaps> src_current_;
    GstPtr<GstEvent> pending_segment_; // waits for the first source caps: caps come before the segment
    bool have_buffers_ = false;        // since the last start, flush or drain
    GstClockTime told_latency_ = GST_CLOCK_TIME_NONE; // streaming thread
    std::mutex qos_mutex_;                            // guards the two below; nothing is called under it
    GstClockTime qos_earliest_ = GST_CLOCK_TIME_NONE; // running time
    GstSegment segment_{};                            // of the sink pad
};

/// Windowed elements: frames are collected, computed in windows, and come out one for one with their PTS and
/// metas.
class Windowed : public Regroup {
  public:
    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override;
    GstFlowReturn drain() override;
    void flush() override;
    std::optional<GstClockTime> latency() final;

  protected:
    using Frames = Windows<GstPtr<GstBuffer>>;
    /// Called in start() or set_caps(): the schedule of what follows. Throws Errc::settings.
    void set_window(std::size_t window, std::size_t hop, Emit emit = Emit::central);
    /// Frames that a frame waits for at worst before it comes into a window, where something else groups them
    /// first.
    void set_wait_before(std::size_t frames);
    /// Frame duration for the latency (GST_CLOCK_TIME_NONE: not known) and measured time of a window.
    void set_timing(GstClockTime frame, GstClockTime compute);
    /// Computes frames first..first+count-1 of the window, one output buffer each, in order, made with
    /// new_output(); the base pushes them.
    virtual std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) = 0;
    /// Whether a window whose emitted frames would all come too late (QoS) is not computed; otherwise it is,
    /// for what follows, and not pushed.
    virtual bool leaves_late_out() const { return true; }
    /// A buffer of `bytes` with the time stamps and metas of the window's item `index`; side data added later
    /// replace those of the input.
    static GstPtr<GstBuffer> new_output(const Frames::Job& job, std::size_t index, std::size_t bytes) {
        auto buffer = new_buffer<std::byte>(bytes);
        copy_metas(buffer.get(), job.items.at(index).get());
        return buffer;
    }
    /// Checks a buffer on entry; throws.
    virtual void check(GstBuffer*) {}
    std::size_t pending() const { return windows_ ? windows_->pending() : 0; }

    /// Frames that were not pushed because they would have come too late (QoS). Each such window is told by a
    /// QoS message, and the frame that comes after it is marked DISCONT.
    guint64 skipped() const noexcept { return skipped_; }
    /// Whether all frames that the job emits would come too late.
    bool all_late(const Frames::Job& job);
    /// Counts and tells that they are not pushed.
    void skip(const Frames::Job& job);

  private:
    GstFlowReturn run(const Frames::Job& job);
    std::atomic<guint64> skipped_{0};
    guint64 emitted_ = 0; // frames; streaming thread, as the next one
    bool after_skip_ = false;
    std::optional<Frames> windows_;
    std::mutex timing_mutex_; // guards the four below; nothing is called under it
    GstClockTime frame_ = GST_CLOCK_TIME_NONE;
    GstClockTime compute_ = 0;
    std::size_t wait_ = 0;
    std::size_t wait_before_ = 0;
};

/// The end of a pipeline, on GstBaseSink.
class Sink : public Element {
  public:
    using GstParent = GstBaseSink;
    static GType parent_type() { return GST_TYPE_BASE_SINK; }
    static void install(gpointer klass);

    virtual bool start() { return true; }
    virtual void stop() {}
    virtual void set_caps(const GstCaps* caps) = 0;
    virtual GstFlowReturn render(GstBuffer* buffer) = 0;
    /// At EOS, before the message is posted: finish files, wait for work. Returns early when unlock() was
    /// called.
    virtual void eos() {}
    virtual void event(GstEvent*) {}
    virtual void flush() {}
    virtual void unlock() {}
    virtual void unlock_stop() {}
    /// Synchronise to the clock by default?
    virtual bool sync_by_default() const { return false; }
};

/// A bin of other elements; constructed() builds it.
class Bin : public Element {
  public:
    using GstParent = GstBin;
    static GType parent_type() { return GST_TYPE_BIN; }
    static void install(gpointer klass);

    GstBin* bin() const { return GST_BIN(gst()); }
    /// Before NULL -> READY: the place to choose children. May throw.
    virtual void prepare() {}
    /// After READY -> NULL.
    virtual void release() {}
};

// ---- glue
// -----------------------------------------------------------------------------------------------------------

template <class Parent>
struct Instance {
    Parent parent;
    Element* impl;
};

template <class Base>
Base& impl_of(gpointer instance) {
    return *static_cast<Base*>(reinterpret_cast<Instance<typename Base::GstParent>*>(instance)->impl);
}

template <class R, class Work>
R guarded(Element& element, R fallback, Work&& work) noexcept {
    try {
        return work();
    } catch (...) {
        post_current_exception(element);
        return fallback;
    }
}

namespace detail {
struct ClassSpec {
    const ElementInfo* info;
    const char* sink_caps;
    const char* src_caps;
    GType parent;
    guint16 instance_size;
    Element* (*create)();
    Element*& (*slot)(gpointer instance);
    void (*install)(gpointer klass);
    std::vector<Property> (*properties)();
};
GType register_element_type(const ClassSpec& spec);
} // namespace detail

template <class Impl>
GType element_type() {
    using Parent = typename Impl::GstParent;
    static const GType type = detail::register_element_type({
        &Impl::info,
        Impl::sink_caps,
        Impl::src_caps,
        Impl::parent_type(),
        sizeof(Instance<Parent>),
        []() -> Element* { return new Impl; },
        [](gpointer instance) -> Element*& { return reinterpret_cast<Instance<Parent>*>(instance)->impl; },
        &Impl::install,
        [] {
            Properties<Impl> table;
            Impl::properties(table);
            return table.take();
        },
    });
    return type;
}

/// Defines the function that a plugin's generated entry file calls.
#define MRI_ELEMENT(NAME, IMPL)                                                                              \
    gboolean mri_register_##NAME(GstPlugin* plugin);                                                         \
    gboolean mri_register_##NAME(GstPlugin* plugin) {                                                        \
        return gst_element_register(plugin, IMPL::info.name, GST_RANK_NONE, ::mri::element_type<IMPL>());    \
    }

} // namespace mri
