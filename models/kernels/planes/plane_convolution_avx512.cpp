// SPDX-License-Identifier: LGPL-2.1-or-later
// The inner loops with AVX-512; those of bfloat16 need AVX512_BF16. Nothing but intrinsics and builtins is
// called: an inline function of the standard library compiled here could be the copy that the linker keeps
// for the whole program.
//
// vdpbf16ps multiplies pairs of channels and adds them to 16 float32 sums; it rounds to the nearest and takes
// subnormal numbers for 0, whatever MXCSR says.
#include "models/kernels/planes/plane_convolution.hpp"
#include "models/kernels/planes/plane_filtering_impl.hpp"

#include <immintrin.h>

namespace mri::planes {

namespace {

struct Float32 {
    static constexpr int channels_per_word = 1;
    static __m512 multiply_add(__m512 sum, __m512i x, __m512i w) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum);
    }
    static __m512 channel(__m512i words, int) { return _mm512_castsi512_ps(words); }
    static __m512i words(__m512 even, __m512) { return _mm512_castps_si512(even); }
};

struct Bfloat16 {
    static constexpr int channels_per_word = 2;
    static __m512 multiply_add(__m512 sum, __m512i x, __m512i w) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
    }
    static __m512 channel(__m512i words, int odd) {
        return _mm512_castsi512_ps(odd ? _mm512_and_si512(words, _mm512_set1_epi32(-65536))
                                       : _mm512_slli_epi32(words, 16));
    }
    static __m512i words(__m512 even, __m512 odd) {
        const auto low = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even)));
        const auto high = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd)));
        return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
    }
};

/// Lanes of the pixels from `x` on that are below `width`.
__mmask16 lanes(int x, int width) {
    const int left = width - x;
    return left >= 16 ? static_cast<__mmask16>(0xFFFF)
                      : static_cast<__mmask16>((1U << (left > 0 ? left : 0)) - 1);
}

void store(const Tile& t, Word* plane, int x, __m512i words) {
    const __mmask16 mask = lanes(x, t.width);
    if (t.out_step == 1) {
        _mm512_mask_storeu_epi32(plane + x, mask, words);
        return;
    }
    const __m512i first = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    const unsigned spread = _pdep_u32(mask, 0x55555555U);
    _mm512_mask_storeu_epi32(plane + 2 * x, static_cast<__mmask16>(spread),
                             _mm512_permutexvar_epi32(first, words));
    _mm512_mask_storeu_epi32(plane + 2 * x + 16, static_cast<__mmask16>(spread >> 16),
                             _mm512_permutexvar_epi32(second, words));
}

template <typename Type, int pixels, int channels>
void tile(const Tile& t) {
    __m512 sum[channels][pixels];
    // A word of a vector's pixels at a time times as many channels as registers hold: one load feeds
    // `channels` multiplications, one broadcast `pixels` of them.
#pragma GCC unroll 16
    for (int c = 0; c < channels; ++c)
#pragma GCC unroll 4
        for (int p = 0; p < pixels; ++p) {
            sum[c][p] = _mm512_set1_ps(t.bias[c]);
            if (t.add) {
                const Word* from = t.add + c / Type::channels_per_word * t.out_plane + t.x + 16 * p;
                sum[c][p] = _mm512_add_ps(
                    sum[c][p], Type::channel(_mm512_loadu_si512(from), c % Type::channels_per_word));
            }
        }
    for (const TapRow* tap = t.taps; tap != t.taps + t.tap_count; ++tap) {
        const Word* in = tap->row + t.x;
        const Word* weights = t.weights + tap->weights * channels;
        for (int word = 0; word < tap->words; ++word, in += t.plane, weights += channels) {
            __m512i x[pixels];
#pragma GCC unroll 4
            for (int p = 0; p < pixels; ++p)
                x[p] = _mm512_loadu_si512(in + 16 * p);
#pragma GCC unroll 16
            for (int c = 0; c < channels; ++c) {
                const __m512i w = _mm512_set1_epi32(static_cast<int>(weights[c]));
#pragma GCC unroll 4
                for (int p = 0; p < pixels; ++p)
                    sum[c][p] = Type::multiply_add(sum[c][p], x[p], w);
            }
        }
    }
    const __m512 slope = _mm512_set1_ps(t.slope);
#pragma GCC unroll 16
    for (int c = 0; c < channels; ++c)
#pragma GCC unroll 4
        for (int p = 0; p < pixels; ++p)
            sum[c][p] = _mm512_max_ps(_mm512_mul_ps(sum[c][p], slope), sum[c][p]);
    const int step = t.out_float ? 1 : Type::channels_per_word;
#pragma GCC unroll 16
    for (int c = 0; c < channels; ++c)
#pragma GCC unroll 4
        for (int p = 0; p < pixels; ++p) {
            Word* plane = t.out + c / step * t.out_plane;
            if (step == 1)
                store(t, plane, t.x + 16 * p, _mm512_castps_si512(sum[c][p]));
            else if (c % 2 == 0)
                store(t, plane, t.x + 16 * p,
                      Type::words(sum[c][p],
                                  c + 1 < channels ? sum[(c + 1) % channels][p] : _mm512_setzero_ps()));
        }
}

