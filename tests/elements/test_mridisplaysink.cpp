// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/gst_test.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using mri::test::run_pipeline;
using mri::test::RunResult;

/// A picture in RGB without padding.
struct Picture {
    int width = 0, height = 0;
    std::vector<std::uint8_t> rgb;
    bool operator==(const Picture&) const = default;
};

Picture picture_of(GstSample* sample) {
    Picture p;
    const GstStructure* s = gst_caps_get_structure(gst_sample_get_caps(sample), 0);
    gst_structure_get_int(s, "width", &p.width);
    gst_structure_get_int(s, "height", &p.height);
    const auto data = mri::test::values_of<std::uint8_t>(gst_sample_get_buffer(sample));
    const std::size_t stride = (3 * static_cast<std::size_t>(p.width) + 3) / 4 * 4;
    for (int y = 0; y < p.height; ++y)
        p.rgb.insert(p.rgb.end(), data.begin() + static_cast<std::ptrdiff_t>(y * stride),
                     data.begin() + static_cast<std::ptrdiff_t>(y * stride + 3 * p.width));
    return p;
}

std::vector<Picture> pictures(const std::string& launch) {
    std::vector<Picture> all;
    const RunResult run =
        run_pipeline(launch + " ! videoconvert ! video/x-raw,format=RGB ! appsink sync=false", 60,
                     [&](const std::string&, GstSample* s) { all.push_back(picture_of(s)); });
    EXPECT_TRUE(run.errors.empty()) << run.errors.front();
    return all;
}

std::string source(int width, int height, int frames, const char* more = "pattern=ball") {
    return "videotestsrc num-buffers=" + std::to_string(frames) + " " + more +
           " ! video/x-raw,framerate=25/1,width=" + std::to_string(width) +
           ",height=" + std::to_string(height);
}

bool have(const char* factory) {
    return static_cast<bool>(mri::adopt(gst_element_factory_find(factory)));
}
bool can_decode_h264() {
    return have("qtdemux") && have("h264parse") && (have("avdec_h264") || have("openh264dec"));
}
/// Reads a recording. Not decodebin: its type finders stay alive and would look like leaks.
std::string decoder(const std::string& file) {
    const bool mp4 = file.find(".mp4") != std::string::npos;
    return "filesrc location=" + file +
           (mp4 ? std::string(" ! qtdemux ! h264parse ! ") +
                      (have("avdec_h264") ? "avdec_h264" : "openh264dec")
                : std::string(" ! matroskademux ! vp8dec"));
}

const GstStructure* display_message(const RunResult& run) {
    for (const auto& m : run.messages)
        if (gst_structure_has_name(m.get(), "mri-display"))
            return m.get();
    ADD_FAILURE() << "no mri-display message came";
    return nullptr;
}

/// Mean absolute difference of two pictures over the first one's area.
double difference(const Picture& a, const Picture& b) {
    double sum = 0;
    for (int y = 0; y < a.height; ++y)
        for (int i = 0; i < 3 * a.width; ++i)
            sum += std::abs(a.rgb[static_cast<std::size_t>(y) * 3 * a.width + i] -
                            b.rgb[static_cast<std::size_t>(y) * 3 * b.width + i]);
    return sum / static_cast<double>(a.rgb.size());
}

class DisplaySink : public ::testing::Test {
  protected:
    void SetUp() override {
        g_unsetenv("DISPLAY");
        g_unsetenv("WAYLAND_DISPLAY");
    }
    void expect_recorded(const std::string& file, const std::string& launch, int width, int height,
                         std::size_t frames) {
        const auto expected = pictures(launch);
        const auto got = pictures(decoder(file));
        ASSERT_EQ(got.size(), frames);
        ASSERT_GE(expected.size(), frames);
        EXPECT_EQ(got[0].width, width);
        EXPECT_EQ(got[0].height, height);
        // The encoders' quantisers are set to differences of a few levels; a wrong or frozen picture of the
        // moving ball on black differs by tens over the ball.
        for (std::size_t i = 0; i < frames; ++i)
            EXPECT_LT(difference(expected[i], got[i]), 3) << i;
    }
    mri::test::TempDir folder_;
};

