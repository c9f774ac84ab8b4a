// SPDX-License-Identifier: LGPL-2.1-or-later
// What the writers of image files get: all images of a run, and what is known of the measurement.
#pragma once

#include "plugins/export/spool.hpp"
#include "plugins/export/stacks.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mri {

/// Part of complex pixels that is written.
enum class ExportPart { magnitude, phase, real, imaginary };
const char* to_string(ExportPart part) noexcept;

/// An MRD header: its text, and mrd_header_texts() of it.
struct CollectedHeader {
    std::string xml;
    std::multimap<std::string, std::string> texts;

    /// The first text at `path`, or the one at `index` where the path has several; empty without one.
    std::string text(const std::string& path, std::size_t index = 0) const;
};

/// All that came until the end of the stream.
struct Collected {
    ExportPart part = ExportPart::magnitude;
    std::vector<CollectedHeader> headers; ///< ExportedImage::header counts here; the first one is empty
    std::vector<ExportedImage> images;
    std::unique_ptr<Spool> spool;
    /// Where the images come from, that every file carries: program and version, pipeline, networks and their weights,
    /// acceleration, and what it is not for.
    std::string provenance;
};

/// The program with its version, and what its output is not for: where there is no room for more.
std::string short_provenance();

} // namespace mri
