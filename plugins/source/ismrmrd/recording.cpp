// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/recording.hpp"

#include "plugins/math/base/atomic_file.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sstream>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

namespace mri {

namespace fs = std::filesystem;

namespace {

/// Messages of the MRD protocol: a number of 16 bits, and what it implies.
enum Message : std::uint16_t { config = 2, header = 3, acquisition = 1008, image = 1022 };

constexpr const char* title = "gst-mri recording 1";

using Bytes = std::span<const std::byte>;

template <class T>
Bytes bytes_of(const T& value) {
    return std::as_bytes(std::span<const T, 1>(&value, 1));
}

Bytes bytes_of_text(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// Bytes of a pixel of ISMRMRD's data types 1 to 8; 0 for others.
std::size_t pixel_size(std::uint16_t data_type) {
    constexpr std::array<std::size_t, 9> sizes{0, 2, 2, 4, 4, 4, 8, 8, 16};
    return data_type < sizes.size() ? sizes[data_type] : 0;
}

} // namespace

fs::path recording_path(const fs::path& target) {
    return path_beside(target, ".recording");
}

Recording::Recording(const fs::path& path, const RecordingFacts& facts) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (descriptor_ < 0)
        throw Error(Errc::open_write,
                    fmt::format("'{}' cannot be created: {}", path.string(), std::strerror(errno)));
    // A file system without locks has no second writer either, as far as can be known.
    ::flock(descriptor_, LOCK_EX | LOCK_NB);
    const std::string text = fmt::format("{}\ngroup: {}\ntrajectory-unit: {}\npartial: {}\n", title,
                                         facts.group, facts.trajectory_unit, facts.partial);
    const auto size = static_cast<std::uint32_t>(text.size());
    try {
        append(std::array{bytes_of(Message::config), bytes_of(size), bytes_of_text(text)});
    } catch (...) {
        ::close(descriptor_);
        ::unlink(path_.c_str());
        throw;
    }
}

Recording::~Recording() {
    if (!keep_)
        ::unlink(path_.c_str());
    ::close(descriptor_);
}

void Recording::append(std::span<const Bytes> parts) {
    block_.clear();
    for (const Bytes part : parts)
        block_.insert(block_.end(), part.begin(), part.end());
    for (Bytes left = block_; !left.empty();) {
        const ::ssize_t written = ::write(descriptor_, left.data(), left.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw Error(Errc::write,
                        fmt::format("'{}' cannot be written: {}", path_.string(), std::strerror(errno)));
        left = left.subspan(static_cast<std::size_t>(written));
    }
}

void Recording::header(const std::string& xml) {
    const auto size = static_cast<std::uint32_t>(xml.size());
    append(std::array{bytes_of(Message::header), bytes_of(size), bytes_of_text(xml)});
}

void Recording::readout(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, std::span<const float> trajectory,
                        std::span<const std::complex<float>> data) {
    append(std::array{bytes_of(Message::acquisition), bytes_of(head), std::as_bytes(trajectory),
                      std::as_bytes(data)});
}

void Recording::image(const ISMRMRD::ISMRMRD_ImageHeader& head, const std::string& attributes, Bytes pixels) {
    const std::uint64_t size = attributes.size();
    append(std::array{bytes_of(Message::image), bytes_of(head), bytes_of(size), bytes_of_text(attributes),
                      pixels});
}

RecordingReader::RecordingReader(const fs::path& path, const std::string& target)
    : file_(std::fopen(path.c_str(), "rbe"), &std::fclose) {
    const std::string name = "'" + path.string() + "'";
    if (!file_)
        throw Error(Errc::open_read, fmt::format("{} cannot be read: {}", name, std::strerror(errno)));
    if (::flock(::fileno(file_.get()), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        throw Error(Errc::open_write, target + " is being written by another sink");
    std::error_code ignored;
    size_ = fs::file_size(path, ignored);
    if (ignored)
        size_ = 0;

    std::uint16_t id = 0;
    std::uint32_t length = 0;
    std::string text, line;
    const bool whole = read(&id, sizeof id) && id == Message::config && read(&length, sizeof length) &&
                       read_text(text, length);
    // Cut off before its first block: nothing is in it.
    if (!whole && at_ == size_ && (size_ < sizeof id || id == Message::config))
        return;
    std::istringstream lines(text);
    if (!whole || !std::getline(lines, line) || line != title)
        throw Error(Errc::decode, name + " is no recording of ismrmrdsink");
    while (std::getline(lines, line))
        for (const auto& [field, to] : {std::pair{"group: ", &facts_.group},
                                        {"trajectory-unit: ", &facts_.trajectory_unit},
                                        {"partial: ", &facts_.partial}})
            if (line.starts_with(field))
                *to = line.substr(std::strlen(field));
    position_ = at_;
}

RecordingReader::~RecordingReader() = default;

/// Where the file ends before, the position becomes its end.
bool RecordingReader::read(void* to, std::size_t bytes) {
    if (bytes > size_ - at_ || std::fread(to, 1, bytes, file_.get()) != bytes) {
        at_ = size_;
        return false;
    }
    at_ += bytes;
    return true;
}

template <class T>
bool RecordingReader::read_values(std::vector<T>& to, std::uint64_t count) {
    if (count > (size_ - at_) / sizeof(T)) {
        at_ = size_;
        return false;
    }
    to.resize(static_cast<std::size_t>(count));
    return read(to.data(), to.size() * sizeof(T));
}

bool RecordingReader::read_text(std::string& to, std::uint64_t bytes) {
    std::vector<char> text;
    if (!read_values(text, bytes))
        return false;
    to.assign(text.begin(), text.end());
    return true;
}

std::optional<RecordedBlock> RecordingReader::next() {
    std::uint16_t id = 0;
    if (!read(&id, sizeof id))
        return std::nullopt;
    std::optional<RecordedBlock> block;
    if (id == Message::header) {
        std::uint32_t length = 0;
        RecordedHeader h;
        if (read(&length, sizeof length) && read_text(h.xml, length))
            block = std::move(h);
    } else if (id == Message::acquisition) {
        RecordedReadout r;
        // All of these are 16 bits wide: no product of two overflows 64.
        if (read(&r.head, sizeof r.head) &&
            read_values(r.trajectory,
                        std::uint64_t{r.head.number_of_samples} * r.head.trajectory_dimensions) &&
            read_values(r.data, std::uint64_t{r.head.number_of_samples} * r.head.active_channels))
            block = std::move(r);
    } else if (id == Message::image) {
        RecordedImage i;
        std::uint64_t length = 0;
        if (read(&i.head, sizeof i.head) && read(&length, sizeof length) && read_text(i.attributes, length)) {
            // Sizes that multiply to more than 64 bits are above the file's, side by side.
            std::uint64_t bytes = pixel_size(i.head.data_type);
            for (const std::uint64_t side :
                 {i.head.channels, i.head.matrix_size[0], i.head.matrix_size[1], i.head.matrix_size[2]})
                bytes = side != 0 && bytes > size_ / side ? size_ + 1 : bytes * side;
            if (bytes > 0 && read_values(i.pixels, bytes))
                block = std::move(i);
        }
    } else {
        at_ = size_; // a number that nobody writes: what follows cannot be told apart
    }
    if (block)
        position_ = at_;
    return block;
}

} // namespace mri
