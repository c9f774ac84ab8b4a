// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/gst_test.hpp"
#include "tests/support/ismrmrd_files.hpp"

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>

namespace {

using namespace mri;
using namespace mri::test;

struct Item {
    KspaceInfo caps;
    GstClockTime pts, duration;
    std::vector<cfloat> data;
    Readout head;
    TrajectoryData trajectory;
};

class IsmrmrdSrc : public ::testing::Test {
  protected:
    TempDir folder;
    std::string path = folder.path("scan.h5");
    std::vector<Item> items;
    std::string xml;

    RunResult run(const std::string& properties = "", double seconds = 60) {
        items.clear();
        return run_pipeline("ismrmrdsrc location=" + path + " " + properties +
                                " ! appsink name=out sync=false",
                            seconds, [this](const std::string&, GstSample* sample) { take(sample); });
    }

    void take(GstSample* sample) {
        GstBuffer* buffer = gst_sample_get_buffer(sample);
        Item item;
        item.caps = KspaceInfo::from_caps(gst_sample_get_caps(sample));
        item.pts = GST_BUFFER_PTS(buffer);
        item.duration = GST_BUFFER_DURATION(buffer);
        item.data = values_of<cfloat>(buffer);
        const auto heads = readouts_of(buffer);
        ASSERT_EQ(heads.size(), 1U);
        item.head = heads[0];
        const auto trajectory = trajectory_of(buffer);
        ASSERT_TRUE(trajectory);
        item.trajectory = *trajectory;
        items.push_back(std::move(item));
    }

    /// Cartesian lines, oversampled twice, the rows told apart by their data.
    static std::vector<FileRow> lines(int count, int samples = 64, int coils = 2) {
        std::vector<FileRow> rows;
        for (int i = 0; i < count; ++i) {
            rows.push_back(file_row(samples, coils, 0, 1000.0F * static_cast<float>(i)));
            rows.back().head.idx.kspace_encode_step_1 = static_cast<std::uint16_t>(i % 32);
            rows.back().head.scan_counter = static_cast<std::uint32_t>(i);
        }
        return rows;
    }

    /// The one error that running the file must end with.
    std::string error_of(const std::string& properties = "") {
        const RunResult result = run(properties);
        EXPECT_EQ(result.errors.size(), 1U) << (result.errors.size() > 1 ? result.errors[1] : "");
        return result.errors.empty() ? "" : result.errors[0];
    }
};

TEST_F(IsmrmrdSrc, sends_every_readout_with_its_facts) {
    auto rows = lines(300);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        auto& head = rows[i].head;
        head.flags = i % 32 == 31 ? flag::last_in_repetition : 0;
        head.measurement_uid = 77;
        head.physiology_time_stamp[2] = static_cast<std::uint32_t>(i);
        head.sample_time_us = 5;
        head.position[2] = 12.5F;
        head.read_dir[0] = head.phase_dir[1] = head.slice_dir[2] = 1;
        head.patient_table_position[1] = -3;
        head.idx.average = 1;
        head.idx.contrast = 2;
        head.idx.phase = 3;
        head.idx.repetition = static_cast<std::uint16_t>(i / 32);
        head.idx.set = 5;
        head.idx.segment = 6;
        head.idx.user[7] = 8;
    }
    write_ismrmrd(path, header_xml(), rows);
    const RunResult result = run();
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty());
    ASSERT_EQ(items.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const Item& item = items[i];
        const auto& head = rows[i].head;
        ASSERT_EQ(item.data, rows[i].data);
        ASSERT_EQ(item.head.flags, head.flags);
        ASSERT_EQ(item.head.scan_counter, i);
        ASSERT_EQ(item.head.physiology_time_stamp[2], i);
        ASSERT_EQ(item.head.kspace_encode_step_1, i % 32);
        ASSERT_EQ(item.head.repetition, i / 32);
        ASSERT_EQ(item.head.angle_index, -1);
    }
    const Item& item = items[40];
    EXPECT_EQ(item.caps.alignment, Alignment::readout);
    EXPECT_EQ(item.caps.trajectory, Trajectory::cartesian);
    EXPECT_EQ(item.caps.coils, 2);
    EXPECT_EQ(item.caps.samples, 64);
    EXPECT_EQ(item.caps.width, 32);
    EXPECT_EQ(item.caps.height, 32);
    EXPECT_EQ(item.caps.fov_x, 300);
    EXPECT_EQ(item.caps.encoded_width, 64);
    EXPECT_EQ(item.caps.encoded_fov_x, 600);
    EXPECT_EQ(item.caps.center_line, 16);
    EXPECT_EQ(item.caps.series, 0);
    EXPECT_EQ(item.head.measurement_uid, 77U);
    EXPECT_EQ(item.head.center_sample, 32);
    EXPECT_EQ(item.head.sample_time_us, 5);
    EXPECT_EQ(item.head.position[2], 12.5F);
    EXPECT_EQ(item.head.slice_dir[2], 1);
    EXPECT_EQ(item.head.patient_table_position[1], -3);
    EXPECT_EQ(item.head.average + 10 * item.head.contrast + 100 * item.head.phase, 321);
    EXPECT_EQ(item.head.set, 5);
    EXPECT_EQ(item.head.segment, 6);
    EXPECT_EQ(item.head.user[7], 8);
    // Line 8 of 32, samples half a cycle apart.
    EXPECT_EQ(item.trajectory.kxy[0], -16);
    EXPECT_EQ(item.trajectory.kxy[1], -8);
    EXPECT_EQ(item.trajectory.kxy[2 * 33], 0.5F);
    // Without time stamps: TR times the count.
    EXPECT_EQ(item.pts, 40 * 3 * GST_MSECOND);
    EXPECT_EQ(item.duration, 3 * GST_MSECOND);
}

