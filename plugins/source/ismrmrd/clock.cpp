// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/clock.hpp"

#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mri {

std::int64_t ticks_between(std::uint32_t from, std::uint32_t to, double tick) {
    constexpr double hour = 3600e9;
    const std::int64_t step = std::int64_t{to} - from;
    if (step >= 0)
        return step;
    for (const auto period :
         {static_cast<std::int64_t>(std::llround(24 * hour / tick)), std::int64_t{1} << 32}) {
        const std::int64_t across = step + period;
        if (across > 0 && static_cast<double>(across) * tick < hour)
            return across;
    }
    return step;
}

std::optional<double> tr_from(std::span<const std::uint32_t> stamps, double tick) {
    // Runs of readouts with one stamp: their number, and the ticks to the next stamp.
    struct Run {
        std::uint32_t readouts, step;
    };
    std::vector<Run> runs;
    std::uint32_t readouts = 1;
    std::size_t back = 0, still = 0;
    for (std::size_t i = 1; i < stamps.size(); ++i) {
        const std::int64_t step = ticks_between(stamps[i - 1], stamps[i], tick);
        if (step > 0)
            runs.push_back({readouts, static_cast<std::uint32_t>(std::min<std::int64_t>(step, UINT32_MAX))});
        back += step < 0;
        still += step == 0;
        readouts = step == 0 ? readouts + 1 : 1;
    }
    // A few steps back are measurements that begin; many mean that the readouts are sorted by something else.
    if (runs.empty() || 8 * back > runs.size())
        return std::nullopt;
    std::vector<std::uint32_t> steps;
    for (const Run& run : runs)
        steps.push_back(run.step);
    const std::uint64_t usual = median(steps);
    const std::uint64_t pause = 2 * still > stamps.size() ? 2 * usual : 3 * usual + 2;
    double ticks = 0, count = 0;
    for (const Run& run : runs)
        if (run.step < pause) {
            ticks += run.step;
            count += run.readouts;
        }
    if (ticks == 0)
        return std::nullopt;
    return ticks * tick / count;
}

double ReadoutClock::next(std::uint32_t stamp) {
    if (first_) {
        first_ = false;
        stamp_ = stamp;
        measured_ = last_;
        return last_;
    }
    double now = last_ + tr_;
    if (stamps_ && stamp_ && stamp != *stamp_) {
        const double step = static_cast<double>(ticks_between(*stamp_, stamp, tick_)) * tick_;
        const double near = 2 * std::max(tick_, tr_);
        // Stamps that begin again have no time in common with the last ones.
        measured_ = step < -near ? now : measured_ + step;
        const double error = measured_ - now;
        now += std::abs(error) > near ? error : error * 0.02;
        now = std::max(now, last_ + tr_ / 4);
    }
    stamp_ = stamp;
    last_ = now;
    return now;
}

void ReadoutClock::again() {
    last_ += tr_;
    first_ = true;
}

} // namespace mri
