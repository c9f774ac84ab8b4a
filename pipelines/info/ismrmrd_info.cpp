// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/info/frames.hpp"
#include "pipelines/info/kinds.hpp"
#include "plugins/source/ismrmrd/hdf5.hpp"
#include "plugins/source/ismrmrd/reader.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <map>
#include <numbers>
#include <set>

namespace mri {

namespace {

struct Contents {
    std::vector<std::string> names;                         ///< all that lies at the top
    std::vector<std::string> raw;                           ///< groups with xml and data
    std::map<std::string, std::vector<std::string>> images; ///< groups with image series, and the series
};

herr_t add_name(hid_t, const char* name, const H5L_info_t*, void* names) {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
}

std::vector<std::string> members(hid_t group) {
    std::vector<std::string> names;
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, add_name, &names);
    return names;
}

Hdf5Id open_group(hid_t at, const std::string& name) {
    H5O_info_t info;
    const Hdf5Id object(H5Oopen(at, name.c_str(), H5P_DEFAULT));
    if (!object || H5Oget_info2(object.get(), &info, H5O_INFO_BASIC) < 0 || info.type != H5O_TYPE_GROUP)
        return {};
    return Hdf5Id(H5Gopen2(at, name.c_str(), H5P_DEFAULT));
}

bool has(hid_t group, const char* name) {
    return H5Lexists(group, name, H5P_DEFAULT) > 0;
}

Contents contents_of(const std::string& path) {
    const Hdf5Lock lock;
    const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
    if (!file)
        throw hdf5_error(Errc::open_read, "'" + path + "' is no HDF5 file that can be read");
    Contents contents{.names = members(file.get()), .raw = {}, .images = {}};
    for (const auto& name : contents.names) {
        const Hdf5Id group = open_group(file.get(), name);
        if (!group)
            continue;
        if (has(group.get(), "data") && has(group.get(), "xml"))
            contents.raw.push_back(name);
        for (const auto& series : members(group.get()))
            if (const Hdf5Id inner = open_group(group.get(), series);
                inner && has(inner.get(), "data") && has(inner.get(), "header"))
                contents.images[name].push_back(series);
    }
    return contents;
}

/// Readouts of a file by what they are for, from their heads alone.
struct Heads {
    std::size_t imaging = 0, noise = 0, calibration = 0, shared_calibration = 0, corrections = 0, others = 0;
    std::array<std::uint16_t, counter_names.size()> low, high;
    std::set<std::uint16_t> reference_lines;
    std::set<std::array<float, 3>> positions;
    int samples = 0, noise_samples = 0, coils = 0, dimensions = 0; // of the first readout of a kind
    double dwell_us = 0, noise_dwell_us = 0;
    bool discards = false, reversed = false, stamps = false;
    std::optional<std::uint32_t> stamp;
    float radius = 0;

    Heads() : high{} { low.fill(std::numeric_limits<std::uint16_t>::max()); }

