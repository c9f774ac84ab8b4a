// SPDX-License-Identifier: LGPL-2.1-or-later
// Vectors of MRI_SIMD_LANES floats, complex numbers in them, and exchanges between their lanes.
// Included by simd_impl.hpp, once per instruction set; the rules that stand there hold here too.
#pragma once

#include <cstddef>
#include <utility>

#define MRI_INLINE inline __attribute__((always_inline))

namespace mri::simd {
namespace {

constexpr int L = MRI_SIMD_LANES;
typedef float Vec __attribute__((vector_size(4 * L)));
typedef float VecU __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef double PairVec __attribute__((vector_size(4 * L)));

/// A complex number per lane.
struct C {
    Vec re, im;
};

MRI_INLINE Vec load(const float* p) {
    return *reinterpret_cast<const VecU*>(p);
}
MRI_INLINE void store(float* p, Vec v) {
    *reinterpret_cast<VecU*>(p) = v;
}
MRI_INLINE Vec zero() {
    return Vec{};
}
MRI_INLINE C operator+(C a, C b) {
    return {a.re + b.re, a.im + b.im};
}
MRI_INLINE C operator-(C a, C b) {
    return {a.re - b.re, a.im - b.im};
}
MRI_INLINE C operator*(C a, float f) {
    return {a.re * f, a.im * f};
}
/// a times -i
MRI_INLINE C turn(C a) {
    return {a.im, -a.re};
}
MRI_INLINE C mul(C a, float re, float im) {
    return {a.re * re - a.im * im, a.re * im + a.im * re};
}

/// Which of L interleaved complex numbers a lane holds after split(): not lane i number i, since shuffles
/// within 128 bits are cheaper than those across. Whoever cares puts the lanes right by the addresses of
/// loads and stores.
constexpr int order(int lane) {
    int quad = lane / 4, part = lane % 4;
    return part < 2 ? 2 * quad + part : L / 2 + 2 * quad + part - 2;
}

template <std::size_t... I>
MRI_INLINE C split_impl(Vec a, Vec b, std::index_sequence<I...>) {
    return {__builtin_shufflevector(a, b, int(I / 4 * 4 + I % 2 * 2 + (I % 4 < 2 ? 0 : L))...),
            __builtin_shufflevector(a, b, int(I / 4 * 4 + I % 2 * 2 + 1 + (I % 4 < 2 ? 0 : L))...)};
}
/// L interleaved complex numbers -> real and imaginary parts, lanes in order()
MRI_INLINE C split(Vec a, Vec b) {
    return split_impl(a, b, std::make_index_sequence<L>());
}

/// A shuffle within quads of lanes: lane i takes from[i % 4] of a (0..3) or b (4..7).
template <int F0, int F1, int F2, int F3, std::size_t... I>
MRI_INLINE Vec within_quads(Vec a, Vec b, std::index_sequence<I...>) {
    constexpr int from[4] = {F0, F1, F2, F3};
    return __builtin_shufflevector(a, b, int(I / 4 * 4 + from[I % 4] % 4 + from[I % 4] / 4 * L)...);
}
template <int F0, int F1, int F2, int F3>
MRI_INLINE Vec within_quads(Vec a, Vec b) {
    return within_quads<F0, F1, F2, F3>(a, b, std::make_index_sequence<L>());
}
/// the inverse of split
MRI_INLINE void merge(C c, Vec& a, Vec& b) {
    a = within_quads<0, 4, 1, 5>(c.re, c.im);
    b = within_quads<2, 6, 3, 7>(c.re, c.im);
}

/// Quads First, First + 2, ... of a, then those of b.
template <int First, std::size_t... I>
MRI_INLINE Vec every_other_quad(Vec a, Vec b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b,
                                   int((I % (L / 2) / 4 * 2 + First) * 4 + I % 4 + (I < L / 2 ? 0 : L))...);
}
template <int First>
MRI_INLINE Vec every_other_quad(Vec a, Vec b) {
    return every_other_quad<First>(a, b, std::make_index_sequence<L>());
}
/// Transposes four rows within each quad.
MRI_INLINE void transpose_quads(Vec* q) {
    Vec a = within_quads<0, 4, 1, 5>(q[0], q[1]), b = within_quads<2, 6, 3, 7>(q[0], q[1]);
    Vec c = within_quads<0, 4, 1, 5>(q[2], q[3]), d = within_quads<2, 6, 3, 7>(q[2], q[3]);
    q[0] = within_quads<0, 1, 4, 5>(a, c);
    q[1] = within_quads<2, 3, 6, 7>(a, c);
    q[2] = within_quads<0, 1, 4, 5>(b, d);
    q[3] = within_quads<2, 3, 6, 7>(b, d);
}
/// Exchanges rows and quads of rows k, 4 + k, ...
template <int K>
MRI_INLINE void transpose_rows(Vec* r) {
    if constexpr (L == 8) {
        Vec a = r[K], b = r[4 + K];
        r[K] = every_other_quad<0>(a, b);
        r[4 + K] = every_other_quad<1>(a, b);
    }
    if constexpr (L == 16) {
        Vec a = every_other_quad<0>(r[K], r[4 + K]), b = every_other_quad<0>(r[8 + K], r[12 + K]);
        Vec c = every_other_quad<1>(r[K], r[4 + K]), d = every_other_quad<1>(r[8 + K], r[12 + K]);
        r[K] = every_other_quad<0>(a, b);
        r[4 + K] = every_other_quad<0>(c, d);
        r[8 + K] = every_other_quad<1>(a, b);
        r[12 + K] = every_other_quad<1>(c, d);
    }
}
template <std::size_t... G, std::size_t... K>
MRI_INLINE void transpose(Vec* r, std::index_sequence<G...>, std::index_sequence<K...>) {
    (transpose_quads(r + 4 * G), ...);
    // r[4 g + k] now holds, in its quad l, column 4 l + k of rows 4 g..4 g + 3
    (transpose_rows<int(K)>(r), ...);
}
/// Transposes an L x L tile held in L vectors.
MRI_INLINE void transpose(Vec* r) {
    transpose(r, std::make_index_sequence<L / 4>(), std::make_index_sequence<4>());
}

} // namespace
} // namespace mri::simd
