// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/cascade.hpp"

#include "models/cascade/inference.hpp"
#include "models/cascade/module.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/torch/runtime.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <c10/core/InferenceMode.h>
#include <cstring>
#include <optional>

namespace mri {

namespace {

constexpr std::size_t max_window_values = std::size_t{1} << 30;

} // namespace

TensorShapes cascade_tensors(const CascadeOptions& o) {
    const std::int64_t f = o.filters;
    TensorShapes out;
    for (int block = 0; block < o.blocks; ++block) {
        const std::string prefix = "blocks." + std::to_string(block) + ".";
        for (int layer = 0; layer < o.layers; ++layer)
            out.push_back({prefix + "conv." + std::to_string(layer) + ".weight",
                           {layer + 1 == o.layers ? 2 : f, layer == 0 ? 6 : f, 3, 3, 3}});
        out.push_back({prefix + "eta", {1}});
    }
    return out;
}

void check_cascade_options(const CascadeOptions& o) {
    const auto in = [](int value, int most, const char* what) {
        if (value < 1 || value > most)
            throw Error(Errc::settings, std::string("a cascade needs 1 to ") + std::to_string(most) + " " +
                                            what + ", not " + std::to_string(value));
    };
    in(o.blocks, 100, "blocks");
    in(o.filters, 1024, "filters");
    in(o.layers, 100, "layers a block");
    in(o.mean_frames, 1000, "frames of its running mean");
    if (o.layers < 2)
        throw Error(Errc::settings, "a block of a cascade needs at least 2 layers");
    if (!(o.strip_limit > 0 && o.strip_limit <= 1000))
        throw Error(Errc::settings,
                    "a cascade's strip limit must be above 0, not " + number_text(o.strip_limit));
}

std::map<std::string, std::string> cascade_metadata(const CascadeOptions& o) {
    return {{"network", cascade_kind},
            {"blocks", std::to_string(o.blocks)},
            {"filters", std::to_string(o.filters)},
            {"layers", std::to_string(o.layers)},
            {"strip-limit", number_text(o.strip_limit)},
            {"time", o.causal ? "causal" : "window"},
            {"mean-frames", std::to_string(o.mean_frames)}};
}

CascadeOptions cascade_options_of(const TensorFile& file, const std::string& name) {
    if (network_of(file) != cascade_kind)
        throw Error(Errc::decode, "the weights file '" + name +
                                      "' holds no cascade: its metadata name the network '" +
                                      network_of(file) + "'");
    CascadeOptions o;
    const Metadata metadata(file.metadata, name);
    o.blocks = metadata.number("blocks", o.blocks);
    o.filters = metadata.number("filters", o.filters);
    o.layers = metadata.number("layers", o.layers);
    o.strip_limit = metadata.number("strip-limit", o.strip_limit);
    o.causal = metadata.choice("time", "window", "causal");
    o.mean_frames = metadata.number("mean-frames", o.mean_frames);
    try {
        check_cascade_options(o);
    } catch (const Error& e) {
        throw Error(Errc::decode, "the weights file '" + name + "' cannot be used: " + e.what());
    }
    check_tensors(file, name, cascade_tensors(o),
                  (o.causal ? "a causal cascade of " : "a cascade of ") + std::to_string(o.blocks) +
                      " blocks with " + std::to_string(o.filters) + " filters");
    return o;
}

struct Cascade::State {
    State(const TensorFile& file, const std::string& name, const RunOptions& r)
        : run(r),
          device(open_device(r.device)),
          type(compute_type(r.precision, device)),
          metadata(file.metadata),
          options(cascade_options_of(file, name)) {
        if (device.is_cpu()) {
            auto layers = type == at::kBFloat16 ? CascadeLayers::bfloat16(options, file)
                                                : CascadeLayers::float32(options, file);
            if (layers) {
                own.emplace(options, file, std::move(layers), run.threads);
                return;
            }
        }
        module.emplace(options, file);
        module->to(device, at::kFloat);
        for (auto& [tensor, parameter] : module->parameters())
            if (parameter.dim() == 5) // eta stays exact
                parameter = parameter.to(type);
    }

    RunOptions run;
    at::Device device;
    at::ScalarType type;
    std::map<std::string, std::string> metadata;
    CascadeOptions options;
    std::optional<CascadeInference> own;
    std::optional<CascadeModule> module; // where there is none of our own
    std::shared_ptr<WindowOperator> data;
    CascadeMemory past; // of stream()
    std::pair<int, int> past_shape{0, 0};

