// SPDX-License-Identifier: LGPL-2.1-or-later
// Sorts the readouts of one series into frames by their counters, in any order of acquisition. Pure C++.
#pragma once

#include "plugins/common/frame_counters.hpp"
#include "plugins/math/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mri {

/// When a frame is complete that no flag ends.
enum class Closing {
    change, ///< its last readout by the limits has come, or the counters go on to another frame
    wait,   ///< at the end, or when too many frames are open
    end     ///< at the end alone; flags do not end frames either
};

/// What ended a frame.
enum class Ended { by_flag, by_limits, by_change, by_bound, by_end };

/// Frames of one series. Lines of a frame may come in parts, with those of others in between; frames go out in
/// the order of their keys. A key that comes back after its frame has ended begins a new round of frames
/// (FrameKey::generation) where lines are measured again; where they are missing ones of the frame that is
/// gone, flags or limits were wrong: an error.
template <class Held>
class FrameSorter {
  public:
    struct Options {
        bool grid = false; ///< lines are told apart by their phase encode
        Closing closing = Closing::wait;
        std::size_t most_open = 256;       ///< frames that are open or wait for earlier ones
        std::size_t most_readouts = 65536; ///< of a frame
    };

    struct Frame {
        FrameKey key;
        std::vector<Held> readouts; ///< as they came
        Ended ended = Ended::by_end;
        bool in_parts = false; ///< readouts of other frames came in between
        bool tail = false;     ///< by_end: the last readouts of the series are this frame's, and all of it
    };

    explicit FrameSorter(const Options& options) : options_(options) {}

    /// `counters` has seen the readout. Frames that are complete then wait in next(). Throws Errc::format when
    /// a frame that has gone lacks this readout, Errc::no_memory when it has too many, or too many are open.
    void add(const FrameCounters& counters, const Counters& readout, bool last_in_phase,
             bool last_in_repetition, Held held) {
        FrameKey key = key_of(counters.index(), readout);
        if (const Part* before = ended(key)) {
            judge(*before, key, readout);
            key.generation = ++generation_;
            for (auto& [other, part] : parts_)
                close(part, Ended::by_change);
        }
        if (options_.closing == Closing::change)
            leave(counters, key);
        Part& part = open(key);
        if (part.readouts.size() >= options_.most_readouts)
            throw Error(Errc::no_memory,
                        "A frame has grown to " + std::to_string(part.readouts.size()) +
                            " readouts and no counter or flag ends it: set the property readouts");
        if (part.readouts.empty()) {
            part.first = count_;
            part.least_segment = part.most_segment = readout.segment;
        }
        part.readouts.push_back(std::move(held));
        part.lines.insert(line_of(readout));
        part.in_limits += counters.is_line(readout) ? 1 : 0;
        part.most_average = std::max(part.most_average, readout.average);
        part.least_segment = std::min(part.least_segment, readout.segment);
        part.most_segment = std::max(part.most_segment, readout.segment);
        part.last = count_++;
        ++part.size;
        last_key_ = key;
        ++held_;

        if (options_.closing == Closing::end)
            return;
        if (last_in_repetition && counters.index() != FrameIndex::phase &&
            counters.index() != FrameIndex::none)
            for (auto& [other, of_repetition] : parts_)
                if (other.generation == key.generation && other.repetition == key.repetition)
                    flag(counters, of_repetition);
        if (last_in_phase && counters.phases())
            flag(counters, part);
        if (options_.closing == Closing::change && complete(counters, part))
            close(part, Ended::by_limits);
    }

    /// The next frame in order that is complete, as long as no earlier one is open.
    std::optional<Frame> next() {
        if (parts_.empty() || !parts_.begin()->second.closed)
            return std::nullopt;
        const auto first = parts_.begin();
        Part& part = first->second;
        Frame frame{first->first, std::move(part.readouts), part.ended, part.in_parts(), part.tail};
        held_ -= frame.readouts.size();
        part.readouts.clear();
        if (!finished_) {
            gone_.insert_or_assign(first->first, std::move(part));
            if (gone_.size() > most_gone)
                gone_.erase(gone_.begin());
        }
        parts_.erase(first);
        return frame;
    }

    /// First readout of the frame that follows, if it has begun.
    const Held* following() const {
        return parts_.empty() || parts_.begin()->second.readouts.empty()
                   ? nullptr
                   : &parts_.begin()->second.readouts.front();
    }

    /// Ends all frames; next() has them. Readouts that come afterwards have nothing to do with them.
    void finish() {
        for (auto& [key, part] : parts_)
            if (!part.closed) {
                part.tail = part.last + 1 == count_ && !part.in_parts();
                close(part, Ended::by_end);
            }
        finished_ = true;
        gone_.clear();
        last_key_.reset();
    }

    /// Ends the frame that has waited longest, but never the one that is being filled; false when that lets none
    /// go out.
    bool shed() { return shed(count_ - 1); }

    std::size_t held() const { return held_; } ///< readouts
    std::size_t open() const { return parts_.size(); }

