// SPDX-License-Identifier: LGPL-2.1-or-later
// A user's own module, exported from PyTorch. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/files/model_info.hpp"

#include <map>
#include <memory>
#include <span>
#include <string>

namespace mri {

/// Memory layout of images and of a module's output: [frames][height][width], complex ones as pairs.
struct ModuleShape {
    WindowShape window;
    bool is_complex = false;

    std::size_t values() const { return window.count() * (is_complex ? 2 : 1); }
    bool operator==(const ModuleShape&) const = default;
};

/// A TorchScript module, or a torch.export package that AOTInductor compiled.
class TorchModule {
  public:
    /// `trusted`: the file is a program, whose maker is trusted; nothing of one that is not is loaded. Throws Errc::not_found and Errc::read, what
    /// read_model_info() throws, Errc::settings for a module that is not trusted, Errc::unsupported
    /// for other exports (naming what to export instead), Errc::decode for damaged files and for an input's
    /// name that is not the module's.
    static TorchModule load(const std::string& path, const std::string& info, bool trusted,
                            const RunOptions& options);

    TorchModule(TorchModule&&) noexcept;
    TorchModule& operator=(TorchModule&&) noexcept;
    ~TorchModule();

    const ModelInfo& info() const;
    /// The images that come out for such images going in; real ones go into a complex module with an
    /// imaginary part of 0. Throws Errc::format naming both sides where the module does not take them.
    ModuleShape output_shape(const ModuleShape& input) const;

    /// Runs the module. Input and output are as the shapes say. Throws Errc::format where sizes do not fit or
    /// the module gives something else than its description says, Errc::failed or Errc::no_memory out of
    /// LibTorch.
    void run(std::span<const float> input, std::span<float> output, const ModuleShape& shape);

    /// Runs zeros of the module's own kind (complex or not) twice; the seconds that the second run took.
    double warm_up(const WindowShape& shape);

    /// "window", where the description says how many frames go in.
    const std::map<std::string, std::string>& metadata() const;
    /// That of its input.
    std::string precision() const;

  private:
    struct State;
    explicit TorchModule(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace mri
