// SPDX-License-Identifier: LGPL-2.1-or-later
// Files and folders that a pipeline writes, before and after its run.
#pragma once

#include "pipelines/launcher/pipeline_file.hpp"

#include <string>
#include <vector>

namespace mri {

/// Throws Errc::settings where an output exists already (a folder: with something in it) and must not be replaced.
void check_outputs(const std::vector<OutputPath>& outputs);

/// A line for each output that is there: "images.h5, 1.2 MB", "dicom/, 40 files".
std::vector<std::string> written_outputs(const std::vector<OutputPath>& outputs);

} // namespace mri
