// SPDX-License-Identifier: LGPL-2.1-or-later
// Description of a user's module, input and output, in a key file beside it. Pure C++.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mri {

/// One tensor of a module.
struct ModelTensor {
    std::string name;               ///< the section's title
    std::string type;               ///< float16, bfloat16, float32, float64, complex64
    std::vector<std::int64_t> dims; ///< -1: any
    std::string axes;               ///< what each of them is: letters of N (1), C, T, H, W

    /// The extent along an axis; -1 where it is any, 1 where the tensor has no such axis.
    std::int64_t extent(char axis) const;
    bool has(char axis) const { return axes.find(axis) != std::string::npos; }
    /// Complex values: complex64, or two channels (real and imaginary part).
    bool is_complex() const { return type == "complex64" || extent('C') == 2; }
    /// "float32 1,1,20,-1,-1 (NCTHW)", for messages.
    std::string text() const;
};

/// GStreamer 1.28's .modelinfo format: [modelinfo] with version=1.0, and a section for each tensor with dir,
/// type, dims and dims-order. Two keys are this product's own, in the input's section or each tensor's:
/// mri-axes says what the dims are (default HW, CHW, NCHW, NCTHW by their number), and mri-scale=
/// p99.5-of-time-average asks for images divided by that (default none).
struct ModelInfo {
    ModelTensor input, output;
    bool scaled = false;

    /// Frames that the module takes at once; nothing where it takes any number.
    std::optional<int> frames() const;
};

/// Throws Errc::decode for text that is not in this format, Errc::unsupported for tensors that no image
/// stream has; `name` is for messages.
ModelInfo parse_model_info(const std::string& text, const std::string& name);
/// Reads a file of at most 1 MiB. Throws Errc::not_found and Errc::read too.
ModelInfo read_model_info(const std::string& path);

} // namespace mri
