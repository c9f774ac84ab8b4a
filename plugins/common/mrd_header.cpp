// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/mrd_header.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/text.hpp"

#include <fmt/format.h>
#include <libxml/parser.h>
#include <libxml/tree.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <new>

namespace mri {

namespace {

constexpr std::size_t max_bytes = std::size_t{4} << 20;
constexpr const char* name_space = "http://www.ismrm.org/ISMRMRD";
constexpr std::array<const char*, 3> axes{"x", "y", "z"};

struct FreeDocument {
    void operator()(xmlDoc* document) const { xmlFreeDoc(document); }
};
using Document = std::unique_ptr<xmlDoc, FreeDocument>;

/// Names of MRD's trajectories.
struct TrajectoryName {
    const char* name;
    Trajectory trajectory;
    bool golden_angle;
};
constexpr TrajectoryName trajectory_names[] = {
    {"epi", Trajectory::cartesian, false},
    {"goldenangle", Trajectory::radial, true},
    {"other", Trajectory::arbitrary, false},
};

// --- reading ----------------------------------------------------------------------------------------------------

std::string_view view(const xmlChar* text) {
    return text ? std::string_view(reinterpret_cast<const char*>(text)) : std::string_view();
}

bool is_element(const xmlNode* node, std::string_view name) {
    return node->type == XML_ELEMENT_NODE && view(node->name) == name; // the name is without its prefix
}

/// The first child element of that name at or after `node`.
const xmlNode* find(const xmlNode* node, std::string_view name) {
    while (node && !is_element(node, name))
        node = node->next;
    return node;
}

/// The element that `path` ("encodedSpace/matrixSize/x") leads to from `parent`; null when there is none.
const xmlNode* child(const xmlNode* parent, std::string_view path) {
    while (parent && !path.empty()) {
        const std::string_view name = path.substr(0, path.find('/'));
        parent = find(parent->children, name);
        path.remove_prefix(std::min(path.size(), name.size() + 1));
    }
    return parent;
}

/// Text of an element without the blanks around it. References to entities count for nothing: the parser has
/// put in the five of XML itself, and no header has others.
std::string text_of(const xmlNode* element) {
    std::string text;
    for (const xmlNode* node = element->children; node; node = node->next)
        if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE)
            text += view(node->content);
    return std::string(trimmed(text));
}

std::optional<double> real(const xmlNode* element) {
    if (!element)
        return std::nullopt;
    std::string text = text_of(element);
    if (text.starts_with('+'))
        text.erase(0, 1);
    const auto value = parse_number<double>(text);
    return value && std::isfinite(*value) ? value : std::nullopt;
}

/// Whole numbers may be written as "64.0".
std::optional<int> whole(const xmlNode* element) {
    const auto value = real(element);
    if (!value || std::abs(*value) > 1e9 || *value != std::floor(*value))
        return std::nullopt;
    return static_cast<int>(*value);
}

/// A matrix size, which a converter that divides lengths writes as "83.9996".
std::optional<int> nearly_whole(const xmlNode* element) {
    const auto value = real(element);
    if (!value || std::abs(*value) > 1e9 || std::abs(*value - std::round(*value)) > 0.01)
        return std::nullopt;
    return static_cast<int>(std::round(*value));
}

/// Reads the elements of one encoding, and keeps account of what is missing.
class EncodingReader {
  public:
    explicit EncodingReader(const xmlNode* element) : element_(element) {}

    MrdEncoding read() {
        space("encodedSpace", out_.encoded);
        if (child(element_, "reconSpace")) {
            space("reconSpace", out_.recon);
        } else {
            out_.recon = out_.encoded;
            out_.readings.push_back(
                "There is no reconSpace: the encodedSpace is reconstructed, oversampling and "
                "all");
        }
        lengths();
        out_.step_1 = limit("kspace_encoding_step_1");
        out_.average = limit("average");
        out_.slice = limit("slice");
        out_.contrast = limit("contrast");
        out_.phase = limit("phase");
        out_.repetition = limit("repetition");
        out_.set = limit("set");
        out_.segment = limit("segment");
        trajectory();
        return std::move(out_);
    }

