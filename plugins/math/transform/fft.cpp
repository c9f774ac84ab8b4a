// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/fft.hpp"

#include "plugins/math/base/arrays.hpp"
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

ChirpTransform::ChirpTransform(int from, int to, double period, int threads)
    : from_(from), to_(to), kernels_(simd::kernels()), pool_(threads) {
    if (from < 1 || to < 1 || from > max_length - to || !(period > 0) || !std::isfinite(period))
        throw Error(Errc::settings, "sums of " + std::to_string(from) + " samples at " + std::to_string(to) +
                                        " points of a period of " + std::to_string(period) +
                                        " cannot be computed");
    int length = 1;
    while (length < from + to - 1)
        length *= 2;
    line_ = std::make_unique<FftLine>(length);
    const auto chirp = [period](int at) {
        return std::polar(1.0, std::numbers::pi * std::fmod(double(at) * at, 2 * period) / period);
    };
    for (int j = 0; j < from; j++)
        before_.emplace_back(cfloat(chirp(j - from / 2)));
    for (int n = 0; n < to; n++)
        after_.emplace_back(cfloat(chirp(n - to / 2)));
    std::vector<cdouble> filter(std::size_t(length), cdouble{});
    for (int m = 1 - from; m < to; m++)
        filter[std::size_t((m + length) % length)] = std::conj(chirp(m + from / 2 - to / 2)) / double(length);
    fft_double(filter);
    filter_.assign(filter.begin(), filter.end());
    for (int i = 0; i < pool_.threads(); i++)
        scratch_.emplace_back(line_->scratch());
}

ChirpTransform::~ChirpTransform() = default;

void ChirpTransform::columns(const cfloat* in, int width, cfloat* out) {
    const auto line = std::size_t(width), length = std::size_t(line_->plan().n);
    const int lanes = kernels_.lanes;
    image_.assign(line * length, cfloat{});
    const auto product = [line](cfloat* to, const cfloat* from, cfloat factor) {
        float* f = arrays::floats(to);
        const float* g = arrays::floats(from);
        for (std::size_t i = 0; i < 2 * line; i += 2) {
            const float re = g[i], im = g[i + 1];
            f[i] = re * factor.real() - im * factor.imag();
            f[i + 1] = re * factor.imag() + im * factor.real();
        }
    };
    const auto transform = [&](bool inverse) {
        pool_.parallel_for((width + lanes - 1) / lanes, [&](int block, int worker) {
            kernels_.columns(line_->plan(), arrays::floats(image_.data()), width, block * lanes, 0, inverse,
                             scratch_[std::size_t(worker)].data());
        });
    };
    for (std::size_t j = 0; j < before_.size(); j++)
        product(image_.data() + j * line, in + j * line, before_[j]);
    transform(false);
    for (std::size_t m = 0; m < length; m++)
        product(image_.data() + m * line, image_.data() + m * line, filter_[m]);
    transform(true);
    for (std::size_t n = 0; n < after_.size(); n++)
        product(out + n * line, image_.data() + n * line, after_[n]);
}

void ChirpTransform::rows(const cfloat* in, int height, cfloat* out) {
    const auto from = std::size_t(from_), to = std::size_t(to_), length = std::size_t(line_->plan().n);
    const int lanes = kernels_.lanes;
    image_.assign(std::size_t(height) * length, cfloat{});
    const auto transform = [&](bool inverse) {
        pool_.parallel_for((height + lanes - 1) / lanes, [&](int block, int worker) {
            kernels_.rows(line_->plan(), arrays::floats(image_.data()), height, block * lanes, 0, inverse,
                          scratch_[std::size_t(worker)].data());
        });
    };
    for (std::size_t y = 0; y < std::size_t(height); y++)
        arrays::multiply(image_.data() + y * length, before_.data(), in + y * from, from);
    transform(false);
    for (std::size_t y = 0; y < std::size_t(height); y++) {
        cfloat* row = image_.data() + y * length;
        for (std::size_t m = 0; m < length; m++)
            row[m] = {row[m].real() * filter_[m].real() - row[m].imag() * filter_[m].imag(),
                      row[m].real() * filter_[m].imag() + row[m].imag() * filter_[m].real()};
    }
    transform(true);
    for (std::size_t y = 0; y < std::size_t(height); y++)
        arrays::multiply(out + y * to, after_.data(), image_.data() + y * length, to);
}

} // namespace mri
