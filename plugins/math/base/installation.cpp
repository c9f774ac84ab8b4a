// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/installation.hpp"

#include <dlfcn.h>
#include <link.h>
#include <string>

namespace mri::installation {

namespace fs = std::filesystem;

namespace {

/// The file that holds this code: each program and each plugin links a copy of its own.
fs::path own_file() {
    static const char here = 0;
    Dl_info info{};
    void* object = nullptr;
    if (::dladdr1(&here, &info, &object, RTLD_DL_LINKMAP) == 0 || !object)
        return {};
    // The program itself has no name here; Dl_info would give the word that it was called by.
    const char* const name = static_cast<const link_map*>(object)->l_name;
    return *name ? name : "/proc/self/exe";
}

fs::path in_prefix(const char* folder) {
    return own_prefix().value_or(GST_MRI_PREFIX) / folder;
}

} // namespace

std::optional<fs::path> own_prefix() {
    std::error_code none;
    const std::string folder = fs::canonical(own_file(), none).parent_path().string();
    for (const std::string place : {"/" GST_MRI_BINDIR, "/" GST_MRI_PLUGINS}) {
        if (!folder.ends_with(place))
            continue;
        const fs::path prefix = folder.substr(0, folder.size() - place.size()) + "/";
        // Any folder may be called bin.
        if (fs::is_directory(prefix / GST_MRI_DATA, none))
            return prefix;
    }
    return std::nullopt;
}

fs::path plugins() {
    return in_prefix(GST_MRI_PLUGINS);
}

fs::path modules() {
    return in_prefix(GST_MRI_MODULES);
}

fs::path models() {
    return in_prefix(GST_MRI_DATA "/models");
}

fs::path pipelines() {
    return in_prefix(GST_MRI_DATA "/pipelines");
}

} // namespace mri::installation
