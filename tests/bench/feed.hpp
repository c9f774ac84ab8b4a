// SPDX-License-Identifier: LGPL-2.1-or-later
// Elements run on the calling thread, and pipelines to their end: what benchmarks measure.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"

#include <functional>
#include <string>
#include <vector>

namespace mri::bench {

/// A buffer with the caps that it came under.
struct Item {
    GstPtr<GstBuffer> buffer;
    GstPtr<GstCaps> caps;
};

/// Runs a launch line to its EOS and gives each buffer that reaches its end to `on_item`, on a streaming
/// thread; it must not throw. Throws Error with the text of the bus.
void run_line(const std::string& line, const std::function<void(const Item&)>& on_item);

/// A chain of elements between two bare pads: push() does all of its work on the calling thread and returns
/// when it is done, so that its time is that of the elements.
class Feed {
  public:
    /// `elements`: a launch line with one open pad at either end. `on_item` gets what comes out and must not
    /// throw; without it that is dropped. Throws Errc::settings for a line that cannot be built or started.
    explicit Feed(const std::string& elements, std::function<void(const Item&)> on_item = {});
    ~Feed();
    Feed(const Feed&) = delete;
    Feed& operator=(const Feed&) = delete;

    /// Sends caps when they differ from those before. Throws Error with the text of the bus.
    void set_caps(GstCaps* caps);
    /// Pushes a buffer under the caps that were set. Throws Error with the text of the bus.
    void push(GstBuffer* buffer);
    /// Sends EOS: what windows still hold comes out.
    void end();

  private:
    static GstFlowReturn chain(GstPad* pad, GstObject* parent, GstBuffer* buffer);
    [[noreturn]] void fail(const std::string& what);

    std::string elements_;
    std::function<void(const Item&)> on_item_;
    GstPtr<GstElement> bin_;
    GstPtr<GstBus> bus_;
    GstPtr<GstPad> in_, out_;
    GstPtr<GstCaps> caps_;
};

} // namespace mri::bench
