// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/hdf5.hpp"

#include <ismrmrd/ismrmrd.h>

#include <complex>
#include <cstddef>

namespace mri {

namespace {

std::recursive_mutex& hdf5_mutex() {
    // Never destroyed: handles of static lifetime may still be closed when the process exits.
    static auto* mutex = new std::recursive_mutex;
    return *mutex;
}

int depth = 0; // of nested locks; guarded by the mutex

herr_t append_cause(unsigned, const H5E_error2_t* entry, void* text) {
    auto& out = *static_cast<std::string*>(text);
    if (!out.empty())
        out += "; ";
    out += entry->func_name ? entry->func_name : "?";
    out += ": ";
    out += entry->desc ? entry->desc : "?";
    return 0;
}

void insert(const Hdf5Id& type, const char* name, std::size_t offset, hid_t member) {
    hdf5_check(H5Tinsert(type.get(), name, offset, member), Errc::failed,
               "HDF5 cannot describe ISMRMRD's headers");
}

void insert_array(const Hdf5Id& type, const char* name, std::size_t offset, hid_t member, hsize_t count) {
    const Hdf5Id array(H5Tarray_create2(member, 1, &count));
    insert(type, name, offset, array.get());
}

Hdf5Id compound(std::size_t size) {
    return hdf5_checked(H5Tcreate(H5T_COMPOUND, size), Errc::failed, "HDF5 cannot make a compound type");
}

} // namespace

Hdf5Lock::Hdf5Lock() : lock_(hdf5_mutex()) {
    // Only the outermost touches the printer: these calls empty the error stack, which an inner lock is there
    // to read.
    if (depth++ > 0)
        return;
    H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Lock::~Hdf5Lock() {
    if (--depth == 0)
        H5Eset_auto2(H5E_DEFAULT, print_, print_data_);
}

bool Hdf5Id::close() noexcept {
    if (id_ < 0)
        return true;
    const Hdf5Lock lock;
    return H5Idec_ref(std::exchange(id_, H5I_INVALID_HID)) >= 0;
}

Error hdf5_error(Errc code, const std::string& message) {
    std::string detail;
    const Hdf5Lock lock;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, append_cause, &detail);
    return Error(code, message, detail.empty() ? std::string() : "HDF5: " + detail);
}

Hdf5Id hdf5_checked(hid_t id, Errc code, const std::string& message) {
    if (id < 0)
        throw hdf5_error(code, message);
    return Hdf5Id(id);
}

void hdf5_check(herr_t status, Errc code, const std::string& message) {
    if (status < 0)
        throw hdf5_error(code, message);
}

Hdf5Id hdf5_acquisition_header_type() {
    using Counters = ISMRMRD::ISMRMRD_EncodingCounters;
    using Header = ISMRMRD::ISMRMRD_AcquisitionHeader;
    const Hdf5Lock lock;

    Hdf5Id idx = compound(sizeof(Counters));
    insert(idx, "kspace_encode_step_1", offsetof(Counters, kspace_encode_step_1), H5T_NATIVE_UINT16);
    insert(idx, "kspace_encode_step_2", offsetof(Counters, kspace_encode_step_2), H5T_NATIVE_UINT16);
    insert(idx, "average", offsetof(Counters, average), H5T_NATIVE_UINT16);
    insert(idx, "slice", offsetof(Counters, slice), H5T_NATIVE_UINT16);
    insert(idx, "contrast", offsetof(Counters, contrast), H5T_NATIVE_UINT16);
    insert(idx, "phase", offsetof(Counters, phase), H5T_NATIVE_UINT16);
    insert(idx, "repetition", offsetof(Counters, repetition), H5T_NATIVE_UINT16);
    insert(idx, "set", offsetof(Counters, set), H5T_NATIVE_UINT16);
    insert(idx, "segment", offsetof(Counters, segment), H5T_NATIVE_UINT16);
    insert_array(idx, "user", offsetof(Counters, user), H5T_NATIVE_UINT16, ISMRMRD::ISMRMRD_USER_INTS);

    Hdf5Id head = compound(sizeof(Header));
    insert(head, "version", offsetof(Header, version), H5T_NATIVE_UINT16);
    insert(head, "flags", offsetof(Header, flags), H5T_NATIVE_UINT64);
    insert(head, "measurement_uid", offsetof(Header, measurement_uid), H5T_NATIVE_UINT32);
    insert(head, "scan_counter", offsetof(Header, scan_counter), H5T_NATIVE_UINT32);
    insert(head, "acquisition_time_stamp", offsetof(Header, acquisition_time_stamp), H5T_NATIVE_UINT32);
    insert_array(head, "physiology_time_stamp", offsetof(Header, physiology_time_stamp), H5T_NATIVE_UINT32,
                 ISMRMRD::ISMRMRD_PHYS_STAMPS);
    insert(head, "number_of_samples", offsetof(Header, number_of_samples), H5T_NATIVE_UINT16);
    insert(head, "available_channels", offsetof(Header, available_channels), H5T_NATIVE_UINT16);
    insert(head, "active_channels", offsetof(Header, active_channels), H5T_NATIVE_UINT16);
    insert_array(head, "channel_mask", offsetof(Header, channel_mask), H5T_NATIVE_UINT64,
                 ISMRMRD::ISMRMRD_CHANNEL_MASKS);
    insert(head, "discard_pre", offsetof(Header, discard_pre), H5T_NATIVE_UINT16);
    insert(head, "discard_post", offsetof(Header, discard_post), H5T_NATIVE_UINT16);
    insert(head, "center_sample", offsetof(Header, center_sample), H5T_NATIVE_UINT16);
    insert(head, "encoding_space_ref", offsetof(Header, encoding_space_ref), H5T_NATIVE_UINT16);
    insert(head, "trajectory_dimensions", offsetof(Header, trajectory_dimensions), H5T_NATIVE_UINT16);
    insert(head, "sample_time_us", offsetof(Header, sample_time_us), H5T_NATIVE_FLOAT);
    insert_array(head, "position", offsetof(Header, position), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "read_dir", offsetof(Header, read_dir), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "phase_dir", offsetof(Header, phase_dir), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "slice_dir", offsetof(Header, slice_dir), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "patient_table_position", offsetof(Header, patient_table_position), H5T_NATIVE_FLOAT,
                 3);
    insert(head, "idx", offsetof(Header, idx), idx.get());
    insert_array(head, "user_int", offsetof(Header, user_int), H5T_NATIVE_INT32, ISMRMRD::ISMRMRD_USER_INTS);
    insert_array(head, "user_float", offsetof(Header, user_float), H5T_NATIVE_FLOAT,
                 ISMRMRD::ISMRMRD_USER_FLOATS);
    return head;
}

Hdf5Id hdf5_image_header_type() {
    using Header = ISMRMRD::ISMRMRD_ImageHeader;
    const Hdf5Lock lock;
    Hdf5Id head = compound(sizeof(Header));
    insert(head, "version", offsetof(Header, version), H5T_NATIVE_UINT16);
    insert(head, "data_type", offsetof(Header, data_type), H5T_NATIVE_UINT16);
    insert(head, "flags", offsetof(Header, flags), H5T_NATIVE_UINT64);
    insert(head, "measurement_uid", offsetof(Header, measurement_uid), H5T_NATIVE_UINT32);
    insert_array(head, "matrix_size", offsetof(Header, matrix_size), H5T_NATIVE_UINT16, 3);
    insert_array(head, "field_of_view", offsetof(Header, field_of_view), H5T_NATIVE_FLOAT, 3);
    insert(head, "channels", offsetof(Header, channels), H5T_NATIVE_UINT16);
    insert_array(head, "position", offsetof(Header, position), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "read_dir", offsetof(Header, read_dir), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "phase_dir", offsetof(Header, phase_dir), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "slice_dir", offsetof(Header, slice_dir), H5T_NATIVE_FLOAT, 3);
    insert_array(head, "patient_table_position", offsetof(Header, patient_table_position), H5T_NATIVE_FLOAT,
                 3);
    insert(head, "average", offsetof(Header, average), H5T_NATIVE_UINT16);
    insert(head, "slice", offsetof(Header, slice), H5T_NATIVE_UINT16);
    insert(head, "contrast", offsetof(Header, contrast), H5T_NATIVE_UINT16);
    insert(head, "phase", offsetof(Header, phase), H5T_NATIVE_UINT16);
    insert(head, "repetition", offsetof(Header, repetition), H5T_NATIVE_UINT16);
    insert(head, "set", offsetof(Header, set), H5T_NATIVE_UINT16);
    insert(head, "acquisition_time_stamp", offsetof(Header, acquisition_time_stamp), H5T_NATIVE_UINT32);
    insert_array(head, "physiology_time_stamp", offsetof(Header, physiology_time_stamp), H5T_NATIVE_UINT32,
                 ISMRMRD::ISMRMRD_PHYS_STAMPS);
    insert(head, "image_type", offsetof(Header, image_type), H5T_NATIVE_UINT16);
    insert(head, "image_index", offsetof(Header, image_index), H5T_NATIVE_UINT16);
    insert(head, "image_series_index", offsetof(Header, image_series_index), H5T_NATIVE_UINT16);
    insert_array(head, "user_int", offsetof(Header, user_int), H5T_NATIVE_INT32, ISMRMRD::ISMRMRD_USER_INTS);
    insert_array(head, "user_float", offsetof(Header, user_float), H5T_NATIVE_FLOAT,
                 ISMRMRD::ISMRMRD_USER_FLOATS);
    insert(head, "attribute_string_len", offsetof(Header, attribute_string_len), H5T_NATIVE_UINT32);
    return head;
}

Hdf5Id hdf5_complex_type() {
    const Hdf5Lock lock;
    Hdf5Id type = compound(sizeof(std::complex<float>));
    insert(type, "real", 0, H5T_NATIVE_FLOAT);
    insert(type, "imag", sizeof(float), H5T_NATIVE_FLOAT);
    return type;
}

Hdf5Id hdf5_string_type() {
    const Hdf5Lock lock;
    Hdf5Id type = hdf5_checked(H5Tcopy(H5T_C_S1), Errc::failed, "HDF5 cannot make a string type");
    H5Tset_size(type.get(), H5T_VARIABLE);
    return type;
}

} // namespace mri
