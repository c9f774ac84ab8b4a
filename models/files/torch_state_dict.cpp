// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/torch_state_dict.hpp"

#include "models/files/float_types.hpp"
#include "models/files/pickle.hpp"
#include "models/files/weights.hpp"
#include "models/files/zip.hpp"
#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mri {

namespace {

/// The first pickle's number: 0x1950a86a20f9469cfc6c, and the end of the pickle.
constexpr unsigned char magic[] = {0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, '.'};
constexpr std::int64_t protocol_version = 1001;
constexpr std::size_t max_tensors = 1U << 16;
constexpr std::size_t max_rank = 16;

using Value = PickleValue;
using Kind = PickleValue::Kind;
using Entries = std::map<std::string_view, const Value*>;

/// The byte behind the first pickle of an old file: protocol, a frame from protocol 4 on, the number.
std::optional<std::size_t> behind_magic(std::span<const std::byte> bytes) {
    const auto at = [&](std::size_t i) { return i < bytes.size() ? static_cast<unsigned>(bytes[i]) : 256U; };
    if (at(0) != 0x80 || at(1) < 2 || at(1) > 5)
        return std::nullopt;
    const std::size_t begin = at(2) == 0x95 ? 11 : 2;
    if (bytes.size() < begin + sizeof(magic) || std::memcmp(bytes.data() + begin, magic, sizeof(magic)) != 0)
        return std::nullopt;
    return begin + sizeof(magic);
}

/// The element type of a storage class; size 0 for an unknown one. Counters have a size and no value.
FloatType type_of(const std::string& storage) {
    static const std::map<std::string, FloatType> types = {
        {"torch.FloatStorage", float32_type}, {"torch.DoubleStorage", float64_type},
        {"torch.HalfStorage", float16_type},  {"torch.BFloat16Storage", bfloat16_type},
        {"torch.LongStorage", {8}},           {"torch.IntStorage", {4}},
        {"torch.ShortStorage", {2}},          {"torch.CharStorage", {1}},
        {"torch.ByteStorage", {1}},           {"torch.BoolStorage", {1}}};
    const auto it = types.find(storage);
    return it == types.end() ? FloatType{} : it->second;
}

Entries entries_of(const Value* dict) {
    Entries out;
    for (std::size_t i = 0; i + 1 < dict->items.size(); i += 2)
        if (dict->items[i]->kind == Kind::text)
            out[dict->items[i]->text] = dict->items[i + 1];
    return out;
}

/// Entries of checkpoints that hold the network, in the order in which they are looked into.
constexpr std::array<std::string_view, 8> wrappers = {
    "model", "state_dict", "model_state_dict", "net", "network", "generator", "ema", "params"};
constexpr int deepest_wrapper = 8;

/// A state dict in a checkpoint.
struct StateDict {
    const Value* dict = nullptr; ///< null: there is none
    std::string place;  ///< entries that lead to it, "model/state_dict"; empty: the file's own dictionary
    std::string others; ///< entries that lead to others, separated by commas
};

/// The first of the wrappers that holds tensors, or else the dictionary itself where it does. Each dictionary is looked
/// at once, so that none is its own part.
StateDict state_dict_in(const Value* dict, std::set<const Value*>& seen, int depth = 0) {
    StateDict found;
    if (depth > deepest_wrapper || !seen.insert(dict).second)
        return found;
    std::array<const Value*, wrappers.size()> parts{};
    bool tensors = false;
    for (std::size_t i = 0; i + 1 < dict->items.size(); i += 2) {
        const Value* key = dict->items[i];
        const Value* value = dict->items[i + 1];
        tensors |= value->kind == Kind::tensor;
        if (key->kind == Kind::text && value->kind == Kind::dict)
            if (const auto at = std::find(wrappers.begin(), wrappers.end(), key->text); at != wrappers.end())
                parts[static_cast<std::size_t>(at - wrappers.begin())] = value;
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (!parts[i])
            continue;
        const StateDict part = state_dict_in(parts[i], seen, depth + 1);
        if (!part.dict)
            continue;
        const std::string name(wrappers[i]);
        const auto add = [&](const std::string& other) {
            found.others.append(found.others.empty() ? "" : ", ").append(other);
        };
        if (!found.dict) {
            found.dict = part.dict;
            found.place = part.place.empty() ? name : std::string(name).append("/").append(part.place);
            if (!part.others.empty())
                add(std::string(name).append("/").append(part.others));
        } else {
            add(name);
        }
    }
    if (!found.dict && tensors)
        found.dict = dict;
    return found;
}

/// Says what there is in place of tensors.
[[noreturn]] void no_tensors(const Value* value, const std::string& name) {
    const auto object = [](const Value* v) { return "an object of '" + v->name() + "', which is not run"; };
    constexpr const char* instead = "; save a network's state_dict() in place of the network";
    if (value->kind == Kind::other && value->made)
        throw Error(Errc::unsupported, "'" + name + "' holds no tensors but " + object(value) + instead);
    if (value->kind != Kind::dict)
        throw Error(Errc::unsupported, "'" + name + "' holds no tensors: it is no dictionary of them");
    const Entries entries = entries_of(value);
    std::string text;
    constexpr std::size_t most = 12;
    std::size_t count = 0;
    for (const auto& [key, entry] : entries) {
        if (std::find(wrappers.begin(), wrappers.end(), key) != wrappers.end() &&
            entry->kind == Kind::other && entry->made)
            throw Error(Errc::unsupported, "'" + name + "' holds no tensors: its entry '" + std::string(key) +
                                               "' is " + object(entry) + instead);
        if (++count <= most)
            text += (text.empty() ? "" : ", ") + std::string(key.substr(0, 40));
    }
    std::string looked;
    for (const std::string_view wrapper : wrappers)
        looked += (looked.empty() ? "" : ", ") + std::string(wrapper);
    throw Error(Errc::unsupported, "'" + name + "' holds no tensors, neither by itself nor under " + looked +
                                       "; its entries: " + (text.empty() ? "none" : text) +
                                       (count > most ? ", ..." : ""));
}

/// Sizes out of a tuple.
template <class Fail>
std::vector<std::int64_t> sizes_of(const Value* tuple, const Fail& fail) {
    if (tuple->kind != Kind::tuple || tuple->items.size() > max_rank)
        fail("a tensor has an impossible shape");
    std::vector<std::int64_t> out;
    for (const Value* item : tuple->items) {
        if (item->kind != Kind::integer || item->number < 0)
            fail("a shape holds something else than sizes");
        out.push_back(item->number);
    }
    return out;
}

/// Reads the tensors of a state dict out of their storages' bytes, which data(key) gives (nothing for an unknown one).
/// `file_bytes` bound the values of all tensors together. `fail` throws for damage.
template <class Data, class Fail>
TensorFile tensors_of(const Value* whole, const Data& data, std::size_t file_bytes, const std::string& name,
                      const Fail& fail) {
    std::set<const Value*> seen;
    const StateDict found = whole->kind == Kind::dict ? state_dict_in(whole, seen) : StateDict();
    if (!found.dict)
        no_tensors(whole, name);
    TensorFile file;
    std::size_t total = 0;
    for (const auto& [entry, value] : entries_of(found.dict)) {
        const std::string key(entry);
        // Counters and the like are no weights; tensors of other kinds may be.
        if (value->kind == Kind::other && value->made && value->text.starts_with("torch") &&
            value->more.find("_rebuild") != std::string_view::npos)
            throw Error(Errc::unsupported, "'" + name + "' holds '" + key + "' as " + value->name() +
                                               " makes it: only dense tensors are read");
        if (value->kind != Kind::tensor)
            continue;
        const std::vector<Value*>& parts = value->items[0]->items; // storage, offset, shape, strides
        const Value* storage = parts[0];
        if (storage->kind != Kind::storage || parts[1]->kind != Kind::integer || parts[1]->number < 0)
            fail("tensor '" + key + "' has no storage, or no place in it");
        const std::int64_t offset = parts[1]->number;
        const std::string storage_class = storage->items[0]->name();
        const FloatType type = type_of(storage_class);
        if (type.size == 0)
            throw Error(Errc::unsupported, "'" + name + "' holds '" + key + "' as " + storage_class +
                                               ": only float16, bfloat16, float32 and float64 are read");
        if (!type.read)
            continue; // counters of batch normalisations
        const std::optional<std::span<const std::byte>> bytes = data(storage->text);
        if (!bytes)
            fail("tensor '" + key + "' has no data");
        const std::vector<std::int64_t> shape = sizes_of(parts[2], fail);
        const std::vector<std::int64_t> strides = sizes_of(parts[3], fail);
        if (shape.size() != strides.size())
            fail("tensor '" + key + "' has an impossible shape");
        const auto available = static_cast<std::int64_t>(bytes->size() / type.size);
        // Neither more elements than the storage has nor an element outside of it; both bounds keep products
        // small.
        std::int64_t count = 1;
        std::int64_t last = offset;
        for (std::size_t d = 0; d < shape.size(); ++d) {
            const std::int64_t extent = shape[d];
            if (extent == 0) {
                count = 0;
                break;
            }
            if (extent > available / count || strides[d] > available ||
                (extent - 1) * strides[d] > available - last)
                fail("tensor '" + key + "' is larger than its data");
            count *= extent;
            last += (extent - 1) * strides[d];
        }
        if (count > 0 && last >= available)
            fail("tensor '" + key + "' is larger than its data");
        // Half precision takes twice its bytes as float32; tensors may share a storage, but hardly all the same one.
        total += static_cast<std::size_t>(count) * sizeof(float);
        if (total > file_bytes / 2 * 5 || file.tensors.size() >= max_tensors)
            fail("its tensors are larger than the file");
        NamedTensor tensor;
        tensor.shape = shape;
        tensor.values.resize(static_cast<std::size_t>(count));
        std::vector<std::int64_t> index(shape.size(), 0);
        for (float& out : tensor.values) {
            std::int64_t element = offset;
            for (std::size_t d = 0; d < index.size(); ++d)
                element += index[d] * strides[d];
            out = type.read(bytes->data() + static_cast<std::size_t>(element) * type.size);
            for (std::size_t d = index.size(); d-- > 0;) {
                if (++index[d] < shape[d])
                    break;
                index[d] = 0;
            }
        }
        file.tensors.emplace(key, std::move(tensor));
    }
    if (file.tensors.empty())
        no_tensors(whole, name);
    if (!found.place.empty())
        file.metadata[state_dict_key] = found.place;
    if (!found.others.empty())
        file.metadata[other_state_dicts_key] = found.others;
    return file;
}

} // namespace

