// SPDX-License-Identifier: LGPL-2.1-or-later
// From folders to series: files are listed, images grouped by their place, and ordered by time.
#include "plugins/source/dicom/image_facts.hpp"
#include "plugins/source/dicom/series.hpp"

#include "plugins/math/base/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace mri {

namespace {

namespace fs = std::filesystem;

// Images of one slice repeat its place to rounding; neighbouring slices are millimetres apart.
constexpr double position_tolerance = 0.05; // mm
constexpr double direction_tolerance = 1e-3;
constexpr double echo_tolerance = 0.1; // ms

/// Order of names in which numbers count as such: IM2 before IM10.
bool name_before(const std::string& a, const std::string& b) {
    std::size_t i = 0, j = 0;
    const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
    while (i < a.size() && j < b.size()) {
        if (!digit(a[i]) || !digit(b[j])) {
            if (a[i] != b[j])
                return a[i] < b[j];
            ++i, ++j;
            continue;
        }
        const auto number = [&](const std::string& text, std::size_t& at) {
            while (at < text.size() && text[at] == '0')
                ++at;
            const std::size_t begin = at;
            while (at < text.size() && digit(text[at]))
                ++at;
            return text.substr(begin, at - begin);
        };
        const std::string x = number(a, i), y = number(b, j);
        if (x != y)
            return x.size() != y.size() ? x.size() < y.size() : x < y;
    }
    if (a.size() - i != b.size() - j)
        return a.size() - i < b.size() - j;
    return a < b;
}

template <typename Iterator>
void list_files(Iterator it, const std::string& folder, std::vector<std::string>& paths) {
    std::error_code code;
    for (; it != Iterator{}; it.increment(code)) {
        if (it->is_regular_file(code))
            paths.push_back(it->path().string());
    }
    if (code)
        throw Error(Errc::open_read, "Cannot list the folder '" + folder + "': " + code.message());
}

std::vector<std::string> list_folder(const std::string& folder, bool recursive) {
    std::error_code code;
    const fs::file_status status = fs::status(folder, code);
    if (!fs::exists(status))
        throw Error(Errc::not_found, "The folder '" + folder + "' does not exist");
    if (!fs::is_directory(status))
        throw Error(Errc::not_found, "'" + folder + "' is not a folder");
    std::vector<std::string> paths;
    fs::directory_iterator it(folder, code);
    if (code)
        throw Error(Errc::open_read, "Cannot read the folder '" + folder + "': " + code.message());
    if (recursive)
        list_files(
            fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied, code),
            folder, paths);
    else
        list_files(std::move(it), folder, paths);
    std::sort(paths.begin(), paths.end(), name_before);
    return paths;
}

bool same_directions(const ImageFacts& a, const ImageFacts& b) {
    if (a.plane.has_value() != b.plane.has_value())
        return false;
    if (!a.plane)
        return true;
    for (std::size_t i = 0; i < 3; ++i)
        if (std::abs(a.plane->row[i] - b.plane->row[i]) > direction_tolerance ||
            std::abs(a.plane->column[i] - b.plane->column[i]) > direction_tolerance)
            return false;
    return true;
}

bool same_series(const ImageFacts& a, const ImageFacts& b) {
    return a.uid == b.uid && a.folder == b.folder && a.patient == b.patient &&
           a.series_number == b.series_number;
}

/// Same plane; within it less than a pixel apart.
bool same_place(const ImageFacts& a, const ImageFacts& b) {
    if (!same_series(a, b) || !same_directions(a, b) ||
        std::abs(a.position - b.position) > position_tolerance)
        return false;
    if (!a.plane)
        return true;
    double squared = 0.0;
    for (std::size_t i = 0; i < 3; ++i)
        squared += (a.plane->origin[i] - b.plane->origin[i]) * (a.plane->origin[i] - b.plane->origin[i]);
    const double pixel = std::max(a.spacing_x, a.spacing_y);
    return squared <= pixel * pixel + position_tolerance * position_tolerance;
}

bool same_geometry(const ImageFacts& a, const ImageFacts& b) {
    return a.width == b.width && a.height == b.height &&
           std::abs(a.spacing_x - b.spacing_x) <= 1e-4 * a.spacing_x &&
           std::abs(a.spacing_y - b.spacing_y) <= 1e-4 * a.spacing_y;
}

