// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/digest.hpp"

#include <glib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mri {

struct Digest::State {
    GChecksum* sum = g_checksum_new(G_CHECKSUM_SHA256);
    ~State() { g_checksum_free(sum); }
};

Digest::Digest() : state_(std::make_unique<State>()) {}

Digest::~Digest() = default;

Digest& Digest::add(std::string_view text) {
    return add(std::as_bytes(std::span(text)));
}

Digest& Digest::add(std::span<const std::byte> bytes) {
    const std::string length = std::to_string(bytes.size()) + ":";
    g_checksum_update(state_->sum, reinterpret_cast<const guchar*>(length.data()),
                      static_cast<gssize>(length.size()));
    g_checksum_update(state_->sum, reinterpret_cast<const guchar*>(bytes.data()),
                      static_cast<gssize>(bytes.size()));
    return *this;
}

std::string Digest::text() {
    return g_checksum_get_string(state_->sum);
}

std::string Digest::uid() {
    guint8 bytes[32];
    gsize size = sizeof bytes;
    g_checksum_get_digest(state_->sum, bytes, &size);
    bytes[6] = static_cast<guint8>((bytes[6] & 0x0f) | 0x80);
    bytes[8] = static_cast<guint8>((bytes[8] & 0x3f) | 0x80);
    // As a decimal number, digit by digit: the last one is the remainder of the whole by ten.
    std::string digits;
    while (std::any_of(bytes, bytes + 16, [](guint8 b) { return b != 0; })) {
        unsigned remainder = 0;
        for (int i = 0; i < 16; ++i) {
            const unsigned value = remainder * 256 + bytes[i];
            bytes[i] = static_cast<guint8>(value / 10);
            remainder = value % 10;
        }
        digits += static_cast<char>('0' + remainder);
    }
    std::reverse(digits.begin(), digits.end());
    return "2.25." + digits;
}

} // namespace mri
