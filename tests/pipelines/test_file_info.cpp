// SPDX-License-Identifier: LGPL-2.1-or-later
// mri-launch info as a user meets it, on files that python's ismrmrd wrote (tests/support/scan_files.py says what is in
// them), on real ones where they are, and on those that it does not read.
#include "pipelines/info/file_info.hpp"
#include "tests/support/gst_test.hpp"

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <sys/wait.h>

using namespace mri;
using namespace mri::test;

namespace {

struct Outcome {
    int code = -1;
    std::string out, err;
};

Outcome spawn(const std::vector<std::string>& words) {
    std::vector<gchar*> argv;
    for (const auto& word : words)
        argv.push_back(const_cast<gchar*>(word.c_str()));
    argv.push_back(nullptr);
    gchar *out = nullptr, *err = nullptr;
    gint status = 0;
    GError* error = nullptr;
    if (!g_spawn_sync(nullptr, argv.data(), nullptr, G_SPAWN_SEARCH_PATH, nullptr, nullptr, &out, &err,
                      &status, &error)) {
        ADD_FAILURE() << error->message;
        g_error_free(error);
        return {};
    }
    Outcome outcome{WIFEXITED(status) ? WEXITSTATUS(status) : -1, out, err};
    g_free(out);
    g_free(err);
    return outcome;
}

std::string program() {
    return env("GST_MRI_BUILD_ROOT") + "/pipelines/mri-launch";
}

Outcome info(std::vector<std::string> words) {
    words.insert(words.begin(), {program(), "info"});
    return spawn(words);
}

/// The facts by their names.
std::map<std::string, std::string> facts(const Outcome& outcome) {
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    std::map<std::string, std::string> found;
    std::istringstream lines(outcome.out);
    std::string line;
    std::getline(lines, line);
    found["kind"] = line;
    while (std::getline(lines, line)) {
        const auto end = line.find("  ", 2), value = line.find_first_not_of(' ', end);
        EXPECT_LT(end, line.size()) << line;
        if (end < line.size())
            found[line.substr(2, end - 2)] = line.substr(value);
    }
    return found;
}

/// One sentence on standard error, and nothing else but the error's own exit code.
void expect_refused(const Outcome& outcome, int code, const std::string& part) {
    EXPECT_EQ(outcome.code, code);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("mri-launch: "), std::string::npos) << outcome.err;
}

class ScanInfo : public ::testing::Test {
  protected:
    void SetUp() override {
        const std::string python = env("GST_MRI_PYTHON");
        if (python.empty() || !std::filesystem::exists(python))
            GTEST_SKIP() << "GST_MRI_PYTHON does not name a python with numpy, h5py and ismrmrd";
    }

    std::string scan(const std::string& kind) const {
        const std::string path = dir.path(kind + " scan.h5");
        const auto made = spawn(
            {env("GST_MRI_PYTHON"), env("GST_MRI_SOURCE_ROOT") + "/tests/support/scan_files.py", kind, path});
        EXPECT_EQ(made.code, 0) << made.err;
        return path;
    }

    /// Runs the command that info gives, without an output.
    static void expect_runs(std::string command) {
        const std::string name = "mri-launch";
        ASSERT_TRUE(command.starts_with(name + " run ")) << command;
        const auto outcome =
            spawn({"sh", "-c", "'" + program() + "'" + command.substr(name.size()) + " -s format=none -q"});
        EXPECT_EQ(outcome.code, 0) << command << "\n" << outcome.err;
    }

    TempDir dir;
};

} // namespace

