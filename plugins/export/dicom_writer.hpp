// SPDX-License-Identifier: LGPL-2.1-or-later
// DICOM files of the class MR Image Storage. DCMTK inside.
#pragma once

#include "plugins/export/collected.hpp"

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace mri {

/// A folder of DICOM series: series-1/image-0001.dcm, ... Nothing appears under these names before all of a
/// run is written.
class DicomFolder {
  public:
    /// Makes the folder where there is none. Throws Errc::open_write, naming folder and cause, when it cannot
    /// be made or is not empty; `overwrite` lets it hold what an earlier run wrote, and nothing else.
    DicomFolder(std::filesystem::path folder, bool overwrite);
    /// Removes what is not finished, and the folder if it was made and has nothing in it.
    ~DicomFolder();
    DicomFolder(const DicomFolder&) = delete;
    DicomFolder& operator=(const DicomFolder&) = delete;

    /// Path of a file for the series with this number (from 1), in a folder of a name of its own.
    std::filesystem::path new_file(std::size_t series, std::size_t image, std::size_t images);
    /// Puts all on the disk, removes an earlier run's series and gives the new ones their names. Throws
    /// Errc::write.
    void finish();

  private:
    std::vector<std::filesystem::path> earlier() const;

    std::filesystem::path folder_, partial_;
    bool overwrite_, made_ = false;
};

struct DicomOptions {
    bool anonymize =
        true;             ///< nothing of the header that names the patient, people, places or the examination
    double tick_ms = 2.5; ///< unit of ExportedImage::stamp
};

/// Writes all images into `folder`, one DICOM series a stack, instances by slice and then time, and finishes
/// it. Returns the number of series.
///
/// Pixels are 16-bit integers with one RescaleSlope a series, by which they err by half a slope at most;
/// phases fill -pi..pi. The UIDs follow from header, geometry and pixels: the same input gives the same ones,
/// another image never has the same. Throws Errc::write naming the file, Errc::failed when DCMTK has no data
/// dictionary.
std::size_t write_dicom(DicomFolder& folder, const Collected& collected, const DicomOptions& options);

} // namespace mri
