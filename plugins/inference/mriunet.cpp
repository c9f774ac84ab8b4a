// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mriunet
//
// De-aliases images with a residual 3D U-Net over windows of frames: one image out for each image in, with
// its time stamps and metas. Complex images count by their magnitude. The network's weights, its options and
// the way intensities are scaled come from the weights file; the scale of a series is fixed by its first
// window, so that the picture does not flicker.
//
// A window of `window` frames and a hop of h emits its central h frames; the first and the last window also
// emit their edges. A smaller hop costs more arithmetic and gives each frame more neighbours on both sides.
//
// Latency: a frame waits at worst for the `window` - 1 others of its window, plus the time of a window as
// measured when the caps come. Caps: application/x-mri-image, any format in; F32LE with one channel out.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=20 ! mrisim ! mriframer ! mrirecon ! mricrop ! mriunet ! fakesink
// ]|
#include "models/intensity.hpp"
#include "models/network.hpp"
#include "plugins/common/element.hpp"
#include "plugins/display/map_image.hpp"

#include <optional>
#include <vector>

namespace {

using namespace mri;

struct UnetSettings {
    std::string weights = "unet.safetensors";
    int window = 0;
    int hop = 0;
    std::string device = "cpu";
    Precision precision = Precision::automatic;
    int threads = 0;
    bool attach_input = false;
};

constexpr int usual_window = 20; // frames, where neither the property nor the weights say

class MriUnet : public Configured<Windowed, UnetSettings> {
  public:
    static constexpr ElementInfo info{"mriunet", "GstMriUnet", "MRI U-Net", "Filter/Effect/MRI",
                                      "De-aliases MR images with a residual 3D U-Net over windows of frames"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<MriUnet>& p) {
        using S = UnetSettings;
        p.string("weights",
                 "Weights file; a name without a folder is also looked for in GST_MRI_MODELS_PATH and among "
                 "the installed ones",
                 &S::weights);
        p.integer("window", "Frames computed together; 0: as many as the weights were trained on", 0, 1000,
                  &S::window);
        p.integer("hop", "Frames from one window to the next; 0: the whole window", 0, 1000, &S::hop);
        p.string("device", "cpu, cuda or cuda:N", &S::device);
        p.choice("precision", "Arithmetic of the convolutions", &S::precision,
                 {{Precision::automatic, "auto", "bfloat16 where the processor is faster with it"},
                  {Precision::float32, "float32", "float32"},
                  {Precision::bfloat16, "bfloat16", "bfloat16"}});
        p.integer("threads", "Threads; 0: one per core", 0, 1024, &S::threads);
        p.boolean("attach-input", "Attach the network's input as side data of role `input`",
                  &S::attach_input);
    }

  protected:
    void start() override;
    void stop() override;
    void set_caps(const GstCaps* caps) override;
    void check(GstBuffer* buffer) override;
    std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) override;

  private:
    // State of the streaming thread, from start() to stop().
    UnetSettings s_;
    std::optional<Network> network_;
    StreamScale scale_;
    ImageInfo image_;
    GstPtr<GstCaps> in_caps_;
    WindowShape shape_;
    std::optional<WindowShape> warm_; // the window that compute_ was measured with
    GstClockTime compute_ = 0;
    bool timed_ = false; // the latency is known
};

void MriUnet::start() {
    s_ = settings();
    network_ = Network::load(find_weights(s_.weights), {s_.device, s_.precision, s_.threads});
    shape_.frames = s_.window > 0 ? s_.window : network_->trained_frames().value_or(usual_window);
    set_window(static_cast<std::size_t>(shape_.frames),
               static_cast<std::size_t>(s_.hop > 0 ? s_.hop : shape_.frames));
    MRI_INFO("%s: %d filters, windows of %d frames, %s", s_.weights.c_str(), network_->unet().filters,
             shape_.frames, network_->precision().c_str());
}

void MriUnet::stop() {
    network_.reset();
    in_caps_.reset();
    warm_.reset();
    scale_.reset();
}

void MriUnet::set_caps(const GstCaps* caps) {
    image_ = ImageInfo::from_caps(caps);
    in_caps_ = adopt(gst_caps_copy(caps));
    shape_.height = image_.height;
    shape_.width = image_.width;
    scale_.reset();
    if (warm_ != shape_) {
        compute_ = static_cast<GstClockTime>(network_->warm_up(shape_) * GST_SECOND);
        warm_ = shape_;
    }
    ImageInfo out = image_;
    out.format = SampleFormat::f32;
    out.channels = 1;
    set_src_caps(out.to_caps());
    timed_ = image_.framerate.known();
    set_timing(image_.framerate.duration(), compute_);
}

void MriUnet::check(GstBuffer* buffer) {
    image_.check_size(gst_buffer_get_size(buffer));
    if (!timed_ && GST_BUFFER_DURATION_IS_VALID(buffer)) {
        timed_ = true;
        set_timing(GST_BUFFER_DURATION(buffer), compute_);
    }
}

std::vector<GstPtr<GstBuffer>> MriUnet::process(const Frames::Job& job) {
    std::vector<float> input;
    input.reserve(shape_.count());
    for (const auto& item : job.items) {
        const std::vector<float> frame = magnitude_of(item.get(), image_);
        input.insert(input.end(), frame.begin(), frame.end());
    }
    std::vector<float> output(shape_.count());
    network_->run(input, output, shape_, scale_.update(input, static_cast<std::size_t>(shape_.frames)));

    std::vector<GstPtr<GstBuffer>> out;
    for (std::size_t i = job.first; i < job.first + job.count; ++i) {
        GstBuffer* from = job.items[i].get();
        auto buffer = new_output(job, i, shape_.pixels() * sizeof(float));
        const auto first = output.begin() + static_cast<std::ptrdiff_t>(i * shape_.pixels());
        std::copy_n(first, shape_.pixels(), Mapped<float>(buffer.get()).data());
        if (s_.attach_input)
            add_side(buffer.get(), Role::input, from, in_caps_.get());
        out.push_back(std::move(buffer));
    }
    return out;
}

} // namespace

MRI_ELEMENT(mriunet, MriUnet)
