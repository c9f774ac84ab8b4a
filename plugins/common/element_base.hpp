// SPDX-License-Identifier: LGPL-2.1-or-later
// The common part of all elements: messages on the bus, the log, and the exception firewall.
#pragma once

#include "plugins/common/gst_ptr.hpp"

#include <atomic>
#include <string>

namespace mri {

struct ElementInfo {
    const char* name;        ///< factory name
    const char* type_name;   ///< GType
    const char* long_name;   ///< title in gst-inspect-1.0
    const char* klass;       ///< Source/..., Filter/..., Sink/...
    const char* description; ///< one sentence
};

/// Common part of all elements.
class Element {
  public:
    virtual ~Element() = default;
    Element() = default;
    Element(const Element&) = delete;
    Element& operator=(const Element&) = delete;

    GstElement* gst() const noexcept { return gst_; }

    /// Posts one error message for a failure; further ones are only logged until the next start.
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
    /// Sets a new instance up, once it is attached: the bases have one of their own.
    static void set_up(Element&) {}
    /// Called once, after construction, when pads can be set up (a bin adds its children here).
    virtual void constructed() {}

    GstDebugCategory* category() const noexcept { return category_; }

  private:
    GstElement* gst_ = nullptr;
    GstDebugCategory* category_ = nullptr; // has the element's name
    std::atomic<bool> error_posted_{false};
    // The message is on the bus: what the base class adds to it is dropped.
    std::atomic<bool> error_sent_{false};
};

#define MRI_LOG_AT(level, element, ...)                                                                      \
    GST_CAT_LEVEL_LOG((element)->category(), level, (element)->gst(), __VA_ARGS__)
#define MRI_INFO(...) MRI_LOG_AT(GST_LEVEL_INFO, this, __VA_ARGS__)
#define MRI_DEBUG(...) MRI_LOG_AT(GST_LEVEL_DEBUG, this, __VA_ARGS__)
#define MRI_WARNING(...) MRI_LOG_AT(GST_LEVEL_WARNING, this, __VA_ARGS__)

/// Posts the exception that is being handled. Only inside a catch block.
void post_current_exception(Element& element) noexcept;

/// The exception firewall: runs `work`; an exception is posted and `fallback` returned.
template <class R, class Work>
R guarded(Element& element, R fallback, Work&& work) noexcept {
    try {
        return work();
    } catch (...) {
        post_current_exception(element);
        return fallback;
    }
}

/// The same for `work` that returns nothing: false when it threw.
template <class Work>
bool guarded(Element& element, Work&& work) noexcept {
    return guarded(element, false, [&] {
        work();
        return true;
    });
}

} // namespace mri
