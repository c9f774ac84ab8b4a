// SPDX-License-Identifier: LGPL-2.1-or-later
// The base of the networks' elements. An element adds its network and the network's input:
//
//     struct MyCrnnSettings : mri::NetworkSettings { int iterations = 5; };
//
//     class MyCrnn : public mri::NetworkElementOf<mri::Crnn, MyCrnnSettings> {
//       public:
//         static constexpr mri::ElementInfo info{...};   static constexpr const char* sink_caps = ...
//         static void properties(mri::Properties<MyCrnn>& p) {
//             network_properties(p);
//             p.integer("iterations", ..., &MyCrnnSettings::iterations);
//         }
//       protected:
//         mri::Crnn load_network(const MyCrnnSettings& s) const override;
//         // buffers -> members
//         void prepare(const Frames::Job& job, const mri::WindowStart* start) override;
//         // members -> window of images
//         void compute(mri::Crnn& network, std::span<float> output) override;
//     };
//
// The network class needs warm_up(WindowShape) -> seconds, metadata() and precision(), and must be movable.
#pragma once

#include "plugins/common/element.hpp"
#include "plugins/inference/image_output.hpp"
#include "plugins/inference/loaded_network.hpp"
#include "plugins/inference/network_settings.hpp"
#include "plugins/inference/network_statistics.hpp"
#include "plugins/inference/weights_identity.hpp"
#include "plugins/inference/weights_loader.hpp"
#include "plugins/inference/window_samples.hpp"
#include "plugins/inference/window_start.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace mri {

/// All that does not depend on the network's type; elements derive from NetworkElementOf.
///
/// Takes images; an element whose sink caps hold k-space frames beside them gets the images that it starts from
/// made of those (window_start.hpp), as if they had come in.
///
/// Setting `weights` while the element runs loads and warms up the new network in a thread of its own, beside
/// the one at work; between two windows it takes over, and an element message "mri-weights" says so. A file
/// that cannot be used is a warning on the bus, and all stays as it was.
class NetworkElement : public Windowed {
  protected:
    NetworkElement();

    // ---- what an element adds, beside that of NetworkElementOf

    /// Whether k-space frames of this kind begin as mrigrid makes each by itself; the others begin with a
    /// background, as mrirecon or mrigrid makes it.
    virtual bool starts_gridded(const KspaceInfo&) const { return false; }
    /// Of an element that takes k-space (first in its template), what is wrong with other k-space gets a
    /// sentence of set_caps().
    bool explains(const GstCaps* caps) override;
    /// Checks an image of the right size on entry; throws.
    virtual void check_frame(GstBuffer*) {}
    /// New caps: what is kept along a series is forgotten.
    virtual void new_series() {}
    /// Reads the window into members: from its images, or, where k-space frames come in, from the start that
    /// was made of them.
    virtual void prepare(const Frames::Job& job, const WindowStart* start) = 0;
    /// Whether the images that come out have the scale of those that go in.
    virtual bool keeps_scale() const { return true; }
    /// With ConsistencySettings: what each frame of the window last computed leaves of its samples, rms in
    /// the unit of a sample.
    virtual std::span<const WindowOperator::Residual> residuals() const { return {}; }

    // ---- for it; streaming thread, from start() to stop()

    const ImageInfo& image() const noexcept { return image_; }
    /// The window of input images.
    const WindowShape& shape() const noexcept { return shape_; }
    /// In compute(): nothing of this series was computed before.
    bool fresh() const noexcept { return fresh_; }

    // ---- for NetworkElementOf

    /// Other weights are wanted than those at work; does nothing unless the element runs.
    void want(const std::string& weights, WeightsLoader::Load load) {
        loader_.want(weights, std::move(load));
    }
    StructurePtr statistics() const { return statistics_.structure(skipped()); }

  public:
    void start() final;
    void stop() final;
    void set_caps(const GstCaps* caps) final;
    void flush() final;
    bool event(GstEvent* event) override;

