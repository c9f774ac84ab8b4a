// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/plane_layers.hpp"

#include <cstdint>
#include <utility>

namespace mri::planes {

namespace {

/// Extent of a weight's dimension counted from the last, 1 where it has none.
int extent(const NamedTensor& weight, std::size_t from_last) {
    return from_last + 2 < weight.shape.size()
               ? static_cast<int>(weight.shape[weight.shape.size() - 1 - from_last])
               : 1;
}

/// Where an output 2 i + parity of a transposed convolution of stride 2 takes its inputs from: (offset from
/// i, place in the kernel). Kernels of 3 have a padding of 1, those of 2 none.
std::vector<std::pair<int, int>> sources_of(int kernel, int parity) {
    if (kernel == 1)
        return {{0, 0}};
    if (kernel == 2)
        return {{0, parity}};
    return parity == 0 ? std::vector<std::pair<int, int>>{{0, 1}}
                       : std::vector<std::pair<int, int>>{{0, 2}, {1, 0}};
}

} // namespace

std::vector<float> bias_of(const TensorFile& file, const std::string& layer) {
    const auto it = file.tensors.find(layer + ".bias");
    return it == file.tensors.end() ? std::vector<float>() : it->second.values;
}

Convolution convolution(Type type, const std::vector<WeightPart>& parts, std::vector<float> bias, float slope,
                        bool causal) {
    const int kt = extent(*parts[0].weight, 2), ky = extent(*parts[0].weight, 1),
              kx = extent(*parts[0].weight, 0);
    std::vector<int> inputs;
    std::vector<Convolution::Tap> taps;
    for (std::size_t s = 0; s < parts.size(); ++s) {
        inputs.push_back(parts[s].channels);
        for (int t = 0; t < kt; ++t)
            for (int y = 0; y < ky; ++y)
                for (int x = 0; x < kx; ++x)
                    taps.push_back(
                        {static_cast<int>(s), causal ? t - (kt - 1) : t - kt / 2, y - ky / 2, x - kx / 2});
    }
    const int kernel = kt * ky * kx;
    const auto weight = [&](int tap, int output, int input) {
        const WeightPart& part = parts[static_cast<std::size_t>(tap / kernel)];
        const std::int64_t channel = output * part.weight->shape[1] + part.first + input;
        return part.weight->values[static_cast<std::size_t>(channel * kernel + tap % kernel)];
    };
    return {type, inputs, static_cast<int>(parts[0].weight->shape[0]), taps, weight, std::move(bias), slope};
}

Convolution convolution(Type type, const TensorFile& file, const std::string& layer, float slope,
                        bool causal) {
    const NamedTensor& weight = file.tensors.at(layer + ".weight");
    return convolution(type, {{&weight, 0, static_cast<int>(weight.shape[1])}}, bias_of(file, layer), slope,
                       causal);
}

Convolution joining(Type type, const TensorFile& file, const std::string& layer, float slope) {
    const NamedTensor& weight = file.tensors.at(layer + ".weight");
    const int half = static_cast<int>(weight.shape[1] / 2);
    return convolution(type, {{&weight, 0, half}, {&weight, half, half}}, bias_of(file, layer), slope);
}

std::vector<Convolution> transposed(Type type, const TensorFile& file, const std::string& layer,
                                    float slope) {
    const NamedTensor& weight = file.tensors.at(layer + ".weight");
    const int kt = extent(weight, 2), ky = extent(weight, 1), kx = extent(weight, 0);
    std::vector<Convolution> out;
    for (int pt = 0; pt < (kt > 1 ? 2 : 1); ++pt)
        for (int py = 0; py < 2; ++py)
            for (int px = 0; px < 2; ++px) {
                std::vector<Convolution::Tap> taps;
                std::vector<int> places;
                for (const auto& [dt, t] : sources_of(kt, pt))
                    for (const auto& [dy, y] : sources_of(ky, py))
                        for (const auto& [dx, x] : sources_of(kx, px)) {
                            taps.push_back({0, dt, dy, dx});
                            places.push_back((t * ky + y) * kx + x);
                        }
                const auto value = [&](int tap, int output, int input) {
                    const std::int64_t channel = input * weight.shape[1] + output;
                    return weight.values[static_cast<std::size_t>(channel * kt * ky * kx +
                                                                  places[static_cast<std::size_t>(tap)])];
                };
                out.emplace_back(type, std::vector<int>{static_cast<int>(weight.shape[0])},
                                 static_cast<int>(weight.shape[1]), taps, value, bias_of(file, layer), slope);
            }
    return out;
}

Source source_of(const Frames& frames) {
    return {frames.inputs(), frames.layout()};
}

void run(ThreadPool& pool, std::vector<Convolution>& layer, const std::vector<Source>& sources, Frames& out) {
    layer[0].run(pool, sources, {out.outputs(), out.layout()});
}

void run_up(ThreadPool& pool, std::vector<Convolution>& layer, const Source& source, Frames& out) {
    const int steps = layer.size() == 8 ? 2 : 1;
    for (int i = 0; i < static_cast<int>(layer.size()); ++i)
        layer[static_cast<std::size_t>(i)].run(
            pool, std::span(&source, 1), {out.outputs(i / 4, steps), out.layout(), 2, i / 2 % 2, i % 2});
}

bool fit(Frames& frames, int count, const Layout& layout) {
    if (frames.count() == count && frames.layout() == layout)
        return false;
    frames = Frames(); // first: memory for both is not needed
    frames = Frames(count, layout);
    return true;
}

void set_frames(ThreadPool& pool, Frames& frames, std::span<const float> input) {
    const Layout& l = frames.layout();
    const std::size_t values = static_cast<std::size_t>(l.channels) * static_cast<std::size_t>(l.height) *
                               static_cast<std::size_t>(l.width);
    pool.parallel_for(frames.count(), [&](int t, int) {
        frames.set(t, input.subspan(static_cast<std::size_t>(t) * values, values));
    });
}

void add_magnitude(ThreadPool& pool, const Frames& change, std::span<const float> input,
                   std::span<float> output, int channels) {
    const auto pixels =
        static_cast<std::size_t>(change.layout().height) * static_cast<std::size_t>(change.layout().width);
    pool.parallel_for(change.count(), [&](int t, int) {
        const std::size_t begin = static_cast<std::size_t>(t) * pixels;
        change.get(t, 0, output.subspan(begin, pixels));
        for (std::size_t i = begin; i < begin + pixels; ++i) {
            float magnitude = 0;
            for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c)
                magnitude += input[i * static_cast<std::size_t>(channels) + c];
            // NaN stays NaN
            const float sum = output[i] + magnitude;
            output[i] = sum < 0.0F ? 0.0F : sum;
        }
    });
}

} // namespace mri::planes
