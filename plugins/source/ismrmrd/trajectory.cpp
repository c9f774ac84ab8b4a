// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/trajectory.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace mri {

namespace {

struct Scale {
    double x, y;
};

/// Cycles per reconstructed field of view of one unit.
Scale scale_of(TrajectoryUnit unit, const EncodingGeometry& g) {
    const double ratio_x = g.fov_x / g.encoded_fov_x, ratio_y = g.fov_y / g.encoded_fov_y;
    switch (unit) {
    case TrajectoryUnit::normalised:
        return {g.encoded_width * ratio_x, g.encoded_height * ratio_y};
    case TrajectoryUnit::encoded_cycles:
        return {ratio_x, ratio_y};
    case TrajectoryUnit::radians:
        return {g.encoded_width * ratio_x / (2 * std::numbers::pi),
                g.encoded_height * ratio_y / (2 * std::numbers::pi)};
    case TrajectoryUnit::per_metre:
        return {g.fov_x / 1000, g.fov_y / 1000};
    case TrajectoryUnit::cycles:
    case TrajectoryUnit::automatic:
        break;
    }
    return {1, 1};
}

bool same(const Scale& a, const Scale& b) {
    return std::abs(a.x - b.x) < 1e-3 * a.x && std::abs(a.y - b.y) < 1e-3 * a.y;
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
}

} // namespace

EncodingGeometry encoding_geometry(const ISMRMRD::IsmrmrdHeader& header, std::size_t index,
                                   const std::string& where) {
    if (index >= header.encoding.size())
        throw Error(Errc::decode, where + ": refers to encoding " + std::to_string(index) +
                                      ", the header describes " + std::to_string(header.encoding.size()));
    const ISMRMRD::Encoding& encoding = header.encoding[index];
    const auto& encoded = encoding.encodedSpace;
    const auto& recon = encoding.reconSpace;
    const std::string name = where + ": encoding " + std::to_string(index) + " of the header";

    for (const auto* space : {&encoded, &recon}) {
        const std::string which = space == &encoded ? "encoded" : "reconstructed";
        if (space->matrixSize.x == 0 || space->matrixSize.y == 0)
            throw Error(Errc::decode, name + " has an " + which + " matrix of " +
                                          std::to_string(space->matrixSize.x) + " x " +
                                          std::to_string(space->matrixSize.y));
        for (const float fov : {space->fieldOfView_mm.x, space->fieldOfView_mm.y})
            if (!std::isfinite(fov) || fov <= 0)
                throw Error(Errc::decode, name + " has a field of view of " + std::to_string(fov) + " mm (" +
                                              which + " space)");
    }
    if (encoded.matrixSize.z > 1)
        throw Error(Errc::unsupported, name + " is a volume of " + std::to_string(encoded.matrixSize.z) +
                                           " partitions; only slices are supported");

    EncodingGeometry g;
    g.type = encoding.trajectory;
    g.encoded_width = encoded.matrixSize.x;
    g.encoded_height = encoded.matrixSize.y;
    g.width = recon.matrixSize.x;
    g.height = recon.matrixSize.y;
    g.encoded_fov_x = encoded.fieldOfView_mm.x;
    g.encoded_fov_y = encoded.fieldOfView_mm.y;
    g.fov_x = recon.fieldOfView_mm.x;
    g.fov_y = recon.fieldOfView_mm.y;
    g.fov_z = std::isfinite(recon.fieldOfView_mm.z) ? std::max(0.0, double{recon.fieldOfView_mm.z}) : 0;
    const auto& limits = encoding.encodingLimits.kspace_encoding_step_1;
    g.lines = limits && limits->maximum > 0 ? limits->maximum + 1 : g.encoded_height;
    g.centre_line = limits && limits->maximum > 0 ? limits->center : g.encoded_height / 2;
    return g;
}

void TrajectoryExtent::include(std::span<const float> trajectory, int dimensions, const std::string& where) {
    if (dimensions < 2)
        throw Error(Errc::unsupported, where + ": a trajectory of " + std::to_string(dimensions) +
                                           " dimension is not supported, it takes kx and ky");
    for (std::size_t i = 0; i + 1 < trajectory.size(); i += static_cast<std::size_t>(dimensions)) {
        if (!std::isfinite(trajectory[i]) || !std::isfinite(trajectory[i + 1]))
            throw Error(Errc::decode, where + ": the trajectory holds a value that is not finite");
        x = std::max(x, std::abs(double{trajectory[i]}));
        y = std::max(y, std::abs(double{trajectory[i + 1]}));
    }
}

