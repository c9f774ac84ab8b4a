// SPDX-License-Identifier: LGPL-2.1-or-later
// Which slices of a series to take, as a user writes it: "1,3-5,8-".
#pragma once

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/text.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace mri {

/// A set of numbers from 1 up: single ones and ranges "a-b", "a-" or "-b", between commas; empty means all.
class SliceSelection {
  public:
    /// Throws Errc::settings, naming the text, for anything else.
    explicit SliceSelection(const std::string& text) {
        const auto ranges = parse_ranges(text, OpenRanges::allowed);
        if (!ranges ||
            std::any_of(ranges->begin(), ranges->end(), [](const NumberRange& r) { return r.first < 1; }))
            throw Error(Errc::settings, "'" + text + "' is no selection of slices such as 1,3-5,8-");
        ranges_ = *ranges;
    }

    bool contains(int slice) const {
        return ranges_.empty() || std::any_of(ranges_.begin(), ranges_.end(), [slice](const NumberRange& r) {
                   return slice >= r.first && slice <= r.last;
               });
    }

  private:
    std::vector<NumberRange> ranges_;
};

} // namespace mri
