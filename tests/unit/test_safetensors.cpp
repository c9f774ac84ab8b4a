// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/safetensors.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"

#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace {

using namespace mri;

std::vector<std::byte> file_of(const std::string& header, const std::vector<std::byte>& data,
                               std::uint64_t length) {
    std::vector<std::byte> out(8 + header.size() + data.size());
    std::memcpy(out.data(), &length, 8);
    std::memcpy(out.data() + 8, header.data(), header.size());
    if (!data.empty())
        std::memcpy(out.data() + 8 + header.size(), data.data(), data.size());
    return out;
}

std::vector<std::byte> file_of(const std::string& header, std::size_t data_bytes = 0) {
    return file_of(header, std::vector<std::byte>(data_bytes), header.size());
}

Errc code_of(const std::vector<std::byte>& bytes, std::string* text = nullptr) {
    try {
        parse_safetensors(bytes, "x.safetensors");
    } catch (const Error& e) {
        if (text)
            *text = e.what();
        return e.code();
    }
    ADD_FAILURE() << "nothing was thrown";
    return Errc::failed;
}

TensorFile example() {
    TensorFile file;
    file.tensors["b"] = {{2, 3}, {1, -2, 3.5F, 4, 5, 6}};
    file.tensors["a"] = {{}, {7}};
    file.tensors["none"] = {{0, 4}, {}};
    file.metadata = {{"quote\"d", "back\\slash, tab\t, n\xC3\xA4me"}, {"empty", ""}};
    return file;
}

void expect_equal(const TensorFile& a, const TensorFile& b) {
    EXPECT_EQ(a.metadata, b.metadata);
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    for (const auto& [name, tensor] : a.tensors) {
        ASSERT_TRUE(b.tensors.contains(name)) << name;
        EXPECT_EQ(tensor.shape, b.tensors.at(name).shape);
        EXPECT_EQ(tensor.values, b.tensors.at(name).values);
    }
}

TEST(Safetensors, ReadsWhatItWrote) {
    const TensorFile file = example();
    const auto bytes = format_safetensors(file);
    expect_equal(file, parse_safetensors(bytes, "memory"));
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    EXPECT_EQ(header % 8, 0U) << "the data begin on a multiple of 8 bytes";
}

TEST(Safetensors, ConvertsTheOtherFloatTypes) {
    // 1.0, -2.5 and the smallest subnormal half, 2^-24.
    const std::uint16_t half[] = {0x3C00, 0xC100, 0x0001};
    const std::uint16_t brain[] = {0x3F80, 0xC020};
    const double wide[] = {0.5};
    std::vector<std::byte> data(sizeof(half) + sizeof(brain) + sizeof(wide));
    std::memcpy(data.data(), half, sizeof(half));
    std::memcpy(data.data() + 6, brain, sizeof(brain));
    std::memcpy(data.data() + 10, wide, sizeof(wide));
    const std::string header = R"({"h":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},)"
                               R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[6,10]},)"
                               R"("d":{"dtype":"F64","shape":[1],"data_offsets":[10,18]}} )";
    const TensorFile file = parse_safetensors(file_of(header, data, header.size()), "memory");
    EXPECT_EQ(file.tensors.at("h").values, (std::vector<float>{1, -2.5F, 0x1p-24F}));
    EXPECT_EQ(file.tensors.at("b").values, (std::vector<float>{1, -2.5F}));
    EXPECT_EQ(file.tensors.at("d").values, (std::vector<float>{0.5F}));
}

TEST(Safetensors, LeavesCountersOut) {
    const std::string header = R"({"steps":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                               R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
    const TensorFile file = parse_safetensors(file_of(header, 16), "memory");
    EXPECT_EQ(file.tensors.size(), 1U);
    EXPECT_TRUE(file.tensors.contains("a"));
    const std::string short_one = R"({"steps":{"dtype":"I64","shape":[2],"data_offsets":[0,8]}})";
    EXPECT_EQ(code_of(file_of(short_one, 8)), Errc::decode);
}

TEST(Safetensors, RefusesDamagedHeaders) {
    const std::string entry = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    EXPECT_NO_THROW(parse_safetensors(file_of(entry, 8), "good"));

    EXPECT_EQ(code_of({}), Errc::decode);
    EXPECT_EQ(code_of(std::vector<std::byte>(7)), Errc::decode);
    EXPECT_EQ(code_of(file_of(entry, {}, UINT64_MAX)), Errc::decode) << "length that overflows";
    EXPECT_EQ(code_of(file_of(entry, {}, entry.size() + 1)), Errc::decode) << "length beyond the file";
    EXPECT_EQ(code_of(file_of(entry, 7)), Errc::decode) << "data too short";
    EXPECT_EQ(code_of(file_of(entry, 9)), Errc::decode) << "data too long";
    EXPECT_EQ(code_of(file_of(entry + "x", 8)), Errc::decode) << "text after the end";
    for (
        const char* header : {
            R"([])",
            R"({"a":{"dtype":"F32","shape":[2]}})",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
            R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
            R"({"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":"x"}})",
            // 2^32 x 2^32 elements: their product is 0 in 64 bits
            R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
            R"({"__metadata__":{"k":1},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})",
            R"({"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
        })
        EXPECT_EQ(code_of(file_of(header, 8)), Errc::decode) << header;

    std::string text;
    EXPECT_EQ(code_of(file_of(R"({"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", 8), &text),
              Errc::unsupported);
    EXPECT_NE(text.find("'a'"), std::string::npos) << text;
    EXPECT_NE(text.find("C64"), std::string::npos) << text;
}

TEST(Safetensors, RefusesEveryTruncation) {
    const auto bytes = format_safetensors(example());
    for (std::size_t n = 0; n < bytes.size(); ++n)
        EXPECT_THROW(parse_safetensors(std::span(bytes).first(n), "cut"), Error) << n;
}

TEST(Safetensors, ReplacesAFileAtOnce) {
    const test::TempDir folder;
    const std::string path = folder / "w.safetensors";
    write_safetensors(path, example());
    TensorFile second = example();
    second.tensors["b"].values[0] = 42;
    write_safetensors(path, second);
    expect_equal(second, read_safetensors(path));
    EXPECT_EQ(folder.entries(), 1U) << "a temporary file was left behind";

    try {
        read_safetensors(folder / "nothing.safetensors");
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::not_found);
        EXPECT_NE(std::string(e.what()).find("nothing.safetensors"), std::string::npos);
    }
    try {
        read_safetensors(folder.path());
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::open_read);
    }
    try {
        write_safetensors(folder / "no/where.safetensors", second);
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::open_write);
    }
}

} // namespace
