// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mricrop
//
// Cuts a rectangle out of each image, and the same one out of the images that ride with it (truth, network
// input, gridded frame, the coils' sensitivities). `mode=centre` takes the middle: pixel N/2 stays pixel N/2.
// `mode=motion` takes the surroundings of what moves, as a rule the heart: the centre of mass of the temporal
// standard deviation over the first `window` frames of a series. The rectangle then stays where it is until
// the series changes, so that the picture does not wander. It never leaves the image. k-space that rides with
// an image stays that of the whole field of view. The position that an image's readouts tell moves with its
// centre.
//
// Latency: none for `centre`; for `motion` the first `window` frames of a series are held until the last of
// them came. Caps: application/x-mri-image in and out, any format and number of channels; width, height and
// field of view shrink.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=30 ! mricrop mode=motion width=96 height=96 ! fakesink
// ]|
#include "plugins/common/element.hpp"
#include "plugins/common/image_buffers.hpp"
#include "plugins/math/image/crop.hpp"

#include <optional>
#include <vector>

namespace {

using namespace mri;

enum class CropMode { centre, motion };

struct CropSettings {
    CropMode mode = CropMode::centre;
    int width = 128;
    int height = 128;
    int window = 20;
};

std::size_t element_size(const ImageInfo& info) {
    return info.format == SampleFormat::c64 ? sizeof(cfloat) : sizeof(float);
}

ImageInfo cropped(ImageInfo info, const CropBox& box) {
    info.fov_x *= static_cast<double>(box.width) / info.width;
    info.fov_y *= static_cast<double>(box.height) / info.height;
    info.width = box.width;
    info.height = box.height;
    return info;
}

GstPtr<GstBuffer> crop_buffer(GstBuffer* buffer, const ImageInfo& info, const CropBox& box) {
    info.check_size(gst_buffer_get_size(buffer));
    const Mapped<const std::byte> in(buffer);
    auto out = new_buffer<std::byte>(cropped(info, box).bytes());
    const Mapped<std::byte> to(out.get());
    crop(in.span(), info.width, info.height, info.channels, element_size(info), box, to.span());
    return out;
}

class MriCrop : public Configured<Regroup, CropSettings> {
  public:
    static constexpr ElementInfo info{
        "mricrop", "GstMriCrop", "MRI crop", "Filter/Converter/MRI",
        "Cuts out the centre of an image or the surroundings of the moving heart"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_CAPS;
    static void properties(Properties<MriCrop>& p) {
        p.choice("mode", "Position of the rectangle", &CropSettings::mode,
                 {{CropMode::centre, "centre", "In the middle of the image"},
                  {CropMode::motion, "motion", "Around the moving heart in the first frames of a series"}});
        p.integer("width", "Largest width in pixels; 0 keeps the image's", 0, max_side, &CropSettings::width);
        p.integer("height", "Largest height in pixels; 0 keeps the image's", 0, max_side,
                  &CropSettings::height);
        p.integer("window", "Frames of a series that mode=motion holds back and measures", 2, 1000,
                  &CropSettings::window);
    }

  protected:
    void stop() override {
        held_.clear();
        motion_.reset();
        box_.reset();
        maps_.reset();
        cut_maps_.reset();
    }
    void set_caps(const GstCaps* caps) override;
    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override;
    GstFlowReturn drain() override { return release(); }
    void flush() override {
        held_.clear();
        if (motion_)
            motion_.emplace(image_.width, image_.height);
    }
    std::optional<GstClockTime> latency() override;

  private:
    GstPtr<GstBuffer> cut(GstBuffer* buffer);
    void move_place(GstBuffer* buffer) const;
    GstPtr<GstSample> cut_side(GstSample* side) const;
    GstFlowReturn release();

    // State of the streaming thread; a series lasts from one set_caps() to the next.
    ImageInfo image_;
    std::optional<CropBox> box_;         // once it is known
    std::optional<MotionCentre> motion_; // while it is being found
    std::vector<GstPtr<GstBuffer>> held_;
    GstPtr<GstSample> maps_, cut_maps_; // the last sensitivities: many frames share them, and share them cut
    std::atomic<GstClockTime> frame_{GST_CLOCK_TIME_NONE}; // for latency(), asked from any thread
};

void MriCrop::set_caps(const GstCaps* caps) {
    const CropSettings s = settings();
    image_ = ImageInfo::from_caps(caps);
    box_.reset();
    maps_.reset();
    motion_.reset();
    const CropBox centre = centre_box(image_.width, image_.height, s.width, s.height);
    if (s.mode == CropMode::centre)
        box_ = centre;
    else
        motion_.emplace(image_.width, image_.height);
    frame_ = image_.framerate.duration();
    set_src_caps(cropped(image_, centre).to_caps());
    update_latency();
}

GstFlowReturn MriCrop::chain(GstPtr<GstBuffer> buffer) {
    if (box_)
        return push(cut(buffer.get()));
    image_.check_size(gst_buffer_get_size(buffer.get()));
    motion_->add(magnitude_of(buffer.get(), image_));
    if (!GST_CLOCK_TIME_IS_VALID(frame_.load()) && GST_BUFFER_DURATION_IS_VALID(buffer.get())) {
        frame_ = GST_BUFFER_DURATION(buffer.get());
        update_latency();
    }
    held_.push_back(std::move(buffer));
    return motion_->frames() < settings().window ? GST_FLOW_OK : release();
}

/// Fixes the rectangle from the frames seen so far and pushes those that waited for it.
GstFlowReturn MriCrop::release() {
    if (held_.empty())
        return GST_FLOW_OK;
    const CropSettings s = settings();
    const auto [x, y] = motion_->centre();
    box_ = box_around(x, y, image_.width, image_.height, s.width, s.height);
    MRI_INFO("the motion of %d frames is centred on %.1f, %.1f: %dx%d at %d, %d", motion_->frames(), x, y,
             box_->width, box_->height, box_->x, box_->y);
    motion_.reset();
    for (GstPtr<GstBuffer>& buffer : std::exchange(held_, {})) {
        const GstFlowReturn flow = push(cut(buffer.get()));
        if (flow != GST_FLOW_OK)
            return flow;
    }
    return GST_FLOW_OK;
}

GstPtr<GstBuffer> MriCrop::cut(GstBuffer* buffer) {
    auto out = crop_buffer(buffer, image_, *box_);
    copy_metas(out.get(), buffer);
    move_place(out.get());
    for (const Role role : {Role::truth, Role::input, Role::gridded, Role::sensitivities}) {
        GstSample* side = side_of(buffer, role);
        if (!side)
            continue;
        GstPtr<GstSample> part;
        if (role != Role::sensitivities) {
            part = cut_side(side);
        } else {
            if (maps_.get() != side) {
                cut_maps_ = cut_side(side);
                maps_ = retain(side);
            }
            part = cut_maps_;
        }
        if (!part)
            continue;
        remove_side(out.get(), role);
        add_side(out.get(), role, part.get());
    }
    return out;
}

/// Moves the place that the readouts tell, that of the pixel at index n/2, to the centre of the rectangle.
void MriCrop::move_place(GstBuffer* buffer) const {
    const auto given = readouts_of(buffer);
    const auto shift = [](int first, int size, int whole, double fov) {
        return static_cast<float>((first + size / 2 - whole / 2) * fov / whole);
    };
    const float x = shift(box_->x, box_->width, image_.width, image_.fov_x);
    const float y = shift(box_->y, box_->height, image_.height, image_.fov_y);
    if (given.empty() || (x == 0 && y == 0))
        return;
    std::vector<Readout> readouts(given.begin(), given.end());
    for (Readout& readout : readouts)
        for (std::size_t i = 0; i < 3; ++i)
            readout.position[i] += x * readout.read_dir[i] + y * readout.phase_dir[i];
    add_readouts(buffer, std::move(readouts));
}

/// Nothing of an image of its own size: our rectangle means nothing there.
GstPtr<GstSample> MriCrop::cut_side(GstSample* side) const {
    const ImageInfo side_info = ImageInfo::from_caps(gst_sample_get_caps(side));
    if (side_info.width != image_.width || side_info.height != image_.height)
        return {};
    GstBuffer* whole = gst_sample_get_buffer(side);
    auto part = crop_buffer(whole, side_info, *box_);
    copy_metas(part.get(), whole);
    move_place(part.get());
    return adopt(gst_sample_new(part.get(), cropped(side_info, *box_).to_caps().get(), nullptr, nullptr));
}

std::optional<GstClockTime> MriCrop::latency() {
    const CropSettings s = settings();
    if (s.mode == CropMode::centre)
        return GstClockTime{0};
    const GstClockTime frame = frame_;
    if (!GST_CLOCK_TIME_IS_VALID(frame))
        return std::nullopt;
    return frame * static_cast<GstClockTime>(s.window - 1);
}

} // namespace

MRI_ELEMENT(mricrop, MriCrop)