  private:
    template <class T>
    void demand(const std::string& path, T& to, std::optional<T> (*as)(const xmlNode*)) {
        const xmlNode* element = child(element_, path);
        if (const auto value = as(element)) {
            to = *value;
            return;
        }
        out_.missing.push_back(fmt::format("{}{} (line {})",
                                           (element ? "'" + text_of(element) + "' as " : "no "), path,
                                           xmlGetLineNo(element ? element : element_)));
    }

    void space(const std::string& path, MrdSpace& to) {
        for (std::size_t axis = 0; axis < axes.size(); ++axis) {
            const std::string size = path + "/matrixSize/" + axes[axis];
            demand(size, to.matrix[axis], nearly_whole);
            const xmlNode* element = child(element_, size);
            if (nearly_whole(element) && !whole(element))
                out_.readings.push_back(fmt::format("{} (line {}) is {}, read as {}", size,
                                                    xmlGetLineNo(element), text_of(element),
                                                    to.matrix[axis]));
            demand(path + "/fieldOfView_mm/" + axes[axis], to.fov_mm[axis], real);
        }
    }

    /// Fields of view of other units, and of none.
    void lengths() {
        double largest = 0;
        for (const MrdSpace* space : {&out_.encoded, &out_.recon})
            for (const std::size_t axis : {0, 1})
                largest = std::max(largest, space->fov_mm[axis]);
        if (largest > 0 && largest < 1) {
            out_.readings.push_back(
                fmt::format("fieldOfView_mm is {} at most, read as metres", number_text(largest)));
            for (MrdSpace* space : {&out_.encoded, &out_.recon})
                for (double& fov : space->fov_mm)
                    fov *= fov < 1 ? 1000 : 1;
        }
        for (const std::size_t axis : {0, 1}) {
            double &encoded = out_.encoded.fov_mm[axis], &recon = out_.recon.fov_mm[axis];
            const double pixels = out_.recon.matrix[axis], samples = out_.encoded.matrix[axis];
            const std::string name = std::string("fieldOfView_mm/") + axes[axis];
            if (!(pixels > 0 && samples > 0) || encoded < 0 || recon < 0 || (encoded > 0 && recon > 0))
                continue;
            if (encoded == 0 && recon == 0) {
                recon = pixels;
                encoded = samples;
                out_.readings.push_back(name + " is 0 in both spaces, read as 1 mm for each pixel");
            } else if (encoded == 0) {
                encoded = recon * samples / pixels;
                out_.readings.push_back(
                    fmt::format("{} of the encodedSpace is 0, read as {} mm: the pixels of the "
                                "reconSpace",
                                name, number_text(encoded)));
            } else {
                recon = encoded * pixels / samples;
                out_.readings.push_back(
                    fmt::format("{} of the reconSpace is 0, read as {} mm: the pixels of the "
                                "encodedSpace",
                                name, number_text(recon)));
            }
        }
    }

    std::optional<MrdLimit> limit(const std::string& name) const {
        const xmlNode* element = child(element_, "encodingLimits/" + name);
        if (!element)
            return std::nullopt;
        // Counters have 16 bits.
        const auto counter = [&](const char* bound) {
            const int value = whole(child(element, bound)).value_or(0);
            return value >= 0 && value <= 65535 ? value : 0;
        };
        return MrdLimit{counter("minimum"), counter("maximum"), counter("center")};
    }

    void trajectory() {
        const xmlNode* element = child(element_, "trajectory");
        if (!element) {
            out_.missing.push_back(fmt::format("no trajectory (line {})", xmlGetLineNo(element_)));
            return;
        }
        std::string name = text_of(element);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        out_.trajectory = trajectory_from(name).value_or(Trajectory::arbitrary);
        for (const TrajectoryName& row : trajectory_names)
            if (name == row.name) {
                out_.trajectory = row.trajectory;
                out_.golden_angle = row.golden_angle;
            }
    }

