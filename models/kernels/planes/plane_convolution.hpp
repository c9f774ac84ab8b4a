// SPDX-License-Identifier: LGPL-2.1-or-later
// Convolutions of a network's inference on the processor, of any number of channels, in float32 or bfloat16.
// Pure C++: no LibTorch. (convolution3d.hpp is for few channels that are multiples of 16.)
//
// A row of an image lies in memory as one plane per word of channels, and vectors hold neighbouring pixels: a
// load feeds a whole block of output channels, no number of channels leaves lanes idle, and one output
// channel costs no more than its arithmetic. Sums stay in registers over the whole kernel and over all
// sources, so what is concatenated, added or activated is never written out in between.
//
// In float32 layers of 3 taps over y take minimal filtering over y alone (minimal_filtering.hpp) wherever
// that pays: half the products. Over y it needs no exchange between lanes, and the same loops add up the
// products, of rows at six points instead of rows of pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace mri {

class ThreadPool;

namespace planes {

/// 32 bits: a float32, or two channels of bfloat16, the even one in the lower half.
using Word = std::uint32_t;

enum class Type { float32, bfloat16 };

/// A row of the input as one tap of the kernel sees it: pixel 0 of its first plane, how many planes, and the
/// place of its weights.
struct TapRow {
    const Word* row;
    int words;
    std::size_t weights; ///< words of one output channel before it
};

/// Some output channels of some pixels of a row: the unit of work.
struct Tile {
    const TapRow* taps;
    std::size_t tap_count;
    std::ptrdiff_t plane; ///< words from one input plane to the next
    const Word* weights;  ///< [tap][word][channel of the tile]
    const float* bias;    ///< [channel of the tile]
    float slope;          ///< of the activation below zero; 1: none
    const Word* add;      ///< joins the sums; planes like those of `out`; null: nothing
    Word* out;            ///< pixel 0 of the first channel's plane
    std::ptrdiff_t out_plane;
    int out_step;   ///< 2: every other pixel, for up-sampling
    bool out_float; ///< float32 whatever the type
    int x, width;   ///< first pixel; what follows the pixels, from `width` on, stays 0
};

/// A row of the input; `plane` 0: one plane stands for all.
struct PlaneRow {
    const Word* row;
    std::ptrdiff_t plane;
};

/// Planes of values at the six points of minimal filtering.
struct Points {
    Word* first;                 ///< pixel 0 of the first plane of the first point
    std::ptrdiff_t plane, point; ///< words from one to the next
};

/// Up to four neighbouring rows of an output; as in Tile.
struct SumRows {
    const float* bias;
    float slope;
    const Word* add;
    Word* out;
    std::ptrdiff_t plane, row; ///< of `add` and `out`
    int channels, rows, width;
};

/// The functions of an instruction set and a type.
struct PlaneKernels {
    int lanes;            ///< pixels of a vector, at most 16
    int pixels;           ///< vectors of pixels in a tile of many channels
    int most_channels[5]; ///< by vectors of pixels: what the registers hold beside the operands
    int together;         ///< the channels of a tile are a multiple of it, or 1
    /// `pixels` vectors, 1 to 4; `channels` up to most_channels[pixels].
    void (*tile)(int pixels, int channels, const Tile&);
    /// Maxima of the rows and of pairs of pixels; `width` pixels of output.
    void (*pool)(const Word* const* rows, int row_count, int words, std::ptrdiff_t plane, Word* out,
                 std::ptrdiff_t out_plane, int width);
    /// a += b; `count` is a multiple of 16.
    void (*add)(Word* a, const Word* b, int count);
    /// Minimal filtering over y, null but for float32: six rows to their values at the points. Whole vectors
    /// are read and written.
    void (*to_points)(const PlaneRow* rows, int words, int width, const Points&);
    /// The sums at the points to rows of the output.
    void (*to_rows)(const Points&, const SumRows&);
};

/// Those of this processor, or null: float32 needs AVX2 and FMA, bfloat16 AVX512_BF16. Null too for bfloat16
/// on processors that multiply matrices of it (AMX), because LibTorch uses that, and where gridding is told
/// to use an older instruction set (processor::selected()).
const PlaneKernels* kernels(Type type);

/// Memory layout of a frame: [y][word of channels][x], each row of a plane after 16 or more words of
/// zeros.
struct Layout {
    Layout() = default;
    /// Throws Errc::no_memory for frames that cannot be.
    Layout(Type type, int channels, int height, int width);

    Type type = Type::float32;
    int channels = 0, words = 0, height = 0, width = 0;
    std::ptrdiff_t plane = 0, row = 0, frame = 0; ///< words from one to the next
    bool operator==(const Layout&) const = default;
};

/// Frames of one layout; what is no pixel stays 0.
class Frames {
  public:
    Frames() = default;
    /// Throws Errc::no_memory beyond 16 GiB, std::bad_alloc.
    Frames(int count, const Layout& layout);

