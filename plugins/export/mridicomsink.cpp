// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mridicomsink
 * @title: mridicomsink
 *
 * Writes images as DICOM files of the class MR Image Storage: location/series-1/image-0001.dcm, ... All of a
 * run is one study; parallel slices of one scan are one DICOM series, by ascending position along the normal,
 * and within a slice by time. Another contrast, set, orientation or matrix, and a second series of the stream
 * at a position that is taken, is a DICOM series of its own. A change of the MRD header begins another study.
 * Enhanced MR Image Storage is not written.
 *
 * Geometry comes from the image's first readout: pixel (width / 2, height / 2) lies at its position
 * (position-convention=first-voxel: pixel (0, 0) of images that are not cropped does), rows run along
 * read_dir and columns along phase_dir. Images without readouts are transversal at the isocentre, and a
 * warning says so. SliceThickness is the header's.
 *
 * Times: AcquisitionTime and ContentTime are the first image's time stamp (tick) and what the stream counts
 * from there; TemporalResolution is the mean distance of a slice's images in ms. Images of phases of the
 * heart (the phase counter, or a physiology time stamp) also have TriggerTime: ms since the first image of
 * the slice in that repetition.
 *
 * Pixels are 16-bit integers with one RescaleSlope for all images of a DICOM series; the window runs to the
 * 99.5th percentile. UIDs are computed from header, geometry and pixels: the same input gives the same UIDs.
 *
 * Nothing of the MRD header that names the patient, people, places, dates or the examination is written,
 * unless anonymize=false. ImageComments and ContributingEquipmentSequence tell the version, and that this is
 * research output, not for diagnosis.
 *
 * The series appear under their names when the stream has ended, whole. Stopped before EOS (without -e in
 * gst-launch-1.0) nothing is left. A folder that holds files is refused; overwrite=true replaces the series
 * of an earlier run, and nothing else.
 *
 * Latency: none; buffers are not synchronised to the clock unless sync is set. Caps: application/x-mri-image.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mridicomsink location=dicom
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/export/collector.hpp"
#include "plugins/export/dicom_writer.hpp"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

namespace mri {
namespace {

struct MriDicomSinkSettings : ExportSettings {
    bool overwrite = false;
    bool anonymize = true;
    double tick = 2.5;
};

class MriDicomSink : public Configured<Sink, MriDicomSinkSettings> {
  public:
    static constexpr ElementInfo info{"mridicomsink", "GstMriDicomSink", "DICOM sink", "Sink/File/MRI",
                                      "Writes images into a folder of DICOM files"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = nullptr;

    static void properties(Properties<MriDicomSink>& p) {
        using S = MriDicomSinkSettings;
        p.string("location", "Folder to write, new or empty", static_cast<std::string S::*>(&S::location));
        export_properties<MriDicomSink, S>(p);
        p.boolean("overwrite", "Replace the series of an earlier run in the folder", &S::overwrite);
        p.boolean("anonymize", "Leave out the header's patient, people, places, dates and identifiers",
                  &S::anonymize);
        p.real("tick", "Unit of the readouts' time stamps in ms", 1e-6, 1e6, &S::tick);
    }

  protected:
    bool start() override {
        settings_ = settings();
        if (settings_.location.empty())
            throw Error(Errc::settings, "The property location is not set: it names the folder to write");
        folder_ = std::make_unique<DicomFolder>(settings_.location, settings_.overwrite);
        collector_.emplace(
            *this, settings_,
            std::make_unique<Spool>(settings_.location, "'" + settings_.location + "' cannot be written"));
        return true;
    }

    void stop() override {
        if (collector_ && collector_->images() > 0)
            post_warning("Nothing was written into '" + settings_.location +
                             "': the stream was stopped before its end",
                         fmt::format("{} images are lost", collector_->images()));
        collector_.reset();
        folder_.reset();
    }

    void event(GstEvent* event) override {
        if (collector_)
            collector_->event(event);
    }

    void set_caps(const GstCaps* caps) override { collector().set_caps(caps); }

    GstFlowReturn render(GstBuffer* buffer) override {
        collector().add(buffer);
        return GST_FLOW_OK;
    }

    void eos() override {
        if (!collector_)
            return;
        // Whatever comes of it, the run is over: a failure has its error, and nothing more is said at the
        // stop.
        auto collector = std::exchange(collector_, std::nullopt);
        const Collected& all = collector->close();
        const auto series =
            write_dicom(*folder_, all, {.anonymize = settings_.anonymize, .tick_ms = settings_.tick});
        MRI_INFO("%zu images in %zu series in '%s'", all.images.size(), series, settings_.location.c_str());
    }

  private:
    Collector& collector() {
        if (!collector_)
            throw Error(Errc::failed, "'" + settings_.location + "' is complete: nothing can be added");
        return *collector_;
    }

    // Between start() and stop(), streaming thread.
    MriDicomSinkSettings settings_;
    std::unique_ptr<DicomFolder> folder_;
    std::optional<Collector> collector_; // until the end of the stream
};

} // namespace
} // namespace mri

MRI_ELEMENT(mridicomsink, mri::MriDicomSink)
