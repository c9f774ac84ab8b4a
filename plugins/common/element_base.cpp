// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/element_base.hpp"

#include "plugins/math/base/printable.hpp"

#include <new>

namespace mri {

namespace {

struct GErrorCode {
    GQuark domain;
    gint code;
};

GErrorCode code_of(Errc errc) {
    switch (errc) {
    case Errc::not_found:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND};
    case Errc::open_read:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ};
    case Errc::open_write:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_WRITE};
    case Errc::read:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_READ};
    case Errc::write:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_WRITE};
    case Errc::settings:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS};
    case Errc::format:
        return {GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT};
    case Errc::decode:
        return {GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE};
    case Errc::unsupported:
        return {GST_STREAM_ERROR, GST_STREAM_ERROR_NOT_IMPLEMENTED};
    case Errc::no_device:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND};
    case Errc::no_memory:
        return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT};
    case Errc::failed:
        return {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED};
    }
    return {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED};
}

/// A copy for GLib. Texts may name what strangers' files hold, and players print them on a terminal.
gchar* copy_of(const std::string& text) {
    return g_strdup(text.c_str());
}

} // namespace

void Element::post_error(const Error& error) noexcept {
    if (!gst_)
        return;
    if (error_posted_.exchange(true)) {
        GST_CAT_ERROR_OBJECT(category_, gst_, "after the first error: %s", error.what());
        return;
    }
    const auto [domain, code] = code_of(error.code());
    gst_element_message_full(gst_, GST_MESSAGE_ERROR, domain, code, copy_of(printable(error.what())),
                             error.detail().empty() ? nullptr : copy_of(printable(error.detail(), true)),
                             "gst-mri", gst_debug_category_get_name(category_), 0);
    error_sent_ = true;
}

void Element::post_warning(const std::string& text, const std::string& detail) noexcept {
    gst_element_message_full(gst_, GST_MESSAGE_WARNING, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                             copy_of(printable(text)),
                             detail.empty() ? nullptr : copy_of(printable(detail, true)), "gst-mri",
                             gst_debug_category_get_name(category_), 0);
}

void Element::post_message(StructurePtr structure) noexcept {
    gst_element_post_message(gst_, gst_message_new_element(GST_OBJECT(gst_), structure.release()));
}

void Element::post_progress(GstProgressType type, const std::string& code, const std::string& text) noexcept {
    gst_element_post_message(gst_,
                             gst_message_new_progress(GST_OBJECT(gst_), type, code.c_str(), text.c_str()));
}

void post_current_exception(Element& element) noexcept {
    try {
        throw;
    } catch (const Error& e) {
        element.post_error(e);
    } catch (const std::bad_alloc&) {
        element.post_error(Error(Errc::no_memory, "Out of memory"));
    } catch (const std::exception& e) {
        // Other libraries' texts can run over many lines (LibTorch adds a stack): the first is for the user.
        const std::string text = e.what();
        element.post_error(Error(Errc::failed, text.substr(0, text.find('\n')), text));
    } catch (...) {
        element.post_error(Error(Errc::failed, "An unknown exception was thrown"));
    }
}

} // namespace mri
