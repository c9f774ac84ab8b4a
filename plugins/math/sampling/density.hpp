// SPDX-License-Identifier: LGPL-2.1-or-later
// Density compensation: the area of k-space that each sample stands for.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mri {

/// All weights here are areas in (cycles per field of view)^2. A fully sampled Cartesian point has the area 1
/// and the inverse transform divides by the pixel count, so that
///     image = 1 / (W H) * sum over samples of weight * sample * exp(+2 pi i k x)
/// gives a fully sampled image back at its own scale, whatever the number of spokes and the readout
/// oversampling: multiply the weights by density_scale(W, H) before they go into the adjoint transform.
inline double density_scale(int width, int height) {
    return 1.0 / (static_cast<double>(width) * height);
}

/// Ramp weights of radial spokes that share the half turn evenly.
///
/// A sample at radius |k| with spacing dk along its spoke stands for the sector pi |k| dk / readouts. At the
/// centre that would be nothing; the ramp of a projection that is limited to the field of view 1 / dk
/// (Ramachandran and Lakshminarayanan, PNAS 1971: h(0) = 1/4, h(odd n) = -1 / (pi n)^2) has there the value 2
/// / pi^2 of its first neighbour:
///     1/4 - 2/pi^2 * sum of 1/n^2 over odd n up to M/2  ->  2 / (pi^2 M) for M samples, against 1 / M at |k|
///     = dk,
/// so the centre's weight is pi (2 / pi^2) dk^2 / readouts. A sample off the centre by a fraction of dk takes
/// the value of the same filter there: |k| is replaced by the maximum with its value at the centre.
///
/// `kxy`: interleaved positions of [readout][sample] in cycles per field of view; spacing is taken from them,
/// so uneven spacing works. `readouts` is the number of spokes over the half turn. `aspect` is FOV height /
/// FOV width: angles that are even in physical space are not even in cycles per field of view when the field
/// of view is not square. Writes samples * readouts weights. Throws Errc::format when the sizes do not fit or
/// are not positive.
void ramp_weights(std::span<const float> kxy, int samples, int readouts, float* weights, double aspect = 1.0);

/// The ramp clipped where neighbouring spokes lie further apart than one cycle: min(1, pi |k| / readouts) dk,
/// with the centre as in ramp_weights(). No sample stands for more than its own strip of k-space, which keeps
/// the eigenvalues of A^H W A / (W H) near one: the step of size 1 with these weights is the radial analogue
/// of replacing measured samples. `limit` allows wider strips than one cycle.
void clipped_ramp_weights(std::span<const float> kxy, int samples, int readouts, float* weights,
                          double aspect = 1.0, double limit = 1.0);

/// Weights of any trajectory by fixed-point iteration (Pipe and Menon, MRM 1999: w <- w / (C w) with C a
/// convolution). C's kernel is sinc^2 of one cycle's half width, non-negative and of unit area, applied
/// through a triangle window on a doubled field of view with two transforms of `nufft` an iteration.
///
/// `kxy`: interleaved positions in cycles per field of view. Returns one area a sample. Samples that share a
/// position share its area. Throws Errc::format for positions that are not finite.
std::vector<float> pipe_weights(std::span<const float> kxy, int width, int height, int iterations = 12,
                                int threads = 1);

/// The same, remembering the last trajectory: one that comes again, or comes turned around the centre, has
/// the same areas (up to the square corners of the kernel, some 1e-2 at the rim). Turned ones count for
/// square fields of view alone.
class PipeWeights {
  public:
    PipeWeights(int width, int height, int iterations = 12, int threads = 1)
        : width_(width), height_(height), iterations_(iterations), threads_(threads) {}

    /// As pipe_weights(); valid until the next call.
    std::span<const float> weights(std::span<const float> kxy);
    /// Number of computations so far.
    std::size_t computed() const noexcept { return computed_; }

  private:
    bool is_turned(std::span<const float> kxy) const;
    int width_, height_, iterations_, threads_;
    std::size_t computed_ = 0;
    std::vector<float> kxy_, weights_;
};

} // namespace mri
