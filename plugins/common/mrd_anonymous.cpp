// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/mrd_anonymous.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <array>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <memory>
#include <string_view>
#include <vector>

namespace mri {

namespace {

constexpr std::size_t most_bytes = 4 << 20;

/// Elements of MRD's schema, by their names without prefixes.
constexpr std::array<std::string_view, 23> personal{"patientName",
                                                    "patientID",
                                                    "patientBirthdate", // subjectInformation
                                                    "studyDate",
                                                    "studyTime",
                                                    "studyID",
                                                    "accessionNumber",
                                                    "referringPhysicianName", // studyInformation
                                                    "studyDescription",
                                                    "studyInstanceUID",
                                                    "measurementID",
                                                    "seriesDate",
                                                    "seriesTime",
                                                    "seriesInstanceUIDRoot",
                                                    "seriesInstanceUID", // measurementInformation
                                                    "frameOfReferenceUID",
                                                    "referencedImageSequence",
                                                    "measurementDependency",
                                                    "institutionName",
                                                    "stationName",
                                                    "deviceID",
                                                    "deviceSerialNumber", // acquisitionSystemInformation
                                                    "referencedSOPInstanceUID"};

/// Parts of the names of user parameters, in small letters.
constexpr std::array<std::string_view, 12> telling{"patient",   "birth", "physician", "operator",
                                                   "accession", "study", "institut",  "station",
                                                   "serial",    "uid",   "person",    "address"};

std::string_view view(const xmlChar* text) {
    return text ? std::string_view(reinterpret_cast<const char*>(text)) : std::string_view();
}

bool tells(const xmlNode* parameter) {
    for (xmlNode* child = parameter->children; child; child = child->next) {
        if (child->type != XML_ELEMENT_NODE || view(child->name) != "name")
            continue;
        const std::unique_ptr<xmlChar, void (*)(void*)> content(xmlNodeGetContent(child), xmlFree);
        std::string name(view(content.get()));
        std::transform(name.begin(), name.end(), name.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        return std::any_of(telling.begin(), telling.end(),
                           [&](std::string_view part) { return name.find(part) != std::string::npos; });
    }
    return false;
}

/// Whether a node goes: comments too, in which converters leave what they read.
bool goes(const xmlNode* node) {
    if (node->type == XML_COMMENT_NODE || node->type == XML_PI_NODE || node->type == XML_DTD_NODE)
        return true;
    if (node->type != XML_ELEMENT_NODE)
        return false;
    const auto name = view(node->name);
    return std::find(personal.begin(), personal.end(), name) != personal.end() ||
           (name.starts_with("userParameter") && name != "userParameters" && tells(node));
}

} // namespace

std::string mrd_anonymized(const std::string& xml) {
    const auto refuse = [](const std::string& why) {
        throw Error(Errc::decode, "The MRD header cannot be made anonymous: " + why);
    };
    if (xml.size() > most_bytes)
        refuse("it is larger than 4 MiB");
    const std::unique_ptr<xmlDoc, void (*)(xmlDoc*)> document(
        xmlReadMemory(xml.data(), static_cast<int>(xml.size()), "header.xml", nullptr,
                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING),
        xmlFreeDoc);
    if (!document)
        refuse("it is no well-formed XML");
    bool same = true;
    std::vector<xmlNode*> open{document->children};
    while (!open.empty()) {
        xmlNode* node = open.back();
        open.pop_back();
        while (node) {
            xmlNode* const next = node->next;
            if (goes(node)) {
                same = false;
                xmlUnlinkNode(node);
                if (node->type == XML_DTD_NODE)
                    xmlFreeDtd(reinterpret_cast<xmlDtd*>(node));
                else
                    xmlFreeNode(node);
            } else if (node->type == XML_ELEMENT_NODE && node->children) {
                open.push_back(node->children);
            }
            node = next;
        }
    }
    if (same)
        return xml;
    xmlChar* text = nullptr;
    int size = 0;
    xmlDocDumpMemoryEnc(document.get(), &text, &size, "UTF-8");
    const std::unique_ptr<xmlChar, void (*)(void*)> owner(text, xmlFree);
    if (!text)
        refuse("there is no memory for it");
    return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(size)};
}

} // namespace mri
