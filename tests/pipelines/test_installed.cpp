// SPDX-License-Identifier: LGPL-2.1-or-later
// The product as it is installed: staged into a temporary folder, which is so at another place than the configured
// prefix, and run from there without any variable of the build.
#include "tests/support/gst_test.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/wait.h>

namespace {

namespace fs = std::filesystem;
using namespace mri::test;

struct Outcome {
    int status = -1;
    std::string output;
};

class Installed : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new TempDir;
        fs::create_directories(home());
        fs::create_directories(work());
        const auto install = shell("meson install -C '" + env("GST_MRI_BUILD_ROOT") +
                                   "' --no-rebuild --quiet --destdir '" + folder_->path("stage") + "'");
        ASSERT_EQ(install.status, 0) << install.output;
    }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }

    static fs::path home() { return folder_->path("home"); }
    static fs::path work() { return folder_->path("work"); }
    static fs::path prefix() { return folder_->path("stage") + MRI_PREFIX; }
    static fs::path program(const std::string& name) { return prefix() / MRI_BINDIR / name; }

    static Outcome shell(const std::string& command) {
        const std::string log = folder_->path("output.txt");
        const std::string whole =
            "cd '" + work().string() + "' && ( " + command + " ) >'" + log + "' 2>&1 </dev/null";
        const int raw = std::system(whole.c_str()); // NOLINT: the commands are this file's own
        std::ifstream in(log);
        std::stringstream text;
        text << in.rdbuf();
        return {WIFEXITED(raw) ? WEXITSTATUS(raw) : 128, text.str()};
    }

    /// Runs a command with nothing in its environment but a new home, PATH and what a sanitised build needs.
    static Outcome clean(const std::string& command) {
        std::string variables = "HOME='" + home().string() + "' PATH=/usr/bin:/bin";
        for (const char* name : {"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "GST_REGISTRY_FORK"})
            if (!env(name).empty())
                variables += std::string(" ") + name + "='" + env(name) + "'";
        // The staged program scans every plugin of this machine in its own process; some of them leak.
        if (!env("ASAN_OPTIONS").empty())
            variables += " ASAN_OPTIONS='" + env("ASAN_OPTIONS") + ":detect_leaks=0'";
        return shell("env -i " + variables + " " + command);
    }

    static inline TempDir* folder_ = nullptr;
};

std::set<std::string> names(const fs::path& folder) {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder))
        found.insert(entry.path().filename());
    return found;
}

/// The first words of the lines below the heading.
std::set<std::string> first_words(const std::string& table) {
    std::set<std::string> found;
    std::istringstream lines(table);
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line))
        found.insert(line.substr(0, line.find(' ')));
    return found;
}

bool is_elf(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    char magic[4] = {};
    return file.read(magic, sizeof magic) && std::string(magic, sizeof magic) == "\177ELF";
}

} // namespace

TEST_F(Installed, HoldsEachPipelineAndNothingElseBesideThem) {
    std::set<std::string> files, pipelines;
    for (const std::string& name : names(env("GST_MRI_SOURCE_ROOT") + "/pipelines"))
        if (fs::path(name).extension() == ".yaml") {
            files.insert(name);
            pipelines.insert(fs::path(name).stem());
        }
    ASSERT_FALSE(files.empty());
    EXPECT_EQ(names(prefix() / MRI_DATADIR / "gst-mri/pipelines"), files);
    const auto list = clean(program("mri-launch").string() + " list");
    EXPECT_EQ(list.status, 0) << list.output;
    EXPECT_EQ(first_words(list.output), pipelines) << list.output;
}

