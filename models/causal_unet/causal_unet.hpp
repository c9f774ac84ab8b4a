// SPDX-License-Identifier: LGPL-2.1-or-later
// A U-Net over (x, y) with convolutions over past frames: one frame in, one frame out, nothing waits for the
// future. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/files/weights.hpp"

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// Two convolutions a level at f, 2f and 4f filters: the first 3x3 within its frame, the second 3x3x3 over
/// its frame and the two before it; 2x2 max pooling within the frame, 2x2 transposed convolutions back,
/// magnitude out = ReLU(conv6 + input). Five layers look back, so a frame sees ten before it, and its running
/// mean more. No layer has a bias: ReLU networks without them commute with the gain (Mohan et al., ICLR
/// 2020), so a stream needs no estimate of its intensity.
struct CausalUnetOptions {
    int filters = 16;     ///< filters f of the first level
    int mean_frames = 20; ///< frames of the running mean

    bool operator==(const CausalUnetOptions&) const = default;
};

inline constexpr const char* causal_unet_kind = "causal-unet"; ///< `network` in a weights file's metadata

/// Name and shape of each tensor: the layers' names are those of the U-Net.
TensorShapes causal_unet_tensors(const CausalUnetOptions& options);

/// Throws Errc::settings where an option is outside of its range (filters 1..1024, mean_frames 1..1000).
void check_causal_unet_options(const CausalUnetOptions& options);

/// The options as metadata of a weights file.
std::map<std::string, std::string> causal_unet_metadata(const CausalUnetOptions& options);

/// The options of a weights file. Throws Errc::decode, naming each missing, extra or misshapen tensor.
CausalUnetOptions causal_unet_options_of(const TensorFile& file, const std::string& name);

/// The network with its weights and with what it remembers of the frames so far.
class CausalUnet {
  public:
    /// Reads a weights file. Throws what read_weights() and causal_unet_options_of() throw, and
    /// Errc::no_device.
    static CausalUnet load(const std::string& path, const RunOptions& options);
    /// The same from tensors in memory; `name` is for messages.
    CausalUnet(const TensorFile& file, const std::string& name, const RunOptions& options);

    CausalUnet(CausalUnet&&) noexcept;
    CausalUnet& operator=(CausalUnet&&) noexcept;
    ~CausalUnet();

    /// De-aliases the frames that follow those before, one or several at once with the same result (to the
    /// rounding): input and output are magnitudes [frames][height][width] of `shape`, any size (padded by
    /// repeating the edge to multiples of 4, and cropped). A frame costs one frame's work, whatever was
    /// before. Frames of another size begin a new stream. Throws Errc::format for sizes that do not fit and values
    /// that are not finite, Errc::failed or Errc::no_memory out of LibTorch; after that it begins anew.
    void run(std::span<const float> input, std::span<float> output, const WindowShape& shape);

    /// The next frame is the first of its series.
    void reset();

    /// Runs frames of zeros, so that LibTorch's first-time work is done before data come, on the calling
    /// thread; then reset(). Returns the seconds that the last call took. Throws what run() throws.
    double warm_up(const WindowShape& shape);

    const CausalUnetOptions& options() const;
    /// The file's metadata map.
    const std::map<std::string, std::string>& metadata() const;
    /// "bfloat16" or "float32": what `precision` came to.
    std::string precision() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