TEST_F(IsmrmrdSrc, noise_readouts_go_out_when_asked_for_and_leave_series_and_times_alone) {
    auto rows = lines(6);
    for (const std::size_t at : {0, 1, 4}) {
        rows[at] = file_row(256, 2, 0, 50.0F);
        rows[at].head.flags = flag::noise;
        rows[at].head.discard_pre = 6;
        rows[at].head.sample_time_us = 2.5F;
    }
    write_ismrmrd(path, header_xml(), rows);
    ASSERT_TRUE(run().errors.empty());
    const auto without = items;
    ASSERT_EQ(without.size(), 3U);

    items.clear();
    std::vector<std::size_t> noise_at;
    std::size_t count = 0;
    const auto result =
        run_pipeline("ismrmrdsrc noise=true location=" + path + " ! appsink name=out sync=false", 60,
                     [&](const std::string&, GstSample* sample) {
                         GstBuffer* buffer = gst_sample_get_buffer(sample);
                         const auto heads = readouts_of(buffer);
                         ASSERT_EQ(heads.size(), 1U);
                         if (heads[0].flags & flag::noise) {
                             noise_at.push_back(count);
                             const auto caps = KspaceInfo::from_caps(gst_sample_get_caps(sample));
                             EXPECT_EQ(caps.samples, 250);
                             EXPECT_EQ(caps.series, 0);
                             EXPECT_EQ(heads[0].sample_time_us, 2.5F);
                             EXPECT_FALSE(GST_BUFFER_PTS_IS_VALID(buffer));
                             const auto values = values_of<cfloat>(buffer);
                             ASSERT_EQ(values.size(), 500U);
                             EXPECT_EQ(values[0], rows[0].data[6]);
                             EXPECT_EQ(values[250], rows[0].data[262]);
                         } else {
                             take(sample);
                         }
                         ++count;
                     });
    EXPECT_TRUE(result.eos);
    EXPECT_EQ(noise_at, (std::vector<std::size_t>{0, 1, 4}));
    ASSERT_EQ(items.size(), without.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
        EXPECT_EQ(items[i].caps, without[i].caps);
        EXPECT_EQ(items[i].pts, without[i].pts);
        EXPECT_EQ(items[i].data, without[i].data);
    }
}

TEST_F(IsmrmrdSrc, a_noise_scan_in_a_file_of_its_own_goes_out_first) {
    write_ismrmrd(path, header_xml(), lines(3));
    // Its header describes no image: a matrix of another size, which must not show.
    HeaderOptions other;
    other.encoded_width = other.width = 128;
    auto rows = lines(4, 100);
    for (const std::size_t at : {1, 3})
        rows[at].head.flags = flag::noise;
    write_ismrmrd(folder.path("noise.h5"), header_xml(other), rows);
    std::vector<bool> noise;
    const auto result =
        run_pipeline("ismrmrdsrc location=" + path + " noise-location=" + folder.path("noise.h5") +
                         " ! appsink name=out sync=false",
                     60, [&](const std::string&, GstSample* sample) {
                         const auto heads = readouts_of(gst_sample_get_buffer(sample));
                         const auto caps = KspaceInfo::from_caps(gst_sample_get_caps(sample));
                         noise.push_back(heads[0].flags & flag::noise);
                         EXPECT_EQ(caps.samples, noise.back() ? 100 : 64);
                         EXPECT_EQ(caps.width, 32);
                         EXPECT_EQ(caps.series, 0);
                     });
    EXPECT_TRUE(result.eos);
    EXPECT_EQ(noise, (std::vector<bool>{true, true, false, false, false}));
    EXPECT_NE(error_of("noise-location=" + path).find("no noise readouts"), std::string::npos);
    EXPECT_NE(error_of("noise-location=" + folder.path("none.h5")).find("none.h5"), std::string::npos);
}

TEST_F(IsmrmrdSrc, the_header_travels_as_a_sticky_event) {
    write_ismrmrd(path, header_xml(), lines(4));
    Harness h(gst_harness_new_parse(("ismrmrdsrc location=" + path).c_str()));
    gst_harness_play(h.get());
    const auto buffer = adopt(gst_harness_pull(h.get()));
    EXPECT_TRUE(buffer);
    EXPECT_EQ(header_of(h->sinkpad), header_xml());
}

