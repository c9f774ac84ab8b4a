// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mriframer
 * @title: mriframer
 *
 * Groups readouts into frames: [coil][sample] in, [coil][readout][sample] out, with the readouts'
 * trajectories and headers one after another.
 *
 * Series: each slice, contrast and set is a series of its own, a value of series in the caps. In a stream that
 * is not live (order=auto) the series go out one after another, in whatever order they were measured: a window
 * of frames never mixes them. Readouts of series that have to wait are held, max-waiting MiB at most; times of
 * such a series go on where the one before ended. A live stream, or order=arrival, lets frames go out as they
 * come, with new caps at each change of the series, so that a window of frames ends there.
 *
 * Frames by counters (readouts=0, time=0): each repetition and phase is a frame, as far as the header's
 * encodingLimits and the readouts themselves count them; index takes another reading. Segments are parts of a
 * frame, averages are averaged: of readouts at one position in k-space a frame has the mean. Frames of a series
 * go out in the order of repetition and phase, in any order of acquisition. A frame is complete
 * - with its LAST_IN_REPETITION, or LAST_IN_PHASE where phases count; not live only when the encodingLimits
 *   agree, where segments or averages count, since each may have a flag;
 * - live, or with close=change: also with the last line that the encodingLimits tell, or when the counters go on
 *   to another frame (to another phase only where no segments and averages count);
 * - else at the end, or when max-frames-open frames are open.
 * With close=end nothing but the end completes frames. A readout that comes after its frame was complete is an
 * error; where lines are measured again it begins a new round of frames. Warnings tell readings that were
 * chosen: repetition and phase both count; more repetitions or phases than the limits; lines measured again
 * with the same counters, which are averaged; a whole scan that became one frame.
 *
 * Counted frames (readouts > 0, or time > 0: as many as come nearest to it) are that many readouts of a series,
 * and a new one comes every stride readouts: a sliding window when the stride is smaller, gaps when it is
 * larger. A part of a frame that a live stream left for longer than a frame of each series lasts is dropped.
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
 * Times: PTS is that of the first readout, the duration the acquisition time of the stride, or for frames whose
 * readouts lie apart the time to the next frame. A frame that the end of the stream, lost data or a new scan
 * cuts off is dropped with a warning, or pushed with incomplete=emit.
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
#include "plugins/common/frame_counters.hpp"
#include "plugins/common/frame_rate.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/common/provenance.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/sampling/gradient_delay.hpp"
#include "plugins/source/calibration_readouts.hpp"
#include "plugins/source/frame_buffer.hpp"
#include "plugins/source/frame_sorter.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <fmt/format.h>
#include <map>
#include <numbers>
#include <set>

namespace mri {
namespace {

enum class Close { automatic, change, end };
enum class Order { automatic, series, arrival };
enum class Incomplete { drop, emit };
enum class Delay { none, fixed, ring };

struct MriFramerSettings {
    int readouts = 0;
    double time = 0; // ms
    int stride = 0;
    FrameIndex index = FrameIndex::automatic;
    Close close = Close::automatic;
    Order order = Order::automatic;
    int max_frames_open = 256;
    int max_waiting = 2048; // MiB
    Incomplete incomplete = Incomplete::drop;
    Delay gradient_delay = Delay::none;
    double delay_x = 0, delay_y = 0, delay_xy = 0; // samples
};

constexpr std::size_t most_readouts = 65536;

constexpr std::uint64_t no_image = flag::noise | flag::navigation | flag::phase_correction |
                                   flag::hp_feedback | flag::dummy | flag::rt_feedback |
                                   flag::surface_coil_correction;

Counters counters_of(const Readout& head) {
    return {.kspace_encode_step_1 = head.kspace_encode_step_1,
            .kspace_encode_step_2 = head.kspace_encode_step_2,
            .average = head.average,
            .slice = head.slice,
            .contrast = head.contrast,
            .phase = head.phase,
            .repetition = head.repetition,
            .set = head.set,
            .segment = head.segment};
}

/// What is known of a slice, contrast and set.
struct Series {
    Series(const SeriesKey& which, const FrameSorter<HeldReadout>::Options& options)
        : key(which), sorter(options) {}

