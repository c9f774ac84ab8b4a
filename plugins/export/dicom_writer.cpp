// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/dicom_writer.hpp"

#include "plugins/export/digest.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/text.hpp"

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcostrmb.h>
#include <dcmtk/dcmdata/dctk.h>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <limits>
#include <memory>
#include <numbers>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace mri {

namespace fs = std::filesystem;

namespace {

constexpr double largest_stored = 32767; // of 16-bit integers, with a sign or without

// --- the folder ----------------------------------------------------------------------------------

/// "series-12" -> true
bool numbered(std::string_view name, std::string_view begin, std::string_view end) {
    if (name.size() <= begin.size() + end.size() || !name.starts_with(begin) || !name.ends_with(end))
        return false;
    name = name.substr(begin.size(), name.size() - begin.size() - end.size());
    return name.find_first_not_of("0123456789") == std::string_view::npos;
}

Error cannot_write(const fs::path& path, const std::error_code& code) {
    return Error(Errc::open_write, "'" + path.string() + "' cannot be written: " + code.message());
}

// --- texts ---------------------------------------------------------------------------------------

/// A decimal string (DS): 16 characters at most.
std::string decimal(double value) {
    if (value == 0)
        return "0"; // never -0
    for (int digits = 12;; --digits) {
        std::string text = fmt::format("{:.{}g}", value, digits);
        if (text.size() <= 16)
            return text;
    }
}

template <class Values>
std::string decimals(const Values& values) {
    std::string text;
    for (const double value : values)
        text += (text.empty() ? "" : "\\") + decimal(value);
    return text;
}

/// A number of the header as DS, empty where it is none.
std::string decimal_text(const std::string& text) {
    const auto value = parse_number<double>(text);
    return value && std::isfinite(*value) ? decimal(*value) : std::string();
}

/// Time of day (TM) of so many seconds, which count around midnight.
std::string time_of_day(double seconds) {
    auto us = static_cast<std::int64_t>(std::llround(std::fmod(seconds, 86400.0) * 1e6)) % 86'400'000'000;
    return fmt::format("{:02}{:02}{:02}.{:06}", us / 3'600'000'000, us / 60'000'000 % 60, us / 1'000'000 % 60,
                       us % 1'000'000);
}

/// "2026-03-01" -> "20260301"; empty for what is no date.
std::string date_text(const std::string& text) {
    std::string digits;
    for (const char c : text.substr(0, 10))
        if (c >= '0' && c <= '9')
            digits += c;
    return digits.size() == 8 ? digits : std::string();
}

/// "10:20:30.5" -> "102030.5"; empty for what is no time.
std::string clock_text(const std::string& text) {
    if (text.size() < 8 || text[2] != ':' || text[5] != ':')
        return {};
    std::string out = text.substr(0, 2) + text.substr(3, 2) + text.substr(6, 2);
    if (text.size() > 9 && text[8] == '.')
        for (std::size_t i = 9; i < text.size() && text[i] >= '0' && text[i] <= '9' && i < 15; ++i)
            out += (i == 9 ? "." : "") + std::string(1, text[i]);
    return out.find_first_not_of("0123456789.") == std::string::npos ? out : std::string();
}

/// Text for one value of a text element: no separators, no control characters, at most `most` bytes of whole
/// UTF-8 characters.
std::string plain(std::string text, std::size_t most) {
    for (char& c : text)
        if (c == '\\' || static_cast<unsigned char>(c) < 32)
            c = ' ';
    if (text.size() > most) {
        while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80)
            --most;
        text.resize(most);
    }
    return std::string(trimmed(text));
}

bool is_uid(const std::string& text) {
    if (text.empty() || text.size() > 64 || text.find_first_not_of("0123456789.") != std::string::npos)
        return false;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find('.', begin), text.size());
        if (end == begin || (end > begin + 1 && text[begin] == '0'))
            return false;
        begin = end + 1;
    }
    return text.find('.') != std::string::npos;
}

// --- data sets -----------------------------------------------------------------------------------

void put(DcmItem& item, const DcmTagKey& tag, const std::string& value) {
    const OFCondition status = item.putAndInsertString(tag, value.c_str());
    if (status.bad())
        throw Error(Errc::failed, "A DICOM attribute could not be set",
                    fmt::format("({:04x},{:04x}): {}", tag.getGroup(), tag.getElement(), status.text()));
}

