// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cascade_layers.hpp"

#include "plugins/common/sizes.hpp"
#include "plugins/gridding/arrays.hpp"
#include "winograd3d.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace mri {

namespace {

using winograd3d::Weights;

constexpr std::size_t max_features = std::size_t{1} << 31; // 8 GiB
constexpr int input_channels = 6;

/// Frames of features, [y][x][channel]: a ring.
class Ring {
  public:
    Ring() = default;
    Ring(int slots, std::size_t values) : frames_(static_cast<std::size_t>(slots)) {
        for (std::vector<float>& frame : frames_)
            frame.assign(values, 0.0F);
    }
    float* frame(std::int64_t t) { return frames_[static_cast<std::size_t>(t) % frames_.size()].data(); }
    /// Makes room for `slots` frames; the last two before frame `next` stay.
    void grow(int slots, std::int64_t next) {
        if (static_cast<std::size_t>(slots) <= frames_.size())
            return;
        Ring larger(slots, frames_.front().size());
        for (std::int64_t t = std::max<std::int64_t>(0, next - 2); t < next; ++t)
            std::copy_n(frame(t), frames_.front().size(), larger.frame(t));
        *this = std::move(larger);
    }

  private:
    std::vector<std::vector<float>> frames_;
};

class Float32Layers : public CascadeLayers {
  public:
    Float32Layers(const CascadeOptions& options, const TensorFile& file, const winograd3d::Kernels& kernels)
        : options_(options), kernels_(kernels) {
        for (int block = 0; block < options.blocks; ++block)
            for (int layer = 0; layer < options.layers; ++layer)
                weights_.emplace_back(
                    file.tensors
                        .at("blocks." + std::to_string(block) + ".conv." + std::to_string(layer) + ".weight")
                        .values,
                    layer + 1 == options.layers ? 2 : options.filters,
                    layer == 0 ? input_channels : options.filters);
    }

    const char* instruction_set() const override { return kernels_.name; }

    void prepare(bool stream, const WindowShape& shape, std::int64_t before) override {
        // A window's features are not needed after the next layer: two sets take turns.
        const int sets = stream ? options_.blocks * options_.layers : std::min(3, options_.layers);
        const int slots = shape.frames + (stream ? 2 : 0);
        Features& f = features_[stream ? 1 : 0];
        if (f.inputs.empty() || f.shape.height != shape.height || f.shape.width != shape.width) {
            f.inputs.clear();
            const auto channels = static_cast<std::size_t>(winograd3d::stored(options_.filters));
            checked_product(
                {static_cast<std::size_t>(sets), static_cast<std::size_t>(slots), shape.pixels(), channels},
                max_features, "what a cascade keeps of frames");
            for (int i = 0; i < sets; ++i) {
                const bool first = i % (stream ? options_.layers : sets) == 0;
                f.inputs.emplace_back(
                    slots,
                    shape.pixels() * (first ? std::size_t{winograd3d::stored(input_channels)} : channels));
            }
        }
        for (Ring& ring : f.inputs)
            ring.grow(slots, before);
        f.shape = shape;
        f.before = before;
        stream_ = stream;
    }

    void data_step(int block, int t, int y, const CascadeRow& row) override {
        constexpr int stored = winograd3d::stored(input_channels);
        const auto width = static_cast<std::size_t>(row.width);
        float* out = nullptr;
        if (block < options_.blocks)
            out = input(block, 0).frame(features().before + t) + static_cast<std::size_t>(y) * width * stored;
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
        Features& f = features();
        const int frames = f.shape.frames, reach = options_.causal ? 0 : 1;
        for (int layer = 0; layer < options_.layers; ++layer) {
            const bool last = layer + 1 == options_.layers;
            std::vector<const float*> in;
            for (int i = 0; i < frames + 2; ++i) {
                std::int64_t t = i + reach - 2;
                if (cycle)
                    t = (t + 2 * frames) % frames;
                const bool known = t + f.before >= 0 && t < frames && (stream_ || t >= 0);
                in.push_back(known ? input(block, layer).frame(f.before + t) : nullptr);
            }
            std::vector<float*> out;
            for (int t = 0; t < frames; ++t)
                out.push_back(last ? arrays::floats(images + static_cast<std::size_t>(t) * f.shape.pixels())
                                   : input(block, layer + 1).frame(f.before + t));
            winograd3d::convolve(pool, kernels_,
                                 {in.data(),
                                  out.data(),
                                  &weights_[static_cast<std::size_t>(block * options_.layers + layer)],
                                  {frames, f.shape.height, f.shape.width},
                                  !last,
                                  last});
        }
    }

  private:
    struct Features {
        WindowShape shape;
        std::int64_t before = 0;
        std::vector<Ring> inputs; ///< of each convolution, or shared by those of all blocks
    };

    Features& features() { return features_[stream_ ? 1 : 0]; }
    Ring& input(int block, int layer) {
        const int index = stream_ ? block * options_.layers + layer : (layer == 0 ? 0 : 1 + (layer - 1) % 2);
        return features().inputs[static_cast<std::size_t>(index)];
    }

    CascadeOptions options_;
    const winograd3d::Kernels& kernels_;
    std::vector<Weights> weights_; ///< [block][layer]
    std::array<Features, 2> features_;
    bool stream_ = false; ///< which of them is in use
};

} // namespace

std::unique_ptr<CascadeLayers> CascadeLayers::float32(const CascadeOptions& options, const TensorFile& file) {
    const winograd3d::Kernels* kernels = winograd3d::kernels();
    // The last layer is added to the images where it is narrow: from more than eight channels.
    if (!kernels || options.filters <= 8 || options.filters > winograd3d::most_channels)
        return nullptr;
    return std::make_unique<Float32Layers>(options, file, *kernels);
}

} // namespace mri
