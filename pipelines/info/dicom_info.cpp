// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/info/kinds.hpp"
#include "plugins/source/dicom/series.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <map>
#include <set>

namespace mri {

FileInfo dicom_info(const std::string& folder) {
    FileInfo info{
        .kind = "Folder with DICOM images", .facts = {}, .readings = {}, .command = {}, .error = {}};
    const DicomScan scan = scan_dicom(std::array{folder}, true);
    if (scan.series.empty())
        throw Error(Errc::unsupported,
                    scan.files == 0
                        ? "'" + folder + "' is a folder without files"
                        : fmt::format("'{}' holds no cine series in DICOM; the first of its {} files: {}",
                                      folder, scan.files,
                                      scan.skipped.empty() ? "left out" : scan.skipped.front().reason));
    const auto add = [&](std::string name, std::string value) {
        info.facts.emplace_back(std::move(name), std::move(value));
    };
    std::set<std::string> patients;
    for (const DicomSeries& series : scan.series)
        patients.insert(series.patient);
    add("files", std::to_string(scan.files));
    if (patients.size() > 1)
        add("patients", std::to_string(patients.size()));
    // Slices that differ in nothing but their place are one line.
    for (std::size_t i = 0, number = 1; i < scan.series.size(); ++number) {
        const DicomSeries& first = scan.series[i];
        std::size_t end = i;
        std::size_t fewest = first.frames.size(), most = fewest;
        for (; end < scan.series.size() && scan.series[end].uid == first.uid &&
               scan.series[end].width == first.width && scan.series[end].height == first.height;
             ++end) {
            fewest = std::min(fewest, scan.series[end].frames.size());
            most = std::max(most, scan.series[end].frames.size());
        }
        std::string text = first.description.empty() ? std::string() : first.description + ": ";
        text += fmt::format("{} {} of {} frames, {} x {} pixels of {:.4g} x {:.4g} mm", end - i,
                            end - i == 1 ? "slice" : "slices",
                            fewest == most ? std::to_string(most) : fmt::format("{} to {}", fewest, most),
                            first.width, first.height, first.spacing_x, first.spacing_y);
        text += first.frame_duration > 0 ? fmt::format(", {:.4g} ms a frame", 1e3 * first.frame_duration)
                                         : ", no time a frame";
        add(fmt::format("series {}", number), text);
        i = end;
    }
    // Reasons with figures of their own would be a line a file: the first few tell enough.
    std::map<std::string, std::size_t> reasons;
    for (const DicomSkipped& skipped : scan.skipped)
        ++reasons[skipped.reason];
    constexpr std::size_t most_reasons = 8;
    std::size_t told = 0;
    for (const auto& [reason, files] : reasons)
        if (told++ < most_reasons)
            info.readings.push_back(
                fmt::format("{} {} left out: {}", files, files == 1 ? "file is" : "files are", reason));
    if (reasons.size() > most_reasons)
        info.readings.push_back(
            fmt::format("{} other reasons to leave files out", reasons.size() - most_reasons));
    info.command = "mri-launch run recon-dicom -s location=" + shell_word(folder);
    return info;
}

} // namespace mri
