// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/properties.hpp"

#include <deque>

namespace mri::detail {

GType register_enum(const std::string& type_name, const std::vector<GEnumValue>& values) {
    if (const GType known = g_type_from_name(type_name.c_str()))
        return known;
    // GLib keeps the pointer: the table lives as long as the type, that is as the process.
    static std::deque<std::vector<GEnumValue>> tables;
    auto& table = tables.emplace_back(values);
    table.push_back({0, nullptr, nullptr});
    return g_enum_register_static(type_name.c_str(), table.data());
}

std::string camel_case(const std::string& name) {
    std::string camel;
    bool up = true;
    for (const char c : name) {
        if (c == '-') {
            up = true;
        } else {
            camel += up ? static_cast<char>(g_ascii_toupper(c)) : c;
            up = false;
        }
    }
    return camel;
}

GParamFlags param_flags(Mutable when, bool writable) {
    int flags = G_PARAM_READABLE | G_PARAM_STATIC_STRINGS;
    if (writable)
        flags |=
            G_PARAM_WRITABLE | (when == Mutable::ready ? GST_PARAM_MUTABLE_READY : GST_PARAM_MUTABLE_PLAYING);
    return static_cast<GParamFlags>(flags);
}

} // namespace mri::detail
