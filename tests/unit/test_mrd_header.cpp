// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/error.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

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
    EXPECT_NE(mrd_header_utf8(latin).find("M\xC3\xBCnchen"), std::string::npos);
    EXPECT_EQ(MrdHeader::parse(mrd_header_utf8(latin)).encodings[0].trajectory, Trajectory::spiral);
    expect_refused(header_with("<?xml version='1.0'?>", "M\xFCnchen"), "no well-formed XML");
}

TEST(MrdHeader, WhatIsMissingHasANameAndALine) {
    const auto header =
        MrdHeader::parse("<ismrmrdHeader>\n<encoding>\n<encodedSpace><matrixSize><x>many</x>\n"
                         "<y>32</y></matrixSize></encodedSpace></encoding></ismrmrdHeader>");
    const auto& missing = header.encodings.at(0).missing;
    const auto has = [&](const char* text) { return std::count(missing.begin(), missing.end(), text) == 1; };
    EXPECT_TRUE(has("'many' as encodedSpace/matrixSize/x (line 3)"));
    EXPECT_TRUE(has("no reconSpace/fieldOfView_mm/y (line 2)"));
    EXPECT_TRUE(has("no trajectory (line 2)"));
    EXPECT_FALSE(has("no encodedSpace/matrixSize/y (line 2)"));
    EXPECT_EQ(header.receiver_channels, 0);
    EXPECT_FALSE(header.repetition_time_ms);
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
}

} // namespace
