// SPDX-License-Identifier: LGPL-2.1-or-later
// What a DICOM file says about each of its images: place, time, kind and size.
#pragma once

#include "plugins/source/dicom/series.hpp"
#include "plugins/source/dicom/times.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mri {

/// One image, before it has found its series.
struct ImageFacts {
    DicomFrame frame; ///< path, index and rescaling; times come later
    FrameFacts time;
    std::optional<double> nominal_interval; ///< ms from R wave to R wave
    std::string object;                     ///< SOPInstanceUID, may be empty
    std::string uid, description, patient;
    double series_number = 0.0;
    std::size_t folder = 0;
    std::optional<DicomPlane> plane;
    double position = 0.0; ///< mm along the normal; SliceLocation without a plane
    double echo = 0.0;     ///< ms, 0 when the file does not say
    double thickness = 0.0;
    int width = 0, height = 0;
    double spacing_x = 0.0, spacing_y = 0.0;
};

/// Images of a file that can be used, and those that cannot.
struct FileFacts {
    std::vector<ImageFacts> images;
    std::vector<DicomSkipped> skipped; ///< at most one entry a reason
    bool directory = false;            ///< a DICOMDIR
};

/// Reads a file without decoding its pixels. Frames of enhanced objects take their facts from their own
/// functional groups, then the shared ones, then the attributes that a conversion left unassigned, then the
/// file's own. Nothing is thrown for what is wrong with the file.
FileFacts read_facts(const std::string& path, std::size_t folder, DicomImageType wanted);

} // namespace mri
