// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/writer.hpp"

#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/source/ismrmrd/hdf5.hpp"
#include "plugins/source/ismrmrd/recording.hpp"
#include "plugins/source/ismrmrd/sequence_guard.hpp"

#include <algorithm>
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

/// Rows of a chunk of readouts; each takes 372 bytes, its samples lie elsewhere.
constexpr hsize_t chunk_rows = 64;

struct Series {
    Hdf5Id data, header, attributes;
    Hdf5Id text_type; ///< of the attributes: files have ASCII or UTF-8, which HDF5 does not convert
    std::array<hsize_t, 4> shape{}; ///< channels, z, y, x
    std::uint16_t data_type = 0;
    hsize_t count = 0;
};

/// A row of readouts as HDF5 takes it from memory.
struct Row {
    ISMRMRD::ISMRMRD_AcquisitionHeader head;
    hvl_t trajectory;
    hvl_t data;
};

std::string shape_text(const std::array<hsize_t, 4>& shape, std::uint16_t data_type) {
    std::string text = data_type == ISMRMRD::ISMRMRD_CXFLOAT ? "complex images of "
                       : data_type == ISMRMRD::ISMRMRD_SHORT ? "16-bit images of "
                                                             : "real images of ";
    for (std::size_t i = 0; i < shape.size(); ++i)
        text += (i ? " x " : "") + std::to_string(shape[i]);
    return text;
}

Hdf5Id row_type() {
    const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT));
    const Hdf5Id head = hdf5_acquisition_header_type();
    Hdf5Id type =
        hdf5_checked(H5Tcreate(H5T_COMPOUND, sizeof(Row)), Errc::failed, "HDF5 cannot make a compound type");
    H5Tinsert(type.get(), "head", offsetof(Row, head), head.get());
    H5Tinsert(type.get(), "traj", offsetof(Row, trajectory), sequence.get());
    H5Tinsert(type.get(), "data", offsetof(Row, data), sequence.get());
    return type;
}

/// Whether a file's type takes values of `wanted` as they are: the same class, size, sign and dimensions, and of a
/// compound the same members. HDF5 1.10 is not asked to convert from a stranger's type, which it may crash in.
bool takes(hid_t stored, hid_t wanted) {
    const H5T_class_t kind = H5Tget_class(wanted);
    if (H5Tget_class(stored) != kind)
        return false;
    if (kind == H5T_STRING)
        return H5Tis_variable_str(stored) == H5Tis_variable_str(wanted);
    if (kind == H5T_VLEN)
        return takes(Hdf5Id(H5Tget_super(stored)).get(), Hdf5Id(H5Tget_super(wanted)).get());
    if (kind == H5T_ARRAY) {
        hsize_t ours[H5S_MAX_RANK] = {}, theirs[H5S_MAX_RANK] = {};
        return H5Tget_array_ndims(stored) == H5Tget_array_ndims(wanted) &&
               H5Tget_array_dims2(wanted, ours) >= 0 && H5Tget_array_dims2(stored, theirs) >= 0 &&
               std::equal(std::begin(ours), std::end(ours), std::begin(theirs)) &&
               takes(Hdf5Id(H5Tget_super(stored)).get(), Hdf5Id(H5Tget_super(wanted)).get());
    }
    if (kind != H5T_COMPOUND)
        return H5Tequal(stored, wanted) > 0;
    const int members = H5Tget_nmembers(wanted);
    if (members != H5Tget_nmembers(stored))
        return false;
    for (int i = 0; i < members; ++i) {
        char* const name = H5Tget_member_name(wanted, static_cast<unsigned>(i));
        const int at = name ? H5Tget_member_index(stored, name) : -1;
        H5free_memory(name);
        if (at < 0 ||
            H5Tget_member_offset(stored, static_cast<unsigned>(at)) +
                    H5Tget_size(Hdf5Id(H5Tget_member_type(stored, static_cast<unsigned>(at))).get()) >
                H5Tget_size(stored))
            return false;
        if (!takes(Hdf5Id(H5Tget_member_type(stored, static_cast<unsigned>(at))).get(),
                   Hdf5Id(H5Tget_member_type(wanted, static_cast<unsigned>(i))).get()))
            return false;
    }
    return true;
}

