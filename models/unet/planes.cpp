// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/unet/planes.hpp"

#include "models/common/plane_layers.hpp"

namespace mri {

using planes::Frames;
using planes::Layout;
using planes::Source;
using planes::Type;

PlaneUnet::PlaneUnet(const UnetOptions& options, const TensorFile& file, Type type, int threads)
    : options_(options), type_(type), pool_(threads) {
    const float leak = options.leak;
    for (int level = 1; level <= 5; ++level)
        for (const std::string& name : unet_level(options, level))
            layers_[name] = {name == "conv4" || name == "conv5"
                                 ? planes::joining(type, file, name.c_str(), leak)
                                 : planes::convolution(type, file, name.c_str(), leak)};
    for (const char* name : {"convT1", "convT2"})
        layers_[name] = planes::transposed(type, file, name, options.up_relu ? leak : 1.0F);
    layers_["conv6"] = {planes::convolution(type, file, "conv6", 1.0F)};
}

void PlaneUnet::prepare(int frames, int height, int width) {
    const int filters[] = {options_.filters, options_.middle_filters(), options_.bottleneck_filters()};
    for (int level = 0; level < 3; ++level) {
        const auto layout = [&](int channels) {
            return Layout(type_, channels, height >> level, width >> level);
        };
        const int count = frames >> level;
        planes::fit(in_[level], count, layout(level == 0 ? options_.input_channels() : filters[level - 1]));
        planes::fit(skip_[level], count, layout(filters[level]));
        planes::fit(a_[level], count, layout(filters[level]));
        if (level < 2 || options_.convolutions > 2)
            planes::fit(b_[level], count, layout(filters[level]));
    }
    planes::fit(last_, frames, Layout(Type::float32, 1, height, width));
}

void PlaneUnet::run(std::span<const float> input, std::span<float> output, int frames, int height,
                    int width) {
    prepare(frames, height, width);
    const auto layer = [&](const std::string& name, const std::vector<Source>& sources, Frames& out) {
        planes::run(pool_, layers_.at(name), sources, out);
    };
    // Convolutions in turn from one of two buffers to the other; the last one's output may be of its own.
    const auto chain = [&](const std::vector<std::string>& names, std::vector<Source> sources, Frames* even,
                           Frames* odd, Frames* last) {
        Frames* out = nullptr;
        for (std::size_t i = 0; i < names.size(); ++i) {
            out = last && i + 1 == names.size() ? last : i % 2 == 0 ? even : odd;
            layer(names[i], sources, *out);
            sources = {planes::source_of(*out)};
        }
        return out;
    };
    const auto down = [&](int level) {
        if (level > 0)
            planes::max_pool(pool_, skip_[level - 1].inputs(), skip_[level - 1].layout(),
                             in_[level].outputs(), in_[level].layout(), true);
        chain(unet_level(options_, level + 1), {planes::source_of(in_[level])}, &a_[level], &b_[level],
              &skip_[level]);
    };
    const auto back = [&](const char* up, int number, const Frames& below, int level) -> const Frames& {
        planes::run_up(pool_, layers_.at(up), planes::source_of(below), a_[level]);
        return *chain(unet_level(options_, number),
                      {planes::source_of(a_[level]), planes::source_of(skip_[level])}, &b_[level], &a_[level],
                      nullptr);
    };
    planes::set_frames(pool_, in_[0], input);
    for (int level = 0; level < 3; ++level)
        down(level);
    const Frames& second = back("convT1", 4, skip_[2], 1);
    const Frames& first = back("convT2", 5, second, 0);
    layer("conv6", {planes::source_of(first)}, last_);
    planes::add_magnitude(pool_, last_, input, output, options_.input_channels());
}

} // namespace mri
