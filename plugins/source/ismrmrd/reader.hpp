// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the readouts of an ISMRMRD file: blocks of rows at a time, ahead of whoever asks for them.
#pragma once

#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/source/ismrmrd/trajectory.hpp"

#include <ismrmrd/ismrmrd.h>

#include <complex>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace mri {

/// One row of an ISMRMRD file, its sizes checked against its header. Points into the reader's block: valid
/// until the reader's next next() or rewind().
struct IsmrmrdReadout {
    std::uint64_t row = 0; ///< counted from 0 in the file
    const ISMRMRD::ISMRMRD_AcquisitionHeader* head = nullptr;
    std::span<const float>
        trajectory; ///< [sample][trajectory_dimensions], in the file's own unit; may be empty
    std::span<const std::complex<float>> data; ///< [active_channels][number_of_samples]

    /// Whether ISMRMRD's flag `flag` (counted from 1, as its constants are) is set.
    bool has_flag(int flag) const { return head->flags >> (flag - 1) & 1; }
};

/// Whether a readout belongs to the image: not noise, calibration alone, navigation, phase correction, dummy
/// scans and the like. Calibration that is imaging too belongs to it.
bool is_imaging(const ISMRMRD::ISMRMRD_AcquisitionHeader& head);
/// Whether a readout is calibration for parallel imaging alone.
bool is_calibration(const ISMRMRD::ISMRMRD_AcquisitionHeader& head);

/// An ISMRMRD file (HDF5: /group/xml, /group/data). A thread reads blocks of rows ahead into a bounded queue.
///
/// Every error names the file, the group and, where there is one, the row: Errc::not_found for a missing
/// file, group or dataset (naming the groups with raw data), open_read for what is no file or not HDF5 (naming what it
/// is instead, and the program that converts it), decode for wrong types, XML that does not parse and sizes that are
/// absurd or contradict each other, read for rows that are damaged, unsupported for compressed readouts and for
/// datasets that are stored in an unusual way. One thread may use an object; cancel() and resume() alone may be
/// called from another.
class IsmrmrdReader {
  public:
    struct Options {
        std::string path;
        std::string group = "dataset";
        std::uint64_t start = 0;                 ///< first row
        std::optional<std::uint64_t> stop = {};  ///< the row after the last; all rows when unset
        std::size_t block_bytes = 8 << 20;       ///< aimed at for one read
        std::size_t blocks_ahead = 3;            ///< length of the queue
        std::size_t max_block_bytes = 128 << 20; ///< a block, or a single row, above this is refused
    };

    /// Opens the file and reads its header; throws as above. Errc::settings when `start` lies behind the last
    /// row.
    explicit IsmrmrdReader(Options options);
    ~IsmrmrdReader();
    IsmrmrdReader(const IsmrmrdReader&) = delete;
    IsmrmrdReader& operator=(const IsmrmrdReader&) = delete;

    /// The header in UTF-8.
    const std::string& xml() const;
    const MrdHeader& header() const;
    /// Unit of the trajectory where the file says it (attribute trajectory_unit of 'data'), else automatic.
    TrajectoryUnit trajectory_unit() const;
    /// Rows in the file, whatever start and stop say.
    std::uint64_t rows() const;

    /// The next row, or nothing behind the last and while it is cancelled. Throws for a row that is damaged;
    /// rows before it have been handed out by then.
    std::optional<IsmrmrdReadout> next();
    /// Back to the first row.
    void rewind();
    /// Lets next() return at once with nothing instead of waiting for the disk, until resume(); no row is
    /// lost.
    void cancel() noexcept;
    void resume() noexcept;
    bool cancelled() const noexcept;

    /// "'path', group 'g', row n": the start of sentences about a row.
    std::string where(std::uint64_t row) const;
    /// "'path', group 'g'": the start of sentences about the file.
    std::string where() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace mri
