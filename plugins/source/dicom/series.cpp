// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/series.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/statistics.hpp"

#include <dcmtk/config/osconfig.h>
#include <fmt/format.h>

#include <dcmtk/dcmdata/dcrledrg.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/dcmjpls/djdecode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

namespace mri {

namespace {

namespace fs = std::filesystem;

// A matrix beyond this is no cine, whatever the header says.
constexpr int max_matrix = 4096;
// Pixels of a whole series in memory: 1 GiB of float.
constexpr std::size_t max_pixels = std::size_t{1} << 28;
// Images of one slice position repeat it to rounding; neighbouring slices are millimetres apart.
constexpr double position_tolerance = 0.05; // mm
constexpr double direction_tolerance = 1e-3;

void initialise_dcmtk() {
    static std::once_flag once;
    std::call_once(once, [] {
        // What DCMTK would print about a file is in the reason for skipping it.
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        DcmRLEDecoderRegistration::registerCodecs();
        DJDecoderRegistration::registerCodecs();
        DJLSDecoderRegistration::registerCodecs();
    });
}

std::string trim(const OFString& value) {
    std::string text(value.c_str(), value.length());
    const auto is_space = [](char c) { return c == ' ' || c == '\0'; };
    while (!text.empty() && is_space(text.back()))
        text.pop_back();
    while (!text.empty() && is_space(text.front()))
        text.erase(text.begin());
    return text;
}

std::string get_string(DcmItem& item, const DcmTagKey& tag) {
    OFString value;
    return item.findAndGetOFStringArray(tag, value).good() ? trim(value) : std::string{};
}

std::optional<double> get_double(DcmItem& item, const DcmTagKey& tag, unsigned long position = 0) {
    Float64 value = 0.0;
    if (item.findAndGetFloat64(tag, value, position).good() && std::isfinite(value))
        return value;
    return std::nullopt;
}

using Vec3 = std::array<double, 3>;

double dot(const Vec3& a, const Vec3& b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/// Attributes that decide the series of an image, and its place there.
struct Header {
    DicomFrame frame;
    std::string uid, description, patient;
    std::size_t folder = 0;
    std::array<double, 6> orientation{};
    double position = 0.0;
    int width = 0, height = 0;
    double spacing_x = 0.0, spacing_y = 0.0;
    std::optional<double> nominal_interval; // ms
};

/// Meaning of stored values.
struct PixelFormat {
    int width = 0, height = 0;
    int bits_allocated = 0, bits_stored = 0, high_bit = 0;
    bool is_signed = false, inverted = false;
    double slope = 1.0, intercept = 0.0;
};

/// Thrown inside this file only: the file cannot be used, and why.
struct Unusable {
    std::string reason;
};

bool has_dicom_marker(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    char head[132];
    return file.read(head, sizeof head) && std::memcmp(head + 128, "DICM", 4) == 0;
}

void load_file(DcmFileFormat& file, const std::string& path) {
    if (!has_dicom_marker(path))
        throw Unusable{"not a DICOM file"};
    // Long values stay on disk until they are asked for.
    const OFCondition status = file.loadFile(path.c_str(), EXS_Unknown, EGL_noChange, 4096, ERM_fileOnly);
    if (status.bad())
        throw Unusable{std::string("corrupt DICOM file: ") + status.text()};
}

PixelFormat read_pixel_format(DcmDataset& data) {
    const auto number = [&](const DcmTagKey& tag, const char* name) -> int {
        Uint16 value = 0;
        if (data.findAndGetUint16(tag, value).bad())
            throw Unusable{std::string("no image: it has no ") + name};
        return value;
    };
    if (!data.tagExists(DCM_PixelData))
        throw Unusable{"no image: it has no pixel data"};

    PixelFormat format;
    format.height = number(DCM_Rows, "Rows");
    format.width = number(DCM_Columns, "Columns");
    if (format.width < 1 || format.height < 1 || format.width > max_matrix || format.height > max_matrix)
        throw Unusable{
            fmt::format("its matrix of {}x{} is outside 1...{}", format.width, format.height, max_matrix)};

    Uint16 samples = 1;
    data.findAndGetUint16(DCM_SamplesPerPixel, samples);
    const std::string photometric = get_string(data, DCM_PhotometricInterpretation);
    if (samples != 1 || (photometric != "MONOCHROME1" && photometric != "MONOCHROME2"))
        throw Unusable{"not a grey-scale image (" +
                       (photometric.empty() ? "no photometric interpretation" : photometric) + ")"};
    format.inverted = photometric == "MONOCHROME1";

    const std::string frames = get_string(data, DCM_NumberOfFrames);
    if (!frames.empty() && frames != "1")
        throw Unusable{"multi-frame images are not supported (" + frames + " frames in one file)"};

    format.bits_allocated = number(DCM_BitsAllocated, "BitsAllocated");
    format.bits_stored = number(DCM_BitsStored, "BitsStored");
    format.high_bit = number(DCM_HighBit, "HighBit");
    format.is_signed = number(DCM_PixelRepresentation, "PixelRepresentation") != 0;
    if ((format.bits_allocated != 8 && format.bits_allocated != 16) || format.bits_stored < 1 ||
        format.high_bit >= format.bits_allocated || format.bits_stored > format.high_bit + 1)
        throw Unusable{fmt::format("pixels of {} bits in {} are not supported", format.bits_stored,
                                   format.bits_allocated)};

    format.slope = get_double(data, DCM_RescaleSlope).value_or(1.0);
    format.intercept = get_double(data, DCM_RescaleIntercept).value_or(0.0);
    if (format.slope == 0.0)
        throw Unusable{"its RescaleSlope is zero"};

    const E_TransferSyntax syntax = data.getOriginalXfer();
    const auto bytes = static_cast<unsigned long>(format.bits_allocated / 8);
    DcmElement* element = nullptr;
    if (data.findAndGetElement(DCM_PixelData, element).bad() || element == nullptr)
        throw Unusable{"no image: its pixel data cannot be read"};
    // Compressed pixels show their length only once they are decoded.
    if (!DcmXfer(syntax).isEncapsulated() &&
        element->getLength(syntax) < bytes * static_cast<unsigned long>(format.width * format.height))
        throw Unusable{"its pixel data end too early"};
    return format;
}

/// ImageType (0008,0008) of phase maps: "...\PHASE MAP", "...\P\..." or "...\PHASE CONTRAST M\...\VELOCITY".
bool is_phase_image(DcmItem& data) {
    for (unsigned long i = 2;; ++i) {
        OFString value;
        if (data.findAndGetOFString(DCM_ImageType, value, i).bad())
            return false;
        const std::string type = trim(value);
        if (type == "P" || type == "PHASE" || type == "PHASE MAP" || type == "VELOCITY")
            return true;
    }
}

Header read_header(const std::string& path, std::size_t folder) {
    DcmFileFormat file;
    load_file(file, path);
    DcmDataset& data = *file.getDataset();
    const PixelFormat format = read_pixel_format(data);
    if (is_phase_image(data))
        throw Unusable{"a phase image"};

    Header header;
    header.folder = folder;
    header.frame.path = path;
    header.width = format.width;
    header.height = format.height;
    header.uid = get_string(data, DCM_SeriesInstanceUID);
    if (header.uid.empty())
        throw Unusable{"it has no SeriesInstanceUID"};
    header.description = get_string(data, DCM_SeriesDescription);
    header.patient = get_string(data, DCM_PatientID);

    // PixelSpacing: between rows first, then between columns.
    const auto row_spacing = get_double(data, DCM_PixelSpacing, 0),
               column_spacing = get_double(data, DCM_PixelSpacing, 1);
    if (!row_spacing || !column_spacing || *row_spacing <= 0.0 || *column_spacing <= 0.0)
        throw Unusable{"it has no PixelSpacing"};
    header.spacing_y = *row_spacing;
    header.spacing_x = *column_spacing;

    bool oriented = true;
    for (unsigned long i = 0; i < 6; ++i) {
        const auto value = get_double(data, DCM_ImageOrientationPatient, i);
        oriented = oriented && value.has_value();
        header.orientation[i] = value.value_or(0.0);
    }
    if (!oriented)
        header.orientation.fill(0.0);
    const auto x = get_double(data, DCM_ImagePositionPatient, 0),
               y = get_double(data, DCM_ImagePositionPatient, 1),
               z = get_double(data, DCM_ImagePositionPatient, 2);
    if (x && y && z && oriented) {
        const auto& o = header.orientation;
        const Vec3 normal{o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]};
        header.position = dot(normal, Vec3{*x, *y, *z});
    } else if (const auto location = get_double(data, DCM_SliceLocation)) {
        // Optional, relative, or 0 in all files of some exports: only where there is nothing better.
        header.position = *location;
    } else {
        throw Unusable{"it has neither position and orientation nor SliceLocation"};
    }

    if (const auto time = get_double(data, DCM_TriggerTime)) {
        header.frame.has_trigger_time = true;
        header.frame.trigger_time = *time;
    }
    Sint32 instance = 0;
    if (data.findAndGetSint32(DCM_InstanceNumber, instance).good())
        header.frame.instance_number = instance;
    Sint32 interval = 0;
    if (data.findAndGetSint32(DCM_NominalInterval, interval).good())
        header.nominal_interval = interval;
    return header;
}

bool same_place(const Header& a, const Header& b) {
    if (a.uid != b.uid || a.folder != b.folder || std::abs(a.position - b.position) > position_tolerance)
        return false;
    for (std::size_t i = 0; i < 6; ++i)
        if (std::abs(a.orientation[i] - b.orientation[i]) > direction_tolerance)
            return false;
    return true;
}

bool same_geometry(const Header& a, const Header& b) {
    return a.width == b.width && a.height == b.height &&
           std::abs(a.spacing_x - b.spacing_x) <= 1e-4 * a.spacing_x &&
           std::abs(a.spacing_y - b.spacing_y) <= 1e-4 * a.spacing_y;
}

std::string describe_geometry(const Header& h) {
    return fmt::format("{}x{} of {}x{} mm", h.width, h.height, h.spacing_x, h.spacing_y);
}

/// Keeps the images with the most common geometry, the first of equals.
void keep_one_geometry(std::vector<Header>& group, std::vector<DicomSkipped>& skipped) {
    std::size_t best = 0, best_count = 0;
    for (std::size_t i = 0; i < group.size(); ++i) {
        const auto count = static_cast<std::size_t>(std::count_if(
            group.begin(), group.end(), [&](const Header& h) { return same_geometry(group[i], h); }));
        if (count > best_count)
            best = i, best_count = count;
        if (best_count * 2 > group.size())
            break;
    }
    if (best_count == group.size())
        return;
    const Header reference = group[best];
    std::vector<Header> kept;
    for (Header& h : group) {
        if (same_geometry(reference, h))
            kept.push_back(std::move(h));
        else
            skipped.push_back({h.frame.path, "its geometry (" + describe_geometry(h) +
                                                 ") differs from that of its series (" +
                                                 describe_geometry(reference) + ")"});
    }
    group = std::move(kept);
}

/// Seconds between frames: the median step of the trigger times, else the nominal R-R interval over the
/// frames.
double find_frame_duration(const std::vector<Header>& group, bool by_trigger) {
    if (by_trigger) {
        std::vector<double> steps;
        for (std::size_t i = 1; i < group.size(); ++i) {
            const double step = group[i].frame.trigger_time - group[i - 1].frame.trigger_time;
            if (step > 0.0)
                steps.push_back(step);
        }
        if (!steps.empty())
            return median(steps) * 1e-3;
    }
    const auto interval = group.front().nominal_interval;
    return interval && *interval > 0.0 ? *interval * 1e-3 / static_cast<double>(group.size()) : 0.0;
}

DicomSeries make_series(std::vector<Header>& group) {
    const bool all_triggered =
        std::all_of(group.begin(), group.end(), [](const Header& h) { return h.frame.has_trigger_time; });
    // Some exports write one trigger time into every image: then it orders nothing.
    const bool by_trigger = all_triggered && std::any_of(group.begin(), group.end(), [&](const Header& h) {
                                return h.frame.trigger_time != group.front().frame.trigger_time;
                            });
    std::stable_sort(group.begin(), group.end(), [&](const Header& a, const Header& b) {
        const double ta = by_trigger ? a.frame.trigger_time : 0.0,
                     tb = by_trigger ? b.frame.trigger_time : 0.0;
        return std::tie(ta, a.frame.instance_number, a.frame.path) <
               std::tie(tb, b.frame.instance_number, b.frame.path);
    });
    const Header& first = group.front();
    DicomSeries series;
    series.uid = first.uid;
    series.description = first.description;
    series.patient = first.patient;
    series.folder = first.folder;
    series.slice_position = first.position;
    series.width = first.width;
    series.height = first.height;
    series.spacing_x = first.spacing_x;
    series.spacing_y = first.spacing_y;
    series.frame_duration = find_frame_duration(group, by_trigger);
    for (const Header& h : group)
        series.frames.push_back(h.frame);
    return series;
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
    const auto open_error = [&] {
        return Error(Errc::open_read, "Cannot read the folder '" + folder + "': " + code.message());
    };
    if (recursive) {
        fs::recursive_directory_iterator it(folder, code);
        if (code)
            throw open_error();
        list_files(std::move(it), folder, paths);
    } else {
        fs::directory_iterator it(folder, code);
        if (code)
            throw open_error();
        list_files(std::move(it), folder, paths);
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

/// Decodes one image into float [height][width].
void read_pixels(const DicomFrame& frame, const DicomSeries& series, float* out) {
    DcmFileFormat file;
    load_file(file, frame.path);
    DcmDataset& data = *file.getDataset();
    const PixelFormat format = read_pixel_format(data);
    if (format.width != series.width || format.height != series.height)
        throw Unusable{"its matrix is not that of its series any more"};
    if (data.chooseRepresentation(EXS_LittleEndianExplicit, nullptr).bad() ||
        !data.canWriteXfer(EXS_LittleEndianExplicit))
        throw Unusable{"its compression (" + std::string(DcmXfer(data.getOriginalXfer()).getXferName()) +
                       ") is not supported"};

    const std::size_t count =
        checked_product({static_cast<std::size_t>(format.width), static_cast<std::size_t>(format.height)},
                        max_pixels, "an image");
    const std::size_t bytes = static_cast<std::size_t>(format.bits_allocated) / 8;
    DcmElement* element = nullptr;
    if (data.findAndGetElement(DCM_PixelData, element).bad() || element == nullptr)
        throw Unusable{"no image: it has no pixel data"};
    if (element->getLength() < count * bytes)
        throw Unusable{"its pixel data end too early"};

    const int shift = format.high_bit + 1 - format.bits_stored;
    const std::uint32_t mask = (std::uint32_t{1} << format.bits_stored) - 1;
    const std::uint32_t sign = std::uint32_t{1} << (format.bits_stored - 1);
    const auto convert = [&](std::uint32_t raw) {
        std::int32_t value = static_cast<std::int32_t>((raw >> shift) & mask);
        if (format.is_signed && (static_cast<std::uint32_t>(value) & sign) != 0)
            value -= static_cast<std::int32_t>(mask) + 1;
        if (format.inverted)
            value = format.is_signed ? -1 - value : static_cast<std::int32_t>(mask) - value;
        return static_cast<float>(value * format.slope + format.intercept);
    };
    if (bytes == 2) {
        Uint16* values = nullptr;
        if (element->getUint16Array(values).bad() || values == nullptr)
            throw Unusable{"its pixel data cannot be read"};
        std::transform(values, values + count, out, convert);
    } else {
        Uint8* values = nullptr;
        if (element->getUint8Array(values).bad() || values == nullptr)
            throw Unusable{"its pixel data cannot be read"};
        std::transform(values, values + count, out, convert);
    }
}

/// Overlap with the centre n/2 of `from` on the centre of `to`: first index in each, and how many.
struct Overlap {
    int from = 0, to = 0, count = 0;
};

Overlap centre_overlap(int from, int to) {
    const int offset = from / 2 - to / 2; // index in `from` of index 0 in `to`
    Overlap o;
    o.from = std::max(0, offset);
    o.to = std::max(0, -offset);
    o.count = std::min(from - o.from, to - o.to);
    return o;
}

} // namespace

DicomScan scan_dicom(std::span<const std::string> folders, bool recursive, std::size_t min_frames) {
    initialise_dcmtk();
    DicomScan scan;
    std::vector<std::vector<Header>> groups;
    std::multimap<std::string, std::size_t> groups_of_uid;
    for (std::size_t f = 0; f < folders.size(); ++f) {
        for (const std::string& path : list_folder(folders[f], recursive)) {
            ++scan.files;
            try {
                Header header = read_header(path, f);
                const auto [begin, end] = groups_of_uid.equal_range(header.uid);
                const auto found = std::find_if(begin, end, [&](const auto& entry) {
                    return same_place(groups[entry.second].front(), header);
                });
                if (found != end) {
                    groups[found->second].push_back(std::move(header));
                } else {
                    groups_of_uid.emplace(header.uid, groups.size());
                    groups.push_back({std::move(header)});
                }
            } catch (const Unusable& unusable) {
                scan.skipped.push_back({path, unusable.reason});
            }
        }
    }

    std::stable_sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
        const Header &x = a.front(), &y = b.front();
        return std::tie(x.folder, x.patient, x.uid, x.position, x.orientation) <
               std::tie(y.folder, y.patient, y.uid, y.position, y.orientation);
    });
    for (std::vector<Header>& group : groups) {
        keep_one_geometry(group, scan.skipped);
        if (group.size() < min_frames) {
            for (const Header& h : group)
                scan.skipped.push_back(
                    {h.frame.path, fmt::format("no cine: its slice has {}{}", group.size(),
                                               (group.size() == 1 ? " image" : " images"))});
            continue;
        }
        scan.series.push_back(make_series(group));
    }
    return scan;
}

std::vector<float> resample_frames(std::span<const float> cine, int frames, std::size_t pixels,
                                   int frames_out, bool cycle) {
    if (frames < 1 || frames_out < 1 || cine.size() != static_cast<std::size_t>(frames) * pixels)
        throw Error(Errc::settings, fmt::format("Cannot resample {} frames to {}", frames, frames_out));
    const std::size_t total =
        checked_product({static_cast<std::size_t>(frames_out), pixels}, max_pixels, "the resampled series");
    std::vector<float> out(total);
    for (int i = 0; i < frames_out; ++i) {
        const double position = cycle             ? static_cast<double>(i) * frames / frames_out
                                : frames_out == 1 ? 0.0
                                                  : static_cast<double>(i) * (frames - 1) / (frames_out - 1);
        const int low = std::min(static_cast<int>(position), frames - 1);
        const int high = cycle ? (low + 1) % frames : std::min(low + 1, frames - 1);
        const auto weight = static_cast<float>(position - low);
        const float* a = cine.data() + static_cast<std::size_t>(low) * pixels;
        const float* b = cine.data() + static_cast<std::size_t>(high) * pixels;
        float* o = out.data() + static_cast<std::size_t>(i) * pixels;
        for (std::size_t p = 0; p < pixels; ++p)
            o[p] = a[p] + weight * (b[p] - a[p]);
    }
    return out;
}

CineSeries load_dicom_series(const DicomSeries& series, const DicomLoadOptions& options) {
    initialise_dcmtk();
    if (options.frames < 0 || options.width < 0 || options.height < 0 || options.width > max_matrix ||
        options.height > max_matrix)
        throw Error(Errc::settings, fmt::format("Cannot make a series of {}x{} with {} frames", options.width,
                                                options.height, options.frames));
    if (series.frames.empty() || series.width < 1 || series.height < 1)
        throw Error(Errc::settings, "The DICOM series '" + series.uid + "' is empty");

    CineSeries cine;
    cine.width = options.width > 0 ? options.width : series.width;
    cine.height = options.height > 0 ? options.height : series.height;
    cine.frames = options.frames > 0 ? options.frames : static_cast<int>(series.frames.size());
    cine.fov_x = cine.width * series.spacing_x;
    cine.fov_y = cine.height * series.spacing_y;
    cine.frame_duration = series.frame_duration * static_cast<double>(series.frames.size()) / cine.frames;

    const Overlap ox = centre_overlap(series.width, cine.width),
                  oy = centre_overlap(series.height, cine.height);
    const auto crop_width = static_cast<std::size_t>(ox.count),
               crop_height = static_cast<std::size_t>(oy.count);
    const std::size_t crop = crop_width * crop_height;
    const auto width = static_cast<std::size_t>(cine.width), height = static_cast<std::size_t>(cine.height);
    const std::string what = "the DICOM series '" + series.uid + "'";
    std::vector<float> pixels(checked_product({series.frames.size(), crop}, max_pixels, what.c_str()));
    const std::size_t total =
        checked_product({static_cast<std::size_t>(cine.frames), width, height}, max_pixels, what.c_str());

    std::vector<float> image(static_cast<std::size_t>(series.width) *
                             static_cast<std::size_t>(series.height));
    for (std::size_t i = 0; i < series.frames.size(); ++i) {
        try {
            read_pixels(series.frames[i], series, image.data());
        } catch (const Unusable& unusable) {
            throw Error(Errc::decode, "Cannot read '" + series.frames[i].path + "': " + unusable.reason);
        }
        for (std::size_t y = 0; y < crop_height; ++y) {
            const float* row =
                image.data() +
                (static_cast<std::size_t>(oy.from) + y) * static_cast<std::size_t>(series.width) +
                static_cast<std::size_t>(ox.from);
            std::copy(row, row + crop_width,
                      pixels.begin() + static_cast<std::ptrdiff_t>(i * crop + y * crop_width));
        }
    }
    if (cine.frames != static_cast<int>(series.frames.size()))
        pixels =
            resample_frames(pixels, static_cast<int>(series.frames.size()), crop, cine.frames, options.cycle);

    if (options.scale) {
        std::vector<float> sorted = pixels;
        const auto peak = static_cast<float>(percentile(sorted, 99.9));
        // A series of zeros stays one.
        const float factor = peak > 0.0f ? 1.0f / peak : 1.0f;
        for (float& value : pixels)
            value = std::clamp(value * factor, 0.0f, 1.0f);
    }

    if (crop == width * height) {
        cine.pixels = std::move(pixels);
        return cine;
    }
    cine.pixels.assign(total, 0.0f);
    for (std::size_t f = 0; f < static_cast<std::size_t>(cine.frames); ++f)
        for (std::size_t y = 0; y < crop_height; ++y) {
            const auto row = pixels.begin() + static_cast<std::ptrdiff_t>(f * crop + y * crop_width);
            std::copy(row, row + static_cast<std::ptrdiff_t>(crop_width),
                      cine.pixels.begin() + static_cast<std::ptrdiff_t>(
                                                (f * height + static_cast<std::size_t>(oy.to) + y) * width +
                                                static_cast<std::size_t>(ox.to)));
        }
    return cine;
}

} // namespace mri
