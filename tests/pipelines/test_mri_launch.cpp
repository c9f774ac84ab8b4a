// SPDX-License-Identifier: LGPL-2.1-or-later
// mri-launch as a user meets it: run as a program on pipelines of stock elements.
#include "pipelines/launcher/pipeline_file.hpp"
#include "tests/support/gst_test.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/wait.h>
#include <thread>

using namespace mri;
using namespace mri::test;

namespace {

std::string program() {
    const std::string root = env("GST_MRI_BUILD_ROOT");
    return (root.empty() ? std::string("build") : root) + "/pipelines/mri-launch";
}

struct Outcome {
    int code = -1;
    std::string out;
    std::string err;
};

std::vector<gchar*> argv_of(std::vector<std::string>& words) {
    std::vector<gchar*> argv;
    argv.reserve(words.size() + 1);
    for (auto& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    return argv;
}

Outcome launch(std::vector<std::string> words) {
    words.insert(words.begin(), program());
    auto argv = argv_of(words);
    gchar* out = nullptr;
    gchar* err = nullptr;
    gint status = 0;
    GError* error = nullptr;
    Outcome outcome;
    if (!g_spawn_sync(nullptr, argv.data(), nullptr, G_SPAWN_DEFAULT, nullptr, nullptr, &out, &err, &status,
                      &error)) {
        ADD_FAILURE() << error->message;
        g_error_free(error);
        return outcome;
    }
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    outcome.out = out;
    outcome.err = err;
    g_free(out);
    g_free(err);
    return outcome;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::size_t lines(const std::string& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

class MriLaunch : public ::testing::Test {
  protected:
    std::string write(const std::string& name, const std::string& rest) {
        std::string path = dir.path(name + ".yaml");
        std::ofstream(path) << "name: " << name << "\ndescription: A test.\n" << rest;
        return path;
    }
    TempDir dir;
};

} // namespace

// Whatever a value holds, GStreamer's parser gives it to the property as it was.
TEST(Quoting, ValuesArriveUnchanged) {
    const char* const values[] = {"plain",      "a b",       "a!b",        "! fakesink", "a\"b",    "\"a\"",
                                  "\"",         "'a b'",     "back\\",     "\\",         "\\\\ ",   "a\\ b\\",
                                  "x=y",        "(a) {b}",   "a;b,c",      "#5",         "${HOME}", "$(ls)",
                                  "é µ",        "\"é\\",     "caps/a,b=1", "a. b.",      " lead",   "trail ",
                                  "http://x y", "name=evil", "%05d"};
    for (const std::string value : values) {
        const auto text = "filesink name=one location=" + quote_value(value) + " async=false";
        GError* error = nullptr;
        const auto element = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(text.c_str(), &error))));
        ASSERT_EQ(error, nullptr) << value << ": " << error->message;
        // One element, not a pipeline of several.
        ASSERT_STREQ(GST_OBJECT_NAME(element.get()), "one") << value;
        gchar* location = nullptr;
        gboolean async = TRUE;
        g_object_get(element.get(), "location", &location, "async", &async, nullptr);
        EXPECT_EQ(std::string(location ? location : "(null)"), value) << text;
        EXPECT_FALSE(async) << value << ": what follows the value was swallowed";
        g_free(location);
    }
}

TEST_F(MriLaunch, HelpEverywhere) {
    for (const std::vector<std::string>& words : {std::vector<std::string>{"--help"},
                                                  {"list", "--help"},
                                                  {"describe", "--help"},
                                                  {"info", "--help"},
                                                  {"validate", "--help"},
                                                  {"run", "--help"}}) {
        const auto outcome = launch(words);
        EXPECT_EQ(outcome.code, 0);
        EXPECT_TRUE(contains(outcome.out, "Exit codes")) << outcome.out;
    }
}

