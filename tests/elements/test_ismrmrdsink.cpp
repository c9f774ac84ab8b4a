// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/gst_test.hpp"
#include "tests/support/ismrmrd_files.hpp"

#include <ismrmrd/dataset.h>
#include <ismrmrd/meta.h>

#include <clocale>
#include <filesystem>

namespace {

using namespace mri;
using namespace mri::test;

ImageInfo image_info(SampleFormat format, int channels, int width, int height, int series) {
    ImageInfo info;
    info.format = format;
    info.channels = channels;
    info.width = width;
    info.height = height;
    info.fov_x = 320;
    info.fov_y = 240;
    info.framerate = {25, 1};
    info.series = series;
    return info;
}

class IsmrmrdSink : public ::testing::Test {
  protected:
    TempDir folder;
    std::string path = folder.path("images.h5");

    void open(const std::string& properties = "") {
        h = harness("ismrmrdsink location=" + path + " " + properties);
        ASSERT_TRUE(h);
        element = adopt(gst_harness_find_element(h.get(), "ismrmrdsink"));
        bus = std::make_unique<BusWatch>(element.get());
    }
    void caps(const ImageInfo& info) { gst_harness_set_src_caps(h.get(), info.to_caps().release()); }
    void end() { gst_harness_push_event(h.get(), gst_event_new_eos()); }
    void TearDown() override { close(); }
    void close() {
        bus.reset();
        element.reset();
        h.reset();
    }
    std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
            names.push_back(entry.path().filename().string());
        return names;
    }

    Harness h;
    GstPtr<GstElement> element;
    std::unique_ptr<BusWatch> bus;
};

TEST_F(IsmrmrdSink, series_become_groups_that_the_reference_library_reads) {
    open();
    caps(image_info(SampleFormat::c64, 2, 6, 4, 3));
    gst_harness_push_event(h.get(), new_header_event(header_xml()).release());
    for (int i = 0; i < 3; ++i) {
        std::vector<cfloat> pixels;
        for (int k = 0; k < 48; ++k)
            pixels.emplace_back(static_cast<float>(k), static_cast<float>(i));
        auto buffer = buffer_of(pixels, i * 40 * GST_MSECOND, 40 * GST_MSECOND);
        Readout first, second;
        first.measurement_uid = 9;
        first.acquisition_time_stamp = static_cast<std::uint32_t>(5000 + i);
        first.physiology_time_stamp = {1, 2, 3};
        first.position = {1, 2, 3};
        first.read_dir = {1, 0, 0};
        first.phase_dir = {0, 1, 0};
        first.slice_dir = {0, 0, 1};
        first.slice = 4;
        first.phase = 5;
        first.repetition = static_cast<std::uint16_t>(i);
        add_readouts(buffer.get(), {first, second});
        if (i > 0)
            add_consistency(buffer.get(), {0.125, i > 1 ? 1.5 : 0.0});
        ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
    }
    caps(image_info(SampleFormat::f32, 1, 5, 3, 4));
    std::vector<float> pixels(15, 0.25F);
    pixels[14] = 7;
    ASSERT_EQ(gst_harness_push(h.get(), buffer_of(pixels, GST_SECOND).release()), GST_FLOW_OK);
    EXPECT_FALSE(std::filesystem::exists(path)) << "the name appeared before the end of the stream";
    end();
    EXPECT_TRUE(bus->errors().empty());
    EXPECT_EQ(names(), std::vector<std::string>{"images.h5"});
    close();

    ISMRMRD::Dataset dataset(path.c_str(), "dataset", false);
    std::string xml;
    dataset.readHeader(xml);
    EXPECT_EQ(xml, header_xml());
    ASSERT_EQ(dataset.getNumberOfImages("image_3"), 3U);
    ISMRMRD::Image<std::complex<float>> image;
    dataset.readImage("image_3", 2, image);
    EXPECT_EQ(image.getMatrixSizeX(), 6);
    EXPECT_EQ(image.getMatrixSizeY(), 4);
    EXPECT_EQ(image.getMatrixSizeZ(), 1);
    EXPECT_EQ(image.getNumberOfChannels(), 2);
    EXPECT_EQ(image(5, 3, 0, 1), cfloat(47, 2));
    EXPECT_EQ(image.getImageType(), ISMRMRD::ISMRMRD_IMTYPE_COMPLEX);
    EXPECT_EQ(image.getFieldOfViewX(), 320);
    EXPECT_EQ(image.getFieldOfViewY(), 240);
    EXPECT_EQ(image.getFieldOfViewZ(), 6) << "the thickness is the header's";
    EXPECT_EQ(image.getMeasurementUid(), 9U);
    EXPECT_EQ(image.getAcquisitionTimeStamp(), 5002U);
    EXPECT_EQ(image.getPhysiologyTimeStamp(1), 2U);
    EXPECT_EQ(image.getPositionZ(), 3);
    EXPECT_EQ(image.getReadDirectionX(), 1);
    EXPECT_EQ(image.getSliceDirectionZ(), 1);
    EXPECT_EQ(image.getSlice(), 4);
    EXPECT_EQ(image.getPhase(), 5);
    EXPECT_EQ(image.getRepetition(), 2);
    EXPECT_EQ(image.getImageIndex(), 2);
    EXPECT_EQ(image.getImageSeriesIndex(), 3);
    std::string attributes;
    image.getAttributeString(attributes);
    ISMRMRD::MetaContainer meta;
    ISMRMRD::deserialize(attributes.c_str(), meta);
    EXPECT_EQ(std::string(meta.as_str("DataRole")), "Image");
    EXPECT_EQ(meta.as_long("GstPts"), 80000000);
    EXPECT_EQ(meta.as_double("DataResidual"), 0.125);
    EXPECT_EQ(meta.as_double("DataResidualOverNoise"), 1.5);
    dataset.readImage("image_3", 1, image);
    image.getAttributeString(attributes);
    EXPECT_NE(attributes.find("DataResidual<"), std::string::npos);
    EXPECT_EQ(attributes.find("OverNoise"), std::string::npos) << "the noise is not known";
    dataset.readImage("image_3", 0, image);
    image.getAttributeString(attributes);
    EXPECT_EQ(attributes.find("DataResidual"), std::string::npos);

    ISMRMRD::Image<float> real;
    dataset.readImage("image_4", 0, real);
    EXPECT_EQ(real(4, 2, 0, 0), 7);
    EXPECT_EQ(real(3, 2, 0, 0), 0.25F);
    EXPECT_EQ(real.getImageType(), ISMRMRD::ISMRMRD_IMTYPE_MAGNITUDE);
    EXPECT_EQ(real.getAcquisitionTimeStamp(), 400U) << "one second in ticks of 2.5 ms";
}

