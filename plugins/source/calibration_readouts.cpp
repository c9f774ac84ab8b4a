// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/calibration_readouts.hpp"

namespace mri {

namespace {

constexpr std::size_t most_readouts = 1024;

} // namespace

void CalibrationReadouts::add(const HeldReadout& readout, const KspaceInfo& info) {
    if (readouts_.empty())
        info_ = info;
    const auto trajectory = trajectory_of(readout.buffer.get());
    if (info.samples != info_.samples || info.coils != info_.coils || readouts_.size() >= most_readouts)
        return;
    if (!readouts_.empty() && !trajectory != !trajectory_of(readouts_.front().buffer.get()))
        return;
    Position position{static_cast<float>(readout.head.kspace_encode_step_1),
                      static_cast<float>(readout.head.kspace_encode_step_2)};
    if (trajectory && trajectory->kxy.size() >= 2) {
        const auto& kxy = trajectory->kxy;
        position = {position[0], position[1], kxy[0], kxy[1], kxy[kxy.size() - 2], kxy.back()};
    }
    if (!positions_.insert(position).second)
        return;
    readouts_.push_back(readout);
    sample_.reset();
}

GstSample* CalibrationReadouts::sample() {
    if (!sample_ && !readouts_.empty()) {
        KspaceInfo info = info_;
        info.alignment = Alignment::frame;
        info.framerate = {};
        const auto frame = join_readouts(readouts_, info.coils, info.samples);
        if (auto trajectory = join_trajectories(readouts_, info.samples))
            add_trajectory(frame.get(), std::move(trajectory));
        sample_ = adopt(gst_sample_new(frame.get(), info.to_caps().get(), nullptr, nullptr));
    }
    return sample_.get();
}

void Calibration::add(const HeldReadout& readout, const KspaceInfo& info) {
    const Readout& head = readout.head;
    series_[Key{head.slice, head.contrast, head.set}].add(readout, info);
}

GstSample* Calibration::sample_of(const Readout& frame) {
    if (const auto own = series_.find(Key{frame.slice, frame.contrast, frame.set}); own != series_.end())
        return own->second.sample();
    const auto of_slice = series_.lower_bound(Key{frame.slice, 0, 0});
    return of_slice != series_.end() && of_slice->first.slice == frame.slice ? of_slice->second.sample()
                                                                             : nullptr;
}

} // namespace mri
