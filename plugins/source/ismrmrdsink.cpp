// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-ismrmrdsink
 * @title: ismrmrdsink
 *
 * Writes images into an ISMRMRD file: /group/image_<series>/{data, header, attributes}, one group for each
 * value of series in the caps, and /group/xml when the stream carries the header (mri-header). Complex images
 * stay complex. Head fields come from the image's first readout; an image without any gets its PTS as the
 * time stamp (tick) and its number as the repetition. The attributes have its PTS and duration (GstPts,
 * GstDuration, ns) and, behind a network that keeps to measured samples, how far it is from them, relative to
 * them (DataResidual) and where the noise is known over what noise leaves (DataResidualOverNoise).
 *
 * The file appears under its name when the stream has ended, whole: until then it is written beside it.
 * Stopped before EOS (without -e in gst-launch-1.0) nothing is left. An older file is replaced, but never one
 * that holds readouts in that group; append adds to a file, raw data included.
 *
 * Latency: none; buffers are not synchronised to the clock unless sync is set. Caps: application/x-mri-image.
 *
 * In python: ismrmrd.Dataset('images.h5').read_image('image_0', n).
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! ismrmrdsink location=images.h5
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/text.hpp"
#include "plugins/source/ismrmrd/writer.hpp"

#include <fmt/format.h>
#include <ismrmrd/version.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

