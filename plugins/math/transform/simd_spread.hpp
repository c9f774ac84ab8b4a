// SPDX-License-Identifier: LGPL-2.1-or-later
// Samples to the grid and the grid to samples: the kernel's taps, spreading, interpolation, periodic edges.
// Included by simd_impl.hpp, once per instruction set; the rules that stand there hold here too.
#pragma once

#include "plugins/math/transform/simd.hpp"
#include "plugins/math/transform/simd_vector.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace mri::simd {
namespace {

// ------------ samples to grid, grid to samples

constexpr int row_vecs = 2 * window / L; ///< vectors that hold one row of a window

template <std::size_t... I>
MRI_INLINE Vec halves_of(float a, float b, std::index_sequence<I...>) {
    return Vec{(I < L / 2 ? a : b)...};
}

template <int Part, std::size_t... I>
MRI_INLINE Vec twice(const float* w, std::index_sequence<I...>) {
    // reads L numbers, of which the first `window` matter
    Vec h = load(w + (Part * L / 2) / L * L);
    return __builtin_shufflevector(h, h, int(I / 2 + (Part * L / 2) % L)...);
}
/// window weights -> each twice, for the two parts of a complex number
template <std::size_t... P>
MRI_INLINE void twice_all(const float* w, Vec* out, std::index_sequence<P...>) {
    ((out[P] = twice<int(P)>(w, std::make_index_sequence<L>())), ...);
}
MRI_INLINE void twice(const float* w, Vec* out) {
    twice_all(w, out, std::make_index_sequence<row_vecs>());
}

template <std::size_t... I>
MRI_INLINE Vec pair_impl(double d, std::index_sequence<I...>) {
    return (Vec)PairVec{((void)I, d)...};
}
/// a complex number in all pairs of lanes
MRI_INLINE Vec pair(const float* c) {
    double d;
    __builtin_memcpy(&d, c, 8);
    return pair_impl(d, std::make_index_sequence<L / 2>());
}

std::uint32_t place(const Placement& p, const float* kxy, std::size_t n, std::int32_t* first, float* z) {
    constexpr int H = L / 2;
    typedef double D __attribute__((vector_size(8 * H)));
    typedef float F __attribute__((vector_size(4 * H)));
    typedef float FU __attribute__((vector_size(4 * H), aligned(4), may_alias));
    typedef std::int32_t I __attribute__((vector_size(4 * H)));
    typedef std::int32_t IU __attribute__((vector_size(4 * H), aligned(4), may_alias));
    D per_pixel, cells;
    for (int l = 0; l < H; l++) {
        per_pixel[l] = p.per_pixel[l % 2];
        cells[l] = p.cells[l % 2];
    }
    const D round = D{} + 6755399441055744.0; // 1.5 * 2^52: adding it rounds to a whole number
    I largest = {};
    for (std::size_t i = 0; i < 2 * n; i += H) {
        alignas(64) float rest[H] = {};
        bool whole = i + H <= 2 * n;
        if (!whole)
            __builtin_memcpy(rest, kxy + i, sizeof(float) * (2 * n - i));
        F k = *reinterpret_cast<const FU*>(whole ? kxy + i : rest);
        I bits = (I)k & 0x7fffffff;
        largest = bits > largest ? bits : largest;
        D turns = __builtin_convertvector(k, D) * per_pixel + 0.5; // cell 0 is k = -pixels/2
        D floor = (turns + round) - round;
        floor = floor > turns ? floor - 1 : floor;
        D left = (turns - floor) * cells - p.half;
        D cell = (left + round) - round;
        cell = cell < left ? cell + 1 : cell;
        F at = __builtin_convertvector((cell - left) * 2 - 1, F);
        I at_cell = __builtin_convertvector(cell, I);
        if (whole) {
            *reinterpret_cast<FU*>(z + i) = at;
            *reinterpret_cast<IU*>(first + i) = at_cell;
        } else {
            __builtin_memcpy(z + i, &at, sizeof(float) * (2 * n - i));
            __builtin_memcpy(first + i, &at_cell, sizeof(float) * (2 * n - i));
        }
    }
    std::int32_t most = 0;
    for (int l = 0; l < H; l++)
        most = largest[l] > most ? largest[l] : most;
    return std::uint32_t(most);
}

template <int Degree>
void taps_impl(const float* table, int degree, const std::uint8_t* shift, const float* z, std::size_t n,
               float* taps) {
    // Degree = 0 stands for any: the number of rounds is then not known to the compiler
    constexpr int halves = 2 * window / L;
    for (std::size_t i = 0; i < n; i++, taps += 2 * window) {
        const float* c = table + std::size_t(shift[i]) * 2 * window * std::size_t(degree + 1);
        for (int h = 0; h < halves; h++) {
            Vec at;
            if constexpr (L == 2 * window)
                at = halves_of(z[2 * i + 1], z[2 * i], std::make_index_sequence<L>());
            else
                at = zero() + z[2 * i + (h * L < window)];
            const float* top = c + degree * 2 * window + h * L;
            Vec v = load(top);
            if constexpr (Degree > 0)
                for (int d = 1; d <= Degree; d++)
                    v = v * at + load(top - d * 2 * window);
            else
                for (int d = 1; d <= degree; d++)
                    v = v * at + load(top - d * 2 * window);
            store(taps + h * L, v);
        }
    }
}
void taps(const float* table, int degree, const std::uint8_t* shift, const float* z, std::size_t n,
          float* taps) {
    switch (degree) {
    case 5:
        taps_impl<5>(table, degree, shift, z, n, taps);
        break;
    case 6:
        taps_impl<6>(table, degree, shift, z, n, taps);
        break;
    case 7:
        taps_impl<7>(table, degree, shift, z, n, taps);
        break;
    case 8:
        taps_impl<8>(table, degree, shift, z, n, taps);
        break;
    default:
        taps_impl<0>(table, degree, shift, z, n, taps);
    }
}

template <int From, std::size_t... I>
MRI_INLINE Vec quad_impl(Vec t, std::index_sequence<I...>) {
    return __builtin_shufflevector(t, t, int(From + I % 4)...);
}
/// numbers From..From+3 of a vector again and again
template <int From>
MRI_INLINE Vec quad(Vec t) {
    return quad_impl<From>(t, std::make_index_sequence<L>());
}
template <int J, std::size_t... I>
MRI_INLINE Vec splat_impl(Vec q, std::index_sequence<I...>) {
    return __builtin_shufflevector(q, q, int(I / 4 * 4 + J)...);
}
/// number J of a quad in all lanes; a shuffle within quads is cheaper here than a broadcast from memory,
/// since the loads and stores of the grid keep those units busy
template <int J>
MRI_INLINE Vec splat(Vec q) {
    return splat_impl<J>(q, std::make_index_sequence<L>());
}

template <int Count, int Row, std::size_t... K>
MRI_INLINE void spread_row(float* cell, const Vec (&v)[Count][row_vecs], const Vec (&q)[Count][2],
                           std::index_sequence<K...>) {
    Vec w[Count];
    for (int c = 0; c < Count; c++)
        w[c] = splat<Row % 4>(q[c][Row / 4]);
    auto one = [&](int k) __attribute__((always_inline)) {
        Vec sum = load(cell + k * L);
        for (int c = 0; c < Count; c++)
            sum += v[c][k] * w[c];
        store(cell + k * L, sum);
    };
    (one(int(K)), ...);
}
template <int Count, std::size_t... Row>
MRI_INLINE void spread_rows(float* cell, std::size_t stride, const Vec (&v)[Count][row_vecs],
                            const Vec (&q)[Count][2], std::index_sequence<Row...>) {
    (spread_row<Count, int(Row)>(cell + Row * stride, v, q, std::make_index_sequence<row_vecs>()), ...);
}

template <int Count>
void spread(const NufftPlan& plan, const float* samples, float* grid) {
    const Group* groups = plan.groups[Count - 1];
    std::size_t stride = 2 * std::size_t(plan.stride);
    for (int g = 0, n = plan.group_count[Count - 1]; g < n; g++) {
        const float* taps = plan.taps + std::size_t(groups[g].first) * 2 * window;
        const float* s = samples + 2 * std::size_t(groups[g].first);
        Vec v[Count][row_vecs], q[Count][2];
        for (int c = 0; c < Count; c++) {
            const float* t = taps + c * 2 * window;
            twice(t, v[c]);
            Vec value = pair(s + 2 * c);
            for (int k = 0; k < row_vecs; k++)
                v[c][k] *= value;
            q[c][0] = quad<window % L>(load(t + window / L * L));
            q[c][1] = quad<(window + 4) % L>(load(t + (window + 4) / L * L));
        }
        spread_rows<Count>(grid + 2 * std::size_t(groups[g].offset), stride, v, q,
                           std::make_index_sequence<window>());
    }
}

template <int S, std::size_t... J>
MRI_INLINE Vec fold_impl(Vec a, Vec b, std::index_sequence<J...>) {
    // element J of the result comes from segment (J % (L/2)) / (S/2) of a or b
    Vec lo = __builtin_shufflevector(
        a, b, int((J % (L / 2)) / (S / 2) * S + J % (S / 2) + (J >= L / 2 ? L : 0))...);
    Vec hi = __builtin_shufflevector(
        a, b, int((J % (L / 2)) / (S / 2) * S + J % (S / 2) + S / 2 + (J >= L / 2 ? L : 0))...);
    return lo + hi;
}
/// Adds the halves of each segment of S numbers; the segments of a come before those of b.
template <int S>
MRI_INLINE Vec fold_to(Vec a, Vec b) {
    return fold_impl<S>(a, b, std::make_index_sequence<L>());
}

template <int Count>
void interpolate(const NufftPlan& plan, const float* grid, float* samples) {
    const Group* groups = plan.groups[Count - 1];
    std::size_t stride = 2 * std::size_t(plan.stride);
    for (int g = 0, n = plan.group_count[Count - 1]; g < n; g++) {
        const float* taps = plan.taps + std::size_t(groups[g].first) * 2 * window;
        float* s = samples + 2 * std::size_t(groups[g].first);
        const float* cell = grid + 2 * std::size_t(groups[g].offset);
        Vec sum[Count][row_vecs] = {};
        for (int j = 0; j < window; j++, cell += stride)
            for (int k = 0; k < row_vecs; k++) {
                Vec v = load(cell + k * L);
                for (int c = 0; c < Count; c++)
                    sum[c][k] += v * taps[c * 2 * window + window + j];
            }
        Vec total[4];
        for (int c = 0; c < Count; c++) {
            Vec w[row_vecs];
            twice(taps + c * 2 * window, w);
            total[c] = sum[c][0] * w[0];
            for (int k = 1; k < row_vecs; k++)
                total[c] += sum[c][k] * w[k];
        }
        for (int c = Count; c < 4; c++)
            total[c] = total[0];
        alignas(64) float values[2 * L > 8 ? 2 * L : 8];
        if constexpr (L == 16) {
            Vec four = fold_to<8>(fold_to<16>(total[0], total[1]), fold_to<16>(total[2], total[3]));
            store(values, fold_to<4>(four, four));
        } else if constexpr (L == 8) {
            store(values, fold_to<4>(fold_to<8>(total[0], total[1]), fold_to<8>(total[2], total[3])));
        } else {
            store(values, fold_to<4>(total[0], total[1]));
            store(values + 4, fold_to<4>(total[2], total[3]));
        }
        __builtin_memcpy(s, values, 8 * Count);
    }
}

/// Adds what was spread into the padding to the cells it stands for (the grid is periodic).
void fold(const NufftPlan& plan, float* grid) {
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gx = plan.x.cells, gy = plan.y.cells;
    for (int r = 0; r < gx + 2 * pad; r++) {
        float* row = grid + r * stride;
        for (int i = 0; i < 2 * pad; i++)
            row[2 * gy + i] += row[i];
        for (int i = 0; i < 2 * pad; i++)
            row[2 * pad + i] += row[2 * (pad + gy) + i];
    }
    for (int r = 0; r < pad; r++) {
        float *from = grid + r * stride, *to = from + gx * stride;
        for (int i = 2 * pad; i < 2 * (pad + gy); i++)
            to[i] += from[i];
    }
    for (int r = 0; r < pad; r++) {
        float *to = grid + (r + pad) * stride, *from = to + gx * stride;
        for (int i = 2 * pad; i < 2 * (pad + gy); i++)
            to[i] += from[i];
    }
}
/// The transpose of fold: copies the cells that the padding stands for into it.
void unfold(const NufftPlan& plan, float* grid) {
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gx = plan.x.cells, gy = plan.y.cells;
    for (int r = 0; r < pad; r++) {
        __builtin_memcpy(grid + (gx + pad + r) * stride, grid + (pad + r) * stride, stride * sizeof(float));
        __builtin_memcpy(grid + r * stride, grid + (gx + r) * stride, stride * sizeof(float));
    }
    for (int r = 0; r < gx + 2 * pad; r++) {
        float* row = grid + r * stride;
        __builtin_memcpy(row + 2 * (pad + gy), row + 2 * pad, 2 * pad * sizeof(float));
        __builtin_memcpy(row, row + 2 * gy, 2 * pad * sizeof(float));
    }
}

/// product [n] complex = samples [n] complex times weights [n]
template <std::size_t... I>
MRI_INLINE void multiply(const float* samples, const float* weights, float* product, int n,
                         std::index_sequence<I...>) {
    int i = 0;
    for (; i + L <= n; i += L) {
        Vec w = load(weights + i);
        store(product + 2 * i, load(samples + 2 * i) * __builtin_shufflevector(w, w, int(I / 2)...));
        store(product + 2 * i + L,
              load(samples + 2 * i + L) * __builtin_shufflevector(w, w, int(I / 2 + L / 2)...));
    }
    for (; i < n; i++) {
        product[2 * i] = samples[2 * i] * weights[i];
        product[2 * i + 1] = samples[2 * i + 1] * weights[i];
    }
}

} // namespace
} // namespace mri::simd
