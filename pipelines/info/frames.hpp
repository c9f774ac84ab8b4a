// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames that ismrmrdsrc and mriframer make of a file.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/math/base/error.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mri {

/// Counters of an ISMRMRD readout, by their names in its header.
inline constexpr std::array<const char*, 9> counter_names{"kspace_encode_step_1",
                                                          "kspace_encode_step_2",
                                                          "average",
                                                          "slice",
                                                          "contrast",
                                                          "phase",
                                                          "repetition",
                                                          "set",
                                                          "segment"};
using CounterValues = std::array<std::uint16_t, counter_names.size()>;

struct FramesFound {
    std::size_t frames = 0, series = 0;
    std::size_t fewest_readouts = 0, most_readouts = 0; ///< of a frame
    std::optional<KspaceInfo> caps;                     ///< of the first frame
    std::vector<std::string> made_by; ///< counters that are constant in each frame and differ among frames
    std::set<std::uint16_t> lines;    ///< step 1 of the image's readouts of the first frame
    double radius = 0; ///< largest |k| of the first frame in cycles per reconstructed field of view
    std::optional<double> frame_time_ms; ///< median time from frame to frame, of one frame its duration
    std::vector<std::string> messages;   ///< warnings and notes of the elements
    std::optional<Error> error;          ///< why the elements stopped
};

/// Runs the two elements over the file as every pipeline does, so that no rule of theirs is repeated here.
FramesFound find_frames(const std::string& path, const std::string& group);

} // namespace mri
