// SPDX-License-Identifier: LGPL-2.1-or-later
// The module libgstmri-cuda: the transform on CUDA devices. The one source that nvcc compiles.
#include "plugins/math/transform/cuda/pipeline.hpp"

#include "plugins/math/base/error.hpp"

#include <array>
#include <cuda_runtime.h>
#include <cufft.h>
#include <map>

namespace mri::cuda {

namespace {

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess)
        return;
    const std::string detail = std::string(cudaGetErrorName(status)) + " in " + what;
    cudaGetLastError(); // an error that is not sticky is not the next call's
    switch (status) {
    case cudaErrorMemoryAllocation:
        throw Error(Errc::no_memory, "The CUDA device has no memory left for a transform", detail);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
        throw Error(Errc::no_device, std::string("There is no CUDA device: ") + cudaGetErrorString(status),
                    detail);
    case cudaErrorNoKernelImageForDevice:
        throw Error(Errc::no_device, "The CUDA device is of a kind that this build has no code for", detail);
    default:
        throw Error(Errc::failed, std::string("The CUDA device failed: ") + cudaGetErrorString(status),
                    detail);
    }
}

void check(cufftResult status, const char* what) {
    if (status == CUFFT_SUCCESS)
        return;
    const std::string detail = "cuFFT result " + std::to_string(static_cast<int>(status)) + " in " + what;
    if (status == CUFFT_ALLOC_FAILED)
        throw Error(Errc::no_memory, "The CUDA device has no memory left for a Fourier transform", detail);
    throw Error(Errc::failed, "A Fourier transform on the CUDA device failed", detail);
}

/// Says what failed by its own text.
#define MRI_CUDA(call) check(call, #call)

/// The runtime of transform.hpp: one device, a stream that computes and one that copies to the device.
class CudaRuntime {
  public:
    explicit CudaRuntime(int device) : device_(device) {
        try {
            MRI_CUDA(cudaSetDevice(device_));
            cudaDeviceProp properties{};
            MRI_CUDA(cudaGetDeviceProperties(&properties, device_));
            name_ = properties.name;
            MRI_CUDA(cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking));
            MRI_CUDA(cudaStreamCreateWithFlags(&copy_, cudaStreamNonBlocking));
            MRI_CUDA(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming));
            for (cudaEvent_t& event : events_)
                MRI_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
            for (cudaEvent_t& mark : marks_)
                MRI_CUDA(cudaEventCreate(&mark));
        } catch (...) {
            release();
            throw;
        }
    }
    ~CudaRuntime() { release(); }
    CudaRuntime(const CudaRuntime&) = delete;
    CudaRuntime& operator=(const CudaRuntime&) = delete;

    void enter() { MRI_CUDA(cudaSetDevice(device_)); }

    void* allocate(std::size_t bytes) {
        void* at = nullptr;
        MRI_CUDA(cudaMalloc(&at, std::max<std::size_t>(bytes, 1)));
        return at;
    }
    // A destructor has nobody to tell, and at the end of a process the device may be gone already.
    void free(void* at) noexcept { (void)cudaFree(at); }
    void* allocate_pinned(std::size_t bytes) {
        void* at = nullptr;
        MRI_CUDA(cudaMallocHost(&at, std::max<std::size_t>(bytes, 1)));
        return at;
    }
    void free_pinned(void* at) noexcept { (void)cudaFreeHost(at); }

    void upload(void* to, const void* from, std::size_t bytes) {
        MRI_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, copy_));
    }
    void uploaded() {
        MRI_CUDA(cudaEventRecord(copied_, copy_));
        MRI_CUDA(cudaStreamWaitEvent(compute_, copied_, 0));
    }
    void download(void* to, const void* from, std::size_t bytes, int event) {
        MRI_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, compute_));
        MRI_CUDA(cudaEventRecord(events_.at(static_cast<std::size_t>(event)), compute_));
    }
    void wait(int event) { MRI_CUDA(cudaEventSynchronize(events_.at(static_cast<std::size_t>(event)))); }
    void finish() {
        MRI_CUDA(cudaStreamSynchronize(copy_));
        MRI_CUDA(cudaStreamSynchronize(compute_));
    }

    void mark(int which) { MRI_CUDA(cudaEventRecord(marks_.at(static_cast<std::size_t>(which)), compute_)); }
    double marked() {
        float milliseconds = 0;
        MRI_CUDA(cudaEventSynchronize(marks_[1]));
        MRI_CUDA(cudaEventElapsedTime(&milliseconds, marks_[0], marks_[1]));
        return milliseconds;
    }

    /// The one place that starts kernels.
    template <class Args>
    void launch(void (*kernel)(Args), Dim grid, Dim block, const Args& args) {
        kernel<<<dim3(grid.x, grid.y, grid.z), dim3(block.x, block.y, block.z), 0, compute_>>>(args);
        MRI_CUDA(cudaGetLastError());
    }

    void fft(Complex* grids, int width, int height, int count, bool forward) {
        auto [at, fresh] = plans_.try_emplace(std::array{width, height, count}, cufftHandle{});
        if (fresh) {
            try {
                std::array size{height, width};
                MRI_CUDA(cufftPlanMany(&at->second, 2, size.data(), nullptr, 1, width * height, nullptr, 1,
                                       width * height, CUFFT_C2C, count));
                MRI_CUDA(cufftSetStream(at->second, compute_));
            } catch (...) {
                plans_.erase(at);
                throw;
            }
        }
        auto* data = reinterpret_cast<cufftComplex*>(grids);
        MRI_CUDA(cufftExecC2C(at->second, data, data, forward ? CUFFT_FORWARD : CUFFT_INVERSE));
    }

    std::string name() const { return name_; }

  private:
    void release() noexcept {
        for (const auto& [size, plan] : plans_)
            (void)cufftDestroy(plan);
        for (cudaEvent_t mark : marks_)
            if (mark)
                (void)cudaEventDestroy(mark);
        for (cudaEvent_t event : events_)
            if (event)
                (void)cudaEventDestroy(event);
        if (copied_)
            (void)cudaEventDestroy(copied_);
        if (copy_)
            (void)cudaStreamDestroy(copy_);
        if (compute_)
            (void)cudaStreamDestroy(compute_);
    }

    int device_;
    std::string name_;
    cudaStream_t compute_ = nullptr, copy_ = nullptr;
    cudaEvent_t copied_ = nullptr;
    std::array<cudaEvent_t, pieces> events_{};
    std::array<cudaEvent_t, 2> marks_{};              // with times
    std::map<std::array<int, 3>, cufftHandle> plans_; // of width, height, number of grids
};

int devices(std::string& reason) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
        reason = cudaGetErrorString(status);
        return 0;
    }
    if (count == 0)
        reason = "the driver sees none";
    for (int device = 0; device < count; ++device) {
        int major = 0, minor = 0;
        if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
            cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
            10 * major + minor >= 75)
            return count;
        reason = "the device has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
                 ", and this build has code for 7.5 and later";
    }
    return 0;
}

std::unique_ptr<Backend> open(const Design& design, int device) {
    return std::make_unique<Transform<CudaRuntime>>(design, Transform<CudaRuntime>::most_grid_bytes, device);
}

} // namespace

} // namespace mri::cuda

extern "C" __attribute__((visibility("default")))
const mri::cuda::Module mri_cuda_module = {mri::cuda::module_version, &mri::cuda::devices, &mri::cuda::open};
