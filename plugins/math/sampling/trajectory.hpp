// SPDX-License-Identifier: LGPL-2.1-or-later
// Sampling positions in k-space: radial spokes with golden, tiny golden and regular angles, spirals, and
// Cartesian lines.
#pragma once

#include "plugins/math/sampling/trajectory_kind.hpp"

#include <cstdint>

namespace mri {

/// Schemes of a spoke's angle by its index.
enum class AngleScheme {
    tiny_golden, ///< index * pi / (phi + N - 1), phi the golden ratio (Wundrak et al., MRM 2016, equation 1)
    golden,      ///< the tiny golden angle of N = 1, 111.246 degrees (Winkelmann et al., IEEE TMI 2007)
    regular      ///< (index mod spokes) * pi / spokes
};

/// The step of the tiny golden angle scheme in radians: pi / (phi + n - 1); n = 1 is the golden angle, n = 7
/// is 23.63 degrees: pi over the limit of G(k+1) / G(k) of the series below, as the golden angle is of
/// Fibonacci's own, so that any run of spokes is nearly even. Sets of spokes cover the half turn most evenly
/// when their count is a generalised Fibonacci number G(1) = 1, G(2) = n, G(k) = G(k-1) + G(k-2): see
/// fibonacci_spokes(). Throws Errc::settings for n < 1.
double tiny_golden_step(int n);

/// The n whose step is `step` (rad), or next to it in steps a half turn; 1 beyond the golden angle. Throws
/// Errc::settings for a step that is not above 0.
int nearest_tiny_golden(double step);

/// The smallest count of spokes that is at least `spokes` and belongs to the generalised Fibonacci series of
/// `n` (for n = 7: 1, 7, 8, 15, 23, 38, 61, ...); such a frame has only two different angular gaps.
int fibonacci_spokes(int n, int spokes);

/// The angle of spoke `index` in radians within [0, 2 pi); `n` matters for tiny_golden only, `spokes` for
/// regular only. `negative` turns the other way round, as many scanners do. Exact to 1e-9 for every index
/// below 2^32.
double spoke_angle(AngleScheme scheme, int n, std::uint64_t index, int spokes, bool negative = false);

/// Writes interleaved (kx, ky) of `samples` points of one spoke in cycles per field of view: the point i lies
/// at (i - samples / 2) * extent / samples along the direction `angle`, so that extent = N samples the full
/// radius N / 2 and samples = 2 N oversamples the readout twice. `samples / 2` rounds down: one sample always
/// hits the centre.
void radial_spoke(double angle, int samples, double extent, float* kxy);

/// A spiral from the centre outwards, k(t) = extent / 2 t^exponent exp(i w t) for t = 0 .. 1 (Kim,
/// Adalsteinsson and Spielman, MRM 2003;50:214), its samples at equal distances along the way. All
/// interleaves together lie one cycle apart at the rim: w = pi extent exponent / interleaves. An exponent
/// above 1 makes the centre denser.
struct Spiral {
    int interleaves = 16; ///< of a full set
    double exponent = 1;  ///< 1 or more
    double extent = 0;    ///< twice the largest radius, in cycles per field of view
};

/// Samples of an interleave that lie `spacing` cycles apart or less. Throws Errc::settings for a spiral that
/// has no interleave, an exponent outside 1..8 or no extent, or for more than 2^20 samples.
int spiral_samples(const Spiral& spiral, double spacing = 1);

/// Writes interleaved (kx, ky) of `samples` points of the interleave that starts along `angle`. Throws as
/// spiral_samples() does, and for less than two samples.
void spiral_interleave(const Spiral& spiral, double angle, int samples, float* kxy);

/// Writes interleaved (kx, ky) of one Cartesian readout: kx = (i - samples / 2) * extent / samples,
/// ky = line - lines / 2, both in cycles per field of view.
void cartesian_line(int line, int lines, int samples, double extent, float* kxy);

} // namespace mri
