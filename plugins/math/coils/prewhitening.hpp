// SPDX-License-Identifier: LGPL-2.1-or-later
// Receive coils whose noise differs in level and is correlated, made to ones of equal and independent noise.
#pragma once

#include <complex>
#include <cstddef>
#include <span>
#include <vector>

namespace mri {

using cfloat = std::complex<float>;

/// The noise that the coils of an array have in common, gathered from readouts without signal.
class NoiseCovariance {
  public:
    /// Throws Errc::format for less than one coil.
    explicit NoiseCovariance(int coils);

    int coils() const noexcept { return coils_; }
    /// Samples of each coil so far.
    std::size_t samples() const noexcept { return samples_; }
    /// Time of a sample in us, as the readouts had it; 0 when it is not known.
    double sample_time() const noexcept { return sample_time_; }

    /// Takes a readout, [coil][sample], of `sample_time` us a sample (0: not known). Throws Errc::format when
    /// it does not fit the coils, holds values that are not finite, or has another sample time than those
    /// before.
    void add(std::span<const cfloat> readout, double sample_time);

    /// Element (a, b) = sum over samples of n_a conj(n_b) / (samples - 1), [coils][coils]; Hermitian. The
    /// mean of noise is zero and not subtracted.
    std::vector<std::complex<double>> matrix() const;

  private:
    int coils_;
    std::size_t samples_ = 0;
    double sample_time_ = 0;
    std::vector<std::complex<double>> sums_; ///< lower triangle, packed by rows
};

/// The matrix [coils][coils] that makes noise white: the inverse of the Cholesky factor L of the covariance
/// C = L L^H (Pruessmann et al., MRM 46:638, 2001, section on noise; Kellman and McVeigh, MRM 54:1439, 2005).
/// Noise of covariance C comes out with the unit matrix as its covariance: variance 1 of the complex number,
/// 1/2 in each of its parts. L, rather than another root of C, leaves each coil a mixture of itself and those
/// before it.
///
/// Throws Errc::format, naming the coil, when the covariance is singular (a coil without noise, or one that
/// is a combination of others to within 1e-4 of its noise), and when there are fewer than twice as many
/// samples as coils: below that the estimate itself costs more than half of the signal's power over the
/// noise's on average (Reed, Mallett, Brennan, IEEE Trans. Aerosp. Electron. Syst. 10:853, 1974).
std::vector<cfloat> whitening_matrix(const NoiseCovariance& noise);

/// What the whitening matrix is to be multiplied with for readouts whose samples take `image_us`, so that
/// their noise gets the variance 1: white noise has the variance 1 / (sample time), so that it is
///     sqrt(image_us / noise_us * bandwidth).
/// `bandwidth` is the equivalent noise bandwidth of the receiver over that of a sample, 1 / (sample time), in
/// the noise readouts: the receiver's filter falls off towards the edges of the band, so that the noise
/// scan's average is less than the noise in its middle, where the object is. A time that is not known (0)
/// counts as equal to the other. The scale is the same for all coils: it gives noise its unit and no picture
/// another look.
double noise_scale(double noise_us, double image_us, double bandwidth);

/// out[a][i] = sum over b of matrix[a][b] in[b][i]: coils mixed to `to` others. `matrix`: [to][from], `in`:
/// [from][count], `out`: [to][count]; `out` may not overlap `in`.
void mix_coils(std::span<const cfloat> matrix, int to, int from, const cfloat* in, std::size_t count,
               cfloat* out);

} // namespace mri
