// SPDX-License-Identifier: LGPL-2.1-or-later
// What every test with GStreamer gets by linking test_support_dep: GStreamer initialised, criticals fatal,
// the leaks tracer on (an object that lives at the end fails the run), and the helpers below.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/metas.hpp"
#include "tests/support/temp_dir.hpp"

#include <functional>
#include <gst/check/gstharness.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

namespace mri::test {

struct HarnessFree {
    void operator()(GstHarness* harness) const noexcept { gst_harness_teardown(harness); }
};
using Harness = std::unique_ptr<GstHarness, HarnessFree>;

/// A harness around one launch fragment, e.g. harness("mricrop width=128").
Harness harness(const std::string& launch_line);

/// A bus whose messages can be read after a harness's element was set up: errors(), and warnings().
class BusWatch {
  public:
    explicit BusWatch(GstElement* element);
    ~BusWatch();
    BusWatch(const BusWatch&) = delete;
    BusWatch& operator=(const BusWatch&) = delete;
    /// Texts of the error messages so far (all are popped).
    std::vector<std::string> errors();
    std::vector<std::string> warnings();
    /// Structures of the element messages so far.
    std::vector<StructurePtr> element_messages();

  private:
    void drain();
    GstPtr<GstElement> element_;
    GstPtr<GstBus> bus_;
    std::vector<std::string> errors_;
    std::vector<std::string> warnings_;
    std::vector<StructurePtr> elements_;
};

/// What a whole pipeline did.
struct RunResult {
    bool eos = false;
    std::vector<std::string> errors; ///< "element: text", in the order of the bus
    std::vector<std::string> warnings;
    std::vector<StructurePtr> messages; ///< element messages
};

/// Runs a launch line to its EOS or first error (all errors already on the bus are collected), at most
/// `seconds`. `on_buffer(element name, sample)` sees each sample that an appsink of the line gives.
RunResult run_pipeline(const std::string& launch_line, double seconds = 60,
                       const std::function<void(const std::string&, GstSample*)>& on_sample = {});

/// Buffer of a vector's elements, with PTS and duration.
template <class T>
GstPtr<GstBuffer> buffer_of(const std::vector<T>& values, GstClockTime pts = GST_CLOCK_TIME_NONE,
                            GstClockTime duration = GST_CLOCK_TIME_NONE) {
    auto buffer = adopt(gst_buffer_new_allocate(nullptr, values.size() * sizeof(T), nullptr));
    gst_buffer_fill(buffer.get(), 0, values.data(), values.size() * sizeof(T));
    GST_BUFFER_PTS(buffer.get()) = pts;
    GST_BUFFER_DURATION(buffer.get()) = duration;
    return buffer;
}

template <class T>
std::vector<T> values_of(GstBuffer* buffer) {
    Mapped<const T> mapped(buffer);
    return {mapped.span().begin(), mapped.span().end()};
}

/// The MRD header that stands on a pad, or an empty string.
std::string header_of(GstPad* pad);

/// An environment variable or an empty string (GST_MRI_DATA, GST_MRI_PYTHON, GST_MRI_SOURCE_ROOT,
/// GST_MRI_GOLDEN_DIR).
std::string env(const char* name);

/// Brings one element through NULL and PLAYING several times, alone; returns the errors on its bus.
std::vector<std::string> cycle_states(const std::string& factory, int times = 3);

} // namespace mri::test
