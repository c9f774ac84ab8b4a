// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/error.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

using namespace mri;

namespace {

MrdHeader whole_header() {
    MrdHeader header;
    header.receiver_channels = 8;
    header.relative_noise_bandwidth = 0.79;
    header.h1_resonance_hz = 63870000;
    MrdEncoding encoding;
    encoding.encoded = {{128, 64, 1}, {600, 300, 6}};
    encoding.recon = {{64, 64, 1}, {300, 300.5, 6}};
    encoding.trajectory = Trajectory::radial;
    encoding.golden_angle = true;
    encoding.step_1 = MrdLimit{0, 14, 7};
    encoding.repetition = MrdLimit{0, 65535, 0};
    header.encodings.push_back(encoding);
    header.repetition_time_ms = 2.5;
    return header;
}

void expect_refused(const std::string& xml, const std::string& part) {
    try {
        MrdHeader::parse(xml, "'scan.h5': the header");
        ADD_FAILURE() << xml.substr(0, 200);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::decode);
        EXPECT_TRUE(std::string(error.what()).starts_with("'scan.h5': the header")) << error.what();
        EXPECT_NE((std::string(error.what()) + error.detail()).find(part), std::string::npos)
            << error.what() << " | " << error.detail();
    }
}

/// The name of a trajectory is what is read back of text with letters that are not ASCII around it.
std::string header_with(const std::string& declaration, const std::string& comment) {
    return declaration + "<ismrmrdHeader><studyInformation><studyDescription>" + comment +
           "</studyDescription></studyInformation><encoding><trajectory>spiral</trajectory></encoding>"
           "</ismrmrdHeader>";
}

TEST(MrdHeader, ReadsBackWhatItWrites) {
    const auto header = MrdHeader::parse(whole_header().xml());
    EXPECT_EQ(header.receiver_channels, 8);
    EXPECT_DOUBLE_EQ(header.relative_noise_bandwidth, 0.79);
    EXPECT_DOUBLE_EQ(header.h1_resonance_hz, 63870000);
    EXPECT_EQ(header.repetition_time_ms, 2.5);
    ASSERT_EQ(header.encodings.size(), 1U);
    const MrdEncoding& encoding = header.encodings[0];
    EXPECT_EQ(encoding.encoded.matrix, (std::array{128, 64, 1}));
    EXPECT_EQ(encoding.recon.fov_mm, (std::array{300.0, 300.5, 6.0}));
    EXPECT_EQ(encoding.trajectory, Trajectory::radial);
    EXPECT_TRUE(encoding.golden_angle);
    ASSERT_TRUE(encoding.step_1);
    EXPECT_EQ(encoding.step_1->maximum, 14);
    EXPECT_EQ(encoding.step_1->center, 7);
    EXPECT_FALSE(encoding.slice);
    EXPECT_EQ(encoding.repetition->maximum, 65535);
    EXPECT_TRUE(encoding.missing.empty());
}

TEST(MrdHeader, TrajectoriesKeepTheirNames) {
    for (const auto trajectory :
         {Trajectory::radial, Trajectory::spiral, Trajectory::cartesian, Trajectory::arbitrary}) {
        auto header = whole_header();
        header.encodings[0].trajectory = trajectory;
        header.encodings[0].golden_angle = false;
        EXPECT_EQ(MrdHeader::parse(header.xml()).encodings[0].trajectory, trajectory);
    }
    EXPECT_NE(whole_header().xml().find("<trajectory>goldenangle</trajectory>"), std::string::npos);
    const auto epi = MrdHeader::parse(
        "<ismrmrdHeader><encoding><trajectory> epi </trajectory></encoding></ismrmrdHeader>");
    EXPECT_EQ(epi.encodings[0].trajectory, Trajectory::cartesian);
    const auto rosette = MrdHeader::parse(
        "<ismrmrdHeader><encoding><trajectory>rosette</trajectory></encoding></ismrmrdHeader>");
    EXPECT_EQ(rosette.encodings[0].trajectory, Trajectory::arbitrary);
}

