// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/tools/torchscript_export.hpp"

#include "models/cascade/cascade.hpp"
#include "models/causal_unet/module.hpp"
#include "models/common/intensity.hpp"
#include "models/crnn/layout.hpp"
#include "models/files/weights.hpp"
#include "models/torch/runtime.hpp"
#include "models/unet/module.hpp"
#include "plugins/math/base/error.hpp"

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <torch/csrc/jit/api/module.h>

namespace mri {

namespace {

/// TorchScript's source, a line at a time; indentation is Python's.
class Script {
  public:
    explicit Script(const std::string& head) { text_ = head + ":\n"; }
    void line(const std::string& text) { text_ += indent_ + text + "\n"; }
    void begin(const std::string& head) {
        line(head + ":");
        indent_ += "    ";
    }
    void end() { indent_.resize(indent_.size() - 4); }
    const std::string& text() const { return text_; }

  private:
    std::string text_, indent_ = "    ";
};

std::string parameter(const std::string& tensor) {
    return "self." + tensor;
}

/// One convolution: layer, kind and what stands after weight and bias.
std::string call(const std::string& function, const std::string& x, const std::string& weight,
                 const std::string& bias, const std::string& rest) {
    return "torch." + function + "(" + x + ", " + weight + ", " + bias + ", " + rest + ")";
}

/// `x` with edges repeated up to multiples of 4, as the pooling needs, of time only for what pools over it;
/// crop() ends that.
void pad(Script& s, bool frames) {
    const char* const axes[] = {"2", "3", "4"};
    const char* const names[] = {"frames", "height", "width"};
    for (int i = 0; i < 3; ++i)
        s.line(std::string(names[i]) + " = x.size(" + axes[i] + ")");
    const auto missing = [](const std::string& n) { return "(" + n + " + 3) // 4 * 4 - " + n; };
    s.line("x = torch.replication_pad3d(x, [0, " + missing("width") + ", 0, " + missing("height") + ", 0, " +
           (frames ? missing("frames") : "0") + "])");
}
std::string crop(const std::string& x) {
    return "(" + x + ")[:, :, 0:frames, 0:height, 0:width]";
}

std::string unet_code(const UnetOptions& options) {
    Script s("def forward(self, x)");
    const auto act = [&](const std::string& value) {
        return options.leak > 0 ? "torch.leaky_relu(" + value + ", " + number_text(options.leak) + ")"
                                : "torch.relu(" + value + ")";
    };
    const auto convolve = [&](const std::string& layer) {
        return call("conv3d", "x", parameter(layer + ".weight"), parameter(layer + ".bias"),
                    "[1, 1, 1], [1, 1, 1]");
    };
    const auto level = [&](int number) {
        for (const std::string& name : unet_level(options, number))
            s.line("x = " + act(convolve(name)));
    };
    const auto up = [&](const std::string& layer, const std::string& skip) {
        const std::string y = call("conv_transpose3d", "x", parameter(layer + ".weight"),
                                   parameter(layer + ".bias"), "[2, 2, 2], [1, 1, 1], [1, 1, 1]");
        s.line("x = torch.cat([" + (options.up_relu ? act(y) : y) + ", " + skip + "], 1)");
    };
    s.line("magnitude = x");
    if (options.mean_input) {
        s.line("mean = torch.mean(x, [2], True)");
        s.line("x = torch.cat([x - mean, mean.expand_as(x)], 1)");
    }
    pad(s, true);
    level(1);
    s.line("level1 = x");
    s.line("x = torch.max_pool3d(x, [2, 2, 2])");
    level(2);
    s.line("level2 = x");
    s.line("x = torch.max_pool3d(x, [2, 2, 2])");
    level(3);
    up("convT1", "level2");
    level(4);
    up("convT2", "level1");
    level(5);
    s.line("return torch.relu(" + crop(convolve("conv6")) + " + magnitude)");
    return s.text();
}

/// The convolutions within a frame are 4-D tensors; a series is convolved with them as 1 x 3 x 3.
std::string causal_code(const CausalUnetOptions& options) {
    Script s("def forward(self, x)");
    const auto frame = [&](const std::string& layer) {
        return call("conv3d", "x", parameter(layer + ".weight") + ".unsqueeze(2)", "None",
                    "[1, 1, 1], [0, 1, 1]");
    };
    const auto pair = [&](const std::string& first, const std::string& second) {
        s.line("x = torch.relu(" + frame(first) + ")");
        s.line("first = x[:, :, 0:1]"); // as if it had always been there
        std::string joined = "torch.cat([";
        for (std::int64_t tap = 1; tap < causal_taps; ++tap)
            joined += "first, ";
        s.line("x = " + joined + "x], 2)");
        s.line("x = torch.relu(" +
               call("conv3d", "x", parameter(second + ".weight"), "None", "[1, 1, 1], [0, 1, 1]") + ")");
    };
    const auto up = [&](const std::string& layer, const std::string& skip) {
        s.line("x = torch.cat([" +
               call("conv_transpose3d", "x", parameter(layer + ".weight") + ".unsqueeze(2)", "None",
                    "[1, 2, 2]") +
               ", " + skip + "], 1)");
    };
    s.line("magnitude = x");
    s.line("mean = x[:, :, 0]");
    s.line("means = [mean]");
    s.begin("for t in range(1, x.size(2))");
    s.line("mean = mean + (x[:, :, t] - mean) / min(t + 1, " + std::to_string(options.mean_frames) + ")");
    s.line("means.append(mean)");
    s.end();
    s.line("average = torch.stack(means, 2)");
    s.line("x = torch.cat([x - average, average], 1)");
    pad(s, false);
    pair("conv1", "conv1_1");
    s.line("level1 = x");
    s.line("x = torch.max_pool3d(x, [1, 2, 2])");
    pair("conv2", "conv2_2");
    s.line("level2 = x");
    s.line("x = torch.max_pool3d(x, [1, 2, 2])");
    pair("conv3", "conv3_3");
    up("convT1", "level2");
    pair("conv4", "conv4_4");
    up("convT2", "level1");
    pair("conv5", "conv5_5");
    s.line("return torch.relu(" + crop(frame("conv6")) + " + magnitude)");
    return s.text();
}

std::string crnn_code(const CrnnLayout& layout) {
    const bool seed = layout.preset == CrnnPreset::seed;
    const std::string filters = std::to_string(layout.filters);
    const auto convolve = [&](const std::string& layer, const std::string& x) {
        const std::string pad = std::to_string(layout.kernel / 2);
        return call("conv2d", x, parameter(layer + ".weight"), parameter(layer + ".bias"),
                    "[1, 1], [" + pad + ", " + pad + "]");
    };
    const auto act = [&](const std::string& x, const std::string& norm) {
        const std::string y = "torch.relu(" + x + ")";
        return norm.empty() ? y
                            : "torch.batch_norm(" + y + ", " + parameter(norm + ".weight") + ", " +
                                  parameter(norm + ".bias") + ", None, None, True, 0.0, 1e-05, False)";
    };
    const auto unit = [](int n) { return "conv" + std::to_string(n); };

    Script s("def forward(self, x, k, m)");
    s.line("batch = x.size(0)");
    s.line("frames = x.size(4)");
    s.line("pixels = [x.size(2), x.size(3)]");
    for (const char* tensor : {"x", "k", "m"}) // frame by frame, each of the whole batch
        s.line(std::string(tensor) + " = " + tensor + ".permute([4, 0, 1, 2, 3]).reshape([-1, 2] + pixels)");
    s.line("image = torch.complex(x[:, 0], x[:, 1])");
    s.line("measured = torch.complex(k[:, 0], k[:, 1])");
    s.line("mask = m[:, 0]");
    s.line("zeros = torch.zeros([frames * batch, " + filters + "] + pixels, dtype=x.dtype, device=x.device)");
    for (int n = 0; n <= layout.units; ++n)
        s.line("hidden" + std::to_string(n) + " = zeros");
    s.begin("for i in range(" + std::to_string(seed ? 10 : 5) + ")");
    s.line("x = torch.stack([torch.real(image), torch.imag(image)], 1)");
    s.line("parts = torch.split(" + convolve(layout.input, "x") + " + " +
           convolve(layout.iteration, "hidden0") + ", batch)");
    const auto pass = [&](bool forwards) {
        const std::string list = forwards ? "forwards" : "backwards";
        s.line("h = zeros[0:batch]");
        s.line(list + " = [h]");
        s.begin("for t in range(frames)");
        s.line("h = " + act(std::string("parts[") + (forwards ? "t" : "frames - 1 - t") + "] + " +
                                convolve(layout.hidden, "h"),
                            layout.cell_norm));
        s.line(list + ".append(h)");
        s.end();
    };
    pass(true);
    if (layout.causal) {
        s.line("hidden0 = torch.cat(forwards[1:])");
    } else {
        pass(false);
        s.line("backwards.append(h)"); // reversed, the state before the first step comes last
        s.line("backwards.reverse()");
        s.line("hidden0 = torch.cat(forwards[1:]) + torch.cat(backwards[1:-1])");
    }
    for (int n = 1; n <= layout.units; ++n) {
        const std::string hidden = "hidden" + std::to_string(n);
        const std::string sum = convolve(unit(n) + "_x", "hidden" + std::to_string(n - 1)) + " + " +
                                convolve(unit(n) + "_h", hidden);
        // The statistics of a causal network are of a frame, those of one over windows of all frames.
        if (layout.causal)
            s.line(hidden + " = torch.cat([" + act("frame", layout.shared_norm) +
                   " for frame in torch.split(" + sum + ", batch)])");
        else
            s.line(hidden + " = " + act(sum, layout.shared_norm));
    }
    s.line("step = " + convolve(unit(layout.units + 1) + "_x", "hidden" + std::to_string(layout.units)));
    s.line("image = image + torch.complex(step[:, 0], step[:, 1])");
    s.line("spectrum = torch.fft_fft2(image, None, [-2, -1], \"ortho\")");
    s.line(std::string("data = ") + (seed ? "(spectrum + measured * 0.2) / 1.2" : "measured"));
    s.line("image = torch.fft_ifft2(spectrum * (1 - mask) + data * mask, None, [-2, -1], \"ortho\")");
    s.end();
    s.line("x = torch.stack([torch.real(image), torch.imag(image)], 1)");
    s.line("return x.reshape([frames, batch, 2] + pixels).permute([1, 2, 3, 4, 0])");
    return s.text();
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

void write_module(const std::string& path, const TensorFile& weights, const std::string& type,
                  const std::string& code) {
    std::ostringstream stream;
    torch_call("writing the module", [&] {
        Tree tree;
        for (const auto& [tensor, value] : weights.tensors)
            tree.put(tensor, value);
        auto module =
            tree.build("__torch__.gst_mri." + type, std::make_shared<torch::jit::CompilationUnit>());
        module.define(code);
        module.eval();
        module.save(stream);
    });
    const std::string bytes = std::move(stream).str();
    write_weights_bytes(path, std::as_bytes(std::span(bytes)));
}

/// mritorch's description of a module from magnitudes to magnitudes; `frames` that it takes together, if not
/// any number.
void write_description(const std::string& path, const std::string& group, std::optional<int> frames,
                       bool scaled) {
    const std::string dims = "dims=1,1," + (frames ? std::to_string(*frames) : "-1") + ",-1,-1\n";
    const std::string info = "[modelinfo]\nversion=1.0\ngroup-id=" + group +
                             "\n\n[x]\ndir=input\ntype=float32\n" + dims + "mri-axes=NCTHW\n" +
                             (scaled ? std::string("mri-scale=") + intensity_name + "\n" : "") +
                             "\n[y]\ndir=output\ntype=float32\n" + dims + "mri-axes=NCTHW\n";
    write_weights_bytes(path + ".modelinfo", std::as_bytes(std::span(info)));
}

} // namespace

void write_torchscript(const std::string& path, const TensorFile& weights, const std::string& name) {
    const std::string network = network_of(weights);
    if (network == cascade_kind)
        throw Error(Errc::unsupported,
                    "a cascade cannot be a TorchScript module: between its convolutions it computes with "
                    "this product's gridding. A state dict of '" +
                        name + "' (.safetensors or .pth) holds its convolutions and step sizes");
    if (network == causal_unet_kind) {
        write_module(path, weights, "CausalUNet", causal_code(causal_unet_options_of(weights, name)));
        write_description(path, "gst-mri-causal-unet", std::nullopt, false);
    } else if (network == "crnn" || (network.empty() && !weights.tensors.contains("conv1.weight"))) {
        write_module(path, weights, "CRNN", crnn_code(crnn_layout_of(weights, name)));
    } else {
        write_module(path, weights, "UNet", unet_code(unet_options_of(weights, name)));
        write_description(path, "gst-mri-unet", trained_frames(weights.metadata), true);
    }
}

} // namespace mri
