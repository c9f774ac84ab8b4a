// SPDX-License-Identifier: LGPL-2.1-or-later
// The DICOM reader against files written here through DCMTK, and against real cine when GST_MRI_DATA is set.
#include "plugins/math/base/error.hpp"
#include "plugins/source/dicom/series.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcrleerg.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmjpeg/djencode.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

/// One image to write; the pixel at (x, y) is value(x, y).
struct Image {
    std::string uid = "1.2.826.0.1.3680043.2.1";
    int width = 8, height = 6;
    double spacing_x = 1.5, spacing_y = 1.25;
    double slice = 10.0;
    bool slice_location = true;
    int trigger = -1; ///< ms, negative: none
    int instance = 1;
    std::string photometric = "MONOCHROME2";
    int bits_allocated = 16, bits_stored = 12;
    bool is_signed = false;
    std::string slope, intercept;
    std::string image_type = "ORIGINAL\\PRIMARY\\M";
    bool pixel_data = true;
    int samples = 1;
    std::function<int(int, int)> value = [](int x, int y) { return x + 10 * y; };
    E_TransferSyntax syntax = EXS_LittleEndianExplicit;
    std::function<void(DcmDataset&)> edit;
};

class DicomFolder : public ::testing::Test {
  protected:
    std::string path(const std::string& name) const { return folder_ / name; }

    void write(const std::string& name, const Image& image) const {
        DcmFileFormat file;
        DcmDataset& data = *file.getDataset();
        const auto put = [&](const DcmTagKey& tag, const std::string& text) {
            ASSERT_TRUE(data.putAndInsertString(tag, text.c_str()).good()) << text;
        };
        char uid[100];
        put(DCM_SOPClassUID, UID_MRImageStorage);
        put(DCM_SOPInstanceUID, dcmGenerateUniqueIdentifier(uid));
        put(DCM_SeriesInstanceUID, image.uid);
        put(DCM_PatientID, "P1");
        put(DCM_ImageType, image.image_type);
        put(DCM_PhotometricInterpretation, image.photometric);
        put(DCM_PixelSpacing, std::to_string(image.spacing_y) + "\\" + std::to_string(image.spacing_x));
        put(DCM_ImageOrientationPatient, "1\\0\\0\\0\\0\\1"); // normal: (0, -1, 0)
        put(DCM_ImagePositionPatient, "-100\\" + std::to_string(-image.slice) + "\\50");
        if (image.slice_location)
            put(DCM_SliceLocation, std::to_string(image.slice));
        if (image.trigger >= 0)
            put(DCM_TriggerTime, std::to_string(image.trigger));
        put(DCM_InstanceNumber, std::to_string(image.instance));
        if (!image.slope.empty())
            put(DCM_RescaleSlope, image.slope);
        if (!image.intercept.empty())
            put(DCM_RescaleIntercept, image.intercept);
        const auto put16 = [&](const DcmTagKey& tag, int value) {
            ASSERT_TRUE(data.putAndInsertUint16(tag, static_cast<Uint16>(value)).good());
        };
        put16(DCM_SamplesPerPixel, image.samples);
        put16(DCM_Rows, image.height);
        put16(DCM_Columns, image.width);
        put16(DCM_BitsAllocated, image.bits_allocated);
        put16(DCM_BitsStored, image.bits_stored);
        put16(DCM_HighBit, image.bits_stored - 1);
        put16(DCM_PixelRepresentation, image.is_signed ? 1 : 0);
        if (image.pixel_data) {
            std::vector<Uint16> words;
            std::vector<Uint8> bytes;
            for (int y = 0; y < image.height; ++y)
                for (int x = 0; x < image.width; ++x) {
                    words.push_back(static_cast<Uint16>(image.value(x, y)));
                    bytes.push_back(static_cast<Uint8>(image.value(x, y)));
                }
            if (image.bits_allocated == 16)
                ASSERT_TRUE(data.putAndInsertUint16Array(DCM_PixelData, words.data(), words.size()).good());
            else
                ASSERT_TRUE(data.putAndInsertUint8Array(DCM_PixelData, bytes.data(), bytes.size()).good());
        }
        if (image.edit)
            image.edit(data);
        if (image.syntax != EXS_LittleEndianExplicit) {
            ASSERT_TRUE(data.chooseRepresentation(image.syntax, nullptr).good());
        }
        fs::create_directories(fs::path(path(name)).parent_path());
        ASSERT_TRUE(file.saveFile(path(name).c_str(), image.syntax).good());
    }

