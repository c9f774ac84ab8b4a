// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <sys/stat.h>

using namespace mri;

namespace {

std::span<const std::byte> bytes(const std::string& text) {
    return std::as_bytes(std::span(text));
}

std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

TEST(AtomicFile, TheTargetIsTheOldFileUntilTheCommit) {
    const test::TempDir folder;
    const std::string path = folder / "file";
    std::ofstream(path) << "old";
    AtomicFile file(path, "no");
    file.write(bytes("new "), "no");
    file.write(bytes("text"), "no");
    EXPECT_EQ(content(path), "old");
    EXPECT_EQ(folder.entries(), 2U);
    file.commit("no");
    EXPECT_EQ(content(path), "new text");
    EXPECT_EQ(folder.entries(), 1U);
}

TEST(AtomicFile, WithoutACommitNothingIsLeft) {
    const test::TempDir folder;
    {
        AtomicFile file(folder / "file", "no");
        file.write(bytes("text"), "no");
    }
    EXPECT_EQ(folder.entries(), 0U);
}

TEST(AtomicFile, TwoWritersOfOneTargetDoNotMeet) {
    const test::TempDir folder;
    const std::string path = folder / "file";
    AtomicFile first(path, "no"), second(path, "no");
    EXPECT_NE(first.temporary(), second.temporary());
    first.write(bytes("first"), "no");
    second.write(bytes("second"), "no");
    second.commit("no");
    first.commit("no");
    EXPECT_EQ(content(path), "first");
}

TEST(AtomicFile, OthersMayWriteItByName) {
    const test::TempDir folder;
    AtomicFile file(folder / "file", "no");
    std::ofstream(file.temporary()) << "by name";
    file.commit("no");
    EXPECT_EQ(content(folder / "file"), "by name");
}

TEST(AtomicFile, RightsAreThoseOfANewFile) {
    const test::TempDir folder;
    const mode_t mask = ::umask(022);
    AtomicFile file(folder / "file", "no");
    ::umask(mask);
    file.commit("no");
    struct stat status {};
    ASSERT_EQ(::stat((folder / "file").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0644U);
}

TEST(AtomicFile, ErrorsHaveTheCallersSentenceAndTheReason) {
    const test::TempDir folder;
    try {
        AtomicFile(folder / "no/file", "'it' cannot be created");
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::open_write);
        EXPECT_STREQ(error.what(), "'it' cannot be created: No such file or directory");
    }
    std::filesystem::create_directory(folder / "taken");
    AtomicFile file(folder / "taken", "no");
    try {
        file.commit("'it' cannot be completed");
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::write);
        EXPECT_TRUE(std::string(error.what()).starts_with("'it' cannot be completed: ")) << error.what();
    }
    file.discard();
    EXPECT_EQ(folder.entries(), 1U);
}

TEST(AtomicFile, NamesOfTheFullLengthAreWritten) {
    const test::TempDir folder;
    const std::string path = folder / std::string(255, 'x');
    AtomicFile file(path, "no");
    EXPECT_EQ(path_beside(path, ".end").filename().string().size(), 255U);
    EXPECT_NE(path_beside(path, ".end"), path_beside(folder / (std::string(254, 'x') + "y"), ".end"));
    EXPECT_EQ(path_beside(folder / "file", ".end"), folder / "file.end");
    file.commit("no");
    EXPECT_TRUE(std::filesystem::exists(path));
}

} // namespace
