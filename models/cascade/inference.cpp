// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/inference.hpp"

#include "plugins/math/base/arrays.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace mri {

CascadeInference::CascadeInference(const CascadeOptions& options, const TensorFile& file,
                                   std::unique_ptr<CascadeLayers> layers, int threads)
    : options_(options), layers_(std::move(layers)), pool_(threads), stream_(options.mean_frames) {
    for (int block = 0; block < options.blocks; ++block)
        steps_.push_back(file.tensors.at("blocks." + std::to_string(block) + ".eta").values.front());
}

void CascadeInference::reset() {
    stream_.count = 0;
    stream_.mean.reset();
}

void CascadeInference::find_means(RunningMean& running, std::span<const cfloat> start,
                                  const WindowShape& shape) {
    const std::size_t pixels = shape.pixels();
    const auto frames = static_cast<std::size_t>(shape.frames);
    if (!options_.causal) {
        means_.assign(pixels, cfloat());
        for (std::size_t t = 0; t < frames; ++t)
            arrays::add_scaled(means_.data(), 1.0F, start.data() + t * pixels, pixels);
        arrays::scale(means_.data(), 1.0F / static_cast<float>(frames), pixels);
        return;
    }
    means_.resize(frames * pixels);
    for (std::size_t t = 0; t < frames; ++t) {
        const std::span<const float> mean =
            running.update({arrays::floats(start.data() + t * pixels), 2 * pixels});
        std::copy(mean.begin(), mean.end(), arrays::floats(means_.data() + t * pixels));
    }
}

std::vector<WindowOperator::Residual>
CascadeInference::run(WindowOperator& data, std::span<const cfloat> start, std::span<cfloat> output,
                      const WindowShape& shape, bool goes_on, bool cycle) {
    KnownFrames none(options_.mean_frames);
    KnownFrames& known = goes_on ? stream_ : none;
    if (known.height != shape.height || known.width != shape.width) {
        known = KnownFrames(options_.mean_frames);
        known.height = shape.height;
        known.width = shape.width;
    }
    layers_->prepare(goes_on, shape, known.count);
    find_means(known.mean, start, shape);
    std::copy(start.begin(), start.end(), output.begin());
    const std::size_t pixels = shape.pixels();
    const auto width = static_cast<std::size_t>(shape.width);
    // g = b - N x, x += step g, and what block `next` is told.
    const auto step_towards_data = [&](float step, int next) {
        data.normal(output, [&](std::size_t t, std::span<const cfloat> normal) {
            for (int y = 0; y < shape.height; ++y) {
                const std::size_t at = static_cast<std::size_t>(y) * width;
                layers_->data_step(next, static_cast<int>(t), y,
                                   {arrays::floats(output.data() + t * pixels + at),
                                    arrays::floats(normal.data() + at),
                                    arrays::floats(data.right().data() + t * pixels + at),
                                    arrays::floats(means_.data() + (options_.causal ? t * pixels : 0) + at),
                                    step, shape.width});
            }
        });
    };
    step_towards_data(0, 0);
    for (int block = 0; block < options_.blocks; ++block) {
        layers_->convolve(pool_, block, output.data(), cycle);
        step_towards_data(steps_[static_cast<std::size_t>(block)], block + 1);
    }
    known.count += shape.frames;
    std::vector<WindowOperator::Residual> residual(static_cast<std::size_t>(shape.frames));
    data.normal(output, [&](std::size_t t, std::span<const cfloat> normal) {
        residual[t] = data.residual(t, output.subspan(t * pixels, pixels), normal);
    });
    return residual;
}

} // namespace mri
