// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mritrain
//
// Trains a de-aliasing network on the images that it receives and the truth that rides on them (side data of
// mrisim). Frames are collected into windows; at the end of the stream the network is trained on them, and
// EOS is posted when that is done. With network=cascade it takes the truth alone (mridicomsrc, mriphantomsrc,
// mrisim's side data): each sample of the training is a piece of it, scanned anew by the same simulator and
// reconstructed as mrirecon does, with other spokes, noise, phase, pace and motion each time. `weights`
// receives the best weights on the validation windows, ready for mriunet or mricascade; `checkpoint` all that
// is needed to go on later with resume=true. Stopping the pipeline ends training within a second and keeps
// the checkpoint.
//
// While it trains it posts progress messages and, about once a second, an element message "mri-train" (step,
// steps, loss, learning-rate, seconds-per-step; after a validation also validation-loss, validation-psnr,
// validation-ssim, validation-psnr-moving), and at the end "mri-train-done".
//
// Latency: none, it is a sink. Caps: application/x-mri-image of any format; complex images count by their
// magnitude.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=40 ! mrisim ! mriframer ! mrirecon ! mricrop width=64 height=64 !
// mritrain weights=/tmp/mri-train-example.safetensors filters=4 patch=32 steps=4 validation=0.5
// ]|
#include "models/networks.hpp"
#include "models/training/trainer.hpp"
#include "plugins/common/element.hpp"
#include "plugins/common/image_buffers.hpp"
#include "plugins/math/base/text.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using namespace mri;

enum class NetworkInput { magnitude, difference_mean };

/// The options of training, whose defaults are those of TrainOptions, and what the element does with the stream.
struct TrainSettings : TrainOptions {
    TrainSettings() { weights = "unet.safetensors"; }

    std::string kept_blocks; ///< initial_blocks as text
    double validation = 0.1;
    guint64 validation_windows = 0;
    std::string validation_series;
    int window = 20;
    std::string spokes = fmt::format("{}-{}", scan.spokes_min, scan.spokes_max);
    std::string device = run.device;
    Precision precision = run.precision;
    int threads = run.threads;
    int filters = network.filters; ///< of the network that is trained, whichever it is
    double leak = network.leak;
    NetworkInput input = NetworkInput::difference_mean;

    /// With all that text and choices say. Throws Errc::settings.
    TrainOptions options() const;
};

constexpr int most_blocks = 100;

/// "3,10-15" as ranges; throws Errc::settings, naming the property.
std::vector<NumberRange> ranges_of(const char* property, const std::string& text) {
    auto ranges = parse_ranges(text);
    if (!ranges)
        throw Error(Errc::settings, std::string(property) +
                                        " must be numbers and ranges such as '3,10-15', not '" + text + "'");
    return std::move(*ranges);
}

TrainOptions TrainSettings::options() const {
    TrainOptions o = *this;
    training_of(o.kind).filters(o) = filters;
    o.network.leak = static_cast<float>(leak);
    o.network.mean_input = input == NetworkInput::difference_mean;
    o.run = {device, precision, threads};
    const std::vector<NumberRange> range = ranges_of("spokes", spokes);
    if (range.size() != 1)
        throw Error(Errc::settings, "spokes must be one range such as '6-15', not '" + spokes + "'");
    o.scan.spokes_min = range.front().first;
    o.scan.spokes_max = range.front().last;
    if (!kept_blocks.empty() && (o.kind != NetworkKind::cascade || o.initial.empty()))
        throw Error(Errc::settings, "initial-blocks are those of a cascade's initial-weights");
    for (const NumberRange& blocks : ranges_of("initial-blocks", kept_blocks)) {
        if (blocks.last >= most_blocks)
            throw Error(Errc::settings, fmt::format("initial-blocks are numbers below {}, not '{}'",
                                                    most_blocks, kept_blocks));
        for (int block = blocks.first; block <= blocks.last; ++block)
            o.initial_blocks.push_back(block);
    }
    return o;
}