TEST_F(MriLaunch, UsageErrorsAreTwo) {
    const auto path = write("plain", "pipeline: fakesrc num-buffers=1 ! fakesink\n");
    EXPECT_EQ(launch({}).code, 2);
    EXPECT_EQ(launch({"nonsense"}).code, 2);
    EXPECT_EQ(launch({"run"}).code, 2);
    EXPECT_EQ(launch({"run", "no-such-pipeline"}).code, 2);
    EXPECT_EQ(launch({"run", path, "-s", "x=1"}).code, 2);
    EXPECT_EQ(launch({"run", path, "-s", "x"}).code, 2);
    EXPECT_EQ(launch({"run", path, "--timeout", "-1"}).code, 2);
    EXPECT_EQ(launch({"run", path}).code, 0);
}

TEST_F(MriLaunch, DescribeShowsParameters) {
    const auto path =
        write("shown", "parameters: {n: {type: int, default: 3, min: 1, help: How many there are}}\n"
                       "pipeline: fakesrc num-buffers=${n} ! fakesink\n");
    const auto outcome = launch({"describe", path});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_TRUE(contains(outcome.out, "How many there are"));
    EXPECT_TRUE(contains(outcome.out, "fakesrc num-buffers=${n}"));
}

TEST_F(MriLaunch, ValidateFindsWrongFiles) {
    EXPECT_EQ(launch({"validate", write("fine", "parameters: {n: {type: int, help: h}}\n"
                                                "pipeline: fakesrc num-buffers=${n} ! fakesink\n")})
                  .code,
              0);
    const auto missing =
        launch({"validate", write("missing", "pipeline: fakesrc ! nosuchelement ! fakesink\n")});
    EXPECT_EQ(missing.code, 3);
    EXPECT_TRUE(contains(missing.err, "nosuchelement")) << missing.err;
    const auto property =
        launch({"validate", write("property", "pipeline: fakesrc nosuchproperty=1 ! fakesink\n")});
    EXPECT_EQ(property.code, 3);
    EXPECT_TRUE(contains(property.err, "nosuchproperty")) << property.err;
    EXPECT_EQ(launch({"validate", write("syntax", "pipeline: fakesrc ! ! fakesink\n")}).code, 3);
    EXPECT_EQ(
        launch({"validate",
                write("unused", "parameters: {n: {type: int, help: h}}\npipeline: fakesrc ! fakesink\n")})
            .code,
        3);
    EXPECT_EQ(launch({"validate", write("yaml", "pipeline: [\n")}).code, 3);
}

// What a pipeline of one's own costs: one file, in a folder that GST_MRI_PIPELINES_PATH names.
TEST_F(MriLaunch, ANewFileIsListedAndRunsByItsName) {
    const std::string before = env("GST_MRI_PIPELINES_PATH");
    g_setenv("GST_MRI_PIPELINES_PATH", (before + ":" + dir.path()).c_str(), TRUE);
    EXPECT_FALSE(contains(launch({"list"}).out, "brand-new"));
    EXPECT_EQ(launch({"run", "brand-new"}).code, 2);
    write("brand-new", "parameters: {n: {type: int, default: 3, help: h}}\n"
                       "pipeline: fakesrc num-buffers=${n} ! fakesink\n");
    EXPECT_TRUE(contains(launch({"list"}).out, "brand-new"));
    const auto run = launch({"run", "brand-new", "-s", "n=2"});
    EXPECT_EQ(run.code, 0) << run.err;
    g_setenv("GST_MRI_PIPELINES_PATH", before.c_str(), TRUE);
}

