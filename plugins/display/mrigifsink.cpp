// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mrigifsink
//
// Writes an animated GIF. Grey pictures and those of at most 256 colours, as mrivideo makes them, are kept
// exactly; others are reduced to 256 colours. Pictures are shown as long as their time stamps say, rounded to
// hundredths of a second in such a way that the errors do not add up; below two hundredths, which browsers do
// not show, pictures are left out. `delay` sets another time. Pictures after the first max-frames are left out with
// one warning: programs that show a GIF keep all of it in memory. The file appears under its name when it is
// complete, at EOS; what was there before stays until then, and where any element of the pipeline has posted an
// error. `keep-partial` keeps the pictures of such a stream under another name. A comment in the stream's tags, as
// mrivideo gives it, becomes the file's.
//
// Latency: none. Caps: video/x-raw of GRAY8, RGB or RGBA (alpha is ignored); the size may not change.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=30 ! mrivideo colormap=viridis ! mrigifsink location=heart.gif
// ]|
#include "plugins/common/abandoned.hpp"
#include "plugins/common/element.hpp"
#include "plugins/display/gif_writer.hpp"

#include <fmt/format.h>
#include <gst/video/video.h>

#include <numeric>
#include <optional>
#include <string>

namespace {

using namespace mri;

struct GifSettings {
    std::string location;
    int loop = 0;
    int delay = 0;
    int max_frames = 1500;
    bool keep_partial = false;
};

/// Browsers show a picture of less for a tenth of a second.
constexpr GstClockTime shortest = 2;
constexpr GstClockTime tick = 10 * GST_MSECOND;
/// Duration of a picture without a known one, in hundredths of a second.
constexpr GstClockTime unknown_delay = 10;

class MriGifSink : public Configured<Sink, GifSettings> {
  public:
    static constexpr ElementInfo info{"mrigifsink", "GstMriGifSink", "MRI GIF sink", "Sink/File/Video",
                                      "Writes video as an animated GIF"};
    static constexpr const char* sink_caps = GST_VIDEO_CAPS_MAKE("{GRAY8,RGB,RGBA}");
    static constexpr const char* src_caps = nullptr;
    static void properties(Properties<MriGifSink>& p) {
        p.string("location", "File to write", &GifSettings::location);
        p.integer("loop", "Repetitions of the animation; 0: endless", 0, 65535, &GifSettings::loop);
        p.integer("delay", "Duration of each picture in hundredths of a second; 0: by its time stamps", 0,
                  65535, &GifSettings::delay);
        p.integer("max-frames", "Pictures at most; those that follow are left out (0: no limit)", 0, G_MAXINT,
                  &GifSettings::max_frames);
        p.boolean("keep-partial",
                  "Keep what was written before an error or a stop without EOS, as location and '.partial'",
                  &GifSettings::keep_partial);
    }

  protected:
    bool start() override;
    void stop() override;
    void set_caps(const GstCaps* caps) override;
    GstFlowReturn render(GstBuffer* buffer) override;
    void eos() override;
    void flush() override { forget(); }
    void event(GstEvent* event) override;

  private:
    void forget() {
        writer_.reset();
        waiting_.reset();
        quantizer_ = {};
        told_ = 0;
        full_ = false;
    }
    IndexedPicture picture_of(GstBuffer* buffer);
    void write_waiting(GstClockTime delay);

    // State of the streaming thread.
    GstVideoInfo video_{};
    std::string comment_; // of the stream's tags
    std::optional<GifWriter> writer_;
    Quantizer quantizer_;
    std::optional<IndexedPicture> waiting_; // its time is known when the next one comes
    GstClockTime first_ = 0;                // PTS of the first picture
    GstClockTime last_ = 0;                 // PTS and duration of the last one, shown or left out
    GstClockTime last_duration_ = GST_CLOCK_TIME_NONE;
    GstClockTime told_ = 0; // hundredths of a second written so far
    bool full_ = false;     // max-frames are there
};

bool MriGifSink::start() {
    const GifSettings s = settings();
    if (s.location.empty())
        throw Error(Errc::settings, "mrigifsink needs a location");
    tell_abandoned(*this, s.location);
    // Says now, not after the scan, when nothing can be written there.
    GifWriter(s.location, 1, 1, 0);
    return true;
}

void MriGifSink::stop() {
    if (writer_ && waiting_) {
        const GifSettings s = settings();
        const std::string what =
            "The GIF '" + s.location + "' was not written: the stream did not come to its end";
        if (s.keep_partial) {
            write_waiting(s.delay > 0 ? static_cast<GstClockTime>(s.delay) : unknown_delay);
            const std::string kept = writer_->finish_partial().string();
            post_warning(what + "; what there is of it is in '" + kept + "'");
        } else {
            post_warning(what);
        }
    }
    forget();
    comment_.clear();
}

void MriGifSink::set_caps(const GstCaps* caps) {
    GstVideoInfo video;
    if (!gst_video_info_from_caps(&video, caps))
        throw Error(Errc::format, "These are no caps of a video");
    const auto size = [](const GstVideoInfo& v) {
        return fmt::format("{}x{}", GST_VIDEO_INFO_WIDTH(&v), GST_VIDEO_INFO_HEIGHT(&v));
    };
    if (writer_ && size(video) != size(video_))
        throw Error(Errc::format, "The pictures of a GIF must have one size, and they change from " +
                                      size(video_) + " to " + size(video));
    video_ = video;
}

void MriGifSink::event(GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_TAG)
        return;
    GstTagList* tags = nullptr;
    gst_event_parse_tag(event, &tags);
    gchar* text = nullptr;
    if (gst_tag_list_get_string(tags, GST_TAG_COMMENT, &text))
        comment_ = GString_ptr(text).get();
}

