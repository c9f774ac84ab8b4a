// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/frame_buffer.hpp"

#include "plugins/common/element.hpp"
#include "plugins/math/base/sizes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace mri {

GstPtr<GstBuffer> join_readouts(std::span<const HeldReadout> readouts, int coils, int samples) {
    const std::size_t n = readouts.size(), length = samples;
    auto frame = new_buffer<cfloat>(checked_product({n, length, static_cast<std::size_t>(coils)},
                                                    most_frame_bytes / sizeof(cfloat), "A frame"));
    std::vector<Readout> heads(n);
    {
        const Mapped<cfloat> out(frame.get());
        for (std::size_t r = 0; r < n; ++r) {
            heads[r] = readouts[r].head;
            const Mapped<const cfloat> in(readouts[r].buffer.get());
            for (std::size_t c = 0; c < static_cast<std::size_t>(coils); ++c)
                std::copy_n(in.data() + c * length, length, out.data() + (c * n + r) * length);
        }
    }
    add_readouts(frame.get(), std::move(heads));
    return frame;
}

std::shared_ptr<TrajectoryData> join_trajectories(std::span<const HeldReadout> readouts, int samples) {
    auto all = std::make_shared<TrajectoryData>();
    all->samples = samples;
    for (const HeldReadout& readout : readouts) {
        const auto one = trajectory_of(readout.buffer.get());
        if (!one)
            continue;
        if (one->readouts != 1 || one->samples != samples)
            throw Error(Errc::format, fmt::format("A readout of {} samples has a trajectory of {} x {}",
                                                  samples, one->readouts, one->samples));
        all->kxy.insert(all->kxy.end(), one->kxy.begin(), one->kxy.end());
        all->density.insert(all->density.end(), one->density.begin(), one->density.end());
        ++all->readouts;
    }
    if (all->readouts == 0)
        return nullptr;
    if (static_cast<std::size_t>(all->readouts) != readouts.size() ||
        (!all->density.empty() && all->density.size() != readouts.size() * static_cast<std::size_t>(samples)))
        throw Error(Errc::format,
                    "Some readouts of a frame have a trajectory (or density) and some have none");
    return all;
}

} // namespace mri
