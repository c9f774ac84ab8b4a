// SPDX-License-Identifier: LGPL-2.1-or-later
// Overflow-checked products of sizes that come from files, networks or caps.
#pragma once

#include "plugins/math/base/error.hpp"

#include <cstddef>
#include <initializer_list>
#include <string>

namespace mri {

/// The product of `factors`; throws Errc::no_memory, naming `what`, when it exceeds `limit` (bytes or
/// elements) or overflows.
inline std::size_t checked_product(std::initializer_list<std::size_t> factors, std::size_t limit,
                                   const char* what) {
    std::size_t product = 1;
    for (const std::size_t factor : factors) {
        if (factor == 0)
            return 0;
        if (product > limit / factor)
            throw Error(Errc::no_memory,
                        std::string(what) + " would be larger than the limit of " + std::to_string(limit));
        product *= factor;
    }
    return product;
}

} // namespace mri
