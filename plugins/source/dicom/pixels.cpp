// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/pixels.hpp"

#include "plugins/source/dicom/jpeg2000.hpp"

#include <fmt/format.h>

#include <dcmtk/dcmdata/dccodec.h>
#include <dcmtk/dcmdata/dcpixel.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>

#include <algorithm>
#include <cstring>

namespace mri {

namespace {

using Bytes = std::vector<std::uint8_t>;

DicomUnusable damaged(const std::string& reason) {
    return {DicomSkip::unreadable, reason};
}

bool is_jpeg2000(E_TransferSyntax syntax) {
    return syntax == EXS_JPEG2000LosslessOnly || syntax == EXS_JPEG2000;
}

/// JPEG and JPEG-LS, whose data begin with markers.
bool has_markers(E_TransferSyntax syntax) {
    return DcmXfer(syntax).isEncapsulated() && syntax != EXS_RLELossless && !is_jpeg2000(syntax);
}

DcmPixelData& pixel_data(DcmDataset& data) {
    DcmElement* element = nullptr;
    if (data.findAndGetElement(DCM_PixelData, element).bad() || element == nullptr)
        throw DicomUnusable{DicomSkip::no_image, "no image: it has no pixel data"};
    auto* pixels = dynamic_cast<DcmPixelData*>(element);
    if (pixels == nullptr)
        throw damaged("its pixel data cannot be read");
    return *pixels;
}

DcmPixelSequence& fragments(DcmDataset& data) {
    DcmPixelSequence* sequence = nullptr;
    E_TransferSyntax syntax = EXS_Unknown;
    const DcmRepresentationParameter* parameter = nullptr;
    DcmPixelData& pixels = pixel_data(data);
    pixels.getOriginalRepresentationKey(syntax, parameter);
    if (pixels.getEncapsulatedRepresentation(syntax, parameter, sequence).bad() || sequence == nullptr ||
        sequence->card() < 2)
        throw damaged("its pixel data end too early");
    return *sequence;
}

Bytes bytes_of(DcmPixelSequence& sequence, unsigned long index) {
    DcmPixelItem* item = nullptr;
    Uint8* values = nullptr;
    if (sequence.getItem(item, index).bad() || item == nullptr)
        throw damaged("its pixel data end too early");
    const Uint32 length = item->getLength();
    if (length == 0)
        return {};
    if (item->getUint8Array(values).bad() || values == nullptr)
        throw damaged("its pixel data cannot be read");
    Bytes bytes(values, values + length);
    item->compact(); // a value on disk goes out of memory again
    return bytes;
}

/// Compressed data of one image: the fragments that the table of offsets gives it, one fragment an image, or
/// all of them for a file of one.
Bytes compressed_frame(DcmDataset& data, int index, int frames) {
    DcmPixelSequence& sequence = fragments(data);
    const unsigned long count = sequence.card() - 1; // the first item is the table
    unsigned long first = 1, last = count + 1;
    if (frames > 1 && count == static_cast<unsigned long>(frames)) {
        first = static_cast<unsigned long>(index) + 1;
        last = first + 1;
    } else if (frames > 1) {
        const Bytes table = bytes_of(sequence, 0);
        if (table.size() < static_cast<std::size_t>(frames) * 4)
            throw damaged(fmt::format("its {} images cannot be told apart in {} fragments", frames, count));
        const auto offset = [&](int frame) {
            const std::uint8_t* b = table.data() + static_cast<std::size_t>(frame) * 4;
            return static_cast<std::uint64_t>(b[0]) | static_cast<std::uint64_t>(b[1]) << 8 |
                   static_cast<std::uint64_t>(b[2]) << 16 | static_cast<std::uint64_t>(b[3]) << 24;
        };
        const std::uint64_t begin = offset(index);
        const std::uint64_t end = index + 1 < frames ? offset(index + 1) : ~std::uint64_t{0};
        first = last = 0;
        std::uint64_t at = 0;
        for (unsigned long item = 1; item <= count && at < end; ++item) {
            DcmPixelItem* fragment = nullptr;
            if (sequence.getItem(fragment, item).bad() || fragment == nullptr)
                break;
            if (at == begin)
                first = item;
            at += fragment->getLength() + 8;
            last = item + 1;
        }
        if (first == 0)
            throw damaged("its table of image offsets is wrong");
    }
    Bytes all;
    for (unsigned long item = first; item < last; ++item) {
        const Bytes part = bytes_of(sequence, item);
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

/// Bits, rows and columns that the frame header of JPEG or JPEG-LS data tells.
struct JpegSize {
    int bits = 0, height = 0, width = 0;
};

JpegSize jpeg_size(const Bytes& data) {
    std::size_t at = 2; // after the start of the image
    while (at + 9 < data.size() && data[at] == 0xff) {
        const int marker = data[at + 1];
        if (marker == 0xff) { // a fill byte
            ++at;
            continue;
        }
        const bool frame =
            (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) ||
            marker == 0xf7;
        if (frame)
            return {data[at + 4], data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]};
        at += 2 + static_cast<std::size_t>(data[at + 2] << 8 | data[at + 3]);
    }
    throw damaged("its compressed data are damaged");
}

/// Run-length coded image: a stripe for each byte of the values, the high bytes first (PS3.5, annex G). DCMTK's
/// own decoder reads beyond the data of damaged files.
std::vector<std::uint16_t> decode_rle(const Bytes& data, std::size_t count, std::size_t bytes) {
    constexpr std::size_t header = 64; // number of stripes and the offsets of 15, each of 4 bytes
    const auto word = [&](std::size_t at) {
        return static_cast<std::size_t>(data[at]) | static_cast<std::size_t>(data[at + 1]) << 8 |
               static_cast<std::size_t>(data[at + 2]) << 16 | static_cast<std::size_t>(data[at + 3]) << 24;
    };
    if (data.size() < header || word(0) != bytes)
        throw damaged("its run-length data are damaged");
    std::vector<std::uint16_t> values(count);
    for (std::size_t stripe = 0; stripe < bytes; ++stripe) {
        std::size_t at = word(4 + 4 * stripe);
        const std::size_t end =
            stripe + 1 < bytes ? std::min(word(8 + 4 * stripe), data.size()) : data.size();
        for (std::size_t i = 0; i < count;) {
            if (at < header || at >= end)
                throw damaged("its run-length data end too early");
            const std::size_t code = data[at++];
            if (code == 128)
                continue;
            const bool run = code > 128;
            const std::size_t length = run ? 257 - code : code + 1;
            if (at + (run ? 1 : length) > end)
                throw damaged("its run-length data end too early");
            for (std::size_t k = 0; k < length && i < count; ++k, ++i)
                values[i] = static_cast<std::uint16_t>(values[i] << 8 | data[run ? at : at + k]);
            at += run ? 1 : length;
        }
    }
    return values;
}

int stored_number(DcmDataset& data, const DcmTagKey& tag, const char* name) {
    Uint16 value = 0;
    if (data.findAndGetUint16(tag, value).bad())
        throw DicomUnusable{DicomSkip::no_image, std::string("no image: it has no ") + name};
    return value;
}

/// A stored value as the pixel representation reads it, whether the file calls it signed or not.
std::optional<int> padding_value(DcmDataset& data, const DcmTagKey& tag, bool is_signed) {
    const auto value = dicom_number(data, tag);
    if (!value)
        return std::nullopt;
    const auto bits = static_cast<std::uint16_t>(static_cast<std::int64_t>(*value));
    return is_signed ? static_cast<std::int16_t>(bits) : static_cast<int>(bits);
}

} // namespace

PixelFormat read_pixel_format(DcmDataset& data) {
    if (!data.tagExists(DCM_PixelData))
        throw DicomUnusable{DicomSkip::no_image, "no image: it has no pixel data"};
    PixelFormat format;
    format.height = stored_number(data, DCM_Rows, "Rows");
    format.width = stored_number(data, DCM_Columns, "Columns");
    if (format.width < 1 || format.height < 1 || format.width > max_dicom_matrix ||
        format.height > max_dicom_matrix)
        throw damaged(fmt::format("its matrix of {}x{} is outside 1...{}", format.width, format.height,
                                  max_dicom_matrix));

    Uint16 samples = 1;
    data.findAndGetUint16(DCM_SamplesPerPixel, samples);
    const std::string photometric = dicom_text(data, DCM_PhotometricInterpretation);
    if (samples != 1 || (photometric != "MONOCHROME1" && photometric != "MONOCHROME2"))
        throw DicomUnusable{DicomSkip::no_image,
                            "not a grey-scale image (" +
                                (photometric.empty() ? "no photometric interpretation" : photometric) + ")"};
    format.inverted = photometric == "MONOCHROME1";

    const std::string frames = dicom_text(data, DCM_NumberOfFrames);
    if (!frames.empty()) {
        const auto number = dicom_number(data, DCM_NumberOfFrames);
        if (!number || *number < 1 || *number > static_cast<double>(max_dicom_pixels))
            throw damaged("its number of frames, '" + frames + "', is none");
        format.frames = static_cast<int>(*number);
    }

    format.bits_allocated = stored_number(data, DCM_BitsAllocated, "BitsAllocated");
    format.bits_stored = stored_number(data, DCM_BitsStored, "BitsStored");
    format.high_bit = stored_number(data, DCM_HighBit, "HighBit");
    format.is_signed = stored_number(data, DCM_PixelRepresentation, "PixelRepresentation") != 0;
    if ((format.bits_allocated != 8 && format.bits_allocated != 16) || format.bits_stored < 1 ||
        format.high_bit >= format.bits_allocated || format.bits_stored > format.high_bit + 1)
        throw damaged(fmt::format("pixels of {} bits in {} are not supported", format.bits_stored,
                                  format.bits_allocated));
    if (const auto low = padding_value(data, DCM_PixelPaddingValue, format.is_signed)) {
        const int high = padding_value(data, DCM_PixelPaddingRangeLimit, format.is_signed).value_or(*low);
        format.padding = std::minmax(*low, high);
    }

    const E_TransferSyntax syntax = data.getOriginalXfer();
    if (DcmXfer(syntax).isEncapsulated()) {
        const bool supported = is_jpeg2000(syntax)
                                   ? has_jpeg2000()
                                   : syntax == EXS_RLELossless ||
                                         DcmCodecList::canChangeCoding(syntax, EXS_LittleEndianExplicit);
        if (!supported)
            throw damaged("its compression (" + std::string(DcmXfer(syntax).getXferName()) +
                          ") is not supported");
        // Compressed pixels show their size only once they are decoded.
        if (fragments(data).card() - 1 < static_cast<unsigned long>(format.frames))
            throw damaged("its pixel data end too early");
    } else {
        const std::uint64_t bytes = static_cast<std::uint64_t>(format.bits_allocated / 8) *
                                    static_cast<std::uint64_t>(format.width) *
                                    static_cast<std::uint64_t>(format.height) *
                                    static_cast<std::uint64_t>(format.frames); // below 2^53
        if (pixel_data(data).getLength(syntax) < bytes)
            throw damaged(format.frames == 1
                              ? "its pixel data end too early"
                              : fmt::format("its pixel data end too early for {} frames", format.frames));
    }
    return format;
}

DicomPixels::DicomPixels(const std::string& path)
    : path_(path), file_(open_dicom(path)), format_(read_pixel_format(*file_->getDataset())) {}

/// Words of the image as they are stored, and how many bits of each hold the value.
std::vector<std::uint16_t> DicomPixels::stored_values(int index, int& bits) {
    DcmDataset& data = *file_->getDataset();
    const E_TransferSyntax syntax = data.getOriginalXfer();
    const std::size_t count =
        static_cast<std::size_t>(format_.width) * static_cast<std::size_t>(format_.height);
    bits = format_.bits_stored;
    std::vector<std::uint16_t> values(count);

    if (is_jpeg2000(syntax)) {
        std::string reason;
        const Jpeg2000Image image = decode_jpeg2000(compressed_frame(data, index, format_.frames),
                                                    format_.width, format_.height, reason);
        if (image.pixels.empty())
            throw damaged(reason);
        // Signs are those of the pixel representation, whatever the codestream calls its samples.
        bits = std::min(bits, image.precision);
        std::transform(image.pixels.begin(), image.pixels.end(), values.begin(),
                       [](std::int32_t value) { return static_cast<std::uint16_t>(value); });
        return values;
    }

    std::size_t bytes = static_cast<std::size_t>(format_.bits_allocated) / 8;
    if (syntax == EXS_RLELossless)
        return decode_rle(compressed_frame(data, index, format_.frames), count, bytes);
    Uint32 first_fragment = 0;
    if (has_markers(syntax)) {
        const JpegSize size = jpeg_size(compressed_frame(data, index, format_.frames));
        if (size.width != format_.width || size.height != format_.height)
            throw damaged(fmt::format("its compressed data are an image of {}x{}", size.width, size.height));
        // DCMTK gives samples of JPEG of 8 bits as bytes, whatever is allocated.
        if (size.bits <= 8 && syntax != EXS_JPEGLSLossless && syntax != EXS_JPEGLSLossy)
            bytes = 1;
    }
    // An even number of bytes, as DICOM has it, and room for words.
    std::vector<std::uint16_t> buffer((count * static_cast<std::size_t>(format_.bits_allocated / 8) + 1) / 2);
    OFString colour;
    const OFCondition status = pixel_data(data).getUncompressedFrame(
        &data, static_cast<Uint32>(index), first_fragment, buffer.data(),
        static_cast<Uint32>(buffer.size() * sizeof(std::uint16_t)), colour);
    if (status.bad())
        throw damaged(std::string("its pixel data cannot be read: ") + status.text());
    if (bytes == 2) {
        std::copy_n(buffer.begin(), count, values.begin());
    } else {
        const auto* packed = reinterpret_cast<const std::uint8_t*>(buffer.data());
        std::copy_n(packed, count, values.begin());
    }
    return values;
}

void DicomPixels::read(const DicomFrame& frame, float* out) {
    if (frame.index < 0 || frame.index >= format_.frames)
        throw damaged("it has fewer images than before");
    int bits = 0;
    const std::vector<std::uint16_t> values = stored_values(frame.index, bits);
    const int shift = bits == format_.bits_stored ? format_.high_bit + 1 - bits : 0;
    const std::uint32_t mask = (std::uint32_t{1} << bits) - 1, sign = std::uint32_t{1} << (bits - 1);
    const auto full = static_cast<std::int32_t>((std::uint32_t{1} << format_.bits_stored) - 1);
    std::transform(values.begin(), values.end(), out, [&](std::uint16_t word) {
        auto value = static_cast<std::int32_t>((static_cast<std::uint32_t>(word) >> shift) & mask);
        if (format_.is_signed && (static_cast<std::uint32_t>(value) & sign) != 0)
            value -= static_cast<std::int32_t>(mask) + 1;
        if (format_.padding) {
            const int whole = format_.is_signed ? static_cast<std::int16_t>(word) : static_cast<int>(word);
            const auto [low, high] = *format_.padding;
            if ((value >= low && value <= high) || (whole >= low && whole <= high))
                return 0.0f;
        }
        if (format_.inverted)
            value = format_.is_signed ? -1 - value : full - value;
        return static_cast<float>(value * frame.slope + frame.intercept);
    });
}

} // namespace mri
