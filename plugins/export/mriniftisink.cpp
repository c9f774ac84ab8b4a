// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mriniftisink
 * @title: mriniftisink
 *
 * Writes images as NIfTI-1, float32 with x, y, slice and time; one image a slice leaves out the time.
 * Parallel slices of one scan are stacked by ascending position along their normal. What does not fit the
 * grid of one file goes to further ones, which have a number in their names: scan.nii.gz, scan-2.nii.gz, ...
 * These are other contrasts, sets, orientations and matrices, a second series of the stream at a position
 * that is taken, slices that are not evenly spaced, not straight above each other, or of different numbers of
 * images; a warning names the last three.
 *
 * The affine, as qform and as sform, comes from the image's first readout as in mridicomsink: pixel (width /
 * 2, height / 2) lies at its position (position-convention=first-voxel: pixel (0, 0) of images that are not
 * cropped does). NIfTI's coordinates run to the right, the front and the head. Images without readouts are
 * transversal at the isocentre, and a warning says so. A single slice is as thick as the header says, or 1
 * mm. The time step is the mean distance of a slice's images; a warning says where they are uneven by more
 * than a tenth of it.
 *
 * The description tells the version, and that this is research output, not for diagnosis. Nothing of the MRD
 * header that names patient, people or places is written.
 *
 * A file appears under its name when the stream has ended, whole; an older one is replaced. Stopped before
 * EOS (without -e in gst-launch-1.0) nothing is left.
 *
 * Latency: none; buffers are not synchronised to the clock unless sync is set. Caps: application/x-mri-image.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mriniftisink location=scan.nii.gz
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/export/collector.hpp"
#include "plugins/export/nifti_writer.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

namespace mri {
namespace {

class MriNiftiSink : public Configured<Sink, ExportSettings> {
  public:
    static constexpr ElementInfo info{"mriniftisink", "GstMriNiftiSink", "NIfTI sink", "Sink/File/MRI",
                                      "Writes images into a NIfTI file"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = nullptr;

    static void properties(Properties<MriNiftiSink>& p) {
        p.string("location", "File to write, .nii or .nii.gz", &ExportSettings::location);
        export_properties<MriNiftiSink, ExportSettings>(p);
    }

  protected:
    bool start() override {
        settings_ = settings();
        if (settings_.location.empty())
            throw Error(Errc::settings, "The property location is not set: it names the file to write");
        if (!is_nifti_name(settings_.location))
            throw Error(Errc::settings, "'" + settings_.location + "' does not end in .nii or .nii.gz");
        if (std::filesystem::is_directory(settings_.location))
            throw Error(Errc::open_write, "'" + settings_.location + "' is a folder");
        const auto folder = std::filesystem::path(settings_.location).parent_path();
        collector_.emplace(*this, settings_,
                           std::make_unique<Spool>(folder.empty() ? "." : folder.string(),
                                                   "'" + settings_.location + "' cannot be written"));
        return true;
    }

    void stop() override {
        if (collector_ && collector_->images() > 0)
            post_warning("'" + settings_.location +
                             "' was not written: the stream was stopped before its end",
                         fmt::format("{} images are lost", collector_->images()));
        collector_.reset();
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
        std::vector<std::string> reasons;
        const auto stacks = gridded_stacks(stack_images(all.images), all.images, reasons);
        for (const std::string& reason : reasons)
            post_warning(reason + ": each goes to a file of its own");
        bool uneven = false;
        for (const Stack& stack : stacks)
            for (const Slice& slice : stack.slices) {
                const TimeStep step = time_step(slice, all.images);
                uneven = uneven || step.largest > 0.1 * step.mean;
            }
        if (uneven)
            post_warning("The times between images are not even: the file has their mean");
        for (std::size_t i = 0; i < stacks.size(); ++i)
            write_nifti(nifti_name(settings_.location, i), stacks[i], all);
        MRI_INFO("%zu images in %zu files from '%s' on", all.images.size(), stacks.size(),
                 settings_.location.c_str());
    }

  private:
    Collector& collector() {
        if (!collector_)
            throw Error(Errc::failed, "'" + settings_.location + "' is complete: nothing can be added");
        return *collector_;
    }

    // Between start() and stop(), streaming thread.
    ExportSettings settings_;
    std::optional<Collector> collector_; // until the end of the stream
};

} // namespace
} // namespace mri

MRI_ELEMENT(mriniftisink, mri::MriNiftiSink)
