// SPDX-License-Identifier: LGPL-2.1-or-later
// ISMRMRD files: reading, what is wrong with broken ones, units of trajectories, writing raw data and images, and
// what is left of a writer that was killed.
#include "plugins/source/ismrmrd/clock.hpp"
#include "plugins/source/ismrmrd/image_part.hpp"
#include "plugins/source/ismrmrd/reader.hpp"
#include "plugins/source/ismrmrd/trajectory.hpp"
#include "plugins/source/ismrmrd/writer.hpp"
#include "tests/support/ismrmrd_files.hpp"

#include <ismrmrd/dataset.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <numbers>
#include <random>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <tuple>
#include <unistd.h>

using namespace mri;
using namespace mri::test;

namespace {

struct Failure {
    Errc code;
    std::string message, detail;
    bool says(const std::string& text) const { return message.find(text) != std::string::npos; }
};

/// Opens and reads a file to its end and returns the error that this must throw.
Failure failure_of(IsmrmrdReader::Options options) {
    try {
        IsmrmrdReader reader(std::move(options));
        while (reader.next()) {
        }
    } catch (const Error& error) {
        return {error.code(), error.what(), error.detail()};
    }
    ADD_FAILURE() << "no error was thrown";
    return {};
}

std::vector<FileRow> rows_of(int count, int samples = 16, int channels = 2, int dimensions = 0) {
    std::vector<FileRow> rows;
    for (int i = 0; i < count; ++i) {
        rows.push_back(file_row(samples, channels, dimensions, 1000.0F * static_cast<float>(i)));
        rows.back().head.scan_counter = static_cast<std::uint32_t>(i);
        rows.back().head.idx.kspace_encode_step_1 = static_cast<std::uint16_t>(i);
    }
    return rows;
}

class IsmrmrdFile : public ::testing::Test {
  protected:
    TempDir folder;
    std::string path = folder / "scan.h5";
};

TEST_F(IsmrmrdFile, reads_what_the_reference_library_wrote) {
    {
        ISMRMRD::Dataset dataset(path.c_str(), "dataset");
        dataset.writeHeader(header_xml());
        for (int i = 0; i < 300; ++i) {
            ISMRMRD::Acquisition acquisition(static_cast<std::uint16_t>(20 + i % 3), 3, 2);
            acquisition.scan_counter() = static_cast<std::uint32_t>(i);
            acquisition.user_float()[7] = static_cast<float>(i) / 4;
            acquisition.idx().user[7] = static_cast<std::uint16_t>(i);
            for (std::size_t k = 0; k < acquisition.getNumberOfDataElements(); ++k)
                acquisition.getDataPtr()[k] = {static_cast<float>(k), static_cast<float>(i)};
            for (std::size_t k = 0; k < acquisition.getNumberOfTrajElements(); ++k)
                acquisition.getTrajPtr()[k] = static_cast<float>(k) + static_cast<float>(i);
            dataset.appendAcquisition(acquisition);
        }
    }
    IsmrmrdReader reader({.path = path, .block_bytes = 4096, .blocks_ahead = 2});
    EXPECT_EQ(reader.rows(), 300U);
    ASSERT_EQ(reader.header().encodings.size(), 1U);
    EXPECT_EQ(reader.header().encodings[0].recon.matrix[0], 32);
    for (int pass = 0; pass < 2; ++pass) {
        std::uint32_t i = 0;
        while (const auto readout = reader.next()) {
            ASSERT_EQ(readout->row, i);
            ASSERT_EQ(readout->head->scan_counter, i);
            ASSERT_EQ(readout->head->user_float[7], static_cast<float>(i) / 4);
            ASSERT_EQ(readout->head->idx.user[7], i);
            ASSERT_EQ(readout->data.size(), (20 + i % 3) * 3U);
            ASSERT_EQ(readout->trajectory.size(), (20 + i % 3) * 2U);
            for (std::size_t k = 0; k < readout->data.size(); ++k)
                ASSERT_EQ(readout->data[k],
                          std::complex<float>(static_cast<float>(k), static_cast<float>(i)));
            for (std::size_t k = 0; k < readout->trajectory.size(); ++k)
                ASSERT_EQ(readout->trajectory[k], static_cast<float>(k) + static_cast<float>(i));
            ++i;
        }
        EXPECT_EQ(i, 300U);
        EXPECT_FALSE(reader.next().has_value());
        reader.rewind();
    }
}

TEST_F(IsmrmrdFile, start_and_stop_choose_rows) {
    write_ismrmrd(path, header_xml(), rows_of(50), "scans");
    IsmrmrdReader reader({.path = path, .group = "scans", .start = 7, .stop = 23});
    std::uint64_t expected = 7;
    while (const auto readout = reader.next())
        EXPECT_EQ(readout->row, expected++);
    EXPECT_EQ(expected, 23U);

    const Failure failure = failure_of({.path = path, .group = "scans", .start = 50});
    EXPECT_EQ(failure.code, Errc::settings);
    EXPECT_TRUE(failure.says("50")) << failure.message;
}

TEST_F(IsmrmrdFile, a_group_may_lie_deep) {
    write_ismrmrd(path, header_xml(), rows_of(3), "dataset");
    {
        const Hdf5Lock lock;
        const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
        const Hdf5Id group(H5Gcreate2(file.get(), "patients", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Lmove(file.get(), "dataset", group.get(), "one", H5P_DEFAULT, H5P_DEFAULT);
    }
    IsmrmrdReader reader({.path = path, .group = "/patients/one"});
    EXPECT_EQ(reader.rows(), 3U);
    EXPECT_EQ(failure_of({.path = path, .group = "nobody/one"}).code, Errc::not_found);
}

TEST_F(IsmrmrdFile, cancel_lets_go_and_resume_loses_nothing) {
    write_ismrmrd(path, header_xml(), rows_of(100));
    IsmrmrdReader reader({.path = path});
    ASSERT_TRUE(reader.next());
    std::uint64_t seen = 1;
    reader.cancel();
    // What lies ready in the current block is still handed out; then nothing more comes.
    while (reader.next())
        ++seen;
    EXPECT_LT(seen, 100U);
    reader.resume();
    while (const auto readout = reader.next())
        EXPECT_EQ(readout->row, seen++);
    EXPECT_EQ(seen, 100U);
}

TEST_F(IsmrmrdFile, is_released_in_the_middle) {
    write_ismrmrd(path, header_xml(), rows_of(500));
    for (int i = 0; i < 20; ++i) {
        IsmrmrdReader reader({.path = path, .block_bytes = 1, .blocks_ahead = 1});
        for (int k = 0; k < i; ++k)
            ASSERT_TRUE(reader.next());
    }
}

TEST_F(IsmrmrdFile, missing_or_foreign_files_say_so) {
    const Failure missing = failure_of({.path = folder / "nothing.h5"});
    EXPECT_EQ(missing.code, Errc::not_found);
    EXPECT_TRUE(missing.says("nothing.h5"));

    EXPECT_EQ(failure_of({.path = ""}).code, Errc::settings);
    EXPECT_EQ(failure_of({.path = folder.path()}).code, Errc::open_read);

    write_bytes(path, "");
    const Failure empty = failure_of({.path = path});
    EXPECT_EQ(empty.code, Errc::decode);
    EXPECT_TRUE(empty.says("is empty"));

    write_bytes(path, "This is a letter, not a scan.");
    const Failure foreign = failure_of({.path = path});
    EXPECT_EQ(foreign.code, Errc::open_read);
    EXPECT_TRUE(foreign.says("not an HDF5 file")) << foreign.message;
    EXPECT_NE(foreign.detail.find("HDF5:"), std::string::npos) << foreign.detail;
}

TEST_F(IsmrmrdFile, a_file_cut_short_says_so) {
    write_ismrmrd(path, header_xml(), rows_of(200, 64, 4));
    const std::string bytes = file_bytes(path);
    write_bytes(path, bytes.substr(0, bytes.size() / 2));
    const Failure failure = failure_of({.path = path});
    EXPECT_EQ(failure.code, Errc::open_read);
    EXPECT_TRUE(failure.says("cut short")) << failure.message;
}

TEST_F(IsmrmrdFile, a_damaged_row_is_named_after_the_good_ones) {
    write_ismrmrd(path, header_xml(), rows_of(60, 256, 4));
    std::string bytes = file_bytes(path);
    // The samples lie in global heap collections; without its signature one of them cannot be read.
    const std::size_t heap = bytes.rfind("GCOL");
    ASSERT_NE(heap, std::string::npos);
    bytes[heap] = 'X';
    write_bytes(path, bytes);

    IsmrmrdReader reader({.path = path});
    std::uint64_t good = 0;
    try {
        while (const auto readout = reader.next())
            EXPECT_EQ(readout->row, good++);
        FAIL() << "the damage was not seen";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::read);
        EXPECT_GT(good, 8U);
        EXPECT_NE(std::string(error.what()).find("row " + std::to_string(good) + ":"), std::string::npos)
            << error.what();
        EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
        EXPECT_NE(error.detail().find("heap"), std::string::npos);
    }
    EXPECT_FALSE(reader.next().has_value());
}

TEST_F(IsmrmrdFile, damaged_references_neither_crash_nor_hang) {
    // Where the rows say that their samples lie, and the heads of the heap collections there: HDF5 1.10
    // follows both unchecked, over the end of its memory or for ever.
    auto rows = rows_of(40, 32, 2, 2);
    for (auto& row : rows)
        row.head.user_int[7] = 0x5a1234a5;
    write_ismrmrd(path, header_xml(), rows);
    const std::string good = file_bytes(path);
    std::vector<std::size_t> places;
    for (std::size_t at = 0; (at = good.find("GCOL", at)) != std::string::npos; at += 4)
        for (std::size_t i = 0; i < 32; ++i)
            places.push_back(at + i);
    constexpr std::size_t marker = 276 + 7 * 4,
                          references = 344; // in a row: user_int[7], and what follows the head
    for (std::size_t at = 0; (at = good.find("\xa5\x34\x12\x5a", at)) != std::string::npos; at += 4)
        for (std::size_t i = 0; i < 32; ++i)
            places.push_back(at - marker + references + i);
    ASSERT_GT(places.size(), 32U * 41);

    std::minstd_rand random(1);
    int refused = 0;
    for (int i = 0; i < 400; ++i) {
        std::string bytes = good;
        bytes[places[random() % places.size()]] = static_cast<char>(random() % 3 ? random() % 256 : 0);
        write_bytes(path, bytes);
        try {
            IsmrmrdReader reader({.path = path});
            while (reader.next()) {
            }
        } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
            ++refused;
        }
    }
    // Some changes change nothing: a byte that is not read, or that was so before.
    EXPECT_GT(refused, 150);
}

TEST_F(IsmrmrdFile, groups_with_raw_data_are_named_at_every_level) {
    write_ismrmrd(path, header_xml(), rows_of(3), "first");
    {
        const Hdf5Lock lock;
        const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
        const Hdf5Id list(H5Pcreate(H5P_LINK_CREATE));
        H5Pset_create_intermediate_group(list.get(), 1);
        H5Ocopy(file.get(), "first", file.get(), "patients/one/scan", H5P_DEFAULT, list.get());
        // A way round in circles, and one to nowhere.
        H5Lcreate_hard(file.get(), "patients", file.get(), "patients/again", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/nowhere", file.get(), "soft", H5P_DEFAULT, H5P_DEFAULT);
    }
    const Failure failure = failure_of({.path = path});
    EXPECT_EQ(failure.code, Errc::not_found);
    EXPECT_TRUE(failure.says("raw data are in 'first', 'patients/")) << failure.message;
    EXPECT_TRUE(failure.says("'patients/one/scan'")) << failure.message;
    EXPECT_TRUE(failure_of({.path = path, .group = "patients"}).says("raw data are in 'first', 'patients/"));
    EXPECT_EQ(IsmrmrdReader({.path = path, .group = "patients/one/scan"}).rows(), 3U);
}

TEST_F(IsmrmrdFile, what_is_no_file_is_refused_at_once) {
    const std::string fifo = folder / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const std::string address = folder / "socket";
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    ASSERT_LT(address.size(), sizeof name.sun_path);
    address.copy(name.sun_path, address.size());
    ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    for (const auto& [location, word] :
         {std::pair{fifo, "a named pipe"}, std::pair{address, "a socket"},
          std::pair{std::string("/dev/zero"), "a device"}, std::pair{folder.path(), "a folder"}}) {
        const Failure failure = failure_of({.path = location});
        EXPECT_EQ(failure.code, Errc::open_read) << location;
        EXPECT_TRUE(failure.says("'" + location + "' is " + word)) << failure.message;
    }
    ::close(socket);
}

TEST_F(IsmrmrdFile, raw_data_of_scanners_are_named_with_their_converter) {
    const auto bytes = [](std::initializer_list<int> first) {
        std::string text;
        for (const int byte : first)
            text += static_cast<char>(byte);
        text.resize(400);
        return text;
    };
    std::string dicom = bytes({});
    dicom.replace(128, 4, "DICM");
    const std::string old_twix =
        bytes({0x40, 0x9f, 0, 0, 6, 0, 0, 0}).replace(8, 7, std::string("Config\0", 7));
    const float revision = 26.002F;
    std::string p_file(reinterpret_cast<const char*>(&revision), 4);
    p_file.resize(400);
    for (const auto& [name, text, converter] :
         {std::tuple{"meas_MID00012.dat", bytes({0, 0, 0, 0, 2, 0, 0, 0}), "siemens_to_ismrmrd"},
          std::tuple{"old.dat", old_twix, "siemens_to_ismrmrd"},
          std::tuple{"P12345.7", p_file, "ge_to_ismrmrd"},
          std::tuple{"scan.LAB", bytes({1}), "philips_to_ismrmrd"}, std::tuple{"IM1", dicom, "mridicomsrc"},
          std::tuple{"scan.mrd", "yardl" + bytes({}), "mrd_to_ismrmrd"}}) {
        const std::string location = folder / name;
        write_bytes(location, text);
        const Failure failure = failure_of({.path = location});
        EXPECT_EQ(failure.code, Errc::open_read) << name;
        EXPECT_TRUE(failure.says(converter)) << failure.message;
    }
    const std::string archive = folder / "ScanArchive_1.h5";
    write_ismrmrd(archive, header_xml(), rows_of(1), "other");
    EXPECT_TRUE(failure_of({.path = archive}).says("ge_to_ismrmrd"));
    std::filesystem::create_directory(folder / "bruker");
    write_bytes(folder / "bruker/acqp", "##");
    write_bytes(folder / "bruker/method", "##");
    EXPECT_TRUE(failure_of({.path = folder / "bruker"}).says("bruker_to_ismrmrd"));
    write_bytes(path, "noise");
    EXPECT_TRUE(failure_of({.path = path}).says("is not an HDF5 file"));
}

// ---- files that are made to break a reader

/// Puts another dataset in the place of one, of the type and number of rows of `data`.
template <class Change>
void replace_data(const std::string& path, Change change) {
    const Hdf5Lock lock;
    const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    const Hdf5Id old(H5Dopen2(file.get(), "dataset/data", H5P_DEFAULT));
    const Hdf5Id type(H5Dget_type(old.get()));
    H5Ldelete(file.get(), "dataset/data", H5P_DEFAULT);
    const Hdf5Id list(H5Pcreate(H5P_DATASET_CREATE));
    change(list.get());
    const hsize_t rows = 4, unlimited = H5S_UNLIMITED;
    const Hdf5Id space(
        H5Screate_simple(1, &rows, H5Pget_layout(list.get()) == H5D_CHUNKED ? &unlimited : nullptr));
    const Hdf5Id made(H5Dcreate2(file.get(), "dataset/data", type.get(), space.get(), H5P_DEFAULT, list.get(),
                                 H5P_DEFAULT));
    ASSERT_TRUE(made);
}

TEST_F(IsmrmrdFile, storage_that_cannot_be_checked_is_refused) {
    const auto refused = [&](auto change) {
        write_ismrmrd(path, header_xml(), rows_of(4));
        replace_data(path, change);
        const Failure failure = failure_of({.path = path});
        EXPECT_EQ(failure.code, Errc::unsupported) << failure.message;
        return failure.message;
    };
    const hsize_t one = 1, many = 1 << 20;
    const auto says = [](const std::string& text, const char* word) {
        EXPECT_NE(text.find(word), std::string::npos) << text;
    };
    says(refused([](hid_t list) { H5Pset_layout(list, H5D_COMPACT); }), "compact");
    says(refused([&](hid_t list) {
             H5Pset_chunk(list, 1, &one);
             H5Pset_deflate(list, 1);
         }),
         "filters");
    says(refused([&](hid_t list) {
             H5Pset_chunk(list, 1, &one);
             H5Pset_fletcher32(list);
         }),
         "filters");
    says(refused([&](hid_t list) { H5Pset_chunk(list, 1, &many); }), "64 MiB");
    says(refused([](hid_t list) { H5Pset_external(list, "/etc/passwd", 0, 4096); }), "another file");
    says(refused([](hid_t list) {
             const hsize_t rows = 4;
             const Hdf5Id space(H5Screate_simple(1, &rows, nullptr));
             H5Pset_virtual(list, space.get(), "other.h5", "data", space.get());
         }),
         "virtual");
}

TEST_F(IsmrmrdFile, no_link_leads_into_another_file) {
    write_ismrmrd(path, header_xml(), rows_of(4));
    const std::string linked = folder / "linked.h5";
    {
        const Hdf5Lock lock;
        const Hdf5Id file(H5Fcreate(linked.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
        H5Lcreate_external(path.c_str(), "/dataset", file.get(), "dataset", H5P_DEFAULT, H5P_DEFAULT);
    }
    const Failure failure = failure_of({.path = linked});
    EXPECT_TRUE(failure.says(linked)) << failure.message;
}

TEST_F(IsmrmrdFile, types_that_contradict_themselves_are_refused) {
    // The place of a member follows its name, which is filled up to eight bytes.
    write_ismrmrd(path, header_xml(), rows_of(4));
    const std::string good = file_bytes(path);
    const std::size_t name = good.find("sample_time_us");
    ASSERT_NE(name, std::string::npos);
    ASSERT_EQ(static_cast<unsigned char>(good[name + 16]), 178);
    for (const auto& [place, word] : {std::pair{0x7000, "beyond its end"}, std::pair{338, "beyond its end"},
                                      std::pair{0, "over each other"}, std::pair{180, "over each other"}}) {
        std::string bytes = good;
        bytes[name + 16] = static_cast<char>(place & 255);
        bytes[name + 17] = static_cast<char>(place >> 8);
        write_bytes(path, bytes);
        const Failure failure = failure_of({.path = path});
        EXPECT_EQ(failure.code, Errc::decode) << failure.message;
        // Some of it HDF5 sees by itself.
        EXPECT_TRUE(failure.says(word) || failure.says("cannot be opened")) << failure.message;
    }

    const auto refused = [&](auto member, const char* word) {
        write_ismrmrd(path, header_xml(), rows_of(4));
        {
            const Hdf5Lock lock;
            const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
            H5Ldelete(file.get(), "dataset/data", H5P_DEFAULT);
            const Hdf5Id head = hdf5_acquisition_header_type();
            const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT));
            const Hdf5Id type(H5Tcreate(H5T_COMPOUND, 400));
            H5Tinsert(type.get(), "head", 0, head.get());
            H5Tinsert(type.get(), "traj", 344, sequence.get());
            member(type.get());
            const hsize_t rows = 4;
            const Hdf5Id space(H5Screate_simple(1, &rows, nullptr));
            const Hdf5Id made(H5Dcreate2(file.get(), "dataset/data", type.get(), space.get(), H5P_DEFAULT,
                                         H5P_DEFAULT, H5P_DEFAULT));
            ASSERT_TRUE(made);
        }
        const Failure failure = failure_of({.path = path});
        EXPECT_EQ(failure.code, Errc::decode);
        EXPECT_TRUE(failure.says(word)) << failure.message;
    };
    refused([](hid_t type) { H5Tinsert(type, "data", 360, H5T_NATIVE_FLOAT); }, "another kind");
    refused(
        [](hid_t type) {
            const Hdf5Id integers(H5Tvlen_create(H5T_NATIVE_INT));
            H5Tinsert(type, "data", 360, integers.get());
        },
        "another kind");
    refused(
        [](hid_t type) {
            const Hdf5Id odd(H5Tcopy(H5T_NATIVE_FLOAT));
            H5Tset_fields(odd.get(), 31, 20, 11, 0, 20);
            const Hdf5Id numbers(H5Tvlen_create(odd.get()));
            H5Tinsert(type, "data", 360, numbers.get());
        },
        "unusual form");
    refused([](hid_t) {}, "no 'data'");
    refused(
        [](hid_t type) {
            const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT));
            H5Tset_size(type, 1 << 20);
            H5Tinsert(type, "data", 360, sequence.get());
        },
        "1048576 bytes");
    refused(
        [](hid_t type) {
            const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT));
            H5Tinsert(type, "data", 360, sequence.get());
            const Hdf5Id text(H5Tcopy(H5T_C_S1));
            H5Tinsert(type, "note", 376, text.get());
        },
        "'note'");
}

