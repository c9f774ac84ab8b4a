// SPDX-License-Identifier: LGPL-2.1-or-later
// The inner loops of float32 with AVX2 and FMA. Nothing but intrinsics and builtins is called: an inline
// function of the standard library compiled here could be the copy that the linker keeps for the whole
// program.
//
// Of 16 registers 12 hold sums: two multiplications and additions begin in a cycle and take four, so 8 sums
// are the least that keeps the processor busy. Masked stores are slow on some processors (AMD's), so none is
// used: what lies beside the pixels of a plane is 0 and the tile's own row, and is written anew as it was.
#include "models/kernels/planes/plane_convolution.hpp"
#include "models/kernels/planes/plane_filtering_impl.hpp"

#include <immintrin.h>

namespace mri::planes {

namespace {

/// Planes that are asked for ahead of the sums: each begins a line of the cache of its own, which the
/// processor does not foresee. From 4 to 8 it makes no difference.
constexpr std::ptrdiff_t ahead = 6;

__m256 load(const Word* from) {
    return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

void store(Word* to, __m256 values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_castps_si256(values));
}

__m256 everywhere(Word word) {
    return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(word)));
}

/// Lanes of the pixels from `x` on that are below `width`.
__m256i lanes(int x, int width) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(width - x), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/// The pixels from `x` on, and zeros beyond the last.
void store_pixels(Word* plane, int x, int width, __m256 values) {
    if (x + 8 > width)
        values = _mm256_and_ps(values, _mm256_castsi256_ps(lanes(x, width)));
    store(plane + x, values);
}

/// The same for every other pixel; those between keep what they are.
void store_spread(Word* plane, int x, int width, __m256 values) {
    const __m256i first = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256i second = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
    if (x + 8 > width)
        values = _mm256_and_ps(values, _mm256_castsi256_ps(lanes(x, width)));
    Word* to = plane + 2 * x;
    store(to, _mm256_blend_ps(load(to), _mm256_permutevar8x32_ps(values, first), 0x55));
    store(to + 8, _mm256_blend_ps(load(to + 8), _mm256_permutevar8x32_ps(values, second), 0x55));
}

template <int pixels, int channels>
void tile(const Tile& t) {
    __m256 sum[channels][pixels];
    // A word of a vector's pixels at a time times as many channels as registers hold: one load feeds
    // `channels` multiplications, one broadcast `pixels` of them.
#pragma GCC unroll 12
    for (int c = 0; c < channels; ++c)
#pragma GCC unroll 4
        for (int p = 0; p < pixels; ++p) {
            sum[c][p] = _mm256_set1_ps(t.bias[c]);
            if (t.add)
                sum[c][p] = _mm256_add_ps(sum[c][p], load(t.add + c * t.out_plane + t.x + 8 * p));
        }
    for (const TapRow* tap = t.taps; tap != t.taps + t.tap_count; ++tap) {
        const Word* in = tap->row + t.x;
        const Word* weights = t.weights + tap->weights * channels;
        for (int word = 0; word < tap->words; ++word, in += t.plane, weights += channels) {
            __builtin_prefetch(in + ahead * t.plane);
            __builtin_prefetch(in + ahead * t.plane + 8 * pixels - 1);
            // The fewer ones stay in registers beside the sums, the others come one by one.
            if constexpr (pixels <= channels) {
                __m256 x[pixels];
#pragma GCC unroll 4
                for (int p = 0; p < pixels; ++p)
                    x[p] = load(in + 8 * p);
#pragma GCC unroll 12
                for (int c = 0; c < channels; ++c) {
                    const __m256 w = everywhere(weights[c]);
#pragma GCC unroll 4
                    for (int p = 0; p < pixels; ++p)
                        sum[c][p] = _mm256_fmadd_ps(x[p], w, sum[c][p]);
                }
            } else {
                __m256 w[channels];
#pragma GCC unroll 4
                for (int c = 0; c < channels; ++c)
                    w[c] = everywhere(weights[c]);
#pragma GCC unroll 4
                for (int p = 0; p < pixels; ++p) {
                    const __m256 x = load(in + 8 * p);
#pragma GCC unroll 4
                    for (int c = 0; c < channels; ++c)
                        sum[c][p] = _mm256_fmadd_ps(x, w[c], sum[c][p]);
                }
            }
        }
    }
    const __m256 slope = _mm256_set1_ps(t.slope);
#pragma GCC unroll 12
    for (int c = 0; c < channels; ++c)
#pragma GCC unroll 4
        for (int p = 0; p < pixels; ++p) {
            const __m256 result = _mm256_max_ps(_mm256_mul_ps(sum[c][p], slope), sum[c][p]);
            Word* plane = t.out + c * t.out_plane;
            if (t.out_step == 1)
                store_pixels(plane, t.x + 8 * p, t.width, result);
            else
                store_spread(plane, t.x + 8 * p, t.width, result);
        }
}

template <int pixels, int channels>
void tile_of(int wanted, const Tile& t) {
    if constexpr (channels > 1)
        if (wanted < channels)
            return tile_of<pixels, channels - 1>(wanted, t);
    tile<pixels, channels>(t);
}

void any_tile(int pixels, int channels, const Tile& t) {
    switch (pixels) {
    case 1:
        return tile_of<1, 12>(channels, t);
    case 2:
        return tile_of<2, 6>(channels, t);
    case 3:
        return tile_of<3, 4>(channels, t);
    default:
        return tile_of<4, 3>(channels, t);
    }
}

void pool(const Word* const* rows, int row_count, int words, std::ptrdiff_t plane, Word* out,
          std::ptrdiff_t out_plane, int width) {
    for (int word = 0; word < words; ++word)
        for (int x = 0; x < width; x += 8) {
            __m256 left{}, right{};
            for (int r = 0; r < row_count; ++r) {
                const Word* from = rows[r] + word * plane + 2 * x;
                const __m256 a = load(from), b = load(from + 8);
                left = r == 0 ? a : _mm256_max_ps(left, a);
                right = r == 0 ? b : _mm256_max_ps(right, b);
            }
            // Pairs of the lower halves of both, then those of the upper ones: the middle two change places.
            const __m256d largest = _mm256_castps_pd(
                _mm256_max_ps(_mm256_shuffle_ps(left, right, 0x88), _mm256_shuffle_ps(left, right, 0xDD)));
            store_pixels(out + word * out_plane, x, width,
                         _mm256_castpd_ps(_mm256_permute4x64_pd(largest, 0xD8)));
        }
}

void add(Word* a, const Word* b, int count) {
    for (int i = 0; i < count; i += 8)
        store(a + i, _mm256_add_ps(load(a + i), load(b + i)));
}

} // namespace

const PlaneKernels kernels_avx2_float32{
    8, 2, {0, 12, 6, 4, 3}, 1, any_tile, pool, add, rows_to_points<8>, points_to_rows<8>};

} // namespace mri::planes
