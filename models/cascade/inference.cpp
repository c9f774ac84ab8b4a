// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/inference.hpp"

#include "plugins/math/base/arrays.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace mri {

CascadeInference::CascadeInference(const CascadeOptions& options, const TensorFile& file,
                                   std::unique_ptr<CascadeLayers> layers, int threads)
    : options_(options), layers_(std::move(layers)), pool_(threads) {
    for (int block = 0; block < options.blocks; ++block)
        steps_.push_back(file.tensors.at("blocks." + std::to_string(block) + ".eta").values.front());
}

void CascadeInference::reset() {
    stream_.frames = 0;
    stream_.mean_frames = 0;
}

void CascadeInference::find_means(Past& past, std::span<const cfloat> start, const WindowShape& shape) {
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
    past.mean.resize(pixels);
    if (past.mean_frames == 0)
        std::fill(past.mean.begin(), past.mean.end(), cfloat());
    for (std::size_t t = 0; t < frames; ++t) {
        past.mean_frames = std::min(past.mean_frames + 1, options_.mean_frames);
        // M + (start - M) / frames
        const float share = 1.0F / static_cast<float>(past.mean_frames);
        arrays::scale(past.mean.data(), 1.0F - share, pixels);
        arrays::add_scaled(past.mean.data(), share, start.data() + t * pixels, pixels);
        std::copy(past.mean.begin(), past.mean.end(),
                  means_.begin() + static_cast<std::ptrdiff_t>(t * pixels));
    }
}

std::vector<WindowOperator::Residual>
CascadeInference::run(WindowOperator& data, std::span<const cfloat> start, std::span<cfloat> output,
                      const WindowShape& shape, bool goes_on, bool cycle) {
    Past alone;
    Past& past = goes_on ? stream_ : alone;
    if (past.height != shape.height || past.width != shape.width) {
        past = Past();
        past.height = shape.height;
        past.width = shape.width;
    }
    layers_->prepare(goes_on, shape, past.frames);
    find_means(past, start, shape);
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
    past.frames += shape.frames;
    std::vector<WindowOperator::Residual> residual(static_cast<std::size_t>(shape.frames));
    data.normal(output, [&](std::size_t t, std::span<const cfloat> normal) {
        residual[t] = data.residual(t, output.subspan(t * pixels, pixels), normal);
    });
    return residual;
}

} // namespace mri
