// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/trajectory.hpp"
#include "plugins/source/ismrmrd/writer.hpp"
#include "tests/support/gst_test.hpp"
#include "tests/support/ismrmrd_files.hpp"

#include <ismrmrd/dataset.h>
#include <ismrmrd/meta.h>

#include <clocale>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sys/resource.h>

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

TEST_F(IsmrmrdSink, an_empty_stream_is_an_error_and_gives_no_file) {
    const auto result = run_pipeline("mriphantomsrc num-buffers=0 ! ismrmrdsink location=" + path);
    EXPECT_EQ(result.errors.size(), 1U);
    EXPECT_TRUE(names().empty());
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

// --- raw data ---

struct Scan {
    std::string xml;
    std::vector<ISMRMRD::Acquisition> rows;
};

Scan scan_of(const std::string& path) {
    Scan scan;
    ISMRMRD::Dataset dataset(path.c_str(), "dataset", false);
    dataset.readHeader(scan.xml);
    scan.rows.resize(dataset.getNumberOfAcquisitions());
    for (std::uint32_t i = 0; i < scan.rows.size(); ++i)
        dataset.readAcquisition(i, scan.rows[i]);
    return scan;
}

TEST_F(IsmrmrdSink, a_simulated_scan_becomes_raw_data) {
    // Spokes over a field of view that is encoded twice as wide.
    struct Sent {
        std::vector<cfloat> data;
        std::vector<float> kxy;
        Readout head;
    };
    std::vector<Sent> sent;
    const RunResult result = run_pipeline(
        "mriphantomsrc num-buffers=2 width=32 height=32 ! mrisim coils=3 spokes=5 oversampling=2 snr=20 "
        "! tee name=t ! queue ! ismrmrdsink location=" +
            path + " t. ! queue ! appsink name=out sync=false",
        60, [&](const std::string&, GstSample* sample) {
            GstBuffer* buffer = gst_sample_get_buffer(sample);
            sent.push_back({values_of<cfloat>(buffer), trajectory_of(buffer)->kxy, readouts_of(buffer)[0]});
        });
    ASSERT_TRUE(result.eos) << (result.errors.empty() ? "" : result.errors[0]);
    EXPECT_TRUE(result.warnings.empty());
    Scan scan = scan_of(path);
    ISMRMRD::IsmrmrdHeader header;
    ISMRMRD::deserialize(scan.xml.c_str(), header);
    ASSERT_EQ(header.encoding.size(), 1U);
    EXPECT_EQ(header.encoding[0].encodedSpace.matrixSize.x, 64);
    EXPECT_EQ(header.encoding[0].reconSpace.matrixSize.x, 32);
    ASSERT_EQ(scan.rows.size(), 10U);
    ASSERT_EQ(sent.size(), 10U);
    for (std::size_t i = 0; i < 10; ++i) {
        ISMRMRD::Acquisition& row = scan.rows[i];
        EXPECT_EQ(row.active_channels(), 3);
        EXPECT_EQ(row.number_of_samples(), 64);
        EXPECT_EQ(row.center_sample(), 32);
        EXPECT_EQ(row.scan_counter(), i);
        EXPECT_EQ(row.idx().repetition, i / 5);
        EXPECT_EQ(row.isFlagSet(ISMRMRD::ISMRMRD_ACQ_FIRST_IN_REPETITION), i % 5 == 0);
        EXPECT_EQ(row.isFlagSet(ISMRMRD::ISMRMRD_ACQ_LAST_IN_REPETITION), i % 5 == 4);
        EXPECT_EQ(row.acquisition_time_stamp(), sent[i].head.acquisition_time_stamp);
        EXPECT_GT(row.sample_time_us(), 0);
        ASSERT_EQ(row.getNumberOfDataElements(), sent[i].data.size());
        EXPECT_TRUE(std::equal(row.data_begin(), row.data_end(), sent[i].data.begin()));
        ASSERT_EQ(row.trajectory_dimensions(), 2);
        // Parts of the encoded matrix: 64 samples over twice the field of view are 32 cycles of it.
        for (std::size_t k = 0; k < sent[i].kxy.size(); ++k)
            ASSERT_NEAR(row.traj_begin()[k] * 32, sent[i].kxy[k], 1e-5);
        EXPECT_NEAR(std::hypot(row.traj_begin()[0], row.traj_begin()[1]), 0.5, 1e-6);
    }
}

TEST_F(IsmrmrdSink, a_recorded_scan_goes_through_bit_for_bit) {
    const std::string scan = folder.path("scan.h5");
    HeaderOptions options;
    options.type = ISMRMRD::TrajectoryType::RADIAL;
    options.encoded_width = options.encoded_height = options.width = options.height = 32;
    options.encoded_fov = options.fov = 300;
    std::vector<FileRow> rows;
    for (int i = 0; i < 70; ++i) {
        const bool noise = i < 2;
        rows.push_back(file_row(noise ? 20 : 32, 2, noise ? 0 : 2, 100.0F * static_cast<float>(i)));
        auto& head = rows.back().head;
        head.flags = noise ? flag::noise : i % 10 == 9 ? flag::last_in_repetition | flag::bit(40) : 0;
        head.measurement_uid = 77;
        head.scan_counter = static_cast<std::uint32_t>(i);
        head.acquisition_time_stamp = static_cast<std::uint32_t>(1000 + 2 * i);
        head.physiology_time_stamp[2] = static_cast<std::uint32_t>(i);
        head.available_channels = 8;
        head.channel_mask[0] = 0b11;
        head.sample_time_us = 2.5F;
        head.position[1] = -12.5F;
        head.read_dir[0] = head.phase_dir[1] = head.slice_dir[2] = 1;
        head.patient_table_position[2] = 4;
        head.idx.kspace_encode_step_1 = static_cast<std::uint16_t>(i % 10);
        head.idx.repetition = static_cast<std::uint16_t>(i / 10);
        head.idx.average = 0;
        head.idx.segment = 3;
        head.idx.user[6] = 9;
        head.user_int[5] = -i;
        head.user_float[4] = 0.5F;
        for (std::size_t k = 0; k < rows.back().trajectory.size();
             ++k) // +-0.5 at the edge of the encoded matrix
            rows.back().trajectory[k] = k % 2 ? 0 : (static_cast<float>(k / 2) - 16) / 32;
    }
    write_ismrmrd(scan, header_xml(options), rows);
    const RunResult result =
        run_pipeline("ismrmrdsrc noise=true location=" + scan + " ! ismrmrdsink location=" + path);
    ASSERT_TRUE(result.eos) << (result.errors.empty() ? "" : result.errors[0]);
    Scan read = scan_of(path);
    EXPECT_EQ(read.xml, header_xml(options));
    ASSERT_EQ(read.rows.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        ASSERT_EQ(std::memcmp(&rows[i].head, &read.rows[i].getHead(), sizeof rows[i].head), 0) << i;
        EXPECT_TRUE(std::equal(rows[i].data.begin(), rows[i].data.end(), read.rows[i].data_begin()));
        EXPECT_TRUE(
            std::equal(rows[i].trajectory.begin(), rows[i].trajectory.end(), read.rows[i].traj_begin()));
    }
}

TEST_F(IsmrmrdSink, positions_are_read_again_whatever_the_unit) {
    // A short radius and an oblong field of view: nobody could tell the unit from the positions.
    for (const char* unit : {"normalised", "encoded-cycles", "cycles", "radians", "per-metre"}) {
        KspaceInfo info;
        info.alignment = Alignment::readout;
        info.samples = 16;
        info.width = 48;
        info.height = 40;
        info.fov_x = 300;
        info.fov_y = 250;
        info.encoded_width = 96;
        info.encoded_height = 40;
        info.encoded_fov_x = 600;
        info.encoded_fov_y = 250;
        info.trajectory = Trajectory::arbitrary;
        TrajectoryData trajectory{1, 16, {}, {}};
        for (int i = 0; i < 16; ++i) {
            trajectory.kxy.push_back(0.37F * static_cast<float>(i - 8));
            trajectory.kxy.push_back(0.11F * static_cast<float>(i));
        }
        std::filesystem::remove(path);
        open(std::string("trajectory-unit=") + unit);
        gst_harness_set_src_caps(h.get(), info.to_caps().release());
        auto buffer = buffer_of(std::vector<cfloat>(16, {1, 2}), GST_SECOND);
        add_trajectory(buffer.get(), std::make_shared<TrajectoryData>(trajectory));
        ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
        end();
        EXPECT_TRUE(bus->errors().empty());
        close();
        EXPECT_EQ(scan_of(path).rows.at(0).acquisition_time_stamp(), 400U) << "one second in ticks of 2.5 ms";

        std::vector<float> read;
        const RunResult result =
            run_pipeline("ismrmrdsrc location=" + path + " ! appsink name=out sync=false", 60,
                         [&](const std::string&, GstSample* sample) {
                             read = trajectory_of(gst_sample_get_buffer(sample))->kxy;
                         });
        ASSERT_TRUE(result.errors.empty()) << result.errors[0];
        ASSERT_EQ(read.size(), trajectory.kxy.size());
        for (std::size_t k = 0; k < read.size(); ++k)
            EXPECT_NEAR(read[k], trajectory.kxy[k], 1.2e-7 * std::abs(trajectory.kxy[k])) << unit;
    }
}

TEST_F(IsmrmrdSink, frames_without_heads_get_counters_and_a_header) {
    KspaceInfo info;
    info.alignment = Alignment::frame;
    info.coils = 2;
    info.samples = 8;
    info.width = 8;
    info.height = 8;
    info.trajectory = Trajectory::cartesian;
    info.center_line = 4;
    open();
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
    const std::vector<int> lines{6, 0, 4};
    for (int frame = 0; frame < 2; ++frame) {
        std::vector<cfloat> data; // [coil][readout][sample]
        for (int i = 0; i < 48; ++i)
            data.emplace_back(static_cast<float>(i), static_cast<float>(frame));
        TrajectoryData trajectory{3, 8, {}, {}};
        for (const int line : lines)
            for (int x = 0; x < 8; ++x) {
                trajectory.kxy.push_back(static_cast<float>(x - 4));
                trajectory.kxy.push_back(static_cast<float>(line - 4));
            }
        auto buffer = buffer_of(data, frame * 30 * GST_MSECOND, 30 * GST_MSECOND);
        add_trajectory(buffer.get(), std::make_shared<TrajectoryData>(trajectory));
        ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
    }
    end();
    EXPECT_TRUE(bus->errors().empty());
    close();
    Scan scan = scan_of(path);
    ISMRMRD::IsmrmrdHeader header;
    ISMRMRD::deserialize(scan.xml.c_str(), header);
    EXPECT_EQ(header.encoding[0].trajectory, ISMRMRD::TrajectoryType::CARTESIAN);
    EXPECT_EQ(header.encoding[0].encodedSpace.matrixSize.y, 8);
    ASSERT_EQ(scan.rows.size(), 6U);
    for (std::size_t i = 0; i < 6; ++i) {
        ISMRMRD::Acquisition& row = scan.rows[i];
        EXPECT_EQ(row.idx().kspace_encode_step_1, lines[i % 3]);
        EXPECT_EQ(row.idx().repetition, i / 3);
        EXPECT_EQ(row.trajectory_dimensions(), 0) << "the counters say it";
        EXPECT_EQ(row.isFlagSet(ISMRMRD::ISMRMRD_ACQ_LAST_IN_REPETITION), i % 3 == 2);
        EXPECT_EQ(row.acquisition_time_stamp(), i * 4) << "10 ms a line";
        EXPECT_EQ(row.data(5, 1),
                  cfloat(static_cast<float>(24 + 8 * (i % 3) + 5), static_cast<float>(i / 3)));
    }
}

TEST_F(IsmrmrdSink, readouts_that_came_before_a_stop_are_a_file) {
    open();
    KspaceInfo info;
    info.samples = 8;
    info.width = info.height = 8;
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
    for (int i = 0; i < 3; ++i)
        ASSERT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(8)).release()), GST_FLOW_OK);
    EXPECT_FALSE(std::filesystem::exists(path));
    gst_element_set_state(element.get(), GST_STATE_NULL);
    const auto warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_NE(warnings[0].find("3 readouts"), std::string::npos) << warnings[0];
    EXPECT_EQ(names(), std::vector<std::string>{"images.h5"});
    EXPECT_EQ(scan_of(path).rows.size(), 3U);
}

