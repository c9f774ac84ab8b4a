// SPDX-License-Identifier: LGPL-2.1-or-later
// Discrete Fourier transforms of any size, complex float32, without normalisation.
#pragma once

#include "plugins/math/base/threads.hpp"
#include "plugins/math/transform/simd.hpp"

#include <complex>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace mri {

using cfloat = std::complex<float>;

/// Float memory aligned for any instruction set.
class AlignedFloats {
  public:
    explicit AlignedFloats(std::size_t count = 0);
    float* data() noexcept { return data_.get(); }
    const float* data() const noexcept { return data_.get(); }
    std::size_t size() const noexcept { return size_; }

  private:
    struct Free {
        void operator()(float* p) const { ::operator delete(p, std::align_val_t(64)); }
    };
    std::unique_ptr<float[], Free> data_;
    std::size_t size_ = 0;
};

/// The plan of a one-dimensional transform of length n: factors, twiddles (computed in double precision,
/// rounded once).
///
/// Lengths with prime factors up to 31 go through mixed radix passes (Stockham's self-sorting order), others
/// through Bluestein's chirp transform over the next power of two.
class FftLine {
  public:
    /// Throws mri::Error unless 1 <= n <= 2^20.
    explicit FftLine(int n);
    FftLine(const FftLine&) = delete;
    FftLine& operator=(const FftLine&) = delete;
    const simd::FftPlan& plan() const noexcept { return plan_; }
    /// floats of scratch that one worker needs
    std::size_t scratch() const noexcept { return std::size_t(plan_.buffer()) * 2 * 2 * simd::max_lanes; }

  private:
    simd::FftPlan plan_;
    std::vector<std::vector<float>> tables_;
    std::unique_ptr<FftLine> inner_;
};

/// Two-dimensional transforms of images [height][width], in place.
///
/// forward: X(u, v) = sum over x, y of m(x, y) exp(-2 pi i (u x / W + v y / H)); inverse: the same with +, so
/// that inverse(forward(m)) = W H m. `centred` puts the origin of both domains at pixel (W/2, H/2) (integer
/// division) instead of (0, 0). Any size; relative l2 error about 2e-7. Not for use from two threads at once.
class Fft2d {
  public:
    /// `threads` in all, 0 = one per core. Throws mri::Error for sizes outside 1..2^20.
    Fft2d(int width, int height, int threads = 1);
    ~Fft2d();
    void forward(cfloat* image, bool centred) { run(image, centred, false); }
    void inverse(cfloat* image, bool centred) { run(image, centred, true); }

  private:
    void run(cfloat* image, bool centred, bool inverse);

    int width_, height_;
    const simd::TransformKernels& kernels_;
    FftLine x_, y_;
    ThreadPool pool_;
    std::vector<AlignedFloats> scratch_;
};

/// Sums at points whose spacing is no whole part of the period:
///     X(n) = sum over j of x_j exp(2 pi i (j - from/2) (n - to/2) / period),   j = 0 .. from-1, n = 0 .. to-1,
/// with integer divisions of `from` and `to`, along the columns or the rows of an image. From 2 j n = j^2 + n^2 -
/// (n - j)^2 the sum is a convolution of chirps (Bluestein, IEEE Trans. Audio Electroacoust. 18:451, 1970; Rabiner,
/// Schafer, Rader, 17:86, 1969), here over a power of two: two transforms and three products a line, without
/// interpolation. Relative l2 error about 1e-6. Not for use from two threads at once.
class ChirpTransform {
  public:
    /// `threads` in all, 0 = one per core. Throws mri::Error for counts below 1 or from + to above 2^20, and for a
    /// period that is not finite or not above 0.
    ChirpTransform(int from, int to, double period, int threads = 1);
    ~ChirpTransform();

    /// [from][width] -> [to][width]; `out` may not overlap `in`.
    void columns(const cfloat* in, int width, cfloat* out);
    /// [height][from] -> [height][to]; likewise.
    void rows(const cfloat* in, int height, cfloat* out);

  private:
    int from_, to_;
    const simd::TransformKernels& kernels_;
    std::unique_ptr<FftLine> line_;
    std::vector<cfloat> before_, filter_, after_; ///< chirps of x_j, of the convolution, of X(n)
    std::vector<cfloat> image_;
    ThreadPool pool_;
    std::vector<AlignedFloats> scratch_;
};

} // namespace mri
