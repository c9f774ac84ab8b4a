// SPDX-License-Identifier: LGPL-2.1-or-later
// The recording beside an ISMRMRD file that is being written: what survives when the process is killed.
#pragma once

#include "plugins/math/base/error.hpp"

#include <ismrmrd/ismrmrd.h>

#include <complex>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace mri {

/// Path of the recording of a file: FILE.recording in its folder.
std::filesystem::path recording_path(const std::filesystem::path& target);

/// What a recording says before its first block.
struct RecordingFacts {
    std::string group;           ///< of the file that was written
    std::string trajectory_unit; ///< of the readouts, as trajectory.hpp names it
    std::string partial;         ///< name of the unfinished HDF5 file beside it
};

/// A recording: each block is appended by one write, so that all that came before a kill are whole.
///
/// The blocks are messages of the MRD protocol as it goes over a network: 2 (facts, as lines "name: value"), 3
/// (header), 1008 (readout), 1022 (image). Whoever writes holds a lock on the file, which ends with the process.
class Recording {
  public:
    /// Creates the file. Throws Errc::open_write where it cannot be made or exists.
    Recording(const std::filesystem::path& path, const RecordingFacts& facts);
    /// Removes the file, unless keep() was called.
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    void header(const std::string& xml);
    void readout(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, std::span<const float> trajectory,
                 std::span<const std::complex<float>> data);
    void image(const ISMRMRD::ISMRMRD_ImageHeader& head, const std::string& attributes,
               std::span<const std::byte> pixels);

    /// The file stays when this object goes.
    void keep() noexcept { keep_ = true; }

  private:
    void append(std::span<const std::span<const std::byte>> parts);

    std::filesystem::path path_;
    std::vector<std::byte> block_;
    int descriptor_ = -1;
    bool keep_ = false;
};

struct RecordedReadout {
    ISMRMRD::ISMRMRD_AcquisitionHeader head{};
    std::vector<float> trajectory;
    std::vector<std::complex<float>> data;
};

struct RecordedImage {
    ISMRMRD::ISMRMRD_ImageHeader head{};
    std::string attributes;
    std::vector<std::byte> pixels;
};

struct RecordedHeader {
    std::string xml;
};

using RecordedBlock = std::variant<RecordedHeader, RecordedReadout, RecordedImage>;

/// Reads the recording that a killed process left. Every length is held against the file's size before anything is
/// allocated.
class RecordingReader {
  public:
    /// Opens and locks the file. Throws Errc::open_read where it cannot be read, Errc::open_write with a sentence that
    /// begins with `target` while another sink writes it, Errc::decode where it is no recording.
    RecordingReader(const std::filesystem::path& path, const std::string& target);
    ~RecordingReader();
    RecordingReader(const RecordingReader&) = delete;
    RecordingReader& operator=(const RecordingReader&) = delete;

    const RecordingFacts& facts() const { return facts_; }
    /// The next whole block, or nothing at the end or before a block that is cut off.
    std::optional<RecordedBlock> next();
    /// Bytes behind the last whole block.
    std::uint64_t rest() const { return size_ - position_; }

  private:
    bool read(void* to, std::size_t bytes);
    template <class T>
    bool read_values(std::vector<T>& to, std::uint64_t count);
    bool read_text(std::string& to, std::uint64_t bytes);

    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
    std::uint64_t size_ = 0, at_ = 0, position_ = 0;
    RecordingFacts facts_;
};

} // namespace mri
