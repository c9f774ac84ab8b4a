// SPDX-License-Identifier: LGPL-2.1-or-later
// The kinds of files that `mri-launch info` describes, each with a library of its own that a build may lack.
#pragma once

#include "pipelines/info/file_info.hpp"

namespace mri {

/// An HDF5 file with raw data or images of ISMRMRD.
FileInfo ismrmrd_info(const std::string& path, const std::string& group);
/// A folder with DICOM files.
FileInfo dicom_info(const std::string& folder);
/// Weights of a network.
FileInfo weights_info(const std::string& path);

} // namespace mri
