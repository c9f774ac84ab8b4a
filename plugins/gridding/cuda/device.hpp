// SPDX-License-Identifier: LGPL-2.1-or-later
// Where transforms are computed, and a transform that is computed there.
#pragma once

#include "cuda_nufft.hpp"
#include "plugins/gridding/nufft.hpp"

#include <span>
#include <string>
#include <variant>
#include <vector>

namespace mri {

/// A processor or a GPU.
struct ComputeDevice {
    enum class Kind {
        automatic, ///< a GPU where there is one
        cpu,
        cuda
    };
    Kind kind = Kind::cpu;
    int index = 0; ///< of the GPU

    /// Reads "auto", "cpu", "cuda" (the first) or "cuda:N". Throws Errc::settings for anything else.
    static ComputeDevice parse(const std::string& text);

    /// What it comes to on this machine: cpu or cuda. Where automatic comes to the processor `reason` says
    /// why, else it is empty. Throws Errc::no_device when a GPU is asked for that is not there.
    ComputeDevice resolve(std::string& reason) const;
};

/// Nufft or CudaNufft, as the device is.
class DeviceNufft {
  public:
    /// `device` is what resolve() gave; throws as the constructors of the two do. A GPU has no use for
    /// options.threads.
    DeviceNufft(int width, int height, const Nufft::Options& options, ComputeDevice device);

    /// These are as Nufft has them.
    void set_points(std::span<const float> kxy);
    std::size_t points() const noexcept;
    void adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils);
    void forward(const cfloat* images, cfloat* samples, int coils);

    /// image [H][W] = root of the sum over coils of |image of the coil|^2, real. On a GPU the coils' images
    /// never leave it.
    void adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils);

  private:
    std::variant<Nufft, CudaNufft> nufft_;
    std::vector<cfloat> images_; ///< of the coils, on the processor
};

} // namespace mri