/// While it lives, numbers have a comma, where the system has what German needs.
class German {
  public:
    explicit German(const std::string& folder) {
        const std::string command =
            "localedef -i de_DE -f UTF-8 '" + folder + "/de_DE.UTF-8' > '" + folder + "/log' 2>&1";
        if (std::system(command.c_str()) != 0) // NOLINT: its own folder
            return;
        g_setenv("LOCPATH", folder.c_str(), TRUE);
        there_ = std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr;
    }
    ~German() {
        g_unsetenv("LOCPATH");
        std::setlocale(LC_ALL, "");
    }
    bool there() const { return there_; }

  private:
    bool there_ = false;
};

TEST_F(IsmrmrdSink, numbers_have_a_point_in_any_language) {
    const std::string scan = folder.path("scan.h5");
    HeaderOptions header;
    header.encoded_width = header.width = header.height = header.encoded_height = header.lines = 16;
    header.encoded_fov = header.fov = 240.75F;
    {
        ISMRMRD::Dataset dataset(scan.c_str(), "dataset", true);
        dataset.writeHeader(header_xml(header));
        for (std::uint16_t line = 0; line < 16; ++line) {
            ISMRMRD::Acquisition acquisition(16, 1);
            acquisition.idx().kspace_encode_step_1 = line;
            acquisition.center_sample() = 8;
            if (line == 15)
                acquisition.setFlag(ISMRMRD::ISMRMRD_ACQ_LAST_IN_REPETITION);
            dataset.appendAcquisition(acquisition);
        }
    }
    const TempDir locales;
    std::vector<std::string> errors;
    {
        const German german(locales.path());
        if (!german.there())
            GTEST_SKIP() << "the locale de_DE cannot be had here (Debian's package locales has it)";
        ASSERT_EQ(std::to_string(0.5), "0,500000");
        errors = run_pipeline("ismrmrdsrc location=" + scan +
                              " ! mriframer ! mrigrid ! ismrmrdsink location=" + path)
                     .errors;
        EXPECT_TRUE(errors.empty()) << errors.front();
        errors = run_pipeline("mriphantomsrc num-buffers=20 width=32 height=32 ! mrisim spokes=5 tr=3.1 "
                              "! mriframer ! mrirecon ! ismrmrdsink location=" +
                              folder.path("simulated.h5"))
                     .errors;
        EXPECT_TRUE(errors.empty()) << errors.front();
        open("append=true");
        caps(image_info(SampleFormat::f32, 1, 5, 3, 1));
        auto buffer = buffer_of(std::vector<float>(15));
        add_consistency(buffer.get(), {0.125, 0});
        ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
        end();
        close();
    }
    ISMRMRD::Image<std::complex<float>> image;
    ISMRMRD::Dataset written(path.c_str(), "dataset", false);
    written.readImage("image_0", 0, image);
    EXPECT_EQ(image.getFieldOfViewX(), 240.75F);
    ISMRMRD::Image<float> marked;
    written.readImage("image_1", 0, marked);
    std::string text;
    marked.getAttributeString(text);
    EXPECT_NE(text.find("<name>DataResidual</name><value>0.125"), std::string::npos) << text;
    ISMRMRD::Dataset(folder.path("simulated.h5").c_str(), "dataset", false).readHeader(text);
    ISMRMRD::IsmrmrdHeader read;
    ISMRMRD::deserialize(text.c_str(), read);
    EXPECT_NEAR(read.sequenceParameters.get().TR.get().at(0), 3.1, 1e-4);
    EXPECT_EQ(text.find(','), std::string::npos) << text;
}

