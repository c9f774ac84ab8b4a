// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/image/score.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

namespace mri {
namespace {

constexpr int ssim_window = 7;

std::string size_text(int width, int height) {
    return std::to_string(width) + "x" + std::to_string(height);
}

double psnr_of(double mse) {
    return mse > 0 ? -10 * std::log10(mse) : std::numeric_limits<double>::infinity();
}

/// Sums over sliding windows of 7 along one line: out[i] = in[i] + ... + in[i + 6].
/// The running sum in double loses at most a few ulp of the line's sum, far below the figures reported.
void slide(const double* in, std::size_t stride, int count, double* out) {
    double sum = 0;
    for (int i = 0; i < ssim_window; ++i)
        sum += in[i * stride];
    out[0] = sum;
    for (int i = 1; i + ssim_window <= count; ++i) {
        sum += in[(i + ssim_window - 1) * stride] - in[(i - 1) * stride];
        out[i * stride] = sum;
    }
}

struct Fit {
    double gain = 1, offset = 0;
    float operator()(float x) const { return static_cast<float>(std::clamp(gain * x + offset, 0.0, 1.0)); }
};

Fit linear_fit(std::span<const float> x, std::span<const float> y) {
    const double count = static_cast<double>(x.size());
    double mean_x = 0, mean_y = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        mean_x += x[i];
        mean_y += y[i];
    }
    mean_x /= count;
    mean_y /= count;
    double xx = 0, xy = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    // A constant image says nothing about the gain: only its level can be fitted.
    const double gain = xx > 0 ? xy / xx : 0;
    return {gain, mean_y - gain * mean_x};
}

std::vector<bool> moving_mask(std::span<const float> truths, std::size_t pixels, std::size_t frames) {
    std::vector<float> deviation(pixels);
    for (std::size_t p = 0; p < pixels; ++p) {
        double mean = 0, square = 0;
        for (std::size_t f = 0; f < frames; ++f)
            mean += truths[f * pixels + p];
        mean /= static_cast<double>(frames);
        for (std::size_t f = 0; f < frames; ++f) {
            const double d = truths[f * pixels + p] - mean;
            square += d * d;
        }
        deviation[p] = static_cast<float>(std::sqrt(square / static_cast<double>(frames)));
    }
    std::vector<float> sorted = deviation;
    const double threshold = percentile(sorted, 99.5) / 4;
    std::vector<bool> mask(pixels);
    for (std::size_t p = 0; p < pixels; ++p)
        mask[p] = deviation[p] > threshold;
    return mask;
}

struct Result {
    ScoreValues series;
    double psnr_moving;
    std::vector<ScoreValues> frames;
};

Result evaluate(std::span<const float> images, std::span<const float> truths, int width, int height,
                std::size_t frames, const Fit& fit, const std::vector<bool>& mask) {
    const std::size_t pixels = static_cast<std::size_t>(width) * height;
    Result result{};
    result.frames.reserve(frames);
    std::vector<float> fitted(pixels);
    double all_error = 0, all_truth = 0, moving_error = 0;
    for (std::size_t f = 0; f < frames; ++f) {
        const auto truth = truths.subspan(f * pixels, pixels);
        double error = 0, energy = 0;
        for (std::size_t p = 0; p < pixels; ++p) {
            fitted[p] = fit(images[f * pixels + p]);
            const double d = static_cast<double>(fitted[p]) - truth[p];
            error += d * d;
            energy += static_cast<double>(truth[p]) * truth[p];
            if (mask[p])
                moving_error += d * d;
        }
        all_error += error;
        all_truth += energy;
        ScoreValues v;
        v.mse = error / static_cast<double>(pixels);
        v.nrmse = std::sqrt(error / energy);
        v.psnr = psnr_of(v.mse);
        v.ssim = ssim(fitted, truth, width, height);
        result.series.ssim += v.ssim / static_cast<double>(frames);
        result.frames.push_back(v);
    }
    result.series.mse = all_error / static_cast<double>(pixels * frames);
    result.series.nrmse = std::sqrt(all_error / all_truth);
    result.series.psnr = psnr_of(result.series.mse);
    const auto moving = static_cast<std::size_t>(std::count(mask.begin(), mask.end(), true));
    result.psnr_moving = moving > 0 ? psnr_of(moving_error / static_cast<double>(moving * frames))
                                    : std::numeric_limits<double>::quiet_NaN();
    return result;
}

} // namespace