TrajectoryUnit detect_trajectory_unit(const TrajectoryExtent& extent, const EncodingGeometry& g,
                                      const std::string& where) {
    // The edge of k-space, cycles per reconstructed field of view: half the encoded matrix at the encoded
    // spacing. A file in cycles of the reconstruction reaches half the reconstructed matrix.
    const double edge_x = g.encoded_width / 2.0 * g.fov_x / g.encoded_fov_x;
    const double edge_y = g.encoded_height / 2.0 * g.fov_y / g.encoded_fov_y;
    struct Candidate {
        TrajectoryUnit unit;
        Scale scale;
        double reach; // extent / edge
    };
    std::vector<Candidate> fits;
    for (const TrajectoryUnit unit :
         {TrajectoryUnit::normalised, TrajectoryUnit::encoded_cycles, TrajectoryUnit::cycles}) {
        const Scale scale = scale_of(unit, g);
        const double to_x = unit == TrajectoryUnit::cycles ? g.width / 2.0 : edge_x;
        const double to_y = unit == TrajectoryUnit::cycles ? g.height / 2.0 : edge_y;
        const double reach = std::max(extent.x * scale.x / to_x, extent.y * scale.y / to_y);
        if (reach < 0.7 || reach > 1.2)
            continue;
        if (std::any_of(fits.begin(), fits.end(), [&](const Candidate& c) { return same(c.scale, scale); }))
            continue;
        fits.push_back({unit, scale, reach});
    }
    if (fits.size() > 1) {
        std::vector<Candidate> close;
        std::copy_if(fits.begin(), fits.end(), std::back_inserter(close),
                     [](const Candidate& c) { return std::abs(c.reach - 1) <= 0.03; });
        if (!close.empty())
            fits = close;
    }
    if (fits.size() == 1)
        return fits.front().unit;
    throw Error(Errc::settings, where + ": the unit of the trajectory is " +
                                    (fits.empty() ? "unknown" : "ambiguous") + ": it reaches +-" +
                                    short_number(extent.x) + " and +-" + short_number(extent.y) +
                                    ", for an encoded matrix of " + std::to_string(g.encoded_width) + " x " +
                                    std::to_string(g.encoded_height) + " and a reconstructed one of " +
                                    std::to_string(g.width) + " x " + std::to_string(g.height) +
                                    "; set the property trajectory-unit");
}

void convert_trajectory(std::span<const float> trajectory, int dimensions, TrajectoryUnit unit,
                        const EncodingGeometry& geometry, float* kxy) {
    const Scale scale = scale_of(unit, geometry);
    const auto step = static_cast<std::size_t>(dimensions);
    for (std::size_t i = 0; i + 1 < trajectory.size(); i += step) {
        *kxy++ = static_cast<float>(trajectory[i] * scale.x);
        *kxy++ = static_cast<float>(trajectory[i + 1] * scale.y);
    }
}

int centre_sample(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    return head.center_sample > 0 && head.center_sample < head.number_of_samples ? head.center_sample
                                                                                 : head.number_of_samples / 2;
}

void computed_trajectory(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, const EncodingGeometry& g,
                         const AngleSettings& angles, std::uint64_t spoke, int discarded, int samples,
                         const std::string& where, float* kxy) {
    const int centre = centre_sample(head) - discarded;
    // The head's centre tells how far a partial echo reaches; a full one spans the encoded matrix with its
    // kept samples.
    const int full = std::max(samples, 2 * std::max(centre, samples - centre));
    const bool partial = full > samples + 1;
    const double spacing_x =
        (g.is_cartesian() ? 1.0 : static_cast<double>(g.encoded_width) / (partial ? full : samples)) *
        g.fov_x / g.encoded_fov_x;
    if (g.is_cartesian()) {
        const double ky = (head.idx.kspace_encode_step_1 - g.centre_line) * g.fov_y / g.encoded_fov_y;
        for (int i = 0; i < samples; ++i) {
            kxy[2 * i] = static_cast<float>((i - centre) * spacing_x);
            kxy[2 * i + 1] = static_cast<float>(ky);
        }
        return;
    }
    if (!g.is_radial())
        throw Error(Errc::unsupported,
                    where + ": the readout has no trajectory, and one can be computed for Cartesian "
                            "and radial encodings only");
    const bool regular = angles.scheme == AngleScheme::regular;
    const double angle = spoke_angle(angles.scheme, angles.n, regular ? head.idx.kspace_encode_step_1 : spoke,
                                     angles.spokes > 0 ? angles.spokes : g.lines, angles.negative);
    const double spacing_y = spacing_x * g.fov_y / g.fov_x;
    const double step_x = std::cos(angle) * spacing_x, step_y = std::sin(angle) * spacing_y;
    for (int i = 0; i < samples; ++i) {
        kxy[2 * i] = static_cast<float>((i - centre) * step_x);
        kxy[2 * i + 1] = static_cast<float>((i - centre) * step_y);
    }
}

} // namespace mri