class MriTrain : public Configured<Sink, TrainSettings> {
  public:
    static constexpr ElementInfo info{
        "mritrain", "GstMriTrain", "MRI network trainer", "Sink/MRI",
        "Trains a de-aliasing network on images and the truth that rides on them"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = nullptr;
    static void properties(Properties<MriTrain>& p);

  protected:
    bool start() override;
    void stop() override;
    void constructed() override {
        // It shows nothing, so there is no first picture to wait for before PAUSED is reached. Where there is
        // such a wait, GStreamer 1.22 can lose a change back to PLAYING that is asked for while the first
        // buffer arrives (fakesink too): the pipeline then stays paused and its EOS never comes.
        gst_base_sink_set_async_enabled(GST_BASE_SINK(gst()), FALSE);
        gst_pad_add_probe(GST_BASE_SINK_PAD(gst()), GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, hold_eos, this,
                          nullptr);
    }
    void set_caps(const GstCaps* caps) override;
    GstFlowReturn render(GstBuffer* buffer) override;
    void eos_without_buffers() override {} // begin() has said it
    void flush() override {
        end_worker();
        forget_window();
    }
    void unlock() override {
        const std::lock_guard lock(stop_mutex_);
        stop_.request_stop();
    }

  private:
    void ask_to_stop() {
        stop_asked_ = true;
        unlock();
    }
    static GstPadProbeReturn hold_eos(GstPad* pad, GstPadProbeInfo* info, gpointer self);
    void begin(GstPtr<GstEvent> eos);
    void train(std::stop_token stop);
    void end_worker();
    void forget_window();
    void finish_window();
    bool is_validation() const;
    void report(const TrainProgress& progress);

    // State of the streaming thread, from start() to stop().
    TrainSettings s_;
    std::vector<NumberRange> validation_ranges_;
    ImageInfo image_;
    std::vector<float> input_, truth_; // [frame][y][x] of the window that is filling
    int frames_ = 0;
    std::size_t windows_ = 0; // of all series, training and validation
    std::size_t short_ = 0;   // frames left over at the ends of series

    std::unique_ptr<Trainer> trainer_;
    std::thread worker_;                  // trains, from EOS on
    std::atomic<bool> abandoned_{false};  // nobody waits for its EOS any more
    std::atomic<bool> delivering_{false}; // it sends EOS itself
    std::atomic<bool> stop_asked_{false}; // by the property, for good until the next start()
    std::mutex stop_mutex_;               // guards stop_; nothing is called under it that locks
    std::stop_source stop_;               // of the worker that there is
};

/// Rows for values that lie deeper in the settings than its members: `reach` makes a reference to the value.
class DeepRows {
  public:
    explicit DeepRows(Properties<MriTrain>& p) : p_(p) {}

    void integer(const char* name, const char* blurb, int low, int high, int& (*reach)(TrainSettings&)) {
        TrainSettings preset;
        add(g_param_spec_int(name, nullptr, blurb, low, high, reach(preset), flags()), reach, g_value_get_int,
            g_value_set_int);
    }
    void boolean(const char* name, const char* blurb, bool& (*reach)(TrainSettings&)) {
        TrainSettings preset;
        add(g_param_spec_boolean(name, nullptr, blurb, reach(preset), flags()), reach, g_value_get_boolean,
            g_value_set_boolean);
    }
    /// The networks of the table that can be trained.
    void network(const char* name, const char* blurb, NetworkKind& (*reach)(TrainSettings&)) {
        std::vector<GEnumValue> values;
        for (const NetworkRow& row : networks)
            if (row.training)
                values.push_back({static_cast<gint>(row.training->kind), row.training->blurb, row.nick});
        const GType type = detail::register_enum(MriTrain::info.type_name + detail::camel_case(name), values);
        TrainSettings preset;
        add(g_param_spec_enum(name, nullptr, blurb, type, static_cast<gint>(reach(preset)), flags()), reach,
            g_value_get_enum, g_value_set_enum);
    }

