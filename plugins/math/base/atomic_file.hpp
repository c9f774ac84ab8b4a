// SPDX-License-Identifier: LGPL-2.1-or-later
// Files that appear under their names only when they are complete.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// Path beside `target`: its name and a suffix, cut and told apart by a number where file systems take no name that
/// long (255 bytes).
std::filesystem::path path_beside(const std::filesystem::path& target, const std::string& suffix);

/// A file that is written under a name of its own in the target's folder and then renamed: after a crash the
/// target is the whole new file or the old one. Destroyed before commit(), it leaves nothing behind.
///
/// A target that is a symbolic link stays one: the file that it points to, which need not be there yet, is replaced. A
/// target that is there and is no file (a folder, a FIFO, a device, a socket) is refused. A name may be as long as the
/// file system takes. Errors throw Errc::open_write and Errc::write; the sentence is the caller's, the system's reason
/// follows it.
class AtomicFile {
  public:
    /// Creates the temporary file, empty, with the rights of any new file. `failed` is the sentence of the
    /// error when that is not possible: "'path' cannot be created".
    AtomicFile(const std::filesystem::path& target, const std::string& failed);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    /// Path of the temporary file, for libraries that open files by name. Such a library must have closed it
    /// before commit().
    const std::filesystem::path& temporary() const noexcept { return temporary_; }

    /// Appends bytes. `failed` is the sentence of the error.
    void write(std::span<const std::byte> bytes, const std::string& failed);

    /// Puts the file on the disk and gives it its name; nothing more can be written. `failed` is the sentence
    /// of the error.
    void commit(const std::string& failed);
    /// The same under the target's name and ".partial", for what is not whole and still of use; gives the path.
    std::filesystem::path keep_partial(const std::string& failed);

    /// Removes the temporary file.
    void discard() noexcept;

  private:
    void rename_to(const std::filesystem::path& path, const std::string& failed);

    std::filesystem::path target_, temporary_;
    int descriptor_ = -1;
};

/// Temporary files of this target that processes left which are not running any more: "file.partial-PID-NUMBER".
std::vector<std::filesystem::path> abandoned_files(const std::filesystem::path& target);

} // namespace mri
