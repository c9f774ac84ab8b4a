// SPDX-License-Identifier: LGPL-2.1-or-later
// MRD headers without the person that was scanned. Pure C++.
#pragma once

#include <string>

namespace mri {

/// The header without what tells who was scanned, where and when: names, identifiers and dates of the patient and the
/// study, unique identifiers, the institution, station and serial number of the scanner, and user parameters whose names
/// speak of such. Sizes, limits, sequence, and the patient's position, sex, weight and height stay. The same text
/// where there is nothing of these, else in UTF-8.
///
/// Throws Errc::decode for text that is no well-formed XML, and above 4 MiB.
std::string mrd_anonymized(const std::string& xml);

} // namespace mri
