// SPDX-License-Identifier: LGPL-2.1-or-later
// From planes of numbers to pictures: levels, colour maps, panels, captions. OpenCV inside, no GStreamer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mri {

enum class ColorMap { grey, viridis, inferno, hot, twilight };
enum class PixelFormat { gray8, gray16, rgba };

/// Bytes of a pixel.
std::size_t bytes_of(PixelFormat format);

/// Values shown black (or as the first colour) and white (the last).
struct Levels {
    double low = 0, high = 1;
};

/// Levels that do not flicker: found on the first frame of a series that is not constant, then kept, or led
/// slowly after the stream.
class SteadyLevels {
  public:
    /// Percentiles (0..100) of a frame that become black and white; `adapt` is the number of frames in which
    /// the levels follow a change (time constant), 0 for never.
    SteadyLevels(double low, double high, double adapt) : low_(low), high_(high), adapt_(adapt) {}

    /// The levels to show this frame with.
    Levels next(std::span<const float> pixels);
    /// A new series begins.
    void reset() { levels_.reset(); }

  private:
    double low_, high_, adapt_;
    std::optional<Levels> levels_;
};

/// Memory to draw into: `height` lines of `stride` bytes.
struct Canvas {
    std::span<std::byte> data;
    int width = 0, height = 0;
    std::size_t stride = 0;
    PixelFormat format = PixelFormat::gray8;
};

/// Panels side by side, each of `panel_width` x `panel_height` pixels below a strip of `caption_height`.
struct PanelLayout {
    int panels = 1;
    int panel_width = 0, panel_height = 0;
    int gap = 0;            ///< between panels
    int caption_height = 0; ///< 0 without captions
    int width() const { return panels * panel_width + (panels - 1) * gap; }
    int height() const { return caption_height + panel_height; }
    int x(int panel) const { return panel * (panel_width + gap); }
};

/// Layout of images of width x height enlarged `zoom` times. Throws Errc::settings when the picture would
/// have more than 32767 pixels an edge.
PanelLayout panel_layout(int panels, int width, int height, int zoom, bool captions);

/// Black everywhere (opaque in RGBA).
void clear(const Canvas& canvas);

/// Draws width x height values at (x, y), each as a square of zoom x zoom pixels. A grey value is
/// round(max (v - low) / (high - low)) clipped to 0..max, max being 255 or 65535; colours are that of the
/// 8-bit value. A grey canvas ignores the map. Not a number is shown as `low`. Throws Errc::format when the
/// values do not fit.
void draw(const Canvas& canvas, int x, int y, std::span<const float> values, int width, int height, int zoom,
          const Levels& levels, ColorMap map);

/// Writes `text` in white into the strip at (x, 0), as large as fits.
void draw_caption(const Canvas& canvas, const PanelLayout& layout, int panel, const std::string& text);

/// The colours of a map as red, green, blue.
const std::array<std::array<std::uint8_t, 3>, 256>& colors(ColorMap map);

/// The values of an image of in_width x in_height, cut or filled with zeros to width x height, origin (pixel
/// N/2) on origin.
std::vector<float> recentre(std::span<const float> values, int in_width, int in_height, int width,
                            int height);

} // namespace mri
