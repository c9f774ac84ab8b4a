// SPDX-License-Identifier: LGPL-2.1-or-later
// ISMRMRD files made on the spot: whole ones, and ones that contradict themselves.
#pragma once

#include "plugins/source/ismrmrd/hdf5.hpp"
#include "tests/support/temp_dir.hpp"

#include <ismrmrd/ismrmrd.h>
#include <ismrmrd/xml.h>

#include <complex>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace mri::test {

struct FileRow {
    ISMRMRD::ISMRMRD_AcquisitionHeader head{};
    std::vector<float> trajectory;
    std::vector<std::complex<float>> data;
};

/// A row whose head fits its data; the data count up from `first` so that no two values are alike.
inline FileRow file_row(int samples, int channels, int dimensions = 0, float first = 0) {
    FileRow row;
    row.head.version = 1;
    row.head.number_of_samples = static_cast<std::uint16_t>(samples);
    row.head.active_channels = row.head.available_channels = static_cast<std::uint16_t>(channels);
    row.head.trajectory_dimensions = static_cast<std::uint16_t>(dimensions);
    row.head.center_sample = static_cast<std::uint16_t>(samples / 2);
    for (int i = 0; i < samples * channels; ++i)
        row.data.emplace_back(first + static_cast<float>(i), -first - static_cast<float>(i));
    row.trajectory.assign(static_cast<std::size_t>(samples) * dimensions, 0.0F);
    return row;
}

struct HeaderOptions {
    int encoded_width = 64, encoded_height = 32;
    int width = 32, height = 32;
    float encoded_fov = 600, fov = 300;
    ISMRMRD::TrajectoryType type = ISMRMRD::TrajectoryType::CARTESIAN;
    int lines = 32;
    int repetitions = 1;
};

inline std::string header_xml(const HeaderOptions& o = {}) {
    ISMRMRD::IsmrmrdHeader header;
    header.experimentalConditions.H1resonanceFrequency_Hz = 63500000;
    ISMRMRD::Encoding encoding;
    const auto u16 = [](int value) { return static_cast<unsigned short>(value); };
    encoding.encodedSpace.matrixSize = {u16(o.encoded_width), u16(o.encoded_height)};
    encoding.encodedSpace.fieldOfView_mm = {o.encoded_fov, o.fov, 6};
    encoding.reconSpace.matrixSize = {u16(o.width), u16(o.height)};
    encoding.reconSpace.fieldOfView_mm = {o.fov, o.fov, 6};
    encoding.trajectory = o.type;
    encoding.encodingLimits.kspace_encoding_step_1 = ISMRMRD::Limit(0, u16(o.lines - 1), u16(o.lines / 2));
    encoding.encodingLimits.repetition = ISMRMRD::Limit(0, u16(o.repetitions - 1), 0);
    header.encoding.push_back(encoding);
    std::ostringstream text;
    ISMRMRD::serialize(header, text);
    return text.str();
}

/// Writes a file as it is told to, however little head and data fit each other.
inline void write_ismrmrd(const std::string& path, const std::string& xml, const std::vector<FileRow>& rows,
                          const std::string& group_name = "dataset") {
    struct Row {
        ISMRMRD::ISMRMRD_AcquisitionHeader head;
        hvl_t trajectory, data;
    };
    const Hdf5Lock lock;
    const Hdf5Id file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    const Hdf5Id group(H5Gcreate2(file.get(), group_name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    {
        const hsize_t one = 1;
        const Hdf5Id space(H5Screate_simple(1, &one, nullptr));
        const Hdf5Id type = hdf5_string_type();
        const Hdf5Id set(
            H5Dcreate2(group.get(), "xml", type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        const char* text = xml.c_str();
        H5Dwrite(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text);
    }
    const Hdf5Id head = hdf5_acquisition_header_type();
    const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT));
    const Hdf5Id type(H5Tcreate(H5T_COMPOUND, sizeof(Row)));
    H5Tinsert(type.get(), "head", offsetof(Row, head), head.get());
    H5Tinsert(type.get(), "traj", offsetof(Row, trajectory), sequence.get());
    H5Tinsert(type.get(), "data", offsetof(Row, data), sequence.get());
    std::vector<Row> memory(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        memory[i].head = rows[i].head;
        memory[i].trajectory = {rows[i].trajectory.size(), const_cast<float*>(rows[i].trajectory.data())};
        memory[i].data = {rows[i].data.size() * 2,
                          reinterpret_cast<float*>(const_cast<std::complex<float>*>(rows[i].data.data()))};
    }
    const hsize_t count = rows.size(), unlimited = H5S_UNLIMITED, chunk = 1;
    const Hdf5Id space(H5Screate_simple(1, &count, &unlimited));
    const Hdf5Id list(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_chunk(list.get(), 1, &chunk);
    const Hdf5Id set(
        H5Dcreate2(group.get(), "data", type.get(), space.get(), H5P_DEFAULT, list.get(), H5P_DEFAULT));
    if (count)
        H5Dwrite(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, memory.data());
}

inline std::string file_bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

} // namespace mri::test
