// SPDX-License-Identifier: LGPL-2.1-or-later
// Readouts joined to one buffer.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/metas.hpp"

#include <memory>
#include <span>

namespace mri {

/// Most bytes of a frame.
inline constexpr std::size_t most_frame_bytes = std::size_t{1} << 32;

/// A readout that waits for its frame.
struct HeldReadout {
    GstPtr<GstBuffer> buffer; ///< [coil][sample]
    Readout head;
};

/// Readouts of `coils` x `samples` one after another as [coil][readout][sample], with their heads.
GstPtr<GstBuffer> join_readouts(std::span<const HeldReadout> readouts, int coils, int samples);

/// The readouts' trajectories one after another; null when none has any. Throws Errc::format when some have one
/// and some have none, or one has other than `samples` samples.
std::shared_ptr<TrajectoryData> join_trajectories(std::span<const HeldReadout> readouts, int samples);

} // namespace mri