    const xmlNode* element_;
    MrdEncoding out_;
};

Document parse_document(std::string_view xml, const std::string& name) {
    static const bool initialised = [] {
        xmlInitParser();
        return true;
    }();
    static_cast<void>(initialised);
    if (xml.size() > max_bytes)
        throw Error(Errc::decode,
                    fmt::format("{} has {} bytes; the most are {}", name, xml.size(), max_bytes));
    const std::unique_ptr<xmlParserCtxt, decltype(&xmlFreeParserCtxt)> context(xmlNewParserCtxt(),
                                                                               &xmlFreeParserCtxt);
    if (!context)
        throw Error(Errc::no_memory, "No memory to read " + name);
    // Without XML_PARSE_NOENT, _DTDLOAD and _HUGE: no entity is put in, nothing from outside is opened, and the
    // parser's own limits hold.
    Document document(xmlCtxtReadMemory(context.get(), xml.data(), static_cast<int>(xml.size()), nullptr,
                                        nullptr, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING));
    if (document)
        return document;
    std::string detail;
    if (const xmlError* error = xmlCtxtGetLastError(context.get()); error && error->message)
        detail = fmt::format("line {}: {}", error->line, trimmed(error->message));
    throw Error(Errc::decode, name + " does not parse: it is no well-formed XML", detail);
}

// --- writing ----------------------------------------------------------------------------------------------------

/// An element with elements; its name space is the parent's.
class Element {
  public:
    explicit Element(xmlNode* node) : node_(node) {}

    Element add(const char* name) const { return Element(xmlNewChild(node_, nullptr, chars(name), nullptr)); }
    void add(const char* name, const std::string& text) const {
        xmlNewTextChild(node_, nullptr, chars(name), chars(text.c_str()));
    }
    void add(const char* name, int value) const { add(name, std::to_string(value)); }
    void add(const char* name, double value) const { add(name, fixed_text(value)); }
    void add(const char* name, const MrdSpace& space) const {
        const Element element = add(name), matrix = element.add("matrixSize"),
                      fov = element.add("fieldOfView_mm");
        for (std::size_t axis = 0; axis < axes.size(); ++axis) {
            matrix.add(axes[axis], space.matrix[axis]);
            fov.add(axes[axis], space.fov_mm[axis]);
        }
    }
    void add(const char* name, const std::optional<MrdLimit>& limit) const {
        if (!limit)
            return;
        const Element element = add(name);
        element.add("minimum", limit->minimum);
        element.add("maximum", limit->maximum);
        element.add("center", limit->center);
    }

    static const xmlChar* chars(const char* text) { return reinterpret_cast<const xmlChar*>(text); }

  private:
    xmlNode* node_;
};

std::string utf8(xmlDoc* document) {
    xmlChar* memory = nullptr;
    int size = 0;
    xmlDocDumpMemoryEnc(document, &memory, &size, "UTF-8");
    const std::unique_ptr<xmlChar, void (*)(xmlChar*)> owned(memory, [](xmlChar* m) { xmlFree(m); });
    if (!memory)
        throw std::bad_alloc();
    return {reinterpret_cast<const char*>(memory), static_cast<std::size_t>(size)};
}

/// A document in writing.
class Writer {
  public:
    explicit Writer(const char* root) : document_(xmlNewDoc(Element::chars("1.0"))) {
        if (!document_)
            throw std::bad_alloc();
        root_ = xmlNewDocNode(document_.get(), nullptr, Element::chars(root), nullptr);
        if (!root_)
            throw std::bad_alloc();
        xmlDocSetRootElement(document_.get(), root_);
    }

    void set_name_space(const char* address) {
        xmlSetNs(root_, xmlNewNs(root_, Element::chars(address), nullptr));
    }
    Element root() const { return Element(root_); }

    std::string text() const { return utf8(document_.get()); }

  private:
    Document document_;
    xmlNode* root_ = nullptr; // the document's
};

const char* name_of(const MrdEncoding& encoding) {
    for (const TrajectoryName& row : trajectory_names)
        if (row.trajectory == encoding.trajectory && row.golden_angle == encoding.golden_angle &&
            row.trajectory != Trajectory::cartesian)
            return row.name;
    return to_string(encoding.trajectory);
}

} // namespace

