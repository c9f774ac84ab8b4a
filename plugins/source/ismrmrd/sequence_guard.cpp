// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/sequence_guard.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mri {

namespace {

constexpr std::uint64_t max_chunk_bytes = 64 << 20;
constexpr std::size_t kept_collections = 256;

std::uint64_t little_endian(const std::uint8_t* bytes, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

} // namespace

SequenceGuard::SequenceGuard(const std::string& path, hid_t file, hid_t dataset, std::size_t row_size,
                             std::vector<Member> members)
    : dataset_(dataset), row_size_(row_size), members_(std::move(members)) {
    const Hdf5Lock lock;
    const Hdf5Id list(H5Dget_create_plist(dataset));
    const H5D_layout_t layout = H5Pget_layout(list.get());
    hsize_t rows = 1;
    if (layout == H5D_CONTIGUOUS) {
        const haddr_t address = H5Dget_offset(dataset);
        if (address == HADDR_UNDEF) // nothing was written
            return;
        contiguous_ = address;
    } else if (layout != H5D_CHUNKED || H5Pget_nfilters(list.get()) != 0 ||
               H5Pget_chunk(list.get(), 1, &rows) != 1 || rows == 0 || rows > max_chunk_bytes / row_size_) {
        return;
    }
    const Hdf5Id creation(H5Fget_create_plist(file));
    hsize_t user_block = 0;
    if (H5Pget_userblock(creation.get(), &user_block) < 0 ||
        H5Pget_sizes(creation.get(), &address_size_, &length_size_) < 0)
        return;
    // HDF5 tells sizes and offsets as they are in memory, where a sequence is an hvl_t: the same as in a file
    // with addresses of 8 bytes on a machine with pointers of 8 bytes, and only there.
    if (address_size_ != 8 || length_size_ > 8 || sizeof(hvl_t) != reference_size)
        return;
    for (const Member& member : members_)
        if (member.offset + reference_size > row_size_)
            return;
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0)
        return;
    base_ = user_block;
    if (contiguous_)
        *contiguous_ -=
            std::min<std::uint64_t>(base_, *contiguous_); // H5Dget_offset() counts from the file's start
    file_size_ = static_cast<std::uint64_t>(status.st_size);
    chunk_rows_ = rows;
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
    std::swap(loaded_, other.loaded_);
    collections_.swap(other.collections_);
}

std::optional<std::uint64_t> SequenceGuard::first_bad(std::uint64_t first, std::uint64_t count) {
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
        chunk_.resize(row_size_);
        if (*contiguous_ > file_size_ || index > (file_size_ - *contiguous_) / row_size_ ||
            !read_at(*contiguous_ + index * row_size_, chunk_.data(), row_size_))
            return false;
        loaded_ = index;
        return true;
    }
    const hsize_t offset = index * chunk_rows_;
    const std::uint64_t bytes = chunk_rows_ * row_size_;
    hsize_t stored = 0;
    const herr_t status = H5Dget_chunk_storage_size(dataset_, &offset, &stored);
    if (status < 0 || (stored != 0 && stored != bytes))
        return false;
    chunk_.assign(bytes, 0);
    std::uint32_t filters = 0;
    if (stored != 0 &&
        (H5Dread_chunk(dataset_, H5P_DEFAULT, &offset, &filters, chunk_.data()) < 0 || filters != 0))
        return false;
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
    return object != found->second.end() && object->second == count * element;
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
    for (std::uint64_t at = (head_size + 7) / 8 * 8; size - at >= head_size;) {
        std::uint8_t object[16];
        if (!read_at(address + at, object, head_size))
            return {};
        const auto index = static_cast<std::uint32_t>(little_endian(object, 2));
        const std::uint64_t bytes = little_endian(object + 8, length_size_);
        if (index == 0) {
            // Free space counts its own head.
            if (bytes < head_size || bytes > size - at)
                return {};
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
