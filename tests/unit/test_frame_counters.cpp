// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/frame_counters.hpp"

#include <gtest/gtest.h>

namespace {

using namespace mri;

Counters at(int phase, int repetition, int average = 0, int segment = 0) {
    Counters c;
    c.phase = static_cast<std::uint16_t>(phase);
    c.repetition = static_cast<std::uint16_t>(repetition);
    c.average = static_cast<std::uint16_t>(average);
    c.segment = static_cast<std::uint16_t>(segment);
    return c;
}

MrdEncoding limits(int phases, int repetitions) {
    MrdEncoding encoding;
    encoding.phase = MrdLimit{0, phases - 1, 0};
    encoding.repetition = MrdLimit{0, repetitions - 1, 0};
    return encoding;
}

TEST(FrameCounters, LimitsAndReadoutsTellWhatCounts) {
    FrameCounters none;
    EXPECT_FALSE(none.phases() || none.repetitions() || none.in_parts());
    EXPECT_EQ(none.text(), "all readouts");
    none.see(at(1, 0));
    EXPECT_TRUE(none.phases());
    EXPECT_FALSE(none.repetitions());
    EXPECT_EQ(none.text(), "one phase");
    const FrameCounters both(FrameIndex::automatic, limits(3, 2));
    EXPECT_EQ(both.text(), "one phase of one repetition");
    EXPECT_EQ(FrameCounters(FrameIndex::phase, limits(3, 2)).text(), "one phase");
    EXPECT_EQ(FrameCounters(FrameIndex::repetition, limits(3, 2)).text(), "one repetition");
    EXPECT_EQ(FrameCounters(FrameIndex::none, limits(3, 2)).text(), "all readouts");
    auto parts = limits(3, 2);
    parts.segment = MrdLimit{0, 3, 0};
    EXPECT_TRUE(FrameCounters(FrameIndex::automatic, parts).in_parts());
    EXPECT_TRUE(FrameCounters(FrameIndex::phase, limits(3, 2)).in_rounds());
    EXPECT_FALSE(FrameCounters(FrameIndex::phase, limits(3, 1)).in_rounds());
    EXPECT_FALSE(both.in_rounds());
    FrameCounters averages;
    averages.see(at(0, 0, 1));
    EXPECT_TRUE(averages.in_parts());
}

TEST(FrameCounters, TwoReadingsAreToldOnce) {
    FrameCounters both;
    EXPECT_FALSE(both.see(at(0, 0)));
    EXPECT_FALSE(both.see(at(1, 0)));
    const auto told = both.see(at(0, 1));
    ASSERT_TRUE(told);
    EXPECT_NE(told->find("index=phase"), std::string::npos);
    EXPECT_NE(told->find("index=repetition"), std::string::npos);
    EXPECT_FALSE(both.see(at(1, 1)));
    FrameCounters chosen(FrameIndex::repetition_phase);
    chosen.see(at(0, 0));
    EXPECT_FALSE(chosen.see(at(1, 1)));
}

TEST(FrameCounters, ReadoutsBeyondTheLimitsAreTold) {
    FrameCounters counters(FrameIndex::automatic, limits(5, 1));
    EXPECT_FALSE(counters.see(at(0, 0)));
    const auto told = counters.see(at(0, 1));
    ASSERT_TRUE(told);
    EXPECT_NE(told->find("repetition"), std::string::npos);
    EXPECT_TRUE(counters.repetitions());
    // More than the limits of a counter that counts leave one reading.
    FrameCounters more(FrameIndex::automatic, limits(1, 3));
    more.see(at(0, 0));
    EXPECT_FALSE(more.see(at(0, 7)));
}

TEST(FrameCounters, LimitsTellTheReadoutsOfAFrame) {
    auto encoding = limits(1, 4);
    EXPECT_EQ(FrameCounters(FrameIndex::automatic, encoding).readouts(), 0u);
    encoding.step_1 = MrdLimit{4, 11, 8};
    FrameCounters counters(FrameIndex::automatic, encoding);
    EXPECT_EQ(counters.lines(), 8u);
    EXPECT_EQ(counters.readouts(), 8u);
    Counters line;
    for (const int step : {3, 4, 11, 12}) {
        line.kspace_encode_step_1 = static_cast<std::uint16_t>(step);
        EXPECT_EQ(counters.is_line(line), step == 4 || step == 11) << step;
    }
    encoding.average = MrdLimit{0, 2, 0};
    EXPECT_EQ(FrameCounters(FrameIndex::automatic, encoding).readouts(), 24u);
    EXPECT_EQ(FrameCounters(FrameIndex::average, encoding).readouts(), 8u);
    // Repetitions that are averaged make a frame longer by what nobody knows.
    EXPECT_EQ(FrameCounters(FrameIndex::phase, encoding).readouts(), 0u);
}

} // namespace
