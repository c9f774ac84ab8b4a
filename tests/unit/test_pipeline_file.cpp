// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/launcher/pipeline_file.hpp"
#include "pipelines/launcher/table.hpp"
#include "tests/support/temp_dir.hpp"

#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <set>
#include <sstream>

using mri::Errc;
using mri::Error;
using mri::PipelineFile;

namespace {

constexpr const char* good = R"(
name: good
description: Says what it does.
parameters:
  location: {type: file, help: The file}
  spokes: {type: int, default: 13, min: 1, max: 100, help: Readouts a frame}
  gain: {type: float, default: 1.5, help: Factor}
  live: {type: bool, default: false, help: At its own pace}
  rate: {type: fraction, default: 25/1, help: Frames a second}
  label: {type: string, default: "", help: A caption}
  view: {type: enum, default: window, choices: {window: autovideosink, file: "filesink location=${location}"}, help: Where to}
pipeline: >
  source location=${location} spokes=${spokes} gain=${gain} live=${live} rate=${rate} label=${label} money=$${x} $5
  ! ${view}
)";

PipelineFile parse(const std::string& yaml, const std::string& name = "good") {
    return PipelineFile::parse(yaml, "/somewhere/" + name + ".yaml");
}

/// The sentence of the error that parsing ends with, which must be of kind `decode` and name the file.
std::string refusal(const std::string& yaml) {
    try {
        parse(yaml);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::decode);
        EXPECT_EQ(std::string(error.what()).find("/somewhere/good.yaml"), 0u) << error.what();
        return error.what();
    }
    ADD_FAILURE() << "was accepted: " << yaml;
    return {};
}

std::string settings_refusal(const PipelineFile& file, const std::map<std::string, std::string>& values) {
    try {
        file.expand(values);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::settings);
        return error.what();
    }
    ADD_FAILURE() << "was accepted";
    return {};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// The `words` in the first column of the table of pipelines/README.md under the heading.
std::set<std::string> documented(const std::string& heading) {
    const char* const root = std::getenv("GST_MRI_SOURCE_ROOT");
    std::ifstream page(std::string(root ? root : ".") + "/pipelines/README.md");
    std::set<std::string> found;
    bool inside = false;
    const std::regex quoted("`([^`]+)`");
    for (std::string line; std::getline(page, line);) {
        inside = line.starts_with("| " + heading + " |") || (inside && line.starts_with("|"));
        const std::string column = line.substr(0, line.find('|', 1));
        for (std::sregex_iterator word(column.begin(), column.end(), quoted), end; inside && word != end;
             ++word)
            found.insert((*word)[1]);
    }
    return found;
}

/// The list at the end of an error's sentence.
std::set<std::string> known_to_parser(const std::string& sentence) {
    const std::string before = "not one of ";
    std::istringstream list(sentence.substr(sentence.find(before) + before.size()));
    std::set<std::string> found;
    for (std::string word; std::getline(list >> std::ws, word, ',');)
        found.insert(word);
    return found;
}

} // namespace

TEST(PipelineFile, ReadsNameDescriptionAndParameters) {
    const auto file = parse(good);
    EXPECT_EQ(file.name, "good");
    EXPECT_EQ(file.description, "Says what it does.");
    ASSERT_EQ(file.parameters.size(), 7u);
    EXPECT_EQ(file.parameters[0].name, "location"); // the order of the file
    EXPECT_FALSE(file.find("location")->preset);
    EXPECT_EQ(file.find("spokes")->type, mri::ParameterType::integer);
    EXPECT_EQ(*file.find("spokes")->high, 100);
    EXPECT_EQ(file.find("view")->choices[1].first, "file");
    EXPECT_EQ(file.find("nothing"), nullptr);
}

TEST(PipelineFile, ExpandsDefaultsAndValues) {
    const auto file = parse(good);
    EXPECT_EQ(file.expand({{"location", "in.h5"}}), "source location=in.h5 spokes=13 gain=1.5 live=false "
                                                    "rate=25/1 label=\"\" money=${x} $5 ! autovideosink\n");
    EXPECT_EQ(file.expand(
                  {{"location", "a b"}, {"view", "file"}, {"live", "yes"}, {"rate", "30"}, {"label", "x!y"}}),
              "source location=a\\ b spokes=13 gain=1.5 live=true rate=30/1 label=x\\!y money=${x} $5 "
              "! filesink location=a\\ b\n");
}

