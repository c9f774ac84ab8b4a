// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/frame_sorter.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace mri;

struct Line {
    int line = 0, phase = 0, repetition = 0, average = 0, segment = 0;
    bool last_in_phase = false, last_in_repetition = false;
};

/// A sorter of Cartesian lines that are told apart by their place in the stream.
class Sorting {
  public:
    explicit Sorting(Closing closing = Closing::wait, FrameIndex index = FrameIndex::automatic,
                     const std::optional<MrdEncoding>& encoding = std::nullopt, std::size_t most_open = 256,
                     bool grid = true)
        : counters(index, encoding), sorter({.grid = grid, .closing = closing, .most_open = most_open}) {}

    /// Frames that are complete after this readout.
    std::vector<FrameSorter<int>::Frame> add(const Line& line) {
        Counters c;
        c.kspace_encode_step_1 = static_cast<std::uint16_t>(line.line);
        c.phase = static_cast<std::uint16_t>(line.phase);
        c.repetition = static_cast<std::uint16_t>(line.repetition);
        c.average = static_cast<std::uint16_t>(line.average);
        c.segment = static_cast<std::uint16_t>(line.segment);
        counters.see(c);
        sorter.add(counters, c, line.last_in_phase, line.last_in_repetition, count++);
        return frames();
    }
    std::vector<FrameSorter<int>::Frame> finish() {
        sorter.finish();
        return frames();
    }
    std::vector<FrameSorter<int>::Frame> frames() {
        std::vector<FrameSorter<int>::Frame> all;
        while (auto frame = sorter.next())
            all.push_back(std::move(*frame));
        return all;
    }

    FrameCounters counters;
    FrameSorter<int> sorter;
    int count = 0;
};

MrdEncoding lines(int count, int averages = 1, int segments = 1) {
    MrdEncoding encoding;
    encoding.step_1 = MrdLimit{0, count - 1, count / 2};
    encoding.average = MrdLimit{0, averages - 1, 0};
    encoding.segment = MrdLimit{0, segments - 1, 0};
    return encoding;
}

std::string error_of(Sorting& sorting, const Line& line) {
    try {
        sorting.add(line);
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST(FrameSorter, PartsOfPhasesComeTogetherWithoutFlagsOrLimits) {
    for (const bool backwards : {false, true}) {
        Sorting sorting;
        constexpr int phases = 3, beats = 4, together = 2;
        std::vector<std::vector<int>> expected(phases);
        for (int beat = 0; beat < beats; ++beat)
            for (int p = 0; p < phases; ++p)
                for (int l = 0; l < together; ++l) {
                    const int segment = backwards ? beats - 1 - beat : beat;
                    expected[p].push_back(sorting.count);
                    EXPECT_TRUE(sorting.add({.line = segment * together + l, .phase = p, .segment = segment})
                                    .empty());
                }
        const auto frames = sorting.finish();
        ASSERT_EQ(frames.size(), 3u);
        for (int p = 0; p < phases; ++p) {
            EXPECT_EQ(frames[p].key.phase, p);
            EXPECT_EQ(frames[p].readouts, expected[p]);
            EXPECT_FALSE(frames[p].tail);
        }
    }
}

TEST(FrameSorter, FramesAreInTheOrderOfRepetitionAndPhase) {
    // Repetitions innermost, phases backwards.
    Sorting sorting;
    for (int l = 0; l < 4; ++l)
        for (int p = 2; p >= 0; --p)
            for (int r = 0; r < 2; ++r)
                sorting.add({.line = l, .phase = p, .repetition = r});
    const auto frames = sorting.finish();
    ASSERT_EQ(frames.size(), 6u);
    for (int f = 0; f < 6; ++f) {
        EXPECT_EQ(frames[f].key.repetition, static_cast<unsigned>(f / 3));
        EXPECT_EQ(frames[f].key.phase, f % 3);
        EXPECT_EQ(frames[f].readouts.size(), 4u);
    }
}

TEST(FrameSorter, AFlagEndsAFrameWithItsReadout) {
    Sorting sorting;
    EXPECT_TRUE(sorting.add({.line = 0}).empty());
    EXPECT_EQ(sorting.add({.line = 1, .last_in_repetition = true}).size(), 1u);
    // The flag of a phase counts where phases do.
    EXPECT_TRUE(sorting.add({.line = 0, .repetition = 1, .last_in_phase = true}).empty());
    EXPECT_TRUE(sorting.add({.line = 0, .phase = 1, .repetition = 1}).empty());
    const auto phase = sorting.add({.line = 1, .repetition = 1, .last_in_phase = true});
    ASSERT_EQ(phase.size(), 1u);
    EXPECT_EQ(phase[0].readouts, (std::vector<int>{2, 4}));
    // That of the repetition ends all its phases.
    sorting.add({.line = 0, .phase = 2, .repetition = 1});
    const auto all = sorting.add({.line = 1, .phase = 1, .repetition = 1, .last_in_repetition = true});
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].ended, Ended::by_flag);
    EXPECT_EQ(all[0].readouts, (std::vector<int>{3, 6}));
    EXPECT_EQ(all[1].key.phase, 2);
}

