// SPDX-License-Identifier: LGPL-2.1-or-later
// Direct convolutions of 3x3x3 over (t, y, x) between few channels, for inference: bfloat16 in, float32 sums.
// Pure C++: no LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace mri::convolution3d {

/// Channels of a block: the float32 lanes of a vector.
constexpr int block = 16;
/// Channels that a pixel of the first layer's input takes in memory: up to 8 are used.
constexpr int packed = 8;
/// Rows of one kernel: [t][y].
constexpr int kernel_rows = 9;

/// A row of outputs as the inner loops see it. A row of features is [x + 1][channel] in bfloat16 and has a
/// column of zeros on either side, and more up to row_pixels().
struct DirectRow {
    const std::uint16_t* rows[kernel_rows]; ///< inputs, [t][y]; null: beyond the images, all 0
    const std::uint16_t* weights;           ///< as DirectWeights orders them
    std::size_t block_stride;               ///< values from one block of input channels to the next
    int blocks;                             ///< of input channels
    int pairs;                              ///< of channels used in a block
    int width;                              ///< pixels
};

/// A row of pixels of a step towards the data: complex numbers (re, im, ...).
struct DataRow {
    float* x;
    const float* normal; ///< N x
    const float* right;  ///< b
    const float* mean;   ///< M
    float step;          ///< eta
    std::uint16_t* out;  ///< [x + 1][packed]: the next block's input; null: there is none
    int width;
};

/// The functions of an instruction set.
struct DirectKernels {
    const char* name;
    /// out = ReLU(convolution) of a block of outputs, from inputs of `packed` channels a pixel
    void (*first)(const DirectRow&, std::uint16_t* out);
    /// the same, from blocks of channels
    void (*hidden)(const DirectRow&, std::uint16_t* out);
    /// x += convolution to two channels, a complex number per pixel; from blocks of channels
    void (*last)(const DirectRow&, float* x);
    /// g = b - N x; x += eta g; out = (x - M, M, g)
    void (*data_step)(const DataRow&);
};

/// Those of this processor, or null where there are none: they are for AVX512_BF16, and are not used either
/// where gridding is told to use an older instruction set (processor::selected()).
const DirectKernels* kernels();

/// The pixels that a row takes in memory.
constexpr int row_pixels(int width) {
    return (width + 7) / 8 * 8 + 2;
}

/// Bfloat16 memory aligned for any instruction set, zero at first.
class Values {
  public:
    explicit Values(std::size_t count = 0);
    std::uint16_t* data() noexcept { return data_.get(); }
    const std::uint16_t* data() const noexcept { return data_.get(); }
    std::size_t size() const noexcept { return size_; }

  private:
    struct Free {
        void operator()(std::uint16_t* p) const { ::operator delete(p, std::align_val_t(64)); }
    };
    std::unique_ptr<std::uint16_t[], Free> data_;
    std::size_t size_;
};

/// Weights in the order in which the inner loops read them.
class DirectWeights {
  public:
    enum class Layer { first, hidden, last };
    /// From [out][in][t][y][x] in float32, rounded to bfloat16. `in` is at most `packed` of a first layer and
    /// even, else a multiple of `block`; `out` is a multiple of `block`, or 2 of a last layer. Throws
    /// Errc::settings otherwise.
    DirectWeights(Layer layer, std::span<const float> weights, int out, int in);

    int in_blocks() const noexcept { return in_blocks_; }
    int pairs() const noexcept { return pairs_; }
    int out_blocks() const noexcept { return out_blocks_; }
    /// Those that lead to a block of outputs.
    const std::uint16_t* of(int out_block) const noexcept {
        return values_.data() + static_cast<std::size_t>(out_block) * stride_;
    }

  private:
    int in_blocks_, pairs_, out_blocks_;
    std::size_t stride_;
    Values values_;
};

/// The last frames of a series of features: a ring, [slot][block][y][x + 1][channel].
class DirectFrames {
  public:
    DirectFrames() = default;
    /// For `slots` frames of `blocks` blocks of `channels` channels a pixel.
    DirectFrames(int slots, int blocks, int channels, int height, int width);

    int slots() const noexcept { return slots_; }
    /// Row y of a frame, at the column of zeros before its first pixel; frames are counted on and on.
    std::uint16_t* row(std::int64_t frame, int out_block, int y) noexcept {
        return values_.data() + offset(frame, out_block, y);
    }
    const std::uint16_t* row(std::int64_t frame, int out_block, int y) const noexcept {
        return values_.data() + offset(frame, out_block, y);
    }
    std::size_t block_stride() const noexcept { return row_ * static_cast<std::size_t>(height_); }
    int height() const noexcept { return height_; }
    /// Makes room for `slots` frames; frames first, ..., last stay.
    void grow(int slots, std::int64_t first, std::int64_t last);

  private:
    std::size_t offset(std::int64_t frame, int out_block, int y) const noexcept {
        const auto plane = static_cast<std::size_t>(frame % slots_) * static_cast<std::size_t>(blocks_) +
                           static_cast<std::size_t>(out_block);
        return (plane * static_cast<std::size_t>(height_) + static_cast<std::size_t>(y)) * row_;
    }

    int slots_ = 0, blocks_ = 0, channels_ = 0, height_ = 0, width_ = 0;
    std::size_t row_ = 0; ///< values of a row
    Values values_;
};

/// The rows around row y of frame t: frames t + reach - 2, ..., t + reach, where frames begin, ..., end - 1
/// exist. In a cycle frame `begin` follows upon frame end - 1.
DirectRow rows_around(const DirectFrames& in, const DirectWeights& weights, int width, std::int64_t t,
                      int reach, int y, std::int64_t begin, std::int64_t end, bool cycle = false);

#ifdef MRI_HAVE_X86
extern const DirectKernels kernels_avx512_bf16;
#endif

} // namespace mri::convolution3d
