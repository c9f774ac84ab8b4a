// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/crnn/planes.hpp"

#include "models/common/plane_layers.hpp"

#include <cstring>
#include <numeric>
#include <utility>

namespace mri {

using planes::Frames;
using planes::Layout;
using planes::Source;
using planes::Type;
using planes::Word;

PlaneCrnn::PlaneCrnn(const TensorFile& file, const std::string& input, const std::string& hidden,
                     const std::string& iteration, int units, Type type, int threads)
    : type_(type), pool_(threads), filters_(static_cast<int>(file.tensors.at(input + ".weight").shape[0])) {
    const auto both = [&](const std::string& a, const std::string& b, float slope) {
        const NamedTensor& first = file.tensors.at(a + ".weight");
        std::vector<float> bias = planes::bias_of(file, a);
        const std::vector<float> second = planes::bias_of(file, b);
        for (std::size_t i = 0; i < bias.size(); ++i)
            bias[i] += second[i];
        return planes::convolution(
            type,
            {{&first, 0, static_cast<int>(first.shape[1])}, {&file.tensors.at(b + ".weight"), 0, filters_}},
            bias, slope);
    };
    layers_.push_back(both(input, iteration, 1.0F));
    layers_.push_back(planes::convolution(type, file, hidden, 0.0F));
    for (int n = 1; n <= units; ++n) {
        const std::string name = "conv" + std::to_string(n);
        layers_.push_back(both(name + "_x", name + "_h", 0.0F));
    }
    layers_.push_back(planes::convolution(type, file, "conv" + std::to_string(units + 1) + "_x", 1.0F));
    states_.resize(static_cast<std::size_t>(units) + 1);
}

void PlaneCrnn::prepare(int frames, const Layout& features) {
    planes::fit(image_, frames, Layout(type_, 2, features.height, features.width));
    planes::fit(given_, frames, features);
    planes::fit(change_, frames, Layout(Type::float32, 2, features.height, features.width));
    for (std::size_t n = 1; n < states_.size(); ++n)
        planes::fit(states_[n], frames, features);
    first_ = true;
}

void PlaneCrnn::begin(int frames, int height, int width) {
    const Layout features(type_, filters_, height, width);
    prepare(frames, features);
    planes::fit(states_[0], frames, features);
    planes::fit(back_, 2, features);
}

void PlaneCrnn::begin(PlaneCrnnMemory& past, int iterations, int height, int width) {
    const Layout features(type_, filters_, height, width);
    prepare(1, features);
    if (planes::fit(past.states, iterations + 1, features)) {
        past.places.resize(static_cast<std::size_t>(iterations) + 1);
        std::iota(past.places.begin(), past.places.end(), 0);
        past.begun = false;
    }
}

/// A state as the iteration before left it.
Source PlaneCrnn::before(const Frames& state) const {
    return first_ ? Source{std::vector<const Word*>(static_cast<std::size_t>(image_.count())), state.layout()}
                  : planes::source_of(state);
}

/// What the cell adds up of the image and of its states of the iteration before: once for both directions,
/// and for all frames together.
void PlaneCrnn::give(std::span<const std::complex<float>> image, const Source& previous) {
    planes::set_frames(pool_, image_,
                       std::span(reinterpret_cast<const float*>(image.data()), 2 * image.size()));
    layers_[0].run(pool_, std::vector<Source>{planes::source_of(image_), previous},
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
    after_cell(planes::source_of(sum), change);
}

void PlaneCrnn::step(std::span<const std::complex<float>> image, std::span<std::complex<float>> change,
                     PlaneCrnnMemory& past, int iteration) {
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
        cell = planes::source_of(states_[n]);
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
