// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/inference/weights_identity.hpp"

#include "models/files/weights.hpp"
#include "plugins/common/gst_ptr.hpp"

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>

namespace mri {

std::string weights_identity(const std::string& weights) {
    std::string name = std::filesystem::path(weights).filename().string();
    std::string path;
    try {
        path = find_weights(weights);
    } catch (const Error&) {
        return name;
    }
    std::ifstream in(path, std::ios::binary);
    const std::unique_ptr<GChecksum, void (*)(GChecksum*)> sum(g_checksum_new(G_CHECKSUM_SHA256),
                                                               g_checksum_free);
    std::array<char, 1 << 16> block;
    while (in.read(block.data(), block.size()) || in.gcount() > 0)
        g_checksum_update(sum.get(), reinterpret_cast<const guchar*>(block.data()), in.gcount());
    if (!in.eof())
        return name;
    return name + ", SHA-256 " + g_checksum_get_string(sum.get());
}

} // namespace mri
