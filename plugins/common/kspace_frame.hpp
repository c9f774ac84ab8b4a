// SPDX-License-Identifier: LGPL-2.1-or-later
// Caps and buffers of k-space frames for the mathematics of reconstruct.hpp.
#pragma once

#include "plugins/common/element.hpp"
#include "plugins/math/recon/calibration.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mri {

inline ReconstructionSpace space_of(const KspaceInfo& info, double tolerance, int threads) {
    ReconstructionSpace space;
    space.width = info.width;
    space.height = info.height;
    // Without fields of view pixels are taken as square.
    space.aspect = info.fov_x > 0 && info.fov_y > 0 ? info.fov_y / info.fov_x
                                                    : static_cast<double>(info.height) / info.width;
    const auto over = [](double encoded_mm, double mm, int encoded, int pixels) {
        if (encoded_mm > 0 && mm > 0)
            return encoded_mm / mm;
        return encoded > 0 ? static_cast<double>(encoded) / pixels : 1.0;
    };
    space.over_x = over(info.encoded_fov_x, info.fov_x,
                        info.encoded_width > 0 ? info.encoded_width : info.samples, info.width);
    space.over_y = over(info.encoded_fov_y, info.fov_y, info.encoded_height, info.height);
    space.coils = info.coils;
    space.trajectory = info.trajectory;
    space.tolerance = tolerance;
    space.threads = threads;
    return space;
}

inline ImageInfo image_of(const KspaceInfo& info, Combine combine) {
    ImageInfo image;
    image.format = combine == Combine::rss ? SampleFormat::f32 : SampleFormat::c64;
    image.channels = combined_channels(combine, info.coils);
    image.width = info.width;
    image.height = info.height;
    image.fov_x = info.fov_x;
    image.fov_y = info.fov_y;
    image.framerate = info.framerate;
    image.series = info.series;
    return image;
}

/// A frame buffer, mapped, with its trajectory. Throws Errc::format when it has none, when its size does not fit it, and
/// when a value is not finite.
class KspaceFrame {
  public:
    KspaceFrame(GstBuffer* buffer, const KspaceInfo& info)
        : samples_(buffer),
          trajectory_(trajectory_of(buffer)),
          readouts_(info.readouts_in(samples_.size() * sizeof(cfloat))),
          per_readout_(info.samples) {
        if (!trajectory_)
            throw Error(Errc::format,
                        "A k-space frame came without the positions of its samples (trajectory meta)");
        if (trajectory_->readouts != readouts_ || trajectory_->samples != per_readout_)
            throw Error(
                Errc::format,
                fmt::format("A k-space frame of {} readouts of {} samples has a trajectory of {} x {}",
                            readouts_, per_readout_, trajectory_->readouts, trajectory_->samples));
        view_.emplace(trajectory_->kxy, samples_.span(), trajectory_->density, readouts_);
    }

    /// Valid as long as this lives, wherever it is moved to.
    const SampledFrame& view() const { return *view_; }

  private:
    Mapped<const cfloat> samples_;
    std::shared_ptr<const TrajectoryData> trajectory_;
    int readouts_;
    int per_readout_;
    std::optional<SampledFrame> view_;
};

/// The frames of a window. A buffer is mapped once however often the window has it: short series repeat their edges,
/// and GStreamer's memory can be mapped 255 times.
class KspaceWindow {
  public:
    /// The frame in a buffer, valid until clear(). Throws as KspaceFrame does.
    SampledFrame add(GstBuffer* buffer, const KspaceInfo& info) {
        for (std::size_t i = 0; i < held_.size(); ++i)
            if (held_[i].get() == buffer)
                return frames_[i].view();
        frames_.emplace_back(buffer, info);
        held_.push_back(retain(buffer));
        return frames_.back().view();
    }
    void clear() noexcept {
        frames_.clear();
        held_.clear();
    }

  private:
    std::vector<GstPtr<GstBuffer>> held_; // whose memory frames_ maps
    std::vector<KspaceFrame> frames_;
};

