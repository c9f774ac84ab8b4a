// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/mrd_anonymous.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/math/base/error.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace {

using namespace mri;

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

constexpr const char* encoding =
    "<m:encoding><m:encodedSpace><m:matrixSize><m:x>8</m:x><m:y>4</m:y><m:z>1</m:z></"
    "m:matrixSize><m:fieldOfView_mm>"
    "<m:x>80</m:x><m:y>40</m:y><m:z>6</m:z></m:fieldOfView_mm></"
    "m:encodedSpace><m:reconSpace><m:matrixSize><m:x>8</m:x>"
    "<m:y>4</m:y><m:z>1</m:z></m:matrixSize><m:fieldOfView_mm><m:x>80</m:x><m:y>40</m:y><m:z>6</m:z></"
    "m:fieldOfView_mm>"
    "</m:reconSpace><m:encodingLimits/><m:trajectory>cartesian</m:trajectory></m:encoding>";

std::string header(const std::string& before) {
    return "<?xml version=\"1.0\"?><!-- of PERSON --><m:ismrmrdHeader "
           "xmlns:m=\"http://www.ismrm.org/ISMRMRD\">" +
           before + encoding +
           "<m:userParameters><m:userParameterString><m:name>tPatientName</m:name><m:value>PERSON</m:value>"
           "</m:userParameterString><m:userParameterString><m:name>Coil</m:name><m:value>Body_18</m:value>"
           "</m:userParameterString></m:userParameters></m:ismrmrdHeader>";
}

} // namespace

TEST(MrdAnonymous, TakesThePersonAndLeavesTheScan) {
    const std::string xml = header(
        "<m:subjectInformation><m:patientName>PERSON</m:patientName><m:patientWeight_kg>71</"
        "m:patientWeight_kg>"
        "<m:patientID>ID-PERSON</m:patientID><m:patientBirthdate>1960-PERSON</m:patientBirthdate>"
        "</m:subjectInformation><m:studyInformation><m:studyInstanceUID>1.2.PERSON</m:studyInstanceUID>"
        "<m:bodyPartExamined>HEART</m:bodyPartExamined></m:studyInformation><m:measurementInformation>"
        "<m:measurementID>PERSON_7</m:measurementID><m:patientPosition>HFS</m:patientPosition>"
        "<m:protocolName>cine</m:protocolName></m:measurementInformation>"
        "<m:acquisitionSystemInformation><m:institutionName>PERSON hospital</m:institutionName>"
        "<m:receiverChannels>4</m:receiverChannels></m:acquisitionSystemInformation>");
    const std::string out = mrd_anonymized(xml);
    EXPECT_FALSE(contains(out, "PERSON")) << out;
    for (const char* kept : {"71", "HEART", "HFS", "cine", "Body_18"})
        EXPECT_TRUE(contains(out, kept)) << kept << "\n" << out;
    const auto before = MrdHeader::parse(xml), after = MrdHeader::parse(out);
    EXPECT_EQ(after.receiver_channels, 4);
    ASSERT_EQ(after.encodings.size(), 1U);
    EXPECT_EQ(after.encodings[0].encoded.matrix, before.encodings[0].encoded.matrix);
    EXPECT_EQ(after.encodings[0].recon.fov_mm, before.encodings[0].recon.fov_mm);
    EXPECT_EQ(mrd_anonymized(out), out);
}

TEST(MrdAnonymous, ReadsOtherEncodingsAndRefusesWhatIsNoXml) {
    std::string latin =
        header("<m:subjectInformation><m:patientName>M\xfcller PERSON</m:patientName></m:subjectInformation>"
               "<m:measurementInformation><m:protocolName>\xfc</m:protocolName></m:measurementInformation>");
    latin.replace(0, std::string("<?xml version=\"1.0\"?>").size(),
                  "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>");
    const std::string out = mrd_anonymized(latin);
    EXPECT_FALSE(contains(out, "PERSON"));
    EXPECT_TRUE(contains(out, "\xc3\xbc")) << out;
    EXPECT_THROW(mrd_anonymized("<a>"), Error);
    EXPECT_THROW(mrd_anonymized(""), Error);
    EXPECT_THROW(mrd_anonymized(std::string((4 << 20) + 1, ' ')), Error);
}

TEST(MrdAnonymous, OfAScannersHeaderKeepsAllThatIsRead) {
    const char* data = std::getenv("GST_MRI_DATA");
    const std::string path = std::string(data ? data : "") + "/real/siemens_vida_64ch_header.xml";
    if (!std::filesystem::exists(path))
        GTEST_SKIP() << "GST_MRI_DATA has no " << path;
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    const auto out = mrd_anonymized(text.str());
    for (const char* gone : {"patientName", "patientID", "studyInstanceUID", "measurementID",
                             "frameOfReferenceUID", "institutionName", "deviceSerialNumber"})
        EXPECT_FALSE(contains(out, gone)) << gone;
    const auto before = MrdHeader::parse(text.str()), after = MrdHeader::parse(out);
    EXPECT_EQ(before.receiver_channels, after.receiver_channels);
    ASSERT_EQ(before.encodings.size(), after.encodings.size());
    EXPECT_EQ(before.encodings[0].encoded.matrix, after.encodings[0].encoded.matrix);
    EXPECT_EQ(before.h1_resonance_hz, after.h1_resonance_hz);
}
