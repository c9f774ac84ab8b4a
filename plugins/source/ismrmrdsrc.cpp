// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-ismrmrdsrc
 * @title: ismrmrdsrc
 *
 * Reads the readouts of an ISMRMRD file, as fast as downstream takes them (speed=0), or live, as the scanner
 * made them (speed=1) or at another pace. Readouts that are no image data (noise, navigators, phase
 * correction, dummies, feedback) are left out; samples that the head says to discard are cut off, and reversed
 * Cartesian readouts turned round. With noise=true noise readouts go out too, in their place, flagged, without
 * a trajectory or time, and with caps of their own where they have another length: for mriwhiten. Readouts for
 * parallel imaging alone (flag 20) go out in their place, flagged, without a time, and with caps of their own
 * where they have another length: mriframer attaches them to frames. Those whose positions are not known are
 * left out with a warning.
 *
 * A noise scan that has a file of its own goes out before all else with noise-location.
 *
 * Positions in k-space go out in cycles per reconstructed field of view. The unit of the file's trajectory is
 * the one that the file says (an attribute of files of ismrmrdsink), or is found from how far it reaches, or is
 * given by trajectory-unit; a warning tells which of two possible readings was taken. Cartesian lines without a
 * trajectory get one from their phase encode, radial spokes from the angle scheme: golden angle for encodings that
 * the header calls so, else regular spokes. A third dimension that is the same everywhere is left out; one that
 * varies along a readout is its density compensation, with a warning; negative values and those that differ from
 * readout to readout alone are kz, a volume.
 *
 * Each readout carries its head's counters, flags and time stamp, the stream the XML header (mri-header). A
 * change of sizes or of the encoding begins a new series, and so does each round with loop, or a plane that moves
 * under one slice number. Series that take turns within one frame (echoes of different lengths, two encodings,
 * slices that all have one number) are refused, with what takes turns. PTS follows the
 * time stamps (tick), smoothed, since ticks are coarser than readouts; without time stamps it is tr times the
 * count. Stamps may pass midnight, begin again with another measurement and stand still: times go on.
 *
 * Headers of other writers are read as they can be meant (matrix sizes of 83.9996, fields of view in metres or
 * of 0, no reconSpace), with a warning for each such reading.
 *
 * Latency: none. Caps: application/x-mri-kspace, alignment=readout. Volumes (several partitions),
 * compressed readouts and raw data of scanners' own formats are refused, each with a sentence that names it. Seeking is not supported; start and stop choose rows.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 ismrmrdsrc location=scan.h5 ! mriframer ! mrigrid ! ismrmrdsink location=images.h5
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/source/ismrmrd/clock.hpp"
#include "plugins/source/ismrmrd/reader.hpp"
#include "plugins/source/ismrmrd/trajectory.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace mri {
namespace {

enum class Angles { automatic, golden, tiny_golden, regular };

struct IsmrmrdSrcSettings {
    std::string location;
    std::string group = "dataset";
    guint64 start = 0;
    guint64 stop = G_MAXUINT64;
    double speed = 0;
    bool loop = false;
    bool timestamps = true;
    double tr = 3;
    double tick = 2.5;
    TrajectoryUnit unit = TrajectoryUnit::automatic;
    Angles angles = Angles::automatic;
    int tiny_golden = 7;
    int spokes = 0;
    bool negative = false;
    bool noise = false;
    std::string noise_location;
};

/// Frames, and series of each, that are remembered to see that one comes back.
constexpr std::size_t most_remembered = 512;
/// Readouts of a plane that has moved, not one of several that take turns.
constexpr std::uint64_t stays = 16;
/// Imaging readouts that are looked at before the first one is sent.
constexpr int probe_readouts = 256;
constexpr double ns_per_ms = 1e6;

Readout facts_of(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    Readout r;
    r.version = head.version;
    r.flags = head.flags;
    r.measurement_uid = head.measurement_uid;
    r.scan_counter = head.scan_counter;
    r.acquisition_time_stamp = head.acquisition_time_stamp;
    std::copy_n(head.physiology_time_stamp, 3, r.physiology_time_stamp.begin());
    r.available_channels = head.available_channels;
    std::copy_n(head.channel_mask, r.channel_mask.size(), r.channel_mask.begin());
    r.center_sample = head.center_sample;
    r.encoding_space_ref = head.encoding_space_ref;
    r.trajectory_dimensions = head.trajectory_dimensions;
    r.sample_time_us = head.sample_time_us;
    std::copy_n(head.position, 3, r.position.begin());
    std::copy_n(head.read_dir, 3, r.read_dir.begin());
    std::copy_n(head.phase_dir, 3, r.phase_dir.begin());
    std::copy_n(head.slice_dir, 3, r.slice_dir.begin());
    std::copy_n(head.patient_table_position, 3, r.patient_table_position.begin());
    r.kspace_encode_step_1 = head.idx.kspace_encode_step_1;
    r.kspace_encode_step_2 = head.idx.kspace_encode_step_2;
    r.average = head.idx.average;
    r.slice = head.idx.slice;
    r.contrast = head.idx.contrast;
    r.phase = head.idx.phase;
    r.repetition = head.idx.repetition;
    r.set = head.idx.set;
    r.segment = head.idx.segment;
    std::copy_n(head.idx.user, 8, r.user.begin());
    std::copy_n(head.user_int, 8, r.user_int.begin());
    std::copy_n(head.user_float, 8, r.user_float.begin());
    return r;
}

class IsmrmrdSrc : public Configured<Source, IsmrmrdSrcSettings> {
  public:
    static constexpr ElementInfo info{
        "ismrmrdsrc", "GstIsmrmrdSrc", "ISMRMRD source", "Source/File/MRI",
        "Reads the readouts of an ISMRMRD file, at once or at the scanner's pace"};
    static constexpr const char* sink_caps = nullptr;
    static constexpr const char* src_caps = MRI_KSPACE_READOUT_CAPS;