void put(DcmItem& item, const DcmTagKey& tag, std::size_t value) {
    put(item, tag, std::to_string(value));
}

void put_word(DcmItem& item, const DcmTagKey& tag, unsigned value) {
    item.putAndInsertUint16(tag, static_cast<Uint16>(value));
}

/// What all images of one series have in common.
struct Series {
    const Stack* stack = nullptr;
    std::size_t number = 1; // from 1
    std::size_t images = 0;
    double slope = 1;
    double window_centre = 0, window_width = 1;
    std::string digest; // of what is in it
    std::string study, frame_of_reference, uid;
};

bool has_sign(ExportPart part) {
    return part != ExportPart::magnitude;
}

std::vector<std::int16_t> stored(std::span<const float> pixels, double slope) {
    std::vector<std::int16_t> out(pixels.size());
    std::transform(pixels.begin(), pixels.end(), out.begin(), [slope](float v) {
        return static_cast<std::int16_t>(
            std::lround(std::clamp(static_cast<double>(v) / slope, -largest_stored, largest_stored)));
    });
    return out;
}

/// Scale, window and digest of a stack.
Series measured(const Stack& stack, const Collected& all) {
    Series series;
    series.stack = &stack;
    double largest = 0;
    const auto each = [&](const auto& work) {
        for (const Slice& slice : stack.slices)
            for (const std::size_t i : slice.images)
                work(all.images[i], all.spool->read(all.images[i].pixels));
    };
    each([&](const ExportedImage&, const std::vector<float>& pixels) {
        ++series.images;
        for (const float v : pixels)
            largest = std::max(largest, static_cast<double>(std::abs(v)));
    });
    const bool phase = all.part == ExportPart::phase;
    if (phase)
        largest = std::numbers::pi;
    // As it is written, so that readers compute with the same one.
    if (largest > 0)
        series.slope = parse_number<double>(decimal(largest / largest_stored * (1 + 1e-9))).value_or(1);

    std::vector<std::uint64_t> histogram(static_cast<std::size_t>(largest_stored) + 1);
    std::uint64_t count = 0;
    Digest digest;
    digest.add(to_string(all.part)).add(decimal(series.slope));
    each([&](const ExportedImage& image, const std::vector<float>& pixels) {
        const auto values = stored(pixels, series.slope);
        for (const std::int16_t v : values)
            ++histogram[static_cast<std::size_t>(std::abs(v))];
        count += values.size();
        digest
            .add(decimals(image.plane.first_voxel) + decimals(image.plane.row) + decimals(image.plane.column))
            .add(static_cast<std::size_t>(image.time.value_or(0)))
            .add(std::as_bytes(std::span(values)));
    });
    series.digest = digest.text();
    // The window ends at the 99.5th percentile.
    std::uint64_t below = 0;
    std::size_t level = 0;
    while (level + 1 < histogram.size() &&
           static_cast<double>(below += histogram[level]) < 0.995 * static_cast<double>(count))
        ++level;
    const double bright =
        phase ? std::numbers::pi : static_cast<double>(std::max<std::size_t>(level, 1)) * series.slope;
    series.window_centre = has_sign(all.part) ? 0 : bright / 2;
    series.window_width = has_sign(all.part) ? 2 * bright : bright;
    return series;
}

/// The study of each header's images. A header that names the measurement stands for it; of others all that
/// was measured does.
std::string study_of(int number, const Collected& all, const std::vector<Series>& series, bool anonymize) {
    const CollectedHeader& header = all.headers[static_cast<std::size_t>(number)];
    if (std::string uid = header.text("studyInformation/studyInstanceUID"); !anonymize && is_uid(uid))
        return uid;
    Digest digest;
    digest.add("study").add(header.xml);
    if (header.text("studyInformation/studyInstanceUID").empty() &&
        header.text("measurementInformation/measurementID").empty())
        for (const Series& s : series)
            if (all.images[s.stack->slices.front().images.front()].header == number)
                digest.add(s.digest);
    return digest.uid();
}

