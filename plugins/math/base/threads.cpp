// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/threads.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <system_error>

namespace mri {

ThreadPool::ThreadPool(int threads) {
    if (threads < 0 || threads > 1024)
        throw Error(Errc::settings, "number of threads " + std::to_string(threads) + " is not in 0..1024");
    if (threads == 0)
        threads = std::max(1u, std::thread::hardware_concurrency());
    workers_.reserve(static_cast<std::size_t>(threads) - 1);
    try {
        for (int i = 1; i < threads; i++)
            workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
        // A process or its container has a limit of threads: those that could be made do the work.
    }
}

ThreadPool::~ThreadPool() {
    {
        std::lock_guard lock(mutex_);
        quit_ = true;
    }
    wake_.notify_all();
    for (auto& t : workers_)
        t.join();
}

/// Takes iterations until none is left; the lock is held before and after.
void ThreadPool::drain(std::unique_lock<std::mutex>& lock, int worker) {
    while (next_ < count_) {
        const int index = next_++;
        ++running_;
        lock.unlock();
        std::exception_ptr failure;
        try {
            (*body_)(index, worker);
        } catch (...) {
            failure = std::current_exception();
        }
        lock.lock();
        --running_;
        if (failure) {
            if (!failure_)
                failure_ = failure;
            next_ = count_;
        }
    }
}

void ThreadPool::work(int worker) {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return quit_ || next_ < count_; });
        if (quit_)
            return;
        drain(lock, worker);
        if (running_ == 0)
            done_.notify_one();
    }
}

void ThreadPool::parallel_for(int count, const std::function<void(int, int)>& body) {
    if (workers_.empty() || count <= 1) {
        for (int i = 0; i < count; i++)
            body(i, 0);
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        body_ = &body;
        count_ = count;
        next_ = 0;
        failure_ = nullptr;
    }
    wake_.notify_all();
    std::unique_lock lock(mutex_);
    drain(lock, 0);
    // A worker that has not come yet finds nothing to do: only those at work are waited for.
    done_.wait(lock, [&] { return running_ == 0; });
    body_ = nullptr;
    if (failure_)
        std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Turns::wait_for(int turn) {
    // The turn before is a few microseconds of work, and to be woken from sleep can take 40: look, let others run,
    // and only then sleep.
    for (int look = 0; look < 250; ++look) {
        if (passed_.load(std::memory_order_acquire) >= turn)
            return;
        if (look >= 200)
            std::this_thread::yield();
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return passed_.load(std::memory_order_relaxed) >= turn; });
}

void Turns::pass(int turn) {
    {
        const std::lock_guard lock(mutex_);
        passed_.store(turn + 1, std::memory_order_release);
    }
    changed_.notify_all();
}

} // namespace mri