MrdHeader MrdHeader::parse(std::string_view xml, const std::string& name) {
    const Document document = parse_document(xml, name);
    const xmlNode* root = xmlDocGetRootElement(document.get());
    if (!root || !is_element(root, "ismrmrdHeader"))
        throw Error(Errc::decode, name + " is no MRD header: its root element is '" +
                                      std::string(root ? view(root->name) : std::string_view()) +
                                      "', not 'ismrmrdHeader'");
    MrdHeader header;
    header.receiver_channels =
        whole(child(root, "acquisitionSystemInformation/receiverChannels")).value_or(0);
    const auto bandwidth = real(child(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth"));
    header.relative_noise_bandwidth = bandwidth && *bandwidth > 0 && *bandwidth < 1e3 ? *bandwidth : 0;
    header.h1_resonance_hz = real(child(root, "experimentalConditions/H1resonanceFrequency_Hz")).value_or(0);
    header.repetition_time_ms = real(child(root, "sequenceParameters/TR"));
    for (const xmlNode* node = find(root->children, "encoding"); node; node = find(node->next, "encoding"))
        header.encodings.push_back(EncodingReader(node).read());
    return header;
}

std::string MrdHeader::xml() const {
    Writer writer("ismrmrdHeader");
    writer.set_name_space(name_space);
    const Element root = writer.root();
    if (receiver_channels > 0 || relative_noise_bandwidth > 0) {
        const Element system = root.add("acquisitionSystemInformation");
        if (relative_noise_bandwidth > 0)
            system.add("relativeReceiverNoiseBandwidth", relative_noise_bandwidth);
        if (receiver_channels > 0)
            system.add("receiverChannels", receiver_channels);
    }
    root.add("experimentalConditions")
        .add("H1resonanceFrequency_Hz", std::to_string(std::llround(h1_resonance_hz)));
    for (const MrdEncoding& encoding : encodings) {
        const Element element = root.add("encoding");
        element.add("encodedSpace", encoding.encoded);
        element.add("reconSpace", encoding.recon);
        const Element limits = element.add("encodingLimits");
        limits.add("kspace_encoding_step_1", encoding.step_1);
        limits.add("average", encoding.average);
        limits.add("slice", encoding.slice);
        limits.add("contrast", encoding.contrast);
        limits.add("phase", encoding.phase);
        limits.add("repetition", encoding.repetition);
        limits.add("set", encoding.set);
        limits.add("segment", encoding.segment);
        element.add("trajectory", std::string(name_of(encoding)));
    }
    if (repetition_time_ms)
        root.add("sequenceParameters").add("TR", *repetition_time_ms);
    return writer.text();
}

std::string mrd_header_utf8(const std::string& xml) {
    const Document document = parse_document(xml, "The MRD header");
    // Null where no declaration says anything: UTF-8, but for a mark of the byte order. ASCII is UTF-8 as it is.
    const bool wide = xml.starts_with("\xFF\xFE") || xml.starts_with("\xFE\xFF");
    const auto is = [&document](const char* name) {
        return xmlStrcasecmp(document->encoding, Element::chars(name)) == 0;
    };
    if (document->encoding ? is("UTF-8") || is("ASCII") || is("US-ASCII") : !wide)
        return xml;
    return utf8(document.get());
}

std::multimap<std::string, std::string> mrd_header_texts(std::string_view xml) {
    const Document document = parse_document(xml, "The MRD header");
    std::multimap<std::string, std::string> texts;
    // The parser bounds the depth.
    const auto add = [&](const auto& self, const xmlNode* parent, const std::string& path) -> void {
        for (const xmlNode* node = parent->children; node; node = node->next) {
            if (node->type != XML_ELEMENT_NODE)
                continue;
            const std::string name = path + (path.empty() ? "" : "/") + std::string(view(node->name));
            if (std::string text = text_of(node); !text.empty())
                texts.emplace(name, std::move(text));
            self(self, node, name);
        }
    };
    if (const xmlNode* root = xmlDocGetRootElement(document.get()))
        add(add, root, "");
    return texts;
}

std::string mrd_attributes(const std::vector<std::pair<std::string, std::string>>& values) {
    Writer writer("ismrmrdMeta");
    std::optional<Element> meta;
    const std::string* last = nullptr;
    for (const auto& [name, value] : values) {
        if (!last || *last != name) {
            meta = writer.root().add("meta");
            meta->add("name", name);
        }
        meta->add("value", value);
        last = &name;
    }
    return writer.text();
}

} // namespace mri
