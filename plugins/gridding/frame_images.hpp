// SPDX-License-Identifier: LGPL-2.1-or-later
// What mrigrid does: each k-space frame to an image by itself, or onto a running background.
#pragma once

#include "plugins/common/kspace_frame.hpp"
#include "plugins/math/recon/network_start.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mri {

class FrameImages {
  public:
    struct Options {
        Combine combine = Combine::rss;
        Density density = Density::ramp;
        int background = 0; ///< frames of the running background; 0: none
        double tolerance = 5e-4;
        int threads = 1;
        bool attach_kspace = false;
        bool attach_sensitivities = false;
    };

    /// `device` is resolved. Throws Errc::settings or Errc::format for what cannot work.
    FrameImages(const KspaceInfo& in, const Options& options, ComputeDevice device)
        : options_(options), in_(in), image_(image_of(in, options.combine)), in_caps_(in.to_caps()) {
        ReconstructionSpace& space = space_;
        space = space_of(in, options.tolerance, options.threads);
        space.device = device;
        if (options.background > 0) {
            StartRecipe recipe;
            recipe.combine = options.combine;
            recipe.background_frames = options.background;
            background_ = running_start(space, recipe);
        } else {
            reconstruction_.emplace(space, options.density, options.combine);
        }
        images_.resize(image_.pixels() * static_cast<std::size_t>(image_.channels));
    }

    const ImageInfo& image() const noexcept { return image_; }

    /// Writes the image of the next frame, which has its metas, and attaches what is to be attached. Where
    /// the plane moved or data were lost (DISCONT) what was kept of earlier frames is forgotten before.
    /// Throws Errc::format for a frame that does not fit.
    void reconstruct(GstBuffer* buffer, GstBuffer* image) {
        const bool moved = plane_.moved(buffer);
        if (reconstruction_ && moved)
            reconstruction_->forget_coils();
        if (background_ && (moved || GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT)))
            background_->forget();
        const KspaceFrame frame(buffer, in_);
        if (background_) {
            background_->reconstruct(frame.view(), images_.data());
        } else {
            lines_ = side_of(buffer, Role::calibration) != nullptr;
            if (options_.combine == Combine::adaptive && calibration_.update(buffer, space_))
                reconstruction_->set_calibration(calibration_.get());
            reconstruction_->reconstruct(frame.view(), images_.data());
            const SampledFrame view = frame.view();
            step_ = line_step(space_, {&view, 1});
        }
        store_images(images_, image_, image);
        if (options_.attach_kspace)
            add_side(image, Role::kspace, buffer, in_caps_.get());
        if (options_.attach_sensitivities) {
            if (background_)
                attach_sensitivities(image, *background_);
            else
                attach_sensitivities(image, *reconstruction_);
        }
    }

    /// Once: what is wrong with the images of these caps, or nothing.
    std::string take_warning() {
        const bool bounded = background_ && background_->bounded();
        if ((step_ == 1 && !bounded) || std::exchange(warned_, true))
            return {};
        if (bounded)
            return bounded_text;
        return aliased_text(step_, lines_);
    }

    /// The next frame has none before it, as after a flush. Averaged sensitivities stay: they are the
    /// plane's.
    void forget() {
        if (background_)
            background_->forget();
    }

  private:
    void attach_sensitivities(GstBuffer* image, const auto& from) {
        const std::size_t version = from.sensitivities_version();
        if (!sensitivities_ || version != version_)
            sensitivities_ = sensitivity_sample(from.sensitivities(), in_);
        version_ = version;
        add_side(image, Role::sensitivities, sensitivities_.get());
    }

    Options options_;
    KspaceInfo in_;
    ImageInfo image_;
    GstPtr<GstCaps> in_caps_;
    std::optional<FrameReconstruction> reconstruction_; // one of these two
    std::optional<RunningBackground> background_;
    std::vector<cfloat> images_;
    GstPtr<GstSample> sensitivities_;
    std::size_t version_ = 0; // of sensitivities_
    ReconstructionSpace space_;
    CalibrationWatch calibration_;
    bool lines_ = false; // the last frame had reference lines
    int step_ = 1;       // from line to line of the last frame
    bool warned_ = false;
    PlaneWatch plane_; // sensitivities belong to a plane
};

} // namespace mri
