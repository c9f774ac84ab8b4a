// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/inference/network_statistics.hpp"

#include <algorithm>

namespace mri {

void NetworkStatistics::start(const LoadedNetwork& network, guint64 skipped) {
    const std::lock_guard lock(mutex_);
    counts_ = {};
    counts_.load = network.load_seconds;
    weights_ = network.weights;
    skipped_before_ = skipped;
}

void NetworkStatistics::warmed_up(double seconds) {
    const std::lock_guard lock(mutex_);
    counts_.warm_up = seconds;
}

void NetworkStatistics::swapped(const LoadedNetwork& network) {
    const std::lock_guard lock(mutex_);
    ++counts_.swaps;
    counts_.load = network.load_seconds;
    counts_.warm_up = network.warm_up_seconds;
    weights_ = network.weights;
}

void NetworkStatistics::add(std::size_t frames, bool computed, const Times& times) {
    const std::lock_guard lock(mutex_);
    counts_.frames += frames;
    counts_.windows += computed ? 1 : 0;
    double sum = 0;
    for (std::size_t i = 0; i < stages; ++i) {
        counts_.total[i] += times[i];
        sum += times[i];
    }
    counts_.longest = std::max(counts_.longest, sum);
}

std::string NetworkStatistics::weights() const {
    const std::lock_guard lock(mutex_);
    return weights_;
}

StructurePtr NetworkStatistics::structure(guint64 skipped) const {
    const std::lock_guard lock(mutex_);
    const Counts& c = counts_;
    const double per_window = c.windows > 0 ? 1e3 / static_cast<double>(c.windows) : 0;
    return StructurePtr(gst_structure_new(
        "mri-network-statistics", "frames", G_TYPE_UINT64, c.frames, "windows", G_TYPE_UINT64, c.windows,
        "dropped", G_TYPE_UINT64, skipped - skipped_before_, "swaps", G_TYPE_UINT64, c.swaps,
        "load-milliseconds", G_TYPE_DOUBLE, 1e3 * c.load, "warm-up-milliseconds", G_TYPE_DOUBLE,
        1e3 * c.warm_up, "prepare-milliseconds", G_TYPE_DOUBLE, per_window * c.total[prepare_stage],
        "network-milliseconds", G_TYPE_DOUBLE, per_window * c.total[network_stage], "output-milliseconds",
        G_TYPE_DOUBLE, per_window * c.total[output_stage], "longest-milliseconds", G_TYPE_DOUBLE,
        1e3 * c.longest, nullptr));
}

} // namespace mri
