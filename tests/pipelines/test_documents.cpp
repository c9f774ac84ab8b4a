// SPDX-License-Identifier: LGPL-2.1-or-later
// What the documents say, held against what was built: each element has a doc block with a launch line,
// README lists each element and no other, the properties that launch lines name exist, every launch line of the
// pages runs, and what the pages link to is there.
#include "tests/support/gst_test.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <sys/wait.h>

namespace {

namespace fs = std::filesystem;
using namespace mri;

std::string read_file(const fs::path& path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::stringstream in(text);
    for (std::string part; std::getline(in, part, separator);)
        if (!part.empty())
            parts.push_back(part);
    return parts;
}

struct Line {
    std::string origin;
    std::string command;
};

void PrintTo(const Line& line, std::ostream* out) {
    *out << line.origin << ": " << line.command;
}

// The launch line between |[ and ]| in an element's doc block, its lines joined.
std::vector<Line> lines_of_source(const fs::path& path) {
    std::vector<Line> lines;
    const std::string text = read_file(path);
    for (std::size_t at = 0; (at = text.find("|[", at)) != std::string::npos;) {
        const std::size_t end = text.find("]|", at);
        if (end == std::string::npos)
            break;
        const std::string block = text.substr(at + 2, end - at - 2);
        std::string joined = std::regex_replace(block, std::regex(R"(\s*\n\s*(\*|//)?\s*)"), " ");
        joined = std::regex_replace(joined, std::regex(R"(\s*\\\s+)"), " ");
        joined = std::regex_replace(joined, std::regex(R"(^\s+|\s+$)"), "");
        lines.push_back({path.filename().string(), joined});
        at = end;
    }
    return lines;
}

// Lines of a page's shell blocks that begin with "./dev run", continuation lines joined.
std::vector<Line> lines_of_page(const std::string& origin, const std::string& page) {
    std::vector<Line> lines;
    bool shell = false;
    std::string open;
    for (const auto& raw : split(page, '\n')) {
        if (raw.rfind("```", 0) == 0) {
            shell = raw == "```sh";
            continue;
        }
        if (!shell)
            continue;
        std::string line = std::regex_replace(raw, std::regex(R"(^\s+)"), "");
        const bool more = !line.empty() && line.back() == '\\';
        if (more)
            line.pop_back();
        open += line;
        if (more)
            continue;
        if (open.rfind("./dev run ", 0) == 0)
            lines.push_back({origin, open.substr(10)});
        open.clear();
    }
    return lines;
}

std::string root() {
    return test::env("GST_MRI_SOURCE_ROOT");
}

// plugins/FOLDER/ELEMENT.cpp of each element that was built; a path that does not exist when there is none.
std::vector<fs::path> element_sources() {
    std::vector<fs::path> sources;
    for (const auto& element : split(test::env("GST_MRI_ELEMENTS"), ':')) {
        fs::path found = root() + "/plugins/" + element + ".cpp";
        for (const auto& folder : fs::directory_iterator(root() + "/plugins"))
            if (fs::exists(folder.path() / (element + ".cpp")))
                found = folder.path() / (element + ".cpp");
        sources.push_back(found);
    }
    return sources;
}

// The pages of the repository, relative to its root: README.md in the folders that hold sources, and the cards of
// weights.
std::vector<std::string> pages() {
    std::vector<std::string> found{"README.md"};
    for (const char* folder : {"data_gen", "models", "pipelines", "plugins", "tests", ".github"}) {
        if (!fs::is_directory(root() + "/" + folder))
            continue;
        for (const auto& entry : fs::recursive_directory_iterator(root() + "/" + folder))
            if (entry.path().extension() == ".md")
                found.push_back(fs::relative(entry.path(), root()));
    }
    std::sort(found.begin(), found.end());
    return found;
}

std::vector<Line> all_lines() {
    std::vector<Line> lines;
    for (const auto& source : element_sources())
        for (auto& line : lines_of_source(source))
            lines.push_back(std::move(line));
    for (const auto& page : pages())
        for (auto& line : lines_of_page(page, read_file(root() + "/" + page)))
            lines.push_back(std::move(line));
    return lines;
}

bool has_command(const std::string& name) {
    const GString_ptr path(g_find_program_in_path(name.c_str()));
    return path != nullptr;
}

struct Outcome {
    int status = -1;
    std::string output;
};

Outcome run_shell(const std::string& command, const fs::path& folder) {
    const auto log = folder / "output.txt";
    const std::string whole =
        "cd '" + folder.string() + "' && ( " + command + " ) >'" + log.string() + "' 2>&1 </dev/null";
    const int raw = std::system(whole.c_str()); // NOLINT: the commands are the repository's own
    return {WIFEXITED(raw) ? WEXITSTATUS(raw) : 128, read_file(log)};
}

TEST(Documents, EachElementHasADocBlockWithALaunchLineThatUsesIt) {
    const auto sources = element_sources();
    ASSERT_FALSE(sources.empty());
    for (const auto& source : sources) {
        const auto name = source.stem().string();
        const auto lines = lines_of_source(source);
        ASSERT_FALSE(lines.empty()) << source << " has no launch line between |[ and ]|";
        EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [&](const Line& l) {
            return l.command.find(name) != std::string::npos;
        })) << source;
        const auto text = read_file(source);
        EXPECT_NE(text.find("Latency"), std::string::npos) << source << " does not say its latency";
        EXPECT_NE(text.find("Caps"), std::string::npos) << source << " does not say its caps";
        auto factory = adopt(gst_element_factory_find(name.c_str()));
        EXPECT_TRUE(factory) << name << " is listed and not registered";
    }
}