double ssim(std::span<const float> image, std::span<const float> truth, int width, int height) {
    if (width < ssim_window || height < ssim_window)
        throw Error(Errc::settings,
                    "SSIM needs images of at least 7x7 pixels, these have " + size_text(width, height));
    constexpr double n = ssim_window * ssim_window;
    constexpr double sample = n / (n - 1); // sample covariance
    constexpr double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
    const std::size_t pixels = static_cast<std::size_t>(width) * height;
    // Moments x, y, xx, yy, xy, each summed along the rows, then along the columns.
    std::array<std::vector<double>, 5> sums;
    std::vector<double> moment(pixels), rows(pixels);
    for (int m = 0; m < 5; ++m) {
        for (std::size_t p = 0; p < pixels; ++p) {
            const double x = image[p], y = truth[p];
            moment[p] = m == 0 ? x : m == 1 ? y : m == 2 ? x * x : m == 3 ? y * y : x * y;
        }
        sums[m].resize(pixels);
        for (int y = 0; y < height; ++y)
            slide(&moment[static_cast<std::size_t>(y) * width], 1, width,
                  &rows[static_cast<std::size_t>(y) * width]);
        for (int x = 0; x + ssim_window <= width; ++x)
            slide(&rows[x], width, height, &sums[m][x]);
    }
    double total = 0;
    for (int y = 0; y + ssim_window <= height; ++y) {
        for (int x = 0; x + ssim_window <= width; ++x) {
            const std::size_t p = static_cast<std::size_t>(y) * width + x;
            const double ux = sums[0][p] / n, uy = sums[1][p] / n;
            const double vx = sample * (sums[2][p] / n - ux * ux);
            const double vy = sample * (sums[3][p] / n - uy * uy);
            const double vxy = sample * (sums[4][p] / n - ux * uy);
            total += (2 * ux * uy + c1) * (2 * vxy + c2) / ((ux * ux + uy * uy + c1) * (vx + vy + c2));
        }
    }
    return total / (static_cast<double>(width - ssim_window + 1) * (height - ssim_window + 1));
}

Scorer::Scorer(int width, int height, const ScoreOptions& options)
    : width_(width),
      height_(height),
      crop_width_(options.crop_width > 0 ? std::min(options.crop_width, width) : width),
      crop_height_(options.crop_height > 0 ? std::min(options.crop_height, height) : height),
      fit_(options.fit) {
    if (crop_width_ < ssim_window || crop_height_ < ssim_window)
        throw Error(Errc::settings, "images are scored on at least 7x7 pixels, here " +
                                        size_text(crop_width_, crop_height_) + " of " +
                                        size_text(width, height) + " would be compared");
}

void Scorer::add(std::span<const float> image, std::span<const float> truth) {
    const std::size_t pixels = static_cast<std::size_t>(width_) * height_;
    if (image.size() != pixels || truth.size() != pixels)
        throw Error(Errc::format, "an image of " + std::to_string(image.size()) + " and a truth of " +
                                      std::to_string(truth.size()) + " pixels came where " +
                                      size_text(width_, height_) + " are scored");
    // Pixel N/2 is the origin of an image and stays that of its centre.
    const int x0 = width_ / 2 - crop_width_ / 2, y0 = height_ / 2 - crop_height_ / 2;
    for (int y = 0; y < crop_height_; ++y) {
        const auto row = static_cast<std::ptrdiff_t>(y + y0) * width_ + x0;
        images_.insert(images_.end(), image.begin() + row, image.begin() + row + crop_width_);
        truths_.insert(truths_.end(), truth.begin() + row, truth.begin() + row + crop_width_);
    }
    ++frames_;
}

SeriesScore Scorer::finish() {
    SeriesScore score;
    score.frames = frames_;
    if (frames_ > 0) {
        const std::size_t pixels = static_cast<std::size_t>(crop_width_) * crop_height_;
        const std::vector<bool> mask = moving_mask(truths_, pixels, frames_);
        const Fit fit = fit_ ? linear_fit(images_, truths_) : Fit{};
        Result fitted = evaluate(images_, truths_, crop_width_, crop_height_, frames_, fit, mask);
        Result raw =
            fit_ ? evaluate(images_, truths_, crop_width_, crop_height_, frames_, Fit{}, mask) : fitted;
        score.gain = fit.gain;
        score.offset = fit.offset;
        score.fitted = fitted.series;
        score.raw = raw.series;
        score.psnr_moving = fitted.psnr_moving;
        score.psnr_moving_raw = raw.psnr_moving;
        score.moving_pixels = static_cast<std::size_t>(std::count(mask.begin(), mask.end(), true));
        score.truth_peak = *std::max_element(truths_.begin(), truths_.end());
        score.frames_fitted = std::move(fitted.frames);
        score.frames_raw = std::move(raw.frames);
    }
    frames_ = 0;
    images_.clear();
    truths_.clear();
    return score;
}

} // namespace mri
