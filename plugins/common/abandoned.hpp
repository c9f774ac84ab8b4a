// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/element_base.hpp"
#include "plugins/math/base/atomic_file.hpp"

namespace mri {

/// Warns of what runs that were killed have left of a file that is about to be written.
inline void tell_abandoned(Element& element, const std::string& location) {
    for (const auto& path : abandoned_files(location))
        element.post_warning("'" + path.string() + "' is what a run that was killed has left of '" +
                                 location + "'",
                             "use or remove it: it is not touched");
}

} // namespace mri
