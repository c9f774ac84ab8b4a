// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/sequence_guard.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mri {

namespace {

constexpr std::uint64_t max_chunk_bytes = 64 << 20;
constexpr std::size_t kept_collections = 256;
constexpr std::size_t mark_size = 8;

std::uint64_t little_endian(const std::uint8_t* bytes, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/// Why a dataset's rows cannot be looked at, as the end of a sentence; empty where they can.
std::string hidden(const Hdf5Id& list, H5D_layout_t layout, std::size_t row_size, hsize_t* rows) {
    H5D_fill_value_t fill = H5D_FILL_VALUE_ERROR;
    if (H5Pfill_value_defined(list.get(), &fill) < 0 || fill == H5D_FILL_VALUE_USER_DEFINED)
        return "has a fill value of its own, which is not read";
    if (const int filters = H5Pget_nfilters(list.get()); filters != 0)
        return "is stored through filters (compression and the like), which are not read: 'h5repack -f NONE' "
               "takes them out";
    if (layout == H5D_COMPACT)
        return "is stored inside of its own header (compact), which is not read: 'h5repack -l CONTI' takes "
               "it out";
    if (layout == H5D_CONTIGUOUS)
        return H5Pget_external_count(list.get()) == 0 ? "" : "lies in another file, which is not read";
    if (layout != H5D_CHUNKED)
        return "is a view of other datasets (virtual), which is not read";
    if (H5Pget_chunk(list.get(), 1, rows) != 1 || *rows == 0)
        return "is stored in chunks of more than one dimension, which are not read";
    if (*rows > max_chunk_bytes / row_size)
        return "is stored in chunks of more than 64 MiB, which are not read: 'h5repack -l CHUNK=1' makes "
               "smaller ones";
    return "";
}

} // namespace

SequenceGuard::Room::Room(std::uint64_t size, std::uint64_t claimed) : size_(size + claimed) {
    void* memory = ::mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        throw std::bad_alloc();
    memory_ = static_cast<std::uint8_t*>(memory);
    if (::mprotect(memory, size, PROT_READ | PROT_WRITE) != 0) {
        ::munmap(memory, size_);
        throw std::bad_alloc();
    }
}

SequenceGuard::Room::~Room() {
    if (memory_)
        ::munmap(memory_, size_);
}

SequenceGuard::SequenceGuard(const std::string& path, hid_t file, hid_t dataset, std::size_t row_size,
                             std::vector<Member> members, const std::string& name)
    : dataset_(dataset), row_size_(row_size), members_(std::move(members)) {
    const auto refuse = [&](const std::string& why) { throw Error(Errc::unsupported, name + " " + why); };
    const Hdf5Lock lock;
    const Hdf5Id list(H5Dget_create_plist(dataset));
    const H5D_layout_t layout = H5Pget_layout(list.get());
    hsize_t rows = 1;
    if (const std::string why = hidden(list, layout, row_size, &rows); !why.empty())
        refuse(why);
    const Hdf5Id creation(H5Fget_create_plist(file));
    hsize_t user_block = 0;
    // HDF5 tells sizes and offsets as they are in memory, where a sequence is an hvl_t: the same as in a file
    // with addresses of 8 bytes on a machine with pointers of 8 bytes, and only there.
    static_assert(sizeof(hvl_t) == reference_size);
    if (H5Pget_userblock(creation.get(), &user_block) < 0 ||
        H5Pget_sizes(creation.get(), &address_size_, &length_size_) < 0 || address_size_ != 8 ||
        length_size_ > 8)
        refuse("is in a file whose addresses have not 8 bytes");
    for (const Member& member : members_)
        if (member.offset > row_size_ || row_size_ - member.offset < reference_size)
            refuse("has rows that are shorter than their members");
    if (layout == H5D_CONTIGUOUS) {
        const haddr_t address = H5Dget_offset(dataset);
        if (address == HADDR_UNDEF) // nothing was written
            return;
        contiguous_ = address;
    }
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0)
        throw Error(Errc::open_read, name + " cannot be looked at: the file cannot be opened a second time");
    base_ = user_block;
    if (contiguous_)
        *contiguous_ -=
            std::min<std::uint64_t>(base_, *contiguous_); // H5Dget_offset() counts from the file's start
    file_size_ = static_cast<std::uint64_t>(status.st_size);
    chunk_rows_ = rows;
    // The index has 32 bits for the size of a chunk, and HDF5 reads nothing from behind the end of the file.
    chunk_ = Room(chunk_rows_ * row_size_ + mark_size,
                  contiguous_ ? 0 : std::min<std::uint64_t>(file_size_, std::uint64_t{1} << 32));
}

SequenceGuard::~SequenceGuard() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

void SequenceGuard::swap(SequenceGuard& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(dataset_, other.dataset_);
    std::swap(base_, other.base_);
    std::swap(file_size_, other.file_size_);
    std::swap(address_size_, other.address_size_);
    std::swap(length_size_, other.length_size_);
    std::swap(row_size_, other.row_size_);
    members_.swap(other.members_);
    std::swap(chunk_rows_, other.chunk_rows_);
    std::swap(contiguous_, other.contiguous_);
    chunk_.swap(other.chunk_);
    std::swap(bytes_, other.bytes_);
    std::swap(loaded_, other.loaded_);
    collections_.swap(other.collections_);
}

