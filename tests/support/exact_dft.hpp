// SPDX-License-Identifier: LGPL-2.1-or-later
// The Fourier transform between an image and points of k-space by its definition, in double precision. Pure C++.
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <vector>

namespace mri::test {

using cdouble = std::complex<double>;

/// exp(sign 2 pi i k (n - N/2) / N) for n = 0 .. N-1.
inline std::vector<cdouble> waves(double k, int n, int sign) {
    std::vector<cdouble> e;
    const int centre = n / 2;
    for (int i = 0; i < n; ++i)
        e.push_back(std::polar(1.0, sign * 2 * std::numbers::pi * k * (i - centre) / n));
    return e;
}

/// s(k) = sum m(x, y) exp(-2 pi i (kx (x - W/2) / W + ky (y - H/2) / H)) of one image [y][x] at the points
/// (kx, ky) of `kxy`, interleaved, in cycles per field of view.
template <class Pixel>
std::vector<cdouble> exact_forward(const std::vector<float>& kxy, const Pixel* image, int width, int height) {
    std::vector<cdouble> samples;
    for (std::size_t p = 0; p < kxy.size() / 2; ++p) {
        const auto ex = waves(kxy[2 * p], width, -1), ey = waves(kxy[2 * p + 1], height, -1);
        cdouble sum = 0;
        for (std::size_t y = 0; y < ey.size(); ++y) {
            cdouble line = 0;
            for (std::size_t x = 0; x < ex.size(); ++x)
                line += cdouble(image[y * ex.size() + x]) * ex[x];
            sum += line * ey[y];
        }
        samples.push_back(sum);
    }
    return samples;
}

/// The conjugate transpose of exact_forward(): an image [y][x] of one sample a point.
template <class Sample>
std::vector<cdouble> exact_adjoint(const std::vector<float>& kxy, const Sample* samples, int width,
                                   int height) {
    std::vector<cdouble> image(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
    for (std::size_t p = 0; p < kxy.size() / 2; ++p) {
        const auto ex = waves(kxy[2 * p], width, 1), ey = waves(kxy[2 * p + 1], height, 1);
        for (std::size_t y = 0; y < ey.size(); ++y) {
            const cdouble line = cdouble(samples[p]) * ey[y];
            for (std::size_t x = 0; x < ex.size(); ++x)
                image[y * ex.size() + x] += line * ex[x];
        }
    }
    return image;
}

/// Root of the sum of |found - expected|^2 over that of |expected|^2; infinite when the sizes differ.
template <class Found, class Expected>
double relative_error(const Found& found, const Expected& expected) {
    if (std::size(found) != std::size(expected))
        return HUGE_VAL;
    double error = 0, power = 0;
    for (std::size_t i = 0; i < std::size(expected); ++i) {
        error += std::norm(cdouble(found[i]) - cdouble(expected[i]));
        power += std::norm(cdouble(expected[i]));
    }
    return std::sqrt(error / power);
}

} // namespace mri::test