TEST_F(MriLaunch, RunsWithValues) {
    const auto path =
        write("writes",
              "parameters:\n"
              "  out: {type: file, help: Where to}\n"
              "  n: {type: int, default: 2, help: How many}\n"
              "pipeline: fakesrc num-buffers=${n} sizetype=fixed sizemax=10 ! filesink location=${out}\n");
    const auto out = dir.path("a \"b\" ! c");
    const auto outcome = launch({"run", path, "-s", "out=" + out, "--set", "n=5", "--quiet"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out + outcome.err, "");
    EXPECT_EQ(std::filesystem::file_size(out), 50u);
}

TEST_F(MriLaunch, OutputsAreToldAndNotOverwrittenUnlessAsked) {
    const auto path =
        write("writes",
              "parameters:\n"
              "  out: {type: output, format: how, replace: overwrite, help: Where to}\n"
              "  how: {type: enum, default: one, choices: {one: 'filesink location=${out}', many: "
              "'multifilesink location=${out:numbered}'}, suffixes: {one: .bin, many: .raw}, help: Form}\n"
              "  overwrite: {type: bool, default: false, help: Replaces}\n"
              "  n: {type: int, default: 2, help: How many}\n"
              "pipeline: fakesrc num-buffers=${n} sizetype=fixed sizemax=10 ! ${how}\n");
    const auto out = dir.path("a.bin");
    const auto first = launch({"run", path, "-s", "out=" + out});
    EXPECT_EQ(first.code, 0) << first.err;
    EXPECT_TRUE(contains(first.err, "written: " + out + ", 20 bytes")) << first.err;

    const auto again = launch({"run", path, "-s", "out=" + out, "-s", "n=5"});
    EXPECT_EQ(again.code, 2);
    EXPECT_EQ(lines(again.err), 1U) << again.err;
    EXPECT_TRUE(contains(again.err, "overwrite=true")) << again.err;
    EXPECT_EQ(std::filesystem::file_size(out), 20U);
    EXPECT_EQ(launch({"run", path, "-s", "out=" + out, "-s", "n=5", "-s", "overwrite=true"}).code, 0);
    EXPECT_EQ(std::filesystem::file_size(out), 50U);

    const auto many = launch({"run", path, "-s", "out=" + dir.path("100%d.raw")});
    EXPECT_EQ(many.code, 0) << many.err;
    EXPECT_TRUE(contains(many.err, "100%d-00000.raw to ")) << many.err;
    EXPECT_EQ(std::filesystem::file_size(dir.path("100%d-00001.raw")), 10U);
    EXPECT_EQ(launch({"run", path, "-s", "out=" + dir.path("100%d.raw")}).code, 2);

    const auto wrong = launch({"run", path, "-s", "out=" + dir.path("b.raw"), "-s", "how=one"});
    EXPECT_EQ(wrong.code, 2);
    EXPECT_TRUE(contains(wrong.err, "how=many")) << wrong.err;
    EXPECT_FALSE(std::filesystem::exists(dir.path("b.raw")));
    EXPECT_TRUE(contains(launch({"describe", path}).out, "output .bin|.raw"));
}

TEST_F(MriLaunch, AnErrorIsOneLineThatNamesTheElement) {
    const auto path = write("fails", "pipeline: filesrc name=reader location=/nonexistent/file ! fakesink\n");
    const auto outcome = launch({"run", path, "--stats"});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(lines(outcome.err), 1u) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "mri-launch: reader (filesrc): ")) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "/nonexistent/file")) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_GT(lines(launch({"run", path, "--verbose"}).err), 1u);
}

