// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-ismrmrdsink
 * @title: ismrmrdsink
 *
 * Writes raw data and images into an ISMRMRD file that python's ismrmrd and ISMRMRD's own tools read.
 *
 * Raw data: /group/data, a row a readout, of streams of readouts or of frames, with what each readout's head says
 * (flags, counters, time stamps, position) and noise readouts as they come. A stream of frames that share readouts
 * has these as often as they came. Where a stream has no heads they are made up: counters of readouts and frames,
 * phase encodes from the trajectory, time stamps from the PTS (tick). /group/xml is the stream's header
 * (mri-header), or is made from its caps. A file has one header: another matrix, field of view or trajectory in
 * the middle of a stream is an error.
 *
 * Trajectories are stored in trajectory-unit, by default +-0.5 at the edge of the encoded matrix, as most
 * toolboxes want them; the attribute trajectory_unit of the dataset says which, and ismrmrdsrc reads the same
 * positions again. Cartesian lines where the phase encode says so get none, as is usual.
 *
 * Images: /group/image_<series>/{data, header, attributes}, one group for each value of series in the caps.
 * Complex images stay complex unless image-type asks for a part. data-type=int16 stores round(value /
 * RescaleSlope) with one scale for a series: its first image that is not all zero, with room for twice its
 * maximum; what is brighter is clipped, and a warning says so. Head fields come from the image's first readout; an
 * image without any gets its PTS as the time stamp (tick) and its number as the repetition. The position is the
 * image's centre (pixel N / 2), as MRD means it, or with position-convention=first-voxel its first pixel's, as
 * DICOM and python-ismrmrd-server do.
 * The attributes have DataRole, ImageProcessingHistory, SeriesDescription, ImageComments, ImageType, ImageRowDir,
 * ImageColumnDir, WindowCenter, WindowWidth, RescaleSlope, RescaleIntercept, Keep_image_geometry; PTS and duration
 * (GstPts, GstDuration, ns) and, behind a network that keeps to measured samples, how far it is from them,
 * relative to them (DataResidual) and where the noise is known over what noise leaves (DataResidualOverNoise).
 * GstMriVersion, GstMriPipeline, GstMriNetwork (with the SHA-256 of its weights), GstMriAcceleration and GstMriUse say
 * where an image comes from.
 *
 * Names, identifiers and dates of the patient and the study are left out of the header unless anonymize=false.
 *
 * The file appears under its name when the stream has ended, whole: until then it is written beside it. Stopped
 * before EOS (without -e in gst-launch-1.0) images are dropped; readouts, which may be a scan's only copy, are
 * completed to a file of those that came. While it is written each block also goes into FILE.recording, which
 * outlives a killed process and a full disk: `mri-launch recover FILE` makes the file of it, and so does the next
 * run with the same location, as FILE-recovered.h5, and says so. An older file is replaced, but never one that
 * holds readouts in that group; append adds to a file.
 *
 * Latency: none; buffers are not synchronised to the clock unless sync is set. Caps: application/x-mri-kspace
 * (readouts or frames) and application/x-mri-image.
 *
 * In python: ismrmrd.Dataset('images.h5').read_image('image_0', n), ismrmrd.Dataset('scan.h5').read_acquisition(n).
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! ismrmrdsink location=images.h5
 * ]|
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mrisim coils=4 snr=30 ! ismrmrdsink location=recorded.h5
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/common/mrd_anonymous.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/common/provenance.hpp"
#include "plugins/math/base/text.hpp"
#include "plugins/source/ismrmrd/image_part.hpp"
#include "plugins/source/ismrmrd/trajectory.hpp"
#include "plugins/source/ismrmrd/writer.hpp"

#include <fmt/format.h>
#include <ismrmrd/version.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <memory>

