// SPDX-License-Identifier: LGPL-2.1-or-later
// Named tensors in a safetensors file: an 8-byte header length, a JSON header, raw little-endian data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// One tensor of a weights file, always held as float32 in row-major order.
struct NamedTensor {
    std::vector<std::int64_t> shape;
    std::vector<float> values;

    /// The product of the shape (1 for a scalar).
    std::size_t count() const;
    /// "[32, 1, 3, 3, 3]", for messages.
    std::string shape_text() const;
};

/// The content of a safetensors file: tensors by name, and the free-form metadata map of strings.
struct TensorFile {
    std::map<std::string, NamedTensor> tensors;
    std::map<std::string, std::string> metadata;
};

/// Parses a whole safetensors file held in memory. `name` is used in messages only.
///
/// Reads F32, and F16, BF16 and F64 converted to float32 (what is too large becomes infinite:
/// check_finite()); integers and booleans, which no network here computes with, are left out. Nothing in the
/// header is trusted: lengths, offsets and shapes are checked against the bytes that are there before
/// anything is allocated. Throws Errc::decode for a damaged file and Errc::unsupported for other element
/// types.
TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& name);

/// A whole weights file in memory, at most 8 GiB. Throws Errc::not_found, Errc::open_read, Errc::read and
/// Errc::no_memory.
std::vector<std::byte> read_weights_bytes(const std::string& path);

/// Reads `path`. Throws Errc::not_found, Errc::open_read, Errc::read and what parse_safetensors() throws.
TensorFile read_safetensors(const std::string& path);

/// The bytes of a safetensors file with all tensors as F32, data aligned to 8 bytes.
std::vector<std::byte> format_safetensors(const TensorFile& file);

/// Writes `path` atomically: a temporary file beside it, flushed to the disk, then renamed. A reader sees the
/// old file or the new one, never a part. Throws Errc::open_write or Errc::write.
void write_weights_bytes(const std::string& path, std::span<const std::byte> bytes);
/// The same for a safetensors file.
void write_safetensors(const std::string& path, const TensorFile& file);

} // namespace mri
