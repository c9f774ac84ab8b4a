// SPDX-License-Identifier: LGPL-2.1-or-later
// What the elements around a network share. An element adds what its network is and takes:
//
//     struct MyCrnnSettings : mri::NetworkSettings { int iterations = 5; };
//
//     class MyCrnn : public mri::NetworkElement<mri::Crnn, MyCrnnSettings> {
//       public:
//         static constexpr mri::ElementInfo info{...};   static constexpr const char* sink_caps = ...
//         static void properties(mri::Properties<MyCrnn>& p) {
//             network_properties(p);
//             p.integer("iterations", ..., &MyCrnnSettings::iterations);
//         }
//       protected:
//         mri::Crnn load_network(const MyCrnnSettings& s) const override;
//         void prepare(const Frames::Job& job) override;                         // buffers -> members
//         void compute(mri::Crnn& network, std::span<float> output) override;    // members -> window of
//         images
//     };
//
// An element whose sink caps hold k-space frames beside images gets the images that it starts from made of
// them (start_images.hpp), as if they had come in.
//
// The network class needs warm_up(WindowShape) -> seconds, metadata() and precision(), and must be movable.
#pragma once

#include "models/common/overlap.hpp"
#include "models/common/run_options.hpp"
#include "models/files/weights.hpp"
#include "plugins/common/device_property.hpp"
#include "plugins/common/element.hpp"
#include "plugins/inference/window_samples.hpp"
#include "plugins/inference/window_start.hpp"
#include "plugins/math/recon/window_operator.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace mri {

inline constexpr int usual_window = 20; // frames, where neither the property nor the weights say

struct NetworkSettings {
    std::string weights;
    int window = 0;
    int hop = 0;
    Blend blend = Blend::none;
    std::string device = "cpu";
    Precision precision = Precision::automatic;
    int threads = 0;
    bool attach_input = false;

    RunOptions run() const { return {device, precision, threads}; }
};

/// Those of an element whose network keeps to measured samples; each of its images says how far it is from
/// them.
struct ConsistencySettings : NetworkSettings {
    double noise = 0;
};

/// What an image is told of its rest, whose rms is in the unit of a sample; `noise` is the standard deviation
/// in a sample's real and imaginary part, 0 where it is not known.
inline Consistency over_noise(const WindowOperator::Residual& rest, double noise) {
    // Noise of that deviation in both parts leaves sqrt(2) of it in the magnitude of a sample's rest.
    return {rest.relative, noise > 0 ? rest.rms / (std::sqrt(2.0) * noise) : 0.0};
}

/// `S` derives from NetworkSettings or ConsistencySettings.
///
/// Setting `weights` while the element runs loads and warms up the new network in a thread of its own, beside
/// the one at work; between two windows it takes over, and an element message "mri-weights" says so. A file
/// that cannot be used is a warning on the bus, and all stays as it was.
template <class Net, class S>
class NetworkElement : public Configured<Windowed, S> {
  protected:
    using Frames = Windowed::Frames;

    template <class Impl>
    static void network_properties(Properties<Impl>& p);

    // ---- what an element adds

    /// Loads the network that the settings name. Also called in a thread of its own: uses its argument alone.
    virtual Net load_network(const S& settings) const = 0;
    /// Whether it computes each frame from those before it, and not windows. Also called in the loader's
    /// thread.
    virtual bool frame_by_frame(const Net&) const { return false; }
    /// The images that the network makes of these; throws Errc::format where it cannot take them. Also called
    /// in the loader's thread.
    virtual ImageInfo output_info(const Net&, const ImageInfo& input) const { return input; }
    /// Whether k-space frames of this kind begin as mrigrid makes each by itself; the others begin with a
    /// background, as mrirecon or mrigrid makes it.
    virtual bool starts_gridded(const KspaceInfo&) const { return false; }
    /// The recipe that the network was trained with.
    virtual StartRecipe start_recipe(const Net&) const { return {}; }
    /// Of an element that takes k-space (first in its template), what is wrong with other k-space gets a
    /// sentence of set_caps().
    bool explains(const GstCaps* caps) override {
        const auto taken = adopt(gst_pad_get_pad_template_caps(this->sink_pad()));
        const auto first = adopt(gst_caps_copy_nth(taken.get(), 0));
        return is_kspace(first.get()) && is_kspace(caps);
    }
    /// Checks an image of the right size on entry; throws.
    virtual void check_frame(GstBuffer*) {}
    /// New caps: what is kept along a series is forgotten.
    virtual void new_series() {}
    /// Reads the window into members: from its images, or, where k-space frames come in, from the start that was made of
    /// them.
    virtual void prepare(const Frames::Job& job, const WindowStart* start) = 0;
    /// Computes the window: `output` is [frames] of the output's pixels, complex ones as two numbers.
    virtual void compute(Net& network, std::span<float> output) = 0;
    /// With ConsistencySettings: what each frame of the window last computed leaves of its samples, rms in
    /// the unit of a sample.
    virtual std::span<const WindowOperator::Residual> residuals() const { return {}; }

