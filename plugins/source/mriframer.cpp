// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mriframer
 * @title: mriframer
 *
 * Groups readouts into frames: [coil][sample] in, [coil][readout][sample] out, with the readouts'
 * trajectories and headers one after another.
 *
 * With readouts > 0 a frame is that many readouts (with time > 0 as many as come nearest to it), and a new
 * one comes every stride readouts: a sliding window when the stride is smaller, gaps when it is larger.
 * Otherwise a frame closes on the LAST_IN flag of the index in use, or when that index changes. The index is
 * the repetition, or the phase, whichever of the two has a maximum above 0 in the encodingLimits of the
 * mri-header, repetition first; without either the repetition. A change of slice always closes a frame and
 * begins a new series, a new value of series in the caps.
 *
 * Readouts that are no image data (noise, navigators, phase correction, dummies, feedback) are left out.
 * Readouts for parallel imaging (flags 20 and 21) of a slice, contrast and set go along with its frames as side
 * data (role calibration): a k-space frame of all that have come by then, the first one of each position in
 * k-space; those of flag 20 alone are in no frame. Of side data on the readouts the frame gets those nearest
 * its middle readout.
 *
 * gradient-delay corrects the trajectory of radial frames for the delays of the gradients: by delay-x,
 * delay-y and delay-xy (fixed), or by those that the frames themselves show (ring: Rosenzweig et al., MRM
 * 2019), from the first frame on and as the mean over all frames of the series. Each frame's estimate is told
 * by an element message mri-gradient-delay with x, y and xy in samples. Estimates at the largest delay that is
 * looked at (3 samples), or with which the spokes agree less than without, are refused with a warning.
 *
 * Times: PTS is that of the first readout, the duration the acquisition time of the stride. A frame that the
 * end of the stream, lost data or a new series cuts off is dropped with a warning, or pushed with
 * incomplete=emit.
 *
 * Latency: all readouts of a frame but one; unknown until the first frame is closed when neither the count
 * nor the frame rate is known.
 *
 * Caps: application/x-mri-kspace; frames pass unchanged.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mrisim spokes=15 ! mriframer readouts=30 stride=15 ! fakesink
 * ]|
 * |[
 * gst-launch-1.0 -m mriphantomsrc num-buffers=8 ! mrisim coils=8 delay-x=0.4 delay-y=-0.3 ! mriframer
 * gradient-delay=ring ! mrigrid ! fakesink
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/common/frame_rate.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/sampling/gradient_delay.hpp"
#include "plugins/source/calibration_readouts.hpp"
#include "plugins/source/frame_buffer.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace mri {
namespace {

enum class Index { automatic, repetition, phase };
enum class Incomplete { drop, emit };
enum class Delay { none, fixed, ring };

struct MriFramerSettings {
    int readouts = 0;
    double time = 0; // ms
    int stride = 0;
    Index index = Index::automatic;
    Incomplete incomplete = Incomplete::drop;
    Delay gradient_delay = Delay::none;
    double delay_x = 0, delay_y = 0, delay_xy = 0; // samples
};

constexpr std::size_t most_readouts = 65536;

constexpr std::uint64_t no_image = flag::noise | flag::navigation | flag::phase_correction |
                                   flag::hp_feedback | flag::dummy | flag::rt_feedback |
                                   flag::surface_coil_correction;

class MriFramer : public Configured<Regroup, MriFramerSettings> {
  public:
    static constexpr ElementInfo info{"mriframer", "GstMriFramer", "MRI framer", "Filter/Converter/MRI",
                                      "Groups k-space readouts into frames"};
    static constexpr const char* sink_caps = MRI_KSPACE_CAPS;
    static constexpr const char* src_caps = MRI_KSPACE_FRAME_CAPS;

    static void properties(Properties<MriFramer>& p) {
        using S = MriFramerSettings;
        p.integer("readouts", "Readouts a frame (0: by time or index)", 0, most_readouts, &S::readouts);
        p.real("time", "Acquisition time of a frame in ms, as whole readouts (0: by count or index)", 0, 1e9,
               &S::time);
        p.integer("stride", "Readouts from frame to frame when they are counted (0: as many as a frame has)",
                  0, G_MAXINT, &S::stride);
        p.choice("index", "ISMRMRD index whose change starts a frame, where readouts are not counted",
                 &S::index,
                 {{Index::automatic, "auto", "What the header's encoding limits say"},
                  {Index::repetition, "repetition", "Repetition"},
                  {Index::phase, "phase", "Cardiac phase"}});
        p.choice("incomplete", "Handling of an incomplete frame", &S::incomplete,
                 {{Incomplete::drop, "drop", "Drop it, with a warning"},
                  {Incomplete::emit, "emit", "Push it as it is"}});
        p.choice("gradient-delay", "Radial: correction of the trajectory for gradient delays",
                 &S::gradient_delay,
                 {{Delay::none, "none", "Nothing"},
                  {Delay::fixed, "fixed", "delay-x, delay-y, delay-xy"},
                  {Delay::ring, "ring", "Delays estimated from the crossings of spokes (RING)"}});
        p.real("delay-x", "gradient-delay=fixed: shift of a spoke along x, in samples", -16, 16, &S::delay_x);
        p.real("delay-y", "gradient-delay=fixed: shift of a spoke along y, in samples", -16, 16, &S::delay_y);
        p.real("delay-xy", "gradient-delay=fixed: shift along y of a spoke along x, and the other way round",
               -16, 16, &S::delay_xy);
    }

  protected:
    void start() override {
        settings_ = settings();
        counted_ = settings_.readouts > 0 || settings_.time > 0;
        if (settings_.stride > 0 && !counted_)
            throw Error(Errc::settings, "A stride needs frames of a fixed length: set readouts or time too");
        if (settings_.readouts > 0 && settings_.time > 0)
            throw Error(Errc::settings, "Frames have a number of readouts or a time, not both");
        readouts_ = settings_.readouts;
        stride_ = settings_.stride > 0 ? settings_.stride : readouts_;
        index_ = settings_.index;
        added_series_ = 0;
    }

    void stop() override {
        flush();
        calibration_.forget();
        latency_ = GST_CLOCK_TIME_NONE;
    }

    void flush() override {
        pending_.clear();
        fresh_ = skip_ = largest_ = 0;
        last_slice_.reset();
        flagged_ = cut_ = discont_ = false;
    }

    void set_caps(const GstCaps* caps) override {
        flush();
        told_ = false;
        delays_.reset();
        out_ = KspaceInfo::from_caps(caps);
        // Calibration may have a length of its own, and stays for what follows in the series.
        if (out_.series != in_.series || out_.coils != in_.coils)
            calibration_.forget();
        in_ = out_;
        if (settings_.gradient_delay != Delay::none) {
            if (!kind_of(in_.trajectory).spokes || in_.alignment == Alignment::frame)
                throw Error(Errc::format, "gradient-delay needs readouts of a radial trajectory");
            aspect_ = in_.fov_x > 0 && in_.fov_y > 0 ? in_.fov_y / in_.fov_x
                                                     : static_cast<double>(in_.height) / in_.width;
            delays_.emplace(aspect_);
        }
        if (in_.alignment == Alignment::frame) {
            latency_ = 0;
            set_src_caps(adopt(gst_caps_copy(caps)));
            update_latency();
            return;
        }
        check_length();
        out_.alignment = Alignment::frame;
        out_.series += added_series_;
        // Counted frames have a rate of their own, which the first readout's duration tells.
        if (!counted_) {
            latency_ = in_.framerate.duration();
            set_src_caps(out_.to_caps());
            update_latency();
        }
    }

    bool event(GstEvent* event) override {
        if (const auto xml = header_of(event); !xml.empty() && settings_.index == Index::automatic) {
            const auto encodings = MrdHeader::parse(xml).encodings;
            const auto maximum = [](const std::optional<MrdLimit>& limit) {
                return limit ? limit->maximum : 0;
            };
            const bool phases = !encodings.empty() && maximum(encodings[0].repetition) == 0 &&
                                maximum(encodings[0].phase) > 0;
            index_ = phases ? Index::phase : Index::repetition;
        }
        return true;
    }

    std::optional<GstClockTime> latency() override {
        const GstClockTime latency = latency_;
        return GST_CLOCK_TIME_IS_VALID(latency) ? std::optional(latency) : std::nullopt;
    }

    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override {
        if (in_.alignment == Alignment::frame)
            return push(std::move(buffer));

        const auto size = gst_buffer_get_size(buffer.get());
        if (in_.readouts_in(size) != 1)
            throw Error(Errc::format, fmt::format("A buffer of {} bytes is more than the one readout of {} "
                                                  "coils x {} samples that its caps announce",
                                                  size, in_.coils, in_.samples));
        const auto heads = readouts_of(buffer.get());
        HeldReadout item{std::move(buffer), heads.empty() ? Readout{} : heads.front()};
        const auto flags = item.head.flags;
        if (!(flags & no_image) && Calibration::is_for(item.head))
            calibration_.add(item, in_);
        if ((flags & (no_image | flag::parallel_calibration)) &&
            !(flags & flag::parallel_calibration_and_imaging)) {
            MRI_DEBUG("readout %u is no image data", item.head.scan_counter);
            discont_ |= GST_BUFFER_FLAG_IS_SET(item.buffer.get(), GST_BUFFER_FLAG_DISCONT) != 0;
            return GST_FLOW_OK;
        }

        GstFlowReturn flow = GST_FLOW_OK;
        if (last_slice_ && *last_slice_ != item.head.slice) {
            flow = drain();
            ++added_series_;
            flush();
            if (delays_)
                delays_->forget();
            delays_refused_ = false;
            ++out_.series;
            set_src_caps(out_.to_caps());
        } else if (!counted_ && !pending_.empty() && value(item) != value(pending_.back())) {
            flow = close();
        }
        if (flow != GST_FLOW_OK)
            return flow;
        last_slice_ = item.head.slice;
        return counted_ ? count(std::move(item)) : follow(std::move(item));
    }

    GstFlowReturn drain() override {
        const std::size_t expected = counted_ ? readouts_ : largest_;
        const bool whole = !counted_ && !flagged_ && pending_.size() >= expected;
        skip_ = 0;
        cut_ = true;
        if (fresh_ == 0 || pending_.empty()) {
            forget();
            return GST_FLOW_OK;
        }
        return whole ? close_whole() : cut_off(expected);
    }

  private:
    std::uint16_t value(const HeldReadout& item) const {
        return index_ == Index::phase ? item.head.phase : item.head.repetition;
    }

    void take(HeldReadout item) {
        if (pending_.size() >= most_readouts ||
            (pending_.size() + 1) * gst_buffer_get_size(item.buffer.get()) > most_frame_bytes)
            throw Error(Errc::no_memory, fmt::format("A frame has grown to {} readouts and no index or flag "
                                                     "closes it: set the property readouts",
                                                     pending_.size()));
        pending_.push_back(std::move(item));
        ++fresh_;
    }

    void check_length() const {
        checked_product({std::max<std::size_t>(readouts_, 1) * sizeof(cfloat),
                         static_cast<std::size_t>(in_.coils), static_cast<std::size_t>(in_.samples)},
                        most_frame_bytes, "A frame");
    }

    // The first readout of a series says how long one takes, and so how long frames are.
    void begin(GstBuffer* readout) {
        const GstClockTime tr = GST_BUFFER_DURATION(readout);
        const bool known = GST_CLOCK_TIME_IS_VALID(tr) && tr > 0;
        if (settings_.time > 0) {
            if (!known)
                throw Error(Errc::format, "Frames of a given time need readouts that have a duration");
            const double count = std::round(settings_.time * 1e6 / static_cast<double>(tr));
            readouts_ = static_cast<std::size_t>(std::clamp(count, 1.0, double{most_readouts}));
            stride_ = settings_.stride > 0 ? settings_.stride : readouts_;
            check_length();
        }
        // The times of readouts are cut to whole nanoseconds.
        out_.framerate = known ? frame_rate(tr * stride_, (tr + 1) * stride_) : Fraction{};
        latency_ = known ? tr * (readouts_ - 1) : GST_CLOCK_TIME_NONE;
        told_ = true;
        set_src_caps(out_.to_caps());
        update_latency();
    }

    GstFlowReturn count(HeldReadout item) {
        if (!told_)
            begin(item.buffer.get());
        if (skip_ > 0) {
            --skip_;
            return GST_FLOW_OK;
        }
        take(std::move(item));
        if (pending_.size() < readouts_)
            return GST_FLOW_OK;
        const auto frame = build(stride_);
        const auto gone = std::min<std::size_t>(stride_, pending_.size());
        pending_.erase(pending_.begin(), pending_.begin() + gone);
        skip_ = stride_ - gone;
        fresh_ = 0;
        return push(frame);
    }

    GstFlowReturn follow(HeldReadout item) {
        const bool last =
            item.head.flags & (index_ == Index::phase ? flag::last_in_phase : flag::last_in_repetition);
        take(std::move(item));
        if (!last)
            return GST_FLOW_OK;
        flagged_ = true;
        return close();
    }

    // The frame is as the index makes it, unless data that were lost before it took its beginning along.
    GstFlowReturn close() {
        if (std::exchange(cut_, false) && pending_.size() < largest_)
            return cut_off(largest_);
        return close_whole();
    }

    GstFlowReturn close_whole() {
        largest_ = std::max(largest_, pending_.size());
        const auto frame = build(pending_.size());
        forget();
        if (!latency())
            tell_latency(frame.get());
        return push(frame);
    }

    GstFlowReturn cut_off(std::size_t expected) {
        const auto have = pending_.size();
        const std::string text =
            fmt::format("A frame was cut off after {}{} readouts", have,
                        (expected > 0 ? " of " + std::to_string(expected) : std::string()));
        if (settings_.incomplete == Incomplete::emit) {
            MRI_INFO("%s", text.c_str());
            const auto frame = build(std::min<std::size_t>(have, stride_ > 0 ? stride_ : have));
            forget();
            return push(frame);
        }
        post_warning(text + " and dropped");
        forget();
        discont_ = true;
        return GST_FLOW_OK;
    }

    void forget() {
        pending_.clear();
        fresh_ = 0;
    }

    void tell_latency(GstBuffer* frame) {
        const auto readouts = readouts_of(frame).size();
        if (GST_BUFFER_DURATION_IS_VALID(frame) && readouts > 0) {
            latency_ = gst_util_uint64_scale(GST_BUFFER_DURATION(frame), readouts - 1, readouts);
            update_latency();
        }
    }

    // Acquisition time of the first `readouts` that are pending.
    GstClockTime span(std::size_t readouts) const {
        GstClockTime sum = 0;
        const auto known = std::min(readouts, pending_.size());
        for (std::size_t r = 0; r < known && GST_CLOCK_TIME_IS_VALID(sum); ++r) {
            const GstClockTime one = GST_BUFFER_DURATION(pending_[r].buffer.get());
            sum = GST_CLOCK_TIME_IS_VALID(one) ? sum + one : GST_CLOCK_TIME_NONE;
        }
        if (GST_CLOCK_TIME_IS_VALID(sum))
            return gst_util_uint64_scale(sum, readouts, known);
        const GstClockTime first = GST_BUFFER_PTS(pending_.front().buffer.get());
        const GstClockTime last = GST_BUFFER_PTS(pending_.back().buffer.get());
        if (pending_.size() < 2 || !GST_CLOCK_TIME_IS_VALID(first) || !GST_CLOCK_TIME_IS_VALID(last) ||
            last <= first)
            return GST_CLOCK_TIME_NONE;
        return gst_util_uint64_scale(last - first, readouts, pending_.size() - 1);
    }

    // One frame of all that is pending, `stride` readouts before the next one.
    GstPtr<GstBuffer> build(std::size_t stride) {
        auto frame = join_readouts(pending_, in_.coils, in_.samples);
        if (auto trajectory = join_trajectories(pending_, in_.samples)) {
            correct(*trajectory, frame.get());
            add_trajectory(frame.get(), std::move(trajectory));
        }
        add_sides(frame.get());

        GstBuffer* first = pending_.front().buffer.get();
        GST_BUFFER_PTS(frame.get()) = GST_BUFFER_PTS(first);
        GST_BUFFER_DURATION(frame.get()) = span(stride);
        if (std::exchange(discont_, false) || GST_BUFFER_FLAG_IS_SET(first, GST_BUFFER_FLAG_DISCONT))
            GST_BUFFER_FLAG_SET(frame.get(), GST_BUFFER_FLAG_DISCONT);
        return frame;
    }

    // Of the frames so far; nothing, with a warning once a series, where that is no delay of this frame.
    std::optional<GradientDelay> estimated_delay(const TrajectoryData& trajectory, GstBuffer* frame) {
        DelayFit fit;
        {
            const Mapped<const cfloat> samples(frame);
            fit = delays_->add(samples.span(), trajectory.kxy, in_.coils, trajectory.readouts, in_.samples);
        }
        if (fit != DelayFit::found && !std::exchange(delays_refused_, true))
            post_warning(std::string("Gradient delays are not corrected: ") +
                         (fit == DelayFit::at_bound
                              ? "the spokes agree best at the largest delay that is looked at"
                          : fit == DelayFit::inconsistent
                              ? "with the delays that were found the spokes agree less than without"
                              : "no spokes cross each other, or they hold no signal"));
        return delays_->estimate();
    }

    // Moves the samples to where the gradients' delays put them.
    void correct(TrajectoryData& trajectory, GstBuffer* frame) {
        if (!delays_ || in_.samples < 2)
            return;
        GradientDelay delay{settings_.delay_x, settings_.delay_y, settings_.delay_xy};
        if (settings_.gradient_delay == Delay::ring) {
            const auto found = estimated_delay(trajectory, frame);
            if (!found)
                return;
            delay = *found;
            post_message(StructurePtr(gst_structure_new("mri-gradient-delay", "x", G_TYPE_DOUBLE, delay.x,
                                                        "y", G_TYPE_DOUBLE, delay.y, "xy", G_TYPE_DOUBLE,
                                                        delay.xy, nullptr)));
        }
        shift_spokes(trajectory.kxy, in_.samples, delay, aspect_);
    }

    void add_sides(GstBuffer* frame) {
        const int middle = static_cast<int>(pending_.size() / 2);
        for (const auto role : {Role::truth, Role::input, Role::kspace, Role::gridded}) {
            GstSample* nearest = nullptr;
            int distance = G_MAXINT;
            for (int r = 0; r < static_cast<int>(pending_.size()); ++r) {
                GstSample* sample = side_of(pending_[r].buffer.get(), role);
                if (sample && std::abs(r - middle) < distance) {
                    nearest = sample;
                    distance = std::abs(r - middle);
                }
            }
            if (nearest)
                add_side(frame, role, nearest);
        }
        if (GstSample* sample = calibration_.sample_of(pending_.front().head))
            add_side(frame, Role::calibration, sample);
    }

    // Streaming thread, between start() and stop(); latency_ is read by queries too.
    MriFramerSettings settings_;
    bool counted_ = false; // frames have a fixed number of readouts
    std::size_t readouts_ = 0;
    std::size_t stride_ = 0;
    Index index_ = Index::automatic;
    KspaceInfo in_, out_;
    int added_series_ = 0; // by changes of slice
    std::vector<HeldReadout> pending_;
    std::size_t fresh_ = 0;   // pending readouts that no frame has had yet
    std::size_t skip_ = 0;    // readouts to leave out before the next frame
    std::size_t largest_ = 0; // frame of the series so far
    Calibration calibration_;
    std::optional<std::uint16_t> last_slice_;
    bool flagged_ = false; // the series' frames end with a flag
    bool cut_ = false;     // the frame that follows may lack its beginning
    bool discont_ = false;
    bool told_ = false;                            // caps of counted frames are out
    std::optional<GradientDelayEstimator> delays_; // when trajectories are corrected
    bool delays_refused_ = false;                  // in this series, and told
    double aspect_ = 1;
    std::atomic<GstClockTime> latency_{GST_CLOCK_TIME_NONE};
};

} // namespace
} // namespace mri

MRI_ELEMENT(mriframer, mri::MriFramer)
