// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/display/render.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/statistics.hpp"

#include <fmt/format.h>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mri {
namespace {

constexpr int text_font = cv::FONT_HERSHEY_SIMPLEX;

template <class Put>
void fill_squares(const Canvas& canvas, int x0, int y0, std::span<const float> values, int width, int height,
                  int zoom, Put put) {
    const std::size_t pixel = bytes_of(canvas.format);
    for (int y = 0; y < height; ++y) {
        std::byte* line =
            canvas.data.data() + static_cast<std::size_t>(y0 + y * zoom) * canvas.stride + x0 * pixel;
        std::byte* to = line;
        for (int x = 0; x < width; ++x)
            for (int i = 0; i < zoom; ++i, to += pixel)
                put(to, values[static_cast<std::size_t>(y) * width + x]);
        for (int i = 1; i < zoom; ++i)
            std::memcpy(line + i * canvas.stride, line, static_cast<std::size_t>(width) * zoom * pixel);
    }
}

std::array<std::array<std::uint8_t, 3>, 256> make_colors(ColorMap map) {
    cv::Mat index(1, 256, CV_8UC1), table;
    for (int i = 0; i < 256; ++i)
        index.at<std::uint8_t>(0, i) = static_cast<std::uint8_t>(i);
    switch (map) {
    case ColorMap::grey:
        cv::cvtColor(index, table, cv::COLOR_GRAY2BGR);
        break;
    case ColorMap::viridis:
        cv::applyColorMap(index, table, cv::COLORMAP_VIRIDIS);
        break;
    case ColorMap::inferno:
        cv::applyColorMap(index, table, cv::COLORMAP_INFERNO);
        break;
    case ColorMap::hot:
        cv::applyColorMap(index, table, cv::COLORMAP_HOT);
        break;
    case ColorMap::twilight:
        cv::applyColorMap(index, table, cv::COLORMAP_TWILIGHT);
        break;
    }
    std::array<std::array<std::uint8_t, 3>, 256> rgb{};
    for (int i = 0; i < 256; ++i) {
        const auto bgr = table.at<cv::Vec3b>(0, i);
        rgb[i] = {bgr[2], bgr[1], bgr[0]};
    }
    return rgb;
}

} // namespace

std::size_t bytes_of(PixelFormat format) {
    return format == PixelFormat::gray8 ? 1 : format == PixelFormat::gray16 ? 2 : 4;
}

const std::array<std::array<std::uint8_t, 3>, 256>& colors(ColorMap map) {
    static const std::array tables{make_colors(ColorMap::grey), make_colors(ColorMap::viridis),
                                   make_colors(ColorMap::inferno), make_colors(ColorMap::hot),
                                   make_colors(ColorMap::twilight)};
    return tables[static_cast<std::size_t>(map)];
}

Levels SteadyLevels::next(std::span<const float> pixels) {
    if (levels_ && adapt_ <= 0)
        return *levels_;
    std::vector<float> sorted;
    sorted.reserve(pixels.size());
    std::copy_if(pixels.begin(), pixels.end(), std::back_inserter(sorted),
                 [](float v) { return std::isfinite(v); });
    if (sorted.empty())
        return levels_.value_or(Levels{});
    const Levels now{percentile(sorted, low_), percentile(sorted, high_)};
    if (!(now.high > now.low)) // constant: says nothing about what follows
        return levels_.value_or(Levels{now.low, now.low + 1});
    if (!levels_) {
        levels_ = now;
    } else {
        const double step = 1 - std::exp(-1 / adapt_);
        levels_->low += step * (now.low - levels_->low);
        levels_->high += step * (now.high - levels_->high);
    }
    return *levels_;
}

PanelLayout panel_layout(int panels, int width, int height, int zoom, bool captions) {
    constexpr int limit = 32767;
    if (panels < 1 || width < 1 || height < 1 || zoom < 1 || width > limit / zoom || height > limit / zoom)
        throw Error(Errc::settings,
                    fmt::format("a picture of {} panels of {}x{} pixels, enlarged {} times, is too large",
                                panels, width, height, zoom));
    PanelLayout l;
    l.panels = panels;
    l.panel_width = width * zoom;
    l.panel_height = height * zoom;
    l.gap = panels > 1 ? 2 : 0;
    // Letters of an eleventh of the panel's width, as they fit about fifteen of them; legible, and an even
    // height because video codecs want one.
    l.caption_height = captions ? 2 * std::clamp(l.panel_width / 20, 7, 20) : 0;
    if (l.panel_width + l.gap > limit / panels || l.height() > limit)
        throw Error(Errc::settings, fmt::format("{} panels of {} pixels make a picture that is too wide",
                                                panels, l.panel_width));
    return l;
}

