// SPDX-License-Identifier: LGPL-2.1-or-later
// MRD's counters: which of them make series, and which make the frames of a series. Pure C++.
#pragma once

#include "plugins/common/mrd_header.hpp"

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace mri {

/// Counters of one readout, named as MRD does.
struct Counters {
    std::uint16_t kspace_encode_step_1 = 0, kspace_encode_step_2 = 0;
    std::uint16_t average = 0, slice = 0, contrast = 0, phase = 0, repetition = 0, set = 0, segment = 0;
};

/// Counters that make a series.
struct SeriesKey {
    std::uint16_t slice = 0, contrast = 0, set = 0;
    auto operator<=>(const SeriesKey&) const = default;

    static SeriesKey of(const Counters& c) { return {c.slice, c.contrast, c.set}; }
    std::string text() const; ///< "slice 2, contrast 0, set 0"
};

/// Counters that make the frames of a series.
enum class FrameIndex {
    automatic,        ///< repetition and phase, as far as they count
    repetition,       ///< phases are averaged
    phase,            ///< repetitions are averaged
    repetition_phase, ///< as automatic, without a word about it
    average,          ///< repetition and phase, and each average is a frame
    none              ///< a series is one frame
};

/// Place of a frame in its series; counters that make no frames are 0.
struct FrameKey {
    std::uint32_t generation = 0; ///< times that the counters have begun again
    std::uint32_t repetition = 0; ///< without the wrap at 65535
    std::uint16_t phase = 0, average = 0;
    auto operator<=>(const FrameKey&) const = default;

    std::string text() const; ///< "phase 1 of repetition 0"
};

/// What the counters of a stream mean, from the header's encodingLimits and from the readouts seen.
class FrameCounters {
  public:
    /// `encoding` of the header; without one the readouts alone tell.
    explicit FrameCounters(FrameIndex index = FrameIndex::automatic,
                           const std::optional<MrdEncoding>& encoding = std::nullopt);

    /// Takes note of a readout. A sentence for the user when it is the first that leaves two readings: it tells
    /// the one that is taken, and the property for the other.
    std::optional<std::string> see(const Counters& counters);

    FrameIndex index() const { return index_; }
    /// Whether the counter makes frames and has, or may have, more than one value.
    bool phases() const;
    bool repetitions() const;
    /// Whether lines of one frame may come in parts, others in between: segments, or averages in one frame.
    bool in_parts() const;
    /// Whether a frame goes on in later repetitions: they are averaged.
    bool in_rounds() const;
    /// Lines of a complete frame, and its readouts, by the limits: each line as often as there are averages.
    /// 0 where they do not say, or a counter that is averaged makes it more.
    std::size_t lines() const;
    std::size_t readouts() const { return lines() * averages_; }
    bool is_line(const Counters& c) const {
        return c.kspace_encode_step_1 >= first_line_ && c.kspace_encode_step_1 - first_line_ < lines_;
    }

    /// What makes a frame: "one phase of one repetition".
    std::string text() const;

  private:
    struct Counter {
        int limit = -1; ///< maximum by the header, -1 without
        int least = -1, most = -1;

        void see(int value) {
            least = least < 0 ? value : std::min(least, value);
            most = std::max(most, value);
        }
        bool varies() const { return least != most; }
        bool counts() const { return limit > 0 || most > 0; }
        bool contradicts() const { return limit == 0 && varies(); }
    };

    FrameIndex index_;
    Counter phase_, repetition_, average_, segment_;
    std::size_t first_line_ = 0, lines_ = 0, averages_ = 1;
    bool told_both_ = false, told_contradiction_ = false;
};

} // namespace mri
