// SPDX-License-Identifier: LGPL-2.1-or-later
// Caps of the data between elements: k-space and images.
#pragma once

#include "plugins/common/gst_ptr.hpp"
#include "plugins/math/sampling/trajectory_kind.hpp"

#include <complex>
#include <cstddef>
#include <string>

namespace mri {

using cfloat = std::complex<float>;

/// Upper limits that caps accept; they bound every allocation that follows from caps.
inline constexpr int max_side = 8192;
inline constexpr int max_samples = 65535;
inline constexpr int max_coils = 1024;

#define MRI_KSPACE_CAPS_COMMON                                                                               \
    "coils=(int)[1,1024], samples=(int)[1,65535], width=(int)[1,8192], height=(int)[1,8192], "               \
    "trajectory=(string){" MRI_TRAJECTORY_NAMES "}, framerate=(fraction)[0/1,2147483647/1], "                \
    "series=(int)[0,2147483647]"
/// Template caps: k-space readout by readout, as whole frames, or either.
#define MRI_KSPACE_READOUT_CAPS                                                                              \
    "application/x-mri-kspace, format=(string)C64LE, alignment=(string)readout, " MRI_KSPACE_CAPS_COMMON
#define MRI_KSPACE_FRAME_CAPS                                                                                \
    "application/x-mri-kspace, format=(string)C64LE, alignment=(string)frame, " MRI_KSPACE_CAPS_COMMON
#define MRI_KSPACE_CAPS                                                                                      \
    "application/x-mri-kspace, format=(string)C64LE, "                                                       \
    "alignment=(string){readout,frame}, " MRI_KSPACE_CAPS_COMMON
#define MRI_IMAGE_CAPS_COMMON                                                                                \
    "channels=(int)[1,1024], width=(int)[1,8192], height=(int)[1,8192], "                                    \
    "framerate=(fraction)[0/1,2147483647/1], "                                                               \
    "series=(int)[0,2147483647]"
/// Template caps: images of either format, complex ones, real ones.
#define MRI_IMAGE_CAPS "application/x-mri-image, format=(string){C64LE,F32LE}, " MRI_IMAGE_CAPS_COMMON
#define MRI_IMAGE_C64_CAPS "application/x-mri-image, format=(string)C64LE, " MRI_IMAGE_CAPS_COMMON
#define MRI_IMAGE_F32_CAPS "application/x-mri-image, format=(string)F32LE, " MRI_IMAGE_CAPS_COMMON

enum class Alignment { readout, frame };
enum class SampleFormat { c64, f32 };

struct Fraction {
    int num = 0;
    int den = 1;
    bool operator==(const Fraction&) const = default;
    bool known() const noexcept { return num > 0 && den > 0; }
    /// Duration of one frame, or GST_CLOCK_TIME_NONE when the rate is not known.
    GstClockTime duration() const noexcept {
        return known() ? gst_util_uint64_scale_int(GST_SECOND, den, num) : GST_CLOCK_TIME_NONE;
    }
};

/// application/x-mri-kspace. A readout buffer is [coil][sample], a frame [coil][readout][sample], complex
/// float32.
struct KspaceInfo {
    Alignment alignment = Alignment::readout;
    int coils = 1;
    int samples = 0;
    int width = 0; ///< of the reconstruction space, pixels
    int height = 0;
    double fov_x = 0; ///< of the reconstruction space, mm; 0 when unknown
    double fov_y = 0;
    Trajectory trajectory = Trajectory::radial;
    Fraction framerate; ///< frames a second; 0/1 when unknown
    int series = 0;
    /// Cartesian data: matrix and field of view that were encoded (caps encoded-width ..., written when they
    /// are set). 0 means the same as the reconstruction's (encoded_width: as `samples`).
    int encoded_width = 0;
    int encoded_height = 0;
    double encoded_fov_x = 0;
    double encoded_fov_y = 0;
    int center_line = -1; ///< kspace_encode_step_1 of ky = 0; -1 means encoded_height / 2
    /// Standard deviation of the noise in a sample's real and imaginary part, the same and independent in all
    /// coils (caps noise, written when it is set); 0 when unknown.
    double noise = 0;

    /// Throws Errc::format naming the missing or wrong field.
    static KspaceInfo from_caps(const GstCaps* caps);
    GstPtr<GstCaps> to_caps() const;
    bool operator==(const KspaceInfo&) const = default;

    /// Number of readouts in a frame buffer of `bytes`; throws Errc::format when it is not a whole number or
    /// zero.
    int readouts_in(std::size_t bytes) const;
};

/// application/x-mri-image: [channel][y][x]; channel is the coil, or 1 when combined.
struct ImageInfo {
    SampleFormat format = SampleFormat::f32;
    int channels = 1;
    int width = 0;
    int height = 0;
    double fov_x = 0; ///< mm; 0 when unknown
    double fov_y = 0;
    Fraction framerate;
    int series = 0;

    /// Throws Errc::format naming the missing or wrong field.
    static ImageInfo from_caps(const GstCaps* caps);
    GstPtr<GstCaps> to_caps() const;
    bool operator==(const ImageInfo&) const = default;

    std::size_t pixels() const noexcept { return static_cast<std::size_t>(width) * height; }
    std::size_t bytes() const noexcept {
        return pixels() * channels * (format == SampleFormat::c64 ? sizeof(cfloat) : sizeof(float));
    }
    /// Throws Errc::format when a buffer of `bytes` is not one image of this kind.
    void check_size(std::size_t bytes) const;
};

/// Whether these are caps of application/x-mri-kspace, whatever their fields.
bool is_kspace(const GstCaps* caps);

/// The MRD XML header travels as the sticky event "mri-header".
GstPtr<GstEvent> new_header_event(const std::string& xml);
/// The header's XML when the event is an mri-header, else an empty string.
std::string header_of(GstEvent* event);

} // namespace mri
