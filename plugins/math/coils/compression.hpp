// SPDX-License-Identifier: LGPL-2.1-or-later
// Many receive coils as a few virtual ones.
#pragma once

#include <complex>
#include <cstddef>
#include <span>
#include <vector>

namespace mri {

using cfloat = std::complex<float>;

/// Eigenvalues, largest first, and eigenvectors of a Hermitian matrix.
struct HermitianEigen {
    std::vector<double> values;
    std::vector<std::complex<double>> vectors; ///< [i][component]: row i belongs to values[i], norm 1
};

/// By cyclic Jacobi rotations, in double precision. `matrix`: [size][size], of which both triangles are used.
/// Throws Errc::format when the sizes do not fit.
HermitianEigen hermitian_eigen(std::vector<std::complex<double>> matrix, int size);

/// Coil compression by principal components (Buehrer et al., MRM 57:1131, 2007; Huang et al., MRI 26:133,
/// 2008): virtual coil i is the signal along the i-th eigenvector of the coils' covariance, so that no other
/// choice of as many combinations keeps more of the signal's power. The rows of the matrix are orthonormal:
/// white noise stays white.
///
/// The covariance is the mean over frames: of the first 32, then a running one of each sixteenth frame. The
/// matrix is made again after 1, 2, 4, 8, 16, 32 frames and then after each 16. Each new basis is turned
/// within its own subspace to lie as near the last one as it can (the unitary Procrustes problem), so that
/// virtual coils are the same coils from frame to frame and averages over frames stay meaningful. One object
/// is not for use from two threads at once.
class CoilCompression {
  public:
    /// Throws Errc::settings unless 1 <= virtual_coils <= coils.
    CoilCompression(int coils, int virtual_coils);

    /// Takes the next frame, [coil][sample] with `count` samples a coil, and returns the matrix for it,
    /// [virtual coil][coil]: mix_coils() applies it. Valid until the next call. Throws Errc::format for a
    /// frame that holds values that are not finite; it is then as if the frame had not come.
    std::span<const cfloat> next(const cfloat* samples, std::size_t count);

    /// Share of the signal's power that the virtual coils keep, 0..1, when the matrix was made last (1
    /// before).
    double kept() const noexcept { return kept_; }

    /// Resets, for another series.
    void forget();

  private:
    void update();

    int coils_, virtual_coils_;
    std::size_t frames_ = 0;
    std::vector<std::complex<double>> covariance_; ///< [coil][coil]
    std::vector<std::complex<double>> basis_;      ///< [virtual coil][coil], empty at the start
    std::vector<cfloat> matrix_;
    double kept_ = 1;
};

} // namespace mri