TEST_F(IsmrmrdSrc, a_header_of_another_writer_travels_in_utf_8) {
    std::string xml = header_xml();
    for (std::string::size_type at = 0; (at = xml.find('<', at)) != std::string::npos; ++at)
        if (xml[at + 1] != '?' && xml[at + 1] != '!')
            xml.insert(at + (xml[at + 1] == '/' ? 2 : 1), "m:");
    xml.replace(xml.find("xmlns="), 6, "xmlns:m=");
    xml.replace(0, xml.find("?>"), "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"");
    xml.insert(xml.find("<m:encoding>"), "<!-- M\xFCnchen -->");
    write_ismrmrd(path, xml, lines(4));
    Harness h(gst_harness_new_parse(("ismrmrdsrc location=" + path).c_str()));
    gst_harness_play(h.get());
    const auto buffer = adopt(gst_harness_pull(h.get()));
    EXPECT_TRUE(buffer);
    EXPECT_NE(header_of(h->sinkpad).find("M\xC3\xBCnchen"), std::string::npos) << header_of(h->sinkpad);
}

TEST_F(IsmrmrdSrc, start_stop_and_group_choose_rows) {
    write_ismrmrd(path, header_xml(), lines(50), "scans");
    EXPECT_TRUE(run("group=scans start=7 stop=23").eos);
    ASSERT_EQ(items.size(), 16U);
    EXPECT_EQ(items.front().head.scan_counter, 7U);
    EXPECT_EQ(items.back().head.scan_counter, 22U);
    EXPECT_NE(error_of("group=scans start=50").find("no rows"), std::string::npos);
}

TEST_F(IsmrmrdSrc, what_is_no_image_data_is_left_out) {
    auto rows = lines(12);
    rows[0] = file_row(256, 2); // noise, of another length
    rows[0].head.flags = flag::noise;
    rows[1].head.flags = flag::parallel_calibration | flag::navigation;
    rows[2].head.flags = flag::parallel_calibration | flag::parallel_calibration_and_imaging;
    rows[3].head.flags = flag::navigation;
    rows[4].head.flags = flag::phase_correction;
    rows[5].head.flags = flag::dummy;
    rows[6].head.flags = flag::rt_feedback;
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 6U);
    EXPECT_EQ(items[0].head.scan_counter, 2U);
    EXPECT_EQ(items[1].head.scan_counter, 7U);
    EXPECT_EQ(items[5].caps.series, 0);

    for (auto& row : rows)
        row.head.flags = flag::noise;
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_NE(error_of().find("none of 12"), std::string::npos);
}

TEST_F(IsmrmrdSrc, calibration_alone_goes_out_without_a_time_and_leaves_series_and_times_alone) {
    auto rows = lines(6);
    write_ismrmrd(path, header_xml(), {rows[2], rows[3], rows[5]});
    ASSERT_TRUE(run().errors.empty());
    const auto without = items;
    rows[0] = file_row(32, 2, 0, 7.0F); // a reference scan of another length
    rows[0].head.idx.kspace_encode_step_1 = 9;
    rows[1].head.discard_pre = 4;
    rows[1].head.idx.slice = 3;
    for (const std::size_t at : {0, 1, 4})
        rows[at].head.flags = flag::parallel_calibration;
    write_ismrmrd(path, header_xml(), rows);
    const RunResult result = run();
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.warnings.empty());
    ASSERT_EQ(items.size(), 6U);
    EXPECT_EQ(items[0].caps.samples, 32);
    EXPECT_EQ(items[0].data, rows[0].data);
    EXPECT_EQ(items[0].head.flags, std::uint64_t{flag::parallel_calibration});
    EXPECT_EQ(items[0].trajectory.kxy[1], -7); // line 9, the centre is 16
    EXPECT_EQ(items[1].caps.samples, 60);
    EXPECT_EQ(items[1].head.slice, 3);
    for (const std::size_t at : {0, 1, 4}) {
        EXPECT_EQ(items[at].caps.series, 0);
        EXPECT_FALSE(GST_CLOCK_TIME_IS_VALID(items[at].pts));
        EXPECT_FALSE(GST_CLOCK_TIME_IS_VALID(items[at].duration));
    }
    std::size_t n = 0;
    for (const std::size_t at : {2, 3, 5}) {
        EXPECT_EQ(items[at].caps, without[n].caps);
        EXPECT_EQ(items[at].pts, without[n].pts);
        EXPECT_EQ(items[at].data, without[n].data);
        ++n;
    }
}

TEST_F(IsmrmrdSrc, calibration_without_positions_is_left_out_with_one_warning) {
    auto rows = lines(5);
    for (const std::size_t at : {1, 3}) {
        rows[at].head.flags = flag::parallel_calibration;
        rows[at].head.encoding_space_ref = 1; // the header has one encoding
    }
    write_ismrmrd(path, header_xml(), rows);
    const RunResult result = run();
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("Calibration"), std::string::npos) << result.warnings[0];
    EXPECT_EQ(items.size(), 3U);
}