    static void properties(Properties<IsmrmrdSrc>& p) {
        using S = IsmrmrdSrcSettings;
        p.string("location", "The ISMRMRD file (HDF5)", &S::location);
        p.string("group", "Group of the file that holds xml and data", &S::group);
        p.unsigned_64("start", "First row to read, counted from 0", 0, G_MAXUINT64, &S::start);
        p.unsigned_64("stop", "Row to stop before", 0, G_MAXUINT64, &S::stop);
        p.real("speed",
               "Speed relative to the scanner's, as a live source (0: as fast as possible, not live)", 0, 1e6,
               &S::speed);
        p.boolean("loop", "Start again at the end, as a new series", &S::loop);
        p.boolean("timestamps", "Use the readouts' time stamps where there are any", &S::timestamps);
        p.real("tr", "Time from readout to readout in ms where there are no time stamps", 1e-3, 1e6, &S::tr);
        p.real("tick", "Unit of the time stamps in ms", 1e-6, 1e6, &S::tick);
        p.choice("trajectory-unit", "Unit of the file's trajectory", &S::unit,
                 {{TrajectoryUnit::automatic, "auto", "Found from its largest radius"},
                  {TrajectoryUnit::normalised, "normalised", "+-0.5 at the edge of the encoded matrix"},
                  {TrajectoryUnit::encoded_cycles, "encoded-cycles", "Cycles per encoded field of view"},
                  {TrajectoryUnit::cycles, "cycles", "Cycles per reconstructed field of view"},
                  {TrajectoryUnit::radians, "radians", "+-pi at the edge of the encoded matrix"},
                  {TrajectoryUnit::per_metre, "per-metre", "1/m"}});
        p.choice("angles", "Radial files without a trajectory: angle from spoke to spoke", &S::angles,
                 {{Angles::automatic, "auto", "Golden when the header says so, else regular"},
                  {Angles::golden, "golden", "Golden angle"},
                  {Angles::tiny_golden, "tiny-golden", "Tiny golden angle"},
                  {Angles::regular, "regular", "Evenly over the half turn, by the phase encode"}});
        p.integer("tiny-golden", "N of the tiny golden angle", 1, 1000, &S::tiny_golden);
        p.integer("spokes", "Regular angles: spokes over the half turn (0: as the encoding limits say)", 0,
                  max_samples, &S::spokes);
        p.boolean("negative", "Angles run backwards", &S::negative);
        p.boolean("noise", "Send noise readouts too, for mriwhiten", &S::noise);
        p.string("noise-location", "An ISMRMRD file whose noise readouts are sent before all others",
                 &S::noise_location);
    }

