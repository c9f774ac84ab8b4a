// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/user_module.hpp"

#include "models/files/torch_state_dict.hpp"
#include "models/files/zip.hpp"
#include "models/torch/libtorch_name/libtorch_name.hpp"
#include "models/torch/runtime.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <array>
#include <c10/core/InferenceMode.h>
#include <cstring>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

namespace mri {

namespace {

constexpr std::size_t max_window_values = std::size_t{1} << 31;
constexpr std::array<char, 5> memory_order = {'N', 'T', 'H', 'W', 'C'};

at::ScalarType type_of(const std::string& name) {
    static const std::map<std::string, at::ScalarType> types = {{"float16", at::kHalf},
                                                                {"bfloat16", at::kBFloat16},
                                                                {"float32", at::kFloat},
                                                                {"float64", at::kDouble},
                                                                {"complex64", at::kComplexFloat}};
    return types.at(name);
}

enum class Kind { script, compiled };

/// Kind of a file, by the names of its entries. Throws for neither kind.
Kind kind_of(const std::string& path) {
    const std::vector<std::byte> bytes = read_weights_bytes(path);
    if (!is_zip(bytes))
        throw Error(Errc::decode, "'" + path + "' is no module: neither TorchScript nor a .pt2 package");
    bool state_dict = false;
    bool exported = false;
    for (const auto& [entry, content] : read_zip(bytes, path)) {
        if (entry.ends_with("/constants.pkl") && entry.find('/') == entry.rfind('/'))
            return Kind::script;
        if (entry.find("/aotinductor/") != std::string::npos || entry.starts_with("aotinductor/"))
            return Kind::compiled;
        state_dict |= entry.ends_with("/data.pkl");
        exported |= entry.ends_with("/archive_format") ||
                    entry.ends_with("serialized_exported_program.json") ||
                    entry.ends_with("models/model.json");
    }
    if (exported)
        throw Error(Errc::unsupported,
                    "'" + path +
                        "' is a torch.export program that is not compiled, which LibTorch cannot run "
                        "from C++: make a package of it with torch._inductor.aoti_compile_and_package() "
                        "(and set trusted=true), or save the module with torch.jit.trace()");
    if (state_dict)
        throw Error(Errc::unsupported, "'" + path +
                                           "' is a state dict: weights without the network they belong "
                                           "to; save the module with torch.jit.trace() or torch.export");
    throw Error(Errc::decode, "'" + path + "' is a zip archive, and no module");
}

std::string text_of(const ModuleShape& shape) {
    return std::string(shape.is_complex ? "complex" : "real") + " images of " +
           std::to_string(shape.window.width) + " x " + std::to_string(shape.window.height) + ", " +
           std::to_string(shape.window.frames) + " at once";
}

} // namespace

struct TorchModule::State {
    std::string path;
    ModelInfo info;
    RunOptions options;
    at::Device device{at::kCPU};
    std::map<std::string, std::string> metadata;
    std::optional<torch::jit::Module> script;
    std::unique_ptr<torch::inductor::AOTIModelPackageLoader> package;

    at::Tensor forward(const at::Tensor& x) {
        if (package) {
            auto outputs = package->run({x});
            if (outputs.size() != 1)
                throw Error(Errc::format, "'" + path + "' gives " + std::to_string(outputs.size()) +
                                              " tensors, its description has one output");
            return outputs.front();
        }
        const c10::IValue output = script->forward({x});
        if (!output.isTensor())
            throw Error(Errc::format, "'" + path + "' gives " + output.tagKind() +
                                          ", its description has one output tensor");
        return output.toTensor();
    }

    /// [T][H][W] in memory to the input's axes.
    at::Tensor to_module(std::span<const float> values, const ModuleShape& shape) const {
        const WindowShape& w = shape.window;
        at::Tensor x = at::empty({1, w.frames, w.height, w.width, shape.is_complex ? 2 : 1}, at::kFloat);
        std::memcpy(x.data_ptr<float>(), values.data(), values.size_bytes());
        if (info.input.is_complex() && !shape.is_complex)
            x = at::cat({x, at::zeros_like(x)}, 4);
        if (info.input.type == "complex64")
            x = at::view_as_complex(x.contiguous()).unsqueeze(4);
        std::vector<std::int64_t> order;
        for (std::size_t i = 0; i < memory_order.size(); ++i)
            if (!info.input.has(memory_order[i]))
                order.push_back(static_cast<std::int64_t>(i)); // of extent 1: squeezed away
        const auto missing = static_cast<std::int64_t>(order.size());
        for (const char axis : info.input.axes)
            order.push_back(std::find(memory_order.begin(), memory_order.end(), axis) - memory_order.begin());
        x = x.permute(order);
        for (std::int64_t i = 0; i < missing; ++i)
            x = x.squeeze(0);
        return x.contiguous().to(device, type_of(info.input.type));
    }

