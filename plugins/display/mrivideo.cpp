// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mrivideo
//
// Turns MR images into ordinary video, for every stock sink, encoder and effect. Shows magnitude or phase.
// The levels are fixed by `window` and `level`, or found from percentiles of the first frame of a series and
// then kept, so that the picture does not flicker (`adapt` lets them follow slowly). `panels` puts what rides
// with an image beside it, in the order given: truth, input (of the last network), gridded, image, and error
// (the absolute difference of image and truth, shown over the range of the truth's levels); each panel has
// levels of its own, found on its own first frame. A panel whose data are missing stays black. With several
// panels, or with `captions` of one's own, a strip above them has captions; {residual} in one stands for how
// far the image is from its samples, in per cent of them, and {noise} for how many times what noise alone
// would leave that is, as networks that keep to measured samples say (mricascade; - where it is not known).
// `scale` enlarges by whole pixels.
//
// The version, the pipeline's name, networks with the hashes of their weights, and the acceleration go downstream as a
// comment among the stream's tags, which muxers write into their files.
//
// Formats: GRAY8, GRAY16_LE or RGBA; with a colour map RGBA alone. Pixels that are not square become the
// video's pixel-aspect-ratio. Phase is shown from -pi to pi. Latency: none. Caps: application/x-mri-image in,
// video/x-raw out, one picture a frame.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=30 ! mrivideo scale=2 ! videoconvert ! pngenc ! fakesink
// ]|
#include "plugins/common/element.hpp"
#include "plugins/common/image_buffers.hpp"
#include "plugins/common/provenance.hpp"
#include "plugins/display/render.hpp"

#include <gst/video/video.h>

#include <cmath>
#include <cstdio>
#include <numbers>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace mri;

enum class ShowMode { magnitude, phase };
enum class Panel { image, truth, input, gridded, error };

struct VideoSettings {
    ShowMode mode = ShowMode::magnitude;
    double window = 0;
    double level = 0.5;
    double percentile_low = 1;
    double percentile_high = 99.5;
    double adapt = 0;
    ColorMap colormap = ColorMap::grey;
    std::string panels = "image";
    std::string captions = "auto";
    int scale = 1;
};

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> items;
    std::size_t from = 0;
    do {
        const std::size_t comma = std::min(list.find(',', from), list.size());
        std::string item = list.substr(from, comma - from);
        item.erase(0, item.find_first_not_of(' '));
        item.erase(item.find_last_not_of(' ') + 1);
        items.push_back(std::move(item));
        from = comma + 1;
    } while (from <= list.size());
    return items;
}

struct PanelName {
    Panel panel;
    const char* name;
    const char* caption;
};
constexpr PanelName panel_names[] = {{Panel::image, "image", "reconstruction"},
                                     {Panel::truth, "truth", "truth"},
                                     {Panel::input, "input", "input"},
                                     {Panel::gridded, "gridded", "gridded"},
                                     {Panel::error, "error", "error"}};

std::vector<PanelName> parse_panels(const std::string& list) {
    std::vector<PanelName> panels;
    for (const std::string& item : split(list)) {
        const auto* found = std::find_if(std::begin(panel_names), std::end(panel_names),
                                         [&](const PanelName& p) { return item == p.name; });
        if (found == std::end(panel_names))
            throw Error(Errc::settings, "'" + item + "' in panels=" + list +
                                            " is no panel: image, truth, input, gridded and error are");
        panels.push_back(*found);
    }
    return panels;
}

/// One text a panel; empty when there are none.
std::vector<std::string> parse_captions(const std::string& text, const std::vector<PanelName>& panels) {
    std::vector<std::string> captions;
    if (text == "none" || text.empty() || (text == "auto" && panels.size() == 1))
        return captions;
    if (text != "auto") {
        captions = split(text);
        captions.resize(panels.size());
        return captions;
    }
    for (const PanelName& p : panels)
        captions.emplace_back(p.caption);
    return captions;
}

