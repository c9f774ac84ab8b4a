// SPDX-License-Identifier: LGPL-2.1-or-later
// Folder, errors and states. What is in the files: pipelines/test_outside_data.cpp, by pydicom and dciodvfy.
#include "tests/support/gst_test.hpp"

#include <filesystem>
#include <fstream>

namespace {

using namespace mri;
using namespace mri::test;
namespace fs = std::filesystem;

class DicomSink : public ::testing::Test {
  protected:
    RunResult write(const std::string& properties = "", const std::string& source = "num-buffers=3") {
        return run_pipeline("mriphantomsrc width=16 height=12 " + source +
                            " ! mridicomsink location=" + out() + " " + properties);
    }
    std::string out() const { return folder_ / "out"; }
    std::size_t files(const std::string& series) const {
        const fs::path path = out() + "/" + series;
        return fs::exists(path) ? static_cast<std::size_t>(
                                      std::distance(fs::directory_iterator(path), fs::directory_iterator()))
                                : 0;
    }
    TempDir folder_;
};

TEST_F(DicomSink, WritesAFolderForEachSeries) {
    const RunResult result = write("", "series=2 frames=3");
    EXPECT_TRUE(result.eos) << (result.errors.empty() ? "" : result.errors[0]);
    EXPECT_EQ(files("series-1"), 3U);
    EXPECT_EQ(files("series-2"), 3U);
    EXPECT_EQ(files(""), 2U);
    EXPECT_TRUE(fs::exists(out() + "/series-1/image-0001.dcm"));
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("carry no position"), std::string::npos) << result.warnings[0];
}

TEST_F(DicomSink, RefusesAFolderThatHoldsFiles) {
    ASSERT_TRUE(write().eos);
    RunResult result = write();
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("overwrite=true"), std::string::npos) << result.errors[0];

    // One image fewer: nothing of the earlier run may stay.
    EXPECT_TRUE(write("overwrite=true", "num-buffers=2").eos);
    EXPECT_EQ(files("series-1"), 2U);

    std::ofstream(out() + "/series-1/notes.txt") << "mine";
    result = write("overwrite=true");
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("notes.txt"), std::string::npos) << result.errors[0];
    EXPECT_EQ(files("series-1"), 3U);
}

TEST_F(DicomSink, NamesWhatCannotBeWritten) {
    std::ofstream(out()) << "a file";
    RunResult result = write();
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find(out() + "' is no folder"), std::string::npos) << result.errors[0];
    result = run_pipeline("mriphantomsrc num-buffers=1 ! mridicomsink location=" + folder_ / "no/such/out");
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("cannot be made"), std::string::npos) << result.errors[0];
    result = run_pipeline("mriphantomsrc num-buffers=1 ! mridicomsink");
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("location is not set"), std::string::npos) << result.errors[0];
}

TEST_F(DicomSink, LeavesNothingWhenItIsStopped) {
    auto h = harness("mridicomsink location=" + out());
    const BusWatch watch(h->element);
    gst_harness_set_src_caps_str(
        h.get(), "application/x-mri-image,format=F32LE,channels=1,width=2,height=2,framerate=10/"
                 "1,series=0,fov-x=20.0,fov-y=20.0");
    ASSERT_EQ(gst_harness_push(h.get(), buffer_of<float>({1, 2, 3, 4}, 0).release()), GST_FLOW_OK);
    EXPECT_EQ(files(""), 0U);
    h.reset();
    EXPECT_FALSE(fs::exists(out()));
}

TEST_F(DicomSink, RefusesThePhaseOfSeveralCoils) {
    const RunResult result =
        run_pipeline("mriphantomsrc num-buffers=1 width=16 height=16 ! mrisim coils=2 ! mriframer ! "
                     "mrigrid combine=none ! mridicomsink image-type=phase location=" +
                     out());
    ASSERT_GE(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("combined coils"), std::string::npos) << result.errors[0];
    EXPECT_FALSE(fs::exists(out()));
}

TEST_F(DicomSink, AnEmptyStreamIsAnError) {
    const RunResult result = run_pipeline("fakesrc num-buffers=0 ! mridicomsink location=" + out());
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("before anything came"), std::string::npos) << result.errors[0];
    EXPECT_FALSE(fs::exists(out()));
}

TEST_F(DicomSink, StatesCycle) {
    const auto errors = cycle_states("mridicomsink");
    ASSERT_FALSE(errors.empty());
    EXPECT_NE(errors[0].find("location"), std::string::npos);
}

} // namespace
