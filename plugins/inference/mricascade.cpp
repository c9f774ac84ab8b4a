// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mricascade
 *
 * De-aliases undersampled cine of any trajectory with an unrolled cascade: small networks over (x, y, t),
 * each followed by a step towards the measured samples. One complex image out for each in, with its time
 * stamps and metas. It starts from the images of mrirecon and needs the k-space frame of each as side data
 * (attach-kspace=true); of several coils also their sensitivities (attach-sensitivities=true), and the images
 * combined by them. Whole fields of view only: crop behind it. `weights` may be set while playing, see
 * mriunet.
 *
 * Each image carries how far it is from its samples (GstMriConsistencyMeta): relative to the samples, and
 * where the noise is known (`noise`, 1 behind mriwhiten) relative to what noise alone would leave. A frame
 * whose figure stands out among its neighbours is not to be trusted.
 *
 * Latency: a frame waits at worst for the `window` - 1 others of its window, plus the time of a window as
 * measured when the caps come. Caps: application/x-mri-image, C64LE with one channel, in and out.
 *
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim spokes=5 ! mriframer
 * ! mrirecon attach-kspace=true ! mricascade ! fakesink
 * ]|
 */
#include "models/cascade.hpp"
#include "network_element.hpp"
#include "plugins/gridding/kspace_frame.hpp"

#include <cmath>

namespace {

using namespace mri;

struct CascadeSettings : NetworkSettings {
    CascadeSettings() { weights = "cascade.safetensors"; }
    double noise = 0;
};

#define MRI_CASCADE_CAPS                                                                                     \
    "application/x-mri-image, format=(string)C64LE, channels=(int)1, width=(int)[1,8192], "                  \
    "height=(int)[1,8192], "                                                                                 \
    "framerate=(fraction)[0/1,2147483647/1], series=(int)[0,2147483647]"

class MriCascade : public NetworkElement<Cascade, CascadeSettings> {
  public:
    static constexpr ElementInfo info{"mricascade", "GstMriCascade", "MRI cascade", "Filter/Effect/MRI",
                                      "De-aliases cine with an unrolled network and data consistency"};
    static constexpr const char* sink_caps = MRI_CASCADE_CAPS;
    static constexpr const char* src_caps = MRI_CASCADE_CAPS;
    static void properties(Properties<MriCascade>& p) {
        network_properties(p);
        p.real("noise", "Standard deviation of the noise in a sample's real and imaginary part; 0: not known",
               0, 1e30, &CascadeSettings::noise);
    }

  protected:
    Cascade load_network(const CascadeSettings& s) const override {
        return Cascade::load(find_weights(s.weights), s.run());
    }
    void check_frame(GstBuffer* buffer) override {
        if (!side_of(buffer, Role::kspace))
            throw Error(Errc::format, "An image came without its k-space, which data consistency needs "
                                      "(mrirecon attach-kspace=true attaches it)");
    }
    void prepare(const Frames::Job& job) override;
    void compute(Cascade& network, std::span<float> output) override;
    void finish_frame(GstBuffer* buffer, std::size_t frame) override {
        // Noise of that deviation in both parts leaves sqrt(2) of it in the magnitude of a sample's rest.
        const WindowOperator::Residual& r = residuals_.at(frame);
        add_consistency(buffer, {r.relative, s().noise > 0 ? r.rms / (std::sqrt(2.0) * s().noise) : 0.0});
    }

  private:
    std::vector<cfloat> maps_of(GstBuffer* image, int coils) const;

    std::vector<cfloat> start_, maps_, output_; // [frame][y][x], [coil][y][x]
    std::vector<GstPtr<GstBuffer>> held_;       // whose memory kspace_ maps
    std::vector<KspaceFrame> kspace_;           // of the window
    ReconstructionSpace space_;
    std::vector<WindowOperator::Residual> residuals_;
};

std::vector<cfloat> MriCascade::maps_of(GstBuffer* buffer, int coils) const {
    if (coils == 1)
        return {};
    GstSample* side = side_of(buffer, Role::sensitivities);
    if (!side)
        throw Error(Errc::format, "An image of " + std::to_string(coils) +
                                      " coils came without their sensitivities, which data consistency needs "
                                      "(mrirecon attach-sensitivities=true attaches them)");
    const ImageInfo info = ImageInfo::from_caps(gst_sample_get_caps(side));
    if (info.format != SampleFormat::c64 || info.channels != coils || info.width != image().width ||
        info.height != image().height)
        throw Error(Errc::format, "Sensitivities of " + std::to_string(info.channels) + " coils for " +
                                      std::to_string(info.width) + " x " + std::to_string(info.height) +
                                      " do not fit " + std::to_string(coils) + " coils and an image of " +
                                      std::to_string(image().width) + " x " + std::to_string(image().height));
    GstBuffer* maps = gst_sample_get_buffer(side);
    info.check_size(gst_buffer_get_size(maps));
    const Mapped<const cfloat> mapped(maps);
    return {mapped.span().begin(), mapped.span().end()};
}

void MriCascade::prepare(const Frames::Job& job) {
    start_.clear();
    kspace_.clear();
    held_.clear();
    std::optional<int> coils;
    for (const auto& item : job.items) {
        const Mapped<const cfloat> frame(item.get());
        start_.insert(start_.end(), frame.span().begin(), frame.span().end());
        GstSample* side = side_of(item.get(), Role::kspace);
        const KspaceInfo info = KspaceInfo::from_caps(gst_sample_get_caps(side));
        if (info.width != image().width || info.height != image().height || (coils && *coils != info.coils))
            throw Error(Errc::format, "An image of " + std::to_string(image().width) + " x " +
                                          std::to_string(image().height) + " came with k-space of " +
                                          std::to_string(info.coils) + " coils for " +
                                          std::to_string(info.width) + " x " + std::to_string(info.height));
        coils = info.coils;
        space_ = space_of(info, 5e-4, s().threads);
        held_.push_back(retain(gst_sample_get_buffer(side)));
        kspace_.emplace_back(held_.back().get(), info);
    }
    // Those of the window's last frame are the best known.
    maps_ = maps_of(job.items.back().get(), *coils);
}

void MriCascade::compute(Cascade& network, std::span<float> output) {
    space_.strip_limit = network.options().strip_limit;
    std::vector<std::vector<float>> areas;
    std::vector<SampledFrame> frames;
    for (const KspaceFrame& kspace : kspace_) {
        const FrameView view = kspace.view();
        areas.push_back(sample_areas(space_, {&view, 1}, Density::clipped));
        frames.push_back({view.kxy, view.samples, areas.back()});
    }
    output_.resize(shape().count());
    residuals_ = network.run({start_, frames, space_.coils, maps_}, output_, shape());
    const auto* values = reinterpret_cast<const float*>(output_.data());
    std::copy(values, values + 2 * output_.size(), output.begin());
    kspace_.clear();
    held_.clear();
}

} // namespace

MRI_ELEMENT(mricascade, MriCascade)