TEST_F(IsmrmrdSink, stopped_before_the_end_it_leaves_nothing_and_says_so) {
    open();
    caps(image_info(SampleFormat::f32, 1, 5, 3, 0));
    ASSERT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<float>(15)).release()), GST_FLOW_OK);
    gst_element_set_state(element.get(), GST_STATE_NULL);
    EXPECT_EQ(bus->warnings().size(), 1U);
    EXPECT_TRUE(names().empty());
}

TEST_F(IsmrmrdSink, a_second_run_replaces_the_first) {
    for (int run = 1; run <= 2; ++run) {
        open();
        caps(image_info(SampleFormat::f32, 1, 5, 3, 0));
        for (int i = 0; i < run; ++i)
            gst_harness_push(h.get(), buffer_of(std::vector<float>(15)).release());
        end();
        close();
        EXPECT_EQ(ISMRMRD::Dataset(path.c_str(), "dataset", false).getNumberOfImages("image_0"),
                  static_cast<unsigned>(run));
    }
    open("append=true");
    caps(image_info(SampleFormat::f32, 1, 5, 3, 0));
    gst_harness_push(h.get(), buffer_of(std::vector<float>(15)).release());
    end();
    close();
    EXPECT_EQ(ISMRMRD::Dataset(path.c_str(), "dataset", false).getNumberOfImages("image_0"), 3U);
}

TEST_F(IsmrmrdSink, an_empty_stream_gives_an_empty_file) {
    open();
    end();
    close();
    EXPECT_EQ(names(), std::vector<std::string>{"images.h5"});
}

TEST_F(IsmrmrdSink, what_cannot_be_written_is_one_error) {
    const std::string source = "appsrc num-buffers=0";
    auto result = run_pipeline(source + " ! ismrmrdsink");
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("location"), std::string::npos);

    result = run_pipeline(source + " ! ismrmrdsink location=" + folder.path("no/such/folder.h5"));
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("folder.h5"), std::string::npos) << result.errors[0];

    write_ismrmrd(path, header_xml(), {file_row(8, 1)});
    result = run_pipeline(source + " ! ismrmrdsink location=" + path);
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("readouts"), std::string::npos) << result.errors[0];
    EXPECT_EQ(names(), std::vector<std::string>{"images.h5"});
}

TEST_F(IsmrmrdSink, other_sizes_within_a_series_are_an_error) {
    open();
    caps(image_info(SampleFormat::f32, 1, 5, 3, 0));
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<float>(14)).release()), GST_FLOW_ERROR);
    EXPECT_EQ(bus->errors().size(), 1U);
    close();
    open();
    caps(image_info(SampleFormat::f32, 1, 5, 3, 0));
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<float>(15)).release()), GST_FLOW_OK);
    caps(image_info(SampleFormat::c64, 1, 5, 3, 0));
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(15)).release()), GST_FLOW_ERROR);
    const auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_NE(errors[0].find("series 0"), std::string::npos) << errors[0];
}

} // namespace