void clear(const Canvas& canvas) {
    if (canvas.format != PixelFormat::rgba) {
        std::fill(canvas.data.begin(), canvas.data.end(), std::byte{0});
        return;
    }
    for (std::size_t i = 0; i < canvas.data.size(); ++i)
        canvas.data[i] = i % 4 == 3 ? std::byte{255} : std::byte{0};
}

void draw(const Canvas& canvas, int x, int y, std::span<const float> values, int width, int height, int zoom,
          const Levels& levels, ColorMap map) {
    if (width < 1 || height < 1 || zoom < 1 || x < 0 || y < 0 || width > (canvas.width - x) / zoom ||
        height > (canvas.height - y) / zoom || values.size() != static_cast<std::size_t>(width) * height ||
        canvas.stride < canvas.width * bytes_of(canvas.format) ||
        canvas.data.size() < (canvas.height - 1) * canvas.stride + canvas.width * bytes_of(canvas.format))
        throw Error(Errc::format, fmt::format("a panel of {}x{} does not fit a picture of {}x{}", width,
                                              height, canvas.width, canvas.height));
    const double range = levels.high - levels.low;
    const double scale = range > 0 ? 1 / range : 0;
    const auto level = [&](float v, double max) {
        const double t = (v - levels.low) * scale;
        return t > 0 ? std::min(t, 1.0) * max + 0.5 : 0.5; // not a number compares false
    };
    switch (canvas.format) {
    case PixelFormat::gray8:
        fill_squares(canvas, x, y, values, width, height, zoom,
                     [&](std::byte* to, float v) { *to = static_cast<std::byte>(level(v, 255)); });
        break;
    case PixelFormat::gray16:
        fill_squares(canvas, x, y, values, width, height, zoom, [&](std::byte* to, float v) {
            const auto grey = static_cast<std::uint16_t>(level(v, 65535));
            to[0] = static_cast<std::byte>(grey & 255);
            to[1] = static_cast<std::byte>(grey >> 8);
        });
        break;
    case PixelFormat::rgba: {
        const auto& table = colors(map);
        fill_squares(canvas, x, y, values, width, height, zoom, [&](std::byte* to, float v) {
            const auto& rgb = table[static_cast<std::uint8_t>(level(v, 255))];
            for (int c = 0; c < 3; ++c)
                to[c] = static_cast<std::byte>(rgb[c]);
            to[3] = std::byte{255};
        });
        break;
    }
    }
}

void draw_caption(const Canvas& canvas, const PanelLayout& layout, int panel, const std::string& text) {
    if (layout.caption_height == 0 || text.empty())
        return;
    const int width = layout.panel_width, height = layout.caption_height;
    // The letters are drawn once as a mask, whatever the pixel format.
    cv::Mat mask = cv::Mat::zeros(height, width, CV_8UC1);
    int base = 0;
    const cv::Size unit = cv::getTextSize(text, text_font, 1, 1, &base);
    const double size = std::min(0.62 * height / unit.height, (width - 4.0) / unit.width);
    const cv::Size shown = cv::getTextSize(text, text_font, size, 1, &base);
    cv::putText(mask, text, {std::max(0, (width - shown.width) / 2), (height + shown.height) / 2}, text_font,
                size, cv::Scalar(255), 1, cv::LINE_AA);
    std::vector<float> values(static_cast<std::size_t>(width) * height);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            values[static_cast<std::size_t>(y) * width + x] = mask.at<std::uint8_t>(y, x);
    draw(canvas, layout.x(panel), 0, values, width, height, 1, {0, 255}, ColorMap::grey);
}

std::vector<float> recentre(std::span<const float> values, int in_width, int in_height, int width,
                            int height) {
    if (in_width < 1 || in_height < 1 || values.size() != static_cast<std::size_t>(in_width) * in_height)
        throw Error(Errc::format,
                    fmt::format("an image of {}x{} has {} values", in_width, in_height, values.size()));
    std::vector<float> out(static_cast<std::size_t>(width) * height);
    const int dx = in_width / 2 - width / 2, dy = in_height / 2 - height / 2;
    const int x0 = std::max(0, -dx), x1 = std::min(width, in_width - dx);
    for (int y = std::max(0, -dy); y < std::min(height, in_height - dy); ++y)
        if (x1 > x0)
            std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(y + dy) * in_width + x0 + dx, x1 - x0,
                        out.begin() + static_cast<std::ptrdiff_t>(y) * width + x0);
    return out;
}

} // namespace mri
