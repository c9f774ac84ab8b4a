// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/mrd_header.hpp"

#include "plugins/common/gst_ptr.hpp"

#include <charconv>
#include <cstring>
#include <string_view>
#include <vector>

namespace mri {
namespace {

struct Walk {
    std::vector<std::string> path; // of the open elements, without namespace prefixes
    int encodings = 0;
    HeaderLimits limits;
};

void open_element(GMarkupParseContext*, const gchar* name, const gchar**, const gchar**, gpointer data,
                  GError**) {
    auto& walk = *static_cast<Walk*>(data);
    const char* colon = std::strrchr(name, ':');
    walk.path.emplace_back(colon ? colon + 1 : name);
    if (walk.path.size() == 2 && walk.path.back() == "encoding")
        ++walk.encodings;
}

void close_element(GMarkupParseContext*, const gchar*, gpointer data, GError**) {
    static_cast<Walk*>(data)->path.pop_back();
}

void text(GMarkupParseContext*, const gchar* begin, gsize length, gpointer data, GError**) {
    auto& walk = *static_cast<Walk*>(data);
    const auto& path = walk.path; // ismrmrdHeader / encoding / encodingLimits / repetition / maximum
    if (path.size() == 3 && path[1] == "acquisitionSystemInformation" &&
        path[2] == "relativeReceiverNoiseBandwidth") {
        const double value = g_ascii_strtod(std::string(begin, length).c_str(), nullptr);
        walk.limits.noise_bandwidth = value > 0 && value < 1e3 ? value : 0;
        return;
    }
    if (walk.encodings != 1 || path.size() != 5 || path[2] != "encodingLimits" || path[4] != "maximum")
        return;
    std::string_view digits(begin, length);
    while (!digits.empty() && g_ascii_isspace(digits.front()))
        digits.remove_prefix(1);
    int value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (path[3] == "slice")
        walk.limits.slice = value;
    else if (path[3] == "phase")
        walk.limits.phase = value;
    else if (path[3] == "repetition")
        walk.limits.repetition = value;
}

} // namespace

HeaderLimits parse_header_limits(const std::string& xml) {
    const GMarkupParser parser{open_element, close_element, text, nullptr, nullptr};
    Walk walk;
    const std::unique_ptr<GMarkupParseContext, decltype(&g_markup_parse_context_free)> context(
        g_markup_parse_context_new(&parser, G_MARKUP_TREAT_CDATA_AS_TEXT, &walk, nullptr),
        &g_markup_parse_context_free);
    GError* raw = nullptr;
    const bool ok =
        g_markup_parse_context_parse(context.get(), xml.data(), static_cast<gssize>(xml.size()), &raw) &&
        g_markup_parse_context_end_parse(context.get(), &raw);
    const GErrorPtr error(raw);
    if (!ok)
        throw Error(Errc::decode, "The MRD header is no well-formed XML", error ? error->message : "");
    return walk.limits;
}

} // namespace mri
