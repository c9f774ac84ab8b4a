// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/training/trainer.hpp"

#include "models/common/intensity.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/torch/runtime.hpp"
#include "models/training/task.hpp"
#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/image/score.hpp"

#include <algorithm>
#include <c10/core/GradMode.h>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numbers>

namespace mri {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(bool good, const std::string& message) {
    if (!good)
        throw Error(Errc::settings, "training cannot begin: " + message);
}

const char* name_of(Loss loss) {
    switch (loss) {
    case Loss::mse:
        return "mse";
    case Loss::l1:
        return "l1";
    case Loss::mixed:
        return "l1+10mse";
    case Loss::psnr:
        return "log mse";
    case Loss::ssim:
        return "1-ssim";
    }
    return "";
}

/// Adam (Kingma and Ba, ICLR 2015) with the usual 0.9, 0.999, 1e-8. Its state is part of the checkpoint.
class Adam {
  public:
    explicit Adam(const std::map<std::string, at::Tensor>& parameters) {
        for (const auto& [name, parameter] : parameters) {
            first_[name] = at::zeros_like(parameter, at::MemoryFormat::Preserve);
            second_[name] = at::zeros_like(parameter, at::MemoryFormat::Preserve);
        }
    }

    /// `step` counts from 1.
    void update(std::map<std::string, at::Tensor>& parameters, std::uint64_t step, double learning_rate) {
        constexpr double beta1 = 0.9;
        constexpr double beta2 = 0.999;
        const at::NoGradGuard no_grad;
        const double correct1 = 1.0 - std::pow(beta1, static_cast<double>(step));
        const double correct2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step)));
        for (auto& [name, parameter] : parameters) {
            const at::Tensor& gradient = parameter.grad();
            if (!gradient.defined())
                continue;
            at::Tensor& m = first_.at(name);
            at::Tensor& v = second_.at(name);
            m.mul_(beta1).add_(gradient, 1.0 - beta1);
            v.mul_(beta2).addcmul_(gradient, gradient, 1.0 - beta2);
            parameter.addcdiv_(m, (v.sqrt() / correct2).add_(1e-8), -learning_rate / correct1);
        }
    }

    std::map<std::string, at::Tensor>& first() { return first_; }
    std::map<std::string, at::Tensor>& second() { return second_; }

  private:
    std::map<std::string, at::Tensor> first_;
    std::map<std::string, at::Tensor> second_;
};

ComputeTarget target_of(const RunOptions& run) {
    const at::Device device = open_device(run.device);
    return {device, compute_type(run.precision, device)};
}

constexpr const char* first_prefix = "adam-m/";
constexpr const char* second_prefix = "adam-v/";

} // namespace

struct Trainer::State {
    explicit State(const TrainOptions& o)
        : options(o),
          network(training_of(o.kind)),
          target(target_of(o.run)),
          training(o.cache_bytes, o.spill_bytes, o.spill_folder),
          validating(o.cache_bytes, o.spill_bytes, o.spill_folder) {}

    TrainResult run(const Callback& callback);

  private:
    /// Makes the module and the optimiser, out of the checkpoint or the initial weights where there are any.
    void begin();
    std::uint64_t total_steps() const;
    double fraction() const;
    double learning_rate() const;
    /// One optimiser step; false when it was stopped before its end and nothing changed.
    bool train_step();
    /// Whether a validation is due after the step that is done.
    bool validation_due();
    std::optional<ValidationScore> validate(bool inputs_only);
    /// Validates the weights that count, and writes them where they are the best so far.
    void validate_and_keep(TrainProgress& progress);
    void save_weights();
    void save_checkpoint();
    void load_checkpoint();
    void take_initial();
    void update_average();
    /// Exchanges the parameters with their average, for as long as that is what counts.
    void swap_average();

  public:
    const TrainOptions options;
    const NetworkTraining& network;
    const ComputeTarget target;
    WindowCache training;
    WindowCache validating;
    std::map<std::string, NamedTensor> initial; ///< parameters to begin with; empty: random ones
    std::stop_token stop;

