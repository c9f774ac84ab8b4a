// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mrisim
 * @title: mrisim
 *
 * The scanner: acquires each image of a series as one frame of k-space, radial, spiral or Cartesian, with
 * coils, background phase and noise, readout by readout or frame by frame. The image that was scanned rides
 * along as side data (role truth): on a frame, or on the middle readout of a frame. The index of the spoke
 * restarts with a series, that is with new caps. Readouts have the place of their image, where it has one
 * (position and directions of its first readout).
 *
 * Times: a readout's PTS is its frame's plus the repetition time (TR) times its number in the frame, and TR
 * is the frame's duration (or, where a buffer has none, the frame rate's, or 3 ms a readout) over the
 * readouts. With the property tr set, scanning has a pace of its own: frame follows upon frame, from the PTS
 * of the first image on.
 *
 * Noise: snr is the ratio of signal to noise in rms (dB) that a fully sampled Cartesian image of one average
 * would have; the level is found in the first image of a series and stays. The caps tell it (noise).
 *
 * device=auto computes samples on an NVIDIA GPU where there is one; they differ from the processor's by
 * rounding.
 *
 * Latency: none; with motion one frame, since later readouts of a frame see the next image.
 *
 * Caps: images of one channel, complex or real, in; application/x-mri-kspace out, with a mri-header event
 * that says what the scan was.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mrisim snr=25 ! mriframer ! mrigrid ! fakesink
 * ]|
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mrisim trajectory=spiral angles=golden spokes=5 ! mriframer !
 * mrigrid ! fakesink
 * ]|
 */
#include "data_gen/scanner/simulate.hpp"
#include "plugins/common/device_property.hpp"
#include "plugins/common/element.hpp"
#include "plugins/common/frame_rate.hpp"
#include "plugins/common/mrd_header.hpp"

#include <cmath>
#include <fmt/format.h>
#include <utility>

