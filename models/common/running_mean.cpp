// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/running_mean.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>

namespace mri {

RunningMean::RunningMean(int frames) : frames_(frames) {
    if (frames < 1)
        throw Error(Errc::settings, "a running mean needs at least one frame");
}

std::span<const float> RunningMean::update(std::span<const float> frame) {
    if (frame.size() != mean_.size())
        count_ = 0;
    count_ = std::min(count_ + 1, frames_);
    if (count_ == 1)
        mean_.assign(frame.begin(), frame.end());
    const float weight = 1.0F / static_cast<float>(count_);
    for (std::size_t i = 0; i < mean_.size(); ++i)
        mean_[i] += (frame[i] - mean_[i]) * weight;
    return mean_;
}

} // namespace mri
