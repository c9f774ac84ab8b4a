// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mritorch
//
// Runs a module of your own, exported from PyTorch: a TorchScript file (torch.jit.trace or script, then save;
// PyTorch calls that format deprecated and still reads and writes it), or a torch.export package that
// AOTInductor compiled (one that was compiled for the processor needs none of CUDA's libraries). One image comes
// out for each that goes in, with its time stamps and metas; complex images go in and out as two channels or as
// complex64.
//
// Both are programs, which can read and write any file already while they are loaded: they are loaded with
// trusted=true alone. Weights as safetensors files or state dicts are data, and mriunet, mricrnn and mricascade
// need no trust for them.
//
// A key file beside the module (`model-info`, by default the module's name and ".modelinfo") describes input
// and output in the format of GStreamer 1.28's analytics elements:
//
//     [modelinfo]
//     version=1.0
//     [x]                    the name of forward's argument
//     dir=input
//     type=float32           or float16, bfloat16, float64, complex64
//     dims=1,1,20,-1,-1      -1: any
//     mri-axes=NCTHW         what each of them is (default HW, CHW, NCHW, NCTHW)
//     mri-scale=p99.5-of-time-average    images are divided by it, results multiplied; default none
//     [y]
//     dir=output
//     type=float32
//     dims=1,1,20,-1,-1
//
// Without an axis T the module runs frame by frame; with one, over windows. What the stream brings and what
// the module really gives are held against the description when the caps come. `precision` has no say: the
// description names the type.
//
// Latency: as mriunet's; none but the computation when frames run one by one. Caps: application/x-mri-image
// of one channel, any format in; C64LE or F32LE out, as the description says.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=20 ! mrisim ! mriframer ! mrirecon combine=rss ! mricrop !
// mritorch weights=FILE trusted=true ! fakesink
// ]|
#include "models/common/intensity.hpp"
#include "models/files/weights.hpp"
#include "models/torch/user_module.hpp"
#include "plugins/inference/network_element.hpp"

#include <cmath>
#include <fmt/format.h>

namespace {

using namespace mri;

struct TorchSettings : NetworkSettings {
    std::string model_info;
    bool trusted = false;
};

#define MRI_ONE_CHANNEL_CAPS                                                                                 \
    "application/x-mri-image, format=(string){C64LE,F32LE}, channels=(int)1, width=(int)[1,8192], "          \
    "height=(int)[1,8192], framerate=(fraction)[0/1,2147483647/1], series=(int)[0,2147483647]"

class MriTorch : public NetworkElementOf<TorchModule, TorchSettings> {
  public:
    static constexpr ElementInfo info{"mritorch", "GstMriTorch", "MRI torch module", "Filter/Effect/MRI",
                                      "Runs a PyTorch module of your own over images or windows of them"};
    static constexpr const char* sink_caps = MRI_ONE_CHANNEL_CAPS;
    static constexpr const char* src_caps = MRI_ONE_CHANNEL_CAPS;
    static void properties(Properties<MriTorch>& p) {
        using S = TorchSettings;
        network_properties(p);
        p.string("model-info", "Description of the module's input and output; empty: weights + '.modelinfo'",
                 &S::model_info);
        p.boolean(
            "trusted",
            "Load the module: a program, which can read and write any file; set it if you trust its maker",
            &S::trusted);
    }

  protected:
    TorchModule load_network(const TorchSettings& s) const override {
        const std::string path = find_weights(s.weights);
        TorchModule module = TorchModule::load(
            path, s.model_info.empty() ? path + ".modelinfo" : s.model_info, s.trusted, s.run());
        const auto frames = module.info().frames();
        if (s.window > 0 && frames && *frames != s.window)
            throw Error(Errc::settings,
                        fmt::format("The module '{}' takes {}, which is not a window of {} frames", path,
                                    module.info().input.text(), s.window));
        return module;
    }
    ImageInfo output_info(const TorchModule& module, const ImageInfo& input) const override {
        // The window's length is the element's own affair: load_network() has seen to it.
        const int frames = module.info().frames().value_or(1);
        const ModuleShape made =
            module.output_shape({{frames, input.height, input.width}, input.format == SampleFormat::c64});
        ImageInfo out = input;
        out.width = made.window.width;
        out.height = made.window.height;
        out.format = made.is_complex ? SampleFormat::c64 : SampleFormat::f32;
        return out;
    }
    void new_series() override { scale_.reset(); }
    bool keeps_scale() const override { return false; }
    void prepare(const Frames::Job& job, const WindowStart*) override {
        input_.clear();
        for (const auto& item : job.items) {
            const Mapped<const float> frame(item.get());
            input_.insert(input_.end(), frame.span().begin(), frame.span().end());
        }
    }
    void compute(TorchModule& module, std::span<float> output) override {
        const ModuleShape in{shape(), image().format == SampleFormat::c64};
        float scale = 1;
        if (module.info().scaled) {
            scale = scale_.update(magnitude(in.is_complex), static_cast<std::size_t>(shape().frames));
            for (float& value : input_)
                value /= scale;
        }
        module.run(input_, output, in);
        if (module.info().scaled)
            for (float& value : output)
                value *= scale;
    }

  private:
    std::vector<float> magnitude(bool is_complex) const {
        if (!is_complex)
            return input_;
        std::vector<float> out;
        for (std::size_t i = 0; i + 1 < input_.size(); i += 2)
            out.push_back(std::hypot(input_[i], input_[i + 1]));
        return out;
    }

    StreamScale scale_;
    std::vector<float> input_; // [frame][y][x], complex ones as pairs
};

} // namespace

MRI_ELEMENT(mritorch, MriTorch)
