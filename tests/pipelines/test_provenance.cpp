// SPDX-License-Identifier: LGPL-2.1-or-later
// What files say of their origin, as other programs find it: bytes of the files, and sums by sha256sum.
#include "plugins/common/provenance.hpp"
#include "tests/support/gst_test.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace mri;
using namespace mri::test;

namespace {

std::string bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

/// A comment of a GIF: blocks of at most 255 bytes behind 21 FE.
std::string comment_of_gif(const std::string& gif) {
    auto at = gif.find("\x21\xfe");
    std::string text;
    if (at == std::string::npos)
        return text;
    for (at += 2; at < gif.size() && gif[at] != 0; at += 1 + static_cast<unsigned char>(gif[at]))
        text += gif.substr(at + 1, static_cast<unsigned char>(gif[at]));
    return text;
}

std::string sha256_of(const std::string& path) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(("sha256sum '" + path + "'").c_str(), "r"),
                                                     pclose);
    std::array<char, 65> sum{};
    EXPECT_EQ(fread(sum.data(), 1, 64, pipe.get()), 64U);
    return sum.data();
}

void expect_ends(const std::string& pipeline) {
    const auto result = run_pipeline(pipeline);
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty()) << result.errors[0];
}

} // namespace

TEST(Provenance, TravelsAsAStickyEvent) {
    const Provenance provenance{7.5, {"mriunet, a.safetensors, SHA-256 01", "mricascade, b"}};
    EXPECT_EQ(provenance_of(new_provenance_event(provenance).get()), provenance);
    EXPECT_EQ(provenance_of(new_provenance_event({}).get()), Provenance{});
    EXPECT_FALSE(provenance_of(adopt(gst_event_new_eos()).get()));
}

TEST(Provenance, IsTextAndAttributes) {
    const auto element =
        adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("fakesink", nullptr))));
    EXPECT_EQ(provenance_text({}, element.get()),
              "gst-mri " GST_MRI_VERSION "; research output, not for diagnosis");
    const auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_pipeline_new("scan"))));
    gst_bin_add(GST_BIN(pipeline.get()), element.get());
    EXPECT_EQ(provenance_text({23.2, {"n, w"}}, element.get()),
              "gst-mri " GST_MRI_VERSION
              "; pipeline scan; network n, w; acceleration 23.2; research output, not for diagnosis");
    const auto values = provenance_attributes({23.2, {"n, w", "m"}}, element.get());
    const std::vector<std::pair<std::string, std::string>> expected{
        {"GstMriVersion", GST_MRI_VERSION}, {"GstMriPipeline", "scan"},
        {"GstMriNetwork", "n, w"},          {"GstMriNetwork", "m"},
        {"GstMriAcceleration", "23.2"},     {"GstMriUse", "research output, not for diagnosis"}};
    EXPECT_EQ(values, expected);
}

TEST(Provenance, FilmsCarryItAsTheirComment) {
    const TempDir dir;
    const std::string start = "mriphantomsrc frames=3 width=64 height=64 ! mrivideo ! ";
    const std::string text = "research output, not for diagnosis";
    expect_ends(start + "mrigifsink location=" + dir.path("a.gif"));
    const std::string comment = comment_of_gif(bytes_of(dir.path("a.gif")));
    EXPECT_TRUE(comment.starts_with("gst-mri " GST_MRI_VERSION "; pipeline ")) << comment;
    EXPECT_TRUE(comment.ends_with("; " + text)) << comment;
    if (!adopt(gst_element_factory_find("x264enc")) || !adopt(gst_element_factory_find("mp4mux")))
        GTEST_SKIP() << "x264enc or mp4mux is not installed";
    expect_ends(start +
                "videoconvert ! x264enc ! h264parse ! mp4mux ! filesink location=" + dir.path("a.mp4"));
    const std::string film = bytes_of(dir.path("a.mp4"));
    const auto tag = film.find("\xa9"
                               "cmt"); // QuickTime's comment
    ASSERT_NE(tag, std::string::npos);
    EXPECT_NE(film.find(text, tag), std::string::npos);
}

TEST(Provenance, NamesTheNetworksAndTheirWeights) {
    if (!adopt(gst_element_factory_find("mriunet")))
        GTEST_SKIP() << "built without LibTorch";
    const TempDir dir;
    expect_ends("mriphantomsrc frames=4 width=64 height=64 ! mrisim spokes=13 alignment=readout ! mriframer "
                "! mrirecon "
                "window=4 ! mriunet window=4 ! mrivideo ! mrigifsink location=" +
                dir.path("a.gif"));
    const std::string weights = env("GST_MRI_SOURCE_ROOT") + "/models/weights/unet.safetensors";
    const std::string comment = comment_of_gif(bytes_of(dir.path("a.gif")));
    EXPECT_NE(comment.find("; network mriunet, unet.safetensors, SHA-256 " + sha256_of(weights) + ";"),
              std::string::npos)
        << comment;
}