    bool is_live() const override { return settings().speed > 0; }

  protected:
    bool start() override {
        settings_ = settings();
        reader_ = std::make_unique<IsmrmrdReader>(IsmrmrdReader::Options{.path = settings_.location,
                                                                         .group = settings_.group,
                                                                         .start = settings_.start,
                                                                         .stop = settings_.stop});
        probe();
        if (!settings_.noise_location.empty())
            noise_reader_ = std::make_unique<IsmrmrdReader>(
                IsmrmrdReader::Options{.path = settings_.noise_location, .group = settings_.group});
        noise_sent_ = 0;
        noise_over_ = false;
        last_.reset();
        seen_.clear();
        run_ = run_before_ = 0;
        told_calibration_ = false;
        series_ = -1;
        sent_.reset();
        announced_ = false;
        spoke_ = skipped_ = 0;
        calibration_skipped_ = false;
        told_.assign(reader_->header().encodings.size(), false);
        third_.reset();
        told_density_ = false;
        const double rows =
            static_cast<double>(std::min<guint64>(settings_.stop, reader_->rows()) - settings_.start);
        duration_ = settings_.loop ? GST_CLOCK_TIME_NONE : paced(rows * clock_->tr());
        return true;
    }

    void stop() override {
        duration_ = GST_CLOCK_TIME_NONE;
        clock_.reset();
        reader_.reset();
        noise_reader_.reset();
    }

    void unlock() override {
        for (auto* reader : {reader_.get(), noise_reader_.get()})
            if (reader)
                reader->cancel();
    }

    void unlock_stop() override {
        for (auto* reader : {reader_.get(), noise_reader_.get()})
            if (reader)
                reader->resume();
    }

    std::optional<GstClockTime> duration() override {
        const GstClockTime duration = duration_;
        return GST_CLOCK_TIME_IS_VALID(duration) ? std::optional(duration) : std::nullopt;
    }

    GstPtr<GstBuffer> create() override {
        if (auto buffer = noise_beforehand())
            return buffer;
        for (;;) {
            const auto readout = reader_->next();
            if (!readout) {
                if (cancelled())
                    throw Flushing();
                if (!settings_.loop) {
                    MRI_INFO("%" G_GUINT64_FORMAT " imaging readouts, %" G_GUINT64_FORMAT " others", spoke_,
                             skipped_);
                    return {};
                }
                reader_->rewind();
                clock_->again();
                spoke_ = 0;
                last_.reset();
                seen_.clear();
                continue;
            }
            if (is_imaging(*readout->head))
                return buffer_of(*readout);
            if (is_calibration(*readout->head))
                if (auto buffer = calibration_of(*readout))
                    return buffer;
            if (settings_.noise && is_noise(*readout))
                return noise_of(*readout, *reader_);
            ++skipped_;
        }
    }

  private:
    /// Constants of a series.
    struct Kind {
        KspaceInfo caps;
        EncodingGeometry geometry;
        std::uint16_t slice = 0;
        std::array<float, 12> plane{};

        bool same_series(const Kind& other) const {
            // Of a change of slice mriframer makes a series; a plane that moves under one slice number is
            // seen here.
            return caps == other.caps && geometry == other.geometry &&
                   (slice != other.slice || plane == other.plane);
        }
    };

    /// A series that a frame has readouts of.
    struct Seen {
        Kind kind;
        int series = 0;
    };

