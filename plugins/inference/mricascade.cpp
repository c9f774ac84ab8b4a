// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mricascade
 *
 * De-aliases undersampled cine of any trajectory with an unrolled cascade: small networks over (x, y, t),
 * each followed by a step towards the measured samples. Sends one complex image for each frame, with its time
 * stamps and metas.
 *
 * Input: k-space frames, or images with their k-space frame as side data (mrirecon attach-kspace=true), and
 * for several coils with their sensitivities too (attach-sensitivities=true). From k-space frames each window
 * makes its starting images as mrirecon does, from its own frames alone, as in training. Images of mrirecon
 * with the same window give the same result where windows do not overlap; a separate mrirecon has more
 * options, and a thread of its own behind a queue. The field of view must be whole: crop behind this element.
 * attach-input attaches the starting image. `weights` may be set while playing, see mriunet.
 *
 * Each image carries its distance from the samples (GstMriConsistencyMeta): relative to the samples, and, if
 * the noise is known (from mriwhiten, mrisim or `noise`), relative to the residual of noise alone. Do not trust
 * a frame whose figure stands out among its neighbours. The figure of blended windows is their mean, an upper
 * bound of the image's own.
 *
 * cycle=true links the last frame of a window to the first one, for series of one heart cycle, reconstructed
 * in one window (see mrirecon).
 *
 * With the weights of a causal cascade (causal-cascade.safetensors, or causal-cascade-5.safetensors with fewer
 * blocks for slower processors; the file says which it holds) there are no windows: each frame is sent at once,
 * computed from itself and earlier ones, and `window`, `hop` and `blend` have no effect. A new series, lost data
 * or a flush clears the memory. Late frames (QoS) are computed for the sake of later ones, and not pushed. If a
 * frame takes longer to compute than it lasts, late frames are dropped, and the network treats the frames around
 * the gap as consecutive. K-space frames of a rotating trajectory then start as mrigrid background=20
 * combine=adaptive makes them; images must come from there (attach-kspace=true attach-sensitivities=true).
 *
 * Latency: a frame waits for at most the `window` - 1 others of its window, plus the time of a window as
 * measured when the caps come; in a live pipeline from k-space also the time of the start, measured on the
 * first frame. Caps:
 * application/x-mri-kspace, alignment=frame, or application/x-mri-image, C64LE with one channel, in;
 * application/x-mri-image, C64LE with one channel, out.
 *
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim spokes=5 coils=4 ! mriframer
 * ! mricascade ! fakesink
 * ]|
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim spokes=5 ! mriframer
 * ! mrirecon attach-kspace=true ! mricascade ! fakesink
 * ]|
 */
#include "models/cascade/cascade.hpp"
#include "plugins/inference/network_element.hpp"

namespace {

using namespace mri;

struct CascadeSettings : ConsistencySettings {
    CascadeSettings() { weights = "cascade.safetensors"; }
    bool cycle = false;
};

#define MRI_CASCADE_CAPS                                                                                     \
    "application/x-mri-image, format=(string)C64LE, channels=(int)1, width=(int)[1,8192], "                  \
    "height=(int)[1,8192], "                                                                                 \
    "framerate=(fraction)[0/1,2147483647/1], series=(int)[0,2147483647]"

class MriCascade : public NetworkElementOf<Cascade, CascadeSettings> {
  public:
    static constexpr ElementInfo info{"mricascade", "GstMriCascade", "MRI cascade", "Filter/Effect/MRI",
                                      "De-aliases cine with an unrolled network and data consistency"};
    static constexpr const char* sink_caps = MRI_KSPACE_FRAME_CAPS "; " MRI_CASCADE_CAPS;
    static constexpr const char* src_caps = MRI_CASCADE_CAPS;
    static void properties(Properties<MriCascade>& p) {
        network_properties(p);
        p.boolean("cycle", "The first frame of a window follows its last, as in a heart cycle",
                  &CascadeSettings::cycle);
    }

  protected:
    Cascade load_network(const CascadeSettings& s) const override {
        Cascade network = Cascade::load(find_weights(s.weights), s.run());
        if (s.cycle && network.options().causal)
            throw Error(Errc::settings,
                        "cycle is for networks over windows, and '" + s.weights + "' holds a causal one");
        return network;
    }
    bool frame_by_frame(const Cascade& network) const override { return network.options().causal; }
    void check_frame(GstBuffer* buffer) override { WindowSamples::check(buffer); }
    StartRecipe start_recipe(const Cascade& network) const override {
        StartRecipe recipe;
        if (network.options().causal)
            recipe.background_frames = network.options().mean_frames;
        return recipe;
    }
    void prepare(const Frames::Job& job, const WindowStart* start) override;
    void compute(Cascade& network, std::span<float> output) override;
    std::span<const WindowOperator::Residual> residuals() const override { return residuals_; }

  private:
    WindowSamples samples_;
    std::vector<cfloat> output_; // [frame][y][x]
    std::vector<WindowOperator::Residual> residuals_;
};

void MriCascade::prepare(const Frames::Job& job, const WindowStart* start) {
    if (start)
        samples_.read(*start);
    else
        samples_.read(job.items, image(), s().threads);
}

void MriCascade::compute(Cascade& network, std::span<float> output) {
    const SampledWindow window = samples_.window(network.options().strip_limit);
    output_.resize(shape().count());
    const bool causal = network.options().causal;
    if (causal && fresh())
        network.reset();
    residuals_ =
        causal ? network.stream(window, output_, shape()) : network.run(window, output_, shape(), s().cycle);
    const auto* values = reinterpret_cast<const float*>(output_.data());
    std::copy(values, values + 2 * output_.size(), output.begin());
    samples_.clear();
}

} // namespace

MRI_ELEMENT(mricascade, MriCascade)
