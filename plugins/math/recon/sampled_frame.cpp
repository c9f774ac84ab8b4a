// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/sampled_frame.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace mri {

SampledFrame::SampledFrame(std::span<const float> positions, std::span<const cfloat> values,
                           std::span<const float> areas, int count)
    : kxy(positions), samples(values), weights(areas), readouts(count) {
    const std::size_t n = points();
    if (n == 0 || samples.empty())
        throw Error(Errc::format, "a k-space frame holds no sample");
    if (kxy.size() % 2 != 0 || readouts < 1 ||
        n > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
        n % static_cast<std::size_t>(readouts) != 0)
        throw Error(Errc::format, "a k-space frame of " + std::to_string(readouts) +
                                      " readouts has a trajectory of " + std::to_string(kxy.size()) +
                                      " numbers");
    if (samples.size() % n != 0)
        throw Error(Errc::format, "a k-space frame of " + std::to_string(samples.size()) +
                                      " samples does not fit its trajectory of " + std::to_string(n) +
                                      " points");
    if (!weights.empty() && weights.size() != n)
        throw Error(Errc::format, "a k-space frame of " + std::to_string(n) + " points has " +
                                      std::to_string(weights.size()) + " density weights");
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(kxy.begin(), kxy.end(), finite))
        throw Error(Errc::format, "a k-space frame has sampling positions that are not finite");
    if (!std::all_of(samples.begin(), samples.end(),
                     [&](const cfloat& value) { return finite(value.real()) && finite(value.imag()); }))
        throw Error(Errc::format, "a k-space frame has samples that are not finite");
    if (!std::all_of(weights.begin(), weights.end(),
                     [&](float weight) { return finite(weight) && weight >= 0; }))
        throw Error(Errc::format, "a k-space frame has density weights that are negative or not finite");
}

} // namespace mri
