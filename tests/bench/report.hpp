// SPDX-License-Identifier: LGPL-2.1-or-later
// What a benchmark leaves: figures as JSON.
#pragma once

#include "plugins/math/base/error.hpp"

#include <cmath>
#include <concepts>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace mri::bench {

/// Fields of a JSON object in their order; the values are JSON texts.
class Fields {
  public:
    Fields& add(const std::string& name, double value) {
        char text[40];
        std::snprintf(text, sizeof text, "%.6g", value);
        return add_text(name, std::isfinite(value) ? text : "null");
    }
    Fields& add(const std::string& name, const std::string& value) {
        std::string text = "\"";
        for (const char c : value) {
            if (c == '"' || c == '\\')
                text += '\\';
            text += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
        }
        return add_text(name, text + '"');
    }
    /// No other type turns into it: texts would.
    Fields& add(const std::string& name, std::same_as<bool> auto value) {
        return add_text(name, value ? "true" : "false");
    }
    Fields& add(const std::string& name, const std::vector<Fields>& rows) {
        std::string text = "[";
        for (std::size_t i = 0; i < rows.size(); ++i)
            text += (i ? ",\n    " : "\n    ") + rows[i].text();
        return add_text(name, text + "\n  ]");
    }
    std::string text(const char* gap = ", ") const {
        std::string all = "{";
        for (std::size_t i = 0; i < fields_.size(); ++i)
            all += (i ? gap : "") + fields_[i];
        return all + "}";
    }
    /// Throws Errc::write.
    void save(const std::string& path) const {
        std::ofstream file(path);
        file << text(",\n  ") << "\n";
        if (!file.flush())
            throw Error(Errc::write, "'" + path + "' cannot be written");
    }

  private:
    Fields& add_text(const std::string& name, const std::string& value) {
        fields_.push_back('"' + name + "\": " + value);
        return *this;
    }
    std::vector<std::string> fields_;
};

/// A number with `digits` decimals; "-" when it is none.
inline std::string fixed(double value, int digits) {
    char text[40];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return std::isfinite(value) ? text : "-";
}

} // namespace mri::bench
