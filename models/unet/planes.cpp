// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/unet/planes.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace mri {

namespace {

using planes::Convolution;
using planes::Frames;
using planes::Layout;
using planes::Source;
using planes::Type;
using planes::Word;

constexpr int causal_memory = 2; // frames before

/// What a layer takes from one source: `channels` of a weight [out][in]([t])[y][x] from `first` on.
struct Part {
    const NamedTensor* weight;
    int first, channels;
};

std::vector<float> bias_of(const TensorFile& file, const std::string& layer) {
    const auto it = file.tensors.find(layer + ".bias");
    return it == file.tensors.end() ? std::vector<float>() : it->second.values;
}

/// Extent of a weight's dimension counted from the last, 1 where it has none.
int extent(const NamedTensor& weight, std::size_t from_last) {
    return from_last + 2 < weight.shape.size()
               ? static_cast<int>(weight.shape[weight.shape.size() - 1 - from_last])
               : 1;
}

/// A convolution that keeps the size; `causal`: over the frames before instead of those around.
Convolution convolution(Type type, const std::vector<Part>& parts, std::vector<float> bias, float slope,
                        bool causal = false) {
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
        const Part& part = parts[static_cast<std::size_t>(tap / kernel)];
        const std::int64_t channel = output * part.weight->shape[1] + part.first + input;
        return part.weight->values[static_cast<std::size_t>(channel * kernel + tap % kernel)];
    };
    return {type, inputs, static_cast<int>(parts[0].weight->shape[0]), taps, weight, std::move(bias), slope};
}

Convolution convolution(Type type, const TensorFile& file, const std::string& layer, float slope,
                        bool causal = false) {
    const NamedTensor& weight = file.tensors.at(layer + ".weight");
    return convolution(type, {{&weight, 0, static_cast<int>(weight.shape[1])}}, bias_of(file, layer), slope,
                       causal);
}

