// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/tools/torchscript_export.hpp"

#include "models/common/intensity.hpp"
#include "models/networks.hpp"
#include "models/torch/runtime.hpp"
#include "models/torch/trained_module.hpp"
#include "plugins/math/base/error.hpp"

#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <torch/csrc/jit/api/module.h>

namespace mri {

namespace {

/// Names become code. Throws Errc::unsupported where one is more than words between points.
void check_names(const TensorFile& weights, const std::string& name) {
    constexpr const char* allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.";
    for (const auto& [tensor, value] : weights.tensors)
        if (tensor.empty() || tensor.find_first_not_of(allowed) != std::string::npos)
            throw Error(Errc::unsupported, "'" + name + "' cannot be a TorchScript module: its tensor '" +
                                               tensor +
                                               "' has another name than letters, digits, '_' and '.' make");
}

/// The modules that a state dict's dotted names stand for.
class Tree {
  public:
    void put(const std::string& tensor, const NamedTensor& value) {
        const std::size_t dot = tensor.find('.');
        if (dot == std::string::npos)
            leaves_[tensor] = &value;
        else
            branches_[tensor.substr(0, dot)].put(tensor.substr(dot + 1), value);
    }
    torch::jit::Module build(const std::string& type,
                             const std::shared_ptr<torch::jit::CompilationUnit>& unit) const {
        torch::jit::Module module(type, unit);
        for (const auto& [name, value] : leaves_)
            module.register_parameter(name, to_torch(*value), name.starts_with("running_"));
        for (const auto& [name, branch] : branches_)
            module.register_module(name, branch.build(type + "_" + name, unit));
        return module;
    }

  private:
    std::map<std::string, const NamedTensor*> leaves_;
    std::map<std::string, Tree> branches_;
};

void write_module(const std::string& path, const TensorFile& weights, const NetworkScript& script) {
    std::ostringstream stream;
    torch_call("writing the module", [&] {
        Tree tree;
        for (const auto& [tensor, value] : weights.tensors)
            tree.put(tensor, value);
        auto module =
            tree.build("__torch__.gst_mri." + script.type, std::make_shared<torch::jit::CompilationUnit>());
        module.define(script.code);
        module.eval();
        module.save(stream);
    });
    const std::string bytes = std::move(stream).str();
    write_weights_bytes(path, std::as_bytes(std::span(bytes)));
}

/// mritorch's description of a module from magnitudes to magnitudes.
void write_description(const std::string& path, const ScriptImages& images) {
    const std::string dims =
        "dims=1,1," + (images.frames ? std::to_string(*images.frames) : "-1") + ",-1,-1\n";
    const std::string info = "[modelinfo]\nversion=1.0\ngroup-id=" + images.group +
                             "\n\n[x]\ndir=input\ntype=float32\n" + dims + "mri-axes=NCTHW\n" +
                             (images.scaled ? std::string("mri-scale=") + intensity_name + "\n" : "") +
                             "\n[y]\ndir=output\ntype=float32\n" + dims + "mri-axes=NCTHW\n";
    write_weights_bytes(path + ".modelinfo", std::as_bytes(std::span(info)));
}

} // namespace

void write_torchscript(const std::string& path, const TensorFile& weights, const std::string& name) {
    const NetworkRow& network = network_in(weights);
    if (!network.script)
        throw Error(Errc::unsupported, std::string("a ") + network.nick +
                                           " cannot be a TorchScript module: " + network.no_script +
                                           ". A state dict of '" + name +
                                           "' (.safetensors or .pth) holds its convolutions and step sizes");
    check_names(weights, name);
    const NetworkScript script = network.script(weights, name);
    write_module(path, weights, script);
    if (script.images)
        write_description(path, *script.images);
}

} // namespace mri
