// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/hdf5.hpp"

#include <ismrmrd/ismrmrd.h>

#include <complex>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mri {

namespace {

std::recursive_mutex& hdf5_mutex() {
    // Before the first call of all: HDF5's own clean-up at the end of the process crashes, or goes round for ever,
    // over a file that a full disk left open. Nothing needs it: whoever opens an object here closes it.
    [[maybe_unused]] static const herr_t no_clean_up = H5dont_atexit();
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

Hdf5Id compound(std::size_t size) {
    return hdf5_checked(H5Tcreate(H5T_COMPOUND, size), Errc::failed, "HDF5 cannot make a compound type");
}

/// HDF5's type of a member.
template <class T>
hid_t native() {
    if constexpr (std::is_same_v<T, std::uint16_t>)
        return H5T_NATIVE_UINT16;
    else if constexpr (std::is_same_v<T, std::uint32_t>)
        return H5T_NATIVE_UINT32;
    else if constexpr (std::is_same_v<T, std::uint64_t>)
        return H5T_NATIVE_UINT64;
    else if constexpr (std::is_same_v<T, std::int32_t>)
        return H5T_NATIVE_INT32;
    else {
        static_assert(std::is_same_v<T, float>);
        return H5T_NATIVE_FLOAT;
    }
}

/// Describes a member of type T: a number, or an array of numbers.
template <class T>
void insert_member(const Hdf5Id& type, const char* name, std::size_t offset) {
    const hid_t number = native<std::remove_extent_t<T>>();
    if constexpr (std::is_array_v<T>) {
        const hsize_t count = std::extent_v<T>;
        const Hdf5Id array(H5Tarray_create2(number, 1, &count));
        insert(type, name, offset, array.get());
    } else {
        insert(type, name, offset, number);
    }
}

/// A row of a type's table: the format's name of a member is that of the structure's.
#define MRI_INSERT(type, Struct, member)                                                                     \
    insert_member<decltype(Struct::member)>(type, #member, offsetof(Struct, member))

/// Position of the plane: members of both readouts and images.
template <class Header>
void insert_place(const Hdf5Id& head) {
    MRI_INSERT(head, Header, position);
    MRI_INSERT(head, Header, read_dir);
    MRI_INSERT(head, Header, phase_dir);
    MRI_INSERT(head, Header, slice_dir);
    MRI_INSERT(head, Header, patient_table_position);
}

template <class Header>
void insert_user(const Hdf5Id& head) {
    MRI_INSERT(head, Header, user_int);
    MRI_INSERT(head, Header, user_float);
}

Hdf5Id counters_type() {
    using Counters = ISMRMRD::ISMRMRD_EncodingCounters;
    Hdf5Id counters = compound(sizeof(Counters));
    MRI_INSERT(counters, Counters, kspace_encode_step_1);
    MRI_INSERT(counters, Counters, kspace_encode_step_2);
    MRI_INSERT(counters, Counters, average);
    MRI_INSERT(counters, Counters, slice);
    MRI_INSERT(counters, Counters, contrast);
    MRI_INSERT(counters, Counters, phase);
    MRI_INSERT(counters, Counters, repetition);
    MRI_INSERT(counters, Counters, set);
    MRI_INSERT(counters, Counters, segment);
    MRI_INSERT(counters, Counters, user);
    return counters;
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

std::string hdf5_short_text(hid_t object, const char* attribute) {
    const Hdf5Lock lock;
    if (H5Aexists(object, attribute) <= 0)
        return {};
    const Hdf5Id found(H5Aopen(object, attribute, H5P_DEFAULT));
    const Hdf5Id type(H5Aget_type(found.get())), space(H5Aget_space(found.get()));
    char text[64] = {};
    const std::size_t size = H5Tget_size(type.get());
    if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 || size == 0 ||
        size >= sizeof text || H5Sget_simple_extent_npoints(space.get()) != 1)
        return {};
    return H5Aread(found.get(), type.get(), text) < 0 ? "" : text;
}

Hdf5Id hdf5_acquisition_header_type() {
    using Header = ISMRMRD::ISMRMRD_AcquisitionHeader;
    const Hdf5Lock lock;
    const Hdf5Id counters = counters_type();
    Hdf5Id head = compound(sizeof(Header));
    MRI_INSERT(head, Header, version);
    MRI_INSERT(head, Header, flags);
    MRI_INSERT(head, Header, measurement_uid);
    MRI_INSERT(head, Header, scan_counter);
    MRI_INSERT(head, Header, acquisition_time_stamp);
    MRI_INSERT(head, Header, physiology_time_stamp);
    MRI_INSERT(head, Header, number_of_samples);
    MRI_INSERT(head, Header, available_channels);
    MRI_INSERT(head, Header, active_channels);
    MRI_INSERT(head, Header, channel_mask);
    MRI_INSERT(head, Header, discard_pre);
    MRI_INSERT(head, Header, discard_post);
    MRI_INSERT(head, Header, center_sample);
    MRI_INSERT(head, Header, encoding_space_ref);
    MRI_INSERT(head, Header, trajectory_dimensions);
    MRI_INSERT(head, Header, sample_time_us);
    insert_place<Header>(head);
    insert(head, "idx", offsetof(Header, idx), counters.get());
    insert_user<Header>(head);
    return head;
}

Hdf5Id hdf5_image_header_type() {
    using Header = ISMRMRD::ISMRMRD_ImageHeader;
    const Hdf5Lock lock;
    Hdf5Id head = compound(sizeof(Header));
    MRI_INSERT(head, Header, version);
    MRI_INSERT(head, Header, data_type);
    MRI_INSERT(head, Header, flags);
    MRI_INSERT(head, Header, measurement_uid);
    MRI_INSERT(head, Header, matrix_size);
    MRI_INSERT(head, Header, field_of_view);
    MRI_INSERT(head, Header, channels);
    insert_place<Header>(head);
    MRI_INSERT(head, Header, average);
    MRI_INSERT(head, Header, slice);
    MRI_INSERT(head, Header, contrast);
    MRI_INSERT(head, Header, phase);
    MRI_INSERT(head, Header, repetition);
    MRI_INSERT(head, Header, set);
    MRI_INSERT(head, Header, acquisition_time_stamp);
    MRI_INSERT(head, Header, physiology_time_stamp);
    MRI_INSERT(head, Header, image_type);
    MRI_INSERT(head, Header, image_index);
    MRI_INSERT(head, Header, image_series_index);
    insert_user<Header>(head);
    MRI_INSERT(head, Header, attribute_string_len);
    return head;
}

#undef MRI_INSERT

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
