// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/model_info.hpp"

#include "models/common/intensity.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/text.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

namespace mri {

namespace {

constexpr std::size_t max_text = 1U << 20;

std::string trimmed(const std::string& text) {
    const std::size_t begin = text.find_first_not_of(" \t\r");
    return begin == std::string::npos ? std::string()
                                      : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

using Section = std::map<std::string, std::string>;

class Parser {
  public:
    explicit Parser(const std::string& name) : name_(name) {}

    [[noreturn]] void fail(const std::string& what, Errc code = Errc::decode) const {
        throw Error(code, "the description '" + name_ + "' cannot be used: " + what);
    }

    std::vector<std::pair<std::string, Section>> sections(const std::string& text) const {
        std::vector<std::pair<std::string, Section>> out;
        std::istringstream in(text);
        int number = 0;
        for (std::string raw; std::getline(in, raw);) {
            ++number;
            const std::string line = trimmed(raw);
            if (line.empty() || line.front() == '#')
                continue;
            const std::size_t equals = line.find('=');
            if (line.front() == '[' && line.back() == ']')
                out.emplace_back(line.substr(1, line.size() - 2), Section());
            else if (equals != std::string::npos && equals > 0 && !out.empty())
                out.back().second[trimmed(line.substr(0, equals))] = trimmed(line.substr(equals + 1));
            else
                fail("line " + std::to_string(number) + " is neither [section] nor key=value");
        }
        return out;
    }

    ModelTensor tensor(const std::string& title, const Section& section) const {
        const auto value = [&](const char* key, const std::string& otherwise) {
            const auto it = section.find(key);
            return it == section.end() ? otherwise : it->second;
        };
        ModelTensor out;
        out.name = title;
        out.type = value("type", "");
        static const std::set<std::string> types = {"float16", "bfloat16", "float32", "float64", "complex64"};
        if (!types.contains(out.type))
            fail("tensor '" + title + "' has the type '" + out.type +
                     "'; images go as float16, bfloat16, float32, float64 or complex64",
                 Errc::unsupported);
        if (value("dims-order", "row-major") != "row-major")
            fail("tensor '" + title + "' is not row-major", Errc::unsupported);
        if (section.contains("ranges"))
            fail("tensor '" + title +
                     "' has ranges, which map pixels of 8 bits; images here are not of 8 bits "
                     "(mri-scale says what they are divided by)",
                 Errc::unsupported);
        std::istringstream dims(value("dims", ""));
        for (std::string item; std::getline(dims, item, ',');) {
            item = trimmed(item);
            const auto extent = parse_number<std::int64_t>(item);
            if (!extent || *extent < -1 || *extent == 0 || *extent > 1 << 20)
                fail("tensor '" + title + "' has '" + item + "' among its dims");
            out.dims.push_back(*extent);
        }
        static const std::map<std::size_t, std::string> usual = {
            {2, "HW"}, {3, "CHW"}, {4, "NCHW"}, {5, "NCTHW"}};
        const auto known = usual.find(out.dims.size());
        out.axes = value("mri-axes", known == usual.end() ? "" : known->second);
        const std::set<char> letters(out.axes.begin(), out.axes.end());
        if (out.axes.size() != out.dims.size() || letters.size() != out.axes.size() ||
            out.axes.find_first_not_of("NCTHW") != std::string::npos || !out.has('H') || !out.has('W'))
            fail("tensor '" + title + "' has " + std::to_string(out.dims.size()) + " dims and the axes '" +
                 out.axes + "': each dim needs one letter of N, C, T, H, W, and H and W must be there");
        if (out.extent('N') > 1)
            fail("tensor '" + title + "' wants batches of " + std::to_string(out.extent('N')),
                 Errc::unsupported);
        if (const auto c = out.extent('C'); c != 1 && !(c == 2 && out.type != "complex64"))
            fail("tensor '" + title + "' has " + std::to_string(c) +
                     " channels: images have 1 (magnitude, or complex64) or 2 (real and imaginary part)",
                 Errc::unsupported);
        return out;
    }

  private:
    const std::string& name_;
};

} // namespace

std::int64_t ModelTensor::extent(char axis) const {
    const std::size_t at = axes.find(axis);
    return at == std::string::npos ? 1 : dims[at];
}

std::string ModelTensor::text() const {
    std::string out = type + " ";
    for (std::size_t i = 0; i < dims.size(); ++i)
        out += (i > 0 ? "," : "") + std::to_string(dims[i]);
    return out + " (" + axes + ")";
}

std::optional<int> ModelInfo::frames() const {
    const std::int64_t t = input.extent('T');
    return t > 0 ? std::optional(static_cast<int>(t)) : std::nullopt;
}

ModelInfo parse_model_info(const std::string& text, const std::string& name) {
    const Parser parser(name);
    ModelInfo out;
    bool version = false;
    int inputs = 0;
    int outputs = 0;
    for (const auto& [title, section] : parser.sections(text)) {
        const auto value = [&, &s = section](const char* key) {
            const auto it = s.find(key);
            return it == s.end() ? std::string() : it->second;
        };
        if (title == "modelinfo") {
            version = true;
            if (const std::string v = value("version"); v != "1" && !v.starts_with("1."))
                parser.fail("it is of version '" + v + "', not 1.0", Errc::unsupported);
            continue;
        }
        const std::string direction = value("dir");
        if (direction == "input") {
            ++inputs;
            out.input = parser.tensor(title, section);
            const std::string scale = value("mri-scale");
            if (!scale.empty() && scale != "none" && scale != intensity_name)
                parser.fail("mri-scale is '" + scale + "', not none or " + intensity_name);
            out.scaled = scale == intensity_name;
        } else if (direction == "output") {
            ++outputs;
            out.output = parser.tensor(title, section);
        } else {
            parser.fail("section '" + title + "' has dir='" + direction + "', not input or output");
        }
    }
    if (!version)
        parser.fail("it has no section [modelinfo]");
    if (inputs != 1 || outputs != 1)
        parser.fail("it has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
                        " outputs; images need one of each",
                    inputs > 0 && outputs > 0 ? Errc::unsupported : Errc::decode);
    if (out.output.extent('T') != out.input.extent('T'))
        parser.fail("the input has " + std::to_string(out.input.extent('T')) + " frames and the output " +
                        std::to_string(out.output.extent('T')) +
                        ": one image has to come out for each that goes in",
                    Errc::unsupported);
    return out;
}

ModelInfo read_model_info(const std::string& path) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
        throw Error(Errc::read, "the description '" + path + "' is not a regular file");
    std::ifstream in(path, std::ios::binary);
    if (!in)
        throw Error(Errc::not_found, "there is no description '" + path +
                                         "' of the module's input and output (a .modelinfo file)");
    std::string text(max_text + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (in.bad() || text.size() > max_text)
        throw Error(Errc::read,
                    "the description '" + path + "' cannot be read, or is no text of a few lines");
    return parse_model_info(text, path);
}

} // namespace mri
