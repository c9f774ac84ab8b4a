// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/reader.hpp"

#include "plugins/source/ismrmrd/foreign.hpp"
#include "plugins/source/ismrmrd/hdf5.hpp"
#include "plugins/source/ismrmrd/sequence_guard.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fmt/format.h>
#include <mutex>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

namespace mri {

namespace {

constexpr std::size_t max_xml_bytes = 4 << 20; // as MrdHeader takes
constexpr std::size_t max_row_bytes = 4096;    // ten times as many as a row has
constexpr std::size_t first_block_rows = 8;
constexpr std::size_t max_block_rows = 4096;

/// A row as HDF5 lays it out in memory.
struct Row {
    ISMRMRD::ISMRMRD_AcquisitionHeader head;
    hvl_t trajectory;
    hvl_t data;
};

/// Memory of a block's variable-length sequences: bump allocation, all of it given back at once, never more
/// than the limit, so that a length that a damaged file claims cannot take the machine's memory.
class Arena {
  public:
    explicit Arena(std::size_t limit) : limit_(limit) {}

    void* allocate(std::size_t size) noexcept {
        constexpr std::size_t alignment = 64, piece = 1 << 20;
        if (size > limit_ - used_)
            return nullptr;
        const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
        if (rounded > left_) {
            const std::size_t wanted = std::max(rounded, piece);
            void* memory = std::aligned_alloc(alignment, wanted);
            if (!memory)
                return nullptr;
            try {
                pieces_.emplace_back(memory);
            } catch (...) {
                std::free(memory);
                return nullptr;
            }
            top_ = static_cast<std::byte*>(memory);
            left_ = wanted;
        }
        void* result = top_;
        top_ += rounded;
        left_ -= rounded;
        used_ += size;
        return result;
    }

    std::size_t used() const { return used_; }

  private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::size_t limit_;
    std::size_t used_ = 0;
    std::vector<std::unique_ptr<void, Free>> pieces_;
    std::byte* top_ = nullptr;
    std::size_t left_ = 0;
};

void* arena_allocate(std::size_t size, void* arena) {
    return static_cast<Arena*>(arena)->allocate(size);
}
void arena_free(void*, void*) {}

struct Block {
    explicit Block(std::size_t limit) : arena(limit) {}
    std::uint64_t first = 0;
    std::vector<Row> rows;
    Arena arena;
};

using Item = std::variant<std::unique_ptr<Block>, Error>;

/// Groups of a file that hold a dataset 'data', the first 20 of them by their paths.
class DataGroups {
  public:
    explicit DataGroups(hid_t file) {
        const Hdf5Id root(H5Gopen2(file, "/", H5P_DEFAULT));
        if (root)
            look(root.get(), "", 0);
        array_ = H5Lexists(file, "kspace", H5P_DEFAULT) > 0;
    }

    /// The end of a sentence.
    std::string text() const {
        if (count_ > 0)
            return "raw data are in " + names_ + (count_ > 20 ? " and others" : "");
        return array_ ? "it holds an array 'kspace', as fastMRI's files do, and no readouts"
                      : "no group of it holds raw data";
    }

  private:
    static constexpr int most_links = 4096, most_levels = 8;

    void look(hid_t group, const std::string& path, int level) {
        struct Link {
            DataGroups* self;
            std::vector<std::string> names;
        } links{this, {}};
        const auto visit = [](hid_t, const char* name, const H5L_info_t* info, void* to) -> herr_t {
            auto& out = *static_cast<Link*>(to);
            if (++out.self->links_ > most_links)
                return 1;
            if (info->type == H5L_TYPE_HARD)
                out.names.emplace_back(name);
            return 0;
        };
        H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &links);
        for (const std::string& name : links.names) {
            if (links_ > most_links)
                return;
            const Hdf5Id inner(H5Gopen2(group, name.c_str(), H5P_DEFAULT));
            if (!inner)
                continue;
            const std::string inner_path = path.empty() ? name : fmt::format("{}/{}", path, name);
            if (H5Lexists(inner.get(), "data", H5P_DEFAULT) > 0 &&
                H5Lexists(inner.get(), "xml", H5P_DEFAULT) > 0 && ++count_ <= 20)
                names_ += fmt::format("{}'{}'", count_ > 1 ? ", " : "", inner_path);
            if (level < most_levels)
                look(inner.get(), inner_path, level + 1);
        }
    }

