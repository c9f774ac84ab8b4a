// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/facts.hpp"

#include <cstddef>
#include <fmt/format.h>
#include <type_traits>

namespace mri::facts {

namespace {

void register_once() {
    // As the metas do, the structure goes along with whole copies of a buffer alone.
    static const auto copy = +[](GstBuffer* to, GstCustomMeta* meta, GstBuffer*, GQuark type, gpointer data,
                                 gpointer) -> gboolean {
        if (!GST_META_TRANSFORM_IS_COPY(type) || static_cast<GstMetaTransformCopy*>(data)->region)
            return FALSE;
        GstCustomMeta* added = gst_buffer_add_custom_meta(to, name);
        if (!added)
            return FALSE;
        GstStructure* fields = gst_custom_meta_get_structure(added);
        gst_structure_foreach(
            gst_custom_meta_get_structure(meta),
            [](GQuark field, const GValue* value, gpointer into) -> gboolean {
                gst_structure_id_set_value(static_cast<GstStructure*>(into), field, value);
                return TRUE;
            },
            fields);
        return TRUE;
    };
    static const GstMetaInfo* const info = [] {
        static const gchar* tags[] = {nullptr};
        return gst_meta_register_custom(name, tags, copy, nullptr, nullptr);
    }();
    (void)info;
}

GstStructure* structure_of(GstBuffer* buffer) {
    register_once();
    GstCustomMeta* meta = gst_buffer_get_custom_meta(buffer, name);
    if (!meta)
        meta = gst_buffer_add_custom_meta(buffer, name);
    if (!meta)
        throw Error(Errc::no_memory, "No memory for a meta");
    return gst_custom_meta_get_structure(meta);
}

/// An array that lives as long as `owner`, unset where it is empty.
template <class T, class Owner>
void set_bytes(GstStructure* structure, const char* field, const std::vector<T>& values, const Owner& owner) {
    if (values.empty()) {
        gst_structure_remove_field(structure, field);
        return;
    }
    GBytes* bytes = g_bytes_new_with_free_func(
        values.data(), values.size() * sizeof(T), [](gpointer data) { delete static_cast<Owner*>(data); },
        new Owner(owner));
    GValue value = G_VALUE_INIT;
    g_value_init(&value, G_TYPE_BYTES);
    g_value_take_boxed(&value, bytes);
    gst_structure_take_value(structure, field, &value);
}

template <class T>
struct Element {
    using Type = T;
    static constexpr std::size_t count = 1;
};
template <class T, std::size_t n>
struct Element<std::array<T, n>> {
    using Type = T;
    static constexpr std::size_t count = n;
};

/// numpy's name of a member's type: "<u2", "(3,)<f4".
template <class Member>
std::string format_of() {
    using T = typename Element<Member>::Type;
    const char kind = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
    const std::size_t count = Element<Member>::count;
    return (count == 1 ? std::string() : fmt::format("({},)", count)) + fmt::format("<{}{}", kind, sizeof(T));
}

const char* readout_layout() {
    static const char* const layout = [] {
        static_assert(std::is_standard_layout_v<Readout>);
        std::string names, formats, offsets;
        const auto add = [&](const char* member, const std::string& format, std::size_t offset) {
            const char* const comma = names.empty() ? "" : ", ";
            names += fmt::format("{}\"{}\"", comma, member);
            formats += fmt::format("{}\"{}\"", comma, format);
            offsets += fmt::format("{}{}", comma, offset);
        };
#define MRI_MEMBER(MEMBER) add(#MEMBER, format_of<decltype(Readout::MEMBER)>(), offsetof(Readout, MEMBER))
        MRI_MEMBER(version);
        MRI_MEMBER(flags);
        MRI_MEMBER(measurement_uid);
        MRI_MEMBER(scan_counter);
        MRI_MEMBER(acquisition_time_stamp);
        MRI_MEMBER(physiology_time_stamp);
        MRI_MEMBER(available_channels);
        MRI_MEMBER(channel_mask);
        MRI_MEMBER(discard_pre);
        MRI_MEMBER(discard_post);
        MRI_MEMBER(center_sample);
        MRI_MEMBER(encoding_space_ref);
        MRI_MEMBER(trajectory_dimensions);
        MRI_MEMBER(sample_time_us);
        MRI_MEMBER(position);
        MRI_MEMBER(read_dir);
        MRI_MEMBER(phase_dir);
        MRI_MEMBER(slice_dir);
        MRI_MEMBER(patient_table_position);
        MRI_MEMBER(kspace_encode_step_1);
        MRI_MEMBER(kspace_encode_step_2);
        MRI_MEMBER(average);
        MRI_MEMBER(slice);
        MRI_MEMBER(contrast);
        MRI_MEMBER(phase);
        MRI_MEMBER(repetition);
        MRI_MEMBER(set);
        MRI_MEMBER(segment);
        MRI_MEMBER(user);
        MRI_MEMBER(user_int);
        MRI_MEMBER(user_float);
        MRI_MEMBER(angle_index);
#undef MRI_MEMBER
        const std::string text =
            fmt::format(R"({{"names": [{}], "formats": [{}], "offsets": [{}], "itemsize": {}}})", names,
                        formats, offsets, sizeof(Readout));
        return g_intern_string(text.c_str());
    }();
    return layout;
}

} // namespace

void set(GstBuffer* buffer, const std::shared_ptr<const std::vector<Readout>>& readouts) {
    GstStructure* structure = structure_of(buffer);
    set_bytes(structure, "readouts", *readouts, readouts);
    if (readouts->empty())
        return;
    GValue layout = G_VALUE_INIT;
    g_value_init(&layout, G_TYPE_STRING);
    g_value_set_interned_string(&layout, readout_layout());
    gst_structure_take_value(structure, "readouts-dtype", &layout);
    const Readout& r = readouts->front();
    const auto number = [](auto value) { return static_cast<gint64>(value); };
    gst_structure_set(structure, "flags", G_TYPE_INT64, number(r.flags), "acquisition-time-stamp",
                      G_TYPE_INT64, number(r.acquisition_time_stamp), "slice", G_TYPE_INT64, number(r.slice),
                      "contrast", G_TYPE_INT64, number(r.contrast), "phase", G_TYPE_INT64, number(r.phase),
                      "repetition", G_TYPE_INT64, number(r.repetition), "set", G_TYPE_INT64, number(r.set),
                      "average", G_TYPE_INT64, number(r.average), "segment", G_TYPE_INT64, number(r.segment),
                      "kspace-encode-step-1", G_TYPE_INT64, number(r.kspace_encode_step_1),
                      "kspace-encode-step-2", G_TYPE_INT64, number(r.kspace_encode_step_2), "angle-index",
                      G_TYPE_INT64, number(r.angle_index), nullptr);
}

void set(GstBuffer* buffer, const std::shared_ptr<const TrajectoryData>& trajectory) {
    GstStructure* structure = structure_of(buffer);
    set_bytes(structure, "trajectory", trajectory->kxy, trajectory);
    set_bytes(structure, "trajectory-density", trajectory->density, trajectory);
    gst_structure_set(structure, "trajectory-readouts", G_TYPE_INT, trajectory->readouts,
                      "trajectory-samples", G_TYPE_INT, trajectory->samples, nullptr);
}

void set(GstBuffer* buffer, const Consistency& consistency) {
    gst_structure_set(structure_of(buffer), "residual", G_TYPE_DOUBLE, consistency.residual, "noise-ratio",
                      G_TYPE_DOUBLE, consistency.noise_ratio, nullptr);
}

void set(GstBuffer* buffer, Role role, GstSample* sample) {
    gst_structure_set(structure_of(buffer), to_string(role), GST_TYPE_SAMPLE, sample, nullptr);
}

void remove(GstBuffer* buffer, Role role) {
    gst_structure_remove_field(structure_of(buffer), to_string(role));
}

} // namespace mri::facts
