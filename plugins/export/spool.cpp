// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/spool.hpp"

#include "plugins/math/base/error.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace mri {

Spool::Spool(const std::string& folder, std::string failed) : failed_(std::move(failed)) {
    std::string name = folder + "/.gst-mri-XXXXXX";
    file_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (file_ < 0)
        throw Error(Errc::open_write, failed_ + ": " + std::strerror(errno));
    ::unlink(name.c_str());
}

Spool::~Spool() {
    ::close(file_);
}

std::size_t Spool::add(std::span<const float> pixels) {
    auto bytes = std::as_bytes(pixels);
    std::uint64_t at = end_;
    while (!bytes.empty()) {
        const ::ssize_t written = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<::off_t>(at));
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw Error(Errc::write, failed_ + ": " + std::strerror(errno));
        at += static_cast<std::uint64_t>(written);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    places_.push_back({end_, pixels.size()});
    end_ = at;
    return places_.size() - 1;
}

std::vector<float> Spool::read(std::size_t index) const {
    const Place& place = places_.at(index);
    std::vector<float> pixels(place.pixels);
    auto bytes = std::as_writable_bytes(std::span(pixels));
    std::uint64_t at = place.offset;
    while (!bytes.empty()) {
        const ::ssize_t got = ::pread(file_, bytes.data(), bytes.size(), static_cast<::off_t>(at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            throw Error(Errc::read, failed_ + ": " + (got < 0 ? std::strerror(errno) : "its spool is short"));
        at += static_cast<std::uint64_t>(got);
        bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return pixels;
}

} // namespace mri
