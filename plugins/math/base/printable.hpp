// SPDX-License-Identifier: LGPL-2.1-or-later
// Text out of strangers' files, as a terminal may show it.
#pragma once

#include <string>
#include <string_view>

namespace mri {

/// The text with control characters (C0, DEL, C1, line ends and tabs too) and bytes that are no UTF-8 as "\x1b"; a
/// backslash stays as it is. `lines`: line ends and tabs stay.
std::string printable(std::string_view text, bool lines = false);

} // namespace mri
