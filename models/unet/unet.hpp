// SPDX-License-Identifier: LGPL-2.1-or-later
// The residual 3D U-Net, ready to run over windows of frames. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/unet/options.hpp"

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace mri {

/// A residual 3D U-Net with its weights.
class Unet {
  public:
    /// Reads a weights file. Throws what read_weights() and unet_options_of() throw, and Errc::no_device.
    static Unet load(const std::string& path, const RunOptions& options);
    /// The same from tensors in memory; `name` is for messages.
    Unet(const TensorFile& file, const std::string& name, const RunOptions& options);

    Unet(Unet&&) noexcept;
    Unet& operator=(Unet&&) noexcept;
    ~Unet();

    /// De-aliases a window of magnitudes: input and output are [frames][height][width] of `shape`, any size
    /// (padded by repeating the edge to multiples of 4, and cropped). The input is divided by `scale` and the
    /// output multiplied by it; without one the window's own intensity_scale() is taken. Throws Errc::format
    /// for sizes that do not fit, Errc::failed or Errc::no_memory out of LibTorch.
    void run(std::span<const float> input, std::span<float> output, const WindowShape& shape,
             std::optional<float> scale = std::nullopt);

    /// Runs a window of zeros twice, so that LibTorch's first-time work is done before data come, on the
    /// calling thread. Returns the seconds that the second run took. Throws what run() throws.
    double warm_up(const WindowShape& shape);

    const UnetOptions& unet() const;
    /// The file's metadata map.
    const std::map<std::string, std::string>& metadata() const;
    /// Frames of the windows it was trained on, where the file says so.
    std::optional<int> trained_frames() const;
    /// "bfloat16" or "float32": what `precision` came to.
    std::string precision() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