namespace mri {
namespace {

enum class PositionConvention { centre, first_voxel };

struct IsmrmrdSinkSettings {
    std::string location;
    std::string group = "dataset";
    bool append = false;
    bool anonymize = true;
    double tick = 2.5;
    TrajectoryUnit unit = TrajectoryUnit::normalised;
    ImagePart part = ImagePart::all;
    PixelType pixels = PixelType::float32;
    PositionConvention position = PositionConvention::centre;
};

/// Largest distance, in cycles per field of view, of a position from the one that the counters tell.
constexpr float same_position = 1e-3F;

constexpr const char* part_names[] = {"", "complex", "magnitude", "phase", "real", "imaginary"};

ISMRMRD::ISMRMRD_AcquisitionHeader head_of(const Readout& r, const KspaceInfo& caps) {
    ISMRMRD::ISMRMRD_AcquisitionHeader head{};
    head.version = r.version;
    head.flags = r.flags;
    head.measurement_uid = r.measurement_uid;
    head.scan_counter = r.scan_counter;
    head.acquisition_time_stamp = r.acquisition_time_stamp;
    std::copy(r.physiology_time_stamp.begin(), r.physiology_time_stamp.end(), head.physiology_time_stamp);
    head.number_of_samples = static_cast<std::uint16_t>(caps.samples);
    head.active_channels = static_cast<std::uint16_t>(caps.coils);
    head.available_channels = r.available_channels;
    // Of channels that were combined to fewer ones no mask tells.
    int marked = 0;
    for (const std::uint64_t part : r.channel_mask)
        marked += std::popcount(part);
    if (marked <= caps.coils)
        std::copy(r.channel_mask.begin(), r.channel_mask.end(), head.channel_mask);
    head.discard_pre = r.discard_pre;
    head.discard_post = r.discard_post;
    head.center_sample = r.center_sample;
    head.encoding_space_ref = r.encoding_space_ref;
    head.sample_time_us = r.sample_time_us;
    std::copy(r.position.begin(), r.position.end(), head.position);
    std::copy(r.read_dir.begin(), r.read_dir.end(), head.read_dir);
    std::copy(r.phase_dir.begin(), r.phase_dir.end(), head.phase_dir);
    std::copy(r.slice_dir.begin(), r.slice_dir.end(), head.slice_dir);
    std::copy(r.patient_table_position.begin(), r.patient_table_position.end(), head.patient_table_position);
    head.idx.kspace_encode_step_1 = r.kspace_encode_step_1;
    head.idx.kspace_encode_step_2 = r.kspace_encode_step_2;
    head.idx.average = r.average;
    head.idx.slice = r.slice;
    head.idx.contrast = r.contrast;
    head.idx.phase = r.phase;
    head.idx.repetition = r.repetition;
    head.idx.set = r.set;
    head.idx.segment = r.segment;
    std::copy(r.user.begin(), r.user.end(), head.idx.user);
    std::copy(r.user_int.begin(), r.user_int.end(), head.user_int);
    std::copy(r.user_float.begin(), r.user_float.end(), head.user_float);
    return head;
}

/// The header of a stream that has none. Without a field of view pixels are 1 mm.
MrdHeader header_from(const KspaceInfo& caps, int readouts) {
    const bool cartesian = kind_of(caps.trajectory).grid;
    const auto or_else = [](auto value, auto other) { return value > 0 ? value : other; };
    MrdHeader header;
    header.receiver_channels = caps.coils;
    MrdEncoding encoding;
    encoding.trajectory = caps.trajectory;
    const double fov_x = or_else(caps.fov_x, double(caps.width)),
                 fov_y = or_else(caps.fov_y, double(caps.height));
    encoding.recon = {{caps.width, caps.height, 1}, {fov_x, fov_y, 1}};
    encoding.encoded = {{or_else(caps.encoded_width, cartesian ? caps.samples : caps.width),
                         or_else(caps.encoded_height, caps.height), 1},
                        {or_else(caps.encoded_fov_x, fov_x), or_else(caps.encoded_fov_y, fov_y), 1}};
    const int lines = cartesian ? encoding.encoded.matrix[1] : readouts;
    const int centre = cartesian && caps.center_line >= 0 ? caps.center_line : lines / 2;
    encoding.step_1 = MrdLimit{0, lines - 1, centre};
    encoding.slice = MrdLimit{};
    encoding.repetition = MrdLimit{0, 65535, 0}; // a stream has no known end
    header.encodings.push_back(encoding);
    return header;
}

class IsmrmrdSink : public Configured<Sink, IsmrmrdSinkSettings> {
  public:
    static constexpr ElementInfo info{"ismrmrdsink", "GstIsmrmrdSink", "ISMRMRD sink", "Sink/File/MRI",
                                      "Writes raw data and images into an ISMRMRD file"};
    static constexpr const char* sink_caps = MRI_KSPACE_CAPS "; " MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = nullptr;

