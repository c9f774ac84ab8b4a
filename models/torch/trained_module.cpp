// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/trained_module.hpp"

#include <cmath>
#include <cstring>

namespace mri {

at::Tensor to_torch(const NamedTensor& tensor) {
    at::Tensor out = at::empty(tensor.shape, at::kFloat);
    if (!tensor.values.empty())
        std::memcpy(out.data_ptr<float>(), tensor.values.data(), tensor.values.size() * sizeof(float));
    return out;
}

NamedTensor from_torch(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
    NamedTensor out{flat.sizes().vec(), std::vector<float>(static_cast<std::size_t>(flat.numel()))};
    if (!out.values.empty())
        std::memcpy(out.values.data(), flat.data_ptr<float>(), out.values.size() * sizeof(float));
    return out;
}

void TrainedModule::to(const at::Device& device, at::ScalarType type) {
    for (auto& [name, parameter] : parameters_) {
        parameter = parameter.to(device, type);
        if (parameter.dim() == 5)
            parameter = parameter.contiguous(at::MemoryFormat::ChannelsLast3d);
        else if (parameter.dim() == 4)
            parameter = parameter.contiguous(at::MemoryFormat::ChannelsLast);
    }
}

std::map<std::string, NamedTensor> TrainedModule::tensors() const {
    std::map<std::string, NamedTensor> out;
    for (const auto& [name, parameter] : parameters_)
        out[name] = from_torch(parameter);
    return out;
}

void TrainedModule::take(const TensorShapes& shapes, const TensorFile& file) {
    for (const auto& [name, shape] : shapes)
        parameters_[name] = to_torch(file.tensors.at(name));
}

void TrainedModule::set(const std::string& name, const NamedTensor& tensor) {
    parameters_[name] = to_torch(tensor);
}

NamedTensor TrainedModule::zeros(const std::vector<std::int64_t>& shape) {
    NamedTensor tensor{shape, {}};
    tensor.values.assign(tensor.count(), 0.0F);
    return tensor;
}

NamedTensor TrainedModule::he_uniform(const std::vector<std::int64_t>& shape, double inputs, float leak,
                                      std::mt19937_64& random) {
    NamedTensor tensor = zeros(shape);
    const double slope = leak;
    const auto bound = static_cast<float>(std::sqrt(6.0 / ((1.0 + slope * slope) * inputs)));
    // The standard leaves the arithmetic of its distributions open; this gives the same network everywhere.
    for (float& value : tensor.values)
        value = (static_cast<float>(random() >> 40) * 0x1p-23F - 1.0F) * bound;
    return tensor;
}

} // namespace mri
