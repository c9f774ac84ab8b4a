// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/slice_selection.hpp"
#include "tests/support/gst_test.hpp"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace {

using namespace mri;
using namespace mri::test;

constexpr int width = 10, height = 8;

/// A frame whose pixels are all `value`, but for one pixel in the corner that fixes the scale at 1000.
void write_frame(const std::string& path, const char* uid, double slice, int trigger, int value) {
    DcmFileFormat file;
    DcmDataset& data = *file.getDataset();
    char instance[100];
    data.putAndInsertString(DCM_SOPClassUID, UID_MRImageStorage);
    data.putAndInsertString(DCM_SOPInstanceUID, dcmGenerateUniqueIdentifier(instance));
    data.putAndInsertString(DCM_SeriesInstanceUID, uid);
    data.putAndInsertString(DCM_PatientID, "P");
    data.putAndInsertString(DCM_PhotometricInterpretation, "MONOCHROME2");
    data.putAndInsertString(DCM_PixelSpacing, "2\\1.5");
    data.putAndInsertString(DCM_SliceLocation, std::to_string(slice).c_str());
    data.putAndInsertString(DCM_TriggerTime, std::to_string(trigger).c_str());
    data.putAndInsertUint16(DCM_SamplesPerPixel, 1);
    data.putAndInsertUint16(DCM_Rows, height);
    data.putAndInsertUint16(DCM_Columns, width);
    data.putAndInsertUint16(DCM_BitsAllocated, 16);
    data.putAndInsertUint16(DCM_BitsStored, 16);
    data.putAndInsertUint16(DCM_HighBit, 15);
    data.putAndInsertUint16(DCM_PixelRepresentation, 0);
    std::vector<Uint16> pixels(width * height, static_cast<Uint16>(value));
    data.putAndInsertUint16Array(DCM_PixelData, pixels.data(), pixels.size());
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    ASSERT_TRUE(file.saveFile(path.c_str(), EXS_LittleEndianExplicit).good());
}

/// `slices` slices of `frames` frames, 50 ms apart; the pixels of slice s, frame f are 100 (s + 1) + f.
void write_patient(const std::string& folder, const char* uid, int slices, int frames) {
    for (int s = 0; s < slices; ++s)
        for (int f = 0; f < frames; ++f)
            write_frame(folder + "/" + std::to_string(s) + "-" + std::to_string(f) + ".dcm", uid, 8.0 * s,
                        50 * f, 100 * (s + 1) + f);
}

struct Frame {
    ImageInfo info;
    GstClockTime pts, duration;
    std::vector<float> pixels;
};

struct Played {
    RunResult result;
    std::vector<Frame> frames;
};

Played run(const std::string& properties) {
    Played out;
    out.result = run_pipeline("mridicomsrc " + properties + " ! appsink sync=false", 60,
                              [&](const std::string&, GstSample* sample) {
                                  GstBuffer* buffer = gst_sample_get_buffer(sample);
                                  out.frames.push_back({ImageInfo::from_caps(gst_sample_get_caps(sample)),
                                                        GST_BUFFER_PTS(buffer), GST_BUFFER_DURATION(buffer),
                                                        values_of<float>(buffer)});
                              });
    return out;
}

std::vector<float> first_pixels(const Played& run) {
    std::vector<float> values;
    for (const Frame& frame : run.frames)
        values.push_back(frame.pixels[0]);
    return values;
}

TEST(MriDicomSrc, OneSeriesPerSlice) {
    const TempDir dir;
    write_patient(dir.path("p"), "1.2.3", 2, 3);
    const Played out = run("location=" + dir.path("p") + " scale=false");
    EXPECT_TRUE(out.result.eos);
    EXPECT_TRUE(out.result.errors.empty());
    EXPECT_EQ(first_pixels(out), (std::vector<float>{100, 101, 102, 200, 201, 202}));
    for (std::size_t i = 0; i < out.frames.size(); ++i) {
        const Frame& frame = out.frames[i];
        EXPECT_EQ(frame.info.format, SampleFormat::f32);
        EXPECT_EQ(frame.info.width, width);
        EXPECT_EQ(frame.info.height, height);
        EXPECT_DOUBLE_EQ(frame.info.fov_x, 15.0);
        EXPECT_DOUBLE_EQ(frame.info.fov_y, 16.0);
        EXPECT_EQ(frame.info.framerate, (Fraction{20, 1}));
        EXPECT_EQ(frame.info.series, static_cast<int>(i / 3));
        EXPECT_EQ(frame.pts, i * 50 * GST_MSECOND);
        EXPECT_EQ(frame.duration, 50 * GST_MSECOND);
    }
}

