// SPDX-License-Identifier: LGPL-2.1-or-later
// Names, errors and states. What is in the files: pipelines/test_outside_data.cpp, by nibabel and dcm2niix.
#include "tests/support/gst_test.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace {

using namespace mri;
using namespace mri::test;
namespace fs = std::filesystem;

class NiftiSink : public ::testing::Test {
  protected:
    RunResult write(const std::string& name, const std::string& source = "num-buffers=3") {
        return run_pipeline("mriphantomsrc width=16 height=12 " + source +
                            " ! mriniftisink location=" + folder_ / name);
    }
    TempDir folder_;
};

TEST_F(NiftiSink, PlainFilesHoldTheFloatsOfTheStream) {
    std::vector<float> pixels;
    run_pipeline("mriphantomsrc width=16 height=12 num-buffers=3 ! appsink name=out sync=false", 60,
                 [&](const std::string&, GstSample* sample) {
                     const auto values = values_of<float>(gst_sample_get_buffer(sample));
                     pixels.insert(pixels.end(), values.begin(), values.end());
                 });
    ASSERT_EQ(pixels.size(), 3U * 16 * 12);
    EXPECT_TRUE(write("scan.nii").eos);
    EXPECT_EQ(folder_.entries(), 1U);
    std::ifstream file(folder_ / "scan.nii", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    // NIfTI-1: magic at 344, vox_offset at 108, dim at 40, descrip at 148.
    EXPECT_EQ(bytes.substr(344, 3), "n+1");
    EXPECT_EQ(bytes.substr(148, 17), "gst-mri " GST_MRI_VERSION "; re");
    float offset = 0;
    std::int16_t dim[5];
    std::memcpy(&offset, bytes.data() + 108, sizeof offset);
    std::memcpy(dim, bytes.data() + 40, sizeof dim);
    EXPECT_EQ(std::vector<std::int16_t>(dim, dim + 5), (std::vector<std::int16_t>{4, 16, 12, 1, 3}));
    const auto begin = static_cast<std::size_t>(offset);
    ASSERT_EQ(bytes.size(), begin + pixels.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(bytes.data() + begin, pixels.data(), pixels.size() * sizeof(float)), 0);
}

TEST_F(NiftiSink, FurtherSeriesHaveNumbers) {
    std::ofstream(folder_ / "scan.nii.gz") << "an older file";
    EXPECT_TRUE(write("scan.nii.gz", "series=3 frames=2").eos);
    for (const char* name : {"scan.nii.gz", "scan-2.nii.gz", "scan-3.nii.gz"})
        EXPECT_GT(fs::file_size(folder_ / name), 352U) << name;
    EXPECT_EQ(folder_.entries(), 3U);
}

TEST_F(NiftiSink, NamesWhatCannotBeWritten) {
    for (const auto& [location, text] : {std::pair{folder_ / "scan.img", "does not end in .nii"},
                                         {folder_ / "missing/scan.nii", "cannot be written"}}) {
        const RunResult result =
            run_pipeline("mriphantomsrc num-buffers=1 ! mriniftisink location=" + location);
        ASSERT_EQ(result.errors.size(), 1U);
        EXPECT_NE(result.errors[0].find(location), std::string::npos) << result.errors[0];
        EXPECT_NE(result.errors[0].find(text), std::string::npos) << result.errors[0];
    }
    EXPECT_EQ(folder_.entries(), 0U);
}

TEST_F(NiftiSink, LeavesNothingWhenItIsStopped) {
    auto h = harness("mriniftisink location=" + folder_ / "scan.nii");
    gst_harness_set_src_caps_str(
        h.get(), "application/x-mri-image,format=F32LE,channels=1,width=2,height=2,framerate=10/"
                 "1,series=0,fov-x=20.0,fov-y=20.0");
    ASSERT_EQ(gst_harness_push(h.get(), buffer_of<float>({1, 2, 3, 4}, 0).release()), GST_FLOW_OK);
    EXPECT_EQ(folder_.entries(), 0U);
    h.reset();
    EXPECT_EQ(folder_.entries(), 0U);
}

TEST_F(NiftiSink, WarnsOfUnevenTimes) {
    auto h = harness("mriniftisink location=" + folder_ / "scan.nii");
    BusWatch watch(h->element);
    gst_harness_set_src_caps_str(
        h.get(), "application/x-mri-image,format=F32LE,channels=1,width=2,height=2,framerate=10/"
                 "1,series=0,fov-x=20.0,fov-y=20.0");
    for (const int ms : {0, 40, 120})
        ASSERT_EQ(gst_harness_push(h.get(), buffer_of<float>({1, 2, 3, NAN}, ms * GST_MSECOND).release()),
                  GST_FLOW_OK);
    ASSERT_TRUE(gst_harness_push_event(h.get(), gst_event_new_eos()));
    const auto warnings = watch.warnings();
    ASSERT_EQ(warnings.size(), 3U);
    EXPECT_NE(warnings[0].find("no position"), std::string::npos);
    EXPECT_NE(warnings[1].find("not finite"), std::string::npos);
    EXPECT_NE(warnings[2].find("not even"), std::string::npos);
    EXPECT_TRUE(fs::exists(folder_ / "scan.nii"));
}

TEST_F(NiftiSink, StatesCycle) {
    const auto errors = cycle_states("mriniftisink");
    ASSERT_FALSE(errors.empty());
    EXPECT_NE(errors[0].find("location"), std::string::npos);
}

} // namespace
