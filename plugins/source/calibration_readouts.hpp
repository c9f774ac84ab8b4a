// SPDX-License-Identifier: LGPL-2.1-or-later
// Readouts for parallel imaging, collected as side data of frames (Role::calibration).
#pragma once

#include "plugins/source/frame_buffer.hpp"

#include <array>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace mri {

/// Calibration readouts of one series: the first of each position in k-space, 1024 at most, of the first one's
/// length.
class CalibrationReadouts {
  public:
    /// `info` are the caps that the readout came with.
    void add(const HeldReadout& readout, const KspaceInfo& info);
    /// What has come so far as a frame [coil][readout][sample] with heads, trajectory (where the readouts have
    /// one) and caps; the same sample until more comes. Null while there is none.
    GstSample* sample();

  private:
    using Position = std::array<float, 6>; ///< both phase encodes, first and last (kx, ky)

    KspaceInfo info_;
    std::vector<HeldReadout> readouts_;
    std::set<Position> positions_;
    GstPtr<GstSample> sample_;
};

/// Calibration readouts of all series of a stream.
class Calibration {
  public:
    /// Whether a readout is for parallel imaging: alone, or for the image too.
    static bool is_for(const Readout& head) {
        return head.flags & (flag::parallel_calibration | flag::parallel_calibration_and_imaging);
    }

    void add(const HeldReadout& readout, const KspaceInfo& info);
    /// Calibration of the slice, contrast and set of a frame, else of its slice, or null.
    GstSample* sample_of(const Readout& frame);
    void forget() { series_.clear(); }

  private:
    struct Key {
        std::uint16_t slice, contrast, set;
        auto operator<=>(const Key&) const = default;
    };
    std::map<Key, CalibrationReadouts> series_;
};

} // namespace mri
