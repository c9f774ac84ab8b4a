// SPDX-License-Identifier: LGPL-2.1-or-later
// Score of a reconstructed series against its truth. Pure C++.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mri {

/// Settings of a comparison.
struct ScoreOptions {
    int crop_width =
        128; ///< pixels; the central part that is compared, the whole when the image is smaller or 0
    int crop_height = 128; ///< pixels
    bool fit = true;       ///< whether the fitted figures use the linear fit (else they equal the raw ones)
};

/// Errors of one frame, or of a whole series.
struct ScoreValues {
    double mse = 0;   ///< mean of squared differences
    double nrmse = 0; ///< root of the summed squared differences over the root of the truth's summed squares
    double psnr = 0;  ///< dB, 10 log10(1 / mse): peak 1; infinite for equal images
    double ssim = 0;  ///< structural similarity; of a series: the mean over its frames
};

struct SeriesScore {
    std::size_t frames = 0;
    double gain = 1;               ///< a of the fit a x + b
    double offset = 0;             ///< b
    ScoreValues fitted, raw;       ///< with and without the fit
    double psnr_moving = 0;        ///< dB, with the fit; NaN when nothing moves
    double psnr_moving_raw = 0;    ///< dB, without it
    std::size_t moving_pixels = 0; ///< how many pixels of the centre count as moving
    double truth_peak =
        0; ///< largest value of the truth in the centre: about 1 when it is scaled as it should
    std::vector<ScoreValues> frames_fitted, frames_raw; ///< one per frame
};

/// Collects a series and scores it as a whole.
///
/// The score: magnitudes of the central crop_width x crop_height pixels; one linear fit a x + b per series,
/// least squares over those pixels of all frames; the result clipped to 0..1; PSNR with peak 1 of the mean
/// squared error over the whole series; SSIM per frame, averaged; and the PSNR of the moving pixels alone,
/// those whose temporal standard deviation in the truth is above a quarter of that deviation's 99.5th
/// percentile in the centre. The truth is taken as it is: it is expected in 0..1.
class Scorer {
  public:
    /// Images of width x height pixels. Throws Errc::settings when the part compared is smaller than SSIM's
    /// window.
    Scorer(int width, int height, const ScoreOptions& options = {});

    /// Adds one frame of width * height magnitudes and its truth. Throws Errc::format on other sizes.
    void add(std::span<const float> image, std::span<const float> truth);

    std::size_t frames() const { return frames_; }

    /// The score of what was added; the scorer is empty afterwards. With no frame, `frames` is 0 and nothing
    /// else holds.
    SeriesScore finish();

  private:
    int width_, height_, crop_width_, crop_height_;
    bool fit_;
    std::size_t frames_ = 0;
    std::vector<float> images_, truths_; // [frame][y][x] of the centre
};

/// Mean structural similarity of two width x height images with data range 1: 7 x 7 uniform window, K1 =
/// 0.01, K2 = 0.03, sample covariance (N - 1), averaged over the windows that lie inside the image: the
/// defaults of scikit-image's structural_similarity. Z. Wang et al., IEEE TIP 13(4), 2004. Throws
/// Errc::settings when an edge is shorter than 7.
double ssim(std::span<const float> image, std::span<const float> truth, int width, int height);

} // namespace mri
