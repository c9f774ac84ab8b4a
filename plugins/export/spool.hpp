// SPDX-License-Identifier: LGPL-2.1-or-later
// Pixels of a whole stream, on the disk until its end: memory stays bounded however long it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// A file without a name: nothing remains of it when the process ends in whatever way.
class Spool {
  public:
    /// Makes the file in `folder`. Throws Errc::open_write with the sentence `failed` and the system's
    /// reason.
    Spool(const std::string& folder, std::string failed);
    ~Spool();
    Spool(const Spool&) = delete;
    Spool& operator=(const Spool&) = delete;

    /// Appends an image; returns its index. Throws Errc::write.
    std::size_t add(std::span<const float> pixels);
    /// Image `index`. Throws Errc::read.
    std::vector<float> read(std::size_t index) const;

  private:
    struct Place {
        std::uint64_t offset;
        std::size_t pixels;
    };
    std::string failed_;
    int file_ = -1;
    std::uint64_t end_ = 0;
    std::vector<Place> places_;
};

} // namespace mri