    std::string names_;
    int count_ = 0, links_ = 0;
    bool array_ = false;
};

/// The kind of what is no regular file, as a part of a sentence.
std::string kind_of(std::filesystem::file_type type) {
    using std::filesystem::file_type;
    switch (type) {
    case file_type::directory:
        return "a folder";
    case file_type::fifo:
        return "a named pipe (FIFO)";
    case file_type::socket:
        return "a socket";
    case file_type::block:
    case file_type::character:
        return "a device";
    default:
        return "no regular file";
    }
}

std::uint64_t bit(int flag) {
    return std::uint64_t{1} << (flag - 1);
}

/// Neither image nor calibration.
bool is_other(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    using namespace ISMRMRD;
    const std::uint64_t other = bit(ISMRMRD_ACQ_IS_NOISE_MEASUREMENT) | bit(ISMRMRD_ACQ_IS_NAVIGATION_DATA) |
                                bit(ISMRMRD_ACQ_IS_PHASECORR_DATA) | bit(ISMRMRD_ACQ_IS_HPFEEDBACK_DATA) |
                                bit(ISMRMRD_ACQ_IS_DUMMYSCAN_DATA) | bit(ISMRMRD_ACQ_IS_RTFEEDBACK_DATA) |
                                bit(ISMRMRD_ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA) |
                                bit(ISMRMRD_ACQ_IS_PHASE_STABILIZATION_REFERENCE) |
                                bit(ISMRMRD_ACQ_IS_PHASE_STABILIZATION);
    return head.flags & other;
}

bool calibrates_alone(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    using namespace ISMRMRD;
    return head.flags & bit(ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION) &&
           !(head.flags & bit(ISMRMRD_ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING));
}

} // namespace

bool is_imaging(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    return !is_other(head) && !calibrates_alone(head);
}

bool is_calibration(const ISMRMRD::ISMRMRD_AcquisitionHeader& head) {
    return !is_other(head) && calibrates_alone(head);
}

struct IsmrmrdReader::Impl {
    Options options;
    std::string xml;
    MrdHeader header;
    TrajectoryUnit unit = TrajectoryUnit::automatic;
    std::uint64_t rows = 0;
    std::uint64_t stop = 0;

    Hdf5Id file, data, row_type, transfer;
    SequenceGuard guard;

    // The block that next() hands out of.
    std::unique_ptr<Block> current;
    std::size_t position = 0;
    bool finished = false;

    // Guards queue, done, halt, cancelled; nothing else is locked while it is held.
    std::mutex mutex;
    std::condition_variable filled, drained;
    std::deque<Item> queue;
    bool done = false;
    bool halt = false;      // the thread shall end
    bool cancelled = false; // next() shall not wait
    std::thread thread;

    std::string where() const { return "'" + options.path + "', group '" + options.group + "'"; }
    std::string where(std::uint64_t row) const { return fmt::format("{}, row {}", where(), row); }

    void open();
    void read_xml(const Hdf5Id& group, const Hdf5Id& access);
    std::unique_ptr<Block> read(std::uint64_t first, std::size_t count, bool quiet);
    void read_ahead();
    void start_thread();
    void stop_thread() noexcept;
    void push(Item item);
    IsmrmrdReadout checked(Row& row, std::uint64_t index) const;
};