/// Over what was concatenated: the up-sampled half and the skipped one.
Convolution joining(Type type, const TensorFile& file, const std::string& layer, float slope) {
    const NamedTensor& weight = file.tensors.at(layer + ".weight");
    const int half = static_cast<int>(weight.shape[1] / 2);
    return convolution(type, {{&weight, 0, half}, {&weight, half, half}}, bias_of(file, layer), slope);
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

/// A transposed convolution of stride 2, weight [in][out]([t])[y][x]: one convolution for each parity of (t),
/// y, x, in this order.
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

/// `layer` is of transposed().
void run_up(ThreadPool& pool, std::vector<Convolution>& layer, const Source& source, Frames& out) {
    const int steps = layer.size() == 8 ? 2 : 1;
    for (int i = 0; i < static_cast<int>(layer.size()); ++i)
        layer[static_cast<std::size_t>(i)].run(
            pool, std::span(&source, 1), {out.outputs(i / 4, steps), out.layout(), 2, i / 2 % 2, i % 2});
}

/// New frames where these are of another shape; whether they are.
bool fit(Frames& frames, int count, const Layout& layout) {
    if (frames.count() == count && frames.layout() == layout)
        return false;
    frames = Frames(); // first: memory for both is not needed
    frames = Frames(count, layout);
    return true;
}

/// ReLU(change + magnitude), the magnitude being the sum of a pixel's channels.
void finish(ThreadPool& pool, const Frames& change, std::span<const float> input, std::span<float> output,
            int channels) {
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

void set_frames(ThreadPool& pool, Frames& frames, std::span<const float> input) {
    const Layout& l = frames.layout();
    const std::size_t values = static_cast<std::size_t>(l.channels) * static_cast<std::size_t>(l.height) *
                               static_cast<std::size_t>(l.width);
    pool.parallel_for(frames.count(), [&](int t, int) {
        frames.set(t, input.subspan(static_cast<std::size_t>(t) * values, values));
    });
}

} // namespace

PlaneUnet::PlaneUnet(const UnetOptions& options, const TensorFile& file, Type type, int threads)
    : options_(options), type_(type), pool_(threads) {
    const float leak = options.leak;
    for (int level = 1; level <= 5; ++level)
        for (const std::string& name : unet_level(options, level))
            layers_[name] = {name == "conv4" || name == "conv5"
                                 ? joining(type, file, name.c_str(), leak)
                                 : convolution(type, file, name.c_str(), leak)};
    for (const char* name : {"convT1", "convT2"})
        layers_[name] = transposed(type, file, name, options.up_relu ? leak : 1.0F);
    layers_["conv6"] = {convolution(type, file, "conv6", 1.0F)};
}

void PlaneUnet::prepare(int frames, int height, int width) {
    const int filters[] = {options_.filters, options_.middle_filters(), options_.bottleneck_filters()};
    for (int level = 0; level < 3; ++level) {
        const auto layout = [&](int channels) {
            return Layout(type_, channels, height >> level, width >> level);
        };
        const int count = frames >> level;
        fit(in_[level], count, layout(level == 0 ? options_.input_channels() : filters[level - 1]));
        fit(skip_[level], count, layout(filters[level]));
        fit(a_[level], count, layout(filters[level]));
        if (level < 2 || options_.convolutions > 2)
            fit(b_[level], count, layout(filters[level]));
    }
    fit(last_, frames, Layout(Type::float32, 1, height, width));
}

void PlaneUnet::run(std::span<const float> input, std::span<float> output, int frames, int height,
                    int width) {
    prepare(frames, height, width);
    const auto layer = [&](const std::string& name, const std::vector<Source>& sources, Frames& out) {
        mri::run(pool_, layers_.at(name), sources, out);
    };
    // Convolutions in turn from one of two buffers to the other; the last one's output may be of its own.
    const auto chain = [&](const std::vector<std::string>& names, std::vector<Source> sources, Frames* even,
                           Frames* odd, Frames* last) {
        Frames* out = nullptr;
        for (std::size_t i = 0; i < names.size(); ++i) {
            out = last && i + 1 == names.size() ? last : i % 2 == 0 ? even : odd;
            layer(names[i], sources, *out);
            sources = {source_of(*out)};
        }
        return out;
    };
    const auto down = [&](int level) {
        if (level > 0)
            planes::max_pool(pool_, skip_[level - 1].inputs(), skip_[level - 1].layout(),
                             in_[level].outputs(), in_[level].layout(), true);
        chain(unet_level(options_, level + 1), {source_of(in_[level])}, &a_[level], &b_[level],
              &skip_[level]);
    };
    const auto back = [&](const char* up, int number, const Frames& below, int level) -> const Frames& {
        run_up(pool_, layers_.at(up), source_of(below), a_[level]);
        return *chain(unet_level(options_, number), {source_of(a_[level]), source_of(skip_[level])},
                      &b_[level], &a_[level], nullptr);
    };
    set_frames(pool_, in_[0], input);
    for (int level = 0; level < 3; ++level)
        down(level);
    const Frames& second = back("convT1", 4, skip_[2], 1);
    const Frames& first = back("convT2", 5, second, 0);
    layer("conv6", {source_of(first)}, last_);
    finish(pool_, last_, input, output, options_.input_channels());
}

PlaneCausalUnet::PlaneCausalUnet(const CausalUnetOptions& options, const TensorFile& file, Type type,
                                 int threads)
    : filters_(options.filters), type_(type), pool_(threads) {
    for (const char* name : {"conv1", "conv2", "conv3"})
        layers_[name] = {convolution(type, file, name, 0.0F)};
    for (const char* name : {"conv1_1", "conv2_2", "conv3_3", "conv4_4", "conv5_5"})
        layers_[name] = {convolution(type, file, name, 0.0F, true)};
    for (const char* name : {"conv4", "conv5"})
        layers_[name] = {joining(type, file, name, 0.0F)};
    for (const char* name : {"convT1", "convT2"})
        layers_[name] = transposed(type, file, name, 1.0F);
    layers_["conv6"] = {convolution(type, file, "conv6", 1.0F)};
}

void PlaneCausalUnet::Ring::prepare(int count, const Layout& layout) {
    if (frames.layout() == layout && frames.count() >= count + causal_memory)
        return;
    Frames larger(count + causal_memory, layout);
    if (begun)
        for (int t = 0; t < causal_memory; ++t)
            std::memcpy(larger.frame(t), at(t), static_cast<std::size_t>(layout.frame) * sizeof(Word));
    frames = std::move(larger);
    first = 0;
}

std::vector<Word*> PlaneCausalUnet::Ring::outputs(int count) {
    std::vector<Word*> out;
    for (int t = 0; t < count; ++t)
        out.push_back(at(causal_memory + t));
    return out;
}

Source PlaneCausalUnet::Ring::source(int count) {
    Source out{{}, frames.layout(), causal_memory};
    for (int t = 0; t < causal_memory + count; ++t) {
        // To each layer it is as if its first frame had always been there.
        if (!begun && t < causal_memory)
            std::memcpy(at(t), at(causal_memory),
                        static_cast<std::size_t>(frames.layout().frame - 16) * sizeof(Word));
        out.frames.push_back(at(t));
    }
    return out;
}

void PlaneCausalUnet::Ring::advance(int count) {
    begun = true;
    first = (first + count) % frames.count();
}

void PlaneCausalUnet::reset() {
    for (Ring& ring : rings_)
        ring.begun = false;
}

void PlaneCausalUnet::prepare(int frames, int height, int width) {
    for (int level = 0; level < 3; ++level) {
        const auto layout = [&](int channels) {
            return Layout(type_, channels, height >> level, width >> level);
        };
        const int filters = filters_ << level;
        fit(in_[level], frames, layout(level == 0 ? 2 : filters / 2));
        fit(skip_[level], frames, layout(filters));
        rings_[level].prepare(frames, layout(filters));
        if (level < 2) {
            fit(up_[level], frames, layout(filters));
            rings_[4 - level].prepare(frames, layout(filters));
        }
    }
    fit(last_, frames, Layout(Type::float32, 1, height, width));
}

void PlaneCausalUnet::run(std::span<const float> input, std::span<float> output, int frames, int height,
                          int width) {
    prepare(frames, height, width);
    const auto pair = [&](const char* first, const char* second, const std::vector<Source>& sources,
                          Ring& ring, Frames& out) {
        layers_.at(first)[0].run(pool_, sources, {ring.outputs(frames), ring.frames.layout()});
        mri::run(pool_, layers_.at(second), {ring.source(frames)}, out);
        ring.advance(frames);
    };
    const auto pool = [&](int level) {
        planes::max_pool(pool_, skip_[level].inputs(), skip_[level].layout(), in_[level + 1].outputs(),
                         in_[level + 1].layout(), false);
    };
    set_frames(pool_, in_[0], input);
    pair("conv1", "conv1_1", {source_of(in_[0])}, rings_[0], skip_[0]);
    pool(0);
    pair("conv2", "conv2_2", {source_of(in_[1])}, rings_[1], skip_[1]);
    pool(1);
    pair("conv3", "conv3_3", {source_of(in_[2])}, rings_[2], skip_[2]);
    run_up(pool_, layers_.at("convT1"), source_of(skip_[2]), up_[1]);
    pair("conv4", "conv4_4", {source_of(up_[1]), source_of(skip_[1])}, rings_[3], skip_[1]);
    run_up(pool_, layers_.at("convT2"), source_of(skip_[1]), up_[0]);
    pair("conv5", "conv5_5", {source_of(up_[0]), source_of(skip_[0])}, rings_[4], skip_[0]);
    mri::run(pool_, layers_.at("conv6"), {source_of(skip_[0])}, last_);
    finish(pool_, last_, input, output, 2);
}

PlaneCrnn::PlaneCrnn(const TensorFile& file, const std::string& input, const std::string& hidden,
                     const std::string& iteration, int units, Type type, int threads)
    : type_(type), pool_(threads), filters_(static_cast<int>(file.tensors.at(input + ".weight").shape[0])) {
    const auto both = [&](const std::string& a, const std::string& b, float slope) {
        const NamedTensor& first = file.tensors.at(a + ".weight");
        std::vector<float> bias = bias_of(file, a);
        const std::vector<float> second = bias_of(file, b);
        for (std::size_t i = 0; i < bias.size(); ++i)
            bias[i] += second[i];
        return convolution(
            type,
            {{&first, 0, static_cast<int>(first.shape[1])}, {&file.tensors.at(b + ".weight"), 0, filters_}},
            bias, slope);
    };
    layers_.push_back(both(input, iteration, 1.0F));
    layers_.push_back(convolution(type, file, hidden, 0.0F));
    for (int n = 1; n <= units; ++n) {
        const std::string name = "conv" + std::to_string(n);
        layers_.push_back(both(name + "_x", name + "_h", 0.0F));
    }
    layers_.push_back(convolution(type, file, "conv" + std::to_string(units + 1) + "_x", 1.0F));
    states_.resize(static_cast<std::size_t>(units) + 1);
}

void PlaneCrnn::prepare(int frames, const Layout& features) {
    fit(image_, frames, Layout(type_, 2, features.height, features.width));
    fit(given_, frames, features);
    fit(change_, frames, Layout(Type::float32, 2, features.height, features.width));
    for (std::size_t n = 1; n < states_.size(); ++n)
        fit(states_[n], frames, features);
    first_ = true;
}

void PlaneCrnn::begin(int frames, int height, int width) {
    const Layout features(type_, filters_, height, width);
    prepare(frames, features);
    fit(states_[0], frames, features);
    fit(back_, 2, features);
}

void PlaneCrnn::begin(Past& past, int iterations, int height, int width) {
    const Layout features(type_, filters_, height, width);
    prepare(1, features);
    if (fit(past.states, iterations + 1, features)) {
        past.places.resize(static_cast<std::size_t>(iterations) + 1);
        std::iota(past.places.begin(), past.places.end(), 0);
        past.begun = false;
    }
}

/// A state as the iteration before left it.
Source PlaneCrnn::before(const Frames& state) const {
    return first_ ? Source{std::vector<const Word*>(static_cast<std::size_t>(image_.count())), state.layout()}
                  : source_of(state);
}

/// What the cell adds up of the image and of its states of the iteration before: once for both directions,
/// and for all frames together.
void PlaneCrnn::give(std::span<const std::complex<float>> image, const Source& previous) {
    set_frames(pool_, image_, std::span(reinterpret_cast<const float*>(image.data()), 2 * image.size()));
    layers_[0].run(pool_, std::vector<Source>{source_of(image_), previous},
                   {given_.outputs(), given_.layout()});
}

/// The cell's state of frame t from that of its neighbour; null: 0.
void PlaneCrnn::recur(int t, const Word* hidden, Word* out) {
    const Source source{{hidden}, given_.layout()};
    const std::vector<const Word*> given{given_.frame(t)};
    layers_[1].run(pool_, std::span(&source, 1), {{out}, given_.layout()}, &given);
}

void PlaneCrnn::step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change) {
    const int frames = image_.count();
    Frames& sum = states_[0];
    give(image, before(sum));
    for (int t = 0; t < frames; ++t)
        recur(t, t > 0 ? sum.frame(t - 1) : nullptr, sum.frame(t));
    for (int t = frames - 1; t >= 0; --t) {
        Word* hidden = back_.frame(t % 2);
        recur(t, t + 1 < frames ? back_.frame((t + 1) % 2) : nullptr, hidden);
        planes::add(pool_, sum.frame(t), hidden, sum.layout());
    }
    after_cell(source_of(sum), change);
}

