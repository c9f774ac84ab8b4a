// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/training/window_cache.hpp"

#include "models/common/running_mean.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <numeric>
#include <random>
#include <system_error>
#include <unistd.h>

namespace mri {

namespace {

std::string errno_text() {
    return std::generic_category().message(errno);
}

/// Reads or writes everything; false when that breaks off.
template <typename Call>
bool transfer(Call&& call, std::size_t bytes, std::size_t offset) {
    for (std::size_t done = 0; done < bytes;) {
        const ssize_t n = call(done, bytes - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += static_cast<std::size_t>(n);
    }
    return true;
}

int open_unnamed(const std::string& folder) {
    int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    // Not every file system has O_TMPFILE.
    std::string path = folder + "/mri-train-XXXXXX";
    fd = ::mkostemp(path.data(), O_CLOEXEC);
    if (fd >= 0)
        ::unlink(path.c_str());
    return fd;
}

} // namespace

WindowCache::WindowCache(std::size_t memory_bytes, std::size_t file_bytes, std::string folder)
    : memory_bytes_(memory_bytes), file_bytes_(file_bytes), folder_(std::move(folder)) {}

WindowCache::~WindowCache() {
    if (fd_ >= 0)
        ::close(fd_);
}

void WindowCache::add(TrainingWindow window) {
    const WindowShape& shape = window.shape;
    if (shape.frames < 1 || shape.height < 1 || shape.width < 1 ||
        (!window.input.empty() && window.input.size() != shape.count()) ||
        window.truth.size() != shape.count())
        throw Error(Errc::format, "a training window and its truth must both be " +
                                      std::to_string(shape.frames) + " frames of " +
                                      std::to_string(shape.height) + " x " + std::to_string(shape.width));
    const std::size_t bytes = checked_product({shape.count(), window.input.empty() ? 1U : 2U, sizeof(float)},
                                              std::numeric_limits<std::size_t>::max(), "a training window");
    Slot slot{shape, window.scale, !window.input.empty(), nullptr, 0};
    if (bytes <= memory_bytes_ - used_) {
        slot.window = std::make_unique<TrainingWindow>(std::move(window));
        used_ += bytes;
        ++in_memory_;
    } else {
        if (bytes > file_bytes_ - file_used_)
            throw Error(Errc::no_memory, "the training windows need more than the " +
                                             std::to_string(memory_bytes_) + " bytes of memory and " +
                                             std::to_string(file_bytes_) +
                                             " bytes of file that they may have");
        slot.offset = file_used_;
        spill(window);
        file_used_ += bytes;
    }
    slots_.push_back(std::move(slot));
}

void WindowCache::spill(const TrainingWindow& window) {
    if (fd_ < 0)
        fd_ = open_unnamed(folder_);
    if (fd_ < 0)
        throw Error(Errc::open_write,
                    "cannot create a file for training windows in '" + folder_ + "': " + errno_text());
    std::size_t offset = file_used_;
    for (const std::vector<float>* values : {&window.input, &window.truth}) {
        const std::size_t bytes = values->size() * sizeof(float);
        const auto* data = reinterpret_cast<const char*>(values->data());
        if (!transfer(
                [&](std::size_t done, std::size_t n, off_t at) { return ::pwrite(fd_, data + done, n, at); },
                bytes, offset))
            throw Error(Errc::write, "writing training windows in '" + folder_ + "' broke off", errno_text());
        offset += bytes;
    }
}

const TrainingWindow& WindowCache::at(std::size_t index) {
    const Slot& slot = slots_.at(index);
    if (slot.window)
        return *slot.window;
    scratch_.shape = slot.shape;
    scratch_.scale = slot.scale;
    std::size_t offset = slot.offset;
    for (std::vector<float>* values : {&scratch_.input, &scratch_.truth}) {
        values->resize(values == &scratch_.input && !slot.has_input ? 0 : slot.shape.count());
        const std::size_t bytes = values->size() * sizeof(float);
        auto* data = reinterpret_cast<char*>(values->data());
        if (!transfer(
                [&](std::size_t done, std::size_t n, off_t at) { return ::pread(fd_, data + done, n, at); },
                bytes, offset))
            throw Error(Errc::read, "reading training windows from '" + folder_ + "' broke off",
                        errno_text());
        offset += bytes;
    }
    return scratch_;
}

std::uint64_t mix_seed(std::uint64_t a, std::uint64_t b) {
    std::uint64_t z = a + 0x9E3779B97F4A7C15U * (b + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed) {
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::mt19937_64 random(seed);
    for (std::size_t i = count; i > 1; --i)
        std::swap(order[i - 1], order[random() % i]);
    return order;
}

TrainingSample draw_sample(const TrainingWindow& window, const SampleOptions& options, std::uint64_t seed) {
    const WindowShape& from = window.shape;
    if (from.frames < 4 || from.height < 4 || from.width < 4)
        throw Error(Errc::format, "training needs windows of at least 4 frames of 4 x 4, not " +
                                      std::to_string(from.frames) + " of " + std::to_string(from.height) +
                                      " x " + std::to_string(from.width));
    std::mt19937_64 random(seed);
    const auto below = [&random](int n) {
        return static_cast<int>(random() % static_cast<std::uint64_t>(n));
    };

    const auto side = [&](int extent) {
        return (options.patch > 0 ? std::min(options.patch, extent) : extent) / 4 * 4;
    };
    int height = side(from.height);
    int width = side(from.width);
    const int frames = (options.frames > 0 ? std::min(options.frames, from.frames) : from.frames) / 4 * 4;
    if (height < 4 || width < 4 || frames < 4)
        throw Error(Errc::format, "training needs patches of at least 4 frames of 4 x 4");
    const int t0 = below(from.frames - frames + 1);
    const int y0 = below(from.height - height + 1);
    const int x0 = below(from.width - width + 1);
    const bool past = options.mean_input && options.running_mean > 0;
    const int variant = options.augment ? below(past ? 8 : 16) : 0;
    const bool transpose = variant & 1;
    const bool mirror_y = variant & 2;
    const bool mirror_x = variant & 4;
    const bool reverse = variant & 8;
    // The scale's estimate varies by a few per cent from stream to stream.
    const float gain = options.augment ? 0.9F + 0.2F * static_cast<float>(random() >> 40) * 0x1p-24F : 1.0F;

    TrainingSample sample;
    sample.shape = {frames, transpose ? width : height, transpose ? height : width};
    const int channels = options.mean_input ? 2 : 1;
    sample.truth.resize(sample.shape.count());
    sample.input.resize(sample.shape.count() * static_cast<std::size_t>(channels));

    const auto source = [&](int t, int y, int x) {
        int sy = transpose ? x : y;
        int sx = transpose ? y : x;
        sy = mirror_y ? height - 1 - sy : sy;
        sx = mirror_x ? width - 1 - sx : sx;
        const int st = reverse ? frames - 1 - t : t;
        return (static_cast<std::size_t>(t0 + st) * static_cast<std::size_t>(from.height) +
                static_cast<std::size_t>(y0 + sy)) *
                   static_cast<std::size_t>(from.width) +
               static_cast<std::size_t>(x0 + sx);
    };
    std::vector<float> mean(sample.shape.pixels(), 0.0F);
    std::size_t out = 0;
    for (int t = 0; t < frames; ++t)
        for (int y = 0; y < sample.shape.height; ++y)
            for (int x = 0; x < sample.shape.width; ++x, ++out) {
                const std::size_t i = source(t, y, x);
                sample.truth[out] = window.truth[i] * gain;
                sample.input[out * static_cast<std::size_t>(channels)] = window.input[i] * gain;
                mean[out % sample.shape.pixels()] += window.input[i];
            }
    if (past) {
        RunningMean running(options.running_mean);
        std::vector<float> frame(sample.shape.pixels());
        for (int t = -t0; t < frames; ++t) { // frame 0 of the piece is frame t0 of the window
            out = 0;
            for (int y = 0; y < sample.shape.height; ++y)
                for (int x = 0; x < sample.shape.width; ++x, ++out)
                    frame[out] = window.input[source(t, y, x)] * gain;
            const std::span<const float> average = running.update(frame);
            if (t < 0)
                continue;
            float* pair = &sample.input[2 * static_cast<std::size_t>(t) * frame.size()];
            for (std::size_t i = 0; i < frame.size(); ++i) {
                *pair++ = frame[i] - average[i];
                *pair++ = average[i];
            }
        }
    } else if (options.mean_input) {
        for (std::size_t i = 0; i < sample.truth.size(); ++i) {
            const float average = mean[i % sample.shape.pixels()] * gain / static_cast<float>(frames);
            sample.input[2 * i] -= average;
            sample.input[2 * i + 1] = average;
        }
    }
    return sample;
}

} // namespace mri
