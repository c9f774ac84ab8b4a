// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/statistics.hpp"

#include <gtest/gtest.h>

using namespace mri;

namespace {

TEST(Statistics, RanksCountFromTheSmallest) {
    std::vector<int> values{5, 1, 4, 2, 3};
    for (int rank = 0; rank < 5; ++rank)
        EXPECT_EQ(order_statistic(values, static_cast<std::size_t>(rank)), rank + 1);
    EXPECT_THROW(order_statistic(values, 5), Error);
}

TEST(Statistics, TheMedianOfAnEvenCountIsTheUpperOne) {
    std::vector<double> odd{9, 1, 5}, even{4, 1, 3, 2}, none;
    EXPECT_EQ(median(odd), 5);
    EXPECT_EQ(median(even), 3);
    EXPECT_THROW(median(none), Error);
}

TEST(Statistics, LowerPercentilesAreAmongTheValues) {
    std::vector<float> values;
    for (int i = 999; i >= 0; --i)
        values.push_back(static_cast<float>(i));
    EXPECT_EQ(lower_percentile(values, 99.5), 994); // floor(0.995 x 999) = 994
    EXPECT_EQ(lower_percentile(values, 0), 0);
    EXPECT_EQ(lower_percentile(values, 100), 999);
    std::vector<float> none;
    EXPECT_THROW(lower_percentile(none, 50), Error);
}

TEST(Statistics, PercentilesAreInterpolated) {
    std::vector<float> v{5, 1, 4, 2, 3}, none;
    EXPECT_DOUBLE_EQ(percentile(v, 0), 1);
    EXPECT_DOUBLE_EQ(percentile(v, 50), 3);
    EXPECT_DOUBLE_EQ(percentile(v, 90), 4.6);
    EXPECT_DOUBLE_EQ(percentile(v, 100), 5);
    EXPECT_TRUE(std::isnan(percentile(none, 50)));
}

} // namespace
