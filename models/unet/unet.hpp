// SPDX-License-Identifier: LGPL-2.1-or-later
// A trained network, ready to run over windows of frames. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/unet/options.hpp"

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace mri {

enum class Precision { automatic, float32, bfloat16 };

/// Where and how a network runs.
struct RunOptions {
    std::string device = "cpu"; ///< cpu, cuda, cuda:N, auto
    Precision precision = Precision::automatic;
    int threads = 0; ///< of the thread that calls run(); 0 means one per core
};

/// A window of frames: [frames][height][width].
struct WindowShape {
    int frames = 0;
    int height = 0;
    int width = 0;

    std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }
    std::size_t count() const { return pixels() * static_cast<std::size_t>(frames); }
    bool operator==(const WindowShape&) const = default;
};

/// A residual 3D U-Net with its weights.
class Network {
  public:
    /// Reads a weights file. Throws what read_weights() and unet_options_of() throw, and Errc::no_device.
    static Network load(const std::string& path, const RunOptions& options);
    /// The same from tensors in memory; `name` is for messages.
    Network(const TensorFile& file, const std::string& name, const RunOptions& options);

    Network(Network&&) noexcept;
    Network& operator=(Network&&) noexcept;
    ~Network();

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

/// Frames of the windows that a network was trained on, where the metadata of its file say so ("window").
std::optional<int> trained_frames(const std::map<std::string, std::string>& metadata);

/// Looks for a weights file: `name` itself when it has a folder or exists; otherwise in the folders of the
/// environment variable GST_MRI_MODELS_PATH (colon-separated) and in the folder where the product's weights
/// are installed. Throws Errc::not_found, naming the places.
std::string find_weights(const std::string& name);

} // namespace mri
