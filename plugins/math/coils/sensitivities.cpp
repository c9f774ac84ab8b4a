// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/coils/sensitivities.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <string>

namespace mri {

namespace {

/// y = R v for the Hermitian matrix R, lower triangle packed by rows; returns |y|.
float apply_hermitian(const cfloat* packed, const cfloat* v, cfloat* y, int n) {
    std::fill(y, y + n, cfloat{});
    const cfloat* row = packed;
    for (int i = 0; i < n; ++i) {
        float re = 0;
        float im = 0;
        const float vr = v[i].real();
        const float vi = v[i].imag();
        for (int j = 0; j < i; ++j) {
            const float ar = row[j].real();
            const float ai = row[j].imag();
            re += ar * v[j].real() - ai * v[j].imag();
            im += ar * v[j].imag() + ai * v[j].real();
            y[j] += cfloat(ar * vr + ai * vi, ar * vi - ai * vr);
        }
        y[i] += cfloat(re + row[i].real() * vr, im + row[i].real() * vi);
        row += i + 1;
    }
    float norm = 0;
    for (int i = 0; i < n; ++i)
        norm += std::norm(y[i]);
    return std::sqrt(norm);
}

/// Power iteration in place; false when R v vanishes. v: start and result, norm 1.
bool dominant_eigenvector(const cfloat* packed, cfloat* v, cfloat* scratch, int n, int iterations) {
    for (int k = 0; k < iterations; ++k) {
        const float norm = apply_hermitian(packed, v, scratch, n);
        if (!(norm > 0))
            return false;
        const float inverse = 1 / norm;
        if (!std::isfinite(inverse))
            return false;
        for (int i = 0; i < n; ++i)
            v[i] = scratch[i] * inverse;
    }
    return true;
}

/// Covariance of the coils over a patch of pixels, as packed lower triangles. Rows are visited in order.
///
/// Sums of columns over the rows of the patch are updated from row to row; a window adds the columns up. Columns
/// are computed anew every 32 rows, so that what was subtracted leaves no rounding behind.
class PatchCovariance {
  public:
    /// `images`: [coil][height][width].
    PatchCovariance(const cfloat* images, int coils, int width, int height, int patch)
        : images_(images),
          coils_(static_cast<std::size_t>(coils)),
          width_(width),
          height_(height),
          half_(patch / 2),
          pixels_(static_cast<std::size_t>(width) * static_cast<std::size_t>(height)),
          entries_(coils_ * (coils_ + 1) / 2),
          pixel_(coils_),
          columns_(entries_ * static_cast<std::size_t>(width)),
          window_(entries_) {}

    /// Sum over all pixels.
    std::vector<cfloat> total() {
        std::vector<cfloat> sum(entries_);
        for (std::size_t p = 0; p < pixels_; ++p)
            add(p, 1.0f, sum.data());
        return sum;
    }

    /// Goes to the next row.
    void move_to(int y) {
        if (y % 32 == 0) {
            std::fill(columns_.begin(), columns_.end(), cfloat{});
            for (int row = std::max(y - half_, 0); row <= std::min(y + half_, height_ - 1); ++row)
                add_row(row, 1.0f);
            return;
        }
        if (y - half_ - 1 >= 0)
            add_row(y - half_ - 1, -1.0f);
        if (y + half_ < height_)
            add_row(y + half_, 1.0f);
    }

    /// Sum over the patch around column x of the row; valid until the next call.
    const cfloat* at(int x) {
        std::fill(window_.begin(), window_.end(), cfloat{});
        for (int column = std::max(x - half_, 0); column <= std::min(x + half_, width_ - 1); ++column)
            for (std::size_t e = 0; e < entries_; ++e)
                window_[e] += columns_[entries_ * static_cast<std::size_t>(column) + e];
        return window_.data();
    }

  private:
    /// Adds sign * m m^H of one pixel.
    void add(std::size_t p, float sign, cfloat* packed) {
        for (std::size_t c = 0; c < coils_; ++c)
            pixel_[c] = images_[c * pixels_ + p];
        for (std::size_t i = 0; i < coils_; ++i) {
            const float ar = sign * pixel_[i].real();
            const float ai = sign * pixel_[i].imag();
            for (std::size_t j = 0; j <= i; ++j)
                *packed++ += cfloat(ar * pixel_[j].real() + ai * pixel_[j].imag(),
                                    ai * pixel_[j].real() - ar * pixel_[j].imag());
        }
    }

    void add_row(int row, float sign) {
        for (int x = 0; x < width_; ++x)
            add(static_cast<std::size_t>(row) * width_ + x, sign, columns_.data() + entries_ * x);
    }