void put_patient_and_study(DcmItem& set, const CollectedHeader& header, bool anonymize) {
    const auto text = [&](const char* path, std::size_t most) {
        return anonymize ? std::string() : plain(header.text(path), most);
    };
    const std::string sex = text("subjectInformation/patientGender", 16);
    put(set, DCM_PatientName, text("subjectInformation/patientName", 64));
    put(set, DCM_PatientID, text("subjectInformation/patientID", 64));
    put(set, DCM_PatientBirthDate, date_text(text("subjectInformation/patientBirthdate", 32)));
    put(set, DCM_PatientSex, sex == "M" || sex == "F" || sex == "O" ? sex : "");
    put(set, DCM_StudyDate, date_text(text("studyInformation/studyDate", 32)));
    put(set, DCM_StudyTime, clock_text(text("studyInformation/studyTime", 32)));
    put(set, DCM_StudyID, text("studyInformation/studyID", 16));
    put(set, DCM_AccessionNumber, text("studyInformation/accessionNumber", 16));
    put(set, DCM_ReferringPhysicianName, text("studyInformation/referringPhysicianName", 64));
    if (anonymize) {
        put(set, DCM_PatientIdentityRemoved, "YES");
        put(set, DCM_DeidentificationMethod, "Patient, people, places, dates and identifiers not taken over");
        return;
    }
    const std::pair<DcmTagKey, std::string> optional[] = {
        {DCM_PatientWeight, decimal_text(text("subjectInformation/patientWeight_kg", 32))},
        {DCM_StudyDescription, text("studyInformation/studyDescription", 64)},
        {DCM_ProtocolName, text("measurementInformation/protocolName", 64)},
        {DCM_InstitutionName, text("acquisitionSystemInformation/institutionName", 64)},
        {DCM_StationName, text("acquisitionSystemInformation/stationName", 16)},
        {DCM_DeviceSerialNumber, text("acquisitionSystemInformation/deviceSerialNumber", 64)},
    };
    for (const auto& [tag, value] : optional)
        if (!value.empty())
            put(set, tag, value);
}

void put_equipment(DcmItem& set, const CollectedHeader& header, const std::string& provenance) {
    put(set, DCM_Manufacturer, plain(header.text("acquisitionSystemInformation/systemVendor"), 64));
    if (const std::string model = plain(header.text("acquisitionSystemInformation/systemModel"), 64);
        !model.empty())
        put(set, DCM_ManufacturerModelName, model);
    put(set, DCM_SoftwareVersions, "gst-mri " GST_MRI_VERSION);
    put(set, DCM_ImageComments, plain(provenance, 10240));

    auto* purpose = new DcmItem;
    auto* equipment = new DcmItem;
    set.insertSequenceItem(DCM_ContributingEquipmentSequence, equipment);
    equipment->insertSequenceItem(DCM_PurposeOfReferenceCodeSequence, purpose);
    put(*purpose, DCM_CodeValue, "109102");
    put(*purpose, DCM_CodingSchemeDesignator, "DCM");
    put(*purpose, DCM_CodeMeaning, "Processing Equipment");
    put(*equipment, DCM_Manufacturer, "gst-mri");
    put(*equipment, DCM_ManufacturerModelName, "gst-mri");
    put(*equipment, DCM_SoftwareVersions, GST_MRI_VERSION);
    put(*equipment, DCM_ContributionDescription, plain(provenance, 1024));
}

void put_sequence(DcmItem& set, const ExportedImage& image, const CollectedHeader& header) {
    put(set, DCM_ScanningSequence, "RM"); // research mode
    put(set, DCM_SequenceVariant, "NONE");
    put(set, DCM_MRAcquisitionType, "2D");
    const auto contrast = static_cast<std::size_t>(image.contrast);
    put(set, DCM_RepetitionTime, decimal_text(header.text("sequenceParameters/TR")));
    put(set, DCM_EchoTime, decimal_text(header.text("sequenceParameters/TE", contrast)));
    put(set, DCM_EchoTrainLength, "");
    put(set, DCM_EchoNumbers, contrast + 1);
    const std::pair<DcmTagKey, const char*> optional[] = {
        {DCM_InversionTime, "sequenceParameters/TI"},
        {DCM_FlipAngle, "sequenceParameters/flipAngle_deg"},
        {DCM_MagneticFieldStrength, "acquisitionSystemInformation/systemFieldStrength_T"},
    };
    for (const auto& [tag, path] : optional)
        if (const std::string value = decimal_text(header.text(path)); !value.empty())
            put(set, tag, value);
    if (const auto hertz =
            parse_number<double>(header.text("experimentalConditions/H1resonanceFrequency_Hz"));
        hertz && *hertz > 0)
        put(set, DCM_ImagingFrequency, decimal(*hertz * 1e-6));
}

