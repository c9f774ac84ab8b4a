// SPDX-License-Identifier: LGPL-2.1-or-later
// After an error nothing looks finished: the end that a source sends after a stream that broke off completes no file
// and replaces none. Each pipeline runs until its source has sent that end, before it is stopped.
#include "tests/support/gst_test.hpp"
#include "tests/support/temp_dir.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <vector>

using namespace mri;
using namespace mri::test;

namespace {

namespace fs = std::filesystem;

std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

bool have(const char* factory) {
    return static_cast<bool>(adopt(gst_element_factory_find(factory)));
}

/// Runs a pipeline, which has to fail, until the task of its element `source` has ended; the number of ends that
/// reached its element `sink`.
int ends_at_the_sink(const std::string& launch) {
    GError* error = nullptr;
    auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(launch.c_str(), &error))));
    EXPECT_EQ(error, nullptr) << launch;
    std::atomic<int> ends{0};
    const auto pad_of = [&](const char* element, const char* pad) {
        const auto child = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), element));
        return adopt(gst_element_get_static_pad(child.get(), pad));
    };
    const auto sink = pad_of("sink", "sink");
    gst_pad_add_probe(
        sink.get(), GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
        [](GstPad*, GstPadProbeInfo* info, gpointer count) {
            if (GST_EVENT_TYPE(gst_pad_probe_info_get_event(info)) == GST_EVENT_EOS)
                ++*static_cast<std::atomic<int>*>(count);
            return GST_PAD_PROBE_OK;
        },
        &ends, nullptr);
    const auto bus = adopt(gst_element_get_bus(pipeline.get()));
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    // The error comes before the end does; the task holds the pad's lock while it sends that.
    const auto failed = adopt(gst_bus_timed_pop_filtered(bus.get(), 20 * GST_SECOND, GST_MESSAGE_ERROR));
    EXPECT_TRUE(failed) << launch;
    const auto source = pad_of("source", "src");
    for (int i = 0; i < 2000 && gst_pad_get_task_state(source.get()) == GST_TASK_STARTED; ++i)
        g_usleep(5000);
    GST_PAD_STREAM_LOCK(source.get());
    GST_PAD_STREAM_UNLOCK(source.get());
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    return ends;
}

class BrokenStreams : public testing::Test {
  protected:
    void SetUp() override {
        if (!have("videotestsrc") || !have("mrigifsink"))
            GTEST_SKIP() << "videotestsrc or mrigifsink is not installed";
        std::ofstream(file()) << "old";
    }
    std::string file() const { return folder_.path("file"); }
    void expect_the_old_file() const {
        EXPECT_EQ(content(file()), "old");
        EXPECT_EQ(folder_.entries(), 1U);
    }
    TempDir folder_;
};

/// The source that stops because of it adds no error of its own.
TEST_F(BrokenStreams, OneFaultIsOneError) {
    const auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(
        "mriphantomsrc frames=20 width=16 height=16 ! identity error-after=6 ! fakesink", nullptr))));
    const auto bus = adopt(gst_element_get_bus(pipeline.get()));
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    EXPECT_TRUE(adopt(gst_bus_timed_pop_filtered(bus.get(), 20 * GST_SECOND, GST_MESSAGE_ERROR)));
    EXPECT_FALSE(adopt(gst_bus_timed_pop_filtered(bus.get(), GST_SECOND / 2, GST_MESSAGE_ERROR)));
    gst_element_set_state(pipeline.get(), GST_STATE_NULL);
}

/// A stock source and a stock element that fails: the end reaches the sink, which discards.
TEST_F(BrokenStreams, ASinkDiscards) {
    const int ends = ends_at_the_sink(
        "videotestsrc name=source num-buffers=20 ! video/x-raw,format=GRAY8,width=16,height=16 ! "
        "identity error-after=6 ! mrigifsink name=sink location=" +
        file());
    EXPECT_EQ(ends, 1);
    expect_the_old_file();
}

TEST_F(BrokenStreams, ASinkBesideTheElementThatFailsDiscards) {
    const int ends = ends_at_the_sink(
        "videotestsrc name=source num-buffers=20 ! video/x-raw,format=GRAY8,width=16,height=16 ! tee name=t "
        "t. ! mrigifsink name=sink async=false location=" +
        file() + " t. ! identity error-after=6 ! fakesink async=false");
    EXPECT_EQ(ends, 1);
    expect_the_old_file();
}

TEST_F(BrokenStreams, WithoutAnErrorTheyAreWritten) {
    const auto run =
        run_pipeline("videotestsrc num-buffers=20 ! video/x-raw,format=GRAY8,width=16,height=16 ! "
                     "identity ! mrigifsink location=" +
                     file());
    EXPECT_TRUE(run.eos);
    EXPECT_TRUE(content(file()).starts_with("GIF89a"));
}

/// Sources of our own send no end at all, so that stock sinks complete nothing either.
TEST_F(BrokenStreams, ASourceSendsNoEnd) {
    const int ends = ends_at_the_sink("mriphantomsrc name=source frames=20 width=16 height=16 ! "
                                      "identity error-after=6 ! fakesink name=sink");
    EXPECT_EQ(ends, 0);
}

