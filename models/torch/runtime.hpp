// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices, precision, threads and errors of LibTorch. Only for sources of models/: it includes LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/kernels/planes/plane_convolution.hpp"
#include "plugins/math/base/error.hpp"

#include <ATen/ATen.h>
#include <chrono>
#include <new>
#include <span>
#include <string>
#include <utility>

namespace mri {

/// Runs `work` and turns whatever LibTorch throws into mri::Error; `what` begins the sentence ("the
/// network").
template <typename Work>
decltype(auto) torch_call(const char* what, Work&& work) {
    try {
        return std::forward<Work>(work)();
    } catch (const Error&) {
        throw;
    } catch (const c10::OutOfMemoryError& e) {
        throw Error(Errc::no_memory, std::string(what) + " ran out of memory", e.what_without_backtrace());
    } catch (const c10::Error& e) {
        throw Error(Errc::failed, std::string(what) + " failed in LibTorch", e.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        throw Error(Errc::no_memory, std::string(what) + " ran out of memory");
    } catch (const std::exception& e) {
        throw Error(Errc::failed, std::string(what) + " failed", e.what());
    }
}

/// Runs `work` so many times; the seconds that the last time took. What LibTorch does only at first is over
/// by then.
template <typename Work>
double seconds_of_last(int times, Work&& work) {
    std::chrono::steady_clock::time_point begin;
    for (int i = 0; i < times; ++i) {
        begin = std::chrono::steady_clock::now();
        work();
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// "cpu", "cuda", "cuda:N" or "auto": the first CUDA device where there is one, and else the processor. Opens
/// libtorch_cuda, which lies beside libtorch_cpu, the first time that a CUDA device is asked for on a machine
/// with an NVIDIA driver. Throws Errc::settings for other texts, Errc::no_device where there is no such
/// device.
at::Device open_device(const std::string& name);

/// Arithmetic that `precision` selects on `device`: automatic is bfloat16 where the processor multiplies in it
/// (AVX512_BF16) or the CUDA device does (Ampere and later).
at::ScalarType compute_type(Precision precision, const at::Device& device);

/// A compute_type() on the processor, as planes::kernels() counts them.
inline planes::Type plane_type(at::ScalarType type) {
    return type == at::kBFloat16 ? planes::Type::bfloat16 : planes::Type::float32;
}

/// The values of a dense float32 tensor in memory, in the order in which they lie there.
inline std::span<float> values_of(const at::Tensor& dense) {
    return {static_cast<float*>(dense.data_ptr()), static_cast<std::size_t>(dense.numel())};
}

/// Sets the number of threads that LibTorch uses from the calling thread; 0 means one per core.
void set_torch_threads(int threads);

} // namespace mri
