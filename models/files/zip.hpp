// SPDX-License-Identifier: LGPL-2.1-or-later
// Zip archives as PyTorch writes them: data are stored as they are. Pure C++.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mri {

/// True when the bytes begin as a zip archive does.
bool is_zip(std::span<const std::byte> bytes);

struct ZipEntry {
    std::span<const std::byte> data; ///< a part of the archive's bytes
    bool packed = false;             ///< compressed or encrypted: `data` says nothing as it is
};

/// The entries of an archive by name (zip64 is understood). All offsets and sizes are checked against the
/// bytes that are there. `name` is for messages. Throws Errc::decode for a damaged archive.
std::map<std::string, ZipEntry> read_zip(std::span<const std::byte> bytes, const std::string& name);

/// An archive of these entries, in their order, each beginning at a multiple of 64 bytes (as PyTorch's do).
/// Throws Errc::unsupported where it would reach 4 GiB.
std::vector<std::byte> format_zip(const std::vector<std::pair<std::string, std::vector<std::byte>>>& entries);

} // namespace mri
