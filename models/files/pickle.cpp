// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/pickle.hpp"

#include "plugins/math/base/error.hpp"

namespace mri {

namespace {

constexpr std::size_t max_memory = 32U << 20;
constexpr std::size_t max_stack = 1U << 19;
constexpr std::size_t node = 64; // of a map
constexpr std::size_t item_cost =
    48; // a pointer in a vector that grows, and its place in the maps that readers make
constexpr unsigned newest_protocol = 5;

namespace opcode {
enum : unsigned char {
    // protocols 0 and 1, in binary form
    mark = '(',
    stop = '.',
    pop = '0',
    pop_mark = '1',
    dup = '2',
    none = 'N',
    binfloat = 'G',
    binint = 'J',
    binint1 = 'K',
    binint2 = 'M',
    binstring = 'T',
    short_binstring = 'U',
    binunicode = 'X',
    append = 'a',
    appends = 'e',
    build = 'b',
    global = 'c',
    dict = 'd',
    list = 'l',
    empty_dict = '}',
    empty_list = ']',
    empty_tuple = ')',
    tuple = 't',
    binget = 'h',
    long_binget = 'j',
    binput = 'q',
    long_binput = 'r',
    obj = 'o',
    binpersid = 'Q',
    reduce = 'R',
    setitem = 's',
    setitems = 'u',
    // protocol 2
    proto = 0x80,
    newobj = 0x81,
    ext1 = 0x82,
    ext2 = 0x83,
    ext4 = 0x84,
    tuple1 = 0x85,
    tuple2 = 0x86,
    tuple3 = 0x87,
    newtrue = 0x88,
    newfalse = 0x89,
    long1 = 0x8A,
    long4 = 0x8B,
    // protocol 3
    binbytes = 'B',
    short_binbytes = 'C',
    // protocol 4
    short_binunicode = 0x8C,
    binunicode8 = 0x8D,
    binbytes8 = 0x8E,
    empty_set = 0x8F,
    additems = 0x90,
    frozenset = 0x91,
    newobj_ex = 0x92,
    stack_global = 0x93,
    memoize = 0x94,
    frame = 0x95,
    // protocol 5
    bytearray8 = 0x96,
};
} // namespace opcode

} // namespace

std::string PickleValue::name() const {
    return std::string(text) + "." + std::string(more);
}

void PickleReader::fail(const std::string& what) const {
    throw Error(Errc::decode, "'" + name_ + "' is not a state dict of PyTorch: " + what,
                "at byte " + std::to_string(at_));
}

PickleReader::Value* PickleReader::run() {
    while (true) {
        const unsigned op = byte();
        switch (op) {
        case opcode::proto:
            if (const unsigned protocol = byte(); protocol > newest_protocol)
                fail("a pickle of protocol " + std::to_string(protocol));
            break;
        case opcode::frame: // a hint of how much to read at once
            little(8);
            break;
        case opcode::stop:
            return pop();
        case opcode::mark:
            if (marks_.size() >= max_stack)
                charge(max_memory);
            marks_.push_back(stack_.size());
            break;
        case opcode::pop:
            // As Python has it: where nothing lies above a mark, the mark goes.
            if (!marks_.empty() && marks_.back() == stack_.size())
                marks_.pop_back();
            else
                pop();
            break;
        case opcode::pop_mark:
            stack_.resize(take_mark());
            break;
        case opcode::dup:
            push(top());
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
        case opcode::newtrue:
        case opcode::newfalse:
        case opcode::empty_set:
            push(Kind::other);
            break;
        case opcode::binint1:
            integer(1);
            break;
        case opcode::binint2:
            integer(2);
            break;
        case opcode::binint:
            push(Kind::integer)->number = static_cast<std::int32_t>(little(4));
            break;
        case opcode::long1:
        case opcode::long4: {
            const std::uint64_t count = little(op == opcode::long1 ? 1 : 4);
            if (count > 8) { // no size, offset or number of elements has so many digits
                characters(count);
                push(Kind::other);
                break;
            }
            std::uint64_t value = little(count);
            if (count > 0 && count < 8 && (value >> (8 * count - 1)) != 0)
                value |= ~std::uint64_t{0} << (8 * count); // sign
            push(Kind::integer)->number = static_cast<std::int64_t>(value);
            break;
        }
        case opcode::binfloat:
            characters(8);
            push(Kind::other);
            break;
        case opcode::short_binunicode:
        case opcode::short_binstring: // of Python 2
            push_text(characters(byte()));
            break;
        case opcode::binunicode:
        case opcode::binstring:
            push_text(characters(little(4)));
            break;
        case opcode::binunicode8:
            push_text(characters(little(8)));
            break;
        case opcode::short_binbytes:
            characters(byte());
            push(Kind::other);
            break;
        case opcode::binbytes:
            characters(little(4));
            push(Kind::other);
            break;
        case opcode::binbytes8:
        case opcode::bytearray8:
            characters(little(8));
            push(Kind::other);
            break;
        case opcode::global: {
            Value* value = push(Kind::global);
            value->text = line();
            value->more = line();
            break;
        }
        case opcode::stack_global: {
            const Value* function = of_kind(pop(), Kind::text);
            const Value* module = of_kind(pop(), Kind::text);
            Value* value = push(Kind::global);
            value->text = module->text;
            value->more = function->text;
            break;
        }
        case opcode::ext1:
        case opcode::ext2:
        case opcode::ext4: // a class by its number in a registry
            little(std::size_t{1} << (op - opcode::ext1));
            push(Kind::other);
            break;
        case opcode::binput:
            remember(byte());
            break;
        case opcode::long_binput:
            remember(little(4));
            break;
        case opcode::memoize:
            remember(memo_.size());
            break;
        case opcode::binget:
            recall(byte());
            break;
        case opcode::long_binget:
            recall(little(4));
            break;
        case opcode::tuple:
            gather(Kind::tuple, take_mark());
            break;
        case opcode::tuple1:
        case opcode::tuple2:
        case opcode::tuple3: {
            const std::size_t count = op - opcode::tuple1 + 1U;
            if (stack_.size() < count)
                fail("the stack is empty");
            gather(Kind::tuple, stack_.size() - count);
            break;
        }
        case opcode::list:
            gather(Kind::list, take_mark());
            break;
        case opcode::dict: {
            const std::size_t from = take_mark();
            if ((stack_.size() - from) % 2 != 0)
                fail("a dictionary has a key without a value");
            gather(Kind::dict, from);
            break;
        }
        case opcode::frozenset:
            stack_.resize(take_mark());
            push(Kind::other);
            break;
        case opcode::additems: // to a set
            stack_.resize(take_mark());
            of_kind(top(), Kind::other);
            break;
        case opcode::append:
            if (stack_.empty())
                fail("the stack is empty");
            extend_from(Kind::list, stack_.size() - 1);
            break;
        case opcode::appends:
            extend_from(Kind::list, take_mark());
            break;
        case opcode::setitem:
            if (stack_.size() < 2)
                fail("the stack is empty");
            extend_from(Kind::dict, stack_.size() - 2);
            break;
        case opcode::setitems:
            extend_from(Kind::dict, take_mark());
            break;
        case opcode::build: // attributes, which nothing here needs
            pop();
            top();
            break;
        case opcode::reduce:
            reduce();
            break;
        case opcode::newobj:
            pop();
            made_by(pop());
            break;
        case opcode::newobj_ex:
            pop();
            pop();
            made_by(pop());
            break;
        case opcode::obj: {
            const std::size_t from = take_mark();
            if (from >= stack_.size())
                fail("the stack is empty");
            const Value* maker = stack_[from];
            stack_.resize(from);
            made_by(maker);
            break;
        }
        case opcode::binpersid:
            persistent();
            break;
        default:
            fail("pickle instruction " + std::to_string(op) + ", which protocols 2 to 5 do not write");
        }
    }
}

std::uint64_t PickleReader::little(std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
        value |= static_cast<std::uint64_t>(byte()) << (8 * i);
    return value;
}

std::uint8_t PickleReader::byte() {
    if (at_ >= bytes_.size())
        fail("the file breaks off");
    return static_cast<std::uint8_t>(bytes_[at_++]);
}

std::string_view PickleReader::characters(std::uint64_t count) {
    if (count > bytes_.size() - at_)
        fail("the file breaks off");
    const auto* begin = reinterpret_cast<const char*>(bytes_.data()) + at_;
    at_ += count;
    return {begin, count};
}

std::string_view PickleReader::line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, bytes_.size() - at_);
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos)
        fail("the file breaks off");
    at_ += end + 1;
    return rest.substr(0, end);
}

