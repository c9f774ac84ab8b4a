// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cascade_module.hpp"

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
    for (const auto& [name, shape] : cascade_tensors(options)) {
        if (shape.size() < 5) {
            NamedTensor step = zeros(shape);
            step.values.front() = 1.0F;
            set(name, step);
            continue;
        }
        // [out, in, 3, 3, 3]; two channels come out of a block's last layer alone
        const bool last = name.ends_with("." + std::to_string(options.layers - 1) + ".weight");
        set(name, last ? zeros(shape) : he_uniform(shape, 27.0 * static_cast<double>(shape[1]), 0, random));
    }
}

at::Tensor CascadeModule::reconstruct(const at::Tensor& start, const RadialConsistency& data,
                                      at::ScalarType type) const {
    at::Tensor x = start;
    const at::Tensor mean = start.mean(0, true).expand_as(start);
    at::Tensor misfit = data.misfit(x);
    for (int block = 0; block < options_.blocks; ++block) {
        // [T, H, W, C] in memory is [1, C, T, H, W] with the channels innermost.
        at::Tensor f = at::cat({x - mean, mean, misfit}, 3).to(type).permute({3, 0, 1, 2}).unsqueeze(0);
        for (int layer = 0; layer < options_.layers; ++layer) {
            if (layer > 0)
                f = at::relu_(f);
            const at::Tensor& weight =
                parameters().at(name_of(block, "conv." + std::to_string(layer) + ".weight"));
            f = at::conv3d(f, weight.to(type), {}, 1, 1);
        }
        x = x + f.squeeze(0).permute({1, 2, 3, 0}).to(at::kFloat);
        misfit = data.misfit(x);
        x = x + parameters().at(name_of(block, "eta")) * misfit;
    }
    return x;
}

} // namespace mri