    /// Throws Errc::unsupported where a frame goes on with a series that another one has interrupted: each part
    /// would be taken for a frame. A plane may come back after a longer stay elsewhere.
    void refuse_turns(const IsmrmrdReadout& readout, const Kind& kind) {
        const auto& head = *readout.head;
        if (seen_.size() > most_remembered)
            seen_.clear();
        auto& seen = seen_[{head.measurement_uid, head.idx.slice, head.idx.contrast, head.idx.phase,
                            head.idx.repetition, head.idx.set}];
        const auto found = std::find_if(seen.rbegin(), seen.rend(),
                                        [&](const Seen& one) { return one.kind.same_series(kind); });
        if (found == seen.rend()) {
            if (seen.size() > most_remembered)
                seen.clear();
            seen.push_back({kind, series_});
            return;
        }
        const int before = std::exchange(found->series, series_);
        if (before == series_)
            return;
        const Kind& other = interrupted_by_;
        std::string what;
        if (kind.caps.samples != other.caps.samples)
            what = fmt::format("readouts of {} and {} samples", other.caps.samples, kind.caps.samples);
        else if (kind.caps.coils != other.caps.coils)
            what = fmt::format("readouts of {} and {} channels", other.caps.coils, kind.caps.coils);
        else if (kind.caps != other.caps || kind.geometry != other.geometry)
            what = "readouts of different encodings (encoding_space_ref)";
        else if (run_before_ < stays)
            what = fmt::format("planes of different positions that are all slice {}", kind.slice);
        else
            return;
        throw Error(Errc::unsupported,
                    fmt::format("{}: {} take turns within a frame; write each to a file of its own",
                                reader_->where(readout.row), what));
    }

    bool cancelled() const { return reader_->cancelled(); }

    /// What `work` returns; its errors get the name of the row, which no readout without one pays for.
    template <class Work>
    static auto in_row(const IsmrmrdReader& reader, const IsmrmrdReadout& readout, Work work) {
        try {
            return work();
        } catch (const Error& error) {
            throw Error(error.code(), reader.where(readout.row) + ": " + error.what(), error.detail());
        }
    }

    static bool is_noise(const IsmrmrdReadout& readout) {
        return readout.has_flag(ISMRMRD::ISMRMRD_ACQ_IS_NOISE_MEASUREMENT);
    }

    GstClockTime paced(double ns) const {
        const double speed = settings_.speed > 0 ? settings_.speed : 1;
        return static_cast<GstClockTime>(std::llround(ns / speed));
    }

    /// Looks at the first readouts: the unit of the trajectory, the pace, and whether there is anything to
    /// send.
    void probe() {
        std::optional<EncodingGeometry> geometry;
        TrajectoryExtent extent;
        std::vector<std::uint32_t> stamps;
        bool has_trajectory = false;
        std::uint64_t rows = 0;
        while (stamps.size() < probe_readouts) {
            std::optional<IsmrmrdReadout> readout;
            try {
                readout = reader_->next();
            } catch (const Error&) {
                // Damage behind good readouts is met again when these have been sent.
                if (!geometry)
                    throw;
            }
            if (!readout)
                break;
            ++rows;
            if (!is_imaging(*readout->head))
                continue;
            if (!geometry)
                geometry = in_row(*reader_, *readout, [&] {
                    return encoding_geometry(reader_->header(), readout->head->encoding_space_ref);
                });
            stamps.push_back(readout->head->acquisition_time_stamp);
            if (!readout->trajectory.empty()) {
                in_row(*reader_, *readout,
                       [&] { extent.include(readout->trajectory, readout->head->trajectory_dimensions); });
                has_trajectory = true;
            }
        }
        if (!geometry)
            throw Error(Errc::decode,
                        fmt::format("{}: none of {} readouts belongs to an image", reader_->where(), rows));
        unit_ = settings_.unit;
        if (unit_ == TrajectoryUnit::automatic)
            unit_ = reader_->trajectory_unit();
        if (has_trajectory && unit_ == TrajectoryUnit::automatic) {
            std::string reading;
            unit_ = detect_trajectory_unit(extent, *geometry, reader_->where(), &reading);
            if (!reading.empty())
                post_warning(reading);
        }
        const auto tr = settings_.timestamps ? tr_from(stamps, settings_.tick * ns_per_ms) : std::nullopt;
        clock_.emplace(tr.value_or(settings_.tr * ns_per_ms), settings_.tick * ns_per_ms, tr.has_value());
        MRI_INFO("%s: time from readout to readout %.3f ms%s", settings_.location.c_str(),
                 clock_->tr() / ns_per_ms, tr ? " by the time stamps" : "");
        reader_->rewind();
    }

