// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/window.hpp"

#include <gtest/gtest.h>
#include <numeric>

namespace {

using mri::Windows;

struct Case {
    std::size_t window, hop, length;
    mri::Emit emit = mri::Emit::central;
};

/// The same window, whatever is emitted of it: the last one of a series may have been a full one.
bool same_window(const Windows<int>::Job& a, const Windows<int>::Job& b) {
    return a.start == b.start && a.series == b.series;
}

class WindowsOf : public ::testing::TestWithParam<Case> {};

// Each item comes out once, in order, out of windows of the right length that hold consecutive items.
TEST_P(WindowsOf, EmitEachItemOnceInOrder) {
    const auto [window, hop, length, emit] = GetParam();
    Windows<int> windows(window, hop, emit);
    for (int series = 0; series < 2; ++series) {
        std::vector<int> out;
        const auto take = [&](const std::optional<Windows<int>::Job>& job) {
            if (!job)
                return;
            ASSERT_EQ(job->items.size(), window);
            ASSERT_LE(job->first + job->count, window);
            for (std::size_t i = 1; i < window; ++i) {
                const int step = job->items[i] - job->items[i - 1];
                EXPECT_TRUE(step == 1 || (length < window && step == 0));
            }
            for (std::size_t i = 0; i < job->count; ++i)
                out.push_back(job->items[job->first + i]);
        };
        for (std::size_t i = 0; i < length; ++i) {
            take(windows.push(static_cast<int>(i)));
            EXPECT_LE(windows.pending(), window);
        }
        take(windows.drain());
        std::vector<int> expected(length);
        std::iota(expected.begin(), expected.end(), 0);
        EXPECT_EQ(out, expected);
        EXPECT_EQ(windows.pending(), 0U);
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, WindowsOf,
                         ::testing::Values(Case{1, 1, 5}, Case{5, 1, 12}, Case{5, 5, 12}, Case{5, 2, 13},
                                           Case{20, 20, 20}, Case{20, 20, 21}, Case{20, 10, 45},
                                           Case{8, 3, 7}, Case{8, 3, 8}, Case{8, 3, 9}, Case{8, 8, 1},
                                           Case{4, 2, 0}, Case{5, 2, 13, mri::Emit::settled},
                                           Case{5, 1, 5, mri::Emit::settled},
                                           Case{8, 3, 7, mri::Emit::settled},
                                           Case{20, 10, 45, mri::Emit::settled}));

TEST(Windows, SettledFramesAreInNoLaterWindow) {
    Windows<int> windows(4, 2, mri::Emit::settled);
    std::optional<Windows<int>::Job> job;
    for (int i = 0; i < 4; ++i)
        job = windows.push(i);
    ASSERT_TRUE(job);
    EXPECT_EQ(job->first, 0U);
    EXPECT_EQ(job->count, 2U);
    const auto first = *job;
    const auto rest = windows.drain();
    ASSERT_TRUE(rest);
    EXPECT_TRUE(same_window(*rest, first)); // nothing came since: no other window
    EXPECT_EQ(rest->first, 2U);
    EXPECT_EQ(rest->count, 2U);
    for (int i = 0; i < 5; ++i)
        if (auto next = windows.push(i))
            job = std::move(next);
    EXPECT_FALSE(same_window(*job, first)) << "a new series";
    const auto aligned = windows.drain();
    ASSERT_TRUE(aligned);
    EXPECT_FALSE(same_window(*aligned, *job));
    EXPECT_EQ(aligned->start, 1U);
}

TEST(Windows, EmitTheCentreAndTheFirstEdge) {
    Windows<int> windows(5, 1);
    for (int i = 0; i < 4; ++i)
        EXPECT_FALSE(windows.push(i));
    const auto first = windows.push(4);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->first, 0U);
    EXPECT_EQ(first->count, 3U); // frames 0 and 1 are the edge, 2 is the centre
    const auto second = windows.push(5);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->first, 2U);
    EXPECT_EQ(second->count, 1U);
    const auto last = windows.drain();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->items.front(), 1);
    EXPECT_EQ(last->first, 3U);
    EXPECT_EQ(last->count, 2U);
}

TEST(Windows, PadAShortSeriesWithItsEdges) {
    Windows<int> windows(6, 3);
    windows.push(7);
    windows.push(8);
    const auto job = windows.drain();
    ASSERT_TRUE(job);
    EXPECT_EQ(job->items, (std::vector<int>{7, 7, 7, 8, 8, 8}));
    EXPECT_EQ(job->first, 2U);
    EXPECT_EQ(job->count, 2U);
}

TEST(Windows, RefuseAHopThatDoesNotFit) {
    EXPECT_THROW(Windows<int>(4, 5), mri::Error);
    EXPECT_THROW(Windows<int>(4, 0), mri::Error);
    EXPECT_THROW(Windows<int>(0, 0), mri::Error);
}

} // namespace