    static void properties(Properties<IsmrmrdSink>& p) {
        using S = IsmrmrdSinkSettings;
        p.string("location", "The ISMRMRD file (HDF5)", &S::location);
        p.string("group", "Group of the file that gets the data", &S::group);
        p.boolean("append", "Add to the file when it exists", &S::append);
        p.boolean("anonymize", "Leave names, identifiers and dates of patient and study out of the header",
                  &S::anonymize);
        p.real("tick", "Unit of the time stamps in ms, for data without heads", 1e-6, 1e6, &S::tick);
        p.choice("trajectory-unit", "Raw data: unit of the stored trajectory", &S::unit,
                 {{TrajectoryUnit::normalised, "normalised", "+-0.5 at the edge of the encoded matrix"},
                  {TrajectoryUnit::encoded_cycles, "encoded-cycles", "Cycles per encoded field of view"},
                  {TrajectoryUnit::cycles, "cycles", "Cycles per reconstructed field of view"},
                  {TrajectoryUnit::radians, "radians", "+-pi at the edge of the encoded matrix"},
                  {TrajectoryUnit::per_metre, "per-metre", "1/m"}});
        p.choice("image-type", "Images: part that is stored", &S::part,
                 {{ImagePart::all, "auto", "Complex images complex, real ones as they are"},
                  {ImagePart::complex, "complex", "Complex"},
                  {ImagePart::magnitude, "magnitude", "Magnitude"},
                  {ImagePart::phase, "phase", "Phase in -pi..pi"},
                  {ImagePart::real, "real", "Real part"},
                  {ImagePart::imaginary, "imaginary", "Imaginary part"}});
        p.choice("data-type", "Images: type of the stored pixels", &S::pixels,
                 {{PixelType::float32, "float", "Float of 32 bits; complex images as pairs"},
                  {PixelType::int16, "int16", "Integers of 16 bits, value / RescaleSlope"}});
        p.choice("position-convention", "Images: point that the head's position is of", &S::position,
                 {{PositionConvention::centre, "centre", "Centre of the image, as MRD means it"},
                  {PositionConvention::first_voxel, "first-voxel",
                   "Centre of the first pixel, as DICOM and python-ismrmrd-server mean it"}});
    }

  protected:
    bool start() override {
        settings_ = settings();
        finished_ = broken_ = false;
        counts_.clear();
        encoders_.clear();
        clipped_.clear();
        geometries_.clear();
        thickness_ = 0;
        frames_ = 0;
        scans_ = 0;
        header_.reset();
        stream_xml_.clear();
        writer_ = std::make_unique<IsmrmrdWriter>(IsmrmrdWriter::Options{.path = settings_.location,
                                                                         .group = settings_.group,
                                                                         .append = settings_.append,
                                                                         .trajectory_unit = settings_.unit});
        if (!writer_->notice().empty())
            post_warning(writer_->notice());
        return true;
    }

