// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/frame_buffer.hpp"

#include "plugins/common/element.hpp"
#include "plugins/math/base/sizes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <map>
#include <tuple>

namespace mri {

namespace {

/// What tells positions apart: both phase encodes, and the first and last sample's.
using Position = std::array<std::uint32_t, 6>;

Position position_of(const Readout& head, const TrajectoryData& trajectory) {
    const auto& kxy = trajectory.kxy;
    const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value + 0.0F); }; // one zero
    return {head.kspace_encode_step_1, head.kspace_encode_step_2, bits(kxy[0]), bits(kxy[1]),
            bits(kxy[kxy.size() - 2]), bits(kxy.back())};
}

auto counters_of(const Readout& head) {
    return std::tuple(head.average, head.segment, head.phase, head.repetition);
}

GstPtr<GstBuffer> mean_of(std::span<const HeldReadout* const> readouts) {
    GstBuffer* first = readouts.front()->buffer.get();
    const Mapped<const cfloat> data(first);
    std::vector<std::complex<double>> sum(data.size());
    for (const HeldReadout* readout : readouts) {
        const Mapped<const cfloat> one(readout->buffer.get());
        if (one.size() != sum.size())
            throw Error(Errc::format, "Readouts of one line have other lengths");
        for (std::size_t i = 0; i < sum.size(); ++i)
            sum[i] += one.data()[i];
    }
    auto mean = new_buffer<cfloat>(sum.size());
    copy_metas(mean.get(), first);
    const Mapped<cfloat> out(mean.get());
    const double scale = 1 / static_cast<double>(readouts.size());
    std::transform(sum.begin(), sum.end(), out.data(),
                   [scale](const std::complex<double>& value) { return cfloat(value * scale); });
    return mean;
}

} // namespace

AveragedReadouts average_repeated(std::vector<HeldReadout> readouts) {
    struct Measured {
        std::vector<const HeldReadout*> readouts;
        std::shared_ptr<const TrajectoryData> trajectory;
    };
    std::vector<Measured> all; // in the order of the first measurements
    std::multimap<Position, std::size_t> found;
    AveragedReadouts result;
    for (const HeldReadout& readout : readouts) {
        auto trajectory = trajectory_of(readout.buffer.get());
        if (!trajectory || trajectory->kxy.size() < 2) {
            result.readouts = std::move(readouts);
            return result;
        }
        const Position position = position_of(readout.head, *trajectory);
        const auto [from, to] = found.equal_range(position);
        const auto same = std::find_if(
            from, to, [&](const auto& at) { return all[at.second].trajectory->kxy == trajectory->kxy; });
        if (same == to) {
            found.emplace(position, all.size());
            all.push_back({{&readout}, std::move(trajectory)});
            continue;
        }
        auto& measured = all[same->second].readouts;
        for (std::size_t i = 0; i < measured.size() && !result.with_same_counters; ++i)
            result.with_same_counters |= counters_of(measured[i]->head) == counters_of(readout.head);
        measured.push_back(&readout);
    }
    if (all.size() == readouts.size()) {
        result.readouts = std::move(readouts);
        return result;
    }
    result.least = all.front().readouts.size();
    for (const Measured& measured : all) {
        result.least = std::min(result.least, measured.readouts.size());
        result.most = std::max(result.most, measured.readouts.size());
        const HeldReadout& first = *measured.readouts.front();
        result.readouts.push_back(
            {measured.readouts.size() == 1 ? first.buffer : mean_of(measured.readouts), first.head});
    }
    return result;
}

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
