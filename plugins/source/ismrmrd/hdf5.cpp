// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/hdf5.hpp"

#include <ismrmrd/ismrmrd.h>

#include <algorithm>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

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

/// Whether a number is one of the library's own, in either order of bytes.
bool is_standard(hid_t type) {
    // Each of these names calls into HDF5.
    for (const hid_t standard :
         {H5T_STD_U8LE,  H5T_STD_U16LE,  H5T_STD_U32LE,  H5T_STD_U64LE,  H5T_STD_I8LE,
          H5T_STD_I16LE, H5T_STD_I32LE,  H5T_STD_I64LE,  H5T_STD_U8BE,   H5T_STD_U16BE,
          H5T_STD_U32BE, H5T_STD_U64BE,  H5T_STD_I8BE,   H5T_STD_I16BE,  H5T_STD_I32BE,
          H5T_STD_I64BE, H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE, H5T_IEEE_F64BE})
        if (H5Tequal(type, standard) > 0)
            return true;
    return false;
}

std::string compound_fault(hid_t file, hid_t memory) {
    constexpr int most_members = 64;
    const int count = H5Tget_nmembers(file);
    if (count < 1 || count > most_members)
        return "has " + std::to_string(count) + " members";
    const std::size_t size = H5Tget_size(file);
    std::vector<std::pair<std::size_t, std::size_t>> places; // offset and end of each
    for (unsigned i = 0; i < static_cast<unsigned>(count); ++i) {
        const std::unique_ptr<char, herr_t (*)(void*)> name(H5Tget_member_name(file, i),
                                                            [](void* text) { return H5free_memory(text); });
        const Hdf5Id member(H5Tget_member_type(file, i));
        if (!name || !member)
            return "has a member that cannot be read";
        const std::size_t offset = H5Tget_member_offset(file, i), bytes = H5Tget_size(member.get());
        if (bytes == 0 || offset > size || bytes > size - offset)
            return "has a member '" + std::string(name.get()) + "' beyond its end";
        places.emplace_back(offset, offset + bytes);
        const int known = H5Tget_member_index(memory, name.get());
        const Hdf5Id wanted(known < 0 ? H5I_INVALID_HID
                                      : H5Tget_member_type(memory, static_cast<unsigned>(known)));
        if (!wanted && !is_standard(member.get()))
            return "has an unknown member '" + std::string(name.get()) + "' that is no number";
        if (wanted)
            if (const std::string fault = hdf5_type_fault(member.get(), wanted.get()); !fault.empty())
                return "has a member '" + std::string(name.get()) + "' that " + fault;
    }
    std::sort(places.begin(), places.end());
    for (std::size_t i = 1; i < places.size(); ++i)
        if (places[i].first < places[i - 1].second)
            return "has members that lie over each other";
    return "";
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

std::string hdf5_type_fault(hid_t file, hid_t memory) {
    const Hdf5Lock lock;
    const H5T_class_t kind = H5Tget_class(file);
    if (kind != H5Tget_class(memory))
        return "is of another kind";
    const auto elements = [&] {
        const Hdf5Id of_file(H5Tget_super(file)), of_memory(H5Tget_super(memory));
        return of_file && of_memory ? hdf5_type_fault(of_file.get(), of_memory.get())
                                    : std::string("has no type");
    };
    switch (kind) {
    case H5T_INTEGER:
    case H5T_FLOAT:
        return is_standard(file) ? "" : "is a number of an unusual form";
    case H5T_ARRAY: {
        hsize_t count = 0, wanted = 0;
        if (H5Tget_array_ndims(file) != 1 || H5Tget_array_dims2(file, &count) < 0 ||
            H5Tget_array_dims2(memory, &wanted) < 0 || count != wanted)
            return "is an array of another size";
        const Hdf5Id element(H5Tget_super(file));
        if (H5Tget_size(file) != count * H5Tget_size(element.get()))
            return "is an array whose size contradicts its elements";
        return elements();
    }
    case H5T_VLEN:
        return H5Tget_size(file) == sizeof(hvl_t) ? elements() : "is a sequence of another form";
    case H5T_COMPOUND:
        return compound_fault(file, memory);
    default:
        return "is of a kind that is not read";
    }
}

Hdf5Id hdf5_access_within(hid_t kind) {
    const Hdf5Lock lock;
    Hdf5Id list = hdf5_checked(H5Pcreate(kind), Errc::failed, "HDF5 cannot make an access list");
    const auto refuse = [](const char*, const char*, const char*, const char*, unsigned*, hid_t,
                           void*) -> herr_t { return -1; };
    hdf5_check(H5Pset_elink_cb(list.get(), refuse, nullptr), Errc::failed, "HDF5 cannot make an access list");
    return list;
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