TEST_F(IsmrmrdFile, heads_with_gaps_and_more_numbers_are_read) {
    // As compilers lay the head out without packing, with a member that this version does not know.
    const auto rows = rows_of(5, 16, 2, 2);
    write_ismrmrd(path, header_xml(), rows);
    {
        const Hdf5Lock lock;
        const Hdf5Id packed = hdf5_acquisition_header_type();
        const Hdf5Id head(H5Tcreate(H5T_COMPOUND, 368));
        std::size_t at = 0;
        for (unsigned i = 0; i < static_cast<unsigned>(H5Tget_nmembers(packed.get())); ++i) {
            const Hdf5Id member(H5Tget_member_type(packed.get(), i));
            char* name = H5Tget_member_name(packed.get(), i);
            at = (at + 7) / 8 * 8 == at || H5Tget_size(member.get()) < 4 ? at : (at + 3) / 4 * 4;
            ASSERT_GE(H5Tinsert(head.get(), name, at, member.get()), 0);
            at += H5Tget_size(member.get());
            H5free_memory(name);
        }
        H5Tinsert(head.get(), "of_a_later_version", 360, H5T_NATIVE_DOUBLE);
        struct Row {
            ISMRMRD::ISMRMRD_AcquisitionHeader head;
            hvl_t trajectory, data;
        };
        const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT)), type(H5Tcreate(H5T_COMPOUND, 400)),
            memory(H5Tcreate(H5T_COMPOUND, sizeof(Row)));
        H5Tinsert(type.get(), "head", 0, head.get());
        H5Tinsert(type.get(), "traj", 368, sequence.get());
        H5Tinsert(type.get(), "data", 384, sequence.get());
        H5Tinsert(memory.get(), "head", offsetof(Row, head), packed.get());
        H5Tinsert(memory.get(), "traj", offsetof(Row, trajectory), sequence.get());
        H5Tinsert(memory.get(), "data", offsetof(Row, data), sequence.get());
        std::vector<Row> in;
        for (const FileRow& row : rows)
            in.push_back({row.head,
                          {row.trajectory.size(), const_cast<float*>(row.trajectory.data())},
                          {2 * row.data.size(), const_cast<std::complex<float>*>(row.data.data())}});
        const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
        H5Ldelete(file.get(), "dataset/data", H5P_DEFAULT);
        const hsize_t count = in.size();
        const Hdf5Id space(H5Screate_simple(1, &count, nullptr));
        const Hdf5Id set(H5Dcreate2(file.get(), "dataset/data", type.get(), space.get(), H5P_DEFAULT,
                                    H5P_DEFAULT, H5P_DEFAULT));
        ASSERT_GE(H5Dwrite(set.get(), memory.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, in.data()), 0);
    }
    IsmrmrdReader reader({.path = path});
    for (const FileRow& row : rows) {
        const auto readout = reader.next();
        ASSERT_TRUE(readout);
        EXPECT_EQ(std::memcmp(readout->head, &row.head, sizeof row.head), 0);
        EXPECT_TRUE(std::equal(row.data.begin(), row.data.end(), readout->data.begin(), readout->data.end()));
    }
}

