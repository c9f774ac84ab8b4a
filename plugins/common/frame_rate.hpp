// SPDX-License-Identifier: LGPL-2.1-or-later
// Frame rates out of durations that were rounded to nanoseconds.
#pragma once

#include "plugins/common/caps.hpp"

#include <utility>

namespace mri {

/// The simplest rate (that of the smallest denominator) of frames that last `shortest` to `longest` ns:
/// 40,000,000 to 40,000,015 ns are 25/1. 0/1 when there is none that caps can hold.
inline Fraction frame_rate(GstClockTime shortest, GstClockTime longest) {
    if (shortest == 0 || longest < shortest || longest > GST_SECOND * 3600)
        return {};
    // Both bounds as continued fractions, as long as they agree (Graham, Knuth, Patashnik, Concrete
    // Mathematics, 4.5).
    guint64 a = GST_SECOND, b = longest, c = GST_SECOND, d = shortest;
    guint64 p0 = 0, q0 = 1, p = 1, q = 0; // convergents
    while (true) {
        const guint64 whole = a / b;
        const bool last = whole * b == a || whole < c / d;
        const guint64 term = whole * b == a ? whole : last ? whole + 1 : whole;
        p0 = std::exchange(p, term * p + p0);
        q0 = std::exchange(q, term * q + q0);
        if (p > G_MAXINT || q > G_MAXINT)
            return {};
        if (last)
            return {static_cast<int>(p), static_cast<int>(q)};
        // The reciprocal of what is left of the interval, its bounds the other way round.
        const guint64 a_rest = a - whole * b, c_rest = c - whole * d;
        a = std::exchange(d, a_rest);
        c = std::exchange(b, c_rest);
    }
}

} // namespace mri
