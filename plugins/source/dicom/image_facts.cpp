// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/image_facts.hpp"

#include "plugins/math/base/text.hpp"
#include "plugins/source/dicom/pixels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace mri {

namespace {

// Philips' sequence with the attributes of an ordinary image, one item a frame.
const DcmTagKey philips_frame_sequence{0x2005, 0x140f};
// GE's kind of an image: 0 magnitude, 1 phase, 2 real, 3 imaginary.
const DcmTagKey ge_creator{0x0043, 0x0010}, ge_image_type{0x0043, 0x102f};

DcmItem* item_of(DcmItem* parent, const DcmTagKey& sequence) {
    DcmItem* item = nullptr;
    return parent != nullptr && parent->findAndGetSequenceItem(sequence, item, 0).good() ? item : nullptr;
}

/// Where the attributes of one image may stand.
class ImageItems {
  public:
    ImageItems(DcmItem& data, DcmItem* shared, DcmItem* own) : shared_(shared), own_(own) {
        for (DcmItem* item : {item_of(own, DCM_UnassignedPerFrameConvertedAttributesSequence),
                              item_of(shared, DCM_UnassignedSharedConvertedAttributesSequence),
                              item_of(own, philips_frame_sequence)})
            if (item != nullptr)
                plain_.push_back(item);
        plain_.push_back(&data);
    }

    /// The n-th number of an attribute of a functional group, else of an ordinary image.
    std::optional<double> number(const DcmTagKey& group, const DcmTagKey& tag, unsigned long n = 0) const {
        for (DcmItem* item : {item_of(own_, group), item_of(shared_, group)})
            if (item != nullptr)
                if (const auto value = dicom_number(*item, tag, n))
                    return value;
        return number(tag, n);
    }
    std::optional<double> number(const DcmTagKey& tag, unsigned long n = 0) const {
        for (DcmItem* item : plain_)
            if (const auto value = dicom_number(*item, tag, n))
                return value;
        return std::nullopt;
    }
    std::string text(const DcmTagKey& group, const DcmTagKey& tag) const {
        for (DcmItem* item : {item_of(own_, group), item_of(shared_, group)})
            if (item != nullptr)
                if (const std::string value = dicom_text(*item, tag); !value.empty())
                    return value;
        return text(tag);
    }
    std::string text(const DcmTagKey& tag) const {
        for (DcmItem* item : plain_)
            if (const std::string value = dicom_text(*item, tag); !value.empty())
                return value;
        return {};
    }
    bool has_own() const { return own_ != nullptr; }

