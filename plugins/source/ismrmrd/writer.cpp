// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/writer.hpp"

#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/source/ismrmrd/hdf5.hpp"

#include <array>
#include <cstdint>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <optional>

namespace mri {

namespace fs = std::filesystem;

namespace {

/// HDF5 keeps the size of a chunk in 32 bits.
constexpr std::size_t max_image_bytes = 0xffffffffu;

struct Series {
    Hdf5Id data, header, attributes;
    std::array<hsize_t, 4> shape{}; ///< channels, z, y, x
    std::uint16_t data_type = 0;
    hsize_t count = 0;
};

std::string shape_text(const std::array<hsize_t, 4>& shape, std::uint16_t data_type) {
    std::string text = data_type == ISMRMRD::ISMRMRD_CXFLOAT ? "complex images of " : "real images of ";
    for (std::size_t i = 0; i < shape.size(); ++i)
        text += (i ? " x " : "") + std::to_string(shape[i]);
    return text;
}

} // namespace

struct IsmrmrdWriter::Impl {
    Options options;
    fs::path target;
    std::optional<AtomicFile> whole; ///< what is written, until it takes the target's place
    Hdf5Id file, group;
    Hdf5Id header_type, complex_type, string_type;
    std::map<int, Series> series;
    std::size_t images = 0;
    bool finished = false;

