// SPDX-License-Identifier: LGPL-2.1-or-later
// Convolutions of 3x3x3 over (t, y, x) in float32, and their gradients, for series of features with few
// channels. Pure C++: no LibTorch.
//
// Over y and x by the minimal filtering algorithm F(4x4, 3x3) of Winograd (Lavin and Gray, CVPR 2016): 36
// products for 16 pixels where the sum takes 144; over t directly. Its sums are those of the direct
// convolution to some 1e-5 of the largest value.
#pragma once

#include "plugins/math/base/threads.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mri::winograd3d {

/// Pixels of a tile's side, and points of a transformed one.
constexpr int tile = 4, side = 6, points = side * side;
/// Outputs that are computed together.
constexpr int group = 16;
/// Channels that a layer may have.
constexpr int most_channels = 256;

/// Channels that a pixel of `channels` takes in memory; those beyond are zeros.
constexpr int stored(int channels) {
    return channels <= 8 ? 8 : (channels + group - 1) / group * group;
}

/// Lanes of the vectors of few outputs.
constexpr int narrow_lanes = 8;

/// Whether a layer has so few outputs that vectors hold those of three frames.
constexpr bool is_narrow(int in, int out) {
    return out <= 2 && in > 8;
}

struct Shape {
    int frames, height, width;
};

/// The functions of an instruction set. A strip is a row of tiles, all frames of it.
struct Winograd3dConvolution;
struct Winograd3dGradient;
struct Winograd3dKernels {
    const char* name;
    void (*convolve)(const Winograd3dConvolution&, int y, int x, int tiles, float* scratch);
    void (*gradient)(const Winograd3dGradient&, int y, int x, int tiles, float* scratch, float* sums);
};

/// Those of this processor and of what gridding is told to use (processor::selected()), or null: there are some
/// for AVX2 and for AVX-512.
const Winograd3dKernels* kernels();

/// Kernels of a convolution, transformed.
class Winograd3dWeights {
  public:
    /// From [out][in][t][y][x].
    Winograd3dWeights(std::span<const float> weights, int out, int in);
    /// Those of the gradient with respect to the input: channels exchanged, all axes reversed.
    static Winograd3dWeights transposed(std::span<const float> weights, int out, int in);

    int out() const noexcept { return out_; }
    int in() const noexcept { return in_; }
    const float* data() const noexcept { return values_.data(); }
    bool narrow() const noexcept { return is_narrow(in_, out_); }

  private:
    Winograd3dWeights(int out, int in) : out_(out), in_(in) {}
    template <typename At>
    void transform(const At& at);

    int out_, in_;
    /// [group of outputs][point][t][in][group], narrow: [point][in][lane], lanes being [2 - t][out]
    std::vector<float> values_;
};

/// Frames of features, each [y][x][channel] with stored() channels a pixel. An output frame t is of the
/// frames in[t], in[t + 1] and in[t + 2]; null stands for zeros. These are frame(t + reach - 2), ...,
/// frame(t + reach) of 0, ..., frames - 1, and of the `before` that went before them; in a cycle in the
/// round.
template <typename Frame>
std::vector<const float*> inputs(int frames, std::int64_t before, int reach, bool cycle, const Frame& frame) {
    std::vector<const float*> out;
    for (int i = 0; i < frames + 2; ++i) {
        const int t = cycle ? (i + reach - 2 + 2 * frames) % frames : i + reach - 2;
        out.push_back(before + t >= 0 && t < frames ? frame(t) : nullptr);
    }
    return out;
}

/// Arguments of a strip's kernel; see convolve().
struct Winograd3dConvolution {
    const float* const* in;
    float* const* out;    ///< a pointer a frame
    const float* kernels; ///< of Winograd3dWeights, like the next three
    int in_channels, out_channels;
    bool narrow;
    Shape shape;
    bool relu;
    bool add; ///< to what `out` holds: of narrow weights alone
    /// Frames like `out`: where one is not positive the result is 0, which is the gradient of a rectifier
    /// that gave them. Null: none; not of narrow weights.
    const float* const* rectified = nullptr;
    /// Streaming with narrow weights only: partial sums that earlier frames contribute to later ones;
    /// pending_floats() values, initially zero. They replace in[0] and in[1], which are not read. Updated by the call.
    float* pending = nullptr;

    Winograd3dConvolution(const float* const* from, float* const* to, const Winograd3dWeights& weights,
                          const Shape& s, bool rectify, bool sum);
};
struct Winograd3dGradient {
    const float* const* in;
    const float* out;
    int in_channels, out_channels;
    Shape shape;
};

/// Size of Winograd3dConvolution::pending.
std::size_t pending_floats(const Shape& shape);

/// Memory that calls work in, of each thread of a pool: kept from call to call.
using Winograd3dScratch = std::vector<std::vector<float>>;

/// out = convolution, or its positive part with `relu`, or with `add` out += that. `in` is of inputs(). `out`
/// has stored(out_channels) channels a pixel; of narrow weights it has just their outputs.
void convolve(ThreadPool& pool, Winograd3dScratch& scratch, const Winograd3dKernels& kernels,
              const Winograd3dConvolution& convolution);

/// Adds the gradient with respect to the kernels, [out][in][t][y][x], where `out` is the gradient with
/// respect to the convolution's result.
void gradient(ThreadPool& pool, Winograd3dScratch& scratch, const Winograd3dKernels& kernels,
              const Winograd3dGradient& gradient, std::span<float> result);

#ifdef MRI_HAVE_X86
extern const Winograd3dKernels kernels_avx2;
extern const Winograd3dKernels kernels_avx512;
#endif

/// Tiles of a strip at most, and what one needs of memory, in floats.
constexpr int most_tiles = 24;
constexpr int tile_step = 6;
/// Room for the pixels of a tile at an edge.
constexpr int patch_floats = points * most_channels;
constexpr int tiles_of(int pixels) {
    return (pixels + tile - 1) / tile;
}
constexpr int padded_tiles(int tiles) {
    return (tiles + tile_step - 1) / tile_step * tile_step;
}
std::size_t convolution_scratch(int in);
std::size_t gradient_scratch(int in, int out);
/// Floats of the sums of gradient(): [point][t][in][out], of few outputs [point][t][out][in].
std::size_t gradient_sums(int in, int out);

} // namespace mri::winograd3d
