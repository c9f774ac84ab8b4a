// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/overlap.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <string>

namespace mri {

float blend_weight(Blend blend, std::size_t index, std::size_t window) {
    return blend == Blend::centre ? static_cast<float>(std::min(index, window - 1 - index) + 1) : 1.0F;
}

Overlap::Overlap(std::size_t window, std::size_t frame_values, Blend blend)
    : window_(window), frame_values_(frame_values), blend_(blend) {
    reset();
}

void Overlap::reset() {
    start_ = 0;
    sum_.assign(window_ * frame_values_, 0.0F);
    weight_.assign(window_, 0.0F);
}

void Overlap::add(std::span<const float> output, std::size_t start) {
    if (output.size() != sum_.size() || start < start_)
        throw Error(Errc::format, "a window of " + std::to_string(output.size()) + " values from frame " +
                                      std::to_string(start) + " on does not follow one of " +
                                      std::to_string(sum_.size()) + " from frame " + std::to_string(start_));
    // What was before the new window is done with; what is new in it begins at nothing.
    const std::size_t gone = blend_ == Blend::none ? window_ : std::min(start - start_, window_);
    const auto slide = [gone](std::vector<float>& values, std::size_t unit) {
        const auto by = static_cast<std::ptrdiff_t>(gone * unit);
        std::fill(std::move(values.begin() + by, values.end(), values.begin()), values.end(), 0.0F);
    };
    slide(sum_, frame_values_);
    slide(weight_, 1);
    start_ = start;
    for (std::size_t t = 0; t < window_; ++t) {
        const float weight = blend_weight(blend_, t, window_);
        weight_[t] += weight;
        for (std::size_t i = t * frame_values_; i < (t + 1) * frame_values_; ++i)
            sum_[i] += weight * output[i];
    }
}

void Overlap::frame(std::size_t index, std::span<float> out) const {
    if (index >= window_ || out.size() != frame_values_)
        throw Error(Errc::format, "there is no frame " + std::to_string(index) + " of " +
                                      std::to_string(out.size()) + " values in a window of " +
                                      std::to_string(window_) + " frames of " +
                                      std::to_string(frame_values_));
    // A weight of 1 gives a window back bit for bit; 0 belongs to a frame that no window held.
    const float weight = weight_[index];
    const float* from = sum_.data() + index * frame_values_;
    const float* end = from + frame_values_;
    if (weight == 1.0F || weight == 0.0F)
        std::copy(from, end, out.begin());
    else
        std::transform(from, end, out.begin(), [weight](float v) { return v / weight; });
}

} // namespace mri