TEST(MrdHeader, PrefixesOfNameSpacesDoNotMatter) {
    const auto header = MrdHeader::parse(
        "<?xml version='1.0'?><m:ismrmrdHeader xmlns:m='http://www.ismrm.org/ISMRMRD'><m:encoding>"
        "<m:encodedSpace><m:matrixSize><m:x>64.0</m:x></m:matrixSize></m:encodedSpace><m:encodingLimits>"
        "<m:phase><m:maximum>\n 24 </m:maximum></m:phase></m:encodingLimits></m:encoding></m:ismrmrdHeader>");
    ASSERT_EQ(header.encodings.size(), 1U);
    EXPECT_EQ(header.encodings[0].encoded.matrix[0], 64);
    EXPECT_EQ(header.encodings[0].phase->maximum, 24);
}

TEST(MrdHeader, CharacterEncodingsAreTheHeadersOwn) {
    const std::string utf8 =
        header_with("\xEF\xBB\xBF<?xml version='1.0' encoding='UTF-8'?>", "M\xC3\xBCnchen");
    const std::string latin = header_with("<?xml version='1.0' encoding='ISO-8859-1'?>", "M\xFCnchen");
    std::string utf16 = "\xFF\xFE";
    for (const char c : header_with("<?xml version='1.0' encoding='UTF-16'?>", "ASCII"))
        utf16 += {c, '\0'};
    for (const std::string& xml : {utf8, latin, utf16}) {
        const auto header = MrdHeader::parse(xml);
        ASSERT_EQ(header.encodings.size(), 1U);
        EXPECT_EQ(header.encodings[0].trajectory, Trajectory::spiral);
    }
    EXPECT_EQ(mrd_header_utf8(utf8), utf8);
    for (const char* name : {"ascii", "US-ASCII"}) {
        const std::string ascii =
            std::string("<?xml version=\"1.0\" encoding=\"") + name + "\"?>\n<ismrmrdHeader/>\n";
        EXPECT_EQ(mrd_header_utf8(ascii), ascii) << "it is UTF-8 already";
    }

    std::string marked("\xFE\xFF", 2);
    for (const char c : header_with("", "ASCII"))
        marked += {'\0', c};
    EXPECT_EQ(MrdHeader::parse(marked).encodings.at(0).trajectory, Trajectory::spiral);
    EXPECT_NE(mrd_header_utf8(marked).find("ASCII"), std::string::npos);
    EXPECT_NE(mrd_header_utf8(latin).find("M\xC3\xBCnchen"), std::string::npos);
    EXPECT_EQ(MrdHeader::parse(mrd_header_utf8(latin)).encodings[0].trajectory, Trajectory::spiral);
    expect_refused(header_with("<?xml version='1.0'?>", "M\xFCnchen"), "no well-formed XML");
}

TEST(MrdHeader, WhatIsMissingHasANameAndALine) {
    const auto header =
        MrdHeader::parse("<ismrmrdHeader>\n<encoding>\n<encodedSpace><matrixSize><x>many</x>\n"
                         "<y>32</y></matrixSize></encodedSpace><reconSpace/></encoding></ismrmrdHeader>");
    const auto& missing = header.encodings.at(0).missing;
    const auto has = [&](const char* text) { return std::count(missing.begin(), missing.end(), text) == 1; };
    EXPECT_TRUE(has("'many' as encodedSpace/matrixSize/x (line 3)"));
    EXPECT_TRUE(has("no reconSpace/fieldOfView_mm/y (line 2)"));
    EXPECT_TRUE(has("no trajectory (line 2)"));
    EXPECT_FALSE(has("no encodedSpace/matrixSize/y (line 2)"));
    EXPECT_EQ(header.receiver_channels, 0);
    EXPECT_FALSE(header.repetition_time_ms);
}

