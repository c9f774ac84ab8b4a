// SPDX-License-Identifier: LGPL-2.1-or-later
// The metas of a buffer once more as a custom meta of GStreamer, for languages that see no C++: add_*() of metas.hpp
// keep it. Arrays are shared with the metas, not copied.
//
// gst_buffer_get_custom_meta(buffer, "mri-facts") holds a structure with these fields, each where the buffer has it:
//
// | field | type | meaning |
// |---|---|---|
// | flags, acquisition-time-stamp, slice, contrast, phase, repetition, set, average, segment, kspace-encode-step-1, kspace-encode-step-2, angle-index | int64 | counters of the first readout, names and units of ISMRMRD's AcquisitionHeader |
// | readouts | GBytes | headers of all readouts, one record each |
// | readouts-dtype | string | layout of a record: JSON that numpy.dtype() takes as a dict |
// | trajectory | GBytes | float32 [readout][sample][kx, ky], cycles per reconstructed field of view |
// | trajectory-readouts, trajectory-samples | int | sizes of that array |
// | trajectory-density | GBytes | float32 [readout][sample], density compensation of the file |
// | residual, noise-ratio | double | distance from the samples: Consistency in metas.hpp |
// | truth, input, kspace, gridded, sensitivities ... | GstSample | side data by role, with their caps |
#pragma once

#include "plugins/common/metas.hpp"

#include <memory>
#include <vector>

namespace mri::facts {

inline constexpr const char* name = "mri-facts";

/// Each sets the fields of what a meta holds. The buffer must be writable. Throws Errc::no_memory.
void set(GstBuffer* buffer, const std::shared_ptr<const std::vector<Readout>>& readouts);
void set(GstBuffer* buffer, const std::shared_ptr<const TrajectoryData>& trajectory);
void set(GstBuffer* buffer, const Consistency& consistency);
void set(GstBuffer* buffer, Role role, GstSample* sample);
/// Forgets side data.
void remove(GstBuffer* buffer, Role role);

} // namespace mri::facts
