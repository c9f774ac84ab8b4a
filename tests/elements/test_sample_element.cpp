// SPDX-License-Identifier: LGPL-2.1-or-later
// The element to copy, plugins/sample/mrisample.cpp: in a harness, and as a plugin built outside the tree.
#include "plugins/common/element.hpp"
#include "tests/support/gst_test.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <sys/wait.h>

gboolean mri_register_mrisample(GstPlugin* plugin);

namespace {

namespace fs = std::filesystem;
using namespace mri;

class Sample : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        mri_register_mrisample(nullptr);
        // Registered without a plugin, the factory lives in the registry until the process ends.
        const auto factory = adopt(gst_element_factory_find("mrisample"));
        GST_OBJECT_FLAG_SET(factory.get(), GST_OBJECT_FLAG_MAY_BE_LEAKED);
    }
    static GstPtr<GstCaps> two_pixels() {
        return ImageInfo{SampleFormat::f32, 1, 2, 1, 0, 0, {10, 1}, 0}.to_caps();
    }
};

TEST_F(Sample, ScalesAndShifts) {
    auto h = test::harness("mrisample gain=2 offset=1");
    gst_harness_set_src_caps(h.get(), two_pixels().release());
    ASSERT_EQ(gst_harness_push(h.get(), test::buffer_of<float>({1, -3}, GST_SECOND, GST_MSECOND).release()),
              GST_FLOW_OK);
    const auto out = adopt(gst_harness_pull(h.get()));
    EXPECT_EQ(test::values_of<float>(out.get()), (std::vector<float>{3, -5}));
    EXPECT_EQ(GST_BUFFER_PTS(out.get()), GST_SECOND);
    EXPECT_EQ(GST_BUFFER_DURATION(out.get()), GST_MSECOND);
}

TEST_F(Sample, PropertiesChangeAsTheirRowsSay) {
    auto h = test::harness("mrisample name=one");
    gst_harness_set_src_caps(h.get(), two_pixels().release());
    gst_harness_push(h.get(), test::buffer_of<float>({1, 2}).release());
    EXPECT_EQ(test::values_of<float>(adopt(gst_harness_pull(h.get())).get()), (std::vector<float>{1, 2}));
    const auto element = adopt(gst_bin_get_by_name(GST_BIN(h->element), "one"));
    g_object_set(element.get(), "gain", 10.0, "count", TRUE, nullptr);
    gst_harness_push(h.get(), test::buffer_of<float>({1, 2}).release());
    EXPECT_EQ(test::values_of<float>(adopt(gst_harness_pull(h.get())).get()), (std::vector<float>{10, 20}));
    gboolean count = TRUE;
    g_object_get(element.get(), "count", &count, nullptr);
    EXPECT_FALSE(count) << "a property that may change up to READY changed while the element ran";
}

TEST_F(Sample, TellsItsNumberOfFramesAtTheEnd) {
    auto h = test::harness("mrisample count=true");
    test::BusWatch watch(h->element);
    gst_harness_set_src_caps(h.get(), two_pixels().release());
    for (int i = 0; i < 3; ++i)
        gst_harness_push(h.get(), test::buffer_of<float>({1, 2}).release());
    gst_harness_push_event(h.get(), gst_event_new_eos());
    const auto messages = watch.element_messages();
    ASSERT_EQ(messages.size(), 1U);
    guint64 frames = 0;
    EXPECT_TRUE(gst_structure_get_uint64(messages[0].get(), "frames", &frames));
    EXPECT_EQ(frames, 3U);
}

TEST_F(Sample, RefusesComplexImages) {
    auto h = test::harness("mrisample");
    gst_harness_set_src_caps(h.get(),
                             ImageInfo{SampleFormat::c64, 1, 2, 1, 0, 0, {10, 1}, 0}.to_caps().release());
    EXPECT_EQ(gst_harness_push(h.get(), test::buffer_of<float>({1, 2, 3, 4}).release()),
              GST_FLOW_NOT_NEGOTIATED);
}

TEST_F(Sample, ABufferThatIsNoImageIsOneErrorOnTheBus) {
    auto h = test::harness("mrisample");
    test::BusWatch watch(h->element);
    gst_harness_set_src_caps(h.get(), two_pixels().release());
    for (int i = 0; i < 2; ++i)
        EXPECT_EQ(gst_harness_push(h.get(), test::buffer_of<float>({1, 2, 3}).release()), GST_FLOW_ERROR);
    const auto errors = watch.errors();
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_NE(errors[0].find("12"), std::string::npos) << "does not tell the buffer's bytes: " << errors[0];
}

TEST_F(Sample, StatesCycle) {
    EXPECT_TRUE(test::cycle_states("mrisample").empty());
}