    mri::DicomScan scan(bool recursive = true, std::size_t min_frames = 2) const {
        const std::vector<std::string> folders{folder_.path()};
        return mri::scan_dicom(folders, recursive, min_frames);
    }

    mri::test::TempDir folder_;
};

mri::DicomLoadOptions raw() {
    mri::DicomLoadOptions options;
    options.scale = false;
    return options;
}

std::string reason_of(const mri::DicomScan& scan, const std::string& path) {
    const auto found = std::find_if(scan.skipped.begin(), scan.skipped.end(),
                                    [&](const auto& skipped) { return skipped.path == path; });
    return found == scan.skipped.end() ? std::string("(not skipped)") : found->reason;
}

TEST_F(DicomFolder, GroupsBySlicePositionAndSortsByTriggerTime) {
    // Names and instance numbers in the wrong order: the trigger time alone gives the right one.
    for (int slice = 0; slice < 3; ++slice)
        for (int frame = 0; frame < 4; ++frame) {
            Image image;
            image.slice = 30.0 - 8.0 * slice;
            image.trigger = 40 * frame;
            image.instance = 100 - 10 * slice - frame;
            image.value = [=](int, int) { return 100 * slice + frame; };
            write(std::to_string(frame * 3 + slice) + ".dcm", image);
        }
    const mri::DicomScan found = scan();
    EXPECT_EQ(found.files, 12u);
    EXPECT_TRUE(found.skipped.empty());
    ASSERT_EQ(found.series.size(), 3u);
    for (int s = 0; s < 3; ++s) {
        const mri::DicomSeries& series = found.series[static_cast<std::size_t>(s)];
        EXPECT_DOUBLE_EQ(series.slice_position, 14.0 + 8.0 * s);
        ASSERT_EQ(series.frames.size(), 4u);
        EXPECT_DOUBLE_EQ(series.frame_duration, 0.040);
        const mri::CineSeries cine = mri::load_dicom_series(series, raw());
        ASSERT_EQ(cine.pixels.size(), 4u * 8 * 6);
        for (std::size_t f = 0; f < 4; ++f)
            EXPECT_EQ(cine.pixels[f * 48], static_cast<float>(100 * (2 - s)) + static_cast<float>(f));
        EXPECT_DOUBLE_EQ(cine.fov_x, 12.0);
        EXPECT_DOUBLE_EQ(cine.fov_y, 7.5);
    }
}

TEST_F(DicomFolder, SortsByInstanceNumberWithoutUsefulTriggerTimes) {
    for (int frame = 0; frame < 3; ++frame) {
        Image image;
        image.instance = 3 - frame;
        image.trigger = 7; // the same in all
        image.value = [=](int, int) { return frame; };
        image.edit = [](DcmDataset& data) { data.putAndInsertString(DCM_NominalInterval, "900"); };
        write(std::to_string(frame), image);
    }
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    const mri::CineSeries cine = mri::load_dicom_series(found.series[0], raw());
    EXPECT_EQ(cine.pixels[0], 2.0f);
    EXPECT_EQ(cine.pixels[2 * 48], 0.0f);
    EXPECT_DOUBLE_EQ(cine.frame_duration, 0.3);
}

// SliceLocation is optional, and 0 in all files of some exports.
TEST_F(DicomFolder, PositionsCountBeforeSliceLocations) {
    for (int slice = 0; slice < 3; ++slice)
        for (int i = 0; i < 4; ++i) {
            Image image;
            image.slice = 8.0 * slice;
            image.trigger = 40.0 * i;
            image.instance = 4 * slice + i + 1;
            image.edit = [](DcmDataset& data) { data.putAndInsertString(DCM_SliceLocation, "0"); };
            write("s" + std::to_string(slice) + "i" + std::to_string(i) + ".dcm", image);
        }
    const auto found = scan();
    ASSERT_EQ(found.series.size(), 3U);
    for (std::size_t s = 0; s < 3; ++s)
        EXPECT_NEAR(found.series[s].slice_position, 8.0 * static_cast<double>(s), 1e-6);
}