TEST_F(IsmrmrdFile, sizes_of_chunks_in_the_index_are_not_believed) {
    write_ismrmrd(path, header_xml(), rows_of(4, 256, 8));
    const std::string good = file_bytes(path);
    // A leaf of the chunks' B-tree: 24 bytes of head, then the first chunk's size in 32 bits.
    const std::size_t node = good.find(std::string("TREE\x01\0", 6));
    ASSERT_NE(node, std::string::npos);
    const auto size_at = [&](const std::string& bytes) {
        std::uint32_t size = 0;
        std::memcpy(&size, bytes.data() + node + 24, 4);
        return size;
    };
    const std::uint32_t right = size_at(good);
    ASSERT_GE(right, 372U);
    ASSERT_LE(right, 376U);
    for (const std::uint32_t size : {1U, right - 1, right + 1, right + 4096, 20000U, 65536U, 0xffffffffU}) {
        std::string bytes = good;
        std::memcpy(bytes.data() + node + 24, &size, 4);
        write_bytes(path, bytes);
        const Failure failure = failure_of({.path = path});
        EXPECT_EQ(failure.code, Errc::read) << size;
        EXPECT_TRUE(failure.says("row 0:")) << failure.message;
    }
}

TEST_F(IsmrmrdFile, rows_with_a_user_block_before_them_are_read) {
    write_ismrmrd(path, header_xml(), rows_of(6));
    const std::string moved = folder / "moved.h5";
    {
        const Hdf5Lock lock;
        const Hdf5Id list(H5Pcreate(H5P_FILE_CREATE));
        H5Pset_userblock(list.get(), 512);
        const Hdf5Id from(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)),
            to(H5Fcreate(moved.c_str(), H5F_ACC_TRUNC, list.get(), H5P_DEFAULT));
        ASSERT_GE(H5Ocopy(from.get(), "dataset", to.get(), "dataset", H5P_DEFAULT, H5P_DEFAULT), 0);
    }
    IsmrmrdReader reader({.path = moved});
    std::uint64_t rows = 0;
    while (const auto readout = reader.next())
        EXPECT_EQ(readout->head->scan_counter, rows++);
    EXPECT_EQ(rows, 6U);
}

TEST_F(IsmrmrdFile, a_header_may_have_a_fixed_length_and_two_bytes_a_letter) {
    std::string wide("\xFF\xFE", 2);
    for (const char c : header_xml().substr(header_xml().find("?>") + 2))
        wide += {c, '\0'};
    for (const std::string& text : {header_xml(), wide}) {
        write_ismrmrd(path, header_xml(), rows_of(4));
        {
            const Hdf5Lock lock;
            const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
            H5Ldelete(file.get(), "dataset/xml", H5P_DEFAULT);
            const hsize_t one = 1;
            const Hdf5Id type(H5Tcopy(H5T_C_S1)), space(H5Screate_simple(1, &one, nullptr));
            std::string padded = text;
            padded.resize(text.size() + 100);
            H5Tset_size(type.get(), padded.size());
            const Hdf5Id set(H5Dcreate2(file.get(), "dataset/xml", type.get(), space.get(), H5P_DEFAULT,
                                        H5P_DEFAULT, H5P_DEFAULT));
            H5Dwrite(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, padded.data());
        }
        const IsmrmrdReader reader({.path = path});
        EXPECT_EQ(reader.header().encodings.at(0).recon.matrix[0], 32);
        EXPECT_NE(reader.xml().find("<trajectory>cartesian</trajectory>"), std::string::npos) << "in UTF-8";
    }
}

TEST_F(IsmrmrdFile, a_header_without_end_is_refused) {
    const auto with_xml = [&](std::size_t size, bool compressed) {
        write_ismrmrd(path, header_xml(), rows_of(4));
        {
            const Hdf5Lock lock;
            const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
            H5Ldelete(file.get(), "dataset/xml", H5P_DEFAULT);
            const hsize_t one = 1;
            const Hdf5Id type(H5Tcopy(H5T_C_S1)), space(H5Screate_simple(1, &one, nullptr)),
                list(H5Pcreate(H5P_DATASET_CREATE));
            H5Tset_size(type.get(), size);
            if (compressed) {
                H5Pset_chunk(list.get(), 1, &one);
                H5Pset_deflate(list.get(), 1);
            }
            std::string text = header_xml();
            text.resize(size, ' ');
            const Hdf5Id set(H5Dcreate2(file.get(), "dataset/xml", type.get(), space.get(), H5P_DEFAULT,
                                        list.get(), H5P_DEFAULT));
            H5Dwrite(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data());
        }
        const Failure failure = failure_of({.path = path});
        EXPECT_TRUE(failure.says("'xml'")) << failure.message;
        return failure.code;
    };
    EXPECT_EQ(with_xml(60 << 20, true), Errc::decode);
    EXPECT_EQ(with_xml(1 << 20, true), Errc::unsupported);
    write_ismrmrd(path, header_xml() + std::string(5 << 20, ' '), rows_of(4));
    EXPECT_EQ(failure_of({.path = path}).code, Errc::decode);
}