TEST(Provenance, TellsTheAcceleration) {
    const TempDir dir;
    // 13 of pi / 2 * 64 = 100.5 spokes, and 16 of 64 lines.
    for (const auto& [scan, text] : {std::pair{"trajectory=radial spokes=13", "; acceleration 7.73;"},
                                     {"trajectory=cartesian spokes=16", "; acceleration 4;"}}) {
        expect_ends(std::string("mriphantomsrc frames=2 width=64 height=64 ! mrisim alignment=readout ") +
                    scan + " ! mriframer ! mrigrid ! mrivideo ! mrigifsink location=" + dir.path("a.gif"));
        const std::string comment = comment_of_gif(bytes_of(dir.path("a.gif")));
        EXPECT_NE(comment.find(text), std::string::npos) << comment;
    }
}

// The header of a file that python's ismrmrd wrote, with a patient and a study.
TEST(Provenance, OutputsDoNotNameThePerson) {
    const std::string python = env("GST_MRI_PYTHON");
    if (python.empty() || !std::filesystem::exists(python))
        GTEST_SKIP() << "GST_MRI_PYTHON does not name a python with numpy, h5py and ismrmrd";
    if (!adopt(gst_element_factory_find("ismrmrdsrc")))
        GTEST_SKIP() << "built without ISMRMRD";
    const TempDir dir;
    const std::string scan = dir.path("named.h5");
    ASSERT_EQ(std::system(("'" + python + "' '" + env("GST_MRI_SOURCE_ROOT") +
                           "/tests/support/scan_files.py' named '" + scan + "'")
                              .c_str()),
              0);
    ASSERT_NE(bytes_of(scan).find("PERSON"), std::string::npos);
    const std::string source = "ismrmrdsrc location=" + scan;
    const std::pair<const char*, std::string> outputs[] = {
        {"raw.h5", " ! ismrmrdsink location="},
        {"images.h5", " ! mriframer ! mrigrid ! ismrmrdsink location="},
        {"film.gif", " ! mriframer ! mrigrid ! mrivideo ! mrigifsink location="}};
    for (const auto& [name, rest] : outputs) {
        expect_ends(source + rest + dir.path(name));
        const std::string bytes = bytes_of(dir.path(name));
        EXPECT_GT(bytes.size(), 100U);
        EXPECT_EQ(bytes.find("PERSON"), std::string::npos) << name;
    }
    const std::string images = bytes_of(dir.path("images.h5"));
    for (const char* part :
         {"<name>GstMriVersion</name><value>" GST_MRI_VERSION, "<name>GstMriPipeline</name>",
          "<name>GstMriUse</name><value>research output, not for diagnosis"})
        EXPECT_NE(images.find(part), std::string::npos) << part;
    expect_ends(source + " ! ismrmrdsink anonymize=false location=" + dir.path("whole.h5"));
    EXPECT_NE(bytes_of(dir.path("whole.h5")).find("PERSON^A"), std::string::npos);
}

TEST(Provenance, DicomAndNiftiCarryIt) {
    const TempDir dir;
    const std::string start = "mriphantomsrc frames=2 width=64 height=64 ! mrisim spokes=13 "
                              "alignment=readout ! mriframer ! mrigrid ! ";
    const std::string text = "; acceleration 7.73; research output, not for diagnosis";
    for (const auto& [sink, file] :
         {std::pair{"mridicomsink", dir.path("folder")}, {"mriniftisink", dir.path("a.nii")}}) {
        if (!adopt(gst_element_factory_find(sink)))
            continue;
        expect_ends(std::string(start).append(sink) + " location=" + file);
        int files = 0;
        const auto check = [&](const std::filesystem::path& path) {
            EXPECT_NE(bytes_of(path).find(text), std::string::npos) << path;
            ++files;
        };
        if (std::filesystem::is_directory(file)) {
            for (const auto& entry : std::filesystem::recursive_directory_iterator(file))
                if (entry.is_regular_file())
                    check(entry.path());
        } else {
            check(file);
        }
        EXPECT_EQ(files, sink == std::string("mridicomsink") ? 2 : 1) << sink;
    }
}
