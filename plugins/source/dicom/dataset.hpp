// SPDX-License-Identifier: LGPL-2.1-or-later
// Files and values of DCMTK: opened with care, read as numbers and text.
#pragma once

#include "plugins/source/dicom/series.hpp"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>

#include <memory>
#include <optional>
#include <string>

namespace mri {

/// Thrown inside the reader only: something cannot be used, and why.
struct DicomUnusable {
    DicomSkip kind;
    std::string reason;
};

/// A matrix beyond this many rows or columns is no cine, whatever the header says.
inline constexpr int max_dicom_matrix = 4096;
/// Pixels of a whole series in memory: 1 GiB of float.
inline constexpr std::size_t max_dicom_pixels = std::size_t{1} << 28;

/// Opens a file with or without preamble and meta header; long values stay on disk until they are asked for.
/// Throws DicomUnusable: other_file when it does not look like DICOM, unreadable when it is broken.
std::unique_ptr<DcmFileFormat> open_dicom(const std::string& path);

/// All values of an attribute, between backslashes, without blanks around them; empty when there is none.
std::string dicom_text(DcmItem& item, const DcmTagKey& tag);

/// The n-th value of an attribute as a finite number.
std::optional<double> dicom_number(DcmItem& item, const DcmTagKey& tag, unsigned long n = 0);

} // namespace mri