    // ---- for it; streaming thread, from start() to stop()

    const S& s() const noexcept { return s_; }
    const ImageInfo& image() const noexcept { return image_; }
    /// The window of input images.
    const WindowShape& shape() const noexcept { return shape_; }
    /// In compute(): nothing of this series was computed before.
    bool fresh() const noexcept { return fresh_; }

  public:
    void start() final;
    void stop() final;
    void set_caps(const GstCaps* caps) final;
    void flush() final;

  protected:
    void check(GstBuffer* buffer) final;
    std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) final;
    /// A network that goes on from frame to frame needs each of them, and catches up; one that takes longer
    /// than a frame lasts never would.
    bool leaves_late_out() const final {
        return !by_frame_ || (GST_CLOCK_TIME_IS_VALID(frame_time_) && compute_time() > frame_time_);
    }

  private:
    static constexpr bool keeps_to_samples = std::is_base_of_v<ConsistencySettings, S>;

    using Clock = std::chrono::steady_clock;

    /// A network that is ready for work.
    struct Loaded {
        std::string weights;
        std::unique_ptr<Net> network;
        std::optional<WindowShape> warm; // the window that `seconds` was measured with
        double load_seconds = 0;
        double warm_up_seconds = 0; // both runs
        double seconds = 0;         // of a window
    };
    /// What is known of a series: the loader needs it for its warm-up.
    struct Stream {
        ImageInfo input, output;
        WindowShape shape;
    };
    enum Stage { prepare_stage, network_stage, output_stage, stages };
    struct Statistics {
        guint64 frames = 0;
        guint64 windows = 0;
        guint64 swaps = 0;
        double load = 0, warm_up = 0, longest = 0;
        std::array<double, stages> total{}; // seconds
    };

    static double seconds_since(Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }
    /// Frames that a network for windows takes together.
    static int window_of(const Net& network, const S& settings) {
        return settings.window > 0 ? settings.window
                                   : trained_frames(network.metadata()).value_or(usual_window);
    }
    static void check_same(const ImageInfo& made, const ImageInfo& wanted) {
        if (made != wanted)
            throw Error(Errc::format, "it makes images of another kind than the network at work");
    }
    /// output_info() of a network that may take the place of the one of start().
    ImageInfo made_by(const Net& network, const ImageInfo& input) const {
        if (frame_by_frame(network) != by_frame_)
            throw Error(Errc::settings, "a network for windows and one for single frames cannot take each "
                                        "other's place while playing");
        if (start_recipe(network).background_frames != recipe_.background_frames)
            throw Error(Errc::settings,
                        "its start averages another number of frames than that of the network at work");
        return output_info(network, input);
    }
    StartKind start_kind(const KspaceInfo& in) const {
        return starts_gridded(in) ? StartKind::gridded : by_frame_ ? StartKind::running : StartKind::windows;
    }
    void time_frames(GstBuffer* buffer);
    void tell_timing() { this->set_timing(frame_time_, compute_time()); }
    GstClockTime compute_time() const {
        return static_cast<GstClockTime>((current_.seconds + start_seconds_) * GST_SECOND);
    }
    /// Of the samples of an image, as over_noise() wants it.
    double noise_of(GstBuffer* image) const {
        return s_.noise > 0 ? s_.noise : WindowSamples::kspace_of(image).noise;
    }
    static std::size_t values_per_frame(const ImageInfo& info) { return info.bytes() / sizeof(float); }

    Loaded load(const S& settings) const;
    static void warm_up(Loaded& loaded, const WindowShape& shape);
    void change_weights(const char* name);
    void load_beside();
    void refused(const std::string& weights, const std::string& why, const std::string& detail);
    void take_over(const ImageInfo& input, const ImageInfo* output);
    StructurePtr statistics();

    // State of the streaming thread, from start() to stop(); by_frame_ and recipe_ do not change in between, and the
    // loader reads them.
    S s_;
    Loaded current_;
    std::atomic<bool> by_frame_{false}; // the network of start(); the loader asks too
    std::optional<Overlap> overlap_;
    std::optional<Overlap> rests_; // likewise of residuals(): relative, rms
    std::optional<std::pair<std::size_t, std::size_t>>
        computed_; // series and start of the window in overlap_
    bool fresh_ = true;
    ImageInfo image_, output_;
    GstPtr<GstCaps> in_caps_;
    WindowShape shape_;
    std::vector<float> window_output_;
    GstClockTime frame_time_ = GST_CLOCK_TIME_NONE;
    std::optional<WindowStart> start_; // where k-space comes in
    StartRecipe recipe_;               // of it
    bool started_ = false;             // start_ has had a frame
    double start_seconds_ = 0;         // that it takes, of a live stream
    double last_start_ = 0;            // of frames taken since the last window of the network
    bool measure_ = false;             // the next window's time is the latency's: the network is new

    // The other threads' share. Nothing is called under either lock, and neither is taken under the other.
    std::mutex load_mutex_; // guards the six below
    bool running_ = false;  // between start() and stop()
    bool loading_ = false;  // loader_ is at work
    std::optional<S> wanted_;
    std::optional<Loaded> ready_;
    std::optional<Stream> stream_;
    std::thread loader_;
    std::mutex statistics_mutex_; // guards the three below
    Statistics statistics_;
    std::string in_use_; // weights of the network at work
    guint64 skipped_before_ = 0;
};

