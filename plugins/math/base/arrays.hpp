// SPDX-License-Identifier: LGPL-2.1-or-later
// Arithmetic on arrays of complex numbers, written on their floats: through std::complex GCC 12 puts each
// value on the stack in halves and loads it whole, which costs ten times the arithmetic.
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>

namespace mri::arrays {

using cfloat = std::complex<float>;

// The standard lays a complex number out as two floats and allows this cast ([complex.numbers]).
inline float* floats(cfloat* values) {
    return reinterpret_cast<float*>(values);
}
inline const float* floats(const cfloat* values) {
    return reinterpret_cast<const float*>(values);
}

/// y *= a
inline void scale(cfloat* y, float a, std::size_t count) {
    float* f = floats(y);
    for (std::size_t i = 0; i < 2 * count; ++i)
        f[i] *= a;
}

/// y += a x
inline void add_scaled(cfloat* y, float a, const cfloat* x, std::size_t count) {
    float* __restrict f = floats(y);
    const float* __restrict g = floats(x);
    for (std::size_t i = 0; i < 2 * count; ++i)
        f[i] += a * g[i];
}

/// y = x + a y
inline void scale_and_add(cfloat* y, float a, const cfloat* x, std::size_t count) {
    float* __restrict f = floats(y);
    const float* __restrict g = floats(x);
    for (std::size_t i = 0; i < 2 * count; ++i)
        f[i] = g[i] + a * f[i];
}

/// out = z - a x
inline void subtract_scaled(cfloat* out, const cfloat* z, float a, const cfloat* x, std::size_t count) {
    float* __restrict f = floats(out);
    const float* __restrict g = floats(z);
    const float* __restrict h = floats(x);
    for (std::size_t i = 0; i < 2 * count; ++i)
        f[i] = g[i] - a * h[i];
}

/// out = m x
inline void multiply(cfloat* out, const cfloat* m, const cfloat* x, std::size_t count) {
    float* __restrict f = floats(out);
    const float* __restrict g = floats(m);
    const float* __restrict h = floats(x);
    for (std::size_t i = 0; i < 2 * count; i += 2) {
        f[i] = g[i] * h[i] - g[i + 1] * h[i + 1];
        f[i + 1] = g[i] * h[i + 1] + g[i + 1] * h[i];
    }
}

/// The real part of sum conj(x) y.
inline double dot(const cfloat* x, const cfloat* y, std::size_t count) {
    const float* f = floats(x);
    const float* g = floats(y);
    double sum = 0;
    // Float sums of short runs, so that the compiler may use its lanes and rounding stays that of 64 terms.
    constexpr std::size_t run = 64, lanes = 8;
    std::size_t i = 0;
    for (; i + run <= 2 * count; i += run) {
        float part[lanes] = {};
        for (std::size_t k = 0; k < run; k += lanes)
            for (std::size_t l = 0; l < lanes; ++l)
                part[l] += f[i + k + l] * g[i + k + l];
        for (const float p : part)
            sum += p;
    }
    for (; i < 2 * count; ++i)
        sum += static_cast<double>(f[i]) * g[i];
    // Where float32 products have overflowed, or vanished, double ones have not.
    if (!std::isfinite(sum) || std::abs(sum) < 1e-30) {
        sum = 0;
        for (std::size_t k = 0; k < 2 * count; ++k)
            sum += static_cast<double>(f[k]) * g[k];
    }
    return sum;
}

} // namespace mri::arrays