  private:
    static GParamFlags flags() { return Properties<MriTrain>::flags(Mutable::ready); }
    template <class T, class Get, class Set>
    void add(GParamSpec* spec, T& (*reach)(TrainSettings&), Get get, Set set) {
        p_.custom(
            spec,
            [reach, get](MriTrain& self, const GValue* v) {
                self.change_settings([&](TrainSettings& s) { reach(s) = static_cast<T>(get(v)); });
            },
            [reach, set](MriTrain& self, GValue* v) {
                TrainSettings s = self.settings();
                set(v, static_cast<std::invoke_result_t<Get, const GValue*>>(reach(s)));
            });
    }
    Properties<MriTrain>& p_;
};

void MriTrain::properties(Properties<MriTrain>& p) {
    using S = TrainSettings;
    DeepRows deep(p);
    deep.network("network", "Network to train", [](S& s) -> NetworkKind& { return s.kind; });
    p.string(
        "initial-weights",
        "Weights file of the same network to begin with, unless training is resumed; a cascade may begin "
        "with those of one of fewer blocks, which are split, a causal one with those of a windowed one; "
        "empty: random weights",
        &S::initial);
    p.string(
        "initial-blocks",
        "network=cascade: which blocks of initial-weights to begin with, counted from 0, as '0-4,4,6-9': "
        "one that is named again at once is split, one that is not named is left out; empty: all, evenly "
        "split where there are fewer than `blocks`",
        &S::kept_blocks);
    p.string("weights", "File that receives the trained weights", &S::weights);
    p.string("checkpoint", "File that receives weights, optimiser state and step; empty: none",
             &S::checkpoint);
    p.custom(
        g_param_spec_boolean(
            "stop", nullptr,
            "Set to true, ends the training within a second: weights and checkpoint are written, "
            "EOS follows",
            FALSE, p.flags(Mutable::playing)),
        [](MriTrain& self, const GValue* v) {
            if (g_value_get_boolean(v))
                self.ask_to_stop();
        },
        [](MriTrain& self, GValue* v) { g_value_set_boolean(v, self.stop_asked_); });
    p.boolean("resume", "Go on from the checkpoint where it exists", &S::resume);
    p.unsigned_64("steps", "Steps of the optimiser; 0: as many as `epochs` gives", 0, G_MAXUINT64, &S::steps);
    p.real("epochs", "Passes over the training windows, one random crop of each", 0, 1e9, &S::epochs);
    p.real("time-limit", "End of training in seconds; 0: none", 0, 1e9, &S::time_limit);
    p.integer("batch", "Samples a step", 1, 4096, &S::batch);
    p.integer("patch", "Side of the random crops in pixels; 0: whole images", 0, max_side, &S::patch);
    p.integer("patch-frames", "Frames of the random crops; 0: whole windows", 0, 1000, &S::patch_frames);
    p.real("learning-rate", "Adam's learning rate at its highest", 1e-9, 10, &S::learning_rate);
    p.choice("schedule", "Course of the learning rate", &S::schedule,
             {{Schedule::cosine, "cosine", "Falls to 0 along half a cosine"},
              {Schedule::constant, "constant", "Stays"}});
    p.choice(
        "loss", "Loss function to minimise", &S::loss,
        {{Loss::mse, "mse", "Mean squared error"},
         {Loss::l1, "l1", "Mean absolute error"},
         {Loss::mixed, "mixed", "Mean absolute error and ten times the mean squared one"},
         {Loss::psnr, "psnr", "Logarithm of the mean squared error: the PSNR of each sample counts alike"},
         {Loss::ssim, "ssim", "1 - SSIM, per frame"}});
    p.real("clip", "Limit of the gradient's norm; 0: none", 0, 1e9, &S::clip);
    p.real("average",
           "Decay of a running average of the weights, which is then what counts, as 0.999; 0: the last ones",
           0, 0.999999, &S::average);
    p.boolean("augment", "Vary the samples: rotations by 90 degrees, mirror images, reversed time, intensity",
              &S::augment);
    p.real("validation", "Share of the windows that is kept for validation, evenly spread", 0, 1,
           &S::validation);
    p.unsigned_64(
        "validation-windows",
        "The first windows of the stream are kept for validation instead: so many (0: see validation)", 0,
        G_MAXUINT64, &S::validation_windows);
    p.string("validation-series", "Series (of the caps) that are kept for validation instead, as '3,10-15'",
             &S::validation_series);
    p.unsigned_64("validation-interval", "Steps between validations; 0: a twentieth of all", 0, G_MAXUINT64,
                  &S::validation_interval);
    p.unsigned_64("cache-size",
                  "Memory for training windows in bytes, and as much again at most for those of validation; "
                  "what is beyond it goes to a file",
                  0, G_MAXINT64, &S::cache_bytes);
    p.string("spill-folder", "Folder of that file", &S::spill_folder);
    p.string("device", "cpu, cuda, cuda:N, or auto: cuda where there is a device", &S::device);
    p.choice("precision", "Arithmetic of the convolutions; weights stay float32", &S::precision,
             {{Precision::automatic, "auto", "bfloat16 where the processor is faster with it"},
              {Precision::float32, "float32", "float32"},
              {Precision::bfloat16, "bfloat16", "bfloat16"}});
    p.integer("threads", "Threads; 0: one per core", 0, 1024, &S::threads);
    p.integer("window", "Frames that the network sees together", 4, 1000, &S::window);
    deep.integer("blocks", "network=cascade: blocks, each with its own weights", 1, most_blocks,
                 [](S& s) -> int& { return s.cascade.blocks; });
    deep.integer("layers", "network=cascade: convolutions of a block", 2, 100,
                 [](S& s) -> int& { return s.cascade.layers; });
    deep.boolean("causal", "network=cascade: sees past frames only, for mricascade frame by frame",
                 [](S& s) -> bool& { return s.cascade.causal; });
    p.string("spokes",
             "network=cascade: spokes of a frame that samples are scanned with, as '6-15', over the whole "
             "width; patches "
             "have proportionally fewer",
             &S::spokes);
    deep.integer("coils", "network=cascade: above 1, a fifth of the samples is scanned with so many coils", 1,
                 64, [](S& s) -> int& { return s.scan.coils; });
    p.integer("filters", "Filters of the network's first level", 1, 1024, &S::filters);
    deep.integer("convolutions", "network=unet: convolutions of each of its levels", 1, 4,
                 [](S& s) -> int& { return s.network.convolutions; });
    deep.integer("middle", "Filters of its second level; 0: twice `filters`", 0, 8192,
                 [](S& s) -> int& { return s.network.middle; });
    deep.integer("bottleneck", "Filters of its deepest level; 0: four times `filters`", 0, 8192,
                 [](S& s) -> int& { return s.network.bottleneck; });
    p.real("leak", "Slope of the activation below 0; 0 is ReLU", 0, 1, &S::leak);
    deep.boolean("up-relu", "Activation after the transposed convolutions too",
                 [](S& s) -> bool& { return s.network.up_relu; });
    p.choice("input", "What the network is given", &S::input,
             {{NetworkInput::difference_mean, "difference-mean",
               "The difference from the window's mean over time, and that mean"},
              {NetworkInput::magnitude, "magnitude", "The magnitude alone"}});
    p.unsigned_64("seed", "Seed of every random choice", 0, G_MAXUINT64, &S::seed);
    p.string("description", "Description of the training data, stored in the weights file", &S::description);
}

bool MriTrain::start() {
    s_ = settings();
    validation_ranges_ = ranges_of("validation-series", s_.validation_series);
    trainer_ = std::make_unique<Trainer>(s_.options());
    windows_ = 0;
    short_ = 0;
    stop_asked_ = false;
    forget_window();
    return true;
}

void MriTrain::stop() {
    end_worker();
    trainer_.reset();
    forget_window();
}

void MriTrain::forget_window() {
    frames_ = 0;
    input_.clear();
    truth_.clear();
}

void MriTrain::set_caps(const GstCaps* caps) {
    short_ += static_cast<std::size_t>(frames_);
    forget_window(); // a window never crosses from one series to the next
    image_ = ImageInfo::from_caps(caps);
    if (image_.width < 8 || image_.height < 8)
        throw Error(Errc::format, "Training needs images of at least 8 x 8 pixels");
}

/// Images as they come are truth where nothing else is wanted.
GstFlowReturn MriTrain::render(GstBuffer* buffer) {
    const bool truth_alone = training_of(s_.kind).scans_truth;
    GstSample* side = side_of(buffer, Role::truth);
    if (!side && !truth_alone)
        throw Error(Errc::format,
                    "An image without its truth cannot be trained on: nothing upstream attached the "
                    "truth as side data (mrisim does)");
    const ImageInfo truth_info = side ? ImageInfo::from_caps(gst_sample_get_caps(side)) : image_;
    if (truth_info.width != image_.width || truth_info.height != image_.height)
        throw Error(Errc::format, fmt::format("The truth is {} x {} and the image {} x {}", truth_info.width,
                                              truth_info.height, image_.width, image_.height));
    if (frames_ > 0 && GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT)) {
        short_ += static_cast<std::size_t>(frames_);
        forget_window();
    }
    const std::vector<float> truth = magnitude_of(side ? gst_sample_get_buffer(side) : buffer, truth_info);
    if (!truth_alone) {
        const std::vector<float> image = magnitude_of(buffer, image_);
        input_.insert(input_.end(), image.begin(), image.end());
    }
    truth_.insert(truth_.end(), truth.begin(), truth.end());
    if (++frames_ == s_.window)
        finish_window();
    return GST_FLOW_OK;
}

