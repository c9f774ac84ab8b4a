// SPDX-License-Identifier: LGPL-2.1-or-later
// The XML header of MRD (ISMRMRD) data: what this product reads of it, and what it writes. Pure C++.
#pragma once

#include "plugins/math/sampling/trajectory_kind.hpp"

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mri {

/// Range of a counter.
struct MrdLimit {
    int minimum = 0, maximum = 0, center = 0;
};

/// Size of an encoded or reconstructed space: x, y, z. 0 where the header does not say.
struct MrdSpace {
    std::array<int, 3> matrix{};    ///< samples or pixels
    std::array<double, 3> fov_mm{}; ///< field of view in mm
};

/// One way of sampling: a header has one or more.
struct MrdEncoding {
    MrdSpace encoded, recon;
    /// EPI counts as Cartesian, golden angles as radial, all that has no name here as arbitrary.
    Trajectory trajectory = Trajectory::arbitrary;
    bool golden_angle = false;
    std::optional<MrdLimit> step_1, average, slice, contrast, phase, repetition, set, segment;
    /// What the format demands and the header lacks or has no usable value for, as parts of a sentence about
    /// the encoding: "no encodedSpace/matrixSize/x (line 12)". Empty for a complete encoding.
    std::vector<std::string> missing;
    /// What is read otherwise than it is written, as sentences for the user: sizes that were rounded, fields of
    /// view in metres or of 0, a reconSpace that is not there.
    std::vector<std::string> readings;
};

/// An MRD header. Reading is tolerant: namespaces and their prefixes do not matter, nor does the order of
/// elements, and what is missing leaves its member as it is; who needs it asks MrdEncoding::missing. Matrix
/// sizes within 0.01 of a whole number are that number; without a reconSpace the encodedSpace stands for it;
/// fields of view below 1 along both x and y are in metres; one of 0 follows from the pixels of the other space, or is
/// 1 mm for each pixel. MrdEncoding::readings tells.
struct MrdHeader {
    int receiver_channels = 0;           ///< 0 where the header does not say
    double relative_noise_bandwidth = 0; ///< relativeReceiverNoiseBandwidth; 0 where there is none in 0..1000
    double h1_resonance_hz = 0;          ///< frequency of the protons' resonance in Hz; 0 where there is none
    std::vector<MrdEncoding> encodings;
    std::optional<double> repetition_time_ms; ///< the first TR

    /// Reads a header in any encoding that its byte order mark or XML declaration names. Nothing is read from
    /// outside of the text, entities of the text's own are not expanded, and a header has 4 MiB at most.
    ///
    /// Throws Errc::decode with a sentence that begins with `name`: that the text is no well-formed XML
    /// (line and reason in the detail), or its root is another element.
    static MrdHeader parse(std::string_view xml, const std::string& name = "The MRD header");

    /// The header as XML in UTF-8. Holds what the members say and nothing else: a header that was read and is
    /// to be handed on goes on as the text that it came in.
    std::string xml() const;
};

/// A header's text in UTF-8, which strings of GStreamer are: the same text where it is UTF-8 already. Throws as
/// MrdHeader::parse() does.
std::string mrd_header_utf8(const std::string& xml);

/// All texts of a header, by the path of names that leads to them from the root: "sequenceParameters/TR". In the
/// order of the header where a path has several. Throws as MrdHeader::parse() does.
std::multimap<std::string, std::string> mrd_header_texts(std::string_view xml);

/// Names and values of an image's attributes as MRD's meta XML. One name several times in a row is one attribute of
/// several values.
std::string mrd_attributes(const std::vector<std::pair<std::string, std::string>>& values);

} // namespace mri
