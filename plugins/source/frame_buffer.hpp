// SPDX-License-Identifier: LGPL-2.1-or-later
// Readouts joined to one buffer.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/metas.hpp"

#include <memory>
#include <span>
#include <vector>

namespace mri {

/// Most bytes of a frame.
inline constexpr std::size_t most_frame_bytes = std::size_t{1} << 32;

/// A readout that waits for its frame.
struct HeldReadout {
    GstPtr<GstBuffer> buffer; ///< [coil][sample]
    Readout head;
};

/// Readouts of which each position in k-space has one.
struct AveragedReadouts {
    std::vector<HeldReadout> readouts; ///< in the order of their first measurement, with its head and metas
    std::size_t least = 1, most = 1;   ///< measurements of a position
    bool with_same_counters = false;   ///< some position was measured again with nothing counted on
};

/// The mean of those that have the same phase encodes and trajectory. Readouts without a trajectory stay as they
/// are.
AveragedReadouts average_repeated(std::vector<HeldReadout> readouts);

/// Readouts of `coils` x `samples` one after another as [coil][readout][sample], with their heads.
GstPtr<GstBuffer> join_readouts(std::span<const HeldReadout> readouts, int coils, int samples);

/// The readouts' trajectories one after another; null when none has any. Throws Errc::format when some have one
/// and some have none, or one has other than `samples` samples.
std::shared_ptr<TrajectoryData> join_trajectories(std::span<const HeldReadout> readouts, int samples);

} // namespace mri