TEST_F(DicomFolder, TakesThePositionAlongTheNormalWithoutSliceLocation) {
    for (const double slice : {5.0, -3.0})
        for (int frame = 0; frame < 2; ++frame) {
            Image image;
            image.slice = slice;
            image.slice_location = false;
            image.instance = frame;
            write(std::to_string(slice) + "-" + std::to_string(frame), image);
        }
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 2u);
    EXPECT_NEAR(found.series[0].slice_position, -3.0, 1e-6);
    EXPECT_NEAR(found.series[1].slice_position, 5.0, 1e-6);
}

TEST_F(DicomFolder, RescalesInvertsAndReadsSignedAndByteValues) {
    Image image;
    image.slope = "2";
    image.intercept = "-5";
    write("a/0", image);
    image.photometric = "MONOCHROME1";
    write("a/1", image);

    Image negative;
    negative.uid += ".2";
    negative.is_signed = true;
    negative.value = [](int x, int) { return (x - 4) & 0xfff; }; // 12 bits of a two's complement
    write("b/0", negative);
    write("b/1", negative);

    Image byte;
    byte.uid += ".3";
    byte.bits_allocated = byte.bits_stored = 8;
    byte.value = [](int x, int) { return 200 + x; };
    write("c/0", byte);
    write("c/1", byte);

    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 3u);
    const auto& first = mri::load_dicom_series(found.series[0], raw()).pixels;
    EXPECT_EQ(first[8 + 3], 2.0f * 13 - 5);
    EXPECT_EQ(first[48 + 8 + 3], 2.0f * (4095 - 13) - 5);
    EXPECT_EQ(mri::load_dicom_series(found.series[1], raw()).pixels[1], -3.0f);
    EXPECT_EQ(mri::load_dicom_series(found.series[2], raw()).pixels[7], 207.0f);
}

TEST_F(DicomFolder, ReadsRunLengthCompression) {
    DcmRLEEncoderRegistration::registerCodecs();
    Image image;
    image.syntax = EXS_RLELossless;
    write("0", image);
    write("1", image);
    DcmRLEEncoderRegistration::cleanup();
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    const auto& pixels = mri::load_dicom_series(found.series[0], raw()).pixels;
    for (int y = 0; y < 6; ++y)
        for (int x = 0; x < 8; ++x)
            ASSERT_EQ(pixels[static_cast<std::size_t>(y * 8 + x)], static_cast<float>(x + 10 * y));
}

TEST_F(DicomFolder, ReadsLosslessJpegOfBytesAndWords) {
    DJEncoderRegistration::registerCodecs();
    Image word, byte;
    word.syntax = byte.syntax = EXS_JPEGProcess14SV1;
    byte.uid += ".2";
    byte.bits_allocated = byte.bits_stored = 8;
    for (const char* name : {"0", "1"}) {
        write(std::string("word/") + name, word);
        write(std::string("byte/") + name, byte);
    }
    DJEncoderRegistration::cleanup();
    // Samples of 8 bits where 16 are allocated: DCMTK decodes these to bytes.
    byte.uid += ".3";
    for (const char* name : {"0", "1"}) {
        DcmFileFormat file;
        ASSERT_TRUE(file.loadFile(path(std::string("byte/") + name).c_str()).good());
        DcmDataset& data = *file.getDataset();
        char uid[100];
        data.putAndInsertString(DCM_SeriesInstanceUID, byte.uid.c_str());
        data.putAndInsertString(DCM_SOPInstanceUID, dcmGenerateUniqueIdentifier(uid));
        data.putAndInsertUint16(DCM_BitsAllocated, 16);
        fs::create_directories(path("wide"));
        ASSERT_TRUE(file.saveFile(path(std::string("wide/") + name).c_str(), byte.syntax).good());
    }
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 3u);
    for (const mri::DicomSeries& series : found.series) {
        const auto& pixels = mri::load_dicom_series(series, raw()).pixels;
        for (int y = 0; y < 6; ++y)
            for (int x = 0; x < 8; ++x)
                ASSERT_EQ(pixels[static_cast<std::size_t>(y * 8 + x)], static_cast<float>(x + 10 * y))
                    << series.frames[0].path;
    }
}