    void stop() override {
        const auto writer = std::move(writer_);
        if (!writer || finished_)
            return;
        if (broken_ && writer->readouts() > 0) {
            post_warning(
                fmt::format("'{0}' was not written; what came before is kept in '{0}.recording': mri-launch "
                            "recover '{0}' makes a file of it",
                            settings_.location));
        } else if (writer->readouts() > 0) {
            writer->finish();
            post_warning(
                fmt::format("The stream was stopped before its end: '{}' has the {} readouts that came",
                            settings_.location, writer->readouts()));
        } else if (writer->images() > 0) {
            post_warning("'" + settings_.location +
                             "' was not written: the stream was stopped before its end",
                         fmt::format("{} images are lost", writer->images()));
        }
    }

    void event(GstEvent* event) override {
        const auto xml = header_of(event);
        if (xml.empty() || !writer_ || finished_)
            return;
        if (writer_->readouts() > 0) {
            check_same(MrdHeader::parse(xml, "The stream's ISMRMRD header"));
            return;
        }
        // What does not parse cannot be made anonymous, and is no header that a reader would take.
        stream_xml_ = xml;
        if (settings_.anonymize) {
            try {
                stream_xml_ = mrd_anonymized(xml);
            } catch (const Error& error) {
                stream_xml_.clear();
                post_warning(std::string(error.what()) + "; it is not written", error.detail());
                return;
            }
        }
        writing([&] { writer_->set_xml(stream_xml_); });
        header_.reset();
        geometries_.clear();
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
        raw_ = is_kspace(caps);
        if (raw_) {
            kspace_ = KspaceInfo::from_caps(caps);
            return;
        }
        image_ = ImageInfo::from_caps(caps);
        if (image_.series > 65535)
            throw Error(
                Errc::unsupported,
                fmt::format("An ISMRMRD file has 65536 series at most, this is number {}", image_.series));
        const ImageEncoder encoder(settings_.part, settings_.pixels, image_.format == SampleFormat::c64);
        // A series keeps its scale; whether one kind of images follows another is the writer's to judge.
        if (settings_.part == ImagePart::all)
            encoders_.insert_or_assign(image_.series, encoder);
        else
            encoders_.try_emplace(image_.series, encoder);
    }

    GstFlowReturn render(GstBuffer* buffer) override {
        writing([&] { raw_ ? write_readouts(buffer) : write_image(buffer); });
        return GST_FLOW_OK;
    }

    void eos() override {
        if (!writer_ || finished_ || broken_)
            return;
        writing([&] { writer_->finish(); });
        finished_ = true;
        MRI_INFO("%zu readouts and %zu images in '%s'", writer_->readouts(), writer_->images(),
                 settings_.location.c_str());
    }

  private:
    /// Remembers that the file cannot be completed.
    template <class Work>
    void writing(Work work) {
        try {
            work();
        } catch (const Error& error) {
            broken_ = broken_ || error.code() == Errc::write;
            throw;
        }
    }

    // --- raw data ---

    /// The header of the file, which says what the stored positions mean.
    const MrdHeader& header(int readouts) {
        if (header_)
            return *header_;
        if (writer_->xml().empty())
            writer_->set_xml(header_from(kspace_, readouts).xml());
        header_ = MrdHeader::parse(writer_->xml(), "The header of '" + settings_.location + "'");
        if (settings_.append && !stream_xml_.empty())
            check_same(MrdHeader::parse(stream_xml_, "The stream's ISMRMRD header"));
        return *header_;
    }

    /// Throws when the file's header does not describe the stream.
    void check_same(const MrdHeader& other) const {
        bool same = header_ && header_->encodings.size() == other.encodings.size();
        for (std::size_t i = 0; same && i < other.encodings.size(); ++i)
            same = encoding_geometry(*header_, i) == encoding_geometry(other, i);
        if (!same)
            throw Error(
                Errc::unsupported,
                fmt::format(
                    "'{}' has one header, and the stream's describes another matrix, field of view or "
                    "trajectory: record it into another file",
                    settings_.location));
    }

