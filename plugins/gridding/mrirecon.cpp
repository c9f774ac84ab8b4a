// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mrirecon
 * @title: mrirecon
 *
 * Reconstructs frames together, a window of them at a time. method=background solves the window's static
 * background by conjugate gradients (all its frames together sample k-space densely when the trajectory
 * rotates) and adds to it what each frame measures beyond it, gridded: still parts lose their streaks, moving
 * ones stay. Coils are combined by sensitivities that the background gives. strip-limit trades the two: where
 * spokes lie further apart than that many cycles, the residual is filled in no further. At 1 streaks are
 * weakest, larger values follow motion more fully.
 *
 * method=tv is compressed sensing with the total variation along time (Feng et al., MRM 2014) and, for
 * several coils, the sensitivities that the background gives. The whole window agrees with the data; frames
 * are what threads share out. cycle=true links the last frame of a window to the first one, for series of one
 * heart cycle, reconstructed in one window. With lookahead=N the window slides: each frame comes out once N
 * others have come after it, solved together with up to window - 1 frames by slide-iterations steps that go
 * on from the last solution. At N = 0 that is causal; 2 follow motion about 1 dB better.
 *
 * method=sense solves each frame by itself with the coils' sensitivities (CG-SENSE, Pruessmann et al., MRM
 * 2001): it follows motion fully and takes from the window the sensitivities, averaged over some 32 frames,
 * and what it starts from. Windows may be as short as one frame, then without latency.
 *
 * Reference lines of Cartesian frames (role calibration, of parallel imaging) give the sensitivities, in place of the
 * background. Where the lines of a window together leave regular gaps, its background would be aliased: with
 * reference lines and combine=adaptive method=background then solves each frame as method=sense does, and both start
 * from the reference lines' image, scaled to the frame. Without them a warning says that images are aliased.
 *
 * A window of one frame, as a series of one frame is, has no background but that frame: method=background makes its
 * own gridded image (density ramp or file, without the clipping that blurs few readouts), or that of method=sense as
 * above. An element message mri-reconstruction says in its field method which (gridding or sense), once a series.
 *
 * A window of T frames and a hop of h emits its central h frames; the first and the last window also emit
 * their edges; a series shorter than T is padded by repeating its edge frames. Each frame comes out once,
 * with its time stamps and metas.
 *
 * device=auto computes the transforms on an NVIDIA GPU where there is one; the iterations around them stay on
 * the processor.
 *
 * attach-gridded puts the plain gridded image (role gridded), attach-kspace the frame itself (role kspace),
 * attach-sensitivities the coils' sensitivities (role sensitivities: a complex image of one channel a coil)
 * onto the image as side data.
 *
 * Latency: window - 1 frames, or lookahead; in a live pipeline plus the time that a window takes to compute,
 * measured on the first frame.
 *
 * Caps: application/x-mri-kspace, alignment=frame, in; application/x-mri-image out: C64LE with one channel
 * (adaptive) or one a coil (combine=none), F32LE with one channel for combine=rss.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc frames=20 width=96 height=96 ! mrisim spokes=9 ! mriframer ! mrirecon !
 * fakesink
 * ]|
 * |[
 * gst-launch-1.0 mriphantomsrc frames=20 width=96 height=96 ! mrisim spokes=9 ! mriframer ! mrirecon
 * method=tv window=8 lookahead=2 ! fakesink
 * ]|
 */
#include "plugins/common/device_property.hpp"
#include "plugins/common/image_watch.hpp"
#include "plugins/gridding/window_images.hpp"

#include <algorithm>
#include <deque>
#include <fmt/format.h>
#include <optional>

namespace mri {
namespace {

struct MriReconSettings : WindowImages::Options {
    int window = 20;
    int hop = 0;
    int lookahead = -1;
    std::string device = "auto";
    BadImage on_bad_image = BadImage::mark;
};

class MriRecon : public Configured<Windowed, MriReconSettings> {
  public:
    static constexpr ElementInfo info{"mrirecon", "GstMriRecon", "MRI window reconstruction",
                                      "Filter/Converter/MRI",
                                      "Reconstructs windows of k-space frames together"};
    static constexpr const char* sink_caps = MRI_KSPACE_FRAME_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_CAPS;

