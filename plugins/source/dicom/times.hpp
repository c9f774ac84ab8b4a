// SPDX-License-Identifier: LGPL-2.1-or-later
// The frames of one slice in order of time, by what their files say of it. Pure C++, without DCMTK.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// What a file says about the time of one image.
struct FrameFacts {
    std::optional<double> trigger;       ///< ms after the R wave: TriggerTime
    std::optional<double> nominal_delay; ///< ms: NominalCardiacTriggerDelayTime
    std::optional<double> actual_delay;  ///< ms: ActualCardiacTriggerDelayTime
    std::optional<double> offset;        ///< s from the first frame: TemporalPositionTimeOffset, FrameTime
    std::optional<double> acquisition;   ///< s of the day
    std::optional<double> content;       ///< s of the day
    std::optional<double> position; ///< number in time: TemporalPositionIdentifier, TemporalPositionIndex
    std::optional<double> acquisition_number;
    std::optional<double> instance; ///< number in its DICOM series or file
};

/// Frames in order.
struct FrameOrder {
    std::vector<std::size_t> order; ///< indices into what was given
    std::vector<double> times;      ///< s, in that order, the first at 0; empty when nothing tells them
    std::vector<int> beats;         ///< number of the heart beat or measurement, in that order, from 0
    double step = 0.0;              ///< s between frames, the median; 0 when not known
    bool known = true;              ///< false: nothing in the files tells the order, it is that of the input
    std::string source;             ///< what was taken, as "trigger times over 3 beats"
};

/// Orders the frames of one slice.
///
/// The first of these that makes sense gives the times: trigger times, nominal and actual trigger delays,
/// time offsets, acquisition times, content times, the nominal R-R interval over the frames. What makes sense
/// is there for every frame, differs between frames and has a median step of 1 ms to 10 s.
///
/// Delays that begin again, in the order of acquisition, are those of several beats: beats follow each other
/// in that order, at the distance that acquisition times or the nominal interval (ms) give, else one step
/// apart. Delays that vary less than the acquisition times step order nothing.
FrameOrder order_frames(std::span<const FrameFacts> frames, std::optional<double> nominal_interval);

/// Whether steps between times all lie within half of `step` around it.
bool is_regular(std::span<const double> times, double step);

} // namespace mri
