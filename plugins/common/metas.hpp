// SPDX-License-Identifier: LGPL-2.1-or-later
// Facts of one readout or frame, as metas on its buffer. All are copied by transforms and by copy_metas();
// facts.hpp gives them to other languages.
#pragma once

#include "plugins/common/caps.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mri {

/// One readout: ISMRMRD's AcquisitionHeader (names and units as there), and simulated data's angle index.
struct Readout {
    std::uint16_t version = 1; ///< of the head
    std::uint64_t flags = 0;   ///< bit n - 1 is ISMRMRD's flag n
    std::uint32_t measurement_uid = 0;
    std::uint32_t scan_counter = 0;
    std::uint32_t acquisition_time_stamp = 0; ///< ticks of the scanner (2.5 ms on Siemens)
    std::array<std::uint32_t, 3> physiology_time_stamp{};
    std::uint16_t available_channels = 0; ///< 0: as many as the readout has
    std::array<std::uint64_t, 16> channel_mask{};
    std::uint16_t discard_pre = 0;
    std::uint16_t discard_post = 0;
    std::uint16_t center_sample = 0;
    std::uint16_t encoding_space_ref = 0;
    /// Dimensions of the trajectory that the readout was stored with; 0: its positions were computed.
    std::uint16_t trajectory_dimensions = 0;
    float sample_time_us = 0;
    std::array<float, 3> position{}; ///< mm, LPS, of the centre of the excited volume
    std::array<float, 3> read_dir{};
    std::array<float, 3> phase_dir{};
    std::array<float, 3> slice_dir{};
    std::array<float, 3> patient_table_position{};
    std::uint16_t kspace_encode_step_1 = 0;
    std::uint16_t kspace_encode_step_2 = 0;
    std::uint16_t average = 0;
    std::uint16_t slice = 0;
    std::uint16_t contrast = 0;
    std::uint16_t phase = 0;
    std::uint16_t repetition = 0;
    std::uint16_t set = 0;
    std::uint16_t segment = 0;
    std::array<std::uint16_t, 8> user{};
    std::array<std::int32_t, 8> user_int{};
    std::array<float, 8> user_float{};
    std::int64_t angle_index = -1; ///< running index of the spoke, -1 when not known

    bool operator==(const Readout&) const = default;
};

/// ISMRMRD's acquisition flags as bit masks (flag n is bit n - 1).
namespace flag {
constexpr std::uint64_t bit(int n) {
    return std::uint64_t{1} << (n - 1);
}
inline constexpr std::uint64_t first_in_encode_step_1 = bit(1), last_in_encode_step_1 = bit(2);
inline constexpr std::uint64_t first_in_slice = bit(7), last_in_slice = bit(8);
inline constexpr std::uint64_t first_in_phase = bit(11), last_in_phase = bit(12);
inline constexpr std::uint64_t first_in_repetition = bit(13), last_in_repetition = bit(14);
inline constexpr std::uint64_t noise = bit(19), parallel_calibration = bit(20),
                               parallel_calibration_and_imaging = bit(21), reverse = bit(22),
                               navigation = bit(23), phase_correction = bit(24),
                               last_in_measurement = bit(25), hp_feedback = bit(26), dummy = bit(27),
                               rt_feedback = bit(28), surface_coil_correction = bit(29),
                               compression_1 = bit(53), compression_2 = bit(54);
} // namespace flag

/// Sampling positions of the readouts in a buffer.
struct TrajectoryData {
    int readouts = 0;
    int samples = 0;
    std::vector<float> kxy; ///< [readout][sample][2]: kx, ky in cycles per reconstructed field of view
    /// [readout][sample] density compensation from the file; empty when it has none
    std::vector<float> density;
};

/// Distance of a reconstructed image from the samples that it was made of: a measure of trust.
struct Consistency {
    double residual = 0; ///< root of sum W |A x - y|^2 over sum W |y|^2, W the samples' areas
    /// The same rest over what noise alone would leave; 0: noise not known. Well above 1 an image does not
    /// explain its samples, well below 1 it follows their noise, which one of fewer samples than pixels can.
    double noise_ratio = 0;
};

/// Role of a side data sample on a buffer.
enum class Role {
    truth,         ///< the image that was scanned (simulated data only)
    input,         ///< the image that the last network was given
    kspace,        ///< the frame that the image was computed from
    gridded,       ///< the frame's plain gridded image, beside a better reconstruction
    sensitivities, ///< of the receive coils: an image (C64LE) with one channel a coil
    calibration, ///< readouts for parallel imaging of the series so far: a k-space frame of their own length
};
const char* to_string(Role role) noexcept;

/// Attaches one Readout per readout, replacing the former ones. The buffer of an add_*() must be writable.
void add_readouts(GstBuffer* buffer, std::vector<Readout> readouts);
/// The readouts' headers: empty when there are none. Valid as long as the buffer.
std::span<const Readout> readouts_of(GstBuffer* buffer);

/// Attaches a trajectory, replacing what it had; throws Errc::format when the sizes do not fit each other.
void add_trajectory(GstBuffer* buffer, std::shared_ptr<const TrajectoryData> trajectory);
/// The buffer's trajectory or nullptr. Shared: frames that have the same one may share it.
std::shared_ptr<const TrajectoryData> trajectory_of(GstBuffer* buffer);

/// Attaches a consistency, replacing what the buffer had.
void add_consistency(GstBuffer* buffer, const Consistency& consistency);
std::optional<Consistency> consistency_of(GstBuffer* buffer);

/// Attaches side data (a buffer with its caps); the last one of a role counts.
void add_side(GstBuffer* buffer, Role role, GstSample* sample);
/// Convenience: wraps buffer and caps into a sample first.
void add_side(GstBuffer* buffer, Role role, GstBuffer* side, GstCaps* caps);
/// The side data of a role or nullptr; borrowed from the buffer.
GstSample* side_of(GstBuffer* buffer, Role role);
void remove_side(GstBuffer* buffer, Role role);

/// Copies flags, time stamps and all metas from one buffer to another (memory stays).
void copy_metas(GstBuffer* to, GstBuffer* from);

} // namespace mri
