// SPDX-License-Identifier: LGPL-2.1-or-later
// Checks of weights files that all networks share: readable metadata, fitting tensors. No LibTorch
// here.
#pragma once

#include "models/files/safetensors.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/text.hpp"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mri {

/// Name and shape of each tensor of a network.
using TensorShapes = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

/// Values of a weights file's metadata, each checked when it is read. `name` is the file's, for messages.
class Metadata {
  public:
    Metadata(const std::map<std::string, std::string>& map, const std::string& name)
        : map_(map), name_(name) {}

    /// The number under `key`, `otherwise` where there is none. Throws Errc::decode for other text.
    template <typename T>
    T number(const char* key, T otherwise) const {
        const auto it = map_.find(key);
        if (it == map_.end())
            return otherwise;
        const auto value = parse_number<T>(it->second);
        if (!value)
            fail(key, it->second);
        return *value;
    }

    /// Whether the text under `key` is `yes`; false for `no` and where there is none. Throws Errc::decode for
    /// other text.
    bool choice(const char* key, const char* no, const char* yes) const;

  private:
    [[noreturn]] void fail(const std::string& key, const std::string& value) const;

    const std::map<std::string, std::string>& map_;
    const std::string& name_;
};

/// Parts that a checkpoint of training adds to the name of its network, and the tensors' names in it begin with.
namespace checkpoint {
inline constexpr const char* suffix = "-checkpoint";
inline constexpr const char* model = "model/";
inline constexpr const char* average = "average/";
} // namespace checkpoint

/// Which network a weights file says it holds; empty where it says nothing (a state dict from elsewhere).
std::string network_of(const TensorFile& file);

/// Frames of the windows that a network was trained on, where the metadata of its file say so ("window").
/// Throws Errc::decode for anything but 1 to 1000.
std::optional<int> trained_frames(const std::map<std::string, std::string>& metadata);

/// Throws Errc::decode, naming each missing, extra or misshapen tensor, and what check_finite() throws;
/// `network` ("a 3D U-Net with 16 filters") is for that message.
void check_tensors(const TensorFile& file, const std::string& name, const TensorShapes& shapes,
                   const std::string& network);

/// Throws Errc::decode, naming the tensor, where a value is not finite.
void check_finite(const TensorFile& file, const std::string& name);

/// Looks for a weights file: `name` itself when it has a folder or exists; otherwise in the folders of the
/// environment variable GST_MRI_MODELS_PATH (colon-separated) and in the folder where the product's weights
/// are installed. Throws Errc::not_found, naming the places.
std::string find_weights(const std::string& name);

} // namespace mri
