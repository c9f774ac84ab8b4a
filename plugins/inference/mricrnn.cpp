// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mricrnn
 *
 * De-aliases cine with a convolutional recurrent network (Qin et al., IEEE TMI 2019) that returns
 * to the measured data after each of its iterations: one complex image out for each frame in, with its time
 * stamps and metas. It takes k-space frames, or images with their k-space as side data (mrigrid combine=none
 * attach-kspace=true): of one coil on the image's own Cartesian grid, as the network was published for
 * (oversampled readouts along x are brought to it), or on any other trajectory and of several coils (mrirecon
 * attach-kspace=true attach-sensitivities=true), where a gradient step takes the place of replaced samples
 * and weights trained for it are needed. Weights are a safetensors file or a PyTorch state dict, such as the
 * reference's published ones; iterations, filters and layers may be any. Image and k-space are divided by one
 * scale that is fixed by the first window of a series, until the gain changes by more than a quarter; a
 * causal network then starts again. `weights` may be set while playing, see mriunet.
 *
 * With causal=true, or weights whose file says that they are of a causal network (`time` = `causal` in its
 * metadata), there are no windows: the recurrence runs forwards only and each frame comes out at once,
 * computed from itself and earlier ones; `window`, `hop` and `blend` have no effect. A new series, lost data or a
 * flush clears the memory. Any weights run that way; those that were trained
 * in both directions lose a little (the published ones reach 28.2 dB in place of 28.6 on the scan of the
 * lines below, 25.5 dB without a network; mrimetrics behind them prints it).
 *
 * Starting images of k-space frames: Cartesian ones as mrigrid combine=adaptive makes them, zero where nothing
 * was measured; others as mrirecon makes them of each window's own frames, or for a causal network as mrigrid
 * background=20 combine=adaptive.
 *
 * Each image carries its distance from the samples (a consistency meta, see mricascade); it is nearly zero with
 * hard data consistency on a grid.
 *
 * Latency: a frame waits at worst for the `window` - 1 others of its window (causal: for none), plus the time
 * of a window as measured when the caps come; of k-space see mricascade. Caps: application/x-mri-kspace,
 * alignment=frame, or application/x-mri-image, C64LE with one channel, in; application/x-mri-image, C64LE
 * with one channel, out.
 *
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim trajectory=cartesian acceleration=4
 * ! mriframer ! mricrnn weights=FILE ! fakesink
 * ]|
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim trajectory=cartesian acceleration=4
 * ! mriframer ! mrigrid combine=none attach-kspace=true ! mricrnn weights=FILE ! fakesink
 * ]|
 *
 * Frame by frame:
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=20 width=64 height=64 ! mrisim trajectory=cartesian acceleration=4
 * ! mriframer ! mricrnn causal=true weights=FILE ! fakesink
 * ]|
 */
#include "models/common/intensity.hpp"
#include "models/crnn/cartesian_grid.hpp"
#include "models/crnn/crnn.hpp"
#include "models/files/weights.hpp"
#include "plugins/inference/network_element.hpp"

#include <cmath>
#include <limits>

namespace {

using namespace mri;

struct CrnnSettings : ConsistencySettings {
    CrnnPreset preset = CrnnPreset::automatic;
    int iterations = 0;
    double tau = -1;
    bool causal = false;
};

#define MRI_CRNN_CAPS                                                                                        \
    "application/x-mri-image, format=(string)C64LE, channels=(int)1, width=(int)[1,8192], "                  \
    "height=(int)[1,8192], "                                                                                 \
    "framerate=(fraction)[0/1,2147483647/1], series=(int)[0,2147483647]"

class MriCrnn : public NetworkElementOf<Crnn, CrnnSettings> {
  public:
    static constexpr ElementInfo info{"mricrnn", "GstMriCrnn", "MRI CRNN", "Filter/Effect/MRI",
                                      "De-aliases cine with a recurrent network and data consistency"};
    static constexpr const char* sink_caps = MRI_KSPACE_FRAME_CAPS "; " MRI_CRNN_CAPS;
    static constexpr const char* src_caps = MRI_CRNN_CAPS;
    static void properties(Properties<MriCrnn>& p) {
        using S = CrnnSettings;
        network_properties(p);
        p.choice(
            "preset", "Kind of cell; sets iterations and tau where they are not given", &S::preset,
            {{CrnnPreset::automatic, "auto", "As the weights file says"},
             {CrnnPreset::reference, "reference", "No batch normalisation, 5 iterations, hard consistency"},
             {CrnnPreset::seed, "seed", "Batch normalisation, 10 iterations, tau = 0.2"}});
        p.integer("iterations", "Passes of the network and of data consistency; 0: the preset's", 0, 1000,
                  &S::iterations);
        p.real("tau",
               "Weight of the measured data against the network's, (k + tau k0) / (1 + tau); inf: measured "
               "data alone; -1: the preset's",
               -1, std::numeric_limits<double>::infinity(), &S::tau);
        p.boolean("causal",
                  "Compute frame by frame, from each frame and earlier ones; false: as the weights file says",
                  &S::causal);
    }