TEST_F(IsmrmrdSink, a_header_of_another_scan_does_not_follow) {
    open();
    KspaceInfo info;
    info.samples = 64;
    info.width = info.height = 32;
    info.trajectory = Trajectory::cartesian;
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
    gst_harness_push_event(h.get(), new_header_event(header_xml()).release());
    ASSERT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(64)).release()), GST_FLOW_OK);
    gst_harness_push_event(h.get(), new_header_event(header_xml()).release());
    EXPECT_TRUE(bus->errors().empty()) << "the same one again";
    HeaderOptions other;
    other.fov = 200;
    gst_harness_push_event(h.get(), new_header_event(header_xml(other)).release());
    EXPECT_EQ(bus->errors().size(), 1U);
}

TEST_F(IsmrmrdSink, a_header_that_does_not_fit_the_stream_is_an_error) {
    open();
    KspaceInfo info;
    info.samples = 64;
    info.width = info.height = 48;
    gst_harness_set_src_caps(h.get(), info.to_caps().release());
    gst_harness_push_event(h.get(), new_header_event(header_xml()).release()); // of 32 x 32 pixels
    auto buffer = buffer_of(std::vector<cfloat>(64));
    add_trajectory(buffer.get(),
                   std::make_shared<TrajectoryData>(TrajectoryData{1, 64, std::vector<float>(128), {}}));
    EXPECT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_ERROR);
    const auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_NE(errors[0].find("48 x 48"), std::string::npos) << errors[0];
}

