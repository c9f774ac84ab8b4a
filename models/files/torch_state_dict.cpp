// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/torch_state_dict.hpp"

#include "models/files/float_types.hpp"
#include "models/files/weights.hpp"
#include "models/files/zip.hpp"
#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mri {

namespace {

/// The first pickle: the number 0x1950a86a20f9469cfc6c.
constexpr unsigned char magic[] = {0x80, 2,    0x8A, 10,   0x6C, 0xFC, 0x9C, 0x46,
                                   0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, '.'};
constexpr std::int64_t protocol_version = 1001;
constexpr std::size_t max_values = 1U << 20;

struct Value {
    enum class Kind { none, boolean, integer, real, text, tuple, list, dict, global, storage, tensor, mark };
    Kind kind = Kind::none;
    std::int64_t number = 0;   // boolean, integer; a storage's number of elements; a tensor's offset
    std::string text;          // text, global; a storage's key
    std::string type;          // a storage's class
    std::vector<Value*> items; // tuple, list; a dict's keys and values in turn; a tensor's storage
    std::vector<std::int64_t> shape, strides;
};
using Kind = Value::Kind;

/// Opcodes of pickles (Python's pickletools) that state dicts are made of.
namespace opcode {
enum : unsigned char {
    proto = 0x80,
    stop = '.',
    mark = '(',
    empty_dict = '}',
    empty_list = ']',
    empty_tuple = ')',
    none = 'N',
    newtrue = 0x88,
    newfalse = 0x89,
    binint1 = 'K',
    binint2 = 'M',
    binint = 'J',
    long1 = 0x8A,
    binfloat = 'G',
    binunicode = 'X',
    short_binstring = 'U', // of Python 2
    global = 'c',
    binput = 'q',
    long_binput = 'r',
    binget = 'h',
    long_binget = 'j',
    tuple = 't',
    tuple1 = 0x85,
    tuple2 = 0x86,
    tuple3 = 0x87,
    append = 'a',
    appends = 'e',
    setitem = 's',
    setitems = 'u',
    build = 'b', // attributes of an OrderedDict (_metadata), which nothing here needs
    reduce = 'R',
    binpersid = 'Q',
};
} // namespace opcode

/// One pickle machine for one pickle; values live as long as the reader, so that no cycle of them can leak.
class Unpickler {
  public:
    Unpickler(std::span<const std::byte> bytes, std::size_t at, const std::string& name)
        : bytes_(bytes), at_(at), name_(name) {}

    Value* run() {
        while (true) {
            const auto op = static_cast<unsigned char>(byte());
            switch (op) {
            case opcode::proto:
                if (byte() > 2)
                    fail("a pickle of a newer protocol");
                break;
            case opcode::stop:
                return pop();
            case opcode::mark:
                push(Kind::mark);
                break;
            case opcode::empty_dict:
                push(Kind::dict);
                break;
            case opcode::empty_list:
                push(Kind::list);
                break;
            case opcode::empty_tuple:
                push(Kind::tuple);
                break;
            case opcode::none:
                push(Kind::none);
                break;
            case opcode::newtrue:
            case opcode::newfalse:
                push(Kind::boolean)->number = op == opcode::newtrue;
                break;
            case opcode::binint1:
                push(Kind::integer)->number = byte();
                break;
            case opcode::binint2:
                push(Kind::integer)->number = static_cast<std::int64_t>(little(2));
                break;
            case opcode::binint:
                push(Kind::integer)->number = static_cast<std::int32_t>(little(4));
                break;
            case opcode::long1: {
                const std::size_t count = byte();
                if (count > 8)
                    fail("a number is too large");
                std::uint64_t value = little(count);
                if (count > 0 && count < 8 && (value >> (8 * count - 1)) != 0)
                    value |= ~std::uint64_t{0} << (8 * count); // sign
                push(Kind::integer)->number = static_cast<std::int64_t>(value);
                break;
            }
            case opcode::binfloat:
                skip(8);
                push(Kind::real);
                break;
            case opcode::binunicode:
                push(Kind::text)->text = characters(little(4));
                break;
            case opcode::short_binstring:
                push(Kind::text)->text = characters(byte());
                break;
            case opcode::global: {
                const std::string module = line();
                push(Kind::global)->text = module + "." + line();
                break;
            }
            case opcode::binput:
                memo_[byte()] = top();
                break;
            case opcode::long_binput:
                if (memo_.size() > max_values)
                    fail("too many values");
                memo_[little(4)] = top();
                break;
            case opcode::binget:
                recall(byte());
                break;
            case opcode::long_binget:
                recall(little(4));
                break;
            case opcode::tuple:
                gather(Kind::tuple, above_mark());
                break;
            case opcode::tuple1:
            case opcode::tuple2:
            case opcode::tuple3: {
                std::vector<Value*> items(op - opcode::tuple1 + 1U);
                for (std::size_t i = items.size(); i-- > 0;)
                    items[i] = pop();
                gather(Kind::tuple, std::move(items));
                break;
            }
            case opcode::append: {
                Value* item = pop();
                of_kind(top(), Kind::list)->items.push_back(item);
                break;
            }
            case opcode::appends:
                extend(Kind::list, above_mark());
                break;
            case opcode::setitem: {
                Value* item = pop();
                Value* key = pop();
                extend(Kind::dict, {key, item});
                break;
            }
            case opcode::setitems:
                extend(Kind::dict, above_mark());
                break;
            case opcode::build:
                pop();
                of_kind(top(), Kind::dict);
                break;
            case opcode::reduce:
                reduce();
                break;
            case opcode::binpersid:
                persistent();
                break;
            default:
                fail("pickle instruction " + std::to_string(op) + ", which no state dict has");
            }
        }
    }