void IsmrmrdReader::Impl::open() {
    namespace fs = std::filesystem;
    std::error_code ignored;
    const fs::file_status status = fs::status(options.path, ignored);
    const std::string name = "'" + options.path + "'";
    if (options.path.empty())
        throw Error(Errc::settings, "No file is named: set the property location to an ISMRMRD file");
    if (!fs::exists(status))
        throw Error(Errc::not_found, "There is no file " + name);
    if (!fs::is_regular_file(status)) {
        const std::string foreign = foreign_format(options.path);
        throw Error(Errc::open_read, name + " is " + (foreign.empty() ? kind_of(status.type()) : foreign) +
                                         ", not an ISMRMRD file");
    }
    if (fs::file_size(options.path, ignored) == 0)
        throw Error(Errc::decode, name + " is empty");

    const Hdf5Lock lock;
    const Hdf5Id access(H5Pcreate(H5P_FILE_ACCESS));
    H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
    file = Hdf5Id(H5Fopen(options.path.c_str(), H5F_ACC_RDONLY, access.get()));
    if (!file) {
        Error error = hdf5_error(Errc::open_read, name + " cannot be opened as an HDF5 file");
        if (H5Fis_hdf5(options.path.c_str()) > 0)
            throw Error(Errc::open_read,
                        name + " is an HDF5 file, but damaged, cut short or locked by a writer",
                        error.detail());
        if (const std::string foreign = foreign_format(options.path); !foreign.empty())
            throw Error(Errc::open_read, name + " is " + foreign + ", not an ISMRMRD file", error.detail());
        throw Error(Errc::open_read, name + " is not an HDF5 file, or cannot be read", error.detail());
    }

    const Hdf5Id in_links = hdf5_access_within(H5P_LINK_ACCESS),
                 in_groups = hdf5_access_within(H5P_GROUP_ACCESS),
                 in_datasets = hdf5_access_within(H5P_DATASET_ACCESS);
    // Every step of the path is asked for by itself: HDF5 fails, instead of saying no, when a parent is
    // missing.
    std::string path;
    for (std::size_t at = 0; at < options.group.size();) {
        const std::size_t slash = std::min(options.group.find('/', at), options.group.size());
        if (slash > at) {
            path += '/' + options.group.substr(at, slash - at);
            if (H5Lexists(file.get(), path.c_str(), in_links.get()) <= 0) {
                const std::string foreign = foreign_format(options.path);
                throw foreign.empty()
                    ? hdf5_error(Errc::not_found, fmt::format("{} has no group '{}': {}", name, options.group,
                                                              DataGroups(file.get()).text()))
                    : Error(Errc::decode, fmt::format("{} is {}, not an ISMRMRD file", name, foreign));
            }
        }
        at = slash + 1;
    }
    const Hdf5Id group(H5Gopen2(file.get(), path.empty() ? "/" : path.c_str(), in_groups.get()));
    if (!group)
        throw hdf5_error(Errc::decode, "In " + name + " '" + options.group + "' is not a group");

    read_xml(group, in_datasets);

    if (H5Lexists(group.get(), "data", in_links.get()) <= 0)
        throw Error(Errc::not_found,
                    where() + ": has no dataset 'data', so no readouts" +
                        (H5Lexists(group.get(), "image_0", in_links.get()) > 0 ? ", but images; " : "; ") +
                        DataGroups(file.get()).text());
    data = hdf5_checked(H5Dopen2(group.get(), "data", in_datasets.get()), Errc::decode,
                        where() + ": 'data' cannot be opened as a dataset");
    unit = trajectory_unit_from(hdf5_short_text(data.get(), trajectory_unit_attribute));
    const Hdf5Id type(H5Dget_type(data.get()));
    const Hdf5Id sequence(H5Tvlen_create(H5T_NATIVE_FLOAT));
    const Hdf5Id head = hdf5_acquisition_header_type();
    row_type =
        hdf5_checked(H5Tcreate(H5T_COMPOUND, sizeof(Row)), Errc::failed, "HDF5 cannot make a compound type");
    H5Tinsert(row_type.get(), "head", offsetof(Row, head), head.get());
    H5Tinsert(row_type.get(), "traj", offsetof(Row, trajectory), sequence.get());
    H5Tinsert(row_type.get(), "data", offsetof(Row, data), sequence.get());

    const auto index_of = [](const Hdf5Id& compound, const char* member) {
        return H5Tget_member_index(compound.get(), member);
    };
    const std::string not_readouts = where() +
                                     ": 'data' does not hold ISMRMRD readouts (a head, a trajectory and "
                                     "samples): a row ";
    if (H5Tget_class(type.get()) != H5T_COMPOUND)
        throw Error(Errc::decode, not_readouts + "is no compound");
    if (H5Tget_size(type.get()) > max_row_bytes)
        throw Error(Errc::decode, fmt::format("{}claims {} bytes", not_readouts, H5Tget_size(type.get())));
    for (const char* member : {"head", "traj", "data"})
        if (index_of(type, member) < 0)
            throw Error(Errc::decode, not_readouts + "has no '" + member + "'");
    if (const std::string fault = hdf5_type_fault(type.get(), row_type.get()); !fault.empty())
        throw Error(Errc::decode, not_readouts + fault);
    {
        const Hdf5Id stored(H5Tget_member_type(type.get(), static_cast<unsigned>(index_of(type, "head"))));
        for (const char* member :
             {"flags", "number_of_samples", "active_channels", "trajectory_dimensions", "idx"})
            if (index_of(stored, member) < 0)
                throw Error(Errc::decode, where() + ": the readouts' head has no '" + member + "'");
    }
    const Hdf5Id space(H5Dget_space(data.get()));
    hsize_t extent = 0;
    if (H5Sget_simple_extent_ndims(space.get()) != 1 ||
        H5Sget_simple_extent_dims(space.get(), &extent, nullptr) < 0)
        throw Error(Errc::decode,
                    where() + ": 'data' is not a list of readouts, it has another number of dimensions");
    rows = extent;
    if (rows == 0)
        throw Error(Errc::decode, where() + ": holds no readouts");
    stop = std::min<std::uint64_t>(options.stop.value_or(rows), rows);
    if (options.start >= stop)
        throw Error(Errc::settings, fmt::format("{}: no rows from {} to before {}, the file has {}", where(),
                                                options.start, options.stop.value_or(rows), rows));

    const auto member = [&](const char* name) {
        const auto index = static_cast<unsigned>(index_of(type, name));
        const Hdf5Id stored(H5Tget_member_type(type.get(), index));
        const Hdf5Id element(H5Tget_super(stored.get()));
        return SequenceGuard::Member{H5Tget_member_offset(type.get(), index), H5Tget_size(element.get())};
    };
    guard = SequenceGuard(options.path, file.get(), data.get(), H5Tget_size(type.get()),
                          {member("traj"), member("data")}, where() + ": 'data'");
    transfer = hdf5_checked(H5Pcreate(H5P_DATASET_XFER), Errc::failed, "HDF5 cannot make a transfer list");
}

