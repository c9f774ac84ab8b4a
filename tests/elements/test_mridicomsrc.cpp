// SPDX-License-Identifier: LGPL-2.1-or-later
// Files of DCMTK, and of pydicom by tests/support/dicom_files.py.
#include "plugins/source/dicom/slice_selection.hpp"
#include "tests/support/gst_test.hpp"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

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
    std::optional<Readout> place;
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
                                                        GST_BUFFER_PTS(buffer),
                                                        GST_BUFFER_DURATION(buffer),
                                                        values_of<float>(buffer),
                                                        {}});
                                  if (const auto readouts = readouts_of(buffer); !readouts.empty())
                                      out.frames.back().place = readouts.front();
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
    const GValue* order = gst_structure_get_value(message, "order");
    ASSERT_TRUE(order && GST_VALUE_HOLDS_ARRAY(order));
    ASSERT_EQ(gst_value_array_get_size(order), 1u);
    EXPECT_EQ(std::string(g_value_get_string(gst_value_array_get_value(order, 0))), "trigger times");
}

// Kinds of files that other software writes; what the pixels hold is in the script.
class FilesOfOthers : public ::testing::Test {
  protected:
    static constexpr int columns = 40, rows = 36;

    void SetUp() override {
        if (env("GST_MRI_PYTHON").empty() || !std::filesystem::exists(env("GST_MRI_PYTHON")))
            GTEST_SKIP() << "GST_MRI_PYTHON does not name a python with pydicom";
    }

    /// Writes files of a kind; the numbers that the script prints.
    std::map<std::string, double> write(const std::string& kind) const {
        const std::string script = env("GST_MRI_SOURCE_ROOT") + "/tests/support/dicom_files.py";
        const std::string python = env("GST_MRI_PYTHON"), to = folder.path(kind);
        const gchar* argv[] = {python.c_str(), "-W",       "ignore", script.c_str(),
                               kind.c_str(),   to.c_str(), nullptr};
        gchar *out = nullptr, *err = nullptr;
        gint status = -1;
        GError* error = nullptr;
        g_spawn_sync(nullptr, const_cast<gchar**>(argv), nullptr, G_SPAWN_DEFAULT, nullptr, nullptr, &out,
                     &err, &status, &error);
        const GString_ptr out_owner(out), err_owner(err);
        const GErrorPtr error_owner(error);
        EXPECT_EQ(status, 0) << (err ? err : "");
        std::istringstream text(out ? out : "");
        std::map<std::string, double> numbers;
        std::string name;
        double value = 0;
        while (text >> name >> value)
            numbers[name] = value;
        return numbers;
    }

    Played play(const std::string& kind, const std::string& properties = "scale=false") const {
        Played out = run("location=" + folder.path(kind) + " " + properties);
        EXPECT_TRUE(out.result.eos);
        for (const std::string& error : out.result.errors)
            ADD_FAILURE() << error;
        return out;
    }

    /// Whether a frame is slope (picture `number` + offset) + intercept, within the tolerance.
    static void expect_picture(const Frame& frame, int number, double offset = 0, double slope = 1,
                               double intercept = 0, double tolerance = 0, int first_column = 0) {
        ASSERT_EQ(frame.pixels.size(), static_cast<std::size_t>(columns * rows));
        for (int y = 0; y < rows; ++y)
            for (int x = first_column; x < columns; ++x)
                ASSERT_NEAR(frame.pixels[static_cast<std::size_t>(y * columns + x)],
                            slope * (7 * x + 13 * y + 31 * number + offset) + intercept, tolerance)
                    << "picture " << number << " at " << x << ", " << y;
    }

    static std::string warnings(const Played& out) {
        std::string all;
        for (const std::string& warning : out.result.warnings)
            all += warning + "\n";
        return all;
    }

    TempDir folder;
};

