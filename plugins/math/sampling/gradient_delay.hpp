// SPDX-License-Identifier: LGPL-2.1-or-later
// Gradient delays of radial readouts: estimated from the readouts themselves, and undone.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace mri {

/// The delays of the gradients shift each spoke of direction n by S n, S = [x, xy; xy, y], in units of the
/// spacing of its samples (Rosenzweig, Holme, Uecker, MRM 2019;81:1898, equation 2).
struct GradientDelay {
    double x = 0;
    double y = 0;
    double xy = 0;
};

/// Moves the samples of each spoke to where a scanner with these delays took them. `kxy`: interleaved
/// positions of [readout][sample] in cycles per field of view; `aspect` is FOV height / FOV width, since the
/// direction is that in physical space. Throws Errc::format when the sizes do not fit.
void shift_spokes(std::span<float> kxy, int samples_per_readout, const GradientDelay& delay,
                  double aspect = 1.0);

/// What became of a frame's delays.
enum class DelayFit {
    nothing,      ///< no two spokes cross, or there is no signal
    found,        ///< delays that the frame's spokes agree with
    at_bound,     ///< the spokes agree best at the largest delay that is looked at, or beyond it
    inconsistent, ///< with the delays the spokes agree less than without, or not at all
};

/// RING (radial spoke intersections for gradient delay estimation; Rosenzweig et al.): where two spokes cross
/// they have measured the same point of k-space. Two positions that S puts onto one point follow linearly
/// from S, so that S is what makes signals there equal, over all pairs of spokes that cross at 20 degrees or
/// more and over the coils: the least sum of their differences, relative to the signals (Gauss-Newton steps
/// with Huber's weights, from several starts). The paper looks for each pair's crossing alone and fits S to
/// the positions; with all pairs in one problem a single coil does too, as long as the object is not round
/// around the centre.
///
/// Frames add up: each one's estimate has the weight of its own normal matrix.
class GradientDelayEstimator {
  public:
    /// `largest`: delays are looked for within +- this many samples. Throws Errc::settings when it is not
    /// within 0.5..8.
    explicit GradientDelayEstimator(double aspect = 1.0, double largest = 3.0);

    /// Takes a frame: `samples` [coil][readout][sample] at the nominal positions `kxy` [readout][sample][2],
    /// whose sample closest to the centre may be any. A frame whose own delays are at the bound, or whose spokes agree
    /// with none, adds nothing to the mean. Throws Errc::format when sizes do not fit or values are not finite.
    DelayFit add(std::span<const std::complex<float>> samples, std::span<const float> kxy, int coils,
                 int readouts, int samples_per_readout);

    /// Mean over the frames so far; nothing unless the last add() said `found`.
    std::optional<GradientDelay> estimate() const;

    /// Resets.
    void forget();

  private:
    double aspect_;
    double largest_;
    std::array<double, 9> normal_{};         ///< sum of the frames' normal matrices
    std::array<double, 3> right_{};          ///< sum of those times their estimates
    bool any_ = false;                       ///< frames have added to these
    bool fits_ = false;                      ///< their mean fits the last frame
    std::vector<std::complex<float>> table_; ///< [readout][coil][position], close to the centre
};

} // namespace mri
