// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/threads.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <pthread.h>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace mri;

TEST(Threads, EachIterationRunsOnce) {
    for (const int threads : {1, 2, 5}) {
        ThreadPool pool(threads);
        EXPECT_EQ(pool.threads(), threads);
        // Many short loops: workers that come late to one find the next, or nothing.
        for (int loop = 0; loop < 2000; ++loop) {
            std::vector<int> runs(static_cast<std::size_t>(loop % 7), 0);
            pool.parallel_for(loop % 7, [&](int index, int) { ++runs[static_cast<std::size_t>(index)]; });
            for (const int n : runs)
                ASSERT_EQ(n, 1) << "of " << loop % 7 << " in loop " << loop;
        }
    }
}

TEST(Threads, AWorkersIndexIsItsOwn) {
    ThreadPool pool(4);
    std::vector<std::atomic<int>> busy(4);
    std::vector<int> sums(4, 0); // each worker's own: shared ones would lose some
    std::atomic<int> shared = 0;
    pool.parallel_for(5000, [&](int index, int worker) {
        const auto w = static_cast<std::size_t>(worker);
        if (busy.at(w).fetch_add(1) != 0)
            ++shared;
        sums[w] += index;
        --busy[w];
    });
    EXPECT_EQ(shared, 0);
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0), 5000 * 4999 / 2);
}

TEST(Threads, AnExceptionEndsTheLoopAndNotThePool) {
    ThreadPool pool(3);
    for (int loop = 0; loop < 100; ++loop) {
        std::atomic<int> runs = 0;
        EXPECT_THROW(pool.parallel_for(1000,
                                       [&](int index, int) {
                                           ++runs;
                                           if (index == 3)
                                               throw std::runtime_error("three");
                                       }),
                     std::runtime_error);
        runs = 0;
        pool.parallel_for(10, [&](int, int) { ++runs; });
        EXPECT_EQ(runs, 10);
    }
}

TEST(Threads, ANumberOfThreadsThatCannotBe) {
    EXPECT_THROW(ThreadPool(-1), Error);
    EXPECT_THROW(ThreadPool(1025), Error);
    EXPECT_GE(ThreadPool(0).threads(), 1);
}

// The system may refuse a thread: here because no address space is as large as its stack.
TEST(Threads, APoolWithoutThreadsStillRuns) {
    pthread_attr_t before, huge;
    ASSERT_EQ(pthread_getattr_default_np(&before), 0);
    ASSERT_EQ(pthread_attr_init(&huge), 0);
    ASSERT_EQ(pthread_attr_setstacksize(&huge, std::size_t{1} << 47), 0);
    ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
    {
        ThreadPool pool(4);
        EXPECT_EQ(pool.threads(), 1);
        int runs = 0;
        pool.parallel_for(100, [&](int, int worker) { runs += worker == 0; });
        EXPECT_EQ(runs, 100);
    }
    EXPECT_EQ(pthread_setattr_default_np(&before), 0);
    pthread_attr_destroy(&huge);
    pthread_attr_destroy(&before);
}

namespace {

/// Ends the program when nothing happens for a minute: a lost wake-up would leave the test waiting for good.
class Watchdog {
  public:
    ~Watchdog() {
        ended_ = true;
        thread_.join();
    }
    void alive(int step) { step_.store(step, std::memory_order_relaxed); }

  private:
    void watch() {
        int seen = -1;
        for (auto last = std::chrono::steady_clock::now(); !ended_;
             std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
            const auto now = std::chrono::steady_clock::now();
            if (const int step = step_.load(std::memory_order_relaxed); step != seen) {
                seen = step;
                last = now;
            } else if (now - last > std::chrono::minutes(1)) {
                std::cerr << "nothing has happened for a minute after turn " << seen << std::endl;
                std::_Exit(1);
            }
        }
    }
    std::atomic<int> step_{0};
    std::atomic<bool> ended_{false};
    std::thread thread_{[this] { watch(); }};
};

} // namespace

// Two workers that take turns at one place, as neighbouring coils do at a block of columns: each turn is a hand-over,
// and one that is lost stops both. Now and then a turn takes long enough for the other worker to fall asleep.
TEST(Threads, TenMillionTurnsOfTwoWorkers) {
    constexpr int rounds = 5'000'000;
    Watchdog watchdog;
    Turns turns;
    long long in_order = 0; // guarded by the turns alone
    const auto work = [&](int first) {
        for (int round = 0; round < rounds; ++round) {
            const int turn = 2 * round + first;
            turns.wait_for(turn);
            in_order += in_order == turn;
            if (round % 128 == 0)
                for (const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
                     std::chrono::steady_clock::now() < end;) {
                }
            turns.pass(turn);
            if (first == 0)
                watchdog.alive(round);
        }
    };
    std::thread other(work, 1);
    work(0);
    other.join();
    EXPECT_EQ(in_order, 2LL * rounds);
}

TEST(Threads, TurnsOfManyWorkersKeepTheirOrder) {
    Watchdog watchdog;
    ThreadPool pool(7);
    for (int loop = 0; loop < 2000; ++loop) {
        std::vector<Turns> places(5);
        std::vector<std::vector<int>> order(places.size());
        pool.parallel_for(9, [&](int index, int) {
            for (std::size_t place = 0; place < places.size(); ++place) {
                places[place].wait_for(index);
                order[place].push_back(index);
                places[place].pass(index);
            }
        });
        for (const auto& passed : order)
            ASSERT_EQ(passed, (std::vector{0, 1, 2, 3, 4, 5, 6, 7, 8})) << "in loop " << loop;
        watchdog.alive(loop);
    }
}