/// A dataset of a file that is appended to: its type takes `wanted`, and it grows along its first dimension. The
/// extent goes to `extent`, which has its rank. `refused` is the sentence of the error.
Hdf5Id grown(hid_t parent, const char* name, hid_t wanted, std::span<hsize_t> extent,
             const std::string& refused) {
    if (H5Lexists(parent, name, H5P_DEFAULT) <= 0)
        throw Error(Errc::open_write, refused, fmt::format("it has no '{}'", name));
    Hdf5Id set = hdf5_checked(H5Dopen2(parent, name, H5P_DEFAULT), Errc::open_write, refused);
    const Hdf5Id space(H5Dget_space(set.get())), type(H5Dget_type(set.get()));
    std::array<hsize_t, H5S_MAX_RANK> now{}, most{};
    if (!takes(type.get(), wanted))
        throw Error(Errc::open_write, refused, fmt::format("'{}' is of another type", name));
    if (H5Sget_simple_extent_ndims(space.get()) != static_cast<int>(extent.size()) ||
        H5Sget_simple_extent_dims(space.get(), now.data(), most.data()) < 0 || most[0] != H5S_UNLIMITED)
        throw Error(Errc::open_write, refused, fmt::format("'{}' has other dimensions or cannot grow", name));
    std::copy_n(now.begin(), extent.size(), extent.begin());
    return set;
}

/// What a recording's path belongs to: a link stays a link, the file that it points to is replaced.
fs::path target_of(const std::string& path) {
    std::error_code code;
    fs::path target = fs::exists(path, code) ? fs::canonical(path, code) : fs::path(path);
    return code ? fs::path(path) : target;
}

} // namespace

struct IsmrmrdWriter::Impl {
    Options options;
    fs::path target;
    std::optional<AtomicFile> whole; ///< what is written, until it takes the target's place
    Hdf5Id file, group;
    Hdf5Id header_type, complex_type, string_type, readout_type;
    std::map<int, Series> series;
    Hdf5Id raw; ///< the dataset of readouts, from the first one on
    hsize_t rows = 0;
    std::size_t images = 0, readouts = 0;
    std::string xml, notice;
    std::unique_ptr<Recording> recording;
    bool finished = false;

    std::string name() const { return "'" + options.path + "'"; }
    void open();
    void look_for_recording();
    void open_group();
    void read_xml();
    void write_xml();
    void open_raw(bool with_trajectory);
    Series& series_of(const ISMRMRD::ISMRMRD_ImageHeader& head);
    hid_t pixel_type(std::uint16_t data_type) const {
        return data_type == ISMRMRD::ISMRMRD_CXFLOAT ? complex_type.get()
               : data_type == ISMRMRD::ISMRMRD_SHORT ? H5T_NATIVE_INT16
                                                     : H5T_NATIVE_FLOAT;
    }
    std::string broke_off() const {
        return fmt::format("{}: writing broke off at {} {} (is the disk full?)", name(),
                           readouts > 0 ? "readout" : "image", readouts > 0 ? readouts : images);
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
    target = target_of(options.path);
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
                            "' and is not overwritten: choose another location, or set append to add to it");
    }
    if (options.recording)
        look_for_recording();
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
        readout_type = row_type();
        open_group();
        if (options.append)
            read_xml();
        if (options.recording)
            recording = std::make_unique<Recording>(
                recording_path(target), RecordingFacts{options.group, to_string(options.trajectory_unit),
                                                       partial.filename().string()});
    } catch (...) {
        discard();
        throw;
    }
}

void IsmrmrdWriter::Impl::look_for_recording() {
    const auto earlier = recover_recording(options.path, true);
    if (!earlier || earlier->path.empty())
        return;
    notice = fmt::format("An earlier recording of {} was cut off; its {} readouts and {} images are in '{}'",
                         name(), earlier->readouts, earlier->images, earlier->path);
}