    /// Geometry of the readouts' encoding, which is that of the caps.
    const EncodingGeometry& geometry(std::size_t encoding, int readouts) {
        if (const auto found = geometries_.find(encoding);
            found != geometries_.end() && found->second.first == kspace_)
            return found->second.second;
        EncodingGeometry g;
        try {
            g = encoding_geometry(header(readouts), encoding);
        } catch (const Error& error) {
            throw Error(error.code(), "The stream's ISMRMRD header cannot be recorded with: a readout " +
                                          std::string(error.what()));
        }
        const auto differs = [](double a, double b) { return a > 0 && std::abs(a - b) > 1e-3 * b; };
        const bool stated = !stream_xml_.empty() || settings_.append;
        if (g.width != kspace_.width || g.height != kspace_.height ||
            (stated && g.fov_x > 1 && (differs(kspace_.fov_x, g.fov_x) || differs(kspace_.fov_y, g.fov_y))))
            throw Error(
                Errc::format,
                fmt::format(
                    "The header of '{}' describes images of {} x {} pixels, {} x {} mm; the stream has {} x "
                    "{}, {} x {} mm",
                    settings_.location, g.width, g.height, g.fov_x, g.fov_y, kspace_.width, kspace_.height,
                    kspace_.fov_x, kspace_.fov_y));
        return geometries_.insert_or_assign(encoding, std::pair(kspace_, g)).first->second.second;
    }

    std::uint32_t ticks(GstClockTime time) const {
        return static_cast<std::uint32_t>(
            std::fmod(static_cast<double>(time) / (settings_.tick * 1e6), 4294967296.0));
    }

    /// Head of a readout that came without one: number `r` of the `n` of a buffer.
    Readout made_up(GstBuffer* buffer, const TrajectoryData* trajectory, int r, int n) const {
        Readout facts;
        facts.scan_counter = static_cast<std::uint32_t>(scans_);
        facts.available_channels = static_cast<std::uint16_t>(kspace_.coils);
        facts.center_sample =
            static_cast<std::uint16_t>(kind_of(kspace_.trajectory).from_centre ? 0 : kspace_.samples / 2);
        facts.kspace_encode_step_1 = static_cast<std::uint16_t>(r);
        if (kind_of(kspace_.trajectory).grid && trajectory) {
            const int lines = kspace_.encoded_height > 0 ? kspace_.encoded_height : kspace_.height;
            const double over =
                kspace_.encoded_fov_y > 0 && kspace_.fov_y > 0 ? kspace_.encoded_fov_y / kspace_.fov_y : 1;
            const double ky = trajectory->kxy[2 * static_cast<std::size_t>(r) * kspace_.samples + 1];
            facts.kspace_encode_step_1 = static_cast<std::uint16_t>(std::clamp(
                std::lround(ky * over) + (kspace_.center_line >= 0 ? kspace_.center_line : lines / 2), 0L,
                65535L));
        }
        if (kspace_.alignment == Alignment::frame) {
            facts.repetition = static_cast<std::uint16_t>(frames_);
            if (r == 0)
                facts.flags |= flag::first_in_repetition;
            if (r == n - 1)
                facts.flags |= flag::last_in_repetition;
        }
        if (GST_BUFFER_PTS_IS_VALID(buffer)) {
            const GstClockTime length =
                GST_BUFFER_DURATION_IS_VALID(buffer) ? GST_BUFFER_DURATION(buffer) : 0;
            facts.acquisition_time_stamp =
                ticks(GST_BUFFER_PTS(buffer) + gst_util_uint64_scale_int(length, r, n));
        }
        return facts;
    }