bool MriTrain::is_validation() const {
    if (!validation_ranges_.empty())
        return std::any_of(validation_ranges_.begin(), validation_ranges_.end(), [&](const NumberRange& r) {
            return image_.series >= r.first && image_.series <= r.last;
        });
    if (s_.validation_windows > 0)
        return windows_ < s_.validation_windows;
    // Window k is kept when the running share passes a whole number there: evenly spread, whatever comes.
    const auto k = static_cast<double>(windows_);
    return std::floor((k + 1) * s_.validation) > std::floor(k * s_.validation);
}

void MriTrain::finish_window() {
    trainer_->add(input_, truth_, {frames_, image_.height, image_.width}, is_validation());
    ++windows_;
    forget_window();
}

void MriTrain::report(const TrainProgress& p) {
    StructurePtr structure(gst_structure_new(
        "mri-train", "step", G_TYPE_UINT64, guint64{p.step}, "steps", G_TYPE_UINT64, guint64{p.steps},
        "fraction", G_TYPE_DOUBLE, p.fraction, "loss", G_TYPE_DOUBLE, p.loss, "learning-rate", G_TYPE_DOUBLE,
        p.learning_rate, "seconds-per-step", G_TYPE_DOUBLE, p.seconds_per_step, "saved", G_TYPE_BOOLEAN,
        gboolean{p.saved}, nullptr));
    char text[160];
    int used = std::snprintf(text, sizeof(text), "step %llu of %llu (%.0f %%), loss %.3g",
                             static_cast<unsigned long long>(p.step),
                             static_cast<unsigned long long>(p.steps), 100 * p.fraction, p.loss);
    if (p.validation) {
        const ValidationScore& v = *p.validation;
        gst_structure_set(structure.get(), "validation-loss", G_TYPE_DOUBLE, v.loss, "validation-psnr",
                          G_TYPE_DOUBLE, v.psnr, "validation-ssim", G_TYPE_DOUBLE, v.ssim,
                          "validation-psnr-moving", G_TYPE_DOUBLE, v.psnr_moving, nullptr);
        std::snprintf(text + used, sizeof(text) - static_cast<std::size_t>(used),
                      ", validation: PSNR %.2f dB, SSIM %.4f, moving %.2f dB%s", v.psnr, v.ssim,
                      v.psnr_moving, p.saved ? ", saved" : "");
    }
    post_message(std::move(structure));
    post_progress(GST_PROGRESS_TYPE_CONTINUE, "train", text);
    MRI_INFO("%s", text);
}

