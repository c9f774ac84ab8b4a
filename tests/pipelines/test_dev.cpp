// SPDX-License-Identifier: LGPL-2.1-or-later
// ./dev run as a user meets it at a terminal: Ctrl-C goes to every process of the foreground, and what runs there
// finishes its files.
#include "tests/support/gst_test.hpp"

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace mri::test;
using namespace std::chrono_literals;

namespace {

std::string contents(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream out;
    out << file.rdbuf();
    return out.str();
}

/// An ISO media file is boxes of a size and a kind, one after another; a film can be played once `moov` is there.
std::string damage_of_mp4(const std::string& bytes) {
    bool moov = false;
    for (std::uint64_t at = 0; at < bytes.size();) {
        const auto number = [&](std::uint64_t from, int count) {
            std::uint64_t value = 0;
            for (int i = 0; i < count; ++i)
                value =
                    value << 8 | static_cast<unsigned char>(bytes.at(from + static_cast<std::uint64_t>(i)));
            return value;
        };
        if (at + 16 > bytes.size())
            return "cut in the head of a box";
        const std::uint64_t size = number(at, 4) == 1 ? number(at + 8, 8) : number(at, 4);
        moov |= bytes.compare(at + 4, 4, "moov") == 0;
        if (size < 8 || size > bytes.size() - at)
            return "a box is cut";
        at += size;
    }
    return moov ? "" : "no moov box among " + std::to_string(bytes.size()) + " bytes";
}

class Dev : public ::testing::Test {
  protected:
    void SetUp() override {
        if (env("GST_MRI_BUILD_ROOT") != env("GST_MRI_SOURCE_ROOT") + "/build")
            GTEST_SKIP() << "./dev runs what is in build/";
    }

    /// Starts `./dev run WORDS` in a group of processes of its own, as a shell does, with the folder as its current
    /// one; what it prints goes to log().
    void start(std::vector<std::string> words) {
        const std::string program = env("GST_MRI_SOURCE_ROOT") + "/dev";
        words.insert(words.begin(), {program, "run"});
        std::vector<char*> argv;
        for (std::string& word : words)
            argv.push_back(word.data());
        argv.push_back(nullptr);
        const std::string folder = dir_.path(""), log = log_.path("log");
        child_ = fork();
        ASSERT_GE(child_, 0);
        if (child_ == 0) {
            setpgid(0, 0);
            unsetenv(
                "GST_REGISTRY_UPDATE"); // the tests' registry needs none, that of ./dev run may be of an earlier build
            if (chdir(folder.c_str()) == 0 && std::freopen(log.c_str(), "w", stdout) && dup2(1, 2) >= 0)
                execv(program.c_str(), argv.data());
            _exit(99);
        }
        setpgid(child_, child_); // whichever of the two comes first
    }

    std::string log() const { return contents(log_.path("log")); }

    void wait_for(const std::function<bool()>& ready) {
        for (const auto end = std::chrono::steady_clock::now() + 60s; !ready();
             std::this_thread::sleep_for(50ms)) {
            int status = 0;
            ASSERT_EQ(waitpid(child_, &status, WNOHANG), 0) << "it ended by itself:\n" << log();
            ASSERT_LT(std::chrono::steady_clock::now(), end) << "it never came so far:\n" << log();
        }
    }

    /// Ctrl-C; the exit code.
    int interrupt() {
        kill(-child_, SIGINT);
        int status = 0;
        waitpid(child_, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    std::set<std::string> files() const {
        std::set<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(dir_.path("")))
            names.insert(entry.path().filename());
        return names;
    }
    std::string file(const std::string& name) const { return contents(dir_.path(name)); }
    std::size_t size_of(const std::string& name) const {
        std::error_code none;
        const auto size = std::filesystem::file_size(dir_.path(name), none);
        return none ? 0 : size;
    }
    std::string write(const std::string& name, const std::string& text) {
        const std::string path = log_.path(name);
        std::ofstream(path) << text;
        return path;
    }

    TempDir dir_, log_;
    pid_t child_ = 0;
};

} // namespace

TEST_F(Dev, InterruptedTrainingLeavesItsWeightsAndItsCheckpoint) {
    start({"mri-launch",
           "run",
           "train-unet",
           "-s",
           "series=4",
           "-s",
           "frames=4",
           "-s",
           "window=4",
           "-s",
           "size=32",
           "-s",
           "crop=32",
           "-s",
           "patch=16",
           "-s",
           "filters=4",
           "-s",
           "steps=100000000",
           "-s",
           "validation=0",
           "-s",
           "weights=net.safetensors",
           "-s",
           "checkpoint=net.checkpoint"});
    if (HasFatalFailure())
        return;
    wait_for([&] { return log().find("step") != std::string::npos; });
    if (HasFatalFailure())
        return;
    EXPECT_EQ(interrupt(), 130) << log();
    EXPECT_EQ(files(), (std::set<std::string>{"net.safetensors", "net.checkpoint"})) << log();
    for (const char* name : {"net.safetensors", "net.checkpoint"}) {
        // The header's length in 8 bytes, the header, the data.
        const std::string bytes = file(name);
        ASSERT_GT(bytes.size(), 8u) << name;
        EXPECT_EQ(bytes[8], '{') << name;
    }
}

TEST_F(Dev, AnInterruptedRecordingCanBePlayed) {
    const auto path =
        write("record.yaml", "name: record\ndescription: A recording.\n"
                             "pipeline: >\n  mriphantomsrc is-live=true width=64 height=64 framerate=25/1\n"
                             "  ! mrivideo ! mridisplaysink display=file location=film.mp4\n"
                             "  gif-location=film.gif\n");
    start({"mri-launch", "run", path});
    if (HasFatalFailure())
        return;
    wait_for([&] { return !files().empty(); });
    if (HasFatalFailure())
        return;
    std::this_thread::sleep_for(1s);
    EXPECT_EQ(interrupt(), 130) << log();
    EXPECT_EQ(files(), (std::set<std::string>{"film.mp4", "film.gif"})) << log();
    EXPECT_EQ(damage_of_mp4(file("film.mp4")), "");
    EXPECT_TRUE(file("film.gif").starts_with("GIF89a"));
    EXPECT_TRUE(file("film.gif").ends_with(';'));
}

TEST_F(Dev, AnInterruptedLiveDemoLeavesWholeFilms) {
    start({"mri-launch", "run", "live-demo", "-s", "display=file", "-s", "frames=4000", "-s", "coils=2", "-s",
           "window=4", "-s", "precision=float32"});
    if (HasFatalFailure())
        return;
    wait_for([&] { return size_of("demo.mp4") > 0 || size_of("demo.gif") > 0 || files().size() > 1; });
    if (HasFatalFailure())
        return;
    std::this_thread::sleep_for(2s);
    EXPECT_EQ(interrupt(), 130) << log();
    EXPECT_EQ(files(), (std::set<std::string>{"demo.mp4", "demo.gif"})) << log();
    EXPECT_EQ(damage_of_mp4(file("demo.mp4")), "");
    EXPECT_TRUE(file("demo.gif").ends_with(';'));
}