TEST_F(IsmrmrdSink, the_next_run_recovers_a_recording) {
    std::vector<FileRow> rows{file_row(8, 1), file_row(8, 1, 0, 7)};
    {
        IsmrmrdWriter killed({.path = path});
        killed.set_xml(header_xml());
        for (const FileRow& row : rows)
            killed.add(row.head, row.trajectory, row.data);
    }
    open();
    const auto warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 0U) << "the harness starts before anybody listens";
    end();
    close();
    EXPECT_EQ(scan_of(folder.path("images-recovered.h5")).rows.size(), 2U);

    {
        IsmrmrdWriter killed({.path = path});
        killed.add(rows[0].head, rows[0].trajectory, rows[0].data);
    }
    const RunResult result = run_pipeline("mriphantomsrc num-buffers=1 ! ismrmrdsink location=" + path);
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("images-recovered-2.h5"), std::string::npos) << result.warnings[0];
}

/// While it lives, files have no more bytes than a full disk would take.
class FullDisk {
  public:
    explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit now{bytes, before_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &now);
    }
    ~FullDisk() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

  private:
    rlimit before_{};
    void (*handler_)(int);
};

TEST_F(IsmrmrdSink, a_full_disk_is_one_error_and_leaves_no_half_file) {
    const auto errors_of_sink = [](const RunResult& result) {
        return std::count_if(result.errors.begin(), result.errors.end(),
                             [](const std::string& text) { return text.starts_with("ismrmrdsink"); });
    };
    {
        const FullDisk full(200000);
        const RunResult result =
            run_pipeline("mriphantomsrc num-buffers=40 width=64 height=64 ! ismrmrdsink location=" + path);
        EXPECT_EQ(errors_of_sink(result), 1) << (result.errors.empty() ? "" : result.errors[0]);
        EXPECT_TRUE(names().empty());
    }
    {
        const FullDisk full(200000);
        const RunResult result = run_pipeline(
            "mriphantomsrc num-buffers=40 width=64 height=64 ! mrisim coils=4 ! ismrmrdsink location=" +
            path);
        EXPECT_EQ(errors_of_sink(result), 1) << (result.errors.empty() ? "" : result.errors[0]);
        EXPECT_EQ(names(), std::vector<std::string>{"images.h5.recording"});
    }
    const auto recovered = recover_recording(path);
    ASSERT_TRUE(recovered);
    EXPECT_GT(recovered->readouts, 50U); // of 2 kB each
    EXPECT_EQ(scan_of(path).rows.size(), recovered->readouts);
}