void put_plane(DcmItem& set, const ImagePlane& plane, const Slice& slice, const Stack& stack) {
    put(set, DCM_ImagePositionPatient, decimals(plane.first_voxel));
    put(set, DCM_ImageOrientationPatient, decimals(plane.row) + "\\" + decimals(plane.column));
    put(set, DCM_PixelSpacing, decimals(std::array{plane.spacing_y, plane.spacing_x})); // rows, then columns
    put(set, DCM_SliceThickness, plane.thickness > 0 ? decimal(plane.thickness) : "");
    put(set, DCM_SliceLocation, decimal(slice.position));
    if (const auto spacing = even_spacing(stack))
        put(set, DCM_SpacingBetweenSlices, decimal(*spacing));
}

/// Times of image `index` of its slice. Trigger times are those of gated scans alone.
void put_time(DcmItem& set, const Slice& slice, std::size_t index, const Collected& all, double tick_ms) {
    const ExportedImage& image = all.images[slice.images[index]];
    put(set, DCM_ContentDate, "");
    std::string clock;
    if (image.time) {
        // By the first image's time stamp and what the stream counts from there: stamps wrap and stand still.
        const ExportedImage& start = all.images.front();
        double seconds = static_cast<double>(*image.time) * 1e-9;
        if (start.stamp && *start.stamp > 0 && start.time)
            seconds += *start.stamp * tick_ms * 1e-3 - static_cast<double>(*start.time) * 1e-9;
        if (seconds >= 0)
            clock = time_of_day(seconds);
    }
    put(set, DCM_ContentTime, clock);
    if (!clock.empty())
        put(set, DCM_AcquisitionTime, clock);
    const bool gated = std::any_of(slice.images.begin(), slice.images.end(),
                                   [&](std::size_t i) { return all.images[i].gated; });
    put(set, DCM_ScanOptions, gated ? "CG" : "");
    if (gated) {
        const ExportedImage& first =
            *std::find_if(all.images.begin() + static_cast<std::ptrdiff_t>(slice.images.front()),
                          all.images.end(), [&](const ExportedImage& other) {
                              return other.repetition == image.repetition && other.series == image.series;
                          });
        const bool known = image.time && first.time && *image.time >= *first.time;
        put(set, DCM_TriggerTime,
            known ? decimal(static_cast<double>(*image.time - *first.time) * 1e-6) : "");
    }
    if (slice.images.size() > 1) {
        put(set, DCM_TemporalPositionIdentifier, index + 1);
        put(set, DCM_NumberOfTemporalPositions, slice.images.size());
        if (const double step = time_step(slice, all.images).mean; step > 0)
            put(set, DCM_TemporalResolution, decimal(step * 1e3));
    }
}

void put_pixels(DcmItem& set, const Series& series, const ImagePlane& plane, ExportPart part,
                std::span<const float> pixels) {
    put_word(set, DCM_SamplesPerPixel, 1);
    put(set, DCM_PhotometricInterpretation, "MONOCHROME2");
    put_word(set, DCM_Rows, static_cast<unsigned>(plane.height));
    put_word(set, DCM_Columns, static_cast<unsigned>(plane.width));
    put_word(set, DCM_BitsAllocated, 16);
    put_word(set, DCM_BitsStored, 16);
    put_word(set, DCM_HighBit, 15);
    put_word(set, DCM_PixelRepresentation, has_sign(part) ? 1 : 0);
    put(set, DCM_RescaleIntercept, "0");
    put(set, DCM_RescaleSlope, decimal(series.slope));
    put(set, DCM_RescaleType, "US");
    put(set, DCM_WindowCenter, decimal(series.window_centre));
    put(set, DCM_WindowWidth, decimal(series.window_width));
    put(set, DCM_VOILUTFunction, "LINEAR_EXACT"); // the other one has no widths below 1
    const auto values = stored(pixels, series.slope);
    const std::vector<Uint16> words(values.begin(), values.end());
    auto data = std::make_unique<DcmPixelData>(DCM_PixelData);
    data->setVR(EVR_OW);
    if (data->putUint16Array(words.data(), words.size()).bad() || set.insert(data.get(), OFTrue).bad())
        throw Error(Errc::no_memory, "No memory for a DICOM image");
    static_cast<void>(data.release()); // the data set's
}

