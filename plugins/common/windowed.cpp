// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/windowed.hpp"

#include "plugins/common/registration.hpp"

#include <fmt/format.h>

namespace mri {

void Windowed::set_window(std::size_t window, std::size_t hop, Emit emit) {
    windows_.emplace(window, hop, emit);
    const std::lock_guard lock(timing_mutex_);
    wait_ = windows_->wait();
}

void Windowed::set_timing(GstClockTime frame, GstClockTime compute) {
    {
        const std::lock_guard lock(timing_mutex_);
        frame_ = frame;
        compute_ = compute;
    }
    update_latency();
}

std::optional<GstClockTime> Windowed::latency() {
    const std::lock_guard lock(timing_mutex_);
    if (!GST_CLOCK_TIME_IS_VALID(frame_))
        return std::nullopt;
    return wait_ * frame_ + compute_;
}

GstFlowReturn Windowed::chain(GstPtr<GstBuffer> buffer) {
    if (!windows_)
        return GST_FLOW_NOT_NEGOTIATED;
    check(buffer.get());
    const auto job = windows_->push(std::move(buffer));
    return job ? run(*job) : GST_FLOW_OK;
}

GstFlowReturn Windowed::drain() {
    if (!windows_)
        return GST_FLOW_OK;
    const auto job = windows_->drain();
    return job ? run(*job) : GST_FLOW_OK;
}

void Windowed::flush() {
    if (windows_)
        windows_->reset();
}

GstFlowReturn Windowed::run(const Frames::Job& job) {
    const bool late = all_late(job);
    if (late && leaves_late_out()) {
        skip(job);
        return GST_FLOW_OK;
    }
    std::vector<GstPtr<GstBuffer>> outputs;
    try {
        outputs = process(job);
    } catch (...) {
        windows_->reset(); // the end of the stream would ask for the same window once more
        throw;
    }
    if (outputs.size() != job.count)
        throw Error(Errc::failed,
                    fmt::format("A window gave {} frames instead of {}", outputs.size(), job.count));
    if (late) {
        skip(job);
        return GST_FLOW_OK;
    }
    for (auto& output : outputs) {
        if (std::exchange(after_skip_, false))
            GST_BUFFER_FLAG_SET(output.get(), GST_BUFFER_FLAG_DISCONT);
        ++emitted_;
        const auto flow = push(std::move(output));
        if (flow != GST_FLOW_OK)
            return flow;
    }
    return GST_FLOW_OK;
}

bool Windowed::all_late(const Frames::Job& job) {
    bool late = true;
    for (std::size_t i = 0; i < job.count; ++i)
        late &= too_late(job.items[job.first + i].get());
    return late;
}

void Windowed::skip(const Frames::Job& job) {
    skipped_ += job.count;
    after_skip_ = true;
    MRI_DEBUG("skipping %zu frames that would come too late", job.count);
    post_qos(job.items[job.first].get(), emitted_, skipped_);
}

} // namespace mri
