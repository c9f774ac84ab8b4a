// SPDX-License-Identifier: LGPL-2.1-or-later
// The interface between CudaNufft and the code that runs on a device. That code lives in a module of its own
// (libgstmri-cuda), opened when a device is asked for, so that nothing else needs CUDA's libraries to be
// there. Neither CUDA nor GStreamer.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace mri::cuda {

using cfloat = std::complex<float>;

/// Cells along one axis that a sample can reach; floats kept for each sample and axis.
inline constexpr int max_taps = 8;
/// Terms of the kernel's power series.
inline constexpr int max_terms = 48;

/// The grid and the kernel along one axis.
struct Axis {
    int pixels = 0;
    int cells = 0;
    /// kernel(t) = sum over k of coefficients[k] v^k with v = 1 - (2 t / taps)^2, t in cells from the sample
    std::array<float, max_terms> coefficients{};
    int terms = 0;
    /// of each pixel: one over the kernel's transform there, with the sign (-1)^(x - pixels / 2) that puts k
    /// = 0 at cell cells / 2
    std::vector<float> apodisation;
};

/// Everything a device has to know of a transform.
struct Design {
    int taps = 0; ///< at most max_taps
    Axis x, y;
};

/// Designs the transform for images of `width` x `height` pixels: a Kaiser-Bessel kernel (Beatty et al., IEEE
/// Trans. Med. Imaging 24:799, 2005). `tolerance`: relative l2 error to stay below, 1e-6..1e-1. Throws
/// Errc::settings for a size outside 1..8192 or a bad tolerance.
Design design(int width, int height, double tolerance);
/// The same with a given kernel width (2..max_taps) and grid (even, at least twice max_taps and not below the
/// image).
Design design(int width, int height, int taps, int grid_width, int grid_height);

/// Combination of the coils' images.
enum class Combination {
    none,         ///< [coils][H][W]
    rss,          ///< sqrt(sum over coils |image|^2), real
    adjoint,      ///< sum over coils conj(map) image: the adjoint of map times image
    least_squares ///< the same over sum |map|^2 (Roemer et al., MRM 1990); 0 where all maps are 0
};

/// A transform on a device. Sizes have been checked by the caller; pointers are the host's. Every call
/// returns when its result is there. Throws Errc::no_memory when the device has too little, Errc::failed when
/// it fails.
class Backend {
  public:
    virtual ~Backend() = default;
    virtual std::string device() const = 0;
    virtual void set_points(const float* kxy, std::size_t points) = 0;
    virtual void set_sensitivities(const cfloat* maps, int coils) = 0;
    virtual void adjoint(const cfloat* samples, const float* weights, Combination combination, cfloat* images,
                         int coils) = 0;
    /// `combined`: `images` is one image, seen by each coil through its map
    virtual void forward(const cfloat* images, bool combined, cfloat* samples, int coils) = 0;
    /// Milliseconds that the kernels of the last adjoint() or forward() took, from the first one's start to the last one's end, by
    /// the device's clock; the copies before and after are not in it. Throws Errc::failed before the first call.
    virtual double kernel_milliseconds() = 0;
};

/// Least work of a transform, counted, not measured: bytes to and from the device's memory when every array is
/// read or written once a kernel (the FFT twice), and operations in float32.
struct Work {
    double bytes = 0;
    double flops = 0;
};
/// Work for `points` samples of `coils` coils; samples and images of each coil come out (Combination::none).
Work adjoint_work(const Design& design, std::size_t points, int coils);
Work forward_work(const Design& design, std::size_t points, int coils);

/// Exports of the module, under the name below.
struct Module {
    int version;
    /// Number of devices; 0 with a reason when there is none or the driver does not do.
    int (*devices)(std::string& reason);
    std::unique_ptr<Backend> (*open)(const Design& design, int device);
};
inline constexpr int module_version = 2;
inline constexpr const char* module_symbol = "mri_cuda_module";

} // namespace mri::cuda
