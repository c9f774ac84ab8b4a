// SPDX-License-Identifier: LGPL-2.1-or-later
// The CRNN as TorchScript.
#include "models/torch/script.hpp"
#include "models/crnn/layout.hpp"
#include "models/networks.hpp"

#include <string>

namespace mri {

namespace {

std::string crnn_code(const CrnnLayout& layout) {
    const bool seed = layout.preset == CrnnPreset::seed;
    const std::string filters = std::to_string(layout.filters);
    const auto convolve = [&](const std::string& layer, const std::string& x) {
        const std::string pad = std::to_string(layout.kernel / 2);
        return Script::call("conv2d", x, Script::parameter(layer + ".weight"),
                            Script::parameter(layer + ".bias"), "[1, 1], [" + pad + ", " + pad + "]");
    };
    const auto act = [&](const std::string& x, const std::string& norm) {
        const std::string y = "torch.relu(" + x + ")";
        return norm.empty()
                   ? y
                   : "torch.batch_norm(" + y + ", " + Script::parameter(norm + ".weight") + ", " +
                         Script::parameter(norm + ".bias") + ", None, None, True, 0.0, 1e-05, False)";
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

} // namespace

NetworkScript crnn_script(const TensorFile& weights, const std::string& name) {
    return {"CRNN", crnn_code(crnn_layout_of(weights, name)), std::nullopt};
}

} // namespace mri
