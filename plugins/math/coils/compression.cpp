// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/compression.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

namespace mri {

namespace {

using cdouble = std::complex<double>;

/// Frames that all count, and after which a running mean forgets.
constexpr std::size_t first_frames = 32;
constexpr std::size_t every = 16;

/// sum over i of x conj(y), in float lanes over short runs.
cdouble inner(const cfloat* x, const cfloat* y, std::size_t count) {
    const float* f = arrays::floats(x);
    const float* g = arrays::floats(y);
    constexpr std::size_t lanes = 8, run = 32;
    cdouble sum = 0;
    std::size_t i = 0;
    for (; i + run <= count; i += run) {
        float re[lanes] = {}, im[lanes] = {};
        for (std::size_t k = 0; k < run; k += lanes)
            for (std::size_t l = 0; l < lanes; ++l) {
                const std::size_t at = 2 * (i + k + l);
                re[l] += f[at] * g[at] + f[at + 1] * g[at + 1];
                im[l] += f[at + 1] * g[at] - f[at] * g[at + 1];
            }
        for (std::size_t l = 0; l < lanes; ++l)
            sum += cdouble(re[l], im[l]);
    }
    for (; i < count; ++i)
        sum += cdouble(x[i]) * std::conj(cdouble(y[i]));
    return sum;
}

/// rows of `basis` [n][m], turned among themselves to lie next to those of `old`: U basis with the unitary U
/// that makes |U basis - old| least, the polar factor of old basis^H.
void align(std::vector<cdouble>& basis, const std::vector<cdouble>& old, std::size_t n, std::size_t m) {
    std::vector<cdouble> x(n * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t k = 0; k < m; ++k)
                x[i * n + j] += old[i * m + k] * std::conj(basis[j * m + k]);
    std::vector<cdouble> square(n * n); // x^H x
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t k = 0; k < n; ++k)
                square[i * n + j] += std::conj(x[k * n + i]) * x[k * n + j];
    const HermitianEigen eigen = hermitian_eigen(std::move(square), static_cast<int>(n));
    // A direction that the old basis had nothing of has no place to be turned to.
    if (!(eigen.values.back() > 1e-6))
        return;
    std::vector<cdouble> root(n * n); // (x^H x)^(-1/2)
    for (std::size_t e = 0; e < n; ++e)
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j)
                root[i * n + j] += eigen.vectors[e * n + i] * std::conj(eigen.vectors[e * n + j]) /
                                   std::sqrt(eigen.values[e]);
    std::vector<cdouble> unitary(n * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t k = 0; k < n; ++k)
                unitary[i * n + j] += x[i * n + k] * root[k * n + j];
    std::vector<cdouble> turned(n * m);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t k = 0; k < m; ++k)
                turned[i * m + k] += unitary[i * n + j] * basis[j * m + k];
    basis.swap(turned);
}

} // namespace

