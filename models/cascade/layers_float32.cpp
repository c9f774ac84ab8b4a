// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/layers.hpp"

#include "models/cascade/features.hpp"
#include "models/kernels/winograd3d/winograd3d.hpp"
#include "plugins/math/base/arrays.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace mri {

namespace {

using winograd3d::Winograd3dWeights;

constexpr int complex_channels = 2, input_channels = 6;

/// Frames of features, [y][x][channel]: a ring.
class FrameRing {
  public:
    FrameRing() = default;
    FrameRing(int slots, std::size_t values) : frames_(static_cast<std::size_t>(slots)) {
        for (std::vector<float>& frame : frames_)
            frame.assign(values, 0.0F);
    }
    float* frame(std::int64_t t) { return frames_[static_cast<std::size_t>(t) % frames_.size()].data(); }
    void grow(int slots, std::int64_t first, std::int64_t last) {
        if (static_cast<std::size_t>(slots) <= frames_.size())
            return;
        FrameRing larger(slots, frames_.front().size());
        for (std::int64_t t = first; t <= last; ++t)
            std::copy_n(frame(t), frames_.front().size(), larger.frame(t));
        *this = std::move(larger);
    }

  private:
    std::vector<std::vector<float>> frames_;
};

class Float32Layers : public CascadeLayers {
  public:
    Float32Layers(const CascadeOptions& options, const TensorFile& file,
                  const winograd3d::Winograd3dKernels& kernels)
        : options_(options), kernels_(kernels), features_(options, false) {
        for (int block = 0; block < options.blocks; ++block)
            for (int layer = 0; layer < options.layers; ++layer)
                weights_.emplace_back(
                    file.tensors
                        .at("blocks." + std::to_string(block) + ".conv." + std::to_string(layer) + ".weight")
                        .values,
                    layer + 1 == options.layers ? complex_channels : options.filters,
                    layer == 0 ? input_channels : options.filters);
    }

    const char* instruction_set() const override { return kernels_.name; }

    void prepare(bool stream, const WindowShape& shape, std::int64_t before) override {
        const auto channels = static_cast<std::size_t>(winograd3d::stored(options_.filters));
        features_.prepare(stream, shape, before, channels * sizeof(float), [&](bool first, int slots) {
            return FrameRing(slots, shape.pixels() *
                                        (first ? std::size_t{winograd3d::stored(input_channels)} : channels));
        });
        if (stream && before == 0)
            pending_.assign(
                static_cast<std::size_t>(options_.blocks),
                std::vector<float>(winograd3d::pending_floats({shape.frames, shape.height, shape.width})));
    }

    void data_step(int block, int t, int y, const CascadeRow& row) override {
        constexpr int stored = winograd3d::stored(input_channels);
        const auto width = static_cast<std::size_t>(row.width);
        float* out = nullptr;
        if (block < options_.blocks)
            out = features_.input(block, 0).frame(features_.before() + t) +
                  static_cast<std::size_t>(y) * width * stored;
        for (std::size_t i = 0; i < 2 * width; ++i) {
            const float misfit = row.right[i] - row.normal[i];
            row.x[i] += row.step * misfit;
            if (!out)
                continue;
            float* pixel = out + i / 2 * stored + i % 2;
            pixel[0] = row.x[i] - row.mean[i];
            pixel[2] = row.mean[i];
            pixel[4] = misfit;
        }
    }

    void convolve(ThreadPool& pool, int block, cfloat* images, bool cycle) override {
        const WindowShape& shape = features_.shape();
        const std::int64_t before = features_.before(); // 0 of a window
        const int frames = shape.frames, reach = options_.causal ? 0 : 1;
        for (int layer = 0; layer < options_.layers; ++layer) {
            const bool last = layer + 1 == options_.layers;
            const std::vector<const float*> in =
                winograd3d::inputs(frames, before, reach, cycle, [&](int t) -> const float* {
                    return features_.input(block, layer).frame(before + t);
                });
            std::vector<float*> out;
            for (int t = 0; t < frames; ++t)
                out.push_back(last ? arrays::floats(images + static_cast<std::size_t>(t) * shape.pixels())
                                   : features_.input(block, layer + 1).frame(before + t));
            winograd3d::Winograd3dConvolution convolution{
                in.data(),
                out.data(),
                weights_[static_cast<std::size_t>(block * options_.layers + layer)],
                {frames, shape.height, shape.width},
                !last,
                last};
            if (last && features_.stream())
                convolution.pending = pending_[static_cast<std::size_t>(block)].data();
            winograd3d::convolve(pool, scratch_, kernels_, convolution);
        }
    }

  private:
    CascadeOptions options_;
    const winograd3d::Winograd3dKernels& kernels_;
    std::vector<Winograd3dWeights> weights_; ///< [block][layer]
    CascadeFeatures<FrameRing> features_;
    /// Streaming only: partial sums of each block's last layer for later frames.
    std::vector<std::vector<float>> pending_;
    winograd3d::Winograd3dScratch scratch_;
};

} // namespace

std::unique_ptr<CascadeLayers> CascadeLayers::float32(const CascadeOptions& options, const TensorFile& file) {
    const winograd3d::Winograd3dKernels* kernels = winograd3d::kernels();
    // The last layer is added to the images where it is narrow: from more than eight channels.
    if (!kernels || !winograd3d::is_narrow(options.filters, complex_channels) ||
        options.filters > winograd3d::most_channels)
        return nullptr;
    return std::make_unique<Float32Layers>(options, file, *kernels);
}

} // namespace mri
