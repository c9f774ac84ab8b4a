// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/torch/runtime.hpp"

#include "plugins/math/base/text.hpp"

#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <algorithm>
#include <dlfcn.h>
#include <filesystem>
#include <thread>

namespace mri {

namespace {

/// Why there is no CUDA device, as a sentence's end and a detail; both empty where there may be one.
struct Missing {
    std::string what, detail;
};

/// Opens libtorch_cuda from the folder of libtorch_cpu. The driver first: without it the library, of half a
/// gigabyte, need not be looked at.
Missing open_libtorch_cuda() {
    const auto reason = [] {
        const char* text = ::dlerror();
        return std::string(text ? text : "unknown reason");
    };
    if (void* driver = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL))
        ::dlclose(driver);
    else
        return {"there is no NVIDIA driver on this machine", reason()};
    std::string path = "libtorch_cuda.so";
    Dl_info info = {};
    if (::dladdr(reinterpret_cast<const void*>(&at::get_num_threads), &info) != 0 && info.dli_fname)
        path = (std::filesystem::path(info.dli_fname).parent_path() / path).string();
    if (::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL))
        return {};
    return {"LibTorch's CUDA library cannot be opened", reason()};
}

int count_devices() {
    return torch_call("looking for CUDA devices", [] {
        return at::globalContext().hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
    });
}

} // namespace

at::Device open_device(const std::string& name) {
    const auto device = parse_device(name);
    if (!device || device->index > 127)
        throw Error(Errc::settings,
                    "the device must be 'auto', 'cpu', 'cuda' or 'cuda:N', not '" + name + "'");
    if (device->kind == DeviceText::Kind::cpu)
        return at::Device(at::kCPU);
    if (device->kind == DeviceText::Kind::automatic) {
        try {
            if (open_libtorch_cuda().what.empty() && count_devices() > 0)
                return at::Device(at::kCUDA, 0);
        } catch (const Error&) {
            // a driver that does not work: the processor does
        }
        return at::Device(at::kCPU);
    }
    const int index = device->index;
    if (const Missing missing = open_libtorch_cuda(); !missing.what.empty())
        throw Error(Errc::no_device, "the device '" + name + "' is not available: " + missing.what,
                    missing.detail);
    const int count = count_devices();
    if (index >= count)
        throw Error(Errc::no_device, "the device '" + name + "' is not available: this machine has " +
                                         std::to_string(count) + " CUDA devices that LibTorch can use");
    return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

at::ScalarType compute_type(Precision precision, const at::Device& device) {
    if (precision == Precision::float32)
        return at::kFloat;
    if (precision == Precision::bfloat16)
        return at::kBFloat16;
    if (device.is_cuda()) // from Ampere on; before, bfloat16 is slower than float32 or not there
        return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8() ? at::kBFloat16
                                                                                   : at::kFloat;
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") ? at::kBFloat16 : at::kFloat;
#else
    return at::kFloat;
#endif
}

void set_torch_threads(int threads) {
    const int wanted =
        threads > 0 ? threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    if (at::get_num_threads() != wanted)
        at::set_num_threads(wanted);
}

} // namespace mri