  private:
    DcmItem *shared_, *own_;
    std::vector<DcmItem*> plain_;
};

/// Seconds of the day of a time, "HHMMSS.FFFFFF" with fewer digits or with colons, or of a date with one.
std::optional<double> seconds_of_day(std::string text, bool with_date) {
    if (with_date)
        text.erase(0, std::min<std::size_t>(8, text.size()));
    text = text.substr(0, text.find_first_of("+-&\\")); // the zone is the same for all
    std::erase(text, ':');
    const auto point = text.find('.');
    const std::string digits = text.substr(0, point);
    if (digits.size() < 2 || digits.size() > 6 || digits.size() % 2 != 0 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
        return std::nullopt;
    double seconds = 0.0, unit = 3600.0;
    for (std::size_t i = 0; i < digits.size(); i += 2, unit /= 60.0)
        seconds += unit * ((digits[i] - '0') * 10 + digits[i + 1] - '0');
    if (point != std::string::npos)
        seconds += parse_number<double>("0" + text.substr(point)).value_or(0.0);
    return seconds;
}

/// One value of ImageType or FrameType.
std::optional<DicomImageType> type_of_word(std::string_view word) {
    using enum DicomImageType;
    // Philips joins the type with the sequence: R_FFE, CR_IR (a corrected real image).
    const auto stem = word.substr(0, word.find('_'));
    if (word == "P" || word == "PHASE" || word == "PHASE MAP" || word == "VELOCITY" ||
        word == "VELOCITY MAP" || (stem == "P" && stem != word))
        return phase;
    if (word == "R" || word == "REAL" || ((stem == "R" || stem == "CR") && stem != word))
        return real;
    if (word == "I" || word == "IMAGINARY" || word == "IMAG" || (stem == "I" && stem != word))
        return imaginary;
    return std::nullopt;
}

DicomImageType type_of_words(std::string_view words) {
    // The first two values say whether an image is original and primary.
    for (int n = 0; !words.empty(); ++n) {
        const auto end = std::min(words.find('\\'), words.size());
        if (n >= 2)
            if (const auto type = type_of_word(trimmed(words.substr(0, end))))
                return *type;
        words.remove_prefix(std::min(end + 1, words.size()));
    }
    return DicomImageType::magnitude;
}

/// GE writes the kind in an attribute of its own and calls all images alike.
std::optional<DicomImageType> ge_type(DcmDataset& data) {
    if (dicom_text(data, ge_creator) != "GEMS_PARM_01")
        return std::nullopt;
    auto value = dicom_number(data, ge_image_type);
    if (!value) { // of unknown representation: the bytes of a word
        const Uint8* bytes = nullptr;
        unsigned long count = 0;
        if (data.findAndGetUint8Array(ge_image_type, bytes, &count).good() && bytes != nullptr && count >= 2)
            value = bytes[0] | bytes[1] << 8;
    }
    if (!value || *value < 0 || *value > 3 || *value != std::floor(*value))
        return std::nullopt;
    return static_cast<DicomImageType>(static_cast<int>(*value));
}

DicomImageType type_of(const ImageItems& items, std::optional<DicomImageType> ge) {
    const std::string component = items.text(DCM_MRImageFrameTypeSequence, DCM_ComplexImageComponent);
    for (const auto type : {DicomImageType::magnitude, DicomImageType::phase, DicomImageType::real,
                            DicomImageType::imaginary}) {
        std::string name = to_string(type);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](char c) { return static_cast<char>(c - 'a' + 'A'); });
        if (component == name)
            return type;
    }
    if (ge)
        return *ge;
    const std::string words = items.text(DCM_MRImageFrameTypeSequence, DCM_FrameType);
    return type_of_words(words.empty() ? items.text(DCM_ImageType) : words);
}

std::optional<DicomVector> unit(const DicomVector& v) {
    const double length = std::hypot(v[0], v[1], v[2]);
    if (!(std::abs(length - 1.0) < 0.05))
        return std::nullopt;
    return DicomVector{v[0] / length, v[1] / length, v[2] / length};
}

