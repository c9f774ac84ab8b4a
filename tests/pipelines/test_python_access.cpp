// SPDX-License-Identifier: LGPL-2.1-or-later
// pipelines/examples/read_images.py, run by the system's python: what it reads of buffers is what was scanned.
#include "tests/support/gst_test.hpp"

#include <filesystem>
#include <sstream>
#include <sys/wait.h>

using namespace mri;
using namespace mri::test;

namespace {

constexpr const char* python = "/usr/bin/python3";

/// Lines that a program prints; a test failure where it fails.
std::vector<std::string> lines_of(std::vector<std::string> words) {
    std::vector<gchar*> argv;
    for (auto& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    gchar *out = nullptr, *err = nullptr;
    GError* error = nullptr;
    gint status = -1;
    g_spawn_sync(nullptr, argv.data(), nullptr, G_SPAWN_SEARCH_PATH, nullptr, nullptr, &out, &err, &status,
                 &error);
    const GString_ptr out_owner(out), err_owner(err);
    const GErrorPtr error_owner(error);
    EXPECT_EQ(error, nullptr) << error->message;
    EXPECT_EQ(status, 0) << (err ? err : "");
    std::istringstream text(out ? out : "");
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);)
        lines.push_back(line);
    return lines;
}

std::string example() {
    return env("GST_MRI_SOURCE_ROOT") + "/pipelines/examples/read_images.py";
}

class PythonAccess : public ::testing::Test {
  protected:
    void SetUp() override {
        if (env("GST_MRI_SANITIZED") == "1")
            GTEST_SKIP() << "python is not sanitised and cannot load plugins that are";
        if (!std::filesystem::exists(python) ||
            std::system(
                "/usr/bin/python3 -c 'import gi; gi.require_version(\"Gst\", \"1.0\")' 2>/dev/null") != 0)
            GTEST_SKIP() << "python3-gi or gir1.2-gstreamer-1.0 is not installed";
    }
};

} // namespace

TEST_F(PythonAccess, the_example_reads_images_with_their_facts) {
    const auto lines = lines_of({python, example()});
    ASSERT_EQ(lines.size(), 9U);
    for (int n = 0; n < 8; ++n) {
        const std::string& line = lines[static_cast<std::size_t>(n)];
        EXPECT_EQ(line.find("image " + std::to_string(n) + " of series 0; " + std::to_string(40 * n) +
                            ".0 ms; 64 x 64; "),
                  0U)
            << line; // 25 frames a second
        EXPECT_NE(line.find("; 13 readouts, the last at angle " + std::to_string(13 * n + 12) + ";"),
                  std::string::npos)
            << line;
        EXPECT_NE(line.find("phase 0, repetition " + std::to_string(n) + ", set 0"), std::string::npos)
            << line;
        EXPECT_NE(line.find("truth of 16384 bytes"), std::string::npos) << line; // 64 x 64 float32
    }
    EXPECT_EQ(lines[8], "latency of the pipeline: 0.0 ms");
}

// A series begins its numbers again, and counters are those of a file that python's ismrmrd wrote.
TEST_F(PythonAccess, numbers_and_counters_are_those_of_the_series) {
    const auto phantom =
        lines_of({python, example(),
                  "mriphantomsrc frames=2 series=2 width=32 height=32 ! appsink name=images sync=false"});
    ASSERT_EQ(phantom.size(), 5U);
    for (std::size_t n = 0; n < 4; ++n)
        EXPECT_EQ(phantom[n].find("image " + std::to_string(n % 2) + " of series " + std::to_string(n / 2)),
                  0U)
            << phantom[n];

    const std::string with_ismrmrd = env("GST_MRI_PYTHON");
    if (with_ismrmrd.empty() || !std::filesystem::exists(with_ismrmrd))
        GTEST_SKIP() << "GST_MRI_PYTHON does not name a python with numpy, h5py and ismrmrd";
    if (!adopt(gst_element_factory_find("ismrmrdsrc")))
        GTEST_SKIP() << "built without ISMRMRD";
    const TempDir dir;
    lines_of({with_ismrmrd, env("GST_MRI_SOURCE_ROOT") + "/tests/support/scan_files.py", "grappa",
              dir.path("a.h5")});
    const auto images = lines_of({python, example(),
                                  "ismrmrdsrc location=" + dir.path("a.h5") +
                                      " ! mriframer ! mrigrid ! appsink name=images sync=false"});
    ASSERT_EQ(images.size(), 3U);
    for (std::size_t n = 0; n < 2; ++n) {
        EXPECT_EQ(images[n].find("image " + std::to_string(n) + " of series 0"), 0U) << images[n];
        EXPECT_NE(images[n].find("repetition " + std::to_string(n)), std::string::npos) << images[n];
    }
}

// A pipeline that is played again begins its numbers again too.
TEST(BufferOffsets, begin_again_with_a_run) {
    const auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(
        "mriphantomsrc frames=2 width=16 height=16 ! mrisim spokes=3 alignment=readout ! fakesink name=end "
        "signal-handoffs=true sync=false",
        nullptr))));
    std::vector<guint64> offsets;
    const auto sink = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "end"));
    const auto collect = +[](GstElement*, GstBuffer* buffer, GstPad*, gpointer all) {
        static_cast<std::vector<guint64>*>(all)->push_back(GST_BUFFER_OFFSET(buffer));
    };
    g_signal_connect(sink.get(), "handoff", G_CALLBACK(collect), &offsets);
    for (int round = 0; round < 2; ++round) {
        offsets.clear();
        gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
        const auto bus = adopt(gst_element_get_bus(pipeline.get()));
        const auto message = adopt(gst_bus_timed_pop_filtered(
            bus.get(), 20 * GST_SECOND, static_cast<GstMessageType>(GST_MESSAGE_EOS | GST_MESSAGE_ERROR)));
        ASSERT_TRUE(message);
        EXPECT_EQ(GST_MESSAGE_TYPE(message.get()), GST_MESSAGE_EOS);
        gst_element_set_state(pipeline.get(), GST_STATE_NULL);
        EXPECT_EQ(offsets, (std::vector<guint64>{0, 1, 2, 3, 4, 5}));
    }
}
