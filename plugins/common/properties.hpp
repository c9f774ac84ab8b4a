// SPDX-License-Identifier: LGPL-2.1-or-later
// An element's settings and the table of its properties.
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/common/element_base.hpp"

#include <functional>
#include <initializer_list>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace mri {

/// When a property may change: `ready` = only up to READY (what shapes caps or is opened in start()).
enum class Mutable { ready, playing };

/// Adds settings() and their lock to a base. Lock order: this one is innermost; nothing is called under it.
template <class Base, class S>
class Configured : public Base {
  public:
    using Settings = S;
    /// A copy, taken under the lock: once a buffer.
    S settings() const {
        const std::lock_guard lock(settings_mutex_);
        return settings_;
    }
    template <class Change>
    void change_settings(Change&& change) {
        const std::lock_guard lock(settings_mutex_);
        change(settings_);
    }

  private:
    mutable std::mutex settings_mutex_; // guards settings_
    S settings_;
};

/// One row of an element's property table.
struct Property {
    GParamSpec* spec = nullptr;
    std::function<void(Element&, const GValue*)> set; // empty: read-only
    std::function<void(Element&, GValue*)> get;
};

template <class E>
struct Choice {
    E value;
    const char* nick;
    const char* blurb;
};

namespace detail {
GType register_enum(const std::string& type_name, const std::vector<GEnumValue>& values);
std::string camel_case(const std::string& name);
GParamFlags param_flags(Mutable when, bool writable);
} // namespace detail

/// The property table of an element class `Impl`; defaults are those of a default-constructed Impl::Settings.
template <class Impl>
class Properties {
  public:
    void integer(const char* name, const char* blurb, int low, int high, auto member,
                 Mutable when = Mutable::ready) {
        add(
            g_param_spec_int(name, nullptr, blurb, low, high, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_int(v); },
            [member](const auto& s, GValue* v) { g_value_set_int(v, static_cast<int>(s.*member)); });
    }
    void unsigned_64(const char* name, const char* blurb, guint64 low, guint64 high, auto member,
                     Mutable when = Mutable::ready) {
        add(
            g_param_spec_uint64(name, nullptr, blurb, low, high, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_uint64(v); },
            [member](const auto& s, GValue* v) { g_value_set_uint64(v, s.*member); });
    }
    void real(const char* name, const char* blurb, double low, double high, auto member,
              Mutable when = Mutable::ready) {
        add(
            g_param_spec_double(name, nullptr, blurb, low, high, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_double(v); },
            [member](const auto& s, GValue* v) { g_value_set_double(v, s.*member); });
    }
    void boolean(const char* name, const char* blurb, auto member, Mutable when = Mutable::ready) {
        add(
            g_param_spec_boolean(name, nullptr, blurb, value(member), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = g_value_get_boolean(v); },
            [member](const auto& s, GValue* v) { g_value_set_boolean(v, s.*member); });
    }
    void string(const char* name, const char* blurb, auto member, Mutable when = Mutable::ready) {
        const std::string preset = value(member);
        add(
            g_param_spec_string(name, nullptr, blurb, preset.empty() ? nullptr : preset.c_str(), flags(when)),
            [member](auto& s, const GValue* v) {
                const char* text = g_value_get_string(v);
                s.*member = text ? text : "";
            },
            [member](const auto& s, GValue* v) { g_value_set_string(v, (s.*member).c_str()); });
    }
    void fraction(const char* name, const char* blurb, Fraction low, Fraction high, auto member,
                  Mutable when = Mutable::ready) {
        const Fraction preset = value(member);
        add(
            gst_param_spec_fraction(name, nullptr, blurb, low.num, low.den, high.num, high.den, preset.num,
                                    preset.den, flags(when)),
            [member](auto& s, const GValue* v) {
                s.*member =
                    Fraction{gst_value_get_fraction_numerator(v), gst_value_get_fraction_denominator(v)};
            },
            [member](const auto& s, GValue* v) {
                gst_value_set_fraction(v, (s.*member).num, (s.*member).den);
            });
    }
    template <class S, class E>
    void choice(const char* name, const char* blurb, E S::*member, std::initializer_list<Choice<E>> choices,
                Mutable when = Mutable::ready) {
        std::vector<GEnumValue> values;
        for (const auto& c : choices)
            values.push_back({static_cast<gint>(c.value), c.blurb, c.nick});
        const GType type = detail::register_enum(Impl::info.type_name + detail::camel_case(name), values);
        add(
            g_param_spec_enum(name, nullptr, blurb, type, static_cast<gint>(value(member)), flags(when)),
            [member](auto& s, const GValue* v) { s.*member = static_cast<E>(g_value_get_enum(v)); },
            [member](const auto& s, GValue* v) { g_value_set_enum(v, static_cast<gint>(s.*member)); });
    }
    /// A read-only property with a value that `get` computes; `spec` has the flags readable().
    void computed(GParamSpec* spec, std::function<void(Impl&, GValue*)> get) {
        rows_.push_back(
            {spec, {}, [get = std::move(get)](Element& e, GValue* v) { get(static_cast<Impl&>(e), v); }});
    }
    /// A property with accessors of its own.
    void custom(GParamSpec* spec, std::function<void(Impl&, const GValue*)> set,
                std::function<void(Impl&, GValue*)> get) {
        rows_.push_back(
            {spec, [set = std::move(set)](Element& e, const GValue* v) { set(static_cast<Impl&>(e), v); },
             [get = std::move(get)](Element& e, GValue* v) { get(static_cast<Impl&>(e), v); }});
    }
    static GParamFlags readable() { return detail::param_flags(Mutable::playing, false); }
    static GParamFlags flags(Mutable when) { return detail::param_flags(when, true); }

    std::vector<Property> take() { return std::move(rows_); }

  private:
    template <class Member>
    static auto value(Member member) {
        return typename Impl::Settings{}.*member;
    }
    template <class Set, class Get>
    void add(GParamSpec* spec, Set set, Get get) {
        rows_.push_back({spec,
                         [set](Element& e, const GValue* v) {
                             static_cast<Impl&>(e).change_settings([&](auto& s) { set(s, v); });
                         },
                         [get](Element& e, GValue* v) { get(static_cast<Impl&>(e).settings(), v); }});
    }
    std::vector<Property> rows_;
};

} // namespace mri
