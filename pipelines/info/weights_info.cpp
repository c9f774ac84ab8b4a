// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/torch_state_dict.hpp"
#include "models/files/weights.hpp"
#include "pipelines/info/kinds.hpp"

#include <fmt/format.h>

namespace mri {

FileInfo weights_info(const std::string& path) {
    const TensorFile file = read_weights(path);
    const std::string network = network_of(file);
    FileInfo info{.kind = "Weights of a network", .facts = {}, .readings = {}, .command = {}, .error = {}};
    std::size_t numbers = 0;
    for (const auto& [name, tensor] : file.tensors)
        numbers += tensor.count();
    info.facts.emplace_back("network", network.empty() ? "not named in the file" : network);
    info.facts.emplace_back("tensors", fmt::format("{} with {} numbers", file.tensors.size(), numbers));
    for (const auto& [key, value] : file.metadata)
        if (key != "network")
            info.facts.emplace_back(key, value);
    try {
        check_finite(file, path);
    } catch (const Error& error) {
        info.error = error;
        return info;
    }
    const auto time = file.metadata.find("time");
    const bool causal = time != file.metadata.end() && time->second == "causal";
    const std::string demo = "mri-launch run live-demo -s network=";
    if (network == "cascade")
        info.command =
            demo + (causal ? "causal -s causal-weights=" : "cascade -s weights=") + shell_word(path);
    else if (network == "unet3d")
        info.command = demo + "unet -s weights=" + shell_word(path);
    else
        info.command = "mri-weights show " + shell_word(path);
    return info;
}

} // namespace mri