    static void properties(Properties<MriRecon>& p) {
        using S = MriReconSettings;
        p.choice(
            "method", "Reconstruction method", &S::method,
            {{WindowMethod::background, "background", "Static background and gridded residual"},
             {WindowMethod::sense, "sense", "Each frame by the coils' sensitivities, iteratively (CG-SENSE)"},
             {WindowMethod::temporal_variation, "tv",
              "Images that agree with the data and vary little along time, with the coils' sensitivities"}});
        p.integer("window", "Frames reconstructed together", 1, 1000, &S::window);
        p.integer("hop", "Frames from one window to the next (0: the whole window)", 0, 1000, &S::hop);
        p.integer("iterations", "Conjugate gradient steps for the background", 1, 100, &S::iterations);
        p.integer("tv-iterations", "method=tv: steps; many more amplify noise in unsampled k-space", 1, 1000,
                  &S::tv_iterations);
        p.real("lambda",
               "method=tv: weight of the variation, in units of the background's 99.5th percentile; raise it "
               "for noisy data",
               0, 1, &S::lambda);
        p.integer("sense-iterations", "method=sense: conjugate gradient steps of each frame", 1, 1000,
                  &S::sense_iterations);
        p.real("l2",
               "method=sense: weight of the squared distance from the start, against a data term with "
               "eigenvalues around 1; raise it for noisy data",
               0, 1000, &S::l2);
        p.choice("start", "method=sense: start of a frame, and what l2 pulls towards", &S::from_background,
                 {{false, "zero", "Nothing"}, {true, "background", "The window's static background"}});
        p.boolean("cycle", "method=tv: the first frame of a window follows its last, as in a heart cycle",
                  &S::cycle);
        p.integer("lookahead",
                  "method=tv: slide frame by frame; a frame is sent once this many later ones have arrived "
                  "(-1: separate windows, by hop)",
                  -1, 999, &S::lookahead);
        p.integer("slide-iterations", "method=tv with lookahead: steps for each new frame", 1, 1000,
                  &S::slide_iterations);
        p.choice("combine", "Combination of the coils' images", &S::combine,
                 {{Combine::none, "none", "None: one channel a coil"},
                  {Combine::rss, "rss", "Root of the sum of squares"},
                  {Combine::adaptive, "adaptive", "Complex, by sensitivities from the background"}});
        p.choice("density", "Area of k-space that a sample stands for", &S::density,
                 {{Density::ramp, "ramp", "By the trajectory"},
                  {Density::clipped, "clipped",
                   "By the trajectory, at most a strip of strip-limit cycles: fewer streaks"},
                  {Density::file, "file", "As stored with the data"}});
        p.real("strip-limit",
               "density=clipped: the widest strip of k-space that a sample stands for, in cycles per field "
               "of view",
               0.1, 1000, &S::strip_limit);
        p.string("device", device_blurb, &S::device);
        p.real("tolerance", "Relative error of the transform", 1e-6, 1e-1, &S::tolerance);
        p.integer("threads",
                  "Threads (0: one per core), which share out the coils, or for method=tv the frames", 0, 256,
                  &S::threads);
        add_bad_image(p, &S::on_bad_image);
        p.boolean("attach-gridded", "Attach the plain gridded image to the image as side data",
                  &S::attach_gridded);
        p.boolean("attach-kspace", "Attach the k-space frame to the image as side data", &S::attach_kspace);
        p.boolean("attach-sensitivities",
                  "combine=adaptive: attach the coils' sensitivities to the image as side data",
                  &S::attach_sensitivities);
    }

