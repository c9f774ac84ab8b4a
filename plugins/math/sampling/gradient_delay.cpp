// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/sampling/gradient_delay.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

namespace mri {

namespace {

using cfloat = std::complex<float>;

/// Table positions a sample: linear interpolation between them is exact to 1/8 (pi / 32)^2 = 1e-3 of the
/// highest frequency that a readout can hold.
constexpr int fine = 32;
/// Samples on either side that the interpolation onto the table takes.
constexpr int reach = 16;
/// Sine of the smallest angle at which spokes are taken to cross: below it the crossing's position along them
/// is anybody's guess.
constexpr double least_sine = 0.342;
constexpr int newton_steps = 20;
/// Delays this close to the bound, in samples, are not found but stopped by it.
constexpr double at_bound = 0.01;
/// Differences of the spokes, relative to their signal, by which delays make them worse, and above which they do not
/// agree: noise alone differs by 1.
constexpr double worse = 0.01, apart = 0.5;
constexpr std::size_t most_values = std::size_t{1} << 28;

struct Spoke {
    double x, y;   ///< direction in physical space
    double centre; ///< position of k = 0 along the spoke, in samples
};

/// The physical direction of a spoke and where it passes the centre.
Spoke spoke_of(const float* k, int samples, double aspect) {
    const double x0 = k[0], y0 = k[1] / aspect;
    const double x1 = k[2 * (samples - 1)], y1 = k[2 * (samples - 1) + 1] / aspect;
    const double length = std::hypot(x1 - x0, y1 - y0);
    if (!(length > 0))
        throw Error(Errc::format, "a radial readout has no direction");
    const double x = (x1 - x0) / length, y = (y1 - y0) / length;
    return {x, y, -(x0 * x + y0 * y) / length * (samples - 1)};
}

/// Solves the symmetric 3 x 3 system by Cramer's rule; false when it is singular.
bool solve3(const std::array<double, 9>& a, const std::array<double, 3>& b, std::array<double, 3>& out) {
    const auto det = [](const std::array<double, 9>& m) {
        return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
               m[2] * (m[3] * m[7] - m[4] * m[6]);
    };
    const double whole = det(a);
    const double size = (a[0] + a[4] + a[8]) / 3;
    if (!(std::abs(whole) > 1e-9 * size * size * size))
        return false;
    for (int column = 0; column < 3; ++column) {
        std::array<double, 9> m = a;
        for (int row = 0; row < 3; ++row)
            m[3 * row + column] = b[row];
        out[column] = det(m) / whole;
    }
    return true;
}

/// The positions at which two spokes cross, in samples from the nominal centre, are these times (x, y, xy).
struct Pair {
    std::size_t first, second;
    std::array<double, 3> of_first, of_second;
};

/// u n_a + S n_a = v n_b + S n_b, solved for u and v.
std::vector<Pair> crossings(const std::vector<Spoke>& spokes) {
    std::vector<Pair> pairs;
    for (std::size_t i = 0; i < spokes.size(); ++i)
        for (std::size_t j = i + 1; j < spokes.size(); ++j) {
            const Spoke &a = spokes[i], &b = spokes[j];
            const double sine = a.x * b.y - a.y * b.x;
            if (std::abs(sine) < least_sine)
                continue;
            const double vx = b.x - a.x, vy = b.y - a.y;
            // S v = (x vx + xy vy, xy vx + y vy); u = (b x S v) / (b x a), v = (a x S v) / (b x a).
            const std::array<double, 3> sx{vx, 0, vy}, sy{0, vy, vx};
            Pair pair{i, j, {}, {}};
            for (int p = 0; p < 3; ++p) {
                pair.of_first[p] = (sx[p] * b.y - sy[p] * b.x) / sine;
                pair.of_second[p] = (sx[p] * a.y - sy[p] * a.x) / sine;
            }
            pairs.push_back(pair);
        }
    return pairs;
}

/// The readouts between their samples, around the nominal centre: [spoke][coil][position], `fine` positions a
/// sample. A crossing of spokes that S of `largest` moves lies within sqrt(2) / least_sine of it at worst;
/// positions beyond the table count for nothing.
class ReadoutTable {
  public:
    /// Signal of a readout at a position.
    struct Point {
        std::complex<double> value, slope; ///< slope: of a step of one sample
    };

