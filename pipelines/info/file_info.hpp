// SPDX-License-Identifier: LGPL-2.1-or-later
// Description of a file or folder before anyone works with it: `mri-launch info`.
#pragma once

#include "plugins/math/base/error.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mri {

struct FileInfo {
    std::string kind; ///< one line: "Raw data of ISMRMRD in group 'dataset'"
    /// Facts in the order in which they are shown: name and value.
    std::vector<std::pair<std::string, std::string>> facts;
    /// Sentences of the elements that read the file: which reading of ambiguous data they take, and what they warn of.
    std::vector<std::string> readings;
    /// Command that makes images of it, or uses it; empty where there is none.
    std::string command;
    /// Why no images can be made of it.
    std::optional<Error> error;
};

/// What lies at `path`. `group` is that of an ISMRMRD file; empty takes `dataset`, or the first that holds raw data or
/// images. Needs gst_init().
///
/// Throws Errc::not_found for a path or group that does not exist, Errc::unsupported for other kinds of files, with a
/// sentence that names the kind and what converts it, and what the readers of the kinds throw for damaged ones.
FileInfo file_info(const std::string& path, const std::string& group = {});

/// The text for the terminal.
std::string format_info(const FileInfo& info);

/// `text` as one word of a shell.
std::string shell_word(const std::string& text);

} // namespace mri
