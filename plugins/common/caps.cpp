// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/caps.hpp"

#include <cstring>
#include <fmt/format.h>

namespace mri {

namespace {

constexpr const char* kspace_name = "application/x-mri-kspace";
constexpr const char* image_name = "application/x-mri-image";
constexpr const char* header_name = "mri-header";

const GstStructure* structure_of(const GstCaps* caps, const char* name) {
    if (!caps || gst_caps_get_size(caps) != 1)
        throw Error(Errc::format, std::string("Expected one fixed caps structure of ") + name);
    const GstStructure* structure = gst_caps_get_structure(caps, 0);
    if (!gst_structure_has_name(structure, name))
        throw Error(Errc::format,
                    std::string("Expected ") + name + ", got " + gst_structure_get_name(structure));
    return structure;
}

int int_field(const GstStructure* structure, const char* field, int low, int high) {
    int value = 0;
    if (!gst_structure_get_int(structure, field, &value))
        throw Error(Errc::format, std::string("Caps of ") + gst_structure_get_name(structure) +
                                      " have no integer " + field);
    if (value < low || value > high)
        throw Error(Errc::format,
                    fmt::format("Caps field {} is {}, outside {}..{}", field, value, low, high));
    return value;
}

int optional_int(const GstStructure* structure, const char* field, int low, int high, int fallback) {
    return gst_structure_has_field(structure, field) ? int_field(structure, field, low, high) : fallback;
}

double optional_double(const GstStructure* structure, const char* field, double below, const char* what) {
    double value = 0;
    gst_structure_get_double(structure, field, &value);
    if (!(value >= 0 && value < below))
        throw Error(Errc::format, std::string("Caps field ") + field + " is no " + what);
    return value;
}

double optional_mm(const GstStructure* structure, const char* field) {
    return optional_double(structure, field, 1e6, "length in mm");
}

std::string string_field(const GstStructure* structure, const char* field) {
    const char* value = gst_structure_get_string(structure, field);
    if (!value)
        throw Error(Errc::format,
                    std::string("Caps of ") + gst_structure_get_name(structure) + " have no " + field);
    return value;
}

Fraction framerate_of(const GstStructure* structure) {
    Fraction rate;
    if (!gst_structure_get_fraction(structure, "framerate", &rate.num, &rate.den) || rate.num < 0 ||
        rate.den <= 0)
        return {};
    return rate;
}

} // namespace

KspaceInfo KspaceInfo::from_caps(const GstCaps* caps) {
    const GstStructure* s = structure_of(caps, kspace_name);
    KspaceInfo info;
    if (const auto format = string_field(s, "format"); format != "C64LE")
        throw Error(Errc::format, "k-space of format " + format + " is not supported, only C64LE");
    const auto alignment = string_field(s, "alignment");
    if (alignment != "readout" && alignment != "frame")
        throw Error(Errc::format, "k-space alignment " + alignment + " is neither readout nor frame");
    info.alignment = alignment == "frame" ? Alignment::frame : Alignment::readout;
    info.coils = int_field(s, "coils", 1, max_coils);
    info.samples = int_field(s, "samples", 1, max_samples);
    info.width = int_field(s, "width", 1, max_side);
    info.height = int_field(s, "height", 1, max_side);
    info.fov_x = optional_mm(s, "fov-x");
    info.fov_y = optional_mm(s, "fov-y");
    const auto trajectory = string_field(s, "trajectory");
    const auto known = trajectory_from(trajectory);
    if (!known)
        throw Error(Errc::format, "Unknown trajectory " + trajectory);
    info.trajectory = *known;
    info.framerate = framerate_of(s);
    info.series = optional_int(s, "series", 0, G_MAXINT, 0);
    info.encoded_width = optional_int(s, "encoded-width", 1, max_samples, 0);
    info.encoded_height = optional_int(s, "encoded-height", 1, max_samples, 0);
    info.encoded_fov_x = optional_mm(s, "encoded-fov-x");
    info.encoded_fov_y = optional_mm(s, "encoded-fov-y");
    info.center_line = optional_int(s, "center-line", 0, max_samples, -1);
    info.noise = optional_double(s, "noise", 1e30, "standard deviation");
    return info;
}

GstPtr<GstCaps> KspaceInfo::to_caps() const {
    auto caps = adopt(gst_caps_new_simple(
        kspace_name, "format", G_TYPE_STRING, "C64LE", "alignment", G_TYPE_STRING,
        alignment == Alignment::frame ? "frame" : "readout", "coils", G_TYPE_INT, coils, "samples",
        G_TYPE_INT, samples, "width", G_TYPE_INT, width, "height", G_TYPE_INT, height, "fov-x", G_TYPE_DOUBLE,
        fov_x, "fov-y", G_TYPE_DOUBLE, fov_y, "trajectory", G_TYPE_STRING, to_string(trajectory), "framerate",
        GST_TYPE_FRACTION, framerate.num, framerate.den, "series", G_TYPE_INT, series, nullptr));
    if (encoded_width > 0)
        gst_caps_set_simple(caps.get(), "encoded-width", G_TYPE_INT, encoded_width, nullptr);
    if (encoded_height > 0)
        gst_caps_set_simple(caps.get(), "encoded-height", G_TYPE_INT, encoded_height, nullptr);
    if (encoded_fov_x > 0)
        gst_caps_set_simple(caps.get(), "encoded-fov-x", G_TYPE_DOUBLE, encoded_fov_x, nullptr);
    if (encoded_fov_y > 0)
        gst_caps_set_simple(caps.get(), "encoded-fov-y", G_TYPE_DOUBLE, encoded_fov_y, nullptr);
    if (center_line >= 0)
        gst_caps_set_simple(caps.get(), "center-line", G_TYPE_INT, center_line, nullptr);
    if (noise > 0)
        gst_caps_set_simple(caps.get(), "noise", G_TYPE_DOUBLE, noise, nullptr);
    return caps;
}

int KspaceInfo::readouts_in(std::size_t bytes) const {
    const std::size_t readout = static_cast<std::size_t>(coils) * samples * sizeof(cfloat);
    if (bytes == 0 || bytes % readout != 0 || bytes / readout > G_MAXINT)
        throw Error(
            Errc::format,
            fmt::format(
                "A k-space buffer of {} bytes is not a whole number of readouts of {} coils x {} samples",
                bytes, coils, samples));
    return static_cast<int>(bytes / readout);
}

ImageInfo ImageInfo::from_caps(const GstCaps* caps) {
    const GstStructure* s = structure_of(caps, image_name);
    ImageInfo info;
    const auto format = string_field(s, "format");
    if (format != "C64LE" && format != "F32LE")
        throw Error(Errc::format, "Images of format " + format + " are not supported, only C64LE and F32LE");
    info.format = format == "C64LE" ? SampleFormat::c64 : SampleFormat::f32;
    info.channels = int_field(s, "channels", 1, max_coils);
    info.width = int_field(s, "width", 1, max_side);
    info.height = int_field(s, "height", 1, max_side);
    info.fov_x = optional_mm(s, "fov-x");
    info.fov_y = optional_mm(s, "fov-y");
    info.framerate = framerate_of(s);
    info.series = optional_int(s, "series", 0, G_MAXINT, 0);
    return info;
}

GstPtr<GstCaps> ImageInfo::to_caps() const {
    return adopt(gst_caps_new_simple(
        image_name, "format", G_TYPE_STRING, format == SampleFormat::c64 ? "C64LE" : "F32LE", "channels",
        G_TYPE_INT, channels, "width", G_TYPE_INT, width, "height", G_TYPE_INT, height, "fov-x",
        G_TYPE_DOUBLE, fov_x, "fov-y", G_TYPE_DOUBLE, fov_y, "framerate", GST_TYPE_FRACTION, framerate.num,
        framerate.den, "series", G_TYPE_INT, series, nullptr));
}

void ImageInfo::check_size(std::size_t size) const {
    if (size != bytes())
        throw Error(Errc::format,
                    fmt::format("An image buffer has {} bytes, its caps mean {} x {} x {} = {} bytes", size,
                                channels, height, width, bytes()));
}

bool is_kspace(const GstCaps* caps) {
    return caps && gst_caps_get_size(caps) == 1 &&
           gst_structure_has_name(gst_caps_get_structure(caps, 0), kspace_name);
}

GstPtr<GstEvent> new_header_event(const std::string& xml) {
    return adopt(
        gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM_STICKY,
                             gst_structure_new(header_name, "xml", G_TYPE_STRING, xml.c_str(), nullptr)));
}

std::string header_of(GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_CUSTOM_DOWNSTREAM_STICKY ||
        !gst_event_has_name(event, header_name))
        return {};
    const char* xml = gst_structure_get_string(gst_event_get_structure(event), "xml");
    return xml ? xml : "";
}

} // namespace mri