TEST(PipelineFile, SampleFillsRequiredParameters) {
    EXPECT_TRUE(contains(parse(good).expand_sample({}), "location=sample "));
    EXPECT_TRUE(contains(parse(good).expand_sample({{"location", "x"}}), "location=x "));
}

TEST(PipelineFile, RefusesValuesThatDoNotFit) {
    const auto file = parse(good);
    const auto with = [&](const char* name, const char* value) {
        return settings_refusal(file, {{"location", "x"}, {name, value}});
    };
    EXPECT_TRUE(contains(settings_refusal(file, {}), "location"));
    EXPECT_TRUE(contains(with("spoke", "13"), "no parameter 'spoke'"));
    EXPECT_TRUE(contains(with("spokes", "13.5"), "spokes: '13.5' is not a whole number"));
    EXPECT_TRUE(contains(with("spokes", "0"), "outside 1 to 100"));
    EXPECT_TRUE(contains(with("spokes", "13 ! fakesink"), "not a whole number"));
    EXPECT_TRUE(contains(with("gain", "nan"), "not a number"));
    EXPECT_TRUE(contains(with("gain", ""), "not a number"));
    EXPECT_TRUE(contains(with("live", "maybe"), "true or false"));
    EXPECT_TRUE(contains(with("rate", "30/0"), "fraction"));
    EXPECT_TRUE(contains(with("rate", "30/1 ! x"), "fraction"));
    EXPECT_TRUE(contains(with("view", "screen"), "one of window, file"));
    EXPECT_TRUE(contains(with("label", "two\nlines"), "line breaks"));
    EXPECT_TRUE(contains(with("label", "\xff"), "UTF-8"));
}

TEST(PipelineFile, RefusesFilesThatAreWrong) {
    EXPECT_TRUE(contains(refusal(""), "not a pipeline file"));
    EXPECT_TRUE(contains(refusal("- a\n- b\n"), "not a pipeline file"));
    EXPECT_TRUE(contains(refusal("name: [1, 2"), "/somewhere/good.yaml:1"));
    EXPECT_TRUE(contains(refusal(replaced(good, "name: good", "name: other")), "not that of the file"));
    EXPECT_TRUE(contains(refusal(replaced(good, "description: Says what it does.", "description: ''")),
                         "'description'"));
    EXPECT_TRUE(contains(refusal(replaced(good, "pipeline: >", "pipelines: >")), "unknown key 'pipelines'"));
    EXPECT_TRUE(contains(refusal(replaced(good, "type: int", "type: integer")), "unknown type 'integer'"));
    EXPECT_TRUE(contains(refusal(replaced(good, "default: 13", "default: 1000")), "default of spokes"));
    EXPECT_TRUE(contains(refusal(replaced(good, "default: 13", "preset: 13")), "unknown key 'preset'"));
    EXPECT_TRUE(contains(refusal(replaced(good, ", help: Factor", "")), "'help'"));
    EXPECT_TRUE(contains(refusal(replaced(good, "spokes=${spokes}", "")), "'spokes' is not used"));
    EXPECT_TRUE(contains(refusal(replaced(good, "${spokes}", "${spoke}")), "${spoke}"));
    EXPECT_TRUE(contains(refusal(replaced(good, "${spokes}", "${spokes")), "does not name a parameter"));
    EXPECT_TRUE(contains(refusal(replaced(good, "${label}", "\"${label}\"")), "leave out the quotes"));
    EXPECT_TRUE(contains(refusal(replaced(good, "location=${location}\"}", "location=${view}\"}")),
                         "lead back to themselves"));
    EXPECT_TRUE(contains(refusal(replaced(good, "gain:", "spokes:")), "twice"));
    // The line of the trouble is named: `spokes` stands on the sixth.
    EXPECT_TRUE(contains(refusal(replaced(good, "type: int", "type: integer")), "good.yaml:6:"));
}

