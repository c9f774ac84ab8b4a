// SPDX-License-Identifier: LGPL-2.1-or-later
// What the elements with data consistency read from a window of images: the images, the k-space frames that
// ride on them, and the sensitivities of their coils.
#pragma once

#include "models/common/sampled_window.hpp"
#include "plugins/common/element.hpp"
#include "plugins/common/kspace_frame.hpp"
#include "plugins/math/recon/window_operator.hpp"

#include <complex>
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
            const Mapped<const std::complex<float>> image(item.get());
            start_.insert(start_.end(), image.span().begin(), image.span().end());
            const KspaceInfo kspace = kspace_of(item.get());
            if (kspace.width != info.width || kspace.height != info.height ||
                (coils && *coils != kspace.coils))
                throw Error(Errc::format, "An image of " + std::to_string(info.width) + " x " +
                                              std::to_string(info.height) + " came with k-space of " +
                                              std::to_string(kspace.coils) + " coils for " +
                                              std::to_string(kspace.width) + " x " +
                                              std::to_string(kspace.height));
            coils = kspace.coils;
            space_ = space_of(kspace, 5e-4, threads);
            held_.push_back(retain(gst_sample_get_buffer(side_of(item.get(), Role::kspace))));
            kspace_.emplace_back(held_.back().get(), kspace);
        }
        // Those of the window's last frame are the best known.
        read_maps(images.back().get(), info, *coils);
    }

    /// What was read, all images and samples divided by `scale`. Valid until the next call here.
    SampledWindow window(double strip_limit, float scale = 1) {
        space_.strip_limit = strip_limit;
        areas_.clear();
        frames_.clear();
        scaled_.assign(scale == 1 ? 0 : kspace_.size(), {});
        for (std::size_t i = 0; i < kspace_.size(); ++i) {
            const FrameView view = kspace_[i].view();
            areas_.push_back(sample_areas(space_, {&view, 1}, Density::clipped));
            std::span<const cfloat> samples = view.samples;
            if (scale != 1) {
                scaled_[i].assign(samples.begin(), samples.end());
                for (cfloat& value : scaled_[i])
                    value /= scale;
                samples = scaled_[i];
            }
            frames_.push_back({view.kxy, samples, areas_.back()});
        }
        if (scale != 1)
            for (cfloat& value : start_)
                value /= scale;
        return {start_, frames_, space_.coils, maps_};
    }

    std::span<const std::complex<float>> start() const { return start_; }

    /// Lets go of the buffers.
    void clear() {
        kspace_.clear();
        held_.clear();
        start_.clear();
        maps_.clear();
    }

  private:
    void read_maps(GstBuffer* image, const ImageInfo& info, int coils) {
        if (coils == 1)
            return;
        GstSample* side = side_of(image, Role::sensitivities);
        if (!side)
            throw Error(Errc::format,
                        "An image of " + std::to_string(coils) +
                            " coils came without their sensitivities, which data consistency needs "
                            "(mrigrid and mrirecon combine=adaptive attach-sensitivities=true attach them)");
        const ImageInfo maps = ImageInfo::from_caps(gst_sample_get_caps(side));
        if (maps.format != SampleFormat::c64 || maps.channels != coils || maps.width != info.width ||
            maps.height != info.height)
            throw Error(Errc::format, "Sensitivities of " + std::to_string(maps.channels) + " coils for " +
                                          std::to_string(maps.width) + " x " + std::to_string(maps.height) +
                                          " do not fit " + std::to_string(coils) + " coils and an image of " +
                                          std::to_string(info.width) + " x " + std::to_string(info.height));
        GstBuffer* buffer = gst_sample_get_buffer(side);
        maps.check_size(gst_buffer_get_size(buffer));
        const Mapped<const std::complex<float>> mapped(buffer);
        maps_.assign(mapped.span().begin(), mapped.span().end());
    }

    ReconstructionSpace space_;
    std::vector<GstPtr<GstBuffer>> held_; // whose memory kspace_ maps
    std::vector<KspaceFrame> kspace_;
    std::vector<std::complex<float>> start_, maps_;
    std::vector<std::vector<float>> areas_;
    std::vector<std::vector<std::complex<float>>> scaled_;
    std::vector<SampledFrame> frames_;
};

} // namespace mri
