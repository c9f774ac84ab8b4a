// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes images into an ISMRMRD file, which appears under its name only when it is complete.
#pragma once

#include "plugins/math/base/error.hpp"

#include <ismrmrd/ismrmrd.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace mri {

/// An ISMRMRD file of images: /group/xml and, for every series, /group/image_<series>/{data, header,
/// attributes}, with data as [image][channel][z][y][x]; what ismrmrd.Dataset.read_image() of python and
/// ISMRMRD::Dataset::readImage() read.
///
/// All is written to a file beside the target, which finish() puts on the disk and renames. Destroyed before
/// that, the writer leaves nothing behind. Errors name the file: Errc::open_write, Errc::write,
/// Errc::settings.
class IsmrmrdWriter {
  public:
    struct Options {
        std::string path;
        std::string group = "dataset";
        /// Adds to a copy of the file when it exists. Otherwise an existing file is replaced, but never one
        /// whose group holds readouts: those may be the only ones there are.
        bool append = false;
    };

    explicit IsmrmrdWriter(Options options);
    ~IsmrmrdWriter();
    IsmrmrdWriter(const IsmrmrdWriter&) = delete;
    IsmrmrdWriter& operator=(const IsmrmrdWriter&) = delete;

    /// Writes the ISMRMRD header; a later one replaces it. A file that is appended to keeps the one it has.
    void set_xml(const std::string& xml);

    /// Adds an image to series `head.image_series_index`. data_type (float or complex float), matrix_size and
    /// channels of `head` say what `data` holds, [channel][z][y][x]; they must be the same for all images of
    /// a series. attribute_string_len is filled in.
    void add(ISMRMRD::ISMRMRD_ImageHeader head, std::span<const std::byte> data,
             const std::string& attributes);

    std::size_t images() const;

    /// Completes the file and gives it its name. Nothing can be added afterwards.
    void finish();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace mri
