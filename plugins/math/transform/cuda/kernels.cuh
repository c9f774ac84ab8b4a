// SPDX-License-Identifier: LGPL-2.1-or-later
// The kernels of the non-uniform transform. The same text is compiled twice: by nvcc for devices, and by a
// plain C++ compiler over emulation.hpp for the unit tests. It keeps to what both understand: no warp
// intrinsics, no dynamic shared memory, one struct of arguments a kernel.
//
// Chosen for few spokes and many coils. The figures in the comments are for W1: 15 spokes of 384 samples (n =
// 5,760 points), 192 x 192 pixels, grid 240 x 240, 6 taps, 32 coils; H100: 3 TB/s of memory, 50 MB of
// second-level cache (the grids of 32 coils, 14.7 MB, stay inside), 67 Tflop/s in float32, 132
// multiprocessors of 4 x 32 lanes at about 1.7 GHz. They are counts, not measurements.
//
// A frame needs: place, bin, spread, the FFT (two launches inside cuFFT) and crop for the adjoint; pad, the
// FFT and interpolate for the forward transform. A CUDA graph would save some 2 us of submission for each
// launch, but these are submitted while the samples of later coils are still being copied into pinned memory,
// which takes longer (1.5 MB, about 0.15 ms); and a graph would have to be made anew whenever the number of
// points changes.
#pragma once

#include "plugins/math/transform/cuda/backend.hpp"

#ifndef __CUDACC__
#include "plugins/math/transform/cuda/emulation.hpp"
#endif

namespace mri::cuda {

struct alignas(8) Complex {
    float re, im;
};
struct alignas(16) ComplexPair {
    Complex a, b;
};
/// First cell of a sample's kernel along each axis, 0 <= x < cells.
struct alignas(8) Cell {
    int x, y;
};
/// A tile's part of the list of points.
struct alignas(8) Range {
    unsigned begin, count;
};

/// Cells along each side of a tile, and threads along each side of the block that owns it.
inline constexpr int tile = 8;
/// Coils that one thread carries in registers.
inline constexpr int coils_per_thread = 4;
inline constexpr int place_threads = 128;
inline constexpr int bin_threads = 256;
inline constexpr int interpolate_threads = 128;
/// Points that a block of spread() holds in shared memory at a time.
inline constexpr int spread_chunk = 32;
/// Pixels or cells of a block of crop() and pad().
inline constexpr int image_block_x = 32;
inline constexpr int image_block_y = 8;

struct PlaceArgs {
    const float* kxy;
    int points;
    int taps;
    int cells_x, cells_y;
    double per_pixel_x, per_pixel_y; // 1 / pixels
    int terms_x, terms_y;
    float x[max_terms], y[max_terms];
    Cell* cells;
    float* weights; // [point][2][max_taps]
    unsigned* cursor;
};

__device__ inline float kernel_value(const float* coefficients, int terms, float t, float per_half) {
    const float u = t * per_half;
    const float v = fmaxf(1 - u * u, 0.0f);
    float sum = coefficients[terms - 1];
    for (int k = terms - 2; k >= 0; --k)
        sum = sum * v + coefficients[k];
    return sum;
}

/// First cell of each sample's kernel, and its weights along both axes; one thread a point. Once a trajectory.
///
/// Reads 8 bytes a point, writes 72: 0.46 MB, 0.15 us. 12 series of about 25 terms: 2 x 1.7 Mflop, 0.05 us.
/// What it really takes is the latency of a launch and of 300 dependent multiply-adds, about 2 us. Positions
/// are in double precision: in float32 a position near the rim of a grid of 240 is good to 1e-5 cells, which
/// shows beside a tolerance of 1e-6. That is 10 operations a point, which even a unit of 1/64 rate does in
/// passing.
__global__ void place(PlaceArgs a) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i == 0)
        *a.cursor = 0; // of bin(), which comes after in the stream
    if (i >= a.points)
        return;
    int first[2];
    for (int axis = 0; axis < 2; ++axis) {
        const int cells = axis ? a.cells_y : a.cells_x;
        const double turns = a.kxy[2 * i + axis] * (axis ? a.per_pixel_y : a.per_pixel_x) + 0.5;
        const double left = (turns - floor(turns)) * cells - 0.5 * a.taps;
        const double cell = ceil(left);
        const float start = static_cast<float>(cell - left) - 0.5f * static_cast<float>(a.taps);
        float* to = a.weights + (2 * static_cast<std::size_t>(i) + static_cast<std::size_t>(axis)) * max_taps;
        const float per_half = 2.0f / static_cast<float>(a.taps);
        for (int j = 0; j < max_taps; ++j)
            to[j] = j < a.taps ? kernel_value(axis ? a.y : a.x, axis ? a.terms_y : a.terms_x,
                                              start + static_cast<float>(j), per_half)
                               : 0.0f;
        int at = static_cast<int>(cell);
        if (at < 0)
            at += cells;
        if (at >= cells)
            at -= cells;
        first[axis] = at;
    }
    a.cells[i] = {first[0], first[1]};
}

