// SPDX-License-Identifier: LGPL-2.1-or-later
// NIfTI-1 files (nifti.nimh.nih.gov/nifti-1). niftilib inside.
#pragma once

#include "plugins/export/collected.hpp"

#include <array>
#include <string>
#include <vector>

namespace mri {

/// Whether a name ends in .nii or .nii.gz.
bool is_nifti_name(const std::string& name);

/// Name of file number `index` (from 0) of a run: scan.nii.gz, scan-2.nii.gz, ...
std::string nifti_name(const std::string& location, std::size_t index);

/// From indices (x, y, z) to mm in NIfTI's coordinates (right, front, head: RAS), three rows of four.
std::array<std::array<double, 4>, 3> nifti_affine(const ImagePlane& first, double spacing_z);

/// Writes the stack, which gridded_stacks() made, as float32 [time][z][y][x]; qform and sform are both that
/// of nifti_affine(). The file appears under `path` when it is complete; an older one is replaced. Throws
/// Errc::open_write, Errc::write, Errc::unsupported (more than 32767 along a dimension), naming the file.
void write_nifti(const std::string& path, const Stack& stack, const Collected& collected);

} // namespace mri