TEST_F(DisplaySink, RecordsAnMp4WithoutADisplayAndSaysSo) {
    if (!have("x264enc") && !have("openh264enc"))
        GTEST_SKIP() << "no H.264 encoder is installed";
    const std::string path = folder_.path("a.mp4");
    const RunResult run = run_pipeline(source(96, 64, 30) + " ! mridisplaysink location=" + path);
    ASSERT_TRUE(run.eos) << run.errors.front();
    const GstStructure* m = display_message(run);
    ASSERT_NE(m, nullptr);
    EXPECT_STREQ(gst_structure_get_string(m, "mode"), "file");
    EXPECT_EQ(gst_structure_get_string(m, "location"), path);
    if (!can_decode_h264())
        GTEST_SKIP() << "no H.264 decoder is installed: what was recorded is not compared";
    expect_recorded(path, source(96, 64, 30), 96, 64, 30);
}

TEST_F(DisplaySink, RecordsAWebMOfOddSize) {
    if (!have("vp8enc") || !have("vp8dec") || !have("webmmux") || !have("matroskademux"))
        GTEST_SKIP() << "VP8 in WebM is not installed";
    const std::string path = folder_.path("a.webm");
    const RunResult run = run_pipeline(source(97, 65, 10) + " ! mridisplaysink location=" + path);
    ASSERT_TRUE(run.eos) << run.errors.front();
    expect_recorded(path, source(97, 65, 10), 98, 66, 10);
}

TEST_F(DisplaySink, WhatWasRecordedPlaysWhenThePipelineIsStoppedHalfway) {
    if ((!have("x264enc") && !have("openh264enc")) || !can_decode_h264())
        GTEST_SKIP() << "H.264 cannot be encoded and decoded here";
    const std::string path = folder_.path("a.mp4");
    GError* error = nullptr;
    auto pipeline = mri::adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(
        (source(64, 48, 1000) + " ! identity name=i ! mridisplaysink location=" + path).c_str(), &error))));
    ASSERT_EQ(error, nullptr);
    const auto identity = mri::adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "i"));
    std::atomic<int> frames{0};
    g_object_set(identity.get(), "signal-handoffs", TRUE, nullptr);
    g_signal_connect(identity.get(), "handoff", G_CALLBACK(+[](GstElement*, GstBuffer*, gpointer n) {
                         ++*static_cast<std::atomic<int>*>(n);
                     }),
                     &frames);
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    for (int i = 0; i < 500 && frames < 150; ++i)
        g_usleep(20000);
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    ASSERT_GE(frames, 150);
    EXPECT_FALSE(std::filesystem::exists(path)) << "it did not come to its end";
    const auto got = pictures(decoder(path + ".partial"));
    // Fragments of one second, 25 frames; a key frame every 50 may delay one, and the last one is lost.
    EXPECT_GE(got.size(), 75u);
}

TEST_F(DisplaySink, WritesAGifBesideTheVideo) {
    if (!have("mrigifsink") || !have("vp8enc"))
        GTEST_SKIP() << "mrigifsink or vp8enc is not installed";
    const RunResult run =
        run_pipeline(source(64, 48, 5) + " ! mridisplaysink location=" + folder_.path("a.webm") +
                     " gif-location=" + folder_.path("a.gif"));
    ASSERT_TRUE(run.eos) << run.errors.front();
    EXPECT_GT(std::filesystem::file_size(folder_.path("a.webm")), 100u);
    std::ifstream file(folder_.path("a.gif"), std::ios::binary);
    std::string magic(6, ' ');
    file.read(magic.data(), 6);
    EXPECT_EQ(magic, "GIF89a");
}

