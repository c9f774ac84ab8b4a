// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mriunet
//
// De-aliases images with a residual 3D U-Net over windows of frames: one image out for each image in, with
// its time stamps and metas. Complex images count by their magnitude. The network's weights, its options and
// the way intensities are scaled come from the weights file; the scale of a series is fixed by its first
// window, so that the picture does not flicker.
//
// A window of `window` frames and a hop of h emits its central h frames; the first and the last window also
// emit their edges. A smaller hop costs more arithmetic and gives each frame more neighbours on both sides;
// `blend` then takes a mean over all windows that hold a frame instead of the one in whose middle it is.
//
// `weights` may be set while playing: the new network is loaded and warmed up beside the old one and takes
// over between two windows; an element message "mri-weights" reports it. A file that cannot be used is a warning
// and changes nothing. `statistics` has counts and times.
//
// With the weights of a causal U-Net (models/causal_unet/causal_unet.hpp; the file says which it holds) there are no
// windows: each frame is sent at once, computed from itself and earlier ones, and `window`, `hop` and `blend`
// have no effect. A new series, lost data or a flush clears the memory. It expects the images of mrigrid
// background=20, which come frame by frame too.
//
// Latency: a frame waits at worst for the `window` - 1 others of its window, plus the time of a window as
// measured when the caps come. Caps: application/x-mri-image, any format in; F32LE with one channel out.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=20 ! mrisim ! mriframer ! mrirecon ! mricrop ! mriunet ! fakesink
// ]|
//
// Frame by frame:
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=20 ! mrisim ! mriframer ! mrigrid background=20 ! mricrop !
// mriunet weights=causal-unet.safetensors ! fakesink
// ]|
#include "models/causal_unet/causal_unet.hpp"
#include "models/common/intensity.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/unet/unet.hpp"
#include "plugins/common/image_buffers.hpp"
#include "plugins/inference/network_element.hpp"

#include <variant>

namespace {

using namespace mri;

struct UnetSettings : NetworkSettings {
    UnetSettings() { weights = "unet.safetensors"; }
};

/// One of the two kinds of network that a weights file of this element may hold.
class UnetOfEitherKind {
  public:
    UnetOfEitherKind(const std::string& path, const RunOptions& options) : network_(load(path, options)) {}

    /// Frame by frame, not in windows.
    bool causal() const { return std::holds_alternative<CausalUnet>(network_); }
    double warm_up(const WindowShape& shape) {
        return std::visit([&](auto& network) { return network.warm_up(shape); }, network_);
    }
    const std::map<std::string, std::string>& metadata() const {
        return std::visit(
            [](const auto& n) -> const std::map<std::string, std::string>& { return n.metadata(); },
            network_);
    }
    std::string precision() const {
        return std::visit([](const auto& network) { return network.precision(); }, network_);
    }
    /// `fresh`: the frames begin a series. `scale` is asked where the network needs one.
    void run(std::span<const float> input, std::span<float> output, const WindowShape& shape, bool fresh,
             StreamScale& scale) {
        if (auto* network = std::get_if<CausalUnet>(&network_)) {
            if (fresh)
                network->reset();
            network->run(input, output, shape);
        } else {
            std::get<Unet>(network_).run(input, output, shape,
                                         scale.update(input, static_cast<std::size_t>(shape.frames)));
        }
    }

  private:
    using Either = std::variant<Unet, CausalUnet>;
    static Either load(const std::string& path, const RunOptions& options) {
        const TensorFile file = read_weights(path);
        if (network_of(file) == causal_unet_kind)
            return CausalUnet(file, path, options);
        return Unet(file, path, options);
    }

    Either network_;
};

class MriUnet : public NetworkElementOf<UnetOfEitherKind, UnetSettings> {
  public:
    static constexpr ElementInfo info{"mriunet", "GstMriUnet", "MRI U-Net", "Filter/Effect/MRI",
                                      "De-aliases MR images with a residual 3D U-Net over windows of frames"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<MriUnet>& p) { network_properties(p); }

  protected:
    UnetOfEitherKind load_network(const UnetSettings& s) const override {
        return {find_weights(s.weights), s.run()};
    }
    bool frame_by_frame(const UnetOfEitherKind& network) const override { return network.causal(); }
    ImageInfo output_info(const UnetOfEitherKind&, const ImageInfo& input) const override {
        ImageInfo out = input;
        out.format = SampleFormat::f32;
        out.channels = 1;
        return out;
    }
    void new_series() override { scale_.reset(); }
    void prepare(const Frames::Job& job, const WindowStart*) override {
        input_.clear();
        for (const auto& item : job.items) {
            const std::vector<float> frame = magnitude_of(item.get(), image());
            input_.insert(input_.end(), frame.begin(), frame.end());
        }
    }
    void compute(UnetOfEitherKind& network, std::span<float> output) override {
        network.run(input_, output, shape(), fresh(), scale_);
    }

  private:
    StreamScale scale_;
    std::vector<float> input_; // [frame][y][x], magnitudes
};

} // namespace

MRI_ELEMENT(mriunet, MriUnet)
