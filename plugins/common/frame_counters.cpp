// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/frame_counters.hpp"

#include <fmt/format.h>

namespace mri {

std::string SeriesKey::text() const {
    return fmt::format("slice {}, contrast {}, set {}", slice, contrast, set);
}

std::string FrameKey::text() const {
    return fmt::format("phase {} of repetition {}", phase, repetition & 0xffff);
}

FrameCounters::FrameCounters(FrameIndex index, const std::optional<MrdEncoding>& encoding) : index_(index) {
    if (!encoding)
        return;
    const auto maximum = [](const std::optional<MrdLimit>& limit) { return limit ? limit->maximum : -1; };
    phase_.limit = maximum(encoding->phase);
    repetition_.limit = maximum(encoding->repetition);
    average_.limit = maximum(encoding->average);
    segment_.limit = maximum(encoding->segment);
    if (const auto& lines = encoding->step_1; lines && lines->maximum > lines->minimum) {
        first_line_ = static_cast<std::size_t>(lines->minimum);
        lines_ = static_cast<std::size_t>(lines->maximum - lines->minimum) + 1;
    }
    if (index != FrameIndex::average && average_.limit > 0)
        averages_ = static_cast<std::size_t>(average_.limit) + 1;
}

std::optional<std::string> FrameCounters::see(const Counters& counters) {
    phase_.see(counters.phase);
    repetition_.see(counters.repetition);
    average_.see(counters.average);
    segment_.see(counters.segment);
    if (index_ != FrameIndex::automatic)
        return std::nullopt;
    if (!told_contradiction_ && (phase_.contradicts() || repetition_.contradicts())) {
        told_contradiction_ = true;
        return fmt::format(
            "The header's limits allow for one {0} and the readouts count several: each {0} makes a "
            "frame of its own (index={1} averages them)",
            repetition_.contradicts() ? "repetition" : "phase",
            repetition_.contradicts() ? "phase" : "repetition");
    }
    if (!told_both_ && phase_.varies() && repetition_.varies()) {
        told_both_ = true;
        return "Phase and repetition both count: a frame is one phase of one repetition (index=phase "
               "averages the "
               "repetitions, index=repetition the phases)";
    }
    return std::nullopt;
}

bool FrameCounters::phases() const {
    return index_ != FrameIndex::repetition && index_ != FrameIndex::none && phase_.counts();
}

bool FrameCounters::repetitions() const {
    return index_ != FrameIndex::phase && index_ != FrameIndex::none && repetition_.counts();
}

bool FrameCounters::in_parts() const {
    return segment_.counts() || (index_ != FrameIndex::average && average_.counts());
}

bool FrameCounters::in_rounds() const {
    return (index_ == FrameIndex::phase || index_ == FrameIndex::none) && repetition_.counts();
}

std::size_t FrameCounters::lines() const {
    const bool averages_more = index_ == FrameIndex::none ||
                               (index_ == FrameIndex::repetition && phase_.counts()) ||
                               (index_ == FrameIndex::phase && repetition_.counts());
    return averages_more ? 0 : lines_;
}

std::string FrameCounters::text() const {
    if (phases() && repetitions())
        return "one phase of one repetition";
    if (phases())
        return "one phase";
    if (repetitions())
        return "one repetition";
    return "all readouts";
}

} // namespace mri
