// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/display/gif_writer.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <gif_lib.h>
#include <utility>

namespace mri {
namespace {

constexpr std::size_t max_colors = 256;

struct ColorCount {
    Rgb color;
    std::size_t count;
};

/// Box of the median cut: a range of the list of colours.
struct Box {
    std::size_t from, to;
    int axis = 0, extent = 0; // the longest edge
};

Box make_box(const std::vector<ColorCount>& colors, std::size_t from, std::size_t to) {
    Box box{from, to};
    for (int c = 0; c < 3; ++c) {
        const auto [low, high] = std::minmax_element(
            colors.begin() + static_cast<std::ptrdiff_t>(from),
            colors.begin() + static_cast<std::ptrdiff_t>(to),
            [c](const ColorCount& a, const ColorCount& b) { return a.color[c] < b.color[c]; });
        const int extent = high->color[c] - low->color[c];
        if (extent > box.extent) {
            box.extent = extent;
            box.axis = c;
        }
    }
    return box;
}

std::vector<Rgb> median_cut(std::vector<ColorCount> colors) {
    std::vector<Box> boxes{make_box(colors, 0, colors.size())};
    while (boxes.size() < max_colors) {
        const auto longest = std::max_element(boxes.begin(), boxes.end(),
                                              [](const Box& a, const Box& b) { return a.extent < b.extent; });
        if (longest->extent == 0)
            break;
        const Box box = *longest;
        const auto first = colors.begin() + static_cast<std::ptrdiff_t>(box.from);
        const auto last = colors.begin() + static_cast<std::ptrdiff_t>(box.to);
        std::sort(first, last, [axis = box.axis](const ColorCount& a, const ColorCount& b) {
            return a.color[axis] < b.color[axis];
        });
        std::size_t total = 0;
        for (auto i = first; i != last; ++i)
            total += i->count;
        // Half of the pixels on either side, and at least one colour.
        std::size_t middle = box.from + 1, below = colors[box.from].count;
        while (middle + 1 < box.to && below + colors[middle].count <= total / 2)
            below += colors[middle++].count;
        *longest = make_box(colors, box.from, middle);
        boxes.push_back(make_box(colors, middle, box.to));
    }
    std::vector<Rgb> palette;
    for (const Box& box : boxes) {
        std::array<std::size_t, 3> sum{};
        std::size_t count = 0;
        for (std::size_t i = box.from; i < box.to; ++i) {
            count += colors[i].count;
            for (int c = 0; c < 3; ++c)
                sum[c] += colors[i].count * colors[i].color[c];
        }
        Rgb mean;
        for (int c = 0; c < 3; ++c)
            mean[c] = static_cast<std::uint8_t>((sum[c] + count / 2) / count);
        palette.push_back(mean);
    }
    return palette;
}

struct MapFree {
    void operator()(ColorMapObject* map) const { GifFreeMapObject(map); }
};

} // namespace

std::uint8_t Quantizer::nearest(const Rgb& color) {
    const auto [place, is_new] = nearest_.try_emplace(color);
    if (is_new) {
        int best = 0, best_distance = 1 << 30;
        for (std::size_t i = 0; i < palette_.size(); ++i) {
            int distance = 0;
            for (int c = 0; c < 3; ++c)
                distance += (palette_[i][c] - color[c]) * (palette_[i][c] - color[c]);
            if (distance < best_distance) {
                best_distance = distance;
                best = static_cast<int>(i);
            }
        }
        place->second = static_cast<std::uint8_t>(best);
    }
    return place->second;
}

IndexedPicture Quantizer::reduce(std::span<const Rgb> pixels) {
    std::map<Rgb, std::size_t> counts;
    for (const Rgb& pixel : pixels)
        ++counts[pixel];
    IndexedPicture picture;
    picture.pixels.resize(pixels.size());
    if (counts.size() <= max_colors) {
        std::map<Rgb, std::uint8_t> index;
        for (const auto& [color, count] : counts) {
            index[color] = static_cast<std::uint8_t>(picture.palette.size());
            picture.palette.push_back(color);
        }
        std::transform(pixels.begin(), pixels.end(), picture.pixels.begin(),
                       [&](const Rgb& pixel) { return index.find(pixel)->second; });
        return picture;
    }
    if (palette_.empty()) {
        std::vector<ColorCount> list;
        list.reserve(counts.size());
        for (const auto& [color, count] : counts)
            list.push_back({color, count});
        palette_ = median_cut(std::move(list));
    }
    picture.palette = palette_;
    // A film of many colours must not make the cache grow without end.
    if (nearest_.size() > 1000000)
        nearest_.clear();
    std::transform(pixels.begin(), pixels.end(), picture.pixels.begin(),
                   [this](const Rgb& pixel) { return nearest(pixel); });
    return picture;
}

struct GifWriter::File {
    GifFileType* gif = nullptr;
    ~File() {
        if (gif)
            EGifCloseFile(gif, nullptr);
    }
    /// Throws unless a call of giflib returned GIF_OK.
    void check(int result, const std::string& location) const {
        if (result != GIF_OK) {
            const char* text = GifErrorString(gif->Error);
            throw Error(Errc::write, "The GIF '" + location + "' could not be written", text ? text : "");
        }
    }
};

GifWriter::GifWriter(const std::string& location, int width, int height, int loops,
                     const std::string& comment)
    : location_(location), width_(width), height_(height), file_(std::make_unique<File>()) {
    if (width < 1 || height < 1 || width > 65535 || height > 65535)
        throw Error(Errc::settings,
                    fmt::format("A GIF cannot have {}x{} pixels: 65535 an edge are the most", width, height));
    if (location.empty())
        throw Error(Errc::settings, "A GIF needs a location to be written to");
    const std::string failed = "The GIF '" + location + "' cannot be written";
    target_ = std::make_unique<AtomicFile>(location, failed);
    int code = 0;
    file_->gif = EGifOpenFileName(target_->temporary().c_str(), false, &code);
    if (!file_->gif) {
        const char* text = GifErrorString(code);
        throw Error(Errc::open_write, failed, text ? text : "");
    }
    EGifSetGifVersion(file_->gif, true);
    file_->check(EGifPutScreenDesc(file_->gif, width, height, 8, 0, nullptr), location_);
    // The extension counts how often it is repeated after the first time; without it the animation plays
    // once.
    if (loops != 1) {
        const int repeats = loops == 0 ? 0 : loops - 1;
        const unsigned char block[3] = {1, static_cast<unsigned char>(repeats & 255),
                                        static_cast<unsigned char>(repeats >> 8)};
        file_->check(EGifPutExtensionLeader(file_->gif, APPLICATION_EXT_FUNC_CODE), location_);
        file_->check(EGifPutExtensionBlock(file_->gif, 11, "NETSCAPE2.0"), location_);
        file_->check(EGifPutExtensionBlock(file_->gif, 3, block), location_);
        file_->check(EGifPutExtensionTrailer(file_->gif), location_);
    }
    if (!comment.empty())
        file_->check(EGifPutComment(file_->gif, comment.c_str()), location_);
}

GifWriter::~GifWriter() = default;

void GifWriter::add(const IndexedPicture& picture, int delay) {
    if (!file_ || !file_->gif)
        throw Error(Errc::write, "The GIF '" + location_ + "' is finished");
    const std::size_t colors = picture.palette.size();
    if (picture.pixels.size() != static_cast<std::size_t>(width_) * height_ || colors < 1 ||
        colors > max_colors || *std::max_element(picture.pixels.begin(), picture.pixels.end()) >= colors)
        throw Error(Errc::format,
                    fmt::format("a picture of {} pixels and {} colours does not fit a GIF of {}x{}",
                                picture.pixels.size(), colors, width_, height_));
    // A table has a power of two entries.
    std::vector<GifColorType> table(static_cast<std::size_t>(1) << GifBitSize(static_cast<int>(colors)));
    for (std::size_t i = 0; i < colors; ++i)
        table[i] = {picture.palette[i][0], picture.palette[i][1], picture.palette[i][2]};
    const std::unique_ptr<ColorMapObject, MapFree> map(
        GifMakeMapObject(static_cast<int>(table.size()), table.data()));
    if (!map)
        throw Error(Errc::no_memory, "No memory for a GIF's colours");
    GraphicsControlBlock control{};
    control.DisposalMode = DISPOSE_DO_NOT;
    control.DelayTime = std::clamp(delay, 0, 65535);
    control.TransparentColor = NO_TRANSPARENT_COLOR;
    GifByteType extension[4];
    const std::size_t size = EGifGCBToExtension(&control, extension);
    file_->check(EGifPutExtension(file_->gif, GRAPHICS_EXT_FUNC_CODE, static_cast<int>(size), extension),
                 location_);
    file_->check(EGifPutImageDesc(file_->gif, 0, 0, width_, height_, false, map.get()), location_);
    std::vector<GifPixelType> line(static_cast<std::size_t>(width_));
    for (int y = 0; y < height_; ++y) {
        // giflib masks the line that it is given, so it gets a copy.
        std::copy_n(picture.pixels.begin() + static_cast<std::ptrdiff_t>(y) * width_, width_, line.begin());
        file_->check(EGifPutLine(file_->gif, line.data(), width_), location_);
    }
    ++frames_;
}

void GifWriter::close() {
    if (!file_ || !file_->gif)
        throw Error(Errc::write, "The GIF '" + location_ + "' is finished");
    int code = 0;
    GifFileType* gif = std::exchange(file_->gif, nullptr);
    if (EGifCloseFile(gif, &code) != GIF_OK) {
        const char* text = GifErrorString(code);
        throw Error(Errc::write, "The GIF '" + location_ + "' could not be written", text ? text : "");
    }
}

void GifWriter::finish() {
    close();
    target_->commit("The GIF '" + location_ + "' could not be put in its place");
}

std::filesystem::path GifWriter::finish_partial() {
    close();
    return target_->keep_partial("What there is of the GIF '" + location_ + "' could not be kept");
}

} // namespace mri
