// SPDX-License-Identifier: LGPL-2.1-or-later
#include "data_gen/scanner/simulate.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/gradient_delay.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>

namespace mri {
namespace {

constexpr std::size_t max_values = std::size_t{1} << 31;

// A step of SplitMix64 (Steele, Lea, Flood 2014): seeds that differ in one bit give unrelated streams.
std::uint64_t mix(std::uint64_t seed, std::uint64_t salt) {
    std::uint64_t z = seed + 0x9E3779B97F4A7C15u * (salt + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// The distributions of <random> differ between libraries; these do not.
double uniform(std::mt19937_64& engine) {
    return (static_cast<double>(engine() >> 11) + 0.5) * 0x1.0p-53;
}

// Two independent standard normal values (Box and Muller 1958).
std::complex<double> normal_pair(std::mt19937_64& engine) {
    const double radius = std::sqrt(-2 * std::log(uniform(engine)));
    return std::polar(radius, 2 * std::numbers::pi * uniform(engine));
}

enum Salt : std::uint64_t { salt_noise, salt_phase, salt_coils, salt_mask, salt_start };

void check(const SimulateSettings& s, int width, int height) {
    const auto fail = [](const std::string& sentence) { throw Error(Errc::settings, sentence); };
    if (width < 2 || height < 2)
        fail("An image of " + std::to_string(width) + " x " + std::to_string(height) + " cannot be scanned.");
    if (s.readouts < 0 || (s.readouts == 0 && !(s.acceleration >= 1)))
        fail("A scan needs a number of readouts, or an acceleration of at least 1.");
    if (kind_of(s.trajectory).grid && s.readouts > height)
        fail("A Cartesian frame has " + std::to_string(height) + " lines; " + std::to_string(s.readouts) +
             " were asked for.");
    if (!kind_of(s.trajectory).spokes && (s.delay_x != 0 || s.delay_y != 0 || s.delay_xy != 0))
        fail("Gradient delays are simulated for radial readouts alone.");
    if (s.oversampling < 1 || s.coils < 1 || s.tiny_golden < 1 || s.centre_lines < 0)
        fail("Oversampling, coils and the number of the tiny golden angle begin at 1, centre lines at 0.");
}

// Catmull-Rom's weights of the four nodes around the fraction t.
std::array<double, 4> cubic(double t) {
    return {((-0.5 * t + 1) * t - 0.5) * t, (1.5 * t - 2.5) * t * t + 1, ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t};
}

Spiral spiral_of(const SimulateSettings& s, int longer) {
    return {s.interleaves, s.spiral_exponent, static_cast<double>(longer)};
}

/// Row of the table of simulated trajectories.
struct Scan {
    Trajectory trajectory;
    int (*full_set)(const SimulateSettings& settings, int width, int height);
    int (*samples)(const SimulateSettings& settings, int width, int height);
    /// Writes a readout along `angle`, on a square of the longer side; null for lines of a grid, which are
    /// drawn for a frame together.
    void (*readout)(const SimulateSettings& settings, int longer, double angle, int samples, float* kxy);
};

/// One row a trajectory that can be simulated.
constexpr Scan scans[] = {
    {Trajectory::radial,
     [](const SimulateSettings&, int width, int height) {
         return static_cast<int>(std::lround(0.3 * std::numbers::pi * std::max(width, height)));
     },
     [](const SimulateSettings& s, int width, int height) {
         return s.oversampling * std::max(width, height);
     },
     [](const SimulateSettings&, int longer, double angle, int samples, float* kxy) {
         radial_spoke(angle, samples, longer, kxy);
     }},
    {Trajectory::spiral, [](const SimulateSettings& s, int, int) { return s.interleaves; },
     [](const SimulateSettings& s, int width, int height) {
         return spiral_samples(spiral_of(s, std::max(width, height)), 1.0 / s.oversampling);
     },
     [](const SimulateSettings& s, int longer, double angle, int samples, float* kxy) {
         // A spoke looks alike after a half turn, an interleave after a whole one.
         spiral_interleave(spiral_of(s, longer), 2 * angle, samples, kxy);
     }},
    {Trajectory::cartesian, [](const SimulateSettings&, int, int height) { return height; },
     [](const SimulateSettings& s, int width, int) { return s.oversampling * width; }, nullptr},
};

const Scan& scan_of(Trajectory trajectory) {
    for (const Scan& scan : scans)
        if (scan.trajectory == trajectory)
            return scan;
    throw Error(Errc::settings,
                std::string("No scan is simulated along the trajectory ") + to_string(trajectory) + ".");
}

} // namespace

int full_set(const SimulateSettings& settings, int width, int height) {
    return scan_of(settings.trajectory).full_set(settings, width, height);
}

int readouts_per_frame(const SimulateSettings& settings, int width, int height) {
    check(settings, width, height);
    if (settings.readouts > 0)
        return settings.readouts;
    const int least = kind_of(settings.trajectory).grid ? std::clamp(settings.centre_lines, 1, height) : 1;
    return std::max(least, static_cast<int>(full_set(settings, width, height) / settings.acceleration));
}

int samples_per_readout(const SimulateSettings& settings, int width, int height) {
    check(settings, width, height);
    return scan_of(settings.trajectory).samples(settings, width, height);
}

std::vector<float> background_phase(int width, int height, double peak, std::uint64_t seed) {
    constexpr int nodes = 6;
    std::mt19937_64 engine(seed);
    std::array<std::array<double, nodes>, nodes> grid{};
    for (auto& row : grid)
        for (double& value : row)
            value = normal_pair(engine).real();
    const double start = 2 * std::numbers::pi * uniform(engine);

    // The picture spans the whole grid; nodes beyond the edge repeat the edge.
    const auto node = [](int i) { return std::clamp(i, 0, nodes - 1); };
    std::vector<double> map(static_cast<std::size_t>(width) * height);
    double largest = 0;
    for (int y = 0; y < height; ++y) {
        const double v = y * (nodes - 1.0) / (height - 1.0);
        const int row = std::min(static_cast<int>(v), nodes - 2);
        const auto wy = cubic(v - row);
        for (int x = 0; x < width; ++x) {
            const double u = x * (nodes - 1.0) / (width - 1.0);
            const int column = std::min(static_cast<int>(u), nodes - 2);
            const auto wx = cubic(u - column);
            double value = 0;
            for (int j = 0; j < 4; ++j)
                for (int i = 0; i < 4; ++i)
                    value += wy[j] * wx[i] * grid[node(row + j - 1)][node(column + i - 1)];
            map[static_cast<std::size_t>(y) * width + x] = value;
            largest = std::max(largest, std::abs(value));
        }
    }
    const double gain = largest > 0 ? peak / largest : 0;
    std::vector<float> phase(map.size());
    std::transform(map.begin(), map.end(), phase.begin(),
                   [&](double value) { return static_cast<float>(start + gain * value); });
    return phase;
}

std::vector<int> cartesian_lines(int height, int lines, int centre, double power, std::uint64_t seed) {
    lines = std::clamp(lines, 1, height);
    centre = std::clamp(centre, 0, lines);
    const int first = height / 2 - centre / 2;
    std::vector<int> chosen(centre), others;
    std::iota(chosen.begin(), chosen.end(), first);

    std::mt19937_64 engine(seed);
    std::vector<double> key(height);
    for (int line = 0; line < height; ++line) {
        if (line >= first && line < first + centre)
            continue;
        const double distance = std::min(1.0, std::abs(line - height / 2) / (0.5 * height));
        const double weight = std::pow(1 - distance, power) + 1.0 / height;
        key[line] = std::log(uniform(engine)) / weight; // the order of u^(1/w)
        others.push_back(line);
    }
    const auto wanted = others.begin() + (lines - centre);
    std::nth_element(others.begin(), wanted, others.end(), [&](int a, int b) { return key[a] > key[b]; });
    chosen.insert(chosen.end(), others.begin(), wanted);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

Simulator::Simulator(const SimulateSettings& settings, int width, int height, std::uint64_t series,
                     int threads)
    : settings_(settings),
      width_(width),
      height_(height),
      readouts_(readouts_per_frame(settings, width, height)),
      samples_(samples_per_readout(settings, width, height)),
      series_seed_(mix(settings.seed, series)),
      noise_(mix(series_seed_, salt_noise)),
      nufft_(width, height, Nufft::Options{.tolerance = 1e-5, .threads = threads}, settings.device) {
    const std::size_t w = width, h = height, coils = settings.coils;
    checked_product({coils, h, w}, max_values, "The coil images");
    checked_product({coils, static_cast<std::size_t>(readouts_), static_cast<std::size_t>(samples_)},
                    max_values, "A simulated frame");
    if (settings.phase > 0) {
        phasor_.reserve(w * h);
        for (const float phase :
             background_phase(width, height, settings.phase, mix(series_seed_, salt_phase)))
            phasor_.push_back(std::polar(1.0f, phase));
    }
    if (settings.coils > 1)
        sensitivities_ =
            synthetic_sensitivities(settings.coils, width, height, mix(series_seed_, salt_coils));
}

std::vector<cfloat> Simulator::seen(std::span<const cfloat> image) const {
    if (image.size() != static_cast<std::size_t>(width_) * height_)
        throw Error(Errc::format, "An image of " + std::to_string(image.size()) +
                                      " pixels came into a scan of " + std::to_string(width_) + " x " +
                                      std::to_string(height_) + ".");
    std::vector<cfloat> result(image.begin(), image.end());
    for (std::size_t i = 0; i < phasor_.size(); ++i)
        result[i] *= phasor_[i];
    return result;
}

std::vector<cfloat> Simulator::seen(std::span<const float> image) const {
    return seen(std::vector<cfloat>(image.begin(), image.end()));
}

void Simulator::trajectory(SimulatedFrame& frame) {
    const std::size_t readouts = readouts_, samples = samples_;
    frame.trajectory.resize(2 * readouts * samples);
    frame.angle.resize(readouts);
    frame.step.resize(readouts);
    // Ten thousand golden angles lie everywhere on the half turn, and the index stays small.
    const std::uint64_t start = settings_.first_spoke >= 0 ? static_cast<std::uint64_t>(settings_.first_spoke)
                                                           : mix(series_seed_, salt_start) % 10007;
    const std::uint64_t first = start + (settings_.rotating ? frame_ * readouts : 0);

    const Scan& scan = scan_of(settings_.trajectory);
    if (!scan.readout) {
        const std::uint64_t mask = settings_.rotating ? frame_ : 0;
        const auto lines = cartesian_lines(height_, readouts_, settings_.centre_lines,
                                           settings_.density_power, mix(mix(series_seed_, salt_mask), mask));
        for (std::size_t r = 0; r < readouts; ++r) {
            frame.angle[r] = first + r;
            frame.step[r] = static_cast<std::uint32_t>(lines[r]);
            cartesian_line(lines[r], height_, samples_, width_, frame.trajectory.data() + 2 * r * samples);
        }
        return;
    }

    // The same spatial frequency is more cycles along the longer side: a circle per pixel is an ellipse per
    // field of view.
    const int longer = std::max(width_, height_);
    const float stretch_x = static_cast<float>(width_) / longer,
                stretch_y = static_cast<float>(height_) / longer;
    for (std::size_t r = 0; r < readouts; ++r) {
        frame.angle[r] = first + r;
        frame.step[r] = static_cast<std::uint32_t>(r);
        float* k = frame.trajectory.data() + 2 * r * samples;
        const double angle = spoke_angle(settings_.angles, settings_.tiny_golden, frame.angle[r], readouts_,
                                         settings_.negative);
        scan.readout(settings_, longer, angle, samples_, k);
        if (width_ != height_)
            for (std::size_t i = 0; i < samples; ++i) {
                k[2 * i] *= stretch_x;
                k[2 * i + 1] *= stretch_y;
            }
    }
}

void Simulator::transform(std::span<const cfloat> image, std::span<const float> points,
                          std::vector<cfloat>& out) {
    const std::size_t pixels = image.size(), coils = settings_.coils;
    const cfloat* images = image.data();
    if (!sensitivities_.empty()) {
        coil_images_.resize(coils * pixels);
        for (std::size_t c = 0; c < coils; ++c)
            for (std::size_t p = 0; p < pixels; ++p)
                coil_images_[c * pixels + p] = image[p] * sensitivities_[c * pixels + p];
        images = coil_images_.data();
    }
    nufft_.set_points(points);
    out.resize(coils * points.size() / 2);
    nufft_.forward(images, out.data(), settings_.coils);
}

SimulatedFrame Simulator::acquire(std::span<const cfloat> image, std::span<const cfloat> previous,
                                  std::span<const cfloat> next) {
    const std::size_t pixels = static_cast<std::size_t>(width_) * height_;
    const auto fits = [&](std::span<const cfloat> other) { return other.empty() || other.size() == pixels; };
    if (image.size() != pixels || !fits(previous) || !fits(next))
        throw Error(Errc::format, "An image has not the size of the scan, " + std::to_string(width_) + " x " +
                                      std::to_string(height_) + ".");

    SimulatedFrame frame;
    frame.coils = settings_.coils;
    frame.readouts = readouts_;
    frame.samples = samples_;
    trajectory(frame);
    std::vector<float> taken = frame.trajectory; // where the samples really are
    if (settings_.delay_x != 0 || settings_.delay_y != 0 || settings_.delay_xy != 0)
        shift_spokes(taken, samples_, {settings_.delay_x, settings_.delay_y, settings_.delay_xy},
                     static_cast<double>(height_) / width_);
    transform(image, taken, frame.data);

    if (settings_.motion) {
        // A transform is linear: mixing signals is mixing pictures. Each half of the frame sees one
        // neighbour.
        const std::size_t samples = samples_, readouts = readouts_, mid = middle();
        const auto blend = [&](std::span<const cfloat> other, std::size_t from, std::size_t to) {
            if (other.empty() || from == to)
                return;
            const std::span<const float> points(taken.data() + 2 * from * samples, 2 * (to - from) * samples);
            std::vector<cfloat> signal;
            transform(other, points, signal);
            for (std::size_t c = 0; c < static_cast<std::size_t>(settings_.coils); ++c)
                for (std::size_t r = from; r < to; ++r) {
                    const float part = std::abs(static_cast<float>(r) - static_cast<float>(mid)) / readouts;
                    cfloat* mine = frame.data.data() + (c * readouts + r) * samples;
                    const cfloat* theirs = signal.data() + (c * (to - from) + r - from) * samples;
                    for (std::size_t i = 0; i < samples; ++i)
                        mine[i] += part * (theirs[i] - mine[i]);
                }
        };
        blend(previous, 0, mid);
        blend(next, mid + 1, readouts);
    }

    if (settings_.snr_db < no_noise) {
        if (frame_ == 0) {
            double power = 0;
            for (const cfloat value : image)
                power += std::norm(std::complex<double>(value));
            power /= settings_.coils; // the sensitivities' squares add up to 1 in every pixel
            sigma_ = std::sqrt(0.5 * power * settings_.oversampling * std::pow(10, -settings_.snr_db / 10));
        }
        add_noise(frame.data);
    }
    ++frame_;
    return frame;
}

void Simulator::add_noise(std::vector<cfloat>& data) {
    for (cfloat& value : data)
        value += cfloat(sigma_ * normal_pair(noise_));
}

} // namespace mri