  protected:
    Crnn load_network(const CrnnSettings& s) const override {
        return Crnn::load(find_weights(s.weights),
                          {s.iterations, static_cast<float>(s.tau), s.preset, s.causal}, s.run());
    }
    bool frame_by_frame(const Crnn& network) const override { return network.causal(); }
    void check_frame(GstBuffer* buffer) override { WindowSamples::check(buffer); }
    void new_series() override { scale_.reset(); }
    bool starts_gridded(const KspaceInfo& kspace) const override {
        return kspace.trajectory == Trajectory::cartesian;
    }
    void prepare(const Frames::Job& job, const WindowStart* start) override;
    void compute(Crnn& network, std::span<float> output) override;
    std::span<const WindowOperator::Residual> residuals() const override { return residuals_; }

  private:
    void measured_data(const SampledFrame& frame, std::span<cfloat> grid, std::span<float> mask);

    bool on_grid_ = true;
    int density_ = 1;       // samples for one on the grid
    WindowSamples samples_; // where not
    StreamScale scale_;
    float factor_ = 1;                  // by which the window was divided
    float remembered_factor_ = 1;       // of the frames that a causal network remembers
    std::vector<cfloat> images_, grid_; // [frame][y][x]
    std::vector<float> mask_;
    std::vector<cfloat> output_;
    std::vector<WindowOperator::Residual> residuals_;
};

void MriCrnn::measured_data(const SampledFrame& frame, std::span<cfloat> grid, std::span<float> mask) {
    const auto reduced =
        without_oversampling(frame.samples, frame.kxy, frame.samples_per_readout(), image().width);
    density_ = reduced ? reduced->density : 1;
    place_on_grid(reduced ? std::span<const cfloat>(reduced->samples) : frame.samples,
                  reduced ? std::span<const float>(reduced->kxy) : frame.kxy, image().width, image().height,
                  grid, mask);
}

void MriCrnn::prepare(const Frames::Job& job, const WindowStart* start) {
    const KspaceInfo kspace = start ? start->kspace() : WindowSamples::kspace_of(job.items.front().get());
    if (start)
        samples_.read(*start);
    else
        samples_.read(job.items, image(), s().threads);
    on_grid_ = kspace.trajectory == Trajectory::cartesian && kspace.coils == 1;
    if (!on_grid_) {
        std::vector<float> magnitude(samples_.start().size());
        std::transform(samples_.start().begin(), samples_.start().end(), magnitude.begin(),
                       [](cfloat v) { return std::abs(v); });
        factor_ = scale_.update(magnitude, static_cast<std::size_t>(shape().frames));
        return;
    }
    const std::size_t pixels = shape().pixels();
    images_.assign(samples_.start().begin(), samples_.start().end());
    grid_.resize(shape().count());
    mask_.resize(shape().count());
    for (std::size_t i = 0; i < job.items.size(); ++i)
        measured_data(samples_.frames()[i], std::span(grid_).subspan(i * pixels, pixels),
                      std::span(mask_).subspan(i * pixels, pixels));
    std::vector<float> magnitude(images_.size());
    std::transform(images_.begin(), images_.end(), magnitude.begin(), [](cfloat v) { return std::abs(v); });
    factor_ = scale_.update(magnitude, static_cast<std::size_t>(shape().frames));
    for (std::vector<cfloat>* values : {&images_, &grid_})
        for (cfloat& value : *values)
            value /= factor_;
}

void MriCrnn::compute(Crnn& network, std::span<float> output) {
    output_.resize(shape().count());
    const bool causal = network.causal();
    // What is remembered is of the scale before, and the network has biases.
    if (causal && (fresh() || factor_ != remembered_factor_))
        network.reset();
    remembered_factor_ = factor_;
    if (on_grid_ && causal)
        network.stream(images_, grid_, mask_, output_, shape());
    else if (on_grid_)
        network.run(images_, grid_, mask_, output_, shape());
    else if (causal)
        network.stream(samples_.window(1, factor_), output_, shape());
    else
        network.run(samples_.window(1, factor_), output_, shape());
    samples_.clear();
    residuals_ = network.residuals();
    // A sample is sqrt(W H) of a coefficient on the grid, and one of several for a point of it has more
    // noise.
    const double sample =
        on_grid_ ? std::sqrt(static_cast<double>(shape().pixels()) * static_cast<double>(density_)) : 1.0;
    for (WindowOperator::Residual& rest : residuals_)
        rest.rms *= static_cast<double>(factor_) * sample;
    for (std::size_t i = 0; i < output_.size(); ++i) {
        output[2 * i] = output_[i].real() * factor_;
        output[2 * i + 1] = output_[i].imag() * factor_;
    }
}

} // namespace

MRI_ELEMENT(mricrnn, MriCrnn)