    /// Throws Errc::format for a window that cannot be computed.
    void check(const WindowShape& shape) const {
        if (shape.frames < 1 || shape.height < 1 || shape.width < 1)
            throw Error(Errc::format, "a window without pixels cannot be computed");
        checked_product({static_cast<std::size_t>(shape.frames), shape.pixels(),
                         static_cast<std::size_t>(options.filters)},
                        max_window_values, "a network's window");
    }
    std::vector<WindowOperator::Residual> reconstruct(const SampledWindow& window,
                                                      std::span<std::complex<float>> output,
                                                      const WindowShape& shape, CascadeMemory* history,
                                                      bool cycle);
};

Cascade Cascade::load(const std::string& path, const RunOptions& run) {
    return {read_weights(path), path, run};
}

Cascade::Cascade(const TensorFile& file, const std::string& name, const RunOptions& run) {
    state_ = torch_call("loading the network", [&] { return std::make_unique<State>(file, name, run); });
}

Cascade::Cascade(Cascade&&) noexcept = default;
Cascade& Cascade::operator=(Cascade&&) noexcept = default;
Cascade::~Cascade() = default;

const CascadeOptions& Cascade::options() const {
    return state_->options;
}
const std::map<std::string, std::string>& Cascade::metadata() const {
    return state_->metadata;
}
std::string Cascade::precision() const {
    return state_->type == at::kBFloat16 ? "bfloat16" : "float32";
}

std::string Cascade::convolutions() const {
    return state_->own ? state_->own->instruction_set() : "LibTorch";
}

std::vector<WindowOperator::Residual> Cascade::State::reconstruct(const SampledWindow& window,
                                                                  std::span<std::complex<float>> output,
                                                                  const WindowShape& shape,
                                                                  CascadeMemory* history, bool cycle) {
    check(shape);
    data = take_samples(data, window, output.size(), shape, run.threads, device);
    return torch_call("the network", [&] {
        if (own)
            return own->run(*data, window.start, output, shape, history != nullptr, cycle);
        set_torch_threads(run.threads);
        const c10::InferenceMode inference;
        const RadialConsistency consistency(data, device);
        at::Tensor start = at::empty({shape.frames, shape.height, shape.width, 2}, at::kFloat);
        std::memcpy(start.data_ptr<float>(), window.start.data(), window.start.size_bytes());
        const at::Tensor images = module->reconstruct(start.to(device), consistency, type, history, cycle);
        const at::Tensor normal = consistency.normal(images).to(at::kCPU).contiguous();
        const at::Tensor host = images.to(at::kCPU).contiguous();
        std::memcpy(static_cast<void*>(output.data()), host.const_data_ptr<float>(), output.size_bytes());
        return data->residual(output, {reinterpret_cast<const cfloat*>(normal.const_data_ptr<float>()),
                                       static_cast<std::size_t>(normal.numel() / 2)});
    });
}

std::vector<WindowOperator::Residual> Cascade::run(const SampledWindow& window,
                                                   std::span<std::complex<float>> output,
                                                   const WindowShape& shape, bool cycle) {
    if (cycle && options().causal)
        throw Error(Errc::settings,
                    "a causal cascade knows no cycle: the last frame would be before the first");
    return state_->reconstruct(window, output, shape, nullptr, cycle);
}

std::vector<WindowOperator::Residual> Cascade::stream(const SampledWindow& frames,
                                                      std::span<std::complex<float>> output,
                                                      const WindowShape& shape) {
    if (!options().causal)
        throw Error(Errc::settings,
                    "a cascade over windows cannot take frames as they come: it sees later ones");
    State& s = *state_;
    if (s.past_shape != std::pair(shape.width, shape.height))
        reset();
    s.past_shape = {shape.width, shape.height};
    try {
        return s.reconstruct(frames, output, shape, &s.past, false);
    } catch (...) {
        reset();
        throw;
    }
}

void Cascade::reset() {
    state_->past = {};
    if (state_->own)
        state_->own->reset();
}

double Cascade::warm_up(const WindowShape& shape) {
    state_->check(shape); // before a scan of its size is made
    const EmptyScan scan(shape, options().strip_limit);
    std::vector<cfloat> output(shape.count());
    const double seconds = seconds_of_last(2, [&] {
        // What a stream keeps of its frames is made by its first.
        if (options().causal)
            stream(scan.window(), output, shape);
        else
            run(scan.window(), output, shape);
    });
    reset();
    return seconds;
}

} // namespace mri