  protected:
    void check(GstBuffer* buffer) final;
    std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) final;
    /// A network that goes on from frame to frame needs each of them, and catches up; one that takes longer
    /// than a frame lasts never would.
    bool leaves_late_out() const final;

    /// Settings in effect, from start() to stop().
    struct Taken {
        NetworkSettings settings;
        std::optional<double> noise; ///< of ConsistencySettings
        WeightsLoader::Load load;
    };

  private:
    // ---- of NetworkElementOf

    /// In start(): takes the settings.
    virtual Taken take_settings() = 0;
    /// Sets `weights` to `kept`, unless they were set to others than the refused ones meanwhile. Any thread.
    virtual void put_back_weights(const std::string& refused, const std::string& kept) = 0;
    /// output_info() of a network. Also called in the loader's thread.
    virtual ImageInfo output_of(const AnyNetwork& network, const ImageInfo& input) const = 0;
    virtual void compute_with(AnyNetwork& network, std::span<float> output) = 0;

    // ---- how

    ImageInfo made_by(const LoadedNetwork& network, const ImageInfo& input) const;
    void fit(LoadedNetwork& network, const WeightsLoader::Stream& stream) const;
    void refused(const std::string& weights, const std::string& why, const std::string& detail);
    void take_over(const ImageInfo& input, const ImageInfo* output);
    void tell_choice();
    void time_frames(GstBuffer* buffer);
    void tell_provenance();
    void tell_timing() { set_timing(frame_time_, compute_time()); }
    GstClockTime compute_time() const;
    void make_start(const Frames::Job& job);
    float largest_input(std::size_t index, GstBuffer* item) const;
    std::vector<GstPtr<GstBuffer>> frames_of(const Frames::Job& job);

    // State of the streaming thread, from start() to stop(). by_frame_ and recipe_ do not change from the time that
    // loader_ knows a stream until stop(), and its thread reads them (fit()).
    NetworkSettings settings_;
    std::optional<double> noise_; // the setting, of an element that keeps to samples
    LoadedNetwork current_;
    bool by_frame_ = false; // the network of start()
    StartRecipe recipe_;    // likewise
    std::optional<ImageOutput> output_images_;
    ImageWatch watch_;
    bool fresh_ = true;
    ImageInfo image_, output_;
    GstPtr<GstCaps> in_caps_;
    WindowShape shape_;
    GstClockTime frame_time_ = GST_CLOCK_TIME_NONE;
    std::optional<WindowStart> start_; // where k-space comes in
    bool started_ = false;             // start_ has had a frame
    double start_seconds_ = 0;         // that it takes, of a live stream
    double last_start_ = 0;            // of frames taken since the last window of the network
    bool told_provenance_ = false;     // downstream knows of the network at work
    bool measure_ = false;             // the next window's time is the latency's: the network is new

    // The other threads' share, each with its own lock: neither is called under the other's.
    NetworkStatistics statistics_;
    WeightsLoader loader_;
};

/// `S` derives from NetworkSettings or ConsistencySettings.
template <class Net, class S>
class NetworkElementOf : public Configured<NetworkElement, S> {
  protected:
    template <class Impl>
    static void network_properties(Properties<Impl>& p);

    /// Loads the network that the settings name. Also called in a thread of its own: uses its argument alone.
    virtual Net load_network(const S& settings) const = 0;
    /// Whether it computes each frame from those before it, and not windows. Also called in the loader's
    /// thread.
    virtual bool frame_by_frame(const Net&) const { return false; }
    /// The images that the network makes of these; throws Errc::format where it cannot take them. Also called
    /// in the loader's thread.
    virtual ImageInfo output_info(const Net&, const ImageInfo& input) const { return input; }
    /// The recipe that the network was trained with. Also called in the loader's thread.
    virtual StartRecipe start_recipe(const Net&) const { return {}; }
    /// Computes the window: `output` is [frames] of the output's pixels, complex ones as two numbers.
    virtual void compute(Net& network, std::span<float> output) = 0;

    /// Streaming thread, from start() to stop().
    const S& s() const noexcept { return s_; }

  private:
    WeightsLoader::Load load_of(const S& settings) const {
        return [this, settings] {
            LoadedNetwork out;
            out.weights = settings.weights;
            out.identity = weights_identity(settings.weights);
            const auto begin = std::chrono::steady_clock::now();
            auto box = std::make_unique<NetworkBox<Net>>(load_network(settings));
            out.load_seconds = seconds_since(begin);
            out.by_frame = frame_by_frame(box->network);
            out.recipe = start_recipe(box->network);
            out.network = std::move(box);
            return out;
        };
    }
    void change_weights(const char* name) {
        this->change_settings([&](S& s) { s.weights = name && *name ? name : S{}.weights; });
        const S settings = this->settings();
        this->want(settings.weights, load_of(settings));
    }
    NetworkElement::Taken take_settings() final {
        s_ = this->settings();
        NetworkElement::Taken out{s_, std::nullopt, load_of(s_)};
        if constexpr (std::is_base_of_v<ConsistencySettings, S>)
            out.noise = s_.noise;
        return out;
    }
    void put_back_weights(const std::string& refused, const std::string& kept) final {
        this->change_settings([&](S& s) {
            if (s.weights == refused)
                s.weights = kept;
        });
    }
    ImageInfo output_of(const AnyNetwork& network, const ImageInfo& input) const final {
        return output_info(static_cast<const NetworkBox<Net>&>(network).network, input);
    }
    void compute_with(AnyNetwork& network, std::span<float> output) final {
        compute(static_cast<NetworkBox<Net>&>(network).network, output);
    }

    S s_;
};

template <class Net, class S>
template <class Impl>
void NetworkElementOf<Net, S>::network_properties(Properties<Impl>& p) {
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
    add_settings(p);
    p.computed(
        g_param_spec_boxed(
            "statistics", nullptr,
            "Since the start: frames and windows computed, frames dropped (QoS) and changes of weights "
            "(swaps); milliseconds of loading, of warm-up, of each stage of a window on average (prepare: "
            "with the "
            "start from k-space), and of the longest window",
            GST_TYPE_STRUCTURE, p.readable()),
        [](Impl& self, GValue* v) { g_value_take_boxed(v, self.statistics().release()); });
}

} // namespace mri