  private:
    std::unique_ptr<TrainingTask> task_;
    std::unique_ptr<Adam> adam_;
    std::map<std::string, at::Tensor> average_; // of the parameters, with options.average
    std::uint64_t step_ = 0;                    // done
    std::uint64_t steps_ = 0;
    double elapsed_before_ = 0; // s, of earlier runs
    Clock::time_point start_;
    double loss_ = 0;
    double best_loss_ = 0;
    bool have_best_ = false;
    bool saved_ = false;         // the weights, in this run
    double next_validation_ = 0; // in twentieths of the training, when a time limit rules
    std::optional<ValidationScore> best_;
    std::vector<std::size_t> order_;
    std::uint64_t order_epoch_ = 0;
};

std::uint64_t Trainer::State::total_steps() const {
    if (options.steps > 0)
        return options.steps;
    const double samples = options.epochs * static_cast<double>(training.size());
    return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(samples / options.batch)));
}

double Trainer::State::fraction() const {
    const double by_steps = static_cast<double>(step_) / static_cast<double>(steps_);
    const double by_time =
        options.time_limit > 0 ? (elapsed_before_ + seconds_since(start_)) / options.time_limit : 0.0;
    return std::min(1.0, std::max(by_steps, by_time));
}

double Trainer::State::learning_rate() const {
    // A short warm-up: Adam's second moments are guesses at first.
    const double warm_up = static_cast<double>(std::min<std::uint64_t>(100, steps_ / 20)) + 1.0;
    const double rise = std::min(1.0, static_cast<double>(step_ + 1) / warm_up);
    const double fall =
        options.schedule == Schedule::cosine ? 0.5 * (1.0 + std::cos(std::numbers::pi * fraction())) : 1.0;
    return options.learning_rate * rise * fall;
}

bool Trainer::State::train_step() {
    std::map<std::string, at::Tensor>& parameters = task_->module().parameters();
    for (auto& [name, parameter] : parameters)
        parameter.mutable_grad().reset();
    const auto batch = static_cast<std::uint64_t>(options.batch);
    double loss = 0;
    for (std::uint64_t b = 0; b < batch; ++b) {
        if (stop.stop_requested())
            return false;
        const std::uint64_t number = step_ * batch + b;
        const std::uint64_t epoch = number / training.size();
        if (order_.size() != training.size() || epoch != order_epoch_) {
            order_ = shuffled(training.size(), mix_seed(options.seed, epoch));
            order_epoch_ = epoch;
        }
        // Everything random follows from the seed and the sample's number: a resumed run goes on as if never
        // stopped.
        const at::Tensor value = task_->loss(training.at(order_[number % training.size()]),
                                             mix_seed(options.seed + 0x5EED, number)) /
                                 options.batch;
        value.backward();
        loss += value.item<double>();
    }
    if (!std::isfinite(loss))
        throw Error(Errc::failed, "training diverged: the loss is not finite at step " +
                                      std::to_string(step_ + 1) + " (a lower learning rate helps)");
    if (options.clip > 0) {
        const at::NoGradGuard no_grad;
        double squares = 0;
        for (const auto& [name, parameter] : parameters)
            if (parameter.grad().defined())
                squares += parameter.grad().square().sum().item<double>();
        const double norm = std::sqrt(squares);
        if (norm > options.clip)
            for (auto& [name, parameter] : parameters)
                if (parameter.grad().defined())
                    parameter.mutable_grad().mul_(options.clip / norm);
    }
    adam_->update(parameters, step_ + 1, learning_rate());
    loss_ = loss;
    ++step_;
    update_average();
    return true;
}

void Trainer::State::update_average() {
    if (!(options.average > 0))
        return;
    const at::NoGradGuard no_grad;
    // Young averages are short, so that the start is soon forgotten.
    const double keep =
        std::min(options.average, static_cast<double>(step_) / (static_cast<double>(step_) + 10.0));
    for (const auto& [name, parameter] : task_->module().parameters())
        average_.at(name).mul_(keep).add_(parameter, 1.0 - keep);
}

void Trainer::State::swap_average() {
    if (!(options.average > 0))
        return;
    const at::NoGradGuard no_grad;
    for (auto& [name, parameter] : task_->module().parameters()) {
        const at::Tensor kept = parameter.clone();
        parameter.copy_(average_.at(name));
        average_.at(name).copy_(kept);
    }
}