void PickleReader::integer(std::size_t bytes) {
    push(Kind::integer)->number = static_cast<std::int64_t>(little(bytes));
}

void PickleReader::charge(std::size_t bytes) {
    charged_ += bytes;
    if (charged_ >= max_memory)
        throw Error(Errc::no_memory, "'" + name_ + "' cannot be read: its pickle has too many values",
                    "at byte " + std::to_string(at_));
}

PickleReader::Value* PickleReader::create(Kind kind) {
    charge(sizeof(Value));
    values_.emplace_back().kind = kind;
    return &values_.back();
}

void PickleReader::push(Value* value) {
    if (stack_.size() >= max_stack)
        charge(max_memory);
    stack_.push_back(value);
}

PickleReader::Value* PickleReader::top() const {
    if (stack_.empty())
        fail("the stack is empty");
    return stack_.back();
}

PickleReader::Value* PickleReader::pop() {
    Value* value = top();
    stack_.pop_back();
    return value;
}

PickleReader::Value* PickleReader::of_kind(Value* value, Kind kind) const {
    if (value->kind != kind)
        fail("a value is not of the kind that belongs there");
    return value;
}

void PickleReader::remember(std::uint64_t key) {
    Value* value = top();
    const auto [it, added] = memo_.insert_or_assign(key, value);
    if (added)
        charge(node);
}

