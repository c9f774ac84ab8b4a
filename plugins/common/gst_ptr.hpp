// SPDX-License-Identifier: LGPL-2.1-or-later
// Owners for GStreamer objects and the mapped span. adopt() takes a reference that the caller gives away,
// retain() takes one of its own: which of the two it is stands at each call.
#pragma once

#include "plugins/math/base/error.hpp"

#include <cstdint>
#include <gst/gst.h>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace mri {

namespace detail {
template <class T>
concept MiniObject = std::is_same_v<T, GstSample> || requires(T* t) {
    t->mini_object;
};

template <class T>
void ref(T* object) {
    if constexpr (MiniObject<T>)
        gst_mini_object_ref(GST_MINI_OBJECT_CAST(object));
    else
        gst_object_ref(object);
}

template <class T>
void unref(T* object) {
    if constexpr (MiniObject<T>)
        gst_mini_object_unref(GST_MINI_OBJECT_CAST(object));
    else
        gst_object_unref(object);
}
} // namespace detail

/// Owns one reference of a GstMiniObject (buffer, caps, sample ...) or GstObject (element, pad, bus ...).
template <class T>
class GstPtr {
  public:
    GstPtr() noexcept = default;
    GstPtr(std::nullptr_t) noexcept {}
    GstPtr(const GstPtr& other) : object_(other.object_) {
        if (object_)
            detail::ref(object_);
    }
    GstPtr(GstPtr&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    GstPtr& operator=(GstPtr other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~GstPtr() {
        if (object_)
            detail::unref(object_);
    }

    static GstPtr adopt(T* object) noexcept {
        GstPtr owner;
        owner.object_ = object;
        return owner;
    }
    static GstPtr retain(T* object) {
        if (object)
            detail::ref(object);
        return adopt(object);
    }

    T* get() const noexcept { return object_; }
    T* operator->() const noexcept { return object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }
    /// Gives the reference away.
    [[nodiscard]] T* release() noexcept { return std::exchange(object_, nullptr); }
    void reset() noexcept { *this = GstPtr(); }

  private:
    T* object_ = nullptr;
};

/// Takes over a reference that the caller owns.
template <class T>
GstPtr<T> adopt(T* object) noexcept {
    return GstPtr<T>::adopt(object);
}
/// Takes a reference of its own.
template <class T>
GstPtr<T> retain(T* object) {
    return GstPtr<T>::retain(object);
}

struct GFree {
    void operator()(void* memory) const noexcept { g_free(memory); }
};
struct GErrorFree {
    void operator()(GError* error) const noexcept { g_error_free(error); }
};
struct StructureFree {
    void operator()(GstStructure* structure) const noexcept { gst_structure_free(structure); }
};
using GString_ptr = std::unique_ptr<gchar, GFree>;
using GErrorPtr = std::unique_ptr<GError, GErrorFree>;
using StructurePtr = std::unique_ptr<GstStructure, StructureFree>;

/// A buffer's bytes as a span of T while the object lives. Takes no reference: the buffer must outlive it.
///
/// Throws Errc::read when the buffer cannot be mapped and Errc::format when its size is not a whole number of
/// T or its memory is not aligned for T.
template <class T>
class Mapped {
  public:
    explicit Mapped(GstBuffer* buffer) : buffer_(buffer) {
        constexpr GstMapFlags flags =
            std::is_const_v<T> ? GST_MAP_READ : static_cast<GstMapFlags>(GST_MAP_READ | GST_MAP_WRITE);
        if (!buffer || !gst_buffer_map(buffer, &info_, flags))
            throw Error(Errc::read, "A buffer could not be mapped");
        if (info_.size % sizeof(T) != 0 || reinterpret_cast<std::uintptr_t>(info_.data) % alignof(T) != 0) {
            const auto size = info_.size;
            gst_buffer_unmap(buffer_, &info_);
            throw Error(Errc::format, "A buffer of " + std::to_string(size) +
                                          " bytes does not hold a whole number of elements of " +
                                          std::to_string(sizeof(T)) + " bytes");
        }
    }
    Mapped(Mapped&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)), info_(other.info_) {}
    Mapped& operator=(Mapped&&) = delete;
    ~Mapped() {
        if (buffer_)
            gst_buffer_unmap(buffer_, &info_);
    }

    std::span<T> span() const noexcept { return {data(), size()}; }
    T* data() const noexcept { return reinterpret_cast<T*>(info_.data); }
    std::size_t size() const noexcept { return info_.size / sizeof(T); }
    T& operator[](std::size_t i) const noexcept { return data()[i]; }

  private:
    GstBuffer* buffer_;
    GstMapInfo info_ = GST_MAP_INFO_INIT;
};

/// A new buffer of `count` elements of T; throws Errc::no_memory.
template <class T>
GstPtr<GstBuffer> new_buffer(std::size_t count) {
    if (count > SIZE_MAX / sizeof(T))
        throw Error(Errc::no_memory, "A buffer of " + std::to_string(count) + " elements is too large");
    GstBuffer* buffer = gst_buffer_new_allocate(nullptr, count * sizeof(T), nullptr);
    if (!buffer)
        throw Error(Errc::no_memory,
                    "No memory for a buffer of " + std::to_string(count * sizeof(T)) + " bytes");
    return adopt(buffer);
}

} // namespace mri