    SeriesKey key;
    FrameSorter<HeldReadout> sorter;              // frames by counters
    std::vector<HeldReadout> pending;             // counted frames
    std::size_t fresh = 0;                        // pending readouts that no frame has had yet
    std::size_t skip = 0;                         // readouts to leave out before the next frame
    std::size_t frames = 0;                       // that have gone out
    std::size_t averages = 1;                     // measurements in each of its lines, by the first frame
    std::size_t largest = 0;                      // readouts of a frame so far
    bool flagged = false;                         // frames end with a flag
    bool cut = false;                             // the frame that follows may lack its beginning
    bool lost = false;                            // data were, before the next readout
    std::set<std::uint16_t> lost_repetitions;     // those with lost data: parts of their frames are missing
    bool discont = false;                         // the next frame's flag
    std::deque<HeldReadout> waiting;              // until its turn comes
    bool finished = false;                        // its turn is over
    std::uint64_t first_waiting = 0;              // count of the first readout in `waiting`
    std::uint64_t last = 0;                       // count of its last readout
    std::optional<GradientDelayEstimator> delays; // when trajectories are corrected
    bool delays_refused = false;                  // and told
    GstClockTime shift = 0;                       // of its times, behind the series before
    GstClockTime pts = GST_CLOCK_TIME_NONE, duration = GST_CLOCK_TIME_NONE; // of its last frame
};

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
        p.choice("index", "ISMRMRD counters that make the frames of a series, where readouts are not counted",
                 &S::index,
                 {{FrameIndex::automatic, "auto", "Repetition and phase, as far as they count"},
                  {FrameIndex::repetition, "repetition", "Repetition alone: phases are averaged"},
                  {FrameIndex::phase, "phase", "Cardiac phase alone: repetitions are averaged"},
                  {FrameIndex::repetition_phase, "repetition-phase", "Each phase of each repetition"},
                  {FrameIndex::average, "average", "Each average of each phase of each repetition"},
                  {FrameIndex::none, "none", "None: a series is one frame"}});
        p.choice("close", "What completes a frame of counters, beside its LAST_IN flags", &S::close,
                 {{Close::automatic, "auto", "As change in a live stream; else the end, or max-frames-open"},
                  {Close::change, "change", "Its last line by the limits, or the next frame's beginning"},
                  {Close::end, "end", "The end alone, whatever flags say"}});
        p.choice("order", "Order of the frames of several slices, contrasts or sets", &S::order,
                 {{Order::automatic, "auto", "As arrival in a live stream, else as series"},
                  {Order::series, "series", "One series after another"},
                  {Order::arrival, "arrival", "As they are complete; windows of frames end at each change"}});
        p.integer("max-frames-open", "Frames of a series that are open at once, or wait for earlier ones", 1,
                  1000000, &S::max_frames_open);
        p.integer("max-waiting", "Memory in MiB for readouts whose frame or series has to wait", 1, 1 << 20,
                  &S::max_waiting);
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
        encoding_.reset();
        counters_ = FrameCounters(settings_.index);
        added_series_ = 0;
        numbers_.clear();
    }

    void stop() override {
        flush();
        calibration_.forget();
        told_provenance_.reset();
        latency_ = GST_CLOCK_TIME_NONE;
    }

    void flush() override {
        series_.clear();
        current_ = nullptr;
        waiting_ = 0;
        stream_end_ = GST_CLOCK_TIME_NONE;
        last_sent_.reset();
        discont_ = told_order_ = told_repeated_ = false;
        live_.reset();
    }