// --- images ---

TEST_F(IsmrmrdSink, receivers_get_magnitudes_in_integers_with_scale_and_window) {
    open("image-type=magnitude data-type=int16 position-convention=first-voxel");
    ImageInfo info = image_info(SampleFormat::c64, 1, 4, 3, 0);
    caps(info);
    std::vector<cfloat> pixels(12, {0.3F, 0.4F});
    pixels[5] = {0, -2};
    auto buffer = buffer_of(pixels, 0);
    Readout facts;
    facts.position = {10, 20, 30};
    facts.read_dir = {0, 1, 0};
    facts.phase_dir = {0, 0, -1};
    facts.slice_dir = {1, 0, 0};
    facts.average = 1;
    facts.contrast = 2;
    facts.set = 3;
    add_readouts(buffer.get(), {facts});
    ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
    end();
    EXPECT_TRUE(bus->errors().empty());
    close();
    ISMRMRD::Dataset dataset(path.c_str(), "dataset", false);
    ISMRMRD::Image<std::int16_t> image;
    dataset.readImage("image_0", 0, image);
    EXPECT_EQ(image.getDataType(), ISMRMRD::ISMRMRD_SHORT);
    EXPECT_EQ(image.getImageType(), ISMRMRD::ISMRMRD_IMTYPE_MAGNITUDE);
    EXPECT_EQ(image.getAverage(), 1);
    EXPECT_EQ(image.getContrast(), 2);
    EXPECT_EQ(image.getSet(), 3);
    // 320 x 240 mm in 4 x 3 pixels: the first one is two pixels of 80 mm and one of 80 mm from the centre.
    EXPECT_FLOAT_EQ(image.getPositionX(), 10);
    EXPECT_FLOAT_EQ(image.getPositionY(), 20 - 160);
    EXPECT_FLOAT_EQ(image.getPositionZ(), 30 + 80);
    std::string text;
    image.getAttributeString(text);
    ISMRMRD::MetaContainer meta;
    ISMRMRD::deserialize(text.c_str(), meta);
    const double slope = meta.as_double("RescaleSlope");
    EXPECT_NEAR(image(1, 1, 0, 0) * slope + meta.as_double("RescaleIntercept"), 2, slope);
    EXPECT_NEAR(image(0, 0, 0, 0) * slope, 0.5, slope);
    EXPECT_GT(meta.as_double("WindowWidth") * slope, 0.5);
    EXPECT_LE(meta.as_double("WindowWidth") * slope, 2);
    EXPECT_NEAR(meta.as_double("WindowCenter") * 2, meta.as_double("WindowWidth"), 1e-6);
    EXPECT_EQ(meta.length("ImageRowDir"), 3U);
    EXPECT_EQ(meta.as_double("ImageRowDir", 1), 1);
    EXPECT_EQ(meta.as_double("ImageColumnDir", 2), -1);
    EXPECT_EQ(meta.as_long("Keep_image_geometry"), 1);
    EXPECT_EQ(std::string(meta.as_str("ImageType")), "DERIVED\\PRIMARY\\M");
    EXPECT_NE(std::string(meta.as_str("ImageComments")).find("not for diagnosis"), std::string::npos);
}

