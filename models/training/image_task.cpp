// SPDX-License-Identifier: LGPL-2.1-or-later
// Training networks that go from images to images.
#include "models/causal_unet/module.hpp"
#include "models/common/intensity.hpp"
#include "models/training/task.hpp"
#include "models/unet/module.hpp"
#include "plugins/math/base/error.hpp"

#include <algorithm>

namespace mri {

namespace {

/// A causal network is judged from this frame on: before, its running mean is of too few.
constexpr std::int64_t settling_frames = 4;

class ImageTask : public TrainingTask {
  public:
    ImageTask(const TrainOptions& options, const at::Device& device, at::ScalarType type)
        : options_(options), device_(device), type_(type) {
        if (causal())
            module_ = std::make_unique<CausalUnetModule>(options.causal, options.seed);
        else
            module_ = std::make_unique<UnetModule>(options.network, options.seed);
    }

    TrainedModule& module() override { return *module_; }

    at::Tensor loss(const TrainingWindow& window, std::uint64_t seed) override {
        TrainingSample sample = draw_sample(window, varied(options_.patch, options_.patch_frames), seed);
        return judged_loss(module_->forward(input_of(sample), type_), truth_of(sample));
    }

    Judged judge(const TrainingWindow& window, int, bool input_only) override {
        // Not varied, and not cut except to multiples of 4.
        TrainingSample sample = draw_sample(window, as_it_is(), 0);
        const at::Tensor input = input_of(sample);
        const at::Tensor output = input_only ? input.sum(1, true) : module_->forward(input, type_);
        Judged out{sample.shape, judged_loss(output, truth_of(sample)).item<double>(),
                   from_torch(output).values, std::move(sample.truth)};
        // In the units of the stream, where the truth is 0..1.
        for (std::vector<float>* values : {&out.output, &out.truth})
            for (float& value : *values)
                value *= window.scale;
        return out;
    }

    std::map<std::string, NamedTensor> initial(const TensorFile& file,
                                               const std::string& name) const override {
        const auto spelt_out = [](UnetOptions o) {
            o.middle = o.middle_filters();
            o.bottleneck = o.bottleneck_filters();
            return o;
        };
        if (causal() ? causal_unet_options_of(file, name) != options_.causal
                     : spelt_out(unet_options_of(file, name)) != spelt_out(options_.network))
            throw Error(Errc::decode, "training cannot begin with the weights '" + name +
                                          "': they are of a network with other options than those given");
        return file.tensors;
    }

    std::map<std::string, std::string> metadata() const override {
        if (causal())
            return causal_unet_metadata(options_.causal); // which needs no scale
        auto out = unet_metadata(options_.network);
        out["intensity"] = intensity_name;
        return out;
    }

  private:
    bool causal() const { return options_.kind == NetworkKind::causal_unet; }
    SampleOptions as_it_is() const {
        return {0, false, causal() || options_.network.mean_input, causal() ? options_.causal.mean_frames : 0,
                0};
    }
    SampleOptions varied(int patch, int frames) const {
        SampleOptions how = as_it_is();
        how.patch = patch;
        how.frames = frames;
        how.augment = options_.augment;
        return how;
    }
    at::Tensor judged_loss(const at::Tensor& output, const at::Tensor& truth) const {
        const std::int64_t first = causal() ? settling_frames : 0;
        const auto judged = [first](const at::Tensor& series) {
            const std::int64_t skipped = std::min(first, series.size(2) - 1);
            return series.narrow(2, skipped, series.size(2) - skipped);
        };
        return loss_of(options_.loss, judged(output), judged(truth));
    }
    at::Tensor input_of(TrainingSample& sample) const {
        const auto [frames, height, width] = sample.shape;
        return at::from_blob(sample.input.data(),
                             {1, frames, height, width, causal() ? 2 : options_.network.input_channels()},
                             at::kFloat)
            .to(device_, at::kFloat, false, true) // a copy: the graph outlives the sample
            .permute({0, 4, 1, 2, 3});
    }
    at::Tensor truth_of(TrainingSample& sample) const {
        const auto [frames, height, width] = sample.shape;
        return at::from_blob(sample.truth.data(), {1, 1, frames, height, width}, at::kFloat)
            .to(device_, at::kFloat, false, true);
    }

    const TrainOptions options_;
    const at::Device device_;
    const at::ScalarType type_;
    std::unique_ptr<ImageModule> module_;
};

} // namespace

at::Tensor loss_of(Loss kind, const at::Tensor& output, const at::Tensor& truth) {
    if (kind == Loss::mse)
        return at::mse_loss(output, truth);
    if (kind == Loss::l1)
        return at::l1_loss(output, truth);
    if (kind == Loss::mixed)
        return at::l1_loss(output, truth) + 10 * at::mse_loss(output, truth);
    if (kind == Loss::psnr) // below 80 dB, where a perfect image has no logarithm
        return 0.5 * (at::mse_loss(output, truth) + 1e-8).log();
    // Wang et al., IEEE TIP 2004, with uniform windows; frames become the batch.
    constexpr double c1 = 0.01 * 0.01;
    constexpr double c2 = 0.03 * 0.03;
    const at::Tensor x = output.squeeze(0).permute({1, 0, 2, 3});
    const at::Tensor y = truth.squeeze(0).permute({1, 0, 2, 3});
    const auto mean = [](const at::Tensor& image) { return at::avg_pool2d(image, 7, 1); };
    const at::Tensor mx = mean(x);
    const at::Tensor my = mean(y);
    const at::Tensor vx = mean(x * x) - mx * mx;
    const at::Tensor vy = mean(y * y) - my * my;
    const at::Tensor cov = mean(x * y) - mx * my;
    const at::Tensor ssim =
        ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2));
    return 1 - ssim.mean();
}

std::unique_ptr<TrainingTask> make_image_task(const TrainOptions& options, const at::Device& device,
                                              at::ScalarType type) {
    return std::make_unique<ImageTask>(options, device, type);
}

} // namespace mri