    void set_caps(const GstCaps* caps) override {
        flush();
        told_ = false;
        out_ = KspaceInfo::from_caps(caps);
        // Calibration may have a length of its own, and stays for what follows in the series.
        if (out_.series != in_.series || out_.coils != in_.coils)
            calibration_.forget();
        if (out_.series != in_.series) {
            numbers_.clear();
            counters_ = FrameCounters(settings_.index, encoding_);
        }
        in_ = out_;
        if (settings_.gradient_delay != Delay::none) {
            if (!kind_of(in_.trajectory).spokes || in_.alignment == Alignment::frame)
                throw Error(Errc::format, "gradient-delay needs readouts of a radial trajectory");
            aspect_ = in_.fov_x > 0 && in_.fov_y > 0 ? in_.fov_y / in_.fov_x
                                                     : static_cast<double>(in_.height) / in_.width;
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
            if (numbers_.empty())
                set_src_caps(out_.to_caps());
            update_latency();
        }
    }

    bool event(GstEvent* event) override {
        if (provenance_of(event))
            return false; // goes on with the next frame
        if (const auto xml = header_of(event); !xml.empty()) {
            const auto encodings = MrdHeader::parse(xml).encodings;
            encoding_ = encodings.empty() ? std::nullopt : std::optional(encodings[0]);
            counters_ = FrameCounters(settings_.index, encoding_);
        }
        return true;
    }

    std::optional<GstClockTime> latency() override {
        const GstClockTime latency = latency_;
        return GST_CLOCK_TIME_IS_VALID(latency) ? std::optional(latency) : std::nullopt;
    }

    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override {
        if (in_.alignment == Alignment::frame) {
            tell_provenance(readouts_of(buffer.get()).size());
            return push(std::move(buffer));
        }

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

        const Counters counters = counters_of(item.head);
        if (!counted_)
            if (const auto reading = counters_.see(counters))
                post_warning(*reading);
        Series& series = series_of(SeriesKey::of(counters));
        series.discont |= std::exchange(discont_, false);
        ++count_;
        if (arrival())
            return arrive(series, std::move(item));
        if (!current_)
            current_ = &series;
        if (current_ == &series) {
            series.last = count_;
            if (const auto flow = bound(); flow != GST_FLOW_OK)
                return flow;
            return take(series, std::move(item));
        }
        return wait(series, std::move(item));
    }

    GstFlowReturn drain() override {
        GstFlowReturn flow = GST_FLOW_OK;
        if (current_)
            flow = finish(*current_);
        for (auto next = series_.begin(); next != series_.end() && flow == GST_FLOW_OK; ++next) {
            // What was already handed on: its part of a frame is left in a live stream.
            if (&next->second == current_)
                continue;
            flow = turn(next->second);
            if (flow == GST_FLOW_OK)
                flow = finish(next->second);
        }
        current_ = nullptr;
        for (auto& [key, series] : series_)
            series.finished = false;
        return flow;
    }

    GstFlowReturn drain_lost() override {
        losing_ = true;
        const GstFlowReturn flow = drain();
        losing_ = false;
        for (auto& [key, series] : series_)
            series.lost = true;
        return flow;
    }

  private:
    using Frame = FrameSorter<HeldReadout>::Frame;

    bool live_stream() {
        if (!live_)
            live_ = live();
        return *live_;
    }

    bool arrival() {
        return settings_.order == Order::arrival || (settings_.order == Order::automatic && live_stream());
    }

    Closing closing() {
        if (settings_.close == Close::end)
            return Closing::end;
        return settings_.close == Close::change || live_stream() ? Closing::change : Closing::wait;
    }

    Series& series_of(const SeriesKey& key) {
        if (const auto found = series_.find(key); found != series_.end())
            return found->second;
        const std::size_t bytes = static_cast<std::size_t>(in_.coils) * in_.samples * sizeof(cfloat);
        FrameSorter<HeldReadout>::Options options;
        options.grid = kind_of(in_.trajectory).grid;
        options.closing = closing();
        options.most_open = settings_.max_frames_open;
        options.most_readouts = std::min(most_readouts, most_frame_bytes / bytes);
        most_waiting_ =
            std::max<std::size_t>((static_cast<std::size_t>(settings_.max_waiting) << 20) / bytes, 1);
        Series& series = series_.try_emplace(key, key, options).first->second;
        if (settings_.gradient_delay != Delay::none)
            series.delays.emplace(aspect_);
        return series;
    }