    const cfloat* images_;
    std::size_t coils_;
    int width_, height_, half_;
    std::size_t pixels_, entries_;
    std::vector<cfloat> pixel_, columns_, window_;
};

/// The coils' vector that all pixels together have most of: the reference of phases.
std::vector<cfloat> reference_of(const std::vector<cfloat>& total, int coils) {
    const auto n = static_cast<std::size_t>(coils);
    std::vector<cfloat> reference(n), scratch(n);
    std::size_t strongest = 0;
    const auto diagonal = [](std::size_t i) { return i * (i + 1) / 2 + i; };
    for (std::size_t c = 1; c < n; ++c)
        if (total[diagonal(c)].real() > total[diagonal(strongest)].real())
            strongest = c;
    reference[strongest] = 1;
    if (!dominant_eigenvector(total.data(), reference.data(), scratch.data(), coils, 30))
        std::fill(reference.begin(), reference.end(), cfloat(1 / std::sqrt(static_cast<float>(coils))));
    return reference;
}

/// Over two pixels sensitivities hardly turn: every second one is solved for, and the last; those between are
/// the mean of their neighbours.
bool is_solved(int at, int size) {
    return at % 2 == 0 || at == size - 1;
}

/// Fills the pixels that are not solved for.
void fill_between(cfloat* maps, std::size_t coils, int width, int height) {
    const std::size_t pixels = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    std::vector<cfloat> v(coils);
    const auto between = [&](std::size_t p, std::size_t step) {
        float power = 0;
        for (std::size_t c = 0; c < coils; ++c) {
            v[c] = maps[c * pixels + p - step] + maps[c * pixels + p + step];
            power += std::norm(v[c]);
        }
        const bool opposed = power < 1e-6f;
        const float inverse = opposed ? 1 : 1 / std::sqrt(power);
        for (std::size_t c = 0; c < coils; ++c)
            maps[c * pixels + p] = opposed ? maps[c * pixels + p - step] : v[c] * inverse;
    };
    for (int y = 0; y < height; ++y)
        for (int x = 0; is_solved(y, height) && x < width; ++x)
            if (!is_solved(x, width))
                between(static_cast<std::size_t>(y) * width + x, 1);
    for (int y = 0; y < height; ++y)
        for (int x = 0; !is_solved(y, height) && x < width; ++x)
            between(static_cast<std::size_t>(y) * width + x, static_cast<std::size_t>(width));
}

} // namespace

void root_sum_of_squares(const cfloat* images, int coils, std::size_t pixels, cfloat* combined) {
    std::vector<float> sums(pixels, 0.0f);
    for (int c = 0; c < coils; ++c) {
        const cfloat* image = images + static_cast<std::size_t>(c) * pixels;
        for (std::size_t p = 0; p < pixels; ++p)
            sums[p] += image[p].real() * image[p].real() + image[p].imag() * image[p].imag();
    }
    for (std::size_t p = 0; p < pixels; ++p) {
        // Where float32 squares overflow, or lose digits, double ones do not.
        if (!std::isfinite(sums[p]) || sums[p] < 1e-30f) {
            double sum = 0;
            for (int c = 0; c < coils; ++c)
                sum += std::norm(std::complex<double>(images[static_cast<std::size_t>(c) * pixels + p]));
            combined[p] = static_cast<float>(std::sqrt(sum));
        } else {
            combined[p] = std::sqrt(sums[p]);
        }
    }
}

void estimate_sensitivities(const cfloat* images, int coils, int width, int height, cfloat* maps, int patch) {
    if (coils < 1 || width < 1 || height < 1 || patch < 1)
        throw Error(Errc::format,
                    "coil sensitivities need at least one coil, one pixel and a patch of one pixel");
    const std::size_t pixels = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    if (coils == 1) {
        std::fill(maps, maps + pixels, cfloat(1));
        return;
    }
    const auto n = static_cast<std::size_t>(coils);
    // Sensitivities have no scale; squares of float32 need one that neither overflows nor vanishes.
    float largest = 0;
    for (std::size_t i = 0; i < 2 * n * pixels; ++i)
        largest = std::max(largest, std::abs(arrays::floats(images)[i]));
    if (std::isfinite(largest) && (largest > 1e12f || (largest > 0 && largest < 1e-12f))) {
        std::vector<cfloat> scaled(images, images + n * pixels);
        for (cfloat& value : scaled)
            value /= largest;
        estimate_sensitivities(scaled.data(), coils, width, height, maps, patch);
        return;
    }
    PatchCovariance covariance(images, coils, width, height, patch);
    const std::vector<cfloat> reference = reference_of(covariance.total(), coils);
    std::vector<cfloat> scratch(n), v(n);
    for (int y = 0; y < height; ++y) {
        covariance.move_to(y);
        if (!is_solved(y, height))
            continue;
        v = reference;
        for (int x = 0; x < width; ++x) {
            if (!is_solved(x, width))
                continue;
            // The neighbour's vector is nearly the answer; a small share of the reference keeps the start
            // from being orthogonal to it.
            for (std::size_t c = 0; c < n; ++c)
                v[c] += 0.05f * reference[c];
            if (!dominant_eigenvector(covariance.at(x), v.data(), scratch.data(), coils, x == 0 ? 12 : 4))
                v = reference;
            cfloat projection{};
            for (std::size_t c = 0; c < n; ++c)
                projection += std::conj(reference[c]) * v[c];
            const float size = std::abs(projection);
            const cfloat turn = size > 1e-12f ? std::conj(projection) / size : cfloat(1);
            const std::size_t p = static_cast<std::size_t>(y) * width + x;
            for (std::size_t c = 0; c < n; ++c) {
                v[c] *= turn;
                maps[c * pixels + p] = v[c];
            }
        }
    }
    fill_between(maps, n, width, height);
}

void combine_coils(const cfloat* images, const cfloat* maps, int coils, std::size_t pixels,
                   cfloat* combined) {
    // Short runs of pixels, so that their sums stay in the cache while the coils pass.
    constexpr std::size_t run = 256;
    float re[run], im[run], power[run];
    for (std::size_t first = 0; first < pixels; first += run) {
        const std::size_t some = std::min(run, pixels - first);
        std::fill_n(re, some, 0.0f);
        std::fill_n(im, some, 0.0f);
        std::fill_n(power, some, 0.0f);
        for (std::size_t c = 0; c < static_cast<std::size_t>(coils); ++c) {
            const float* f = arrays::floats(images + c * pixels + first);
            const float* g = arrays::floats(maps + c * pixels + first);
            for (std::size_t i = 0; i < some; ++i) {
                re[i] += g[2 * i] * f[2 * i] + g[2 * i + 1] * f[2 * i + 1];
                im[i] += g[2 * i] * f[2 * i + 1] - g[2 * i + 1] * f[2 * i];
                power[i] += g[2 * i] * g[2 * i] + g[2 * i + 1] * g[2 * i + 1];
            }
        }
        for (std::size_t i = 0; i < some; ++i)
            combined[first + i] = power[i] > 0 ? cfloat(re[i] / power[i], im[i] / power[i]) : cfloat{};
    }
}

std::vector<cfloat> synthetic_sensitivities(int coils, int width, int height, std::uint64_t seed) {
    if (coils < 1)
        throw Error(Errc::settings, "a receive array needs 1 coil or more, not " + std::to_string(coils));
    if (width < 1 || height < 1)
        throw Error(Errc::format, "coil sensitivities need an image of at least one pixel");
    const std::size_t pixels = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    std::vector<cfloat> maps(checked_product({pixels, static_cast<std::size_t>(coils)}, std::size_t{1} << 31,
                                             "the coil sensitivities"));
    if (coils == 1) {
        std::fill(maps.begin(), maps.end(), cfloat(1));
        return maps;
    }
    // Only the raw engine: the distributions of the standard library differ between implementations.
    std::mt19937_64 engine(seed);
    const auto jitter = [&engine] { return static_cast<double>(engine() >> 11) * 0x1p-53 * 2 - 1; };
    const double pi = std::numbers::pi;
    for (int c = 0; c < coils; ++c) {
        const double direction = 2 * pi * (c + 0.3 * jitter()) / coils;
        // In units of the field of view: the loops lie just outside of it.
        const double distance = 0.65 * (1 + 0.1 * jitter());
        const double radius = 0.35 * (1 + 0.1 * jitter());
        const double offset = pi * jitter();
        const double cx = distance * std::cos(direction);
        const double cy = distance * std::sin(direction);
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x) {
                const double dx = static_cast<double>(x - width / 2) / width - cx;
                const double dy = static_cast<double>(y - height / 2) / height - cy;
                const double amplitude =
                    std::pow(radius * radius / (radius * radius + dx * dx + dy * dy), 1.5);
                // The transverse field turns with the direction in which a pixel sees the loop.
                const double along = -(dx * std::cos(direction) + dy * std::sin(direction));
                const double across = dy * std::cos(direction) - dx * std::sin(direction);
                const double phase = offset + std::atan2(across, along + radius);
                maps[static_cast<std::size_t>(c) * pixels + static_cast<std::size_t>(y) * width + x] =
                    cfloat(std::polar(amplitude, phase));
            }
    }
    for (std::size_t p = 0; p < pixels; ++p) {
        double power = 0;
        for (int c = 0; c < coils; ++c)
            power += std::norm(maps[static_cast<std::size_t>(c) * pixels + p]);
        const float inverse = static_cast<float>(1 / std::sqrt(power));
        for (int c = 0; c < coils; ++c)
            maps[static_cast<std::size_t>(c) * pixels + p] *= inverse;
    }
    return maps;
}

} // namespace mri