void IsmrmrdReader::Impl::read_xml(const Hdf5Id& group, const Hdf5Id& access) {
    const std::string prefix = where() + ": ";
    if (H5Lexists(group.get(), "xml", H5P_DEFAULT) <= 0)
        throw Error(Errc::not_found,
                    prefix + "has no dataset 'xml', so no ISMRMRD header; " + DataGroups(file.get()).text());
    const Hdf5Id set = hdf5_checked(H5Dopen2(group.get(), "xml", access.get()), Errc::decode,
                                    prefix + "'xml' cannot be opened as a dataset");
    const Hdf5Id type(H5Dget_type(set.get()));
    const Hdf5Id space(H5Dget_space(set.get()));
    if (H5Tget_class(type.get()) != H5T_STRING || H5Sget_simple_extent_npoints(space.get()) != 1)
        throw Error(Errc::decode, prefix + "'xml' is not one string");
    if (H5Tis_variable_str(type.get()) > 0) {
        SequenceGuard xml_guard(options.path, file.get(), set.get(), SequenceGuard::reference_size, {{0, 1}},
                                prefix + "'xml'");
        if (xml_guard.first_bad(0, 1))
            throw Error(Errc::read, prefix + "'xml' cannot be read, the file is damaged here");
        if (xml_guard.bytes() > max_xml_bytes)
            throw Error(Errc::decode, fmt::format("{}'xml' has {} bytes; the most are {}", prefix,
                                                  xml_guard.bytes(), max_xml_bytes));
        const Hdf5Id memory(H5Tcopy(type.get()));
        char* text = nullptr;
        hdf5_check(H5Dread(set.get(), memory.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text), Errc::read,
                   prefix + "'xml' cannot be read");
        if (text) {
            xml.assign(text, strnlen(text, max_xml_bytes));
            H5free_memory(text);
        }
    } else {
        const std::size_t size = H5Tget_size(type.get());
        if (size > max_xml_bytes)
            throw Error(Errc::decode,
                        fmt::format("{}'xml' has {} bytes; the most are {}", prefix, size, max_xml_bytes));
        // Holds no sequences: looked at for its layout alone.
        const SequenceGuard layout(options.path, file.get(), set.get(), size, {}, prefix + "'xml'");
        xml.resize(size);
        const Hdf5Id memory(H5Tcopy(type.get()));
        hdf5_check(H5Dread(set.get(), memory.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, xml.data()), Errc::read,
                   prefix + "'xml' cannot be read");
        // UTF-16 has zeros in it: those at the end alone are none of the text.
        const bool wide = xml.starts_with("\xFF\xFE") || xml.starts_with("\xFE\xFF");
        while (wide && xml.size() >= 2 && xml.ends_with(std::string_view("\0\0", 2)))
            xml.resize(xml.size() - 2);
        if (!wide)
            xml.resize(strnlen(xml.data(), size));
    }
    if (xml.empty())
        throw Error(Errc::decode, prefix + "the ISMRMRD header 'xml' is empty");
    header = MrdHeader::parse(xml, prefix + "the ISMRMRD header 'xml'");
    xml = mrd_header_utf8(xml);
    if (header.encodings.empty())
        throw Error(Errc::decode, prefix + "the ISMRMRD header describes no encoding");
}