    /// gst-launch-1.0 prints the second text of an information, applications the first.
    void post_info(const std::string& text) {
        gst_element_message_full(gst(), GST_MESSAGE_INFO, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                                 g_strdup(text.c_str()), g_strdup(text.c_str()), "gst-mri",
                                 gst_debug_category_get_name(category()), 0);
    }

    /// Frames of all series as they come.
    GstFlowReturn arrive(Series& series, HeldReadout item) {
        const bool back = series.last > 0 && series.last + 1 != count_;
        if (back && !std::exchange(told_order_, true))
            post_warning("Slices, contrasts or sets take turns: frames go out as they come, and windows of "
                         "frames end at each change of the series (order=series hands on one series after "
                         "another)");
        // What was begun long ago shows another moment.
        if (back && counted_ && series.fresh > 0 && count_ - series.last > readouts_ * series_.size())
            if (const auto flow = cut_off(series, std::exchange(series.pending, {}), readouts_);
                flow != GST_FLOW_OK)
                return flow;
        series.last = count_;
        return take(series, std::move(item));
    }

    /// A readout of a series whose turn has not come.
    GstFlowReturn wait(Series& series, HeldReadout item) {
        if (series.finished)
            throw Error(Errc::format,
                        "Readouts of " + series.key.text() +
                            " came back after its frames had gone out: raise max-waiting, or set "
                            "order=arrival");
        if (series.waiting.empty())
            series.first_waiting = count_;
        if (!std::exchange(told_order_, true))
            post_info(fmt::format(
                "Several slices, contrasts or sets: their frames go out one series after another; "
                "{} waits until {} is over",
                series.key.text(), current_->key.text()));
        series.waiting.push_back(std::move(item));
        ++waiting_;
        return bound();
    }

    /// Holds the memory within max-waiting: a series that has long been silent is over, frames that wait go out.
    GstFlowReturn bound() {
        GstFlowReturn flow = GST_FLOW_OK;
        if (2 * waiting_ > most_waiting_) {
            Series* oldest = nullptr;
            for (auto& [key, series] : series_)
                if (!series.waiting.empty() && (!oldest || series.first_waiting < oldest->first_waiting))
                    oldest = &series;
            if (oldest->first_waiting > current_->last) {
                flow = finish(*current_);
                current_->finished = true;
                current_ = oldest;
                return flow == GST_FLOW_OK ? turn(*oldest) : flow;
            }
        }
        while (waiting_ + current_->sorter.held() > most_waiting_) {
            if (!current_->sorter.shed())
                throw Error(
                    Errc::no_memory,
                    fmt::format("{} readouts wait for their frame or series, which is more than the "
                                "property max-waiting allows: raise it, set order=arrival, or readouts",
                                waiting_ + current_->sorter.held()));
            flow = hand_on(*current_);
            if (flow != GST_FLOW_OK)
                return flow;
        }
        return flow;
    }

    /// Takes what has waited of a series.
    GstFlowReturn turn(Series& series) {
        current_ = &series;
        auto waiting = std::exchange(series.waiting, {});
        waiting_ -= waiting.size();
        GstFlowReturn flow = GST_FLOW_OK;
        while (!waiting.empty() && flow == GST_FLOW_OK) {
            HeldReadout item = std::move(waiting.front());
            waiting.pop_front();
            series.last = std::max(series.last, series.first_waiting++);
            flow = take(series, std::move(item));
        }
        return flow;
    }

    GstFlowReturn take(Series& series, HeldReadout item) {
        return counted_ ? count(series, std::move(item)) : sort(series, std::move(item));
    }

