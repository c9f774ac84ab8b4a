// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/intensity.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace mri {

float intensity_scale(std::span<const float> window, std::size_t frames) {
    if (frames == 0 || window.empty() || window.size() % frames != 0)
        throw Error(Errc::format, "a window of " + std::to_string(window.size()) + " values does not hold " +
                                      std::to_string(frames) + " frames");
    const std::size_t pixels = window.size() / frames;
    std::vector<double> sum(pixels, 0.0);
    for (std::size_t t = 0; t < frames; ++t)
        for (std::size_t i = 0; i < pixels; ++i)
            sum[i] += window[t * pixels + i];
    // A value that is not a number would make the order below meaningless.
    if (!std::all_of(sum.begin(), sum.end(), [](double v) { return std::isfinite(v); }))
        throw Error(Errc::format, "an image holds a value that is not finite");
    const auto scale = static_cast<float>(lower_percentile(sum, 99.5) / static_cast<double>(frames));
    return scale > 0.0F && std::isfinite(1.0F / scale) ? scale : 1.0F;
}

float StreamScale::update(std::span<const float> window, std::size_t frames) {
    constexpr float change = 1.25F;
    const float own = intensity_scale(window, frames);
    if (!(own < scale_ * change && own * change > scale_))
        scale_ = own;
    return scale_;
}

} // namespace mri
