// SPDX-License-Identifier: LGPL-2.1-or-later
// A stand-in for a CUDA device on the host, for tests of the kernels without one. Blocks run one after
// another; the threads of a block are fibres, switched at each barrier, so that a barrier holds a thread
// until all have come. In which order threads run between two barriers, and blocks in a launch, can be turned
// around or shuffled: what depends on it is a race. Tests only.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

// What nvcc puts before kernels, into words of C++. A block has the host's thread for itself while it runs,
// so that a static variable is shared by its threads.
#define __global__ inline
#define __device__
#define __shared__ static thread_local

namespace mri::cuda {

struct Dim;

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;

/// The calling thread waits for all of its block. Throws when some of them have left the kernel instead.
void __syncthreads();

inline unsigned atomicAdd(unsigned* to, unsigned value) {
    const unsigned before = *to;
    *to += value;
    return before;
}

using std::ceil;
using std::floor;
inline float fmaxf(float a, float b) {
    return a > b ? a : b; // as CUDA's: b when a is not a number
}
inline float sqrtf(float a) {
    return std::sqrt(a);
}

namespace emulation {

/// In which order blocks and threads are taken.
enum class Order { ascending, descending, shuffled };

/// Runs `thread` once for every thread of a grid, with the indices above set. Throws mri::Error for a launch
/// that no device would take (limits of compute capability 7.5), for barriers that not all threads of a block
/// reach, and what a thread throws.
void launch(Dim grid, Dim block, Order order, const std::function<void()>& thread);

} // namespace emulation

class Backend;
struct Design;

/// Log of the stand-in's work.
struct EmulationLog {
    int launches = 0; ///< kernels
    int ffts = 0;
    std::size_t uploaded = 0;                 ///< bytes
    std::size_t downloaded = 0;               ///< bytes
    std::size_t allocated = 0;                ///< bytes of the device now
    std::size_t limit = std::size_t(1) << 34; ///< bytes the device has
};

/// The transform on the stand-in. `grid_bytes`: of grids that are transformed together. `log` may be null.
std::unique_ptr<Backend> open_emulation(const Design& design,
                                        emulation::Order order = emulation::Order::ascending,
                                        std::size_t grid_bytes = std::size_t{1} << 30,
                                        std::shared_ptr<EmulationLog> log = nullptr);

} // namespace mri::cuda