    GstFlowReturn sort(Series& series, HeldReadout item) {
        const Readout head = item.head;
        if (std::exchange(series.lost, false))
            series.lost_repetitions.insert(head.repetition);
        series.sorter.add(counters_, counters_of(head), head.flags & flag::last_in_phase,
                          head.flags & flag::last_in_repetition, std::move(item));
        return hand_on(series);
    }

    /// Frames that are complete.
    GstFlowReturn hand_on(Series& series) {
        GstFlowReturn flow = GST_FLOW_OK;
        while (flow == GST_FLOW_OK) {
            auto frame = series.sorter.next();
            if (!frame)
                break;
            flow = close(series, std::move(*frame));
        }
        return flow;
    }

    /// All that is left of a series, whose last frame may be cut off.
    GstFlowReturn finish(Series& series) {
        GstFlowReturn flow = GST_FLOW_OK;
        series.skip = 0;
        if (counted_) {
            if (series.fresh > 0)
                flow = cut_off(series, std::exchange(series.pending, {}), readouts_);
            series.pending.clear();
            series.fresh = 0;
        } else {
            series.sorter.finish();
            flow = hand_on(series);
        }
        series.cut = true;
        return flow;
    }

    void check_length() const {
        checked_product({std::max<std::size_t>(readouts_, 1) * sizeof(cfloat),
                         static_cast<std::size_t>(in_.coils), static_cast<std::size_t>(in_.samples)},
                        most_frame_bytes, "A frame");
    }

