// SPDX-License-Identifier: LGPL-2.1-or-later
// The inner loops with AVX512_BF16. Nothing but intrinsics and builtins is called: an inline function of the
// standard library compiled here could be the copy that the linker keeps for the whole program.
//
// vdpbf16ps multiplies pairs of channels and adds them to 16 float32 sums; it rounds to the nearest and takes
// subnormal numbers for 0, whatever MXCSR says. Sums stay in registers over the whole kernel (Georganas et
// al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures", SC 2018).
#include "models/kernels/direct3d/convolution3d.hpp"

#include <immintrin.h>

#define MRI_INLINE inline __attribute__((always_inline))

namespace mri::convolution3d {
namespace {

using Half = std::uint16_t; // a bfloat16

/// Pixels of the widest tile: its sums fill 24 of the 32 registers, beside three of weights and an input.
constexpr int widest = 24;
constexpr int vector = 2 * block; // bfloat16 numbers

MRI_INLINE __m512bh load(const Half* p) {
    return (__m512bh)_mm512_loadu_si512(p);
}
/// A pair of channels in all lanes.
MRI_INLINE __m512bh broadcast(const Half* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/// A tile of Pixels outputs with a block of channels in the lanes. An input pixel is read once for the three
/// outputs that it reaches: with an input operand in memory for each product the loads would be what
/// limits.
template <int Pixels, int Channels>
MRI_INLINE void tile(const DirectRow& row, int x, Half* out) {
    __m512 sum[Pixels];
#pragma GCC unroll 24
    for (int i = 0; i < Pixels; ++i)
        sum[i] = _mm512_setzero_ps();
    const Half* w = row.weights;
    for (int r = 0; r < kernel_rows; ++r) {
        if (!row.rows[r]) {
            w += row.blocks * row.pairs * 3 * vector;
            continue;
        }
        for (int b = 0; b < row.blocks; ++b) {
            const Half* in = row.rows[r] + std::size_t(b) * row.block_stride + x * Channels;
            for (int p = 0; p < row.pairs; ++p, in += 2, w += 3 * vector) {
                const __m512bh left = load(w), centre = load(w + vector), right = load(w + 2 * vector);
#pragma GCC unroll 26
                for (int i = 0; i < Pixels + 2; ++i) {
                    const __m512bh v = broadcast(in + i * Channels);
                    if (i < Pixels)
                        sum[i] = _mm512_dpbf16_ps(sum[i], v, left);
                    if (i >= 1 && i <= Pixels)
                        sum[i - 1] = _mm512_dpbf16_ps(sum[i - 1], v, centre);
                    if (i >= 2)
                        sum[i - 2] = _mm512_dpbf16_ps(sum[i - 2], v, right);
                }
            }
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < Pixels; ++i) {
        // of two operands the second is taken where one is NaN, which has to be seen
        const __m512 rectified = _mm512_max_ps(_mm512_setzero_ps(), sum[i]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (x + i + 1) * block),
                            (__m256i)_mm512_cvtneps_pbh(rectified));
    }
}

template <int Channels>
void features(const DirectRow& row, Half* out) {
    int x = 0;
    for (; row.width - x > 16; x += widest)
        tile<widest, Channels>(row, x, out);
    if (row.width - x > 8)
        tile<16, Channels>(row, x, out);
    else if (row.width - x > 0)
        tile<8, Channels>(row, x, out);
    // the next layer reads zeros beyond the image
    const int end = row_pixels(row.width);
    __builtin_memset(out + (row.width + 1) * block, 0,
                     sizeof(Half) * std::size_t(end - row.width - 1) * block);
}

/// The lanes of `count` complex numbers, from the first of 8 on.
MRI_INLINE __mmask16 lanes(int count) {
    return count >= 8 ? __mmask16(0xffff) : __mmask16((1U << (2 * count)) - 1U);
}

/// Two outputs would leave 14 lanes idle: here the lanes are 8 pairs of channels of two neighbouring pixels,
/// summed at the end.
template <int Pixels>
MRI_INLINE void pair_tile(const DirectRow& row, int x, float* out) {
    constexpr int n = Pixels / 2;
    __m512 re[n], im[n];
#pragma GCC unroll 12
    for (int i = 0; i < n; ++i)
        re[i] = im[i] = _mm512_setzero_ps();
    const Half* w = row.weights;
    for (int r = 0; r < kernel_rows; ++r) {
        if (!row.rows[r]) {
            w += row.blocks * 6 * vector;
            continue;
        }
        for (int b = 0; b < row.blocks; ++b, w += 6 * vector) {
            const Half* in = row.rows[r] + std::size_t(b) * row.block_stride + x * block;
            const __m512bh left_re = load(w), left_im = load(w + vector);
            const __m512bh centre_re = load(w + 2 * vector), centre_im = load(w + 3 * vector);
            const __m512bh right_re = load(w + 4 * vector), right_im = load(w + 5 * vector);
#pragma GCC unroll 13
            for (int i = 0; i <= n; ++i) {
                const __m512bh even = load(in + i * vector);
                if (i < n) {
                    re[i] = _mm512_dpbf16_ps(re[i], even, left_re);
                    im[i] = _mm512_dpbf16_ps(im[i], even, left_im);
                }
                if (i > 0) {
                    re[i - 1] = _mm512_dpbf16_ps(re[i - 1], even, right_re);
                    im[i - 1] = _mm512_dpbf16_ps(im[i - 1], even, right_im);
                }
                if (i < n) {
                    const __m512bh odd = load(in + i * vector + block);
                    re[i] = _mm512_dpbf16_ps(re[i], odd, centre_re);
                    im[i] = _mm512_dpbf16_ps(im[i], odd, centre_im);
                }
            }
        }
    }
#pragma GCC unroll 3
    for (int i = 0; i < n; i += 4) {
        __m512d pair[4]; // in each quad of lanes: two complex sums
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k)
            pair[k] = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(re[i + k], im[i + k]),
                                                     _mm512_unpackhi_ps(re[i + k], im[i + k])));
        __m512 quad[2]; // two quads of a pixel each
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k)
            quad[k] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(pair[2 * k], pair[2 * k + 1])),
                                    _mm512_castpd_ps(_mm512_unpackhi_pd(pair[2 * k], pair[2 * k + 1])));
        const __m512 sums = _mm512_add_ps(_mm512_shuffle_f32x4(quad[0], quad[1], 0x88),
                                          _mm512_shuffle_f32x4(quad[0], quad[1], 0xdd));
        // pixels 0, 2, 1, 3, 4, 6, 5, 7
        const __m512 f = _mm512_castpd_ps(_mm512_permutex_pd(_mm512_castps_pd(sums), 0xd8));
        const int at = x + 2 * i;
        const __mmask16 inside = row.width > at ? lanes(row.width - at) : __mmask16(0);
        float* pixel = out + 2 * at;
        _mm512_mask_storeu_ps(pixel, inside, _mm512_add_ps(_mm512_maskz_loadu_ps(inside, pixel), f));
    }
}

