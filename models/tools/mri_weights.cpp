// SPDX-License-Identifier: LGPL-2.1-or-later
// mri-weights: what a weights file holds, and the same weights in another format.
#include "models/files/torch_state_dict.hpp"
#include "models/files/weights.hpp"
#include "models/networks.hpp"
#include "models/tools/torchscript_export.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/printable.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using namespace mri;

int show(const std::string& path) {
    const TensorFile file = read_weights(find_weights(path));
    for (const auto& [key, value] : file.metadata)
        std::printf("%-32s %s\n", printable(key).c_str(), printable(value).c_str());
    std::size_t parameters = 0;
    for (const auto& [name, tensor] : file.tensors) {
        std::printf("%-32s %s\n", printable(name).c_str(), tensor.shape_text().c_str());
        parameters += tensor.count();
    }
    std::printf("%zu tensors, %zu numbers\n", file.tensors.size(), parameters);
    return 0;
}

int convert(const std::string& from, const std::string& to, const std::vector<std::string>& entries) {
    const std::string path = find_weights(from);
    const std::string kind = std::filesystem::path(to).extension().string();
    TensorFile file = read_weights(path);
    file.metadata.erase(other_state_dicts_key); // the new file has none
    for (const std::string& entry : entries) {
        const std::size_t equals = entry.find('=');
        if (equals == 0 || equals == std::string::npos)
            throw Error(Errc::settings, "--set takes KEY=VALUE, not '" + entry + "'");
        file.metadata[entry.substr(0, equals)] = entry.substr(equals + 1);
    }
    if (kind == ".safetensors")
        write_safetensors(to, file);
    else if (kind == ".pth")
        write_weights_bytes(to, format_torch(file));
    else if (kind == ".pt")
        write_torchscript(to, file, path);
    else
        throw Error(Errc::settings, "'" + to +
                                        "' must end in .safetensors, .pth (PyTorch state dict) or .pt "
                                        "(TorchScript module)");
    return 0;
}

/// The networks that cannot be TorchScript modules, for the help: ", not of a NAME".
std::string not_scripts() {
    std::string out;
    for (const NetworkRow& network : networks)
        if (!network.script)
            out += std::string(", not of a ") + network.nick;
    return out;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Weights of networks: what is in them, and their export to other formats.\n"
                 "Reads safetensors and PyTorch state dicts (no code in them is run).",
                 "mri-weights");
    app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage");
    app.require_subcommand(1);
    std::string from;
    std::string to;
    auto* list =
        app.add_subcommand("show", "Print metadata, names and shapes; of a checkpoint also which of its "
                                   "entries was taken (state-dict) and which was not");
    list->alias("info");
    list->add_option("FILE", from, "Weights file, or the name of an installed one")->required();
    auto* conversion =
        app.add_subcommand("convert", "Write the weights as .safetensors, .pth (state dict) or .pt "
                                      "(TorchScript module" +
                                          not_scripts() +
                                          "; with "
                                          "a description for mritorch beside it where that runs the module)");
    conversion->add_option("FROM", from, "Weights file, or the name of an installed one")->required();
    std::vector<std::string> entries;
    conversion
        ->add_option("--set", entries,
                     "KEY=VALUE of the metadata, such as leak=0.1 or up-relu=true of a state dict from "
                     "elsewhere, whose shapes cannot tell; may be repeated")
        ->allow_extra_args(false);
    conversion->add_option("TO", to, "File to write; its ending says the format")->required();
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& e) {
        return app.exit(e);
    } catch (const CLI::ParseError& e) {
        app.exit(e);
        return 2;
    }
    try {
        return *list ? show(from) : convert(from, to, entries);
    } catch (const Error& e) {
        std::fprintf(stderr, "mri-weights: %s\n", printable(e.what()).c_str());
        return e.code() == Errc::settings ? 2 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "mri-weights: %s\n", printable(e.what()).c_str());
        return 1;
    }
}