void IsmrmrdWriter::Impl::open_group() {
    const std::string path = "/" + options.group;
    group = H5Lexists(file.get(), path.c_str(), H5P_DEFAULT) > 0
                ? Hdf5Id(H5Gopen2(file.get(), path.c_str(), H5P_DEFAULT))
                : Hdf5Id(H5Gcreate2(file.get(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    if (!group)
        throw hdf5_error(Errc::open_write, name() + ": group '" + options.group + "' cannot be made");
}

void IsmrmrdWriter::Impl::read_xml() {
    if (H5Lexists(group.get(), "xml", H5P_DEFAULT) <= 0)
        return;
    const std::string broken = name() + ": the header of the file that is appended to cannot be read";
    const Hdf5Id set = hdf5_checked(H5Dopen2(group.get(), "xml", H5P_DEFAULT), Errc::open_write, broken);
    const Hdf5Id type(H5Dget_type(set.get())), space(H5Dget_space(set.get()));
    if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) <= 0 ||
        H5Sget_simple_extent_npoints(space.get()) != 1)
        throw Error(Errc::open_write, broken, "'xml' is not one string of variable length");
    SequenceGuard guard(whole->temporary().string(), file.get(), set.get(), SequenceGuard::reference_size,
                        {{0, 1}}, name() + ": 'xml' of the file that is appended to");
    char* text = nullptr;
    if (guard.first_bad(0, 1) || H5Dread(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text) < 0)
        throw hdf5_error(Errc::open_write, broken);
    xml = text ? text : "";
    H5free_memory(text);
}

/// The dataset of readouts, made or found for the first one.
void IsmrmrdWriter::Impl::open_raw(bool with_trajectory) {
    const std::string unit = to_string(options.trajectory_unit);
    if (H5Lexists(group.get(), "data", H5P_DEFAULT) > 0) {
        raw = grown(group.get(), "data", readout_type.get(), {&rows, 1},
                    name() + ": 'data' of the file that is appended to does not hold ISMRMRD readouts");
        const std::string theirs = hdf5_short_text(raw.get(), trajectory_unit_attribute);
        if (theirs != unit && (!theirs.empty() || with_trajectory))
            throw Error(Errc::settings,
                        fmt::format("{}: the file that is appended to has its trajectories in {}, not {}: {}",
                                    name(), theirs.empty() ? "a unit that it does not say" : theirs, unit,
                                    theirs.empty() ? "record into another file" : "set trajectory-unit"));
        return;
    }
    const std::string failed = name() + ": the dataset of readouts cannot be made";
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    const Hdf5Id space(H5Screate_simple(1, &none, &unlimited)), list(H5Pcreate(H5P_DATASET_CREATE));
    hdf5_check(H5Pset_chunk(list.get(), 1, &chunk_rows), Errc::write, failed);
    raw = hdf5_checked(H5Dcreate2(group.get(), "data", readout_type.get(), space.get(), H5P_DEFAULT,
                                  list.get(), H5P_DEFAULT),
                       Errc::write, failed);
    const Hdf5Id text(H5Tcopy(H5T_C_S1)), one(H5Screate(H5S_SCALAR));
    H5Tset_size(text.get(), unit.size());
    H5Tset_strpad(text.get(), H5T_STR_NULLPAD);
    const Hdf5Id attribute = hdf5_checked(
        H5Acreate2(raw.get(), trajectory_unit_attribute, text.get(), one.get(), H5P_DEFAULT, H5P_DEFAULT),
        Errc::write, failed);
    hdf5_check(H5Awrite(attribute.get(), text.get(), unit.data()), Errc::write, failed);
}

void IsmrmrdWriter::Impl::discard() noexcept {
    if (recording && readouts > 0)
        recording->keep();
    recording.reset();
    series.clear();
    raw.close();
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
        hsize_t extent[5] = {}, heads = 0, texts = 0;
        // The type that the stored pixels have says what kind of images these are.
        const Hdf5Id stored =
            hdf5_checked(H5Dopen2(old.get(), "data", H5P_DEFAULT), Errc::open_write, broken);
        const Hdf5Id type(H5Dget_type(stored.get()));
        s.data_type = 0;
        for (const std::uint16_t known :
             {ISMRMRD::ISMRMRD_CXFLOAT, ISMRMRD::ISMRMRD_FLOAT, ISMRMRD::ISMRMRD_SHORT})
            if (takes(type.get(), pixel_type(known)))
                s.data_type = known;
        if (s.data_type == 0)
            throw Error(Errc::open_write, broken,
                        "its pixels are neither float, complex float nor 16-bit integers");
        s.data = grown(old.get(), "data", pixel_type(s.data_type), extent, broken);
        s.header = grown(old.get(), "header", header_type.get(), {&heads, 1}, broken);
        s.attributes = grown(old.get(), "attributes", string_type.get(), {&texts, 1}, broken);
        if (heads != extent[0] || texts != extent[0])
            throw Error(Errc::open_write, broken,
                        fmt::format("it has {} images, {} heads and {} attributes", extent[0], heads, texts));
        s.text_type = Hdf5Id(H5Dget_type(s.attributes.get()));
        s.count = extent[0];
        std::copy(extent + 1, extent + 5, s.shape.begin());
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
        s.text_type = Hdf5Id(H5Tcopy(string_type.get()));
    }
    return series.emplace(index, std::move(s)).first->second;
}