/// EOS waits at the door while the network is trained: pushing it would only return when training is done,
/// and with it would wait whoever wants to end the pipeline.
GstPadProbeReturn MriTrain::hold_eos(GstPad*, GstPadProbeInfo* info, gpointer self_) {
    auto& self = *static_cast<MriTrain*>(self_);
    GstEvent* event = gst_pad_probe_info_get_event(info);
    if (GST_EVENT_TYPE(event) != GST_EVENT_EOS || self.delivering_)
        return GST_PAD_PROBE_OK;
    auto eos = adopt(event);
    guarded(self, false, [&] { return self.begin(std::move(eos)), true; });
    return GST_PAD_PROBE_HANDLED;
}

void MriTrain::begin(GstPtr<GstEvent> eos) {
    // Stopped while the data were still coming, or a stream that broke off: there is nothing to keep.
    if (stop_asked_ || failed()) {
        delivering_ = true;
        gst_pad_send_event(GST_BASE_SINK_PAD(gst()), eos.release());
        delivering_ = false;
        return;
    }
    short_ += static_cast<std::size_t>(frames_);
    forget_window();
    if (short_ > 0)
        post_warning(
            fmt::format("{} frames were not trained on: they do not fill a window of {}", short_, s_.window));
    if (trainer_->windows() == 0)
        throw Error(
            Errc::settings,
            fmt::format("There is nothing to train on: the stream brought no whole window of {} frames{}",
                        s_.window, (windows_ > 0 ? " beside those kept for validation" : "")));
    post_progress(GST_PROGRESS_TYPE_START, "train",
                  fmt::format("training on {} windows, {} for validation", trainer_->windows(),
                              trainer_->validation_windows()));
    end_worker();
    abandoned_ = false;
    std::stop_token stop;
    {
        const std::lock_guard lock(stop_mutex_);
        stop_ = std::stop_source();
        stop = stop_.get_token();
        if (stop_asked_)
            stop_.request_stop();
    }
    worker_ = std::thread([this, stop, eos = std::move(eos)]() mutable {
        if (!guarded(*this, false, [&] { return train(stop), true; })) {
            post_progress(GST_PROGRESS_TYPE_ERROR, "train", "training failed");
            return;
        }
        // Not a plain lock: whoever waits for this thread in flush() holds it.
        GstPad* pad = GST_BASE_SINK_PAD(gst());
        while (!abandoned_) {
            if (GST_PAD_STREAM_TRYLOCK(pad)) {
                delivering_ = true;
                gst_pad_send_event(pad, eos.release());
                delivering_ = false;
                GST_PAD_STREAM_UNLOCK(pad);
                return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    });
}

void MriTrain::end_worker() {
    abandoned_ = true;
    unlock();
    if (worker_.joinable())
        worker_.join();
}

void MriTrain::train(std::stop_token stop) {
    const TrainResult result =
        trainer_->run([this](const TrainProgress& progress) { report(progress); }, std::move(stop));
    StructurePtr done(gst_structure_new("mri-train-done", "step", G_TYPE_UINT64, guint64{result.step},
                                        "finished", G_TYPE_BOOLEAN, gboolean{result.finished}, "loss",
                                        G_TYPE_DOUBLE, result.loss, "weights", G_TYPE_STRING,
                                        s_.weights.c_str(), nullptr));
    const auto put = [&done](const std::string& prefix, const std::optional<ValidationScore>& score) {
        if (score)
            gst_structure_set(done.get(), (prefix + "-psnr").c_str(), G_TYPE_DOUBLE, score->psnr,
                              (prefix + "-ssim").c_str(), G_TYPE_DOUBLE, score->ssim,
                              (prefix + "-psnr-moving").c_str(), G_TYPE_DOUBLE, score->psnr_moving, nullptr);
    };
    put("input", result.input);
    put("validation", result.validation);
    post_message(std::move(done));
    post_progress(result.finished ? GST_PROGRESS_TYPE_COMPLETE : GST_PROGRESS_TYPE_CANCELED, "train",
                  result.finished ? "training is done" : "training was stopped");
}

} // namespace

MRI_ELEMENT(mritrain, MriTrain)
