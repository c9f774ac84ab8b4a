// SPDX-License-Identifier: LGPL-2.1-or-later
// A folder for the files of a test. Needs neither GStreamer nor GoogleTest.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>

namespace mri::test {

/// A folder of its own under the system's temporary one (TMPDIR), removed with all that it holds.
class TempDir {
  public:
    TempDir() {
        path_ = (std::filesystem::temp_directory_path() / "gst-mri-test-XXXXXX").string();
        if (!::mkdtemp(path_.data()))
            throw std::runtime_error("no temporary folder can be made in " +
                                     std::filesystem::temp_directory_path().string());
    }
    ~TempDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    const std::string& path() const { return path_; }
    /// Path of a file in it.
    std::string path(const std::string& name) const { return path_ + "/" + name; }
    std::string operator/(const std::string& name) const { return path(name); }
    /// Files and folders in it.
    std::size_t entries() const {
        return static_cast<std::size_t>(
            std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
    }

  private:
    std::string path_;
};

} // namespace mri::test
