// SPDX-License-Identifier: LGPL-2.1-or-later
// Where a network takes k-space frames: the images that it starts from, with the frames and sensitivities
// that it keeps to as their side data. They are those of the element that would stand in front of it, which
// has the same code.
#pragma once

#include "plugins/common/frame_images.hpp"
#include "plugins/common/window_images.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace mri {

/// How the images are made.
enum class Start {
    windows, ///< as mrirecon does, in windows like the network's
    running, ///< as mrigrid background=20 combine=adaptive does, frame by frame
    gridded  ///< as mrigrid combine=adaptive does, frame by frame
};

class StartImages {
  public:
    using Frames = Windows<GstPtr<GstBuffer>>;

    struct Options {
        Start start = Start::windows;
        std::size_t window = 1; ///< of the network, as its hop
        std::size_t hop = 1;
        int threads = 1;
        ComputeDevice device{}; ///< resolved
    };

    /// Throws Errc::format or Errc::settings for frames that cannot be reconstructed so.
    StartImages(const KspaceInfo& in, const Options& options)
        : options_(options),
          in_(in),
          windows_(by_frame() ? 1 : options.window, by_frame() ? 1 : options.hop) {
        if (in.alignment != Alignment::frame)
            throw Error(Errc::format, "The k-space comes readout by readout, and whole frames are needed: "
                                      "mriframer in front makes them");
        if (by_frame())
            frames_.emplace(in, frame_options(), options.device);
        else
            reconstruction_.emplace(in, window_options(), options.device);
    }

    const ImageInfo& image() const { return frames_ ? frames_->image() : reconstruction_->image(); }

    /// Each frame's image is made from it and those before it, and not of windows.
    bool by_frame() const noexcept { return options_.start != Start::windows; }

    /// Frames that a frame waits for at worst, beside the others of the network's window. The n-th window of
    /// this class gives the images up to the n-th hop beyond the edge that its first one also gives; the
    /// network's first window is full after as many as that takes.
    std::size_t wait() const noexcept {
        if (by_frame())
            return 0;
        const std::size_t edge = (options_.window - options_.hop) / 2;
        return (options_.window - edge - 1) / options_.hop * options_.hop;
    }

    /// Throws Errc::format for a frame without its trajectory or of another size than caps and trajectory
    /// say.
    void check(GstBuffer* frame) const { const KspaceFrame checked(frame, in_); }

    /// Takes the next frame; a job for make() when there are enough of them.
    std::optional<Frames::Job> push(GstPtr<GstBuffer> frame) { return windows_.push(std::move(frame)); }
    /// The end of a series: what make() has not been asked for yet.
    std::optional<Frames::Job> drain() { return windows_.drain(); }
    /// Forgets everything.
    void flush() {
        windows_.reset();
        if (frames_)
            frames_->forget();
    }

    /// The images of the frames that the job emits.
    std::vector<GstPtr<GstBuffer>> make(const Frames::Job& job) {
        if (reconstruction_)
            return reconstruction_->window(job);
        std::vector<GstPtr<GstBuffer>> out;
        out.push_back(make_one(*frames_, job.items.front().get()));
        return out;
    }

    /// Seconds that make() takes. What is kept of frames stays as it is.
    double measure(GstBuffer* frame) {
        if (reconstruction_) {
            const KspaceFrame mapped(frame, in_);
            return static_cast<double>(reconstruction_->measure(mapped, static_cast<int>(options_.window),
                                                                static_cast<int>(options_.hop))) /
                   GST_SECOND;
        }
        // The third of three: the first ones also find sensitivities, and begin what stays.
        const auto copy = adopt(gst_buffer_copy(frame));
        GST_BUFFER_FLAG_UNSET(copy.get(), GST_BUFFER_FLAG_DISCONT);
        FrameImages trial(in_, frame_options(), options_.device);
        double seconds = 0;
        for (int i = 0; i < 3; ++i) {
            const auto begin = std::chrono::steady_clock::now();
            make_one(trial, copy.get());
            seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        }
        return seconds;
    }

  private:
    static constexpr int background_frames = 20;

    static GstPtr<GstBuffer> make_one(FrameImages& images, GstBuffer* frame) {
        auto image = new_buffer<std::byte>(images.image().bytes());
        copy_metas(image.get(), frame);
        images.reconstruct(frame, image.get());
        return image;
    }

    FrameImages::Options frame_options() const {
        FrameImages::Options out;
        out.combine = Combine::adaptive;
        out.background = options_.start == Start::running ? background_frames : 0;
        out.threads = options_.threads;
        out.attach_kspace = true;
        out.attach_sensitivities = in_.coils > 1;
        return out;
    }
    WindowImages::Options window_options() const {
        WindowImages::Options out;
        out.threads = options_.threads;
        out.attach_kspace = true;
        out.attach_sensitivities = in_.coils > 1;
        return out;
    }

    Options options_;
    KspaceInfo in_;
    Frames windows_;
    std::optional<FrameImages> frames_; // one of these two
    std::optional<WindowImages> reconstruction_;
};

} // namespace mri