TEST_F(FilesOfOthers, MagnitudeIsTakenOutOfFourKinds) {
    write("types");
    const char* names[] = {"magnitude", "phase", "real", "imaginary"};
    for (int kind = 0; kind < 4; ++kind) {
        const Played out = play("types", std::string("scale=false") +
                                             (kind > 0 ? std::string(" image-type=") + names[kind] : ""));
        ASSERT_EQ(out.frames.size(), 12u) << names[kind];
        for (std::size_t i = 0; i < 12; ++i) {
            EXPECT_EQ(out.frames[i].info.series, static_cast<int>(i / 3));
            expect_picture(out.frames[i], static_cast<int>(i % 3), 1000 * kind);
        }
        EXPECT_NE(warnings(out).find("36 of another type"), std::string::npos) << warnings(out);
    }
    // Signs survive the scaling of what is no magnitude.
    const Played phase = play("types", "image-type=phase slices=1");
    EXPECT_NEAR(phase.frames.at(0).pixels[0], 1000.0 / (1000 + 7 * 39 + 13 * 35 + 62), 0.02);
}

TEST_F(FilesOfOthers, CompressedFilesAreTheirOriginals) {
    write("compressions");
    const Played out = play("compressions");
    ASSERT_EQ(out.frames.size(), 21u) << warnings(out);
    for (std::size_t i = 0; i < out.frames.size(); ++i) {
        const int series = out.frames[i].info.series;
        EXPECT_EQ(series, static_cast<int>(i / 3));
        // The third series lost what 90 dB leave of values below 852: less than half a step.
        expect_picture(out.frames[i], static_cast<int>(i % 3), series == 1 ? -500 : 0, 1, 0,
                       series == 2 ? 1 : 0);
        EXPECT_EQ(out.frames[i].pts, i * 40 * GST_MSECOND);
    }
    const std::string told = warnings(out);
    EXPECT_NE(told.find("1 of 4 frames of a series are left out"), std::string::npos) << told;
    EXPECT_NE(told.find("A series of 3 frames is left out"), std::string::npos) << told;
    EXPECT_NE(told.find("JPEG 2000 data are damaged"), std::string::npos) << told;
}

TEST_F(FilesOfOthers, ObjectsOfSeveralFramesAreSortedBySliceAndPhase) {
    write("objects");
    const Played out = play("objects");
    ASSERT_EQ(out.frames.size(), 23u) << warnings(out);
    for (std::size_t i = 0; i < 8; ++i) { // two slices of the first object, of the third behind the second
        const int slice = static_cast<int>(i / 4), f = static_cast<int>(i % 4);
        for (const std::size_t at : {i, 11 + i}) {
            expect_picture(out.frames[at], f, 100 * (1 - slice), f + 1, -f);
            EXPECT_EQ(out.frames[at].info.series, slice + (at < 8 ? 0 : 3));
            ASSERT_TRUE(out.frames[at].place);
            EXPECT_EQ(out.frames[at].place->position[2], static_cast<float>(8 * slice));
            EXPECT_EQ(out.frames[at].place->slice, slice);
            EXPECT_EQ(out.frames[at].place->phase, f);
        }
        EXPECT_EQ(out.frames[i].duration / 1000, 35 * GST_MSECOND / 1000);
        EXPECT_EQ(out.frames[11 + i].duration, 200 * GST_MSECOND); // the interval of 800 ms over 4 frames
    }
    for (std::size_t i = 0; i < 3; ++i) {
        expect_picture(out.frames[8 + i], static_cast<int>(i));
        EXPECT_EQ(out.frames[8 + i].duration, 25 * GST_MSECOND);
    }
    for (std::size_t i = 0; i < 4; ++i)
        expect_picture(out.frames[19 + i], static_cast<int>(i % 2) + 1, 100.0 * static_cast<double>(i / 2));
    std::string reasons;
    const GValue* list = gst_structure_get_value(out.result.messages.at(0).get(), "reasons");
    for (guint i = 0; i < gst_value_array_get_size(list); ++i)
        reasons += std::string(g_value_get_string(gst_value_array_get_value(list, i))) + "\n";
    EXPECT_NE(reasons.find("functional groups for 2 of its 5 frames"), std::string::npos) << reasons;
    EXPECT_NE(reasons.find("end too early for 3 frames"), std::string::npos) << reasons;
    EXPECT_NE(reasons.find("a phase image"), std::string::npos) << reasons;
}

