// SPDX-License-Identifier: LGPL-2.1-or-later
// Origin of the images in a stream: a sticky event, mri-provenance, to which elements add what they did. Outputs write it
// in their own way, and that they are research output.
#pragma once

#include "plugins/common/gst_ptr.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mri {

struct Provenance {
    /// Fully sampled readouts over readouts a frame; 0 where it is not known.
    double acceleration = 0;
    /// Networks in the order of the stream: "mriunet, unet.safetensors, SHA-256 0123...".
    std::vector<std::string> networks;

    bool operator==(const Provenance&) const = default;
};

GstPtr<GstEvent> new_provenance_event(const Provenance& provenance);
/// Nothing for other events.
std::optional<Provenance> provenance_of(GstEvent* event);
/// The last one that came to a sink pad; an empty one where none came.
Provenance provenance_at(GstPad* pad);

/// Name of the pipeline that an element is in; empty where it is in none.
std::string pipeline_name(GstElement* element);

/// Names and values of a file's attributes: GstMriVersion, GstMriPipeline, GstMriNetwork (one a network),
/// GstMriAcceleration, GstMriUse. A name may come several times in a row.
std::vector<std::pair<std::string, std::string>> provenance_attributes(const Provenance& provenance,
                                                                       GstElement* element);
/// The same in one line, for comments: "gst-mri 0.1.0; pipeline recon-ismrmrd; ...; research output, not for diagnosis".
std::string provenance_text(const Provenance& provenance, GstElement* element);

} // namespace mri