bool same_group(const ImageFacts& a, const ImageFacts& b) {
    return same_geometry(a, b) && std::abs(a.echo - b.echo) <= echo_tolerance && same_place(a, b);
}

/// Whether two images with one SOPInstanceUID are the same one. Careless tools give one UID to all images of a
/// series: these differ in number, time or place.
bool is_copy(const ImageFacts& a, const ImageFacts& b) {
    return a.uid == b.uid && a.time.instance == b.time.instance && a.time.trigger == b.time.trigger &&
           a.time.acquisition == b.time.acquisition && a.time.content == b.time.content &&
           std::abs(a.position - b.position) <= position_tolerance && same_directions(a, b) &&
           same_geometry(a, b);
}

std::string describe_geometry(const ImageFacts& facts) {
    return fmt::format("{}x{} at {:.6f}x{:.6f} mm", facts.width, facts.height, facts.spacing_x,
                       facts.spacing_y);
}

/// Images of one series, and where it stands among the others.
struct Group {
    std::vector<ImageFacts> images;
    std::size_t stack = 0; ///< of parallel slices, within its DICOM series

    const ImageFacts& first() const { return images.front(); }
};

/// The images of all files, each once.
std::vector<ImageFacts> read_folders(std::span<const std::string> folders, bool recursive,
                                     DicomImageType type, DicomScan& scan) {
    std::vector<ImageFacts> images;
    std::unordered_multimap<std::string, std::size_t> known; // by object and frame
    for (std::size_t f = 0; f < folders.size(); ++f) {
        for (const std::string& path : list_folder(folders[f], recursive)) {
            ++scan.files;
            FileFacts file = read_facts(path, f, type);
            std::move(file.skipped.begin(), file.skipped.end(), std::back_inserter(scan.skipped));
            std::size_t copies = 0;
            std::string original;
            for (ImageFacts& image : file.images) {
                if (!image.object.empty()) {
                    const std::string name = image.object + "#" + std::to_string(image.frame.index);
                    const auto [begin, end] = known.equal_range(name);
                    const auto first = std::find_if(
                        begin, end, [&](const auto& entry) { return is_copy(images[entry.second], image); });
                    if (first != end) {
                        original = images[first->second].frame.path;
                        ++copies;
                        continue;
                    }
                    known.emplace(name, images.size());
                }
                images.push_back(std::move(image));
            }
            if (copies > 0)
                scan.skipped.push_back({DicomSkip::copy, path, "a copy of '" + original + "'", copies});
        }
    }
    return images;
}

std::vector<Group> make_groups(std::vector<ImageFacts> images) {
    std::vector<Group> groups;
    std::unordered_multimap<std::string, std::size_t> groups_of_uid;
    std::size_t last = 0;
    for (ImageFacts& image : images) {
        const auto fits = [&](std::size_t group) { return same_group(groups[group].first(), image); };
        std::size_t found = groups.size();
        if (last < groups.size() && fits(last)) {
            found = last;
        } else {
            const auto [begin, end] = groups_of_uid.equal_range(image.uid);
            const auto entry = std::find_if(begin, end, [&](const auto& e) { return fits(e.second); });
            if (entry != end)
                found = entry->second;
        }
        if (found == groups.size()) {
            groups_of_uid.emplace(image.uid, found);
            groups.emplace_back();
        }
        groups[found].images.push_back(std::move(image));
        last = found;
    }
    return groups;
}

/// Groups in the order in which they are shown: stacks of a DICOM series in that of their first images.
void sort_groups(std::vector<Group>& groups) {
    std::vector<std::pair<std::size_t, double>> stacks; // one of its groups, and its lowest instance number
    for (std::size_t g = 0; g < groups.size(); ++g) {
        const auto stack = std::find_if(stacks.begin(), stacks.end(), [&](const auto& s) {
            return same_series(groups[s.first].first(), groups[g].first()) &&
                   same_directions(groups[s.first].first(), groups[g].first());
        });
        groups[g].stack = static_cast<std::size_t>(stack - stacks.begin());
        double lowest = std::numeric_limits<double>::infinity();
        for (const ImageFacts& image : groups[g].images)
            lowest = std::min(lowest, image.time.instance.value_or(lowest));
        if (stack == stacks.end())
            stacks.emplace_back(g, lowest);
        else
            stack->second = std::min(stack->second, lowest);
    }
    std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
        const ImageFacts &x = a.first(), &y = b.first();
        return std::tie(x.folder, x.patient, x.series_number, x.uid, stacks[a.stack].second, a.stack,
                        x.position, x.echo) < std::tie(y.folder, y.patient, y.series_number, y.uid,
                                                       stacks[b.stack].second, b.stack, y.position, y.echo);
    });
}