TEST_F(IsmrmrdFile, the_number_of_channels_may_be_left_to_the_samples) {
    auto rows = rows_of(3, 16, 5, 2);
    for (FileRow& row : rows)
        row.head.active_channels = row.head.available_channels = 0;
    rows[2].data.pop_back();
    write_ismrmrd(path, header_xml(), rows);
    IsmrmrdReader reader({.path = path});
    for (int i = 0; i < 2; ++i) {
        const auto readout = reader.next();
        ASSERT_TRUE(readout);
        EXPECT_EQ(readout->head->active_channels, 5);
        EXPECT_EQ(readout->data.size(), 80U);
    }
    EXPECT_THROW(reader.next(), Error) << "79 samples are no channels of 16";
}

/// Writes images into a file that may grow to 64 KiB, and ends as the process ends that met the error.
[[noreturn]] void write_to_a_full_disk(const std::string& path) {
    const rlimit limit{65536, 65536};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, SIG_IGN);
    const std::vector<float> pixels(64 * 64, 1);
    ISMRMRD::ISMRMRD_ImageHeader head{};
    head.data_type = ISMRMRD::ISMRMRD_FLOAT;
    head.matrix_size[0] = head.matrix_size[1] = 64;
    head.matrix_size[2] = head.channels = 1;
    try {
        IsmrmrdWriter writer({.path = path});
        for (int i = 0; i < 40; ++i)
            writer.add(head, std::as_bytes(std::span(pixels)), "");
        writer.finish();
    } catch (const Error& error) {
        std::exit(std::string(error.what()).find(path) != std::string::npos ? 3 : 4);
    }
    std::exit(5);
}

TEST_F(IsmrmrdFile, a_full_disk_is_an_error_and_the_process_ends) {
    // In a process of its own: HDF5 cleans up, or crashes, when the process ends.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(write_to_a_full_disk(path), ::testing::ExitedWithCode(3), "");
}

TEST_F(IsmrmrdFile, missing_parts_are_named) {
    write_ismrmrd(path, header_xml(), rows_of(4));
    const Failure group = failure_of({.path = path, .group = "other"});
    EXPECT_EQ(group.code, Errc::not_found);
    EXPECT_TRUE(group.says("no group 'other': raw data are in 'dataset'")) << group.message;

    const auto without = [&](const char* what) {
        write_ismrmrd(path, header_xml(), rows_of(4));
        {
            const Hdf5Lock lock;
            const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
            H5Ldelete(file.get(), what, H5P_DEFAULT);
        }
        return failure_of({.path = path});
    };
    const Failure xml = without("dataset/xml");
    EXPECT_EQ(xml.code, Errc::not_found);
    EXPECT_TRUE(xml.says("'xml'")) << xml.message;
    const Failure data = without("dataset/data");
    EXPECT_EQ(data.code, Errc::not_found);
    EXPECT_TRUE(data.says("'data'")) << data.message;
}

TEST_F(IsmrmrdFile, wrong_types_are_named) {
    const auto with_floats = [&](const char* what, std::vector<hsize_t> extent) {
        write_ismrmrd(path, header_xml(), rows_of(4));
        {
            const Hdf5Lock lock;
            const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
            H5Ldelete(file.get(), what, H5P_DEFAULT);
            const Hdf5Id space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
            const Hdf5Id set(H5Dcreate2(file.get(), what, H5T_NATIVE_FLOAT, space.get(), H5P_DEFAULT,
                                        H5P_DEFAULT, H5P_DEFAULT));
        }
        return failure_of({.path = path});
    };
    EXPECT_EQ(with_floats("dataset/data", {4}).code, Errc::decode);
    EXPECT_EQ(with_floats("dataset/data", {4, 4}).code, Errc::decode);
    EXPECT_EQ(with_floats("dataset/xml", {1}).code, Errc::decode);

    write_ismrmrd(path, header_xml(), rows_of(4));
    {
        const Hdf5Lock lock;
        const Hdf5Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
        H5Ldelete(file.get(), "dataset/data", H5P_DEFAULT);
        const Hdf5Id group(H5Gcreate2(file.get(), "dataset/data", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
    EXPECT_EQ(failure_of({.path = path}).code, Errc::decode);
    EXPECT_EQ(failure_of({.path = path, .group = "dataset/xml"}).code, Errc::decode);
}

TEST_F(IsmrmrdFile, a_header_that_does_not_parse_is_named) {
    for (const std::string xml : {"", "no xml at all", "<ismrmrdHeader>", "<other/>",
                                  "<ismrmrdHeader><experimentalConditions/></ismrmrdHeader>"}) {
        write_ismrmrd(path, xml, rows_of(4));
        const Failure failure = failure_of({.path = path});
        EXPECT_EQ(failure.code, Errc::decode) << xml;
        EXPECT_TRUE(failure.says("header")) << failure.message;
    }
}

TEST_F(IsmrmrdFile, a_file_without_readouts_says_so) {
    write_ismrmrd(path, header_xml(), {});
    const Failure failure = failure_of({.path = path});
    EXPECT_EQ(failure.code, Errc::decode);
    EXPECT_TRUE(failure.says("no readouts")) << failure.message;
}

TEST_F(IsmrmrdFile, contradicting_sizes_name_the_row) {
    const auto broken = [&](auto change) {
        auto rows = rows_of(20, 16, 2, 2);
        change(rows[13]);
        write_ismrmrd(path, header_xml(), rows);
        const Failure failure = failure_of({.path = path});
        EXPECT_TRUE(failure.says("row 13:")) << failure.message;
        return failure.code;
    };
    EXPECT_EQ(broken([](FileRow& row) { row.head.number_of_samples = 17; }), Errc::decode);
    EXPECT_EQ(broken([](FileRow& row) { row.head.active_channels = 65535; }), Errc::decode);
    EXPECT_EQ(broken([](FileRow& row) { row.head.number_of_samples = row.head.active_channels = 65535; }),
              Errc::decode);
    EXPECT_EQ(broken([](FileRow& row) { row.head.trajectory_dimensions = 3; }), Errc::decode);
    EXPECT_EQ(broken([](FileRow& row) { row.data.clear(); }), Errc::decode);
    EXPECT_EQ(broken([](FileRow& row) { row.trajectory.clear(); }), Errc::decode);
    EXPECT_EQ(broken([](FileRow& row) { row.head.flags |= std::uint64_t{1} << 52; }), Errc::unsupported);
}

TEST_F(IsmrmrdFile, a_row_above_the_limit_is_refused) {
    auto rows = rows_of(20, 16, 2);
    rows[11] = file_row(4096, 8);
    write_ismrmrd(path, header_xml(), rows);
    const Failure failure = failure_of({.path = path, .max_block_bytes = 100000});
    EXPECT_EQ(failure.code, Errc::read);
    EXPECT_TRUE(failure.says("row 11:")) << failure.message;
}

TEST(IsmrmrdFlags, imaging_readouts_are_told_from_others) {
    using namespace ISMRMRD;
    const auto with = [](std::initializer_list<int> flags) {
        ISMRMRD_AcquisitionHeader head{};
        for (const int flag : flags)
            head.flags |= std::uint64_t{1} << (flag - 1);
        return head;
    };
    EXPECT_TRUE(is_imaging(with({})));
    EXPECT_TRUE(is_imaging(with({ISMRMRD_ACQ_LAST_IN_REPETITION, ISMRMRD_ACQ_IS_REVERSE})));
    EXPECT_TRUE(is_imaging(with({ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING})));
    EXPECT_TRUE(is_imaging(
        with({ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION, ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING})));
    for (const int flag : {ISMRMRD_ACQ_IS_NOISE_MEASUREMENT, ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION,
                           ISMRMRD_ACQ_IS_NAVIGATION_DATA, ISMRMRD_ACQ_IS_PHASECORR_DATA,
                           ISMRMRD_ACQ_IS_HPFEEDBACK_DATA, ISMRMRD_ACQ_IS_DUMMYSCAN_DATA,
                           ISMRMRD_ACQ_IS_RTFEEDBACK_DATA, ISMRMRD_ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
                           ISMRMRD_ACQ_IS_PHASE_STABILIZATION_REFERENCE, ISMRMRD_ACQ_IS_PHASE_STABILIZATION})
        EXPECT_FALSE(is_imaging(with({flag}))) << flag;
}

EncodingGeometry geometry_of(const HeaderOptions& options) {
    return encoding_geometry(MrdHeader::parse(header_xml(options)), 0);
}

TEST(IsmrmrdGeometry, absurd_spaces_are_refused) {
    EXPECT_THROW(geometry_of({.width = 0}), Error);
    EXPECT_THROW(geometry_of({.fov = -1}), Error);
    EXPECT_THROW(geometry_of({.encoded_fov = -300}), Error);
    MrdHeader header = MrdHeader::parse(header_xml());
    EXPECT_THROW(encoding_geometry(header, 1), Error);
    header.encodings[0].encoded.matrix[2] = 2;
    EXPECT_EQ(encoding_geometry(header, 0), geometry_of({})) << "a slice, encoded with z = 2";
    header.encodings[0].encoded.matrix[2] = header.encodings[0].recon.matrix[2] = 16;
    try {
        encoding_geometry(header, 0);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::unsupported);
    }
}

TEST(IsmrmrdGeometry, what_the_header_lacks_is_named) {
    std::string xml = header_xml();
    const auto cut = xml.find("<x>", xml.find("<reconSpace>"));
    xml.erase(cut, xml.find("</x>", cut) + 4 - cut);
    try {
        encoding_geometry(MrdHeader::parse(xml), 0);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::decode);
        EXPECT_NE(
            std::string(error.what()).find("encoding 0 of the header has no reconSpace/matrixSize/x (line "),
            std::string::npos)
            << error.what();
    }
}

TrajectoryUnit unit_of(double reach_x, double reach_y, const HeaderOptions& options) {
    return detect_trajectory_unit({reach_x, reach_y}, geometry_of(options), "test");
}

TEST(IsmrmrdTrajectory, the_unit_follows_from_the_extent) {
    const HeaderOptions oversampled{.encoded_width = 256, .encoded_height = 256, .width = 128, .height = 128};
    EXPECT_EQ(unit_of(0.5, 0.5, oversampled), TrajectoryUnit::normalised);
    EXPECT_EQ(unit_of(0.498, 0.1, oversampled), TrajectoryUnit::normalised);
    EXPECT_EQ(unit_of(127.75, 120, oversampled), TrajectoryUnit::encoded_cycles);
    EXPECT_EQ(unit_of(63.75, 63.75, oversampled), TrajectoryUnit::cycles);

    const HeaderOptions same{
        .encoded_width = 192, .encoded_height = 192, .width = 192, .height = 192, .encoded_fov = 300};
    EXPECT_EQ(unit_of(96, 95, same), TrajectoryUnit::encoded_cycles);
    EXPECT_EQ(unit_of(0.5, 0.49, same), TrajectoryUnit::normalised);

    // Both fit, one exactly: 1.25 times oversampled, so +-80 or +-64 cycles.
    const HeaderOptions near{
        .encoded_width = 160, .encoded_height = 160, .width = 128, .height = 128, .encoded_fov = 375};
    EXPECT_EQ(unit_of(80, 80, near), TrajectoryUnit::encoded_cycles);
    EXPECT_EQ(unit_of(64, 64, near), TrajectoryUnit::cycles);
}

TEST(IsmrmrdTrajectory, an_ambiguous_unit_is_an_error_that_names_the_property) {
    const HeaderOptions near{
        .encoded_width = 160, .encoded_height = 160, .width = 128, .height = 128, .encoded_fov = 375};
    for (const auto& [reach, options] :
         {std::pair{std::numbers::pi, near}, std::pair{0.0, near}, std::pair{213.0, near}}) {
        try {
            unit_of(reach, reach, options);
            ADD_FAILURE() << reach;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Errc::settings);
            EXPECT_NE(std::string(error.what()).find("trajectory-unit"), std::string::npos) << error.what();
        }
    }
}