struct BinArgs {
    const Cell* cells;
    int points;
    int taps;
    int cells_x, cells_y;
    int tiles_x;
    unsigned* cursor;
    Range* tiles;
    unsigned* list;
};

/// Does a kernel that begins at `first` reach the cells from `begin` up to `end` of a ring?
__device__ inline bool reaches(int first, int taps, int begin, int end, int cells) {
    int ahead = first - begin; // of the tile's begin, around the ring
    if (ahead < 0)
        ahead += cells;
    return ahead < end - begin || cells - ahead < taps;
}

/// Lists, for each tile of the grid, the points whose kernels reach it; a block a tile, which looks at all
/// points twice: to count, and to write. Once a trajectory.
///
/// Simpler than sorting, and nothing depends on the order in which blocks run but where in the list a tile's
/// part lies, so that sums are the same bit for bit in each run. 900 tiles x 5,760 points x 2 looks at 8
/// bytes that stay in the caches (46 kB): 83 MB at some 10 TB/s, 10 us at worst; about 10 operations each:
/// 104 M over 28 T/s, 4 us. Writes 15,200 entries. The cost grows as tiles times points: at 402 spokes of 512
/// samples on 320 x 320 about 0.25 ms.
__global__ void bin(BinArgs a) {
    __shared__ unsigned sums[2][bin_threads];
    __shared__ unsigned base;
    const int here = static_cast<int>(blockIdx.x);
    const int t = static_cast<int>(threadIdx.x);
    const int x0 = here % a.tiles_x * tile, y0 = here / a.tiles_x * tile;
    const int x1 = x0 + tile < a.cells_x ? x0 + tile : a.cells_x;
    const int y1 = y0 + tile < a.cells_y ? y0 + tile : a.cells_y;
    unsigned count = 0;
    for (int i = t; i < a.points; i += bin_threads) {
        const Cell c = a.cells[i];
        count += reaches(c.x, a.taps, x0, x1, a.cells_x) && reaches(c.y, a.taps, y0, y1, a.cells_y);
    }
    // Sums over the threads up to each (Hillis and Steele).
    int from = 0;
    sums[0][t] = count;
    __syncthreads();
    for (int step = 1; step < bin_threads; step *= 2, from = 1 - from) {
        sums[1 - from][t] = sums[from][t] + (t >= step ? sums[from][t - step] : 0u);
        __syncthreads();
    }
    if (t == bin_threads - 1) {
        base = atomicAdd(a.cursor, sums[from][t]);
        a.tiles[here] = {base, sums[from][t]};
    }
    __syncthreads();
    std::size_t at = static_cast<std::size_t>(base) + sums[from][t] - count;
    for (int i = t; i < a.points; i += bin_threads) {
        const Cell c = a.cells[i];
        if (reaches(c.x, a.taps, x0, x1, a.cells_x) && reaches(c.y, a.taps, y0, y1, a.cells_y))
            a.list[at++] = static_cast<unsigned>(i);
    }
}

struct SpreadArgs {
    const Complex* samples; // [coils][points]
    const float* density;   // [points] or null: 1
    const Cell* cells;
    const float* weights;
    const Range* tiles;
    const unsigned* list;
    Complex* grid; // [coils][cells_y][cells_x]
    int points;
    int coils;
    int taps;
    int cells_x, cells_y;
    int tiles_x;
};