std::optional<std::uint64_t> SequenceGuard::first_bad(std::uint64_t first, std::uint64_t count) {
    bytes_ = 0;
    if (chunk_rows_ == 0)
        return std::nullopt;
    for (std::uint64_t row = first; row < first + count; ++row) {
        if (!load_chunk(row / chunk_rows_))
            return row;
        for (const Member& member : members_)
            if (!good(chunk_.data() + (row % chunk_rows_) * row_size_ + member.offset, member.element))
                return row;
    }
    return std::nullopt;
}

/// Reads a chunk as it lies in the file. One that was never written counts as zeros, that is as rows of empty
/// sequences.
bool SequenceGuard::load_chunk(std::uint64_t index) {
    if (loaded_ == index)
        return true;
    loaded_.reset();
    if (contiguous_) {
        if (*contiguous_ > file_size_ || index > (file_size_ - *contiguous_) / row_size_ ||
            !read_at(*contiguous_ + index * row_size_, chunk_.data(), row_size_))
            return false;
        loaded_ = index;
        return true;
    }
    const hsize_t offset = index * chunk_rows_;
    const std::uint64_t bytes = chunk_rows_ * row_size_;
    hsize_t stored = 0;
    if (H5Dget_chunk_storage_size(dataset_, &offset, &stored) < 0 || (stored != 0 && stored != bytes))
        return false;
    if (stored == 0) {
        std::memset(chunk_.data(), 0, bytes);
    } else {
        // HDF5 reads as many bytes as the index says, which must be the chunk's: marks in its last bytes go, and
        // those behind it stay. The last ones may be the mark, but not a second one that differs everywhere.
        const std::size_t tail = std::min<std::size_t>(mark_size, bytes);
        bool whole = false;
        for (const int mark : {0x5a, 0xa5}) {
            std::memset(chunk_.data() + bytes - tail, mark, tail + mark_size);
            std::uint32_t filters = 0;
            if (H5Dread_chunk(dataset_, H5P_DEFAULT, &offset, &filters, chunk_.data()) < 0 || filters != 0)
                return false;
            const auto is_mark = [mark](std::uint8_t byte) { return byte == mark; };
            const std::uint8_t* end = chunk_.data() + bytes;
            if (!std::all_of(end, end + mark_size, is_mark))
                return false;
            whole = end[-1] != mark;
            if (whole)
                break;
        }
        if (!whole)
            return false;
    }
    loaded_ = index;
    return true;
}

bool SequenceGuard::good(const std::uint8_t* reference, std::size_t element) {
    const std::uint64_t count = little_endian(reference, 4);
    const std::uint64_t address = little_endian(reference + 4, address_size_);
    const auto index = static_cast<std::uint32_t>(little_endian(reference + 4 + address_size_, 4));
    if (address == 0) // nothing was stored
        return true;
    auto found = collections_.find(address);
    if (found == collections_.end()) {
        // Rows that follow each other share collections: old ones do not come again.
        if (collections_.size() >= kept_collections)
            collections_.clear();
        found = collections_.emplace(address, walk(address)).first;
    }
    const auto object = found->second.find(index);
    if (object == found->second.end() || object->second != count * element)
        return false;
    bytes_ += object->second;
    return true;
}

SequenceGuard::Collection SequenceGuard::walk(std::uint64_t address) const {
    // Signature, version, three reserved bytes, size of the collection with this head; then its objects:
    // index, count of references, four reserved bytes, size, and the data, filled up to eight bytes. Index 0
    // is the free space at the end.
    std::uint8_t head[16];
    const std::size_t head_size = 8 + length_size_;
    if (address > file_size_ || !read_at(address, head, head_size) || std::memcmp(head, "GCOL", 4) != 0 ||
        head[4] != 1)
        return {};
    const std::uint64_t size = little_endian(head + 8, length_size_);
    if (size < head_size || size > file_size_ || !read_at(address + size - 1, head, 1))
        return {};
    Collection objects;
    bool free_space = false;
    for (std::uint64_t at = (head_size + 7) / 8 * 8; size - at >= head_size;) {
        std::uint8_t object[16];
        if (!read_at(address + at, object, head_size))
            return {};
        const auto index = static_cast<std::uint32_t>(little_endian(object, 2));
        const std::uint64_t bytes = little_endian(object + 8, length_size_);
        if (index == 0) {
            // Free space counts its own head, and there is one of it.
            if (bytes < head_size || bytes > size - at || free_space)
                return {};
            free_space = true;
            at += bytes;
        } else {
            const std::uint64_t left = size - at - head_size;
            if (bytes > left || (bytes + 7) / 8 * 8 > left || !objects.emplace(index, bytes).second)
                return {};
            at += head_size + (bytes + 7) / 8 * 8;
        }
    }
    return objects;
}

bool SequenceGuard::read_at(std::uint64_t offset, void* to, std::size_t size) const {
    offset += base_;
    return offset <= file_size_ && size <= file_size_ - offset &&
           ::pread(descriptor_, to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

} // namespace mri