/// A header of one encoding: sizes along x and y as text.
std::string sizes(const std::string& encoded, const std::string& encoded_fov, const std::string& recon,
                  const std::string& recon_fov) {
    const auto space = [](const char* tag, const std::string& matrix, const std::string& fov) {
        const auto three = [](const char* name, const std::string& value) {
            const std::string z = name == std::string("matrixSize") ? "1" : value;
            return "<" + std::string(name) + "><z>" + z + "</z><y>" + value + "</y><x>" + value + "</x></" +
                   name + ">";
        };
        return "<" + std::string(tag) + ">" + three("fieldOfView_mm", fov) + three("matrixSize", matrix) +
               "</" + tag + ">";
    };
    return "<ismrmrdHeader><encoding><trajectory>Radial</trajectory><unknown>7</unknown>" +
           (recon.empty() ? "" : space("reconSpace", recon, recon_fov)) +
           space("encodedSpace", encoded, encoded_fov) + "</encoding></ismrmrdHeader>";
}

TEST(MrdHeader, SizesAreReadAsTheyCanBeMeant) {
    const auto read = [](const std::string& xml) { return MrdHeader::parse(xml).encodings.at(0); };
    const auto tells = [](const MrdEncoding& encoding, const char* part) {
        return std::any_of(encoding.readings.begin(), encoding.readings.end(),
                           [&](const std::string& text) { return text.find(part) != std::string::npos; });
    };
    const auto plain = read(sizes(" 64.0 ", "3.2e2", "32", "+160"));
    EXPECT_TRUE(plain.readings.empty()) << plain.readings.at(0);
    EXPECT_TRUE(plain.missing.empty());
    EXPECT_EQ(plain.encoded.fov_mm[0], 320);
    EXPECT_EQ(plain.trajectory, Trajectory::radial);

    const auto rounded = read(sizes("83.9996", "300", "84.009", "300"));
    EXPECT_EQ(rounded.encoded.matrix[0], 84);
    EXPECT_EQ(rounded.recon.matrix[1], 84);
    EXPECT_TRUE(tells(rounded, "encodedSpace/matrixSize/x (line 1) is 83.9996, read as 84"));
    EXPECT_TRUE(rounded.missing.empty());
    const auto between = read(sizes("83.98", "300", "84", "300"));
    EXPECT_EQ(between.missing.size(), 2U) << "no number of pixels";

    const auto alone = read(sizes("64", "320", "", ""));
    EXPECT_EQ(alone.recon.matrix[1], 64);
    EXPECT_EQ(alone.recon.fov_mm[1], 320);
    EXPECT_TRUE(alone.missing.empty());
    EXPECT_TRUE(tells(alone, "no reconSpace"));

    const auto metres = read(sizes("64", "0.6", "32", "0.3"));
    EXPECT_DOUBLE_EQ(metres.encoded.fov_mm[0], 600);
    EXPECT_DOUBLE_EQ(metres.recon.fov_mm[1], 300);
    EXPECT_DOUBLE_EQ(metres.recon.fov_mm[2], 300);
    EXPECT_TRUE(tells(metres, "read as metres"));
    const auto unknown = read(sizes("64", "0", "32", "0"));
    EXPECT_EQ(unknown.encoded.fov_mm[0], 64);
    EXPECT_EQ(unknown.recon.fov_mm[1], 32);
    EXPECT_TRUE(tells(unknown, "1 mm for each pixel"));
    const auto one = read(sizes("64", "0", "32", "160"));
    EXPECT_EQ(one.encoded.fov_mm[0], 320);
    EXPECT_TRUE(tells(one, "encodedSpace is 0, read as 320 mm"));
    const auto other = read(sizes("64", "320", "32", "0"));
    EXPECT_EQ(other.recon.fov_mm[1], 160);
}

