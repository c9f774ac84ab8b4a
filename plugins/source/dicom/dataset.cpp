// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/dataset.hpp"

#include "plugins/math/base/text.hpp"

#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/dcmjpls/djdecode.h>

#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>

namespace mri {

namespace {

/// DCMTK's decoders, for the life of the process.
struct Decoders {
    Decoders() {
        // What DCMTK would print about a file is in the reason for skipping it.
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        DJDecoderRegistration::registerCodecs();
        DJLSDecoderRegistration::registerCodecs();
    }
    ~Decoders() {
        DJDecoderRegistration::cleanup();
        DJLSDecoderRegistration::cleanup();
    }
    Decoders(const Decoders&) = delete;
    Decoders& operator=(const Decoders&) = delete;
};

void initialise_dcmtk() {
    static const Decoders decoders;
}

/// Whether a file begins as DICOM does: the marker after the preamble, or at once the first attribute of a
/// meta header (group 2) or of a data set (group 8). DCMTK itself would take any text for a data set.
bool looks_like_dicom(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw DicomUnusable{DicomSkip::unreadable, "it cannot be opened"};
    std::array<unsigned char, 132> head{};
    file.read(reinterpret_cast<char*>(head.data()), head.size());
    const auto length = static_cast<std::size_t>(file.gcount());
    if (length == head.size() && std::memcmp(head.data() + 128, "DICM", 4) == 0)
        return true;
    if (length < 16)
        return false;
    const bool explicit_vr = std::isupper(head[4]) && std::isupper(head[5]);
    const auto word = [&](std::size_t at, bool big) {
        return head[at + (big ? 0 : 1)] << 8 | head[at + (big ? 1 : 0)];
    };
    for (const bool big : {false, true}) {
        const int group = word(0, big), element = word(2, big);
        if ((group == 0x0002 || group == 0x0008) && element <= 0x0070 && explicit_vr)
            return true;
        if (!big && (group == 0x0002 || group == 0x0008) && element <= 0x0070 && word(6, false) == 0 &&
            word(4, false) <= 1024)
            return true;
    }
    return false;
}

} // namespace

std::unique_ptr<DcmFileFormat> open_dicom(const std::string& path) {
    initialise_dcmtk();
    if (!looks_like_dicom(path))
        throw DicomUnusable{DicomSkip::other_file, "not a DICOM file"};
    auto file = std::make_unique<DcmFileFormat>();
    const OFCondition status = file->loadFile(path.c_str(), EXS_Unknown, EGL_noChange, 4096, ERM_autoDetect);
    if (DcmMetaInfo* meta = file->getMetaInfo()) {
        const std::string syntax = dicom_text(*meta, DCM_TransferSyntaxUID);
        if (!syntax.empty() && DcmXfer(syntax.c_str()).getXfer() == EXS_Unknown)
            throw DicomUnusable{DicomSkip::unreadable, "its transfer syntax " + syntax + " is not supported"};
    }
    if (status.bad())
        throw DicomUnusable{DicomSkip::unreadable, std::string("corrupt DICOM file: ") + status.text()};
    return file;
}

std::string dicom_text(DcmItem& item, const DcmTagKey& tag) {
    OFString value;
    if (item.findAndGetOFStringArray(tag, value).bad())
        return {};
    std::string text(value.c_str(), value.length());
    while (!text.empty() && text.back() == '\0')
        text.pop_back();
    return std::string(trimmed(text));
}

std::optional<double> dicom_number(DcmItem& item, const DcmTagKey& tag, unsigned long n) {
    Float64 real = 0.0;
    if (item.findAndGetFloat64(tag, real, n).good() && std::isfinite(real))
        return real;
    Sint32 whole = 0;
    if (item.findAndGetSint32(tag, whole, n).good())
        return whole;
    Uint16 word = 0;
    if (item.findAndGetUint16(tag, word, n).good())
        return word;
    Sint16 small = 0;
    if (item.findAndGetSint16(tag, small, n).good())
        return small;
    Uint32 large = 0;
    if (item.findAndGetUint32(tag, large, n).good())
        return large;
    return std::nullopt;
}

} // namespace mri
