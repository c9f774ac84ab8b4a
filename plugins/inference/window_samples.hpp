// SPDX-License-Identifier: LGPL-2.1-or-later
// A window as the elements with data consistency read it: images, k-space frames and the sensitivities of their coils;
// as side data of images, or as WindowStart made them.
#pragma once

#include "models/common/sampled_window.hpp"
#include "plugins/common/element.hpp"
#include "plugins/common/kspace_frame.hpp"
#include "plugins/inference/window_start.hpp"
#include "plugins/math/recon/network_start.hpp"

#include <complex>
#include <fmt/format.h>
#include <optional>
#include <string>
#include <vector>

namespace mri {

class WindowSamples {
  public:
    /// Throws Errc::format for an image without its k-space.
    static void check(GstBuffer* image) {
        if (!side_of(image, Role::kspace))
            throw Error(Errc::format, "An image came without its k-space, which data consistency needs "
                                      "(mrigrid and mrirecon attach it with attach-kspace=true)");
    }

    /// The frame that an image was made of.
    static KspaceInfo kspace_of(GstBuffer* image) {
        return KspaceInfo::from_caps(gst_sample_get_caps(side_of(image, Role::kspace)));
    }

    /// Reads a window of complex images of one channel. Throws Errc::format for what does not fit.
    void read(const std::vector<GstPtr<GstBuffer>>& images, const ImageInfo& info, int threads) {
        clear();
        std::optional<int> coils;
        for (const auto& item : images) {
            const Mapped<const cfloat> image(item.get());
            start_.insert(start_.end(), image.span().begin(), image.span().end());
            const KspaceInfo kspace = kspace_of(item.get());
            if (kspace.width != info.width || kspace.height != info.height ||
                (coils && *coils != kspace.coils))
                throw Error(Errc::format,
                            fmt::format("An image of {} x {} came with k-space of {} coils for {} x {}",
                                        info.width, info.height, kspace.coils, kspace.width, kspace.height));
            coils = kspace.coils;
            space_ = space_of(kspace, ReconstructionSpace().tolerance, threads);
            frames_.push_back(mapped_.add(gst_sample_get_buffer(side_of(item.get(), Role::kspace)), kspace));
        }
        // Those of the window's last frame are the best known.
        read_maps(images.back().get(), info, *coils);
    }

    /// Takes the window that the start has made, whose frames stay there until its next one.
    void read(const WindowStart& start) {
        clear();
        start_.assign(start.images().begin(), start.images().end());
        frames_.assign(start.frames().begin(), start.frames().end());
        maps_.assign(start.sensitivities().begin(), start.sensitivities().end());
        space_ = start.space();
    }

    /// The window that was read, all images and samples divided by `scale`, samples weighed by the ramp clipped at strips of
    /// `strip_limit` cycles. Once for each window that was read; valid until the next call here.
    SampledWindow window(double strip_limit, float scale = 1) {
        areas_ = network_areas(space_, frames_, strip_limit);
        scaled_.assign(scale == 1 ? 0 : frames_.size(), {});
        for (std::size_t t = 0; t < frames_.size(); ++t) {
            frames_[t] = frames_[t].with(areas_[t]);
            if (scale == 1)
                continue;
            scaled_[t].assign(frames_[t].samples.begin(), frames_[t].samples.end());
            for (cfloat& value : scaled_[t])
                value /= scale;
            frames_[t].samples = scaled_[t];
        }
        if (scale != 1)
            for (cfloat& value : start_)
                value /= scale;
        return {start_, frames_, space_.coils, maps_};
    }

    std::span<const SampledFrame> frames() const { return frames_; }
    std::span<const cfloat> start() const { return start_; }

    /// Lets go of the buffers.
    void clear() {
        frames_.clear();
        mapped_.clear();
        start_.clear();
        maps_.clear();
    }

  private:
    void read_maps(GstBuffer* image, const ImageInfo& info, int coils) {
        if (coils == 1)
            return;
        GstSample* side = side_of(image, Role::sensitivities);
        if (!side)
            throw Error(
                Errc::format,
                fmt::format(
                    "An image of {} coils came without their sensitivities, which data consistency needs "
                    "(mrigrid and mrirecon combine=adaptive attach-sensitivities=true attach them)",
                    coils));
        const ImageInfo maps = ImageInfo::from_caps(gst_sample_get_caps(side));
        if (maps.format != SampleFormat::c64 || maps.channels != coils || maps.width != info.width ||
            maps.height != info.height)
            throw Error(
                Errc::format,
                fmt::format(
                    "Sensitivities of {} coils for {} x {} do not fit {} coils and an image of {} x {}",
                    maps.channels, maps.width, maps.height, coils, info.width, info.height));
        GstBuffer* buffer = gst_sample_get_buffer(side);
        maps.check_size(gst_buffer_get_size(buffer));
        const Mapped<const cfloat> mapped(buffer);
        maps_.assign(mapped.span().begin(), mapped.span().end());
    }

    ReconstructionSpace space_;
    KspaceWindow mapped_;
    std::vector<SampledFrame> frames_;
    std::vector<cfloat> start_, maps_;
    std::vector<std::vector<float>> areas_;
    std::vector<std::vector<cfloat>> scaled_;
};

} // namespace mri
