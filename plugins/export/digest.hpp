// SPDX-License-Identifier: LGPL-2.1-or-later
// DICOM UIDs that follow from what they name.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mri {

/// SHA-256 of texts and bytes. Each is hashed with its length: "ab", "c" is not "a", "bc".
class Digest {
  public:
    Digest();
    ~Digest();
    Digest(const Digest&) = delete;
    Digest& operator=(const Digest&) = delete;

    Digest& add(std::string_view text);
    Digest& add(std::span<const std::byte> bytes);
    Digest& add(std::size_t number) { return add(std::to_string(number)); }

    /// Hexadecimal digits. Nothing can be added afterwards.
    std::string text();
    /// The first 128 bits as a UUID of version 8 (RFC 9562) under the root 2.25 (DICOM PS3.5, B.2). Likewise.
    std::string uid();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