// Each of 30 choices names the next one twice: 2^30 copies of the last.
TEST(PipelineFile, TextsThatGrowWithoutEndAreRefused) {
    for (const std::string last : {"x", ""}) {
        std::string text = "name: good\ndescription: d\nparameters:\n";
        for (int i = 0; i < 30; ++i) {
            const std::string next = i < 29 ? "${p" + std::to_string(i + 1) + "}" : last;
            text += fmt::format("  p{}: {{type: enum, default: a, help: h, choices: {{a: \"{}{}\"}}}}\n", i,
                                next, next);
        }
        const PipelineFile file = PipelineFile::parse(text + "pipeline: fakesrc ! ${p0}\n", "good.yaml");
        try {
            file.expand({});
            ADD_FAILURE();
        } catch (const Error& error) {
            EXPECT_TRUE(contains(error.what(), "longer than")) << error.what();
        }
    }
}

TEST(PipelineFile, ThePageHasEachKeyAndType) {
    EXPECT_EQ(known_to_parser(refusal(replaced(good, "pipeline: >", "pipelines: >"))),
              documented("key of the file"));
    EXPECT_EQ(known_to_parser(refusal(replaced(good, "default: 13", "preset: 13"))),
              documented("key of a parameter"));
    EXPECT_EQ(known_to_parser(refusal(replaced(good, "type: int", "type: integer"))), documented("type"));
    EXPECT_GT(documented("type").size(), 5U);
}

TEST(PipelineFile, RefusesWhatCannotBeQuotedInPart) {
    const auto file = parse("name: good\ndescription: d\nparameters: {a: {type: string, help: h}}\n"
                            "pipeline: x location=${a}/frame\n");
    EXPECT_EQ(file.expand({{"a", "my dir"}}), "x location=my\\ dir/frame");
    EXPECT_EQ(file.expand({{"a", ""}}), "x location=/frame");
    EXPECT_TRUE(contains(settings_refusal(file, {{"a", "\"x"}}), "begin with a quote"));
    EXPECT_TRUE(contains(settings_refusal(file, {{"a", "x\\"}}), "backslash"));
}

constexpr const char* writes = R"(
name: good
description: Writes a file.
parameters:
  format:
    type: enum
    default: film
    choices:
      film: "filmsink location=${output}"
      table: "tablesink location=${output}"
      pictures: "multifilesink location=${output:numbered}"
      none: fakesink
    suffixes: {film: .mp4, table: [.csv, .csv.gz], pictures: .png}
    help: What is written
  output: {type: output, default: result, format: format, replace: overwrite, help: Where to}
  overwrite: {type: bool, default: false, help: Replaces files}
pipeline: source ! ${format}
)";

TEST(PipelineFile, NamesOfOutputsTellTheirFormat) {
    const auto file = parse(writes);
    EXPECT_EQ(file.expand({}), "source ! filmsink location=result.mp4");
    EXPECT_EQ(file.expand({{"format", "table"}}), "source ! tablesink location=result.csv");
    EXPECT_EQ(file.expand({{"format", "none"}}), "source ! fakesink");
    EXPECT_EQ(file.expand({{"output", "a.csv"}}), "source ! tablesink location=a.csv");
    EXPECT_EQ(file.expand({{"output", "a.csv.gz"}}), "source ! tablesink location=a.csv.gz");
    EXPECT_EQ(file.expand({{"output", "A.MP4"}, {"format", "film"}}), "source ! filmsink location=A.MP4");
    // A name without an ending takes the default format, and with a format any name will do.
    EXPECT_EQ(file.expand({{"output", "a"}}), "source ! filmsink location=a");
    EXPECT_EQ(file.expand({{"output", "a.xyz"}, {"format", "table"}}), "source ! tablesink location=a.xyz");
    EXPECT_EQ(file.expand({{"output", "50%/frame.png"}}),
              "source ! multifilesink location=50%%/frame-%05d.png");

    EXPECT_TRUE(contains(settings_refusal(file, {{"output", "a.csv"}, {"format", "film"}}),
                         "that of format=table, not of format=film"));
    EXPECT_TRUE(contains(settings_refusal(file, {{"output", "a.csv"}, {"format", "none"}}), "format=none"));
    EXPECT_TRUE(contains(settings_refusal(file, {{"output", "a.xyz"}}), "tells no format"));
    EXPECT_TRUE(contains(settings_refusal(file, {{"output", "a/"}}), "tells no format"));
    EXPECT_EQ(mri::numbered_path("a.b/c"), "a.b/c-%05d");
    EXPECT_EQ(mri::numbered_path(".png"), ".png-%05d");
}