TEST_F(IsmrmrdSrc, samples_to_discard_are_cut_off) {
    auto rows = lines(2);
    for (auto& row : rows) {
        row.head.discard_pre = 4;
        row.head.discard_post = 10;
    }
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 2U);
    EXPECT_EQ(items[1].caps.samples, 50);
    EXPECT_EQ(items[1].data[0], rows[1].data[4]);
    EXPECT_EQ(items[1].data[49], rows[1].data[53]);
    EXPECT_EQ(items[1].data[50], rows[1].data[64 + 4]);
    EXPECT_EQ(items[1].head.center_sample, 28);
    EXPECT_EQ(items[1].head.discard_pre, 0);
    EXPECT_EQ(items[1].trajectory.kxy[0], -14);
    EXPECT_EQ(items[1].trajectory.kxy[2 * 28], 0);

    rows[1].head.discard_post = 60;
    write_ismrmrd(path, header_xml(), rows);
    const std::string error = error_of();
    EXPECT_NE(error.find("row 1:"), std::string::npos) << error;
    EXPECT_EQ(items.size(), 1U);
}

TEST_F(IsmrmrdSrc, reversed_lines_are_turned_round) {
    auto rows = lines(2);
    rows[1].head.flags = flag::reverse;
    rows[1].head.discard_pre = 3;
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 2U);
    EXPECT_EQ(items[1].data[0], rows[1].data[63]);
    EXPECT_EQ(items[1].data[60], rows[1].data[3]);
    EXPECT_EQ(items[1].data[61], rows[1].data[127]);
    EXPECT_EQ(items[1].head.flags & flag::reverse, 0U);
    // The first sample that was taken belongs to the last position: what is cut lies behind it now.
    EXPECT_EQ(items[1].trajectory.kxy[0], -16);
    EXPECT_EQ(items[1].trajectory.kxy[2 * 60], 14);
}

TEST_F(IsmrmrdSrc, other_sizes_or_another_plane_begin_a_series) {
    auto rows = lines(12, 64, 2);
    for (int i = 3; i < 6; ++i)
        rows[static_cast<std::size_t>(i)] = file_row(64, 3);
    for (int i = 6; i < 12; ++i)
        rows[static_cast<std::size_t>(i)].head.position[2] = i < 9 ? 10 : 20;
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 12U);
    for (int i = 0; i < 12; ++i) {
        EXPECT_EQ(items[static_cast<std::size_t>(i)].caps.series, i / 3);
        EXPECT_EQ(items[static_cast<std::size_t>(i)].caps.coils, i / 3 == 1 ? 3 : 2);
    }
}

TEST_F(IsmrmrdSrc, series_that_take_turns_within_a_frame_are_refused) {
    auto rows = lines(6);
    for (std::size_t i = 1; i < rows.size(); i += 2) {
        rows[i] = file_row(48, 2);
        rows[i].head.idx.contrast = 1;
    }
    write_ismrmrd(path, header_xml(), rows);
    const std::string lengths = error_of();
    EXPECT_NE(lengths.find("row 2: readouts of 48 and 64 samples take turns"), std::string::npos) << lengths;
    EXPECT_EQ(items.size(), 2U);

    rows = lines(6);
    for (std::size_t i = 0; i < rows.size(); ++i)
        rows[i].head.position[2] = i % 3 * 10.0F;
    write_ismrmrd(path, header_xml(), rows);
    const std::string planes = error_of();
    EXPECT_NE(planes.find("row 3: planes of different positions that are all slice 0"), std::string::npos)
        << planes;
}

TEST_F(IsmrmrdSrc, a_series_comes_back_with_another_frame_and_a_plane_after_a_stay) {
    auto rows = lines(12);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (i / 3 % 2 == 1)
            rows[i] = file_row(48, 2);
        rows[i].head.idx.repetition = static_cast<std::uint16_t>(i / 6);
    }
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 12U);
    EXPECT_EQ(items[11].caps.series, 3);

    rows = lines(60);
    for (std::size_t i = 20; i < 40; ++i)
        rows[i].head.position[2] = 10;
    write_ismrmrd(path, header_xml(), rows);
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 60U);
    EXPECT_EQ(items[59].caps.series, 2);
}

TEST_F(IsmrmrdSrc, calibration_of_a_moved_plane_is_told_and_that_of_a_volume_left_out) {
    auto rows = lines(6);
    rows[3].head.flags = flag::parallel_calibration;
    for (std::size_t i = 3; i < rows.size(); ++i)
        rows[i].head.position[2] = 10;
    write_ismrmrd(path, header_xml(), rows);
    RunResult result = run();
    EXPECT_TRUE(result.eos);
    EXPECT_EQ(items.size(), 6U);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("row 3: calibration readouts have another plane"), std::string::npos)
        << result.warnings[0];

    rows = lines(6);
    rows[3].head.flags = flag::parallel_calibration;
    rows[3].head.idx.kspace_encode_step_2 = 1;
    write_ismrmrd(path, header_xml(), rows);
    result = run();
    EXPECT_TRUE(result.eos);
    EXPECT_EQ(items.size(), 5U);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("Calibration readouts are left out"), std::string::npos)
        << result.warnings[0];
}

