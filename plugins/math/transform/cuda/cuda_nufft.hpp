// SPDX-License-Identifier: LGPL-2.1-or-later
// The non-uniform Fourier transform of nufft.hpp on an NVIDIA GPU.
#pragma once

#include <complex>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace mri {

using cfloat = std::complex<float>;

namespace cuda {
class Backend;
}

/// The same operations as Nufft, on a device, with the coils combined there where that is asked for.
///
/// Plans, memory on the device and pinned memory are kept from frame to frame; a trajectory that stays the
/// same is planned once. Data lie in the host's memory before and after. Results are the same, bit for bit,
/// from run to run on one kind of device. One object is not for use from two threads at once; several objects
/// work side by side, each on streams of its own.
class CudaNufft {
  public:
    struct Options {
        double tolerance = 5e-4; ///< relative l2 error to stay below, 1e-6..1e-1
        int device = 0;          ///< number of the CUDA device
    };

    /// Number of CUDA devices; 0 when there is none, no driver, or this build is without CUDA: `reason` says
    /// which. Cheap without a driver.
    static int devices(std::string* reason = nullptr);

    /// Plans for images of `width` x `height` pixels. Throws Errc::settings for sizes outside 1..8192 or a
    /// bad tolerance, Errc::no_device without that device, Errc::no_memory.
    CudaNufft(int width, int height);
    CudaNufft(int width, int height, Options options);
    /// Over a device that is already there.
    CudaNufft(int width, int height, std::unique_ptr<cuda::Backend> backend);
    ~CudaNufft();
    CudaNufft(CudaNufft&&) noexcept;
    CudaNufft& operator=(CudaNufft&&) noexcept;

    int width() const noexcept;
    int height() const noexcept;
    /// The device's name.
    std::string device() const;

    /// As Nufft::set_points(); returns when the device has planned.
    void set_points(std::span<const float> kxy);
    std::size_t points() const noexcept;

    /// As Nufft::adjoint(): images [coils][H][W].
    void adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils);
    /// image [H][W] = sqrt(sum over coils |image of the coil|^2), real.
    void adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils);

    /// Takes the coils' sensitivities, [coils][H][W], for the functions below; they stay on the device.
    void set_sensitivities(const cfloat* maps, int coils);
    /// Coils of the sensitivities, 0 before they are set.
    int sensitivities() const noexcept;
    /// image [H][W] = sum over coils conj(map) image of the coil: exactly the conjugate transpose of
    /// forward_sense(). With `least_squares` over sum |map|^2, as combine_coils() does. Throws Errc::format
    /// without sensitivities.
    void adjoint_sense(const cfloat* samples, std::span<const float> weights, cfloat* image,
                       bool least_squares);

    /// As Nufft::forward().
    void forward(const cfloat* images, cfloat* samples, int coils);
    /// samples [coils][points] of map times image, for each coil. Throws Errc::format without sensitivities.
    void forward_sense(const cfloat* image, cfloat* samples);

    /// Milliseconds that the kernels of the last transform took on the device, without copies to and from it.
    /// Throws Errc::failed before the first one.
    double kernel_milliseconds();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