TEST_F(DicomFolder, ReadsBigEndianFiles) {
    Image image;
    image.syntax = EXS_BigEndianExplicit;
    write("0", image);
    write("1", image);
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    const auto& pixels = mri::load_dicom_series(found.series[0], raw()).pixels;
    EXPECT_EQ(pixels[8 + 3], 13.0f);
}

// Tools that forget to make new identifiers give all images one.
TEST_F(DicomFolder, ImagesOfOneIdentifierAreCopiesOnlyWhenAlike) {
    for (int frame = 0; frame < 3; ++frame) {
        Image image;
        image.instance = frame;
        image.trigger = 40 * frame;
        image.edit = [](DcmDataset& data) { data.putAndInsertString(DCM_SOPInstanceUID, "1.2.3.4"); };
        write(std::to_string(frame), image);
    }
    fs::copy_file(path("1"), path("again"));
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    EXPECT_EQ(found.series[0].frames.size(), 3u);
    ASSERT_EQ(found.skipped.size(), 1u);
    EXPECT_EQ(found.skipped[0].reason, "a copy of '" + path("1") + "'");
    EXPECT_EQ(found.skipped[0].kind, mri::DicomSkip::copy);
}

TEST_F(DicomFolder, EchoesAndSizesOfOneSliceAreSeriesOfTheirOwn) {
    for (int frame = 0; frame < 2; ++frame)
        for (int kind = 0; kind < 3; ++kind) {
            Image image;
            image.instance = 3 * frame + kind;
            image.trigger = 40 * frame;
            image.width = kind == 2 ? 10 : 8;
            image.edit = [kind](DcmDataset& data) {
                data.putAndInsertString(DCM_EchoTime, kind == 1 ? "4.6" : "2.3");
            };
            write(std::to_string(image.instance), image);
        }
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 3u);
    EXPECT_TRUE(found.skipped.empty());
    for (const mri::DicomSeries& series : found.series) {
        EXPECT_EQ(series.frames.size(), 2u);
        EXPECT_EQ(series.slice, 0);
        EXPECT_DOUBLE_EQ(series.frame_duration, 0.040);
    }
}

TEST_F(DicomFolder, NamesOrderFramesThatNothingElseDoes) {
    for (const int number : {9, 10, 100, 8}) {
        Image image;
        image.value = [=](int, int) { return number; };
        image.edit = [](DcmDataset& data) { data.findAndDeleteElement(DCM_InstanceNumber); };
        write("IM" + std::to_string(number), image);
    }
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    const auto& pixels = mri::load_dicom_series(found.series[0], raw()).pixels;
    EXPECT_EQ(pixels[0], 8.0f);
    EXPECT_EQ(pixels[48], 9.0f);
    EXPECT_EQ(pixels[2 * 48], 10.0f);
    EXPECT_EQ(pixels[3 * 48], 100.0f);
    ASSERT_EQ(found.notes.size(), 1u);
    EXPECT_NE(found.notes[0].find("order of their files' names"), std::string::npos) << found.notes[0];
}

