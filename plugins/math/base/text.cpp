// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/text.hpp"

#include <limits>

namespace mri {

namespace {

template <class T>
std::string shortest(T value) {
    char buffer[40]; // 17 digits, their signs, point and exponent need 24
    const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
    return {buffer, result.ptr};
}

/// One item of a list of ranges.
std::optional<NumberRange> parse_range(std::string_view item, OpenRanges open) {
    // The sign of a negative number is no dash between two.
    const std::size_t dash = item.find('-', open == OpenRanges::allowed ? 0 : 1);
    if (dash == std::string_view::npos) {
        const auto number = parse_number<int>(item);
        return number ? std::optional(NumberRange{*number, *number}) : std::nullopt;
    }
    const std::string_view low = item.substr(0, dash), high = item.substr(dash + 1);
    if (open == OpenRanges::refused && (low.empty() || high.empty()))
        return std::nullopt;
    if (low.empty() && high.empty())
        return std::nullopt;
    const auto first = low.empty() ? std::optional(1) : parse_number<int>(low);
    const auto last = high.empty() ? std::optional(std::numeric_limits<int>::max()) : parse_number<int>(high);
    if (!first || !last || *last < *first)
        return std::nullopt;
    return NumberRange{*first, *last};
}

} // namespace

std::string number_text(float value) {
    return shortest(value);
}

std::string number_text(double value) {
    return shortest(value);
}

std::string fixed_text(double value) {
    char buffer[400]; // the largest double has 309 digits before the point
    const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed, 6);
    return {buffer, result.ptr};
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    const std::size_t first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::optional<std::vector<NumberRange>> parse_ranges(std::string_view text, OpenRanges open) {
    std::vector<NumberRange> ranges;
    while (!text.empty()) {
        const std::size_t comma = text.find(',');
        const auto range = parse_range(text.substr(0, comma), open);
        if (!range || comma == text.size() - 1)
            return std::nullopt;
        ranges.push_back(*range);
        text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    }
    return ranges;
}

std::optional<DeviceText> parse_device(std::string_view text) {
    using Kind = DeviceText::Kind;
    if (text == "auto")
        return DeviceText{Kind::automatic};
    if (text == "cpu")
        return DeviceText{Kind::cpu};
    if (text == "cuda")
        return DeviceText{Kind::cuda};
    constexpr std::string_view numbered = "cuda:";
    if (text.starts_with(numbered))
        if (const auto index = parse_number<int>(text.substr(numbered.size())); index && *index >= 0)
            return DeviceText{Kind::cuda, *index};
    return std::nullopt;
}

} // namespace mri