    /// The trajectory as it is stored; sets the head's dimensions.
    std::vector<float> stored(const TrajectoryData* trajectory, const Readout& facts, int r, int n,
                              ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
        if (!trajectory || facts.flags & flag::noise)
            return {};
        const EncodingGeometry& g = geometry(facts.encoding_space_ref, n);
        const auto samples = static_cast<std::size_t>(kspace_.samples);
        const std::span<const float> kxy(trajectory->kxy.data() + 2 * samples * r, 2 * samples);
        std::span<const float> density;
        if (!trajectory->density.empty())
            density = {trajectory->density.data() + samples * r, samples};
        if (facts.trajectory_dimensions == 0 && g.is_cartesian()) {
            std::vector<float> told(2 * samples);
            computed_trajectory(head, g, {}, 0, 0, kspace_.samples, told.data());
            if (std::equal(told.begin(), told.end(), kxy.begin(),
                           [](float a, float b) { return std::abs(a - b) <= same_position; }))
                return {};
        }
        const int dimensions = facts.trajectory_dimensions == 3 || !density.empty() ? 3 : 2;
        head.trajectory_dimensions = static_cast<std::uint16_t>(dimensions);
        return stored_trajectory(kxy, density, dimensions, settings_.unit, g);
    }

    void write_readouts(GstBuffer* buffer) {
        const Mapped<const cfloat> samples(buffer);
        const int n = kspace_.readouts_in(samples.size() * sizeof(cfloat));
        const auto heads = readouts_of(buffer);
        const auto trajectory = trajectory_of(buffer);
        if (kspace_.alignment == Alignment::readout && n != 1)
            throw Error(Errc::format, fmt::format("A buffer of one readout holds {}", n));
        if (!heads.empty() && heads.size() != static_cast<std::size_t>(n))
            throw Error(Errc::format,
                        fmt::format("A k-space frame of {} readouts has the heads of {}", n, heads.size()));
        if (trajectory && (trajectory->readouts != n || trajectory->samples != kspace_.samples))
            throw Error(
                Errc::format,
                fmt::format("A k-space frame of {} readouts of {} samples has a trajectory of {} x {}", n,
                            kspace_.samples, trajectory->readouts, trajectory->samples));
        header(n);
        const auto length = static_cast<std::size_t>(kspace_.samples);
        std::vector<cfloat> row(length * static_cast<std::size_t>(kspace_.coils));
        for (int r = 0; r < n; ++r) {
            const Readout facts = heads.empty() ? made_up(buffer, trajectory.get(), r, n) : heads[r];
            ISMRMRD::ISMRMRD_AcquisitionHeader head = mri::head_of(facts, kspace_);
            const std::vector<float> positions = stored(trajectory.get(), facts, r, n, head);
            for (std::size_t c = 0; c < static_cast<std::size_t>(kspace_.coils); ++c)
                std::copy_n(samples.data() + (c * n + r) * length, length, row.data() + c * length);
            writer_->add(head, positions, row);
            ++scans_;
        }
        ++frames_;
    }

    // --- images ---

    void write_image(GstBuffer* buffer) {
        image_.check_size(gst_buffer_get_size(buffer));
        ImageEncoder& encoder = encoders_.at(image_.series);
        const auto pixels = image_.format == SampleFormat::c64 ? encode<cfloat>(encoder, buffer)
                                                               : encode<float>(encoder, buffer);
        writer_->add(image_head(buffer, encoder), pixels, attributes_of(buffer, encoder));
        ++counts_[image_.series];
        if (encoder.clipped() > 0 && !std::exchange(clipped_[image_.series], true))
            post_warning(fmt::format(
                "Series {} has pixels above twice the first image's largest: they are clipped in 16 "
                "bits; data-type=float keeps them",
                image_.series));
    }

    template <class T>
    static std::span<const std::byte> encode(ImageEncoder& encoder, GstBuffer* buffer) {
        const Mapped<const T> pixels(buffer);
        return encoder.encode(pixels.span());
    }

