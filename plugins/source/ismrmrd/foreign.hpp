// SPDX-License-Identifier: LGPL-2.1-or-later
// Raw data of scanners that are given where an ISMRMRD file belongs.
#pragma once

#include <string>

namespace mri {

/// The format of a file or folder that is no ISMRMRD file, and the program that converts it, as a part of a sentence
/// ("a Siemens raw data file (twix), which siemens_to_ismrmrd converts"); empty where it is not known. Looks at the
/// name and at the first bytes.
std::string foreign_format(const std::string& path);

} // namespace mri
