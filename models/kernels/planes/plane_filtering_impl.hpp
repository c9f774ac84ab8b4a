// SPDX-License-Identifier: LGPL-2.1-or-later
// The two ends of minimal filtering over y, element by element: included once per instruction set, with the
// number of lanes as L.
#include "models/kernels/minimal_filtering.hpp"
#include "models/kernels/planes/plane_convolution.hpp"

namespace mri::planes {
namespace {

template <int L>
void rows_to_points(const PlaneRow* rows, int words, int width, const Points& to) {
    using namespace minimal_filtering;
    for (int word = 0; word < words; ++word)
        for (int x = 0; x < width; x += L) {
            Vec<L> d[points], out[points];
#pragma GCC unroll 6
            for (int r = 0; r < points; ++r)
                d[r] = load<L>(rows[r].row + word * rows[r].plane + x);
            minimal_filtering::to_points(d, out);
#pragma GCC unroll 6
            for (int p = 0; p < points; ++p)
                store<L>(to.first + p * to.point + word * to.plane + x, out[p]);
        }
}

template <int L>
void points_to_rows(const Points& from, const SumRows& to) {
    using namespace minimal_filtering;
    typename Vector<L>::Ints lanes{};
    for (int i = 0; i < L; ++i)
        lanes[i] = i;
    for (int c = 0; c < to.channels; ++c)
        for (int x = 0; x < to.width; x += L) {
            Vec<L> m[points], out[sums];
#pragma GCC unroll 6
            for (int p = 0; p < points; ++p)
                m[p] = load<L>(from.first + p * from.point + c * from.plane + x);
            to_sums(m, out, 1);
#pragma GCC unroll 4
            for (int r = 0; r < sums; ++r) {
                if (r >= to.rows)
                    break;
                const std::ptrdiff_t at = r * to.row + c * to.plane + x;
                Vec<L> v = out[r] + to.bias[c];
                if (to.add)
                    v += load<L>(to.add + at);
                const Vec<L> scaled = to.slope * v;
                v = scaled > v ? scaled : v; // NaN stays NaN
                if (x + L > to.width)
                    v = lanes < to.width - x ? v : Vec<L>{};
                store<L>(to.out + at, v);
            }
        }
}

} // namespace
} // namespace mri::planes