  protected:
    void start() override {
        settings_ = settings();
        check_attached(settings_.attach_sensitivities, settings_.combine);
        device_ = device_for(*this, settings_.device);
        if (settings_.lookahead < 0) {
            set_window(settings_.window, settings_.hop > 0 ? settings_.hop : settings_.window);
            return;
        }
        if (settings_.method != WindowMethod::temporal_variation || settings_.hop > 0 || settings_.cycle)
            throw Error(Errc::settings, "lookahead is for method=tv, without hop and without cycle");
        if (settings_.lookahead >= settings_.window)
            throw Error(Errc::settings, fmt::format("A lookahead of {} does not fit a window of {} frames",
                                                    settings_.lookahead, settings_.window));
        set_window(settings_.lookahead + 1, 1, Emit::settled);
    }

    void stop() override {
        images_.reset();
        forget_history();
        plane_.forget();
        set_timing(GST_CLOCK_TIME_NONE, 0);
    }

    void set_caps(const GstCaps* caps) override {
        in_ = KspaceInfo::from_caps(caps);
        forget_history();
        plane_.forget();
        images_.emplace(in_, settings_, device_);
        watch_.begin(settings_.on_bad_image);
        timed_ = false;
        set_src_caps(images_->image().to_caps());
        set_timing(in_.framerate.duration(), 0);
    }

    void check(GstBuffer* buffer) override {
        const KspaceFrame frame(buffer, in_);
        if (std::exchange(timed_, true))
            return;
        GstClockTime duration = in_.framerate.duration();
        if (!GST_CLOCK_TIME_IS_VALID(duration))
            duration = GST_BUFFER_DURATION(buffer);
        images_->calibrate(buffer);
        set_timing(duration, live() ? measure(frame) : 0);
    }

    std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) override {
        // What earlier windows showed belongs to their plane.
        if (plane_.moved(job.items[job.first].get()))
            forget_history();
        auto images = settings_.lookahead < 0 ? images_->window(job) : slid(job);
        tell();
        for (const auto& image : images)
            watch_.look(*this, image.get());
        return images;
    }

  private:
    void tell() {
        const auto told = images_->take_told();
        if (!told.warning.empty())
            post_warning(told.warning);
        if (!told.method.empty())
            post_message(StructurePtr(gst_structure_new("mri-reconstruction", "method", G_TYPE_STRING,
                                                        told.method.c_str(), nullptr)));
    }

    std::size_t index_of(const GstPtr<GstBuffer>& buffer) const {
        return static_cast<std::size_t>(
            std::find_if(history_.begin(), history_.end(),
                         [&](const auto& known) { return known.get() == buffer.get(); }) -
            history_.begin());
    }

    void forget_history() {
        history_.clear();
        series_.reset();
        if (images_)
            images_->forget();
    }

    std::vector<GstPtr<GstBuffer>> slid(const Frames::Job& job) {
        slide(job);
        return images_->emit(job, [&](std::size_t i) { return index_of(job.items[i]); });
    }

    // The window goes on to the frames of the job that it has not had yet.
    void slide(const Frames::Job& job) {
        if (series_ != job.series)
            forget_history();
        series_ = job.series;
        std::size_t fresh = 0;
        for (const auto& item : job.items)
            if (index_of(item) == history_.size()) {
                history_.push_back(item);
                ++fresh;
            }
        if (fresh == 0)
            return;
        while (history_.size() > static_cast<std::size_t>(settings_.window))
            history_.pop_front();
        images_->slide(history_, fresh);
    }

    GstClockTime measure(const KspaceFrame& frame) {
        const bool sliding = settings_.lookahead >= 0;
        const int emitted = sliding ? 1 : settings_.hop > 0 ? settings_.hop : settings_.window;
        return images_->measure(frame, settings_.window, emitted, sliding);
    }

    // Streaming thread, between start() and stop().
    MriReconSettings settings_;
    ComputeDevice device_;
    KspaceInfo in_;
    std::optional<WindowImages> images_;
    PlaneWatch plane_;
    ImageWatch watch_;
    bool timed_ = false;
    // Sliding: the frames of the window, oldest first, and which series they are of.
    std::deque<GstPtr<GstBuffer>> history_;
    std::optional<std::size_t> series_;
};

} // namespace
} // namespace mri

MRI_ELEMENT(mrirecon, mri::MriRecon)