TEST(IsmrmrdTrajectory, of_two_units_the_one_that_fills_the_image_is_taken_and_told) {
    // Oversampled twice along x alone, spokes of 96 cycles: in encoded cycles they would fill half of x.
    const HeaderOptions oversampled{
        .encoded_width = 384, .encoded_height = 192, .width = 192, .height = 192, .encoded_fov = 600};
    const HeaderOptions near{
        .encoded_width = 160, .encoded_height = 160, .width = 128, .height = 128, .encoded_fov = 375};
    for (const auto& [reach, options] : {std::pair{96.0, oversampled}, std::pair{70.0, near}}) {
        std::string reading;
        EXPECT_EQ(detect_trajectory_unit({reach, reach}, geometry_of(options), "'scan.h5'", &reading),
                  TrajectoryUnit::cycles);
        EXPECT_TRUE(reading.starts_with("'scan.h5': ")) << reading;
        EXPECT_NE(reading.find("trajectory-unit"), std::string::npos) << reading;
        EXPECT_NE(reading.find("(encoded-cycles)"), std::string::npos) << reading;
    }
    std::string reading;
    EXPECT_EQ(detect_trajectory_unit({192, 96}, geometry_of(oversampled), "", &reading),
              TrajectoryUnit::encoded_cycles);
    EXPECT_EQ(reading, "") << "one reading alone fits";
}

TEST(IsmrmrdTrajectory, all_units_come_to_the_same_cycles) {
    // 256 samples over an encoded matrix of 256 and 600 mm; reconstructed 128 over 300 mm: the edge is 64
    // cycles.
    const HeaderOptions options{.encoded_width = 256, .encoded_height = 256, .width = 128, .height = 128};
    EncodingGeometry geometry = geometry_of(options);
    geometry.encoded_fov_y = 600;
    const auto edge = [&](TrajectoryUnit unit, float value) {
        float kxy[2];
        const float in[3] = {value, -value, 7};
        convert_trajectory(in, 3, unit, geometry, kxy);
        // Exact but for one rounding to float32.
        EXPECT_NEAR(kxy[1], -kxy[0], 1e-5F);
        return kxy[0];
    };
    EXPECT_NEAR(edge(TrajectoryUnit::normalised, 0.5F), 64, 1e-5F);
    EXPECT_NEAR(edge(TrajectoryUnit::encoded_cycles, 128), 64, 1e-5F);
    EXPECT_NEAR(edge(TrajectoryUnit::cycles, 64), 64, 1e-5F);
    EXPECT_NEAR(edge(TrajectoryUnit::radians, std::numbers::pi_v<float>), 64, 1e-5F);
    EXPECT_NEAR(edge(TrajectoryUnit::per_metre, 64 / 0.3F), 64, 1e-5F);
}

TEST(IsmrmrdTrajectory, a_value_that_is_not_finite_is_refused) {
    TrajectoryExtent extent;
    const float good[] = {1, -3, 9, -2, 1, 9};
    extent.include(good, 3);
    EXPECT_EQ(extent.x, 2);
    EXPECT_EQ(extent.y, 3);
    const float bad[] = {0, std::nanf("")};
    EXPECT_THROW(extent.include(bad, 2), Error);
    EXPECT_THROW(extent.include(good, 1), Error);
}

std::vector<float> computed(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, const EncodingGeometry& geometry,
                            std::uint64_t spoke = 0, int discarded = 0, int samples = 0,
                            AngleSettings angles = {}) {
    if (!samples)
        samples = head.number_of_samples;
    std::vector<float> kxy(2 * static_cast<std::size_t>(samples));
    computed_trajectory(head, geometry, angles, spoke, discarded, samples, kxy.data());
    return kxy;
}

TEST(IsmrmrdTrajectory, cartesian_lines_are_computed) {
    // Oversampled twice: samples lie half a cycle apart; line 16 of 32 is the centre.
    const EncodingGeometry geometry = geometry_of({});
    FileRow row = file_row(64, 1);
    row.head.idx.kspace_encode_step_1 = 16;
    auto kxy = computed(row.head, geometry);
    EXPECT_EQ(kxy[0], -16);
    EXPECT_EQ(kxy[1], 0);
    EXPECT_EQ(kxy[2 * 32], 0);
    EXPECT_EQ(kxy[2 * 33], 0.5F);
    row.head.idx.kspace_encode_step_1 = 3;
    kxy = computed(row.head, geometry);
    EXPECT_EQ(kxy[1], -13);
    EXPECT_EQ(kxy[127], -13);

    // A partial echo of 48 samples whose centre is its 16th keeps the spacing.
    row = file_row(48, 1);
    row.head.center_sample = 16;
    kxy = computed(row.head, geometry);
    EXPECT_EQ(kxy[0], -8);
    EXPECT_EQ(kxy[2 * 16], 0);
    // Ten samples cut off at the start shift it.
    kxy = computed(row.head, geometry, 0, 10, 38);
    EXPECT_EQ(kxy[0], -3);
}

TEST(IsmrmrdTrajectory, radial_spokes_are_computed) {
    const EncodingGeometry geometry = geometry_of({.encoded_width = 64,
                                                   .encoded_height = 64,
                                                   .width = 32,
                                                   .height = 32,
                                                   .type = ISMRMRD::TrajectoryType::GOLDENANGLE});
    const FileRow row = file_row(64, 1);
    // Golden angle, pi / phi: Winkelmann et al., IEEE TMI 2007.
    const double step = std::numbers::pi / std::numbers::phi;
    for (const std::uint64_t spoke : {0U, 1U, 5U, 100000U}) {
        const auto kxy = computed(row.head, geometry, spoke);
        EXPECT_EQ(kxy[64], 0);
        EXPECT_EQ(kxy[65], 0);
        // 2 ulp of 16, the radius, plus what a large angle loses in double.
        EXPECT_NEAR(kxy[0], -16 * std::cos(step * static_cast<double>(spoke)), 4e-6);
        EXPECT_NEAR(kxy[1], -16 * std::sin(step * static_cast<double>(spoke)), 4e-6);
    }
    // Regular spokes take the phase encode as their index.
    FileRow regular = file_row(64, 1);
    regular.head.idx.kspace_encode_step_1 = 8;
    const auto kxy =
        computed(regular.head, geometry, 3, 0, 0, {.scheme = AngleScheme::regular, .spokes = 32});
    EXPECT_NEAR(kxy[0], -16 * std::cos(std::numbers::pi / 4), 4e-6);
    EXPECT_NEAR(kxy[1], -16 * std::sin(std::numbers::pi / 4), 4e-6);
}

TEST(IsmrmrdTrajectory, a_spiral_is_not_guessed) {
    const EncodingGeometry geometry = geometry_of({.type = ISMRMRD::TrajectoryType::SPIRAL});
    try {
        computed(file_row(64, 1).head, geometry);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::unsupported);
    }
}

// ---- times

constexpr double ms = 1e6;

