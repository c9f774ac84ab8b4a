// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/inference/network_element.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/files/weights.hpp"

#include "plugins/common/device_property.hpp"
#include "plugins/common/provenance.hpp"

#include <array>
#include <utility>

namespace mri {

namespace {

constexpr int usual_window = 20; // frames, where neither the property nor the weights say

/// Frames that a network for windows takes together.
int window_of(const AnyNetwork& network, const NetworkSettings& settings) {
    return settings.window > 0 ? settings.window : trained_frames(network.metadata()).value_or(usual_window);
}

void check_same(const ImageInfo& made, const ImageInfo& wanted) {
    if (made != wanted)
        throw Error(Errc::format, "it makes images of another kind than the network at work");
}

} // namespace

NetworkElement::NetworkElement()
    : loader_([this](LoadedNetwork& network, const WeightsLoader::Stream& stream) { fit(network, stream); },
              [this](const std::string& weights, const std::string& why, const std::string& detail) {
                  refused(weights, why, detail);
              }) {}

bool NetworkElement::explains(const GstCaps* caps) {
    const auto taken = adopt(gst_pad_get_pad_template_caps(sink_pad()));
    const auto first = adopt(gst_caps_copy_nth(taken.get(), 0));
    return is_kspace(first.get()) && is_kspace(caps);
}

void NetworkElement::start() {
    loader_.start(); // a change of `weights` from here on is a change while running
    const Taken taken = take_settings();
    settings_ = taken.settings;
    noise_ = taken.noise;
    current_ = taken.load();
    tell_choice();
    told_provenance_ = false;
    by_frame_ = current_.by_frame;
    recipe_ = current_.recipe;
    shape_ = {by_frame_ ? 1 : window_of(*current_.network, settings_), 0, 0};
    if (shape_.frames == 1)
        settings_.hop = 1; // whatever windows of more would have
    set_window(static_cast<std::size_t>(shape_.frames),
               static_cast<std::size_t>(settings_.hop > 0 ? settings_.hop : shape_.frames),
               settings_.blend == Blend::none ? Emit::central : Emit::settled);
    statistics_.start(current_, skipped());
    MRI_INFO("%s: windows of %d frames, %s", settings_.weights.c_str(), shape_.frames,
             current_.network->precision().c_str());
}

void NetworkElement::stop() {
    loader_.stop();
    current_ = {};
    output_images_.reset();
    in_caps_.reset();
    start_.reset();
    start_seconds_ = last_start_ = 0;
    frame_time_ = GST_CLOCK_TIME_NONE;
    set_timing(GST_CLOCK_TIME_NONE, 0);
}

void NetworkElement::set_caps(const GstCaps* caps) {
    start_.reset();
    started_ = false;
    start_seconds_ = last_start_ = 0;
    if (is_kspace(caps)) {
        const KspaceInfo in = KspaceInfo::from_caps(caps);
        // LibTorch may have a GPU that the gridding has not.
        const ComputeDevice device = settings_.device == "cpu" ? ComputeDevice{} : device_for(*this, "auto");
        const StartKind kind = starts_gridded(in) ? StartKind::gridded
                               : by_frame_        ? StartKind::running
                                                  : StartKind::windows;
        start_.emplace(in, kind, recipe_, static_cast<std::size_t>(shape_.frames), settings_.threads, device);
        image_ = start_->image();
        in_caps_ = image_.to_caps();
    } else {
        image_ = ImageInfo::from_caps(caps);
        in_caps_ = adopt(gst_caps_copy(caps));
    }
    take_over(image_, nullptr);
    output_ = made_by(current_, image_);
    shape_.height = image_.height;
    shape_.width = image_.width;
    loader_.set_stream({image_, output_, shape_});
    new_series();
    // Here and not in start(), which does not know the images' size: what LibTorch does the first time
    // depends on it. No buffer enters before the caps' event has gone through, so none of them waits for this
    // inside the element, and neither the first frame's time nor the latency (of the last run alone) has it
    // in it.
    current_.warm_up(shape_);
    statistics_.warmed_up(current_.warm_up_seconds);
    measure_ = false;
    output_images_.emplace(static_cast<std::size_t>(shape_.frames), output_, settings_.blend, noise_);
    watch_.begin(settings_.on_bad_image);
    set_src_caps(output_.to_caps());
    frame_time_ = image_.framerate.duration();
    tell_timing();
}

void NetworkElement::flush() {
    if (start_)
        start_->flush();
    Windowed::flush();
}

/// What came before is told together with the network, before the next images.
bool NetworkElement::event(GstEvent* event) {
    if (!provenance_of(event))
        return true;
    told_provenance_ = false;
    return false;
}

void NetworkElement::tell_provenance() {
    if (std::exchange(told_provenance_, true))
        return;
    Provenance provenance = provenance_at(sink_pad());
    const GstElementFactory* factory = gst_element_get_factory(gst());
    provenance.networks.push_back((factory ? std::string(GST_OBJECT_NAME(factory)) + ", " : std::string()) +
                                  current_.identity);
    gst_pad_push_event(src_pad(), new_provenance_event(provenance).release());
}

bool NetworkElement::leaves_late_out() const {
    return !by_frame_ || (GST_CLOCK_TIME_IS_VALID(frame_time_) && compute_time() > frame_time_);
}

GstClockTime NetworkElement::compute_time() const {
    return static_cast<GstClockTime>((current_.seconds + start_seconds_) * GST_SECOND);
}

/// Takes the time of a frame from its buffer where the caps do not say it.
void NetworkElement::time_frames(GstBuffer* buffer) {
    if (GST_CLOCK_TIME_IS_VALID(frame_time_) || !GST_BUFFER_DURATION_IS_VALID(buffer))
        return;
    frame_time_ = GST_BUFFER_DURATION(buffer);
    tell_timing();
}

void NetworkElement::check(GstBuffer* buffer) {
    time_frames(buffer);
    if (!start_) {
        image_.check_size(gst_buffer_get_size(buffer));
        check_frame(buffer);
        return;
    }
    if (!std::exchange(started_, true) && live()) {
        start_seconds_ = start_->measure(buffer);
        tell_timing();
    }
    const auto since = std::chrono::steady_clock::now();
    start_->take(buffer);
    last_start_ += seconds_since(since);
}

std::vector<GstPtr<GstBuffer>> NetworkElement::process(const Frames::Job& job) {
    take_over(image_, &output_);
    tell_provenance();
    NetworkStatistics::Times times{};
    auto begin = std::chrono::steady_clock::now();
    const auto lap = [&](NetworkStatistics::Stage stage) {
        times[stage] = seconds_since(begin);
        begin = std::chrono::steady_clock::now();
    };
    const bool computed = !output_images_->holds(job);
    if (computed) {
        fresh_ = output_images_->begin(job);
        if (start_)
            make_start(job);
        prepare(job, start_ ? &*start_ : nullptr);
        lap(NetworkStatistics::prepare_stage);
        times[NetworkStatistics::prepare_stage] += std::exchange(last_start_, 0);
        compute_with(*current_.network, output_images_->window());
        lap(NetworkStatistics::network_stage);
        output_images_->add(job, residuals());
    }
    auto out = frames_of(job);
    lap(NetworkStatistics::output_stage);
    statistics_.add(job.count, computed, times);
    if (computed && std::exchange(measure_, false)) {
        current_.seconds = times[NetworkStatistics::network_stage];
        tell_timing();
    }
    return out;
}

void NetworkElement::make_start(const Frames::Job& job) {
    start_->make(job.items);
    if (const std::string text = start_->take_warning(); !text.empty())
        post_warning(text);
}

/// Largest value of the image that frame `index` of the window began with.
float NetworkElement::largest_input(std::size_t index, GstBuffer* item) const {
    if (!start_)
        return largest_value(Mapped<const float>(item).span());
    const auto image = start_->images().subspan(index * image_.pixels(), image_.pixels());
    return largest_value({reinterpret_cast<const float*>(image.data()), 2 * image.size()});
}

/// Buffers of the frames that the job asks for, out of the window that was computed.
std::vector<GstPtr<GstBuffer>> NetworkElement::frames_of(const Frames::Job& job) {
    std::vector<GstPtr<GstBuffer>> out;
    for (std::size_t i = job.first; i < job.first + job.count; ++i) {
        auto buffer = new_output(job, i, output_.bytes());
        if (start_)
            start_->attach(buffer.get(), job.items[i].get());
        output_images_->write(i, buffer.get());
        watch_.look(*this, buffer.get(),
                    keeps_scale() ? std::optional(largest_input(i, job.items[i].get())) : std::nullopt);
        if (settings_.attach_input) {
            const auto input = start_ ? start_->image_buffer(i, job.items[i].get()) : job.items[i];
            add_side(buffer.get(), Role::input, input.get(), in_caps_.get());
        }
        out.push_back(std::move(buffer));
    }
    return out;
}

/// Warns where the weights' file holds others too.
void NetworkElement::tell_choice() {
    const auto& metadata = current_.network->metadata();
    const auto others = metadata.find(other_state_dicts_key);
    if (others == metadata.end())
        return;
    const auto taken = metadata.find(state_dict_key);
    post_warning("The weights '" + current_.weights + "' are those under '" +
                     (taken == metadata.end() ? std::string() : taken->second) +
                     "'; the file holds others under " + others->second,
                 "mri-weights convert makes a file of the weights that are taken");
}

/// output_of() a network that may take the place of the one of start().
ImageInfo NetworkElement::made_by(const LoadedNetwork& network, const ImageInfo& input) const {
    if (network.by_frame != by_frame_)
        throw Error(Errc::settings, "a network for windows and one for single frames cannot take each "
                                    "other's place while playing");
    if (network.recipe.background_frames != recipe_.background_frames)
        throw Error(Errc::settings,
                    "its start averages another number of frames than that of the network at work");
    return output_of(*network.network, input);
}

/// Warms up a network that is to go on with the stream; throws where it cannot. Also in the loader's thread.
void NetworkElement::fit(LoadedNetwork& network, const WeightsLoader::Stream& stream) const {
    check_same(made_by(network, stream.input), stream.output);
    network.warm_up(stream.shape);
}

/// Says that weights cannot be used, and that those at work stay. Also in the loader's thread.
void NetworkElement::refused(const std::string& weights, const std::string& why, const std::string& detail) {
    const std::string kept = statistics_.weights();
    put_back_weights(weights, kept);
    post_warning("The weights '" + weights + "' cannot be used, '" + kept + "' stay: " + why, detail);
}

/// Lets a network that was loaded beside the present one take its place, where it can go on with the stream:
/// with images of kind `input`, and `output` unless that is about to be decided.
void NetworkElement::take_over(const ImageInfo& input, const ImageInfo* output) {
    std::optional<LoadedNetwork> next = loader_.take();
    if (!next)
        return;
    try {
        // The loader has done so already, unless the caps came meanwhile.
        if (output)
            fit(*next, {input, *output, shape_});
        else
            made_by(*next, input);
    } catch (const Error& e) {
        refused(next->weights, e.what(), e.detail());
        return;
    }
    std::swap(current_, *next); // the old one is freed at the end, under no lock
    told_provenance_ = false;
    // The loader measured its window beside another one: the first window alone says what one costs.
    measure_ = true;
    statistics_.swapped(current_);
    tell_choice();
    post_message(StructurePtr(
        gst_structure_new("mri-weights", "weights", G_TYPE_STRING, current_.weights.c_str(), "precision",
                          G_TYPE_STRING, current_.network->precision().c_str(), "load-milliseconds",
                          G_TYPE_DOUBLE, 1e3 * current_.load_seconds, "warm-up-milliseconds", G_TYPE_DOUBLE,
                          1e3 * current_.warm_up_seconds, nullptr)));
}

} // namespace mri