    static Kind kind_of(const IsmrmrdReadout& readout, const EncodingGeometry& g, int samples) {
        const auto& head = *readout.head;
        Kind kind;
        kind.geometry = g;
        if (head.active_channels > max_coils || g.width > max_side || g.height > max_side)
            throw Error(Errc::unsupported,
                        fmt::format("{} channels for images of {} x {}; the most are {} and {}",
                                    head.active_channels, g.width, g.height, max_coils, max_side));
        kind.caps.alignment = Alignment::readout;
        kind.caps.coils = head.active_channels;
        kind.caps.samples = samples;
        kind.caps.width = g.width;
        kind.caps.height = g.height;
        kind.caps.fov_x = g.fov_x;
        kind.caps.fov_y = g.fov_y;
        kind.caps.trajectory = g.trajectory;
        if (g.is_cartesian()) {
            kind.caps.encoded_width = g.encoded_width;
            kind.caps.encoded_height = g.encoded_height;
            kind.caps.encoded_fov_x = g.encoded_fov_x;
            kind.caps.encoded_fov_y = g.encoded_fov_y;
            kind.caps.center_line = g.centre_line;
        }
        kind.slice = head.idx.slice;
        std::copy_n(head.position, 3, kind.plane.begin());
        std::copy_n(head.read_dir, 3, kind.plane.begin() + 3);
        std::copy_n(head.phase_dir, 3, kind.plane.begin() + 6);
        std::copy_n(head.slice_dir, 3, kind.plane.begin() + 9);
        return kind;
    }

    /// Samples of a readout that are left when what is to be discarded is gone.
    static int samples_of(const IsmrmrdReadout& readout) {
        const auto& head = *readout.head;
        const int samples = head.number_of_samples - head.discard_pre - head.discard_post;
        if (samples <= 0 || head.active_channels == 0)
            throw Error(
                Errc::decode,
                fmt::format(
                    "of {} samples of {} channels {} and {} are to be discarded, which leaves nothing",
                    head.number_of_samples, head.active_channels, head.discard_pre, head.discard_post));
        return samples;
    }

    /// Caps of what follows, where they are others than before, and once the header.
    void announce(const KspaceInfo& caps) {
        if (sent_ != caps)
            set_caps(caps.to_caps());
        sent_ = caps;
        if (!announced_) {
            push_event(new_header_event(reader_->xml()));
            announced_ = true;
        }
    }

    static GstPtr<GstBuffer> data_of(const IsmrmrdReadout& readout, int samples, bool turn) {
        const std::size_t coils = readout.head->active_channels, all = readout.head->number_of_samples;
        auto buffer = new_buffer<cfloat>(coils * static_cast<std::size_t>(samples));
        const Mapped<cfloat> out(buffer.get());
        for (std::size_t c = 0; c < coils; ++c) {
            const cfloat* from = readout.data.data() + c * all + readout.head->discard_pre;
            cfloat* to = out.data() + c * static_cast<std::size_t>(samples);
            if (turn)
                std::reverse_copy(from, from + samples, to);
            else
                std::copy_n(from, samples, to);
        }
        return buffer;
    }

    /// The next noise readout of the file at noise-location, or nothing when there is none (any more).
    GstPtr<GstBuffer> noise_beforehand() {
        if (!noise_reader_ || noise_over_)
            return {};
        while (const auto readout = noise_reader_->next())
            if (is_noise(*readout)) {
                ++noise_sent_;
                return noise_of(*readout, *noise_reader_);
            }
        if (noise_reader_->cancelled())
            throw Flushing();
        if (noise_sent_ == 0)
            throw Error(Errc::decode, noise_reader_->where() + ": holds no noise readouts");
        noise_over_ = true;
        return {};
    }

    /// Noise belongs to no series and to no time: it keeps those of the images as they are. Its own encoding
    /// means nothing: it goes out with the images' first.
    GstPtr<GstBuffer> noise_of(const IsmrmrdReadout& readout, const IsmrmrdReader& reader) {
        const int samples = in_row(reader, readout, [&] { return samples_of(readout); });
        KspaceInfo caps = in_row(reader, readout, [&] {
            return kind_of(readout, encoding_geometry(reader_->header(), 0), samples).caps;
        });
        caps.series = std::max(series_, 0);
        announce(caps);
        auto buffer = data_of(readout, samples, false);
        add_readouts(buffer.get(), {facts_of(*readout.head)});
        return buffer;
    }

