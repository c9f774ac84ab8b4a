// SPDX-License-Identifier: LGPL-2.1-or-later
// Which device a network computes on, and that LibTorch's CUDA library stays closed until it is wanted.
#include "models/causal_unet/causal_unet.hpp"
#include "plugins/math/base/error.hpp"

#include <dlfcn.h>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>

using namespace mri;

namespace {

CausalUnet network(const std::string& device) {
    const CausalUnetOptions options{1, 4};
    TensorFile file;
    file.metadata = causal_unet_metadata(options);
    for (const auto& [name, shape] : causal_unet_tensors(options)) {
        NamedTensor tensor{shape, {}};
        tensor.values.assign(tensor.count(), 0.1F);
        file.tensors[name] = tensor;
    }
    return {file, "small", {device, Precision::automatic, 1}};
}

bool is_open(const char* library) {
    std::ifstream maps("/proc/self/maps");
    return std::string(std::istreambuf_iterator<char>(maps), {}).find(library) != std::string::npos;
}

/// The error of a device that cannot be had.
std::string error_of(const std::string& device, Errc code) {
    try {
        network(device);
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        return e.what();
    }
    ADD_FAILURE() << device;
    return {};
}

TEST(TorchDevice, TheProcessorNeedsNoCuda) {
    CausalUnet net = network("cpu");
    std::vector<float> image(64, 1.0F);
    net.run(std::vector<float>(64, 1.0F), image, {1, 8, 8});
    EXPECT_FALSE(is_open("libtorch_cuda"));
    EXPECT_FALSE(is_open("libcuda.so"));
    for (const char* wrong : {"gpu", "cuda:x", "cuda:", "cuda:-1", "cuda:1x", ""})
        EXPECT_NE(error_of(wrong, Errc::settings).find("'" + std::string(wrong) + "'"), std::string::npos);
    EXPECT_FALSE(is_open("libtorch_cuda"));
}

TEST(TorchDevice, WithoutADriverCudaIsOneErrorAndAutoTheProcessor) {
    if (void* driver = ::dlopen("libcuda.so.1", RTLD_LAZY)) {
        ::dlclose(driver);
        GTEST_SKIP() << "this machine has an NVIDIA driver";
    }
    for (const char* device : {"cuda", "cuda:1"}) {
        const std::string error = error_of(device, Errc::no_device);
        EXPECT_NE(error.find("'" + std::string(device) + "'"), std::string::npos) << error;
        EXPECT_NE(error.find("no NVIDIA driver"), std::string::npos) << error;
    }
    std::vector<float> a(64), b(64);
    network("auto").run(std::vector<float>(64, 1.0F), a, {1, 8, 8});
    network("cpu").run(std::vector<float>(64, 1.0F), b, {1, 8, 8});
    EXPECT_EQ(a, b);
    EXPECT_FALSE(is_open("libtorch_cuda")) << "there is no driver to open it for";
}

} // namespace
