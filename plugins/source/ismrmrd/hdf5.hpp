// SPDX-License-Identifier: LGPL-2.1-or-later
// Parts of HDF5 that the reader and the writer of ISMRMRD files share: the lock, owned handles, folded error
// stacks, types.
#pragma once

#include "plugins/math/base/error.hpp"

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

namespace mri {

/// Held around every call into HDF5. The library of most distributions is built without thread safety, so one
/// recursive mutex of the process guards all of it; it is a leaf: nothing else is locked, pushed or posted
/// while it is held. While it lives HDF5 prints nothing: its error stack is read by hdf5_error() instead.
class Hdf5Lock {
  public:
    Hdf5Lock();
    ~Hdf5Lock();
    Hdf5Lock(const Hdf5Lock&) = delete;
    Hdf5Lock& operator=(const Hdf5Lock&) = delete;

  private:
    std::unique_lock<std::recursive_mutex> lock_;
    H5E_auto2_t print_ = nullptr;
    void* print_data_ = nullptr;
};

/// Owns one HDF5 identifier of any kind; takes the lock to give it back.
class Hdf5Id {
  public:
    Hdf5Id() = default;
    explicit Hdf5Id(hid_t id) : id_(id) {}
    Hdf5Id(Hdf5Id&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
    Hdf5Id& operator=(Hdf5Id&& other) noexcept {
        std::swap(id_, other.id_);
        return *this;
    }
    ~Hdf5Id() { close(); }

    explicit operator bool() const { return id_ >= 0; }
    hid_t get() const { return id_; }
    /// False when HDF5 reports an error, which for a file means that not everything reached the disk.
    bool close() noexcept;

  private:
    hid_t id_ = H5I_INVALID_HID;
};

/// Attribute of the dataset of readouts: the unit of their trajectory, by its name in trajectory.hpp.
inline constexpr const char* trajectory_unit_attribute = "trajectory_unit";

/// An Error whose detail is HDF5's error stack, innermost cause first.
Error hdf5_error(Errc code, const std::string& message);

/// Adopts `id`; throws hdf5_error(code, message) when it is not valid.
Hdf5Id hdf5_checked(hid_t id, Errc code, const std::string& message);

/// Throws hdf5_error(code, message) when `status` is negative.
void hdf5_check(herr_t status, Errc code, const std::string& message);

/// An attribute that is one string of a fixed length below 64 bytes; empty for another one, and without one.
std::string hdf5_short_text(hid_t object, const char* attribute);

/// What is wrong with a type of a file that is to be converted to `memory`, as the end of a sentence ("has ..."); empty
/// where nothing is. HDF5 1.10 converts without a look at offsets and sizes. Numbers have to be the library's standard
/// ones of the same class, arrays and sequences equally shaped, members within their compound and apart from each
/// other; a compound may lack members of `memory`, and have numbers besides.
std::string hdf5_type_fault(hid_t file, hid_t memory);

/// A list for opening objects of a file (`kind` is H5P_LINK_ACCESS, H5P_GROUP_ACCESS or H5P_DATASET_ACCESS) that
/// follows no link into another file.
Hdf5Id hdf5_access_within(hid_t kind);

/// In-memory compound types of ISMRMRD's packed headers, by the member names that the format fixes.
Hdf5Id hdf5_acquisition_header_type();
Hdf5Id hdf5_image_header_type();
/// A compound of `real` and `imag`, as ISMRMRD stores complex float32.
Hdf5Id hdf5_complex_type();
/// A string of variable length. Called ASCII, whatever is in it, as ISMRMRD's own library does: HDF5 does not
/// convert between the two, and that library asks for ASCII.
Hdf5Id hdf5_string_type();

} // namespace mri
