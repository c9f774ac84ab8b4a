// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/crnn/layout.hpp"

#include "models/files/weights.hpp"
#include "plugins/math/base/error.hpp"

namespace mri {

namespace {

constexpr int max_units = 100;
constexpr const char* cell = "bcrnn.CRNN_model.";

/// Faults of a file's tensors, as a sentence.
class Problems {
  public:
    explicit Problems(const TensorFile& file) : file_(file) {}

    void add(const std::string& text) { text_ += (text_.empty() ? "" : ", ") + text; }
    /// Adds a tensor that is missing or of another shape.
    void expect(const std::string& tensor, const std::vector<std::int64_t>& shape) {
        const auto it = file_.tensors.find(tensor);
        if (it == file_.tensors.end())
            add(tensor + " is missing");
        else if (it->second.shape != shape)
            add(tensor + " is " + it->second.shape_text() + " instead of " +
                NamedTensor{shape, {}}.shape_text());
    }
    /// Separated by commas; empty where there are none.
    const std::string& text() const { return text_; }

  private:
    const TensorFile& file_;
    std::string text_;
};

/// The preset, and what its cell's convolutions are called.
CrnnLayout named_cell(const TensorFile& file) {
    const std::string prefix = cell;
    CrnnLayout out;
    if (file.tensors.contains(prefix + "iteration_to_hidden.weight")) {
        out.preset = CrnnPreset::seed;
        out.input = prefix + "iteration_to_hidden";
        out.hidden = prefix + "hidden_to_hidden";
        out.iteration = prefix + "iterationHidden_to_iterationHidden";
    } else {
        out.input = prefix + "i2h";
        out.hidden = prefix + "h2h";
        out.iteration = prefix + "ih2ih";
    }
    return out;
}

/// Names of the convolutions that the layout has, each as it is expected.
std::set<std::string> expect_layers(const CrnnLayout& layout, Problems& problems) {
    std::set<std::string> layers;
    const auto layer = [&](const std::string& name, std::int64_t from, std::int64_t to) {
        layers.insert(name);
        problems.expect(name + ".weight", {to, from, layout.kernel, layout.kernel});
        problems.expect(name + ".bias", {to});
    };
    const std::int64_t f = layout.filters;
    layer(layout.input, 2, f);
    layer(layout.hidden, f, f);
    layer(layout.iteration, f, f);
    for (int n = 1; n <= layout.units; ++n)
        for (const char* end : {"_x", "_h"})
            layer("conv" + std::to_string(n) + end, f, f);
    layer("conv" + std::to_string(layout.units + 1) + "_x", f, 2);
    return layers;
}

/// Finds the normalisations among the tensors that are of no layer; whatever else there is, is extra.
void find_norms(const TensorFile& file, const std::set<std::string>& layers, CrnnLayout& layout,
                Problems& problems) {
    const std::string prefix = cell;
    for (const auto& [tensor, content] : file.tensors) {
        if (belongs_to(tensor, layers))
            continue;
        const std::string owner = tensor.substr(0, tensor.rfind('.') + 1);
        const std::string member = tensor.substr(owner.size());
        const auto weight = file.tensors.find(owner + "weight");
        const bool norm = layout.preset == CrnnPreset::seed && !owner.empty() &&
                          weight != file.tensors.end() && weight->second.shape.size() == 1;
        if (!norm) {
            problems.add(tensor + " is extra");
            continue;
        }
        // Stored statistics and counters are of no use: those of the data count.
        if (member != "weight")
            continue;
        std::string& which = owner.starts_with(prefix) ? layout.cell_norm : layout.shared_norm;
        if (content.shape[0] != layout.filters) {
            if (content.shape[0] != 2) // the seed has one of the two image channels that it never uses
                problems.add(tensor + " is " + content.shape_text() + " instead of " +
                             NamedTensor{{layout.filters}, {}}.shape_text());
        } else if (!which.empty()) {
            problems.add(tensor + " is a second normalisation beside " + which);
        } else {
            which = owner.substr(0, owner.size() - 1);
            problems.expect(which + ".bias", {layout.filters});
        }
    }
    if (layout.preset == CrnnPreset::seed) {
        if (layout.cell_norm.empty())
            problems.add(prefix + "<normalisation>.weight is missing");
        if (layout.shared_norm.empty())
            problems.add("<normalisation>.weight is missing");
    }
}

} // namespace

bool belongs_to(const std::string& tensor, const std::set<std::string>& layers) {
    const std::size_t dot = tensor.rfind('.');
    return dot != std::string::npos && layers.contains(tensor.substr(0, dot));
}

CrnnLayout crnn_layout_of(const TensorFile& file, const std::string& name) {
    CrnnLayout out = named_cell(file);
    out.causal = Metadata(file.metadata, name).choice("time", "window", "causal");
    const auto first = file.tensors.find(out.input + ".weight");
    if (first == file.tensors.end() || first->second.shape.size() != 4 || first->second.shape[0] < 1 ||
        first->second.shape[0] > 4096 || first->second.shape[2] < 1 || first->second.shape[2] > 31 ||
        first->second.shape[2] % 2 == 0)
        throw Error(Errc::decode, "the weights file '" + name + "' holds no CRNN: it has no usable tensor '" +
                                      out.input + ".weight'");
    out.filters = first->second.shape[0];
    out.kernel = first->second.shape[2];
    for (int n = 1; n <= max_units; ++n)
        if (file.tensors.contains("conv" + std::to_string(n) + "_h.weight"))
            out.units = n;
    if (out.units == 0)
        out.units = 3; // so that the sentence below names what is missing of the usual network

    Problems problems(file);
    const std::set<std::string> layers = expect_layers(out, problems);
    find_norms(file, layers, out, problems);
    if (!problems.text().empty())
        throw Error(Errc::decode, "the weights file '" + name + "' does not fit a CRNN with " +
                                      std::to_string(out.filters) + " filters: " + problems.text());
    check_finite(file, name);
    return out;
}

} // namespace mri
