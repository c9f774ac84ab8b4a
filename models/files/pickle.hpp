// SPDX-License-Identifier: LGPL-2.1-or-later
// Pickles (Python's pickletools, protocols 2 to 5) as data: a pickle is a program, and nothing of it is called.
// Pure C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mri {

/// A value of a pickle. Texts lie in the pickle's bytes.
struct PickleValue {
    enum class Kind : std::uint8_t {
        other, ///< None, numbers but integers, bytes, sets, and whatever a function or a class would have made
        integer,
        text,
        tuple,
        list,
        dict,
        global, ///< a function or a class
        storage,
        tensor
    };
    Kind kind = Kind::other;
    bool made = false;       ///< other: by a function or a class, whose name `text` and `more` have
    std::int64_t number = 0; ///< integer; a storage's number of elements
    std::string_view text;   ///< text; a global's module; a storage's key
    std::string_view more;   ///< a global's name in its module
    std::vector<PickleValue*>
        items; ///< tuple, list; a dict's keys and values in turn; a storage's class; the
               ///< tuple that a tensor is rebuilt from: storage, offset, shape, strides

    /// "module.name" of a global, or of what made the value.
    std::string name() const;
    bool is(std::string_view module, std::string_view function) const {
        return kind == Kind::global && text == module && more == function;
    }
};

/// Runs the instructions of one pickle. Only the functions that rebuild tensors and dictionaries are known; what any
/// other function or class would make is a value of the kind `other`, which takes items and state and forgets them.
/// Values live as long as the reader. Their memory is counted: at most 32 MB, whatever the pickle says, beside the
/// stack's 6 MB.
class PickleReader {
  public:
    using Value = PickleValue;
    using Kind = PickleValue::Kind;

    /// The pickle that begins at byte `at`. Bytes and name, which is for messages, must stay.
    PickleReader(std::span<const std::byte> bytes, std::size_t at, const std::string& name)
        : bytes_(bytes), at_(at), name_(name) {}

    /// The value of the pickle. Throws Errc::decode for damage, Errc::no_memory for too many values.
    Value* run();

    /// The byte behind the pickle.
    std::size_t at() const { return at_; }
    /// Storages that were named, by key. Which class one has is said nowhere else.
    const std::map<std::string_view, const Value*>& storages() const { return storages_; }

    [[noreturn]] void fail(const std::string& what) const;
    /// A number of `count` bytes.
    std::uint64_t little(std::size_t count);

  private:
    std::uint8_t byte();
    std::string_view characters(std::uint64_t count);
    std::string_view line();
    void integer(std::size_t bytes);

    void charge(std::size_t bytes);
    Value* create(Kind kind);
    void push(Value* value);
    Value* push(Kind kind) {
        Value* value = create(kind);
        push(value);
        return value;
    }
    void push_text(std::string_view text) { push(Kind::text)->text = text; }
    Value* top() const;
    Value* pop();
    Value* of_kind(Value* value, Kind kind) const;
    void remember(std::uint64_t key);
    void recall(std::uint64_t key);
    std::size_t take_mark();
    void gather(Kind kind, std::size_t from);
    void extend(Value* target, Kind kind, std::span<Value* const> items);
    void extend_from(Kind kind, std::size_t from);
    void add_pairs(Value* dict, const Value* pairs);
    void made_by(const Value* maker);
    void reduce();
    void persistent();

    std::span<const std::byte> bytes_;
    std::size_t at_;
    const std::string& name_;
    std::size_t charged_ = 0;
    std::deque<Value> values_;
    std::map<std::string_view, const Value*> storages_;
    std::vector<Value*> stack_;
    std::vector<std::size_t> marks_; // heights of the stack
    std::map<std::uint64_t, Value*> memo_;
};

} // namespace mri