TEST(MriDicomSrc, ScalesToOneAndCrops) {
    const TempDir dir;
    write_patient(dir.path("p"), "1.2.3", 1, 2);
    const Played out = run("location=" + dir.path("p") + " width=4 height=12");
    ASSERT_EQ(out.frames.size(), 2u);
    // 32 pixels of 100 and 32 of 101: the 99.9th percentile is 101.
    const std::vector<float>& pixels = out.frames[0].pixels;
    ASSERT_EQ(pixels.size(), 48u);
    EXPECT_DOUBLE_EQ(out.frames[0].info.fov_x, 6.0);
    EXPECT_DOUBLE_EQ(out.frames[0].info.fov_y, 24.0);
    for (int y = 0; y < 12; ++y) // 8/2 = 4 comes to 12/2 = 6
        for (int x = 0; x < 4; ++x)
            EXPECT_NEAR(pixels[static_cast<std::size_t>(4 * y + x)],
                        y >= 2 && y < 10 ? 100.0f / 101.0f : 0.0f, 1e-6f);
    EXPECT_NEAR(out.frames[1].pixels[4 * 6], 1.0f, 1e-6f);
}

TEST(MriDicomSrc, SeveralFoldersPassesAndChosenSlices) {
    const TempDir dir;
    write_patient(dir.path("a"), "1.2.3", 3, 2);
    write_patient(dir.path("b"), "1.2.4", 3, 2);
    for (const char* separator : {":", ";"}) {
        const Played out = run("location=\"" + dir.path("a") + separator + dir.path("b") +
                               "\" scale=false slices=1,3- loop=2");
        EXPECT_TRUE(out.result.eos);
        EXPECT_EQ(first_pixels(out), (std::vector<float>{100, 101, 300, 301, 100, 101, 300, 301, //
                                                         100, 101, 300, 301, 100, 101, 300, 301}));
        for (std::size_t i = 0; i < out.frames.size(); ++i)
            EXPECT_EQ(out.frames[i].info.series, static_cast<int>(i / 2));
    }
    const Played listed = run("locations=\"<" + dir.path("a") + "," + dir.path("b") +
                              ">\" scale=false slices=-1 repeat=2 framerate=10/1");
    EXPECT_TRUE(listed.result.eos);
    EXPECT_EQ(first_pixels(listed), (std::vector<float>{100, 101, 100, 101, 100, 101, 100, 101}));
    ASSERT_EQ(listed.frames.size(), 8u);
    EXPECT_EQ(listed.frames[3].info.series, 0);
    EXPECT_EQ(listed.frames[4].info.series, 1);
    EXPECT_EQ(listed.frames[7].pts, 700 * GST_MSECOND);
}

TEST(MriDicomSrc, ResamplesInTime) {
    const TempDir dir;
    write_patient(dir.path("p"), "1.2.3", 1, 2);
    const Played out = run("location=" + dir.path("p") + " frames=4 scale=false");
    EXPECT_EQ(first_pixels(out), (std::vector<float>{100, 100.5, 101, 100.5}));
    ASSERT_EQ(out.frames.size(), 4u);
    EXPECT_EQ(out.frames[0].info.framerate, (Fraction{40, 1})); // the cycle still takes 100 ms
    const Played line = run("location=" + dir.path("p") + " frames=3 cycle=false scale=false");
    EXPECT_EQ(first_pixels(line), (std::vector<float>{100, 100.5, 101}));
}

