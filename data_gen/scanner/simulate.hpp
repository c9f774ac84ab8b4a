// SPDX-License-Identifier: LGPL-2.1-or-later
// The scanner in numbers: images of a series in, readouts of k-space out. Pure C++.
#pragma once

#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/cuda/device.hpp"

#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace mri {

/// The signal-to-noise ratio of a scan without noise.
inline constexpr double no_noise = std::numeric_limits<double>::infinity();

/// Settings of a Simulator. Everything random follows from `seed` and the number of the series.
struct SimulateSettings {
    Trajectory trajectory = Trajectory::radial;
    AngleScheme angles = AngleScheme::tiny_golden;
    int tiny_golden = 7;   ///< N of the tiny golden angle pi / ((sqrt(5) + 1) / 2 + N - 1)
    bool negative = false; ///< the angle runs backwards, as on the scanner of the first data
    bool rotating = true;  ///< the index of the spoke, or the mask, runs on over the frames
    std::int64_t first_spoke =
        0;                    ///< index of a series' first spoke; below 0: drawn from the seed and the series
    int readouts = 0;         ///< readouts a frame; 0 takes them from the acceleration
    double acceleration = 13; ///< of a full set: see full_set()
    int oversampling = 1;     ///< samples a readout over the width of the image; spiral: samples a cycle
    /// Radial: samples are taken where a scanner with this GradientDelay takes them; the trajectory that
    /// comes out does not know.
    double delay_x = 0, delay_y = 0, delay_xy = 0;
    int interleaves = 16;       ///< spiral: of a full set
    double spiral_exponent = 1; ///< spiral: see Spiral
    int centre_lines = 8;       ///< Cartesian: lines around the centre that every frame has
    double density_power =
        3;            ///< Cartesian: chance of a line ~ (1 - |ky| / (H/2))^power, plus a floor of 1 / H
    int coils = 1;    ///< 1: a coil of uniform sensitivity; more: synthetic_sensitivities()
    double phase = 0; ///< peak (rad) of a smooth random background phase around a random start phase; 0: none
    double snr_db = no_noise; ///< see Simulator::noise_sigma()
    bool motion = false;      ///< readouts see the picture move: see Simulator::acquire()
    std::uint64_t seed = 0;
    ComputeDevice device{}; ///< where samples are computed; resolved
};

/// Readouts that make a full set: radial round(0.3 pi N), N the longer side, which is six tenths of the pi N
/// / 2 spokes of Nyquist at the rim and 181 for 192 (the count that accelerations in this field are commonly
/// quoted against); spiral: the interleaves; Cartesian: the height.
int full_set(const SimulateSettings& settings, int width, int height);

/// Readouts of a frame: settings.readouts, or floor(full set / acceleration), at least 1 (Cartesian: at least
/// the centre lines). Throws Errc::settings when the settings cannot work for that size.
int readouts_per_frame(const SimulateSettings& settings, int width, int height);

/// Samples of a readout: the longer side (radial), the width (Cartesian) or the cycles along an interleave
/// (spiral), times the oversampling.
int samples_per_readout(const SimulateSettings& settings, int width, int height);

/// A smooth random phase map (rad), [height][width]: 6 x 6 normal values, interpolated bicubically
/// (Catmull-Rom), scaled to the peak, plus one start phase, uniform over the circle.
std::vector<float> background_phase(int width, int height, double peak, std::uint64_t seed);

/// The lines of a Cartesian frame, ascending, 0 .. height - 1, the centre being height / 2: `centre` of them
/// around the centre, the rest drawn without replacement by weight (Efraimidis and Spirakis, Inf. Process.
/// Lett. 97, 2006).
std::vector<int> cartesian_lines(int height, int lines, int centre, double power, std::uint64_t seed);

/// The k-space of one frame.
struct SimulatedFrame {
    int coils = 0;
    int readouts = 0;
    int samples = 0;
    std::vector<cfloat> data;      ///< [coil][readout][sample]
    std::vector<float> trajectory; ///< [readout][sample][2]: kx, ky in cycles per field of view
    std::vector<std::uint64_t>
        angle; ///< [readout]: index of the spoke in the angle scheme (Cartesian: the running count)
    std::vector<std::uint32_t>
        step; ///< [readout]: ISMRMRD's kspace_encode_step_1: spoke of the frame, or line
};

/// Acquires one series, frame by frame. Not thread-safe.
///
/// s(k) = sum over pixels of m(x, y) c(x, y) exp(i phase(x, y)) exp(-2 pi i (kx (x - W/2) / W + ky (y - H/2)
/// / H)), no scale, by a non-uniform FFT with an error below 1e-5; plus complex white Gaussian noise.
class Simulator {
  public:
    /// A series of images of `width` x `height`. The `series`-th series of one seed has its own coils, phase,
    /// masks and noise. Throws Errc::settings, Errc::no_memory.
    Simulator(const SimulateSettings& settings, int width, int height, std::uint64_t series = 0,
              int threads = 1);

    int readouts() const noexcept { return readouts_; }
    int samples() const noexcept { return samples_; }
    int coils() const noexcept { return settings_.coils; }
    int middle() const noexcept { return readouts_ / 2; }
    std::uint64_t frames() const noexcept { return frame_; }

    /// Image [height][width] as the scanner sees it: with the background phase. This is the truth of the
    /// frame.
    std::vector<cfloat> seen(std::span<const float> image) const;
    std::vector<cfloat> seen(std::span<const cfloat> image) const;

    /// Acquires the next frame of `image` ([height][width], as seen() gives it).
    ///
    /// With settings.motion, `image` is the state at the middle readout; earlier readouts see it mixed
    /// linearly in time with `previous`, later ones with `next` (an empty span stands for the image itself:
    /// the ends of a series). Without motion both are not looked at. Throws Errc::format when a size is
    /// wrong.
    SimulatedFrame acquire(std::span<const cfloat> image, std::span<const cfloat> previous = {},
                           std::span<const cfloat> next = {});

    /// Standard deviation of the noise in each of a sample's real and imaginary part; 0 before the first
    /// frame and without noise.
    ///
    /// settings.snr_db = 10 log10(P / (2 sigma^2 / oversampling)), P the mean of |s|^2 over the full
    /// Cartesian grid and the coils, which Parseval makes sum |m|^2 / coils, found in the first frame of the
    /// series and kept. It is the ratio of signal to noise in rms that a fully sampled Cartesian image of one
    /// average has, whatever trajectory is simulated; a readout oversampled twice takes as long, so that its
    /// samples are noisier by sqrt(2).
    double noise_sigma() const noexcept { return sigma_; }

  private:
    void transform(std::span<const cfloat> image, std::span<const float> points,
                   std::vector<cfloat>& samples);
    void trajectory(SimulatedFrame& frame);
    void add_noise(std::vector<cfloat>& data);

    SimulateSettings settings_;
    int width_, height_, readouts_, samples_;
    std::uint64_t series_seed_;
    std::uint64_t frame_ = 0;
    double sigma_ = 0;
    std::mt19937_64 noise_;
    std::vector<cfloat> phasor_;        ///< exp(i phase), empty without a phase
    std::vector<cfloat> sensitivities_; ///< [coil][height][width], empty with one coil
    std::vector<cfloat> coil_images_;
    DeviceNufft nufft_;
};

} // namespace mri
