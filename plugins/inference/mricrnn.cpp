// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mricrnn
 *
 * De-aliases Cartesian cine with a convolutional recurrent network (Qin et al., IEEE TMI 2019) that returns
 * to the measured data after each of its iterations: one complex image out for each in, with its time stamps
 * and metas. It needs each image's k-space as side data (mrigrid attach-kspace=true combine=none), of one
 * coil, on the image's own Cartesian grid. Weights are a safetensors file or a state dict of PyTorch
 * before 1.6, such as the reference's published ones. Image and k-space are divided by one scale that is
 * fixed by the first window of a series.
 *
 * Latency: a frame waits at worst for the `window` - 1 others of its window, plus the time of a window as
 * measured when the caps come. Caps: application/x-mri-image, C64LE with one channel, in and out.
 *
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim trajectory=cartesian acceleration=4
 * ! mriframer ! mrigrid combine=none attach-kspace=true ! mricrnn weights=FILE ! fakesink
 * ]|
 */
#include "models/cartesian_grid.hpp"
#include "models/crnn.hpp"
#include "models/intensity.hpp"
#include "plugins/common/element.hpp"

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

namespace {

using namespace mri;

struct CrnnSettings {
    std::string weights;
    int window = 20;
    int hop = 0;
    int iterations = 5;
    double tau = std::numeric_limits<double>::infinity();
    std::string device = "cpu";
    Precision precision = Precision::automatic;
    int threads = 0;
    bool attach_input = false;
};

#define MRI_CRNN_CAPS                                                                                        \
    "application/x-mri-image, format=(string)C64LE, channels=(int)1, width=(int)[1,8192], "                  \
    "height=(int)[1,8192], "                                                                                 \
    "framerate=(fraction)[0/1,2147483647/1], series=(int)[0,2147483647]"

class MriCrnn : public Configured<Windowed, CrnnSettings> {
  public:
    static constexpr ElementInfo info{
        "mricrnn", "GstMriCrnn", "MRI CRNN", "Filter/Effect/MRI",
        "De-aliases Cartesian cine with a recurrent network and data consistency"};
    static constexpr const char* sink_caps = MRI_CRNN_CAPS;
    static constexpr const char* src_caps = MRI_CRNN_CAPS;
    static void properties(Properties<MriCrnn>& p) {
        using S = CrnnSettings;
        p.string(
            "weights",
            "Weights file; a name without a folder is also looked for in GST_MRI_MODELS_PATH and among the "
            "installed ones",
            &S::weights);
        p.integer("window", "Frames computed together", 1, 1000, &S::window);
        p.integer("hop", "Frames from one window to the next; 0: the whole window", 0, 1000, &S::hop);
        p.integer("iterations", "Passes of the network and of data consistency", 1, 1000, &S::iterations);
        p.real("tau",
               "Weight of the measured data against the network's, (k + tau k0) / (1 + tau); inf: measured "
               "data alone",
               0, std::numeric_limits<double>::infinity(), &S::tau);
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
    void measured_data(GstBuffer* buffer, std::span<cfloat> grid, std::span<float> mask) const;

    // State of the streaming thread, from start() to stop().
    CrnnSettings s_;
    std::optional<Crnn> network_;
    StreamScale scale_;
    ImageInfo image_;
    GstPtr<GstCaps> in_caps_;
    WindowShape shape_;
    std::optional<WindowShape> warm_; // the window that compute_ was measured with
    GstClockTime compute_ = 0;
    bool timed_ = false; // the latency is known
};

void MriCrnn::start() {
    s_ = settings();
    network_ = Crnn::load(find_weights(s_.weights), {s_.iterations, static_cast<float>(s_.tau)},
                          {s_.device, s_.precision, s_.threads});
    shape_.frames = s_.window;
    set_window(static_cast<std::size_t>(s_.window),
               static_cast<std::size_t>(s_.hop > 0 ? s_.hop : s_.window));
    MRI_INFO("%s: %d filters, %s", s_.weights.c_str(), network_->filters(), network_->precision().c_str());
}

void MriCrnn::stop() {
    network_.reset();
    in_caps_.reset();
    warm_.reset();
    scale_.reset();
}

void MriCrnn::set_caps(const GstCaps* caps) {
    image_ = ImageInfo::from_caps(caps);
    in_caps_ = adopt(gst_caps_copy(caps));
    shape_.height = image_.height;
    shape_.width = image_.width;
    scale_.reset();
    if (warm_ != shape_) {
        compute_ = static_cast<GstClockTime>(network_->warm_up(shape_) * GST_SECOND);
        warm_ = shape_;
    }
    set_src_caps(image_.to_caps());
    timed_ = image_.framerate.known();
    set_timing(image_.framerate.duration(), compute_);
}

void MriCrnn::check(GstBuffer* buffer) {
    image_.check_size(gst_buffer_get_size(buffer));
    if (!side_of(buffer, Role::kspace))
        throw Error(Errc::format, "An image came without its k-space, which data consistency needs "
                                  "(mrigrid attach-kspace=true attaches it)");
    if (!timed_ && GST_BUFFER_DURATION_IS_VALID(buffer)) {
        timed_ = true;
        set_timing(GST_BUFFER_DURATION(buffer), compute_);
    }
}

void MriCrnn::measured_data(GstBuffer* buffer, std::span<cfloat> grid, std::span<float> mask) const {
    GstSample* side = side_of(buffer, Role::kspace);
    const KspaceInfo kspace = KspaceInfo::from_caps(gst_sample_get_caps(side));
    GstBuffer* frame = gst_sample_get_buffer(side);
    if (kspace.trajectory != Trajectory::cartesian || kspace.coils != 1 || kspace.width != image_.width ||
        kspace.height != image_.height)
        throw Error(Errc::format, "Data consistency needs Cartesian k-space of one coil for an image of " +
                                      std::to_string(image_.width) + " x " + std::to_string(image_.height) +
                                      ", not " + to_string(kspace.trajectory) + " k-space of " +
                                      std::to_string(kspace.coils) + " coils for " +
                                      std::to_string(kspace.width) + " x " + std::to_string(kspace.height));
    const auto trajectory = trajectory_of(frame);
    if (!trajectory)
        throw Error(Errc::format,
                    "A k-space frame came without the positions of its samples (trajectory meta)");
    place_on_grid(Mapped<const cfloat>(frame).span(), trajectory->kxy, image_.width, image_.height, grid,
                  mask);
}

std::vector<GstPtr<GstBuffer>> MriCrnn::process(const Frames::Job& job) {
    std::vector<cfloat> input;
    std::vector<cfloat> grid(shape_.count());
    std::vector<float> mask(shape_.count());
    std::vector<float> magnitude;
    input.reserve(shape_.count());
    magnitude.reserve(shape_.count());
    for (std::size_t i = 0; i < job.items.size(); ++i) {
        const Mapped<const cfloat> frame(job.items[i].get());
        input.insert(input.end(), frame.span().begin(), frame.span().end());
        measured_data(job.items[i].get(), std::span(grid).subspan(i * shape_.pixels(), shape_.pixels()),
                      std::span(mask).subspan(i * shape_.pixels(), shape_.pixels()));
    }
    for (const cfloat value : input)
        magnitude.push_back(std::abs(value));
    const float scale = scale_.update(magnitude, static_cast<std::size_t>(shape_.frames));
    for (std::vector<cfloat>* values : {&input, &grid})
        for (cfloat& value : *values)
            value /= scale;
    std::vector<cfloat> output(shape_.count());
    network_->run(input, grid, mask, output, shape_);

    std::vector<GstPtr<GstBuffer>> out;
    for (std::size_t i = job.first; i < job.first + job.count; ++i) {
        auto buffer = new_output(job, i, shape_.pixels() * sizeof(cfloat));
        const Mapped<cfloat> to(buffer.get());
        for (std::size_t pixel = 0; pixel < shape_.pixels(); ++pixel)
            to[pixel] = output[i * shape_.pixels() + pixel] * scale;
        if (s_.attach_input)
            add_side(buffer.get(), Role::input, job.items[i].get(), in_caps_.get());
        out.push_back(std::move(buffer));
    }
    return out;
}

} // namespace

MRI_ELEMENT(mricrnn, MriCrnn)