/// Adds one item, whose first extent is 1, behind the last of a dataset; `extent` is the dataset's with the
/// item.
void IsmrmrdWriter::Impl::put(const Hdf5Id& set, hid_t type, std::span<const hsize_t> extent,
                              const void* value) {
    const std::string failed = broke_off();
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
std::size_t IsmrmrdWriter::readouts() const {
    return impl_->readouts;
}
const std::string& IsmrmrdWriter::notice() const {
    return impl_->notice;
}
const std::string& IsmrmrdWriter::xml() const {
    return impl_->xml;
}

void IsmrmrdWriter::set_xml(const std::string& xml) {
    Impl& impl = *impl_;
    if (impl.options.append && !impl.xml.empty())
        return;
    impl.xml = xml;
    if (impl.recording)
        impl.recording->header(xml);
    impl.write_xml();
}

void IsmrmrdWriter::Impl::write_xml() {
    const std::string failed = name() + ": the header cannot be written";
    const Hdf5Lock lock;
    Hdf5Id set;
    if (H5Lexists(group.get(), "xml", H5P_DEFAULT) > 0) {
        set = hdf5_checked(H5Dopen2(group.get(), "xml", H5P_DEFAULT), Errc::write, failed);
    } else {
        const hsize_t one = 1;
        const Hdf5Id space(H5Screate_simple(1, &one, nullptr));
        set = hdf5_checked(H5Dcreate2(group.get(), "xml", string_type.get(), space.get(), H5P_DEFAULT,
                                      H5P_DEFAULT, H5P_DEFAULT),
                           Errc::write, failed);
    }
    const char* text = xml.c_str();
    hdf5_check(H5Dwrite(set.get(), string_type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text), Errc::write,
               failed);
}

void IsmrmrdWriter::add(ISMRMRD::ISMRMRD_ImageHeader head, std::span<const std::byte> data,
                        const std::string& attributes) {
    Impl& impl = *impl_;
    if (impl.finished)
        throw Error(Errc::failed, impl.name() + " is finished: no image can be added");
    std::size_t pixel = 0;
    if (head.data_type == ISMRMRD::ISMRMRD_CXFLOAT)
        pixel = 8;
    else if (head.data_type == ISMRMRD::ISMRMRD_FLOAT)
        pixel = 4;
    else if (head.data_type == ISMRMRD::ISMRMRD_SHORT)
        pixel = 2;
    else
        throw Error(Errc::unsupported, fmt::format("{}: images of ISMRMRD's data type {} are not written",
                                                   impl.name(), head.data_type));
    const std::size_t bytes =
        checked_product({head.channels, head.matrix_size[0], head.matrix_size[1], head.matrix_size[2], pixel},
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
    impl.put(s.attributes, s.text_type.get(), {&count, 1}, &text);
    if (impl.recording)
        impl.recording->image(head, attributes, data);
    s.count = count;
    ++impl.images;
}

void IsmrmrdWriter::add(const ISMRMRD::ISMRMRD_AcquisitionHeader& head, std::span<const float> trajectory,
                        std::span<const std::complex<float>> data) {
    Impl& impl = *impl_;
    if (impl.finished)
        throw Error(Errc::failed, impl.name() + " is finished: no readout can be added");
    // All of these are 16 bits wide: no product of two overflows.
    const std::size_t samples = head.number_of_samples;
    if (data.size() != samples * head.active_channels ||
        trajectory.size() != samples * head.trajectory_dimensions)
        throw Error(
            Errc::format,
            fmt::format("{}: a readout of {} values and {} coordinates, its head means {} samples of {} "
                        "channels and {} dimensions",
                        impl.name(), data.size(), trajectory.size(), samples, head.active_channels,
                        head.trajectory_dimensions));
    const Hdf5Lock lock;
    if (!impl.raw)
        impl.open_raw(!trajectory.empty());
    const hsize_t count = impl.rows + 1;
    // HDF5 reads through these pointers only.
    const Row row{head,
                  {trajectory.size(), const_cast<float*>(trajectory.data())},
                  {2 * data.size(), const_cast<std::complex<float>*>(data.data())}};
    impl.put(impl.raw, impl.readout_type.get(), {&count, 1}, &row);
    if (impl.recording)
        impl.recording->readout(head, trajectory, data);
    impl.rows = count;
    ++impl.readouts;
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
        impl.raw.close();
        impl.group.close();
        if (!impl.file.close())
            throw hdf5_error(Errc::write, failed);
    }
    impl.whole->commit(failed);
    impl.whole.reset();
    impl.recording.reset();
    impl.finished = true;
}

namespace {

/// The first of NAME-recovered.h5, NAME-recovered-2.h5 ... that does not exist.
fs::path free_name(const fs::path& target) {
    for (int number = 1;; ++number) {
        const std::string suffix = fmt::format("-recovered{}{}", number > 1 ? fmt::format("-{}", number) : "",
                                               target.extension().string());
        fs::path path = path_beside(target.parent_path() / target.stem(), suffix);
        if (!fs::exists(fs::symlink_status(path)))
            return path;
    }
}

} // namespace

std::optional<RecoveredFile> recover_recording(const std::string& path, bool beside) {
    const std::string_view ending = ".recording";
    fs::path target = target_of(path), recorded = recording_path(target);
    std::error_code ignored;
    if (path.ends_with(ending) && fs::exists(path, ignored)) {
        recorded = path;
        target = fs::path(path.substr(0, path.size() - ending.size()));
    }
    if (!fs::exists(recorded, ignored))
        return std::nullopt;

    RecordingReader reader(recorded, "'" + path + "'");
    const RecordingFacts& facts = reader.facts();
    RecoveredFile made;
    std::optional<IsmrmrdWriter> writer;
    std::string xml;
    while (auto block = reader.next()) {
        if (auto* header = std::get_if<RecordedHeader>(&*block)) {
            xml = std::move(header->xml);
            continue;
        }
        if (!writer) {
            made.path =
                (beside || fs::exists(fs::symlink_status(target)) ? free_name(target) : target).string();
            writer.emplace(
                IsmrmrdWriter::Options{.path = made.path,
                                       .group = facts.group,
                                       .trajectory_unit = trajectory_unit_from(facts.trajectory_unit),
                                       .recording = false});
        }
        if (const auto* readout = std::get_if<RecordedReadout>(&*block))
            writer->add(readout->head, readout->trajectory, readout->data);
        else if (const auto* image = std::get_if<RecordedImage>(&*block))
            writer->add(image->head, image->pixels, image->attributes);
    }
    if (writer) {
        if (!xml.empty())
            writer->set_xml(xml);
        writer->finish();
        made.readouts = writer->readouts();
        made.images = writer->images();
    }
    fs::remove(recorded, ignored);
    // The unfinished file, by its name alone: a recording says nothing about other folders.
    if (const fs::path partial = fs::path(facts.partial).filename();
        !partial.empty() && partial.string().find(".partial-") != std::string::npos)
        fs::remove(recorded.parent_path() / partial, ignored);
    return made;
}

} // namespace mri