/// A caption with the figures of an image in place of their names.
std::string with_figures(std::string caption, const std::optional<Consistency>& figures) {
    const auto put = [&](const std::string& name, const char* format, double value) {
        char text[32] = "-";
        if (value > 0)
            std::snprintf(text, sizeof text, format, value);
        for (std::size_t at = 0; (at = caption.find(name, at)) != std::string::npos;)
            caption.replace(at, name.size(), text);
    };
    put("{residual}", "%.1f %%", figures ? 100 * figures->residual : 0);
    put("{noise}", "%.2f", figures ? figures->noise_ratio : 0);
    return caption;
}

GstPtr<GstCaps> video_caps(ColorMap map) {
    const char* text =
        map == ColorMap::grey ? GST_VIDEO_CAPS_MAKE("{GRAY8,GRAY16_LE,RGBA}") : GST_VIDEO_CAPS_MAKE("RGBA");
    return adopt(gst_caps_from_string(text));
}

class MriVideo : public Configured<Transform, VideoSettings> {
  public:
    static constexpr ElementInfo info{"mrivideo", "GstMriVideo", "MRI video", "Filter/Converter/Video/MRI",
                                      "Shows MR images as video, alone or side by side with their truth"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = GST_VIDEO_CAPS_MAKE("{GRAY8,GRAY16_LE,RGBA}");
    static void properties(Properties<MriVideo>& p) {
        p.choice("mode", "Part of complex pixels to show", &VideoSettings::mode,
                 {{ShowMode::magnitude, "magnitude", "The absolute value"},
                  {ShowMode::phase, "phase", "The angle, from -pi to pi"}});
        p.real("window", "Width of the range shown, in units of the image; 0: from percentiles", 0, 1e30,
               &VideoSettings::window, Mutable::playing);
        p.real("level", "Middle of the range shown, in units of the image, with a window", -1e30, 1e30,
               &VideoSettings::level, Mutable::playing);
        p.real("percentile-low", "Percentile of the pixels that is black", 0, 100,
               &VideoSettings::percentile_low);
        p.real("percentile-high", "Percentile of the pixels that is white", 0, 100,
               &VideoSettings::percentile_high);
        p.real("adapt", "Time constant of the percentile levels in frames; 0: constant in a series", 0, 1e6,
               &VideoSettings::adapt);
        p.choice("colormap", "Colours", &VideoSettings::colormap,
                 {{ColorMap::grey, "grey", "Grey"},
                  {ColorMap::viridis, "viridis", "Viridis"},
                  {ColorMap::inferno, "inferno", "Inferno"},
                  {ColorMap::hot, "hot", "Black, red, yellow, white"},
                  {ColorMap::twilight, "twilight", "Twilight: cyclic, for phase"}});
        p.string("panels", "Pictures side by side: a list of image, truth, input, gridded, error",
                 &VideoSettings::panels);
        p.string("captions",
                 "Captions of the panels, separated by commas; auto: their names where there are several; "
                 "none. {residual} and {noise} become the image's distance from its samples",
                 &VideoSettings::captions);
        p.integer("scale", "Enlargement: pixels of the video per image pixel along each axis", 1, 64,
                  &VideoSettings::scale);
    }

  protected:
    bool start() override;
    void stop() override { shown_.clear(); }
    GstPtr<GstCaps> transform_caps(GstPadDirection direction, GstCaps* caps) override;
    void set_caps(const GstCaps* in, const GstCaps* out) override;
    std::size_t output_size(GstBuffer*) override { return GST_VIDEO_INFO_SIZE(&video_); }
    void transform(GstBuffer* in, GstBuffer* out) override;
    void event(GstEvent* event) override;

  private:
    struct Shown {
        PanelName name;
        std::string caption;
        SteadyLevels levels;
    };
    void tell_provenance();
    std::optional<std::vector<float>> plane(GstBuffer* buffer, Panel panel, ShowMode mode) const;
    Levels levels_for(Shown& shown, const std::vector<float>& values, const VideoSettings& s,
                      const std::vector<float>* truth) const;

    // State of the streaming thread.
    ImageInfo image_;
    GstVideoInfo video_{};
    PanelLayout layout_;
    std::vector<Shown> shown_;
    mutable SteadyLevels error_levels_{1, 99.5, 0};
    std::set<Panel> warned_;
    std::string told_; // comment that went downstream
};

bool MriVideo::start() {
    const VideoSettings s = settings();
    if (s.percentile_low >= s.percentile_high)
        throw Error(Errc::settings, "percentile-low must be below percentile-high");
    parse_panels(s.panels);
    warned_.clear();
    told_.clear();
    return true;
}

GstPtr<GstCaps> MriVideo::transform_caps(GstPadDirection direction, GstCaps* caps) {
    const VideoSettings s = settings();
    const bool forward = direction == GST_PAD_SINK;
    auto result = adopt(gst_caps_new_empty());
    const auto panels = parse_panels(s.panels);
    const bool captions = !parse_captions(s.captions, panels).empty();
    for (guint i = 0; i < gst_caps_get_size(caps); ++i) {
        const GstStructure* in = gst_caps_get_structure(caps, i);
        auto one = forward ? video_caps(s.colormap) : adopt(gst_caps_from_string(sink_caps));
        if (const GValue* rate = gst_structure_get_value(in, "framerate"))
            gst_caps_set_value(one.get(), "framerate", rate);
        int width = 0, height = 0;
        if (forward && gst_structure_get_int(in, "width", &width) &&
            gst_structure_get_int(in, "height", &height)) {
            const PanelLayout layout =
                panel_layout(static_cast<int>(panels.size()), width, height, s.scale, captions);
            gst_caps_set_simple(one.get(), "width", G_TYPE_INT, layout.width(), "height", G_TYPE_INT,
                                layout.height(), nullptr);
            double fov_x = 0, fov_y = 0;
            int n = 1, d = 1;
            if (gst_structure_get_double(in, "fov-x", &fov_x) &&
                gst_structure_get_double(in, "fov-y", &fov_y) && fov_x > 0 && fov_y > 0 &&
                std::abs(fov_x * height / (fov_y * width) - 1) > 1e-3)
                gst_util_double_to_fraction(fov_x * height / (fov_y * width), &n, &d);
            gst_caps_set_simple(one.get(), "pixel-aspect-ratio", GST_TYPE_FRACTION, n, d, nullptr);
        }
        result = adopt(gst_caps_merge(result.release(), one.release()));
    }
    return result;
}

void MriVideo::set_caps(const GstCaps* in, const GstCaps* out) {
    const VideoSettings s = settings();
    image_ = ImageInfo::from_caps(in);
    if (!gst_video_info_from_caps(&video_, out))
        throw Error(Errc::format, "These are no caps of a video");
    const auto panels = parse_panels(s.panels);
    const auto captions = parse_captions(s.captions, panels);
    layout_ = panel_layout(static_cast<int>(panels.size()), image_.width, image_.height, s.scale,
                           !captions.empty());
    if (layout_.width() != GST_VIDEO_INFO_WIDTH(&video_) ||
        layout_.height() != GST_VIDEO_INFO_HEIGHT(&video_))
        throw Error(Errc::format, "The video has another size than the panels make");
    shown_.clear();
    for (std::size_t i = 0; i < panels.size(); ++i)
        shown_.push_back({panels[i], captions.empty() ? "" : captions[i],
                          SteadyLevels(s.percentile_low, s.percentile_high, s.adapt)});
    error_levels_ = SteadyLevels(s.percentile_low, s.percentile_high, s.adapt);
}

void MriVideo::event(GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_FLUSH_STOP)
        return;
    for (Shown& shown : shown_)
        shown.levels.reset();
    error_levels_.reset();
}