void PickleReader::recall(std::uint64_t key) {
    const auto it = memo_.find(key);
    if (it == memo_.end())
        fail("a value is used before it is there");
    push(it->second);
}

/// Height of the stack at the last mark, which goes.
std::size_t PickleReader::take_mark() {
    if (marks_.empty() || marks_.back() > stack_.size())
        fail("a mark is missing");
    const std::size_t height = marks_.back();
    marks_.pop_back();
    return height;
}

/// A value of what lies on the stack from a height on.
void PickleReader::gather(Kind kind, std::size_t from) {
    Value* value = create(kind);
    extend(value, kind, std::span(stack_).subspan(from));
    stack_.resize(from);
    push(value);
}

void PickleReader::extend(Value* target, Kind kind, std::span<Value* const> items) {
    if (target->kind == Kind::other)
        return;
    of_kind(target, kind);
    charge(items.size() * item_cost);
    target->items.insert(target->items.end(), items.begin(), items.end());
}

/// Adds what lies on the stack from a height on to the value below.
void PickleReader::extend_from(Kind kind, std::size_t from) {
    if (from == 0 || from > stack_.size())
        fail("the stack is empty");
    if (kind == Kind::dict && (stack_.size() - from) % 2 != 0)
        fail("a dictionary has a key without a value");
    extend(stack_[from - 1], kind, std::span(stack_).subspan(from));
    stack_.resize(from);
}

void PickleReader::add_pairs(Value* dict, const Value* pairs) {
    for (const Value* pair : pairs->items) {
        if (pair->items.size() != 2)
            fail("a dictionary has a key without a value");
        extend(dict, Kind::dict, pair->items);
    }
}

/// What a function or a class would make.
void PickleReader::made_by(const Value* maker) {
    Value* value = push(Kind::other);
    value->made = maker->kind == Kind::global;
    if (value->made) {
        value->text = maker->text;
        value->more = maker->more;
    }
}

void PickleReader::reduce() {
    Value* arguments = of_kind(pop(), Kind::tuple);
    const Value* function = pop();
    // A tensor of a class of its own, or with attributes: (function, class, arguments, state).
    if (function->is("torch._tensor", "_rebuild_from_type_v2") && arguments->items.size() == 4 &&
        arguments->items[2]->kind == Kind::tuple) {
        function = arguments->items[0];
        arguments = arguments->items[2];
    }
    if (function->is("collections", "OrderedDict")) {
        Value* dict = push(Kind::dict);
        for (const Value* pairs : arguments->items) // Python 2: a list of pairs
            add_pairs(dict, pairs);
    } else if (function->is("torch._utils", "_rebuild_tensor") ||
               function->is("torch._utils", "_rebuild_tensor_v2")) {
        if (arguments->items.size() < 4)
            fail("a tensor lacks its storage, offset, size or stride");
        Value* tensor = push(Kind::tensor);
        charge(item_cost);
        tensor->items = {arguments};
    } else if ((function->is("torch._utils", "_rebuild_parameter") ||
                function->is("torch._utils", "_rebuild_parameter_with_state")) &&
               !arguments->items.empty() && arguments->items[0]->kind == Kind::tensor) {
        push(arguments->items[0]);
    } else if (function->is("copyreg", "_reconstructor") && !arguments->items.empty()) {
        made_by(arguments->items[0]);
    } else {
        made_by(function);
    }
}

/// ('storage', class, key, device, elements, view)
void PickleReader::persistent() {
    const Value* id = of_kind(pop(), Kind::tuple);
    if (id->items.size() < 5 || id->items[0]->text != "storage")
        fail("an unknown kind of persistent object");
    if (id->items.size() > 5 && id->items[5]->kind != Kind::other)
        throw Error(Errc::unsupported, "'" + name_ + "' has storages that are views of others");
    Value* storage = push(Kind::storage);
    storage->text = of_kind(id->items[2], Kind::text)->text;
    storage->number = of_kind(id->items[4], Kind::integer)->number;
    charge(item_cost + node);
    storage->items = {of_kind(id->items[1], Kind::global)};
    storages_.emplace(storage->text, storage);
}

} // namespace mri