void save(DcmFileFormat& file, const fs::path& path) {
    std::ofstream out(path, std::ios::binary);
    const auto failed = [&](const std::string& reason) {
        return Error(Errc::write, "'" + path.string() + "' cannot be written: " + reason);
    };
    if (!out)
        throw failed(std::strerror(errno));
    std::vector<char> bytes(std::size_t{1} << 16);
    DcmOutputBufferStream stream(bytes.data(), static_cast<offile_off_t>(bytes.size()));
    file.transferInit();
    OFCondition status;
    do {
        status = file.write(stream, EXS_LittleEndianExplicit, EET_ExplicitLength, nullptr);
        void* begin = nullptr;
        offile_off_t size = 0;
        stream.flushBuffer(begin, size);
        errno = 0;
        if (!out.write(static_cast<const char*>(begin), static_cast<std::streamsize>(size)))
            throw failed(std::strerror(errno));
    } while (status == EC_StreamNotifyClient);
    file.transferEnd();
    if (status.bad())
        throw failed(status.text());
    errno = 0;
    out.close();
    if (!out)
        throw failed(std::strerror(errno));
}

const char* type_name(ExportPart part) {
    constexpr const char* names[] = {"M", "P", "R", "I"};
    return names[static_cast<std::size_t>(part)];
}

/// Position of the patient in the magnet, where the header has a value that DICOM knows.
std::string patient_position(const CollectedHeader& header) {
    const std::string text = header.text("measurementInformation/patientPosition");
    constexpr std::string_view known[] = {"HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"};
    return std::find(std::begin(known), std::end(known), text) != std::end(known) ? text : std::string();
}

void write_series(DicomFolder& folder, const Series& series, const Collected& all,
                  const DicomOptions& options) {
    std::size_t number = 0;
    for (const Slice& slice : series.stack->slices)
        for (std::size_t index = 0; index < slice.images.size(); ++index) {
            const ExportedImage& image = all.images[slice.images[index]];
            const CollectedHeader& header = all.headers[static_cast<std::size_t>(image.header)];
            ++number;
            DcmFileFormat file;
            DcmDataset& set = *file.getDataset();
            put(set, DCM_SpecificCharacterSet, "ISO_IR 192");
            put(set, DCM_ImageType, std::string("ORIGINAL\\PRIMARY\\") + type_name(all.part));
            put(set, DCM_SOPClassUID, UID_MRImageStorage);
            put(set, DCM_SOPInstanceUID, Digest().add("image").add(series.uid).add(number).uid());
            put(set, DCM_StudyInstanceUID, series.study);
            put(set, DCM_SeriesInstanceUID, series.uid);
            put(set, DCM_FrameOfReferenceUID, series.frame_of_reference);
            put(set, DCM_PositionReferenceIndicator, "");
            put(set, DCM_Modality, "MR");
            put(set, DCM_PatientPosition, patient_position(header));
            put(set, DCM_Laterality, "");
            put(set, DCM_SeriesNumber, series.number);
            put(set, DCM_SeriesDescription, fmt::format("gst-mri {}", to_string(all.part)));
            put(set, DCM_AcquisitionNumber, index + 1);
            put(set, DCM_InstanceNumber, number);
            put_patient_and_study(set, header, options.anonymize);
            put_equipment(set, header, all.provenance);
            put_sequence(set, image, header);
            put_plane(set, image.plane, slice, *series.stack);
            put_time(set, slice, index, all, options.tick_ms);
            put_pixels(set, series, image.plane, all.part, all.spool->read(image.pixels));
            save(file, folder.new_file(series.number, number, series.images));
        }
}

} // namespace

// --- DicomFolder ---------------------------------------------------------------------------------

DicomFolder::DicomFolder(fs::path folder, bool overwrite)
    : folder_(std::move(folder)), overwrite_(overwrite) {
    std::error_code code;
    const auto status = fs::status(folder_, code);
    if (!fs::exists(status)) {
        if (!fs::create_directory(folder_, code))
            throw Error(Errc::open_write,
                        "The folder '" + folder_.string() + "' cannot be made: " + code.message());
        made_ = true;
    } else if (!fs::is_directory(status)) {
        throw Error(Errc::open_write,
                    "'" + folder_.string() + "' is no folder: mridicomsink writes many files");
    }
    earlier();
}