void residual(const DirectRow& row, float* x) {
    int at = 0;
    for (; row.width - at > 16; at += widest)
        pair_tile<widest>(row, at, x);
    if (row.width - at > 8)
        pair_tile<16>(row, at, x);
    else if (row.width - at > 0)
        pair_tile<8>(row, at, x);
}

void data_step(const DataRow& row) {
    const __m512 step = _mm512_set1_ps(row.step);
    for (int at = 0; at < row.width; at += 8) {
        const __mmask16 inside = lanes(row.width - at);
        const __m512 misfit = _mm512_sub_ps(_mm512_maskz_loadu_ps(inside, row.right + 2 * at),
                                            _mm512_maskz_loadu_ps(inside, row.normal + 2 * at));
        const __m512 x = _mm512_fmadd_ps(step, misfit, _mm512_maskz_loadu_ps(inside, row.x + 2 * at));
        _mm512_mask_storeu_ps(row.x + 2 * at, inside, x);
        if (!row.out)
            continue;
        const __m512 mean = _mm512_maskz_loadu_ps(inside, row.mean + 2 * at);
        // 32 bits are a complex number of a pixel: 8 differences and 8 means, 8 misfits and 8 times nothing
        const __m512i images = (__m512i)_mm512_cvtne2ps_pbh(mean, _mm512_sub_ps(x, mean));
        const __m512i rest = (__m512i)_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), misfit);
        const __m512i low = _mm512_set_epi32(27, 19, 11, 3, 26, 18, 10, 2, 25, 17, 9, 1, 24, 16, 8, 0);
        const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
        Half* out = row.out + (at + 1) * packed;
        _mm512_storeu_si512(out, _mm512_permutex2var_epi32(images, low, rest));
        _mm512_storeu_si512(out + vector, _mm512_permutex2var_epi32(images, high, rest));
    }
}

} // namespace

const DirectKernels kernels_avx512_bf16 = {"avx512_bf16", features<packed>, features<block>, residual,
                                           data_step};

} // namespace mri::convolution3d
