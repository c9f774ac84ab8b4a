// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/gst_test.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>

namespace {

using namespace mri;
using namespace mri::test;

class ArraySink : public ::testing::Test {
  protected:
    std::string bytes(const std::string& name) const {
        std::ifstream file(folder_ / name, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    /// Two images of 3 x 2 pixels, real: 1 -2 3 4 5 6 and 7 ... 12.
    void write(const std::string& name, const std::string& properties = "") {
        auto h = harness("mriarraysink location=" + folder_ / name + " " + properties);
        gst_harness_set_src_caps_str(h.get(), "application/x-mri-image,format=F32LE,channels=1,width=3,"
                                              "height=2,framerate=10/1,series=0,fov-x=30.0,fov-y=20.0");
        ASSERT_EQ(gst_harness_push(h.get(), buffer_of<float>({1, -2, 3, 4, 5, 6}, 0).release()), GST_FLOW_OK);
        ASSERT_EQ(gst_harness_push(h.get(), buffer_of<float>({7, 8, 9, 10, 11, 12}, 1).release()),
                  GST_FLOW_OK);
        EXPECT_FALSE(std::filesystem::exists(folder_ / name));
        ASSERT_TRUE(gst_harness_push_event(h.get(), gst_event_new_eos()));
    }
    TempDir folder_;
};

TEST_F(ArraySink, NumpyFilesHaveHeaderAndPixels) {
    write("a.npy");
    const std::string file = bytes("a.npy");
    ASSERT_EQ(file.size(), 192U + 12 * sizeof(float));
    EXPECT_EQ(file.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
    EXPECT_EQ(file.substr(10, 65), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 2, 3), }");
    EXPECT_EQ(file[191], '\n');
    const float pixels[] = {1, -2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    EXPECT_EQ(file.substr(192), std::string(reinterpret_cast<const char*>(pixels), sizeof pixels));
    EXPECT_EQ(folder_.entries(), 1U);
}

TEST_F(ArraySink, BartFilesArePairs) {
    write("a.cfl", "image-type=magnitude");
    EXPECT_EQ(bytes("a.hdr").rfind("# Dimensions\n3 2 1 1 1 1 1 1 1 1 2 1 1 1 1 1\n", 0), 0U);
    EXPECT_NE(bytes("a.hdr").find("research output, not for diagnosis"), std::string::npos);
    const std::string file = bytes("a.cfl");
    const float pixels[] = {1, 0, 2, 0, 3, 0};
    ASSERT_EQ(file.size(), 24 * sizeof(float));
    EXPECT_EQ(file.substr(0, sizeof pixels),
              std::string(reinterpret_cast<const char*>(pixels), sizeof pixels));
}

TEST_F(ArraySink, FurtherSeriesHaveNumbers) {
    EXPECT_TRUE(run_pipeline("mriphantomsrc width=16 height=16 series=2 frames=2 ! mriarraysink location=" +
                             folder_ / "a.npy")
                    .eos);
    EXPECT_EQ(bytes("a.npy").size(), 192U + 2 * 256 * 4);
    EXPECT_EQ(bytes("a-2.npy").size(), 192U + 2 * 256 * 4);
    EXPECT_EQ(folder_.entries(), 2U);
}

TEST_F(ArraySink, StatesCycle) {
    const auto errors = cycle_states("mriarraysink");
    ASSERT_FALSE(errors.empty());
    EXPECT_NE(errors[0].find("location"), std::string::npos);
}

} // namespace
