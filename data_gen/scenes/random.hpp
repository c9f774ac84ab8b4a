// SPDX-License-Identifier: LGPL-2.1-or-later
// Random numbers that are the same on every machine, which those of <random>'s distributions are not.
#pragma once

#include <cstdint>

namespace mri {

/// splitmix64 (Steele, Lea, Flood, OOPSLA 2014): 64 bits of state, any seed is a good one.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    /// Uniform in [0, 1).
    double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
    /// Uniform in [low, high).
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    /// Close to normal, within six standard deviations: the sum of twelve uniform numbers.
    double normal(double mean, double deviation) {
        double sum = -6.0;
        for (int i = 0; i < 12; ++i)
            sum += uniform();
        return mean + deviation * sum;
    }
    bool chance(double probability) { return uniform() < probability; }
    /// Uniform integer in [low, high].
    int integer(int low, int high) { return low + static_cast<int>(uniform() * (high - low + 1)); }

  private:
    std::uint64_t state_;
};

} // namespace mri
