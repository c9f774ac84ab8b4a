// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/atomic_file.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/text.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace mri {

namespace {

Error system_error(Errc code, const std::string& sentence) {
    return Error(code, sentence + ": " + std::strerror(errno));
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
    return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

/// The path that a chain of symbolic links ends at; the path itself where it is none.
std::filesystem::path file_at_end_of_links(std::filesystem::path path, const std::string& failed) {
    constexpr int most = 40; // as Linux follows
    std::error_code error;
    for (int links = 0; std::filesystem::is_symlink(std::filesystem::symlink_status(path, error)); ++links) {
        if (links == most)
            throw Error(Errc::open_write, failed + ": " + std::strerror(ELOOP));
        const std::filesystem::path next = std::filesystem::read_symlink(path, error);
        if (error)
            throw Error(Errc::open_write, failed + ": " + error.message());
        path = path.parent_path() / next; // an absolute one stands alone
    }
    return path;
}

/// Throws where something that is no file has the name.
void check_kind(const std::filesystem::path& path, const std::string& failed) {
    using std::filesystem::file_type;
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    const char* what = nullptr;
    switch (status.type()) {
    case file_type::none: // it cannot be looked at, or its name is too long
        throw Error(Errc::open_write, failed + ": " + error.message());
    case file_type::not_found:
    case file_type::regular:
        return;
    case file_type::directory:
        what = "a folder";
        break;
    case file_type::fifo:
        what = "a FIFO";
        break;
    case file_type::socket:
        what = "a socket";
        break;
    case file_type::block:
    case file_type::character:
        what = "a device";
        break;
    default:
        what = "no file";
        break;
    }
    throw Error(Errc::open_write, failed + ": it is " + what);
}

} // namespace

std::filesystem::path path_beside(const std::filesystem::path& target, const std::string& suffix) {
    constexpr std::size_t longest = 255;
    std::string name = target.filename().string();
    if (name.size() + suffix.size() > longest) {
        std::uint32_t hash = 2166136261U; // FNV-1a
        for (const char c : name)
            hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
        const std::string number = "-" + std::to_string(hash);
        std::size_t kept = longest - suffix.size() - number.size();
        while (kept > 0 &&
               (static_cast<unsigned char>(name[kept]) & 0xC0U) == 0x80) // within a character of UTF-8
            --kept;
        name = name.substr(0, kept) + number;
    }
    return target.parent_path() / (name + suffix);
}

AtomicFile::AtomicFile(const std::filesystem::path& target, const std::string& failed)
    : target_(file_at_end_of_links(target, failed)) {
    check_kind(target_, failed);
    static std::atomic<unsigned> counter{0};
    for (int attempt = 0; attempt < 100 && descriptor_ < 0; ++attempt) {
        temporary_ =
            path_beside(target_, ".partial-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
        descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (descriptor_ < 0 && errno != EEXIST)
            break;
    }
    if (descriptor_ < 0) {
        const int reason = errno;
        temporary_.clear();
        std::error_code ignored;
        if (const auto folder = folder_of(target_);
            reason == ENOENT && !std::filesystem::exists(folder, ignored))
            throw Error(Errc::open_write, failed + ": there is no folder '" + folder.string() + "'");
        errno = reason;
        throw system_error(Errc::open_write, failed);
    }
}

AtomicFile::~AtomicFile() {
    discard();
}

void AtomicFile::write(std::span<const std::byte> bytes, const std::string& failed) {
    while (!bytes.empty()) {
        const ::ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written == 0)
            errno = ENOSPC;
        if (written <= 0)
            throw system_error(Errc::write, failed);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void AtomicFile::commit(const std::string& failed) {
    rename_to(target_, failed);
}

std::filesystem::path AtomicFile::keep_partial(const std::string& failed) {
    std::filesystem::path path = path_beside(target_, ".partial");
    check_kind(path, failed);
    rename_to(path, failed);
    return path;
}

void AtomicFile::rename_to(const std::filesystem::path& path, const std::string& failed) {
    if (::fsync(descriptor_) != 0 || ::close(std::exchange(descriptor_, -1)) != 0 ||
        ::rename(temporary_.c_str(), path.c_str()) != 0)
        throw system_error(Errc::write, failed);
    temporary_.clear();
    // The rename reaches the disk too. The file is there already: a folder that cannot be opened is no error.
    const int directory = ::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        ::fsync(directory);
        ::close(directory);
    }
}

void AtomicFile::discard() noexcept {
    if (descriptor_ >= 0)
        ::close(std::exchange(descriptor_, -1));
    if (!temporary_.empty())
        ::unlink(temporary_.c_str());
    temporary_.clear();
}

std::vector<std::filesystem::path> abandoned_files(const std::filesystem::path& target) {
    namespace fs = std::filesystem;
    std::vector<fs::path> out;
    const fs::path file = file_at_end_of_links(target, "'" + target.string() + "' cannot be written");
    const std::string begin = file.filename().string() + ".partial-";
    std::error_code error;
    for (fs::directory_iterator it(folder_of(file), error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (!name.starts_with(begin))
            continue;
        const std::string_view rest = std::string_view(name).substr(begin.size());
        const auto process = parse_number<pid_t>(rest.substr(0, rest.find('-')));
        if (process && *process > 0 && ::kill(*process, 0) != 0 && errno == ESRCH)
            out.push_back(file.parent_path() / name);
    }
    return out;
}

} // namespace mri
