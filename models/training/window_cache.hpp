// SPDX-License-Identifier: LGPL-2.1-or-later
// The windows that a network is trained on: in memory up to a limit, beyond it in a file. Pure C++.
#pragma once

#include "models/common/run_options.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mri {

/// A pair of windows [frames][height][width], both divided by the input's intensity scale.
struct TrainingWindow {
    WindowShape shape;
    float scale = 1;          ///< what both were divided by
    std::vector<float> input; ///< empty where the truth alone is trained on
    std::vector<float> truth;
};

/// A growing list of windows with bounded memory. Windows beyond `memory_bytes` go to an unnamed file in
/// `folder`, up to `file_bytes`.
class WindowCache {
  public:
    WindowCache(std::size_t memory_bytes, std::size_t file_bytes, std::string folder);
    ~WindowCache();
    WindowCache(const WindowCache&) = delete;
    WindowCache& operator=(const WindowCache&) = delete;

    /// Throws Errc::format when sizes do not fit, Errc::no_memory when the file's limit is reached,
    /// Errc::open_write and Errc::write when the file cannot be written.
    void add(TrainingWindow window);

    std::size_t size() const { return slots_.size(); }
    std::size_t in_memory() const { return in_memory_; }
    const WindowShape& shape(std::size_t index) const { return slots_.at(index).shape; }

    /// The window, valid until the next call. Throws Errc::read.
    const TrainingWindow& at(std::size_t index);

  private:
    struct Slot {
        WindowShape shape;
        float scale = 1;
        bool has_input = true;
        std::unique_ptr<TrainingWindow> window; // empty: in the file
        std::size_t offset = 0;
    };
    void spill(const TrainingWindow& window);

    std::size_t memory_bytes_;
    std::size_t file_bytes_;
    std::string folder_;
    std::size_t used_ = 0;
    std::size_t file_used_ = 0;
    std::size_t in_memory_ = 0;
    int fd_ = -1;
    std::vector<Slot> slots_;
    TrainingWindow scratch_;
};

/// A piece of a window as a network is trained on it.
struct TrainingSample {
    WindowShape shape;
    std::vector<float> input; ///< [frames][height][width][channels]: the magnitude, or its
                              ///< difference from the mean over time, and that mean
    std::vector<float> truth; ///< [frames][height][width]
};

/// Variations of draw_sample().
struct SampleOptions {
    int patch = 64;      ///< side of a random square crop; 0 or more than the window has: the whole side
    bool augment = true; ///< rotations by 90 degrees, mirror images, reversed time, intensity +-10 %
    bool mean_input = false;
    /// For networks that see the past alone: the mean is a RunningMean of so many frames that began with the
    /// window, and time is never reversed. 0: the mean over the piece.
    int running_mean = 0;
    int frames = 0; ///< length of a random piece of the window; 0 or more than it has: the whole
};

/// Cuts and varies a sample; the same `seed` gives the same sample. Sides are cropped to multiples of 4, and
/// frames too. Throws Errc::format when the window is smaller than 4 in any direction.
TrainingSample draw_sample(const TrainingWindow& window, const SampleOptions& options, std::uint64_t seed);

/// A random order of 0..count-1, the same for the same seed everywhere.
std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed);

/// Mixes two numbers into a seed (splitmix64's finaliser).
std::uint64_t mix_seed(std::uint64_t a, std::uint64_t b);

} // namespace mri
