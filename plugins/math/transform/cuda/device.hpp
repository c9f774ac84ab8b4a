// SPDX-License-Identifier: LGPL-2.1-or-later
// The device of transforms, and a transform on it.
#pragma once

#include "plugins/math/base/text.hpp"
#include "plugins/math/transform/cuda/cuda_nufft.hpp"
#include "plugins/math/transform/nufft.hpp"

#include <span>
#include <string>
#include <variant>

namespace mri {

/// A processor or a GPU.
struct ComputeDevice {
    using Kind = DeviceText::Kind; ///< automatic: a GPU where there is one
    Kind kind = Kind::cpu;
    int index = 0; ///< of the GPU

    /// Reads "auto", "cpu", "cuda" (the first) or "cuda:N". Throws Errc::settings for anything else.
    static ComputeDevice parse(const std::string& text);

    /// The device on this machine: cpu or cuda. Where automatic comes to the processor `reason` says
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

    /// As Nufft has it: the coils' images are never written, or never leave the GPU.
    void adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils);

    /// Takes the coils' sensitivities, [coils][H][W], for the two functions below. They must stay where they
    /// are; call again when their values change.
    void set_sensitivities(const cfloat* maps, int coils);
    /// As Nufft has them, of the coils that were set. Throw Errc::format when none were.
    void adjoint_sense(const cfloat* samples, std::span<const float> weights, cfloat* image);
    void forward_sense(const cfloat* image, cfloat* samples);

  private:
    std::variant<Nufft, CudaNufft> nufft_;
    const cfloat* maps_ = nullptr;
    int coils_ = 0; ///< of maps_
};

} // namespace mri