TEST(MrdHeader, AHeaderOfAScannerIsRead) {
    const char* data = std::getenv("GST_MRI_DATA");
    const std::string path = std::string(data ? data : "") + "/real/siemens_vida_64ch_header.xml";
    std::ifstream file(path);
    if (!data || !file)
        GTEST_SKIP() << "GST_MRI_DATA does not name a folder with real/siemens_vida_64ch_header.xml";
    std::ostringstream text;
    text << file.rdbuf();
    const auto header = MrdHeader::parse(text.str());
    EXPECT_EQ(header.receiver_channels, 64);
    EXPECT_NEAR(header.relative_noise_bandwidth, 0.793, 1e-6);
    EXPECT_EQ(header.h1_resonance_hz, 123220827);
    EXPECT_EQ(header.repetition_time_ms, 27);
    ASSERT_EQ(header.encodings.size(), 1U);
    const MrdEncoding& encoding = header.encodings[0];
    EXPECT_EQ(encoding.encoded.matrix, (std::array{448, 200, 52}));
    EXPECT_EQ(encoding.encoded.fov_mm, (std::array{360.0, 160.714005, 156.0}));
    EXPECT_EQ(encoding.recon.matrix, (std::array{224, 200, 48}));
    EXPECT_EQ(encoding.recon.fov_mm, (std::array{180.0, 160.714005, 144.0}));
    EXPECT_EQ(encoding.trajectory, Trajectory::cartesian);
    ASSERT_TRUE(encoding.step_1 && encoding.slice && encoding.phase && encoding.repetition);
    EXPECT_EQ(encoding.step_1->maximum, 173);
    EXPECT_EQ(encoding.step_1->center, 75);
    EXPECT_EQ(encoding.repetition->maximum, 0);
    EXPECT_TRUE(encoding.missing.empty());
    EXPECT_TRUE(encoding.readings.empty());
}

TEST(MrdHeader, NoOtherTextIsAHeader) {
    expect_refused("", "no well-formed XML");
    expect_refused("<ismrmrdHeader>", "line 1");
    expect_refused("<html/>", "its root element is 'html'");
    expect_refused("<ismrmrdHeader>" + std::string(5 << 20, ' ') + "</ismrmrdHeader>",
                   "the most are 4194304");
}

TEST(MrdHeader, EntitiesAreNeitherFetchedNorExpanded) {
    // A file of this machine.
    const auto outside = MrdHeader::parse("<?xml version='1.0'?><!DOCTYPE h [<!ENTITY f SYSTEM "
                                          "'file:///etc/hostname'>]><ismrmrdHeader><encoding>"
                                          "<trajectory>&f;</trajectory></encoding></ismrmrdHeader>");
    EXPECT_EQ(outside.encodings.at(0).trajectory, Trajectory::arbitrary);
    // 10^9 copies of a word, were they made.
    std::string laughs = "<?xml version='1.0'?><!DOCTYPE h [<!ENTITY a0 'ha'>";
    for (int i = 1; i < 10; ++i) {
        laughs += "<!ENTITY a" + std::to_string(i) + " '";
        for (int k = 0; k < 10; ++k)
            laughs += "&a" + std::to_string(i - 1) + ";";
        laughs += "'>";
    }
    laughs += "]><ismrmrdHeader><encoding><trajectory>&a9;</trajectory></encoding></ismrmrdHeader>";
    const auto start = std::chrono::steady_clock::now();
    try {
        EXPECT_EQ(MrdHeader::parse(laughs).encodings.at(0).trajectory, Trajectory::arbitrary);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::decode);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST(MrdHeader, AttributesAreEscaped) {
    EXPECT_EQ(mrd_attributes({{"a", "1 < 2 & 3"}}),
              "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ismrmrdMeta><meta><name>a</name>"
              "<value>1 &lt; 2 &amp; 3</value></meta></ismrmrdMeta>\n");
    EXPECT_EQ(mrd_attributes({{"a", "1"}, {"a", "2"}, {"b", "3"}}),
              "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ismrmrdMeta><meta><name>a</name><value>1</value>"
              "<value>2</value></meta><meta><name>b</name><value>3</value></meta></ismrmrdMeta>\n");
}

} // namespace
