// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/launcher/outputs.hpp"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <optional>

namespace mri {

namespace fs = std::filesystem;

namespace {

/// Path of picture `number` of a numbered output.
std::string picture(const std::string& path, std::size_t number) {
    std::string text = numbered_path(path);
    constexpr std::string_view mark = "-%05d";
    const auto at = text.rfind(mark);
    text.replace(at, mark.size(), fmt::format("-{:05}", number));
    for (std::size_t i = 0; (i = text.find("%%", i)) != std::string::npos; ++i)
        text.erase(i, 1);
    return text;
}

std::string size_text(std::uintmax_t bytes) {
    const auto n = static_cast<double>(bytes);
    return bytes < 1000 ? fmt::format("{} bytes", bytes)
           : n < 1e6    ? fmt::format("{:.3g} kB", n / 1e3)
           : n < 1e9    ? fmt::format("{:.3g} MB", n / 1e6)
                        : fmt::format("{:.3g} GB", n / 1e9);
}

/// The second and further files of a run, which formats of one array a file number: scan.nii.gz, scan-2.nii.gz, ...
std::size_t further_files(const std::string& path) {
    for (const std::string ending : {".nii.gz", ".nii", ".npy", ".cfl"}) {
        if (!path.ends_with(ending))
            continue;
        const std::string stem = path.substr(0, path.size() - ending.size());
        std::error_code code;
        std::size_t files = 0;
        while (fs::exists(fmt::format("{}-{}{}", stem, files + 2, ending), code))
            ++files;
        return files;
    }
    return 0;
}

/// What is there, as a part of a line; nothing where there is nothing.
std::optional<std::string> found(const OutputPath& output) {
    std::error_code code;
    if (output.numbered) {
        std::size_t pictures = 0;
        while (fs::exists(picture(output.path, pictures), code))
            ++pictures;
        if (pictures == 0)
            return std::nullopt;
        return pictures == 1
                   ? picture(output.path, 0)
                   : fmt::format("{} to {}", picture(output.path, 0), picture(output.path, pictures - 1));
    }
    const auto status = fs::status(output.path, code);
    const std::size_t further = further_files(output.path);
    if (!fs::exists(status) && further == 0)
        return std::nullopt;
    if (!fs::is_directory(status)) {
        const auto bytes = fs::is_regular_file(status) ? fs::file_size(output.path, code) : 0;
        std::string text = output.path;
        if (fs::is_regular_file(status) && !code)
            text += ", " + size_text(bytes);
        if (further > 0)
            text += fmt::format(", and {} more with numbers up to -{}", further, further + 1);
        return text;
    }
    fs::recursive_directory_iterator files(output.path, code);
    if (code)
        return output.path;
    const auto count = std::count_if(begin(files), end(files), [](const fs::directory_entry& entry) {
        std::error_code ignored;
        return entry.is_regular_file(ignored);
    });
    if (count == 0)
        return std::nullopt;
    return fmt::format("{}, {} {}", output.path, count, count == 1 ? "file" : "files");
}

} // namespace

void check_outputs(const std::vector<OutputPath>& outputs) {
    for (const OutputPath& output : outputs) {
        // What is no file or folder (a device, a FIFO) is written to and not replaced.
        std::error_code code;
        const auto status = fs::status(output.path, code);
        const bool other = fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status);
        if (output.replace.empty() || other)
            continue;
        if (const auto there = found(output))
            throw Error(Errc::settings, fmt::format("{}: {} is there already; {}=true replaces it",
                                                    output.parameter, *there, output.replace));
    }
}

std::vector<std::string> written_outputs(const std::vector<OutputPath>& outputs) {
    std::vector<std::string> lines;
    for (const OutputPath& output : outputs)
        if (auto there = found(output))
            lines.push_back(std::move(*there));
    return lines;
}

} // namespace mri
