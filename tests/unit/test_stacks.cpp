// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/digest.hpp"
#include "plugins/export/spool.hpp"
#include "plugins/export/stacks.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace {

using namespace mri;

/// An image of a slice, `along` mm up the normal of an oblique plane and `aside` mm along its rows.
ExportedImage image(int series, double along, double aside = 0) {
    ExportedImage out;
    out.series = series;
    out.plane.width = 8;
    out.plane.height = 6;
    out.plane.row = {0.6, 0.8, 0};
    out.plane.column = {0, 0, -1};
    // The normal is row x column = (-0.8, 0.6, 0).
    out.plane.first_voxel = {10 - 0.8 * along + 0.6 * aside, 20 + 0.6 * along + 0.8 * aside, 30};
    return out;
}

TEST(Stacks, PositionsAreThoseOfTheFirstVoxel) {
    ImagePlane plane;
    plane.width = 7;
    plane.height = 4;
    plane.spacing_x = 2;
    plane.spacing_y = 3;
    plane.row = {0, 1, 0};
    plane.column = {0, 0, 1};
    place(plane, {1, 2, 3}, PositionConvention::first_voxel);
    EXPECT_EQ(plane.first_voxel, (Vector3{1, 2, 3}));
    // Pixel (3, 2) is the centre.
    place(plane, {1, 2, 3}, PositionConvention::centre);
    EXPECT_EQ(plane.first_voxel, (Vector3{1, 2 - 3 * 2, 3 - 2 * 3}));
}

TEST(Stacks, DirectionsAreUnitVectorsAtRightAngles) {
    const auto directions = directions_of({2, 0, 0}, {0.1F, 1, 0});
    ASSERT_TRUE(directions);
    EXPECT_EQ(directions->row, (Vector3{1, 0, 0}));
    EXPECT_NEAR(directions->column[1], 1, 1e-12);
    EXPECT_NEAR(directions->column[0], 0, 1e-12);
    EXPECT_FALSE(directions_of({0, 0, 0}, {0, 1, 0}));
    EXPECT_FALSE(directions_of({1, 0, 0}, {1, 0.1F, 0}));
    EXPECT_FALSE(directions_of({NAN, 0, 0}, {0, 1, 0}));
}

TEST(Stacks, ParallelSlicesAreOneStackInOrderOfPosition) {
    std::vector<ExportedImage> images;
    for (const auto& [series, along] :
         {std::pair{0, 16.0}, {1, 0.0}, {2, 8.0}, {0, 16.0}, {1, 0.0}, {2, 8.0}})
        images.push_back(image(series, along));
    const auto stacks = stack_images(images);
    ASSERT_EQ(stacks.size(), 1U);
    const auto& slices = stacks[0].slices;
    ASSERT_EQ(slices.size(), 3U);
    EXPECT_EQ(slices[0].images, (std::vector<std::size_t>{1, 4}));
    EXPECT_EQ(slices[1].images, (std::vector<std::size_t>{2, 5}));
    EXPECT_EQ(slices[2].images, (std::vector<std::size_t>{0, 3}));
    EXPECT_NEAR(*even_spacing(stacks[0]), 8, 1e-9);
    std::vector<std::string> reasons;
    EXPECT_EQ(gridded_stacks(stacks, images, reasons).size(), 1U);
    EXPECT_TRUE(reasons.empty());
}

TEST(Stacks, WhatDiffersIsAStackOfItsOwn) {
    std::vector<ExportedImage> images(7, image(0, 0));
    images[1].series = 1; // the same position again
    images[2].contrast = 1;
    images[3].set = 1;
    images[4].plane.row = {-0.6, -0.8, 0};
    images[5].plane.width = 16;
    images[6].header = 1;
    EXPECT_EQ(stack_images(images).size(), 7U);
}

TEST(Stacks, SlicesThatFitNoGridAreSplit) {
    std::vector<std::string> reasons;
    const auto split = [&](const std::vector<ExportedImage>& images) {
        reasons.clear();
        const auto stacks = stack_images(images);
        EXPECT_EQ(stacks.size(), 1U);
        return gridded_stacks(stacks, images, reasons).size();
    };
    EXPECT_EQ(split({image(0, 0), image(1, 8), image(2, 17)}), 3U);
    EXPECT_EQ(reasons, std::vector<std::string>{"3 parallel slices are not evenly spaced"});
    EXPECT_EQ(split({image(0, 0), image(1, 8, 1)}), 2U);
    EXPECT_EQ(reasons, std::vector<std::string>{"2 parallel slices do not lie straight above each other"});
    EXPECT_EQ(split({image(0, 0), image(1, 8), image(1, 8)}), 2U);
    EXPECT_EQ(reasons,
              std::vector<std::string>{"2 parallel slices have different numbers of images, 1 and 2"});
}

TEST(Stacks, TheTimeStepIsTheMean) {
    std::vector<ExportedImage> images(3, image(0, 0));
    images[0].time = 1'000'000'000;
    images[1].time = 1'030'000'000;
    images[2].time = 1'080'000'000;
    const TimeStep step = time_step({0, {0, 1, 2}}, images);
    EXPECT_NEAR(step.mean, 0.04, 1e-12);
    EXPECT_NEAR(step.largest, 0.01, 1e-12);
    images[0].duration = 25'000'000;
    EXPECT_NEAR(time_step({0, {0}}, images).mean, 0.025, 1e-12);
}

TEST(Spool, GivesBackWhatItTook) {
    const test::TempDir folder;
    Spool spool(folder.path(), "failed");
    EXPECT_EQ(folder.entries(), 0U);
    const std::vector<float> a{1, 2, 3}, b{4};
    EXPECT_EQ(spool.add(a), 0U);
    EXPECT_EQ(spool.add(b), 1U);
    EXPECT_EQ(spool.read(1), b);
    EXPECT_EQ(spool.read(0), a);
    EXPECT_THROW(Spool(folder / "missing", "failed"), Error);
}

TEST(Digest, UidsAreDecimalUuids) {
    // By python: int.from_bytes(hashlib.sha256(b"1:a").digest()[:16], "big"), with the bits of version and variant.
    EXPECT_EQ(Digest().add("a").uid(), "2.25.86913813795047908830783313576989631359");
    EXPECT_NE(Digest().add("ab").add("c").uid(), Digest().add("a").add("bc").uid());
}

} // namespace