    /// `samples`: [coil][spoke][sample]. `memory` is used again from frame to frame.
    ReadoutTable(std::vector<cfloat>& memory, std::span<const cfloat> samples,
                 const std::vector<Spoke>& spokes, std::size_t coils, int samples_per_readout, double largest)
        : values_(memory),
          coils_(coils),
          half_(static_cast<int>(std::ceil(2 * largest)) * fine),
          length_(static_cast<std::size_t>(2 * half_ + 1)) {
        values_.assign(checked_product({spokes.size(), coils, length_}, most_values, "a table of readouts"),
                       {});
        // Of the spokes that pass the centre alike: all, as a rule.
        std::vector<float> kernel(length_ * 2 * reach);
        double kernel_centre = NAN;
        for (std::size_t r = 0; r < spokes.size(); ++r) {
            // Spokes whose centres differ by rounding share the kernel, and with it where its first tap lies.
            if (!(std::abs(spokes[r].centre - kernel_centre) < 1e-4)) {
                kernel_centre = spokes[r].centre;
                make_kernel(kernel_centre, kernel);
            }
            for (std::size_t c = 0; c < coils; ++c)
                interpolate(
                    samples.data() + (c * spokes.size() + r) * static_cast<std::size_t>(samples_per_readout),
                    samples_per_readout, kernel_centre, kernel, values_.data() + (r * coils + c) * length_);
        }
    }

    double power() const {
        double power = 0;
        for (const cfloat& value : values_)
            power += std::norm(std::complex<double>(value));
        return power;
    }

    /// Nothing beyond the table. `position` in samples from the nominal centre.
    std::optional<Point> look(std::size_t spoke, std::size_t coil, double position) const {
        const double at = position * fine + half_;
        if (!(at >= 1) || !(at < static_cast<double>(length_) - 2))
            return std::nullopt;
        const auto i = static_cast<std::size_t>(at);
        const double part = at - static_cast<double>(i);
        const cfloat* t = values_.data() + (spoke * coils_ + coil) * length_ + i;
        const std::complex<double> a = t[0], b = t[1];
        return Point{a + part * (b - a), (b - a) * double{fine}};
    }

    std::size_t coils() const { return coils_; }

  private:
    /// The sample that the first tap for position i takes.
    static int first_tap(double centre, int i) {
        return static_cast<int>(std::floor(centre + static_cast<double>(i) / fine)) - reach + 1;
    }

    /// A sinc within a Hann window.
    void make_kernel(double centre, std::vector<float>& kernel) const {
        for (int i = -half_; i <= half_; ++i)
            for (int tap = 0; tap < 2 * reach; ++tap) {
                const double d = centre + static_cast<double>(i) / fine - (first_tap(centre, i) + tap);
                const double angle = std::numbers::pi * d;
                const double sinc = std::abs(d) < 1e-9 ? 1 : std::sin(angle) / angle;
                kernel[static_cast<std::size_t>(i + half_) * 2 * reach + static_cast<std::size_t>(tap)] =
                    static_cast<float>(sinc * 0.5 * (1 + std::cos(angle / reach)));
            }
    }

    void interpolate(const cfloat* data, int samples, double centre, const std::vector<float>& kernel,
                     cfloat* to) const {
        for (int i = -half_; i <= half_; ++i) {
            const float* weights = kernel.data() + static_cast<std::size_t>(i + half_) * 2 * reach;
            const int first = first_tap(centre, i);
            float re = 0, im = 0;
            for (int tap = std::max(0, -first); tap < std::min(2 * reach, samples - first); ++tap) {
                re += weights[tap] * data[first + tap].real();
                im += weights[tap] * data[first + tap].imag();
            }
            to[i + half_] = {re, im};
        }
    }