std::optional<ValidationScore> Trainer::State::validate(bool inputs_only) {
    if (validating.size() == 0)
        return std::nullopt;
    const at::NoGradGuard no_grad;
    ValidationScore sum;
    int moving = 0;
    const auto views = static_cast<std::size_t>(task_->views());
    for (std::size_t i = 0; i < validating.size() * views; ++i) {
        if (stop.stop_requested())
            return std::nullopt;
        const TrainingTask::Judged judged =
            task_->judge(validating.at(i / views), static_cast<int>(i % views), inputs_only);
        const WindowShape& shape = judged.shape;
        sum.loss += judged.loss;
        Scorer scorer(shape.width, shape.height);
        for (std::size_t t = 0; t < static_cast<std::size_t>(shape.frames); ++t)
            scorer.add(std::span(judged.output).subspan(t * shape.pixels(), shape.pixels()),
                       std::span(judged.truth).subspan(t * shape.pixels(), shape.pixels()));
        const SeriesScore score = scorer.finish();
        sum.psnr += std::min(score.fitted.psnr, 100.0); // equal images have no finite one
        sum.ssim += score.fitted.ssim;
        if (!std::isnan(score.psnr_moving)) {
            sum.psnr_moving += std::min(score.psnr_moving, 100.0);
            ++moving;
        }
    }
    const auto count = static_cast<double>(validating.size() * views);
    return ValidationScore{sum.loss / count, sum.psnr / count, sum.ssim / count,
                           moving > 0 ? sum.psnr_moving / moving : 0.0};
}

void Trainer::State::save_weights() {
    TensorFile file;
    file.tensors = task_->module().tensors();
    file.metadata = network.metadata(options);
    file.metadata["format"] = "gst-mri weights 1";
#ifdef GST_MRI_VERSION
    file.metadata["version"] = GST_MRI_VERSION;
#endif
    const WindowShape& shape = training.shape(0);
    file.metadata["window"] = std::to_string(shape.frames);
    file.metadata["training.size"] = std::to_string(shape.height) + "x" + std::to_string(shape.width);
    file.metadata["training.windows"] = std::to_string(training.size());
    file.metadata["training.steps"] = std::to_string(step_);
    file.metadata["training.batch"] = std::to_string(options.batch);
    file.metadata["training.patch"] = std::to_string(options.patch);
    if (options.patch_frames > 0)
        file.metadata["training.patch-frames"] = std::to_string(options.patch_frames);
    file.metadata["training.loss"] = name_of(options.loss);
    file.metadata["training.learning-rate"] = number_text(options.learning_rate);
    file.metadata["training.seconds"] = number_text(std::round(elapsed_before_ + seconds_since(start_)));
    if (!options.description.empty())
        file.metadata["training.data"] = options.description;
    if (best_) {
        file.metadata["validation.windows"] = std::to_string(validating.size());
        file.metadata["validation.loss"] = number_text(best_->loss);
        file.metadata["validation.psnr"] = number_text(best_->psnr);
        file.metadata["validation.ssim"] = number_text(best_->ssim);
        file.metadata["validation.psnr-moving"] = number_text(best_->psnr_moving);
    }
    write_safetensors(options.weights, file);
}

void Trainer::State::save_checkpoint() {
    if (options.checkpoint.empty())
        return;
    TensorFile file;
    const auto put = [&file](const char* prefix, const std::map<std::string, at::Tensor>& tensors) {
        for (const auto& [name, tensor] : tensors)
            file.tensors[prefix + name] = from_torch(tensor);
    };
    put(checkpoint::model, task_->module().parameters());
    put(first_prefix, adam_->first());
    put(second_prefix, adam_->second());
    put(checkpoint::average, average_);
    file.metadata = network.metadata(options);
    file.metadata["network"] += checkpoint::suffix;
    file.metadata["step"] = std::to_string(step_);
    file.metadata["seconds"] = number_text(elapsed_before_ + seconds_since(start_));
    if (have_best_)
        file.metadata["best-loss"] = number_text(best_loss_);
    write_safetensors(options.checkpoint, file);
}

void Trainer::State::take_initial() {
    const at::NoGradGuard no_grad;
    for (auto& [name, parameter] : task_->module().parameters()) {
        parameter.copy_(to_torch(initial.at(name)));
        if (options.average > 0)
            average_.at(name).copy_(parameter);
    }
}