HermitianEigen hermitian_eigen(std::vector<cdouble> a, int size) {
    const std::size_t n = static_cast<std::size_t>(std::max(size, 0));
    if (size < 1 || a.size() != n * n)
        throw Error(Errc::format, "a matrix of " + std::to_string(a.size()) + " entries is not square");
    std::vector<cdouble> v(n * n); // row i is column i of the product of all rotations
    for (std::size_t i = 0; i < n; ++i)
        v[i * n + i] = 1;
    double all = 0;
    for (const cdouble& entry : a)
        all += std::norm(entry);
    // Convergence is quadratic: 64 rows take some ten sweeps.
    for (int sweep = 0; sweep < 60; ++sweep) {
        double rest = 0;
        for (std::size_t p = 0; p < n; ++p)
            for (std::size_t q = p + 1; q < n; ++q)
                rest += std::norm(a[p * n + q]);
        if (!(rest > 1e-30 * all))
            break;
        for (std::size_t p = 0; p < n; ++p)
            for (std::size_t q = p + 1; q < n; ++q) {
                const double size_pq = std::abs(a[p * n + q]);
                if (!(size_pq * size_pq > 1e-34 * all))
                    continue;
                const cdouble phase = a[p * n + q] / size_pq;
                const double tau = (a[q * n + q].real() - a[p * n + p].real()) / (2 * size_pq);
                const double t = (tau < 0 ? -1 : 1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
                const double c = 1 / std::sqrt(1 + t * t);
                const double s = t * c;
                // J = [c, s phase; -s conj(phase), c]: J^H A J has no entry at (p, q).
                for (std::size_t k = 0; k < n; ++k) { // A J
                    const cdouble x = a[k * n + p];
                    const cdouble y = a[k * n + q];
                    a[k * n + p] = c * x - s * std::conj(phase) * y;
                    a[k * n + q] = s * phase * x + c * y;
                }
                for (std::size_t k = 0; k < n; ++k) { // J^H (A J), and J's columns as rows of v
                    const cdouble x = a[p * n + k];
                    const cdouble y = a[q * n + k];
                    a[p * n + k] = c * x - s * phase * y;
                    a[q * n + k] = s * std::conj(phase) * x + c * y;
                    const cdouble vx = v[p * n + k];
                    const cdouble vy = v[q * n + k];
                    v[p * n + k] = c * vx - s * std::conj(phase) * vy;
                    v[q * n + k] = s * phase * vx + c * vy;
                }
            }
    }
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t i, std::size_t j) { return a[i * n + i].real() > a[j * n + j].real(); });
    HermitianEigen eigen;
    for (const std::size_t i : order) {
        eigen.values.push_back(a[i * n + i].real());
        eigen.vectors.insert(eigen.vectors.end(), v.begin() + static_cast<std::ptrdiff_t>(i * n),
                             v.begin() + static_cast<std::ptrdiff_t>((i + 1) * n));
    }
    return eigen;
}

CoilCompression::CoilCompression(int coils, int virtual_coils)
    : coils_(coils), virtual_coils_(virtual_coils) {
    if (virtual_coils < 1 || virtual_coils > coils)
        throw Error(Errc::settings, std::to_string(coils) + " coils cannot become " +
                                        std::to_string(virtual_coils) + " virtual ones");
    const std::size_t n = static_cast<std::size_t>(coils);
    covariance_.resize(n * n);
}

void CoilCompression::forget() {
    frames_ = 0;
    basis_.clear();
    kept_ = 1;
}

std::span<const cfloat> CoilCompression::next(const cfloat* samples, std::size_t count) {
    const std::size_t frame = frames_ + 1;
    const bool counts = frame <= first_frames || frame % every == 0;
    if (counts) {
        const std::size_t n = static_cast<std::size_t>(coils_);
        std::vector<cdouble> products(n * n);
        for (std::size_t a = 0; a < n; ++a)
            for (std::size_t b = 0; b <= a; ++b) {
                const cdouble sum = inner(samples + a * count, samples + b * count, count);
                if (!std::isfinite(sum.real()) || !std::isfinite(sum.imag()))
                    throw Error(Errc::format, "a k-space frame has samples that are not finite");
                products[a * n + b] = sum;
                products[b * n + a] = std::conj(sum);
            }
        const double share = 1 / static_cast<double>(std::min(frame, first_frames));
        for (std::size_t i = 0; i < n * n; ++i)
            covariance_[i] =
                frame == 1 ? products[i] : covariance_[i] + (products[i] - covariance_[i]) * share;
    }
    frames_ = frame;
    const bool power_of_two = (frame & (frame - 1)) == 0;
    if (frame <= first_frames ? power_of_two : counts)
        update();
    return matrix_;
}

void CoilCompression::update() {
    const std::size_t m = static_cast<std::size_t>(coils_);
    const std::size_t n = static_cast<std::size_t>(virtual_coils_);
    const HermitianEigen eigen = hermitian_eigen(covariance_, coils_);
    double all = 0, some = 0;
    for (std::size_t i = 0; i < m; ++i) {
        all += std::max(eigen.values[i], 0.0);
        some += i < n ? std::max(eigen.values[i], 0.0) : 0;
    }
    kept_ = all > 0 ? some / all : 1;
    // Virtual coil i is v_i^H s.
    std::vector<cdouble> basis(n * m);
    for (std::size_t i = 0; i < n * m; ++i)
        basis[i] = std::conj(eigen.vectors[i]);
    if (!basis_.empty())
        align(basis, basis_, n, m);
    basis_ = std::move(basis);
    matrix_.assign(basis_.begin(), basis_.end());
}

} // namespace mri
