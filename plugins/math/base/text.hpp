// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers, ranges and devices as text. The decimal sign is a point in every locale.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace mri {

/// Number that is the whole text; nothing for other text, for blanks around it and for what T cannot hold.
template <class T>
std::optional<T> parse_number(std::string_view text) {
    T value{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || stop != end)
        return std::nullopt;
    return value;
}

/// Shortest text that parse_number() reads as the same number.
std::string number_text(float value);
std::string number_text(double value);

/// Text with six decimals, as std::to_string() writes it in the C locale.
std::string fixed_text(double value);

/// Text without the blanks, tabs and line ends around it.
std::string_view trimmed(std::string_view text);

/// Numbers `first` to `last`, both included.
struct NumberRange {
    int first, last;
    bool operator==(const NumberRange&) const = default;
};

/// Which bounds of a range may be left out.
enum class OpenRanges {
    refused, ///< "3,10-15"
    allowed  ///< also "8-" (to the largest int) and "-4" (from 1)
};

/// List of numbers and ranges between commas, "3,10-15"; empty for empty text. Nothing for other text, and
/// for a range whose end is below its beginning.
std::optional<std::vector<NumberRange>> parse_ranges(std::string_view text,
                                                     OpenRanges open = OpenRanges::refused);

/// Device as users name it.
struct DeviceText {
    enum class Kind {
        automatic, ///< "auto"
        cpu,       ///< "cpu"
        cuda       ///< "cuda" (the first) or "cuda:N"
    };
    Kind kind = Kind::cpu;
    int index = 0; ///< N; 0 for the other kinds
};

/// Nothing for text that names no device.
std::optional<DeviceText> parse_device(std::string_view text);

} // namespace mri