    std::vector<cfloat>& values_;
    std::size_t coils_;
    int half_;
    std::size_t length_;
};

/// Difference of the spokes at their crossings for delays `s`, with its normal equations.
struct Fit {
    std::array<double, 3> s{};
    std::array<double, 9> normal{};
    std::array<double, 3> right{};
    double signal = 0; ///< what the difference is relative to
    double cost = HUGE_VAL;
};

/// Differences below this share of the signal count squared, larger ones as they are (Huber, Ann. Math. Stat. 35:73,
/// 1964): pairs whose phases differ whatever the delays, as eddy currents make them, then do not decide.
constexpr double quadratic_below = 0.01;

/// The cost is sum of d rho(|a - b| / d) over sum of d, of all pairs' coils a and b, d^2 = |a|^2 + |b|^2. What counts
/// is the difference relative to the signal: by itself it is least where there is no signal, at the bound.
Fit evaluate(const ReadoutTable& table, const std::vector<Pair>& pairs, const std::array<double, 3>& s) {
    Fit fit{s, {}, {}, 0, HUGE_VAL};
    double sum = 0;
    std::array<double, 3> signal_slope{};
    for (const Pair& pair : pairs) {
        double u = 0, v = 0;
        for (int p = 0; p < 3; ++p) {
            u += pair.of_first[p] * s[p];
            v += pair.of_second[p] * s[p];
        }
        double rest = 0, power = 0;
        std::array<double, 9> normal{};
        std::array<double, 3> right{}, slope{}; // slope: of power / 2
        for (std::size_t c = 0; c < table.coils(); ++c) {
            const auto a = table.look(pair.first, c, u), b = table.look(pair.second, c, v);
            if (!a || !b)
                continue;
            const std::complex<double> difference = b->value - a->value;
            rest += std::norm(difference);
            power += std::norm(a->value) + std::norm(b->value);
            std::array<std::complex<double>, 3> d;
            for (int p = 0; p < 3; ++p) {
                const auto da = a->slope * pair.of_first[p], db = b->slope * pair.of_second[p];
                d[p] = da - db;
                slope[p] += (std::conj(a->value) * da + std::conj(b->value) * db).real();
            }
            for (int p = 0; p < 3; ++p) {
                right[p] += (std::conj(d[p]) * difference).real();
                for (int q = 0; q < 3; ++q)
                    normal[3 * p + q] += (std::conj(d[p]) * d[q]).real();
            }
        }
        if (!(power > 0))
            continue;
        const double size = std::sqrt(power), r = std::sqrt(rest / power);
        const double weight = 1 / (size * std::max(r, quadratic_below));
        const bool small = r < quadratic_below;
        const double rho = small ? (r * r / quadratic_below + quadratic_below) / 2 : r;
        const double by_size = small ? rho - r * r / quadratic_below : 0; // d (d rho) / d size
        sum += size * rho;
        fit.signal += size;
        for (int p = 0; p < 3; ++p) {
            signal_slope[p] += slope[p] / size;
            fit.right[p] += weight * right[p] - by_size * slope[p] / size;
            for (int q = 0; q < 3; ++q)
                fit.normal[3 * p + q] += weight * normal[3 * p + q];
        }
    }
    if (!(fit.signal > 0))
        return fit;
    fit.cost = sum / fit.signal;
    for (int p = 0; p < 3; ++p)
        fit.right[p] += fit.cost * signal_slope[p];
    return fit;
}

/// Gauss-Newton steps with these weights from `start`, within +-largest.
Fit descend(const ReadoutTable& table, const std::vector<Pair>& pairs, const std::array<double, 3>& start,
            double largest) {
    Fit fit = evaluate(table, pairs, start);
    for (int k = 0; k < newton_steps; ++k) {
        std::array<double, 3> step{};
        if (!solve3(fit.normal, fit.right, step))
            break;
        const double size = std::max({std::abs(step[0]), std::abs(step[1]), std::abs(step[2])});
        double keep = std::min(1.0, 1.0 / std::max(size, 1e-12)); // a sample at a time
        Fit after;
        for (int halving = 0; halving < 4 && !(after.cost < fit.cost); ++halving, keep /= 2) {
            std::array<double, 3> next = fit.s;
            for (int p = 0; p < 3; ++p)
                next[p] = std::clamp(next[p] + keep * step[p], -largest, largest);
            after = evaluate(table, pairs, next);
        }
        if (!(after.cost < fit.cost))
            break;
        fit = after;
        if (size < 1e-4)
            break;
    }
    return fit;
}

} // namespace

void shift_spokes(std::span<float> kxy, int samples_per_readout, const GradientDelay& delay, double aspect) {
    const std::size_t each = 2 * static_cast<std::size_t>(std::max(samples_per_readout, 0));
    if (samples_per_readout < 2 || kxy.size() % each != 0 || !(aspect > 0) || !std::isfinite(aspect))
        throw Error(Errc::format, "a trajectory of " + std::to_string(kxy.size() / 2) +
                                      " points does not fit spokes of " +
                                      std::to_string(samples_per_readout) + " samples");
    for (std::size_t first = 0; first < kxy.size(); first += each) {
        float* k = kxy.data() + first;
        const Spoke spoke = spoke_of(k, samples_per_readout, aspect);
        const double spacing = std::hypot(static_cast<double>(k[each - 2]) - k[0],
                                          (static_cast<double>(k[each - 1]) - k[1]) / aspect) /
                               (samples_per_readout - 1);
        const auto dx = static_cast<float>(spacing * (delay.x * spoke.x + delay.xy * spoke.y));
        const auto dy = static_cast<float>(spacing * (delay.xy * spoke.x + delay.y * spoke.y) * aspect);
        for (std::size_t i = 0; i < each; i += 2) {
            k[i] += dx;
            k[i + 1] += dy;
        }
    }
}

GradientDelayEstimator::GradientDelayEstimator(double aspect, double largest)
    : aspect_(aspect), largest_(largest) {
    if (!(largest >= 0.5) || !(largest <= 8) || !(aspect > 0) || !std::isfinite(aspect))
        throw Error(Errc::settings, "gradient delays are looked for within 0.5 to 8 samples");
}

void GradientDelayEstimator::forget() {
    normal_.fill(0);
    right_.fill(0);
    any_ = fits_ = false;
}

std::optional<GradientDelay> GradientDelayEstimator::estimate() const {
    std::array<double, 3> s{};
    if (!fits_ || !solve3(normal_, right_, s))
        return std::nullopt;
    return GradientDelay{s[0], s[1], s[2]};
}

DelayFit GradientDelayEstimator::add(std::span<const cfloat> samples, std::span<const float> kxy, int coils,
                                     int readouts, int samples_per_readout) {
    if (coils < 1 || readouts < 1 || samples_per_readout < 2)
        throw Error(Errc::format, "gradient delays need spokes of two samples or more");
    const auto n = static_cast<std::size_t>(samples_per_readout),
               spokes_count = static_cast<std::size_t>(readouts), all_coils = static_cast<std::size_t>(coils);
    const std::size_t points = checked_product({n, spokes_count}, most_values, "a k-space frame");
    if (kxy.size() != 2 * points ||
        samples.size() != checked_product({points, all_coils}, most_values, "a k-space frame"))
        throw Error(Errc::format, "a k-space frame of " + std::to_string(samples.size()) + " samples and " +
                                      std::to_string(kxy.size() / 2) + " positions does not fit " +
                                      std::to_string(readouts) + " readouts of " +
                                      std::to_string(samples_per_readout) + " samples of " +
                                      std::to_string(coils) + " coils");
    std::vector<Spoke> spokes;
    for (std::size_t r = 0; r < spokes_count; ++r) {
        spokes.push_back(spoke_of(kxy.data() + 2 * r * n, samples_per_readout, aspect_));
        if (!std::isfinite(spokes.back().centre))
            throw Error(Errc::format, "a k-space frame has sampling positions that are not finite");
    }
    fits_ = false;
    const auto pairs = crossings(spokes);
    if (pairs.empty())
        return DelayFit::nothing;

    const ReadoutTable table(table_, samples, spokes, all_coils, samples_per_readout, largest_);
    const double power = table.power();
    if (!std::isfinite(power))
        throw Error(Errc::format, "a k-space frame has samples that are not finite");
    if (!(power > 0))
        return DelayFit::nothing;

    // Gauss-Newton from a few starts, since signals are smooth over about a sample; later frames go on from
    // what the first ones gave.
    std::vector<std::array<double, 3>> starts;
    if (std::array<double, 3> known{}; any_ && solve3(normal_, right_, known))
        starts.push_back(known);
    else
        for (const double x : {-0.5, 0.0, 0.5})
            for (const double y : {-0.5, 0.0, 0.5})
                starts.push_back({x * largest_, y * largest_, 0});
    Fit best;
    best.cost = HUGE_VAL;
    for (const auto& start : starts) {
        const Fit fit = descend(table, pairs, start, largest_);
        if (fit.cost < best.cost)
            best = fit;
    }
    std::array<double, 3> unused{};
    if (!std::isfinite(best.cost) || !solve3(best.normal, best.right, unused))
        return DelayFit::nothing;
    const bool bound = std::any_of(best.s.begin(), best.s.end(),
                                   [&](double value) { return std::abs(value) > largest_ - at_bound; });
    if (!bound && best.cost < apart) {
        // The scale of the signal is not to make one frame count for more than another.
        for (int p = 0; p < 3; ++p)
            for (int q = 0; q < 3; ++q) {
                normal_[3 * p + q] += best.normal[3 * p + q] / best.signal;
                right_[p] += best.normal[3 * p + q] * best.s[q] / best.signal;
            }
        any_ = true;
    }
    std::array<double, 3> mean{};
    if (any_ && solve3(normal_, right_, mean)) {
        const double with = evaluate(table, pairs, mean).cost;
        fits_ = with < apart && with <= evaluate(table, pairs, {}).cost + worse;
    }
    return fits_ ? DelayFit::found : bound ? DelayFit::at_bound : DelayFit::inconsistent;
}

} // namespace mri
