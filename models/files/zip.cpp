// SPDX-License-Identifier: LGPL-2.1-or-later
// Records and fields are those of PKWARE's APPNOTE.TXT, version 6.3.
#include "models/files/zip.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace mri {

namespace {

constexpr std::uint32_t local_header = 0x04034B50;
constexpr std::uint32_t central_header = 0x02014B50;
constexpr std::uint32_t end_record = 0x06054B50;
constexpr std::uint32_t end_record_64 = 0x06064B50;
constexpr std::uint32_t end_locator_64 = 0x07064B50;
constexpr std::size_t end_size = 22, locator_size = 20, local_size = 30, central_size = 46;
constexpr std::uint32_t in_zip64 = 0xFFFFFFFF; // the field's value stands in the zip64 record
constexpr std::size_t max_entries = 1U << 20;

/// Little-endian numbers at places that are checked.
class Reader {
  public:
    Reader(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

    [[noreturn]] void fail(const std::string& what) const {
        throw Error(Errc::decode, "'" + name_ + "' is a damaged zip archive: " + what);
    }
    std::uint64_t at(std::uint64_t offset, std::size_t count) const {
        std::uint64_t value = 0;
        std::size_t i = 0;
        for (const std::byte b : part(offset, count))
            value |= static_cast<std::uint64_t>(b) << (8 * i++);
        return value;
    }
    std::span<const std::byte> part(std::uint64_t offset, std::uint64_t count) const {
        if (offset > bytes_.size() || count > bytes_.size() - offset)
            fail("it breaks off");
        return bytes_.subspan(offset, count);
    }
    std::string text(std::uint64_t offset, std::uint64_t count) const {
        const auto from = part(offset, count);
        return {reinterpret_cast<const char*>(from.data()), from.size()};
    }

  private:
    std::span<const std::byte> bytes_;
    const std::string& name_;
};

std::uint32_t crc32(std::span<const std::byte> bytes) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> out{};
        for (std::uint32_t n = 0; n < 256; ++n) {
            std::uint32_t c = n;
            for (int k = 0; k < 8; ++k)
                c = (c & 1) != 0 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
            out[n] = c;
        }
        return out;
    }();
    std::uint32_t crc = 0xFFFFFFFFU;
    for (const std::byte b : bytes)
        crc = table[(crc ^ static_cast<std::uint32_t>(b)) & 0xFFU] ^ (crc >> 8);
    return ~crc;
}

class Writer {
  public:
    void put(std::uint64_t value, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            out.push_back(static_cast<std::byte>(value >> (8 * i)));
    }
    void put(const std::string& text) {
        for (const char c : text)
            out.push_back(static_cast<std::byte>(c));
    }
    std::vector<std::byte> out;
};

} // namespace

bool is_zip(std::span<const std::byte> bytes) {
    constexpr unsigned char begin[] = {'P', 'K', 3, 4};
    return bytes.size() >= sizeof(begin) && std::memcmp(bytes.data(), begin, sizeof(begin)) == 0;
}