void Trainer::State::load_checkpoint() {
    const TensorFile file = read_safetensors(options.checkpoint);
    const auto bad = [&](const std::string& why) -> Error {
        return {Errc::decode, "cannot resume from the checkpoint '" + options.checkpoint + "': " + why};
    };
    std::map<std::string, std::string> wanted = network.metadata(options);
    wanted["network"] += checkpoint::suffix;
    for (const auto& [key, value] : wanted) {
        const auto it = file.metadata.find(key);
        if (it == file.metadata.end() || it->second != value)
            throw bad("its " + key + " is '" + (it == file.metadata.end() ? "" : it->second) + "', not '" +
                      value + "'");
    }
    const auto number = [&](const char* key, auto value) {
        const auto it = file.metadata.find(key);
        if (it == file.metadata.end())
            throw bad(std::string("it has no '") + key + "'");
        const char* end = it->second.data() + it->second.size();
        const auto result = std::from_chars(it->second.data(), end, value);
        if (result.ec != std::errc() || result.ptr != end)
            throw bad(std::string("its '") + key + "' is '" + it->second + "'");
        return value;
    };
    const at::NoGradGuard no_grad;
    const auto get = [&](const char* prefix, std::map<std::string, at::Tensor>& tensors) {
        for (auto& [name, tensor] : tensors) {
            const auto it = file.tensors.find(prefix + name);
            if (it == file.tensors.end() || it->second.shape != tensor.sizes().vec())
                throw bad("'" + (prefix + name) + "' is missing or has another shape");
            tensor.copy_(to_torch(it->second));
        }
    };
    get(checkpoint::model, task_->module().parameters());
    get(first_prefix, adam_->first());
    get(second_prefix, adam_->second());
    get(checkpoint::average, average_);
    step_ = number("step", std::uint64_t{0});
    elapsed_before_ = number("seconds", 0.0);
    have_best_ = file.metadata.contains("best-loss");
    if (have_best_)
        best_loss_ = number("best-loss", 0.0);
}

void Trainer::State::begin() {
    check(training.size() > 0, "there are no training windows");
    set_torch_threads(options.run.threads);
    task_ = network.task(options, target);
    task_->module().to(target.device, at::kFloat);
    average_.clear();
    for (auto& [name, parameter] : task_->module().parameters()) {
        if (options.average > 0)
            average_[name] = parameter.clone();
        parameter.requires_grad_(true);
    }
    adam_ = std::make_unique<Adam>(task_->module().parameters());
    step_ = 0;
    steps_ = total_steps();
    start_ = Clock::now();
    std::error_code ignored;
    if (options.resume && std::filesystem::exists(options.checkpoint, ignored))
        load_checkpoint();
    else if (!initial.empty())
        take_initial();
    saved_ = false;
    next_validation_ = std::floor(fraction() * 20.0) + 1.0;
}

bool Trainer::State::validation_due() {
    if (options.validation_interval == 0 && options.time_limit > 0) {
        const double twentieths = fraction() * 20.0;
        if (twentieths < next_validation_)
            return false;
        next_validation_ = std::floor(twentieths) + 1.0;
        return true;
    }
    const std::uint64_t interval = options.validation_interval > 0 ? options.validation_interval
                                                                   : std::max<std::uint64_t>(1, steps_ / 20);
    return step_ % interval == 0;
}

void Trainer::State::validate_and_keep(TrainProgress& progress) {
    swap_average();
    progress.validation = validate(false);
    if (progress.validation && (!have_best_ || progress.validation->loss < best_loss_)) {
        have_best_ = true;
        best_loss_ = progress.validation->loss;
        best_ = progress.validation;
        save_weights();
        saved_ = progress.saved = true;
    }
    swap_average();
}

