// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/metas.hpp"

#include "plugins/common/facts.hpp"

#include <fmt/format.h>

namespace mri {

namespace {

// One GstMeta that owns a C++ value. The API types have no tags, so that GstBaseTransform copies them by
// itself.
template <class Value>
struct ValueMeta {
    GstMeta meta;
    Value* value;
};

template <class Value>
const GstMetaInfo* register_meta(const char* api_name, const char* impl_name, GType* api_type) {
    static const gchar* tags[] = {nullptr};
    *api_type = gst_meta_api_type_register(api_name, tags);
    return gst_meta_register(
        *api_type, impl_name, sizeof(ValueMeta<Value>),
        [](GstMeta* meta, gpointer, GstBuffer*) -> gboolean {
            reinterpret_cast<ValueMeta<Value>*>(meta)->value = new (std::nothrow) Value{};
            return reinterpret_cast<ValueMeta<Value>*>(meta)->value != nullptr;
        },
        [](GstMeta* meta, GstBuffer*) { delete reinterpret_cast<ValueMeta<Value>*>(meta)->value; },
        [](GstBuffer* to, GstMeta* meta, GstBuffer*, GQuark type, gpointer data) -> gboolean {
            // A part of a buffer is no readout, frame or image any more: only whole copies carry the facts.
            if (!GST_META_TRANSFORM_IS_COPY(type) || static_cast<GstMetaTransformCopy*>(data)->region)
                return FALSE;
            const auto* from = reinterpret_cast<ValueMeta<Value>*>(meta);
            auto* copy = reinterpret_cast<ValueMeta<Value>*>(gst_buffer_add_meta(to, meta->info, nullptr));
            if (!copy)
                return FALSE;
            *copy->value = *from->value;
            return TRUE;
        });
}

struct SideValue {
    Role role = Role::truth;
    GstPtr<GstSample> sample;
};
using ReadoutsValue = std::shared_ptr<const std::vector<Readout>>;
using TrajectoryValue = std::shared_ptr<const TrajectoryData>;

template <class Value>
struct Registered;
#define MRI_META(VALUE, NAME)                                                                                \
    template <>                                                                                              \
    struct Registered<VALUE> {                                                                               \
        GType api = 0;                                                                                       \
        const GstMetaInfo* info = register_meta<VALUE>(NAME "API", NAME, &api);                              \
        static const Registered& get() {                                                                     \
            static const Registered registered;                                                              \
            return registered;                                                                               \
        }                                                                                                    \
    }
MRI_META(ReadoutsValue, "GstMriReadoutsMeta");
MRI_META(TrajectoryValue, "GstMriTrajectoryMeta");
MRI_META(SideValue, "GstMriSideMeta");
MRI_META(Consistency, "GstMriConsistencyMeta");
#undef MRI_META

template <class Value>
Value* find(GstBuffer* buffer) {
    auto* meta = gst_buffer_get_meta(buffer, Registered<Value>::get().api);
    return meta ? reinterpret_cast<ValueMeta<Value>*>(meta)->value : nullptr;
}

template <class Value>
void add(GstBuffer* buffer, Value value) {
    if (!gst_buffer_is_writable(buffer))
        throw Error(Errc::failed, "A meta was to be added to a buffer that is not writable");
    auto* meta = gst_buffer_add_meta(buffer, Registered<Value>::get().info, nullptr);
    if (!meta)
        throw Error(Errc::no_memory, "No memory for a meta");
    *reinterpret_cast<ValueMeta<Value>*>(meta)->value = std::move(value);
}

template <class Value>
void replace(GstBuffer* buffer, Value value) {
    if (auto* old = find<Value>(buffer)) {
        if (!gst_buffer_is_writable(buffer))
            throw Error(Errc::failed, "A meta was to be changed on a buffer that is not writable");
        *old = std::move(value);
    } else {
        add(buffer, std::move(value));
    }
}

ValueMeta<SideValue>* find_side(GstBuffer* buffer, Role role) {
    gpointer state = nullptr;
    while (auto* meta = gst_buffer_iterate_meta_filtered(buffer, &state, Registered<SideValue>::get().api)) {
        auto* side = reinterpret_cast<ValueMeta<SideValue>*>(meta);
        if (side->value->role == role)
            return side;
    }
    return nullptr;
}

} // namespace

const char* to_string(Role role) noexcept {
    switch (role) {
    case Role::truth:
        return "truth";
    case Role::input:
        return "input";
    case Role::kspace:
        return "kspace";
    case Role::gridded:
        return "gridded";
    case Role::sensitivities:
        return "sensitivities";
    case Role::calibration:
        return "calibration";
    }
    return "truth";
}

void add_readouts(GstBuffer* buffer, std::vector<Readout> readouts) {
    auto shared = std::make_shared<const std::vector<Readout>>(std::move(readouts));
    replace<ReadoutsValue>(buffer, shared);
    facts::set(buffer, shared);
}

std::span<const Readout> readouts_of(GstBuffer* buffer) {
    const auto* value = find<ReadoutsValue>(buffer);
    return value && *value ? std::span<const Readout>(**value) : std::span<const Readout>();
}

void add_trajectory(GstBuffer* buffer, std::shared_ptr<const TrajectoryData> trajectory) {
    if (!trajectory || trajectory->readouts < 0 || trajectory->samples < 0)
        throw Error(Errc::format, "A trajectory is missing or has negative sizes");
    const std::size_t points = static_cast<std::size_t>(trajectory->readouts) * trajectory->samples;
    if (trajectory->kxy.size() != 2 * points ||
        (!trajectory->density.empty() && trajectory->density.size() != points))
        throw Error(Errc::format,
                    fmt::format("A trajectory of {} readouts x {} samples has {} coordinates",
                                trajectory->readouts, trajectory->samples, trajectory->kxy.size()));
    replace<TrajectoryValue>(buffer, trajectory);
    facts::set(buffer, trajectory);
}

std::shared_ptr<const TrajectoryData> trajectory_of(GstBuffer* buffer) {
    const auto* value = find<TrajectoryValue>(buffer);
    return value ? *value : nullptr;
}

void add_consistency(GstBuffer* buffer, const Consistency& consistency) {
    replace<Consistency>(buffer, consistency);
    facts::set(buffer, consistency);
}

std::optional<Consistency> consistency_of(GstBuffer* buffer) {
    const auto* value = find<Consistency>(buffer);
    return value ? std::optional(*value) : std::nullopt;
}

void add_side(GstBuffer* buffer, Role role, GstSample* sample) {
    if (auto* side = find_side(buffer, role)) {
        if (!gst_buffer_is_writable(buffer))
            throw Error(Errc::failed, "Side data were to be changed on a buffer that is not writable");
        side->value->sample = retain(sample);
    } else {
        add<SideValue>(buffer, {role, retain(sample)});
    }
    facts::set(buffer, role, sample);
}

void add_side(GstBuffer* buffer, Role role, GstBuffer* side, GstCaps* caps) {
    auto sample = adopt(gst_sample_new(side, caps, nullptr, nullptr));
    add_side(buffer, role, sample.get());
}

GstSample* side_of(GstBuffer* buffer, Role role) {
    const auto* side = find_side(buffer, role);
    return side ? side->value->sample.get() : nullptr;
}

void remove_side(GstBuffer* buffer, Role role) {
    if (auto* side = find_side(buffer, role)) {
        gst_buffer_remove_meta(buffer, &side->meta);
        facts::remove(buffer, role);
    }
}

void copy_metas(GstBuffer* to, GstBuffer* from) {
    gst_buffer_copy_into(to, from,
                         static_cast<GstBufferCopyFlags>(GST_BUFFER_COPY_FLAGS | GST_BUFFER_COPY_TIMESTAMPS |
                                                         GST_BUFFER_COPY_META),
                         0, static_cast<gsize>(-1));
}

} // namespace mri
