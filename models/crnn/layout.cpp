// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/crnn/layout.hpp"

#include "models/files/weights.hpp"
#include "plugins/math/base/error.hpp"

namespace mri {

namespace {

constexpr int max_units = 100;
constexpr const char* cell = "bcrnn.CRNN_model.";

} // namespace

bool belongs_to(const std::string& tensor, const std::set<std::string>& layers) {
    const std::size_t dot = tensor.rfind('.');
    return dot != std::string::npos && layers.contains(tensor.substr(0, dot));
}

CrnnLayout crnn_layout_of(const TensorFile& file, const std::string& name) {
    CrnnLayout out;
    out.causal = Metadata(file.metadata, name).choice("time", "window", "causal");
    const auto has = [&](const std::string& tensor) { return file.tensors.contains(tensor); };
    const std::string prefix = cell;
    if (has(prefix + "iteration_to_hidden.weight")) {
        out.preset = CrnnPreset::seed;
        out.input = prefix + "iteration_to_hidden";
        out.hidden = prefix + "hidden_to_hidden";
        out.iteration = prefix + "iterationHidden_to_iterationHidden";
    } else {
        out.input = prefix + "i2h";
        out.hidden = prefix + "h2h";
        out.iteration = prefix + "ih2ih";
    }
    const auto first = file.tensors.find(out.input + ".weight");
    if (first == file.tensors.end() || first->second.shape.size() != 4 || first->second.shape[0] < 1 ||
        first->second.shape[0] > 4096 || first->second.shape[2] < 1 || first->second.shape[2] > 31 ||
        first->second.shape[2] % 2 == 0)
        throw Error(Errc::decode, "the weights file '" + name + "' holds no CRNN: it has no usable tensor '" +
                                      out.input + ".weight'");
    out.filters = first->second.shape[0];
    out.kernel = first->second.shape[2];
    for (int n = 1; n <= max_units; ++n)
        if (has("conv" + std::to_string(n) + "_h.weight"))
            out.units = n;
    if (out.units == 0)
        out.units = 3; // so that the sentence below names what is missing of the usual network

    std::set<std::string> layers;
    std::string problems;
    const auto problem = [&problems](const std::string& text) {
        problems += (problems.empty() ? "" : ", ") + text;
    };
    const auto expect = [&](const std::string& tensor, const std::vector<std::int64_t>& shape) {
        const auto it = file.tensors.find(tensor);
        if (it == file.tensors.end())
            problem(tensor + " is missing");
        else if (it->second.shape != shape)
            problem(tensor + " is " + it->second.shape_text() + " instead of " +
                    NamedTensor{shape, {}}.shape_text());
    };
    const auto layer = [&](const std::string& tensor, std::int64_t from, std::int64_t to) {
        layers.insert(tensor);
        expect(tensor + ".weight", {to, from, out.kernel, out.kernel});
        expect(tensor + ".bias", {to});
    };
    const std::int64_t f = out.filters;
    layer(out.input, 2, f);
    layer(out.hidden, f, f);
    layer(out.iteration, f, f);
    for (int n = 1; n <= out.units; ++n)
        for (const char* end : {"_x", "_h"})
            layer("conv" + std::to_string(n) + end, f, f);
    layer("conv" + std::to_string(out.units + 1) + "_x", f, 2);

    for (const auto& [tensor, content] : file.tensors) {
        if (belongs_to(tensor, layers))
            continue;
        const std::string owner = tensor.substr(0, tensor.rfind('.') + 1);
        const std::string member = tensor.substr(owner.size());
        const auto weight = file.tensors.find(owner + "weight");
        const bool norm = out.preset == CrnnPreset::seed && !owner.empty() && weight != file.tensors.end() &&
                          weight->second.shape.size() == 1;
        if (!norm) {
            problem(tensor + " is extra");
            continue;
        }
        // Stored statistics and counters are of no use: those of the data count.
        if (member != "weight")
            continue;
        std::string& which = owner.starts_with(prefix) ? out.cell_norm : out.shared_norm;
        if (content.shape[0] != f) {
            if (content.shape[0] != 2) // the seed has one of the two image channels that it never uses
                problem(tensor + " is " + content.shape_text() + " instead of " +
                        NamedTensor{{f}, {}}.shape_text());
        } else if (!which.empty()) {
            problem(tensor + " is a second normalisation beside " + which);
        } else {
            which = owner.substr(0, owner.size() - 1);
            expect(which + ".bias", {f});
        }
    }
    if (out.preset == CrnnPreset::seed) {
        if (out.cell_norm.empty())
            problem(prefix + "<normalisation>.weight is missing");
        if (out.shared_norm.empty())
            problem("<normalisation>.weight is missing");
    }
    if (!problems.empty())
        throw Error(Errc::decode, "the weights file '" + name + "' does not fit a CRNN with " +
                                      std::to_string(f) + " filters: " + problems);
    check_finite(file, name);
    return out;
}

} // namespace mri
