// SPDX-License-Identifier: LGPL-2.1-or-later
// Which slices of a series to take, as a user writes it: "1,3-5,8-".
#pragma once

#include "plugins/math/base/error.hpp"

#include <charconv>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mri {

/// A set of numbers from 1 up: single ones and ranges "a-b", "a-" or "-b", between commas; empty means all.
class SliceSelection {
  public:
    /// Throws Errc::settings, naming the text, for anything else.
    explicit SliceSelection(const std::string& text) {
        constexpr int last = std::numeric_limits<int>::max();
        const auto fail = [&] {
            return Error(Errc::settings, "'" + text + "' is no selection of slices such as 1,3-5,8-");
        };
        const auto number = [&](std::string_view part, int otherwise) {
            if (part.empty())
                return otherwise;
            int value = 0;
            const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), value);
            if (code != std::errc{} || end != part.data() + part.size() || value < 1)
                throw fail();
            return value;
        };
        std::string_view rest = text;
        while (!rest.empty()) {
            const std::size_t comma = rest.find(',');
            const std::string_view part = rest.substr(0, comma);
            const std::size_t dash = part.find('-');
            if (part.empty() || part == "-" || comma == rest.size() - 1)
                throw fail();
            const int from = number(part.substr(0, dash), 1);
            const int to = dash == std::string_view::npos ? from : number(part.substr(dash + 1), last);
            if (to < from)
                throw fail();
            ranges_.emplace_back(from, to);
            rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
        }
    }

    bool contains(int slice) const {
        for (const auto& [from, to] : ranges_)
            if (slice >= from && slice <= to)
                return true;
        return ranges_.empty();
    }

  private:
    std::vector<std::pair<int, int>> ranges_;
};

} // namespace mri
