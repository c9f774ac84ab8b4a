// SPDX-License-Identifier: LGPL-2.1-or-later
// Networks as TorchScript's source. Pure C++: no LibTorch.
#pragma once

#include <optional>
#include <string>

namespace mri {

/// Description of an image module for mritorch.
struct ScriptImages {
    std::string group;         ///< group-id of the description
    std::optional<int> frames; ///< that the module takes together; none: any number
    bool scaled = false;       ///< its input is divided by the intensity scale
};

/// A network as TorchScript: a module whose parameters have the names of the weights file.
struct NetworkScript {
    std::string type; ///< of the module, CamelCase
    std::string code; ///< its forward()
    /// Description of a network from magnitudes to magnitudes, [1, 1, T, H, W].
    std::optional<ScriptImages> images;
};

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

    /// A tensor of the weights file.
    static std::string parameter(const std::string& tensor) { return "self." + tensor; }

    /// One convolution: layer, kind and what stands after weight and bias.
    static std::string call(const std::string& function, const std::string& x, const std::string& weight,
                            const std::string& bias, const std::string& more) {
        return "torch." + function + "(" + x + ", " + weight + ", " + bias + ", " + more + ")";
    }

    /// Repeats the edges of `x` up to multiples of 4, as the pooling needs, over time only for what pools over it.
    /// crop() takes them off again.
    void pad(bool frames) {
        const char* const axes[] = {"2", "3", "4"};
        const char* const names[] = {"frames", "height", "width"};
        for (int i = 0; i < 3; ++i)
            line(std::string(names[i]) + " = x.size(" + axes[i] + ")");
        const auto missing = [](const std::string& n) { return "(" + n + " + 3) // 4 * 4 - " + n; };
        line("x = torch.replication_pad3d(x, [0, " + missing("width") + ", 0, " + missing("height") +
             ", 0, " + (frames ? missing("frames") : "0") + "])");
    }
    static std::string crop(const std::string& x) { return "(" + x + ")[:, :, 0:frames, 0:height, 0:width]"; }

  private:
    std::string text_, indent_ = "    ";
};

} // namespace mri
