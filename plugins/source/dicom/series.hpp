// SPDX-License-Identifier: LGPL-2.1-or-later
// Cine series out of folders of DICOM files: one series per slice, frames in order of time.
// Knows DCMTK, and neither GStreamer nor LibTorch.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// What the pixels of an image show of the complex signal.
enum class DicomImageType { magnitude, phase, real, imaginary };
const char* to_string(DicomImageType type) noexcept;

/// Why something was left out.
enum class DicomSkip {
    other_file, ///< not DICOM
    no_image,   ///< DICOM without a grey-scale image of known place
    image_type, ///< an image of another type than the wanted one
    copy,       ///< an image that another file has already
    unreadable, ///< damaged, or in a form that cannot be read
    no_cine     ///< an image that belongs to no cine
};

/// A file that was looked at and left out, or some of its images.
struct DicomSkipped {
    DicomSkip kind = DicomSkip::other_file;
    std::string path;
    std::string reason;     ///< a sentence without a full stop
    std::size_t images = 1; ///< images that it concerns; 1 for a file without any
};

/// One image: a file, or a frame of a file of several.
struct DicomFrame {
    std::string path;
    int index = 0;                      ///< of the frame in its file
    double time = 0.0;                  ///< s after the first frame of the series; 0 when times are not known
    int beat = 0;                       ///< heart beat or measurement that it is of, in order of acquisition
    int phase = 0;                      ///< place in its beat
    std::optional<double> trigger_time; ///< ms after the R wave
    double slope = 1.0, intercept = 0.0; ///< of the rescaling of stored values
};

using DicomVector = std::array<double, 3>;

/// Plane of an image in the patient's coordinates: mm, LPS (to the left, to the back, to the head).
struct DicomPlane {
    DicomVector origin{}; ///< centre of the first pixel, ImagePositionPatient (0020,0032)
    DicomVector row{};    ///< direction of growing x, unit vector
    DicomVector column{}; ///< direction of growing y, unit vector

    DicomVector normal() const;               ///< row x column
    DicomVector at(double x, double y) const; ///< point `x` and `y` mm from the origin along row and column
};

/// Images of one place of one DICOM series; all have the same matrix, pixel spacing and echo time.
struct DicomSeries {
    std::string uid;         ///< SeriesInstanceUID (0020,000E)
    std::string description; ///< SeriesDescription (0008,103E), may be empty
    std::string patient;     ///< PatientID (0010,0020), may be empty
    std::size_t folder = 0;  ///< which of the scanned folders it lies in
    DicomImageType type = DicomImageType::magnitude;
    int slice = 0;                   ///< number of the place within the DICOM series, from 0
    double slice_position = 0.0;     ///< mm along the slice normal
    std::optional<DicomPlane> plane; ///< none when the files do not say it
    double thickness = 0.0;          ///< mm, 0 when unknown
    int width = 0;                   ///< Columns
    int height = 0;                  ///< Rows
    double spacing_x = 0.0;          ///< mm between columns
    double spacing_y = 0.0;          ///< mm between rows
    double frame_duration = 0.0;     ///< s between frames (the median), 0 when the files do not say
    std::string order;               ///< what gave the order and the times, as "trigger times over 3 beats"
    std::vector<DicomFrame> frames;  ///< in order of time
};

/// Result of a scan: series in the order of the folders, then patient, DICOM series, orientation and slice
/// position.
struct DicomScan {
    std::vector<DicomSeries> series;
    std::vector<DicomSkipped> skipped;
    std::vector<std::string> notes; ///< readings that were taken where the files do not say enough: sentences
    std::size_t files = 0;          ///< regular files looked at
};

/// Looks at every regular file of `folders` (and of the folders below them when `recursive`).
///
/// Files with one image and with several (enhanced and legacy converted objects) are read, with and without
/// the preamble of 128 bytes. A series is a set of images of `type` with one patient, SeriesInstanceUID,
/// plane (ImagePositionPatient and ImageOrientationPatient), echo time, matrix and pixel spacing. Files
/// without a plane are told apart by SliceLocation, which a note says. Order and times: order_frames(). What
/// cannot be used is listed in `skipped`: files that are not DICOM, corrupt or no grey-scale image, further
/// copies of an image (by SOPInstanceUID), and places with fewer than `min_frames` images. A DICOMDIR is
/// passed over. Throws Errc::not_found for a folder that does not exist or is no folder, Errc::open_read for
/// one that cannot be read.
DicomScan scan_dicom(std::span<const std::string> folders, bool recursive, std::size_t min_frames = 2,
                     DicomImageType type = DicomImageType::magnitude);

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
    /// The images that the frames are, one a frame; empty after a resampling.
    std::vector<DicomFrame> sources;
    /// Whether the frames follow each other at about frame_duration; otherwise `sources` has their times.
    bool regular = true;
    std::optional<DicomVector> centre; ///< of the pixel at index n/2 in x and y, mm, LPS
    std::vector<DicomSkipped> skipped; ///< frames of the series that could not be read
};

/// Reads and prepares one series.
///
/// Stored values are inverted for MONOCHROME1, then multiplied by the slope and shifted by the intercept of
/// their frame; padding (PixelPaddingValue) becomes 0. The pixel at index n/2 stays at index n/2 through crop
/// and padding. With `scale`, the factor is the 99.9th percentile of the cropped, resampled series before
/// padding (linear interpolation between order statistics); images other than magnitude are scaled by the
/// percentile of their absolute values and clipped to -1..1.
///
/// Frames that cannot be read are left out and listed in `skipped`. Throws Errc::decode, naming the first of
/// them, when fewer than two remain of several; Errc::no_memory for absurd sizes, Errc::settings for options
/// that cannot work.
CineSeries load_dicom_series(const DicomSeries& series, const DicomLoadOptions& options);

/// Resamples a cine [frames][pixels] to `frames_out` frames by linear interpolation.
///
/// `cycle`: frame i lies at i * frames / frames_out, and the frame after the last is the first; otherwise the
/// first and last frames stay where they are.
std::vector<float> resample_frames(std::span<const float> cine, int frames, std::size_t pixels,
                                   int frames_out, bool cycle);

} // namespace mri
