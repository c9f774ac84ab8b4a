// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/provenance.hpp"

#include <fmt/format.h>

namespace mri {

namespace {

constexpr const char* event_name = "mri-provenance";
constexpr const char* use = "research output, not for diagnosis";
constexpr char separator = '\n'; // of networks in the event: no file's name of theirs has it

} // namespace

GstPtr<GstEvent> new_provenance_event(const Provenance& provenance) {
    std::string networks;
    for (const auto& network : provenance.networks)
        networks += (networks.empty() ? "" : std::string(1, separator)) + network;
    return adopt(gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM_STICKY,
                                      gst_structure_new(event_name, "acceleration", G_TYPE_DOUBLE,
                                                        provenance.acceleration, "networks", G_TYPE_STRING,
                                                        networks.c_str(), nullptr)));
}

std::optional<Provenance> provenance_of(GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_CUSTOM_DOWNSTREAM_STICKY || !gst_event_has_name(event, event_name))
        return std::nullopt;
    const GstStructure* structure = gst_event_get_structure(event);
    Provenance provenance;
    gst_structure_get_double(structure, "acceleration", &provenance.acceleration);
    const gchar* text = gst_structure_get_string(structure, "networks");
    std::string rest = text ? text : "";
    while (!rest.empty()) {
        const auto end = rest.find(separator);
        provenance.networks.push_back(rest.substr(0, end));
        rest = end == std::string::npos ? std::string() : rest.substr(end + 1);
    }
    return provenance;
}

Provenance provenance_at(GstPad* pad) {
    for (guint i = 0;; ++i) {
        const auto event = adopt(gst_pad_get_sticky_event(pad, GST_EVENT_CUSTOM_DOWNSTREAM_STICKY, i));
        if (!event)
            return {};
        if (auto provenance = provenance_of(event.get()))
            return *std::move(provenance);
    }
}

std::string pipeline_name(GstElement* element) {
    auto top = retain(GST_OBJECT(element));
    while (auto parent = adopt(gst_object_get_parent(top.get())))
        top = std::move(parent);
    if (top.get() == GST_OBJECT(element))
        return {};
    const GString_ptr name(gst_object_get_name(top.get()));
    return name ? name.get() : "";
}

std::vector<std::pair<std::string, std::string>> provenance_attributes(const Provenance& provenance,
                                                                       GstElement* element) {
    std::vector<std::pair<std::string, std::string>> values{{"GstMriVersion", GST_MRI_VERSION}};
    if (auto name = pipeline_name(element); !name.empty())
        values.emplace_back("GstMriPipeline", std::move(name));
    for (const auto& network : provenance.networks)
        values.emplace_back("GstMriNetwork", network);
    if (provenance.acceleration > 0)
        values.emplace_back("GstMriAcceleration", fmt::format("{:.3g}", provenance.acceleration));
    values.emplace_back("GstMriUse", use);
    return values;
}

std::string provenance_text(const Provenance& provenance, GstElement* element) {
    std::string text = "gst-mri " GST_MRI_VERSION;
    if (const auto name = pipeline_name(element); !name.empty())
        text += "; pipeline " + name;
    for (const auto& network : provenance.networks)
        text += "; network " + network;
    if (provenance.acceleration > 0)
        text += fmt::format("; acceleration {:.3g}", provenance.acceleration);
    return text + "; " + use;
}

} // namespace mri
