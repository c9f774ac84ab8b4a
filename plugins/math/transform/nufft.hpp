// SPDX-License-Identifier: LGPL-2.1-or-later
// The non-uniform Fourier transform between an image and samples anywhere in k-space.
#pragma once

#include "plugins/math/transform/fft.hpp"

#include <complex>
#include <cstddef>
#include <memory>
#include <span>

namespace mri {

using cfloat = std::complex<float>;

/// Samples of an image's Fourier transform at arbitrary points, and the conjugate transpose of that
/// operation.
///
///     forward:  s(k) = sum over x, y of m(x, y) exp(-2 pi i (kx (x - W/2) / W + ky (y - H/2) / H))
///     adjoint:  m(x, y) = sum over k of w(k) s(k) exp(+2 pi i (kx (x - W/2) / W + ky (y - H/2) / H))
///
/// W/2 and H/2 are integer divisions; kx, ky are in cycles per field of view. There is no scale on either
/// side. Method: samples are convolved with a Kaiser-Bessel kernel onto an oversampled grid, which is
/// transformed and divided by the kernel's transform (Fessler and Sutton, IEEE Trans. Signal Process. 51:560,
/// 2003; Beatty et al., IEEE Trans. Med. Imaging 24:799, 2005). Both directions use the same float32 kernel
/// weights, so that <A x, y> = <x, A* y> holds to float32 rounding whatever the tolerance. Results are the
/// same, bit for bit, for any number of threads; they differ in rounding between instruction sets (simd.hpp).
/// One object is not for use from two threads at once.
class Nufft {
  public:
    struct Options {
        double tolerance = 5e-4; ///< relative l2 error to stay below, 1e-6..1e-1
        int threads = 1;         ///< in all, 0 = one per core; coils are what is shared out
    };

    /// Plans for images of `width` x `height` pixels. Throws mri::Error for sizes outside 1..8192 or bad
    /// options.
    Nufft(int width, int height);
    Nufft(int width, int height, Options options);
    ~Nufft();
    Nufft(Nufft&&) noexcept;
    Nufft& operator=(Nufft&&) noexcept;

    int width() const noexcept;
    int height() const noexcept;
    /// Cells of the oversampled grid, and cells the kernel spans along each axis.
    int grid_width() const noexcept;
    int grid_height() const noexcept;
    int kernel_width() const noexcept;

    /// Takes the trajectory: interleaved kx, ky per point. Any position will do: the transform is periodic in
    /// k with period W (H), so that points beyond the rim +-W/2 wrap. Copies what it needs; cheap enough for
    /// every frame. Neighbouring points that lie close together (samples along a readout) are best kept
    /// neighbours: they share work. Throws mri::Error for an odd count of numbers, for more than 2^27 points,
    /// and for a point that is not finite; the points set before then stay in force.
    void set_points(std::span<const float> kxy);
    std::size_t points() const noexcept;

    /// samples [coils][points] -> images [coils][H][W] (overwritten). `weights` (density compensation) has
    /// one number per point, or is empty for all 1; throws mri::Error otherwise, or for coils < 0. Without
    /// points the images are zero. A sample that is not finite spoils its own coil's image and no other.
    void adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils);
    /// images [coils][H][W] -> samples [coils][points] (overwritten). Throws mri::Error for coils < 0.
    void forward(const cfloat* images, cfloat* samples, int coils);

    /// image [H][W] = sum over coils of conj(map) times the coil's image: exactly the conjugate transpose of
    /// forward_sense(). `maps`: [coils][H][W]. The coils are summed in the last pass, in their order; their
    /// images are never written. Throws as adjoint() does.
    void adjoint_sense(const cfloat* samples, std::span<const float> weights, const cfloat* maps,
                       cfloat* image, int coils);
    /// image [H][W] = root of the sum over coils of |the coil's image|^2, real. Likewise.
    void adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils);
    /// samples [coils][points] of map times image, for each coil. `maps`: [coils][H][W].
    void forward_sense(const cfloat* image, const cfloat* maps, cfloat* samples, int coils);

  private:
    template <class Add>
    void add_coils(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils, Add add);
    void check(std::span<const float> weights, int coils) const;

    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace mri