template <class Net, class S>
template <class Impl>
void NetworkElement<Net, S>::network_properties(Properties<Impl>& p) {
    using N = NetworkSettings;
    const std::string weights = S{}.weights;
    p.custom(
        g_param_spec_string(
            "weights", nullptr,
            "Weights file; a name without a folder is also looked for in GST_MRI_MODELS_PATH and among the "
            "installed ones; empty: the default. While playing, the new network takes over between two "
            "windows once it is loaded",
            weights.empty() ? nullptr : weights.c_str(), p.flags(Mutable::playing)),
        [](Impl& self, const GValue* v) { self.change_weights(g_value_get_string(v)); },
        [](Impl& self, GValue* v) { g_value_set_string(v, self.settings().weights.c_str()); });
    p.integer("window", "Frames computed together; 0: as many as the weights were trained on (20 if unsaid)",
              0, 1000, &N::window);
    p.integer("hop", "Frames from one window to the next; 0: the whole window", 0, 1000, &N::hop);
    p.choice("blend", "What becomes of frames that several windows hold (hop below window)", &N::blend,
             {{Blend::none, "none", "Each frame from one window, which holds it nearest to its centre"},
              {Blend::mean, "mean", "Mean over the windows"},
              {Blend::centre, "centre", "Mean that falls off towards the windows' edges"}});
    p.string("device", "cpu, cuda, cuda:N, or auto: cuda where there is a device", &N::device);
    p.choice("precision", "Arithmetic of the convolutions", &N::precision,
             {{Precision::automatic, "auto", "bfloat16 where the processor is faster with it"},
              {Precision::float32, "float32", "float32"},
              {Precision::bfloat16, "bfloat16", "bfloat16"}});
    p.integer("threads", "Threads; 0: one per core", 0, 1024, &N::threads);
    if constexpr (keeps_to_samples)
        p.real(
            "noise",
            "Standard deviation of the noise in a sample's real and imaginary part; 0: as the k-space's caps "
            "say (mriwhiten's do)",
            0, 1e30, &ConsistencySettings::noise);
    p.boolean("attach-input", "Attach the network's input as side data of role `input`", &N::attach_input);
    p.computed(
        g_param_spec_boxed(
            "statistics", nullptr,
            "Since the start: frames and windows computed, frames dropped (QoS) and changes of weights "
            "(swaps); "
            "milliseconds of loading, of warm-up, of each stage of a window on average (prepare: with the "
            "start from k-space), and of the longest window",
            GST_TYPE_STRUCTURE, p.readable()),
        [](Impl& self, GValue* v) { g_value_take_boxed(v, self.statistics().release()); });
}

template <class Net, class S>
auto NetworkElement<Net, S>::load(const S& settings) const -> Loaded {
    Loaded out;
    out.weights = settings.weights;
    const auto begin = Clock::now();
    out.network = std::make_unique<Net>(load_network(settings));
    out.load_seconds = seconds_since(begin);
    return out;
}

