// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs the text of a pipeline to its end and tells how it went.
#pragma once

#include "plugins/common/gst_ptr.hpp"

#include <csignal>
#include <optional>
#include <string>
#include <vector>

namespace mri {

/// Exit codes of mri-launch.
enum class ExitCode {
    ok = 0,
    pipeline_error = 1, ///< an element reported an error
    usage = 2,          ///< unknown command, pipeline or parameter, or a bad value
    invalid = 3,        ///< the pipeline file or its text is wrong, or an element is missing
    timed_out = 4,      ///< --timeout ended the run; files are finished
    interrupted = 130   ///< Ctrl-C ended the run; files are finished unless it was pressed twice
};

struct RunOptions {
    bool quiet = false;   ///< no progress bar, progress messages and tables
    bool verbose = false; ///< the debug text of errors and warnings as well
    bool stats = false;   ///< tables of time per element and of late and dropped frames at the end
    std::optional<double> timeout_s;
    std::string name; ///< of the pipeline, which outputs carry; empty leaves GStreamer's
};

/// Builds the pipeline without running it. Throws Errc::unsupported naming every missing element, or
/// Errc::settings with the parser's sentence.
GstPtr<GstElement> parse_pipeline(const std::string& text);

/// Set by the signal handlers: how often Ctrl-C was pressed.
extern volatile std::sig_atomic_t interrupts;

/// Runs to EOS, an error, the timeout or an interrupt. Tables go to standard output, everything else to
/// standard error.
ExitCode run_pipeline(const std::string& text, const RunOptions& options);

} // namespace mri
