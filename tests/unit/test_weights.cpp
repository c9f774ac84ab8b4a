// SPDX-License-Identifier: LGPL-2.1-or-later
// The checks that all networks make of a weights file, and where weights are looked for.
#include "models/files/weights.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>

using namespace mri;

namespace {

template <class Work>
std::string refusal(Errc code, Work work) {
    try {
        work();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        return std::string(e.what()) + " " + e.detail();
    }
    return "nothing was refused";
}

bool names(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST(Metadata, ReadsNumbersAndChoices) {
    const std::string name = "net.safetensors";
    const std::map<std::string, std::string> map{
        {"filters", "16"}, {"leak", "0.1"}, {"time", "causal"}, {"bad", "16x"}, {"large", "99999999999"}};
    const Metadata metadata(map, name);
    EXPECT_EQ(metadata.number("filters", 1), 16);
    EXPECT_EQ(metadata.number("none", 7), 7);
    EXPECT_FLOAT_EQ(metadata.number("leak", 0.0F), 0.1F);
    EXPECT_TRUE(metadata.choice("time", "both", "causal"));
    EXPECT_FALSE(metadata.choice("none", "both", "causal"));
    for (const char* key : {"bad", "large"}) {
        const std::string why = refusal(Errc::decode, [&] { metadata.number(key, 1); });
        EXPECT_TRUE(names(why, name) && names(why, key)) << why;
    }
    const std::string why =
        refusal(Errc::decode, [&] { (void)metadata.choice("filters", "both", "causal"); });
    EXPECT_TRUE(names(why, "filters") && names(why, "16")) << why;
}

TEST(Weights, EachTensorIsMissedNamedOrRefused) {
    const TensorShapes shapes{{"a", {2, 3}}, {"b", {4}}};
    TensorFile file;
    file.tensors["a"] = {{2, 3}, std::vector<float>(6, 1)};
    file.tensors["b"] = {{4}, std::vector<float>(4, 1)};
    EXPECT_NO_THROW(check_tensors(file, "net.pth", shapes, "a network"));

    TensorFile lacking = file;
    lacking.tensors.erase("b");
    EXPECT_TRUE(
        names(refusal(Errc::decode, [&] { check_tensors(lacking, "net.pth", shapes, "a network"); }), "b"));
    TensorFile extra = file;
    extra.tensors["stranger"] = {{1}, {1}};
    EXPECT_TRUE(names(refusal(Errc::decode, [&] { check_tensors(extra, "net.pth", shapes, "a network"); }),
                      "stranger"));
    TensorFile bent = file;
    bent.tensors["a"].shape = {3, 2};
    const std::string why =
        refusal(Errc::decode, [&] { check_tensors(bent, "net.pth", shapes, "a network"); });
    EXPECT_TRUE(names(why, "net.pth") && names(why, "a network")) << why;
    TensorFile infinite = file;
    infinite.tensors["b"].values[2] = std::numeric_limits<float>::infinity();
    EXPECT_TRUE(
        names(refusal(Errc::decode, [&] { check_tensors(infinite, "net.pth", shapes, "a network"); }), "b"));
}

TEST(Weights, AreLookedForInTheNamedFolders) {
    const test::TempDir one, two;
    std::ofstream(two.path("net.safetensors")) << "x";
    ::setenv("GST_MRI_MODELS_PATH", (one.path("") + ":" + two.path("")).c_str(), 1);
    EXPECT_EQ(std::ifstream(find_weights("net.safetensors")).get(), 'x');
    EXPECT_EQ(find_weights("a/folder/of/its.own"), "a/folder/of/its.own");
    const std::string why = refusal(Errc::not_found, [] { find_weights("no-such.safetensors"); });
    EXPECT_TRUE(names(why, "no-such.safetensors") && names(why, one.path(""))) << why;
    refusal(Errc::settings, [] { find_weights(""); });
}

TEST(Weights, AWindowIsOneThatAnElementCanBeTold) {
    EXPECT_EQ(trained_frames({}), std::nullopt);
    EXPECT_EQ(trained_frames({{"window", "1"}}), 1);
    EXPECT_EQ(trained_frames({{"window", "1000"}}), 1000);
    for (const char* text : {"", "0", "-4", "1001", "100000", "4294967297", "20 ", "2e1", "many"})
        EXPECT_TRUE(names(refusal(Errc::decode,
                                  [&] {
                                      trained_frames({{"window", text}});
                                  }),
                          "'" + std::string(text) + "'"))
            << text;
}