/// The convolution onto the grid, from the cells' side: a block owns a tile of 8 x 8 cells for 4 coils, a
/// thread one cell, and the tile's points pass through shared memory, 32 at a time. Every cell is written
/// once: no atomics, no clearing of the grid, the same sums in each run.
///
/// Reads the samples (1.47 MB, each on average for 2.6 tiles, from the caches) and 72 bytes of weights a
/// point and block (15,200 points in lists x 8 groups of coils: 8.8 MB from the caches), writes the
/// grids, 14.7 MB: 5 us if that went to memory. Computes 64 cells x 15,200 points x 32 coils x 4 flops = 125
/// Mflop (of which 27 Mflop meet weights that are not 0), 2 us; with the reads of shared memory about three
/// times that. The four tiles in the centre of k-space hold 340 points each, where others hold 20: with 4
/// coils a block their blocks are the longest, about 340 x 20 instructions of 2 warps, 6 us, beside which all
/// others run. Owning 8 coils a thread would halve the reads of shared memory and double that.
__global__ void spread(SpreadArgs a) {
    __shared__ float along_x[spread_chunk][tile];
    __shared__ float along_y[spread_chunk][tile];
    __shared__ ComplexPair values[spread_chunk][coils_per_thread / 2];
    constexpr int threads = tile * tile;
    const int t = static_cast<int>(threadIdx.x);
    const int here = static_cast<int>(blockIdx.x);
    const int coil = static_cast<int>(blockIdx.y) * coils_per_thread;
    const int x0 = here % a.tiles_x * tile, y0 = here / a.tiles_x * tile;
    const int tx = t % tile, ty = t / tile;
    const Range range = a.tiles[here];
    Complex sum[coils_per_thread] = {};
    for (unsigned done = 0; done < range.count; done += spread_chunk) {
        const unsigned* list = a.list + range.begin + done;
        const int chunk =
            range.count - done < spread_chunk ? static_cast<int>(range.count - done) : spread_chunk;
        for (int i = t; i < chunk * 2 * tile; i += threads) {
            const int h = i / (2 * tile), axis = i / tile % 2, c = i % tile;
            const std::size_t point = list[h];
            int d = axis ? y0 + c - a.cells[point].y : x0 + c - a.cells[point].x;
            if (d < 0)
                d += axis ? a.cells_y : a.cells_x;
            (axis ? along_y : along_x)[h][c] =
                d < a.taps ? a.weights[(2 * point + static_cast<std::size_t>(axis)) * max_taps +
                                       static_cast<std::size_t>(d)]
                           : 0.0f;
        }
        for (int i = t; i < chunk * coils_per_thread; i += threads) {
            const int h = i / coils_per_thread, c = i % coils_per_thread;
            const std::size_t point = list[h];
            Complex value = {0, 0};
            if (coil + c < a.coils) {
                value = a.samples[static_cast<std::size_t>(coil + c) * static_cast<std::size_t>(a.points) +
                                  point];
                const float w = a.density ? a.density[point] : 1.0f;
                value = {value.re * w, value.im * w};
            }
            (c % 2 ? values[h][c / 2].b : values[h][c / 2].a) = value;
        }
        __syncthreads();
        for (int h = 0; h < chunk; ++h) {
            const float w = along_x[h][tx] * along_y[h][ty];
            for (int c = 0; c < coils_per_thread / 2; ++c) {
                const ComplexPair v = values[h][c];
                sum[2 * c].re += w * v.a.re;
                sum[2 * c].im += w * v.a.im;
                sum[2 * c + 1].re += w * v.b.re;
                sum[2 * c + 1].im += w * v.b.im;
            }
        }
        __syncthreads();
    }
    if (x0 + tx >= a.cells_x || y0 + ty >= a.cells_y)
        return;
    for (int c = 0; c < coils_per_thread; ++c)
        if (coil + c < a.coils)
            a.grid[(static_cast<std::size_t>(coil + c) * static_cast<std::size_t>(a.cells_y) +
                    static_cast<std::size_t>(y0 + ty)) *
                       static_cast<std::size_t>(a.cells_x) +
                   static_cast<std::size_t>(x0 + tx)] = sum[c];
}