namespace mri {
namespace {

enum class Output { automatic, readout, frame };

struct MriSimSettings : SimulateSettings {
    Output alignment = Output::automatic;
    double tr = 0; // ms
    std::string computed_on = "auto";
};

constexpr GstClockTime default_tr = 3 * GST_MSECOND;

class MriSim : public Configured<Regroup, MriSimSettings> {
  public:
    static constexpr ElementInfo info{"mrisim", "GstMriSim", "MRI scanner simulator", "Filter/Converter/MRI",
                                      "Acquires images as k-space, with the images as truth beside it"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = MRI_KSPACE_CAPS;

    static void properties(Properties<MriSim>& p) {
        using S = MriSimSettings;
        choose_trajectory(p, std::make_index_sequence<simulated_trajectories>());
        p.choice("angles", "Radial: angle from spoke to spoke", &S::angles,
                 {{AngleScheme::tiny_golden, "tiny-golden", "Tiny golden angle, see tiny-golden"},
                  {AngleScheme::golden, "golden", "Golden angle, 111.25 degrees"},
                  {AngleScheme::regular, "regular", "A half turn, divided by the spokes of a frame"}});
        p.integer("tiny-golden", "Radial: N of the tiny golden angle", 1, 1000, &S::tiny_golden);
        p.boolean("negative", "Radial: angles run backwards", &S::negative);
        p.boolean("rotating",
                  "Continue the spoke index (or random mask) from frame to frame; otherwise every frame has "
                  "the same",
                  &S::rotating);
        p.integer("first-spoke",
                  "Radial: index of the first spoke of a series (-1: random for each series, by the seed)",
                  -1, G_MAXINT, &S::first_spoke);
        p.integer("spokes", "Readouts a frame: spokes, interleaves or lines (0: from the acceleration)", 0,
                  max_samples, &S::readouts);
        p.real("acceleration",
               "Full set of readouts over those acquired; full is the height, the interleaves, or for spokes "
               "round(0.3 pi N): 181 of 192",
               1, max_samples, &S::acceleration);
        p.integer("oversampling", "Samples of a readout over the pixels along it", 1, 4, &S::oversampling);
        p.integer("interleaves",
                  "Spiral: interleaves of a full set, whose turns are a cycle apart at the rim", 1, max_side,
                  &S::interleaves);
        p.real("spiral-exponent", "Spiral: radius = time to this power; above 1 the centre is denser", 1, 8,
               &S::spiral_exponent);
        p.real("delay-x",
               "Radial: shift of a spoke along x by the delay of that gradient, in samples; not in the "
               "trajectory that is sent",
               -16, 16, &S::delay_x);
        p.real("delay-y", "Radial: the same along y", -16, 16, &S::delay_y);
        p.real("delay-xy", "Radial: shift along y of a spoke along x, and along x of one along y", -16, 16,
               &S::delay_xy);
        p.integer("centre-lines", "Cartesian: lines around the centre in every frame", 0, max_side,
                  &S::centre_lines);
        p.real("density-power", "Cartesian: power by which the density of lines falls off from the centre", 0,
               100, &S::density_power);
        p.integer("coils", "Receive coils; 1 has uniform sensitivity", 1, max_coils, &S::coils);
        p.real("phase",
               "Peak of a smooth random background phase in rad, around a random start phase (0: none)", 0,
               1000, &S::phase);
        p.real("snr",
               "Ratio of signal to noise, rms of a fully sampled Cartesian image, in dB (inf: no noise)",
               -100, no_noise, &S::snr_db);
        p.boolean(
            "motion",
            "The image moves while a frame is acquired: linear in time, the middle readout sees its image",
            &S::motion);
        p.unsigned_64("seed", "Seed of coils, phase, masks and noise", 0, G_MAXUINT64, &S::seed);
        p.choice("alignment", "Content of a buffer", &S::alignment,
                 {{Output::automatic, "auto", "As downstream takes it; readouts where it takes both"},
                  {Output::readout, "readout", "One readout"},
                  {Output::frame, "frame", "One frame"}});
        p.string("device", device_blurb, &S::computed_on);
        p.real("tr", "Repetition time in ms (0: duration of an image over its readouts)", 0, 1e6, &S::tr);
    }

  protected:
    void start() override { device_ = device_for(*this, settings().computed_on); }

    void stop() override {
        simulator_.reset();
        flush();
    }

    void set_caps(const GstCaps* caps) override {
        auto s = settings();
        s.device = device_;
        image_ = ImageInfo::from_caps(caps);
        if (image_.channels != 1)
            throw Error(Errc::format,
                        fmt::format("A scan needs images of one channel; these have {}", image_.channels));
        image_caps_ = adopt(gst_caps_copy(caps));
        truth_info_ = image_;
        truth_info_.format = s.phase > 0 ? SampleFormat::c64 : image_.format;

        simulator_.emplace(s, image_.width, image_.height, image_.series);
        kspace_ = KspaceInfo{};
        kspace_.alignment = alignment(s.alignment);
        kspace_.coils = s.coils;
        kspace_.samples = simulator_->samples();
        kspace_.width = image_.width;
        kspace_.height = image_.height;
        kspace_.fov_x = image_.fov_x;
        kspace_.fov_y = image_.fov_y;
        kspace_.trajectory = s.trajectory;
        kspace_.series = image_.series;
        kspace_.encoded_width = s.oversampling * image_.width;
        kspace_.encoded_height = image_.height;
        kspace_.encoded_fov_x = s.oversampling * image_.fov_x;
        kspace_.encoded_fov_y = image_.fov_y;
        if (kind_of(s.trajectory).grid)
            kspace_.center_line = image_.height / 2;
        fixed_tr_ = static_cast<GstClockTime>(std::llround(s.tr * 1e6));
        kspace_.framerate =
            fixed_tr_ > 0 ? frame_rate(fixed_tr_ * simulator_->readouts(), fixed_tr_ * simulator_->readouts())
                          : image_.framerate;
        motion_ = s.motion;
        frame_time_ = fixed_tr_ > 0 ? fixed_tr_ * simulator_->readouts() : image_.framerate.duration();
        announced_ = false;
        update_latency();
    }

    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override {
        Shot shot{buffer, see(buffer.get())};
        if (!motion_)
            return acquire(shot, {}, {});
        GstFlowReturn flow = GST_FLOW_OK;
        if (held_) {
            flow = acquire(*held_, previous_, shot.image);
            previous_ = std::move(held_->image);
        }
        held_ = std::move(shot);
        return flow;
    }

    GstFlowReturn drain() override {
        if (!held_)
            return GST_FLOW_OK;
        const Shot last = *std::exchange(held_, std::nullopt);
        const auto previous = std::exchange(previous_, {});
        return acquire(last, previous, {});
    }

    void flush() override {
        held_.reset();
        previous_.clear();
        next_pts_ = GST_CLOCK_TIME_NONE;
    }

    bool event(GstEvent* event) override {
        return header_of(event).empty(); // this scan has a header of its own
    }

    std::optional<GstClockTime> latency() override {
        if (!settings().motion)
            return 0;
        const GstClockTime frame = frame_time_;
        return frame == GST_CLOCK_TIME_NONE ? std::nullopt : std::optional(frame);
    }

  private:
    template <std::size_t... row>
    static void choose_trajectory(Properties<MriSim>& p, std::index_sequence<row...>) {
        p.choice(
            "trajectory", "How k-space is sampled", &MriSimSettings::trajectory,
            {{trajectory_kinds[row].trajectory, trajectory_kinds[row].name, trajectory_kinds[row].blurb}...});
    }

    struct Shot {
        GstPtr<GstBuffer> buffer;
        std::vector<cfloat> image;
    };

    Alignment alignment(Output wanted) {
        if (wanted != Output::automatic)
            return wanted == Output::frame ? Alignment::frame : Alignment::readout;
        const auto allowed = adopt(gst_pad_get_allowed_caps(src_pad()));
        const auto readouts = adopt(gst_caps_from_string(MRI_KSPACE_READOUT_CAPS));
        return !allowed || gst_caps_can_intersect(allowed.get(), readouts.get()) ? Alignment::readout
                                                                                 : Alignment::frame;
    }

    std::vector<cfloat> see(GstBuffer* buffer) {
        image_.check_size(gst_buffer_get_size(buffer));
        if (image_.format == SampleFormat::c64)
            return simulator_->seen(Mapped<const cfloat>(buffer).span());
        return simulator_->seen(Mapped<const float>(buffer).span());
    }

    GstPtr<GstSample> truth(const Shot& shot) {
        if (truth_info_ == image_)
            return adopt(gst_sample_new(shot.buffer.get(), image_caps_.get(), nullptr, nullptr));
        auto buffer = new_buffer<cfloat>(shot.image.size());
        std::copy(shot.image.begin(), shot.image.end(), Mapped<cfloat>(buffer.get()).data());
        GST_BUFFER_PTS(buffer.get()) = GST_BUFFER_PTS(shot.buffer.get());
        GST_BUFFER_DURATION(buffer.get()) = GST_BUFFER_DURATION(shot.buffer.get());
        return adopt(gst_sample_new(buffer.get(), truth_info_.to_caps().get(), nullptr, nullptr));
    }

    GstFlowReturn acquire(const Shot& shot, std::span<const cfloat> previous, std::span<const cfloat> next) {
        const auto repetition = static_cast<std::uint16_t>(simulator_->frames());
        const auto first_scan = static_cast<std::uint32_t>(simulator_->frames() * simulator_->readouts());
        const SimulatedFrame frame = simulator_->acquire(shot.image, previous, next);
        const int n = frame.readouts;
        if (!std::exchange(announced_, true)) {
            kspace_.noise = simulator_->noise_sigma(); // known now
            set_src_caps(kspace_.to_caps());
            gst_pad_push_event(src_pad(), new_header_event(header()).release());
        }

        GstClockTime start = GST_BUFFER_PTS(shot.buffer.get());
        GstClockTime length = GST_BUFFER_DURATION(shot.buffer.get());
        if (fixed_tr_ > 0) {
            length = fixed_tr_ * n;
            if (GST_CLOCK_TIME_IS_VALID(next_pts_))
                start = next_pts_;
            if (GST_CLOCK_TIME_IS_VALID(start))
                next_pts_ = start + length;
        } else if (!GST_CLOCK_TIME_IS_VALID(length) || length == 0) {
            length = image_.framerate.known() ? image_.framerate.duration() : default_tr * n;
        }
        const auto time = [&](int readout) {
            return GST_CLOCK_TIME_IS_VALID(start) ? start + gst_util_uint64_scale_int(length, readout, n)
                                                  : GST_CLOCK_TIME_NONE;
        };

        // Plane of the image; one at the origin for images that do not tell.
        Readout place;
        place.read_dir = {1, 0, 0};
        place.phase_dir = {0, 1, 0};
        place.slice_dir = {0, 0, 1};
        if (const auto given = readouts_of(shot.buffer.get()); !given.empty()) {
            place.position = given[0].position;
            place.read_dir = given[0].read_dir;
            place.phase_dir = given[0].phase_dir;
            place.slice_dir = given[0].slice_dir;
        }
        std::vector<Readout> heads(n, place);
        for (int r = 0; r < n; ++r) {
            Readout& head = heads[r];
            if (r == 0)
                head.flags |= flag::first_in_repetition | flag::first_in_slice | flag::first_in_encode_step_1;
            if (r == n - 1)
                head.flags |= flag::last_in_repetition | flag::last_in_slice | flag::last_in_encode_step_1;
            head.scan_counter = first_scan + r;
            if (GST_CLOCK_TIME_IS_VALID(start)) // in the ticks of 2.5 ms that Siemens' headers have
                head.acquisition_time_stamp = static_cast<std::uint32_t>(time(r) / (5 * GST_MSECOND / 2));
            head.center_sample =
                kind_of(kspace_.trajectory).from_centre ? 0 : static_cast<std::uint16_t>(frame.samples / 2);
            head.available_channels = static_cast<std::uint16_t>(frame.coils);
            head.trajectory_dimensions = kind_of(kspace_.trajectory).grid ? 0 : 2;
            // Half of the repetition time is for the readout.
            head.sample_time_us = static_cast<float>(static_cast<double>(length) / n / frame.samples / 2e3);
            head.kspace_encode_step_1 = static_cast<std::uint16_t>(frame.step[r]);
            head.repetition = repetition;
            head.angle_index = static_cast<std::int64_t>(frame.angle[r]);
        }

        if (kspace_.alignment == Alignment::frame) {
            auto buffer = new_buffer<cfloat>(frame.data.size());
            std::copy(frame.data.begin(), frame.data.end(), Mapped<cfloat>(buffer.get()).data());
            add_trajectory(buffer.get(), std::make_shared<TrajectoryData>(
                                             TrajectoryData{n, frame.samples, frame.trajectory, {}}));
            add_readouts(buffer.get(), std::move(heads));
            add_side(buffer.get(), Role::truth, truth(shot).get());
            GST_BUFFER_PTS(buffer.get()) = start;
            GST_BUFFER_DURATION(buffer.get()) = length;
            mark(buffer.get(), shot.buffer.get());
            return push(std::move(buffer));
        }

        const std::size_t samples = frame.samples, readouts = n;
        for (std::size_t r = 0; r < readouts; ++r) {
            auto buffer = new_buffer<cfloat>(frame.coils * samples);
            {
                const Mapped<cfloat> out(buffer.get());
                for (std::size_t c = 0; c < static_cast<std::size_t>(frame.coils); ++c)
                    std::copy_n(frame.data.data() + (c * readouts + r) * samples, samples,
                                out.data() + c * samples);
            }
            const float* k = frame.trajectory.data() + 2 * samples * r;
            add_trajectory(buffer.get(), std::make_shared<TrajectoryData>(
                                             TrajectoryData{1, frame.samples, {k, k + 2 * samples}, {}}));
            add_readouts(buffer.get(), {heads[r]});
            if (static_cast<int>(r) == simulator_->middle())
                add_side(buffer.get(), Role::truth, truth(shot).get());
            GST_BUFFER_PTS(buffer.get()) = time(r);
            if (GST_CLOCK_TIME_IS_VALID(start))
                GST_BUFFER_DURATION(buffer.get()) = time(r + 1) - time(r);
            else
                GST_BUFFER_DURATION(buffer.get()) = length / n;
            if (r == 0)
                mark(buffer.get(), shot.buffer.get());
            if (const auto flow = push(std::move(buffer)); flow != GST_FLOW_OK)
                return flow;
        }
        return GST_FLOW_OK;
    }

    static void mark(GstBuffer* buffer, GstBuffer* image) {
        if (GST_BUFFER_FLAG_IS_SET(image, GST_BUFFER_FLAG_DISCONT))
            GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DISCONT);
    }