    // The first readout says how long one takes, and so how long frames are.
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
    }

    GstFlowReturn count(Series& series, HeldReadout item) {
        if (!told_) {
            begin(item.buffer.get());
            announce(series);
            update_latency();
        }
        if (series.skip > 0) {
            --series.skip;
            return GST_FLOW_OK;
        }
        series.pending.push_back(std::move(item));
        ++series.fresh;
        if (series.pending.size() < readouts_)
            return GST_FLOW_OK;
        const auto frame = build(series, series.pending, stride_, nullptr);
        const auto gone = std::min<std::size_t>(stride_, series.pending.size());
        series.pending.erase(series.pending.begin(), series.pending.begin() + gone);
        series.skip = stride_ - gone;
        series.fresh = 0;
        return send(series, frame);
    }

    // The frame is as its counters make it, unless data that were lost before it took its beginning along, or
    // it is the last one and shorter than those before.
    GstFlowReturn close(Series& series, Frame frame) {
        const bool cut = std::exchange(series.cut, false);
        const bool at_end = frame.ended == Ended::by_end;
        const std::uint16_t repetition = frame.readouts.front().head.repetition;
        const bool parts_lost = frame.in_parts && frame.ended != Ended::by_limits &&
                                (losing_ || series.lost_repetitions.contains(repetition));
        const bool first_lost =
            losing_ && frame.tail && series.largest == 0 && frame.readouts.size() < counters_.readouts();
        if (parts_lost || first_lost) {
            series.lost_repetitions.insert(repetition);
            return cut_off(series, std::move(frame.readouts), counters_.readouts());
        }
        series.flagged |= frame.ended == Ended::by_flag;
        if (((cut && !at_end) || frame.tail) && frame.readouts.size() < series.largest)
            return cut_off(series, std::move(frame.readouts), series.largest);
        if (frame.tail && series.flagged)
            return cut_off(series, std::move(frame.readouts), series.largest);
        series.largest = std::max(series.largest, frame.readouts.size());
        return send_averaged(series, std::move(frame.readouts), at_end);
    }

    GstFlowReturn cut_off(Series& series, std::vector<HeldReadout> readouts, std::size_t expected) {
        const auto have = readouts.size();
        const std::string text =
            fmt::format("A frame was cut off after {}{} readouts", have,
                        (expected > 0 ? " of " + std::to_string(expected) : std::string()));
        series.fresh = 0;
        if (settings_.incomplete == Incomplete::emit) {
            MRI_INFO("%s", text.c_str());
            if (!counted_)
                return send_averaged(series, std::move(readouts), true);
            return send(series, build(series, readouts, std::min(have, stride_), nullptr));
        }
        post_warning(text + " and dropped");
        series.discont = true;
        return GST_FLOW_OK;
    }

    GstFlowReturn send_averaged(Series& series, std::vector<HeldReadout> readouts, bool at_end) {
        const HeldReadout* following = series.sorter.following();
        const GstClockTime next = following ? GST_BUFFER_PTS(following->buffer.get()) : GST_CLOCK_TIME_NONE;
        const Timing timing = timing_of(readouts, readouts.size(), next, series.duration);
        const std::size_t measured = readouts.size();
        auto averaged = average_repeated(std::move(readouts));
        // Caps tell the noise of lines that were all measured as often.
        if (series.frames == 0 && averaged.least == averaged.most)
            series.averages = averaged.most;
        const bool counts = counters_.phases() || counters_.repetitions();
        if (averaged.with_same_counters && !std::exchange(told_repeated_, true))
            post_warning(
                fmt::format("A frame of {} readouts has positions in k-space that were measured up to {} "
                            "times with the same counters: they are averaged (readouts or time make "
                            "frames of a count)",
                            measured, averaged.most));
        else if (at_end && !counts && series.frames == 0 && kind_of(in_.trajectory).spokes &&
                 static_cast<double>(measured) > std::numbers::pi * std::max(in_.width, in_.height) &&
                 settings_.index == FrameIndex::automatic && !std::exchange(told_repeated_, true))
            post_warning(
                fmt::format("No counter or flag makes frames: all {} spokes of {} are one frame (readouts "
                            "or time make frames of a count)",
                            measured, series.key.text()));
        const auto frame = build(series, averaged.readouts, averaged.readouts.size(), &timing);
        if (!latency())
            tell_latency(frame.get());
        return send(series, frame);
    }

    void tell_latency(GstBuffer* frame) {
        const auto readouts = readouts_of(frame).size();
        if (GST_BUFFER_DURATION_IS_VALID(frame) && readouts > 0) {
            latency_ = gst_util_uint64_scale(GST_BUFFER_DURATION(frame), readouts - 1, readouts);
            update_latency();
        }
    }

    /// Caps of a series: its number is the next one when it is met for the first time.
    void announce(const Series& series) {
        const auto [number, is_new] = numbers_.try_emplace(series.key, 0);
        if (is_new) {
            if (numbers_.size() > 1)
                ++added_series_;
            number->second = in_.series + added_series_;
        }
        out_.series = number->second;
        out_.noise = in_.noise / std::sqrt(static_cast<double>(series.averages));
        set_src_caps(out_.to_caps());
    }

    /// How many times fewer readouts a frame has than a fully sampled one: lines of the encoding, or pi / 2 times the
    /// matrix of spokes.
    double acceleration(std::size_t readouts) const {
        if (readouts == 0)
            return 0;
        double full = 0;
        if (kind_of(out_.trajectory).grid) {
            const auto limit = encoding_ ? encoding_->step_1 : std::nullopt;
            full = limit && limit->maximum > limit->minimum ? limit->maximum - limit->minimum + 1
                   : out_.encoded_height > 0                ? out_.encoded_height
                                                            : out_.height;
        } else if (kind_of(out_.trajectory).spokes) {
            full = std::numbers::pi / 2 * std::max(out_.width, out_.height);
        }
        return full > 0 ? std::max(1.0, full / static_cast<double>(readouts)) : 0;
    }

    void tell_provenance(std::size_t readouts) {
        Provenance provenance = provenance_at(sink_pad());
        provenance.acceleration = acceleration(readouts);
        if (told_provenance_ == provenance)
            return;
        gst_pad_push_event(src_pad(), new_provenance_event(provenance).release());
        told_provenance_ = std::move(provenance);
    }

    GstFlowReturn send(Series& series, GstPtr<GstBuffer> frame) {
        announce(series);
        tell_provenance(readouts_of(frame.get()).size());
        GstClockTime& pts = GST_BUFFER_PTS(frame.get());
        const GstClockTime duration = GST_BUFFER_DURATION(frame.get());
        if (GST_CLOCK_TIME_IS_VALID(pts)) {
            // Series that were measured side by side go out one after another, and so do their times.
            if (last_sent_ && *last_sent_ != series.key && !arrival() &&
                GST_CLOCK_TIME_IS_VALID(stream_end_) && pts + series.shift < stream_end_)
                series.shift = stream_end_ - pts;
            pts += series.shift;
            if (GST_CLOCK_TIME_IS_VALID(series.pts) && pts <= series.pts)
                pts = series.pts +
                      (GST_CLOCK_TIME_IS_VALID(series.duration) && series.duration > 0 ? series.duration : 1);
            series.pts = pts;
            stream_end_ = pts + (GST_CLOCK_TIME_IS_VALID(duration) ? duration : 0);
        }
        series.duration = duration;
        last_sent_ = series.key;
        ++series.frames;
        return push(std::move(frame));
    }

    struct Timing {
        GstClockTime pts = GST_CLOCK_TIME_NONE, duration = GST_CLOCK_TIME_NONE;
    };

    /// Time of a frame, `stride` readouts before the next one, which begins at `next` where that is known;
    /// `before` is the duration of the frame before.
    static Timing timing_of(const std::vector<HeldReadout>& readouts, std::size_t stride, GstClockTime next,
                            GstClockTime before) {
        const auto known = [](GstClockTime time) { return GST_CLOCK_TIME_IS_VALID(time); };
        Timing timing{GST_BUFFER_PTS(readouts.front().buffer.get())};
        const GstClockTime last = GST_BUFFER_PTS(readouts.back().buffer.get());
        const bool advances = readouts.size() > 1 && known(timing.pts) && known(last) && last > timing.pts;
        GstClockTime sum = 0;
        const auto count = std::min(stride, readouts.size());
        for (std::size_t r = 0; r < count && known(sum); ++r) {
            const GstClockTime one = GST_BUFFER_DURATION(readouts[r].buffer.get());
            sum = known(one) ? sum + one : GST_CLOCK_TIME_NONE;
        }
        if (known(sum))
            timing.duration = gst_util_uint64_scale(sum, stride, count);
        else if (advances)
            timing.duration = gst_util_uint64_scale(last - timing.pts, stride, readouts.size() - 1);
        // Readouts that lie apart, with those of other frames or series in between, do not tell.
        const GstClockTime extent =
            advances ? gst_util_uint64_scale(last - timing.pts, readouts.size(), readouts.size() - 1) : 0;
        if (known(sum) && extent > timing.duration + timing.duration / 2) {
            if (known(next) && next > timing.pts)
                timing.duration = std::min(next - timing.pts, extent);
            else if (known(before) && before > 0)
                timing.duration = before;
        }
        return timing;
    }

    /// One frame of readouts; `timing` is known where readouts were averaged.
    GstPtr<GstBuffer> build(Series& series, const std::vector<HeldReadout>& readouts, std::size_t stride,
                            const Timing* timing) {
        auto frame = join_readouts(readouts, in_.coils, in_.samples);
        if (auto trajectory = join_trajectories(readouts, in_.samples)) {
            correct(series, *trajectory, frame.get());
            add_trajectory(frame.get(), std::move(trajectory));
        }
        add_sides(frame.get(), readouts);

        const Timing time =
            timing ? *timing : timing_of(readouts, stride, GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE);
        GST_BUFFER_PTS(frame.get()) = time.pts;
        GST_BUFFER_DURATION(frame.get()) = time.duration;
        if (std::exchange(series.discont, false) ||
            GST_BUFFER_FLAG_IS_SET(readouts.front().buffer.get(), GST_BUFFER_FLAG_DISCONT))
            GST_BUFFER_FLAG_SET(frame.get(), GST_BUFFER_FLAG_DISCONT);
        return frame;
    }

    // Of the frames so far; nothing, with a warning once a series, where that is no delay of this frame.
    std::optional<GradientDelay> estimated_delay(Series& series, const TrajectoryData& trajectory,
                                                 GstBuffer* frame) {
        DelayFit fit;
        {
            const Mapped<const cfloat> samples(frame);
            fit = series.delays->add(samples.span(), trajectory.kxy, in_.coils, trajectory.readouts,
                                     in_.samples);
        }
        if (fit != DelayFit::found && !std::exchange(series.delays_refused, true))
            post_warning(std::string("Gradient delays are not corrected: ") +
                         (fit == DelayFit::at_bound
                              ? "the spokes agree best at the largest delay that is looked at"
                          : fit == DelayFit::inconsistent
                              ? "with the delays that were found the spokes agree less than without"
                              : "no spokes cross each other, or they hold no signal"));
        return series.delays->estimate();
    }

    // Moves the samples to where the gradients' delays put them.
    void correct(Series& series, TrajectoryData& trajectory, GstBuffer* frame) {
        if (!series.delays || in_.samples < 2)
            return;
        GradientDelay delay{settings_.delay_x, settings_.delay_y, settings_.delay_xy};
        if (settings_.gradient_delay == Delay::ring) {
            const auto found = estimated_delay(series, trajectory, frame);
            if (!found)
                return;
            delay = *found;
            post_message(StructurePtr(gst_structure_new("mri-gradient-delay", "x", G_TYPE_DOUBLE, delay.x,
                                                        "y", G_TYPE_DOUBLE, delay.y, "xy", G_TYPE_DOUBLE,
                                                        delay.xy, nullptr)));
        }
        shift_spokes(trajectory.kxy, in_.samples, delay, aspect_);
    }

    void add_sides(GstBuffer* frame, const std::vector<HeldReadout>& readouts) {
        const int middle = static_cast<int>(readouts.size() / 2);
        for (const auto role : {Role::truth, Role::input, Role::kspace, Role::gridded}) {
            GstSample* nearest = nullptr;
            int distance = G_MAXINT;
            for (int r = 0; r < static_cast<int>(readouts.size()); ++r) {
                GstSample* sample = side_of(readouts[r].buffer.get(), role);
                if (sample && std::abs(r - middle) < distance) {
                    nearest = sample;
                    distance = std::abs(r - middle);
                }
            }
            if (nearest)
                add_side(frame, role, nearest);
        }
        if (GstSample* sample = calibration_.sample_of(readouts.front().head))
            add_side(frame, Role::calibration, sample);
    }

    // Streaming thread, between start() and stop(); latency_ is read by queries too.
    MriFramerSettings settings_;
    bool counted_ = false; // frames have a fixed number of readouts
    std::size_t readouts_ = 0;
    std::size_t stride_ = 0;
    std::optional<MrdEncoding> encoding_; // the header's first
    FrameCounters counters_;
    KspaceInfo in_, out_;
    Calibration calibration_;
    std::map<SeriesKey, Series> series_;
    std::map<SeriesKey, int> numbers_; // values of series in the caps
    int added_series_ = 0;             // by slices, contrasts and sets
    Series* current_ = nullptr;        // the one whose frames go out; the others wait
    std::size_t waiting_ = 0;          // readouts of those
    std::size_t most_waiting_ = 0;
    std::uint64_t count_ = 0;                       // imaging readouts
    GstClockTime stream_end_ = GST_CLOCK_TIME_NONE; // of the last frame
    std::optional<SeriesKey> last_sent_;            // series of that frame
    std::optional<bool> live_;
    bool losing_ = false;        // frames end because data were lost
    bool discont_ = false;       // the next readout's
    bool told_ = false;          // caps of counted frames are out
    bool told_order_ = false;    // what happens to several series
    bool told_repeated_ = false; // lines measured again
    double aspect_ = 1;
    std::optional<Provenance> told_provenance_;
    std::atomic<GstClockTime> latency_{GST_CLOCK_TIME_NONE};
};

} // namespace
} // namespace mri

MRI_ELEMENT(mriframer, mri::MriFramer)