    /// Nothing for calibration that has no positions (a reference scan of a volume, an unknown unit): the images
    /// do not depend on it.
    GstPtr<GstBuffer> calibration_of(const IsmrmrdReadout& readout) {
        const auto images = last_;
        try {
            auto buffer = buffer_of(readout);
            last_ = images;
            return buffer;
        } catch (const Error& error) {
            last_ = images;
            if (!std::exchange(calibration_skipped_, true))
                post_warning("Calibration readouts are left out: " + std::string(error.what()),
                             error.detail());
            return {};
        }
    }

    /// Says once what is read of an encoding otherwise than the header has it.
    void tell_readings(std::size_t encoding) {
        if (encoding >= told_.size() || told_[encoding])
            return;
        told_[encoding] = true;
        for (const std::string& reading : reader_->header().encodings[encoding].readings)
            post_warning(
                fmt::format("{}: encoding {} of the header: {}", reader_->where(), encoding, reading));
    }

    /// Calibration alone belongs to no time, and to the series of the images around it.
    GstPtr<GstBuffer> buffer_of(const IsmrmrdReadout& readout) {
        const auto& head = *readout.head;
        const bool calibration = is_calibration(head);
        if (head.idx.kspace_encode_step_2 > 0)
            throw Error(
                Errc::unsupported,
                fmt::format("{}: belongs to partition {} (kspace_encode_step_2) of a volume; only slices are "
                            "supported",
                            reader_->where(readout.row), head.idx.kspace_encode_step_2));
        const int pre = head.discard_pre;
        const int samples = in_row(*reader_, readout, [&] { return samples_of(readout); });
        Kind kind = in_row(*reader_, readout, [&] {
            return kind_of(readout, encoding_geometry(reader_->header(), head.encoding_space_ref), samples);
        });
        tell_readings(head.encoding_space_ref);
        if (!calibration) {
            if (!last_ || !last_->same_series(kind)) {
                ++series_;
                run_before_ = std::exchange(run_, 0);
                if (last_)
                    interrupted_by_ = *last_;
            }
            ++run_;
            refuse_turns(readout, kind);
        } else if (last_ && last_->slice == kind.slice && last_->plane != kind.plane &&
                   !std::exchange(told_calibration_, true)) {
            post_warning(
                fmt::format("{}: calibration readouts have another plane than the images of slice {} "
                            "before them; they are attached to these, not to images that follow",
                            reader_->where(readout.row), kind.slice));
        }
        KspaceInfo caps = kind.caps;
        caps.series = std::max(series_, 0);
        announce(caps);
        last_ = std::move(kind);

        Readout facts = facts_of(head);
        const bool turn = readout.has_flag(ISMRMRD::ISMRMRD_ACQ_IS_REVERSE) && readout.trajectory.empty() &&
                          last_->geometry.is_cartesian();
        auto buffer = data_of(readout, samples, turn);
        // What is left of a readout that was turned: its samples from the back, and the centre counts in the
        // forward order.
        const int cut = turn ? head.discard_post : pre;
        if (turn)
            facts.flags &= ~flag::reverse;
        if (cut > 0 || samples < head.number_of_samples)
            facts.center_sample =
                static_cast<std::uint16_t>(std::clamp(centre_sample(head) - cut, 0, samples - 1));
        if (last_->geometry.is_radial())
            facts.angle_index = static_cast<std::int64_t>(spoke_);
        add_trajectory(buffer.get(),
                       in_row(*reader_, readout, [&] { return trajectory_of(readout, cut, samples); }));
        add_readouts(buffer.get(), {facts});
        if (calibration)
            return buffer;
        ++spoke_;

        const GstClockTime pts = paced(clock_->next(head.acquisition_time_stamp));
        GST_BUFFER_PTS(buffer.get()) = pts;
        GST_BUFFER_DURATION(buffer.get()) = paced(clock_->tr());
        return buffer;
    }

