// SPDX-License-Identifier: LGPL-2.1-or-later
// What mrirecon does: windows of k-space frames to images.
#pragma once

#include "plugins/common/kspace_frame.hpp"
#include "plugins/math/recon/network_start.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace mri {

class WindowImages {
  public:
    using Job = Windows<GstPtr<GstBuffer>>::Job;

    struct Options : StartRecipe {
        double tolerance = 5e-4;
        int threads = 1;
        bool attach_gridded = false;
        bool attach_kspace = false;
        bool attach_sensitivities = false;
    };

    /// `device` is resolved. Throws Errc::settings or Errc::format for what cannot work.
    WindowImages(const KspaceInfo& in, const Options& options, ComputeDevice device)
        : options_(options),
          in_(in),
          image_(image_of(in, options.combine)),
          in_caps_(in.to_caps()),
          image_caps_(image_.to_caps()),
          space_(space(in, options, device)),
          reconstruction_(window_start(space_, options)),
          images_(image_.pixels() * static_cast<std::size_t>(image_.channels)) {}

    const ImageInfo& image() const noexcept { return image_; }

    /// Forgets earlier windows.
    void forget() {
        reconstruction_.forget();
        let_go();
    }

    /// Solves the job's window and makes the images of the frames that it emits, with their time stamps and
    /// metas. Throws Errc::format for frames that do not fit.
    std::vector<GstPtr<GstBuffer>> window(const Job& job) {
        calibrate(job.items.back().get());
        const auto frames = map(job.items);
        const bool alone = options_.method == WindowMethod::background &&
                           std::all_of(job.items.begin(), job.items.end(), [&](const auto& item) {
                               return item.get() == job.items.front().get();
                           });
        if (alone)
            reconstruction_.solve_alone(frames.front());
        else
            reconstruction_.solve(frames);
        tell(alone);
        auto images = emit(job, [&](std::size_t i) { return alone ? 0 : i; });
        let_go();
        return images;
    }

    /// Takes the sensitivities of a frame's reference lines, where it has others than the one before.
    void calibrate(GstBuffer* frame) {
        lines_ = side_of(frame, Role::calibration) != nullptr;
        if (options_.combine == Combine::adaptive && calibration_.update(frame, space_))
            reconstruction_.set_calibration(calibration_.get());
    }

    /// What a user should know of the windows so far: each sentence once, empty where there is nothing.
    struct Told {
        std::string warning; ///< what is wrong with the images
        std::string method;  ///< by which method=background's frames were made: gridding or sense
    };
    Told take_told() { return std::exchange(told_, {}); }

    /// Lets the window slide on to these frames, the last `fresh` of which are new.
    template <class Buffers>
    void slide(const Buffers& buffers, std::size_t fresh) {
        calibrate(buffers.back().get());
        reconstruction_.slide(map(buffers), fresh);
    }

    /// The images of the frames that the job emits; `index` says which of the window each item is.
    template <class Index>
    std::vector<GstPtr<GstBuffer>> emit(const Job& job, Index index) {
        GstPtr<GstSample> sensitivities;
        if (options_.attach_sensitivities)
            sensitivities = sensitivity_sample(reconstruction_.sensitivities(), in_);
        std::vector<GstPtr<GstBuffer>> out;
        for (std::size_t i = job.first; i < job.first + job.count; ++i) {
            const std::size_t at = index(i);
            reconstruction_.reconstruct(at, images_.data());
            auto image = new_buffer<std::byte>(image_.bytes());
            copy_metas(image.get(), job.items[i].get());
            store_images(images_, image_, image.get());
            if (options_.attach_gridded) {
                reconstruction_.gridded(at, images_.data());
                auto gridded = new_buffer<std::byte>(image_.bytes());
                store_images(images_, image_, gridded.get());
                add_side(image.get(), Role::gridded, gridded.get(), image_caps_.get());
            }
            if (options_.attach_kspace)
                add_side(image.get(), Role::kspace, job.items[i].get(), in_caps_.get());
            if (sensitivities)
                add_side(image.get(), Role::sensitivities, sensitivities.get());
            out.push_back(std::move(image));
        }
        return out;
    }

    /// Time that a window takes which emits so many frames, on as many copies of one frame: nothing in it
    /// depends on the values. Sliding, the dearest is a frame that has the background solved anew.
    GstClockTime measure(const KspaceFrame& frame, int window, int emitted, bool sliding = false) {
        const std::vector<SampledFrame> frames(static_cast<std::size_t>(window), frame.view());
        if (sliding)
            reconstruction_.solve(std::span(frames).first(std::max<std::size_t>(frames.size() / 2, 1)));
        const auto begin = std::chrono::steady_clock::now();
        if (sliding)
            reconstruction_.slide(frames, frames.size() - frames.size() / 2);
        else
            reconstruction_.solve(frames);
        for (int i = 0; i < emitted; ++i) {
            reconstruction_.reconstruct(static_cast<std::size_t>(i), images_.data());
            if (options_.attach_gridded)
                reconstruction_.gridded(static_cast<std::size_t>(i), images_.data());
        }
        const auto end = std::chrono::steady_clock::now();
        reconstruction_.forget();
        return std::chrono::nanoseconds(end - begin).count();
    }

  private:
    void tell(bool alone) {
        if (reconstruction_.line_step() > 1 && !calibration_.get() && !std::exchange(warned_, true))
            told_.warning = aliased_text(reconstruction_.line_step(), lines_);
        if (options_.method == WindowMethod::background && (alone || reconstruction_.by_sense()) &&
            !std::exchange(noted_, true))
            told_.method = reconstruction_.by_sense() ? "sense" : "gridding";
    }

    static ReconstructionSpace space(const KspaceInfo& in, const Options& options, ComputeDevice device) {
        ReconstructionSpace out = space_of(in, options.tolerance, options.threads);
        out.device = device;
        return out;
    }

    template <class Buffers>
    std::vector<SampledFrame> map(const Buffers& buffers) {
        let_go();
        std::vector<SampledFrame> views;
        for (const auto& buffer : buffers)
            views.push_back(frames_.add(buffer.get(), in_));
        return views;
    }

    void let_go() { frames_.clear(); }

    Options options_;
    KspaceInfo in_;
    ImageInfo image_;
    GstPtr<GstCaps> in_caps_;
    GstPtr<GstCaps> image_caps_;
    ReconstructionSpace space_;
    WindowReconstruction reconstruction_;
    CalibrationWatch calibration_;
    bool lines_ = false; // the last frame had reference lines
    Told told_;
    bool warned_ = false, noted_ = false;
    KspaceWindow frames_; // what the reconstruction looks at
    std::vector<cfloat> images_;
};

} // namespace mri
