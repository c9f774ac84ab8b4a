// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/prewhitening.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace mri {

namespace {

using cdouble = std::complex<double>;

/// Share of a coil's noise that the coils before it must leave unexplained, in power. The samples' rounding
/// leaves a copy of a coil, or a sum of others, some 1e-14; true arrays have 1e-2 and more.
constexpr double least_own_noise = 1e-8;

} // namespace

NoiseCovariance::NoiseCovariance(int coils) : coils_(coils) {
    if (coils < 1)
        throw Error(Errc::format, "a noise covariance needs at least one coil");
    const std::size_t n = static_cast<std::size_t>(coils);
    sums_.resize(n * (n + 1) / 2);
}

void NoiseCovariance::add(std::span<const cfloat> readout, double sample_time) {
    const std::size_t n = static_cast<std::size_t>(coils_);
    if (readout.empty() || readout.size() % n != 0)
        throw Error(Errc::format, "a noise readout of " + std::to_string(readout.size()) +
                                      " values does not fit " + std::to_string(coils_) + " coils");
    for (const cfloat& value : readout)
        if (!std::isfinite(value.real()) || !std::isfinite(value.imag()))
            throw Error(Errc::format, "a noise readout holds values that are not finite");
    if (samples_ > 0 && sample_time != sample_time_)
        throw Error(Errc::format, "noise readouts of " + std::to_string(sample_time_) + " and " +
                                      std::to_string(sample_time) + " us a sample do not go together");
    sample_time_ = sample_time;
    const std::size_t count = readout.size() / n;
    samples_ += count;
    cdouble* sum = sums_.data();
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b <= a; ++b, ++sum) {
            double re = 0;
            double im = 0;
            for (std::size_t i = 0; i < count; ++i) {
                const cdouble x(readout[a * count + i]);
                const cdouble y(readout[b * count + i]);
                re += x.real() * y.real() + x.imag() * y.imag();
                im += x.imag() * y.real() - x.real() * y.imag();
            }
            *sum += cdouble(re, im);
        }
}

std::vector<cdouble> NoiseCovariance::matrix() const {
    const std::size_t n = static_cast<std::size_t>(coils_);
    const double scale = 1 / std::max(1.0, static_cast<double>(samples_) - 1);
    std::vector<cdouble> full(n * n);
    const cdouble* sum = sums_.data();
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b <= a; ++b, ++sum) {
            full[a * n + b] = *sum * scale;
            full[b * n + a] = std::conj(full[a * n + b]);
        }
    return full;
}

std::vector<cfloat> whitening_matrix(const NoiseCovariance& noise) {
    const std::size_t n = static_cast<std::size_t>(noise.coils());
    if (noise.samples() < 2 * n)
        throw Error(Errc::format, "noise readouts of " + std::to_string(noise.samples()) +
                                      " samples are too few for " + std::to_string(n) +
                                      " coils: twice as many samples as coils are the least");
    // The Cholesky factor in the lower triangle.
    std::vector<cdouble> l = noise.matrix();
    for (std::size_t a = 0; a < n; ++a) {
        const double power = l[a * n + a].real();
        for (std::size_t b = 0; b <= a; ++b) {
            cdouble rest = l[a * n + b];
            for (std::size_t k = 0; k < b; ++k)
                rest -= l[a * n + k] * std::conj(l[b * n + k]);
            if (b < a) {
                l[a * n + b] = rest / l[b * n + b];
                continue;
            }
            if (!(power > 0))
                throw Error(Errc::format, "the noise readouts of coil " + std::to_string(a) +
                                              " hold no noise: its covariance is singular");
            if (!(rest.real() > least_own_noise * power))
                throw Error(Errc::format,
                            "the noise of coil " + std::to_string(a) +
                                " is a combination of that of the coils before it: the covariance is "
                                "singular");
            l[a * n + a] = std::sqrt(rest.real());
        }
    }
    // Its inverse, column by column.
    std::vector<cfloat> inverse(n * n);
    std::vector<cdouble> column(n);
    for (std::size_t b = 0; b < n; ++b) {
        for (std::size_t a = b; a < n; ++a) {
            cdouble rest = a == b ? 1 : 0;
            for (std::size_t k = b; k < a; ++k)
                rest -= l[a * n + k] * column[k];
            column[a] = rest / l[a * n + a];
            inverse[a * n + b] = cfloat(column[a]);
        }
    }
    return inverse;
}

double noise_scale(double noise_us, double image_us, double bandwidth) {
    const bool known = noise_us > 0 && image_us > 0;
    return std::sqrt((known ? image_us / noise_us : 1) * bandwidth);
}

void mix_coils(std::span<const cfloat> matrix, int to, int from, const cfloat* in, std::size_t count,
               cfloat* out) {
    const std::size_t rows = static_cast<std::size_t>(to);
    const std::size_t columns = static_cast<std::size_t>(from);
    if (matrix.size() != rows * columns)
        throw Error(Errc::format, "a matrix of " + std::to_string(matrix.size()) + " entries does not mix " +
                                      std::to_string(from) + " coils to " + std::to_string(to));
    // Short runs of samples, so that those of all coils stay in the cache for every row.
    constexpr std::size_t run = 128;
    for (std::size_t first = 0; first < count; first += run) {
        const std::size_t some = std::min(run, count - first);
        for (std::size_t a = 0; a < rows; ++a) {
            float* __restrict sum = arrays::floats(out + a * count + first);
            std::fill(sum, sum + 2 * some, 0.0f);
            for (std::size_t b = 0; b < columns; ++b) {
                const float re = matrix[a * columns + b].real();
                const float im = matrix[a * columns + b].imag();
                const float* __restrict x = arrays::floats(in + b * count + first);
                for (std::size_t i = 0; i < 2 * some; i += 2) {
                    sum[i] += re * x[i] - im * x[i + 1];
                    sum[i + 1] += re * x[i + 1] + im * x[i];
                }
            }
        }
    }
}

} // namespace mri