    std::shared_ptr<const TrajectoryData> trajectory_of(const IsmrmrdReadout& readout, int cut, int samples) {
        auto data = std::make_shared<TrajectoryData>();
        data->readouts = 1;
        data->samples = samples;
        data->kxy.resize(2 * static_cast<std::size_t>(samples));
        if (readout.trajectory.empty()) {
            AngleSettings angles;
            const bool golden = last_->geometry.golden_angle;
            angles.scheme =
                settings_.angles == Angles::tiny_golden ? AngleScheme::tiny_golden
                : settings_.angles == Angles::golden || (settings_.angles == Angles::automatic && golden)
                    ? AngleScheme::golden
                    : AngleScheme::regular;
            angles.n = settings_.tiny_golden;
            angles.spokes = settings_.spokes;
            angles.negative = settings_.negative;
            computed_trajectory(*readout.head, last_->geometry, angles, spoke_, cut, samples,
                                data->kxy.data());
            return data;
        }
        const int dimensions = readout.head->trajectory_dimensions;
        const auto kept = readout.trajectory.subspan(static_cast<std::size_t>(cut) * dimensions,
                                                     static_cast<std::size_t>(samples) * dimensions);
        TrajectoryExtent().include(kept, dimensions);
        if (unit_ == TrajectoryUnit::automatic)
            throw Error(Errc::decode, "has a trajectory, the readouts before it have none");
        convert_trajectory(kept, dimensions, unit_, last_->geometry, data->kxy.data());
        if (dimensions == 3)
            data->density = density_of(kept);
        return data;
    }

    /// The third dimension of a trajectory [sample][3]: nothing where it is the same for all samples of all
    /// readouts; else the density compensation that some writers put there, which is never negative. Throws
    /// Errc::unsupported for kz.
    std::vector<float> density_of(std::span<const float> trajectory) {
        std::vector<float> third;
        for (std::size_t i = 2; i < trajectory.size(); i += 3)
            third.push_back(trajectory[i]);
        const auto [low, high] = std::minmax_element(third.begin(), third.end());
        if (!std::all_of(third.begin(), third.end(), [](float value) { return std::isfinite(value); }))
            throw Error(Errc::decode, "the trajectory holds a value that is not finite");
        const bool constant = *low == *high;
        if ((constant && third_.value_or(*low) != *low) || (!constant && *low < 0))
            throw Error(
                Errc::unsupported,
                fmt::format("the trajectory has kz from {} to {}{}: a volume; only slices are supported",
                            *low, *high, constant ? fmt::format(", and {} before", *third_) : std::string()));
        if (constant) {
            third_ = *low;
            return {};
        }
        if (!std::exchange(told_density_, true))
            post_warning(reader_->where() +
                         ": the third dimension of the trajectory, which varies and is nowhere "
                         "negative, is read as density compensation, not as kz");
        return third;
    }

    // Between start() and stop(); unlock() and duration() come from other threads.
    IsmrmrdSrcSettings settings_;
    std::unique_ptr<IsmrmrdReader> reader_;
    std::unique_ptr<IsmrmrdReader> noise_reader_; // of noise-location
    std::uint64_t noise_sent_ = 0;                // of that file
    bool noise_over_ = false;                     // all of it
    TrajectoryUnit unit_ = TrajectoryUnit::automatic;
    std::optional<ReadoutClock> clock_;
    std::optional<Kind> last_;
    std::optional<KspaceInfo> sent_;
    int series_ = -1;
    std::map<std::array<std::uint32_t, 6>, std::vector<Seen>> seen_; // by the counters of a frame
    Kind interrupted_by_;                                            // the last readout of the series before
    std::uint64_t run_ = 0, run_before_ = 0;                         // readouts of this series, of that one
    bool told_calibration_ = false;
    bool announced_ = false;
    std::atomic<GstClockTime> duration_{GST_CLOCK_TIME_NONE};
    std::vector<bool> told_;     // by encoding: its readings were told
    std::optional<float> third_; // of a trajectory whose third dimension does not vary along a readout
    bool told_density_ = false;
    std::uint64_t spoke_ = 0; // imaging readouts so far, of this round
    std::uint64_t skipped_ = 0;
    bool calibration_skipped_ = false; // with a warning
};

} // namespace
} // namespace mri

MRI_ELEMENT(ismrmrdsrc, mri::IsmrmrdSrc)