TEST(FrameSorter, AFlagOnTheVeryLastReadoutLeavesTheOthersWhole) {
    Sorting sorting;
    for (int r = 0; r < 3; ++r)
        for (int l = 0; l < 2; ++l)
            EXPECT_TRUE(
                sorting.add({.line = l, .repetition = r, .last_in_repetition = r == 2 && l == 1}).empty());
    const auto frames = sorting.finish();
    ASSERT_EQ(frames.size(), 3u);
    for (const auto& frame : frames) {
        EXPECT_EQ(frame.readouts.size(), 2u);
        EXPECT_FALSE(frame.tail);
    }
}

TEST(FrameSorter, AFlagOnEachPartEndsAFrameWithItsLastOne) {
    // By the limits a frame has four lines; they come in two beats. LAST_IN_PHASE is on each part.
    Sorting sorting(Closing::wait, FrameIndex::automatic, lines(4, 1, 2));
    for (int beat = 0; beat < 2; ++beat)
        for (int p = 0; p < 2; ++p)
            for (int l = 0; l < 2; ++l) {
                const auto frames =
                    sorting.add({.line = 2 * l + beat, .phase = p, .segment = beat, .last_in_phase = l == 1});
                // Phases are known to count from the second one on.
                ASSERT_EQ(frames.size(), beat == 1 && l == 1 ? 1u : 0u) << beat << p;
                for (const auto& frame : frames)
                    EXPECT_EQ(frame.readouts.size(), 4u);
            }
    // Repetitions that are averaged: the first one's flags end nothing.
    Sorting averaged(Closing::wait, FrameIndex::phase);
    for (int r = 0; r < 2; ++r)
        for (int p = 0; p < 2; ++p)
            averaged.add({.line = r, .phase = p, .repetition = r});
    averaged.add({.line = 2, .phase = 0, .repetition = 1, .last_in_phase = true});
    const auto frames = averaged.finish();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_EQ(frames[0].readouts, (std::vector<int>{0, 2, 4}));
}

TEST(FrameSorter, TheLastFrameOfARowIsItsTail) {
    Sorting sorting;
    for (int r = 0; r < 3; ++r)
        for (int l = 0; l < (r == 2 ? 1 : 2); ++l)
            sorting.add({.line = l, .repetition = r});
    const auto frames = sorting.finish();
    ASSERT_EQ(frames.size(), 3u);
    EXPECT_FALSE(frames[0].tail);
    EXPECT_FALSE(frames[1].tail);
    EXPECT_TRUE(frames[2].tail);
}

TEST(FrameSorter, LiveTheLastLineOfTheLimitsEndsAFrame) {
    Sorting sorting(Closing::change, FrameIndex::automatic, lines(3, 2));
    // Two averages, one after the other.
    for (int a = 0; a < 2; ++a)
        for (int l = 2; l >= 0; --l) {
            const auto frames = sorting.add({.line = l, .average = a});
            EXPECT_EQ(frames.size(), a == 1 && l == 0 ? 1u : 0u);
            for (const auto& frame : frames)
                EXPECT_EQ(frame.ended, Ended::by_limits);
        }
}

TEST(FrameSorter, LiveAChangeOfTheCountersEndsAFrame) {
    Sorting sorting(Closing::change);
    sorting.add({.line = 0, .phase = 0});
    EXPECT_EQ(sorting.add({.line = 0, .phase = 1}).size(), 1u);
    EXPECT_EQ(sorting.add({.line = 0, .phase = 0, .repetition = 1}).size(), 1u);
    // With segments another phase says nothing, another repetition does.
    Sorting parts(Closing::change, FrameIndex::automatic, lines(4, 1, 2));
    EXPECT_TRUE(parts.add({.line = 0, .phase = 0}).empty());
    EXPECT_TRUE(parts.add({.line = 0, .phase = 1}).empty());
    EXPECT_TRUE(parts.add({.line = 1, .phase = 0, .segment = 1}).empty());
    EXPECT_EQ(parts.add({.line = 0, .repetition = 1}).size(), 2u);
}

TEST(FrameSorter, ALineMeasuredAgainBeginsANewRound) {
    // Flags that end frames, and a counter that stands still.
    Sorting still;
    for (int f = 0; f < 3; ++f)
        for (int l = 0; l < 2; ++l)
            EXPECT_EQ(still.add({.line = l, .last_in_repetition = l == 1}).size(), l == 1 ? 1u : 0u);
    // Phases again and again, each ended by its flag.
    Sorting cycle;
    int count = 0;
    for (int beat = 0; beat < 3; ++beat)
        for (int p = 1; p < 4; ++p)
            for (int l = 0; l < 2; ++l)
                for (const auto& frame : cycle.add({.line = l, .phase = p, .last_in_phase = l == 1})) {
                    EXPECT_EQ(frame.key.phase, p);
                    EXPECT_EQ(frame.key.generation, static_cast<unsigned>(beat));
                    ++count;
                }
    EXPECT_EQ(count, 9);
}

