// SPDX-License-Identifier: LGPL-2.1-or-later
// A python with torch, for tests that make or read PyTorch's own files.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace mri::test {

/// GST_MRI_TORCH_PYTHON, or the one that `./dev setup bench` made; empty where there is none.
inline std::string torch_python() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value ? value : "");
    };
    if (std::string named = variable("GST_MRI_TORCH_PYTHON"); !named.empty())
        return named;
    const std::string cache =
        variable("XDG_CACHE_HOME").empty() ? variable("HOME") + "/.cache" : variable("XDG_CACHE_HOME");
    const std::string usual = cache + "/gst-mri/python-torch/bin/python";
    return std::filesystem::exists(usual) ? usual : std::string();
}

/// What a test says that skips without it.
inline constexpr const char* no_torch_python =
    "there is no python with torch (./dev setup bench, or GST_MRI_TORCH_PYTHON)";

/// Runs tests/support/torch_files.py with these arguments; its exit status.
inline int run_torch_python(const std::string& arguments) {
    const char* root = std::getenv("GST_MRI_SOURCE_ROOT");
    const std::string command = "OMP_NUM_THREADS=1 '" + torch_python() + "' '" + (root ? root : ".") +
                                "/tests/support/torch_files.py' " + arguments;
    return std::system(command.c_str()); // NOLINT: the commands are the repository's own
}

/// Runs a script of tests/support with the tests' python, or else the system's; its exit status.
inline int run_python(const std::string& script) {
    const char* root = std::getenv("GST_MRI_SOURCE_ROOT");
    const char* python = std::getenv("GST_MRI_PYTHON");
    const std::string command = "'" + std::string(python ? python : "python3") + "' '" + (root ? root : ".") +
                                "/tests/support/'" + script;
    return std::system(command.c_str()); // NOLINT: the commands are the repository's own
}

} // namespace mri::test
