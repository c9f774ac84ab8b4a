// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/caps.hpp"
#include "plugins/inference/loaded_network.hpp"

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace mri {

/// Loads networks in a thread of its own, beside the one at work. Of many that are wanted the last one counts.
class WeightsLoader {
  public:
    /// Loads a network. Called in the loader's thread: of settings it uses the copy that it has captured.
    using Load = std::function<LoadedNetwork()>;
    /// A series, as far as a network for it must know.
    struct Stream {
        ImageInfo input, output;
        WindowShape shape;
    };
    /// Warms a network up for the stream; throws where it cannot go on with it. Called in the loader's thread.
    using Fit = std::function<void(LoadedNetwork& network, const Stream& stream)>;
    /// Called in the loader's thread, under no lock, for weights that cannot be used.
    using Refused =
        std::function<void(const std::string& weights, const std::string& why, const std::string& detail)>;

    WeightsLoader(Fit fit, Refused refused);

    /// From here to stop() networks can be wanted.
    void start();
    /// Waits for the loader's thread, which publishes and refuses nothing any more, and forgets all. To be called
    /// before the end, from the thread that calls start().
    void stop();

    /// The stream that networks loaded from here on are fitted to.
    void set_stream(const Stream& stream);
    /// Has a network loaded in place of those that were wanted before; not between stop() and start(). Any thread.
    void want(const std::string& weights, Load load);
    /// The network that was wanted last, once it is ready. It fits the stream, unless that came meanwhile.
    std::optional<LoadedNetwork> take();

  private:
    struct Wanted {
        std::string weights;
        Load load;
    };
    void run();
    void refuse(const std::string& weights, const std::string& why, const std::string& detail);

    const Fit fit_;
    const Refused refused_;

    // Guards the six below. Neither the callbacks nor anything else that takes a lock is called under it, and it is
    // taken under no other.
    std::mutex mutex_;
    bool running_ = false; // between start() and stop()
    bool loading_ = false; // thread_ is at work
    std::optional<Wanted> wanted_;
    std::optional<LoadedNetwork> ready_;
    std::optional<Stream> stream_;
    std::thread thread_;
};

} // namespace mri