std::vector<FileRow> spokes(int count, double edge, int dimensions = 2) {
    std::vector<FileRow> rows;
    for (int i = 0; i < count; ++i) {
        FileRow row = file_row(64, 1, dimensions);
        const double angle = 0.1 * i;
        for (int k = 0; k < 64; ++k) {
            const double r = (k - 32) / 32.0 * edge;
            float* at = &row.trajectory[static_cast<std::size_t>(k * dimensions)];
            at[0] = static_cast<float>(r * std::cos(angle));
            at[1] = static_cast<float>(r * std::sin(angle));
            if (dimensions == 3)
                at[2] = static_cast<float>(std::abs(r));
        }
        rows.push_back(row);
    }
    return rows;
}

HeaderOptions radial_header() {
    HeaderOptions options;
    options.encoded_height = 64;
    options.type = ISMRMRD::TrajectoryType::RADIAL;
    return options;
}

TEST_F(IsmrmrdSrc, trajectories_of_every_unit_come_out_alike) {
    // Encoded matrix 64 over 600 x 300 mm, as two-fold oversampling along x only: the edge is 16 cycles along
    // x.
    struct Case {
        double edge;
        const char* properties;
    };
    const double pi = 3.14159265358979;
    std::string xml = header_xml(radial_header());
    // A square encoded field of view, so that spokes stay straight.
    for (std::size_t at;
         (at = xml.find("<y>300.000000</y>")) != std::string::npos && at < xml.find("reconSpace");)
        xml.replace(at, 17, "<y>600.000000</y>");
    for (const Case& c :
         {Case{0.5, ""}, Case{32, ""}, Case{16, ""}, Case{32, "trajectory-unit=encoded-cycles"},
          Case{pi, "trajectory-unit=radians"}, Case{16 / 0.3, "trajectory-unit=per-metre"}}) {
        write_ismrmrd(path, xml, spokes(20, c.edge));
        const RunResult result = run(c.properties);
        ASSERT_TRUE(result.eos) << c.edge << (result.errors.empty() ? "" : result.errors[0]);
        ASSERT_EQ(items.size(), 20U);
        for (int i = 0; i < 20; ++i) {
            const Item& item = items[static_cast<std::size_t>(i)];
            EXPECT_EQ(item.caps.trajectory, Trajectory::radial);
            EXPECT_EQ(item.head.angle_index, i);
            // float32 of the file and of the result, each within 2^-24 of 16.
            EXPECT_NEAR(item.trajectory.kxy[0], -16 * std::cos(0.1 * i), 4e-6);
            EXPECT_NEAR(item.trajectory.kxy[1], -16 * std::sin(0.1 * i), 4e-6);
        }
    }
}

TEST_F(IsmrmrdSrc, an_unclear_unit_asks_for_the_property) {
    write_ismrmrd(path, header_xml(radial_header()), spokes(20, 3.14));
    const std::string error = error_of();
    EXPECT_NE(error.find("trajectory-unit"), std::string::npos) << error;
}

TEST_F(IsmrmrdSrc, a_third_dimension_of_a_slice_is_its_density) {
    write_ismrmrd(path, header_xml(radial_header()), spokes(3, 0.5, 3));
    EXPECT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 3U);
    ASSERT_EQ(items[1].trajectory.density.size(), 64U);
    EXPECT_EQ(items[1].trajectory.density[0], 0.5F);
    EXPECT_EQ(items[1].trajectory.density[32], 0);
}

TEST_F(IsmrmrdSrc, a_slice_may_be_encoded_with_z_2_and_have_a_kz_of_zero) {
    auto rows = spokes(3, 0.5, 3);
    for (auto& row : rows)
        for (std::size_t k = 2; k < row.trajectory.size(); k += 3)
            row.trajectory[k] = 0;
    std::string xml = header_xml(radial_header());
    xml.replace(xml.find("<z>1</z>"), 8, "<z>2</z>");
    write_ismrmrd(path, xml, rows);
    const RunResult result = run();
    EXPECT_TRUE(result.eos) << (result.errors.empty() ? "" : result.errors[0]);
    EXPECT_TRUE(result.warnings.empty()) << result.warnings[0];
    ASSERT_EQ(items.size(), 3U);
    EXPECT_TRUE(items[1].trajectory.density.empty());
}

