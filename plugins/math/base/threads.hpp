// SPDX-License-Identifier: LGPL-2.1-or-later
// A small pool of threads for loops whose iterations are independent.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mri {

/// Runs loops on a fixed set of threads; the calling thread is one of them, so a pool of 1 owns no thread.
///
/// Iterations are handed out one by one, first come first served. Which thread runs an iteration is therefore
/// not defined; results do not depend on the number of threads as long as each iteration writes its own
/// memory and uses the worker index only to pick scratch space.
class ThreadPool {
  public:
    /// `threads` in all, the caller included; 0 = one per core of this machine. Fewer where the system makes no
    /// more: threads() says how many. Throws mri::Error below 0 or above 1024.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const noexcept { return int(workers_.size()) + 1; }

    /// Calls `body(index, worker)` for index = 0..count-1, worker in 0..threads()-1, and returns when all are
    /// done. The first exception of an iteration is thrown again here, after the rest has finished or been
    /// skipped. One loop at a time: calls from several threads, or from within `body`, are not allowed.
    void parallel_for(int count, const std::function<void(int index, int worker)>& body);

  private:
    void work(int worker);
    void drain(std::unique_lock<std::mutex>& lock, int worker);

    std::vector<std::thread> workers_;
    std::mutex mutex_; // guards everything below; the body runs without it
    std::condition_variable wake_, done_;
    const std::function<void(int, int)>* body_ = nullptr;
    int count_ = 0, next_ = 0, running_ = 0;
    bool quit_ = false;
    std::exception_ptr failure_;
};

/// The order in which threads pass one place: turn 0, then 1, and so on.
///
/// A mutex and a condition variable, not std::atomic::wait: libstdc++ 12's notify_all() returns without waking
/// anyone when it reads its count of waiters as 0, and a release store may still be on its way when that count is
/// read. The waiter then has registered, has read the old value, and sleeps for good (seen once in some 11,000
/// frames). Here the turn is stored under the mutex that a waiter holds from its last look to its sleep.
class Turns {
  public:
    /// Returns once `turn` turns have passed.
    void wait_for(int turn);
    /// The turn that began with wait_for(`turn`) is over: the next one may begin.
    void pass(int turn);

  private:
    std::atomic<int> passed_{0}; // written under mutex_
    std::mutex mutex_;
    std::condition_variable changed_;
};

} // namespace mri