TEST(Documents, ReadmeListsTheElementsThatExist) {
    const auto readme = read_file(root() + "/README.md");
    const std::regex row(R"(\n\| `([a-z0-9]+)` \|)");
    std::set<std::string> listed;
    for (auto i = std::sregex_iterator(readme.begin(), readme.end(), row); i != std::sregex_iterator(); ++i)
        listed.insert((*i)[1]);
    std::set<std::string> built;
    for (const auto& source : element_sources())
        built.insert(source.stem().string());
    // An element that this configuration leaves out (no LibTorch, no DCMTK ...) may be listed; none may be
    // missing.
    for (const auto& name : built)
        EXPECT_TRUE(listed.contains(name)) << name << " is missing in README's list of elements";
    for (const auto& name : listed)
        EXPECT_TRUE(built.contains(name) || test::env("GST_MRI_PARTIAL_BUILD") == "1")
            << name << " is in README's list and was not built";
}

// Every ELEMENT PROPERTY=... of the lines exists: a launch line fails on an unknown one, yet README's prose
// and tables may name `element property` too.
TEST(Documents, PropertiesNamedInLaunchLinesExist) {
    int checked = 0;
    for (const auto& line : all_lines()) {
        for (auto part : split(line.command, '!')) {
            std::stringstream words(part);
            std::string name;
            GstPtr<GstElement> element;
            for (std::string word; words >> word;) {
                if (word == "gst-launch-1.0" || word == "mri-launch" || word[0] == '-')
                    continue;
                const auto equals = word.find('=');
                if (equals == std::string::npos) {
                    if (auto factory = adopt(gst_element_factory_find(word.c_str())))
                        element = adopt(GST_ELEMENT(
                            gst_object_ref_sink(gst_element_factory_create(factory.get(), nullptr))));
                } else if (element) {
                    const auto property = word.substr(0, equals);
                    EXPECT_NE(
                        g_object_class_find_property(G_OBJECT_GET_CLASS(element.get()), property.c_str()),
                        nullptr)
                        << line.origin << ": " << property << " in " << line.command;
                    ++checked;
                }
            }
        }
    }
    EXPECT_GT(checked, 10);
}

