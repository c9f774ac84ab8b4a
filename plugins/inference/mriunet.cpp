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
// over between two windows, which an element message "mri-weights" tells; a file that cannot be used is a
// warning and changes nothing. `statistics` counts and times.
//
// Latency: a frame waits at worst for the `window` - 1 others of its window, plus the time of a window as
// measured when the caps come. Caps: application/x-mri-image, any format in; F32LE with one channel out.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=20 ! mrisim ! mriframer ! mrirecon ! mricrop ! mriunet ! fakesink
// ]|
#include "models/intensity.hpp"
#include "network_element.hpp"
#include "plugins/display/map_image.hpp"

namespace {

using namespace mri;

struct UnetSettings : NetworkSettings {
    UnetSettings() { weights = "unet.safetensors"; }
};

class MriUnet : public NetworkElement<Network, UnetSettings> {
  public:
    static constexpr ElementInfo info{"mriunet", "GstMriUnet", "MRI U-Net", "Filter/Effect/MRI",
                                      "De-aliases MR images with a residual 3D U-Net over windows of frames"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<MriUnet>& p) { network_properties(p); }

  protected:
    Network load_network(const UnetSettings& s) const override {
        return Network::load(find_weights(s.weights), s.run());
    }
    ImageInfo output_info(const Network&, const ImageInfo& input) const override {
        ImageInfo out = input;
        out.format = SampleFormat::f32;
        out.channels = 1;
        return out;
    }
    void new_series() override { scale_.reset(); }
    void prepare(const Frames::Job& job) override {
        input_.clear();
        for (const auto& item : job.items) {
            const std::vector<float> frame = magnitude_of(item.get(), image());
            input_.insert(input_.end(), frame.begin(), frame.end());
        }
    }
    void compute(Network& network, std::span<float> output) override {
        network.run(input_, output, shape(), scale_.update(input_, static_cast<std::size_t>(shape().frames)));
    }

  private:
    StreamScale scale_;
    std::vector<float> input_; // [frame][y][x], magnitudes
};

} // namespace

MRI_ELEMENT(mriunet, MriUnet)