TEST_F(DicomFolder, SkipsWhatItCannotUseAndSaysWhy) {
    for (int frame = 0; frame < 3; ++frame) {
        Image image;
        image.instance = frame;
        write("good" + std::to_string(frame), image);
    }
    Image image;
    image.width = 10;
    write("matrix", image);
    image = {};
    image.spacing_x = 2.0;
    write("spacing", image);
    image = {};
    image.uid += ".9";
    write("alone", image);
    image = {};
    image.pixel_data = false;
    write("no-pixels", image);
    image = {};
    image.photometric = "RGB";
    image.samples = 3;
    image.pixel_data = false;
    image.edit = [](DcmDataset& data) {
        const std::vector<Uint16> words(8 * 6 * 3);
        data.putAndInsertUint16Array(DCM_PixelData, words.data(), words.size());
    };
    write("colour", image);
    image = {};
    image.image_type = "DERIVED\\PRIMARY\\PHASE MAP";
    write("phase", image);
    image = {};
    image.edit = [](DcmDataset& data) { data.putAndInsertString(DCM_NumberOfFrames, "30"); };
    write("multi", image);
    image = {};
    image.edit = [](DcmDataset& data) { data.putAndInsertUint16(DCM_Rows, 65535); };
    write("huge", image);
    image = {};
    image.edit = [](DcmDataset& data) { data.findAndDeleteElement(DCM_PixelSpacing); };
    write("no-spacing", image);
    std::ofstream(path("notes.txt")) << "hello";
    const std::ofstream empty(path("empty"));
    {
        // The marker and then noise.
        std::ofstream noise(path("noise"), std::ios::binary);
        noise << std::string(128, '\0') << "DICM";
        for (int i = 0; i < 4000; ++i)
            noise << static_cast<char>((i * 7919) >> 3);
    }
    write("cut", Image{});
    fs::resize_file(path("cut"), fs::file_size(path("cut")) - 40);

    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    EXPECT_EQ(found.series[0].frames.size(), 3u);
    EXPECT_EQ(found.files, 16u);
    const auto expect = [&](const char* name, const char* part) {
        const std::string reason = reason_of(found, path(name));
        EXPECT_NE(reason.find(part), std::string::npos) << name << ": " << reason;
    };
    expect("matrix", "its geometry (10x6");
    expect("spacing", "differs from that of its series");
    expect("alone", "no cine: its slice has 1 image");
    expect("no-pixels", "no pixel data");
    expect("colour", "not a grey-scale image (RGB)");
    expect("phase", "phase image");
    expect("multi", "end too early for 30 frames");
    expect("huge", "matrix of 8x65535");
    expect("no-spacing", "PixelSpacing");
    expect("notes.txt", "not a DICOM file");
    expect("empty", "not a DICOM file");
    expect("noise", "");
    EXPECT_NE(reason_of(found, path("noise")), "(not skipped)");
    expect("cut", "corrupt");
}

TEST_F(DicomFolder, RefusesPixelDataThatEndTooEarly) {
    // A header that claims more than the element holds is found out when the pixels are read.
    Image image;
    image.edit = [](DcmDataset& data) {
        data.putAndInsertUint16(DCM_Rows, 4000);
        data.putAndInsertUint16(DCM_Columns, 4000);
    };
    write("0", image);
    write("1", image);
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 0u);
    ASSERT_EQ(found.skipped.size(), 2u);
    EXPECT_NE(found.skipped[0].reason.find("end too early"), std::string::npos) << found.skipped[0].reason;
}

TEST_F(DicomFolder, ReportsAFileThatChangedAfterTheScan) {
    write("0", Image{});
    write("1", Image{});
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    std::ofstream(path("1")) << "gone";
    try {
        mri::load_dicom_series(found.series[0], raw());
        FAIL() << "no error";
    } catch (const mri::Error& error) {
        EXPECT_EQ(error.code(), mri::Errc::decode);
        EXPECT_NE(std::string(error.what()).find(path("1")), std::string::npos) << error.what();
    }
}

TEST_F(DicomFolder, RecursesOnlyWhenAsked) {
    write("0", Image{});
    write("1", Image{});
    Image deeper;
    deeper.slice = 20.0;
    write("below/0", deeper);
    write("below/1", deeper);
    EXPECT_EQ(scan(true).series.size(), 2u);
    EXPECT_EQ(scan(false).series.size(), 1u);
}

TEST_F(DicomFolder, NamesAMissingFolder) {
    const std::vector<std::string> folders{path("nowhere")};
    try {
        mri::scan_dicom(folders, true);
        FAIL() << "no error";
    } catch (const mri::Error& error) {
        EXPECT_EQ(error.code(), mri::Errc::not_found);
        EXPECT_NE(std::string(error.what()).find(path("nowhere")), std::string::npos);
    }
}