TEST_F(DisplaySink, TheDateMakesNamesDiffer) {
    if (!have("vp8enc"))
        GTEST_SKIP() << "vp8enc is not installed";
    const RunResult run =
        run_pipeline(source(64, 48, 2) + " ! mridisplaysink location=" + folder_.path("x-%date.webm"));
    ASSERT_TRUE(run.eos) << run.errors.front();
    const std::string location = gst_structure_get_string(display_message(run), "location");
    EXPECT_EQ(location.find("%date"), std::string::npos);
    EXPECT_TRUE(std::filesystem::exists(location)) << location;
}

TEST_F(DisplaySink, WhatCannotWorkIsOneClearError) {
    const std::pair<std::string, std::string> cases[] = {
        {"location=/nonexistent/folder/a.mp4", "/nonexistent/folder/a.mp4"},
        {"location=" + folder_.path("a.avi"), "a.avi"},
        {"display=window", "window"},
        {"video-sink=nosuchsink", "nosuchsink"},
    };
    for (const auto& [properties, text] : cases) {
        const RunResult run = run_pipeline(source(64, 48, 2) + " ! mridisplaysink " + properties);
        EXPECT_FALSE(run.eos) << properties;
        ASSERT_EQ(run.errors.size(), 1u) << properties << ": " << run.errors.back();
        EXPECT_NE(run.errors[0].find(text), std::string::npos) << run.errors[0];
    }
}

TEST_F(DisplaySink, ComesBackAfterStateCyclesWithOtherSettings) {
    if (!have("vp8enc"))
        GTEST_SKIP() << "vp8enc is not installed";
    auto sink =
        mri::adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mridisplaysink", nullptr))));
    mri::test::BusWatch watch(sink.get());
    for (int cycle = 0; cycle < 3; ++cycle) {
        const std::string path = folder_.path(std::to_string(cycle) + ".webm");
        g_object_set(sink.get(), "location", path.c_str(), "gif-location",
                     cycle == 1 ? folder_.path("a.gif").c_str() : "", nullptr);
        EXPECT_NE(gst_element_set_state(sink.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        gchar* told = nullptr;
        g_object_get(sink.get(), "path", &told, nullptr);
        const mri::GString_ptr owner(told);
        EXPECT_EQ(path, told);
        gst_element_set_state(sink.get(), GST_STATE_NULL);
        EXPECT_EQ(GST_BIN_NUMCHILDREN(sink.get()), 0);
    }
}

/// A virtual X server that chooses a free display number itself; empty when there is none.
class Xvfb {
  public:
    Xvfb() {
        int ends[2];
        if (pipe(ends) != 0)
            return;
        pid_ = fork();
        if (pid_ == 0) {
            close(ends[0]);
            const std::string end = std::to_string(ends[1]);
            const int null = open("/dev/null", O_WRONLY);
            dup2(null, 1);
            dup2(null, 2);
            execlp("Xvfb", "Xvfb", "-displayfd", end.c_str(), "-screen", "0", "320x240x24", "-nolisten",
                   "tcp", nullptr);
            _exit(127);
        }
        close(ends[1]);
        pollfd ready{ends[0], POLLIN, 0};
        char c = 0;
        while (poll(&ready, 1, 20000) == 1 && read(ends[0], &c, 1) == 1 && c != '\n')
            number_ += c;
        close(ends[0]);
    }
    Xvfb(const Xvfb&) = delete;
    Xvfb& operator=(const Xvfb&) = delete;
    ~Xvfb() {
        if (pid_ > 0) {
            kill(pid_, SIGTERM);
            waitpid(pid_, nullptr, 0);
        }
    }
    std::string display() const { return number_.empty() ? "" : ":" + number_; }

  private:
    pid_t pid_ = -1;
    std::string number_;
};

std::string output_of(const std::string& command) {
    std::string out;
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe)
        return out;
    std::array<char, 65536> part;
    for (std::size_t n; (n = fread(part.data(), 1, part.size(), pipe)) > 0;)
        out.append(part.data(), n);
    pclose(pipe);
    return out;
}

/// The upper left part of a screen as xwd writes it (XWDFile.h: big-endian header of 25 words, pixels of 32
/// bits).
Picture screen(const std::string& display, int width, int height) {
    const std::string file = output_of("xwd -silent -root -display " + display + " 2>/dev/null");
    const auto word = [&](std::size_t i) {
        std::uint32_t v = 0;
        for (std::size_t b = 0; b < 4; ++b)
            v = 256 * v + static_cast<std::uint8_t>(file[4 * i + b]);
        return v;
    };
    Picture p;
    if (file.size() < 100 || word(1) != 7 || word(11) != 32)
        return p;
    const std::size_t pixels = word(0) + 12 * std::size_t{word(19)}, stride = word(12);
    const bool little = word(7) == 0;
    if (static_cast<int>(word(4)) < width || static_cast<int>(word(5)) < height ||
        file.size() < pixels + stride * word(5))
        return p;
    p.width = width;
    p.height = height;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < 3; ++c) { // masks 0xff0000, 0xff00, 0xff
                const std::size_t byte = little ? 2 - c : 1 + c;
                p.rgb.push_back(static_cast<std::uint8_t>(file[pixels + y * stride + 4 * x + byte]));
            }
    return p;
}

