// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pipelines/launcher/pipeline_file.hpp"
#include "plugins/math/base/installation.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <set>
#include <sstream>
#include <yaml-cpp/yaml.h>

namespace mri {

namespace fs = std::filesystem;

namespace {

constexpr std::uintmax_t max_file_bytes = 1 << 20;

struct TypeName {
    ParameterType type;
    const char* name;
};
constexpr TypeName type_names[] = {
    {ParameterType::string, "string"}, {ParameterType::integer, "int"},       {ParameterType::real, "float"},
    {ParameterType::boolean, "bool"},  {ParameterType::fraction, "fraction"}, {ParameterType::choice, "enum"},
    {ParameterType::file, "file"},     {ParameterType::output, "output"},
};

std::string place(const fs::path& path, const YAML::Mark& mark) {
    std::string text = path.string();
    if (!mark.is_null())
        text += fmt::format(":{}", mark.line + 1);
    return text;
}

[[noreturn]] void fail(const fs::path& path, const YAML::Mark& mark, const std::string& what) {
    throw Error(Errc::decode, place(path, mark) + ": " + what);
}

bool is_name(std::string_view text) {
    const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
    return !text.empty() && letter(text[0]) && std::all_of(text.begin(), text.end(), [&](char c) {
        return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
}

template <class T>
std::optional<T> parse_number(const std::string& text) {
    T value{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || stop != end)
        return std::nullopt;
    return value;
}

std::string number(double value) {
    std::ostringstream text;
    text << value;
    return text.str();
}

void check_range(const Parameter& p, double value, const std::string& shown) {
    if ((p.low && value < *p.low) || (p.high && value > *p.high))
        throw Error(Errc::settings, p.name + ": " + shown + " is outside " +
                                        (p.low ? number(*p.low) : "-inf") + " to " +
                                        (p.high ? number(*p.high) : "inf"));
}

/// The value in the form that goes into the text, unquoted; throws Errc::settings.
std::string checked_value(const Parameter& p, const std::string& value) {
    const auto refuse = [&](const std::string& wanted) {
        throw Error(Errc::settings, p.name + ": '" + value + "' is not " + wanted);
    };
    switch (p.type) {
    case ParameterType::string:
    case ParameterType::file:
    case ParameterType::output:
        return value;
    case ParameterType::integer: {
        const auto v = parse_number<std::int64_t>(value);
        if (!v)
            refuse("a whole number");
        check_range(p, static_cast<double>(*v), value);
        return std::to_string(*v);
    }
    case ParameterType::real: {
        const auto v = parse_number<double>(value);
        if (!v || !std::isfinite(*v))
            refuse("a number");
        check_range(p, *v, value);
        return value;
    }
    case ParameterType::boolean:
        if (value == "true" || value == "yes" || value == "1")
            return "true";
        if (value == "false" || value == "no" || value == "0")
            return "false";
        refuse("true or false");
        break;
    case ParameterType::fraction: {
        const auto slash = value.find('/');
        const auto num = parse_number<std::int32_t>(value.substr(0, slash));
        const auto den = slash == std::string::npos ? std::optional<std::int32_t>(1)
                                                    : parse_number<std::int32_t>(value.substr(slash + 1));
        if (!num || !den || *den <= 0 || *num < 0)
            refuse("a fraction like 30/1");
        return fmt::format("{}/{}", *num, *den);
    }
    case ParameterType::choice: {
        std::string all;
        for (const auto& [key, text] : p.choices) {
            if (key == value)
                return text;
            all += (all.empty() ? "" : ", ") + key;
        }
        refuse("one of " + all);
        break;
    }
    }
    throw Error(Errc::failed, "a parameter has no type");
}

bool is_text(ParameterType type) {
    return type == ParameterType::string || type == ParameterType::file || type == ParameterType::output;
}

/// One piece of a pipeline's text: literal characters or a parameter.
struct Piece {
    std::string text; // literal text, or the parameter's name
    bool parameter = false;
    bool quoted = false;   // inside "..." or '...'
    bool whole = false;    // stands alone between = and a space
    bool numbered = false; // ${name:numbered}
};

/// Splits at ${name}; `$${` is a literal `${`. Throws Errc::decode without a place.
std::vector<Piece> split(const std::string& text) {
    std::vector<Piece> pieces;
    std::string literal;
    char quote = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (text.compare(i, 3, "$${") == 0) {
            literal += "${";
            i += 2;
        } else if (text.compare(i, 2, "${") == 0) {
            const auto end = text.find('}', i);
            std::string name = end == std::string::npos ? "" : text.substr(i + 2, end - i - 2);
            static constexpr std::string_view numbered = ":numbered";
            const bool each_frame = name.ends_with(numbered);
            if (each_frame)
                name.resize(name.size() - numbered.size());
            if (!is_name(name))
                throw Error(Errc::decode, "'" + text.substr(i, 20) +
                                              "' does not name a parameter (a literal ${ is written $${)");
            if (!literal.empty())
                pieces.push_back({std::exchange(literal, {}), false, false, false, false});
            const auto before = text.find_last_not_of(" \t\n", i == 0 ? 0 : i - 1);
            const bool starts = i > 0 && before != std::string::npos && text[before] == '=';
            const bool ends = end + 1 == text.size() ||
                              std::string_view(" \t\n").find(text[end + 1]) != std::string_view::npos;
            pieces.push_back({name, true, quote != 0, starts && ends, each_frame});
            i = end;
        } else {
            if (c == '\\' && i + 1 < text.size()) {
                literal += c;
                literal += text[++i];
                continue;
            }
            if (quote == 0 && (c == '"' || c == '\''))
                quote = c;
            else if (c == quote)
                quote = 0;
            literal += c;
        }
    }
    if (!literal.empty())
        pieces.push_back({literal, false, false, false, false});
    return pieces;
}

} // namespace

const char* to_string(ParameterType type) noexcept {
    for (const auto& row : type_names)
        if (row.type == type)
            return row.name;
    return "?";
}

namespace {

bool valid_utf8(std::string_view s) {
    for (std::size_t i = 0; i < s.size();) {
        const auto c = static_cast<unsigned char>(s[i]);
        const std::size_t length = c < 0x80         ? 1
                                   : (c >> 5) == 6  ? 2
                                   : (c >> 4) == 14 ? 3
                                   : (c >> 3) == 30 ? 4
                                                    : 0;
        if (length == 0 || i + length > s.size())
            return false;
        for (std::size_t k = 1; k < length; ++k)
            if ((static_cast<unsigned char>(s[i + k]) >> 6) != 2)
                return false;
        i += length;
    }
    return true;
}

/// Escapes for the parser of pipelines, which takes a backslash away before any character and then ends the
/// word only at a space. Quotes would not do: its pattern for them knows no backslash at their end.
std::string escape(std::string_view value) {
    static constexpr std::string_view plain = "_./:+,-@%=";
    std::string text;
    for (const char c : value) {
        const auto u = static_cast<unsigned char>(c);
        if (u < 0x20 || u == 0x7f)
            throw Error(Errc::settings, "a value cannot hold line breaks or other control characters");
        const bool word =
            (u >= '0' && u <= '9') || (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u >= 0x80;
        if (!word && plain.find(c) == std::string_view::npos)
            text += '\\';
        text += c;
    }
    return text;
}

} // namespace

std::string quote_value(std::string_view value) {
    if (!valid_utf8(value))
        throw Error(Errc::settings, "a value is not valid UTF-8");
    if (value.empty())
        return "\"\"";
    // A string that begins with a quote is unwrapped once more when it becomes a GValue: wrap it as that step
    // wants it. One that ends in a backslash needs the same: the parser would take the space after it as
    // escaped.
    if (value.front() != '"' && value.back() != '\\')
        return escape(value);
    std::string wrapped = "\"";
    for (const char c : value) {
        const auto u = static_cast<unsigned char>(c);
        if ((u >= '0' && u <= '9') || (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z')) {
            wrapped += c;
        } else if (u < 0x80) {
            wrapped += '\\';
            wrapped += c;
        } else {
            for (int shift = 6; shift >= 0; shift -= 3) {
                if (shift == 6)
                    wrapped += '\\';
                wrapped += static_cast<char>('0' + ((u >> shift) & 7));
            }
        }
    }
    wrapped += '"';
    return escape(wrapped);
}

const Parameter* PipelineFile::find(std::string_view parameter) const noexcept {
    const auto it = std::find_if(parameters.begin(), parameters.end(),
                                 [&](const auto& p) { return p.name == parameter; });
    return it == parameters.end() ? nullptr : &*it;
}

namespace {

std::string scalar(const fs::path& path, const YAML::Node& node, const char* what) {
    if (!node.IsScalar())
        fail(path, node.Mark(), std::string(what) + " must be a single value");
    return node.Scalar();
}

std::string listed(const auto& names) {
    std::string text;
    for (const auto& name : names)
        text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
}

void only_keys(const fs::path& path, const YAML::Node& map, std::initializer_list<std::string_view> known) {
    std::set<std::string> seen;
    for (const auto& entry : map) {
        const std::string key = scalar(path, entry.first, "a key");
        if (std::find(known.begin(), known.end(), key) == known.end())
            fail(path, entry.first.Mark(), "unknown key '" + key + "', not one of " + listed(known));
        if (!seen.insert(key).second)
            fail(path, entry.first.Mark(), "'" + key + "' stands twice");
    }
}

std::string required(const fs::path& path, const YAML::Node& map, const char* key) {
    const YAML::Node node = map[key];
    if (!node || !node.IsScalar() || node.Scalar().find_first_not_of(" \t\n") == std::string::npos)
        fail(path, map.Mark(), std::string("'") + key + "' is missing");
    return node.Scalar();
}

/// `suffixes` of an enum: a map from choices to an ending, or to a list of endings.
void read_suffixes(const fs::path& path, const YAML::Node& node, Parameter& p) {
    const YAML::Node suffixes = node["suffixes"];
    if (!suffixes)
        return;
    if (p.type != ParameterType::choice || !suffixes.IsMap())
        fail(path, suffixes.Mark(), p.name + ": suffixes are a map of an enum's choices");
    for (const auto& entry : suffixes) {
        const std::string choice = scalar(path, entry.first, "a choice");
        if (std::none_of(p.choices.begin(), p.choices.end(),
                         [&](const auto& c) { return c.first == choice; }))
            fail(path, entry.first.Mark(),
                 p.name + ": suffixes name '" + choice + "', which is not a choice");
        const auto add = [&](const YAML::Node& ending) {
            const std::string text = scalar(path, ending, "an ending");
            if (text.empty() || std::any_of(p.suffixes.begin(), p.suffixes.end(),
                                            [&](const auto& s) { return s.second == text; }))
                fail(path, ending.Mark(), p.name + ": the ending '" + text + "' is empty or stands twice");
            p.suffixes.emplace_back(choice, text);
        };
        if (entry.second.IsSequence())
            for (const auto& ending : entry.second)
                add(ending);
        else
            add(entry.second);
    }
}

Parameter read_parameter(const fs::path& path, const YAML::Node& key, const YAML::Node& node) {
    Parameter p;
    p.name = scalar(path, key, "a parameter's name");
    if (!is_name(p.name))
        fail(path, key.Mark(), "'" + p.name + "' is no name for a parameter (a-z, 0-9, - and _)");
    if (!node.IsMap())
        fail(path, key.Mark(), p.name + " must have a type and a help text");
    only_keys(path, node,
              {"type", "default", "help", "min", "max", "choices", "suffixes", "format", "replace"});
    p.help = required(path, node, "help");

    const std::string type = required(path, node, "type");
    const auto row = std::find_if(std::begin(type_names), std::end(type_names),
                                  [&](const auto& r) { return type == r.name; });
    if (row == std::end(type_names)) {
        std::vector<std::string> known;
        for (const auto& r : type_names)
            known.emplace_back(r.name);
        fail(path, node["type"].Mark(),
             p.name + ": unknown type '" + type + "', not one of " + listed(known));
    }
    p.type = row->type;

    for (const auto& [name, limit] : {std::pair{"min", &p.low}, std::pair{"max", &p.high}}) {
        const YAML::Node given = node[name];
        if (!given)
            continue;
        *limit = parse_number<double>(scalar(path, given, name));
        if (!*limit || (p.type != ParameterType::integer && p.type != ParameterType::real))
            fail(path, given.Mark(),
                 p.name + ": " + name + " must be a number, and belongs to int and float");
    }

    const YAML::Node choices = node["choices"];
    if ((p.type == ParameterType::choice) != (choices && choices.size() > 0))
        fail(path, node.Mark(), p.name + ": choices belong to an enum, and an enum needs them");
    if (choices && choices.IsSequence()) {
        for (const auto& choice : choices) {
            const std::string text = scalar(path, choice, "a choice");
            p.choices.emplace_back(text, text);
        }
    } else if (choices && choices.IsMap()) {
        for (const auto& choice : choices)
            p.choices.emplace_back(scalar(path, choice.first, "a choice"),
                                   scalar(path, choice.second, "a choice"));
    } else if (choices) {
        fail(path, choices.Mark(), p.name + ": choices must be a list or a map");
    }

    read_suffixes(path, node, p);
    for (const auto& [name, text] : {std::pair{"format", &p.format}, std::pair{"replace", &p.replace}}) {
        const YAML::Node given = node[name];
        if (!given)
            continue;
        *text = scalar(path, given, name);
        if (p.type != ParameterType::output)
            fail(path, given.Mark(), p.name + ": " + name + " belongs to an output");
    }

    if (const YAML::Node preset = node["default"]) {
        p.preset = preset.IsNull() ? std::string() : scalar(path, preset, "a default");
        try {
            checked_value(p, *p.preset);
        } catch (const Error& error) {
            fail(path, preset.Mark(), std::string("default of ") + error.what());
        }
    }
    return p;
}

/// Whether the choices of `from` name `target`, directly or through other enums than those `seen`.
bool leads_back(const PipelineFile& file, const Parameter& from, const std::string& target,
                std::set<std::string>& seen) {
    for (const auto& choice : from.choices)
        for (const auto& piece : split(choice.second)) {
            const Parameter* p = piece.parameter ? file.find(piece.text) : nullptr;
            if (p &&
                (p->name == target || (seen.insert(p->name).second && leads_back(file, *p, target, seen))))
                return true;
        }
    return false;
}

PipelineFile read_file(const YAML::Node& root, const fs::path& path) {
    if (!root.IsMap())
        fail(path, root.Mark(), "this is not a pipeline file (name, description, parameters, pipeline)");
    only_keys(path, root, {"name", "description", "parameters", "pipeline"});

    PipelineFile file;
    file.path = path;
    file.name = required(path, root, "name");
    file.description = required(path, root, "description");
    file.text = required(path, root, "pipeline");
    if (file.name != path.stem().string())
        fail(path, root["name"].Mark(), "the name '" + file.name + "' is not that of the file");

    if (const YAML::Node parameters = root["parameters"]; parameters && !parameters.IsNull()) {
        if (!parameters.IsMap())
            fail(path, parameters.Mark(), "parameters must be a map of names");
        for (const auto& entry : parameters) {
            file.parameters.push_back(read_parameter(path, entry.first, entry.second));
            const auto& name = file.parameters.back().name;
            if (file.find(name) != &file.parameters.back())
                fail(path, entry.first.Mark(), "parameter '" + name + "' stands twice");
        }
    }

    const YAML::Mark mark = root["pipeline"].Mark();
    std::set<std::string> used;
    std::vector<Piece> pieces;
    try {
        pieces = split(file.text);
        // Choices are pieces of pipeline and may name parameters themselves.
        for (const auto& p : file.parameters)
            for (const auto& choice : p.choices)
                for (auto& piece : split(choice.second))
                    pieces.push_back(piece);
    } catch (const Error& error) {
        fail(path, mark, error.what());
    }
    for (const auto& piece : pieces) {
        if (!piece.parameter)
            continue;
        const Parameter* p = file.find(piece.text);
        if (!p)
            fail(path, mark, "the pipeline uses ${" + piece.text + "}, which is not among the parameters");
        if (piece.quoted && is_text(p->type))
            fail(path, mark, "${" + piece.text + "} is quoted by itself: leave out the quotes around it");
        used.insert(piece.text);
    }
    for (const auto& p : file.parameters) {
        const Parameter* format = file.find(p.format);
        if (!p.format.empty() && (!format || format->suffixes.empty()))
            fail(path, mark, p.name + ": format names '" + p.format + "', which is no enum with suffixes");
        const Parameter* replace = file.find(p.replace);
        if (!p.replace.empty() && (!replace || replace->type != ParameterType::boolean))
            fail(path, mark, p.name + ": replace names '" + p.replace + "', which is no bool");
        used.insert(p.replace);
    }
    for (const auto& piece : pieces)
        if (piece.numbered && file.find(piece.text)->type != ParameterType::output)
            fail(path, mark, "${" + piece.text + ":numbered} belongs to an output");
    for (const auto& p : file.parameters) {
        if (!used.contains(p.name))
            fail(path, mark, "parameter '" + p.name + "' is not used in the pipeline");
        std::set<std::string> seen;
        if (leads_back(file, p, p.name, seen))
            fail(path, mark, "the choices of '" + p.name + "' lead back to themselves");
    }
    return file;
}

} // namespace

PipelineFile PipelineFile::parse(const std::string& yaml, const fs::path& path) {
    try {
        return read_file(YAML::Load(yaml), path);
    } catch (const YAML::Exception& error) {
        fail(path, error.mark, error.msg);
    }
}

PipelineFile PipelineFile::load(const fs::path& path) {
    std::error_code code;
    const auto status = fs::status(path, code);
    if (!fs::exists(status))
        throw Error(Errc::not_found, path.string() + ": there is no such file");
    if (!fs::is_regular_file(status) || fs::file_size(path, code) > max_file_bytes || code)
        throw Error(Errc::open_read, path.string() + ": this is not a pipeline file");
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    if (!in || !text)
        throw Error(Errc::open_read, path.string() + ": cannot be read");
    return parse(text.str(), path);
}

namespace {

/// Whether a path ends in `suffix`, in letters of either case.
bool ends_in(std::string_view path, std::string_view suffix) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return path.size() >= suffix.size() &&
           std::equal(suffix.begin(), suffix.end(), path.end() - static_cast<std::ptrdiff_t>(suffix.size()),
                      [&](char a, char b) { return lower(a) == lower(b); });
}

/// The longest ending of an enum that a path has, with its choice; nullptr where it has none.
const std::pair<std::string, std::string>* ending_of(const Parameter& format, std::string_view path) {
    const std::pair<std::string, std::string>* found = nullptr;
    for (const auto& row : format.suffixes)
        if (ends_in(path, row.second) && (!found || row.second.size() > found->second.size()))
            found = &row;
    return found;
}

} // namespace

std::string numbered_path(const std::string& path) {
    const auto name = path.find_last_of('/') + 1; // 0 where there is none
    const auto dot = path.find_last_of('.');
    const std::size_t end = dot == std::string::npos || dot <= name ? path.size() : dot;
    std::string text;
    for (std::size_t i = 0; i <= path.size(); ++i) {
        if (i == end)
            text += "-%05d";
        if (i < path.size())
            text += path[i] == '%' ? std::string("%%") : std::string(1, path[i]);
    }
    return text;
}

std::map<std::string, std::string>
PipelineFile::with_formats(std::map<std::string, std::string> values) const {
    for (const auto& p : parameters) {
        if (p.format.empty())
            continue;
        const Parameter& format = *find(p.format);
        const auto given = values.find(p.name);
        const auto chosen = values.find(format.name);
        if (given == values.end()) {
            const std::string choice = chosen != values.end() ? chosen->second : format.preset.value_or("");
            const auto row = std::find_if(format.suffixes.begin(), format.suffixes.end(),
                                          [&](const auto& r) { return r.first == choice; });
            if (p.preset && row != format.suffixes.end())
                values[p.name] = *p.preset + row->second;
            continue;
        }
        const std::string& path = given->second;
        const auto* ending = ending_of(format, path);
        std::string known;
        for (const auto& row : format.suffixes)
            known += (known.empty() ? "" : ", ") + row.second + " (" + row.first + ")";
        if (chosen != values.end()) {
            if (ending && ending->first != chosen->second)
                throw Error(Errc::settings,
                            fmt::format("{}: the name '{}' is that of {}={}, not of {}={}; endings: {}",
                                        p.name, path, format.name, ending->first, format.name, chosen->second,
                                        known));
        } else if (ending) {
            values[format.name] = ending->first;
        } else if (path.ends_with('/') || fs::path(path).has_extension()) {
            throw Error(Errc::settings,
                        fmt::format("{}: the name '{}' tells no format; endings: {}. With {} given it may "
                                    "have another",
                                    p.name, path, known, format.name));
        }
    }
    return values;
}

std::string PipelineFile::expand(const std::map<std::string, std::string>& values) const {
    std::vector<OutputPath> written;
    return fill(values, written);
}

std::vector<OutputPath> PipelineFile::outputs(const std::map<std::string, std::string>& values) const {
    std::vector<OutputPath> written;
    fill(values, written);
    return written;
}

std::string PipelineFile::fill(const std::map<std::string, std::string>& given,
                               std::vector<OutputPath>& written) const {
    for (const auto& [key, value] : given) {
        if (find(key))
            continue;
        std::string known;
        for (const auto& p : parameters)
            known += (known.empty() ? "" : ", ") + p.name;
        throw Error(Errc::settings, name + " has no parameter '" + key + "'" +
                                        (known.empty() ? std::string() : "; it has " + known));
    }
    const auto values = with_formats(given);
    const auto value_of = [&](const Parameter& p) -> std::string {
        if (const auto found = values.find(p.name); found != values.end())
            return checked_value(p, found->second);
        if (p.preset)
            return checked_value(p, *p.preset);
        throw Error(Errc::settings, name + " needs a value for '" + p.name + "': " + p.help);
    };
    // Every parameter must have its value, also one that only another choice would use.
    for (const auto& p : parameters)
        value_of(p);

    // Choices that name others can make a few lines as long as they like; a piece without text counts too.
    constexpr std::size_t longest = 1 << 20;
    std::size_t length = 0;
    const auto filled = [&](const auto& self, const std::string& source) -> std::string {
        std::string result;
        for (const auto& piece : split(source)) {
            length += std::max<std::size_t>(piece.text.size(), 1);
            if (length > longest)
                throw Error(Errc::settings,
                            fmt::format("{}: the pipeline's text is longer than {} bytes, because "
                                        "choices name others again and again",
                                        name, longest));
            if (!piece.parameter) {
                result += piece.text;
                continue;
            }
            const Parameter& p = *find(piece.text);
            std::string value = value_of(p);
            if (p.type == ParameterType::output) {
                const Parameter* replace = find(p.replace);
                written.push_back({p.name, value, piece.numbered,
                                   replace && value_of(*replace) == "false" ? p.replace : ""});
                if (piece.numbered)
                    value = numbered_path(value);
            }
            try {
                if (p.type == ParameterType::choice)
                    result += self(self, value);
                else if (!is_text(p.type))
                    result += value;
                else if (piece.whole)
                    result += quote_value(value);
                else if (value.starts_with('"') || value.ends_with('\\'))
                    throw Error(Errc::settings,
                                "a value cannot begin with a quote or end in a backslash here");
                else if (!value.empty())
                    result += quote_value(value);
            } catch (const Error& error) {
                if (length > longest)
                    throw;
                throw Error(Errc::settings, p.name + ": " + error.what());
            }
        }
        return result;
    };
    return filled(filled, text);
}

std::string PipelineFile::expand_sample(std::map<std::string, std::string> values) const {
    for (const auto& p : parameters) {
        if (p.preset || values.contains(p.name))
            continue;
        switch (p.type) {
        case ParameterType::string:
        case ParameterType::file:
        case ParameterType::output:
            values[p.name] = "sample";
            break;
        case ParameterType::integer:
        case ParameterType::real:
            values[p.name] = number(p.low ? std::ceil(*p.low) : p.high ? std::floor(*p.high) : 1);
            break;
        case ParameterType::boolean:
            values[p.name] = "true";
            break;
        case ParameterType::fraction:
            values[p.name] = "1/1";
            break;
        case ParameterType::choice:
            values[p.name] = p.choices.front().first;
            break;
        }
    }
    return expand(values);
}

std::vector<fs::path> pipeline_folders() {
    std::vector<fs::path> folders;
    if (const char* given = std::getenv("GST_MRI_PIPELINES_PATH")) {
        std::istringstream list(given);
        for (std::string folder; std::getline(list, folder, ':');)
            if (!folder.empty())
                folders.emplace_back(folder);
    }
    folders.push_back(installation::pipelines());
    return folders;
}

std::map<std::string, fs::path> list_pipelines() {
    std::map<std::string, fs::path> found;
    for (const auto& folder : pipeline_folders()) {
        std::error_code code;
        for (const auto& entry : fs::directory_iterator(folder, code))
            if (entry.path().extension() == ".yaml")
                found.emplace(entry.path().stem().string(), entry.path());
    }
    return found;
}

fs::path find_pipeline(const std::string& name) {
    if (name.find('/') != std::string::npos || name.ends_with(".yaml")) {
        std::error_code code;
        if (!fs::exists(name, code))
            throw Error(Errc::not_found, name + ": there is no such file");
        return name;
    }
    const auto all = list_pipelines();
    if (const auto it = all.find(name); it != all.end())
        return it->second;
    std::string folders;
    for (const auto& folder : pipeline_folders())
        folders += (folders.empty() ? "" : ", ") + folder.string();
    throw Error(Errc::not_found, "There is no pipeline '" + name + "' in " + folders);
}

} // namespace mri
