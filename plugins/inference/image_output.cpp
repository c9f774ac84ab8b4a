// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/inference/image_output.hpp"

#include "plugins/common/metas.hpp"
#include "plugins/inference/window_samples.hpp"

#include <array>
#include <cmath>

namespace mri {

namespace {

std::size_t values_per_frame(const ImageInfo& info) {
    return info.bytes() / sizeof(float);
}

/// Meta of an image's residual, whose rms is in the unit of a sample; `noise` is the standard deviation in a
/// sample's real and imaginary part, 0 where it is not known.
Consistency over_noise(const WindowOperator::Residual& residual, double noise) {
    // Noise of that deviation in both parts leaves sqrt(2) of it in the magnitude of a sample's residual.
    return {residual.relative, noise > 0 ? residual.rms / (std::sqrt(2.0) * noise) : 0.0};
}

} // namespace

ImageOutput::ImageOutput(std::size_t frames, const ImageInfo& info, Blend blend, std::optional<double> noise)
    : noise_(noise),
      images_(frames, values_per_frame(info), blend),
      residuals_(frames, 2, blend),
      window_(frames * values_per_frame(info), 0.0F) {}

bool ImageOutput::begin(const Job& job) {
    const bool fresh = !computed_ || computed_->first != job.series;
    if (fresh) {
        images_.reset();
        residuals_.reset();
    }
    computed_.reset();
    return fresh;
}

void ImageOutput::add(const Job& job, std::span<const WindowOperator::Residual> residuals) {
    images_.add(window_, job.start);
    if (noise_) {
        std::vector<float> values;
        for (const WindowOperator::Residual& residual : residuals)
            values.insert(values.end(),
                          {static_cast<float>(residual.relative), static_cast<float>(residual.rms)});
        residuals_.add(values, job.start);
    }
    computed_ = name_of(job);
}

void ImageOutput::write(std::size_t index, GstBuffer* image) const {
    images_.frame(index, Mapped<float>(image).span());
    if (!noise_)
        return;
    // Of blended windows the mean of theirs, which the image's own is at most (triangle inequality).
    std::array<float, 2> residual{};
    residuals_.frame(index, residual);
    add_consistency(image, over_noise({residual[0], residual[1]},
                                      *noise_ > 0 ? *noise_ : WindowSamples::kspace_of(image).noise));
}

} // namespace mri