TEST_F(FilesOfOthers, APreambleIsNotNeeded) {
    write("headless");
    const Played out = play("headless");
    ASSERT_EQ(out.frames.size(), 3u) << warnings(out);
    for (int f = 0; f < 3; ++f)
        expect_picture(out.frames[static_cast<std::size_t>(f)], f);
    guint64 skipped = 0;
    ASSERT_TRUE(
        gst_structure_get(out.result.messages.at(0).get(), "skipped", G_TYPE_UINT64, &skipped, nullptr));
    EXPECT_EQ(skipped, 1u); // the text; a DICOMDIR is passed over
    EXPECT_TRUE(out.result.warnings.empty()) << warnings(out);
}

TEST_F(FilesOfOthers, PaddingIsNoSignal) {
    write("padded");
    const Played out = play("padded");
    ASSERT_EQ(out.frames.size(), 2u) << warnings(out);
    expect_picture(out.frames[0], 0, -100, 2, 7, 0, 2);
    // MONOCHROME1: the stored value v of 12 bits with a sign becomes -1 - v.
    expect_picture(out.frames[1], 1, -100 + 1, -2, 7, 0, 2);
    for (const Frame& frame : out.frames)
        for (int y = 0; y < rows; ++y)
            for (int x = 0; x < 2; ++x)
                ASSERT_EQ(frame.pixels[static_cast<std::size_t>(y * columns + x)], 0.0f) << x << ", " << y;
}

TEST_F(FilesOfOthers, PlacesTellSlicesPatientsAndCopiesApart) {
    const auto numbers = write("places");
    const Played out = play("places");
    ASSERT_EQ(out.frames.size(), 10u) << warnings(out);
    EXPECT_NE(warnings(out).find("6 are copies"), std::string::npos) << warnings(out);
    for (std::size_t i = 0; i < 6; ++i) {
        const std::size_t slice = i / 2;
        const Frame& frame = out.frames[i];
        EXPECT_EQ(frame.info.series, static_cast<int>(slice));
        expect_picture(frame, static_cast<int>(i % 2), 100.0 * static_cast<double>(slice));
        EXPECT_DOUBLE_EQ(frame.info.fov_x, 40 * 1.5);
        EXPECT_DOUBLE_EQ(frame.info.fov_y, 36 * 1.25);
        ASSERT_TRUE(frame.place);
        EXPECT_EQ(frame.place->slice, slice);
        EXPECT_EQ(frame.place->phase, i % 2);
        const std::array<float, 3> row{0.8f, 0.36f, -0.48f}, column{-0.6f, 0.48f, -0.64f};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            // Positions have six digits behind the point, and a float seven in all.
            EXPECT_NEAR(frame.place->position[axis],
                        numbers.at("centre" + std::to_string(slice) + "xyz"[axis]), 1e-5);
            EXPECT_NEAR(frame.place->read_dir[axis], row[axis], 1e-6);
            EXPECT_NEAR(frame.place->phase_dir[axis], column[axis], 1e-6);
            EXPECT_NEAR(frame.place->slice_dir[axis], numbers.at(std::string("normal") + "xyz"[axis]), 1e-6);
        }
    }
    for (std::size_t i = 6; i < 8; ++i) {
        expect_picture(out.frames[i], static_cast<int>(i - 6), 500);
        EXPECT_EQ(out.frames[i].info.series, 3);
    }
    EXPECT_EQ(out.frames[8].info.series, 4); // the second patient
    EXPECT_EQ(out.frames[8].info.width, 16);
    EXPECT_EQ(out.frames[8].pixels.at(0), 700.0f);

    // A crop leaves the pixel in the middle where it is.
    const Played cropped = play("places", "scale=false width=11 height=64 slices=1");
    for (std::size_t axis = 0; axis < 3; ++axis)
        EXPECT_EQ(cropped.frames.at(0).place->position[axis], out.frames[0].place->position[axis]);
    EXPECT_EQ(cropped.frames[0].pixels[32 * 11 + 5], out.frames[0].pixels[18 * 40 + 20]);
}