// [text](path), ![text](path) and src="path": the file or folder is there.
TEST(Documents, WhatPagesLinkToExists) {
    const std::regex link(R"re(\]\(([^)\s]+)\)|src="([^"]+)")re");
    int checked = 0;
    for (const auto& page : pages()) {
        const std::string text = read_file(root() + "/" + page);
        for (auto i = std::sregex_iterator(text.begin(), text.end(), link); i != std::sregex_iterator();
             ++i) {
            std::string to = (*i)[1].matched ? (*i)[1] : (*i)[2];
            to = to.substr(0, to.find('#'));
            if (to.empty() || to.find("://") != std::string::npos)
                continue;
            EXPECT_TRUE(fs::exists(fs::path(root()) / fs::path(page).parent_path() / to))
                << page << ": " << to;
            ++checked;
        }
    }
    EXPECT_GT(checked, 10);
}

class LaunchLine : public ::testing::TestWithParam<Line> {};

TEST_P(LaunchLine, Runs) {
    const auto& line = GetParam();
    if (test::env("GST_MRI_SANITIZED") == "1")
        GTEST_SKIP() << "gst-launch-1.0 is not sanitised and cannot load plugins that are";
    test::TempDir folder;
    const std::string data = test::env("GST_MRI_DATA");
    const bool needs_dicom = line.command.find("FOLDER") != std::string::npos ||
                             line.command.find("GST_MRI_DATA") != std::string::npos;
    if (needs_dicom) {
        if (data.empty())
            GTEST_SKIP() << "GST_MRI_DATA does not name a folder with data: " << line.command;
        // A patient of the training set: the held-out one is for the final figures.
        fs::create_directory_symlink(data + "/sunnybrook/SCD0000401", folder.path("FOLDER"));
    }
    if (line.command.find("scan.h5") != std::string::npos ||
        line.command.find("in.h5") != std::string::npos) {
        if (!has_command("ismrmrd_generate_cartesian_shepp_logan"))
            GTEST_SKIP() << "ismrmrd_generate_cartesian_shepp_logan is not installed: " << line.command;
        const auto made = run_shell(
            "ismrmrd_generate_cartesian_shepp_logan -C -r 4 -o scan.h5 && cp scan.h5 in.h5", folder.path());
        ASSERT_EQ(made.status, 0) << made.output;
    }
    if (line.command.find("mricrnn") != std::string::npos) {
        if (data.empty())
            GTEST_SKIP() << "GST_MRI_DATA does not name a folder with data: " << line.command;
        fs::create_symlink(data + "/crnn/crnn_mri_d5_c5.pth", folder.path("FILE"));
    } else if (line.command.find("mritorch") != std::string::npos) {
        const auto made = run_shell("mri-weights convert '" + root() +
                                        "/models/weights/unet.safetensors' net.pt && mv net.pt FILE && mv "
                                        "net.pt.modelinfo FILE.modelinfo",
                                    folder.path());
        ASSERT_EQ(made.status, 0) << made.output;
    } else if (line.command.find("mriunet") != std::string::npos) {
        const auto weights = root() + "/models/weights/unet.safetensors";
        ASSERT_TRUE(fs::exists(weights));
        fs::create_symlink(weights, folder.path("FILE"));
    }
    std::string command = line.command;
    if (command.find("videosink") != std::string::npos ||
        command.find("mridisplaysink") != std::string::npos) {
        if (!has_command("xvfb-run"))
            GTEST_SKIP() << "xvfb-run is not installed: " << line.command;
        command = "xvfb-run -a " + command;
    }
    const auto run = run_shell("timeout 240 " + command, folder.path());
    EXPECT_EQ(run.status, 0) << line.origin << ": " << line.command << "\n" << run.output;
    EXPECT_EQ(run.output.find("CRITICAL"), std::string::npos) << run.output;
}

INSTANTIATE_TEST_SUITE_P(All, LaunchLine, ::testing::ValuesIn(all_lines()), [](const auto& info) {
    return std::to_string(info.index) + "_" +
           std::regex_replace(info.param.origin, std::regex("[^A-Za-z0-9]"), "_");
});

} // namespace