/// Reads `count` rows from `first` in one go. With `quiet` a failure returns nothing: the caller then asks
/// row by row, to say which one it is.
std::unique_ptr<Block> IsmrmrdReader::Impl::read(std::uint64_t first, std::size_t count, bool quiet) {
    auto block = std::make_unique<Block>(options.max_block_bytes);
    block->first = first;
    // Members that a file's head lacks stay as they are: zero.
    block->rows.resize(count);

    const Hdf5Lock lock;
    if (const auto bad = guard.first_bad(first, count)) {
        if (quiet)
            return nullptr;
        throw Error(Errc::read, where(*bad) + ": cannot be read, the file is damaged here",
                    "what the row says of its sequences is not what the file's heap holds");
    }
    const hsize_t offset = first, extent = count;
    // Rows may share their sequences, and then ask for more memory than the file has bytes.
    if (quiet && guard.bytes() > 4 * options.block_bytes)
        return nullptr;
    const Hdf5Id from(H5Dget_space(data.get()));
    const Hdf5Id to(H5Screate_simple(1, &extent, nullptr));
    H5Sselect_hyperslab(from.get(), H5S_SELECT_SET, &offset, nullptr, &extent, nullptr);
    H5Pset_vlen_mem_manager(transfer.get(), arena_allocate, &block->arena, arena_free, &block->arena);
    if (H5Dread(data.get(), row_type.get(), to.get(), from.get(), transfer.get(), block->rows.data()) < 0) {
        if (quiet)
            return nullptr;
        throw hdf5_error(Errc::read,
                         where(first) + ": cannot be read, the file is damaged or cut short here");
    }
    return block;
}

void IsmrmrdReader::Impl::push(Item item) {
    std::unique_lock lock(mutex);
    drained.wait(lock, [this] { return halt || queue.size() < options.blocks_ahead; });
    if (!halt)
        queue.push_back(std::move(item));
    filled.notify_one();
}

void IsmrmrdReader::Impl::read_ahead() {
    const auto halted = [this] {
        const std::scoped_lock lock(mutex);
        return halt;
    };
    try {
        std::size_t count = first_block_rows;
        for (std::uint64_t row = options.start; row < stop && !halted();) {
            count = static_cast<std::size_t>(std::min<std::uint64_t>(count, stop - row));
            std::unique_ptr<Block> block = count > 1 ? read(row, count, true) : nullptr;
            if (!block) {
                block = read(row, 1, false);
                count = 1;
            }
            row += count;
            const std::size_t bytes = block->arena.used() / count + sizeof(Row);
            // After a block that failed as a whole the way back to large blocks is gradual.
            count =
                std::clamp<std::size_t>(options.block_bytes / bytes, 1, std::min(max_block_rows, 4 * count));
            push(std::move(block));
        }
    } catch (const Error& error) {
        push(error);
    } catch (const std::exception& exception) {
        push(Error(Errc::failed, where() + ": reading broke off", exception.what()));
    }
    const std::scoped_lock lock(mutex);
    done = true;
    filled.notify_one();
}

void IsmrmrdReader::Impl::start_thread() {
    thread = std::thread([this] {
        read_ahead();
        // HDF5 would keep the errors of a thread that has ended.
        const Hdf5Lock lock;
        H5Eclear2(H5E_DEFAULT);
    });
}

void IsmrmrdReader::Impl::stop_thread() noexcept {
    {
        const std::scoped_lock lock(mutex);
        halt = true;
    }
    drained.notify_all();
    filled.notify_all();
    if (thread.joinable())
        thread.join();
    queue.clear();
    current.reset();
    position = 0;
}