TEST(FrameSorter, ALineThatAFrameLackedIsAnError) {
    Sorting flags;
    flags.add({.line = 0, .phase = 1, .last_in_phase = true});
    flags.add({.line = 0, .phase = 2, .last_in_phase = true});
    const std::string flag = error_of(flags, {.line = 1, .phase = 1});
    EXPECT_NE(flag.find("close=end"), std::string::npos) << flag;
    EXPECT_NE(flag.find("phase 1"), std::string::npos) << flag;
    // Another part of the frame that the flag ended, at once.
    Sorting segments;
    segments.add({.line = 0, .last_in_repetition = true});
    EXPECT_NE(error_of(segments, {.line = 1, .segment = 1}).find("segment 1"), std::string::npos);
    Sorting averages;
    averages.add({.line = 0, .last_in_repetition = true});
    EXPECT_NE(error_of(averages, {.line = 0, .average = 1}).find("average 1"), std::string::npos);
    // Limits that are too small.
    Sorting limits(Closing::change, FrameIndex::automatic, lines(2));
    limits.add({.line = 0});
    EXPECT_EQ(limits.add({.line = 1}).size(), 1u);
    EXPECT_NE(error_of(limits, {.line = 2}).find("limits"), std::string::npos);
}

TEST(FrameSorter, WithCloseEndFlagsEndNothing) {
    Sorting sorting(Closing::end);
    for (int segment = 0; segment < 2; ++segment)
        for (int p = 0; p < 2; ++p)
            EXPECT_TRUE(sorting.add({.line = segment, .phase = p, .segment = segment, .last_in_phase = true})
                            .empty());
    const auto frames = sorting.finish();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_EQ(frames[0].readouts, (std::vector<int>{0, 2}));
}

TEST(FrameSorter, TheIndexChoosesTheCounters) {
    const auto frames_of = [](FrameIndex index) {
        Sorting sorting(Closing::wait, index);
        for (int r = 0; r < 3; ++r)
            for (int p = 0; p < 2; ++p)
                for (int a = 0; a < 4; ++a)
                    sorting.add({.line = 0, .phase = p, .repetition = r, .average = a});
        return sorting.finish().size();
    };
    EXPECT_EQ(frames_of(FrameIndex::automatic), 6u);
    EXPECT_EQ(frames_of(FrameIndex::repetition), 3u);
    EXPECT_EQ(frames_of(FrameIndex::phase), 2u);
    EXPECT_EQ(frames_of(FrameIndex::average), 24u);
    EXPECT_EQ(frames_of(FrameIndex::none), 1u);
}

TEST(FrameSorter, TheRepetitionGoesOnAfterItsLastValue) {
    Sorting sorting;
    for (const int repetition : {65534, 65535, 0, 1})
        sorting.add({.line = 0, .repetition = repetition});
    const auto frames = sorting.finish();
    ASSERT_EQ(frames.size(), 4u);
    for (int f = 0; f < 4; ++f)
        EXPECT_EQ(frames[f].readouts, std::vector<int>{f});
}

TEST(FrameSorter, TooManyOpenFramesLetTheOldestGo) {
    Sorting sorting(Closing::wait, FrameIndex::automatic, std::nullopt, 3);
    std::size_t gone = 0;
    for (int r = 0; r < 10; ++r) {
        const auto frames = sorting.add({.line = 0, .repetition = r});
        gone += frames.size();
        EXPECT_LE(sorting.sorter.open(), 3u);
        EXPECT_EQ(sorting.sorter.held(), sorting.sorter.open());
    }
    EXPECT_EQ(gone, 7u);
    const std::string error = error_of(sorting, {.line = 1, .repetition = 0});
    EXPECT_NE(error.find("max-frames-open"), std::string::npos) << error;
    // Backwards none can go before the first one.
    Sorting backwards(Closing::wait, FrameIndex::automatic, std::nullopt, 3);
    for (int r = 9; r > 6; --r)
        backwards.add({.line = 0, .repetition = r});
    EXPECT_NE(error_of(backwards, {.line = 0, .repetition = 6}).find("max-frames-open"), std::string::npos);
}

TEST(FrameSorter, AFrameThatNothingEndsIsAnError) {
    FrameSorter<int> sorter({.most_readouts = 5});
    const FrameCounters counters;
    for (int i = 0; i < 5; ++i)
        sorter.add(counters, {}, false, false, i);
    EXPECT_THROW(sorter.add(counters, {}, false, false, 5), Error);
}

} // namespace
