// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/kernels/direct3d/convolution3d.hpp"

#include "models/files/float_types.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <string>

namespace mri::convolution3d {

namespace {

constexpr std::size_t max_values = std::size_t{1} << 34; // 32 GiB

std::uint16_t* allocated(std::size_t count) {
    return static_cast<std::uint16_t*>(::operator new(count * sizeof(std::uint16_t), std::align_val_t(64)));
}

std::size_t row_values(int channels, int width) {
    return static_cast<std::size_t>(channels) * static_cast<std::size_t>(row_pixels(width));
}

} // namespace

const DirectKernels* kernels() {
#ifdef MRI_HAVE_X86
    if (processor::selected() == Isa::avx512 && processor::has_avx512_bf16())
        return &kernels_avx512_bf16;
#endif
    return nullptr;
}

Values::Values(std::size_t count) : data_(count > 0 ? allocated(count) : nullptr), size_(count) {
    std::fill_n(data_.get(), count, std::uint16_t{0});
}

DirectWeights::DirectWeights(Layer layer, std::span<const float> weights, int out, int in) {
    const bool last = layer == Layer::last;
    const bool fits =
        layer == Layer::first ? in > 0 && in <= packed && in % 2 == 0 : in > 0 && in % block == 0;
    if (!fits || (last ? out != 2 : out <= 0 || out % block != 0) ||
        weights.size() != static_cast<std::size_t>(out) * static_cast<std::size_t>(in) * 27)
        throw Error(Errc::settings, "a convolution from " + std::to_string(in) + " to " +
                                        std::to_string(out) + " channels has no code of its own");
    in_blocks_ = layer == Layer::first ? 1 : in / block;
    pairs_ = layer == Layer::first ? in / 2 : block / 2;
    out_blocks_ = last ? 1 : out / block;
    // A vector holds 16 outputs times a pair of inputs; of a last layer it holds 16 inputs of one output,
    // twice.
    constexpr std::size_t vector = 2 * block;
    stride_ = static_cast<std::size_t>(kernel_rows * in_blocks_ * 3 * (last ? 2 : pairs_)) * vector;
    values_ = Values(stride_ * static_cast<std::size_t>(out_blocks_));
    const auto at = [&](int o, int i, int row, int dx) {
        return bfloat16_of(weights[((static_cast<std::size_t>(o) * static_cast<std::size_t>(in) +
                                     static_cast<std::size_t>(i)) *
                                        kernel_rows +
                                    static_cast<std::size_t>(row)) *
                                       3 +
                                   static_cast<std::size_t>(dx)]);
    };
    std::uint16_t* w = values_.data();
    for (int o = 0; o < out_blocks_; ++o)
        for (int row = 0; row < kernel_rows; ++row)
            for (int b = 0; b < in_blocks_; ++b) {
                for (int p = 0; p < pairs_ && !last; ++p)
                    for (int dx = 0; dx < 3; ++dx)
                        for (int lane = 0; lane < block; ++lane)
                            for (int i = 0; i < 2; ++i)
                                *w++ = at(o * block + lane, b * block + 2 * p + i, row, dx);
                for (int dx = 0; dx < 3 && last; ++dx)
                    for (int part = 0; part < 2; ++part)
                        for (std::size_t i = 0; i < vector; ++i)
                            *w++ = at(part, b * block + static_cast<int>(i % block), row, dx);
            }
}

DirectFrames::DirectFrames(int slots, int blocks, int channels, int height, int width)
    : slots_(slots),
      blocks_(blocks),
      channels_(channels),
      height_(height),
      width_(width),
      row_(row_values(channels, width)),
      values_(checked_product({static_cast<std::size_t>(slots), static_cast<std::size_t>(blocks),
                               static_cast<std::size_t>(height), row_},
                              max_values, "the features of a network")) {}

void DirectFrames::grow(int slots, std::int64_t first, std::int64_t last) {
    if (slots <= slots_)
        return;
    DirectFrames larger(slots, blocks_, channels_, height_, width_);
    for (std::int64_t t = first; t <= last; ++t)
        std::copy_n(row(t, 0, 0), block_stride() * static_cast<std::size_t>(blocks_), larger.row(t, 0, 0));
    *this = std::move(larger);
}

DirectRow rows_around(const DirectFrames& in, const DirectWeights& weights, int width, std::int64_t t,
                      int reach, int y, std::int64_t begin, std::int64_t end, bool cycle) {
    const std::int64_t frames = end - begin;
    DirectRow row{{}, weights.of(0), in.block_stride(), weights.in_blocks(), weights.pairs(), width};
    for (int dt = 0; dt < 3; ++dt)
        for (int dy = 0; dy < 3; ++dy) {
            std::int64_t frame = t + reach - 2 + dt;
            if (cycle)
                frame = begin + (frame - begin + 2 * frames) % frames;
            const int at = y + dy - 1;
            const bool inside = frame >= begin && frame < end && at >= 0 && at < in.height();
            row.rows[3 * dt + dy] = inside ? in.row(frame, 0, at) : nullptr;
        }
    return row;
}

} // namespace mri::convolution3d
