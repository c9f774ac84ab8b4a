// SPDX-License-Identifier: LGPL-2.1-or-later
// Cine series out of folders of DICOM files: one series per slice position, frames in order of time.
// Knows DCMTK, and neither GStreamer nor LibTorch.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// A file that was looked at and left out, and why (a sentence without a full stop).
struct DicomSkipped {
    std::string path;
    std::string reason;
};

/// One image file of a series.
struct DicomFrame {
    std::string path;
    bool has_trigger_time = false;
    double trigger_time = 0.0; ///< ms after the R wave (0018,1060), when has_trigger_time
    long instance_number = 0;  ///< (0020,0013), 0 when the file has none
};

/// The frames of one slice position of one DICOM series; all have the same matrix and pixel spacing.
struct DicomSeries {
    std::string uid;                ///< SeriesInstanceUID (0020,000E)
    std::string description;        ///< SeriesDescription (0008,103E), may be empty
    std::string patient;            ///< PatientID (0010,0020), may be empty
    std::size_t folder = 0;         ///< which of the scanned folders it lies in
    double slice_position = 0.0;    ///< mm along the slice normal
    int width = 0;                  ///< Columns
    int height = 0;                 ///< Rows
    double spacing_x = 0.0;         ///< mm between columns
    double spacing_y = 0.0;         ///< mm between rows
    double frame_duration = 0.0;    ///< s between frames, 0 when the files do not say
    std::vector<DicomFrame> frames; ///< by trigger time where every frame has one, else by instance number
};

/// Result of a scan: series in the order of the folders, then patient, series and slice position.
struct DicomScan {
    std::vector<DicomSeries> series;
    std::vector<DicomSkipped> skipped;
    std::size_t files = 0; ///< regular files looked at
};

/// Looks at every regular file of `folders` (and of the folders below them when `recursive`).
///
/// A series is a set of images with one SeriesInstanceUID, orientation and slice position (SliceLocation, or
/// ImagePositionPatient projected on the slice normal). What cannot be used is listed in `skipped`: files
/// that are not DICOM, corrupt or no grey-scale magnitude image, images whose matrix or spacing differs from
/// that of most others in their series, and positions with fewer than `min_frames` images. Throws
/// Errc::not_found for a folder that does not exist or is no folder, Errc::open_read for one that cannot be
/// read.
DicomScan scan_dicom(std::span<const std::string> folders, bool recursive, std::size_t min_frames = 2);

/// Processing of frames by load_dicom_series, in this order: crop or pad, resample in time, scale.
struct DicomLoadOptions {
    int frames = 0;    ///< frames out by linear interpolation in time, 0 = as many as the files have
    bool cycle = true; ///< the last frame is followed by the first again (a heart cycle) when interpolating
    int width = 0;     ///< centre crop or zero padding, 0 = as in the file
    int height = 0;
    bool scale = true; ///< divide by the 99.9th percentile and clip to 0..1; otherwise values as rescaled
};

/// A cine in memory.
struct CineSeries {
    int width = 0;
    int height = 0;
    int frames = 0;
    double fov_x = 0.0;          ///< mm, of the cropped or padded image
    double fov_y = 0.0;          ///< mm
    double frame_duration = 0.0; ///< s, 0 when unknown
    std::vector<float> pixels;   ///< [frame][y][x]
};

/// Reads and prepares one series.
///
/// Stored values are inverted for MONOCHROME1, then multiplied by RescaleSlope and shifted by
/// RescaleIntercept. The pixel at index n/2 stays at index n/2 through crop and padding. With `scale`, the
/// factor is the 99.9th percentile of the cropped, resampled series before padding (linear interpolation
/// between order statistics). Throws Errc::read or Errc::decode, naming the file, when one has changed or is
/// corrupt, Errc::no_memory for absurd sizes, Errc::settings for options that cannot work.
CineSeries load_dicom_series(const DicomSeries& series, const DicomLoadOptions& options);

/// Resamples a cine [frames][pixels] to `frames_out` frames by linear interpolation.
///
/// `cycle`: frame i lies at i * frames / frames_out, and the frame after the last is the first; otherwise the
/// first and last frames stay where they are.
std::vector<float> resample_frames(std::span<const float> cine, int frames, std::size_t pixels,
                                   int frames_out, bool cycle);

} // namespace mri
