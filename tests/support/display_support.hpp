// SPDX-License-Identifier: LGPL-2.1-or-later
// What the tests of the display elements share: images as buffers, a harness, and the messages of an element.
#pragma once

#include "plugins/common/metas.hpp"
#include "tests/support/gst_test.hpp"

#include <gst/check/gstharness.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace display_test {

inline mri::ImageInfo image_info(int width, int height, mri::SampleFormat format = mri::SampleFormat::f32,
                                 int series = 0, int channels = 1) {
    mri::ImageInfo info;
    info.format = format;
    info.channels = channels;
    info.width = width;
    info.height = height;
    info.framerate = {25, 1};
    info.series = series;
    return info;
}

template <class T>
mri::GstPtr<GstBuffer> buffer_of(const std::vector<T>& values, int frame = 0) {
    auto buffer = mri::new_buffer<T>(values.size());
    {
        const mri::Mapped<T> map(buffer.get());
        std::copy(values.begin(), values.end(), map.span().begin());
    }
    GST_BUFFER_PTS(buffer.get()) = frame * 40 * GST_MSECOND;
    GST_BUFFER_DURATION(buffer.get()) = 40 * GST_MSECOND;
    return buffer;
}

template <class T>
std::vector<T> values_of(GstBuffer* buffer) {
    const mri::Mapped<const T> map(buffer);
    return {map.span().begin(), map.span().end()};
}

inline void add_image(GstBuffer* buffer, mri::Role role, const std::vector<float>& values, int width,
                      int height) {
    mri::add_side(buffer, role, buffer_of(values).get(), image_info(width, height).to_caps().get());
}

/// One element between a source and a sink pad of the test's own, with a bus.
class Harness {
  public:
    explicit Harness(const std::string& launch) : harness_(gst_harness_new_empty()) {
        gst_harness_add_parse(harness_, launch.c_str());
        auto* parsed = GST_BIN(harness_->element);
        bus_ = mri::adopt(gst_bus_new());
        gst_element_set_bus(harness_->element, bus_.get());
        element_ =
            mri::adopt(parsed->children ? GST_ELEMENT(gst_object_ref(parsed->children->data)) : nullptr);
    }
    Harness(const Harness&) = delete;
    Harness& operator=(const Harness&) = delete;
    ~Harness() {
        gst_element_set_bus(harness_->element, nullptr);
        gst_harness_teardown(harness_);
    }

    GstHarness* operator->() const { return harness_; }
    GstHarness* get() const { return harness_; }
    GstElement* element() const { return element_.get(); }
    GstElement* parsed() const { return harness_->element; }

    void caps(const mri::ImageInfo& info) { gst_harness_set_src_caps(harness_, info.to_caps().release()); }
    GstFlowReturn push(mri::GstPtr<GstBuffer> buffer) { return gst_harness_push(harness_, buffer.release()); }
    bool eos() { return gst_harness_push_event(harness_, gst_event_new_eos()); }
    void flush() {
        gst_harness_push_event(harness_, gst_event_new_flush_start());
        gst_harness_push_event(harness_, gst_event_new_flush_stop(TRUE));
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        gst_harness_push_event(harness_, gst_event_new_segment(&segment));
    }
    mri::GstPtr<GstBuffer> pull() { return mri::adopt(gst_harness_try_pull(harness_)); }
    mri::GstPtr<GstCaps> out_caps() const { return mri::adopt(gst_pad_get_current_caps(harness_->sinkpad)); }

    /// The messages of these types that came since the last call.
    std::vector<mri::GstPtr<GstMessage>> messages(int types) {
        std::vector<mri::GstPtr<GstMessage>> all;
        while (GstMessage* m = gst_bus_pop_filtered(bus_.get(), static_cast<GstMessageType>(types)))
            all.push_back(mri::adopt(m));
        return all;
    }
    /// Element messages of a name.
    std::vector<mri::StructurePtr> named(const char* name) {
        std::vector<mri::StructurePtr> all;
        for (const auto& m : messages(GST_MESSAGE_ELEMENT))
            if (gst_message_has_name(m.get(), name))
                all.emplace_back(gst_structure_copy(gst_message_get_structure(m.get())));
        return all;
    }
    /// Texts of the errors that came; the user's text.
    std::vector<std::string> errors() {
        std::vector<std::string> all;
        for (const auto& m : messages(GST_MESSAGE_ERROR)) {
            GError* error = nullptr;
            gst_message_parse_error(m.get(), &error, nullptr);
            all.emplace_back(error->message);
            g_error_free(error);
        }
        return all;
    }

  private:
    GstHarness* harness_;
    mri::GstPtr<GstBus> bus_;
    mri::GstPtr<GstElement> element_;
};

inline double number(const GstStructure* structure, const char* field) {
    double value = 0;
    EXPECT_TRUE(gst_structure_get_double(structure, field, &value)) << field;
    return value;
}
inline guint64 count(const GstStructure* structure, const char* field) {
    guint64 value = 0;
    EXPECT_TRUE(gst_structure_get_uint64(structure, field, &value)) << field;
    return value;
}

/// A disc of radius `r` around (x, y) on a background of 0.25.
inline std::vector<float> disc(int width, int height, int x, int y, int r, float value = 1) {
    std::vector<float> image(static_cast<std::size_t>(width) * height, 0.25F);
    for (int j = 0; j < height; ++j)
        for (int i = 0; i < width; ++i)
            if ((i - x) * (i - x) + (j - y) * (j - y) < r * r)
                image[static_cast<std::size_t>(j) * width + i] = value;
    return image;
}

} // namespace display_test