TEST(ReadoutClock, midnight_is_no_step_back) {
    const std::uint32_t day = 24 * 3600 * 400; // ticks of 2.5 ms
    EXPECT_EQ(ticks_between(day - 3, 4, 2.5 * ms), 7);
    EXPECT_EQ(ticks_between(UINT32_MAX - 1, 3, 0.001 * ms), 5) << "the end of 32 bits";
    EXPECT_EQ(ticks_between(100000, 20, 2.5 * ms), -99980) << "another measurement";
    std::vector<std::uint32_t> stamps;
    for (std::uint32_t i = 0; i < 64; ++i)
        stamps.push_back((day - 40 + 2 * i) % day);
    EXPECT_EQ(tr_from(stamps, 2.5 * ms), 5 * ms);
    ReadoutClock clock(5 * ms, 2.5 * ms, true);
    for (std::size_t i = 0; i < stamps.size(); ++i)
        EXPECT_NEAR(clock.next(stamps[i]), 5 * ms * static_cast<double>(i), 1) << i;
}

TEST(ReadoutClock, stamps_that_begin_again_follow_on) {
    std::vector<std::uint32_t> stamps;
    for (const std::uint32_t first : {900000U, 17U, 400U})
        for (std::uint32_t i = 0; i < 50; ++i)
            stamps.push_back(first + 2 * i);
    // 17 + 98 to 400: a pause that is kept.
    EXPECT_EQ(tr_from(stamps, 2.5 * ms), 5 * ms);
    ReadoutClock clock(5 * ms, 2.5 * ms, true);
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        const double pause = i >= 100 ? (400 - 17 - 98 - 2) * 2.5 * ms : 0;
        EXPECT_NEAR(clock.next(stamps[i]), 5 * ms * static_cast<double>(i) + pause, 1) << i;
    }
}

TEST(ReadoutClock, time_goes_on_while_stamps_stand_still) {
    // One stamp for a shot of eight readouts of 3 ms; then the stamps stop.
    std::vector<std::uint32_t> stamps;
    for (int i = 0; i < 240; ++i)
        stamps.push_back(static_cast<std::uint32_t>(5000 + std::lround(i / 8 * 24 / 2.5)));
    const auto tr = tr_from(stamps, 2.5 * ms);
    ASSERT_TRUE(tr);
    // 29 shots, the ends of which are within half a tick.
    EXPECT_NEAR(*tr, 3 * ms, 2.5 * ms / (29 * 8));
    stamps.insert(stamps.end(), 200, stamps.back());
    ReadoutClock clock(*tr, 2.5 * ms, true);
    double last = -1;
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        const double now = clock.next(stamps[i]);
        EXPECT_GT(now, last + 0.5 * ms * (i > 0)) << i;
        EXPECT_NEAR(now, 3 * ms * static_cast<double>(i), 5 * ms) << i;
        last = now;
    }
    const std::vector<std::uint32_t> still(100, 7);
    EXPECT_FALSE(tr_from(still, 2.5 * ms));
}

TEST(ReadoutClock, readouts_in_another_order_have_no_tr) {
    // Sorted by cardiac phase: each line comes from another beat.
    std::vector<std::uint32_t> stamps;
    for (std::uint32_t phase = 0; phase < 16; ++phase)
        for (std::uint32_t beat = 0; beat < 4; ++beat)
            stamps.push_back(1000 + 400 * beat + 20 * phase);
    EXPECT_FALSE(tr_from(stamps, 2.5 * ms));
    // Stamps that a clock jumps about with: never back, never still.
    ReadoutClock clock(3 * ms, 2.5 * ms, true);
    double last = -1;
    for (const std::uint32_t stamp : stamps) {
        const double now = clock.next(stamp);
        EXPECT_GT(now, last);
        last = now;
    }
}

// ---- writing
// --------------------------------------------------------------------------------------------------------

ISMRMRD::ISMRMRD_ImageHeader image_header(int width, int height, int channels, bool complex, int series = 0) {
    ISMRMRD::ISMRMRD_ImageHeader head{};
    head.version = 1;
    head.data_type = complex ? ISMRMRD::ISMRMRD_CXFLOAT : ISMRMRD::ISMRMRD_FLOAT;
    head.matrix_size[0] = static_cast<std::uint16_t>(width);
    head.matrix_size[1] = static_cast<std::uint16_t>(height);
    head.matrix_size[2] = 1;
    head.channels = static_cast<std::uint16_t>(channels);
    head.image_series_index = static_cast<std::uint16_t>(series);
    return head;
}

template <class T>
std::vector<T> ramp(std::size_t count, float first) {
    std::vector<T> values(count);
    for (std::size_t i = 0; i < count; ++i)
        values[i] = T(first + static_cast<float>(i));
    return values;
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        names.push_back(entry.path().filename().string());
    return names;
}

TEST_F(IsmrmrdFile, the_reference_library_reads_written_images) {
    using cfloat = std::complex<float>;
    {
        IsmrmrdWriter writer({.path = path});
        writer.set_xml(header_xml());
        for (int i = 0; i < 5; ++i) {
            auto head = image_header(6, 4, 2, true, 3);
            head.image_index = static_cast<std::uint16_t>(i);
            head.user_float[7] = 0.5F;
            const auto pixels = ramp<cfloat>(48, static_cast<float>(100 * i));
            writer.add(head, std::as_bytes(std::span(pixels)), "<ismrmrdMeta/>");
        }
        const auto real = ramp<float>(15, 7);
        writer.add(image_header(5, 3, 1, false, 4), std::as_bytes(std::span(real)), "");
        EXPECT_EQ(names_in(folder.path()).size(), 2U) << "the unfinished file and the recording";
        EXPECT_FALSE(std::filesystem::exists(path)) << "the name appeared before the file was complete";
        writer.finish();
        EXPECT_EQ(writer.images(), 6U);
    }
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"scan.h5"});

    ISMRMRD::Dataset dataset(path.c_str(), "dataset", false);
    std::string xml;
    dataset.readHeader(xml);
    EXPECT_EQ(xml, header_xml());
    ASSERT_EQ(dataset.getNumberOfImages("image_3"), 5U);
    ISMRMRD::Image<cfloat> image;
    dataset.readImage("image_3", 4, image);
    EXPECT_EQ(image.getMatrixSizeX(), 6);
    EXPECT_EQ(image.getMatrixSizeY(), 4);
    EXPECT_EQ(image.getNumberOfChannels(), 2);
    EXPECT_EQ(image.getImageIndex(), 4);
    EXPECT_EQ(image.getUserFloat(7), 0.5F);
    EXPECT_EQ(image.getAttributeString(), std::string("<ismrmrdMeta/>"));
    EXPECT_EQ(image(5, 3, 0, 1), cfloat(447));
    ISMRMRD::Image<float> real;
    dataset.readImage("image_4", 0, real);
    EXPECT_EQ(real(4, 2, 0, 0), 21);
}

TEST_F(IsmrmrdFile, an_unfinished_writer_leaves_nothing) {
    {
        IsmrmrdWriter writer({.path = path});
        const auto real = ramp<float>(15, 7);
        writer.add(image_header(5, 3, 1, false), std::as_bytes(std::span(real)), "");
    }
    EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST_F(IsmrmrdFile, an_old_file_stays_until_the_new_one_is_complete) {
    write_bytes(path, "old");
    { IsmrmrdWriter writer({.path = path}); }
    EXPECT_EQ(file_bytes(path), "old");
    IsmrmrdWriter writer({.path = path});
    writer.finish();
    EXPECT_NE(file_bytes(path), "old");
}

TEST_F(IsmrmrdFile, readouts_are_never_overwritten) {
    write_ismrmrd(path, header_xml(), rows_of(4));
    const std::string before = file_bytes(path);
    try {
        IsmrmrdWriter writer({.path = path});
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::open_write);
        EXPECT_NE(std::string(error.what()).find("append"), std::string::npos);
    }
    EXPECT_EQ(file_bytes(path), before);

    const auto real = ramp<float>(15, 7);
    for (int pass = 0; pass < 2; ++pass) {
        IsmrmrdWriter writer({.path = path, .append = true});
        writer.set_xml("<other/>");
        writer.add(image_header(5, 3, 1, false), std::as_bytes(std::span(real)), "");
        writer.finish();
    }
    EXPECT_EQ(ISMRMRD::Dataset(path.c_str(), "dataset", false).getNumberOfImages("image_0"), 2U);
    EXPECT_EQ(IsmrmrdReader({.path = path}).rows(), 4U);
    EXPECT_EQ(IsmrmrdReader({.path = path}).xml(), header_xml());
}

TEST_F(IsmrmrdFile, images_of_a_series_are_alike) {
    IsmrmrdWriter writer({.path = path});
    const auto real = ramp<float>(15, 7);
    const auto bytes = std::as_bytes(std::span(real));
    writer.add(image_header(5, 3, 1, false), bytes, "");
    EXPECT_THROW(writer.add(image_header(3, 5, 1, false), bytes, ""), Error);
    EXPECT_THROW(writer.add(image_header(5, 3, 2, false), bytes, ""), Error);
    EXPECT_THROW(writer.add(image_header(0, 3, 1, false, 1), {}, ""), Error);
    EXPECT_THROW(writer.add(image_header(65535, 65535, 65535, false, 1), bytes, ""), Error);
    writer.add(image_header(3, 5, 1, false, 1), bytes, "");
    writer.finish();
}

