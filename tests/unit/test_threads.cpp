// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/error.hpp"
#include "plugins/gridding/threads.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
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
