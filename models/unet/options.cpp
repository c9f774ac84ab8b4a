// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/unet/options.hpp"

#include "models/files/weights.hpp"
#include "plugins/math/base/error.hpp"

namespace mri {

namespace {

constexpr int most_convolutions = 4;

} // namespace

void check_unet_options(const UnetOptions& options) {
    if (options.filters < 1 || options.filters > 1024)
        throw Error(Errc::settings,
                    "a U-Net needs 1 to 1024 filters, not " + std::to_string(options.filters));
    if (options.middle < 0 || options.middle > 8192)
        throw Error(Errc::settings,
                    "a U-Net's middle level needs 1 to 8192 filters (0: twice the filters), not " +
                        std::to_string(options.middle));
    if (options.convolutions < 1 || options.convolutions > most_convolutions)
        throw Error(Errc::settings, "a U-Net's levels have 1 to " + std::to_string(most_convolutions) +
                                        " convolutions, not " + std::to_string(options.convolutions));
    if (options.bottleneck < 0 || options.bottleneck > 8192)
        throw Error(Errc::settings,
                    "a U-Net's bottleneck needs 1 to 8192 filters (0: four times the filters), not " +
                        std::to_string(options.bottleneck));
    if (!(options.leak >= 0.0F && options.leak <= 1.0F))
        throw Error(Errc::settings,
                    "the activation's slope must be 0 to 1, not " + number_text(options.leak));
}

std::vector<std::string> unet_level(const UnetOptions& options, int level) {
    const std::string number = std::to_string(level), second = "conv" + number + "_" + number;
    std::vector<std::string> out{"conv" + number};
    for (int i = 2; i <= options.convolutions; ++i)
        out.push_back(i == 2 ? second : second + "_" + std::to_string(i));
    return out;
}

TensorShapes unet_tensors(const UnetOptions& options) {
    const std::int64_t f = options.filters;
    const std::int64_t middle = options.middle_filters(), deep = options.bottleneck_filters();
    TensorShapes out;
    const auto layer = [&out](const std::string& name, std::int64_t from, std::int64_t to, bool transposed) {
        out.emplace_back(name + ".weight", transposed ? std::vector<std::int64_t>{from, to, 3, 3, 3}
                                                      : std::vector<std::int64_t>{to, from, 3, 3, 3});
        out.emplace_back(name + ".bias", std::vector<std::int64_t>{to});
    };
    const auto level = [&](int number, std::int64_t from, std::int64_t to) {
        for (const std::string& name : unet_level(options, number)) {
            layer(name, from, to, false);
            from = to;
        }
    };
    level(1, options.input_channels(), f);
    level(2, f, middle);
    level(3, middle, deep);
    layer("convT1", deep, middle, true);
    level(4, 2 * middle, middle);
    layer("convT2", middle, f, true);
    level(5, 2 * f, f);
    layer("conv6", f, 1, false);
    return out;
}

std::map<std::string, std::string> unet_metadata(const UnetOptions& options) {
    return {{"network", unet_kind},
            {"filters", std::to_string(options.filters)},
            {"middle", std::to_string(options.middle_filters())},
            {"bottleneck", std::to_string(options.bottleneck_filters())},
            {"convolutions", std::to_string(options.convolutions)},
            {"leak", number_text(options.leak)},
            {"up-relu", options.up_relu ? "true" : "false"},
            {"input", options.mean_input ? "difference+mean" : "magnitude"}};
}

UnetOptions unet_options_of(const TensorFile& file, const std::string& name) {
    const std::string kind = network_of(file);
    if (!kind.empty() && kind != unet_kind)
        throw Error(Errc::decode, "the weights file '" + name + "' holds the network '" + kind +
                                      "', not a 3D U-Net ('" + unet_kind + "')");
    const auto shape_of = [&](const char* tensor) -> const std::vector<std::int64_t>& {
        const auto it = file.tensors.find(tensor);
        if (it == file.tensors.end() || it->second.shape.size() != 5)
            throw Error(Errc::decode, "the weights file '" + name +
                                          "' holds no 3D U-Net: it has no five-dimensional " +
                                          std::string("tensor '") + tensor + "'");
        return it->second.shape;
    };
    const std::vector<std::int64_t>& first = shape_of("conv1.weight");
    const std::vector<std::int64_t>& middle = shape_of("conv2.weight");
    const std::vector<std::int64_t>& deep = shape_of("conv3.weight");
    const auto small = [](std::int64_t extent) {
        return static_cast<int>(extent > 1 << 20 ? 1 << 20 : extent);
    };

    const Metadata metadata(file.metadata, name);
    UnetOptions options;
    options.filters = metadata.number("filters", small(first[0]));
    options.middle = metadata.number("middle", small(middle[0]));
    options.bottleneck = metadata.number("bottleneck", small(deep[0]));
    options.leak = metadata.number("leak", 0.0F);
    options.up_relu = metadata.choice("up-relu", "false", "true");
    options.mean_input = file.metadata.contains("input")
                             ? metadata.choice("input", "magnitude", "difference+mean")
                             : first[1] == 2;
    UnetOptions most;
    most.convolutions = most_convolutions;
    const std::vector<std::string> names = unet_level(most, 1);
    std::size_t named = 1;
    while (named < names.size() && file.tensors.contains(names[named] + ".weight"))
        ++named;
    options.convolutions =
        metadata.number("convolutions", file.metadata.contains("network") ? 2 : static_cast<int>(named));
    try {
        check_unet_options(options);
    } catch (const Error& e) {
        throw Error(Errc::decode, "the weights file '" + name + "' cannot be used: " + e.what());
    }
    if (options.middle == 2 * options.filters)
        options.middle = 0;
    if (options.bottleneck == 4 * options.filters)
        options.bottleneck = 0;

    check_tensors(file, name, unet_tensors(options),
                  "a 3D U-Net with " + std::to_string(options.filters) + " filters");
    return options;
}

} // namespace mri