TEST_F(IsmrmrdFile, an_impossible_target_is_an_error) {
    for (const std::string& target : {std::string(), folder / "no/such/folder/x.h5", folder.path()}) {
        try {
            IsmrmrdWriter writer({.path = target});
            ADD_FAILURE() << target;
        } catch (const Error& error) {
            EXPECT_TRUE(error.code() == Errc::open_write || error.code() == Errc::settings);
        }
    }
    EXPECT_THROW(IsmrmrdWriter({.path = path, .group = "a/b"}), Error);
    EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST_F(IsmrmrdFile, reading_and_writing_at_once_share_the_library) {
    write_ismrmrd(path, header_xml(), rows_of(400, 64, 4));
    std::thread reading([&] {
        for (int pass = 0; pass < 3; ++pass) {
            IsmrmrdReader reader({.path = path, .block_bytes = 4096});
            std::uint64_t rows = 0;
            while (reader.next())
                ++rows;
            EXPECT_EQ(rows, 400U);
        }
    });
    IsmrmrdWriter writer({.path = folder / "images.h5"});
    const auto real = ramp<float>(64 * 64, 0);
    for (int i = 0; i < 200; ++i)
        writer.add(image_header(64, 64, 1, false), std::as_bytes(std::span(real)), "");
    writer.finish();
    reading.join();
    EXPECT_EQ(writer.images(), 200U);
}

void add(IsmrmrdWriter& writer, const FileRow& row) {
    writer.add(row.head, row.trajectory, row.data);
}

bool operator==(const FileRow& row, const ISMRMRD::Acquisition& read) {
    return std::memcmp(&row.head, &read.getHead(), sizeof row.head) == 0 &&
           std::equal(row.data.begin(), row.data.end(), read.data_begin(), read.data_end()) &&
           std::equal(row.trajectory.begin(), row.trajectory.end(), read.traj_begin(), read.traj_end());
}

/// The readouts of a file are these rows and no others.
void expect_rows(const std::string& path, std::span<const FileRow> rows) {
    ISMRMRD::Dataset dataset(path.c_str(), "dataset", false);
    ASSERT_EQ(dataset.getNumberOfAcquisitions(), rows.size());
    for (std::uint32_t i = 0; i < rows.size(); ++i) {
        ISMRMRD::Acquisition read;
        dataset.readAcquisition(i, read);
        ASSERT_TRUE(rows[i] == read) << "row " << i;
    }
}

TEST_F(IsmrmrdFile, the_reference_library_reads_written_readouts) {
    // Noise of another length between readouts with and without positions.
    std::vector<FileRow> rows = rows_of(150, 16, 2, 2);
    rows[0] = file_row(40, 2);
    rows[0].head.flags = std::uint64_t{1} << (ISMRMRD::ISMRMRD_ACQ_IS_NOISE_MEASUREMENT - 1);
    rows[7] = file_row(24, 3, 3, 5);
    for (FileRow& row : rows)
        for (std::size_t i = 0; i < row.trajectory.size(); ++i)
            row.trajectory[i] = 0.01F * static_cast<float>(i);
    rows[9].head.user_int[3] = -7;
    rows[9].head.user_float[7] = 0.25F;
    rows[9].head.channel_mask[15] = std::uint64_t{1} << 63;
    rows[9].head.encoding_space_ref = 0;
    rows[9].head.idx.user[7] = 65535;
    {
        IsmrmrdWriter writer({.path = path, .trajectory_unit = TrajectoryUnit::encoded_cycles});
        writer.set_xml(header_xml());
        for (const FileRow& row : rows)
            add(writer, row);
        EXPECT_EQ(writer.readouts(), rows.size());
        EXPECT_THROW(writer.add(rows[0].head, rows[0].trajectory, {}), Error);
        writer.finish();
    }
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"scan.h5"});
    expect_rows(path, rows);
    IsmrmrdReader reader({.path = path});
    EXPECT_EQ(reader.xml(), header_xml());
    EXPECT_EQ(reader.trajectory_unit(), TrajectoryUnit::encoded_cycles);
    for (const FileRow& row : rows) {
        const auto read = reader.next();
        ASSERT_TRUE(read);
        EXPECT_TRUE(std::equal(row.data.begin(), row.data.end(), read->data.begin(), read->data.end()));
    }
}

TEST_F(IsmrmrdFile, readouts_are_added_to_what_the_reference_library_wrote) {
    std::vector<FileRow> rows = rows_of(5);
    {
        ISMRMRD::Dataset dataset(path.c_str(), "dataset");
        dataset.writeHeader(header_xml());
        for (int i = 0; i < 2; ++i) {
            ISMRMRD::Acquisition acquisition(16, 2);
            ISMRMRD::AcquisitionHeader head;
            static_cast<ISMRMRD::ISMRMRD_AcquisitionHeader&>(head) = rows[i].head;
            acquisition.setHead(head);
            std::copy(rows[i].data.begin(), rows[i].data.end(), acquisition.data_begin());
            dataset.appendAcquisition(acquisition);
        }
    }
    {
        IsmrmrdWriter writer({.path = path, .append = true});
        EXPECT_EQ(writer.xml(), header_xml());
        for (int i = 2; i < 5; ++i)
            add(writer, rows[i]);
        writer.finish();
    }
    expect_rows(path, rows);
    // Nobody knows the unit of its trajectories.
    IsmrmrdWriter writer({.path = path, .append = true});
    EXPECT_THROW(add(writer, file_row(16, 2, 2)), Error);
}

TEST_F(IsmrmrdFile, trajectories_of_two_units_do_not_share_a_file) {
    {
        IsmrmrdWriter writer({.path = path});
        add(writer, file_row(16, 2, 2));
        writer.finish();
    }
    IsmrmrdWriter writer({.path = path, .append = true, .trajectory_unit = TrajectoryUnit::cycles});
    try {
        add(writer, file_row(16, 2, 2));
        FAIL();
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("normalised"), std::string::npos) << error.what();
    }
}

/// An HDF5 file whose /dataset/image_0 has datasets of these types.
void write_series(const std::string& path, hid_t data, hid_t header, hid_t attributes, bool grows = true) {
    const Hdf5Lock lock;
    const Hdf5Id file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    const Hdf5Id group(H5Gcreate2(file.get(), "dataset", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    const Hdf5Id series(H5Gcreate2(group.get(), "image_0", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    const auto make = [&](const char* name, hid_t type, std::vector<hsize_t> extent) {
        std::vector<hsize_t> most = extent;
        most[0] = grows ? H5S_UNLIMITED : extent[0];
        const int rank = static_cast<int>(extent.size());
        const Hdf5Id space(H5Screate_simple(rank, extent.data(), most.data())),
            list(H5Pcreate(H5P_DATASET_CREATE));
        H5Pset_chunk(list.get(), rank, extent.data());
        EXPECT_GE(
            Hdf5Id(H5Dcreate2(series.get(), name, type, space.get(), H5P_DEFAULT, list.get(), H5P_DEFAULT))
                .get(),
            0);
    };
    make("data", data, {1, 1, 1, 3, 5});
    make("header", header, {1});
    make("attributes", attributes, {1});
}

TEST_F(IsmrmrdFile, what_is_appended_to_has_the_types_of_the_format) {
    const Hdf5Id header = hdf5_image_header_type(), text = hdf5_string_type(), complex = hdf5_complex_type();
    const Hdf5Id fixed(H5Tcopy(H5T_C_S1)), vector(H5Tvlen_create(H5T_NATIVE_FLOAT));
    H5Tset_size(fixed.get(), 8);
    const Hdf5Id utf8 = hdf5_string_type();
    H5Tset_cset(utf8.get(), H5T_CSET_UTF8);
    const Hdf5Id other(H5Tcreate(H5T_COMPOUND, 400));
    H5Tinsert(other.get(), "version", 0, H5T_NATIVE_UINT16);
    struct Case {
        hid_t data, header, attributes;
        bool grows, good;
    };
    const auto real = ramp<float>(15, 7);
    for (const Case& c : {Case{H5T_NATIVE_FLOAT, header.get(), text.get(), true, true},
                          Case{H5T_NATIVE_FLOAT, header.get(), utf8.get(), true, true},
                          Case{H5T_NATIVE_B32, header.get(), text.get(), true, false},
                          Case{H5T_NATIVE_DOUBLE, header.get(), text.get(), true, false},
                          Case{H5T_IEEE_F32BE, header.get(), text.get(), true, false},
                          Case{vector.get(), header.get(), text.get(), true, false},
                          Case{complex.get(), header.get(), text.get(), true, false},
                          Case{H5T_NATIVE_FLOAT, other.get(), text.get(), true, false},
                          Case{H5T_NATIVE_FLOAT, H5T_NATIVE_B64, text.get(), true, false},
                          Case{H5T_NATIVE_FLOAT, header.get(), fixed.get(), true, false},
                          Case{H5T_NATIVE_FLOAT, header.get(), vector.get(), true, false},
                          Case{H5T_NATIVE_FLOAT, header.get(), text.get(), false, false}}) {
        write_series(path, c.data, c.header, c.attributes, c.grows);
        const std::string before = file_bytes(path);
        try {
            IsmrmrdWriter writer({.path = path, .append = true});
            writer.add(image_header(5, 3, 1, false), std::as_bytes(std::span(real)), "<a/>");
            writer.finish();
            EXPECT_TRUE(c.good);
        } catch (const Error& error) {
            EXPECT_FALSE(c.good) << error.what() << " " << error.detail();
            EXPECT_NE(std::string(error.what()).find("series 0"), std::string::npos) << error.what();
            EXPECT_EQ(file_bytes(path), before);
        }
    }
}

/// Bytes of a recording of `rows`, as a writer that is killed leaves it.
std::string recording_of(const std::string& path, std::span<const FileRow> rows) {
    {
        IsmrmrdWriter writer({.path = path});
        writer.set_xml(header_xml());
        for (const FileRow& row : rows)
            add(writer, row);
    }
    return file_bytes(path + ".recording");
}

TEST_F(IsmrmrdFile, readouts_of_an_unfinished_writer_are_recovered) {
    const std::vector<FileRow> rows = rows_of(20, 16, 2, 2);
    ASSERT_FALSE(recording_of(path, rows).empty());
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"scan.h5.recording"});
    const auto recovered = recover_recording(path);
    ASSERT_TRUE(recovered);
    EXPECT_EQ(recovered->path, path);
    EXPECT_EQ(recovered->readouts, 20U);
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"scan.h5"});
    expect_rows(path, rows);
    EXPECT_EQ(IsmrmrdReader({.path = path}).xml(), header_xml());
    EXPECT_EQ(IsmrmrdReader({.path = path}).trajectory_unit(), TrajectoryUnit::normalised);
    EXPECT_FALSE(recover_recording(path)) << "there is nothing more";
}