    void from_module(const at::Tensor& y, std::span<float> values, const ModuleShape& shape) const {
        const ModelTensor& o = info.output;
        const std::map<char, std::int64_t> extents = {{'N', 1},
                                                      {'T', shape.window.frames},
                                                      {'H', shape.window.height},
                                                      {'W', shape.window.width},
                                                      {'C', o.extent('C')}};
        std::vector<std::int64_t> expected;
        for (const char axis : o.axes)
            expected.push_back(extents.at(axis));
        if (y.sizes().vec() != expected || y.scalar_type() != type_of(o.type)) {
            const auto list = [](at::IntArrayRef sizes) { return NamedTensor{sizes.vec(), {}}.shape_text(); };
            throw Error(Errc::format, "'" + path + "' gives " + std::string(c10::toString(y.scalar_type())) +
                                          " " + list(y.sizes()) + ", its description says " + o.type + " " +
                                          list(expected));
        }
        at::Tensor x = y.to(at::kCPU);
        if (o.type == "complex64") // the pair is the last axis; C, of extent 1, goes
            x = at::view_as_real(x.resolve_conj());
        std::vector<std::int64_t> order;
        for (const char axis : memory_order)
            if (const std::size_t at = o.axes.find(axis);
                at != std::string::npos && !(axis == 'C' && o.type == "complex64"))
                order.push_back(static_cast<std::int64_t>(at));
        if (o.type == "complex64") {
            if (o.has('C')) {
                const auto c = static_cast<std::int64_t>(o.axes.find('C'));
                x = x.squeeze(c);
                for (std::int64_t& axis : order)
                    axis -= axis > c ? 1 : 0;
            }
            order.push_back(x.dim() - 1);
        }
        x = x.permute(order).to(at::kFloat).contiguous();
        std::memcpy(values.data(), x.data_ptr<float>(), values.size_bytes());
    }
};

TorchModule TorchModule::load(const std::string& path, const std::string& info, bool trusted,
                              const RunOptions& options) {
    const Kind kind = kind_of(path);
    if (!trusted)
        throw Error(
            Errc::settings,
            "'" + path + "' is a program: " +
                (kind == Kind::compiled ? "a package with machine code" : "a TorchScript module") +
                " can read and write any file, already while it is loaded. Set trusted=true if you trust "
                "whoever made it; weights as a safetensors file or a state dict are data alone and need "
                "no trust (mriunet, mricrnn, mricascade)");
    auto state = std::make_unique<State>();
    state->path = path;
    state->info = read_model_info(info);
    state->options = options;
    state->device = open_device(options.device);
    if (const auto frames = state->info.frames())
        state->metadata["window"] = std::to_string(*frames);
    torch_call("loading the module", [&] {
        const c10::InferenceMode inference;
        if (kind == Kind::compiled) {
            provide_libtorch_name(state->device.is_cuda());
            state->package = std::make_unique<torch::inductor::AOTIModelPackageLoader>(
                path, "model", false, 1, state->device.is_cuda() ? state->device.index() : -1);
            return;
        }
        state->script = torch::jit::load(path, state->device);
        state->script->eval();
    });
    if (state->script) {
        // A package's inputs have no names; a TorchScript module's must be what the description calls it.
        const auto method = state->script->find_method("forward");
        if (!method)
            throw Error(Errc::decode, "'" + path + "' has no method forward");
        const auto& arguments = method->function().getSchema().arguments();
        if (arguments.size() < 2 || arguments[1].name() != state->info.input.name)
            throw Error(Errc::decode, "the description '" + info + "' calls the input '" +
                                          state->info.input.name + "', the module '" + path + "' " +
                                          (arguments.size() < 2 ? std::string("takes none")
                                                                : "calls it '" + arguments[1].name() + "'"));
    }
    return TorchModule(std::move(state));
}

TorchModule::TorchModule(std::unique_ptr<State> state) : state_(std::move(state)) {}
TorchModule::TorchModule(TorchModule&&) noexcept = default;
TorchModule& TorchModule::operator=(TorchModule&&) noexcept = default;
TorchModule::~TorchModule() = default;

const ModelInfo& TorchModule::info() const {
    return state_->info;
}

const std::map<std::string, std::string>& TorchModule::metadata() const {
    return state_->metadata;
}

std::string TorchModule::precision() const {
    return state_->info.input.type;
}

ModuleShape TorchModule::output_shape(const ModuleShape& input) const {
    const ModelInfo& info = state_->info;
    const auto fits = [](std::int64_t dim, int extent) { return dim == -1 || dim == extent; };
    const WindowShape& w = input.window;
    if (!fits(info.input.extent('H'), w.height) || !fits(info.input.extent('W'), w.width) ||
        !fits(info.input.extent('T'), w.frames) || (input.is_complex && !info.input.is_complex()))
        throw Error(Errc::format, "the module '" + state_->path + "' takes " + info.input.text() +
                                      ", the stream brings " + text_of(input));
    const auto made = [](std::int64_t dim, int same) { return dim == -1 ? same : static_cast<int>(dim); };
    return {{w.frames, made(info.output.extent('H'), w.height), made(info.output.extent('W'), w.width)},
            info.output.is_complex()};
}

void TorchModule::run(std::span<const float> input, std::span<float> output, const ModuleShape& shape) {
    const ModuleShape out = output_shape(shape);
    for (const WindowShape& w : {shape.window, out.window})
        checked_product({static_cast<std::size_t>(std::max(w.frames, 1)), w.pixels(), std::size_t{2}},
                        max_window_values, "a module's window");
    if (shape.window.count() == 0 || input.size() != shape.values() || output.size() != out.values())
        throw Error(Errc::format,
                    "a window of " + std::to_string(input.size()) + " values is not " + text_of(shape));
    torch_call("the module", [&] {
        set_torch_threads(state_->options.threads);
        const c10::InferenceMode inference;
        state_->from_module(state_->forward(state_->to_module(input, shape)), output, out);
    });
}

double TorchModule::warm_up(const WindowShape& shape) {
    const ModuleShape in{shape, state_->info.input.is_complex()};
    const ModuleShape out = output_shape(in);
    checked_product({static_cast<std::size_t>(std::max(shape.frames, 1)), shape.pixels(), std::size_t{2}},
                    max_window_values, "a module's window");
    const std::vector<float> zeros(in.values(), 0.0F);
    std::vector<float> output(out.values());
    return seconds_of_last(2, [&] { run(zeros, output, in); });
}

} // namespace mri