template <class Net, class S>
void NetworkElement<Net, S>::warm_up(Loaded& loaded, const WindowShape& shape) {
    if (loaded.warm == shape)
        return;
    const auto begin = Clock::now();
    loaded.seconds = loaded.network->warm_up(shape);
    loaded.warm_up_seconds = seconds_since(begin);
    loaded.warm = shape;
}

template <class Net, class S>
void NetworkElement<Net, S>::start() {
    {
        const std::lock_guard lock(load_mutex_);
        running_ = true; // a change of `weights` from here on is a change while running
    }
    s_ = this->settings();
    current_ = load(s_);
    by_frame_ = frame_by_frame(*current_.network);
    recipe_ = start_recipe(*current_.network);
    shape_ = {by_frame_ ? 1 : window_of(*current_.network, s_), 0, 0};
    if (shape_.frames == 1)
        s_.hop = 1; // whatever windows of more would have
    this->set_window(static_cast<std::size_t>(shape_.frames),
                     static_cast<std::size_t>(s_.hop > 0 ? s_.hop : shape_.frames),
                     s_.blend == Blend::none ? Emit::central : Emit::settled);
    {
        const std::lock_guard lock(statistics_mutex_);
        statistics_ = {};
        statistics_.load = current_.load_seconds;
        in_use_ = current_.weights;
        skipped_before_ = this->skipped();
    }
    MRI_INFO("%s: windows of %d frames, %s", s_.weights.c_str(), shape_.frames,
             current_.network->precision().c_str());
}

template <class Net, class S>
void NetworkElement<Net, S>::stop() {
    std::thread loader;
    {
        const std::lock_guard lock(load_mutex_);
        running_ = false; // from here on the loader publishes nothing
        wanted_.reset();
        stream_.reset();
        loader = std::move(loader_);
    }
    if (loader.joinable())
        loader.join();
    std::optional<Loaded> forgotten;
    {
        const std::lock_guard lock(load_mutex_);
        forgotten.swap(ready_);
    }
    current_ = {};
    overlap_.reset();
    rests_.reset();
    computed_.reset();
    in_caps_.reset();
    window_output_ = {};
    start_.reset();
    start_seconds_ = last_start_ = 0;
    frame_time_ = GST_CLOCK_TIME_NONE;
    this->set_timing(GST_CLOCK_TIME_NONE, 0);
}

template <class Net, class S>
void NetworkElement<Net, S>::set_caps(const GstCaps* caps) {
    start_.reset();
    started_ = false;
    start_seconds_ = last_start_ = 0;
    if (is_kspace(caps)) {
        const KspaceInfo in = KspaceInfo::from_caps(caps);
        // LibTorch may have a GPU that the gridding has not.
        const ComputeDevice device = s_.device == "cpu" ? ComputeDevice{} : device_for(*this, "auto");
        start_.emplace(in, start_kind(in), recipe_, static_cast<std::size_t>(shape_.frames), s_.threads,
                       device);
        image_ = start_->image();
        in_caps_ = image_.to_caps();
    } else {
        image_ = ImageInfo::from_caps(caps);
        in_caps_ = adopt(gst_caps_copy(caps));
    }
    take_over(image_, nullptr);
    output_ = made_by(*current_.network, image_);
    shape_.height = image_.height;
    shape_.width = image_.width;
    {
        const std::lock_guard lock(load_mutex_);
        stream_ = Stream{image_, output_, shape_};
    }
    new_series();
    // Here and not in start(), which does not know the images' size: what LibTorch does the first time
    // depends on it. No buffer enters before the caps' event has gone through, so none of them waits for this
    // inside the element, and neither the first frame's time nor the latency (of the last run alone) has it
    // in it.
    warm_up(current_, shape_);
    {
        const std::lock_guard lock(statistics_mutex_);
        statistics_.warm_up = current_.warm_up_seconds;
    }
    measure_ = false;
    const auto frames = static_cast<std::size_t>(shape_.frames);
    overlap_.emplace(frames, values_per_frame(output_), s_.blend);
    rests_.emplace(frames, 2, s_.blend);
    computed_.reset();
    window_output_.assign(frames * values_per_frame(output_), 0.0F);
    this->set_src_caps(output_.to_caps());
    frame_time_ = image_.framerate.duration();
    tell_timing();
}

