// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/registration.hpp"

#include <deque>
#include <mutex>

namespace mri {

namespace {

// Data of a GType for its functions: lives as long as the process, like the type.
struct ClassData {
    detail::ClassSpec spec;
    gpointer parent_class = nullptr;
    std::vector<Property> properties;
    GstDebugCategory* category = nullptr;
};

GQuark class_data_quark() {
    static const GQuark quark = g_quark_from_static_string("gst-mri-class-data");
    return quark;
}

ClassData& data_of_type(GType type) {
    return *static_cast<ClassData*>(g_type_get_qdata(type, class_data_quark()));
}
ClassData& data_of(gpointer instance) {
    return data_of_type(G_TYPE_FROM_INSTANCE(instance));
}

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
    auto& data = data_of(object);
    Element& element = *data.spec.slot(object);
    if ((spec->flags & GST_PARAM_MUTABLE_READY) && !(spec->flags & GST_PARAM_MUTABLE_PLAYING)) {
        GST_OBJECT_LOCK(object);
        const bool running = GST_STATE(object) > GST_STATE_READY;
        GST_OBJECT_UNLOCK(object);
        if (running) {
            GST_CAT_WARNING_OBJECT(data.category, object,
                                   "%s can only be changed in the READY state: left as it was", spec->name);
            return;
        }
    }
    try {
        data.properties[id - 1].set(element, value);
    } catch (const std::exception& e) {
        GST_CAT_WARNING_OBJECT(data.category, object, "%s: %s", spec->name, e.what());
    }
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
    auto& data = data_of(object);
    try {
        data.properties[id - 1].get(*data.spec.slot(object), value);
    } catch (const std::exception& e) {
        GST_CAT_WARNING_OBJECT(data.category, object, "%s: %s", spec->name, e.what());
    }
}

void finalize(GObject* object) {
    auto& data = data_of(object);
    Element*& slot = data.spec.slot(object);
    delete slot;
    slot = nullptr;
    static_cast<GObjectClass*>(data.parent_class)->finalize(object);
}

void constructed(GObject* object) {
    auto& data = data_of(object);
    static_cast<GObjectClass*>(data.parent_class)->constructed(object);
    Element& element = *data.spec.slot(object);
    guarded(element, [&] { element.constructed(); });
}

void class_init(gpointer klass, gpointer class_data) {
    auto& data = *static_cast<ClassData*>(class_data);
    data.parent_class = g_type_class_peek_parent(klass);
    auto* object_class = G_OBJECT_CLASS(klass);
    auto* element_class = GST_ELEMENT_CLASS(klass);
    object_class->set_property = set_property;
    object_class->get_property = get_property;
    object_class->finalize = finalize;
    object_class->constructed = constructed;
    data.properties = data.spec.properties();
    for (std::size_t i = 0; i < data.properties.size(); ++i)
        g_object_class_install_property(object_class, static_cast<guint>(i + 1), data.properties[i].spec);
    const ElementInfo& info = *data.spec.info;
    gst_element_class_set_static_metadata(element_class, info.long_name, info.klass, info.description,
                                          "The gst-mri developers");
    const auto add_template = [&](const char* name, GstPadDirection direction, const char* text) {
        if (!text)
            return;
        auto caps = adopt(gst_caps_from_string(text));
        gst_element_class_add_pad_template(element_class,
                                           gst_pad_template_new(name, direction, GST_PAD_ALWAYS, caps.get()));
    };
    add_template("sink", GST_PAD_SINK, data.spec.sink_caps);
    add_template("src", GST_PAD_SRC, data.spec.src_caps);
    // GstBaseSrc and GstBaseSink follow an element's own error up with a general one.
    element_class->post_message = [](GstElement* e, GstMessage* message) -> gboolean {
        const auto& data_ = data_of(e);
        const Element* impl = data_.spec.slot(e);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR && GST_MESSAGE_SRC(message) == GST_OBJECT(e) &&
            impl && impl->error_sent()) {
            gst_message_unref(message);
            return TRUE;
        }
        return GST_ELEMENT_CLASS(data_.parent_class)->post_message(e, message);
    };
    data.spec.install(klass);
}

} // namespace

namespace detail {

gpointer parent_class_of(gpointer instance) {
    return data_of(instance).parent_class;
}

GType register_element_type(const ClassSpec& spec) {
    GTypeQuery parent{};
    g_type_query(spec.parent, &parent);
    static std::deque<ClassData> all; // lives as long as the types
    static std::mutex mutex;          // guards `all`
    ClassData* data = nullptr;
    {
        const std::lock_guard lock(mutex);
        data = &all.emplace_back();
    }
    data->spec = spec;
    data->category = _gst_debug_category_new(spec.info->name, 0, spec.info->long_name);
    GTypeInfo info{};
    info.class_size = static_cast<guint16>(parent.class_size);
    info.class_init = class_init;
    info.class_data = data;
    info.instance_size = spec.instance_size;
    info.instance_init = [](GTypeInstance* instance, gpointer klass) {
        auto& d = data_of_type(G_TYPE_FROM_CLASS(klass));
        Element* element = d.spec.create();
        d.spec.slot(instance) = element;
        element->attach(GST_ELEMENT(instance), d.category);
        d.spec.set_up(*element);
    };
    const GType type =
        g_type_register_static(spec.parent, spec.info->type_name, &info, static_cast<GTypeFlags>(0));
    g_type_set_qdata(type, class_data_quark(), data);
    return type;
}

} // namespace detail

} // namespace mri
