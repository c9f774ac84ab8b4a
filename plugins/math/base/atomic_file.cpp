// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/atomic_file.hpp"

#include "plugins/math/base/error.hpp"

#include <atomic>
#include <cerrno>
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

} // namespace

std::filesystem::path path_beside(const std::filesystem::path& target, const std::string& suffix) {
    constexpr std::size_t longest = 255;
    std::string name = target.filename().string();
    if (name.size() + suffix.size() > longest) {
        std::uint32_t hash = 2166136261U; // FNV-1a
        for (const char c : name)
            hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
        const std::string number = "-" + std::to_string(hash);
        name = name.substr(0, longest - suffix.size() - number.size()) + number;
    }
    return target.parent_path() / (name + suffix);
}

AtomicFile::AtomicFile(const std::filesystem::path& target, const std::string& failed) : target_(target) {
    static std::atomic<unsigned> counter{0};
    for (int attempt = 0; attempt < 100 && descriptor_ < 0; ++attempt) {
        temporary_ =
            path_beside(target_, ".partial-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
        descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (descriptor_ < 0 && errno != EEXIST)
            break;
    }
    if (descriptor_ < 0)
        throw system_error(Errc::open_write, failed);
}

AtomicFile::~AtomicFile() {
    discard();
}

void AtomicFile::write(std::span<const std::byte> bytes, const std::string& failed) {
    while (!bytes.empty()) {
        const ::ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw system_error(Errc::write, failed);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void AtomicFile::commit(const std::string& failed) {
    if (::fsync(descriptor_) != 0 || ::close(std::exchange(descriptor_, -1)) != 0 ||
        ::rename(temporary_.c_str(), target_.c_str()) != 0)
        throw system_error(Errc::write, failed);
    temporary_.clear();
    // The rename reaches the disk too. The file is there already: a folder that cannot be opened is no error.
    const auto folder = target_.parent_path();
    const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

} // namespace mri
