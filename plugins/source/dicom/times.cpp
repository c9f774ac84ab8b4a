// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/times.hpp"

#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <string>

namespace mri {

namespace {

using Values = std::vector<double>;
using Order = std::vector<std::size_t>;

constexpr double shortest_step = 1e-3, longest_step = 10.0; // s
// A longer pause between two beats, s, is one between two measurements.
constexpr double longest_pause = 2.0;
constexpr double day = 86400.0;

/// A value of every frame; empty when one has none.
Values values_of(std::span<const FrameFacts> frames, std::optional<double> FrameFacts::*member) {
    Values values;
    for (const FrameFacts& frame : frames) {
        if (!(frame.*member))
            return {};
        values.push_back(*(frame.*member));
    }
    return values;
}

std::size_t count_distinct(const Values& values) {
    return std::set<double>(values.begin(), values.end()).size();
}

bool all_distinct(const Values& values) {
    return !values.empty() && count_distinct(values) == values.size();
}

/// Times of a day, those after midnight carried on from those before.
Values over_midnight(Values times) {
    if (times.empty())
        return times;
    const auto [low, high] = std::minmax_element(times.begin(), times.end());
    if (*high - *low > day / 2)
        for (double& time : times)
            if (time < day / 2)
                time += day;
    return times;
}

/// Frames by the first of `keys`, equal ones by the next; by their index at last.
Order sorted_by(std::size_t count, const std::vector<const Values*>& keys) {
    Order order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        for (const Values* key : keys)
            if (!key->empty() && (*key)[a] != (*key)[b])
                return (*key)[a] < (*key)[b];
        return false;
    });
    return order;
}

Values in_order(const Values& values, const Order& order) {
    Values out;
    for (const std::size_t i : order)
        out.push_back(values[i]);
    return out;
}

/// Median of the positive steps; 0 when there is none.
double median_step(const Values& times, const std::vector<int>& beats = {}) {
    Values steps;
    for (std::size_t i = 1; i < times.size(); ++i)
        if (times[i] > times[i - 1] && (beats.empty() || beats[i] == beats[i - 1]))
            steps.push_back(times[i] - times[i - 1]);
    return steps.empty() ? 0.0 : median(steps);
}

bool makes_sense(double step) {
    return step >= shortest_step && step <= longest_step;
}

/// Beats of delays in the order of acquisition: each beat's grow, and the next one's begin near the least of
/// all. Empty when the delays have no such form: in one beat, out of order, or one cycle that was begun in
/// its middle (whose parts do not overlap).
std::vector<int> beats_of(const Values& delays) {
    std::vector<int> beats(delays.size(), 0);
    for (std::size_t i = 1; i < delays.size(); ++i)
        beats[i] = beats[i - 1] + (delays[i] > delays[i - 1] ? 0 : 1);
    const auto count = static_cast<std::size_t>(beats.back()) + 1;
    // Delays that repeat cannot be one cycle, so that less is asked of them.
    if (count < 2 || delays.size() < count * (all_distinct(delays) ? 3 : 2))
        return {};
    const auto [low, high] = std::minmax_element(delays.begin(), delays.end());
    const double range = *high - *low;
    const double latest = *low + std::max(range / 4, 1.5 * median_step(delays, beats));
    double covered = 0.0;
    for (std::size_t i = 1; i < delays.size(); ++i) {
        if (beats[i] == beats[i - 1])
            covered += delays[i] - delays[i - 1];
        else if (delays[i] > latest)
            return {};
    }
    return covered > range ? beats : std::vector<int>{};
}

/// How often a value occurred before; empty unless all occur equally often, and more than once.
Values occurrences(const Values& values, const Values& instances) {
    std::map<double, int> counts;
    Values out(values.size());
    for (const std::size_t i : sorted_by(values.size(), {&instances}))
        out[i] = counts[values[i]]++;
    const int each = counts.begin()->second;
    const bool equal =
        std::all_of(counts.begin(), counts.end(), [&](const auto& entry) { return entry.second == each; });
    return equal && each > 1 ? out : Values{};
}

class Ordering {
  public:
    Ordering(std::span<const FrameFacts> frames, std::optional<double> nominal_interval)
        : frames_(frames),
          interval_(nominal_interval.value_or(0.0)),
          acquisition_(over_midnight(values_of(frames, &FrameFacts::acquisition))),
          content_(over_midnight(values_of(frames, &FrameFacts::content))),
          position_(values_of(frames, &FrameFacts::position)),
          number_(values_of(frames, &FrameFacts::acquisition_number)),
          instance_(values_of(frames, &FrameFacts::instance)) {}

    FrameOrder find() const {
        using Source = std::pair<std::optional<double> FrameFacts::*, const char*>;
        for (const auto& [member, name] : {Source{&FrameFacts::trigger, "trigger times"},
                                           Source{&FrameFacts::nominal_delay, "nominal trigger delays"},
                                           Source{&FrameFacts::actual_delay, "actual trigger delays"}})
            if (auto found = by_delays(values_of(frames_, member), name))
                return *found;
        if (auto found = by_times(values_of(frames_, &FrameFacts::offset), "time offsets"))
            return *found;
        if (auto found = by_times(acquisition_, "acquisition times"))
            return *found;
        if (auto found = by_times(content_, "content times"))
            return *found;
        return by_numbers();
    }

