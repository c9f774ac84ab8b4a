// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/libtorch_name/libtorch_name.hpp"
#include "plugins/math/base/installation.hpp"

#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <vector>

namespace mri {

namespace {

/// As GST_MRI_LIBTORCH_NAME says, or where it is installed.
std::vector<std::string> paths() {
    std::vector<std::string> out;
    if (const char* path = std::getenv("GST_MRI_LIBTORCH_NAME"); path && *path)
        out.emplace_back(path);
    out.push_back(installation::modules() / GST_MRI_LIBTORCH_NAME_FILE);
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
