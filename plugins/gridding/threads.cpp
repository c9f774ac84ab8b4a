// SPDX-License-Identifier: LGPL-2.1-or-later
#include "threads.hpp"

#include "plugins/common/error.hpp"

#include <algorithm>

namespace mri {

ThreadPool::ThreadPool(int threads) {
    if (threads < 0 || threads > 1024)
        throw Error(Errc::settings, "number of threads " + std::to_string(threads) + " is not in 0..1024");
    if (threads == 0)
        threads = std::max(1u, std::thread::hardware_concurrency());
    for (int i = 1; i < threads; i++)
        workers_.emplace_back([this, i] { work(i); });
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

void ThreadPool::drain(int worker) {
    std::unique_lock lock(mutex_);
    while (next_ < count_) {
        int index = next_++;
        lock.unlock();
        std::exception_ptr failure;
        try {
            (*body_)(index, worker);
        } catch (...) {
            failure = std::current_exception();
        }
        lock.lock();
        if (failure) {
            if (!failure_)
                failure_ = failure;
            next_ = count_;
        }
    }
}

void ThreadPool::work(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return quit_ || round_ != seen; });
            if (quit_)
                return;
            seen = round_;
        }
        drain(worker);
        std::lock_guard lock(mutex_);
        if (--busy_ == 0)
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
        std::lock_guard lock(mutex_);
        body_ = &body;
        count_ = count;
        next_ = 0;
        busy_ = int(workers_.size());
        failure_ = nullptr;
        round_++;
    }
    wake_.notify_all();
    drain(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return busy_ == 0; });
    body_ = nullptr;
    if (failure_)
        std::rethrow_exception(std::exchange(failure_, nullptr));
}

} // namespace mri