template <typename Type, int pixels>
void tile_of(int channels, const Tile& t) {
    switch (channels) {
    case 1:
        return tile<Type, pixels, 1>(t);
    case 2:
        return tile<Type, pixels, 2>(t);
    case 4:
        return tile<Type, pixels, 4>(t);
    case 6:
        return tile<Type, pixels, 6>(t);
    default:
        break;
    }
    if constexpr (pixels <= 3)
        if (channels == 8)
            return tile<Type, pixels, 8>(t);
    if constexpr (pixels <= 2) {
        if (channels == 10)
            return tile<Type, pixels, 10>(t);
        if (channels == 12)
            return tile<Type, pixels, 12>(t);
    }
    if constexpr (pixels == 1) {
        if (channels == 14)
            return tile<Type, pixels, 14>(t);
        return tile<Type, pixels, 16>(t);
    }
}

template <typename Type>
void any_tile(int pixels, int channels, const Tile& t) {
    switch (pixels) {
    case 1:
        return tile_of<Type, 1>(channels, t);
    case 2:
        return tile_of<Type, 2>(channels, t);
    case 3:
        return tile_of<Type, 3>(channels, t);
    default:
        return tile_of<Type, 4>(channels, t);
    }
}

template <typename Type>
__m512i largest(__m512i a, __m512i b) {
    return Type::words(_mm512_max_ps(Type::channel(a, 0), Type::channel(b, 0)),
                       _mm512_max_ps(Type::channel(a, 1), Type::channel(b, 1)));
}

template <typename Type>
void pool(const Word* const* rows, int row_count, int words, std::ptrdiff_t plane, Word* out,
          std::ptrdiff_t out_plane, int width) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int word = 0; word < words; ++word)
        for (int x = 0; x < width; x += 16) {
            const __mmask16 first = lanes(2 * x, 2 * width);
            const __mmask16 second = lanes(2 * x + 16, 2 * width);
            __m512i left{}, right{};
            for (int r = 0; r < row_count; ++r) {
                const Word* from = rows[r] + word * plane + 2 * x;
                const __m512i a = _mm512_maskz_loadu_epi32(first, from);
                const __m512i b = _mm512_maskz_loadu_epi32(second, from + 16);
                left = r == 0 ? a : largest<Type>(left, a);
                right = r == 0 ? b : largest<Type>(right, b);
            }
            _mm512_mask_storeu_epi32(out + word * out_plane + x, lanes(x, width),
                                     largest<Type>(_mm512_permutex2var_epi32(left, even, right),
                                                   _mm512_permutex2var_epi32(left, odd, right)));
        }
}

template <typename Type>
void add(Word* a, const Word* b, int count) {
    for (int i = 0; i < count; i += 16) {
        const __mmask16 mask = lanes(i, count);
        const __m512i x = _mm512_maskz_loadu_epi32(mask, a + i);
        const __m512i y = _mm512_maskz_loadu_epi32(mask, b + i);
        _mm512_mask_storeu_epi32(a + i, mask,
                                 Type::words(_mm512_add_ps(Type::channel(x, 0), Type::channel(y, 0)),
                                             _mm512_add_ps(Type::channel(x, 1), Type::channel(y, 1))));
    }
}

} // namespace

const PlaneKernels kernels_avx512_float32{16,
                                          4,
                                          {0, 16, 12, 8, 6},
                                          2,
                                          any_tile<Float32>,
                                          pool<Float32>,
                                          add<Float32>,
                                          rows_to_points<16>,
                                          points_to_rows<16>};
const PlaneKernels kernels_avx512_bfloat16{
    16, 4, {0, 16, 12, 8, 6}, 2, any_tile<Bfloat16>, pool<Bfloat16>, add<Bfloat16>, nullptr, nullptr};

} // namespace mri::planes
