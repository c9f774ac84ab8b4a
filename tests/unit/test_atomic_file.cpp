// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

/// The message of the error that a target brings; empty where it brings none.
std::string refusal(const std::string& path) {
    try {
        AtomicFile(path, "'it' cannot be created");
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::open_write);
        return error.what();
    }
    return {};
}

TEST(AtomicFile, ErrorsHaveTheCallersSentenceAndTheReason) {
    const test::TempDir folder;
    EXPECT_EQ(refusal(folder / "no/file"),
              "'it' cannot be created: there is no folder '" + folder.path("no") + "'");
    AtomicFile file(folder / "taken", "no");
    std::filesystem::create_directory(folder / "taken");
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

TEST(AtomicFile, RefusesWhatIsNoFile) {
    const test::TempDir folder;
    std::filesystem::create_directory(folder / "folder");
    ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
    std::filesystem::create_symlink("fifo", folder / "link");
    EXPECT_EQ(refusal(folder / "folder"), "'it' cannot be created: it is a folder");
    EXPECT_EQ(refusal(folder / "fifo"), "'it' cannot be created: it is a FIFO");
    EXPECT_EQ(refusal(folder / "link"), "'it' cannot be created: it is a FIFO");
    EXPECT_EQ(refusal("/dev/null"), "'it' cannot be created: it is a device");
    EXPECT_EQ(folder.entries(), 3U);
    std::filesystem::create_symlink("round", folder / "round");
    EXPECT_NE(refusal(folder / "round"), "");
}

TEST(AtomicFile, ALinkStaysOne) {
    const test::TempDir folder;
    namespace fs = std::filesystem;
    fs::create_directory(folder / "there");
    std::ofstream(folder / "there/old") << "old";
    fs::create_symlink("there/old", folder / "relative");
    fs::create_symlink(folder / "relative", folder / "absolute");
    fs::create_symlink("there/new", folder / "dangling");
    for (const auto& [link, file] : {std::pair{"absolute", "there/old"}, {"dangling", "there/new"}}) {
        AtomicFile out(folder / link, "no");
        EXPECT_EQ(out.temporary().parent_path().filename(), "there") << "a rename stays in one file system";
        out.write(bytes(link), "no");
        out.commit("no");
        EXPECT_TRUE(fs::is_symlink(folder / link)) << link;
        EXPECT_EQ(content(folder / file), link);
    }
    EXPECT_TRUE(fs::is_symlink(folder / "relative"));
}

TEST(AtomicFile, ANameMayBeAsLongAsTheFileSystemTakes) {
    const test::TempDir folder;
    std::string heart; // of characters of two bytes
    while (heart.size() < 254)
        heart += "ä";
    for (const std::string& name : {std::string(255, 'x'), std::string(240, 'x'), heart + "x", "x" + heart}) {
        AtomicFile file(folder / name, "no");
        file.write(bytes(name), "no");
        file.commit("no");
        EXPECT_EQ(content(folder / name), name);
    }
    EXPECT_EQ(folder.entries(), 4U);
    EXPECT_NE(refusal(folder / std::string(256, 'x')), "");
}

TEST(AtomicFile, WhatIsNotWholeCanBeKept) {
    const test::TempDir folder;
    std::ofstream(folder / "file") << "old";
    AtomicFile file(folder / "file", "no");
    file.write(bytes("half"), "no");
    EXPECT_EQ(file.keep_partial("no"), folder / "file.partial");
    EXPECT_EQ(content(folder / "file.partial"), "half");
    EXPECT_EQ(content(folder / "file"), "old");
    EXPECT_EQ(folder.entries(), 2U);
}

TEST(AtomicFile, TellsWhatDeadProcessesLeft) {
    const test::TempDir folder;
    const AtomicFile own(folder / "file", "no"); // this process is alive
    const pid_t child = ::fork();
    if (child == 0)
        ::_exit(0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    const std::string left = folder / "file.partial-" + std::to_string(child) + "-0";
    for (const std::string& path : {left, folder.path("file.partial"), folder.path("file.partial-x-0"),
                                    folder.path("other.partial-") + std::to_string(child) + "-0"})
        std::ofstream(path) << "x";
    EXPECT_EQ(abandoned_files(folder / "file"), std::vector<std::filesystem::path>{left});
    EXPECT_TRUE(abandoned_files(folder / "no/file").empty());
}

/// A limit on the size of files stands in for a full disk.
TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
    const test::TempDir folder;
    std::ofstream(folder / "file") << "old";
    ASSERT_NE(std::signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit small = before;
    small.rlim_cur = 4096;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    {
        AtomicFile file(folder / "file", "no");
        EXPECT_THROW(file.write(bytes(std::string(10000, 'x')), "no"), Error);
    }
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_EQ(content(folder / "file"), "old");
    EXPECT_EQ(folder.entries(), 1U);
}

} // namespace