    std::size_t at() const { return at_; }
    /// Those that were named so far, by key. Which class one has is said nowhere else.
    const std::map<std::string, const Value*>& storages() const { return storages_; }

    [[noreturn]] void fail(const std::string& what) const {
        throw Error(Errc::decode, "'" + name_ + "' is not a state dict of PyTorch: " + what,
                    "at byte " + std::to_string(at_));
    }

    std::uint64_t little(std::size_t count) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < count; ++i)
            value |= static_cast<std::uint64_t>(byte()) << (8 * i);
        return value;
    }

  private:
    std::uint8_t byte() {
        if (at_ >= bytes_.size())
            fail("the file breaks off");
        return static_cast<std::uint8_t>(bytes_[at_++]);
    }
    void skip(std::uint64_t count) {
        if (count > bytes_.size() - at_)
            fail("the file breaks off");
        at_ += count;
    }
    std::string characters(std::uint64_t count) {
        const std::size_t begin = at_;
        skip(count);
        return {reinterpret_cast<const char*>(bytes_.data()) + begin, count};
    }
    std::string line() {
        std::string out;
        for (char c = static_cast<char>(byte()); c != '\n'; c = static_cast<char>(byte()))
            out += c;
        return out;
    }

    Value* create(Kind kind) {
        if (values_.size() >= max_values)
            fail("too many values");
        values_.emplace_back().kind = kind;
        return &values_.back();
    }
    Value* push(Kind kind) {
        stack_.push_back(create(kind));
        return stack_.back();
    }
    Value* top() {
        if (stack_.empty())
            fail("the stack is empty");
        return stack_.back();
    }
    Value* pop() {
        Value* value = top();
        stack_.pop_back();
        return value;
    }
    Value* of_kind(Value* value, Kind kind) const {
        if (value->kind != kind)
            fail("a value is not of the kind that belongs there");
        return value;
    }
    void recall(std::uint64_t key) {
        const auto it = memo_.find(key);
        if (it == memo_.end())
            fail("a value is used before it is there");
        if (stack_.size() >= max_values)
            fail("too many values");
        stack_.push_back(it->second);
    }
    std::vector<Value*> above_mark() {
        std::vector<Value*> items;
        for (Value* value = pop(); value->kind != Kind::mark; value = pop())
            items.push_back(value);
        std::reverse(items.begin(), items.end());
        return items;
    }
    void gather(Kind kind, std::vector<Value*> items) { push(kind)->items = std::move(items); }
    void extend(Kind kind, const std::vector<Value*>& items) {
        Value* target = of_kind(top(), kind);
        if (kind == Kind::dict && items.size() % 2 != 0)
            fail("a dictionary has a key without a value");
        target->items.insert(target->items.end(), items.begin(), items.end());
    }

    std::vector<std::int64_t> integers(const Value* tuple) const {
        if (tuple->kind != Kind::tuple)
            fail("a shape is no tuple");
        std::vector<std::int64_t> out;
        for (const Value* item : tuple->items) {
            if (item->kind != Kind::integer || item->number < 0)
                fail("a shape holds something else than sizes");
            out.push_back(item->number);
        }
        return out;
    }

    /// Only these two functions are known, and neither is called.
    void reduce() {
        const Value* arguments = of_kind(pop(), Kind::tuple);
        const Value* function = of_kind(pop(), Kind::global);
        if (function->text == "collections.OrderedDict") {
            push(Kind::dict);
            for (const Value* pairs : arguments->items) // Python 2: a list of pairs
                for (const Value* pair : pairs->items) {
                    if (pair->items.size() != 2)
                        fail("a dictionary has a key without a value");
                    extend(Kind::dict, pair->items);
                }
            return;
        }
        if (function->text != "torch._utils._rebuild_tensor" &&
            function->text != "torch._utils._rebuild_tensor_v2")
            throw Error(Errc::unsupported,
                        "'" + name_ + "' is no plain state dict: it wants to call " + function->text);
        if (arguments->items.size() < 4)
            fail("a tensor lacks its storage, offset, size or stride");
        Value* storage = of_kind(arguments->items[0], Kind::storage);
        const std::int64_t offset = of_kind(arguments->items[1], Kind::integer)->number;
        auto shape = integers(arguments->items[2]);
        auto strides = integers(arguments->items[3]);
        if (offset < 0 || shape.size() != strides.size() || shape.size() > 16)
            fail("a tensor has an impossible shape");
        Value* tensor = push(Kind::tensor);
        tensor->number = offset;
        tensor->items = {storage};
        tensor->shape = std::move(shape);
        tensor->strides = std::move(strides);
    }

    /// ('storage', class, key, device, elements, view)
    void persistent() {
        const Value* id = of_kind(pop(), Kind::tuple);
        if (id->items.size() < 5 || id->items[0]->text != "storage")
            fail("an unknown kind of persistent object");
        if (id->items.size() > 5 && id->items[5]->kind != Kind::none)
            throw Error(Errc::unsupported, "'" + name_ + "' has storages that are views of others");
        Value* storage = push(Kind::storage);
        storage->type = of_kind(id->items[1], Kind::global)->text;
        storage->text = of_kind(id->items[2], Kind::text)->text;
        storage->number = of_kind(id->items[4], Kind::integer)->number;
        storages_.emplace(storage->text, storage);
    }

    std::span<const std::byte> bytes_;
    std::size_t at_;
    const std::string& name_;
    std::deque<Value> values_;
    std::map<std::string, const Value*> storages_;
    std::vector<Value*> stack_;
    std::map<std::uint64_t, Value*> memo_;
};

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

