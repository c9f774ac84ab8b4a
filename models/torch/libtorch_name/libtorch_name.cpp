// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/libtorch_name/libtorch_name.hpp"

#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <vector>

namespace mri {

namespace {

/// As GST_MRI_LIBTORCH_NAME says, beside the folder of the plugin that this code is part of, or where it was
/// meant to be installed.
std::vector<std::string> paths() {
    std::vector<std::string> out;
    if (const char* path = std::getenv("GST_MRI_LIBTORCH_NAME"); path && *path)
        out.emplace_back(path);
    static const char here = 0;
    Dl_info info{};
    if (::dladdr(&here, &info) != 0 && info.dli_fname) {
        const std::string file = info.dli_fname;
        if (const auto slash = file.rfind('/'); slash != std::string::npos)
            out.push_back(file.substr(0, slash) + "/../gst-mri/" GST_MRI_LIBTORCH_NAME_FILE);
    }
    out.emplace_back(GST_MRI_LIBTORCH_NAME_DIR "/" GST_MRI_LIBTORCH_NAME_FILE);
    return out;
}

} // namespace

void provide_libtorch_name(bool cuda) {
    // Nothing is closed: packages may need it as long as the process lives.
    if (::dlopen("libtorch.so", RTLD_LAZY | (cuda ? 0 : RTLD_NOLOAD)))
        return;
    for (const std::string& path : paths())
        if (::dlopen(path.c_str(), RTLD_LAZY))
            return;
}

} // namespace mri