/// The values of a panel, in the image's size, or nothing when the buffer does not have them.
std::optional<std::vector<float>> MriVideo::plane(GstBuffer* buffer, Panel panel, ShowMode mode) const {
    const auto values = [mode](GstBuffer* b, const ImageInfo& i) {
        return mode == ShowMode::phase ? phase_of(b, i) : magnitude_of(b, i);
    };
    if (panel == Panel::image)
        return values(buffer, image_);
    if (panel == Panel::error) {
        const auto truth = plane(buffer, Panel::truth, mode);
        if (!truth)
            return std::nullopt;
        std::vector<float> error = values(buffer, image_);
        for (std::size_t i = 0; i < error.size(); ++i) {
            const float d = error[i] - (*truth)[i];
            // Angles differ by pi at most.
            error[i] =
                std::abs(mode == ShowMode::phase ? std::remainder(d, 2 * std::numbers::pi_v<float>) : d);
        }
        return error;
    }
    GstSample* side = side_of(buffer, panel == Panel::truth   ? Role::truth
                                      : panel == Panel::input ? Role::input
                                                              : Role::gridded);
    if (!side)
        return std::nullopt;
    const ImageInfo info = ImageInfo::from_caps(gst_sample_get_caps(side));
    return recentre(values(gst_sample_get_buffer(side), info), info.width, info.height, image_.width,
                    image_.height);
}