TEST_F(IsmrmrdFile, whole_blocks_are_recovered_wherever_a_recording_ends) {
    const std::vector<FileRow> rows = rows_of(3, 4, 1, 2);
    const std::string whole = recording_of(path, rows);
    const std::string recording = path + ".recording";
    // Number, head, and for each of 4 samples two coordinates and one complex value.
    constexpr std::size_t block = 2 + 340 + 4 * (8 + 8);
    const std::size_t first = whole.size() - 3 * block;
    for (std::size_t end = 0; end <= whole.size(); end += end % 7 + 1) {
        std::filesystem::remove(path);
        write_bytes(recording, whole.substr(0, end));
        const auto recovered = recover_recording(path);
        ASSERT_TRUE(recovered);
        const std::size_t expected = end < first ? 0 : (end - first) / block;
        ASSERT_EQ(recovered->readouts, expected) << end;
        EXPECT_EQ(std::filesystem::exists(path), expected > 0);
        EXPECT_FALSE(std::filesystem::exists(recording));
    }
    // Damage is no reason to allocate what a length claims, and another file is no recording.
    std::string damaged = whole;
    damaged[first + 2 + 34] = damaged[first + 2 + 35] = '\xff'; // number_of_samples
    write_bytes(recording, damaged);
    EXPECT_EQ(recover_recording(path)->readouts, 0U);
    write_bytes(recording, "some other file");
    EXPECT_THROW(recover_recording(path), Error);
    EXPECT_EQ(file_bytes(recording), "some other file");
}

TEST_F(IsmrmrdFile, the_next_writer_recovers_and_says_so) {
    const std::vector<FileRow> rows = rows_of(20);
    for (const char* name : {"scan-recovered.h5", "scan-recovered-2.h5"}) {
        recording_of(path, rows);
        IsmrmrdWriter writer({.path = path});
        EXPECT_NE(writer.notice().find(folder / name), std::string::npos) << writer.notice();
        EXPECT_NE(writer.notice().find("20 readouts"), std::string::npos) << writer.notice();
        expect_rows(folder / name, rows);
        // One at a time: the recording belongs to this writer.
        EXPECT_THROW(IsmrmrdWriter({.path = path}), Error);
        EXPECT_THROW(recover_recording(path), Error);
    }
    EXPECT_TRUE(IsmrmrdWriter({.path = path}).notice().empty());
}

TEST_F(IsmrmrdFile, names_of_any_length_that_a_folder_takes_are_written) {
    const std::string name = folder / std::string(252, 'a') + ".h5";
    const std::vector<FileRow> rows = rows_of(2);
    {
        IsmrmrdWriter writer({.path = name});
        for (const FileRow& row : rows)
            add(writer, row);
    }
    ASSERT_TRUE(recover_recording(name));
    expect_rows(name, rows);
}

TEST_F(IsmrmrdFile, every_block_that_was_written_survives_a_kill) {
    const std::vector<FileRow> rows = rows_of(2000, 32, 4, 2);
    const auto pixels = ramp<float>(15, 7);
    std::mt19937 random(5);
    std::uniform_int_distribution<int> microseconds(0, 50000);
    std::size_t most = 0;
    for (int run = 0; run < 50; ++run) {
        std::filesystem::remove(path);
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            // A byte in the pipe for each block that is complete.
            IsmrmrdWriter writer({.path = path});
            writer.set_xml(header_xml());
            for (std::size_t i = 0;; ++i) {
                if (run % 2 == 0)
                    add(writer, rows[i % rows.size()]);
                else
                    writer.add(image_header(5, 3, 1, false), std::as_bytes(std::span(pixels)), "<a/>");
                if (::write(ends[1], "", 1) != 1)
                    ::_exit(1);
            }
        }
        ::close(ends[1]);
        char byte = 0;
        std::size_t complete = 0;
        ASSERT_EQ(::read(ends[0], &byte, 1), 1); // it is at work
        ++complete;
        ::usleep(static_cast<useconds_t>(microseconds(random)));
        ::kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status));
        while (::read(ends[0], &byte, 1) == 1)
            ++complete;
        ::close(ends[0]);

        const auto recovered = recover_recording(path);
        ASSERT_TRUE(recovered);
        const std::size_t count = run % 2 == 0 ? recovered->readouts : recovered->images;
        // The last one may have been written before its byte was.
        EXPECT_GE(count, complete);
        EXPECT_LE(count, complete + 1);
        EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"scan.h5"});
        if (run % 2 == 0 && count <= rows.size())
            expect_rows(path, std::span(rows).first(count));
        if (run % 2 == 1) {
            EXPECT_EQ(ISMRMRD::Dataset(path.c_str(), "dataset", false).getNumberOfImages("image_0"), count);
        }
        most = std::max(most, count);
    }
    EXPECT_GT(most, 3U) << "the moments were all at the beginning";
}

TEST_F(IsmrmrdFile, stored_positions_are_read_again) {
    HeaderOptions options;
    options.encoded_width = 384;
    options.encoded_fov = 720;
    options.encoded_height = options.width = options.height = 192;
    options.fov = 360;
    options.type = ISMRMRD::TrajectoryType::RADIAL;
    const EncodingGeometry g = encoding_geometry(MrdHeader::parse(header_xml(options)), 0);
    const std::vector<float> kxy{-96, 0, 95.75F, -33.3F, 0.1F, 12};
    for (const auto unit : {TrajectoryUnit::normalised, TrajectoryUnit::encoded_cycles,
                            TrajectoryUnit::cycles, TrajectoryUnit::radians, TrajectoryUnit::per_metre}) {
        const auto stored = stored_trajectory(kxy, {}, 2, unit, g);
        if (unit == TrajectoryUnit::normalised) {
            EXPECT_EQ(stored[0], -0.5F); // the edge of 384 samples over 720 mm
        }
        if (unit == TrajectoryUnit::encoded_cycles) {
            EXPECT_EQ(stored[0], -192.0F);
        }
        std::vector<float> read(kxy.size());
        convert_trajectory(stored, 2, unit, g, read.data());
        for (std::size_t i = 0; i < kxy.size(); ++i)
            EXPECT_NEAR(read[i], kxy[i], std::abs(kxy[i]) * 1.2e-7); // two roundings of 2^-24
        EXPECT_EQ(trajectory_unit_from(to_string(unit)), unit);
    }
    const auto weighted = stored_trajectory(kxy, std::vector<float>{1, 2, 3}, 3, TrajectoryUnit::cycles, g);
    EXPECT_EQ(weighted, (std::vector<float>{-96, 0, 1, 95.75F, -33.3F, 2, 0.1F, 12, 3}));
}

TEST(ImageEncoder, stores_the_part_that_is_asked_for) {
    using cfloat = std::complex<float>;
    const std::vector<cfloat> image{{3, 4}, {-6, 8}, {0, 0}};
    const auto floats = [&](ImagePart part) {
        ImageEncoder encoder(part, PixelType::float32, true);
        const auto bytes = encoder.encode(image);
        EXPECT_EQ(encoder.data_type(), ISMRMRD::ISMRMRD_FLOAT);
        std::vector<float> values(bytes.size() / sizeof(float));
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    };
    EXPECT_EQ(floats(ImagePart::magnitude), (std::vector<float>{5, 10, 0}));
    EXPECT_EQ(floats(ImagePart::real), (std::vector<float>{3, -6, 0}));
    EXPECT_EQ(floats(ImagePart::imaginary), (std::vector<float>{4, 8, 0}));
    EXPECT_NEAR(floats(ImagePart::phase)[1], std::atan2(8, -6), 1e-6);
    ImageEncoder whole(ImagePart::all, PixelType::float32, true);
    EXPECT_EQ(whole.encode(image).size(), image.size() * sizeof(cfloat));
    EXPECT_EQ(whole.image_type(), ISMRMRD::ISMRMRD_IMTYPE_COMPLEX);
    EXPECT_EQ(whole.window_width(), 0);
    EXPECT_THROW(ImageEncoder(ImagePart::all, PixelType::int16, true), Error);
    EXPECT_THROW(ImageEncoder(ImagePart::phase, PixelType::float32, false), Error);
}

TEST(ImageEncoder, integers_of_a_series_have_one_scale) {
    ImageEncoder encoder(ImagePart::magnitude, PixelType::int16, false);
    const auto integers = [&](const std::vector<float>& image) {
        const auto bytes = encoder.encode(image);
        std::vector<std::int16_t> values(bytes.size() / 2);
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    };
    EXPECT_EQ(integers({0, 0, 0}), (std::vector<std::int16_t>{0, 0, 0}));
    EXPECT_EQ(encoder.slope(), 0) << "nothing is known of the scale";
    EXPECT_EQ(integers({0, 50, 100}), (std::vector<std::int16_t>{0, 8192, 16384})); // 32767 is 200
    EXPECT_DOUBLE_EQ(encoder.slope(), 200 / 32767.0);
    EXPECT_NEAR(encoder.window_width() * encoder.slope(), 99.5, 1); // the 99.5th percentile of three values
    EXPECT_NEAR(encoder.window_centre(), encoder.window_width() / 2, 1e-9);
    EXPECT_EQ(integers({200, -100, NAN})[1], 16384) << "a magnitude";
    EXPECT_EQ(encoder.clipped(), 1U) << "what is no number";
    EXPECT_EQ(integers({250, 0, 0})[0], 32767);
    EXPECT_EQ(encoder.clipped(), 2U);
}

} // namespace