  private:
    using Line = std::pair<std::uint16_t, std::uint16_t>; // both phase encodes
    struct Part {
        std::vector<Held> readouts;
        std::set<Line> lines;
        std::size_t in_limits = 0; // readouts whose line the limits know
        std::uint16_t most_average = 0, least_segment = 0, most_segment = 0;
        std::uint64_t first = 0, last = 0; // counts of readouts
        std::uint64_t size = 0;
        bool closed = false, tail = false;
        Ended ended = Ended::by_end;

        bool in_parts() const { return last - first + 1 != size; }
    };
    static constexpr std::size_t most_gone = 1024;

    static Line line_of(const Counters& c) { return {c.kspace_encode_step_1, c.kspace_encode_step_2}; }

    FrameKey key_of(FrameIndex index, const Counters& c) {
        FrameKey key;
        key.generation = generation_;
        if (index != FrameIndex::phase && index != FrameIndex::none)
            key.repetition = unwrapped(c.repetition);
        if (index != FrameIndex::repetition && index != FrameIndex::none)
            key.phase = c.phase;
        if (index == FrameIndex::average)
            key.average = c.average;
        return key;
    }

    /// The counter has 16 bits: close to its end it goes on from 0.
    std::uint32_t unwrapped(std::uint16_t repetition) {
        constexpr std::uint16_t low = 0x1000, high = 0xf000;
        if (repetition_ >= high && repetition < low)
            ++rounds_;
        else if (rounds_ > 0 && repetition_ < low && repetition >= high)
            --rounds_;
        repetition_ = repetition;
        return rounds_ << 16 | repetition;
    }

    const Part* ended(const FrameKey& key) const {
        if (const auto waiting = parts_.find(key); waiting != parts_.end())
            return waiting->second.closed ? &waiting->second : nullptr;
        const auto found = gone_.find(key);
        return found != gone_.end() ? &found->second : nullptr;
    }

    /// Throws when the readout belongs to a frame that has ended.
    void judge(const Part& before, const FrameKey& key, const Counters& readout) const {
        const bool another_part = readout.average > before.most_average ||
                                  readout.segment < before.least_segment ||
                                  readout.segment > before.most_segment;
        const bool at_once = before.ended == Ended::by_flag && last_key_ == key;
        const bool new_line = options_.grid && !at_once && !before.lines.contains(line_of(readout));
        if (before.ended != Ended::by_bound && !another_part && !new_line)
            return;
        const char* const reason[] = {"a LAST_IN flag", "the header's limits",
                                      "the beginning of the next frame", "max-frames-open or max-waiting",
                                      "the end"};
        throw Error(Errc::format,
                    "Readouts of " + key.text() + " (segment " + std::to_string(readout.segment) +
                        ", average " + std::to_string(readout.average) + ", line " +
                        std::to_string(readout.kspace_encode_step_1) + ") came after " +
                        reason[static_cast<int>(before.ended)] + " had ended their frame: " +
                        (before.ended == Ended::by_bound ? "raise that"
                                                         : "set close=end, so that frames wait for the end"));
    }

    /// Live: the counters go on to another frame.
    void leave(const FrameCounters& counters, const FrameKey& key) {
        for (auto& [other, part] : parts_)
            if (!part.closed && other != key &&
                (other.repetition != key.repetition || !counters.in_parts() || complete(counters, part)))
                close(part, Ended::by_change);
    }

    /// A flag ends a frame. Where frames come in parts it may be that of a part: whoever can wait does.
    void flag(const FrameCounters& counters, Part& part) const {
        const bool in_parts = counters.in_parts() || counters.in_rounds();
        if (options_.closing == Closing::change || !in_parts || complete(counters, part))
            close(part, Ended::by_flag);
    }

    static bool complete(const FrameCounters& counters, const Part& part) {
        return counters.lines() > 0 && part.in_limits >= counters.readouts() &&
               part.lines.size() >= counters.lines();
    }

    Part& open(const FrameKey& key) {
        if (const auto found = parts_.find(key); found != parts_.end())
            return found->second;
        if (parts_.size() >= options_.most_open && !parts_.begin()->second.closed && !shed(count_))
            throw Error(Errc::no_memory, std::to_string(parts_.size()) + " frames are open and " +
                                             key.text() + " begins another: raise max-frames-open");
        finished_ = false;
        return parts_[key];
    }

    /// Without the frame that got readout `spared` last.
    bool shed(std::uint64_t spared) {
        Part* oldest = nullptr;
        for (auto& [key, part] : parts_)
            if (!part.closed && part.last != spared && (!oldest || part.last < oldest->last))
                oldest = &part;
        if (!oldest || options_.closing == Closing::end)
            return false;
        close(*oldest, Ended::by_bound);
        return parts_.begin()->second.closed;
    }

    static void close(Part& part, Ended ended) {
        if (!part.closed)
            part.ended = ended;
        part.closed = true;
    }

    Options options_;
    std::map<FrameKey, Part> parts_; // open, or waiting for earlier ones
    std::map<FrameKey, Part> gone_;  // without their readouts
    std::optional<FrameKey> last_key_;
    std::uint64_t count_ = 0;
    std::size_t held_ = 0;
    std::uint32_t generation_ = 0;
    std::uint32_t rounds_ = 0;
    std::uint16_t repetition_ = 0;
    bool finished_ = false;
};

} // namespace mri