TrainResult Trainer::State::run(const Callback& callback) {
    begin();
    TrainResult result;
    result.input = validate(true);
    Clock::time_point last_report = Clock::now();
    Clock::time_point last_checkpoint = last_report;
    std::uint64_t reported_step = step_;
    double loss_sum = 0;
    bool done = step_ >= steps_;

    while (!done && !stop.stop_requested()) {
        if (!train_step())
            break;
        loss_sum += loss_;
        done = fraction() >= 1.0;
        const bool due = validation_due() || done;
        const double since_report = seconds_since(last_report);
        if (!due && since_report < 1.0)
            continue;
        TrainProgress progress;
        progress.step = step_;
        progress.steps = steps_;
        progress.fraction = fraction();
        progress.loss = loss_sum / static_cast<double>(step_ - reported_step);
        progress.learning_rate = learning_rate();
        progress.seconds_per_step = since_report / static_cast<double>(step_ - reported_step);
        if (due)
            validate_and_keep(progress);
        if (seconds_since(last_checkpoint) >= options.checkpoint_interval) {
            save_checkpoint();
            last_checkpoint = Clock::now();
        }
        if (callback)
            callback(progress);
        last_report = Clock::now();
        reported_step = step_;
        loss_sum = 0;
    }
    save_checkpoint();
    // Without a validation the last weights are the best known; after an early stop something is better than
    // nothing.
    if (validating.size() == 0 || (!saved_ && !have_best_)) {
        swap_average();
        save_weights();
        swap_average();
    }
    result.step = step_;
    result.finished = done;
    result.loss = loss_;
    result.validation = best_;
    return result;
}

Trainer::Trainer(const TrainOptions& options) {
    const NetworkTraining& network = training_of(options.kind);
    network.check(options);
    if (network.scans_truth) {
        check(options.loss != Loss::ssim, "SSIM is of magnitudes, and a cascade's images are complex");
        check(options.scan.spokes_min >= 1 && options.scan.spokes_max >= options.scan.spokes_min &&
                  options.scan.spokes_max <= 4096,
              "the spokes of a frame must be a range from 1 to 4096");
        check(options.scan.coils >= 1 && options.scan.coils <= 64, "the coils must be 1 to 64");
    }
    check(options.patch_frames == 0 || options.patch_frames >= 4,
          "the patch must be at least 4 frames, or 0 for whole windows");
    check(options.average >= 0 && options.average < 1, "the decay of averaged weights must be 0 to below 1");
    check(!options.weights.empty(), "no file is named for the weights");
    check(!options.resume || !options.checkpoint.empty(), "no checkpoint is named to resume from");
    check(options.batch >= 1 && options.batch <= 4096, "the batch must be 1 to 4096 samples");
    check(options.patch == 0 || options.patch >= 8,
          "the patch must be at least 8 pixels, or 0 for whole frames");
    check(options.steps > 0 || options.epochs > 0, "steps or epochs must be above 0");
    check(options.learning_rate > 0 && std::isfinite(options.learning_rate),
          "the learning rate must be above 0");
    // A folder that is missing or cannot be written is refused now, not after hours of training.
    for (const std::string& path : {options.weights, options.checkpoint})
        if (!path.empty())
            AtomicFile(path, "'" + path + "' cannot be created").discard();
    state_ = torch_call("training", [&] {
        auto state = std::make_unique<State>(options);
        if (!options.initial.empty()) // refused now, not when all data have come
            state->initial =
                network.task(options, state->target)->initial(read_weights(options.initial), options.initial);
        return state;
    });
}

Trainer::~Trainer() = default;

void Trainer::add(std::span<const float> input, std::span<const float> truth, const WindowShape& shape,
                  bool validation) {
    const bool truth_alone = state_->network.scans_truth;
    if (shape.frames < 4 || shape.height < 8 || shape.width < 8 ||
        (truth_alone ? !input.empty() : input.size() != shape.count()) || truth.size() != shape.count())
        throw Error(Errc::format,
                    "a training window must be at least 4 frames of 8 x 8, with a truth of the same size");
    const std::span<const float> first = truth_alone ? truth : input;
    const float factor = 1.0F / intensity_scale(first, static_cast<std::size_t>(shape.frames));
    intensity_scale(truth, static_cast<std::size_t>(shape.frames)); // refuses values that are not finite
    TrainingWindow window{shape, 1.0F / factor, {input.begin(), input.end()}, {truth.begin(), truth.end()}};
    for (std::vector<float>* values : {&window.input, &window.truth})
        for (float& value : *values)
            value *= factor;
    (validation ? state_->validating : state_->training).add(std::move(window));
}

std::size_t Trainer::windows() const {
    return state_->training.size();
}

std::size_t Trainer::validation_windows() const {
    return state_->validating.size();
}

TrainResult Trainer::run(const Callback& callback, std::stop_token stop) {
    state_->stop = std::move(stop);
    return torch_call("training", [&] { return state_->run(callback); });
}

} // namespace mri
