// SPDX-License-Identifier: LGPL-2.1-or-later
// A reader of the JSON in a weights file's header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mri {

/// Reads JSON value by value, as the caller expects them: objects, strings, non-negative integers and arrays of those,
/// which is all that a safetensors header may hold. Anything else is refused, and nothing is kept but what the caller
/// keeps: a header costs no memory of its own, and its depth is the caller's. (A library would be one more package for a
/// machine with a GPU and a compiler, and its leniencies, a byte order mark or a zero byte at the end, would have to be
/// refused around it.) Each member throws what fail() throws.
class JsonReader {
  public:
    /// `name`: of the file, for messages; both must stay.
    JsonReader(std::string_view text, const std::string& name) : text_(text), name_(name) {}

    /// Throws Errc::decode: the file's name and `what`; the detail says at which byte.
    [[noreturn]] void fail(const std::string& what) const;

    void expect(char c);
    /// Takes the next character where it is `c`.
    bool accept(char c);
    /// A string; its escapes become UTF-8.
    std::string string();
    std::uint64_t integer();
    /// An array of at most `limit` integers.
    std::vector<std::uint64_t> integers(std::size_t limit);
    /// Calls member(key) for each member of an object; `member` takes the value.
    template <typename Member>
    void object(Member&& member) {
        expect('{');
        if (accept('}'))
            return;
        do {
            const std::string key = string();
            expect(':');
            member(key);
        } while (accept(','));
        expect('}');
    }
    /// Nothing but blanks is left.
    void end();

  private:
    char next();
    void skip_space();
    std::uint32_t hex4();
    std::uint32_t code_point();

    std::string_view text_;
    const std::string& name_;
    std::size_t at_ = 0;
};

} // namespace mri