TEST_F(IsmrmrdSrc, readings_of_a_header_are_told_once) {
    std::string xml = header_xml();
    xml.replace(xml.find("<x>64</x>"), 9, "<x>63.9996</x>");
    write_ismrmrd(path, xml, lines(40));
    const RunResult result = run();
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("scan.h5"), std::string::npos) << result.warnings[0];
    EXPECT_NE(result.warnings[0].find("encodedSpace/matrixSize/x"), std::string::npos) << result.warnings[0];
    EXPECT_NE(result.warnings[0].find("63.9996, read as 64"), std::string::npos) << result.warnings[0];
    EXPECT_EQ(items.at(0).caps.encoded_width, 64);
}

TEST_F(IsmrmrdSrc, a_unit_that_was_chosen_is_told) {
    HeaderOptions options = radial_header();
    options.encoded_height = 32;
    std::string xml = header_xml(options);
    write_ismrmrd(path, xml, spokes(40, 16));
    const RunResult result = run();
    EXPECT_TRUE(result.eos);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_NE(result.warnings[0].find("trajectory-unit"), std::string::npos) << result.warnings[0];
    ASSERT_EQ(items.size(), 40U);
    EXPECT_EQ(items[0].trajectory.kxy[0], -16);
    EXPECT_TRUE(run("trajectory-unit=encoded-cycles").warnings.empty());
    EXPECT_EQ(items[0].trajectory.kxy[0], -8);
}

TEST_F(IsmrmrdSrc, missing_trajectories_are_computed) {
    HeaderOptions options = radial_header();
    options.type = ISMRMRD::TrajectoryType::GOLDENANGLE;
    write_ismrmrd(path, header_xml(options), lines(40, 64, 1));
    // Golden: pi / 1.618...; tiny golden of N = 7: pi / (1.618... + 6) (Wundrak et al., MRM 2016).
    const double phi = (1 + std::sqrt(5.0)) / 2, pi = 3.14159265358979;
    const auto expect = [&](const char* properties, double step) {
        ASSERT_TRUE(run(properties).eos);
        ASSERT_EQ(items.size(), 40U);
        for (int i = 0; i < 40; ++i) {
            const auto& kxy = items[static_cast<std::size_t>(i)].trajectory.kxy;
            // cos(40 * step) loses some 1e-14, the result is float32 of 16.
            EXPECT_NEAR(kxy[0], -16 * std::cos(step * i), 4e-6) << properties << " " << i;
            EXPECT_NEAR(kxy[1], -16 * std::sin(step * i), 4e-6) << properties << " " << i;
        }
    };
    expect("", pi / phi);
    expect("negative=true", -pi / phi);
    expect("angles=tiny-golden tiny-golden=7", pi / (phi + 6));

    options.type = ISMRMRD::TrajectoryType::SPIRAL;
    write_ismrmrd(path, header_xml(options), lines(40, 64, 1));
    EXPECT_NE(error_of().find("no trajectory"), std::string::npos);
}

TEST_F(IsmrmrdSrc, times_follow_the_time_stamps_without_their_jitter) {
    // A readout every 3 ms, stamped in ticks of 2.5 ms, with a pause of half a second in the middle.
    auto rows = lines(400);
    const auto true_time = [](int i) { return 3.0 * i + (i >= 200 ? 500 : 0); };
    for (int i = 0; i < 400; ++i)
        rows[static_cast<std::size_t>(i)].head.acquisition_time_stamp =
            static_cast<std::uint32_t>(100000 + std::floor(true_time(i) / 2.5));
    write_ismrmrd(path, header_xml(), rows);
    ASSERT_TRUE(run().eos);
    ASSERT_EQ(items.size(), 400U);
    for (int i = 0; i < 400; ++i) {
        const double pts = static_cast<double>(items[static_cast<std::size_t>(i)].pts) / 1e6;
        // Right within one tick, though no readout comes twice at a time or two ticks apart.
        EXPECT_NEAR(pts, true_time(i), 2.5) << i;
        if (i > 0 && i != 200) {
            const double step = pts - static_cast<double>(items[static_cast<std::size_t>(i) - 1].pts) / 1e6;
            EXPECT_NEAR(step, 3, 0.15) << i;
        }
    }
    ASSERT_TRUE(run("timestamps=false tr=4").eos);
    EXPECT_EQ(items[399].pts, 399 * 4 * GST_MSECOND);
}

TEST_F(IsmrmrdSrc, times_go_on_across_midnight) {
    // A readout every 5 ms; the stamps count ticks of 2.5 ms since midnight, which comes among the readouts that
    // are looked at beforehand, or behind these.
    constexpr std::uint32_t day = 24 * 3600 * 400;
    for (const std::uint32_t before : {100U, 700U}) {
        auto rows = lines(400);
        for (std::uint32_t i = 0; i < 400; ++i)
            rows[i].head.acquisition_time_stamp = (day - before + 2 * i) % day;
        write_ismrmrd(path, header_xml(), rows);
        ASSERT_TRUE(run().eos);
        ASSERT_EQ(items.size(), 400U);
        for (std::size_t i = 0; i < 400; ++i)
            EXPECT_EQ(items[i].pts, i * 5 * GST_MSECOND) << before;
    }
}

