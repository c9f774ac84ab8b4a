// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of networks: all that training, mritrain, mri-weights and the export to TorchScript know of each. Plain
// C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/cascade/cascade.hpp"
#include "models/causal_unet/causal_unet.hpp"
#include "models/common/intensity.hpp"
#include "models/crnn/layout.hpp"
#include "models/files/weights.hpp"
#include "models/torch/script.hpp"
#include "models/unet/options.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace mri {

struct TrainOptions;  // models/training/trainer.hpp
struct ComputeTarget; // models/training/task.hpp
class TrainingTask;   // models/training/task.hpp

/// The networks that can be trained.
enum class NetworkKind {
    unet,        ///< UnetOptions; windows of images beside their truth
    causal_unet, ///< CausalUnetOptions; likewise
    cascade      ///< CascadeOptions; windows of truth alone, scanned anew for each sample
};

/// The options of each of them; those of the kind that is trained count.
struct NetworkOptions {
    UnetOptions network;
    CausalUnetOptions causal;
    CascadeOptions cascade;
};

// In module.cpp of the networks, the cascade's in models/training/cascade_task.cpp.
std::unique_ptr<TrainingTask> make_unet_task(const TrainOptions& options, const ComputeTarget& target);
std::unique_ptr<TrainingTask> make_causal_unet_task(const TrainOptions& options, const ComputeTarget& target);
std::unique_ptr<TrainingTask> make_cascade_task(const TrainOptions& options, const ComputeTarget& target);
// In module.cpp of the networks, the CRNN's in models/crnn/script.cpp.
NetworkScript unet_script(const TensorFile& weights, const std::string& name);
NetworkScript causal_unet_script(const TensorFile& weights, const std::string& name);
NetworkScript crnn_script(const TensorFile& weights, const std::string& name);

/// Training of a network.
struct NetworkTraining {
    NetworkKind kind;
    const char* blurb; ///< of the kind in mritrain
    /// The truth alone is trained on: each sample is a new scan of it, and its images are complex. Otherwise
    /// images are, beside their truth.
    bool scans_truth;
    int& (*filters)(NetworkOptions&); ///< of the network's first level
    /// Throws Errc::settings where an option is outside of its range.
    void (*check)(const NetworkOptions&);
    /// Metadata of a weights file: the network's options, and the scaling of its input.
    std::map<std::string, std::string> (*metadata)(const NetworkOptions&);
    /// The options of a weights file. Throws Errc::decode where it holds another network.
    NetworkOptions (*options_of)(const TensorFile&, const std::string& name);
    std::unique_ptr<TrainingTask> (*task)(const TrainOptions&, const ComputeTarget&);
};

/// A row of the table.
struct NetworkRow {
    const char* nick;
    /// Whether a weights file says that it holds such a network, or else looks so.
    bool (*holds)(const TensorFile&);
    /// The network as TorchScript; throws Errc::decode where the file does not fit. Null where it cannot be one,
    /// and why.
    NetworkScript (*script)(const TensorFile&, const std::string& name);
    const char* no_script;                   ///< "a NICK cannot be a TorchScript module: ..."
    std::optional<NetworkTraining> training; ///< none: it is trained elsewhere
};

/// NetworkTraining::options_of: `read` gives the `member` of the options.
template <auto member, auto read>
NetworkOptions read_options(const TensorFile& file, const std::string& name) {
    NetworkOptions options;
    options.*member = read(file, name);
    return options;
}

inline constexpr NetworkRow networks[] = {
    {
        .nick = "unet",
        .holds =
            [](const TensorFile& file) {
                const std::string name = network_of(file);
                return name == unet_kind || (name.empty() && file.tensors.contains("conv1.weight"));
            },
        .script = unet_script,
        .no_script = nullptr,
        .training = NetworkTraining{
            .kind = NetworkKind::unet,
            .blurb = "A residual 3D U-Net, on images beside their truth",
            .scans_truth = false,
            .filters = [](NetworkOptions& o) -> int& { return o.network.filters; },
            .check = [](const NetworkOptions& o) { check_unet_options(o.network); },
            .metadata =
                [](const NetworkOptions& o) {
                    auto out = unet_metadata(o.network);
                    out["intensity"] = intensity_name;
                    return out;
                },
            .options_of = read_options<&NetworkOptions::network, unet_options_of>,
            .task = make_unet_task,
        },
    },
    {
        .nick = "causal-unet",
        .holds = [](const TensorFile& file) { return network_of(file) == causal_unet_kind; },
        .script = causal_unet_script,
        .no_script = nullptr,
        .training = NetworkTraining{
            .kind = NetworkKind::causal_unet,
            .blurb = "A U-Net that looks back alone, for live work, likewise; of the options of the network "
                     "it has filters",
            .scans_truth = false,
            .filters = [](NetworkOptions& o) -> int& { return o.causal.filters; },
            .check = [](const NetworkOptions& o) { check_causal_unet_options(o.causal); },
            .metadata = [](const NetworkOptions& o) { return causal_unet_metadata(o.causal); },
            .options_of = read_options<&NetworkOptions::causal, causal_unet_options_of>,
            .task = make_causal_unet_task,
        },
    },
    {
        .nick = "cascade",
        .holds = [](const TensorFile& file) { return network_of(file) == cascade_kind; },
        .script = nullptr,
        .no_script = "between its convolutions it computes with this product's gridding",
        .training = NetworkTraining{
            .kind = NetworkKind::cascade,
            .blurb = "An unrolled cascade with data consistency, on the truth alone: each sample is scanned "
                     "anew",
            .scans_truth = true,
            .filters = [](NetworkOptions& o) -> int& { return o.cascade.filters; },
            .check = [](const NetworkOptions& o) { check_cascade_options(o.cascade); },
            .metadata = [](const NetworkOptions& o) { return cascade_metadata(o.cascade); },
            .options_of = read_options<&NetworkOptions::cascade, cascade_options_of>,
            .task = make_cascade_task,
        },
    },
    {
        .nick = "crnn",
        .holds =
            [](const TensorFile& file) {
                const std::string name = network_of(file);
                return name == crnn_kind || (name.empty() && !file.tensors.contains("conv1.weight"));
            },
        .script = crnn_script,
        .no_script = nullptr,
        .training = std::nullopt,
    },
};

/// Training of the networks of a kind.
inline const NetworkTraining& training_of(NetworkKind kind) {
    return *std::find_if(std::begin(networks), std::end(networks), [kind](const NetworkRow& row) {
                return row.training && row.training->kind == kind;
            })->training;
}

/// The row of the network that a weights file holds. Of a network that is not in the table it is the U-Net's, whose
/// reader says what is wrong.
inline const NetworkRow& network_in(const TensorFile& file) {
    const auto* row = std::find_if(std::begin(networks), std::end(networks),
                                   [&file](const NetworkRow& r) { return r.holds(file); });
    return row == std::end(networks) ? networks[0] : *row;
}

} // namespace mri