    void add(const IsmrmrdReadout& readout) {
        using namespace ISMRMRD;
        const auto& head = *readout.head;
        const bool calibration_alone = readout.has_flag(ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION);
        const bool both = readout.has_flag(ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING);
        if (readout.has_flag(ISMRMRD_ACQ_IS_NOISE_MEASUREMENT)) {
            if (noise++ == 0) {
                noise_samples = head.number_of_samples;
                noise_dwell_us = head.sample_time_us;
            }
            return;
        }
        if (calibration_alone || both)
            reference_lines.insert(head.idx.kspace_encode_step_1);
        calibration += calibration_alone && !both;
        shared_calibration += both;
        if (!is_imaging(head)) {
            const bool correction = readout.has_flag(ISMRMRD_ACQ_IS_PHASECORR_DATA) ||
                                    readout.has_flag(ISMRMRD_ACQ_IS_NAVIGATION_DATA);
            corrections += correction;
            others += !correction && !calibration_alone;
            return;
        }
        if (imaging++ == 0) {
            samples = head.number_of_samples;
            coils = head.active_channels;
            dwell_us = head.sample_time_us;
            dimensions = readout.trajectory.empty() ? 0 : head.trajectory_dimensions;
        }
        discards |= head.discard_pre > 0 || head.discard_post > 0;
        reversed |= readout.has_flag(ISMRMRD_ACQ_IS_REVERSE);
        stamps |= stamp && *stamp != head.acquisition_time_stamp;
        stamp = head.acquisition_time_stamp;
        const auto& idx = head.idx;
        const CounterValues values{idx.kspace_encode_step_1,
                                   idx.kspace_encode_step_2,
                                   idx.average,
                                   idx.slice,
                                   idx.contrast,
                                   idx.phase,
                                   idx.repetition,
                                   idx.set,
                                   idx.segment};
        for (std::size_t c = 0; c < values.size(); ++c) {
            low[c] = std::min(low[c], values[c]);
            high[c] = std::max(high[c], values[c]);
        }
        positions.insert({head.position[0], head.position[1], head.position[2]});
        if (dimensions >= 2)
            for (std::size_t i = 0; i + 1 < readout.trajectory.size(); i += head.trajectory_dimensions)
                radius = std::max(radius, std::hypot(readout.trajectory[i], readout.trajectory[i + 1]));
    }
};

std::string count(std::size_t n, const char* one, const char* many = nullptr) {
    return n == 1 ? fmt::format("1 {}", one)
           : many ? fmt::format("{} {}", n, many)
                  : fmt::format("{} {}s", n, one);
}

/// Whole numbers with runs shortened: "0 to 9, 12, 14 to 20".
std::string runs(const std::vector<int>& numbers) {
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < numbers.size();) {
        std::size_t end = i + 1;
        while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1)
            ++end;
        parts.push_back(end - i == 1 ? std::to_string(numbers[i])
                                     : fmt::format("{} to {}", numbers[i], numbers[end - 1]));
        i = end;
    }
    constexpr std::size_t most = 8;
    if (parts.size() > most)
        parts.resize(most), parts.emplace_back("...");
    return fmt::format("{}", fmt::join(parts, ", "));
}

std::string space_text(const MrdSpace& space) {
    const auto& [x, y, z] = space.matrix;
    std::string text = fmt::format("{} x {}", x, y);
    if (z > 1)
        text += fmt::format(" x {}", z);
    if (space.fov_mm[0] > 0 && space.fov_mm[1] > 0)
        text += fmt::format(" of {:g} x {:g} mm", space.fov_mm[0], space.fov_mm[1]);
    return text;
}

/// How the lines of one Cartesian frame lie in the range that the header gives.
struct Lines {
    std::size_t measured = 0, range = 0;
    std::vector<int> missing;
    int step = 1; // the most frequent distance of neighbours outside of the reference lines
};

Lines lines_of(const FramesFound& frames, const MrdEncoding& encoding, const Heads& heads) {
    Lines lines;
    const int low = encoding.step_1 ? encoding.step_1->minimum : 0;
    int high = encoding.step_1 ? encoding.step_1->maximum : 0;
    if (high <= low)
        high = std::max(encoding.encoded.matrix[1] - 1, low);
    std::map<int, int> steps;
    std::optional<int> last;
    for (int line = low; line <= high; ++line) {
        const bool there = frames.lines.contains(static_cast<std::uint16_t>(line));
        if (!there)
            lines.missing.push_back(line);
        else if (last && !(heads.reference_lines.contains(static_cast<std::uint16_t>(line)) &&
                           heads.reference_lines.contains(static_cast<std::uint16_t>(*last))))
            ++steps[line - *last];
        if (there) {
            ++lines.measured;
            last = line;
        }
    }
    lines.range = static_cast<std::size_t>(high - low + 1);
    if (!steps.empty())
        lines.step = std::max_element(steps.begin(), steps.end(), [](const auto& a, const auto& b) {
                         return a.second < b.second;
                     })->first;
    return lines;
}

/// Spokes that a fully sampled frame has: pi / 2 times the matrix.
double full_spokes(const KspaceInfo& caps) {
    return std::numbers::pi / 2 * std::max(caps.width, caps.height);
}

struct Scan {
    std::string path, group;
    const MrdEncoding& encoding;
    const Heads& heads;
    const FramesFound& frames;
    const KspaceInfo& caps;
};

