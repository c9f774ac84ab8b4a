// SPDX-License-Identifier: LGPL-2.1-or-later
// Settings of the elements around a network, and their properties.
#pragma once

#include "models/common/overlap.hpp"
#include "models/common/run_options.hpp"
#include "plugins/common/image_watch.hpp"
#include "plugins/common/properties.hpp"

#include <string>
#include <type_traits>

namespace mri {

struct NetworkSettings {
    std::string weights;
    int window = 0;
    int hop = 0;
    Blend blend = Blend::none;
    std::string device = "cpu";
    Precision precision = Precision::automatic;
    int threads = 0;
    bool attach_input = false;
    BadImage on_bad_image = BadImage::mark;

    RunOptions run() const { return {device, precision, threads}; }
};

/// Those of an element whose network keeps to measured samples; each of its images says how far it is from
/// them.
struct ConsistencySettings : NetworkSettings {
    double noise = 0;
};

/// The rows of all settings but `weights`, and of `noise` where the element has it.
template <class Impl>
void add_settings(Properties<Impl>& p) {
    using N = NetworkSettings;
    p.integer("window", "Frames computed together; 0: as many as the weights were trained on (20 if unsaid)",
              0, 1000, &N::window);
    p.integer("hop", "Frames from one window to the next; 0: the whole window", 0, 1000, &N::hop);
    p.choice("blend", "Combination of windows that hold the same frame (hop below window)", &N::blend,
             {{Blend::none, "none", "Each frame from one window, which holds it nearest to its centre"},
              {Blend::mean, "mean", "Mean over the windows"},
              {Blend::centre, "centre", "Mean that falls off towards the windows' edges"}});
    p.string("device", "cpu, cuda, cuda:N, or auto: cuda where there is a device", &N::device);
    p.choice("precision", "Arithmetic of the convolutions", &N::precision,
             {{Precision::automatic, "auto", "bfloat16 where the processor is faster with it"},
              {Precision::float32, "float32", "float32"},
              {Precision::bfloat16, "bfloat16", "bfloat16"}});
    p.integer("threads", "Threads; 0: one per core", 0, 1024, &N::threads);
    if constexpr (std::is_base_of_v<ConsistencySettings, typename Impl::Settings>)
        p.real(
            "noise",
            "Standard deviation of the noise in a sample's real and imaginary part; 0: as the k-space's caps "
            "say (mriwhiten's do)",
            0, 1e30, &ConsistencySettings::noise);
    add_bad_image(p, &N::on_bad_image);
    p.boolean("attach-input", "Attach the network's input as side data of role `input`", &N::attach_input);
}

} // namespace mri
