// SPDX-License-Identifier: LGPL-2.1-or-later
// Working time of each element of a running pipeline, and lateness of its frames at the sinks.
#pragma once

#include "plugins/common/gst_ptr.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace mri {

/// Counts time by GStreamer's tracing hooks around each push: what lies between an element's being given a
/// buffer or event and its giving one away (or returning) is that element's. A bin inside the pipeline counts
/// as one element. Threads that compute for an element without pushing show in its wall time alone.
///
/// One object at most, made before the pipeline and never destroyed while one runs: hooks cannot be taken
/// away.
class StageTimes {
  public:
    struct Stage {
        std::string name;
        std::uint64_t buffers_in = 0;
        std::uint64_t buffers_out = 0;
        std::uint64_t images_out = 0;   ///< of them application/x-mri-image
        std::uint64_t pictures_out = 0; ///< of them video/x-raw
        GstClockTime wall = 0; ///< ns inside calls from upstream; a sink's waiting for the clock included
        GstClockTime cpu = 0;  ///< ns of processor time of the threads that push
        std::size_t order = 0; ///< of first being seen
    };
    /// Of a sink that shows frames at their time. A frame is late when it comes more than 5 ms after that:
    /// then video sinks drop it.
    struct Lateness {
        std::uint64_t frames = 0;
        std::uint64_t late = 0;
        std::optional<GstClockTimeDiff> worst; ///< ns; below 0 when every frame was there in time
    };

    static StageTimes& install();

    /// In the order in which data first came by.
    std::vector<Stage> stages() const;
    /// By the name of the sink; only sinks that synchronise with the clock.
    std::map<std::string, Lateness> lateness() const;

    StageTimes(const StageTimes&) = delete;
    StageTimes& operator=(const StageTimes&) = delete;

  private:
    StageTimes() = default;
    struct Thread;
    friend struct StageHooks;
    void pre(GstPad* pad, std::uint64_t buffers, GstBuffer* buffer);
    void post(GstPad* pad);
    void arrives(GstElement* sink, GstPad* pad, GstBuffer* buffer);
    Stage& stage(GstElement* element);

    mutable std::mutex mutex_; // guards what follows; innermost
    std::map<GstElement*, Stage> stages_;
    std::map<std::string, Lateness> lateness_;
};

} // namespace mri
