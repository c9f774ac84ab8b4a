// SPDX-License-Identifier: LGPL-2.1-or-later
// A network that is ready for work, whatever its type.
#pragma once

#include "models/common/run_options.hpp"
#include "plugins/math/recon/network_start.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace mri {

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// A network of any type.
class AnyNetwork {
  public:
    virtual ~AnyNetwork() = default;
    /// Runs twice without data; returns the seconds of the second run.
    virtual double warm_up(const WindowShape& shape) = 0;
    /// Metadata of the weights file.
    virtual const std::map<std::string, std::string>& metadata() const = 0;
    virtual std::string precision() const = 0;
};

template <class Net>
class NetworkBox final : public AnyNetwork {
  public:
    explicit NetworkBox(Net of) : network(std::move(of)) {}
    double warm_up(const WindowShape& shape) override { return network.warm_up(shape); }
    const std::map<std::string, std::string>& metadata() const override { return network.metadata(); }
    std::string precision() const override { return network.precision(); }

    Net network;
};

/// A network, its weights' name, and what is known of it.
struct LoadedNetwork {
    std::string weights;
    std::string identity; ///< weights_identity()
    std::unique_ptr<AnyNetwork> network;
    bool by_frame = false; ///< computes each frame from those before it, and not windows
    StartRecipe recipe;    ///< that it was trained with
    double load_seconds = 0;
    std::optional<WindowShape> warm; ///< the window that `seconds` was measured with
    double warm_up_seconds = 0;      ///< both runs
    double seconds = 0;              ///< of a window

    /// Warms the network up for this window, unless that was done last.
    void warm_up(const WindowShape& shape) {
        if (warm == shape)
            return;
        const auto begin = std::chrono::steady_clock::now();
        seconds = network->warm_up(shape);
        warm_up_seconds = seconds_since(begin);
        warm = shape;
    }
};

} // namespace mri
