// SPDX-License-Identifier: LGPL-2.1-or-later
// From a series to a cine in memory: decoded, cropped, resampled in time, scaled.
#include "plugins/source/dicom/pixels.hpp"
#include "plugins/source/dicom/series.hpp"
#include "plugins/source/dicom/times.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/statistics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>

namespace mri {

namespace {

/// Overlap with the centre n/2 of `from` on the centre of `to`: first index in each, and how many.
struct Overlap {
    int from = 0, to = 0, count = 0;
};

Overlap centre_overlap(int from, int to) {
    const int offset = from / 2 - to / 2; // index in `from` of index 0 in `to`
    Overlap o;
    o.from = std::max(0, offset);
    o.to = std::max(0, -offset);
    o.count = std::min(from - o.from, to - o.to);
    return o;
}

/// Decodes one image of a series; the file stays open for the next one.
void read_image(std::unique_ptr<DicomPixels>& file, const DicomFrame& frame, const DicomSeries& series,
                float* out) {
    if (!file || file->path() != frame.path) {
        file.reset();
        file = std::make_unique<DicomPixels>(frame.path);
    }
    if (file->format().width != series.width || file->format().height != series.height)
        throw DicomUnusable{DicomSkip::unreadable, "its matrix is not that of its series any more"};
    file->read(frame, out);
}

/// Times of the frames that were read, the first at 0, and whether they are evenly spaced.
void keep_times(CineSeries& cine, const DicomSeries& series) {
    const double begin = cine.sources.front().time;
    std::vector<double> times;
    for (DicomFrame& frame : cine.sources) {
        frame.time -= begin;
        times.push_back(frame.time);
    }
    cine.regular = series.frame_duration <= 0.0 || is_regular(times, series.frame_duration);
}

void scale(std::vector<float>& pixels, bool is_signed) {
    std::vector<float> sizes = pixels;
    if (is_signed)
        std::transform(sizes.begin(), sizes.end(), sizes.begin(),
                       [](float value) { return std::abs(value); });
    const auto peak = static_cast<float>(percentile(sizes, 99.9));
    // A series of zeros stays one.
    const float factor = peak > 0.0f ? 1.0f / peak : 1.0f;
    for (float& value : pixels)
        value = std::clamp(value * factor, is_signed ? -1.0f : 0.0f, 1.0f);
}

} // namespace

std::vector<float> resample_frames(std::span<const float> cine, int frames, std::size_t pixels,
                                   int frames_out, bool cycle) {
    if (frames < 1 || frames_out < 1 || cine.size() != static_cast<std::size_t>(frames) * pixels)
        throw Error(Errc::settings, fmt::format("Cannot resample {} frames to {}", frames, frames_out));
    const std::size_t total = checked_product({static_cast<std::size_t>(frames_out), pixels},
                                              max_dicom_pixels, "the resampled series");
    std::vector<float> out(total);
    for (int i = 0; i < frames_out; ++i) {
        const double position = cycle             ? static_cast<double>(i) * frames / frames_out
                                : frames_out == 1 ? 0.0
                                                  : static_cast<double>(i) * (frames - 1) / (frames_out - 1);
        const int low = std::min(static_cast<int>(position), frames - 1);
        const int high = cycle ? (low + 1) % frames : std::min(low + 1, frames - 1);
        const auto weight = static_cast<float>(position - low);
        const float* a = cine.data() + static_cast<std::size_t>(low) * pixels;
        const float* b = cine.data() + static_cast<std::size_t>(high) * pixels;
        float* o = out.data() + static_cast<std::size_t>(i) * pixels;
        for (std::size_t p = 0; p < pixels; ++p)
            o[p] = a[p] + weight * (b[p] - a[p]);
    }
    return out;
}

CineSeries load_dicom_series(const DicomSeries& series, const DicomLoadOptions& options) {
    if (options.frames < 0 || options.width < 0 || options.height < 0 || options.width > max_dicom_matrix ||
        options.height > max_dicom_matrix)
        throw Error(Errc::settings, fmt::format("Cannot make a series of {}x{} with {} frames", options.width,
                                                options.height, options.frames));
    if (series.frames.empty() || series.width < 1 || series.height < 1)
        throw Error(Errc::settings, "The DICOM series '" + series.uid + "' is empty");

    CineSeries cine;
    cine.width = options.width > 0 ? options.width : series.width;
    cine.height = options.height > 0 ? options.height : series.height;
    cine.fov_x = cine.width * series.spacing_x;
    cine.fov_y = cine.height * series.spacing_y;
    // The integer quotient: the pixel that stays in its place through crop and padding.
    if (series.plane)
        cine.centre =
            series.plane->at(series.width / 2 * series.spacing_x, series.height / 2 * series.spacing_y);

    const Overlap ox = centre_overlap(series.width, cine.width),
                  oy = centre_overlap(series.height, cine.height);
    const auto crop_width = static_cast<std::size_t>(ox.count),
               crop_height = static_cast<std::size_t>(oy.count);
    const std::size_t crop = crop_width * crop_height;
    const auto width = static_cast<std::size_t>(cine.width), height = static_cast<std::size_t>(cine.height);
    const std::string what = "the DICOM series '" + series.uid + "'";
    std::vector<float> pixels(checked_product({series.frames.size(), crop}, max_dicom_pixels, what.c_str()));

    std::vector<float> image(static_cast<std::size_t>(series.width) *
                             static_cast<std::size_t>(series.height));
    std::unique_ptr<DicomPixels> file;
    for (const DicomFrame& frame : series.frames) {
        try {
            read_image(file, frame, series, image.data());
        } catch (const DicomUnusable& unusable) {
            file.reset();
            cine.skipped.push_back({unusable.kind, frame.path, unusable.reason, 1});
            continue;
        }
        for (std::size_t y = 0; y < crop_height; ++y) {
            const float* row =
                image.data() +
                (static_cast<std::size_t>(oy.from) + y) * static_cast<std::size_t>(series.width) +
                static_cast<std::size_t>(ox.from);
            std::copy(row, row + crop_width,
                      pixels.begin() +
                          static_cast<std::ptrdiff_t>(cine.sources.size() * crop + y * crop_width));
        }
        cine.sources.push_back(frame);
    }
    if (cine.sources.size() < std::min<std::size_t>(2, series.frames.size())) {
        const DicomSkipped& first = cine.skipped.front();
        throw Error(Errc::decode, "Cannot read '" + first.path + "': " + first.reason);
    }
    pixels.resize(cine.sources.size() * crop);
    keep_times(cine, series);

    const auto read = static_cast<int>(cine.sources.size());
    cine.frames = options.frames > 0 ? options.frames : read;
    cine.frame_duration = series.frame_duration * read / cine.frames;
    const std::size_t total = checked_product({static_cast<std::size_t>(cine.frames), width, height},
                                              max_dicom_pixels, what.c_str());
    if (cine.frames != read) {
        pixels = resample_frames(pixels, read, crop, cine.frames, options.cycle);
        cine.sources.clear();
        cine.regular = true;
    }

    if (options.scale)
        scale(pixels, series.type != DicomImageType::magnitude);

    if (crop == width * height) {
        cine.pixels = std::move(pixels);
        return cine;
    }
    cine.pixels.assign(total, 0.0f);
    for (std::size_t f = 0; f < static_cast<std::size_t>(cine.frames); ++f)
        for (std::size_t y = 0; y < crop_height; ++y) {
            const auto row = pixels.begin() + static_cast<std::ptrdiff_t>(f * crop + y * crop_width);
            std::copy(row, row + static_cast<std::ptrdiff_t>(crop_width),
                      cine.pixels.begin() + static_cast<std::ptrdiff_t>(
                                                (f * height + static_cast<std::size_t>(oy.to) + y) * width +
                                                static_cast<std::size_t>(ox.to)));
        }
    return cine;
}

} // namespace mri
