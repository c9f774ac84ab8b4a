// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/json_reader.hpp"

#include "plugins/math/base/error.hpp"

#include <limits>

namespace mri {

namespace {

void append_utf8(std::string& out, std::uint32_t c) {
    const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | (c >> 6));
        put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(0xE0 | (c >> 12));
        put(0x80 | ((c >> 6) & 0x3F));
        put(0x80 | (c & 0x3F));
    } else {
        put(0xF0 | (c >> 18));
        put(0x80 | ((c >> 12) & 0x3F));
        put(0x80 | ((c >> 6) & 0x3F));
        put(0x80 | (c & 0x3F));
    }
}

} // namespace

void JsonReader::fail(const std::string& what) const {
    throw Error(Errc::decode, "'" + name_ + "' is not a valid safetensors file: " + what,
                "at byte " + std::to_string(at_) + " of the header");
}

void JsonReader::expect(char c) {
    if (!accept(c))
        fail(std::string("'") + c + "' expected in the header");
}

bool JsonReader::accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c)
        return false;
    ++at_;
    return true;
}

std::string JsonReader::string() {
    expect('"');
    std::string out;
    while (true) {
        const char c = next();
        if (c == '"')
            return out;
        if (static_cast<unsigned char>(c) < 0x20)
            fail("control character in a string");
        if (c != '\\') {
            out += c;
            continue;
        }
        switch (const char escape = next()) {
        case '"':
        case '\\':
        case '/':
            out += escape;
            break;
        case 'b':
            out += '\b';
            break;
        case 'f':
            out += '\f';
            break;
        case 'n':
            out += '\n';
            break;
        case 'r':
            out += '\r';
            break;
        case 't':
            out += '\t';
            break;
        case 'u':
            append_utf8(out, code_point());
            break;
        default:
            fail("unknown escape in a string");
        }
    }
}

std::uint64_t JsonReader::integer() {
    skip_space();
    std::uint64_t value = 0;
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
        const auto digit = static_cast<std::uint64_t>(text_[at_] - '0');
        if (value > (std::numeric_limits<std::uint64_t>::max() - digit) / 10)
            fail("a number is too large");
        value = value * 10 + digit;
        ++at_;
    }
    if (at_ == start)
        fail("a non-negative integer expected");
    return value;
}

std::vector<std::uint64_t> JsonReader::integers(std::size_t limit) {
    std::vector<std::uint64_t> out;
    expect('[');
    if (accept(']'))
        return out;
    do {
        if (out.size() == limit)
            fail("an array is too long");
        out.push_back(integer());
    } while (accept(','));
    expect(']');
    return out;
}

void JsonReader::end() {
    skip_space();
    if (at_ != text_.size())
        fail("text after the header's end");
}

char JsonReader::next() {
    if (at_ >= text_.size())
        fail("the header breaks off");
    return text_[at_++];
}

void JsonReader::skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
        ++at_;
}

std::uint32_t JsonReader::hex4() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
        const char c = next();
        value <<= 4;
        if (c >= '0' && c <= '9')
            value |= static_cast<std::uint32_t>(c - '0');
        else if (c >= 'a' && c <= 'f')
            value |= static_cast<std::uint32_t>(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value |= static_cast<std::uint32_t>(c - 'A' + 10);
        else
            fail("bad \\u escape");
    }
    return value;
}

std::uint32_t JsonReader::code_point() {
    const std::uint32_t first = hex4();
    if (first < 0xD800 || first > 0xDFFF)
        return first;
    if (first > 0xDBFF || next() != '\\' || next() != 'u')
        fail("bad surrogate pair");
    const std::uint32_t second = hex4();
    if (second < 0xDC00 || second > 0xDFFF)
        fail("bad surrogate pair");
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
}

} // namespace mri
