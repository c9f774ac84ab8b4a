// SPDX-License-Identifier: LGPL-2.1-or-later
// Plain text tables. Pure C++.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace mri {

/// Rows under headings, columns padded to their widest cell; the first `left` columns stand to the left, the
/// others to the right.
inline std::string format_table(const std::vector<std::string>& headings,
                                const std::vector<std::vector<std::string>>& rows, std::size_t left = 1) {
    // A character of UTF-8 may take several bytes and still one column.
    const auto columns = [](const std::string& s) {
        return static_cast<std::size_t>(std::count_if(
            s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
    };
    std::vector<std::size_t> widths(headings.size());
    std::transform(headings.begin(), headings.end(), widths.begin(), columns);
    for (const auto& row : rows)
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
            widths[i] = std::max(widths[i], columns(row[i]));
    std::string text;
    const auto add = [&](const std::vector<std::string>& row) {
        std::string line;
        for (std::size_t i = 0; i < widths.size(); ++i) {
            const std::string cell = i < row.size() ? row[i] : std::string();
            const std::string pad(widths[i] - columns(cell), ' ');
            line += (i == 0 ? "" : "  ") + (i < left ? cell + pad : pad + cell);
        }
        text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    };
    add(headings);
    for (const auto& row : rows)
        add(row);
    return text;
}

} // namespace mri