    std::string name() const { return "'" + options.path + "'"; }
    void open();
    void open_group();
    Series& series_of(const ISMRMRD::ISMRMRD_ImageHeader& head);
    hid_t pixel_type(std::uint16_t data_type) const {
        return data_type == ISMRMRD::ISMRMRD_CXFLOAT ? complex_type.get() : H5T_NATIVE_FLOAT;
    }
    void put(const Hdf5Id& set, hid_t type, std::span<const hsize_t> extent, const void* value);
    void discard() noexcept;
};

void IsmrmrdWriter::Impl::open() {
    if (options.path.empty())
        throw Error(Errc::settings, "No file is named: set the property location");
    if (options.group.empty() || options.group.find('/') != std::string::npos)
        throw Error(Errc::settings,
                    "'" + options.group +
                        "' cannot name the group of an ISMRMRD file: it must be one plain name");
    std::error_code code;
    // A link stays a link: the file that it points to is replaced.
    target = fs::exists(options.path, code) ? fs::canonical(options.path, code) : fs::path(options.path);
    if (code)
        target = options.path;
    const fs::file_status status = fs::status(target, code);
    if (fs::exists(status) && !fs::is_regular_file(status))
        throw Error(Errc::open_write, name() + " exists and is not a file");

    const Hdf5Lock lock;
    const bool exists = fs::exists(status);
    if (exists && !options.append && H5Fis_hdf5(target.c_str()) > 0) {
        const Hdf5Id old(H5Fopen(target.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
        const std::string data = "/" + options.group + "/data";
        if (old && H5Lexists(old.get(), ("/" + options.group).c_str(), H5P_DEFAULT) > 0 &&
            H5Lexists(old.get(), data.c_str(), H5P_DEFAULT) > 0)
            throw Error(Errc::open_write,
                        name() + " holds readouts in group '" + options.group +
                            "' and is not overwritten: choose another location, or set append to add the "
                            "images to it");
    }
    whole.emplace(target, name() + " cannot be created");
    const fs::path& partial = whole->temporary();
    try {
        if (exists && options.append) {
            fs::copy_file(target, partial, fs::copy_options::overwrite_existing, code);
            if (code)
                throw Error(Errc::open_write, name() + " cannot be copied to append to it", code.message());
            file = hdf5_checked(H5Fopen(partial.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), Errc::open_write,
                                name() + " cannot be opened as an HDF5 file to append to");
        } else {
            file = hdf5_checked(H5Fcreate(partial.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
                                Errc::open_write, name() + " cannot be created");
        }
        header_type = hdf5_image_header_type();
        complex_type = hdf5_complex_type();
        string_type = hdf5_string_type();
        open_group();
    } catch (...) {
        discard();
        throw;
    }
}

void IsmrmrdWriter::Impl::open_group() {
    const std::string path = "/" + options.group;
    group = H5Lexists(file.get(), path.c_str(), H5P_DEFAULT) > 0
                ? Hdf5Id(H5Gopen2(file.get(), path.c_str(), H5P_DEFAULT))
                : Hdf5Id(H5Gcreate2(file.get(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    if (!group)
        throw hdf5_error(Errc::open_write, name() + ": group '" + options.group + "' cannot be made");
}

void IsmrmrdWriter::Impl::discard() noexcept {
    series.clear();
    group.close();
    file.close();
    whole.reset();
}

/// The series' datasets, made or found on first use.
Series& IsmrmrdWriter::Impl::series_of(const ISMRMRD::ISMRMRD_ImageHeader& head) {
    const int index = head.image_series_index;
    const std::array<hsize_t, 4> shape{head.channels, head.matrix_size[2], head.matrix_size[1],
                                       head.matrix_size[0]};
    const std::string at = fmt::format("{}, series {}", name(), index);
    const auto fits = [&](const Series& s) {
        if (s.shape != shape || s.data_type != head.data_type)
            throw Error(Errc::format, at + " holds " + shape_text(s.shape, s.data_type) +
                                          ", the next one is of the " + shape_text(shape, head.data_type));
    };
    if (const auto found = series.find(index); found != series.end()) {
        fits(found->second);
        return found->second;
    }

    Series s;
    s.shape = shape;
    s.data_type = head.data_type;
    const std::string path = fmt::format("image_{}", index);
    if (H5Lexists(group.get(), path.c_str(), H5P_DEFAULT) > 0) {
        const std::string broken = at + " of the file that is appended to is no ISMRMRD image series";
        const Hdf5Id old =
            hdf5_checked(H5Gopen2(group.get(), path.c_str(), H5P_DEFAULT), Errc::open_write, broken);
        s.data = hdf5_checked(H5Dopen2(old.get(), "data", H5P_DEFAULT), Errc::open_write, broken);
        s.header = hdf5_checked(H5Dopen2(old.get(), "header", H5P_DEFAULT), Errc::open_write, broken);
        s.attributes = hdf5_checked(H5Dopen2(old.get(), "attributes", H5P_DEFAULT), Errc::open_write, broken);
        const Hdf5Id space(H5Dget_space(s.data.get()));
        hsize_t extent[5] = {};
        if (H5Sget_simple_extent_ndims(space.get()) != 5 ||
            H5Sget_simple_extent_dims(space.get(), extent, nullptr) < 0)
            throw hdf5_error(Errc::open_write, broken);
        const Hdf5Id type(H5Dget_type(s.data.get()));
        s.count = extent[0];
        std::copy(extent + 1, extent + 5, s.shape.begin());
        s.data_type =
            H5Tget_class(type.get()) == H5T_COMPOUND ? ISMRMRD::ISMRMRD_CXFLOAT : ISMRMRD::ISMRMRD_FLOAT;
        fits(s);
    } else {
        const std::string failed = at + " cannot be made";
        const Hdf5Id made =
            hdf5_checked(H5Gcreate2(group.get(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                         Errc::write, failed);
        const auto create = [&](const char* what, hid_t type, std::span<const hsize_t> item) {
            std::array<hsize_t, 5> now{0}, most{H5S_UNLIMITED}, chunk{1};
            std::copy(item.begin(), item.end(), now.begin() + 1);
            std::copy(item.begin(), item.end(), most.begin() + 1);
            std::copy(item.begin(), item.end(), chunk.begin() + 1);
            const int rank = static_cast<int>(item.size()) + 1;
            const Hdf5Id space(H5Screate_simple(rank, now.data(), most.data()));
            const Hdf5Id list(H5Pcreate(H5P_DATASET_CREATE));
            hdf5_check(H5Pset_chunk(list.get(), rank, chunk.data()), Errc::write, failed);
            return hdf5_checked(
                H5Dcreate2(made.get(), what, type, space.get(), H5P_DEFAULT, list.get(), H5P_DEFAULT),
                Errc::write, failed);
        };
        s.data = create("data", pixel_type(head.data_type), shape);
        s.header = create("header", header_type.get(), {});
        s.attributes = create("attributes", string_type.get(), {});
    }
    return series.emplace(index, std::move(s)).first->second;
}

/// Adds one item, whose first extent is 1, behind the last of a dataset; `extent` is the dataset's with the
/// item.
void IsmrmrdWriter::Impl::put(const Hdf5Id& set, hid_t type, std::span<const hsize_t> extent,
                              const void* value) {
    const std::string failed =
        fmt::format("{}: writing broke off at image {} (is the disk full?)", name(), images);
    hdf5_check(H5Dset_extent(set.get(), extent.data()), Errc::write, failed);
    std::array<hsize_t, 5> offset{extent[0] - 1}, count{1};
    std::copy(extent.begin() + 1, extent.end(), count.begin() + 1);
    const Hdf5Id to(H5Dget_space(set.get()));
    const Hdf5Id from(H5Screate_simple(static_cast<int>(extent.size()), count.data(), nullptr));
    H5Sselect_hyperslab(to.get(), H5S_SELECT_SET, offset.data(), nullptr, count.data(), nullptr);
    hdf5_check(H5Dwrite(set.get(), type, from.get(), to.get(), H5P_DEFAULT, value), Errc::write, failed);
}

IsmrmrdWriter::IsmrmrdWriter(Options options) : impl_(std::make_unique<Impl>()) {
    impl_->options = std::move(options);
    impl_->open();
}

IsmrmrdWriter::~IsmrmrdWriter() {
    impl_->discard();
}

std::size_t IsmrmrdWriter::images() const {
    return impl_->images;
}

void IsmrmrdWriter::set_xml(const std::string& xml) {
    Impl& impl = *impl_;
    const std::string failed = impl.name() + ": the header cannot be written";
    const Hdf5Lock lock;
    Hdf5Id set;
    if (H5Lexists(impl.group.get(), "xml", H5P_DEFAULT) > 0) {
        if (impl.options.append)
            return;
        set = hdf5_checked(H5Dopen2(impl.group.get(), "xml", H5P_DEFAULT), Errc::write, failed);
    } else {
        const hsize_t one = 1;
        const Hdf5Id space(H5Screate_simple(1, &one, nullptr));
        set = hdf5_checked(H5Dcreate2(impl.group.get(), "xml", impl.string_type.get(), space.get(),
                                      H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                           Errc::write, failed);
    }
    const char* text = xml.c_str();
    hdf5_check(H5Dwrite(set.get(), impl.string_type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text), Errc::write,
               failed);
}

void IsmrmrdWriter::add(ISMRMRD::ISMRMRD_ImageHeader head, std::span<const std::byte> data,
                        const std::string& attributes) {
    Impl& impl = *impl_;
    if (impl.finished)
        throw Error(Errc::failed, impl.name() + " is finished: no image can be added");
    if (head.data_type != ISMRMRD::ISMRMRD_FLOAT && head.data_type != ISMRMRD::ISMRMRD_CXFLOAT)
        throw Error(Errc::unsupported, fmt::format("{}: images of ISMRMRD's data type {} are not written",
                                                   impl.name(), head.data_type));
    const std::size_t bytes =
        checked_product({head.channels, head.matrix_size[0], head.matrix_size[1], head.matrix_size[2],
                         head.data_type == ISMRMRD::ISMRMRD_CXFLOAT ? 8u : 4u},
                        max_image_bytes, "An ISMRMRD image");
    if (bytes == 0 || data.size() != bytes)
        throw Error(Errc::format, fmt::format("{}: an image of {} bytes, its header means {}", impl.name(),
                                              data.size(), bytes));
    head.attribute_string_len = static_cast<std::uint32_t>(attributes.size());

    const Hdf5Lock lock;
    Series& s = impl.series_of(head);
    const hsize_t count = s.count + 1;
    const hsize_t extent[5] = {count, s.shape[0], s.shape[1], s.shape[2], s.shape[3]};
    const char* text = attributes.c_str();
    impl.put(s.data, impl.pixel_type(s.data_type), extent, data.data());
    impl.put(s.header, impl.header_type.get(), {&count, 1}, &head);
    impl.put(s.attributes, impl.string_type.get(), {&count, 1}, &text);
    s.count = count;
    ++impl.images;
}

void IsmrmrdWriter::finish() {
    Impl& impl = *impl_;
    if (impl.finished)
        return;
    const std::string failed = impl.name() + ": the file could not be completed";
    {
        const Hdf5Lock lock;
        hdf5_check(H5Fflush(impl.file.get(), H5F_SCOPE_GLOBAL), Errc::write, failed);
        impl.series.clear();
        impl.group.close();
        if (!impl.file.close())
            throw hdf5_error(Errc::write, failed);
    }
    impl.whole->commit(failed);
    impl.whole.reset();
    impl.finished = true;
}

} // namespace mri
