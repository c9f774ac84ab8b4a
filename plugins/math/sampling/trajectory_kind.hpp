// SPDX-License-Identifier: LGPL-2.1-or-later
// The trajectories through k-space, and what each of them means for a reconstruction.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace mri {

/// Geometry of readouts in k-space.
enum class Trajectory { radial, spiral, cartesian, arbitrary };

/// Facts of a trajectory.
struct TrajectoryKind {
    Trajectory trajectory;
    const char* name;  ///< in caps, properties and MRD headers
    const char* blurb; ///< for users, of a simulated readout; empty: not simulated
    /// Straight readouts through the centre: the samples' areas are those of density.hpp's ramp, and delays of
    /// the gradients shift readouts along and across themselves.
    bool spokes;
    bool grid;        ///< samples lie on the lines of a grid: transformed by an FFT
    bool from_centre; ///< a readout begins at the centre; else its middle sample lies there
};

/// One row a trajectory, in the order of the enum. How a new one is simulated is a row in
/// data_gen/scanner/simulate.cpp.
inline constexpr std::array<TrajectoryKind, 4> trajectory_kinds{{
    {Trajectory::radial, "radial", "Spokes through the centre", true, false, false},
    {Trajectory::spiral, "spiral", "Interleaves from the centre outwards, at twice the angles", false, false,
     true},
    {Trajectory::cartesian, "cartesian", "Lines along x, random, denser towards the centre", false, true,
     false},
    {Trajectory::arbitrary, "arbitrary", "", false, false, false},
}};

/// The names as template caps list them.
#define MRI_TRAJECTORY_NAMES "radial,spiral,cartesian,arbitrary"

/// Trajectories that are simulated: the first ones of the table.
inline constexpr std::size_t simulated_trajectories = [] {
    std::size_t count = 0;
    while (count < trajectory_kinds.size() && *trajectory_kinds[count].blurb)
        ++count;
    return count;
}();

static_assert(
    [] {
        std::string_view names = MRI_TRAJECTORY_NAMES;
        for (std::size_t i = 0; i < trajectory_kinds.size(); ++i) {
            const TrajectoryKind& kind = trajectory_kinds[i];
            const std::string_view name = names.substr(0, names.find(','));
            names.remove_prefix(name.size() < names.size() ? name.size() + 1 : name.size());
            if (static_cast<std::size_t>(kind.trajectory) != i || name != kind.name ||
                (*kind.blurb != 0) != (i < simulated_trajectories))
                return false;
        }
        return names.empty();
    }(),
    "rows in the order of the enum and of the names, simulated trajectories first");

constexpr const TrajectoryKind& kind_of(Trajectory trajectory) {
    return trajectory_kinds[static_cast<std::size_t>(trajectory)];
}

constexpr const char* to_string(Trajectory trajectory) {
    return kind_of(trajectory).name;
}

/// Trajectory of that name; nothing when there is none.
constexpr std::optional<Trajectory> trajectory_from(std::string_view name) {
    for (const TrajectoryKind& kind : trajectory_kinds)
        if (name == kind.name)
            return kind.trajectory;
    return std::nullopt;
}

} // namespace mri
