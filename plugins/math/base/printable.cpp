// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/printable.hpp"

#include <cstddef>

namespace mri {

namespace {

/// Bytes of the UTF-8 character at the beginning of a text that is not empty; 0 where there is none. Unicode 15,
/// table 3-7: neither overlong forms nor surrogates.
std::size_t character_bytes(std::string_view text) {
    const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const unsigned first = at(0);
    if (first < 0x80)
        return 1;
    const std::size_t count = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (at(1) < low || at(1) > high)
        return 0;
    for (std::size_t i = 2; i < count; ++i)
        if (at(i) < 0x80 || at(i) > 0xBF)
            return 0;
    return count;
}

bool is_control(std::string_view character) {
    const auto first = static_cast<unsigned char>(character[0]);
    return character.size() == 1
               ? first < 0x20 || first == 0x7F
               : character.size() == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
}

} // namespace

std::string printable(std::string_view text, bool lines) {
    constexpr const char* digits = "0123456789abcdef";
    std::string out;
    while (!text.empty()) {
        const std::size_t count = character_bytes(text);
        const std::string_view character = text.substr(0, count == 0 ? 1 : count);
        const bool kept = lines && (character == "\n" || character == "\t");
        if (!kept && (count == 0 || is_control(character)))
            for (const char c : character) {
                const auto byte = static_cast<unsigned char>(c);
                out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
            }
        else
            out += character;
        text.remove_prefix(character.size());
    }
    return out;
}

} // namespace mri