std::map<std::string, const Value*> entries_of(const Value* dict) {
    std::map<std::string, const Value*> out;
    for (std::size_t i = 0; i + 1 < dict->items.size(); i += 2)
        if (dict->items[i]->kind == Kind::text)
            out[dict->items[i]->text] = dict->items[i + 1];
    return out;
}

/// The tensors of a pickled dictionary, or of the state dict in a checkpoint.
std::map<std::string, const Value*> items_of(const Value* dict) {
    std::map<std::string, const Value*> out = entries_of(dict);
    for (const char* nested : {"state_dict", "model_state_dict"})
        if (const auto it = out.find(nested); it != out.end() && it->second->kind == Kind::dict)
            return entries_of(it->second);
    return out;
}

/// Reads the tensors out of their storages' bytes; `fail` throws for damage. `limit` bounds the number of
/// values of all tensors together.
template <class Fail>
TensorFile tensors_of(const std::map<std::string, const Value*>& items,
                      const std::map<std::string, std::span<const std::byte>>& data, std::size_t limit,
                      const std::string& name, const Fail& fail) {
    TensorFile file;
    std::size_t total = 0;
    for (const auto& [key, value] : items) {
        if (value->kind != Kind::tensor)
            continue; // counters and the like
        const Value* storage = value->items[0];
        const FloatType type = type_of(storage->type);
        if (type.size == 0)
            throw Error(Errc::unsupported, "'" + name + "' holds '" + key + "' as " + storage->type +
                                               ": only float16, bfloat16, float32 and float64 are read");
        if (!type.read)
            continue; // counters of batch normalisations
        const auto it = data.find(storage->text);
        if (it == data.end())
            fail("tensor '" + key + "' has no data");
        const auto available = static_cast<std::int64_t>(it->second.size() / type.size);
        // Neither more elements than the storage has nor an element outside of it; both bounds keep products
        // small.
        std::int64_t count = 1;
        std::int64_t last = value->number;
        for (std::size_t d = 0; d < value->shape.size(); ++d) {
            const std::int64_t extent = value->shape[d];
            if (extent == 0) {
                count = 0;
                break;
            }
            if (extent > available / count || value->strides[d] > available ||
                (extent - 1) * value->strides[d] > available - last)
                fail("tensor '" + key + "' is larger than its data");
            count *= extent;
            last += (extent - 1) * value->strides[d];
        }
        if (count > 0 && last >= available)
            fail("tensor '" + key + "' is larger than its data");
        // Tensors may share a storage, but hardly all of them the same one.
        total += static_cast<std::size_t>(count);
        if (total > limit)
            fail("its tensors are larger than the file");
        NamedTensor tensor;
        tensor.shape = value->shape;
        tensor.values.resize(static_cast<std::size_t>(count));
        std::vector<std::int64_t> index(value->shape.size(), 0);
        for (float& out : tensor.values) {
            std::int64_t element = value->number;
            for (std::size_t d = 0; d < index.size(); ++d)
                element += index[d] * value->strides[d];
            out = type.read(it->second.data() + static_cast<std::size_t>(element) * type.size);
            for (std::size_t d = index.size(); d-- > 0;) {
                if (++index[d] < value->shape[d])
                    break;
                index[d] = 0;
            }
        }
        // A network that was trained on several devices has this before every name.
        const std::string plain = key.starts_with("module.") ? key.substr(7) : key;
        if (!file.tensors.emplace(plain, std::move(tensor)).second)
            fail("tensor '" + plain + "' is there twice");
    }
    if (file.tensors.empty())
        throw Error(Errc::unsupported, "'" + name + "' holds no tensors");
    return file;
}

} // namespace

