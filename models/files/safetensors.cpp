// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/safetensors.hpp"

#include "models/files/float_types.hpp"
#include "models/files/json_reader.hpp"
#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <limits>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace mri {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace {

constexpr std::size_t length_bytes = 8;
constexpr std::size_t max_header_bytes = 16U << 20;
constexpr std::size_t max_file_bytes = std::size_t{8} << 30;
constexpr std::size_t max_rank = 16;

std::string errno_text() {
    return std::generic_category().message(errno);
}

/// A file descriptor that closes itself.
class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }
    int release() {
        const int fd = fd_;
        fd_ = -1;
        return fd;
    }

  private:
    int fd_;
};

struct Entry {
    std::string name;
    std::string type;
    std::vector<std::uint64_t> shape;
    std::vector<std::uint64_t> offsets;
};

Entry parse_entry(JsonReader& parser, const std::string& name) {
    Entry entry{name, {}, {}, {}};
    bool have_type = false;
    bool have_shape = false;
    bool have_offsets = false;
    const auto once = [&](bool& have, const std::string& key) {
        if (have)
            parser.fail("tensor '" + name + "' has '" + key + "' twice");
        have = true;
    };
    parser.object([&](const std::string& key) {
        if (key == "dtype") {
            once(have_type, key);
            entry.type = parser.string();
        } else if (key == "shape") {
            once(have_shape, key);
            entry.shape = parser.integers(max_rank);
        } else if (key == "data_offsets") {
            once(have_offsets, key);
            entry.offsets = parser.integers(2);
        } else {
            parser.fail("tensor '" + name + "' has an unknown member '" + key + "'");
        }
    });
    if (!have_type || !have_shape || entry.offsets.size() != 2)
        parser.fail("tensor '" + name + "' lacks its type, shape or offsets");
    return entry;
}

/// A tensor's element type; size 0 for one that is not known. Counters (of batch normalisations) and masks
/// have a size and no value.
FloatType type_of(const std::string& type) {
    static const std::map<std::string, FloatType> types = {
        {"F32", float32_type}, {"F64", float64_type}, {"F16", float16_type}, {"BF16", bfloat16_type},
        {"I64", {8}},          {"U64", {8}},          {"I32", {4}},          {"U32", {4}},
        {"I16", {2}},          {"U16", {2}},          {"I8", {1}},           {"U8", {1}},
        {"BOOL", {1}}};
    const auto it = types.find(type);
    return it == types.end() ? FloatType{} : it->second;
}

NamedTensor load_tensor(const Entry& entry, std::span<const std::byte> bytes, const FloatType& type) {
    NamedTensor tensor;
    for (const std::uint64_t extent : entry.shape)
        tensor.shape.push_back(static_cast<std::int64_t>(extent));
    tensor.values.resize(bytes.size() / type.size);
    const std::byte* at = bytes.data();
    for (float& value : tensor.values) {
        value = type.read(at);
        at += type.size;
    }
    return tensor;
}

/// JSON needs quotes, backslashes and control characters escaped; the rest is passed as UTF-8.
std::string quoted(const std::string& text) {
    static constexpr const char* digits = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto u = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (u < 0x20) {
            out += "\\u00";
            out += digits[u >> 4];
            out += digits[u & 15];
        } else {
            out += c;
        }
    }
    return out + '"';
}

} // namespace

std::size_t NamedTensor::count() const {
    std::size_t product = 1;
    for (const std::int64_t extent : shape)
        product *= static_cast<std::size_t>(extent);
    return product;
}

std::string NamedTensor::shape_text() const {
    std::string out = "[";
    for (std::size_t i = 0; i < shape.size(); ++i)
        out += (i ? ", " : "") + std::to_string(shape[i]);
    return out + "]";
}

TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& name) {
    const auto bad = [&name](const std::string& what) -> Error {
        return {Errc::decode, "'" + name + "' is not a valid safetensors file: " + what};
    };
    if (bytes.size() < length_bytes)
        throw bad("it has only " + std::to_string(bytes.size()) + " bytes");
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes.data(), length_bytes);
    if (header_bytes > max_header_bytes || header_bytes > bytes.size() - length_bytes)
        throw bad("its header would be " + std::to_string(header_bytes) + " bytes long");

    const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + length_bytes, header_bytes);
    const std::span<const std::byte> data = bytes.subspan(length_bytes + header_bytes);

    TensorFile file;
    std::vector<Entry> entries;
    JsonReader parser(header, name);
    bool have_metadata = false;
    parser.object([&](const std::string& key) {
        if (key != "__metadata__") {
            entries.push_back(parse_entry(parser, key));
            return;
        }
        if (have_metadata)
            parser.fail("'__metadata__' is there twice");
        have_metadata = true;
        parser.object([&](const std::string& item) {
            if (!file.metadata.emplace(item, parser.string()).second)
                parser.fail("metadata '" + item + "' is there twice");
        });
    });
    parser.end();

    // The format has neither holes nor overlaps: in order of their offsets the tensors cover the data
    // exactly, so all tensors together need no more memory than the file has bytes (twice that for 16-bit
    // types).
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
    std::uint64_t covered = 0;
    for (const Entry& entry : entries) {
        const std::uint64_t begin = entry.offsets[0];
        const std::uint64_t end = entry.offsets[1];
        if (begin != covered || end < begin || end > data.size())
            throw bad("the data of tensor '" + entry.name + "' lies at " + std::to_string(begin) + " to " +
                      std::to_string(end) + ", outside of its place");
        covered = end;
        const FloatType type = type_of(entry.type);
        if (type.size == 0)
            throw Error(Errc::unsupported, "tensor '" + entry.name + "' of '" + name +
                                               "' has the unsupported type " + entry.type);
        std::uint64_t need = type.size;
        for (const std::uint64_t extent : entry.shape) {
            if (extent != 0 && need > max_file_bytes / extent)
                throw bad("tensor '" + entry.name + "' has an absurd shape");
            need *= extent;
        }
        if (need != end - begin)
            throw bad("tensor '" + entry.name + "' needs " + std::to_string(need) + " bytes and has " +
                      std::to_string(end - begin));
        if (!type.read)
            continue;
        NamedTensor tensor = load_tensor(entry, data.subspan(begin, end - begin), type);
        if (!file.tensors.emplace(entry.name, std::move(tensor)).second)
            throw bad("tensor '" + entry.name + "' is there twice");
    }
    if (covered != data.size())
        throw bad(std::to_string(data.size() - covered) + " bytes belong to no tensor");
    return file;
}

std::vector<std::byte> read_weights_bytes(const std::string& path) {
    // Without waiting for someone to write into a FIFO.
    const Descriptor fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (fd.get() < 0)
        throw Error(errno == ENOENT || errno == ENOTDIR ? Errc::not_found : Errc::open_read,
                    "cannot open the weights file '" + path + "': " + errno_text());
    struct stat info = {};
    if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode))
        throw Error(Errc::open_read, "the weights file '" + path + "' is not a regular file");
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size > max_file_bytes)
        throw Error(Errc::no_memory, "the weights file '" + path + "' has " + std::to_string(size) +
                                         " bytes, more than the limit of " + std::to_string(max_file_bytes));
    std::vector<std::byte> bytes(size);
    std::size_t done = 0;
    while (done < size) {
        const ssize_t n = ::read(fd.get(), bytes.data() + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            throw Error(Errc::read, "reading the weights file '" + path + "' broke off",
                        n < 0 ? errno_text() : "the file became shorter");
        done += static_cast<std::size_t>(n);
    }
    return bytes;
}

TensorFile read_safetensors(const std::string& path) {
    return parse_safetensors(read_weights_bytes(path), path);
}

std::vector<std::byte> format_safetensors(const TensorFile& file) {
    std::string header = "{";
    if (!file.metadata.empty()) {
        header += "\"__metadata__\":{";
        bool first = true;
        for (const auto& [key, value] : file.metadata) {
            if (!first)
                header += ',';
            first = false;
            header.append(quoted(key)).append(":").append(quoted(value));
        }
        header += '}';
    }
    std::size_t offset = 0;
    for (const auto& [name, tensor] : file.tensors) {
        if (tensor.values.size() != tensor.count())
            throw Error(Errc::failed, "tensor '" + name + "' does not fill its shape " + tensor.shape_text());
        const std::size_t size =
            checked_product({tensor.values.size(), sizeof(float)}, max_file_bytes - offset, "a weights file");
        if (header.size() > 1)
            header += ',';
        header.append(quoted(name)).append(":{\"dtype\":\"F32\",\"shape\":").append(tensor.shape_text());
        header.append(",\"data_offsets\":[").append(std::to_string(offset)).append(",");
        offset += size;
        header.append(std::to_string(offset)).append("]}");
    }
    header += '}';
    header.append((8 - header.size() % 8) % 8, ' ');
    if (header.size() > max_header_bytes)
        throw Error(Errc::failed, "the header of a weights file would be too long");

    std::vector<std::byte> bytes(length_bytes + header.size() + offset);
    const std::uint64_t header_bytes = header.size();
    std::memcpy(bytes.data(), &header_bytes, length_bytes);
    std::memcpy(bytes.data() + length_bytes, header.data(), header.size());
    std::byte* out = bytes.data() + length_bytes + header.size();
    for (const auto& [name, tensor] : file.tensors) {
        if (tensor.values.empty())
            continue;
        std::memcpy(out, tensor.values.data(), tensor.values.size() * sizeof(float));
        out += tensor.values.size() * sizeof(float);
    }
    return bytes;
}

void write_safetensors(const std::string& path, const TensorFile& file) {
    write_weights_bytes(path, format_safetensors(file));
}

void write_weights_bytes(const std::string& path, std::span<const std::byte> bytes) {
    AtomicFile file(path, "'" + path + "' cannot be written");
    file.write(bytes, "writing '" + path + "' broke off");
    file.commit("cannot finish writing '" + path + "'");
}

} // namespace mri