TEST_F(BrokenStreams, ImagesAreNotReplaced) {
    if (!have("ismrmrdsink"))
        GTEST_SKIP() << "ismrmrdsink is not installed";
    const int ends = ends_at_the_sink("mriphantomsrc name=source frames=20 width=16 height=16 ! "
                                      "identity error-after=6 ! ismrmrdsink name=sink location=" +
                                      file());
    EXPECT_EQ(ends, 0);
    expect_the_old_file();
}

/// The element fails that posts the error itself: a size that its caps do not have.
TEST_F(BrokenStreams, AnElementThatFailsPassesNoEndOn) {
    for (const char* element : {"mrivideo", "mrirecon window=4"}) {
        const std::string caps =
            std::string(element).starts_with("mrivideo")
                ? "application/x-mri-image,format=F32LE,channels=1,width=16,height=16,"
                  "framerate=25/1,series=0"
                : "application/x-mri-kspace,format=C64LE,alignment=frame,coils=1,samples=16,"
                  "width=16,height=16,trajectory=radial,framerate=25/1,series=0";
        const int ends = ends_at_the_sink("fakesrc name=source num-buffers=3 sizetype=fixed sizemax=100 "
                                          "format=time filltype=zero ! capsfilter caps=\"" +
                                          caps + "\" ! " + element + " ! fakesink name=sink");
        EXPECT_EQ(ends, 0) << element;
    }
}

TEST_F(BrokenStreams, ATableIsNotReplaced) {
    if (!have("mrisim"))
        GTEST_SKIP() << "mrisim is not installed";
    const std::string scan =
        "mriphantomsrc name=source frames=4 width=32 height=32 series=2 ! mrisim spokes=8 ! "
        "mriframer ! mrigrid ! ";
    ends_at_the_sink(scan + "mrimetrics name=sink location=" + file() +
                     " ! identity error-after=6 ! fakesink");
    expect_the_old_file();
    EXPECT_TRUE(run_pipeline(scan + "mrimetrics location=" + file() + " ! fakesink").eos);
    EXPECT_TRUE(content(file()).starts_with("label,"));
    EXPECT_EQ(folder_.entries(), 1U);
}

TEST_F(BrokenStreams, ARecordingIsKeptUnderAnotherName) {
    if (!have("vp8enc") || !have("webmmux"))
        GTEST_SKIP() << "vp8enc or webmmux is not installed";
    const std::string path = folder_.path("a.webm");
    std::ofstream(path) << "old";
    ends_at_the_sink("videotestsrc name=source num-buffers=30 ! video/x-raw,width=32,height=32 ! "
                     "identity error-after=20 ! mridisplaysink name=sink display=file location=" +
                     path);
    EXPECT_EQ(content(path), "old");
    EXPECT_TRUE(content(path + ".partial").starts_with("\x1a\x45\xdf\xa3")) << "a WebM";
}

/// What there is of a broken stream is kept where that is asked for, readable.
TEST_F(BrokenStreams, PartsAreKeptWhereAsked) {
    const std::string video =
        "videotestsrc name=source num-buffers=20 ! video/x-raw,format=GRAY8,width=16,height=16,"
        "framerate=25/1 ! identity error-after=6 ! mrigifsink name=sink keep-partial=true location=";
    ends_at_the_sink(video + file());
    EXPECT_EQ(content(file()), "old");
    const std::string gif = content(file() + ".partial");
    EXPECT_TRUE(gif.starts_with("GIF89a") && gif.ends_with(";")) << "its trailer";
    if (!have("mrisim"))
        return;
    ends_at_the_sink(
        "mriphantomsrc name=source frames=4 width=32 height=32 series=2 ! mrisim spokes=8 ! mriframer ! "
        "mrigrid ! mrimetrics name=sink keep-partial=true location=" +
        file() + " ! identity error-after=6 ! fakesink");
    EXPECT_EQ(content(file()), "old");
    const std::string table = content(file() + ".partial");
    EXPECT_TRUE(table.starts_with("label,"));
    EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 6) << "the first series, of 4 frames, was whole";
}

/// A FIFO would wait for a reader, and a device would be replaced by a file (where root is at work).
TEST_F(BrokenStreams, TargetsThatAreNoFilesAreRefusedAtOnce) {
    const std::string video = "videotestsrc num-buffers=2 ! video/x-raw,format=GRAY8,width=16,height=16 ! ";
    ASSERT_EQ(::mkfifo((file() + ".webm").c_str(), 0600), 0);
    for (const std::string& line :
         std::vector<std::string>{video + "mrigifsink location=/dev/null",
                                  video + "mridisplaysink display=file location=" + file() + ".webm",
                                  "mriphantomsrc num-buffers=2 ! mrimetrics location=/dev/null ! fakesink",
                                  "mriphantomsrc num-buffers=2 ! ismrmrdsink location=/dev/null"}) {
        const auto run = run_pipeline(line);
        ASSERT_EQ(run.errors.size(), 1U) << line;
        EXPECT_TRUE(run.errors[0].find("device") != std::string::npos ||
                    run.errors[0].find("FIFO") != std::string::npos ||
                    run.errors[0].find("not a file") != std::string::npos)
            << run.errors[0];
    }
    EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

} // namespace
