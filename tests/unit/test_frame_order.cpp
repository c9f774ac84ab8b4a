// SPDX-License-Identifier: LGPL-2.1-or-later
// Order and times of frames by what files say, on facts as scanners write them.
#include "plugins/source/dicom/times.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

namespace {

using mri::FrameFacts;
using mri::FrameOrder;

std::vector<FrameFacts> frames(std::size_t count, const std::function<void(FrameFacts&, int)>& fill) {
    std::vector<FrameFacts> out(count);
    for (std::size_t i = 0; i < count; ++i)
        fill(out[i], static_cast<int>(i));
    return out;
}

std::vector<std::size_t> straight(std::size_t count) {
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    return order;
}

void expect_steps(const FrameOrder& order, double step, double tolerance = 1e-9) {
    ASSERT_EQ(order.times.size(), order.order.size());
    for (std::size_t i = 1; i < order.times.size(); ++i)
        EXPECT_NEAR(order.times[i] - order.times[i - 1], step, tolerance) << i;
}

TEST(FrameOrder, TriggerTimesOfOneBeatCountBeforeInstanceNumbers) {
    const auto facts = frames(6, [](FrameFacts& f, int i) {
        f.trigger = 40.0 * i;
        f.instance = 6 - i;
    });
    const FrameOrder order = mri::order_frames(facts, 900.0);
    EXPECT_EQ(order.order, straight(6));
    EXPECT_DOUBLE_EQ(order.step, 0.04);
    expect_steps(order, 0.04);
}

// Frames every 40 ms, R waves every 590 ms, in real time.
TEST(FrameOrder, TriggerTimesThatBeginAgainAreBeats) {
    const auto facts = frames(45, [](FrameFacts& f, int i) {
        f.trigger = (40 * i) % 590;
        f.instance = i + 1;
        f.acquisition = 36000.0 + 0.04 * i;
    });
    FrameOrder order = mri::order_frames(facts, std::nullopt);
    EXPECT_EQ(order.order, straight(45));
    EXPECT_EQ(order.beats.back(), 2);
    EXPECT_EQ(order.beats[14], 0);
    EXPECT_EQ(order.beats[15], 1);
    expect_steps(order, 0.04, 1e-6);

    // The instance numbers alone tell the order of acquisition, the interval where the next beat begins.
    auto bare = facts;
    for (FrameFacts& f : bare)
        f.acquisition.reset();
    expect_steps(mri::order_frames(bare, 590.0), 0.04);
    order = mri::order_frames(bare, std::nullopt);
    EXPECT_EQ(order.order, straight(45));
    expect_steps(order, 0.04);

    // Files in another order, and midnight between the beats.
    auto mixed = frames(45, [&](FrameFacts& f, int i) {
        const int k = (i * 7) % 45;
        f = facts[static_cast<std::size_t>(k)];
        f.instance.reset();
        f.acquisition = std::fmod(86399.0 + 0.04 * k, 86400.0);
    });
    order = mri::order_frames(mixed, std::nullopt);
    for (std::size_t i = 0; i < 45; ++i)
        EXPECT_EQ(order.order[i] * 7 % 45, i);
    expect_steps(order, 0.04, 1e-6);
}

TEST(FrameOrder, ACineMeasuredTwiceIsTwoBeats) {
    // Both measurements one after the other, told by their number; instance numbers by phase.
    auto facts = frames(12, [](FrameFacts& f, int i) {
        f.trigger = 50.0 * (i / 2);
        f.instance = i;
        f.acquisition_number = i % 2;
    });
    for (const bool numbered : {true, false}) {
        if (!numbered)
            for (FrameFacts& f : facts)
                f.acquisition_number.reset();
        const FrameOrder order = mri::order_frames(facts, std::nullopt);
        EXPECT_EQ(order.order, (std::vector<std::size_t>{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11}));
        EXPECT_EQ(order.beats, (std::vector<int>{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1}));
        expect_steps(order, 0.05);
    }
}

TEST(FrameOrder, PausesBetweenBeatsAreKept) {
    // Triggered: frames for 200 ms after each R wave, one a second.
    const auto facts = frames(10, [](FrameFacts& f, int i) {
        f.trigger = 50.0 * (i % 5);
        f.instance = i;
    });
    const FrameOrder order = mri::order_frames(facts, 1000.0);
    EXPECT_NEAR(order.times[5], 1.0, 1e-9);
    EXPECT_FALSE(mri::is_regular(order.times, order.step));
    EXPECT_TRUE(mri::is_regular(std::vector<double>{0, 0.045, 0.091, 0.136}, 0.046));
}

// One image a beat: the delay after the R wave jitters by some ms and orders nothing.
TEST(FrameOrder, OneImageABeatGoesByAcquisitionTimes) {
    const double jitter[] = {72.5, 75.0, 70.1, 77.5, 71.2, 74.0, 73.3, 76.4};
    const auto facts = frames(8, [&](FrameFacts& f, int i) {
        f.trigger = jitter[i];
        f.acquisition = 40000.0 + 0.9 * i;
        f.instance = i;
    });
    const FrameOrder order = mri::order_frames(facts, std::nullopt);
    EXPECT_EQ(order.order, straight(8));
    EXPECT_EQ(order.source, "acquisition times");
    expect_steps(order, 0.9, 1e-6);
}

TEST(FrameOrder, ACycleBegunInItsMiddleIsOneBeat) {
    const auto facts = frames(12, [](FrameFacts& f, int i) {
        f.trigger = 40.0 * ((i + 7) % 12);
        f.acquisition = 40000.0 + 0.04 * i;
        f.instance = i;
    });
    const FrameOrder order = mri::order_frames(facts, std::nullopt);
    EXPECT_EQ(order.order.front(), 5u);
    EXPECT_EQ(order.beats.back(), 0);
    expect_steps(order, 0.04);
}

TEST(FrameOrder, TakesTheFirstTimesThatMakeSense) {
    const auto source = [](const std::function<void(FrameFacts&, int)>& fill) {
        const auto facts = frames(5, [&](FrameFacts& f, int i) {
            f.instance = i;
            f.content = 50000.0 + 0.1 * i;
            f.acquisition = 40000.0 + 0.05 * i;
            f.nominal_delay = 30.0 * i;
            f.trigger = 20.0 * i;
            fill(f, i);
        });
        return mri::order_frames(facts, 500.0);
    };
    EXPECT_DOUBLE_EQ(source([](FrameFacts&, int) {}).step, 0.02);
    EXPECT_DOUBLE_EQ(source([](FrameFacts& f, int) { f.trigger = 7.0; }).step, 0.03);
    // One frame without, and a unit that is not ms.
    EXPECT_DOUBLE_EQ(source([](FrameFacts& f, int i) { i == 2 ? f.trigger.reset() : void(); }).step, 0.03);
    EXPECT_DOUBLE_EQ(source([](FrameFacts& f, int i) { f.trigger = 0.02 * i; }).step, 0.03);
    const auto without_delays = [](FrameFacts& f) {
        f.trigger.reset();
        f.nominal_delay.reset();
    };
    EXPECT_NEAR(source([&](FrameFacts& f, int) { without_delays(f); }).step, 0.05, 1e-9);
    const auto at_once = [&](FrameFacts& f, int) {
        without_delays(f);
        f.acquisition = 40000.0;
    };
    EXPECT_NEAR(source(at_once).step, 0.1, 1e-9);
    const FrameOrder last = source([&](FrameFacts& f, int i) {
        at_once(f, i);
        f.content.reset();
        f.instance = 9 - i;
    });
    EXPECT_DOUBLE_EQ(last.step, 0.1); // 500 ms over 5 frames
    EXPECT_EQ(last.order, (std::vector<std::size_t>{4, 3, 2, 1, 0}));
    EXPECT_TRUE(last.known);
}

TEST(FrameOrder, SaysWhenNothingTellsTheOrder) {
    const auto facts = frames(3, [](FrameFacts& f, int) { f.instance = 1; });
    const FrameOrder order = mri::order_frames(facts, std::nullopt);
    EXPECT_FALSE(order.known);
    EXPECT_EQ(order.order, straight(3));
    EXPECT_TRUE(order.times.empty());
    EXPECT_EQ(order.step, 0.0);
}

} // namespace