TEST_F(ScanInfo, undersampled_lines_with_references_and_noise) {
    const auto path = scan("grappa");
    auto found = facts(info({path}));
    EXPECT_EQ(found["kind"], "Raw data of ISMRMRD in group 'dataset'");
    EXPECT_EQ(found["readouts"], "45: 32 of the image, 12 of calibration alone, 1 of noise");
    EXPECT_EQ(found["encoded"], "128 x 64 of 600 x 300 mm");
    EXPECT_EQ(found["image"], "64 x 64 of 300 x 300 mm");
    EXPECT_EQ(found["coils"], "2");
    EXPECT_EQ(found["counters"], "kspace_encode_step_1 0 to 60, repetition 0 to 1");
    EXPECT_EQ(found["noise scan"], "1 readout of 256 samples, one in 2.5 us");
    EXPECT_EQ(found["reference lines"], "8: 28 to 35 (12 readouts are calibration alone, 4 image too)");
    EXPECT_EQ(found["made by"], "repetition");
    EXPECT_EQ(found["acceleration"], "4: 16 of 64 lines a frame, one in 4");
    EXPECT_TRUE(found["missing lines"].starts_with("1 to 3, 5 to 7, ")) << found["missing lines"];
    // 22 readouts of 10 ms from the first line of a repetition to that of the next.
    EXPECT_EQ(found["time a frame"], "220 ms, by time stamps of 2.5 ms");
    EXPECT_NE(found["command"].find("noise=whiten"), std::string::npos);
    EXPECT_NE(found["command"].find("method=sense"), std::string::npos);
    expect_runs(found["command"]);
}

TEST_F(ScanInfo, golden_spokes_without_counters_become_frames_by_number) {
    auto found = facts(info({scan("golden")}));
    EXPECT_EQ(found["trajectory"], "radial of golden angles, positions in the file (2 dimensions)");
    EXPECT_EQ(found["frames"], "1 frame of 400 readouts");
    EXPECT_EQ(found["unit"],
              "the largest radius 0.5 is read as 32 cycles per field of view of the image"); // 64 pixels / 2
    EXPECT_EQ(found["acceleration"], "1: 400 of 101 spokes a frame");                        // pi / 2 * 64
    EXPECT_NE(found["command"].find(" -s readouts=8"), std::string::npos) << found["command"];
}

TEST_F(ScanInfo, a_group_of_another_name_is_found) {
    auto found = facts(info({scan("slices")}));
    EXPECT_EQ(found["kind"], "Raw data of ISMRMRD in group 'scan'");
    EXPECT_EQ(found["counters"], "kspace_encode_step_1 0 to 15, slice 0 to 2, phase 0 to 3");
    EXPECT_EQ(found["frames"], "12 frames of 16 readouts in 3 series");
    EXPECT_EQ(found["made by"], "slice, phase");
    EXPECT_NE(found["time a frame"].find("no time stamps"), std::string::npos);
    EXPECT_NE(found["command"].find(" -s group=scan"), std::string::npos);
    expect_refused(info({scan("bare"), "--group", "other"}), 2, "it has dataset");
}

TEST_F(ScanInfo, a_single_frame_is_reconstructed_by_itself) {
    auto found = facts(info({scan("bare")}));
    EXPECT_EQ(found["counters"], "kspace_encode_step_1 0 to 7");
    EXPECT_EQ(found["noise scan"], "none");
    EXPECT_EQ(found["reference lines"], "none");
    EXPECT_EQ(found["frames"], "1 frame of 8 readouts");
    EXPECT_EQ(found["acceleration"], "1: all 8 lines are measured");
    EXPECT_EQ(found.count("missing lines"), 0U);
    expect_runs(found["command"]);
}

TEST_F(ScanInfo, images_are_named) {
    const auto path = scan("bare"), images = dir.path("images.h5");
    const auto result = run_pipeline("ismrmrdsrc location=\"" + path +
                                     "\" ! mriframer ! mrigrid ! ismrmrdsink location=\"" + images + "\"");
    ASSERT_TRUE(result.eos);
    auto found = facts(info({images}));
    EXPECT_EQ(found["kind"], "Images of ISMRMRD in group 'dataset'");
    EXPECT_NE(found["image_0"].find("1 image of 16 x 8"), std::string::npos) << found["image_0"];
    EXPECT_NE(found["image_0"].find("160 x 80 mm"), std::string::npos) << found["image_0"];
}