TEST(PipelineFile, OutputsAreThoseThatTheTextWrites) {
    const auto file = parse(writes);
    const auto one = file.outputs({{"output", "x.png"}});
    ASSERT_EQ(one.size(), 1U);
    EXPECT_EQ(one[0].parameter, "output");
    EXPECT_EQ(one[0].path, "x.png");
    EXPECT_TRUE(one[0].numbered);
    EXPECT_EQ(one[0].replace, "overwrite");
    EXPECT_EQ(file.outputs({{"overwrite", "yes"}}).at(0).replace, "");
    EXPECT_EQ(file.outputs({}).at(0).path, "result.mp4");
    EXPECT_TRUE(file.outputs({{"format", "none"}}).empty());
}

TEST(PipelineFile, RefusesFormatsThatDoNotFit) {
    EXPECT_TRUE(contains(refusal(replaced(writes, "film: .mp4", "video: .mp4")), "which is not a choice"));
    EXPECT_TRUE(contains(refusal(replaced(writes, "film: .mp4", "film: .png")), "stands twice"));
    EXPECT_TRUE(
        contains(refusal(replaced(writes, "format: format", "format: overwrite")), "no enum with suffixes"));
    EXPECT_TRUE(contains(refusal(replaced(writes, "replace: overwrite", "replace: format")), "no bool"));
    EXPECT_TRUE(contains(refusal(replaced(writes, "type: output", "type: file")), "belongs to an output"));
    EXPECT_TRUE(contains(refusal(replaced(good, "type: int", "suffixes: {}, type: int")), "enum's choices"));
    EXPECT_TRUE(contains(refusal(replaced(good, "label=${label}", "label=${label:numbered}")),
                         "belongs to an output"));
}

TEST(PipelineFile, FindsFilesByNameAndPath) {
    const mri::test::TempDir folder;
    const std::filesystem::path root = folder.path();
    std::filesystem::create_directories(root / "first");
    std::filesystem::create_directories(root / "second");
    const auto write = [&](const char* path, const char* description) {
        std::ofstream(root / path) << "name: both\ndescription: " << description
                                   << "\npipeline: fakesrc ! fakesink\n";
    };
    write("first/both.yaml", "first");
    write("second/both.yaml", "second");
    std::ofstream(root / "second" / "notes.txt") << "not one";
    setenv("GST_MRI_PIPELINES_PATH", ((root / "first").string() + ":" + (root / "second").string()).c_str(),
           1);

    EXPECT_EQ(PipelineFile::load(mri::find_pipeline("both")).description, "first");
    EXPECT_EQ(PipelineFile::load(mri::find_pipeline((root / "second/both.yaml").string())).description,
              "second");
    EXPECT_TRUE(mri::list_pipelines().contains("both"));
    EXPECT_FALSE(mri::list_pipelines().contains("notes"));
    for (const char* name : {"neither", "./neither.yaml"}) {
        try {
            mri::find_pipeline(name);
            ADD_FAILURE() << name;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Errc::not_found);
        }
    }
    // A folder with the right name is no file.
    EXPECT_THROW(PipelineFile::load(root), Error);
}

TEST(Table, AlignsColumns) {
    EXPECT_EQ(mri::format_table({"a", "value"}, {{"long name", "1"}, {"µ", "22.5"}}), "a          value\n"
                                                                                      "long name      1\n"
                                                                                      "µ           22.5\n");
}
