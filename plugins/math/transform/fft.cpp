// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/fft.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

namespace mri {

namespace {

constexpr int max_length = 1 << 20;

using cdouble = std::complex<double>;

/// exp(-2 pi i j / n)
cdouble root(std::int64_t j, std::int64_t n) {
    double angle = -2 * std::numbers::pi * double(j % n) / double(n);
    return {std::cos(angle), std::sin(angle)};
}

/// Radices in the order of the passes, or nothing when a prime factor is above 31 (pass_any holds 15 pairs).
std::vector<int> factors(int n) {
    std::vector<int> list;
    for (int r : {16, 15, 9, 8, 7, 5, 4, 3, 2, 11, 13, 17, 19, 23, 29, 31})
        while (n % r == 0 && n > 1) {
            list.push_back(r);
            n /= r;
        }
    if (n != 1)
        list.clear();
    return list;
}

void put(std::vector<float>& table, cdouble c) {
    table.push_back(float(c.real()));
    table.push_back(float(c.imag()));
}

/// transform in double precision, power of two, for the filter of Bluestein's method
void fft_double(std::vector<cdouble>& a) {
    std::size_t n = a.size();
    for (std::size_t i = 1, j = 0; i < n; i++) {
        std::size_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j)
            std::swap(a[i], a[j]);
    }
    for (std::size_t len = 2; len <= n; len *= 2)
        for (std::size_t i = 0; i < n; i += len)
            for (std::size_t k = 0; k < len / 2; k++) {
                cdouble u = a[i + k], v = a[i + k + len / 2] * root(std::int64_t(k), std::int64_t(len));
                a[i + k] = u + v;
                a[i + k + len / 2] = u - v;
            }
}

} // namespace

AlignedFloats::AlignedFloats(std::size_t count) : size_(count) {
    if (count)
        data_.reset(static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t(64))));
    std::fill_n(data_.get(), count, 0.f);
}

FftLine::FftLine(int n) {
    if (n < 1 || n > max_length)
        throw Error(Errc::settings, "a Fourier transform of length " + std::to_string(n) + " is not in 1.." +
                                        std::to_string(max_length));
    plan_.n = n;
    auto radices = factors(n);
    if (n > 1 && radices.empty()) {
        int m = 1;
        while (m < 2 * n - 1)
            m *= 2;
        inner_ = std::make_unique<FftLine>(m);
        plan_.inner = &inner_->plan();
        auto& chirp = tables_.emplace_back();
        std::vector<cdouble> b(std::size_t(m), cdouble{});
        for (std::int64_t j = 0; j < n; j++) {
            cdouble c = root(j * j % (2 * std::int64_t(n)), 2 * std::int64_t(n));
            put(chirp, c);
            b[std::size_t(j)] = b[std::size_t((m - j) % m)] = std::conj(c) / double(m);
        }
        fft_double(b);
        auto& filter = tables_.emplace_back();
        for (auto c : b)
            put(filter, c);
        plan_.chirp = tables_[0].data();
        plan_.filter = tables_[1].data();
        return;
    }
    int rest = n, stride = 1;
    for (int r : radices) {
        int m = rest / r;
        std::vector<float> twiddles, roots;
        for (int p = 0; p < m; p++)
            for (int j = 1; j < r; j++)
                put(twiddles, root(std::int64_t(p) * j, rest));
        for (int j = 0; j < r; j++)
            put(roots, root(j, r));
        auto& pass = plan_.pass[plan_.passes++];
        pass.radix = r;
        pass.m = m;
        pass.s = stride;
        pass.twiddles = tables_.emplace_back(std::move(twiddles)).data();
        pass.roots = tables_.emplace_back(std::move(roots)).data();
        rest = m;
        stride *= r;
    }
}

Fft2d::Fft2d(int width, int height, int threads)
    : width_(width), height_(height), kernels_(simd::kernels()), x_(width), y_(height), pool_(threads) {
    for (int i = 0; i < pool_.threads(); i++)
        scratch_.emplace_back(std::max(x_.scratch(), y_.scratch()));
}

Fft2d::~Fft2d() = default;

void Fft2d::run(cfloat* image, bool centred, bool inverse) {
    auto* data = reinterpret_cast<float*>(image);
    int lanes = kernels_.lanes;
    pool_.parallel_for((width_ + lanes - 1) / lanes, [&](int block, int worker) {
        kernels_.columns(y_.plan(), data, width_, block * lanes, centred ? height_ / 2 : 0, inverse,
                         scratch_[std::size_t(worker)].data());
    });
    pool_.parallel_for((height_ + lanes - 1) / lanes, [&](int block, int worker) {
        kernels_.rows(x_.plan(), data, height_, block * lanes, centred ? width_ / 2 : 0, inverse,
                      scratch_[std::size_t(worker)].data());
    });
}

} // namespace mri