/// The pipeline that suits the scan: windows and networks for undersampled frames that follow each other.
std::string command_of(const Scan& scan, const Lines& lines) {
    std::string text = "mri-launch run recon-ismrmrd -s location=" + shell_word(scan.path);
    if (scan.group != "dataset")
        text += " -s group=" + shell_word(scan.group);
    if (scan.heads.noise > 0)
        text += " -s noise=whiten";
    const auto& kind = kind_of(scan.caps.trajectory);
    const bool regular = kind.grid && lines.step > 1;
    const double spokes = full_spokes(scan.caps);
    if (regular && !scan.heads.reference_lines.empty())
        return text + " -s network=none -s method=sense";
    if (scan.frames.frames == 1 && kind.spokes &&
        static_cast<double>(scan.frames.most_readouts) >= 2 * spokes) {
        // Fibonacci numbers of golden angles are spread most evenly.
        int readouts = 1;
        for (int next = 2; next <= spokes / 12;) {
            const int sum = readouts + next;
            readouts = next;
            next = sum;
        }
        return text + fmt::format(" -s readouts={}", readouts);
    }
    const bool full = kind.grid
                          ? lines.missing.empty()
                          : kind.spokes && static_cast<double>(scan.frames.fewest_readouts) >= 0.8 * spokes;
    if (scan.frames.frames == 1 || full)
        return text + " -s network=none -s method=grid";
    return kind.spokes || kind.grid ? text : text + " -s network=none -s method=sense";
}

void add_frames(FileInfo& info, const Scan& scan, const Lines& lines) {
    const auto& [path, group, encoding, heads, frames, caps] = scan;
    const auto add = [&](const char* name, std::string value) {
        info.facts.emplace_back(name, std::move(value));
    };
    std::string text = count(frames.frames, "frame") + " of " + std::to_string(frames.fewest_readouts);
    if (frames.most_readouts != frames.fewest_readouts)
        text += fmt::format(" to {}", frames.most_readouts);
    text += frames.most_readouts == 1 ? " readout" : " readouts";
    if (frames.series > 1)
        text += fmt::format(" in {} series", frames.series);
    add("frames", text);
    add("made by", !frames.made_by.empty() ? fmt::format("{}", fmt::join(frames.made_by, ", "))
                   : frames.frames > 1     ? "the flags of the last readouts"
                                           : "the end of the file: no counter changes between frames");

    if (kind_of(caps.trajectory).grid) {
        if (lines.missing.empty())
            add("acceleration", fmt::format("1: all {} lines are measured", lines.range));
        else
            add("acceleration", fmt::format("{:.3g}: {} of {} lines a frame{}",
                                            static_cast<double>(lines.range) /
                                                static_cast<double>(std::max<std::size_t>(lines.measured, 1)),
                                            lines.measured, lines.range,
                                            lines.step > 1 ? fmt::format(", one in {}", lines.step) : ""));
        if (!lines.missing.empty())
            add("missing lines", runs(lines.missing) + " (first frame)");
    } else if (kind_of(caps.trajectory).spokes) {
        const double full = full_spokes(caps);
        add("acceleration", fmt::format("{:.3g}: {} of {:.0f} spokes a frame",
                                        std::max(1.0, full / static_cast<double>(frames.most_readouts)),
                                        frames.most_readouts, std::ceil(full)));
    }
    if (frames.frame_time_ms)
        add("time a frame", fmt::format("{:.4g} ms, {}", *frames.frame_time_ms,
                                        heads.stamps ? "by time stamps of 2.5 ms"
                                                     : "at 3 ms a readout: the file has no time stamps"));
    if (heads.dimensions > 0 && heads.radius > 0)
        add("unit",
            fmt::format("the largest radius {:.4g} is read as {:.4g} cycles per field of view of the image",
                        heads.radius, frames.radius));
}