bool is_legacy_torch(std::span<const std::byte> bytes) {
    return bytes.size() >= sizeof(magic) && std::memcmp(bytes.data(), magic, sizeof(magic)) == 0;
}

TensorFile parse_legacy_torch(std::span<const std::byte> bytes, const std::string& name) {
    if (!is_legacy_torch(bytes))
        throw Error(Errc::decode, "'" + name + "' is not a state dict of PyTorch: it begins otherwise");
    Unpickler version(bytes, sizeof(magic), name);
    if (const Value* v = version.run(); v->kind != Kind::integer || v->number != protocol_version)
        version.fail("the format's version is unknown");
    Unpickler system(bytes, version.at(), name);
    system.run(); // sizes of C types: the data's are fixed
    Unpickler state(bytes, system.at(), name);
    const Value* dict = state.run();
    Unpickler keys(bytes, state.at(), name);
    const Value* key_list = keys.run();
    if (dict->kind != Kind::dict || key_list->kind != Kind::list)
        keys.fail("there is no dictionary of tensors");

    const std::map<std::string, const Value*> items = items_of(dict);
    const std::map<std::string, const Value*>& storages = state.storages();
    std::map<std::string, std::span<const std::byte>> data;
    std::size_t at = keys.at();
    for (const Value* key : key_list->items) {
        const auto it = storages.find(key->text);
        const std::size_t size = it == storages.end() ? 0 : type_of(it->second->type).size;
        if (size == 0)
            throw Error(Errc::unsupported,
                        "'" + name + "' has a storage that is named nowhere, or of an unknown kind");
        Unpickler reader(bytes, at, name);
        const std::uint64_t count = reader.little(8);
        at = reader.at();
        if (count != static_cast<std::uint64_t>(it->second->number) || count > (bytes.size() - at) / size)
            reader.fail("a storage is longer than the file, or not as long as it is said to be");
        data[key->text] = bytes.subspan(at, count * size);
        at += count * size;
    }

    return tensors_of(items, data, bytes.size(), name, [&](const std::string& what) { keys.fail(what); });
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

/// Writes the pickle of a state dict: the counterpart of Unpickler.
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
                    "'" + name + "' is a TorchScript module, not a state dict (mritorch runs such modules)");
    const auto stored = [&](const std::string& entry) {
        const auto it = entries.find(entry);
        if (it != entries.end() && it->second.packed)
            throw Error(Errc::unsupported, "'" + name + "' has a compressed entry '" + entry +
                                               "': only archives as PyTorch writes them can be read");
        return it == entries.end() ? std::span<const std::byte>() : it->second.data;
    };
    if (const std::string order = text_of(stored(folder + "byteorder")); !order.empty() && order != "little")
        throw Error(Errc::unsupported, "'" + name + "' was written on a machine of the other byte order");
    Unpickler state(stored(folder + "data.pkl"), 0, name);
    const Value* dict = state.run();
    if (dict->kind != Kind::dict)
        state.fail("there is no dictionary of tensors");
    std::map<std::string, std::span<const std::byte>> data;
    for (const auto& [entry, content] : entries)
        if (entry.starts_with(folder + "data/"))
            data[entry.substr(folder.size() + 5)] = stored(entry);
    TensorFile file = tensors_of(items_of(dict), data, bytes.size(), name,
                                 [&](const std::string& what) { state.fail(what); });
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

} // namespace

TensorFile read_weights(const std::string& path) {
    const std::vector<std::byte> bytes = read_weights_bytes(path);
    if (is_zip(bytes))
        return parse_torch(bytes, path);
    return is_legacy_torch(bytes) ? parse_legacy_torch(bytes, path)
                                  : weights_of(parse_safetensors(bytes, path));
}

} // namespace mri