IndexedPicture MriGifSink::picture_of(GstBuffer* buffer) {
    GstVideoFrame frame;
    if (!gst_video_frame_map(&frame, &video_, buffer, GST_MAP_READ))
        throw Error(Errc::format, "A picture has not the size that its caps say");
    const std::unique_ptr<GstVideoFrame, void (*)(GstVideoFrame*)> unmap(&frame, gst_video_frame_unmap);
    const int width = GST_VIDEO_FRAME_WIDTH(&frame), height = GST_VIDEO_FRAME_HEIGHT(&frame);
    const auto* data = static_cast<const std::uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0));
    const std::size_t stride = GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
    const std::size_t pixel = GST_VIDEO_FRAME_COMP_PSTRIDE(&frame, 0);
    const std::size_t pixels = static_cast<std::size_t>(width) * height;
    if (pixel == 1) {
        IndexedPicture picture;
        picture.pixels.reserve(pixels);
        for (int i = 0; i < 256; ++i) {
            const auto grey = static_cast<std::uint8_t>(i);
            picture.palette.push_back({grey, grey, grey});
        }
        for (int y = 0; y < height; ++y)
            picture.pixels.insert(picture.pixels.end(), data + y * stride, data + y * stride + width);
        return picture;
    }
    std::vector<Rgb> colors;
    colors.reserve(pixels);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const std::uint8_t* p = data + y * stride + x * pixel;
            colors.push_back({p[0], p[1], p[2]});
        }
    return quantizer_.reduce(colors);
}

void MriGifSink::write_waiting(GstClockTime delay) {
    writer_->add(*waiting_, static_cast<int>(std::min<GstClockTime>(delay, 65535)));
    waiting_.reset();
    told_ += delay;
}

GstFlowReturn MriGifSink::render(GstBuffer* buffer) {
    const GifSettings s = settings();
    if (!writer_)
        writer_.emplace(s.location, GST_VIDEO_INFO_WIDTH(&video_), GST_VIDEO_INFO_HEIGHT(&video_), s.loop,
                        comment_);
    const GstClockTime pts = GST_BUFFER_PTS(buffer);
    const auto pictures = writer_->frames() + (waiting_ ? 1 : 0);
    if (s.max_frames > 0 && pictures >= static_cast<std::size_t>(s.max_frames)) {
        if (!std::exchange(full_, true))
            post_warning(fmt::format("'{}' has its {} pictures (max-frames): those that follow are left out",
                                     s.location, s.max_frames));
        return GST_FLOW_OK;
    }
    const bool timed = s.delay == 0 && GST_CLOCK_TIME_IS_VALID(pts);
    last_ = pts;
    last_duration_ = GST_BUFFER_DURATION(buffer);
    if (!GST_CLOCK_TIME_IS_VALID(last_duration_) && GST_VIDEO_INFO_FPS_N(&video_) > 0)
        last_duration_ = gst_util_uint64_scale_int(GST_SECOND, GST_VIDEO_INFO_FPS_D(&video_),
                                                   GST_VIDEO_INFO_FPS_N(&video_));
    if (waiting_) {
        GstClockTime delay = s.delay > 0 ? static_cast<GstClockTime>(s.delay) : unknown_delay;
        if (timed) {
            // Where the waiting picture ends, on the grid of hundredths counted from the first one.
            const GstClockTime end = pts > first_ ? (pts - first_ + tick / 2) / tick : 0;
            delay = end > told_ ? end - told_ : 0;
            if (delay < shortest)
                return GST_FLOW_OK;
        }
        write_waiting(delay);
    } else {
        first_ = timed ? pts : 0;
    }
    waiting_ = picture_of(buffer);
    return GST_FLOW_OK;
}

void MriGifSink::eos() {
    if (!writer_) { // a flush has taken all that came
        eos_without_buffers();
        return;
    }
    const GifSettings s = settings();
    GstClockTime delay = s.delay > 0 ? static_cast<GstClockTime>(s.delay) : unknown_delay;
    if (s.delay == 0 && GST_CLOCK_TIME_IS_VALID(last_) && GST_CLOCK_TIME_IS_VALID(last_duration_)) {
        const GstClockTime end = (last_ + last_duration_ - std::min(first_, last_) + tick / 2) / tick;
        delay = std::max(shortest, end > told_ ? end - told_ : 0);
    }
    if (waiting_)
        write_waiting(delay);
    writer_->finish();
    MRI_INFO("%zu pictures in %s", writer_->frames(), s.location.c_str());
    forget();
}

} // namespace

MRI_ELEMENT(mrigifsink, MriGifSink)