FileInfo raw_info(const std::string& path, const std::string& group) {
    FileInfo info{.kind = "Raw data of ISMRMRD in group '" + group + "'",
                  .facts = {},
                  .readings = {},
                  .command = {},
                  .error = {}};
    const auto add = [&](const char* name, std::string value) {
        info.facts.emplace_back(name, std::move(value));
    };
    IsmrmrdReader reader({.path = path, .group = group});
    Heads heads;
    try {
        while (const auto readout = reader.next())
            heads.add(*readout);
    } catch (const Error& error) { // of a damaged row: what lies before it is described
        info.error = error;
    }

    std::string text = count(heads.imaging, "of the image", "of the image");
    for (const auto& [n, what] : {std::pair{heads.calibration, "of calibration alone"},
                                  {heads.noise, "of noise"},
                                  {heads.corrections, "of navigators and phase correction"},
                                  {heads.others, "others"}})
        if (n > 0)
            text += fmt::format(", {} {}", n, what);
    add("readouts", fmt::format("{}: {}", reader.rows(), text));
    const auto& encodings = reader.header().encodings;
    if (encodings.empty()) {
        if (!info.error)
            info.error = Error(Errc::decode, reader.where() + ": the header describes no encoding");
        return info;
    }
    const MrdEncoding& encoding = encodings.front();
    add("trajectory", fmt::format("{}{}, {}", to_string(encoding.trajectory),
                                  encoding.golden_angle ? " of golden angles" : "",
                                  heads.dimensions > 0
                                      ? fmt::format("positions in the file ({} dimensions)", heads.dimensions)
                                  : kind_of(encoding.trajectory).grid ? "positions by the phase encodes"
                                                                      : "no positions in the file"));
    add("encoded", space_text(encoding.encoded));
    add("image", space_text(encoding.recon));
    if (encodings.size() > 1)
        add("encodings", std::to_string(encodings.size()));
    add("coils", std::to_string(heads.coils));
    text = fmt::format("{} a readout", heads.samples);
    if (heads.dwell_us > 0)
        text += fmt::format(", one in {:g} us", heads.dwell_us);
    if (heads.discards)
        text += ", some to be discarded";
    if (heads.reversed)
        text += ", some readouts reversed";
    add("samples", text);
    std::vector<std::string> used;
    for (std::size_t c = 0; c < counter_names.size(); ++c)
        if (heads.imaging > 0 && heads.high[c] > 0)
            used.push_back(heads.low[c] == heads.high[c]
                               ? fmt::format("{} {}", counter_names[c], heads.low[c])
                               : fmt::format("{} {} to {}", counter_names[c], heads.low[c], heads.high[c]));
    add("counters", used.empty() ? "none" : fmt::format("{}", fmt::join(used, ", ")));
    if (heads.positions.size() > 1)
        add("positions", count(heads.positions.size(), "plane"));
    add("noise scan",
        heads.noise == 0
            ? "none"
            : fmt::format("{} of {} samples{}", count(heads.noise, "readout"), heads.noise_samples,
                          heads.noise_dwell_us > 0 ? fmt::format(", one in {:g} us", heads.noise_dwell_us)
                                                   : ""));
    add("reference lines",
        heads.reference_lines.empty()
            ? "none"
            : fmt::format("{}: {} ({} readouts are calibration alone, {} image too)",
                          heads.reference_lines.size(),
                          runs({heads.reference_lines.begin(), heads.reference_lines.end()}),
                          heads.calibration, heads.shared_calibration));
    if (info.error)
        return info;

    const FramesFound frames = find_frames(path, group);
    info.readings = frames.messages;
    info.error = frames.error;
    if (frames.frames == 0 || !frames.caps) {
        if (!info.error)
            info.error = Error(Errc::decode, reader.where() + ": no frame is complete");
        return info;
    }
    const Scan scan{path, group, encoding, heads, frames, *frames.caps};
    const Lines lines = lines_of(frames, encoding, heads);
    add_frames(info, scan, lines);
    if (!info.error)
        info.command = command_of(scan, lines);
    return info;
}

const char* sample_type(std::uint16_t type) {
    static constexpr std::array names{"?",       "uint16",  "int16",           "uint32",         "int32",
                                      "float32", "float64", "complex float32", "complex float64"};
    return type < names.size() ? names[type] : "?";
}

const char* image_type(std::uint16_t type) {
    static constexpr std::array names{"", "magnitude, ", "phase, ", "real part, ", "imaginary part, ", ""};
    return type < names.size() ? names[type] : "";
}