std::map<std::string, ZipEntry> read_zip(std::span<const std::byte> bytes, const std::string& name) {
    const Reader in(bytes, name);
    if (bytes.size() < end_size)
        in.fail("it breaks off");
    // The end record is the last thing but for a comment of up to 65535 bytes.
    std::size_t end = bytes.size() - end_size;
    const std::size_t lowest = end > 65535 ? end - 65535 : 0;
    while (in.at(end, 4) != end_record)
        if (end-- == lowest)
            in.fail("it has no directory");
    std::uint64_t count = in.at(end + 10, 2);
    std::uint64_t directory = in.at(end + 16, 4);
    if (end >= locator_size && in.at(end - locator_size, 4) == end_locator_64) {
        const std::uint64_t record = in.at(end - locator_size + 8, 8);
        if (in.at(record, 4) != end_record_64)
            in.fail("its directory is not where it should be");
        count = in.at(record + 32, 8);
        directory = in.at(record + 48, 8);
    }
    if (count > max_entries)
        in.fail("it would have " + std::to_string(count) + " entries");

    std::map<std::string, ZipEntry> out;
    std::uint64_t place = directory;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (in.at(place, 4) != central_header)
            in.fail("its directory is not what it should be");
        const std::uint64_t flags = in.at(place + 8, 2);
        const std::uint64_t method = in.at(place + 10, 2);
        std::uint64_t packed = in.at(place + 20, 4);
        std::uint64_t size = in.at(place + 24, 4);
        std::uint64_t header = in.at(place + 42, 4);
        const std::uint64_t name_size = in.at(place + 28, 2);
        const std::uint64_t extra_size = in.at(place + 30, 2);
        const std::string entry = in.text(place + central_size, name_size);
        std::uint64_t extra = place + central_size + name_size;
        const std::uint64_t extra_end = extra + extra_size;
        while (extra + 4 <= extra_end) {
            const std::uint64_t id = in.at(extra, 2);
            const std::uint64_t field_end = extra + 4 + in.at(extra + 2, 2);
            std::uint64_t field = extra + 4;
            if (id == 1) // zip64: those of the three that did not fit, in this order
                for (std::uint64_t* value : {&size, &packed, &header})
                    if (*value == in_zip64 && field + 8 <= field_end) {
                        *value = in.at(field, 8);
                        field += 8;
                    }
            extra = field_end;
        }
        if (in.at(header, 4) != local_header)
            in.fail("entry '" + entry + "' is not where it should be");
        out[entry] = {in.part(header + local_size + in.at(header + 26, 2) + in.at(header + 28, 2), packed),
                      method != 0 || (flags & 1U) != 0 || packed != size};
        place = extra_end + in.at(place + 32, 2);
    }
    return out;
}

std::vector<std::byte>
format_zip(const std::vector<std::pair<std::string, std::vector<std::byte>>>& entries) {
    constexpr std::size_t unit = 64;
    constexpr std::uint64_t date =
        (0U << 9) | (1U << 5) | 1U; // 1980-01-01: files of the same content are the same
    Writer w;
    Writer directory;
    for (const auto& [name, data] : entries) {
        const std::size_t offset = w.out.size();
        // An extra field of zeros pads up to the alignment; it takes at least its own four bytes.
        const std::size_t before = offset + local_size + name.size() + 4;
        const std::size_t pad = (unit - before % unit) % unit;
        if (before + pad + data.size() >= in_zip64 - (1U << 24))
            throw Error(Errc::unsupported, "archives of 4 GiB and more cannot be written");
        const auto common = [&, crc = crc32(data)](Writer& to) {
            to.put(0, 2); // flags
            to.put(0, 2); // stored
            to.put(0, 2); // time
            to.put(date, 2);
            to.put(crc, 4);
            to.put(data.size(), 4);
            to.put(data.size(), 4);
            to.put(name.size(), 2);
        };
        w.put(local_header, 4);
        w.put(20, 2); // version needed
        common(w);
        w.put(4 + pad, 2);
        w.put(name);
        w.put(0x4246, 2); // "FB", the field that PyTorch pads with
        w.put(pad, 2);
        w.out.resize(w.out.size() + pad);
        w.out.insert(w.out.end(), data.begin(), data.end());

        directory.put(central_header, 4);
        directory.put(20, 2);
        directory.put(20, 2);
        common(directory);
        directory.put(0, 2); // extra
        directory.put(0, 2); // comment
        directory.put(0, 2); // disk
        directory.put(0, 2);
        directory.put(0, 4);
        directory.put(offset, 4);
        directory.put(name);
    }
    const std::size_t begin = w.out.size();
    w.out.insert(w.out.end(), directory.out.begin(), directory.out.end());
    w.put(end_record, 4);
    w.put(0, 4); // disks
    w.put(entries.size(), 2);
    w.put(entries.size(), 2);
    w.put(directory.out.size(), 4);
    w.put(begin, 4);
    w.put(0, 2);
    return std::move(w.out);
}

} // namespace mri
