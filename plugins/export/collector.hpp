// SPDX-License-Identifier: LGPL-2.1-or-later
// From a stream of image buffers to the images that a writer of files takes.
#pragma once

#include "plugins/common/element.hpp"
#include "plugins/export/collected.hpp"

#include <string>

namespace mri {

/// The properties that all sinks of image files have.
struct ExportSettings {
    std::string location;
    ExportPart part = ExportPart::magnitude;
    PositionConvention convention = PositionConvention::centre;
};

template <class Impl, class S>
void export_properties(Properties<Impl>& p) {
    p.choice("image-type", "Part of complex pixels to write", static_cast<ExportPart S::*>(&S::part),
             {{ExportPart::magnitude, "magnitude", "Magnitude"},
              {ExportPart::phase, "phase", "Phase in -pi..pi"},
              {ExportPart::real, "real", "Real part"},
              {ExportPart::imaginary, "imaginary", "Imaginary part"}});
    p.choice("position-convention", "Meaning of the position of MRD readouts",
             static_cast<PositionConvention S::*>(&S::convention),
             {{PositionConvention::centre, "centre", "Centre of the excited volume, as the MRD format says"},
              {PositionConvention::first_voxel, "first-voxel",
               "Centre of the first pixel, as converters that copy DICOM's position mean it"}});
}

/// Collects a run. Warnings are posted on `element`, once each: no position, no field of view, values that
/// are not finite, headers that do not parse.
class Collector {
  public:
    Collector(Element& element, const ExportSettings& settings, std::unique_ptr<Spool> spool);

    void set_caps(const GstCaps* caps);
    void event(GstEvent* event);
    void add(GstBuffer* buffer);

    /// All that came, with its provenance as the stream tells it now.
    const Collected& close();
    std::size_t images() const noexcept { return collected_.images.size(); }

  private:
    std::vector<float> pixels_of(GstBuffer* buffer);
    ImagePlane plane_of(const Readout* readout);
    void warn_once(bool& warned, const std::string& text, const std::string& detail = {});

    Element& element_;
    PositionConvention convention_;
    Collected collected_;
    ImageInfo image_;
    std::size_t header_ = 0; // of the images that come
    double thickness_ = 0;   // mm, of that header
    bool no_position_ = false, no_directions_ = false, no_field_ = false, not_finite_ = false; // was said
};

} // namespace mri
