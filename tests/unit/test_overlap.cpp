// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/common/overlap.hpp"
#include "plugins/math/base/error.hpp"

#include <gtest/gtest.h>

using namespace mri;

namespace {

std::vector<float> frame(const Overlap& overlap, std::size_t index, std::size_t values = 1) {
    std::vector<float> out(values, -1.0F);
    overlap.frame(index, out);
    return out;
}

// Windows of 3 frames of one value, from frames 0, 2 and 3 on:
//     frame   0  1  2  3  4  5
//             1  2  3
//                   5  7  9
//                     11 13 17
// All numbers are small integers, so that the sums are exact.
TEST(Overlap, MeansByHand) {
    const std::vector<float> a{1, 2, 3};
    const std::vector<float> b{5, 7, 9};
    const std::vector<float> c{11, 13, 17};
    Overlap mean(3, 1, Blend::mean);
    mean.add(a, 0);
    EXPECT_EQ(frame(mean, 0)[0], 1.0F);
    mean.add(b, 2);
    EXPECT_EQ(frame(mean, 0)[0], 4.0F); // (3 + 5) / 2
    EXPECT_EQ(frame(mean, 1)[0], 7.0F);
    mean.add(c, 3);
    EXPECT_EQ(frame(mean, 0)[0], 9.0F);  // (7 + 11) / 2
    EXPECT_EQ(frame(mean, 1)[0], 11.0F); // (9 + 13) / 2
    EXPECT_EQ(frame(mean, 2)[0], 17.0F);

    Overlap centre(3, 1, Blend::centre); // weights 1 2 1
    centre.add(a, 0);
    EXPECT_EQ(frame(centre, 1)[0], 2.0F);
    centre.add(b, 2);
    EXPECT_EQ(frame(centre, 0)[0], 4.0F); // (3 + 5) / 2
    centre.add(c, 3);
    EXPECT_FLOAT_EQ(frame(centre, 0)[0], 25.0F / 3); // (2 x 7 + 11) / 3
    EXPECT_FLOAT_EQ(frame(centre, 1)[0], 35.0F / 3); // (9 + 2 x 13) / 3

    Overlap none(3, 1, Blend::none);
    none.add(a, 0);
    none.add(b, 2);
    EXPECT_EQ(frame(none, 0)[0], 5.0F);
    none.add(c, 3);
    EXPECT_EQ(frame(none, 0)[0], 11.0F);
}

TEST(Overlap, KeepsFramesApartAndForgets) {
    Overlap overlap(2, 2, Blend::mean);
    overlap.add(std::vector<float>{1, 2, 3, 4}, 0);
    overlap.add(std::vector<float>{5, 6, 7, 8}, 1);
    EXPECT_EQ(frame(overlap, 0, 2), (std::vector<float>{4, 5}));
    EXPECT_EQ(frame(overlap, 1, 2), (std::vector<float>{7, 8}));
    overlap.add(std::vector<float>{1, 1, 1, 1}, 100); // windows between were skipped
    EXPECT_EQ(frame(overlap, 0, 2), (std::vector<float>{1, 1}));
    overlap.reset();
    overlap.add(std::vector<float>{3, 3, 3, 3}, 0);
    EXPECT_EQ(frame(overlap, 0, 2), (std::vector<float>{3, 3}));
}

TEST(Overlap, RefusesWhatDoesNotFit) {
    Overlap overlap(2, 2, Blend::mean);
    EXPECT_THROW(overlap.add(std::vector<float>(3), 0), Error);
    overlap.add(std::vector<float>(4), 5);
    EXPECT_THROW(overlap.add(std::vector<float>(4), 4), Error);
    std::vector<float> out(2);
    EXPECT_THROW(overlap.frame(2, out), Error);
    out.resize(1);
    EXPECT_THROW(overlap.frame(0, out), Error);
}

} // namespace
