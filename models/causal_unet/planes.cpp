// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/planes.hpp"

#include "models/common/plane_layers.hpp"

#include <cstring>
#include <utility>

namespace mri {

using planes::Frames;
using planes::Layout;
using planes::Source;
using planes::Type;
using planes::Word;

namespace {

constexpr int frames_before = 2; // that a layer over time sees

} // namespace

PlaneCausalUnet::PlaneCausalUnet(const CausalUnetOptions& options, const TensorFile& file, Type type,
                                 int threads)
    : filters_(options.filters), type_(type), pool_(threads) {
    for (const char* name : {"conv1", "conv2", "conv3"})
        layers_[name] = {planes::convolution(type, file, name, 0.0F)};
    for (const char* name : {"conv1_1", "conv2_2", "conv3_3", "conv4_4", "conv5_5"})
        layers_[name] = {planes::convolution(type, file, name, 0.0F, true)};
    for (const char* name : {"conv4", "conv5"})
        layers_[name] = {planes::joining(type, file, name, 0.0F)};
    for (const char* name : {"convT1", "convT2"})
        layers_[name] = planes::transposed(type, file, name, 1.0F);
    layers_["conv6"] = {planes::convolution(type, file, "conv6", 1.0F)};
}

void PlaneCausalUnet::LayerHistory::prepare(int count, const Layout& layout) {
    if (frames.layout() == layout && frames.count() >= count + frames_before)
        return;
    Frames larger(count + frames_before, layout);
    if (begun)
        for (int t = 0; t < frames_before; ++t)
            std::memcpy(larger.frame(t), at(t), static_cast<std::size_t>(layout.frame) * sizeof(Word));
    frames = std::move(larger);
    first = 0;
}

std::vector<Word*> PlaneCausalUnet::LayerHistory::outputs(int count) {
    std::vector<Word*> out;
    for (int t = 0; t < count; ++t)
        out.push_back(at(frames_before + t));
    return out;
}

Source PlaneCausalUnet::LayerHistory::source(int count) {
    Source out{{}, frames.layout(), frames_before};
    for (int t = 0; t < frames_before + count; ++t) {
        // To each layer it is as if its first frame had always been there.
        if (!begun && t < frames_before)
            std::memcpy(at(t), at(frames_before),
                        static_cast<std::size_t>(frames.layout().frame - 16) * sizeof(Word));
        out.frames.push_back(at(t));
    }
    return out;
}

void PlaneCausalUnet::LayerHistory::advance(int count) {
    begun = true;
    first = (first + count) % frames.count();
}

void PlaneCausalUnet::reset() {
    for (LayerHistory& history : histories_)
        history.begun = false;
}

void PlaneCausalUnet::prepare(int frames, int height, int width) {
    for (int level = 0; level < 3; ++level) {
        const auto layout = [&](int channels) {
            return Layout(type_, channels, height >> level, width >> level);
        };
        const int filters = filters_ << level;
        planes::fit(in_[level], frames, layout(level == 0 ? 2 : filters / 2));
        planes::fit(skip_[level], frames, layout(filters));
        histories_[level].prepare(frames, layout(filters));
        if (level < 2) {
            planes::fit(up_[level], frames, layout(filters));
            histories_[4 - level].prepare(frames, layout(filters));
        }
    }
    planes::fit(last_, frames, Layout(Type::float32, 1, height, width));
}

void PlaneCausalUnet::run(std::span<const float> input, std::span<float> output, int frames, int height,
                          int width) {
    prepare(frames, height, width);
    const auto pair = [&](const char* first, const char* second, const std::vector<Source>& sources,
                          LayerHistory& history, Frames& out) {
        layers_.at(first)[0].run(pool_, sources, {history.outputs(frames), history.frames.layout()});
        planes::run(pool_, layers_.at(second), {history.source(frames)}, out);
        history.advance(frames);
    };
    const auto pool = [&](int level) {
        planes::max_pool(pool_, skip_[level].inputs(), skip_[level].layout(), in_[level + 1].outputs(),
                         in_[level + 1].layout(), false);
    };
    planes::set_frames(pool_, in_[0], input);
    pair("conv1", "conv1_1", {planes::source_of(in_[0])}, histories_[0], skip_[0]);
    pool(0);
    pair("conv2", "conv2_2", {planes::source_of(in_[1])}, histories_[1], skip_[1]);
    pool(1);
    pair("conv3", "conv3_3", {planes::source_of(in_[2])}, histories_[2], skip_[2]);
    planes::run_up(pool_, layers_.at("convT1"), planes::source_of(skip_[2]), up_[1]);
    pair("conv4", "conv4_4", {planes::source_of(up_[1]), planes::source_of(skip_[1])}, histories_[3],
         skip_[1]);
    planes::run_up(pool_, layers_.at("convT2"), planes::source_of(skip_[1]), up_[0]);
    pair("conv5", "conv5_5", {planes::source_of(up_[0]), planes::source_of(skip_[0])}, histories_[4],
         skip_[0]);
    planes::run(pool_, layers_.at("conv6"), {planes::source_of(skip_[0])}, last_);
    planes::add_magnitude(pool_, last_, input, output, 2);
}

} // namespace mri
