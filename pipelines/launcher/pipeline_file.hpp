// SPDX-License-Identifier: LGPL-2.1-or-later
// Declarative pipelines: a YAML file with a name, a description, typed parameters and the text of a pipeline, in
// which ${parameter} stands for a value. pipelines/README.md describes the format. Pure C++: nothing here knows
// GStreamer, except that values are written so that its parser reads each back as one value.
#pragma once

#include "plugins/math/base/error.hpp"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mri {

enum class ParameterType {
    string,
    integer,
    real,
    boolean,
    fraction, ///< like 30/1
    choice,   ///< one of a list; each choice may stand for a piece of pipeline
    file,     ///< a path
    output    ///< a path that the pipeline writes
};
const char* to_string(ParameterType type) noexcept;

struct Parameter {
    std::string name;
    ParameterType type = ParameterType::string;
    std::string help;
    std::optional<std::string> preset; ///< the default; a parameter without one must be given
    std::optional<double> low;         ///< limits of int and float
    std::optional<double> high;
    /// Values of an enum in the order of the file, each with the text that takes its place.
    std::vector<std::pair<std::string, std::string>> choices;
    /// Endings of the names of outputs that a choice writes; a choice may have several, the first is the usual one.
    std::vector<std::pair<std::string, std::string>> suffixes; ///< choice and ending
    std::string format;  ///< of an output: the enum that its ending chooses; may be empty
    std::string replace; ///< of an output: the bool without which nothing is overwritten; empty: always
};

/// A path that an expanded pipeline writes.
struct OutputPath {
    std::string parameter;
    std::string path;      ///< as given, or the default with the ending of its format
    bool numbered = false; ///< one file a frame: numbered_path()
    std::string replace;   ///< the bool that has to be set for overwriting; empty where that is allowed
};

/// Where pictures of single frames go: `-%05d` before the ending, and each % of the name doubled, as multifilesink reads
/// it.
std::string numbered_path(const std::string& path);

struct PipelineFile {
    std::string name;
    std::string description;
    std::string text; ///< with ${...} as in the file
    std::vector<Parameter> parameters;
    std::filesystem::path path;

    /// Reads and checks a file: throws Errc::not_found, open_read, or decode naming file, line and what is
    /// wrong (unknown or missing keys, defaults outside their type, parameters used and not declared, or
    /// declared and not used).
    static PipelineFile load(const std::filesystem::path& path);
    /// The same from text; `path` is only named in errors and must be NAME.yaml.
    static PipelineFile parse(const std::string& yaml, const std::filesystem::path& path);

    /// The pipeline's text with every ${name} replaced; `values` overrides defaults. Throws Errc::settings
    /// for an unknown parameter, a value that does not fit its type, and a parameter that has no value.
    std::string expand(const std::map<std::string, std::string>& values) const;
    /// The outputs that the text of expand(values) writes. Throws as expand() does.
    std::vector<OutputPath> outputs(const std::map<std::string, std::string>& values) const;
    /// As expand(), with a value of the right type for each parameter that has none: for checking a file.
    std::string expand_sample(std::map<std::string, std::string> values) const;

    const Parameter* find(std::string_view parameter) const noexcept;

  private:
    std::string fill(const std::map<std::string, std::string>& values,
                     std::vector<OutputPath>& written) const;
    /// `values` with formats that the names of outputs choose, and names with the endings of their formats.
    std::map<std::string, std::string> with_formats(std::map<std::string, std::string> values) const;
};

/// `value` as text for gst_parse_launch in place of a whole property value: one string whatever it holds
/// (spaces, quotes, `!`). Throws Errc::settings when it holds control characters or is not UTF-8, which no
/// pipeline text can express.
std::string quote_value(std::string_view value);

/// The folders searched for NAME.yaml: those of GST_MRI_PIPELINES_PATH (separated by colons), then the installed
/// one.
std::vector<std::filesystem::path> pipeline_folders();
/// The *.yaml files in the folders, by name; a name in an earlier folder hides those in later ones.
std::map<std::string, std::filesystem::path> list_pipelines();
/// A name, or a path (with a slash or ending in .yaml), to the file; throws Errc::not_found.
std::filesystem::path find_pipeline(const std::string& name);

} // namespace mri