/// Where the imaged plane lies and how it is turned, whatever its number says: what was found out about its
/// coils holds no longer when it moves.
class PlaneWatch {
  public:
    /// Whether the plane of this frame is another than that of the last one. Frames without headers and the
    /// first one are on the same plane.
    bool moved(GstBuffer* frame) {
        const auto heads = readouts_of(frame);
        if (heads.empty())
            return false;
        const Plane plane{heads[0].position, heads[0].read_dir, heads[0].phase_dir, heads[0].slice_dir};
        const bool other = plane_ && *plane_ != plane;
        plane_ = plane;
        return other;
    }
    void forget() { plane_.reset(); }

  private:
    using Plane = std::array<std::array<float, 3>, 4>;
    std::optional<Plane> plane_;
};

/// What the reference lines of Cartesian frames (Role::calibration) say of the coils.
class CalibrationWatch {
  public:
    /// Looks at a frame's reference lines, and computes where they are others than those of the frame before; whether
    /// they are. Throws Errc::format for lines that do not fit the frame.
    bool update(GstBuffer* frame, const ReconstructionSpace& space) {
        GstSample* sample =
            kind_of(space.trajectory).grid && space.coils > 1 ? side_of(frame, Role::calibration) : nullptr;
        if (sample == sample_.get())
            return false;
        sample_ = sample ? retain(sample) : nullptr;
        calibration_.reset();
        GstBuffer* lines = sample ? gst_sample_get_buffer(sample) : nullptr;
        if (!lines || !trajectory_of(lines))
            return true;
        const KspaceInfo info = KspaceInfo::from_caps(gst_sample_get_caps(sample));
        if (info.coils != space.coils)
            throw Error(Errc::format, fmt::format("Reference lines of {} coils came with a frame of {}",
                                                  info.coils, space.coils));
        if (auto made = calibrate(space, KspaceFrame(lines, info).view()))
            calibration_ = std::make_shared<const CoilCalibration>(std::move(*made));
        return true;
    }
    /// Null where there are none that could be used.
    const std::shared_ptr<const CoilCalibration>& get() const { return calibration_; }

  private:
    GstPtr<GstSample> sample_; // the reference keeps the address its own
    std::shared_ptr<const CoilCalibration> calibration_;
};

/// The sentence about frames whose readouts lie where others have been.
inline constexpr const char* bounded_text = "Readouts of a frame lie upon each other and leave most of "
                                            "k-space empty: iterations take shorter steps, and images "
                                            "hold little beside what these readouts show";

/// The sentence about images of frames with regular gaps, `step` lines wide, that nothing unfolds.
inline std::string aliased_text(int step, bool calibrated) {
    return fmt::format("Of {} lines of k-space only one was measured: the images are aliased {}-fold. {}",
                       step, step,
                       calibrated ? "The scan's reference lines unfold them with mrirecon, combine=adaptive"
                                  : "The scan has no reference lines that could unfold them");
}

/// Throws Errc::settings when sensitivities are to be attached that no combination makes.
inline void check_attached(bool sensitivities, Combine combine) {
    if (sensitivities && combine != Combine::adaptive)
        throw Error(Errc::settings, "attach-sensitivities goes with combine=adaptive: the other combinations "
                                    "know no sensitivities");
}

/// Sensitivities [coil][y][x] as side data of the role: a complex image of one channel a coil. None stand for
/// one coil of sensitivity 1.
inline GstPtr<GstSample> sensitivity_sample(std::span<const cfloat> maps, const KspaceInfo& info) {
    ImageInfo image = image_of(info, Combine::none);
    image.framerate = {};
    if (maps.empty())
        image.channels = 1;
    auto buffer = new_buffer<cfloat>(image.pixels() * static_cast<std::size_t>(image.channels));
    {
        const Mapped<cfloat> out(buffer.get());
        if (maps.empty())
            std::fill_n(out.data(), out.size(), cfloat(1));
        else
            std::copy(maps.begin(), maps.end(), out.data());
    }
    return adopt(gst_sample_new(buffer.get(), image.to_caps().get(), nullptr, nullptr));
}

/// Writes combined images into a buffer of `info`'s format: as they are, or their real part (a root sum of
/// squares).
inline void store_images(std::span<const cfloat> images, const ImageInfo& info, GstBuffer* buffer) {
    if (info.format == SampleFormat::c64) {
        const Mapped<cfloat> out(buffer);
        std::copy(images.begin(), images.end(), out.data());
        return;
    }
    const Mapped<float> out(buffer);
    std::transform(images.begin(), images.end(), out.data(),
                   [](const cfloat& value) { return value.real(); });
}

} // namespace mri