/// A pipeline that is kept and run again and again. Not with an appsink: that of GStreamer 1.22 keeps the end of the
/// stream of one run for the next.
class Kept {
  public:
    explicit Kept(const std::string& path)
        : pipeline_(adopt(gst_parse_launch(
              ("ismrmrdsrc name=src location=" + path + " ! fakesink name=sink sync=false").c_str(),
              nullptr))),
          bus_(adopt(gst_element_get_bus(pipeline_.get()))) {
        const auto sink = adopt(gst_bin_get_by_name(GST_BIN(pipeline_.get()), "sink"));
        const auto pad = adopt(gst_element_get_static_pad(sink.get(), "sink"));
        gst_pad_add_probe(
            pad.get(), GST_PAD_PROBE_TYPE_BUFFER,
            [](GstPad*, GstPadProbeInfo* info, gpointer self) {
                auto& kept = *static_cast<Kept*>(self);
                const std::scoped_lock lock(kept.mutex_);
                kept.seen_.push_back(readouts_of(GST_PAD_PROBE_INFO_BUFFER(info)).front().scan_counter);
                kept.grown_.notify_one();
                return GST_PAD_PROBE_OK;
            },
            this, nullptr);
    }
    ~Kept() { gst_element_set_state(pipeline_.get(), GST_STATE_NULL); }

    /// Scan counters of a run at `speed` that is left for `state` after `count` readouts at least, or at its end. Fails
    /// where neither comes within 10 s.
    std::vector<std::uint32_t> run(double speed, std::size_t count, bool to_end, GstState state) {
        const auto source = adopt(gst_bin_get_by_name(GST_BIN(pipeline_.get()), "src"));
        g_object_set(source.get(), "speed", speed, nullptr);
        seen_.clear();
        gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING);
        if (to_end) {
            const auto message = adopt(
                gst_bus_timed_pop_filtered(bus_.get(), 10 * GST_SECOND,
                                           static_cast<GstMessageType>(GST_MESSAGE_EOS | GST_MESSAGE_ERROR)));
            EXPECT_TRUE(message && GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_EOS);
        } else {
            std::unique_lock lock(mutex_);
            EXPECT_TRUE(
                grown_.wait_for(lock, std::chrono::seconds(10), [&] { return seen_.size() >= count; }));
        }
        EXPECT_EQ(gst_element_set_state(pipeline_.get(), state), GST_STATE_CHANGE_SUCCESS);
        EXPECT_FALSE(adopt(gst_bus_pop_filtered(bus_.get(), GST_MESSAGE_ERROR)));
        gst_bus_set_flushing(bus_.get(), TRUE);
        gst_bus_set_flushing(bus_.get(), FALSE);
        return seen_;
    }

  private:
    GstPtr<GstElement> pipeline_;
    GstPtr<GstBus> bus_;
    std::mutex mutex_; // guards seen_ while the pipeline runs
    std::condition_variable grown_;
    std::vector<std::uint32_t> seen_;
};

TEST_F(IsmrmrdSrc, a_pipeline_runs_again_and_again_from_the_first_readout) {
    constexpr std::size_t all = 600;
    write_ismrmrd(path, header_xml(), lines(all));
    Kept kept(path);
    for (std::size_t round = 0; round < 30; ++round) {
        // Some rounds are left half way or at once, some are live and left there.
        const bool live = round % 4 == 3, to_end = !live && round % 3 != 1 && round % 5 != 2;
        const std::size_t count = to_end ? all : live ? 15 : round % 5 == 2 ? 0 : 10 * round;
        const auto seen = kept.run(live ? 3 : 0, count, to_end, round % 2 ? GST_STATE_NULL : GST_STATE_READY);
        ASSERT_FALSE(HasFailure()) << "round " << round;
        if (to_end) {
            EXPECT_EQ(seen.size(), all);
        }
        ASSERT_GE(seen.size(), count) << "round " << round;
        for (std::size_t i = 0; i < seen.size(); ++i)
            ASSERT_EQ(seen[i], i) << "round " << round;
    }
}

TEST_F(IsmrmrdSrc, live_it_keeps_the_pace) {
    // 60 readouts of 10 ms at four times the pace: 150 ms, less the first.
    auto rows = lines(60);
    write_ismrmrd(path, header_xml(), rows);
    const gint64 begin = g_get_monotonic_time();
    ASSERT_TRUE(run("speed=4 tr=10").eos);
    const double took = static_cast<double>(g_get_monotonic_time() - begin) / 1e3;
    ASSERT_EQ(items.size(), 60U);
    // The first one carries the time at which it was sent.
    EXPECT_EQ(items[59].pts - items[0].pts, 59 * 10 * GST_MSECOND / 4);
    EXPECT_GE(took, 147);
    // Generous: the machine may be busy. At the scanner's own pace it would be 590 ms. Under sanitisers the
    // start of the pipeline alone may take longer.
    if (env("GST_MRI_SANITIZED") != "1") {
        EXPECT_LT(took, 570);
    }
}

