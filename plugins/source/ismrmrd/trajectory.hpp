// SPDX-License-Identifier: LGPL-2.1-or-later
// From what an ISMRMRD file says about its encoding to positions in cycles per reconstructed field of view.
#pragma once

#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <ismrmrd/ismrmrd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mri {

/// Sizes of one encoding, checked: matrices above 0, fields of view above 0 and finite.
struct EncodingGeometry {
    Trajectory trajectory = Trajectory::cartesian;
    bool golden_angle = false; ///< the header calls the spokes' angle golden
    int encoded_width = 0, encoded_height = 0;
    int width = 0, height = 0;                   ///< of the reconstructed space, pixels
    double encoded_fov_x = 0, encoded_fov_y = 0; ///< mm
    double fov_x = 0, fov_y = 0, fov_z = 0;      ///< of the reconstructed space, mm
    int lines =
        0; ///< phase encodes or spokes: the encoding limit of step 1 + 1, or the encoded height without one
    int centre_line = 0; ///< the phase encode with ky = 0

    bool is_cartesian() const { return kind_of(trajectory).grid; }
    bool is_radial() const { return kind_of(trajectory).spokes; }
    bool operator==(const EncodingGeometry&) const = default;
};

/// The geometry of encoding `index`. Throws Errc::decode for sizes that cannot be, Errc::unsupported for
/// volumes, which have several partitions in the encoded and in the reconstructed space.
EncodingGeometry encoding_geometry(const MrdHeader& header, std::size_t index);

/// Units of a file's trajectory.
enum class TrajectoryUnit {
    automatic,      ///< found by detect_trajectory_unit()
    normalised,     ///< +-0.5 at the edge of the encoded matrix
    encoded_cycles, ///< cycles per encoded field of view: +- encoded matrix / 2
    cycles,         ///< cycles per reconstructed field of view: +- reconstructed matrix / 2
    radians,        ///< +-pi at the edge of the encoded matrix
    per_metre       ///< 1 / m
};

/// Name of a unit, as properties and files have it: "encoded-cycles".
const char* to_string(TrajectoryUnit unit);
/// Unit of that name; automatic when there is none.
TrajectoryUnit trajectory_unit_from(std::string_view name);

/// Extent of a trajectory along x and y, in the file's unit.
struct TrajectoryExtent {
    double x = 0, y = 0;
    /// `trajectory` is [sample][dimensions]. Throws Errc::decode for a value that is not finite.
    void include(std::span<const float> trajectory, int dimensions);
};

/// The unit that makes the extent reach the edge of the matrix: normalised, encoded_cycles or cycles. A unit
/// fits when the extent is 0.7 to 1.2 times its edge; of two that fit and differ, one within 3 % wins over
/// one outside, and where that tells nothing the one that fills the reconstructed matrix better along both
/// axes: `reading` then gets a sentence about it, for the user. Throws Errc::settings, asking for the
/// property, when none fits or two fill it alike.
TrajectoryUnit detect_trajectory_unit(const TrajectoryExtent& extent, const EncodingGeometry& geometry,
                                      const std::string& where, std::string* reading = nullptr);

/// Writes interleaved (kx, ky) in cycles per reconstructed field of view for a [sample][dimensions]
/// trajectory in `unit`. Of three dimensions the third is not read: in a single slice it is zero, or a weight
/// that some writers put there.
void convert_trajectory(std::span<const float> trajectory, int dimensions, TrajectoryUnit unit,
                        const EncodingGeometry& geometry, float* kxy);

/// The reverse: from (kx, ky) in cycles per reconstructed field of view to [sample][dimensions] in `unit`. The third
/// of three dimensions is the sample's density compensation, 0 where `density` is empty. Reading it gives the same
/// positions again, to a rounding of float32 and exactly where the unit's scale is a power of two.
std::vector<float> stored_trajectory(std::span<const float> kxy, std::span<const float> density,
                                     int dimensions, TrajectoryUnit unit, const EncodingGeometry& geometry);

/// The sample of a whole readout that lies at the centre of k-space: center_sample, or the middle one where
/// the head says nothing (0, or behind the end).
int centre_sample(const ISMRMRD::ISMRMRD_AcquisitionHeader& head);

/// Angles of a radial file without a trajectory.
struct AngleSettings {
    AngleScheme scheme = AngleScheme::golden;
    int n = 7;             ///< of tiny_golden
    int spokes = 0;        ///< of regular, over the half turn; 0 takes the encoding's lines
    bool negative = false; ///< turns the other way
};

/// Positions of the `samples` kept samples of a readout that has no trajectory of its own: a Cartesian line
/// by its phase encode, a radial spoke by its angle: `spoke` (imaging readouts counted from the first) for
/// golden schemes, the phase encode for regular ones. `discarded` samples were cut off at the start. Sample
/// center_sample of the readout lies at the centre of k-space, the middle one where the head says nothing (0,
/// or behind the end). Throws Errc::unsupported for trajectories that no file can leave out.
void computed_trajectory(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, const EncodingGeometry& geometry,
                         const AngleSettings& angles, std::uint64_t spoke, int discarded, int samples,
                         float* kxy);

} // namespace mri
