// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mrigrid
 * @title: mrigrid
 *
 * Turns each frame of k-space into an image: density compensation, adjoint non-uniform Fourier transform (or,
 * for Cartesian frames, the FFT of the encoded field of view, the rim cut off), combination of the coils.
 *
 * Scale: with density=ramp a fully sampled frame comes back at the scale of the object, whatever the number
 * of spokes or the oversampling of the readout; density=none is the plain adjoint. For trajectories other
 * than radial the ramp is found by iteration (Pipe and Menon), once for each new trajectory. With
 * combine=adaptive sensitivities come from a running average of the frames, which a new series or a moved
 * imaging plane resets.
 *
 * device=cuda computes on an NVIDIA GPU; when there is none, that is an error before the first buffer.
 * device=auto takes one where there is one.
 *
 * background=N, for trajectories that rotate, keeps a running mean of the last N frames and adds each
 * frame's residual to it: still parts lose their streaks at once, and nothing waits for later frames. A new series,
 * lost data or a moved imaging plane resets the mean. density has no effect with background. With combine=adaptive
 * sensitivities come from the background. mrirecon does better where whole windows of frames may be awaited.
 *
 * Lines of Cartesian frames that were not measured are zero. Where they leave regular gaps the images are aliased,
 * and a warning says so, once a series. Reference lines (role calibration) give combine=adaptive its sensitivities;
 * mrirecon unfolds with them.
 *
 * attach-kspace puts the frame onto the image as side data (role kspace), for networks that keep to the data.
 * With combine=adaptive attach-sensitivities puts the coils' sensitivities there too (role sensitivities): a
 * complex image of one channel a coil, the same buffer from frame to frame until they change. Each coil saw
 * sensitivity times image.
 *
 * Latency: none beyond its computing time.
 *
 * Caps: application/x-mri-kspace, alignment=frame, in; application/x-mri-image out: C64LE with one channel a
 * coil (combine=none) or one in all (adaptive), F32LE with one channel for combine=rss.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc frames=4 width=96 height=96 ! mrisim spokes=13 coils=4 ! mriframer ! mrigrid !
 * fakesink
 * ]|
 */
#include "plugins/common/device_property.hpp"
#include "plugins/common/image_watch.hpp"
#include "plugins/gridding/frame_images.hpp"

#include <optional>
#include <string>

namespace mri {
namespace {

struct MriGridSettings : FrameImages::Options {
    std::string device = "auto";
    BadImage on_bad_image = BadImage::mark;
};

class MriGrid : public Configured<Transform, MriGridSettings> {
  public:
    static constexpr ElementInfo info{"mrigrid", "GstMriGrid", "MRI gridding", "Filter/Converter/MRI",
                                      "Turns each frame of k-space into an image"};
    static constexpr const char* sink_caps = MRI_KSPACE_FRAME_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_CAPS;

    static void properties(Properties<MriGrid>& p) {
        using S = MriGridSettings;
        p.choice("combine", "Combination of the coils' images", &S::combine,
                 {{Combine::none, "none", "None: one channel a coil"},
                  {Combine::rss, "rss", "Root of the sum of squares"},
                  {Combine::adaptive, "adaptive", "Complex, by estimated sensitivities"}});
        p.choice("density", "Area of k-space that a sample stands for", &S::density,
                 {{Density::ramp, "ramp", "By the trajectory"},
                  {Density::clipped, "clipped",
                   "By the trajectory, at most a strip one cycle wide: fewer streaks"},
                  {Density::none, "none", "No weight, no scale"},
                  {Density::file, "file", "As stored with the data"}});
        p.integer("background",
                  "Frames that a running background averages; each frame adds its own residual to it (0: no "
                  "background)",
                  0, 1000, &S::background);
        p.string("device",
                 "Device: cpu, cuda, cuda:N (an NVIDIA GPU), auto (a GPU where there is one); Cartesian "
                 "frames always run on the processor",
                 &S::device);
        p.real("tolerance", "Relative error of the transform", 1e-6, 1e-1, &S::tolerance);
        p.integer("threads", "Threads (0: one per core), which share out the coils", 0, 256, &S::threads);
        add_bad_image(p, &S::on_bad_image);
        p.boolean("attach-kspace", "Attach the k-space frame to the image as side data", &S::attach_kspace);
        p.boolean("attach-sensitivities",
                  "combine=adaptive: attach the coils' sensitivities to the image as side data",
                  &S::attach_sensitivities);
    }

  protected:
    bool start() override {
        settings_ = settings();
        check_attached(settings_.attach_sensitivities, settings_.combine);
        device_ = device_for(*this, settings_.device);
        return true;
    }

    void stop() override { frames_.reset(); }

    GstPtr<GstCaps> transform_caps(GstPadDirection direction, GstCaps* caps) override {
        const auto combine = settings().combine;
        const bool down = direction == GST_PAD_SINK;
        auto result = adopt(gst_caps_new_empty());
        for (guint i = 0; i < gst_caps_get_size(caps); ++i) {
            const GstStructure* from = gst_caps_get_structure(caps, i);
            auto one = adopt(gst_caps_from_string(!down                     ? MRI_KSPACE_FRAME_CAPS
                                                  : combine == Combine::rss ? MRI_IMAGE_F32_CAPS
                                                                            : MRI_IMAGE_C64_CAPS));
            GstStructure* to = gst_caps_get_structure(one.get(), 0);
            for (const char* field : {"width", "height", "fov-x", "fov-y", "framerate", "series"})
                if (const GValue* value = gst_structure_get_value(from, field))
                    gst_structure_set_value(to, field, value);
            const char* count = down ? "coils" : "channels";
            if (combine != Combine::none && down)
                gst_structure_set(to, "channels", G_TYPE_INT, 1, nullptr);
            else if (const GValue* value = gst_structure_get_value(from, count);
                     value && combine == Combine::none)
                gst_structure_set_value(to, down ? "channels" : "coils", value);
            gst_caps_append(result.get(), one.release());
        }
        return result;
    }

    void set_caps(const GstCaps* in, const GstCaps*) override {
        frames_.emplace(KspaceInfo::from_caps(in), settings_, device_);
        watch_.begin(settings_.on_bad_image);
    }

    void event(GstEvent* event) override {
        if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_STOP && frames_)
            frames_->forget();
    }

    std::size_t output_size(GstBuffer*) override { return frames_->image().bytes(); }

    void transform(GstBuffer* in, GstBuffer* out) override {
        frames_->reconstruct(in, out);
        watch_.look(*this, out);
        if (const std::string text = frames_->take_warning(); !text.empty())
            post_warning(text);
    }

  private:
    // Streaming thread, between start() and stop().
    MriGridSettings settings_;
    ComputeDevice device_;
    std::optional<FrameImages> frames_;
    ImageWatch watch_;
};

} // namespace
} // namespace mri

MRI_ELEMENT(mrigrid, mri::MriGrid)
