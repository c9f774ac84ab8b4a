// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cascade_inference.hpp"

#include "plugins/common/sizes.hpp"
#include "plugins/gridding/arrays.hpp"

#include <algorithm>
#include <functional>
#include <string>

namespace mri {

namespace {

using convolution3d::Frames;
using convolution3d::Row;
using convolution3d::Weights;

/// Rows and frames that a thread computes at a time: their inputs and those of the frames around stay in a
/// second-level cache of 1 MB at 200 pixels and 16 channels, and the work can still be shared out evenly.
constexpr int task_rows = 16;
constexpr int task_frames = 8;

/// 8 GiB.
constexpr std::size_t max_features = std::size_t{1} << 32;

constexpr int complex_channels = 2, input_channels = 6;

int pieces(int count, int each) {
    return (count + each - 1) / each;
}

} // namespace

bool CascadeInference::covers(const CascadeOptions& options) {
    return convolution3d::kernels() && options.filters % convolution3d::block == 0;
}

CascadeInference::CascadeInference(const CascadeOptions& options, const TensorFile& file, int threads)
    : options_(options), kernels_(*convolution3d::kernels()), pool_(threads) {
    for (int block = 0; block < options.blocks; ++block) {
        const std::string name = "blocks." + std::to_string(block) + ".";
        Block& b = blocks_.emplace_back();
        b.step = file.tensors.at(name + "eta").values.front();
        for (int layer = 0; layer < options.layers; ++layer) {
            const bool first = layer == 0, last = layer + 1 == options.layers;
            b.layers.emplace_back(
                first ? Weights::Layer::first : (last ? Weights::Layer::last : Weights::Layer::hidden),
                file.tensors.at(name + "conv." + std::to_string(layer) + ".weight").values,
                last ? complex_channels : options.filters, first ? input_channels : options.filters);
        }
    }
}

void CascadeInference::reset() {
    stream_.frames = 0;
    stream_.mean_frames = 0;
}

Frames& CascadeInference::input(Features& features, int block, int layer) const {
    // A window's features are not needed after the next layer: two sets take turns.
    const int index =
        &features == &stream_ ? block * options_.layers + layer : (layer == 0 ? 0 : 1 + (layer - 1) % 2);
    return features.inputs[static_cast<std::size_t>(index)];
}

void CascadeInference::prepare(Features& f, const WindowShape& shape, bool goes_on) {
    const int past = goes_on ? 2 : 0;
    const bool fits = !f.inputs.empty() && f.shape.height == shape.height && f.shape.width == shape.width;
    if (fits) {
        for (Frames& frames : f.inputs)
            frames.grow(shape.frames + past, std::max<std::int64_t>(0, f.frames - past), f.frames - 1);
    } else {
        f = {};
        checked_product({static_cast<std::size_t>(goes_on ? options_.blocks * options_.layers : 2),
                         static_cast<std::size_t>(shape.frames + past), shape.pixels(),
                         static_cast<std::size_t>(options_.filters)},
                        max_features, "what a cascade keeps of frames");
        const int sets = goes_on ? options_.blocks * options_.layers : std::min(3, options_.layers);
        for (int i = 0; i < sets; ++i) {
            const bool first = i % (goes_on ? options_.layers : sets) == 0;
            f.inputs.emplace_back(shape.frames + past, first ? 1 : options_.filters / convolution3d::block,
                                  first ? convolution3d::packed : convolution3d::block, shape.height,
                                  shape.width);
        }
    }
    f.shape = shape;
    if (!goes_on) {
        f.frames = 0;
        f.mean_frames = 0;
    }
}

void CascadeInference::find_means(Features& f, std::span<const cfloat> start) {
    const std::size_t pixels = f.shape.pixels();
    const auto frames = static_cast<std::size_t>(f.shape.frames);
    if (!options_.causal) {
        means_.assign(pixels, cfloat());
        for (std::size_t t = 0; t < frames; ++t)
            arrays::add_scaled(means_.data(), 1.0F, start.data() + t * pixels, pixels);
        arrays::scale(means_.data(), 1.0F / static_cast<float>(frames), pixels);
        return;
    }
    means_.resize(frames * pixels);
    f.mean.resize(pixels);
    if (f.mean_frames == 0)
        std::fill(f.mean.begin(), f.mean.end(), cfloat());
    for (std::size_t t = 0; t < frames; ++t) {
        f.mean_frames = std::min(f.mean_frames + 1, options_.mean_frames);
        // M + (start - M) / frames
        const float share = 1.0F / static_cast<float>(f.mean_frames);
        arrays::scale(f.mean.data(), 1.0F - share, pixels);
        arrays::add_scaled(f.mean.data(), share, start.data() + t * pixels, pixels);
        std::copy(f.mean.begin(), f.mean.end(), means_.begin() + static_cast<std::ptrdiff_t>(t * pixels));
    }
}

/// images += the block's convolutions of its input.
void CascadeInference::convolve(Features& f, int block, cfloat* images, bool cycle) {
    const int height = f.shape.height, width = f.shape.width, frames = f.shape.frames;
    const int bands = pieces(height, task_rows), chunks = pieces(frames, task_frames);
    const int reach = options_.causal ? 0 : 1;
    for (int layer = 0; layer < options_.layers; ++layer) {
        const Weights& weights =
            blocks_[static_cast<std::size_t>(block)].layers[static_cast<std::size_t>(layer)];
        const Frames& in = input(f, block, layer);
        const bool last = layer + 1 == options_.layers;
        const auto row = [&](int t, int y) {
            Row around = rows_around(in, weights, width, f.frames + t, reach, y, 0, f.frames + frames, cycle);
            if (last) {
                kernels_.last(around, arrays::floats(images + (static_cast<std::size_t>(t) *
                                                                   static_cast<std::size_t>(height) +
                                                               static_cast<std::size_t>(y)) *
                                                                  static_cast<std::size_t>(width)));
                return;
            }
            Frames& out = input(f, block, layer + 1);
            for (int group = 0; group < weights.out_blocks(); ++group) {
                around.weights = weights.of(group);
                (layer == 0 ? kernels_.first : kernels_.hidden)(around, out.row(f.frames + t, group, y));
            }
        };
        pool_.parallel_for(bands * chunks, [&](int task, int) {
            const int y0 = task / chunks * task_rows, t0 = task % chunks * task_frames;
            for (int t = t0; t < std::min(frames, t0 + task_frames); ++t)
                for (int y = y0; y < std::min(height, y0 + task_rows); ++y)
                    row(t, y);
        });
    }
}

std::vector<WindowOperator::Residual>
CascadeInference::run(WindowOperator& data, std::span<const cfloat> start, std::span<cfloat> output,
                      const WindowShape& shape, bool goes_on, bool cycle) {
    Features& f = goes_on ? stream_ : window_;
    prepare(f, shape, goes_on);
    find_means(f, start);
    std::copy(start.begin(), start.end(), output.begin());
    const std::size_t pixels = shape.pixels();
    const auto width = static_cast<std::size_t>(shape.width);
    // g = b - N x, x += step g, and what block `next` is told.
    const auto step_towards_data = [&](float step, int next) {
        data.normal(output, [&](std::size_t t, std::span<const cfloat> normal) {
            for (int y = 0; y < shape.height; ++y) {
                const std::size_t at = static_cast<std::size_t>(y) * width;
                std::uint16_t* packed =
                    next < options_.blocks
                        ? input(f, next, 0).row(f.frames + static_cast<std::int64_t>(t), 0, y)
                        : nullptr;
                kernels_.data_step({arrays::floats(output.data() + t * pixels + at),
                                    arrays::floats(normal.data() + at),
                                    arrays::floats(data.right().data() + t * pixels + at),
                                    arrays::floats(means_.data() + (options_.causal ? t * pixels : 0) + at),
                                    step, packed, shape.width});
            }
        });
    };
    step_towards_data(0, 0);
    for (int block = 0; block < options_.blocks; ++block) {
        convolve(f, block, output.data(), cycle);
        step_towards_data(blocks_[static_cast<std::size_t>(block)].step, block + 1);
    }
    if (goes_on)
        f.frames += shape.frames;
    std::vector<WindowOperator::Residual> residual(static_cast<std::size_t>(shape.frames));
    data.normal(output, [&](std::size_t t, std::span<const cfloat> normal) {
        residual[t] = data.residual(t, output.subspan(t * pixels, pixels), normal);
    });
    return residual;
}

} // namespace mri
