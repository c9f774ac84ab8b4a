// SPDX-License-Identifier: LGPL-2.1-or-later
// Folders of the installation that the running code is part of. Pure C++.
#pragma once

#include <filesystem>
#include <optional>

namespace mri::installation {

/// The prefix above the program or plugin that this code is linked into; it may have been moved since it was
/// installed. None where that file lies in no installation, such as in a build folder.
std::optional<std::filesystem::path> own_prefix();

/// Folders under own_prefix(), or under the configured prefix where there is none. They need not exist.
std::filesystem::path plugins();
std::filesystem::path modules(); ///< libraries that are opened on demand
std::filesystem::path models();
std::filesystem::path pipelines();

} // namespace mri::installation
