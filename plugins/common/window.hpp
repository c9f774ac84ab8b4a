// SPDX-License-Identifier: LGPL-2.1-or-later
// Which frames a windowed element computes together and which of them it emits. Pure C++.
#pragma once

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mri {

/// Which `hop` frames of a window are emitted: its central ones, or those that no later window holds.
enum class Emit { central, settled };

/// Windows of T frames every `hop` frames. A window emits its central `hop` frames (or those that no later
/// window holds); the first and the last window of a series also emit their edges; a series shorter than T is
/// padded by repeating its first and its last frame. Each item is emitted exactly once, in order.
template <class Item>
class Windows {
  public:
    struct Job {
        std::vector<Item> items; ///< T of them
        std::size_t first;       ///< the first item of the window to emit
        std::size_t count;       ///< how many to emit
        std::size_t start;       ///< index in the series of the window's first item
        std::size_t series;      ///< counts drain() and reset(): with `start` it names the window
    };

    /// Throws Errc::settings unless 1 <= hop <= window.
    Windows(std::size_t window, std::size_t hop, Emit emit = Emit::central)
        : window_(window),
          hop_(hop),
          lead_(emit == Emit::central ? (window - std::min(hop, window)) / 2 : 0) {
        if (window < 1 || hop < 1 || hop > window)
            throw Error(Errc::settings, "A hop of " + std::to_string(hop) + " does not fit a window of " +
                                            std::to_string(window) + " frames");
    }

    /// Takes the next item; a job when a window is full.
    std::optional<Job> push(Item item) {
        items_.push_back(std::move(item));
        ++received_;
        if (received_ < next_start_ + window_)
            return std::nullopt;
        const std::size_t end = next_start_ + lead_ + hop_;
        auto job = make_job(next_start_, end);
        next_start_ += hop_;
        // The last `window_` items stay, for a last window that is aligned to the end of the series.
        while (base_ < std::min(next_start_, received_ - window_)) {
            items_.pop_front();
            ++base_;
        }
        return job;
    }

    /// The end of a series: what was not emitted yet, or nothing. The schedule starts again.
    std::optional<Job> drain() {
        std::optional<Job> job;
        if (emitted_ < received_) {
            if (received_ >= window_) {
                job = make_job(received_ - window_, received_);
            } else {
                Job padded{{}, (window_ - received_) / 2, received_, 0, series_};
                for (std::size_t i = 0; i < window_; ++i) {
                    const std::size_t k = i < padded.first ? 0 : std::min(i - padded.first, received_ - 1);
                    padded.items.push_back(items_[k]);
                }
                job = std::move(padded);
            }
        }
        reset();
        return job;
    }

    /// Forgets everything.
    void reset() {
        items_.clear();
        base_ = received_ = emitted_ = next_start_ = 0;
        ++series_;
    }

    std::size_t window() const noexcept { return window_; }
    std::size_t hop() const noexcept { return hop_; }
    /// Items received and not emitted yet.
    std::size_t pending() const noexcept { return received_ - emitted_; }
    /// Most frames that an item waits for others of its window (the first one of a series).
    std::size_t wait() const noexcept { return window_ - 1; }

  private:
    Job make_job(std::size_t start, std::size_t end) {
        Job job{{}, emitted_ - start, end - emitted_, start, series_};
        for (std::size_t i = 0; i < window_; ++i)
            job.items.push_back(items_[start - base_ + i]);
        emitted_ = end;
        return job;
    }

    std::size_t window_;
    std::size_t hop_;
    std::size_t lead_; // items of a window before those that it emits
    std::deque<Item> items_;
    std::size_t base_ = 0; // index in the series of items_[0]
    std::size_t received_ = 0;
    std::size_t emitted_ = 0;
    std::size_t next_start_ = 0; // of the next full window
    std::size_t series_ = 0;
};

} // namespace mri