template <class Net, class S>
void NetworkElement<Net, S>::flush() {
    if (start_)
        start_->flush();
    this->Windowed::flush();
}

/// Takes the time of a frame from its buffer where the caps do not say it.
template <class Net, class S>
void NetworkElement<Net, S>::time_frames(GstBuffer* buffer) {
    if (GST_CLOCK_TIME_IS_VALID(frame_time_) || !GST_BUFFER_DURATION_IS_VALID(buffer))
        return;
    frame_time_ = GST_BUFFER_DURATION(buffer);
    tell_timing();
}

template <class Net, class S>
void NetworkElement<Net, S>::check(GstBuffer* buffer) {
    time_frames(buffer);
    if (!start_) {
        image_.check_size(gst_buffer_get_size(buffer));
        check_frame(buffer);
        return;
    }
    if (!std::exchange(started_, true) && this->live()) {
        start_seconds_ = start_->measure(buffer);
        tell_timing();
    }
    const auto since = Clock::now();
    start_->take(buffer);
    last_start_ += seconds_since(since);
}

template <class Net, class S>
std::vector<GstPtr<GstBuffer>> NetworkElement<Net, S>::process(const Frames::Job& job) {
    take_over(image_, &output_);
    std::array<double, stages> times{};
    auto begin = Clock::now();
    const auto lap = [&](Stage stage) {
        times[stage] = seconds_since(begin);
        begin = Clock::now();
    };
    const std::pair window{job.series, job.start};
    const bool fresh = computed_ != window; // at its end a series may ask for the rest of a window once more
    if (fresh) {
        fresh_ = !computed_ || computed_->first != job.series;
        if (fresh_) {
            overlap_->reset();
            rests_->reset();
        }
        computed_.reset();
        if (start_)
            start_->make(job.items);
        prepare(job, start_ ? &*start_ : nullptr);
        lap(prepare_stage);
        times[prepare_stage] += std::exchange(last_start_, 0);
        compute(*current_.network, window_output_);
        lap(network_stage);
        overlap_->add(window_output_, job.start);
        if constexpr (keeps_to_samples) {
            std::vector<float> rests;
            for (const WindowOperator::Residual& rest : residuals())
                rests.insert(rests.end(), {static_cast<float>(rest.relative), static_cast<float>(rest.rms)});
            rests_->add(rests, job.start);
        }
        computed_ = window;
    }
    std::vector<GstPtr<GstBuffer>> out;
    for (std::size_t i = job.first; i < job.first + job.count; ++i) {
        auto buffer = this->new_output(job, i, output_.bytes());
        if (start_)
            start_->attach(buffer.get(), job.items[i].get());
        overlap_->frame(i, Mapped<float>(buffer.get()).span());
        if constexpr (keeps_to_samples) {
            // Of blended windows the mean of theirs, which the image's own is at most (triangle inequality).
            std::array<float, 2> rest{};
            rests_->frame(i, rest);
            add_consistency(buffer.get(), over_noise({rest[0], rest[1]}, noise_of(buffer.get())));
        }
        if (s_.attach_input) {
            const auto input = start_ ? start_->image_buffer(i, job.items[i].get()) : job.items[i];
            add_side(buffer.get(), Role::input, input.get(), in_caps_.get());
        }
        out.push_back(std::move(buffer));
    }
    lap(output_stage);
    {
        const std::lock_guard lock(statistics_mutex_);
        statistics_.frames += job.count;
        statistics_.windows += fresh ? 1 : 0;
        double sum = 0;
        for (std::size_t i = 0; i < stages; ++i) {
            statistics_.total[i] += times[i];
            sum += times[i];
        }
        statistics_.longest = std::max(statistics_.longest, sum);
    }
    if (fresh && std::exchange(measure_, false)) {
        current_.seconds = times[network_stage];
        tell_timing();
    }
    return out;
}

template <class Net, class S>
void NetworkElement<Net, S>::change_weights(const char* name) {
    this->change_settings([&](S& s) { s.weights = name && *name ? name : S{}.weights; });
    const S settings = this->settings();
    std::thread finished;
    std::optional<Loaded> forgotten; // loaded before and not taken yet: not wanted any more
    {
        const std::lock_guard lock(load_mutex_);
        if (!running_)
            return;
        wanted_ = settings;
        forgotten.swap(ready_);
        if (loading_)
            return;
        loading_ = true;
        finished = std::move(loader_);
        loader_ = std::thread([this] { load_beside(); });
    }
    if (finished.joinable())
        finished.join();
}

