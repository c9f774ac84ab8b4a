// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/collected.hpp"

#include <iterator>

namespace mri {

const char* to_string(ExportPart part) noexcept {
    constexpr const char* names[] = {"magnitude", "phase", "real", "imaginary"};
    return names[static_cast<std::size_t>(part)];
}

std::string CollectedHeader::text(const std::string& path, std::size_t index) const {
    const auto [first, last] = texts.equal_range(path);
    const auto count = static_cast<std::size_t>(std::distance(first, last));
    return index < count ? std::next(first, static_cast<std::ptrdiff_t>(index))->second : std::string();
}

std::string short_provenance() {
    return "gst-mri " GST_MRI_VERSION "; research output, not for diagnosis";
}

} // namespace mri
