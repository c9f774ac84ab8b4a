// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/foreign.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

namespace mri {

namespace {

std::uint32_t word(const unsigned char* bytes) {
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | std::uint32_t{bytes[3]} << 24;
}

/// Siemens: VB files begin with the length of their header, the number of its parts and the first one's name; VD, VE
/// and XA files with 0 and the number of measurements, of which the table has 64 at most.
bool is_twix(const unsigned char* bytes, std::size_t count) {
    if (count < 16)
        return false;
    return std::memcmp(bytes + 8, "Config", 6) == 0 ||
           (word(bytes) == 0 && word(bytes + 4) > 0 && word(bytes + 4) <= 64);
}

/// GE: the revision of the header as a float32, which counts from 7 to a bit above 30 so far.
bool is_p_file(const unsigned char* bytes, std::size_t count) {
    if (count < 16)
        return false;
    const std::uint32_t bits = word(bytes);
    float revision = 0;
    std::memcpy(&revision, &bits, sizeof revision);
    return revision >= 7 && revision < 50;
}

} // namespace

std::string foreign_format(const std::string& path) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    const fs::path name(path);
    if (fs::is_directory(name, ignored))
        return fs::exists(name / "acqp", ignored) && fs::exists(name / "method", ignored)
                   ? "a folder of Bruker raw data, which bruker_to_ismrmrd converts"
                   : "";
    if (!fs::is_regular_file(name, ignored))
        return "";
    std::string extension = name.extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (name.filename().string().starts_with("ScanArchive"))
        return "a GE scan archive, which ge_to_ismrmrd converts";
    std::array<unsigned char, 132> bytes{};
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(bytes.data()), bytes.size());
    const auto count = static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), count);
    if (text.starts_with("\x89HDF"))
        return "";
    if (text.size() == bytes.size() && text.substr(128) == "DICM")
        return "a DICOM file: mridicomsrc reads folders of these";
    if (text.starts_with("yardl"))
        return "an MRD file of version 2, which mrd_to_ismrmrd converts";
    if (extension == ".7" && is_p_file(bytes.data(), count))
        return "a GE raw data file (P-file), which ge_to_ismrmrd converts";
    if (is_twix(bytes.data(), count))
        return "a Siemens raw data file (twix), which siemens_to_ismrmrd converts";
    for (const char* philips : {".raw", ".lab", ".sin", ".list", ".data"})
        if (extension == philips)
            return "a Philips raw data file by its name, which philips_to_ismrmrd converts";
    return "";
}

} // namespace mri