TEST_F(Installed, RunsWithPluginsAndWeightsOfItsOwnPrefix) {
    const std::string launch = program("mri-launch").string();
    if (MRI_HAVE_TORCH) {
        const auto run =
            clean(launch + " run live-demo -s live=false -s frames=20 -s coils=1 -s network=causal "
                           "-s display=file -s location=film.mp4 -s gif=");
        ASSERT_EQ(run.status, 0) << run.output;
        EXPECT_GT(fs::file_size(work() / "film.mp4"), 1000U);
        const auto show = clean(program("mri-weights").string() + " show unet.safetensors");
        EXPECT_EQ(show.status, 0) << show.output;
        EXPECT_NE(show.output.find("tensors"), std::string::npos) << show.output;
    } else {
        std::ofstream(work() / "small.yaml")
            << "name: small\ndescription: A test.\npipeline: mriphantomsrc frames=2 "
               "! mrisim ! mriframer ! mrigrid ! fakesink\n";
        const auto run = clean(launch + " run ./small.yaml");
        EXPECT_EQ(run.status, 0) << run.output;
    }
    // A word that is not the program's path, as a shell gives it for a program in PATH, and a link to it.
    fs::create_symlink(launch, work() / "link");
    EXPECT_EQ(clean("./link list").output, clean(launch + " list").output);
    const auto named = clean("bash -c 'exec -a other " + launch + " describe recon-ismrmrd'");
    EXPECT_EQ(named.status, 0) << named.output;
    EXPECT_NE(named.output.find(prefix().string()), std::string::npos) << named.output;
}

TEST_F(Installed, LinksNoFolderOfTheBuildOrOfACache) {
    int checked = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder_->path("stage"))) {
        if (!entry.is_regular_file() || entry.is_symlink() || !is_elf(entry.path()))
            continue;
        ++checked;
        const auto dynamic =
            shell("readelf -d '" + entry.path().string() + "' | grep -E 'R(UN)?PATH' || true");
        std::string paths = dynamic.output.substr(std::min(dynamic.output.find('['), dynamic.output.size()));
        std::replace_if(
            paths.begin(), paths.end(), [](char c) { return c == '[' || c == ']' || c == ':' || c == '\n'; },
            ' ');
        std::istringstream words(paths);
        for (std::string path; words >> path;)
            EXPECT_EQ(path.rfind("$ORIGIN", 0), 0U) << entry.path() << ": " << path;
        const auto libraries = clean("ldd '" + entry.path().string() + "'");
        EXPECT_EQ(libraries.output.find("not found"), std::string::npos) << entry.path() << "\n"
                                                                         << libraries.output;
        EXPECT_EQ(libraries.output.find(env("GST_MRI_BUILD_ROOT") + "/"), std::string::npos)
            << libraries.output;
    }
    EXPECT_GT(checked, 4);
}

TEST_F(Installed, HasManualPagesDocumentsAndFlagsForOtherElements) {
    std::set<std::string> programs = names(prefix() / MRI_BINDIR);
    EXPECT_TRUE(programs.contains("mri-launch"));
    for (const std::string& name : programs) {
        const auto page = shell("LC_ALL=C MANWIDTH=80 man --warnings -l '" +
                                (prefix() / MRI_MANDIR / "man1" / (name + ".1")).string() + "'");
        if (page.status == 127)
            GTEST_SKIP() << "man is not installed";
        EXPECT_EQ(page.status, 0) << page.output;
        EXPECT_NE(page.output.find("EXIT STATUS"), std::string::npos) << page.output;
        EXPECT_EQ(page.output.find("warning:"), std::string::npos) << page.output;
    }
    for (const char* name : {"LICENSE", "README.md", "pipelines/README.md"})
        EXPECT_TRUE(fs::exists(prefix() / MRI_DATADIR / "doc/gst-mri" / name)) << name;
    const auto flags = shell("PKG_CONFIG_PATH='" + (prefix() / MRI_LIBDIR / "pkgconfig").string() +
                             "' pkg-config --cflags gstmri");
    EXPECT_EQ(flags.status, 0) << flags.output;
    EXPECT_NE(flags.output.find("-std=c++20"), std::string::npos) << flags.output;
}
