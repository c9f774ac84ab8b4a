// SPDX-License-Identifier: LGPL-2.1-or-later
// From an element class to a GType and a factory: the GObject behind a C++ object.
#pragma once

#include "plugins/common/properties.hpp"

#include <vector>

namespace mri {

/// The GObject of an element: the parent and one pointer.
template <class Parent>
struct Instance {
    Parent parent;
    Element* impl;
};

/// The C++ object behind a GObject.
template <class Base>
Base& impl_of(gpointer instance) {
    return *static_cast<Base*>(reinterpret_cast<Instance<typename Base::GstParent>*>(instance)->impl);
}

namespace detail {
/// Functions that a class gives to its GType.
struct ClassSpec {
    const ElementInfo* info;
    const char* sink_caps;
    const char* src_caps;
    GType parent;
    guint16 instance_size;
    Element* (*create)();
    Element*& (*slot)(gpointer instance);
    void (*install)(gpointer klass);
    void (*set_up)(Element& element);
    std::vector<Property> (*properties)();
};
GType register_element_type(const ClassSpec& spec);
gpointer parent_class_of(gpointer instance);
} // namespace detail

/// The class structure of the GObject parent, to call the function that a base overrides.
template <class Class>
Class* parent_of(gpointer instance) {
    return static_cast<Class*>(detail::parent_class_of(instance));
}

/// The GType of an element class, registered at the first call.
template <class Impl>
GType element_type() {
    using Parent = typename Impl::GstParent;
    static const GType type = detail::register_element_type({
        &Impl::info,
        Impl::sink_caps,
        Impl::src_caps,
        Impl::parent_type(),
        sizeof(Instance<Parent>),
        []() -> Element* { return new Impl; },
        [](gpointer instance) -> Element*& { return reinterpret_cast<Instance<Parent>*>(instance)->impl; },
        &Impl::install,
        &Impl::set_up,
        [] {
            Properties<Impl> table;
            Impl::properties(table);
            return table.take();
        },
    });
    return type;
}

/// Defines `gboolean mri_register_NAME(GstPlugin*)`, for the plugin's MRI_PLUGIN (plugins/common/plugin.hpp).
#define MRI_ELEMENT(NAME, IMPL)                                                                              \
    gboolean mri_register_##NAME(GstPlugin* plugin);                                                         \
    gboolean mri_register_##NAME(GstPlugin* plugin) {                                                        \
        return gst_element_register(plugin, IMPL::info.name, GST_RANK_NONE, ::mri::element_type<IMPL>());    \
    }

} // namespace mri
