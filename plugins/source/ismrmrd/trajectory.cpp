// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/trajectory.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
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

const char* words_of(TrajectoryUnit unit) {
    switch (unit) {
    case TrajectoryUnit::normalised:
        return "parts of the encoded matrix (normalised)";
    case TrajectoryUnit::encoded_cycles:
        return "cycles per encoded field of view (encoded-cycles)";
    default:
        return "cycles per reconstructed field of view (cycles)";
    }
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
}

} // namespace

namespace {

struct UnitName {
    TrajectoryUnit unit;
    const char* name;
};
constexpr UnitName unit_names[] = {
    {TrajectoryUnit::automatic, "auto"},
    {TrajectoryUnit::normalised, "normalised"},
    {TrajectoryUnit::encoded_cycles, "encoded-cycles"},
    {TrajectoryUnit::cycles, "cycles"},
    {TrajectoryUnit::radians, "radians"},
    {TrajectoryUnit::per_metre, "per-metre"},
};

} // namespace

const char* to_string(TrajectoryUnit unit) {
    return unit_names[static_cast<std::size_t>(unit)].name;
}

TrajectoryUnit trajectory_unit_from(std::string_view name) {
    for (const UnitName& row : unit_names)
        if (name == row.name)
            return row.unit;
    return TrajectoryUnit::automatic;
}

EncodingGeometry encoding_geometry(const MrdHeader& header, std::size_t index) {
    if (index >= header.encodings.size())
        throw Error(Errc::decode, fmt::format("refers to encoding {}, the header describes {}", index,
                                              header.encodings.size()));
    const MrdEncoding& encoding = header.encodings[index];
    const auto name = [index] { return fmt::format("encoding {} of the header", index); };

    // Slices can be reconstructed without a thickness, and readouts with positions without a trajectory's name.
    std::string missing;
    for (const std::string& part : encoding.missing)
        if (part.find("/x") != std::string::npos || part.find("/y") != std::string::npos)
            missing += (missing.empty() ? "" : ", ") + part;
    if (!missing.empty())
        throw Error(Errc::decode, name() + " has " + missing);
    for (const auto* space : {&encoding.encoded, &encoding.recon}) {
        const std::string which = space == &encoding.encoded ? "encoded" : "reconstructed";
        const int x = space->matrix[0], y = space->matrix[1];
        if (x < 1 || y < 1 || x > 65535 || y > 65535)
            throw Error(Errc::decode, fmt::format("{} has an {} matrix of {} x {}", name(), which, x, y));
        for (const double fov : {space->fov_mm[0], space->fov_mm[1]})
            if (!(fov > 0))
                throw Error(Errc::decode,
                            fmt::format("{} has a field of view of {} mm ({} space)", name(), fov, which));
    }
    // Slices of some sequences are encoded with z = 2, which their scanner's software asks for: readouts of other
    // partitions than the first then tell a volume.
    if (encoding.encoded.matrix[2] > 1 && encoding.recon.matrix[2] > 1)
        throw Error(Errc::unsupported,
                    fmt::format("{} is a volume of {} partitions; only slices are supported", name(),
                                encoding.encoded.matrix[2]));

    // The format has lengths in float32.
    const auto mm = [](double value) { return double{static_cast<float>(value)}; };
    EncodingGeometry g;
    g.trajectory = encoding.trajectory;
    g.golden_angle = encoding.golden_angle;
    g.encoded_width = encoding.encoded.matrix[0];
    g.encoded_height = encoding.encoded.matrix[1];
    g.width = encoding.recon.matrix[0];
    g.height = encoding.recon.matrix[1];
    g.encoded_fov_x = mm(encoding.encoded.fov_mm[0]);
    g.encoded_fov_y = mm(encoding.encoded.fov_mm[1]);
    g.fov_x = mm(encoding.recon.fov_mm[0]);
    g.fov_y = mm(encoding.recon.fov_mm[1]);
    g.fov_z = std::max(0.0, mm(encoding.recon.fov_mm[2]));
    const auto& limits = encoding.step_1;
    g.lines = limits && limits->maximum > 0 ? limits->maximum + 1 : g.encoded_height;
    g.centre_line = limits && limits->maximum > 0 ? limits->center : g.encoded_height / 2;
    return g;
}

