// SPDX-License-Identifier: LGPL-2.1-or-later
// Times contenders side by side.
#pragma once

#include "plugins/math/base/statistics.hpp"

#include <chrono>
#include <ctime>
#include <functional>
#include <vector>

namespace mri::bench {

/// Milliseconds of a clock that never goes back.
inline double now() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

/// Milliseconds of all threads of this process: what a busy machine does not change as much.
inline double processor_now() {
    std::timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

inline double median(std::vector<double> v) {
    return mri::median(v);
}

/// Calls the contenders in turns, a run of calls each, for `seconds` apiece (at least 3 runs); medians in ms.
/// The first call of a run finds the caches as the other contender left them and is not counted.
inline std::vector<double> race(const std::vector<std::function<void(int)>>& contenders, double seconds) {
    std::vector<std::vector<double>> times(contenders.size());
    for (std::size_t c = 0; c < contenders.size(); c++)
        contenders[c](0);
    double end = now() + 1000 * seconds * double(contenders.size());
    constexpr int run = 10;
    for (int round = 0; round < 3 || (now() < end && round < 1000); round++)
        for (std::size_t c = 0; c < contenders.size(); c++) {
            contenders[c](0);
            for (int i = 1; i <= run; i++) {
                double start = now();
                contenders[c](i);
                times[c].push_back(now() - start);
            }
        }
    std::vector<double> result;
    for (auto& t : times)
        result.push_back(median(t));
    return result;
}

} // namespace mri::bench
