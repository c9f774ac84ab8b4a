// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/gst_ptr.hpp"
#include "plugins/inference/loaded_network.hpp"

#include <array>
#include <cstddef>
#include <mutex>
#include <string>

namespace mri {

/// Counts and times what an element around a network does, from one start to the next. Any thread.
class NetworkStatistics {
  public:
    enum Stage { prepare_stage, network_stage, output_stage, stages };
    using Times = std::array<double, stages>; ///< seconds

    /// All from zero, with this network at work; `skipped`: frames that were dropped (QoS) until here.
    void start(const LoadedNetwork& network, guint64 skipped);
    /// Time of the warm-up of the network at work.
    void warmed_up(double seconds);
    /// Another network is at work.
    void swapped(const LoadedNetwork& network);
    /// Frames came out, of a window that was computed for them unless it had been before.
    void add(std::size_t frames, bool computed, const Times& times);

    /// Weights of the network at work.
    std::string weights() const;
    /// The element's property `statistics`; `skipped`: frames that were dropped until here, those before start() too.
    StructurePtr structure(guint64 skipped) const;

  private:
    struct Counts {
        guint64 frames = 0;
        guint64 windows = 0;
        guint64 swaps = 0;
        double load = 0, warm_up = 0, longest = 0;
        Times total{};
    };

    mutable std::mutex mutex_; // guards the three below; nothing that takes a lock is called under it
    Counts counts_;
    std::string weights_;
    guint64 skipped_before_ = 0;
};

} // namespace mri
