// SPDX-License-Identifier: LGPL-2.1-or-later
// BART (https://mrirecon.github.io/bart) as a peer: arrays go to it and come back as its .cfl files.
#pragma once

#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <complex>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace mri::test {

/// A folder of its own in which BART runs. Where a program `bart` is missing, tests skip: see missing().
class Bart {
  public:
    /// Sizes of an array by BART's dimensions: 0, 1, 2 space (of k-space: 1 the sample, 2 the readout),
    /// 3 the coil. The first one runs fastest.
    using Sizes = std::vector<std::pair<std::size_t, std::size_t>>;

    static bool missing() { return std::system("command -v bart >/dev/null 2>&1") != 0; }

    void write(const std::string& name, const Sizes& sizes,
               const std::vector<std::complex<float>>& values) const {
        std::vector<std::size_t> dimensions(16, 1);
        std::size_t count = 1;
        for (const auto& [dimension, size] : sizes) {
            dimensions[dimension] = size;
            count *= size;
        }
        ASSERT_EQ(count, values.size()) << name;
        std::ofstream header(folder_ + "/" + name + ".hdr");
        header << "# Dimensions\n";
        for (const std::size_t size : dimensions)
            header << size << ' ';
        header << '\n';
        std::ofstream(folder_ + "/" + name + ".cfl", std::ios::binary)
            .write(reinterpret_cast<const char*>(values.data()),
                   static_cast<std::streamsize>(values.size() * sizeof(values[0])));
    }

    std::vector<std::complex<float>> read(const std::string& name) const {
        const std::string path = folder_ + "/" + name + ".cfl";
        std::error_code error;
        const auto bytes = std::filesystem::file_size(path, error);
        EXPECT_FALSE(error) << path;
        std::vector<std::complex<float>> values(error ? 0 : bytes / sizeof(std::complex<float>));
        std::ifstream(path, std::ios::binary)
            .read(reinterpret_cast<char*>(values.data()),
                  static_cast<std::streamsize>(values.size() * sizeof(values[0])));
        return values;
    }

    /// e.g. run("nufft -a traj samples image"), file names without folder; a failure of the test when BART
    /// fails.
    void run(const std::string& arguments) const {
        const std::string command =
            "cd '" + folder_ + "' && OMP_NUM_THREADS=1 bart " + arguments + " >log 2>&1";
        const int status = std::system(command.c_str());
        std::ifstream log(folder_ + "/log");
        EXPECT_EQ(status, 0) << arguments << "\n" << std::string(std::istreambuf_iterator<char>(log), {});
    }

  private:
    TempDir temporary_;
    std::string folder_ = temporary_.path();
};

} // namespace mri::test