TEST_F(DisplaySink, OpensAWindowThatShowsTheFrame) {
    if (!have("ximagesink"))
        GTEST_SKIP() << "ximagesink is not installed";
    if (output_of("command -v Xvfb").empty() || output_of("command -v xwd").empty())
        GTEST_SKIP() << "Xvfb and xwd are not installed";
    const Xvfb server;
    ASSERT_FALSE(server.display().empty()) << "Xvfb did not start";
    g_setenv("DISPLAY", server.display().c_str(), TRUE);
    const std::string launch = source(96, 64, 1, "pattern=smpte100") + ",format=RGB";
    const Picture expected = pictures(launch).at(0);
    GError* error = nullptr;
    const auto pipeline = mri::adopt(GST_ELEMENT(gst_object_ref_sink(
        gst_parse_launch((launch + " ! mridisplaysink location=" + folder_.path("a.mp4")).c_str(), &error))));
    ASSERT_EQ(error, nullptr);
    mri::test::BusWatch watch(pipeline.get());
    gst_element_set_state(pipeline.get(), GST_STATE_PAUSED); // the first frame is shown
    Picture shown;
    for (int i = 0; i < 100 && shown != expected; ++i) {
        g_usleep(100000);
        shown = screen(server.display(), 96, 64);
    }
    EXPECT_EQ(shown.width, 96);
    EXPECT_TRUE(shown == expected) << "mean difference " << (shown.width ? difference(expected, shown) : -1);
    const auto messages = watch.element_messages();
    const bool told = std::any_of(messages.begin(), messages.end(), [](const mri::StructurePtr& m) {
        return gst_structure_has_name(m.get(), "mri-display") &&
               g_strcmp0(gst_structure_get_string(m.get(), "mode"), "window") == 0;
    });
    EXPECT_TRUE(told);
    EXPECT_TRUE(watch.errors().empty());
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    EXPECT_FALSE(std::filesystem::exists(folder_.path("a.mp4")));
}

TEST_F(DisplaySink, ADisplayThatCannotBeOpenedIsAsGoodAsNone) {
    if (!have("vp8enc"))
        GTEST_SKIP() << "vp8enc is not installed";
    g_setenv("DISPLAY", ":65000", TRUE); // no server has this number
    const RunResult run =
        run_pipeline(source(64, 48, 2) + " ! mridisplaysink location=" + folder_.path("a.webm"));
    ASSERT_TRUE(run.eos) << run.errors.front();
    EXPECT_STREQ(gst_structure_get_string(display_message(run), "mode"), "file");
}

} // namespace
