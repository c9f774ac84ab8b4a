// SPDX-License-Identifier: LGPL-2.1-or-later
// Zip archives, as PyTorch writes them.
#include "models/files/zip.hpp"
#include "plugins/math/base/error.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <string>

using namespace mri;

namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
    std::vector<std::byte> out(text.size());
    std::memcpy(out.data(), text.data(), text.size());
    return out;
}

} // namespace

TEST(ZipFile, GivesBackWhatWasWritten) {
    const auto archive = format_zip({{"a/one", bytes_of("first")}, {"a/two", {}}, {"b", bytes_of("third")}});
    ASSERT_TRUE(is_zip(archive));
    const auto entries = read_zip(archive, "x.zip");
    ASSERT_EQ(entries.size(), 3U);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(entries.at("a/one").data.data()), 5), "first");
    EXPECT_TRUE(entries.at("a/two").data.empty());
    for (const auto& [name, content] : entries)
        EXPECT_EQ((content.data.data() - archive.data()) % 64, 0) << name;
}

TEST(ZipFile, RefusesWhatIsCut) {
    const auto archive = format_zip({{"x/data.pkl", bytes_of("\x80\x02}.")}});
    for (std::size_t n = 0; n < archive.size(); ++n)
        EXPECT_THROW(read_zip(std::span(archive).first(n), "cut"), Error) << n;
    EXPECT_FALSE(is_zip(bytes_of("PK")));
    EXPECT_FALSE(is_zip(bytes_of("not a zip archive")));
}

TEST(ZipFile, TellsWhatIsPacked) {
    auto archive = format_zip({{"x/data.pkl", bytes_of("\x80\x02}.")}});
    const std::string text(reinterpret_cast<const char*>(archive.data()), archive.size());
    archive[text.find("PK\1\2") + 10] = std::byte{8}; // deflated
    EXPECT_TRUE(read_zip(archive, "packed.zip").at("x/data.pkl").packed);
}

// Damaged archives are read or refused, and nothing beyond them is touched.
TEST(ZipFile, SurvivesDamage) {
    const auto archive = format_zip({{"a", bytes_of("first")}, {"b", bytes_of(std::string(200, 'x'))}});
    std::mt19937 engine(1);
    for (int round = 0; round < 20000; ++round) {
        auto damaged = archive;
        for (int k = 0; k < 1 + round % 4; ++k)
            damaged[engine() % damaged.size()] = static_cast<std::byte>(engine());
        std::size_t bytes = 0;
        try {
            for (const auto& [name, content] : read_zip(damaged, "damaged"))
                for (const std::byte byte : content.data)
                    bytes += static_cast<std::size_t>(byte) + 1;
        } catch (const Error&) {
        }
        ASSERT_LE(bytes, 256 * 2 * archive.size());
    }
}
