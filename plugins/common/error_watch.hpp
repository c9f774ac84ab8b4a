// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/gst_ptr.hpp"

#include <atomic>
#include <memory>

namespace mri {

/// Knows whether any element of a pipeline has posted an error: after one, nothing may look finished, although
/// sources end a stream that broke off with an EOS as they end a whole one. The message is seen in the thread that
/// posts it, so before whatever that thread does next.
class ErrorWatch {
  public:
    ErrorWatch() = default;
    ~ErrorWatch() { stop(); }
    ErrorWatch(const ErrorWatch&) = delete;
    ErrorWatch& operator=(const ErrorWatch&) = delete;

    /// Watches the bus of the outermost bin that the element is in, from a clean slate; nothing where it has no bus.
    void start(GstElement* element);
    void stop();
    /// Any thread.
    bool seen() const noexcept { return *seen_; }

  private:
    GstPtr<GstBus> bus_;
    gulong handler_ = 0;
    std::shared_ptr<std::atomic<bool>> seen_ =
        std::make_shared<std::atomic<bool>>(false); // also the handler's
};

} // namespace mri
