// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/collector.hpp"

#include "plugins/common/image_buffers.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/common/provenance.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mri {

Collector::Collector(Element& element, const ExportSettings& settings, std::unique_ptr<Spool> spool)
    : element_(element), convention_(settings.convention) {
    collected_.part = settings.part;
    collected_.spool = std::move(spool);
    collected_.headers.emplace_back();
}

void Collector::warn_once(bool& warned, const std::string& text, const std::string& detail) {
    if (!std::exchange(warned, true))
        element_.post_warning(text, detail);
}

void Collector::set_caps(const GstCaps* caps) {
    image_ = ImageInfo::from_caps(caps);
    if (image_.channels > 1 && collected_.part != ExportPart::magnitude)
        throw Error(Errc::format, std::string("image-type=") + to_string(collected_.part) +
                                      " needs images of combined coils, these have " +
                                      std::to_string(image_.channels) + " channels");
    if (image_.fov_x <= 0 || image_.fov_y <= 0)
        warn_once(no_field_, "The field of view of the images is not known: a pixel counts as 1 mm");
}

void Collector::event(GstEvent* event) {
    const std::string xml = header_of(event);
    if (xml.empty() || xml == collected_.headers[header_].xml)
        return;
    thickness_ = 0;
    CollectedHeader header{xml, {}};
    try {
        header.texts = mrd_header_texts(xml);
        const auto encodings = MrdHeader::parse(xml).encodings;
        if (!encodings.empty() && encodings[0].recon.fov_mm[2] > 0)
            thickness_ = encodings[0].recon.fov_mm[2];
    } catch (const Error& error) {
        element_.post_warning("The stream's MRD header does not parse; the files tell nothing of it",
                              std::string(error.what()) + " " + error.detail());
    }
    const auto known = std::find_if(collected_.headers.begin(), collected_.headers.end(),
                                    [&](const CollectedHeader& other) { return other.xml == xml; });
    header_ = static_cast<std::size_t>(known - collected_.headers.begin());
    if (known == collected_.headers.end())
        collected_.headers.push_back(std::move(header));
}

std::vector<float> Collector::pixels_of(GstBuffer* buffer) {
    std::vector<float> out;
    switch (collected_.part) {
    case ExportPart::magnitude:
        out = magnitude_of(buffer, image_);
        break;
    case ExportPart::phase:
        out = phase_of(buffer, image_);
        break;
    case ExportPart::real:
    case ExportPart::imaginary: {
        image_.check_size(gst_buffer_get_size(buffer));
        const bool real = collected_.part == ExportPart::real;
        out.resize(image_.pixels());
        if (image_.format == SampleFormat::c64) {
            const Mapped<const cfloat> in(buffer);
            std::transform(in.span().begin(), in.span().end(), out.begin(),
                           [real](cfloat v) { return real ? v.real() : v.imag(); });
        } else if (real) {
            const Mapped<const float> in(buffer);
            std::copy(in.span().begin(), in.span().end(), out.begin());
        }
        break;
    }
    }
    bool finite = true;
    for (float& value : out)
        if (!std::isfinite(value)) {
            value = 0;
            finite = false;
        }
    if (!finite)
        warn_once(not_finite_, "Images have pixels that are not finite: they are written as 0");
    return out;
}

ImagePlane Collector::plane_of(const Readout* readout) {
    ImagePlane plane;
    plane.width = image_.width;
    plane.height = image_.height;
    if (image_.fov_x > 0 && image_.fov_y > 0) {
        plane.spacing_x = image_.fov_x / image_.width;
        plane.spacing_y = image_.fov_y / image_.height;
    }
    plane.thickness = thickness_;
    Vector3 position{};
    if (!readout) {
        warn_once(no_position_,
                  "The images carry no position: they are written as transversal ones at the isocentre");
    } else if (const auto directions = directions_of(readout->read_dir, readout->phase_dir)) {
        plane.row = directions->row;
        plane.column = directions->column;
        std::copy(readout->position.begin(), readout->position.end(), position.begin());
    } else {
        warn_once(no_directions_,
                  "The readouts' read_dir and phase_dir span no plane: the images are written "
                  "as transversal ones at their position");
        std::copy(readout->position.begin(), readout->position.end(), position.begin());
    }
    if (!std::all_of(position.begin(), position.end(), [](double v) { return std::isfinite(v); })) {
        warn_once(no_position_, "The readouts' position is not finite: it counts as the isocentre");
        position = {};
    }
    place(plane, position, readout ? convention_ : PositionConvention::centre);
    return plane;
}

void Collector::add(GstBuffer* buffer) {
    const auto readouts = readouts_of(buffer);
    const Readout* readout = readouts.empty() ? nullptr : &readouts.front();
    ExportedImage image;
    image.plane = plane_of(readout);
    image.header = static_cast<int>(header_);
    image.series = image_.series;
    if (readout) {
        image.measurement = readout->measurement_uid;
        image.contrast = readout->contrast;
        image.set = readout->set;
        image.repetition = readout->repetition;
        image.gated = readout->phase > 0 || readout->physiology_time_stamp[0] > 0;
        image.stamp = readout->acquisition_time_stamp;
    }
    if (GST_BUFFER_PTS_IS_VALID(buffer))
        image.time = GST_BUFFER_PTS(buffer);
    if (GST_BUFFER_DURATION_IS_VALID(buffer))
        image.duration = GST_BUFFER_DURATION(buffer);
    image.pixels = collected_.spool->add(pixels_of(buffer));
    collected_.images.push_back(image);
}

const Collected& Collector::close() {
    collected_.provenance = provenance_text(provenance_at(GST_BASE_SINK_PAD(element_.gst())), element_.gst());
    return collected_;
}

} // namespace mri