bool is_legacy_torch(std::span<const std::byte> bytes) {
    return behind_magic(bytes).has_value();
}

TensorFile parse_legacy_torch(std::span<const std::byte> bytes, const std::string& name) {
    const auto begin = behind_magic(bytes);
    if (!begin)
        throw Error(Errc::decode, "'" + name + "' is not a state dict of PyTorch: it begins otherwise");
    PickleReader version(bytes, *begin, name);
    if (const Value* v = version.run(); v->kind != Kind::integer || v->number != protocol_version)
        version.fail("the format's version is unknown");
    PickleReader system(bytes, version.at(), name);
    system.run(); // sizes of C types: the data's are fixed
    PickleReader state(bytes, system.at(), name);
    const Value* whole = state.run();
    PickleReader keys(bytes, state.at(), name);
    const Value* key_list = keys.run();
    if (key_list->kind != Kind::list)
        keys.fail("there is no list of storages");

    std::map<std::string_view, std::span<const std::byte>> storages;
    std::size_t at = keys.at();
    for (const Value* key : key_list->items) {
        const auto it = state.storages().find(key->text);
        const std::size_t size =
            it == state.storages().end() ? 0 : type_of(it->second->items[0]->name()).size;
        if (size == 0)
            throw Error(Errc::unsupported,
                        "'" + name + "' has a storage that is named nowhere, or of an unknown kind");
        PickleReader reader(bytes, at, name);
        const std::uint64_t count = reader.little(8);
        at = reader.at();
        if (count != static_cast<std::uint64_t>(it->second->number) || count > (bytes.size() - at) / size)
            reader.fail("a storage is longer than the file, or not as long as it is said to be");
        storages[it->first] = bytes.subspan(at, count * size);
        at += count * size;
    }
    const auto data = [&](std::string_view key) -> std::optional<std::span<const std::byte>> {
        const auto it = storages.find(key);
        return it == storages.end() ? std::nullopt : std::optional(it->second);
    };
    return tensors_of(whole, data, bytes.size(), name, [&](const std::string& what) { keys.fail(what); });
}