TEST_F(IsmrmrdSrc, a_loop_goes_on_as_a_new_series) {
    write_ismrmrd(path, header_xml(), lines(10));
    run_pipeline("ismrmrdsrc location=" + path +
                     " loop=true ! identity eos-after=26 ! appsink name=out sync=false",
                 60, [this](const std::string&, GstSample* sample) { take(sample); });
    ASSERT_GE(items.size(), 25U);
    for (std::size_t i = 0; i < 25; ++i) {
        EXPECT_EQ(items[i].head.scan_counter, i % 10);
        EXPECT_EQ(items[i].caps.series, static_cast<int>(i / 10));
        EXPECT_EQ(items[i].pts, i * 3 * GST_MSECOND);
    }
}

TEST_F(IsmrmrdSrc, a_long_file_can_be_left_at_any_time) {
    write_ismrmrd(path, header_xml(), lines(2000));
    for (int i = 0; i < 5; ++i) {
        Harness h(gst_harness_new_parse(("ismrmrdsrc location=" + path).c_str()));
        gst_harness_play(h.get());
        for (int k = 0; k < 10 * i; ++k)
            ASSERT_TRUE(adopt(gst_harness_pull(h.get())));
    }
    EXPECT_TRUE(cycle_states("ismrmrdsrc").size() > 0) << "without a location there is nothing to play";
}

TEST_F(IsmrmrdSrc, broken_files_end_in_one_clear_error) {
    const auto good = [&] { write_ismrmrd(path, header_xml(), lines(40)); };
    const auto expect = [&](const char* what, const std::function<void()>& make, const char* words,
                            const char* properties = "") {
        make();
        const std::string error = error_of(properties);
        EXPECT_NE(error.find(words), std::string::npos) << what << ": " << error;
        EXPECT_NE(error.find("scan.h5"), std::string::npos) << what << ": " << error;
        EXPECT_NE(error.find("ismrmrdsrc"), std::string::npos) << what << ": " << error;
    };
    expect(
        "missing file", [&] {}, "There is no file");
    expect(
        "empty file", [&] { write_bytes(path, ""); }, "is empty");
    expect(
        "no HDF5", [&] { write_bytes(path, std::string(5000, 'x')); }, "not an HDF5 file");
    expect(
        "cut short",
        [&] {
            good();
            const std::string bytes = file_bytes(path);
            write_bytes(path, bytes.substr(0, bytes.size() - 100));
        },
        "cut short");
    expect("other group", good, "no group 'raw'", "group=raw");
    expect(
        "bad header", [&] { write_ismrmrd(path, "<ismrmrdHeader>", lines(4)); }, "does not parse");
    expect(
        "no rows", [&] { write_ismrmrd(path, header_xml(), {}); }, "holds no readouts");
    expect(
        "a row that contradicts itself",
        [&] {
            auto rows = lines(40);
            rows[0].head.number_of_samples = 65535;
            write_ismrmrd(path, header_xml(), rows);
        },
        "row 0:");
    expect(
        "an encoding that is not there",
        [&] {
            auto rows = lines(40);
            rows[30].head.encoding_space_ref = 1;
            write_ismrmrd(path, header_xml(), rows);
        },
        "row 30:");
    EXPECT_EQ(items.size(), 30U) << "the readouts before the error were sent";
    expect(
        "a volume",
        [&] {
            std::string volume = header_xml();
            for (std::size_t at; (at = volume.find("<z>1</z>")) != std::string::npos;)
                volume.replace(at, 8, "<z>8</z>");
            write_ismrmrd(path, volume, lines(4));
        },
        "volume");
    expect(
        "a partition of a volume",
        [&] {
            auto rows = lines(40);
            rows[20].head.idx.kspace_encode_step_2 = 3;
            write_ismrmrd(path, header_xml(), rows);
        },
        "row 20: belongs to partition 3");
    EXPECT_EQ(items.size(), 20U);
    expect(
        "kz that differs from readout to readout",
        [&] {
            auto rows = spokes(8, 0.5, 3);
            for (std::size_t i = 0; i < rows.size(); ++i)
                for (std::size_t k = 2; k < rows[i].trajectory.size(); k += 3)
                    rows[i].trajectory[k] = static_cast<float>(i / 4);
            write_ismrmrd(path, header_xml(radial_header()), rows);
        },
        "row 4: the trajectory has kz");
    expect(
        "kz that varies along a readout",
        [&] {
            auto rows = spokes(8, 0.5, 3);
            for (auto& row : rows)
                row.trajectory[5] = -0.25F;
            write_ismrmrd(path, header_xml(radial_header()), rows);
        },
        "row 0: the trajectory has kz from -0.25 to 0.5");
    expect(
        "a trajectory that is not finite",
        [&] {
            auto rows = spokes(300, 0.5);
            rows[280].trajectory[7] = NAN;
            write_ismrmrd(path, header_xml(radial_header()), rows);
        },
        "row 280:");
    EXPECT_EQ(items.size(), 280U);
}

} // namespace