TEST(MriDicomSrc, SaysWhatItSkipped) {
    const TempDir dir;
    write_patient(dir.path("p"), "1.2.3", 1, 2);
    std::ofstream(dir.path("p/notes.txt")) << "hello";
    Played out = run("location=" + dir.path("p"));
    EXPECT_TRUE(out.result.eos);
    ASSERT_EQ(out.result.messages.size(), 1u);
    const GstStructure* message = out.result.messages[0].get();
    ASSERT_TRUE(gst_structure_has_name(message, "mri-dicom-scan"));
    guint64 files = 0, series = 0, skipped = 0;
    ASSERT_TRUE(gst_structure_get(message, "files", G_TYPE_UINT64, &files, "series", G_TYPE_UINT64, &series,
                                  "skipped", G_TYPE_UINT64, &skipped, nullptr));
    EXPECT_EQ(files, 3u);
    EXPECT_EQ(series, 1u);
    EXPECT_EQ(skipped, 1u);
    const GValue* reasons = gst_structure_get_value(message, "reasons");
    ASSERT_TRUE(reasons && GST_VALUE_HOLDS_ARRAY(reasons));
    ASSERT_EQ(gst_value_array_get_size(reasons), 1u);
    EXPECT_EQ(std::string(g_value_get_string(gst_value_array_get_value(reasons, 0))),
              dir.path("p/notes.txt") + ": not a DICOM file");
}

TEST(MriDicomSrc, OneErrorForWhatCannotWork) {
    const TempDir dir;
    std::filesystem::create_directories(dir.path("empty"));
    std::filesystem::create_directories(dir.path("text"));
    std::ofstream(dir.path("text/notes.txt")) << "hello";
    write_patient(dir.path("p"), "1.2.3", 2, 2);
    write_patient(dir.path("still"), "1.2.5", 2, 1);
    const auto expect = [](const std::string& properties, const std::string& part) {
        const Played out = run(properties);
        EXPECT_FALSE(out.result.eos);
        ASSERT_EQ(out.result.errors.size(), 1u) << properties;
        EXPECT_NE(out.result.errors[0].find(part), std::string::npos) << out.result.errors[0];
    };
    expect("", "location is not set");
    expect("location=" + dir.path("nowhere"), dir.path("nowhere") + "' does not exist");
    expect("location=" + dir.path("p") + ":" + dir.path("nowhere"), dir.path("nowhere") + "' does not exist");
    expect("location=" + dir.path("text/notes.txt"), "is not a folder");
    expect("location=" + dir.path("empty"), "no files at all");
    expect("location=" + dir.path("text"), "not a DICOM file");
    expect("location=" + dir.path("still"), "its slice has 1 image");
    expect("location=" + dir.path("p") + " slices=3-", "leaves none of 2 slices");
    expect("location=" + dir.path("p") + " slices=2-x", "'2-x' is no selection");
}

TEST(MriDicomSrc, SurvivesStateCycles) {
    // Without a location each start fails with its one error.
    const auto errors = cycle_states("mridicomsrc", 3);
    EXPECT_EQ(errors.size(), 3u);
    for (const std::string& error : errors)
        EXPECT_NE(error.find("location"), std::string::npos) << error;
}

TEST(MriDicomSrc, RealCine) {
    const std::string data = env("GST_MRI_DATA");
    if (data.empty() || !std::filesystem::is_directory(data + "/sunnybrook/SCD0000301"))
        GTEST_SKIP() << "GST_MRI_DATA does not lead to sunnybrook/SCD0000301";
    const Played out = run("location=" + data + "/sunnybrook/SCD0000301 width=192 height=192 slices=4-5");
    EXPECT_TRUE(out.result.eos);
    ASSERT_EQ(out.frames.size(), 40u);
    EXPECT_EQ(out.frames[20].info.series, 1);
    EXPECT_NEAR(out.frames[0].info.fov_x, 192 * 1.2891, 0.01);
    const auto& pixels = out.frames[0].pixels;
    EXPECT_LE(*std::max_element(pixels.begin(), pixels.end()), 1.0f);
    EXPECT_GT(*std::max_element(pixels.begin(), pixels.end()), 0.8f);
}

TEST(SliceSelection, ReadsListsAndRanges) {
    const auto chosen = [](const std::string& text) {
        const SliceSelection selection(text);
        std::string out;
        for (int i = 1; i <= 9; ++i)
            out += selection.contains(i) ? '1' : '0';
        return out;
    };
    EXPECT_EQ(chosen(""), "111111111");
    EXPECT_EQ(chosen("2-9"), "011111111");
    EXPECT_EQ(chosen("1,3-5,8-"), "101110011");
    EXPECT_EQ(chosen("-2"), "110000000");
    EXPECT_EQ(chosen("4"), "000100000");
    for (const char* text : {"0", "-", "a", "1,", ",1", "5-3", "1--2", "1;2", "99999999999", "1 2"})
        EXPECT_THROW(SliceSelection{text}, Error) << text;
}

} // namespace
