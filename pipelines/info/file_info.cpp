// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/info/file_info.hpp"

#include "pipelines/info/kinds.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <string_view>

namespace mri {

namespace fs = std::filesystem;

namespace {

/// Files that nothing here reads, by the end of their names in small letters; `{}` is the path.
struct OtherKind {
    std::string_view suffix;
    const char* sentence;
};
constexpr OtherKind other_kinds[] = {
    {".dat", "'{}' is no file of a kind known here; raw data of Siemens (twix, .dat) become ISMRMRD with "
             "siemens_to_ismrmrd"},
    {".7", "'{}' is raw data of GE (P-file): ge_to_ismrmrd makes ISMRMRD of it"},
    {".lab", "'{}' is raw data of Philips: philips_to_ismrmrd makes ISMRMRD of it"},
    {".raw", "'{}' is raw data of Philips, or of another scanner: philips_to_ismrmrd makes ISMRMRD of a .lab "
             "and .raw"},
    {".nii",
     "'{}' is NIfTI, images that no pipeline reads: dcm2niix makes it of DICOM, which mri-launch reads"},
    {".nii.gz",
     "'{}' is NIfTI, images that no pipeline reads: dcm2niix makes it of DICOM, which mri-launch reads"},
    {".cfl",
     "'{}' is an array of BART: it says nothing of readouts. Write it as ISMRMRD with python's ismrmrd"},
    {".hdr", "'{}' describes an array of BART: it says nothing of readouts. Write it as ISMRMRD with "
             "python's ismrmrd"},
    {".npy",
     "'{}' is an array of numpy: it says nothing of readouts. Write it as ISMRMRD with python's ismrmrd"},
    {".npz",
     "'{}' holds arrays of numpy: they say nothing of readouts. Write them as ISMRMRD with python's ismrmrd"},
    {".mat", "'{}' is a file of MATLAB: it says nothing of readouts. Write its arrays as ISMRMRD with "
             "python's ismrmrd"},
    {".seq", "'{}' is a sequence of Pulseq, no data: the scanner's raw data are"},
    {".yaml", "'{}' is no data: `mri-launch describe` shows a pipeline file"},
};

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

/// The first bytes of a file; fewer where it is shorter.
std::string beginning_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in)
        throw Error(Errc::open_read, "'" + path + "' cannot be read", std::strerror(errno));
    std::string bytes(512, '\0');
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<std::size_t>(in.gcount()));
    return bytes;
}

std::uint32_t word(const std::string& bytes, std::size_t index) {
    std::uint32_t value = 0;
    if (bytes.size() >= 4 * (index + 1))
        std::memcpy(&value, bytes.data() + 4 * index, 4);
    return value;
}

/// Siemens' files begin with the length of the header (VB), or with 0 and the number of measurements (VD and later).
bool is_twix(const std::string& bytes, const std::string& name) {
    if (!name.ends_with(".dat") || bytes.size() < 32)
        return false;
    constexpr std::uint32_t most_measurements = 64, largest_header = 1 << 24;
    return (word(bytes, 0) < 10000 && word(bytes, 1) >= 1 && word(bytes, 1) <= most_measurements) ||
           (word(bytes, 0) >= 32 && word(bytes, 0) < largest_header);
}

[[maybe_unused, noreturn]] void lacks(const std::string& path, const char* kind, const char* library) {
    throw Error(Errc::unsupported,
                fmt::format("'{}' is {}, and this mri-launch was built without {}", path, kind, library));
}

FileInfo hdf5_info(const std::string& path, const std::string& name, const std::string& group) {
    if (fs::path(name).filename().string().starts_with("scanarchive"))
        throw Error(Errc::unsupported,
                    "'" + path + "' is raw data of GE (ScanArchive): ge_to_ismrmrd makes ISMRMRD of it");
#if MRI_HAVE_ISMRMRD
    return ismrmrd_info(path, group);
#else
    lacks(path, "an HDF5 file", "HDF5 and ISMRMRD");
#endif
}

FileInfo folder_info(const std::string& path) {
#if MRI_HAVE_DCMTK
    return dicom_info(path);
#else
    lacks(path, "a folder", "DCMTK, which reads DICOM");
#endif
}

} // namespace

FileInfo file_info(const std::string& path, const std::string& group) {
    std::error_code code;
    const auto status = fs::status(path, code);
    if (!fs::exists(status))
        throw Error(Errc::not_found, "'" + path + "': there is no such file or folder");
    if (fs::is_directory(status))
        return folder_info(path);
    if (!fs::is_regular_file(status))
        throw Error(Errc::open_read, "'" + path + "' is neither a file nor a folder");

    const std::string bytes = beginning_of(path);
    const std::string name = lower(path);
    if (bytes.empty())
        throw Error(Errc::decode, "'" + path + "' is empty");
    if (bytes.starts_with("\x89HDF\r\n\x1a\n"))
        return hdf5_info(path, name, group);
    const bool dicom = bytes.size() >= 132 && bytes.compare(128, 4, "DICM") == 0;
    if (dicom)
        throw Error(Errc::unsupported,
                    "'" + path + "' is one DICOM file: give the folder that holds the frames of a series");
    if (is_twix(bytes, name))
        throw Error(Errc::unsupported,
                    "'" + path +
                        "' looks like raw data of Siemens (twix): siemens_to_ismrmrd makes "
                        "ISMRMRD of it");
    // A zip, a pickle, or a length of 64 bits and a JSON object.
    const bool zip = bytes.starts_with("PK\x03\x04") && !name.ends_with(".npz");
    const bool pickle = bytes.starts_with("\x80\x02") || bytes.starts_with("\x80\x04");
    const bool safetensors = name.ends_with(".safetensors") || (bytes.size() > 9 && bytes[8] == '{');
    if (zip || pickle || safetensors)
        return weights_info(path);
    for (const auto& [suffix, sentence] : other_kinds)
        if (name.ends_with(suffix))
            throw Error(Errc::unsupported, fmt::format(fmt::runtime(sentence), path));
    throw Error(Errc::unsupported, "'" + path +
                                       "' is no file of a kind known here: ISMRMRD (HDF5), weights "
                                       "(safetensors, PyTorch), or a folder with DICOM");
}

std::string format_info(const FileInfo& info) {
    std::size_t width = std::string_view("command").size();
    for (const auto& [name, value] : info.facts)
        width = std::max(width, name.size());
    std::string text = info.kind + "\n";
    const auto add = [&](const std::string& name, const std::string& value) {
        text += fmt::format("  {:{}}  {}\n", name, width, value);
    };
    for (const auto& [name, value] : info.facts)
        add(name, value);
    for (const auto& reading : info.readings)
        add("note", reading);
    if (!info.command.empty())
        add("command", info.command);
    // A control character of the file's own must not reach the terminal.
    for (char& c : text)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f)
            c = '?';
    return text;
}

std::string shell_word(const std::string& text) {
    static constexpr std::string_view plain = "_./:+,-@%=";
    const bool word = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isalnum(c) || c >= 0x80 || plain.find(static_cast<char>(c)) != std::string_view::npos;
    });
    if (word)
        return text;
    std::string quoted = "'";
    for (const char c : text)
        quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
}

} // namespace mri