std::string file_of_the_tree(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(test::env("GST_MRI_SOURCE_ROOT") + "/" + path).rdbuf();
    return text.str();
}

TEST_F(Sample, TheLaunchLineOfItsDocBlockRuns) {
    const auto text = file_of_the_tree("plugins/sample/mrisample.cpp");
    std::smatch line;
    ASSERT_TRUE(std::regex_search(text, line, std::regex(R"(\|\[\n// gst-launch-1.0 (.*)\n// \]\|)")));
    const auto run = test::run_pipeline(line[1]);
    EXPECT_TRUE(run.eos) << (run.errors.empty() ? "" : run.errors[0]);
}

struct Outcome {
    int status = -1;
    std::string output;
};

Outcome run_shell(const std::string& command, const test::TempDir& folder) {
    const auto log = folder.path("output.txt");
    const std::string whole =
        "cd '" + folder.path() + "' && ( " + command + " ) >'" + log + "' 2>&1 </dev/null";
    const int raw = std::system(whole.c_str()); // NOLINT: the commands are the repository's own
    std::stringstream text;
    text << std::ifstream(log).rdbuf();
    return {WIFEXITED(raw) ? WEXITSTATUS(raw) : 128, text.str()};
}

// The shell block of plugins/README.md that compiles the sample.
std::string documented_commands() {
    const std::string page = file_of_the_tree("plugins/README.md");
    for (std::size_t at = 0; (at = page.find("```sh\n", at)) != std::string::npos;) {
        at += 6;
        const std::string block = page.substr(at, page.find("```", at) - at);
        if (block.find("pkg-config") != std::string::npos)
            return block;
    }
    return {};
}

// As on another machine: what `meson install` puts there, the two files of the sample, and the commands that
// plugins/README.md gives.
TEST(SampleOutsideTheTree, CompilesAgainstTheInstalledHeadersAndRuns) {
    if (test::env("GST_MRI_SANITIZED") == "1")
        GTEST_SKIP() << "gst-launch-1.0 is not sanitised and cannot load a libgstmri that is";
    for (const char* tool : {"meson", "g++", "pkg-config"})
        if (const GString_ptr path(g_find_program_in_path(tool)); !path)
            GTEST_SKIP() << tool << " is not installed";
    const std::string commands = documented_commands();
    ASSERT_FALSE(commands.empty()) << "plugins/README.md gives no commands that compile the sample";
    test::TempDir folder;
    const auto build = test::env("GST_MRI_BUILD_ROOT");
    const auto staged = run_shell("meson install -C '" + build + "' --no-rebuild --tags devel --destdir '" +
                                      folder.path("stage") + "'",
                                  folder);
    ASSERT_EQ(staged.status, 0) << staged.output;
    fs::path pc;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path("stage")))
        if (entry.path().filename() == "gstmri.pc")
            pc = entry.path();
    ASSERT_FALSE(pc.empty()) << staged.output;
    // The library itself has no tag of its own, apart from those of the plugins.
    const auto lib_dir = pc.parent_path().parent_path();
    for (const auto& entry : fs::directory_iterator(build + "/plugins/common"))
        if (const auto to = lib_dir / entry.path().filename();
            to.filename().string().rfind("libgstmri.so", 0) == 0 && !fs::is_directory(entry) &&
            !fs::exists(fs::symlink_status(to)))
            fs::copy(entry, to, fs::copy_options::copy_symlinks);
    std::stringstream text;
    text << std::ifstream(pc).rdbuf();
    const auto moved = std::regex_replace(text.str(), std::regex("^prefix=(.*)", std::regex::multiline),
                                          "prefix=" + folder.path("stage") + "$1");
    std::ofstream(pc) << moved;
    for (const char* file : {"mrisample.cpp", "plugin.cpp"})
        fs::copy(test::env("GST_MRI_SOURCE_ROOT") + "/plugins/sample/" + file, folder.path(file));
    const auto run =
        run_shell("export PKG_CONFIG_PATH='" + pc.parent_path().string() + "' LD_LIBRARY_PATH='" +
                      lib_dir.string() + "' GST_REGISTRY='" + folder.path("registry.bin") +
                      "'; unset GST_REGISTRY_UPDATE; set -e\n" + commands,
                  folder);
    EXPECT_EQ(run.status, 0) << run.output;
    for (const char* part : {"Scales and shifts real images", "Factor of each pixel", "frames=(guint64)3"})
        EXPECT_NE(run.output.find(part), std::string::npos) << part << " is not in:\n" << run.output;
    EXPECT_EQ(run.output.find("CRITICAL"), std::string::npos) << run.output;
}

} // namespace
