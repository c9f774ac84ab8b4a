// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mriphantomsrc
 * @title: mriphantomsrc
 *
 * Images of a numeric beating heart in a torso, seen in a short-axis slice: as many patients as there are
 * seeds, and the truth is known at every instant. Series follow upon one another, each with the next seed and
 * with a new value of series in the caps; time stamps run on without a gap. The same seed gives the same
 * images on every machine.
 *
 * With rate-spread, heart and breathing rates differ from series to series as they do from patient to
 * patient: each is multiplied by a factor that is drawn, from the seed, between 1 - rate-spread and 1 +
 * rate-spread.
 *
 * Latency: none. A live source waits for the clock at each frame's PTS.
 *
 * Caps: application/x-mri-image, format=F32LE, channels=1, values 0..1; field of view in mm as chosen by the
 * seed, or by the property fov.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc seed=3 series=2 frames=10 width=128 height=128 heart-rate=80 ! fakesink
 * ]|
 */
#include "data_gen/scenes/heart.hpp"
#include "data_gen/scenes/random.hpp"
#include "plugins/common/element.hpp"

#include <cmath>
#include <limits>
#include <optional>

namespace mri {
namespace {

struct MriPhantomSrcSettings {
    guint64 seed = 1;
    int width = 192;
    int height = 192;
    double fov = 0.0;
    Fraction framerate{25, 1};
    double heart_rate = 70.0;
    double breathing_rate = 15.0;
    double rate_spread = 0.0;
    int series = 1;
    int frames = 0;
    bool live = false;
};

class MriPhantomSrc : public Configured<Source, MriPhantomSrcSettings> {
  public:
    static constexpr ElementInfo info{
        "mriphantomsrc", "GstMriPhantomSrc", "MRI phantom", "Source/MRI",
        "Images of a numeric beating heart in a torso, another patient for every seed"};
    static constexpr const char* sink_caps = nullptr;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;

    static void properties(Properties<MriPhantomSrc>& p) {
        using S = MriPhantomSrcSettings;
        p.unsigned_64("seed", "Patient of the first series; each further series has the next", 0,
                      std::numeric_limits<guint64>::max(), &S::seed);
        p.integer("width", "Pixels along x", 1, max_side, &S::width);
        p.integer("height", "Pixels along y", 1, max_side, &S::height);
        p.real("fov", "Field of view along x in mm (0: 220 to 330, by the seed); pixels are square", 0.0,
               10000.0, &S::fov);
        p.fraction("framerate", "Frames a second", {1, 1000}, {100000, 1}, &S::framerate);
        p.real("heart-rate", "Beats a minute (0: the heart stands still)", 0.0, 300.0, &S::heart_rate);
        p.real("breathing-rate", "Breaths a minute (0: breath hold)", 0.0, 100.0, &S::breathing_rate);
        p.real("rate-spread", "Largest relative change of heart and breathing rate from series to series",
               0.0, 1.0, &S::rate_spread);
        p.integer("series", "Number of series, each with the next seed", 1, std::numeric_limits<int>::max(),
                  &S::series);
        p.integer("frames", "Frames of a series (0: without end, for one series)", 0,
                  std::numeric_limits<int>::max(), &S::frames);
        p.boolean("is-live", "Produce images at the pace of the clock", &S::live);
    }

    bool is_live() const override { return settings().live; }

  protected:
    bool start() override {
        const auto s = settings();
        if (s.series > 1 && s.frames == 0)
            throw Error(Errc::settings, "Several series need the property frames: how many images each has");
        series_ = frame_ = 0;
        index_ = 0;
        scene_.reset();
        return true;
    }

    void stop() override { scene_.reset(); }

    GstPtr<GstBuffer> create() override {
        const auto s = settings();
        if (s.frames > 0 && frame_ == s.frames) {
            if (series_ + 1 == s.series)
                return {};
            ++series_;
            frame_ = 0;
            scene_.reset();
        }
        if (!scene_)
            open_series(s);

        auto buffer = new_buffer<float>(image_.pixels());
        {
            const Mapped<float> pixels(buffer.get());
            const double time = static_cast<double>(frame_) * s.framerate.den / s.framerate.num;
            scene_->render(time, image_.width, image_.height, image_.fov_x, image_.fov_y, pixels.data());
        }
        // From the index, so that rounding does not add up.
        GST_BUFFER_PTS(buffer.get()) = time_of(index_, s.framerate);
        GST_BUFFER_DURATION(buffer.get()) = time_of(index_ + 1, s.framerate) - time_of(index_, s.framerate);
        ++index_;
        ++frame_;
        return buffer;
    }

    std::optional<GstClockTime> duration() override {
        const auto s = settings();
        if (s.frames == 0)
            return std::nullopt;
        return time_of(static_cast<guint64>(s.frames) * static_cast<guint64>(s.series), s.framerate);
    }

  private:
    static GstClockTime time_of(guint64 index, Fraction rate) {
        return gst_util_uint64_scale(index, GST_SECOND * static_cast<guint64>(rate.den),
                                     static_cast<guint64>(rate.num));
    }

    void open_series(const MriPhantomSrcSettings& s) {
        HeartOptions options;
        options.seed = s.seed + static_cast<guint64>(series_);
        // Numbers of their own, so that the anatomy of a seed does not depend on the spread.
        Random random(~options.seed);
        options.heart_rate = s.heart_rate * (1.0 + s.rate_spread * random.uniform(-1.0, 1.0));
        options.breathing_rate = s.breathing_rate * (1.0 + s.rate_spread * random.uniform(-1.0, 1.0));
        scene_.emplace(options);
        image_ = {};
        image_.width = s.width;
        image_.height = s.height;
        image_.fov_x = s.fov > 0.0 ? s.fov : scene_->natural_fov();
        image_.fov_y = image_.fov_x * s.height / s.width;
        image_.framerate = s.framerate;
        image_.series = series_;
        set_caps(image_.to_caps());
        MRI_INFO("series %d: seed %" G_GUINT64_FORMAT ", %.1f beats and %.1f breaths a minute, %.0f mm",
                 series_, options.seed, options.heart_rate, options.breathing_rate, image_.fov_x);
    }

    // Streaming thread, between start() and stop().
    std::optional<HeartScene> scene_;
    ImageInfo image_;
    int series_ = 0;
    int frame_ = 0;
    guint64 index_ = 0;
};

} // namespace
} // namespace mri

MRI_ELEMENT(mriphantomsrc, mri::MriPhantomSrc)
