// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/layers.hpp"

#include "models/cascade/features.hpp"
#include "models/kernels/direct3d/convolution3d.hpp"
#include "plugins/math/base/arrays.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace mri {

namespace {

using convolution3d::DirectFrames;
using convolution3d::DirectRow;
using convolution3d::DirectWeights;

/// Rows and frames that a thread computes at a time: their inputs and those of the frames around stay in a
/// second-level cache of 1 MB at 200 pixels and 16 channels, and the work can still be shared out evenly.
constexpr int task_rows = 16;
constexpr int task_frames = 8;

constexpr int complex_channels = 2, input_channels = 6;

int pieces(int count, int each) {
    return (count + each - 1) / each;
}

/// Features are rounded to bfloat16 where LibTorch rounds them too, sums have another order.
class Bfloat16Layers : public CascadeLayers {
  public:
    Bfloat16Layers(const CascadeOptions& options, const TensorFile& file,
                   const convolution3d::DirectKernels& kernels)
        : options_(options), kernels_(kernels), features_(options, true) {
        for (int block = 0; block < options.blocks; ++block)
            for (int layer = 0; layer < options.layers; ++layer) {
                const bool first = layer == 0, last = layer + 1 == options.layers;
                weights_.emplace_back(
                    first ? DirectWeights::Layer::first
                          : (last ? DirectWeights::Layer::last : DirectWeights::Layer::hidden),
                    file.tensors
                        .at("blocks." + std::to_string(block) + ".conv." + std::to_string(layer) + ".weight")
                        .values,
                    last ? complex_channels : options.filters, first ? input_channels : options.filters);
            }
    }

    const char* instruction_set() const override { return kernels_.name; }

    void prepare(bool stream, const WindowShape& shape, std::int64_t before) override {
        const auto bytes = sizeof(std::uint16_t) * static_cast<std::size_t>(options_.filters);
        features_.prepare(stream, shape, before, bytes, [&](bool first, int slots) {
            return DirectFrames(slots, first ? 1 : options_.filters / convolution3d::block,
                                first ? convolution3d::packed : convolution3d::block, shape.height,
                                shape.width);
        });
    }

    void data_step(int block, int t, int y, const CascadeRow& row) override {
        std::uint16_t* out =
            block < options_.blocks ? features_.input(block, 0).row(features_.before() + t, 0, y) : nullptr;
        kernels_.data_step({row.x, row.normal, row.right, row.mean, row.step, out, row.width});
    }

    void convolve(ThreadPool& pool, int block, cfloat* images, bool cycle) override {
        const int height = features_.shape().height, width = features_.shape().width;
        const int frames = features_.shape().frames;
        const std::int64_t before = features_.before();
        const int bands = pieces(height, task_rows), chunks = pieces(frames, task_frames);
        const int reach = options_.causal ? 0 : 1;
        for (int layer = 0; layer < options_.layers; ++layer) {
            const DirectWeights& weights =
                weights_[static_cast<std::size_t>(block * options_.layers + layer)];
            const DirectFrames& in = features_.input(block, layer);
            const bool last = layer + 1 == options_.layers;
            const auto row = [&](int t, int y) {
                DirectRow around =
                    rows_around(in, weights, width, before + t, reach, y, 0, before + frames, cycle);
                if (last) {
                    kernels_.last(around, arrays::floats(images + (static_cast<std::size_t>(t) *
                                                                       static_cast<std::size_t>(height) +
                                                                   static_cast<std::size_t>(y)) *
                                                                      static_cast<std::size_t>(width)));
                    return;
                }
                DirectFrames& out = features_.input(block, layer + 1);
                for (int group = 0; group < weights.out_blocks(); ++group) {
                    around.weights = weights.of(group);
                    (layer == 0 ? kernels_.first : kernels_.hidden)(around, out.row(before + t, group, y));
                }
            };
            pool.parallel_for(bands * chunks, [&](int task, int) {
                const int y0 = task / chunks * task_rows, t0 = task % chunks * task_frames;
                for (int t = t0; t < std::min(frames, t0 + task_frames); ++t)
                    for (int y = y0; y < std::min(height, y0 + task_rows); ++y)
                        row(t, y);
            });
        }
    }

  private:
    CascadeOptions options_;
    const convolution3d::DirectKernels& kernels_;
    std::vector<DirectWeights> weights_; ///< [block][layer]
    CascadeFeatures<DirectFrames> features_;
};

} // namespace

std::unique_ptr<CascadeLayers> CascadeLayers::bfloat16(const CascadeOptions& options,
                                                       const TensorFile& file) {
    const convolution3d::DirectKernels* kernels = convolution3d::kernels();
    if (!kernels || options.filters % convolution3d::block != 0)
        return nullptr;
    return std::make_unique<Bfloat16Layers>(options, file, *kernels);
}

} // namespace mri