DicomSeries make_series(const Group& group, DicomImageType type, bool& order_known) {
    const ImageFacts& first = group.first();
    DicomSeries series;
    series.uid = first.uid;
    series.description = first.description;
    series.patient = first.patient;
    series.folder = first.folder;
    series.type = type;
    series.slice_position = first.position;
    series.plane = first.plane;
    series.thickness = first.thickness;
    series.width = first.width;
    series.height = first.height;
    series.spacing_x = first.spacing_x;
    series.spacing_y = first.spacing_y;

    std::vector<FrameFacts> times;
    for (const ImageFacts& image : group.images)
        times.push_back(image.time);
    const FrameOrder order = order_frames(times, first.nominal_interval);
    order_known = order.known;
    series.frame_duration = order.step;
    series.order = order.source;
    for (std::size_t i = 0; i < order.order.size(); ++i) {
        const ImageFacts& image = group.images[order.order[i]];
        DicomFrame frame = image.frame;
        frame.time = order.times.empty() ? 0.0 : order.times[i];
        frame.beat = order.beats[i];
        const bool same_beat = i > 0 && order.beats[i] == order.beats[i - 1];
        frame.phase = same_beat ? series.frames.back().phase + 1 : 0;
        frame.trigger_time = image.time.trigger ? image.time.trigger : image.time.nominal_delay;
        series.frames.push_back(std::move(frame));
    }
    return series;
}

/// Lists the images of a group that is no cine.
void skip_group(const Group& group, const std::vector<Group>& groups, std::vector<DicomSkipped>& skipped) {
    // A stray image of another size among those of a cine.
    const auto larger = std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
        return other.images.size() > group.images.size() && same_place(other.first(), group.first()) &&
               !same_geometry(other.first(), group.first());
    });
    const std::string reason = larger != groups.end()
                                   ? "its geometry (" + describe_geometry(group.first()) +
                                         ") differs from that of its series (" +
                                         describe_geometry(larger->first()) + ")"
                                   : fmt::format("no cine: its slice has {}{}", group.images.size(),
                                                 group.images.size() == 1 ? " image" : " images");
    for (const ImageFacts& image : group.images) {
        if (!skipped.empty() && skipped.back().path == image.frame.path && skipped.back().reason == reason)
            ++skipped.back().images;
        else
            skipped.push_back({DicomSkip::no_cine, image.frame.path, reason, 1});
    }
}

} // namespace

DicomScan scan_dicom(std::span<const std::string> folders, bool recursive, std::size_t min_frames,
                     DicomImageType type) {
    DicomScan scan;
    std::vector<Group> groups = make_groups(read_folders(folders, recursive, type, scan));
    sort_groups(groups);
    std::size_t without_plane = 0, without_order = 0;
    std::string example;
    const ImageFacts* last = nullptr;
    int slice = 0;
    for (const Group& group : groups) {
        if (group.images.size() < min_frames) {
            skip_group(group, groups, scan.skipped);
            continue;
        }
        bool order_known = true;
        DicomSeries series = make_series(group, type, order_known);
        if (last == nullptr || !same_series(*last, group.first()))
            slice = 0;
        else if (!same_place(*last, group.first()))
            ++slice;
        last = &group.first();
        series.slice = slice;
        if (!series.plane)
            ++without_plane;
        if (!order_known && without_order++ == 0)
            example = series.frames.front().path;
        scan.series.push_back(std::move(series));
    }
    if (without_plane > 0)
        scan.notes.push_back(
            fmt::format("Slices of {} series are told apart by SliceLocation alone: their files "
                        "have no ImagePositionPatient and ImageOrientationPatient",
                        without_plane));
    if (without_order > 0)
        scan.notes.push_back(
            fmt::format("Frames of {} series are in the order of their files' names: nothing in "
                        "them tells a time or a number ('{}')",
                        without_order, example));
    return scan;
}

} // namespace mri