namespace mri {
namespace {

struct IsmrmrdSinkSettings {
    std::string location;
    std::string group = "dataset";
    bool append = false;
    double tick = 2.5;
};

class IsmrmrdSink : public Configured<Sink, IsmrmrdSinkSettings> {
  public:
    static constexpr ElementInfo info{"ismrmrdsink", "GstIsmrmrdSink", "ISMRMRD sink", "Sink/File/MRI",
                                      "Writes images into an ISMRMRD file"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = nullptr;

    static void properties(Properties<IsmrmrdSink>& p) {
        using S = IsmrmrdSinkSettings;
        p.string("location", "The ISMRMRD file (HDF5)", &S::location);
        p.string("group", "Group of the file that gets the images", &S::group);
        p.boolean("append", "Add to the file when it exists", &S::append);
        p.real("tick", "Unit of the time stamps in ms, for images without readouts", 1e-6, 1e6, &S::tick);
    }

  protected:
    bool start() override {
        settings_ = settings();
        writer_ = std::make_unique<IsmrmrdWriter>(IsmrmrdWriter::Options{
            .path = settings_.location, .group = settings_.group, .append = settings_.append});
        finished_ = false;
        counts_.clear();
        thickness_ = 0;
        return true;
    }

    void stop() override {
        if (writer_ && !finished_ && writer_->images() > 0)
            post_warning("'" + settings_.location +
                             "' was not written: the stream was stopped before its end",
                         fmt::format("{} images are lost", writer_->images()));
        writer_.reset();
    }

    void event(GstEvent* event) override {
        const auto xml = header_of(event);
        if (xml.empty() || finished_)
            return;
        writer_->set_xml(xml);
        try {
            const auto encodings = MrdHeader::parse(xml).encodings;
            if (!encodings.empty())
                thickness_ = static_cast<float>(encodings[0].recon.fov_mm[2]);
        } catch (const Error& error) {
            post_warning("The stream's ISMRMRD header does not parse; it is written as it is",
                         std::string(error.what()) + " " + error.detail());
        }
    }

    void set_caps(const GstCaps* caps) override {
        image_ = ImageInfo::from_caps(caps);
        if (image_.series > 65535)
            throw Error(
                Errc::unsupported,
                fmt::format("An ISMRMRD file has 65536 series at most, this is number {}", image_.series));
    }

    GstFlowReturn render(GstBuffer* buffer) override {
        image_.check_size(gst_buffer_get_size(buffer));
        const Mapped<const std::byte> pixels(buffer);
        writer_->add(head_of(buffer), pixels.span(), attributes_of(buffer));
        ++counts_[image_.series];
        return GST_FLOW_OK;
    }

    void eos() override {
        if (!writer_ || finished_)
            return;
        writer_->finish();
        finished_ = true;
        MRI_INFO("%zu images in '%s'", writer_->images(), settings_.location.c_str());
    }

  private:
    ISMRMRD::ISMRMRD_ImageHeader head_of(GstBuffer* buffer) const {
        ISMRMRD::ISMRMRD_ImageHeader head{};
        const auto found = counts_.find(image_.series);
        const std::uint64_t index = found == counts_.end() ? 0 : found->second;
        const bool complex = image_.format == SampleFormat::c64;
        head.version = ISMRMRD_VERSION_MAJOR;
        head.data_type = complex ? ISMRMRD::ISMRMRD_CXFLOAT : ISMRMRD::ISMRMRD_FLOAT;
        head.image_type = complex ? ISMRMRD::ISMRMRD_IMTYPE_COMPLEX : ISMRMRD::ISMRMRD_IMTYPE_MAGNITUDE;
        head.matrix_size[0] = static_cast<std::uint16_t>(image_.width);
        head.matrix_size[1] = static_cast<std::uint16_t>(image_.height);
        head.matrix_size[2] = 1;
        head.field_of_view[0] = static_cast<float>(image_.fov_x);
        head.field_of_view[1] = static_cast<float>(image_.fov_y);
        head.field_of_view[2] = thickness_;
        head.channels = static_cast<std::uint16_t>(image_.channels);
        head.image_series_index = static_cast<std::uint16_t>(image_.series);
        head.image_index = static_cast<std::uint16_t>(index); // wraps, as it is 16 bits wide
        const auto readouts = readouts_of(buffer);
        if (readouts.empty()) {
            head.repetition = head.image_index;
            if (GST_BUFFER_PTS_IS_VALID(buffer))
                head.acquisition_time_stamp = static_cast<std::uint32_t>(std::fmod(
                    static_cast<double>(GST_BUFFER_PTS(buffer)) / (settings_.tick * 1e6), 4294967296.0));
            return head;
        }
        const Readout& r = readouts.front();
        head.measurement_uid = r.measurement_uid;
        std::copy(r.position.begin(), r.position.end(), head.position);
        std::copy(r.read_dir.begin(), r.read_dir.end(), head.read_dir);
        std::copy(r.phase_dir.begin(), r.phase_dir.end(), head.phase_dir);
        std::copy(r.slice_dir.begin(), r.slice_dir.end(), head.slice_dir);
        std::copy(r.patient_table_position.begin(), r.patient_table_position.end(),
                  head.patient_table_position);
        head.average = r.average;
        head.slice = r.slice;
        head.contrast = r.contrast;
        head.phase = r.phase;
        head.repetition = r.repetition;
        head.set = r.set;
        head.acquisition_time_stamp = r.acquisition_time_stamp;
        std::copy(r.physiology_time_stamp.begin(), r.physiology_time_stamp.end(), head.physiology_time_stamp);
        return head;
    }

    static std::string attributes_of(GstBuffer* buffer) {
        std::vector<std::pair<std::string, std::string>> values{{"DataRole", "Image"},
                                                                {"ImageProcessingHistory", "gst-mri"}};
        if (GST_BUFFER_PTS_IS_VALID(buffer))
            values.emplace_back("GstPts", std::to_string(GST_BUFFER_PTS(buffer)));
        if (GST_BUFFER_DURATION_IS_VALID(buffer))
            values.emplace_back("GstDuration", std::to_string(GST_BUFFER_DURATION(buffer)));
        if (const auto consistency = consistency_of(buffer)) {
            values.emplace_back("DataResidual", fixed_text(consistency->residual));
            if (consistency->noise_ratio > 0)
                values.emplace_back("DataResidualOverNoise", fixed_text(consistency->noise_ratio));
        }
        return mrd_attributes(values);
    }

    // Between start() and stop(), streaming thread.
    IsmrmrdSinkSettings settings_;
    std::unique_ptr<IsmrmrdWriter> writer_;
    ImageInfo image_;
    std::map<int, std::uint64_t> counts_; // images of each series
    float thickness_ = 0;                 // mm, from the header
    bool finished_ = false;
};

} // namespace
} // namespace mri

MRI_ELEMENT(ismrmrdsink, mri::IsmrmrdSink)
