// SPDX-License-Identifier: LGPL-2.1-or-later
// Device, precision and threads of a network, and the shape of its windows. Pure C++.
#pragma once

#include <cstddef>
#include <string>

namespace mri {

enum class Precision { automatic, float32, bfloat16 };

/// Device, precision and threads of a network.
struct RunOptions {
    std::string device = "cpu"; ///< cpu, cuda, cuda:N, auto
    Precision precision = Precision::automatic;
    int threads = 0; ///< of the thread that calls run(); 0 means one per core
};

/// A window of frames: [frames][height][width].
struct WindowShape {
    int frames = 0;
    int height = 0;
    int width = 0;

    std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }
    std::size_t count() const { return pixels() * static_cast<std::size_t>(frames); }
    bool operator==(const WindowShape&) const = default;
};

} // namespace mri
