// SPDX-License-Identifier: LGPL-2.1-or-later
// The mean of a stream of frames. Pure C++.
#pragma once

#include <span>
#include <vector>

namespace mri {

/// The mean over the frames up to now: of all of them at first, and once there are more than `frames`, each
/// new one counts 1 / frames and older ones fade.
class RunningMean {
  public:
    /// Throws Errc::settings unless `frames` is above 0.
    explicit RunningMean(int frames);
    /// Takes a frame; the mean with it. A frame of another size resets it.
    std::span<const float> update(std::span<const float> frame);
    void reset() { count_ = 0; }

  private:
    int frames_;
    int count_ = 0;
    std::vector<float> mean_;
};

} // namespace mri