TEST_F(MriLaunch, StatsCountFramesAndTime) {
    // The last buffer of five is passed on at once; the others wait 20 ms in identity, so 4 x 20 ms at least.
    const auto path =
        write("stats", "pipeline: videotestsrc num-buffers=5 ! video/x-raw,width=16,height=16 ! "
                       "identity name=slow sleep-time=20000 ! fakesink name=end\n");
    const auto outcome = launch({"run", path, "--stats"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(contains(outcome.out, "5 frames in")) << outcome.out;
    std::istringstream rows(outcome.out);
    double wall = -1;
    for (std::string line; std::getline(rows, line);) {
        std::istringstream words(line);
        std::string name, in, out;
        if (words >> name >> in >> out && name == "slow") {
            EXPECT_EQ(in + out, "55");
            words >> wall;
        }
    }
    EXPECT_GE(wall, 20.0) << outcome.out;
}

TEST_F(MriLaunch, TimeoutEndsWithFilesFinished) {
    const auto out = dir.path("out.avi");
    const auto path =
        write("endless",
              "parameters: {out: {type: file, help: h}}\n"
              "pipeline: videotestsrc is-live=true ! video/x-raw,width=64,height=64 ! jpegenc ! avimux ! "
              "filesink location=${out}\n");
    EXPECT_EQ(launch({"run", path, "-s", "out=" + out, "--timeout", "0.5"}).code, 4);
    // avimux writes the length of the file into its header at EOS and not before.
    std::ifstream file(out, std::ios::binary);
    char head[12] = {};
    file.read(head, sizeof head);
    EXPECT_EQ(std::string(head, 4), "RIFF");
    std::uint32_t size = 0;
    std::memcpy(&size, head + 4, 4);
    EXPECT_EQ(size + 8, std::filesystem::file_size(out));
}

/// An AVI file is whole when its head tells its size.
void expect_whole_avi(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    char head[12] = {};
    file.read(head, sizeof head);
    std::uint32_t size = 0;
    std::memcpy(&size, head + 4, 4);
    EXPECT_EQ(size + 8, std::filesystem::file_size(path));
}

/// Runs mri-launch with `words` until there is something in `file`, interrupts it after `wait`, and gives its exit
/// code: -1 when it has not ended a minute later.
int interrupted(std::vector<std::string> words, const std::string& file, std::chrono::milliseconds wait) {
    auto argv = argv_of(words);
    GPid pid = 0;
    if (!g_spawn_async(nullptr, argv.data(), nullptr, G_SPAWN_DO_NOT_REAP_CHILD, nullptr, nullptr, &pid,
                       nullptr))
        return -1;
    // Once data are in the file the pipeline is playing.
    for (int i = 0; i < 200; ++i) {
        std::error_code code;
        if (std::filesystem::file_size(file, code) > 0 && !code)
            break;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    std::this_thread::sleep_for(wait);
    kill(pid, SIGINT);
    int status = 0;
    for (int i = 0; i < 1200; ++i) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1;
}

TEST_F(MriLaunch, InterruptEndsWithFilesFinished) {
    const auto out = dir.path("out.avi");
    EXPECT_EQ(interrupted(
                  {program(), "run",
                   write("endless", "parameters: {out: {type: file, help: h}}\n"
                                    "pipeline: videotestsrc is-live=true ! video/x-raw,width=64,height=64 ! "
                                    "jpegenc ! avimux ! filesink location=${out}\n"),
                   "-s", "out=" + out, "--quiet"},
                  out, std::chrono::milliseconds(200)),
              130);
    expect_whole_avi(out);
}

// Formats of one array a file number the further ones of a run: they are outputs too.
TEST_F(MriLaunch, FurtherFilesOfARunAreNotReplacedUnasked) {
    const auto out = dir.path("scan.npy"), second = dir.path("scan-2.npy");
    std::ofstream(second) << "old";
    const auto pipeline =
        write("arrays", "parameters:\n"
                        "  out: {type: output, default: a.npy, replace: overwrite, help: h}\n"
                        "  overwrite: {type: bool, default: false, help: h}\n"
                        "pipeline: fakesrc num-buffers=1 ! filesink location=${out}\n");
    const auto outcome = launch({"run", pipeline, "-s", "out=" + out});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_TRUE(contains(outcome.err, "1 more")) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(out));
    EXPECT_EQ(launch({"run", pipeline, "-s", "out=" + out, "-s", "overwrite=true"}).code, 0);
}

// A stage that takes 2 s a frame of a scan of 50 a second: what waits in its queue would take minutes.
TEST_F(MriLaunch, InterruptOfALiveScanDropsWhatWaits) {
    const auto out = dir.path("out.avi");
    EXPECT_EQ(
        interrupted({program(), "run",
                     write("slow", "parameters: {out: {type: file, help: h}}\n"
                                   "pipeline: videotestsrc is-live=true ! "
                                   "video/x-raw,width=64,height=64,framerate=50/1 ! "
                                   "queue max-size-buffers=0 max-size-time=0 ! identity sleep-time=2000000 ! "
                                   "jpegenc ! avimux ! filesink location=${out} sync=false\n"),
                     "-s", "out=" + out, "--quiet"},
                    out, std::chrono::milliseconds(3000)),
        130);
    expect_whole_avi(out);
}

// Every pipeline that ships is well formed with each of its choices, and its elements exist where their
// plugins were built.
TEST(ShippedPipelines, AreValid) {
    const auto folder = std::filesystem::path(env("GST_MRI_SOURCE_ROOT")) / "pipelines";
    std::size_t files = 0;
    std::string lacking;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".yaml")
            continue;
        ++files;
        std::vector<std::string> settings{""};
        for (const Parameter& parameter : PipelineFile::load(entry.path()).parameters)
            for (const auto& choice : parameter.choices)
                if (choice.first != parameter.preset) // which is checked by setting nothing
                    settings.push_back(parameter.name + "=" + choice.first);
        for (const std::string& setting : settings) {
            std::vector<std::string> words{"validate", entry.path().string()};
            if (!setting.empty())
                words.insert(words.end(), {"-s", setting});
            const auto outcome = launch(words);
            if (outcome.code == 3 && contains(outcome.err, "There is no element") && !MRI_HAVE_TORCH)
                lacking += " " + entry.path().stem().string() + (setting.empty() ? "" : ":" + setting);
            else
                EXPECT_EQ(outcome.code, 0) << setting << ": " << outcome.err;
        }
    }
    EXPECT_GT(files, 0u);
    if (!lacking.empty())
        GTEST_SKIP() << "built without LibTorch, not checked:" << lacking;
}

