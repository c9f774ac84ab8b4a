// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/weights.hpp"

#include "plugins/math/base/installation.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>

namespace mri {

namespace {

constexpr int max_window = 1000; // as of the elements' property

} // namespace

bool Metadata::choice(const char* key, const char* no, const char* yes) const {
    const auto it = map_.find(key);
    if (it == map_.end() || it->second == no)
        return false;
    if (it->second != yes)
        fail(key, it->second);
    return true;
}

void Metadata::fail(const std::string& key, const std::string& value) const {
    throw Error(Errc::decode, "the weights file '" + name_ + "' has '" + value + "' as " + key);
}

std::string network_of(const TensorFile& file) {
    const auto it = file.metadata.find("network");
    return it == file.metadata.end() ? std::string() : it->second;
}

std::optional<int> trained_frames(const std::map<std::string, std::string>& metadata) {
    const auto it = metadata.find("window");
    if (it == metadata.end())
        return std::nullopt;
    const auto frames = parse_number<int>(it->second);
    if (!frames || *frames < 1 || *frames > max_window)
        throw Error(Errc::decode, "the weights' metadata have '" + it->second +
                                      "' as window: networks take 1 to " + std::to_string(max_window) +
                                      " frames together");
    return frames;
}

void check_tensors(const TensorFile& file, const std::string& name, const TensorShapes& shapes,
                   const std::string& network) {
    std::string missing;
    std::string misshapen;
    std::string extra;
    std::set<std::string> known;
    const auto list = [](std::string& text, const std::string& item) {
        text += (text.empty() ? "" : ", ") + item;
    };
    for (const auto& [tensor, shape] : shapes) {
        known.insert(tensor);
        const auto it = file.tensors.find(tensor);
        if (it == file.tensors.end())
            list(missing, tensor);
        else if (it->second.shape != shape)
            list(misshapen, tensor + " " + it->second.shape_text() + " instead of " +
                                NamedTensor{shape, {}}.shape_text());
    }
    for (const auto& [tensor, content] : file.tensors)
        if (!known.contains(tensor))
            list(extra, tensor);
    std::string all;
    for (const auto& [text, label] :
         {std::pair{missing, "missing: "}, {misshapen, "wrong shape: "}, {extra, "extra: "}})
        if (!text.empty())
            all += (all.empty() ? "" : "; ") + std::string(label) + text;
    if (!all.empty())
        throw Error(Errc::decode, "the weights file '" + name + "' does not fit " + network + ": " + all);
    check_finite(file, name);
}

void check_finite(const TensorFile& file, const std::string& name) {
    for (const auto& [tensor, content] : file.tensors)
        if (!std::all_of(content.values.begin(), content.values.end(),
                         [](float v) { return std::isfinite(v); }))
            throw Error(Errc::decode, "the weights file '" + name +
                                          "' holds values that are not finite in '" + tensor + "'");
}

std::string find_weights(const std::string& name) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    if (name.empty())
        throw Error(Errc::settings, "no weights file is named");
    if (name.find('/') != std::string::npos || fs::exists(name, ignored))
        return name;
    std::string folders;
    if (const char* path = std::getenv("GST_MRI_MODELS_PATH"))
        folders = path;
    folders += std::string(folders.empty() ? "" : ":") + installation::models().string();
    for (std::size_t begin = 0; begin <= folders.size();) {
        const std::size_t end = std::min(folders.find(':', begin), folders.size());
        const fs::path candidate = fs::path(folders.substr(begin, end - begin)) / name;
        if (end > begin && fs::exists(candidate, ignored))
            return candidate.string();
        begin = end + 1;
    }
    throw Error(Errc::not_found,
                "there is no weights file '" + name + "' in the working folder or in " + folders);
}

} // namespace mri