  private:
    std::optional<FrameOrder> by_delays(const Values& delays, const std::string& name) const {
        if (delays.empty() || count_distinct(delays) < 2)
            return std::nullopt;
        const Values once = occurrences(delays, instance_);
        const std::vector<const Values*> acquired{&acquisition_, &position_, &number_,
                                                  &instance_,    &content_,  &once};
        std::vector<Order> candidates;
        for (const Values* key : acquired)
            if (!key->empty() && count_distinct(*key) > 1)
                candidates.push_back(sorted_by(frames_.size(), {key, &delays, &instance_}));

        for (const Order& order : candidates) {
            const Values ordered = in_order(delays, order);
            if (std::adjacent_find(ordered.begin(), ordered.end(), std::greater_equal<>()) == ordered.end())
                return in_beats(delays, order, std::vector<int>(order.size(), 0), name);
        }
        // Delays after one R wave of images that are seconds apart tell when in the beat these were taken,
        // and their small differences no order.
        const auto [low, high] = std::minmax_element(delays.begin(), delays.end());
        if (all_distinct(acquisition_) &&
            (*high - *low) * 1e-3 <
                median_step(in_order(acquisition_, sorted_by(frames_.size(), {&acquisition_}))))
            return std::nullopt;
        for (const Order& order : candidates)
            if (const auto beats = beats_of(in_order(delays, order)); !beats.empty())
                return in_beats(delays, order, beats, name);
        if (all_distinct(delays))
            return in_beats(delays, sorted_by(frames_.size(), {&delays}), std::vector<int>(frames_.size(), 0),
                            name);
        return std::nullopt;
    }

    std::optional<FrameOrder> in_beats(const Values& delays, const Order& order,
                                       const std::vector<int>& beats, const std::string& name) const {
        Values ms = in_order(delays, order);
        const double step = median_step(ms, beats) * 1e-3;
        if (!makes_sense(step))
            return std::nullopt;
        FrameOrder out{order, {0.0}, beats, step, true, name};
        const bool timed = all_distinct(acquisition_);
        for (std::size_t i = 1; i < order.size(); ++i) {
            double after = (ms[i] - ms[i - 1]) * 1e-3;
            if (beats[i] != beats[i - 1]) {
                const double real = timed ? acquisition_[order[i]] - acquisition_[order[i - 1]] : 0.0;
                const double nominal = after + interval_ * 1e-3;
                after = real >= step / 4 && real <= longest_pause         ? real
                        : nominal >= step / 4 && nominal <= longest_pause ? nominal
                                                                          : step;
            }
            out.times.push_back(out.times.back() + after);
        }
        if (beats.back() > 0)
            out.source += " over " + std::to_string(beats.back() + 1) + " beats";
        return out;
    }

    std::optional<FrameOrder> by_times(const Values& times, const std::string& name) const {
        if (!all_distinct(times) || times.size() < 2)
            return std::nullopt;
        FrameOrder out;
        out.order = sorted_by(frames_.size(), {&times});
        const Values ordered = in_order(times, out.order);
        out.step = median_step(ordered);
        if (!makes_sense(out.step))
            return std::nullopt;
        for (const double time : ordered)
            out.times.push_back(time - ordered.front());
        out.beats.assign(frames_.size(), 0);
        out.source = name;
        return out;
    }

    FrameOrder by_numbers() const {
        FrameOrder out;
        out.beats.assign(frames_.size(), 0);
        if (all_distinct(position_)) {
            out.order = sorted_by(frames_.size(), {&position_});
            out.source = "temporal positions";
        } else {
            out.order = sorted_by(frames_.size(), {&instance_, &number_, &acquisition_, &content_});
            out.source = "instance numbers";
            out.known = frames_.size() < 2 || all_distinct(instance_);
        }
        const double step = interval_ * 1e-3 / static_cast<double>(frames_.size());
        if (makes_sense(step)) {
            out.step = step;
            for (std::size_t i = 0; i < frames_.size(); ++i)
                out.times.push_back(static_cast<double>(i) * step);
            out.source += ", times from the nominal interval";
        }
        return out;
    }

    std::span<const FrameFacts> frames_;
    double interval_; // ms, 0 when not known
    Values acquisition_, content_, position_, number_, instance_;
};

} // namespace

FrameOrder order_frames(std::span<const FrameFacts> frames, std::optional<double> nominal_interval) {
    if (frames.empty())
        return {};
    return Ordering(frames, nominal_interval).find();
}

bool is_regular(std::span<const double> times, double step) {
    for (std::size_t i = 1; i < times.size(); ++i)
        if (std::abs(times[i] - times[i - 1] - step) > step / 2)
            return false;
    return true;
}

} // namespace mri