namespace {

constexpr const char* metadata_entry = "gst-mri-metadata";

/// The archive's folder, which PyTorch names after the file.
std::string folder_of(const std::map<std::string, ZipEntry>& entries) {
    for (const auto& [entry, content] : entries)
        if (const std::size_t at = entry.rfind("/data.pkl");
            at != std::string::npos && at + 9 == entry.size() && entry.find('/') == at)
            return entry.substr(0, at + 1);
    return {};
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Writes the pickle of a state dict: the counterpart of PickleReader.
class Pickler {
  public:
    void raw(const std::string& bytes) {
        for (const char c : bytes)
            out.push_back(static_cast<std::byte>(c));
    }
    void global(const char* module, const char* name) { raw(std::string("c") + module + "\n" + name + "\n"); }
    void text(const std::string& value) {
        raw("X");
        little(value.size(), 4);
        raw(value);
    }
    void integer(std::int64_t value) {
        if (value >= 0 && value <= 0x7FFFFFFF) {
            raw("J");
            little(static_cast<std::uint64_t>(value), 4);
        } else {
            raw("\x8A\x08");
            little(static_cast<std::uint64_t>(value), 8);
        }
    }
    void tuple(const std::vector<std::int64_t>& values) {
        raw("(");
        for (const std::int64_t value : values)
            integer(value);
        raw("t");
    }
    std::vector<std::byte> out;

  private:
    void little(std::uint64_t value, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            out.push_back(static_cast<std::byte>(value >> (8 * i)));
    }
};

std::vector<std::byte> bytes_of(const std::string& text) {
    std::vector<std::byte> out(text.size());
    std::transform(text.begin(), text.end(), out.begin(), [](char c) { return static_cast<std::byte>(c); });
    return out;
}

} // namespace

TensorFile parse_torch(std::span<const std::byte> bytes, const std::string& name) {
    const auto entries = read_zip(bytes, name);
    const std::string folder = folder_of(entries);
    if (folder.empty())
        throw Error(Errc::unsupported, "'" + name + "' is a zip archive, and no state dict of PyTorch");
    if (entries.contains(folder + "constants.pkl"))
        throw Error(Errc::unsupported,
                    "'" + name +
                        "' is a TorchScript module: a program, not a state dict. mritorch runs it with "
                        "trusted=true; safetensors files and state dicts are data alone");
    const auto stored = [&](const std::string& entry) {
        const auto it = entries.find(entry);
        if (it != entries.end() && it->second.packed)
            throw Error(Errc::unsupported, "'" + name + "' has a compressed entry '" + entry +
                                               "': only archives as PyTorch writes them can be read");
        return it == entries.end() ? std::span<const std::byte>() : it->second.data;
    };
    if (const std::string order = text_of(stored(folder + "byteorder")); !order.empty() && order != "little")
        throw Error(Errc::unsupported, "'" + name + "' was written on a machine of the other byte order");
    PickleReader state(stored(folder + "data.pkl"), 0, name);
    const Value* whole = state.run();
    const auto data = [&](std::string_view key) -> std::optional<std::span<const std::byte>> {
        const std::string entry = folder + "data/" + std::string(key);
        return entries.contains(entry) ? std::optional(stored(entry)) : std::nullopt;
    };
    TensorFile file =
        tensors_of(whole, data, bytes.size(), name, [&](const std::string& what) { state.fail(what); });
    const std::string text = text_of(stored(folder + metadata_entry));
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::size_t equals = text.find('=', at);
        if (equals < end)
            file.metadata[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
        at = end + 1;
    }
    return file;
}

std::vector<std::byte> format_torch(const TensorFile& file) {
    static_assert(std::endian::native == std::endian::little);
    const std::string folder = "archive/";
    Pickler p;
    p.raw("\x80\x02");
    p.global("collections", "OrderedDict");
    p.raw(")R(");
    std::vector<std::pair<std::string, std::vector<std::byte>>> entries;
    for (const auto& [name, tensor] : file.tensors) {
        const std::string key = std::to_string(entries.size());
        std::vector<std::int64_t> strides(tensor.shape.size());
        std::int64_t stride = 1;
        for (std::size_t d = strides.size(); d-- > 0;) {
            strides[d] = stride;
            stride *= tensor.shape[d];
        }
        p.text(name);
        p.global("torch._utils", "_rebuild_tensor_v2");
        p.raw("((");
        p.text("storage");
        p.global("torch", "FloatStorage");
        p.text(key);
        p.text("cpu");
        p.integer(static_cast<std::int64_t>(tensor.values.size()));
        p.raw("tQ");
        p.integer(0);
        p.tuple(tensor.shape);
        p.tuple(strides);
        p.raw("\x89"); // no gradient
        p.global("collections", "OrderedDict");
        p.raw(")RtR");
        const auto values = std::as_bytes(std::span(tensor.values));
        entries.emplace_back(folder + "data/" + key, std::vector<std::byte>(values.begin(), values.end()));
    }
    p.raw("u.");
    std::string metadata;
    for (const auto& [key, value] : file.metadata)
        if ((key + value).find('\n') == std::string::npos && key.find('=') == std::string::npos)
            metadata += key + "=" + value + "\n";
    entries.insert(entries.begin(), {{folder + "data.pkl", std::move(p.out)},
                                     {folder + "byteorder", bytes_of("little")},
                                     {folder + metadata_entry, bytes_of(metadata)}});
    entries.emplace_back(folder + "version", bytes_of("3\n"));
    return format_zip(entries);
}

namespace {

/// Of a training's checkpoint the network alone; any other file as it is.
TensorFile weights_of(TensorFile file) {
    const std::string kind = network_of(file);
    if (!kind.ends_with(checkpoint::suffix))
        return file;
    const bool averaged = std::any_of(file.tensors.begin(), file.tensors.end(), [](const auto& item) {
        return item.first.starts_with(checkpoint::average);
    });
    const std::string prefix = averaged ? checkpoint::average : checkpoint::model;
    TensorFile out;
    out.metadata = std::move(file.metadata);
    out.metadata["network"] = kind.substr(0, kind.size() - std::string_view(checkpoint::suffix).size());
    for (auto& [name, tensor] : file.tensors)
        if (name.starts_with(prefix))
            out.tensors[name.substr(prefix.size())] = std::move(tensor);
    return out;
}

/// A tensor's name without what trainings put around a network.
std::string plain_name(const std::string& name) {
    constexpr std::string_view compiled = "_orig_mod."; // a name that torch.compile() keeps for itself
    std::string out = name;
    for (std::size_t at = out.find(compiled); at != std::string::npos; at = out.find(compiled, at)) {
        if (at == 0 || out[at - 1] == '.')
            out.erase(at, compiled.size());
        else
            at += compiled.size();
    }
    std::size_t begin = 0;
    const auto after = [&](std::string_view prefix) {
        return std::string_view(out).substr(begin).starts_with(prefix) && out.size() > begin + prefix.size()
                   ? prefix.size()
                   : 0;
    };
    while (const std::size_t step = std::max(after("module."), after("model.")))
        begin += step;
    return out.substr(begin);
}

TensorFile with_plain_names(TensorFile file, const std::string& path) {
    std::map<std::string, NamedTensor> tensors;
    while (!file.tensors.empty()) {
        auto tensor = file.tensors.extract(file.tensors.begin());
        const std::string name = tensor.key();
        tensor.key() = plain_name(name);
        if (const auto result = tensors.insert(std::move(tensor)); !result.inserted)
            throw Error(Errc::decode, "'" + path + "' holds '" + result.node.key() +
                                          "' twice: under that name and another in front of it ('" + name +
                                          "')");
    }
    file.tensors = std::move(tensors);
    return file;
}

} // namespace

TensorFile read_weights(const std::string& path) {
    const std::vector<std::byte> bytes = read_weights_bytes(path);
    if (is_zip(bytes))
        return with_plain_names(parse_torch(bytes, path), path);
    if (is_legacy_torch(bytes))
        return with_plain_names(parse_legacy_torch(bytes, path), path);
    return with_plain_names(weights_of(parse_safetensors(bytes, path)), path);
}

} // namespace mri