struct CropArgs {
    const Complex* grid; // [coils][cells_y][cells_x]
    const float* apodisation_x;
    const float* apodisation_y;
    const Complex* maps;        // [coils][height][width], of these coils
    const float* inverse_power; // [height][width], 1 / sum over all coils |map|^2
    Complex* images;            // [coils or 1][height][width]
    int coils;
    int width, height;
    int cells_x, cells_y;
    Combination combination;
    bool first, last; // of the batches of coils that are combined
};

/// From the transformed grids to images: takes out the pixels, divides by the kernel's transform and combines
/// the coils while their values are in registers. A thread a pixel (and, without a combination, a coil).
///
/// Reads 36,864 of the 57,600 cells of each coil, 9.4 MB, mostly from the second-level cache: 3 us from
/// memory. Writes one image of 0.3 MB; without a combination the 9.4 MB of all (3 us more, and 0.2 ms over
/// PCIe to the host: that is what combining here saves). With maps it reads another 9.4 MB. 4 to 8 flops a
/// value, 10 Mflop: nothing.
__global__ void crop(CropArgs a) {
    const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= a.width || y >= a.height)
        return;
    const int cx = x - a.width / 2 < 0 ? x - a.width / 2 + a.cells_x : x - a.width / 2;
    const int cy = y - a.height / 2 < 0 ? y - a.height / 2 + a.cells_y : y - a.height / 2;
    const float scale = a.apodisation_x[x] * a.apodisation_y[y];
    const std::size_t pixels = static_cast<std::size_t>(a.width) * static_cast<std::size_t>(a.height);
    const std::size_t cells = static_cast<std::size_t>(a.cells_x) * static_cast<std::size_t>(a.cells_y);
    const std::size_t pixel =
        static_cast<std::size_t>(y) * static_cast<std::size_t>(a.width) + static_cast<std::size_t>(x);
    const Complex* from = a.grid + static_cast<std::size_t>(cy) * static_cast<std::size_t>(a.cells_x) +
                          static_cast<std::size_t>(cx);
    if (a.combination == Combination::none) {
        const std::size_t coil = blockIdx.z;
        const Complex v = from[coil * cells];
        a.images[coil * pixels + pixel] = {v.re * scale, v.im * scale};
        return;
    }
    Complex sum = {0, 0};
    if (!a.first)
        sum = a.images[pixel];
    if (a.combination == Combination::rss) {
        for (int c = 0; c < a.coils; ++c) {
            Complex v = from[static_cast<std::size_t>(c) * cells];
            v = {v.re * scale, v.im * scale};
            sum.re += v.re * v.re + v.im * v.im;
        }
        if (a.last)
            sum.re = sqrtf(sum.re);
    } else {
        for (int c = 0; c < a.coils; ++c) {
            const Complex v = from[static_cast<std::size_t>(c) * cells];
            const Complex m = a.maps[static_cast<std::size_t>(c) * pixels + pixel];
            sum.re += scale * (m.re * v.re + m.im * v.im);
            sum.im += scale * (m.re * v.im - m.im * v.re);
        }
        if (a.last && a.combination == Combination::least_squares)
            sum = {sum.re * a.inverse_power[pixel], sum.im * a.inverse_power[pixel]};
    }
    a.images[pixel] = sum;
}

struct PowerArgs {
    const Complex* maps; // [coils][pixels]
    float* inverse_power;
    int coils;
    int pixels;
};

/// 1 / sum over coils |map|^2, 0 where that is 0; a thread a pixel. Once for new maps: reads 9.4 MB, 3 us.
__global__ void invert_power(PowerArgs a) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= a.pixels)
        return;
    float power = 0;
    for (int c = 0; c < a.coils; ++c) {
        const Complex m = a.maps[static_cast<std::size_t>(c) * static_cast<std::size_t>(a.pixels) +
                                 static_cast<std::size_t>(i)];
        power += m.re * m.re + m.im * m.im;
    }
    a.inverse_power[i] = power > 0 ? 1 / power : 0.0f;
}

struct PadArgs {
    const Complex* images; // [coils or 1][height][width]
    const Complex* maps;   // [coils][height][width], or null: one image a coil
    const float* apodisation_x;
    const float* apodisation_y;
    Complex* grid;
    int width, height;
    int cells_x, cells_y;
};