    int count() const noexcept { return count_; }
    const Layout& layout() const noexcept { return layout_; }
    /// Pixel (0, 0) of its first plane.
    Word* frame(int t) noexcept { return data_.get() + 16 + t * layout_.frame; }
    const Word* frame(int t) const noexcept { return data_.get() + 16 + t * layout_.frame; }
    std::vector<const Word*> inputs() const;
    /// Every `step`th from `first` on.
    std::vector<Word*> outputs(int first = 0, int step = 1);
    /// Copies pixels in from `values` [y][x][channels] of frame t.
    void set(int t, std::span<const float> values);
    /// The pixels of frames of float32 planes, one channel, row by row.
    void get(int t, int channel, std::span<float> out) const;

  private:
    static constexpr std::size_t alignment = 4096; // of a page
    struct Free {
        void operator()(Word* p) const { ::operator delete(p, std::align_val_t(alignment)); }
    };
    Layout layout_;
    int count_ = 0;
    std::unique_ptr<Word[], Free> data_;
};

/// Frames that a convolution reads; null: all 0.
struct Source {
    std::vector<const Word*> frames;
    Layout layout;
    int lead = 0; ///< output frame t is at frames[t + lead]
};

/// Frames that a convolution writes.
struct Target {
    std::vector<Word*> frames;
    Layout layout;
    int step = 1; ///< 2: pixels (2 y + y0, 2 x + x0)
    int y0 = 0, x0 = 0;
};

/// A layer: sum of taps over its sources, bias, activation.
class Convolution {
  public:
    struct Tap {
        int source = 0; ///< which of the sources
        int dt = 0, dy = 0, dx = 0;
    };
    /// The weight of (tap, output, input of its source).
    using Weight = std::function<float(int tap, int output, int input)>;

    /// `inputs`: channels of each source. `bias`: one per output, or none. Taps reach at most 15 pixels.
    Convolution(Type type, std::vector<int> inputs, int outputs, std::vector<Tap> taps, const Weight& weight,
                std::vector<float> bias, float slope);

    /// Writes the target's frames, whose size is that of the sources (half of it where step is 2); pixels and
    /// frames beyond the sources are 0. `add` joins the sums before the activation, frame by frame; it and
    /// the target may be the same. A target of float32 is written as it is from bfloat16 as well.
    void run(ThreadPool& pool, std::span<const Source> sources, const Target& target,
             const std::vector<const Word*>* add = nullptr);

    int outputs() const noexcept { return outputs_; }

  private:
    /// The taps -1, 0 and 1 over y at one place: what minimal filtering takes together.
    struct Column {
        int source, dt, dx;
        std::size_t taps[3];
        std::size_t first; ///< words of one output's weights at a point before its own
    };
    /// Weights as an instruction set's tiles take them.
    struct Packed {
        const PlaneKernels* kernel = nullptr;
        int pixels = 0; ///< vectors in a tile
        std::vector<int> blocks;
        std::vector<Word> weights; ///< ([point])[block][tap or column][word][output of the block]
    };

    void find_columns();
    int reach_over_time(std::size_t source) const;
    bool filtering_pays(const PlaneKernels& kernel, const Target& target) const;
    void run_filtering(ThreadPool& pool, const PlaneKernels& kernel, std::span<const Source> sources,
                       const Target& target, const std::vector<const Word*>* add);
    void pack(const PlaneKernels& kernel, int pixels);
    void pack_points(const PlaneKernels& kernel, int pixels);

    Type type_;
    std::vector<int> inputs_;
    int outputs_;
    std::vector<Tap> taps_;
    std::vector<std::size_t> first_; // words of one output's weights before each tap's
    std::size_t per_output_ = 0;
    std::vector<Word> weights_; // [output][tap][word]
    std::vector<float> bias_;
    float slope_;
    Packed packed_;
    std::vector<Column> columns_; // none where the taps are no whole columns
    std::size_t per_output_at_point_ = 0;
    Packed packed_points_;
};

/// Maxima of 2x2 pixels, and of pairs of frames where `over_time` is set.
void max_pool(ThreadPool& pool, const std::vector<const Word*>& in, const Layout& in_layout,
              const std::vector<Word*>& out, const Layout& out_layout, bool over_time);

/// a += b, whole frames.
void add(ThreadPool& pool, Word* a, const Word* b, const Layout& layout);

#ifdef MRI_HAVE_X86
extern const PlaneKernels kernels_avx2_float32;
extern const PlaneKernels kernels_avx512_float32;
extern const PlaneKernels kernels_avx512_bfloat16;
#endif

} // namespace planes
} // namespace mri