/// The loader's thread: loads what is wanted until nothing more is.
template <class Net, class S>
void NetworkElement<Net, S>::load_beside() {
    while (true) {
        S wanted;
        std::optional<Stream> stream;
        {
            const std::lock_guard lock(load_mutex_);
            if (!wanted_) {
                loading_ = false;
                return;
            }
            wanted = *std::exchange(wanted_, std::nullopt);
            stream = stream_;
        }
        try {
            Loaded loaded = load(wanted);
            if (stream) {
                check_same(made_by(*loaded.network, stream->input), stream->output);
                warm_up(loaded, stream->shape);
            }
            const std::lock_guard lock(load_mutex_);
            if (running_ && !wanted_)
                ready_ = std::move(loaded);
        } catch (const Error& e) {
            refused(wanted.weights, e.what(), e.detail());
        } catch (const std::exception& e) {
            refused(wanted.weights, "its network could not be loaded", e.what());
        }
    }
}

template <class Net, class S>
void NetworkElement<Net, S>::refused(const std::string& weights, const std::string& why,
                                     const std::string& detail) {
    {
        const std::lock_guard lock(load_mutex_);
        if (!running_)
            return;
    }
    std::string kept;
    {
        const std::lock_guard lock(statistics_mutex_);
        kept = in_use_;
    }
    this->change_settings([&](S& s) {
        if (s.weights == weights)
            s.weights = kept;
    });
    this->post_warning("The weights '" + weights + "' cannot be used, '" + kept + "' stay: " + why, detail);
}

/// Lets a network that was loaded beside the present one take its place, where it can go on with the stream:
/// with images of kind `input`, and `output` unless that is about to be decided.
template <class Net, class S>
void NetworkElement<Net, S>::take_over(const ImageInfo& input, const ImageInfo* output) {
    std::optional<Loaded> next;
    {
        const std::lock_guard lock(load_mutex_);
        next.swap(ready_);
    }
    if (!next)
        return;
    try {
        // The loader has done so already, unless the caps came meanwhile.
        const ImageInfo made = made_by(*next->network, input);
        if (output) {
            check_same(made, *output);
            warm_up(*next, shape_);
        }
    } catch (const Error& e) {
        refused(next->weights, e.what(), e.detail());
        return;
    }
    std::swap(current_, *next); // the old one is freed at the end, under no lock
    // The loader measured its window beside another one: the first window alone says what one costs.
    measure_ = true;
    {
        const std::lock_guard lock(statistics_mutex_);
        ++statistics_.swaps;
        statistics_.load = current_.load_seconds;
        statistics_.warm_up = current_.warm_up_seconds;
        in_use_ = current_.weights;
    }
    this->post_message(StructurePtr(
        gst_structure_new("mri-weights", "weights", G_TYPE_STRING, current_.weights.c_str(), "precision",
                          G_TYPE_STRING, current_.network->precision().c_str(), "load-milliseconds",
                          G_TYPE_DOUBLE, 1e3 * current_.load_seconds, "warm-up-milliseconds", G_TYPE_DOUBLE,
                          1e3 * current_.warm_up_seconds, nullptr)));
}

template <class Net, class S>
StructurePtr NetworkElement<Net, S>::statistics() {
    const guint64 skipped = this->skipped();
    const std::lock_guard lock(statistics_mutex_);
    const Statistics& s = statistics_;
    const double per_window = s.windows > 0 ? 1e3 / static_cast<double>(s.windows) : 0;
    return StructurePtr(gst_structure_new(
        "mri-network-statistics", "frames", G_TYPE_UINT64, s.frames, "windows", G_TYPE_UINT64, s.windows,
        "dropped", G_TYPE_UINT64, skipped - skipped_before_, "swaps", G_TYPE_UINT64, s.swaps,
        "load-milliseconds", G_TYPE_DOUBLE, 1e3 * s.load, "warm-up-milliseconds", G_TYPE_DOUBLE,
        1e3 * s.warm_up, "prepare-milliseconds", G_TYPE_DOUBLE, per_window * s.total[prepare_stage],
        "network-milliseconds", G_TYPE_DOUBLE, per_window * s.total[network_stage], "output-milliseconds",
        G_TYPE_DOUBLE, per_window * s.total[output_stage], "longest-milliseconds", G_TYPE_DOUBLE,
        1e3 * s.longest, nullptr));
}

} // namespace mri