double dot(const DicomVector& a, const DicomVector& b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

std::optional<DicomPlane> plane_of(const ImageItems& items) {
    DicomVector origin{}, row{}, column{};
    for (unsigned long i = 0; i < 3; ++i) {
        const auto p = items.number(DCM_PlanePositionSequence, DCM_ImagePositionPatient, i);
        const auto r = items.number(DCM_PlaneOrientationSequence, DCM_ImageOrientationPatient, i);
        const auto c = items.number(DCM_PlaneOrientationSequence, DCM_ImageOrientationPatient, i + 3);
        if (!p || !r || !c)
            return std::nullopt;
        origin[i] = *p;
        row[i] = *r;
        column[i] = *c;
    }
    const auto x = unit(row), y = unit(column);
    // Directions that are not unit vectors at right angles are none.
    if (!x || !y || std::abs(dot(*x, *y)) > 0.05)
        return std::nullopt;
    return DicomPlane{origin, *x, *y};
}

/// What is the same for all images of a file.
ImageFacts file_facts(DcmDataset& data, const std::string& path, std::size_t folder,
                      const PixelFormat& format) {
    ImageFacts facts;
    facts.frame.path = path;
    facts.folder = folder;
    facts.width = format.width;
    facts.height = format.height;
    facts.object = dicom_text(data, DCM_SOPInstanceUID);
    facts.uid = dicom_text(data, DCM_SeriesInstanceUID);
    facts.description = dicom_text(data, DCM_SeriesDescription);
    facts.patient = dicom_text(data, DCM_PatientID);
    facts.series_number = dicom_number(data, DCM_SeriesNumber).value_or(0.0);
    return facts;
}

/// Fills in what is the image's own. Throws DicomUnusable.
void read_image(ImageFacts& facts, const ImageItems& items, int frames) {
    // PixelSpacing: between rows first, then between columns.
    const auto row_spacing = items.number(DCM_PixelMeasuresSequence, DCM_PixelSpacing, 0),
               column_spacing = items.number(DCM_PixelMeasuresSequence, DCM_PixelSpacing, 1);
    if (!row_spacing || !column_spacing || *row_spacing <= 0.0 || *column_spacing <= 0.0)
        throw DicomUnusable{DicomSkip::no_image, "it has no PixelSpacing"};
    facts.spacing_y = *row_spacing;
    facts.spacing_x = *column_spacing;
    facts.thickness =
        std::max(0.0, items.number(DCM_PixelMeasuresSequence, DCM_SliceThickness).value_or(0.0));

    facts.plane = plane_of(items);
    if (facts.plane) {
        facts.position = dot(facts.plane->normal(), facts.plane->origin);
    } else if (const auto location = items.number(DCM_SliceLocation)) {
        facts.position = *location;
    } else {
        throw DicomUnusable{DicomSkip::no_image, "it has neither position and orientation nor SliceLocation"};
    }

    facts.frame.slope = items.number(DCM_PixelValueTransformationSequence, DCM_RescaleSlope).value_or(1.0);
    facts.frame.intercept =
        items.number(DCM_PixelValueTransformationSequence, DCM_RescaleIntercept).value_or(0.0);
    if (facts.frame.slope == 0.0)
        throw DicomUnusable{DicomSkip::unreadable, "its RescaleSlope is zero"};

    facts.echo = items.number(DCM_MREchoSequence, DCM_EffectiveEchoTime)
                     .value_or(items.number(DCM_EchoTime).value_or(0.0));

    FrameFacts& time = facts.time;
    time.trigger = items.number(DCM_TriggerTime);
    time.nominal_delay = items.number(DCM_CardiacSynchronizationSequence, DCM_NominalCardiacTriggerDelayTime);
    time.actual_delay = items.number(DCM_CardiacSynchronizationSequence, DCM_ActualCardiacTriggerDelayTime);
    time.offset = items.number(DCM_TemporalPositionSequence, DCM_TemporalPositionTimeOffset);
    if (frames > 1 && !items.has_own() && !time.offset)
        if (const auto frame_time = items.number(DCM_FrameTime))
            time.offset = *frame_time * 1e-3 * facts.frame.index;
    if (items.has_own())
        for (const auto& tag : {DCM_FrameAcquisitionDateTime, DCM_FrameReferenceDateTime})
            if (!time.acquisition)
                time.acquisition = seconds_of_day(items.text(DCM_FrameContentSequence, tag), true);
    if (!time.acquisition)
        time.acquisition = seconds_of_day(items.text(DCM_AcquisitionTime), false);
    if (!time.acquisition)
        time.acquisition = seconds_of_day(items.text(DCM_AcquisitionDateTime), true);
    time.content = seconds_of_day(items.text(DCM_ContentTime), false);
    time.position = items.number(DCM_FrameContentSequence, DCM_TemporalPositionIndex);
    if (!time.position)
        time.position = items.number(DCM_TemporalPositionIdentifier);
    time.acquisition_number = items.number(DCM_FrameContentSequence, DCM_FrameAcquisitionNumber);
    if (!time.acquisition_number)
        time.acquisition_number = items.number(DCM_AcquisitionNumber);
    time.instance = items.number(DCM_InstanceNumber);
    if (frames > 1) // the frames of one file after those of another
        time.instance = time.instance.value_or(0) * static_cast<double>(max_dicom_pixels) + facts.frame.index;

    facts.nominal_interval = items.number(DCM_CardiacSynchronizationSequence, DCM_RRIntervalTimeNominal);
    if (!facts.nominal_interval)
        facts.nominal_interval = items.number(DCM_NominalInterval);
}

void add_skipped(std::vector<DicomSkipped>& skipped, const std::string& path, const DicomUnusable& why) {
    const auto found = std::find_if(skipped.begin(), skipped.end(),
                                    [&](const DicomSkipped& s) { return s.reason == why.reason; });
    if (found == skipped.end())
        skipped.push_back({why.kind, path, why.reason, 1});
    else
        ++found->images;
}

/// Items of the frames' own functional groups; empty for an ordinary file.
std::vector<DcmItem*> frame_items(DcmDataset& data, int frames) {
    DcmSequenceOfItems* sequence = nullptr;
    if (data.findAndGetSequence(DCM_PerFrameFunctionalGroupsSequence, sequence).bad() || sequence == nullptr)
        return {};
    if (sequence->card() < static_cast<unsigned long>(frames))
        throw DicomUnusable{
            DicomSkip::unreadable,
            fmt::format("it has functional groups for {} of its {} frames", sequence->card(), frames)};
    std::vector<DcmItem*> items;
    for (DcmObject* item = sequence->nextInContainer(nullptr);
         item != nullptr && items.size() < static_cast<std::size_t>(frames);
         item = sequence->nextInContainer(item))
        items.push_back(static_cast<DcmItem*>(item));
    return items;
}

} // namespace

