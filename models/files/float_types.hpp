// SPDX-License-Identifier: LGPL-2.1-or-later
// The floating-point types that weights files hold, as float32, and bfloat16 of it. Pure C++.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mri {

/// IEEE 754 binary16; exact.
inline float float_of_half(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
    const std::uint32_t exponent = (h >> 10) & 0x1FU;
    const std::uint32_t mantissa = h & 0x3FFU;
    if (exponent == 0) { // zero and subnormal: mantissa x 2^-24
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return sign ? -magnitude : magnitude;
    }
    const std::uint32_t bits = exponent == 31 ? sign | 0x7F800000U | (mantissa << 13)
                                              : sign | ((exponent + 112) << 23) | (mantissa << 13);
    return std::bit_cast<float>(bits);
}

/// The upper half of a float32; exact.
inline float float_of_bfloat16(std::uint16_t b) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16);
}

/// To the nearest, ties to even; NaN stays NaN.
inline std::uint16_t bfloat16_of(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (value != value)
        return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/// Rounds; what float32 cannot hold becomes infinite, which check_finite() finds.
inline float float_of_double(double v) {
    return static_cast<float>(v);
}

/// A floating-point type in a file: its bytes per value, and its value at any address (need not be aligned).
struct FloatType {
    std::size_t size = 0;
    float (*read)(const std::byte* at) = nullptr;
};

/// A type that lies in the file as Raw (little-endian, as this machine), converted by Convert.
template <class Raw, float (*Convert)(Raw)>
constexpr FloatType float_type() {
    return {sizeof(Raw), [](const std::byte* at) {
                Raw raw;
                std::memcpy(&raw, at, sizeof(raw));
                return Convert(raw);
            }};
}

inline float float_of_float(float v) {
    return v;
}

inline constexpr FloatType float32_type = float_type<float, float_of_float>();
inline constexpr FloatType float64_type = float_type<double, float_of_double>();
inline constexpr FloatType float16_type = float_type<std::uint16_t, float_of_half>();
inline constexpr FloatType bfloat16_type = float_type<std::uint16_t, float_of_bfloat16>();

} // namespace mri
