// SPDX-License-Identifier: LGPL-2.1-or-later
// Images and small networks for the tests of networks and their training.
#pragma once

#include "models/causal_unet/causal_unet.hpp"
#include "models/files/safetensors.hpp"
#include "tests/support/gst_test.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace mri::test {

/// The golden network with 3 filters, without the golden vectors that ride with it.
inline TensorFile small_network() {
    TensorFile file = read_safetensors(env("GST_MRI_GOLDEN_DIR") + "/unet/seed.safetensors");
    std::erase_if(file.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
    file.metadata["window"] = "8";
    return file;
}

/// A causal U-Net with 2 filters in which every layer counts.
inline TensorFile causal_network() {
    const CausalUnetOptions options{2, 4};
    TensorFile file;
    file.metadata = causal_unet_metadata(options);
    unsigned random = 1;
    for (const auto& [name, shape] : causal_unet_tensors(options)) {
        NamedTensor tensor{shape, {}};
        const auto inputs = static_cast<float>(tensor.count()) / static_cast<float>(shape[0]);
        for (std::size_t i = 0; i < tensor.count(); ++i) {
            random = random * 1664525U + 1013904223U; // Numerical Recipes' quick generator
            tensor.values.push_back((static_cast<float>(random >> 8) * 0x1p-23F - 1) * std::sqrt(6 / inputs));
        }
        file.tensors[name] = tensor;
    }
    return file;
}

inline ImageInfo image_info(int width, int height, int series = 0, SampleFormat format = SampleFormat::f32,
                            Fraction framerate = {25, 1}) {
    ImageInfo info;
    info.format = format;
    info.width = width;
    info.height = height;
    info.series = series;
    info.framerate = framerate;
    return info;
}

/// A blob that moves from frame to frame, between 0.2 and 1.
inline std::vector<float> blob(int width, int height, int frame) {
    std::vector<float> out;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const float dx =
                static_cast<float>(x) - 0.5F * static_cast<float>(width) - static_cast<float>(frame % 4);
            const float dy = static_cast<float>(y) - 0.5F * static_cast<float>(height);
            out.push_back(0.2F + 0.8F * std::exp(-(dx * dx + dy * dy) / 30.0F));
        }
    return out;
}

inline constexpr GstClockTime frame_time = 40 * GST_MSECOND;

/// Frame number `frame` with its time stamps.
template <class T>
GstPtr<GstBuffer> frame_of(const std::vector<T>& pixels, int frame) {
    return buffer_of(pixels, static_cast<GstClockTime>(frame) * frame_time, frame_time);
}

} // namespace mri::test
