// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/inference/weights_loader.hpp"

#include "plugins/math/base/error.hpp"

#include <exception>
#include <utility>

namespace mri {

WeightsLoader::WeightsLoader(Fit fit, Refused refused) : fit_(std::move(fit)), refused_(std::move(refused)) {}

void WeightsLoader::start() {
    const std::lock_guard lock(mutex_);
    running_ = true;
}

void WeightsLoader::stop() {
    std::thread thread;
    {
        const std::lock_guard lock(mutex_);
        running_ = false; // from here on the thread publishes nothing
        wanted_.reset();
        stream_.reset();
        thread = std::move(thread_);
    }
    if (thread.joinable())
        thread.join();
    std::optional<LoadedNetwork> forgotten; // freed under no lock
    {
        const std::lock_guard lock(mutex_);
        forgotten.swap(ready_);
    }
}

void WeightsLoader::set_stream(const Stream& stream) {
    const std::lock_guard lock(mutex_);
    stream_ = stream;
}

void WeightsLoader::want(const std::string& weights, Load load) {
    std::thread finished;
    std::optional<LoadedNetwork> forgotten; // loaded before and not taken yet: not wanted any more
    {
        const std::lock_guard lock(mutex_);
        if (!running_)
            return;
        wanted_ = Wanted{weights, std::move(load)};
        forgotten.swap(ready_);
        if (loading_)
            return;
        loading_ = true;
        finished = std::move(thread_);
        thread_ = std::thread([this] { run(); });
    }
    if (finished.joinable())
        finished.join();
}

std::optional<LoadedNetwork> WeightsLoader::take() {
    std::optional<LoadedNetwork> out;
    const std::lock_guard lock(mutex_);
    out.swap(ready_);
    return out;
}

/// The thread: loads what is wanted until nothing more is.
void WeightsLoader::run() {
    while (true) {
        Wanted wanted;
        std::optional<Stream> stream;
        {
            const std::lock_guard lock(mutex_);
            if (!wanted_) {
                loading_ = false;
                return;
            }
            wanted = *std::exchange(wanted_, std::nullopt);
            stream = stream_;
        }
        try {
            LoadedNetwork loaded = wanted.load();
            if (stream)
                fit_(loaded, *stream);
            const std::lock_guard lock(mutex_);
            if (running_ && !wanted_)
                ready_ = std::move(loaded);
        } catch (const Error& e) {
            refuse(wanted.weights, e.what(), e.detail());
        } catch (const std::exception& e) {
            refuse(wanted.weights, "its network could not be loaded", e.what());
        }
    }
}

void WeightsLoader::refuse(const std::string& weights, const std::string& why, const std::string& detail) {
    {
        const std::lock_guard lock(mutex_);
        if (!running_)
            return;
    }
    refused_(weights, why, detail);
}

} // namespace mri
