// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/image/crop.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

namespace mri {

CropBox centre_box(int image_width, int image_height, int width, int height) {
    const int w = width > 0 ? std::min(width, image_width) : image_width;
    const int h = height > 0 ? std::min(height, image_height) : image_height;
    return {image_width / 2 - w / 2, image_height / 2 - h / 2, w, h};
}

CropBox box_around(double x, double y, int image_width, int image_height, int width, int height) {
    CropBox box = centre_box(image_width, image_height, width, height);
    box.x = std::clamp(static_cast<int>(std::lround(x)) - box.width / 2, 0, image_width - box.width);
    box.y = std::clamp(static_cast<int>(std::lround(y)) - box.height / 2, 0, image_height - box.height);
    return box;
}

void crop(std::span<const std::byte> image, int image_width, int image_height, int channels,
          std::size_t element, const CropBox& box, std::span<std::byte> out) {
    const auto bytes = [&](int w, int h) {
        return checked_product({static_cast<std::size_t>(w), static_cast<std::size_t>(h),
                                static_cast<std::size_t>(channels), element},
                               SIZE_MAX, "an image");
    };
    if (image_width < 1 || image_height < 1 || channels < 1 || box.width < 1 || box.height < 1 || box.x < 0 ||
        box.y < 0 || box.width > image_width - box.x || box.height > image_height - box.y ||
        image.size() != bytes(image_width, image_height) || out.size() != bytes(box.width, box.height))
        throw Error(Errc::format, "cannot cut " + std::to_string(box.width) + "x" +
                                      std::to_string(box.height) + " at " + std::to_string(box.x) + "," +
                                      std::to_string(box.y) + " out of an image of " +
                                      std::to_string(image_width) + "x" + std::to_string(image_height) +
                                      " and " + std::to_string(image.size()) + " bytes");
    const std::size_t row = static_cast<std::size_t>(box.width) * element;
    std::byte* to = out.data();
    for (int c = 0; c < channels; ++c) {
        for (int y = 0; y < box.height; ++y, to += row) {
            const std::size_t line = static_cast<std::size_t>(c) * image_height + box.y + y;
            std::memcpy(to, image.data() + (line * image_width + box.x) * element, row);
        }
    }
}

MotionCentre::MotionCentre(int width, int height)
    : width_(width),
      height_(height),
      mean_(static_cast<std::size_t>(width) * height),
      square_(mean_.size()) {}

void MotionCentre::add(std::span<const float> magnitude) {
    if (magnitude.size() != mean_.size())
        throw Error(Errc::format, "a frame of " + std::to_string(magnitude.size()) + " pixels came where " +
                                      std::to_string(mean_.size()) + " were expected");
    ++frames_;
    for (std::size_t p = 0; p < mean_.size(); ++p) {
        const double d = magnitude[p] - mean_[p];
        mean_[p] += d / frames_;
        square_[p] += d * (magnitude[p] - mean_[p]);
    }
}

MotionCentre::Point MotionCentre::centre() const {
    const Point middle{static_cast<double>(width_ / 2), static_cast<double>(height_ / 2)};
    if (frames_ < 2)
        return middle;
    std::vector<float> deviation(square_.size());
    std::transform(square_.begin(), square_.end(), deviation.begin(),
                   [this](double s) { return static_cast<float>(std::sqrt(s / frames_)); });
    std::vector<float> sorted = deviation;
    const double threshold = percentile(sorted, 99.5) / 4;
    double mass = 0, x = 0, y = 0;
    for (int row = 0; row < height_; ++row) {
        for (int column = 0; column < width_; ++column) {
            const double d = deviation[static_cast<std::size_t>(row) * width_ + column];
            if (!(d > threshold))
                continue;
            mass += d;
            x += d * column;
            y += d * row;
        }
    }
    return mass > 0 ? Point{x / mass, y / mass} : middle;
}

} // namespace mri
