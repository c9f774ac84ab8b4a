// SPDX-License-Identifier: LGPL-2.1-or-later
// Checks where a file says that its sequences of variable length lie, before HDF5 goes there.
#pragma once

#include "plugins/source/ismrmrd/hdf5.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mri {

/// A sequence of variable length is stored as its count and a reference into a global heap collection (HDF5
/// File Format Specification 3.0, III.E and VIII). HDF5 1.10 follows these without a check: it copies as many
/// bytes as the heap's object has into room for as many as the row's count says, and walks a collection whose
/// object has no size for ever. A damaged or hostile file must not do that to a scanner's reconstruction, so
/// the references are followed here first.
///
/// May go when both are mended in the oldest HDF5 that is built against: the copy is since 1.14.4
/// (CVE-2024-29157), the endless walk (an object 0 of size 0, in H5HG__cache_heap_deserialize()) was not yet then.
///
/// Datasets are contiguous or in chunks without filters, as all ISMRMRD writers make them; what lies otherwise (compact,
/// filtered, virtual, in other files, with a fill value of its own) cannot be checked and is refused. Calls are made
/// under Hdf5Lock.
class SequenceGuard {
  public:
    /// One member of the rows: its offset in a row and the bytes of an element.
    struct Member {
        std::size_t offset;
        std::size_t element;
    };
    /// Bytes of a sequence in a row of the file: its count, the address of a collection and the index of an
    /// object there.
    static constexpr std::size_t reference_size = 4 + 8 + 4;
    SequenceGuard() = default;
    /// `dataset` of file `path`, whose rows of `row_size` bytes hold the sequences `members`. Throws
    /// Errc::unsupported, with a sentence that begins with `name`, for a dataset that cannot be checked.
    SequenceGuard(const std::string& path, hid_t file, hid_t dataset, std::size_t row_size,
                  std::vector<Member> members, const std::string& name);
    ~SequenceGuard();
    SequenceGuard(SequenceGuard&& other) noexcept { swap(other); }
    SequenceGuard& operator=(SequenceGuard&& other) noexcept {
        swap(other);
        return *this;
    }

    /// The first of `count` rows from `first` with a sequence that is not where, or not as long as, the row
    /// says.
    std::optional<std::uint64_t> first_bad(std::uint64_t first, std::uint64_t count);
    /// Bytes of the sequences that the last call of first_bad() looked at.
    std::uint64_t bytes() const { return bytes_; }

  private:
    /// Memory of one chunk as HDF5 reads it: as many bytes as the chunk's entry in the file's index says, which
    /// no call tells in time that does not grow with the number of chunks. Behind the chunk lies as much address
    /// space as an entry can claim, without memory: reading into it is an error of the system's call.
    class Room {
      public:
        Room() = default;
        Room(std::uint64_t size, std::uint64_t claimed);
        ~Room();
        Room(Room&& other) noexcept { swap(other); }
        Room& operator=(Room&& other) noexcept {
            swap(other);
            return *this;
        }
        void swap(Room& other) noexcept {
            std::swap(memory_, other.memory_);
            std::swap(size_, other.size_);
        }
        std::uint8_t* data() const { return memory_; }

      private:
        std::uint8_t* memory_ = nullptr;
        std::uint64_t size_ = 0;
    };

    /// Bytes of each object of a collection by its index; no entry for what cannot be walked.
    using Collection = std::unordered_map<std::uint32_t, std::uint64_t>;

    void swap(SequenceGuard& other) noexcept;
    bool load_chunk(std::uint64_t index);
    bool good(const std::uint8_t* reference, std::size_t element);
    Collection walk(std::uint64_t address) const;
    bool read_at(std::uint64_t offset, void* to, std::size_t size) const;

    int descriptor_ = -1;
    hid_t dataset_ = H5I_INVALID_HID; // not owned
    std::uint64_t base_ = 0;          // of the file's addresses
    std::uint64_t file_size_ = 0;
    std::size_t address_size_ = 8, length_size_ = 8;
    std::size_t row_size_ = 0;
    std::vector<Member> members_;
    std::uint64_t chunk_rows_ = 0;            // 0: nothing was written
    std::optional<std::uint64_t> contiguous_; // where its rows begin when it is not chunked
    Room chunk_;
    std::uint64_t bytes_ = 0;
    std::optional<std::uint64_t> loaded_; // chunk that is in chunk_
    std::unordered_map<std::uint64_t, Collection> collections_;
};

} // namespace mri