Levels MriVideo::levels_for(Shown& shown, const std::vector<float>& values, const VideoSettings& s,
                            const std::vector<float>* truth) const {
    constexpr double pi = std::numbers::pi;
    const bool error = shown.name.panel == Panel::error;
    if (s.mode == ShowMode::phase)
        return error ? Levels{0, pi} : Levels{-pi, pi};
    if (s.window > 0)
        return error ? Levels{0, s.window} : Levels{s.level - s.window / 2, s.level + s.window / 2};
    if (error) {
        const Levels of_truth = error_levels_.next(*truth);
        return {0, of_truth.high - of_truth.low};
    }
    return shown.levels.next(values);
}

/// Encoders and muxers write tags into their files.
void MriVideo::tell_provenance() {
    auto* base = GST_BASE_TRANSFORM(gst());
    std::string text = provenance_text(provenance_at(GST_BASE_TRANSFORM_SINK_PAD(base)), gst());
    if (text == told_)
        return;
    told_ = std::move(text);
    GstTagList* tags = gst_tag_list_new(GST_TAG_COMMENT, told_.c_str(), GST_TAG_APPLICATION_NAME,
                                        "gst-mri " GST_MRI_VERSION, nullptr);
    gst_pad_push_event(GST_BASE_TRANSFORM_SRC_PAD(base), gst_event_new_tag(tags));
}

void MriVideo::transform(GstBuffer* in, GstBuffer* out) {
    tell_provenance();
    const VideoSettings s = settings();
    const Mapped<std::byte> map(out);
    const Canvas canvas{map.span(), GST_VIDEO_INFO_WIDTH(&video_), GST_VIDEO_INFO_HEIGHT(&video_),
                        static_cast<std::size_t>(GST_VIDEO_INFO_PLANE_STRIDE(&video_, 0)),
                        GST_VIDEO_INFO_FORMAT(&video_) == GST_VIDEO_FORMAT_GRAY8       ? PixelFormat::gray8
                        : GST_VIDEO_INFO_FORMAT(&video_) == GST_VIDEO_FORMAT_GRAY16_LE ? PixelFormat::gray16
                                                                                       : PixelFormat::rgba};
    clear(canvas);
    const auto consistency = consistency_of(in);
    for (int i = 0; i < layout_.panels; ++i) {
        Shown& shown = shown_[static_cast<std::size_t>(i)];
        draw_caption(canvas, layout_, i, with_figures(shown.caption, consistency));
        const auto values = plane(in, shown.name.panel, s.mode);
        if (!values) {
            if (warned_.insert(shown.name.panel).second)
                post_warning(std::string("A frame came without what the panel ") + shown.name.name +
                             " shows: it stays black");
            continue;
        }
        const bool needs_truth =
            shown.name.panel == Panel::error && s.window <= 0 && s.mode == ShowMode::magnitude;
        const auto truth = needs_truth ? plane(in, Panel::truth, s.mode) : std::nullopt;
        draw(canvas, layout_.x(i), layout_.caption_height, *values, image_.width, image_.height, s.scale,
             levels_for(shown, *values, s, truth ? &*truth : nullptr), s.colormap);
    }
}

} // namespace

MRI_ELEMENT(mrivideo, MriVideo)
