// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/module.hpp"

#include "plugins/math/base/error.hpp"

namespace mri {

namespace {

std::string name_of(int block, const std::string& what) {
    return "blocks." + std::to_string(block) + "." + what;
}

} // namespace

CascadeModule::CascadeModule(const CascadeOptions& options, const TensorFile& file) : options_(options) {
    take(cascade_tensors(options), file);
}

CascadeModule::CascadeModule(const CascadeOptions& options, std::uint64_t seed) : options_(options) {
    std::mt19937_64 random(seed);
    std::string last_layer = std::to_string(options.layers - 1);
    last_layer.append(".weight").insert(0, 1, '.');
    for (const auto& [name, shape] : cascade_tensors(options)) {
        if (shape.size() < 5) {
            NamedTensor step = zeros(shape);
            step.values.front() = 1.0F;
            set(name, step);
            continue;
        }
        const bool last = name.ends_with(last_layer); // [out, in, 3, 3, 3]
        set(name, last ? zeros(shape) : he_uniform(shape, 27.0 * static_cast<double>(shape[1]), 0, random));
    }
}

at::Tensor CascadeModule::mean_of(const at::Tensor& start, CascadeMemory* past) const {
    if (!options_.causal)
        return start.mean(0, true).expand_as(start);
    at::Tensor mean = past && past->frames > 0 ? past->mean : at::zeros_like(start[0]);
    int frames = past ? past->frames : 0;
    std::vector<at::Tensor> means;
    for (std::int64_t t = 0; t < start.size(0); ++t) {
        frames = std::min(frames + 1, options_.mean_frames);
        mean = mean + (start[t] - mean) / frames;
        means.push_back(mean);
    }
    if (past) {
        past->mean = mean;
        past->frames = frames;
    }
    return at::stack(means);
}

bool CascadeModule::use_own_convolutions(int threads) {
    own_ = SeriesConvolution::create(options_.filters, threads);
    return own_ != nullptr;
}

/// 3x3x3 over x, y and the frames around, or of a causal cascade the two before.
at::Tensor CascadeModule::convolve(const at::Tensor& f, int block, int layer, CascadeMemory* past,
                                   bool cycle) const {
    const at::Tensor& parameter =
        parameters().at(name_of(block, "conv." + std::to_string(layer) + ".weight"));
    const bool relu = layer + 1 < options_.layers;
    if (own_)
        return (*own_)(f, parameter, {.reach = options_.causal ? 0 : 1, .cycle = cycle}, layer > 0, relu);
    at::Tensor in = f;
    if (cycle)
        in = at::cat({f.narrow(0, f.size(0) - 1, 1), f, f.narrow(0, 0, 1)});
    if (options_.causal) {
        at::Tensor before;
        if (past) {
            past->inputs.resize(static_cast<std::size_t>(options_.blocks * options_.layers));
            before = past->inputs[static_cast<std::size_t>(block * options_.layers + layer)];
        }
        if (!before.defined())
            before = at::zeros({2, f.size(1), f.size(2), f.size(3)}, f.options());
        in = at::cat({before, f});
        if (past)
            past->inputs[static_cast<std::size_t>(block * options_.layers + layer)] =
                in.narrow(0, f.size(0), 2).clone();
    }
    // [T, H, W, C] in memory is [1, C, T, H, W] with the channels innermost.
    in = in.permute({3, 0, 1, 2}).unsqueeze(0);
    const std::int64_t padding = cycle || options_.causal ? 0 : 1;
    at::Tensor out = at::conv3d(in, parameter.to(f.scalar_type()), {}, 1, {padding, 1, 1});
    return (relu ? at::relu_(out) : out).squeeze(0).permute({1, 2, 3, 0});
}

at::Tensor CascadeModule::reconstruct(const at::Tensor& start, const RadialConsistency& data,
                                      at::ScalarType type, CascadeMemory* past, bool cycle) const {
    if (own_ && past)
        throw Error(Errc::settings, "the convolutions of training know no stream");
    at::Tensor x = start;
    const at::Tensor mean = mean_of(start, past);
    std::vector<at::Tensor> input{{}, mean, {}};
    if (own_) // whose pixels have eight channels in memory
        input.push_back(at::zeros_like(start));
    at::Tensor misfit = data.misfit(x);
    for (int block = 0; block < options_.blocks; ++block) {
        input[0] = x - mean;
        input[2] = misfit;
        at::Tensor f = at::cat(input, 3).to(type);
        for (int layer = 0; layer < options_.layers; ++layer)
            f = convolve(f, block, layer, past, cycle);
        x = x + f.narrow(3, 0, 2).to(at::kFloat);
        misfit = data.misfit(x);
        x = x + parameters().at(name_of(block, "eta")) * misfit;
    }
    return x;
}

} // namespace mri
