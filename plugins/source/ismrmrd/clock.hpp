// SPDX-License-Identifier: LGPL-2.1-or-later
// Times of readouts out of their time stamps.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace mri {

/// Ticks from time stamp `from` to `to`: negative where `to` is earlier, but positive across midnight, where stamps of
/// the time of day begin at 0, and across the end of their 32 bits, when less than an hour lies between them. `tick` in
/// ns.
std::int64_t ticks_between(std::uint32_t from, std::uint32_t to, double tick);

/// TR in ns from the time stamps of successive readouts, leaving pauses out. Stamps may stand still for some readouts
/// (coarse ticks, one stamp a shot) and begin again with a measurement. Nothing when they say nothing: all alike, or
/// out of order.
std::optional<double> tr_from(std::span<const std::uint32_t> stamps, double tick);

/// When each readout was made, in ns: TR times the count, held to the time stamps. Times never go back and never stand
/// still: the next one is a quarter of TR later at least.
class ReadoutClock {
  public:
    /// `tr` and `tick` in ns; without `stamps` it is TR times the count alone.
    ReadoutClock(double tr, double tick, bool stamps) : tr_(tr), tick_(tick), stamps_(stamps) {}

    double tr() const { return tr_; }

    /// Time of the next readout. A pause is followed at once, jitter only slowly; a stamp that is no other than the
    /// last one says nothing; stamps that begin again follow on the last readout.
    double next(std::uint32_t stamp);

    /// The next readout follows on the last one, whatever its time stamp says.
    void again();

  private:
    double tr_, tick_;
    bool stamps_;
    std::optional<std::uint32_t> stamp_; // the last one
    double measured_ = 0;                // time of that stamp
    double last_ = 0;                    // time that was told last
    bool first_ = true;
};

} // namespace mri