FileInfo image_info(const std::string& path, const std::string& group, const std::vector<std::string>& all) {
    FileInfo info{.kind = "Images of ISMRMRD in group '" + group + "'",
                  .facts = {},
                  .readings = {},
                  .command = {},
                  .error = {}};
    const Hdf5Lock lock;
    const Hdf5Id file = hdf5_checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), Errc::open_read,
                                     "'" + path + "' cannot be opened");
    for (const auto& series : all) {
        const std::string at = "'" + path + "', " + group + "/" + series;
        const Hdf5Id set =
            hdf5_checked(H5Dopen2(file.get(), ("/" + group + "/" + series + "/header").c_str(), H5P_DEFAULT),
                         Errc::decode, at + ": the headers cannot be read");
        const Hdf5Id space(H5Dget_space(set.get()));
        const hssize_t n = H5Sget_simple_extent_npoints(space.get());
        constexpr hssize_t most = 1 << 22;
        if (n < 0 || n > most)
            throw Error(Errc::decode, at + ": the headers cannot be read");
        std::vector<ISMRMRD::ISMRMRD_ImageHeader> heads(static_cast<std::size_t>(n));
        const Hdf5Id type = hdf5_image_header_type();
        if (n > 0)
            hdf5_check(H5Dread(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, heads.data()),
                       Errc::decode, at + ": the headers cannot be read");
        std::string text = count(heads.size(), "image");
        if (!heads.empty()) {
            const auto& head = heads.front();
            text += fmt::format(" of {} x {}", head.matrix_size[0], head.matrix_size[1]);
            if (head.matrix_size[2] > 1)
                text += fmt::format(" x {}", head.matrix_size[2]);
            if (head.channels > 1)
                text += fmt::format(" x {} channels", head.channels);
            text += fmt::format(", {}{}, {:g} x {:g} mm", image_type(head.image_type),
                                sample_type(head.data_type), head.field_of_view[0], head.field_of_view[1]);
            std::set<std::uint16_t> slices;
            for (const auto& h : heads)
                slices.insert(h.slice);
            if (slices.size() > 1)
                text += fmt::format(", {} slices", slices.size());
        }
        info.facts.emplace_back(series, text);
    }
    info.readings.emplace_back("Images are results: no pipeline reads them.");
    return info;
}

} // namespace

FileInfo ismrmrd_info(const std::string& path, const std::string& wanted) {
    const Contents contents = contents_of(path);
    if (!wanted.empty() &&
        std::find(contents.names.begin(), contents.names.end(), wanted) == contents.names.end())
        throw Error(Errc::not_found, fmt::format("'{}' has no group '{}'; it has {}", path, wanted,
                                                 fmt::join(contents.names, ", ")));
    const auto is = [&](const std::string& name) { return wanted.empty() || wanted == name; };
    std::string group;
    for (const auto& name : contents.raw)
        if (is(name) && (group.empty() || name == "dataset"))
            group = name;
    FileInfo info;
    if (!group.empty()) {
        info = raw_info(path, group);
        if (const auto images = contents.images.find(group); images != contents.images.end())
            info.facts.emplace_back("images",
                                    fmt::format("the group also holds {}", fmt::join(images->second, ", ")));
    } else {
        for (const auto& [name, series] : contents.images)
            if (is(name) && (group.empty() || name == "dataset"))
                group = name;
        if (group.empty()) {
            const auto holds = [&](const char* name) {
                return std::find(contents.names.begin(), contents.names.end(), name) != contents.names.end();
            };
            if (holds("kspace") && holds("ismrmrd_header"))
                throw Error(Errc::unsupported, "'" + path +
                                                   "' is a file of the fastMRI data set: an array of k-space "
                                                   "without readouts. Write it as "
                                                   "ISMRMRD with python's ismrmrd, one acquisition a line");
            throw Error(
                Errc::unsupported,
                fmt::format("'{}' is an HDF5 file that holds no ISMRMRD data (a group with xml and data, or "
                            "image series); it holds {}",
                            path,
                            contents.names.empty() ? "nothing"
                                                   : fmt::format("{}", fmt::join(contents.names, ", "))));
        }
        info = image_info(path, group, contents.images.at(group));
    }
    std::vector<std::string> others;
    for (const auto& name : contents.raw)
        if (name != group)
            others.push_back(name);
    for (const auto& [name, series] : contents.images)
        if (name != group && std::find(others.begin(), others.end(), name) == others.end())
            others.push_back(name);
    if (!others.empty())
        info.facts.emplace_back("other groups", fmt::format("{} (--group)", fmt::join(others, ", ")));
    return info;
}

} // namespace mri
