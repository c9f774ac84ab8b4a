// SPDX-License-Identifier: LGPL-2.1-or-later
// Winograd's minimal filtering F(4, 3): four neighbouring sums of three products each take six products
// instead of twelve, of the sums' inputs and weights at the points 0, 1, -1, 2, -2 and infinity (Lavin and
// Gray, CVPR 2016). Its sums are those of the direct way to some 1e-6 of the largest value.
//
// Included where one instruction set is compiled for as well. Nothing of the standard library is called: an
// inline function of it compiled there could be the copy that the linker keeps for the whole program.
#pragma once

#define MRI_INLINE inline __attribute__((always_inline))

namespace mri::minimal_filtering {

/// Sums that are made together, weights of one, and products.
constexpr int sums = 4, taps = 3, points = 6;

/// G: the weights at the points.
constexpr double at_points[points][taps] = {{1.0 / 4, 0, 0},
                                            {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                            {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                            {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                            {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                            {0, 0, 1}};

/// L float lanes.
template <int L>
struct Vector {
    typedef float Type __attribute__((vector_size(4 * L)));
    typedef float Unaligned __attribute__((vector_size(4 * L), aligned(4), may_alias));
    typedef int Ints __attribute__((vector_size(4 * L)));
};
template <int L>
using Vec = typename Vector<L>::Type;

template <int L, typename T>
MRI_INLINE Vec<L> load(const T* p) {
    static_assert(sizeof(T) == sizeof(float));
    return *reinterpret_cast<const typename Vector<L>::Unaligned*>(p);
}
template <int L, typename T>
MRI_INLINE void store(T* p, Vec<L> v) {
    static_assert(sizeof(T) == sizeof(float));
    *reinterpret_cast<typename Vector<L>::Unaligned*>(p) = v;
}

/// B^T d: six inputs at the points.
template <typename V>
MRI_INLINE void to_points(const V* d, V* out) {
    const V even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
    const V even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);
    out[0] = 4 * d[0] - 5 * d[2] + d[4];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/// A^T m: four sums from the products.
template <typename V>
MRI_INLINE void to_sums(const V* m, V* out, int step) {
    const V a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    out[0] = m[0] + a + c;
    out[step] = b + 2 * d;
    out[2 * step] = a + 4 * c;
    out[3 * step] = b + 8 * d + m[5];
}

/// A y, the adjoint of to_sums()
template <typename V>
MRI_INLINE void from_sums(const V* y, V* out) {
    const V even = y[0] + y[2], odd = y[1] + y[3];
    const V even2 = y[0] + 4 * y[2], odd2 = 2 * y[1] + 8 * y[3];
    out[0] = y[0];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = y[3];
}

} // namespace mri::minimal_filtering