DicomFolder::~DicomFolder() {
    std::error_code ignored;
    if (!partial_.empty())
        fs::remove_all(partial_, ignored);
    if (made_)
        fs::remove(folder_, ignored); // fails where something is in it
}

std::vector<fs::path> DicomFolder::earlier() const {
    std::error_code code;
    std::vector<fs::path> series;
    const auto refuse = [&](const fs::path& path) {
        return Error(Errc::open_write, "'" + folder_.string() + "' holds other files ('" + path.string() +
                                           "'): mridicomsink writes into an empty or new folder");
    };
    for (fs::directory_iterator entry(folder_, code), end; !code && entry != end; entry.increment(code)) {
        const std::string name = entry->path().filename().string();
        if (name.starts_with(".partial-"))
            continue;
        if (!numbered(name, "series-", "") || !entry->is_directory() || entry->is_symlink())
            throw refuse(entry->path());
        for (const auto& file : fs::directory_iterator(entry->path(), code))
            if (!numbered(file.path().filename().string(), "image-", ".dcm"))
                throw refuse(file.path());
        if (!overwrite_)
            throw Error(Errc::open_write, "'" + folder_.string() +
                                              "' holds DICOM series already: overwrite=true replaces them");
        series.push_back(entry->path());
    }
    if (code)
        throw cannot_write(folder_, code);
    return series;
}

fs::path DicomFolder::new_file(std::size_t series, std::size_t image, std::size_t images) {
    static std::atomic<unsigned> counter{0};
    std::error_code code;
    if (partial_.empty()) {
        const fs::path partial = folder_ / fmt::format(".partial-{}-{}", ::getpid(), counter++);
        if (!fs::create_directory(partial, code))
            throw cannot_write(partial, code);
        partial_ = partial;
    }
    const fs::path folder = partial_ / fmt::format("series-{}", series);
    fs::create_directory(folder, code);
    if (code)
        throw cannot_write(folder, code);
    const auto digits = std::max<std::size_t>(4, std::to_string(images).size());
    return folder / fmt::format("image-{:0{}}.dcm", image, digits);
}

void DicomFolder::finish() {
    const auto check = [&](bool good) {
        if (!good)
            throw Error(Errc::write, "'" + folder_.string() + "' cannot be written: " + std::strerror(errno));
    };
    const int descriptor = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(descriptor >= 0);
    const bool synced = ::syncfs(descriptor) == 0;
    const int reason = errno;
    ::close(descriptor);
    errno = reason;
    check(synced);
    std::error_code code;
    for (const fs::path& series : earlier()) {
        fs::remove_all(series, code);
        if (code)
            throw cannot_write(series, code);
    }
    for (const auto& series : fs::directory_iterator(partial_)) {
        fs::rename(series.path(), folder_ / series.path().filename(), code);
        if (code)
            throw cannot_write(folder_ / series.path().filename(), code);
    }
    fs::remove(partial_, code);
    partial_.clear();
    made_ = false;
}

std::size_t write_dicom(DicomFolder& folder, const Collected& collected, const DicomOptions& options) {
    if (!dcmDataDict.isDictionaryLoaded())
        throw Error(Errc::failed, "DCMTK finds no data dictionary: DCMDICTPATH names one");
    const auto stacks = stack_images(collected.images);
    std::vector<Series> all;
    for (const Stack& stack : stacks) {
        all.push_back(measured(stack, collected));
        all.back().number = all.size();
    }
    for (Series& series : all) {
        const int number = collected.images[series.stack->slices.front().images.front()].header;
        const CollectedHeader& header = collected.headers[static_cast<std::size_t>(number)];
        series.study = study_of(number, collected, all, options.anonymize);
        const std::string frame = header.text("measurementInformation/frameOfReferenceUID");
        series.frame_of_reference = !options.anonymize && is_uid(frame)
                                        ? frame
                                        : Digest().add("frame of reference").add(series.study).uid();
        series.uid = Digest()
                         .add("series")
                         .add(series.study)
                         .add(series.digest)
                         .add(series.number)
                         .add(short_provenance())
                         .uid();
    }
    for (const Series& series : all)
        write_series(folder, series, collected, options);
    folder.finish();
    return all.size();
}

} // namespace mri
