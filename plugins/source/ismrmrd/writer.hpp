// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes raw data and images into an ISMRMRD file, which appears under its name only when it is complete.
#pragma once

#include "plugins/math/base/error.hpp"
#include "plugins/source/ismrmrd/trajectory.hpp"

#include <ismrmrd/ismrmrd.h>

#include <complex>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace mri {

/// An ISMRMRD file: /group/xml; of raw data /group/data, a row a readout, whose attribute trajectory_unit names
/// the unit of the trajectories; and for every series of images /group/image_<series>/{data, header, attributes},
/// with data as [image][channel][z][y][x]: what ismrmrd.Dataset of python and ISMRMRD::Dataset read.
///
/// All is written to a file beside the target, which finish() puts on the disk and renames. Destroyed before
/// that, the writer leaves nothing behind but, once it has readouts, the recording (recording.hpp) that each
/// block goes into as well: FILE.recording. So does a process that is killed, images too. recover_recording()
/// makes the file of it; the next writer of the same target does so by itself, and notice() says it.
///
/// Errors name the file: Errc::open_write, Errc::write, Errc::settings.
class IsmrmrdWriter {
  public:
    struct Options {
        std::string path;
        std::string group = "dataset";
        /// Adds to a copy of the file when it exists. Otherwise an existing file is replaced, but never one
        /// whose group holds readouts: those may be the only ones there are.
        bool append = false;
        /// Unit that the readouts' trajectories are in.
        TrajectoryUnit trajectory_unit = TrajectoryUnit::normalised;
        bool recording = true;
    };

    explicit IsmrmrdWriter(Options options);
    ~IsmrmrdWriter();
    IsmrmrdWriter(const IsmrmrdWriter&) = delete;
    IsmrmrdWriter& operator=(const IsmrmrdWriter&) = delete;

    /// Writes the ISMRMRD header; a later one replaces it. A file that is appended to keeps the one it has.
    void set_xml(const std::string& xml);
    /// The file's header: of a file that is appended to its own one. Empty without one.
    const std::string& xml() const;

    /// Adds an image to series `head.image_series_index`. data_type (float, complex float or 16-bit integer),
    /// matrix_size and channels of `head` say what `data` holds, [channel][z][y][x]; they must be the same for all
    /// images of a series. attribute_string_len is filled in.
    void add(ISMRMRD::ISMRMRD_ImageHeader head, std::span<const std::byte> data,
             const std::string& attributes);

    /// Adds a readout. number_of_samples, active_channels and trajectory_dimensions of `head` say what
    /// `trajectory`, [sample][dimension] in the unit of the options, and `data`, [channel][sample], hold.
    void add(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, std::span<const float> trajectory,
             std::span<const std::complex<float>> data);

    std::size_t images() const;
    std::size_t readouts() const;
    /// A sentence for the user about the recording of an earlier writer that was recovered; empty without one.
    const std::string& notice() const;

    /// Completes the file and gives it its name. Nothing can be added afterwards.
    void finish();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// A recording that was made into a file.
struct RecoveredFile {
    std::string path; ///< empty when no block of the recording was whole
    std::size_t readouts = 0, images = 0;
};

/// Makes an ISMRMRD file of what a killed writer left: the blocks of the recording of `path` (or of the recording
/// `path` itself) that are whole. The file is `path`, or where that exists, and always with `beside`, NAME-recovered.h5
/// in its folder. The recording goes when the file is complete. Nothing when there is no recording. Throws
/// Errc::open_write while a writer is at work on it, Errc::decode for what is no recording, and as IsmrmrdWriter.
std::optional<RecoveredFile> recover_recording(const std::string& path, bool beside = false);

} // namespace mri
