// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/text.hpp"

#include <gtest/gtest.h>

#include <clocale>
#include <limits>

using namespace mri;

namespace {

using Ranges = std::vector<NumberRange>;

TEST(Text, ANumberIsTheWholeText) {
    EXPECT_EQ(parse_number<int>("-12"), -12);
    EXPECT_EQ(parse_number<double>("2.5e3"), 2500);
    for (const char* text : {"", " 1", "1 ", "1x", "x", "1,5", "99999999999"})
        EXPECT_FALSE(parse_number<int>(text)) << text;
    EXPECT_FALSE(parse_number<unsigned>("-1"));
}

TEST(Text, NumbersReadBackAsTheyWere) {
    for (const double value : {0.1, 1.0 / 3, 1e300, -5e-324, 240.75})
        EXPECT_EQ(parse_number<double>(number_text(value)), value);
    EXPECT_EQ(number_text(0.1f), "0.1");
    EXPECT_EQ(fixed_text(240.75), "240.750000");
    EXPECT_EQ(fixed_text(-std::numeric_limits<double>::max()).size(), 1U + 309 + 1 + 6);
}

TEST(Text, NoLocaleChangesTheDecimalPoint) {
    const std::string before = std::setlocale(LC_ALL, nullptr);
    for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"})
        if (std::setlocale(LC_ALL, name)) {
            EXPECT_EQ(fixed_text(1.5), "1.500000") << name;
            EXPECT_EQ(parse_number<double>("1.5"), 1.5) << name;
        }
    std::setlocale(LC_ALL, before.c_str());
}

TEST(Text, BlanksAroundAreCut) {
    EXPECT_EQ(trimmed(" \t a b\r\n"), "a b");
    EXPECT_EQ(trimmed(" \n"), "");
}

TEST(Text, ListsOfRanges) {
    EXPECT_EQ(parse_ranges("3,10-15"), (Ranges{{3, 3}, {10, 15}}));
    EXPECT_EQ(parse_ranges("-2--1"), (Ranges{{-2, -1}}));
    EXPECT_EQ(parse_ranges(""), Ranges{});
    for (const char* text : {",", "3,", ",3", "5-4", "8-", "-", "a", "1-2-3", "1 ,2"})
        EXPECT_FALSE(parse_ranges(text)) << text;
}

TEST(Text, ListsOfOpenRanges) {
    constexpr int last = std::numeric_limits<int>::max();
    EXPECT_EQ(parse_ranges("1,3-5,8-", OpenRanges::allowed), (Ranges{{1, 1}, {3, 5}, {8, last}}));
    EXPECT_EQ(parse_ranges("-4", OpenRanges::allowed), (Ranges{{1, 4}}));
    for (const char* text : {"-", "1,", "2-1", "x-", "1--2"})
        EXPECT_FALSE(parse_ranges(text, OpenRanges::allowed)) << text;
}

TEST(Text, Devices) {
    using Kind = DeviceText::Kind;
    EXPECT_EQ(parse_device("auto")->kind, Kind::automatic);
    EXPECT_EQ(parse_device("cpu")->kind, Kind::cpu);
    EXPECT_EQ(parse_device("cuda")->index, 0);
    EXPECT_EQ(parse_device("cuda:12")->kind, Kind::cuda);
    EXPECT_EQ(parse_device("cuda:12")->index, 12);
    for (const char* text :
         {"", "CUDA", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999", "cpu "})
        EXPECT_FALSE(parse_device(text)) << text;
}

} // namespace
