// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/cuda/device.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>

namespace mri {

ComputeDevice ComputeDevice::parse(const std::string& text) {
    if (const auto device = parse_device(text))
        return {device->kind, device->index};
    throw Error(Errc::settings, "device is \"" + text + "\", not auto, cpu, cuda or cuda:N");
}

ComputeDevice ComputeDevice::resolve(std::string& reason) const {
    reason.clear();
    if (kind == Kind::cpu)
        return *this;
    std::string why;
    const int count = CudaNufft::devices(&why);
    if (kind == Kind::automatic) {
        if (count > 0)
            return {Kind::cuda, 0};
        reason = why;
        return {Kind::cpu, 0};
    }
    if (count == 0)
        throw Error(Errc::no_device, "There is no CUDA device: " + why + ". Set device to auto or cpu");
    if (index >= count)
        throw Error(Errc::no_device, "There is no CUDA device " + std::to_string(index) +
                                         ": this machine has " + std::to_string(count) + ", counted from 0");
    return *this;
}

namespace {

std::variant<Nufft, CudaNufft> make(int width, int height, const Nufft::Options& options,
                                    ComputeDevice device) {
    if (device.kind == ComputeDevice::Kind::cuda)
        return CudaNufft(width, height, {.tolerance = options.tolerance, .device = device.index});
    return Nufft(width, height, options);
}

} // namespace

DeviceNufft::DeviceNufft(int width, int height, const Nufft::Options& options, ComputeDevice device)
    : nufft_(make(width, height, options, device)) {}

void DeviceNufft::set_points(std::span<const float> kxy) {
    std::visit([&](auto& nufft) { nufft.set_points(kxy); }, nufft_);
}

std::size_t DeviceNufft::points() const noexcept {
    return std::visit([](const auto& nufft) { return nufft.points(); }, nufft_);
}

void DeviceNufft::adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils) {
    std::visit([&](auto& nufft) { nufft.adjoint(samples, weights, images, coils); }, nufft_);
}

void DeviceNufft::forward(const cfloat* images, cfloat* samples, int coils) {
    std::visit([&](auto& nufft) { nufft.forward(images, samples, coils); }, nufft_);
}

void DeviceNufft::adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image,
                              int coils) {
    std::visit([&](auto& nufft) { nufft.adjoint_rss(samples, weights, image, coils); }, nufft_);
}

void DeviceNufft::set_sensitivities(const cfloat* maps, int coils) {
    maps_ = maps;
    coils_ = coils;
    if (auto* gpu = std::get_if<CudaNufft>(&nufft_))
        gpu->set_sensitivities(maps, coils);
}

void DeviceNufft::adjoint_sense(const cfloat* samples, std::span<const float> weights, cfloat* image) {
    if (!maps_)
        throw Error(Errc::format, "coils are to be combined whose sensitivities are not known");
    if (auto* gpu = std::get_if<CudaNufft>(&nufft_))
        gpu->adjoint_sense(samples, weights, image, false);
    else
        std::get<Nufft>(nufft_).adjoint_sense(samples, weights, maps_, image, coils_);
}

void DeviceNufft::forward_sense(const cfloat* image, cfloat* samples) {
    if (!maps_)
        throw Error(Errc::format, "coils are to be simulated whose sensitivities are not known");
    if (auto* gpu = std::get_if<CudaNufft>(&nufft_))
        gpu->forward_sense(image, samples);
    else
        std::get<Nufft>(nufft_).forward_sense(image, maps_, samples, coils_);
}

} // namespace mri