TEST(FileInfo, files_that_are_not_read_get_one_sentence) {
    const TempDir dir;
    const auto write = [&](const std::string& name, const std::string& bytes) {
        std::ofstream(dir.path(name), std::ios::binary) << bytes;
        return dir.path(name);
    };
    // Siemens' multi-measurement files begin with 0 and the number of measurements.
    const std::string twix = std::string("\0\0\0\0\2\0\0\0", 8) + std::string(600, 'x');
    expect_refused(info({write("meas_MID1.dat", twix)}), 1, "siemens_to_ismrmrd");
    expect_refused(info({write("P12345.7", std::string(600, 'x'))}), 1, "ge_to_ismrmrd");
    expect_refused(
        info({write("ScanArchive_1.h5", std::string("\x89HDF\r\n\x1a\n", 8) + std::string(600, 'x'))}), 1,
        "ge_to_ismrmrd");
    expect_refused(info({write("cut.h5", "\x89HDF\r\n\x1a\n")}), 1, "no HDF5 file");
    expect_refused(info({write("empty.h5", "")}), 1, "is empty");
    expect_refused(info({write("a.nii.gz", "\x1f\x8b....")}), 1, "NIfTI");
    expect_refused(info({write("one.dcm", std::string(128, '\0') + "DICM" + std::string(400, 'x'))}), 1,
                   "folder");
    expect_refused(info({write("notes.txt", "words")}), 1, "no file of a kind known here");
    expect_refused(info({write("cut.safetensors", std::string("\xff\xff\0\0\0\0\0\0{", 9))}), 1,
                   "cut.safetensors");
    expect_refused(info({dir.path("missing.h5")}), 2, "no such file");
    expect_refused(info({"/dev/null"}), 1, "neither a file nor a folder");
    std::filesystem::create_directory(dir.path("hollow"));
    expect_refused(info({dir.path("hollow")}), 1, "without files");
    EXPECT_EQ(info({}).code, 2);
}

TEST(FileInfo, weights_show_their_network) {
    auto found = facts(info({env("GST_MRI_SOURCE_ROOT") + "/models/weights/unet.safetensors"}));
    EXPECT_EQ(found["network"], "unet3d");
    EXPECT_EQ(found["window"], "20");
    EXPECT_NE(found["command"].find("network=unet -s weights="), std::string::npos);
}

TEST(FileInfo, words_survive_the_shell) {
    for (const std::string word : {"plain", "/a b/c", "it's", "$(x)", "a;b", "", "a*"}) {
        const auto outcome = spawn({"sh", "-c", "printf %s " + shell_word(word)});
        EXPECT_EQ(outcome.out, word);
    }
}

TEST(FileInfo, siemens_scan_with_reference_lines) {
    const std::string path = env("GST_MRI_DATA") + "/real/siemens_grappa3_14ch.h5";
    if (!std::filesystem::exists(path))
        GTEST_SKIP() << "GST_MRI_DATA has no " << path;
    auto found = facts(info({path}));
    EXPECT_EQ(found["coils"], "14");
    EXPECT_EQ(found["readouts"], "69: 36 of the image, 32 of calibration alone, 1 of noise");
    EXPECT_EQ(found["noise scan"].substr(0, 9), "1 readout");
    EXPECT_EQ(found["reference lines"].substr(0, 12), "48: 30 to 77");
    EXPECT_EQ(found["acceleration"], "2.94: 36 of 106 lines a frame, one in 3");
}

TEST(FileInfo, cine_series_of_a_folder) {
    const std::string folder = env("GST_MRI_DATA") + "/sunnybrook/SCD0000301";
    if (!std::filesystem::exists(folder))
        GTEST_SKIP() << "GST_MRI_DATA has no " << folder;
    auto found = facts(info({folder}));
    EXPECT_NE(found["series 1"].find("slices of 20 frames, 256 x 256 pixels"), std::string::npos)
        << found["series 1"];
    EXPECT_NE(found["command"].find("recon-dicom -s location="), std::string::npos);
}
