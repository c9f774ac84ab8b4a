// SPDX-License-Identifier: LGPL-2.1-or-later
// Training networks that go from images to images.
#include "models/training/task.hpp"
#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <utility>

namespace mri {

namespace {

class ImageTask : public TrainingTask {
  public:
    ImageTask(const TrainOptions& options, const ComputeTarget& target, ImageNetwork network)
        : options_(options), target_(target), network_(std::move(network)) {}

    TrainedModule& module() override { return *network_.module; }

    at::Tensor loss(const TrainingWindow& window, std::uint64_t seed) override {
        TrainingSample sample = draw_sample(window, varied(options_.patch, options_.patch_frames), seed);
        return judged_loss(network_.module->forward(input_of(sample), target_.type), truth_of(sample));
    }

    Judged judge(const TrainingWindow& window, int, bool input_only) override {
        // Not varied, and not cut except to multiples of 4.
        TrainingSample sample = draw_sample(window, as_it_is(), 0);
        const at::Tensor input = input_of(sample);
        const at::Tensor output =
            input_only ? input.sum(1, true) : network_.module->forward(input, target_.type);
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
        const NetworkTraining& training = training_of(options_.kind);
        if (training.metadata(training.options_of(file, name)) != training.metadata(options_))
            throw Error(Errc::decode, "training cannot begin with the weights '" + name +
                                          "': they are of a network with other options than those given");
        return file.tensors;
    }

  private:
    SampleOptions as_it_is() const { return {0, false, network_.mean_input, network_.running_mean, 0}; }
    SampleOptions varied(int patch, int frames) const {
        SampleOptions how = as_it_is();
        how.patch = patch;
        how.frames = frames;
        how.augment = options_.augment;
        return how;
    }
    at::Tensor judged_loss(const at::Tensor& output, const at::Tensor& truth) const {
        const auto judged = [first = std::int64_t{network_.settling_frames}](const at::Tensor& series) {
            const std::int64_t skipped = std::min(first, series.size(2) - 1);
            return series.narrow(2, skipped, series.size(2) - skipped);
        };
        return loss_of(options_.loss, judged(output), judged(truth));
    }
    at::Tensor input_of(TrainingSample& sample) const {
        const auto [frames, height, width] = sample.shape;
        return at::from_blob(sample.input.data(), {1, frames, height, width, network_.mean_input ? 2 : 1},
                             at::kFloat)
            .to(target_.device, at::kFloat, false, true) // a copy: the graph outlives the sample
            .permute({0, 4, 1, 2, 3});
    }
    at::Tensor truth_of(TrainingSample& sample) const {
        const auto [frames, height, width] = sample.shape;
        return at::from_blob(sample.truth.data(), {1, 1, frames, height, width}, at::kFloat)
            .to(target_.device, at::kFloat, false, true);
    }

    const TrainOptions options_;
    const ComputeTarget target_;
    const ImageNetwork network_;
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

std::unique_ptr<TrainingTask> make_image_task(const TrainOptions& options, const ComputeTarget& target,
                                              ImageNetwork network) {
    return std::make_unique<ImageTask>(options, target, std::move(network));
}

} // namespace mri
