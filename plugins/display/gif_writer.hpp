// SPDX-License-Identifier: LGPL-2.1-or-later
// Animated GIF files (GIF89a, www.w3.org/Graphics/GIF/spec-gif89a.txt). giflib inside, no GStreamer.
#pragma once

#include "plugins/math/base/atomic_file.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mri {

using Rgb = std::array<std::uint8_t, 3>;

/// A picture in at most 256 colours.
struct IndexedPicture {
    std::vector<std::uint8_t> pixels; ///< [y][x] indices into the palette
    std::vector<Rgb> palette;         ///< 1 to 256 colours
};

/// Reduces colours: exact as long as a picture has at most 256 of them. Otherwise 256 are chosen by median
/// cut (P. Heckbert, Color image quantization for frame buffer display, SIGGRAPH 1982) on the first picture
/// that needs it, and kept for the following ones, so that colours do not flicker.
class Quantizer {
  public:
    IndexedPicture reduce(std::span<const Rgb> pixels);

  private:
    std::uint8_t nearest(const Rgb& color);
    std::vector<Rgb> palette_; // chosen by median cut; empty until it was needed
    std::map<Rgb, std::uint8_t> nearest_;
};

/// Writes a GIF beside its final name and puts it there when it is complete: a reader never sees half a file,
/// and what was there before stays when writing fails.
class GifWriter {
  public:
    /// Creates the temporary file. `loops`: how often the animation is played, 0 for ever. `comment` is text
    /// that the file carries. Throws
    /// Errc::open_write, or Errc::settings for edges outside 1..65535.
    GifWriter(const std::string& location, int width, int height, int loops, const std::string& comment = {});
    /// Removes the temporary file unless finish() was called.
    ~GifWriter();
    GifWriter(const GifWriter&) = delete;
    GifWriter& operator=(const GifWriter&) = delete;

    /// Appends a picture of width * height pixels that is shown for `delay` hundredths of a second. Throws
    /// Errc::write, or Errc::format for other sizes.
    void add(const IndexedPicture& picture, int delay);

    /// Ends the file and gives it its name. Throws Errc::write.
    void finish();
    /// The same under the location's name and ".partial", for an animation that did not come to its end; gives the path.
    std::filesystem::path finish_partial();

    std::size_t frames() const { return frames_; }

  private:
    void close();

    struct File;
    std::string location_;
    int width_, height_;
    std::size_t frames_ = 0;
    std::unique_ptr<AtomicFile> target_; // outlives file_, which writes into it
    std::unique_ptr<File> file_;
};

} // namespace mri