/// The beginning of the forward transform: images, divided by the kernel's transform, or one image seen
/// through the coils' maps, into grids that are zero elsewhere; a thread a cell and coil.
///
/// Reads 9.4 MB (one image and as many bytes of maps), writes 14.7 MB into the second-level cache: 8 us if it
/// all went to memory. 2 to 8 flops a pixel.
__global__ void pad(PadArgs a) {
    const int cx = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int cy = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    if (cx >= a.cells_x || cy >= a.cells_y)
        return;
    const std::size_t coil = blockIdx.z;
    const int x = cx + a.width / 2 < a.cells_x ? cx + a.width / 2 : cx + a.width / 2 - a.cells_x;
    const int y = cy + a.height / 2 < a.cells_y ? cy + a.height / 2 : cy + a.height / 2 - a.cells_y;
    Complex value = {0, 0};
    if (x < a.width && y < a.height) {
        const std::size_t pixels = static_cast<std::size_t>(a.width) * static_cast<std::size_t>(a.height);
        const std::size_t pixel =
            static_cast<std::size_t>(y) * static_cast<std::size_t>(a.width) + static_cast<std::size_t>(x);
        const float scale = a.apodisation_x[x] * a.apodisation_y[y];
        const Complex v = a.images[(a.maps ? 0 : coil * pixels) + pixel];
        value = {v.re * scale, v.im * scale};
        if (a.maps) {
            const Complex m = a.maps[coil * pixels + pixel];
            value = {m.re * value.re - m.im * value.im, m.re * value.im + m.im * value.re};
        }
    }
    a.grid[(coil * static_cast<std::size_t>(a.cells_y) + static_cast<std::size_t>(cy)) *
               static_cast<std::size_t>(a.cells_x) +
           static_cast<std::size_t>(cx)] = value;
}

struct InterpolateArgs {
    const Complex* grid; // [coils][cells_y][cells_x]
    const Cell* cells;
    const float* weights;
    Complex* samples; // [coils][points]
    int points;
    int coils;
    int taps;
    int cells_x, cells_y;
};

/// The end of the forward transform: each sample is the weighted sum of the 6 x 6 cells around it; a thread a
/// point and 4 coils, which share the weights.
///
/// Reads 36 cells x 5,760 points x 32 coils x 8 bytes = 53 MB, nearly all from the first-level caches, since
/// neighbouring threads hold neighbouring samples of a spoke (132 of them give 28 TB/s when all lanes are
/// served at once; a fifth of that is realistic: 10 us), of which the touched cells come from the
/// second-level cache once; writes 1.47 MB. 36 x 4 flops x 184,320 = 27 Mflop, 0.4 us.
__global__ void interpolate(InterpolateArgs a) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= a.points)
        return;
    const int coil = static_cast<int>(blockIdx.y) * coils_per_thread;
    const std::size_t cells = static_cast<std::size_t>(a.cells_x) * static_cast<std::size_t>(a.cells_y);
    const Cell at = a.cells[i];
    const float* along_x = a.weights + 2 * static_cast<std::size_t>(i) * max_taps;
    const float* along_y = along_x + max_taps;
    const Complex* grid = a.grid + static_cast<std::size_t>(coil) * cells;
    const int coils = a.coils - coil < coils_per_thread ? a.coils - coil : coils_per_thread;
    Complex sum[coils_per_thread] = {};
    for (int j = 0; j < a.taps; ++j) {
        const int y = at.y + j < a.cells_y ? at.y + j : at.y + j - a.cells_y;
        const Complex* row = grid + static_cast<std::size_t>(y) * static_cast<std::size_t>(a.cells_x);
        for (int k = 0; k < a.taps; ++k) {
            const int x = at.x + k < a.cells_x ? at.x + k : at.x + k - a.cells_x;
            const float w = along_y[j] * along_x[k];
            for (int c = 0; c < coils_per_thread; ++c)
                if (c < coils) {
                    const Complex v = row[static_cast<std::size_t>(c) * cells + static_cast<std::size_t>(x)];
                    sum[c].re += w * v.re;
                    sum[c].im += w * v.im;
                }
        }
    }
    for (int c = 0; c < coils_per_thread; ++c)
        if (c < coils)
            a.samples[static_cast<std::size_t>(coil + c) * static_cast<std::size_t>(a.points) +
                      static_cast<std::size_t>(i)] = sum[c];
}

} // namespace mri::cuda