TEST_F(FilesOfOthers, AMissingFrameLeavesAGap) {
    write("gap");
    const Played out = play("gap");
    ASSERT_EQ(out.frames.size(), 4u) << warnings(out);
    const int numbers[] = {0, 1, 3, 4};
    for (std::size_t i = 0; i < 4; ++i) {
        expect_picture(out.frames[i], numbers[i]);
        EXPECT_EQ(out.frames[i].pts, static_cast<GstClockTime>(numbers[i]) * 40 * GST_MSECOND);
    }
}

TEST_F(FilesOfOthers, TheHeaderTellsTheThickness) {
    write("places");
    auto pipeline = adopt(gst_parse_launch(
        ("mridicomsrc location=" + folder.path("places") + " slices=1 ! fakesink name=sink").c_str(),
        nullptr));
    gst_element_set_state(pipeline.get(), GST_STATE_PAUSED);
    ASSERT_EQ(gst_element_get_state(pipeline.get(), nullptr, nullptr, 30 * GST_SECOND),
              GST_STATE_CHANGE_SUCCESS);
    std::string xml;
    {
        const auto sink = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "sink"));
        const auto pad = adopt(gst_element_get_static_pad(sink.get(), "sink"));
        xml = header_of(pad.get());
    }
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    EXPECT_NE(xml.find("<z>8.000000</z>"), std::string::npos) << xml;
    EXPECT_NE(xml.find("<x>60.000000</x>"), std::string::npos) << xml;
}

// The place goes through the scanner into images.
TEST_F(FilesOfOthers, AScanOfImagesHasTheirPlace) {
    const auto numbers = write("places");
    int frames = 0;
    const RunResult result = run_pipeline(
        "mridicomsrc location=" + folder.path("places") +
            " slices=2 ! mrisim spokes=8 device=cpu ! mriframer ! mrigrid device=cpu ! appsink sync=false",
        60, [&](const std::string&, GstSample* sample) {
            const auto readouts = readouts_of(gst_sample_get_buffer(sample));
            ASSERT_FALSE(readouts.empty());
            ++frames;
            for (std::size_t axis = 0; axis < 3; ++axis)
                EXPECT_NEAR(readouts[0].position[axis], numbers.at(std::string("centre1") + "xyz"[axis]),
                            1e-5);
            EXPECT_NEAR(readouts[0].read_dir[2], -0.48, 1e-6);
            EXPECT_NEAR(readouts[0].phase_dir[0], -0.6, 1e-6);
            EXPECT_NEAR(readouts[0].slice_dir[1], 0.8, 1e-6);
        });
    EXPECT_TRUE(result.eos);
    EXPECT_EQ(frames, 2);
}

// Without a plane there is no other way to tell slices apart, and the user hears of it.
TEST(MriDicomSrc, SaysThatSliceLocationIsAllThatItHas) {
    const TempDir dir;
    write_patient(dir.path("p"), "1.2.3", 2, 3);
    const Played out = run("location=" + dir.path("p"));
    EXPECT_EQ(out.frames.size(), 6u);
    ASSERT_EQ(out.result.warnings.size(), 1u);
    EXPECT_NE(out.result.warnings[0].find("SliceLocation alone"), std::string::npos)
        << out.result.warnings[0];
    EXPECT_FALSE(out.frames[0].place);
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