TEST_F(IsmrmrdSink, images_brighter_than_the_scale_are_a_warning) {
    open("data-type=int16");
    caps(image_info(SampleFormat::f32, 1, 2, 1, 0));
    for (const float value : {1.0F, 1.9F, 2.5F, 3.0F})
        ASSERT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<float>{value, 0}).release()), GST_FLOW_OK);
    end();
    const auto warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_NE(warnings[0].find("data-type=float"), std::string::npos) << warnings[0];
    close();
    ISMRMRD::Image<std::int16_t> image;
    ISMRMRD::Dataset(path.c_str(), "dataset", false).readImage("image_0", 2, image);
    EXPECT_EQ(image(0, 0, 0, 0), 32767);
}

TEST_F(IsmrmrdSink, parts_that_images_do_not_have_are_refused) {
    for (const char* properties : {"image-type=phase", "image-type=imaginary"}) {
        open(properties);
        caps(image_info(SampleFormat::f32, 1, 2, 1, 0));
        gst_harness_push(h.get(), buffer_of(std::vector<float>(2)).release());
        EXPECT_EQ(bus->errors().size(), 1U) << properties;
        close();
    }
    open("data-type=int16");
    caps(image_info(SampleFormat::c64, 1, 2, 1, 0));
    gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(2)).release());
    const auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_NE(errors[0].find("image-type=magnitude"), std::string::npos) << errors[0];
}

} // namespace