TEST_F(DicomFolder, CropsAndPadsAroundTheCentre) {
    write("0", Image{});
    write("1", Image{});
    const mri::DicomScan found = scan();
    ASSERT_EQ(found.series.size(), 1u);
    mri::DicomLoadOptions options = raw();
    options.width = 5;  // crop: the centre 8/2 = 4 goes to 5/2 = 2
    options.height = 9; // pad: the centre 6/2 = 3 goes to 9/2 = 4
    const mri::CineSeries cine = mri::load_dicom_series(found.series[0], options);
    ASSERT_EQ(cine.width, 5);
    ASSERT_EQ(cine.height, 9);
    ASSERT_EQ(cine.pixels.size(), 2u * 45);
    for (int y = 0; y < 9; ++y)
        for (int x = 0; x < 5; ++x) {
            const int sx = x + 2, sy = y - 1;
            const float expected = sy >= 0 && sy < 6 ? static_cast<float>(sx + 10 * sy) : 0.0f;
            EXPECT_EQ(cine.pixels[static_cast<std::size_t>(45 + y * 5 + x)], expected) << x << " " << y;
        }
    EXPECT_DOUBLE_EQ(cine.fov_x, 7.5);
    EXPECT_DOUBLE_EQ(cine.fov_y, 11.25);
}

TEST(ResampleFrames, InterpolatesACycleAndALine) {
    const std::vector<float> cine{0.0f, 10.0f, 20.0f, 30.0f}; // 4 frames of 1 pixel
    EXPECT_EQ(mri::resample_frames(cine, 4, 1, 8, true),
              (std::vector<float>{0, 5, 10, 15, 20, 25, 30, 15})); // the last is half way back to the first
    EXPECT_EQ(mri::resample_frames(cine, 4, 1, 7, false), (std::vector<float>{0, 5, 10, 15, 20, 25, 30}));
    EXPECT_EQ(mri::resample_frames(cine, 4, 1, 2, true), (std::vector<float>{0, 20}));
    EXPECT_EQ(mri::resample_frames(cine, 4, 1, 1, false), (std::vector<float>{0}));
    EXPECT_THROW(mri::resample_frames(cine, 3, 1, 2, true), mri::Error);
}

TEST(RealCine, SunnybrookValidationPatient) {
    const char* data = std::getenv("GST_MRI_DATA");
    if (data == nullptr)
        GTEST_SKIP() << "GST_MRI_DATA is not set";
    const std::vector<std::string> folders{std::string(data) + "/sunnybrook/SCD0000301"};
    if (!fs::is_directory(folders[0]))
        GTEST_SKIP() << folders[0] << " is not there";
    const mri::DicomScan found = mri::scan_dicom(folders, true);
    EXPECT_TRUE(found.skipped.empty());
    ASSERT_EQ(found.series.size(), 10u);
    for (const mri::DicomSeries& series : found.series) {
        ASSERT_EQ(series.frames.size(), 20u);
        EXPECT_EQ(series.width, 256);
        EXPECT_GT(series.frame_duration, 0.02);
        EXPECT_LT(series.frame_duration, 0.08);
    }
    mri::DicomLoadOptions options;
    options.width = options.height = 192;
    mri::CineSeries cine = mri::load_dicom_series(found.series[5], options);
    ASSERT_EQ(cine.pixels.size(), std::size_t{20} * 192 * 192);
    EXPECT_EQ(*std::max_element(cine.pixels.begin(), cine.pixels.end()), 1.0f);
    EXPECT_GE(*std::min_element(cine.pixels.begin(), cine.pixels.end()), 0.0f);
    // By definition one pixel in a thousand lies above the percentile and is clipped.
    const auto clipped = std::count(cine.pixels.begin(), cine.pixels.end(), 1.0f);
    EXPECT_NEAR(static_cast<double>(clipped) / static_cast<double>(cine.pixels.size()), 0.001, 0.0005);
    // A cine: its frames follow one another smoothly, the last on the first.
    const auto distance = [&](std::size_t a, std::size_t b) {
        double sum = 0.0;
        for (std::size_t p = 0; p < 192 * 192; ++p)
            sum += std::abs(cine.pixels[a * 192 * 192 + p] - cine.pixels[b * 192 * 192 + p]);
        return sum;
    };
    double step = 0.0;
    for (std::size_t f = 0; f < 20; ++f)
        step += distance(f, (f + 1) % 20) / 20.0;
    EXPECT_LT(step, 0.5 * distance(0, 8)); // end diastole against the middle of the cycle
    EXPECT_LT(distance(19, 0), distance(0, 8));
}

} // namespace
