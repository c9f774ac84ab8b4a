// SPDX-License-Identifier: LGPL-2.1-or-later
// Images in space, and parallel slices put into order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// A vector in the patient's coordinates of DICOM: mm to the left, to the back and to the head (LPS).
using Vector3 = std::array<double, 3>;

double dot(const Vector3& a, const Vector3& b) noexcept;
Vector3 cross(const Vector3& a, const Vector3& b) noexcept;

/// What the position of an MRD image stands for.
enum class PositionConvention {
    centre,     ///< the centre of the excited volume: pixel (width / 2, height / 2), as the MRD format says
    first_voxel ///< the centre of pixel (0, 0), as converters that copy DICOM's position mean it
};

/// Plane of an image. Pixel (x, y) lies at first_voxel + x * spacing_x * row + y * spacing_y * column.
struct ImagePlane {
    Vector3 first_voxel{};   ///< mm, centre of pixel (0, 0)
    Vector3 row{1, 0, 0};    ///< unit vector of increasing x
    Vector3 column{0, 1, 0}; ///< unit vector of increasing y
    double spacing_x = 1;    ///< mm between columns
    double spacing_y = 1;    ///< mm between rows
    double thickness = 0;    ///< mm; 0 when unknown
    int width = 0, height = 0;

    Vector3 normal() const noexcept { return cross(row, column); }
};

/// Unit vectors of an image out of a readout's read_dir and phase_dir; column is made perpendicular to row.
/// Nothing where they are zero, not finite or less than 60 degrees apart.
struct Directions {
    Vector3 row, column;
};
std::optional<Directions> directions_of(const std::array<float, 3>& read, const std::array<float, 3>& phase);

/// Moves plane.first_voxel to where it belongs for an image whose MRD position is `position`.
void place(ImagePlane& plane, const Vector3& position, PositionConvention convention);

/// What orders an image among the others.
struct ExportedImage {
    ImagePlane plane;
    int header = 0; ///< number of the MRD header that it came under
    int series = 0; ///< of the stream
    std::uint32_t measurement = 0;
    int contrast = 0, set = 0, repetition = 0;
    bool gated = false;                    ///< belongs to a phase of the heart
    std::optional<std::uint64_t> time;     ///< ns, of the stream
    std::optional<std::uint64_t> duration; ///< ns
    std::optional<std::uint32_t> stamp;    ///< acquisition_time_stamp, in the scanner's ticks
    std::size_t pixels = 0;                ///< index in the spool
};

/// All images of one slice.
struct Slice {
    double position = 0;             ///< mm along the normal
    std::vector<std::size_t> images; ///< in the order in which they came
};

/// Parallel slices of one scan, by ascending position.
struct Stack {
    std::vector<Slice> slices;
};

/// Puts images into stacks. Images of one stream series, plane, contrast and set are one slice; slices of the
/// same header, measurement, contrast, set, orientation, matrix and spacing, no two of which lie at one
/// position along the normal, are one stack. Stacks come in the order of their first images.
std::vector<Stack> stack_images(std::span<const ExportedImage> images);

/// Distance in mm of a stack's slices, where they are evenly spaced: to 1 %, and 0.02 mm. Nothing for one
/// slice.
std::optional<double> even_spacing(const Stack& stack);

/// Stacks that fit a grid of x, y, z and time: slices evenly spaced, straight above each other (to 0.05 mm)
/// and with as many images each. Others are split into their slices, and `reasons` says why.
std::vector<Stack> gridded_stacks(std::vector<Stack> stacks, std::span<const ExportedImage> images,
                                  std::vector<std::string>& reasons);

/// Mean time in s between the images of a slice, and the largest deviation from it.
struct TimeStep {
    double mean = 0;    ///< 0 when unknown
    double largest = 0; ///< s
};
TimeStep time_step(const Slice& slice, std::span<const ExportedImage> images);

} // namespace mri