/// PSNR in a row of the table of mrimetrics.
double psnr_of(const std::string& table, const std::string& image) {
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string element, label, of;
        int series = -1, frames = 0;
        double psnr = 0;
        if (words >> element >> label >> of >> series >> frames >> psnr && of == image) {
            EXPECT_EQ(frames, 20) << line;
            return psnr;
        }
    }
    ADD_FAILURE() << "no row for " << image << " in\n" << table;
    return 0;
}

// Receivers of images take magnitudes; complex ones come when they are asked for.
TEST(ShippedPipelines, ImagesAreMagnitudesUnlessAsked) {
    const auto with = [](const std::string& setting) {
        return PipelineFile::load(env("GST_MRI_SOURCE_ROOT") + "/pipelines/recon-ismrmrd.yaml")
            .expand({{"location", "in.h5"}, {"image-type", setting}});
    };
    EXPECT_TRUE(
        contains(with("magnitude"), "ismrmrdsink location=images.h5 image-type=magnitude data-type=float"));
    EXPECT_TRUE(contains(with("complex"), " image-type=complex "));
    EXPECT_EQ(with("magnitude"),
              PipelineFile::load(env("GST_MRI_SOURCE_ROOT") + "/pipelines/recon-ismrmrd.yaml")
                  .expand({{"location", "in.h5"}}));
}

TEST(ShippedPipelines, TheLiveDemoRunsWithEachNetwork) {
    if (!MRI_HAVE_TORCH)
        GTEST_SKIP() << "built without LibTorch";
    const TempDir dir;
    for (const std::string network : {"unet", "cascade", "causal"}) {
        SCOPED_TRACE(network);
        const std::string film = dir.path(network + ".mp4");
        const auto outcome =
            launch({"run", env("GST_MRI_SOURCE_ROOT") + "/pipelines/live-demo.yaml", "-s", "live=false", "-s",
                    "network=" + network, "-s", "frames=20", "-s", "coils=2", "-s", "display=file", "-s",
                    "location=" + film, "-s", "gif="});
        ASSERT_EQ(outcome.code, 0) << outcome.err;
        EXPECT_GT(std::filesystem::file_size(film), 1000U);
        EXPECT_GT(psnr_of(outcome.out, "image"), psnr_of(outcome.out, "input") + 1);
    }
}