const char* to_string(DicomImageType type) noexcept {
    switch (type) {
    case DicomImageType::magnitude:
        return "magnitude";
    case DicomImageType::phase:
        return "phase";
    case DicomImageType::real:
        return "real";
    case DicomImageType::imaginary:
        return "imaginary";
    }
    return "magnitude";
}

DicomVector DicomPlane::normal() const {
    return {row[1] * column[2] - row[2] * column[1], row[2] * column[0] - row[0] * column[2],
            row[0] * column[1] - row[1] * column[0]};
}

DicomVector DicomPlane::at(double x, double y) const {
    DicomVector point = origin;
    for (std::size_t i = 0; i < 3; ++i)
        point[i] += x * row[i] + y * column[i];
    return point;
}

FileFacts read_facts(const std::string& path, std::size_t folder, DicomImageType wanted) {
    FileFacts out;
    try {
        const auto file = open_dicom(path);
        DcmDataset& data = *file->getDataset();
        if (dicom_text(data, DCM_SOPClassUID) == UID_MediaStorageDirectoryStorage ||
            data.tagExists(DCM_DirectoryRecordSequence)) {
            out.directory = true;
            return out;
        }
        const PixelFormat format = read_pixel_format(data);
        const std::vector<DcmItem*> own = frame_items(data, format.frames);
        DcmItem* shared = item_of(&data, DCM_SharedFunctionalGroupsSequence);
        const ImageFacts common = file_facts(data, path, folder, format);
        const auto ge = ge_type(data);
        for (int f = 0; f < format.frames; ++f) {
            try {
                const ImageItems items(data, shared,
                                       own.empty() ? nullptr : own[static_cast<std::size_t>(f)]);
                if (const DicomImageType type = type_of(items, ge); type != wanted)
                    throw DicomUnusable{
                        DicomSkip::image_type,
                        fmt::format("a {} image (image-type={} takes it)", to_string(type), to_string(type))};
                ImageFacts facts = common;
                facts.frame.index = f;
                read_image(facts, items, format.frames);
                out.images.push_back(std::move(facts));
            } catch (const DicomUnusable& unusable) {
                add_skipped(out.skipped, path, unusable);
            }
        }
    } catch (const DicomUnusable& unusable) {
        out.images.clear();
        out.skipped = {{unusable.kind, path, unusable.reason, 1}};
    }
    return out;
}

} // namespace mri