void TrajectoryExtent::include(std::span<const float> trajectory, int dimensions) {
    if (dimensions < 2)
        throw Error(
            Errc::unsupported,
            fmt::format("a trajectory of {} dimension is not supported, it takes kx and ky", dimensions));
    for (std::size_t i = 0; i + 1 < trajectory.size(); i += static_cast<std::size_t>(dimensions)) {
        if (!std::isfinite(trajectory[i]) || !std::isfinite(trajectory[i + 1]))
            throw Error(Errc::decode, "the trajectory holds a value that is not finite");
        x = std::max(x, std::abs(double{trajectory[i]}));
        y = std::max(y, std::abs(double{trajectory[i + 1]}));
    }
}

TrajectoryUnit detect_trajectory_unit(const TrajectoryExtent& extent, const EncodingGeometry& g,
                                      const std::string& where, std::string* reading) {
    // The edge of k-space, cycles per reconstructed field of view: half the encoded matrix at the encoded
    // spacing. A file in cycles of the reconstruction reaches half the reconstructed matrix.
    const double edge_x = g.encoded_width / 2.0 * g.fov_x / g.encoded_fov_x;
    const double edge_y = g.encoded_height / 2.0 * g.fov_y / g.encoded_fov_y;
    struct Candidate {
        TrajectoryUnit unit;
        Scale scale;
        double reach; // extent / edge
        double
            miss; // by how much, as a logarithm, the reconstructed matrix is over- or underfilled along x or y
    };
    const auto off = [](double filled) { return filled > 0 ? std::abs(std::log(filled)) : HUGE_VAL; };
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
        const double miss =
            std::max(off(extent.x * scale.x / (g.width / 2.0)), off(extent.y * scale.y / (g.height / 2.0)));
        fits.push_back({unit, scale, reach, miss});
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
    if (!fits.empty()) {
        std::stable_sort(fits.begin(), fits.end(),
                         [](const Candidate& a, const Candidate& b) { return a.miss < b.miss; });
        if (fits[1].miss - fits[0].miss > 0.02) {
            if (reading)
                *reading = fmt::format(
                    "{}: the trajectory, which reaches +-{} and +-{}, is read as {}, which fills the "
                    "reconstructed matrix of {} x {}; as {} it would fit the encoded one of {} x {}: if that "
                    "is "
                    "meant, set the property trajectory-unit",
                    where, short_number(extent.x), short_number(extent.y), words_of(fits[0].unit), g.width,
                    g.height, words_of(fits[1].unit), g.encoded_width, g.encoded_height);
            return fits[0].unit;
        }
    }
    throw Error(
        Errc::settings,
        fmt::format("{}: the unit of the trajectory is {}: it reaches +-{} and +-{}, for an encoded matrix "
                    "of {} x {} and a reconstructed one of {} x {}; set the property trajectory-unit",
                    where, (fits.empty() ? "unknown" : "ambiguous"), short_number(extent.x),
                    short_number(extent.y), g.encoded_width, g.encoded_height, g.width, g.height));
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

std::vector<float> stored_trajectory(std::span<const float> kxy, std::span<const float> density,
                                     int dimensions, TrajectoryUnit unit, const EncodingGeometry& geometry) {
    const Scale scale = scale_of(unit, geometry);
    const auto step = static_cast<std::size_t>(dimensions);
    std::vector<float> stored(kxy.size() / 2 * step);
    for (std::size_t i = 0; i < kxy.size() / 2; ++i) {
        stored[i * step] = static_cast<float>(kxy[2 * i] / scale.x);
        stored[i * step + 1] = static_cast<float>(kxy[2 * i + 1] / scale.y);
        if (dimensions == 3 && !density.empty())
            stored[i * step + 2] = density[i];
    }
    return stored;
}

int centre_sample(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    return head.center_sample > 0 && head.center_sample < head.number_of_samples ? head.center_sample
                                                                                 : head.number_of_samples / 2;
}

void computed_trajectory(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, const EncodingGeometry& g,
                         const AngleSettings& angles, std::uint64_t spoke, int discarded, int samples,
                         float* kxy) {
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
        throw Error(Errc::unsupported, "the readout has no trajectory, and one can be computed for Cartesian "
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
