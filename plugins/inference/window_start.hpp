// SPDX-License-Identifier: LGPL-2.1-or-later
// Windows of k-space frames as a network begins with them: NetworkStart, fed with buffers.
#pragma once

#include "plugins/common/element.hpp"
#include "plugins/common/kspace_frame.hpp"
#include "plugins/math/recon/network_start.hpp"
#include "plugins/math/recon/window_operator.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace mri {

class WindowStart {
  public:
    /// `window`: frames that the network takes together; `device` is resolved. Throws Errc::format or Errc::settings for
    /// frames that cannot be reconstructed so.
    WindowStart(const KspaceInfo& in, StartKind kind, const StartRecipe& recipe, std::size_t window,
                int threads, ComputeDevice device)
        : in_(in),
          in_caps_(in.to_caps()),
          image_(image_of(in, recipe.combine)),
          recipe_(recipe),
          window_(window),
          space_(on_device(space_of(in, ReconstructionSpace().tolerance, threads), device)),
          start_(space_, kind, recipe) {
        if (in.alignment != Alignment::frame)
            throw Error(Errc::format, "The k-space comes readout by readout, and whole frames are needed: "
                                      "mriframer in front makes them");
    }

    const ImageInfo& image() const noexcept { return image_; }
    const KspaceInfo& kspace() const noexcept { return in_; }
    const ReconstructionSpace& space() const noexcept { return space_; }
    /// Each frame's image is made when the frame comes, from it and those before it, and not with its window.
    bool by_frame() const noexcept { return start_.kind() != StartKind::windows; }

    /// Takes the next frame. Throws Errc::format for one without its trajectory, of another size than caps and
    /// trajectory say, or with values that are not finite.
    void take(GstBuffer* buffer) {
        const KspaceFrame frame(buffer, in_);
        if (!by_frame())
            return;
        calibrate(buffer);
        if (plane_.moved(buffer))
            start_.forget_plane();
        else if (GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT))
            start_.forget();
        while (known_.size() >= window_)
            known_.pop_front();
        std::vector<cfloat> image(image_.pixels());
        start_.next(frame.view(), image);
        known_.emplace_back(retain(buffer), std::move(image));
    }

    /// Makes images(), frames() and sensitivities of a window of frames that take() has had. Throws Errc::format for
    /// frames that cannot be reconstructed together.
    void make(const std::vector<GstPtr<GstBuffer>>& buffers) {
        let_go();
        for (const auto& buffer : buffers)
            frames_.push_back(mapped_.add(buffer.get(), in_));
        if (kind_of(space_.trajectory).spokes && !crowded_) {
            const auto areas = network_areas(space_, {&frames_.back(), 1}, 1);
            crowded_ = crowding(frames_.back().with(areas[0])) > crowded;
        }
        const std::size_t pixels = image_.pixels();
        images_.resize(frames_.size() * pixels);
        if (!by_frame()) {
            calibrate(buffers.back().get());
            start_.window(frames_, images_);
            return;
        }
        for (std::size_t t = 0; t < buffers.size(); ++t) {
            const auto known = std::find_if(known_.begin(), known_.end(), [&](const auto& one) {
                return one.first.get() == buffers[t].get();
            });
            if (known == known_.end())
                throw Error(Errc::failed, "a window holds a frame that was not taken");
            std::copy(known->second.begin(), known->second.end(),
                      images_.begin() + static_cast<std::ptrdiff_t>(t * pixels));
        }
    }

    /// Once: what is wrong with the images that were made so far, or nothing.
    std::string take_warning() {
        const bool aliased = start_.line_step() > 1 && !start_.by_sense();
        if ((!aliased && !start_.bounded() && !crowded_) || std::exchange(warned_, true))
            return {};
        if (!aliased)
            return bounded_text;
        return aliased_text(start_.line_step(), calibration_.get() != nullptr);
    }

    /// Images of the last make(), until the next one or let_go(): [frame][y][x].
    std::span<const cfloat> images() const noexcept { return images_; }
    std::span<const SampledFrame> frames() const noexcept { return frames_; }
    /// [coil][y][x]; empty for one coil.
    std::span<const cfloat> sensitivities() const { return start_.sensitivities(); }

    /// Lets go of the window's buffers.
    void let_go() {
        frames_.clear();
        mapped_.clear();
    }

    /// Puts onto a frame's image, as side data, the frame and the sensitivities of its coils.
    void attach(GstBuffer* image, GstBuffer* frame) {
        add_side(image, Role::kspace, frame, in_caps_.get());
        if (in_.coils == 1)
            return;
        if (!sample_ || version_ != start_.sensitivities_version())
            sample_ = sensitivity_sample(sensitivities(), in_);
        version_ = start_.sensitivities_version();
        add_side(image, Role::sensitivities, sample_.get());
    }

    /// A buffer with image `index` of the window, and the metas of its frame.
    GstPtr<GstBuffer> image_buffer(std::size_t index, GstBuffer* frame) {
        auto buffer = new_buffer<std::byte>(image_.bytes());
        copy_metas(buffer.get(), frame);
        store_images(images().subspan(index * image_.pixels(), image_.pixels()), image_, buffer.get());
        attach(buffer.get(), frame);
        return buffer;
    }

    /// Another series follows.
    void flush() {
        let_go();
        known_.clear();
        start_.forget();
    }

    /// Seconds that the images of a window take, or of a frame where they are made frame by frame. What is kept of
    /// frames stays as it is.
    double measure(GstBuffer* buffer) const {
        const KspaceFrame frame(buffer, in_);
        NetworkStart trial(space_, start_.kind(), recipe_);
        trial.set_calibration(calibration_.get());
        std::vector<cfloat> images(image_.pixels() * (by_frame() ? 1 : window_));
        double seconds = 0;
        // The last of several: the first ones also make what stays.
        for (int i = 0; i < (by_frame() ? 3 : 2); ++i) {
            const auto begin = std::chrono::steady_clock::now();
            if (by_frame())
                trial.next(frame.view(), images);
            else
                trial.window(std::vector<SampledFrame>(window_, frame.view()), images);
            seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        }
        return seconds;
    }

  private:
    void calibrate(GstBuffer* frame) {
        if (calibration_.update(frame, space_))
            start_.set_calibration(calibration_.get());
    }

    static ReconstructionSpace on_device(ReconstructionSpace space, ComputeDevice device) {
        space.device = device;
        return space;
    }

    KspaceInfo in_;
    GstPtr<GstCaps> in_caps_;
    ImageInfo image_;
    StartRecipe recipe_;
    std::size_t window_;
    ReconstructionSpace space_; // with the device of the transforms
    NetworkStart start_;
    PlaneWatch plane_; // sensitivities belong to a plane
    CalibrationWatch calibration_;
    bool crowded_ = false; // some frame was
    bool warned_ = false;
    /// The last frames, as many as a window has; the reference keeps a buffer's address its own.
    std::deque<std::pair<GstPtr<GstBuffer>, std::vector<cfloat>>> known_;
    KspaceWindow mapped_;
    std::vector<SampledFrame> frames_;
    std::vector<cfloat> images_;
    GstPtr<GstSample> sample_;
    std::size_t version_ = 0; // of the sensitivities in sample_
};

} // namespace mri