void PlaneCrnn::step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change,
                     Past& past, int iteration) {
    const auto i = static_cast<std::size_t>(iteration);
    std::vector<int>& places = past.places;
    const auto source = [&](bool there, std::size_t at) {
        return Source{{there ? past.states.frame(places[at]) : nullptr}, past.states.layout()};
    };
    give(image, source(i > 0, i - 1));
    recur(0, past.begun ? past.states.frame(places[i]) : nullptr, past.states.frame(places.back()));
    // That of the frame before is free from now on.
    std::swap(places[i], places.back());
    past.begun = past.begun || i + 2 == places.size();
    after_cell(source(true, i), change);
}

/// The layers recurrent over iterations, and the last one.
void PlaneCrnn::after_cell(Source cell, std::span<std::complex<float>> change) {
    // The frames of what was given take the new states; the old ones are free after that.
    for (std::size_t n = 1; n < states_.size(); ++n) {
        layers_[n + 1].run(pool_, std::vector<Source>{std::move(cell), before(states_[n])},
                           {given_.outputs(), given_.layout()});
        std::swap(given_, states_[n]);
        cell = source_of(states_[n]);
    }
    layers_.back().run(pool_, std::span(&cell, 1), {change_.outputs(), change_.layout()});
    first_ = false;

    const Layout& l = change_.layout();
    pool_.parallel_for(change_.count(), [&](int t, int) {
        std::complex<float>* out = change.data() + static_cast<std::ptrdiff_t>(t) * l.height * l.width;
        for (int y = 0; y < l.height; ++y) {
            const Word* row = change_.frame(t) + y * l.row;
            for (int x = 0; x < l.width; ++x) {
                float parts[2];
                std::memcpy(parts, row + x, sizeof(float));
                std::memcpy(parts + 1, row + l.plane + x, sizeof(float));
                *out++ = {parts[0], parts[1]};
            }
        }
    });
}

} // namespace mri