    ISMRMRD::ISMRMRD_ImageHeader image_head(GstBuffer* buffer, const ImageEncoder& encoder) const {
        ISMRMRD::ISMRMRD_ImageHeader head{};
        const auto found = counts_.find(image_.series);
        const std::uint64_t index = found == counts_.end() ? 0 : found->second;
        head.version = ISMRMRD_VERSION_MAJOR;
        head.data_type = encoder.data_type();
        head.image_type = encoder.image_type();
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
                head.acquisition_time_stamp = ticks(GST_BUFFER_PTS(buffer));
            return head;
        }
        const Readout& r = readouts.front();
        head.measurement_uid = r.measurement_uid;
        std::copy(r.position.begin(), r.position.end(), head.position);
        std::copy(r.read_dir.begin(), r.read_dir.end(), head.read_dir);
        std::copy(r.phase_dir.begin(), r.phase_dir.end(), head.phase_dir);
        std::copy(r.slice_dir.begin(), r.slice_dir.end(), head.slice_dir);
        if (settings_.position == PositionConvention::first_voxel) {
            // Pixel N / 2 lies at the centre.
            const double x = image_.width / 2 * image_.fov_x / image_.width,
                         y = image_.height / 2 * image_.fov_y / image_.height;
            for (std::size_t axis = 0; axis < 3; ++axis)
                head.position[axis] =
                    static_cast<float>(r.position[axis] - x * r.read_dir[axis] - y * r.phase_dir[axis]);
        }
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
        std::copy(r.user_int.begin(), r.user_int.end(), head.user_int);
        std::copy(r.user_float.begin(), r.user_float.end(), head.user_float);
        return head;
    }

    std::string attributes_of(GstBuffer* buffer, const ImageEncoder& encoder) const {
        const char* const part = part_names[static_cast<std::size_t>(encoder.part())];
        const Provenance provenance = provenance_at(GST_BASE_SINK_PAD(gst()));
        std::vector<std::pair<std::string, std::string>> values{
            {"DataRole", "Image"},
            {"ImageProcessingHistory", "gst-mri"},
            {"SeriesDescription", fmt::format("gst-mri {}", part)},
            {"ImageComments", provenance_text(provenance, gst())},
            {"Keep_image_geometry", "1"}};
        switch (encoder.part()) {
        case ImagePart::magnitude:
            values.emplace_back("ImageType", "DERIVED\\PRIMARY\\M");
            break;
        case ImagePart::phase:
            values.emplace_back("ImageType", "DERIVED\\PRIMARY\\P");
            break;
        case ImagePart::real:
            values.emplace_back("ImageType", "DERIVED\\PRIMARY\\R");
            break;
        case ImagePart::imaginary:
            values.emplace_back("ImageType", "DERIVED\\PRIMARY\\I");
            break;
        case ImagePart::all:
        case ImagePart::complex:
            break;
        }
        if (const auto readouts = readouts_of(buffer); !readouts.empty()) {
            for (const float value : readouts.front().read_dir)
                values.emplace_back("ImageRowDir", number_text(value));
            for (const float value : readouts.front().phase_dir)
                values.emplace_back("ImageColumnDir", number_text(value));
        }
        if (encoder.window_width() > 0) {
            values.emplace_back("WindowCenter", number_text(encoder.window_centre()));
            values.emplace_back("WindowWidth", number_text(encoder.window_width()));
        }
        if (encoder.slope() > 0) {
            values.emplace_back("RescaleSlope", number_text(encoder.slope()));
            values.emplace_back("RescaleIntercept", "0");
        }
        for (auto& value : provenance_attributes(provenance, gst()))
            values.push_back(std::move(value));
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
    bool raw_ = false; // the caps are k-space, else images
    KspaceInfo kspace_;
    ImageInfo image_;
    std::string stream_xml_;
    std::optional<MrdHeader> header_; // the file's, from the first readout on
    std::map<std::size_t, std::pair<KspaceInfo, EncodingGeometry>> geometries_;
    std::uint64_t scans_ = 0, frames_ = 0; // readouts and buffers of k-space
    std::map<int, ImageEncoder> encoders_; // of each series
    std::map<int, bool> clipped_;          // series whose clipping was warned of
    std::map<int, std::uint64_t> counts_;  // images of each series
    float thickness_ = 0;                  // mm, from the header
    bool finished_ = false;
    bool broken_ = false; // writing failed
};

} // namespace
} // namespace mri

MRI_ELEMENT(ismrmrdsink, mri::IsmrmrdSink)