    // The MRD header of this scan. A stream has no known end, so that the repetitions' limit is what their
    // field can hold.
    std::string header() const {
        const auto s = settings();
        const auto mm = [](double value) { return value > 0 ? value : 1.0; };
        const bool cartesian = kind_of(kspace_.trajectory).grid;
        const int steps = cartesian ? kspace_.height : simulator_->readouts();
        MrdHeader header;
        header.receiver_channels = kspace_.coils;
        header.h1_resonance_hz = 63870000;
        MrdEncoding encoding;
        encoding.encoded = {{kspace_.encoded_width, kspace_.height, 1},
                            {mm(s.oversampling * kspace_.fov_x), mm(kspace_.fov_y), 1}};
        encoding.recon = {{kspace_.width, kspace_.height, 1}, {mm(kspace_.fov_x), mm(kspace_.fov_y), 1}};
        encoding.trajectory = kspace_.trajectory;
        encoding.step_1 = MrdLimit{0, steps - 1, steps / 2};
        encoding.slice = MrdLimit{};
        encoding.repetition = MrdLimit{0, 65535, 0};
        header.encodings.push_back(encoding);
        if (fixed_tr_ > 0 || image_.framerate.known())
            header.repetition_time_ms = static_cast<double>(frame_time_) / simulator_->readouts() * 1e-6;
        return header.xml();
    }

    ComputeDevice device_; // from start() on
    // Between set_caps() and stop(), streaming thread; frame_time_ is read by latency queries too.
    std::optional<Simulator> simulator_;
    ImageInfo image_, truth_info_;
    GstPtr<GstCaps> image_caps_;
    KspaceInfo kspace_;
    GstClockTime fixed_tr_ = 0;
    std::atomic<GstClockTime> frame_time_{GST_CLOCK_TIME_NONE};
    GstClockTime next_pts_ = GST_CLOCK_TIME_NONE;
    bool motion_ = false;
    bool announced_ = false; // caps and header, which wait for the first image
    std::optional<Shot> held_;
    std::vector<cfloat> previous_;
};

} // namespace

} // namespace mri

MRI_ELEMENT(mrisim, mri::MriSim)
