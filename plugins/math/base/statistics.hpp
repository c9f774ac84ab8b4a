// SPDX-License-Identifier: LGPL-2.1-or-later
// Order statistics: medians and percentiles. All reorder the values that they are given, in O(n).
#pragma once

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace mri {

/// Value of `rank`, counted from 0 for the smallest. Throws Errc::settings when there are not that many.
template <class T>
T order_statistic(std::vector<T>& values, std::size_t rank) {
    if (rank >= values.size())
        throw Error(Errc::settings, "a value of rank " + std::to_string(rank) + " was asked of " +
                                        std::to_string(values.size()) + " values");
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(values.begin(), nth, values.end());
    return *nth;
}

/// Median: of an even count the upper one of the two middle values, so that it is one of the values. Throws
/// Errc::settings for no values.
template <class T>
T median(std::vector<T>& values) {
    return order_statistic(values, values.size() / 2);
}

/// q-th percentile (0..100) as one of the values: the one of rank floor(q / 100 (n - 1)). The scale of
/// networks and regularisers, which trained weights and published settings rest on. Throws Errc::settings for
/// no values.
template <class T>
T lower_percentile(std::vector<T>& values, double q) {
    return order_statistic(
        values,
        values.empty() ? 0 : static_cast<std::size_t>(q / 100 * static_cast<double>(values.size() - 1)));
}

/// q-th percentile (0..100) with linear interpolation between the neighbours; NaN of no values.
inline double percentile(std::vector<float>& values, double q) {
    if (values.empty())
        return std::numeric_limits<double>::quiet_NaN();
    const double position = std::clamp(q, 0.0, 100.0) / 100 * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const double low = order_statistic(values, below);
    if (below + 1 == values.size())
        return low;
    const double high =
        *std::min_element(values.begin() + static_cast<std::ptrdiff_t>(below) + 1, values.end());
    return low + (high - low) * (position - static_cast<double>(below));
}

} // namespace mri