IsmrmrdReadout IsmrmrdReader::Impl::checked(Row& row, std::uint64_t index) const {
    using namespace ISMRMRD;
    ISMRMRD_AcquisitionHeader& head = row.head;
    IsmrmrdReadout readout;
    readout.row = index;
    readout.head = &head;
    if (head.flags >> (ISMRMRD_ACQ_COMPRESSION1 - 1) & 3)
        throw Error(Errc::unsupported,
                    where(index) + ": the readout is compressed (flag 53 or 54: ZFP or NHLBI), which is not "
                                   "read: have it written without compression");
    // Some writers leave the number of channels out: the samples tell it.
    if (const std::size_t channel = 2 * std::size_t{head.number_of_samples};
        head.active_channels == 0 && channel > 0 && row.data.len % channel == 0 &&
        row.data.len / channel <= 65535)
        head.active_channels = static_cast<std::uint16_t>(row.data.len / channel);
    // All of these are 16 bits wide: no product of two, times two, overflows 64.
    const std::uint64_t samples = head.number_of_samples;
    const std::uint64_t values = samples * head.active_channels * 2;
    if (row.data.len != values)
        throw Error(Errc::decode,
                    fmt::format("{}: the head says {} samples of {} channels, {} values, but there are {}",
                                where(index), samples, head.active_channels, values, row.data.len));
    const std::uint64_t coordinates = samples * head.trajectory_dimensions;
    if (row.trajectory.len != coordinates)
        throw Error(
            Errc::decode,
            fmt::format(
                "{}: the head says a trajectory of {} dimensions for {} samples, {} values, but there are {}",
                where(index), head.trajectory_dimensions, samples, coordinates, row.trajectory.len));
    readout.data = {static_cast<const std::complex<float>*>(row.data.p),
                    static_cast<std::size_t>(values / 2)};
    readout.trajectory = {static_cast<const float*>(row.trajectory.p), static_cast<std::size_t>(coordinates)};
    return readout;
}

IsmrmrdReader::IsmrmrdReader(Options options) : impl_(std::make_unique<Impl>()) {
    impl_->options = std::move(options);
    impl_->open();
}

IsmrmrdReader::~IsmrmrdReader() {
    impl_->stop_thread();
}

const std::string& IsmrmrdReader::xml() const {
    return impl_->xml;
}
const MrdHeader& IsmrmrdReader::header() const {
    return impl_->header;
}
TrajectoryUnit IsmrmrdReader::trajectory_unit() const {
    return impl_->unit;
}
std::uint64_t IsmrmrdReader::rows() const {
    return impl_->rows;
}
std::string IsmrmrdReader::where(std::uint64_t row) const {
    return impl_->where(row);
}
std::string IsmrmrdReader::where() const {
    return impl_->where();
}

std::optional<IsmrmrdReadout> IsmrmrdReader::next() {
    Impl& impl = *impl_;
    if (impl.finished)
        return std::nullopt;
    if (!impl.current || impl.position == impl.current->rows.size()) {
        if (!impl.thread.joinable())
            impl.start_thread();
        std::unique_lock lock(impl.mutex);
        impl.filled.wait(lock, [&impl] { return impl.cancelled || impl.done || !impl.queue.empty(); });
        if (impl.cancelled)
            return std::nullopt;
        if (impl.queue.empty()) {
            impl.finished = true;
            return std::nullopt;
        }
        Item item = std::move(impl.queue.front());
        impl.queue.pop_front();
        lock.unlock();
        impl.drained.notify_one();
        if (const Error* error = std::get_if<Error>(&item)) {
            impl.finished = true;
            throw *error;
        }
        impl.current = std::move(std::get<std::unique_ptr<Block>>(item));
        impl.position = 0;
    }
    const std::size_t at = impl.position++;
    return impl.checked(impl.current->rows[at], impl.current->first + at);
}

void IsmrmrdReader::rewind() {
    impl_->stop_thread();
    impl_->finished = impl_->halt = impl_->done = false;
}

void IsmrmrdReader::cancel() noexcept {
    const std::scoped_lock lock(impl_->mutex);
    impl_->cancelled = true;
    impl_->filled.notify_all();
}

void IsmrmrdReader::resume() noexcept {
    const std::scoped_lock lock(impl_->mutex);
    impl_->cancelled = false;
}

bool IsmrmrdReader::cancelled() const noexcept {
    const std::scoped_lock lock(impl_->mutex);
    return impl_->cancelled;
}

} // namespace mri
