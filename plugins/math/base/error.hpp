// SPDX-License-Identifier: LGPL-2.1-or-later
// The one error type of the libraries. Pure C++: mathematics and networks include it without GStreamer.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mri {

/// Kind of a failure; the element base maps it to a GError domain and code.
enum class Errc {
    not_found,   ///< a file, folder or data set is missing
    open_read,   ///< something exists but cannot be opened for reading
    open_write,  ///< an output cannot be created
    read,        ///< reading broke off, or what was read is corrupt
    write,       ///< writing broke off
    settings,    ///< a property or parameter has a value that cannot work
    format,      ///< caps, shapes or sizes that do not fit what the element does
    decode,      ///< the content of a file or stream is not what it says it is
    unsupported, ///< valid input of a kind that is not implemented
    no_device,   ///< a compute device was asked for and is not there
    no_memory,   ///< an allocation failed or would be absurd
    failed       ///< a library failed
};

/// Thrown by every library of the product and converted once, at the C edge, into one message on the bus.
///
/// `what()` is a sentence for the user (what went wrong, with which thing, where); `detail()` is for the log.
class Error : public std::runtime_error {
  public:
    Error(Errc code, const std::string& message, std::string detail = {})
        : std::runtime_error(message), code_(code), detail_(std::move(detail)) {}

    Errc code() const noexcept { return code_; }
    const std::string& detail() const noexcept { return detail_; }

  private:
    Errc code_;
    std::string detail_;
};

} // namespace mri
