// SPDX-License-Identifier: LGPL-2.1-or-later
// Included once per instruction set, with MRI_WINOGRAD_LANES and MRI_WINOGRAD_TABLE defined. Nothing of the
// standard library is called: an inline function of it compiled here could be the copy that the linker keeps
// for the whole program.
#include "models/kernels/minimal_filtering.hpp"
#include "models/kernels/winograd3d/winograd3d.hpp"

namespace mri::winograd3d {
namespace {

using namespace minimal_filtering;

template <int L>
MRI_INLINE Vec<L> positive(Vec<L> v) {
    // of NaN the comparison is false and NaN is kept
    return v < 0.0F ? Vec<L>{} : v;
}

/// The rows of Side pixels from (y, x) on, with zeros beyond the frame; `patch` is room for those at an edge.
template <int Side>
MRI_INLINE void rows_of(const float* frame, const Shape& shape, int channels, int y, int x, float* patch,
                        const float** rows) {
    const bool inside = y >= 0 && x >= 0 && y + Side <= shape.height && x + Side <= shape.width;
    for (int r = 0; r < Side; ++r) {
        const float* row = frame + (std::ptrdiff_t(y + r) * shape.width + x) * channels;
        if (inside) {
            rows[r] = row;
            continue;
        }
        float* to = patch + r * Side * channels;
        rows[r] = to;
        for (int i = 0; i < Side; ++i)
            for (int c = 0; c < channels; c += 8) {
                const bool there = y + r >= 0 && y + r < shape.height && x + i >= 0 && x + i < shape.width;
                store<8>(to + i * channels + c, there ? load<8>(row + i * channels + c) : Vec<8>{});
            }
    }
}

/// Asks for a part of a strip's pixels ahead of their use, so that memory is busy while points are
/// multiplied: the part of point `p` of the `Pixels` rows that tiles reach, as transform() reads them.
/// Without it the reading waits for memory most of its time; all at once, ahead of the products, it gains
/// next to nothing (models/kernels/README.md).
template <int Pixels>
MRI_INLINE void prefetch(const float* frame, const Shape& shape, int channels, int y, int x, int tiles,
                         int p) {
    constexpr int beyond = Pixels == side ? 1 : 0, parts = points / Pixels, line = 16;
    const int row = y * tile - beyond + p / parts, part = p % parts;
    if (!frame || row < 0 || row >= shape.height)
        return;
    const int first = x * tile - beyond, last = (x + tiles) * tile + beyond;
    const int begin = first < 0 ? 0 : first, end = last > shape.width ? shape.width : last;
    const float* pixels = frame + (std::ptrdiff_t(row) * shape.width + begin) * channels;
    const int count = (end - begin) * channels;
    for (int i = count * part / parts / line * line; i < count * (part + 1) / parts; i += line)
        __builtin_prefetch(pixels + i, 0, 2);
}

/// Floats from one point to the next. An odd number of cache lines spreads the points over the cache's sets.
MRI_INLINE std::ptrdiff_t point_step(int padded, int channels) {
    return std::ptrdiff_t(padded) * channels + 16;
}

/// [y][x][channel] -> [point][tile][channel]: of inputs tiles of `side` pixels each `tile` pixels, which
/// reach one pixel beyond what is computed of them, and of a gradient of outputs those of `tile` pixels. Of a
/// frame that was not asked for ahead, the pixels of a few tiles on are asked for with each tile.
template <int L, int Pixels>
void transform(const float* frame, const Shape& shape, int channels, int y, int x, int tiles, int padded,
               float* patch, float* out, bool asked) {
    constexpr int tiles_ahead = 4, line = 16;
    static_assert(Pixels == side || Pixels == tile);
    constexpr int beyond = Pixels == side ? 1 : 0;
    const auto one_axis = [](const Vec<L>* from, Vec<L>* to) __attribute__((always_inline)) {
        if constexpr (Pixels == side)
            to_points(from, to);
        else
            from_sums(from, to);
    };
    for (int i = 0; i < tiles; ++i) {
        const float* rows[Pixels];
        rows_of<Pixels>(frame, shape, channels, y * tile - beyond, (x + i) * tile - beyond, patch, rows);
        if (!asked && i + tiles_ahead < tiles) {
#pragma GCC unroll 6
            for (int r = 0; r < Pixels; ++r)
                for (int k = 0; k < tile * channels; k += line)
                    __builtin_prefetch(rows[r] + tiles_ahead * tile * channels + k);
        }
        for (int c = 0; c < channels; c += L) {
            Vec<L> half[Pixels * side];
#pragma GCC unroll 6
            for (int r = 0; r < Pixels; ++r) {
                Vec<L> d[Pixels];
#pragma GCC unroll 6
                for (int j = 0; j < Pixels; ++j)
                    d[j] = load<L>(rows[r] + j * channels + c);
                one_axis(d, half + r * side);
            }
            float* to = out + i * channels + c;
#pragma GCC unroll 6
            for (int j = 0; j < side; ++j) {
                Vec<L> d[Pixels], u[side];
#pragma GCC unroll 6
                for (int r = 0; r < Pixels; ++r)
                    d[r] = half[r * side + j];
                one_axis(d, u);
#pragma GCC unroll 6
                for (int r = 0; r < side; ++r)
                    store<L>(to + (r * side + j) * point_step(padded, channels), u[r]);
            }
        }
    }
}

/// A tile of points, `step` floats from one to the next, to its pixels.
template <int L>
MRI_INLINE void pixels_of(const float* from, std::ptrdiff_t step, Vec<L>* out) {
    Vec<L> half[tile * side];
#pragma GCC unroll 6
    for (int r = 0; r < side; ++r) {
        Vec<L> m[side];
#pragma GCC unroll 6
        for (int j = 0; j < side; ++j)
            m[j] = load<L>(from + (r * side + j) * step);
        to_sums(m, half + r, side);
    }
#pragma GCC unroll 4
    for (int j = 0; j < tile; ++j) // half is [x][row of points]
        to_sums(half + j * side, out + j, tile);
}

/// [point][tile][Width] -> [y][x][channel], channels `first` and on.
template <int L, int Width>
void transform_output(const Winograd3dConvolution& c, int t, int y, int x, int tiles, int padded, int first,
                      const float* from) {
    const int channels = stored(c.out_channels);
    for (int i = 0; i < tiles; ++i)
        for (int lane = 0; lane < Width; lane += L) {
            Vec<L> out[tile * tile];
            pixels_of<L>(from + i * Width + lane, point_step(padded, Width), out);
            for (int r = 0; r < tile && y * tile + r < c.shape.height; ++r)
                for (int j = 0; j < tile && (x + i) * tile + j < c.shape.width; ++j) {
                    const std::ptrdiff_t at =
                        (std::ptrdiff_t(y * tile + r) * c.shape.width + (x + i) * tile + j) * channels +
                        first + lane;
                    Vec<L> v = out[r * tile + j];
                    if (c.relu)
                        v = positive<L>(v);
                    if (c.rectified)
                        v = load<L>(c.rectified[t] + at) > 0.0F ? v : Vec<L>{};
                    store<L>(c.out[t] + at, v);
                }
        }
}

/// Sums over inputs of some frames, in registers: Tiles x Vectors of L lanes. `in` and `weights` are of one
/// point.
template <int L, int Vectors, int Tiles, int Frames>
MRI_INLINE void product(const float* const* in, int channels, int stride, const float* weights, float* out) {
    Vec<L> sum[Tiles][Vectors] = {};
    for (int dt = 0; dt < Frames; ++dt) {
        const float* from = in[dt];
        if (!from) {
            weights += std::ptrdiff_t(channels) * L * Vectors;
            continue;
        }
        for (int k = 0; k < channels; ++k, weights += L * Vectors) {
            Vec<L> w[Vectors];
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v)
                w[v] = load<L>(weights + v * L);
#pragma GCC unroll 12
            for (int i = 0; i < Tiles; ++i)
#pragma GCC unroll 2
                for (int v = 0; v < Vectors; ++v)
                    sum[i][v] += from[i * stride + k] * w[v];
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < Tiles; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v)
            store<L>(out + (i * Vectors + v) * L, sum[i][v]);
}

constexpr int widest = MRI_WINOGRAD_LANES;

/// Transformed inputs of the frames around one: a ring of three.
struct InputRing {
    float* slots[3];
    bool there[3];
};

template <int L>
void convolve_strip(const Winograd3dConvolution& c, int y, int x, int tiles, float* scratch) {
    const int in = stored(c.in_channels), padded = padded_tiles(tiles);
    const std::ptrdiff_t slot = points * point_step(padded, in);
    float* patch = scratch;
    float* products = patch + patch_floats;
    InputRing ring;
    for (int i = 0; i < 3; ++i)
        ring.slots[i] = products + points * point_step(padded, group * 2) + i * slot;
    for (int i = 0; i < c.shape.frames + 2; ++i) {
        ring.there[i % 3] = c.in[i] != nullptr;
        if (c.in[i])
            transform<L, side>(c.in[i], c.shape, in, y, x, tiles, padded, patch, ring.slots[i % 3], i > 2);
        if (i < 2)
            continue;
        const int t = i - 2;
        const auto at = [&](int p, int block, const float** from) {
            for (int dt = 0; dt < 3; ++dt)
                from[dt] = ring.there[(t + dt) % 3] ? ring.slots[(t + dt) % 3] + p * point_step(padded, in) +
                                                          block * tile_step * in
                                                    : nullptr;
        };
        // GCC leaves out calls of a function that only asks for memory: it changes nothing. So it is inlined.
        const auto prefetch_for = [&](int p) __attribute__((always_inline)) {
            if (t + 1 < c.shape.frames)
                prefetch<side>(c.in[i + 1], c.shape, in, y, x, tiles, p);
            prefetch<tile>(c.out[t], c.shape, stored(c.out_channels), y, x, tiles, p);
            if (c.rectified)
                prefetch<tile>(c.rectified[t], c.shape, stored(c.out_channels), y, x, tiles, p);
        };
        const float* from[3];
        const int channels = c.in_channels, out = stored(c.out_channels), width = out < group ? 8 : group;
        const std::ptrdiff_t per_group = std::ptrdiff_t(points) * 3 * channels * width;
        const float* w = c.kernels;
        for (int first = 0; first < out; first += group, w += per_group) {
            for (int p = 0; p < points; ++p) {
                if (first == 0)
                    prefetch_for(p);
                for (int block = 0; block < padded / tile_step; ++block) {
                    at(p, block, from);
                    float* to = products + p * point_step(padded, width) + block * tile_step * width;
                    const float* of_point = w + std::ptrdiff_t(p) * 3 * channels * width;
                    if (out < group)
                        product<8, 1, tile_step, 3>(from, channels, in, of_point, to);
                    else
                        product<widest, group / widest, tile_step, 3>(from, channels, in, of_point, to);
                }
            }
            if (out < group)
                transform_output<8, 8>(c, t, y, x, tiles, padded, first, products);
            else
                transform_output<widest, group>(c, t, y, x, tiles, padded, first, products);
        }
    }
}

/// The sums of the next frame to the front, those of the one after it behind them, and zeros.
template <int Outputs>
MRI_INLINE Vec<8> next(Vec<8> v) {
    typedef int Int8 __attribute__((vector_size(32)));
    return __builtin_shuffle(v, Vec<8>{},
                             Outputs == 2 ? Int8{2, 3, 4, 5, 8, 8, 8, 8} : Int8{1, 2, 8, 8, 8, 8, 8, 8});
}

/// One or two outputs: lanes are those of the three frames that an input frame is a part of, the eldest
/// first. Sums that wait for later frames are kept as pixels, so that an input is looked at once.
template <int L, int Outputs>
void convolve_narrow(const Winograd3dConvolution& c, int y, int x, int tiles, float* scratch) {
    constexpr int pixels = tile * tile;
    const int in = stored(c.in_channels);
    float* patch = scratch;
    float* products = patch + patch_floats;
    float* transformed = products + points * point_step(tile_step, narrow_lanes);
    float* sums = transformed + points * point_step(tile_step, in);
    if (c.pending)
        sums = c.pending + std::ptrdiff_t(y * tiles_of(c.shape.width) + x) * pixels * narrow_lanes;
    else
        for (int i = 0; i < tiles * pixels; ++i)
            store<8>(sums + i * narrow_lanes, Vec<8>{});
    const int first = c.pending ? 2 : 0;
    for (int i = first; i < c.shape.frames + 2; ++i) {
        const int t = i - 2;
        const float* frame = c.in[i];
        if (frame)
            transform<L, side>(frame, c.shape, in, y, x, tiles, tile_step, patch, transformed, i > first);
        for (int p = 0; p < points; ++p) {
            if (t + 1 < c.shape.frames)
                prefetch<side>(c.in[i + 1], c.shape, in, y, x, tiles, p);
            if (t >= 0)
                prefetch<tile>(c.out[t], c.shape, Outputs, y, x, tiles, p);
            const float* const of_point = transformed + p * point_step(tile_step, in);
            if (frame)
                product<8, 1, tile_step, 1>(&of_point, c.in_channels, in,
                                            c.kernels + std::ptrdiff_t(p) * c.in_channels * narrow_lanes,
                                            products + p * point_step(tile_step, narrow_lanes));
        }
        for (int k = 0; k < tiles; ++k) {
            float* kept = sums + k * pixels * narrow_lanes;
            Vec<8> sum[pixels] = {};
            if (frame)
                pixels_of<8>(products + k * narrow_lanes, point_step(tile_step, narrow_lanes), sum);
#pragma GCC unroll 16
            for (int r = 0; r < pixels; ++r) {
                sum[r] += next<Outputs>(load<8>(kept + r * narrow_lanes));
                store<8>(kept + r * narrow_lanes, sum[r]);
            }
            for (int r = 0; r < tile && t >= 0 && y * tile + r < c.shape.height; ++r)
                for (int j = 0; j < tile && (x + k) * tile + j < c.shape.width; ++j) {
                    float* to = c.out[t] +
                                (std::ptrdiff_t(y * tile + r) * c.shape.width + (x + k) * tile + j) * Outputs;
                    for (int n = 0; n < Outputs; ++n) {
                        float v = kept[(r * tile + j) * narrow_lanes + n];
                        if (c.relu)
                            v = v < 0 ? 0 : v;
                        to[n] = c.add ? to[n] + v : v;
                    }
                }
        }
    }
}

void convolve(const Winograd3dConvolution& c, int y, int x, int tiles, float* scratch) {
    if (c.narrow) {
        // So few at a time that they stay in the first cache.
        for (int first = 0; first < tiles; first += tile_step) {
            const int count = tiles - first < tile_step ? tiles - first : tile_step;
            c.out_channels == 2 ? convolve_narrow<widest, 2>(c, y, x + first, count, scratch)
                                : convolve_narrow<widest, 1>(c, y, x + first, count, scratch);
        }
        return;
    }
    if (stored(c.in_channels) % widest == 0)
        convolve_strip<widest>(c, y, x, tiles, scratch);
    else
        convolve_strip<8>(c, y, x, tiles, scratch);
}

/// sums[row][...] += rows of a (one value a tile, broadcast) times b (vectors), over the tiles.
template <int L, int Vectors, int Rows>
MRI_INLINE void outer(const float* const* a, int a_stride, const float* b, int b_stride, int tiles,
                      float* sums, int sums_stride) {
    Vec<L> sum[Rows][Vectors];
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v)
            sum[r][v] = load<L>(sums + std::ptrdiff_t(r) * sums_stride + v * L);
    for (int i = 0; i < tiles; ++i) {
        Vec<L> w[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v)
            w[v] = load<L>(b + std::ptrdiff_t(i) * b_stride + v * L);
#pragma GCC unroll 6
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v)
                sum[r][v] += a[r][std::ptrdiff_t(i) * a_stride] * w[v];
    }
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v)
            store<L>(sums + std::ptrdiff_t(r) * sums_stride + v * L, sum[r][v]);
}

/// All rows, `a` holding `channels` of each of the frames that are there.
template <int L, int Vectors>
void outer_rows(const float* const* frames, int channels, int a_stride, const float* b, int b_stride,
                int tiles, float* sums, int sums_stride) {
    // Rows of frames that are missing are left alone; blocks reach over the frames.
    const float* a[6];
    float* to[6];
    int rows = 0;
    const auto flush = [&] {
        bool together = rows == 6;
        for (int r = 1; r < rows; ++r)
            together = together && to[r] == to[0] + std::ptrdiff_t(r) * sums_stride;
        if (together)
            outer<L, Vectors, 6>(a, a_stride, b, b_stride, tiles, to[0], sums_stride);
        else
            for (int r = 0; r < rows; ++r)
                outer<L, Vectors, 1>(a + r, a_stride, b, b_stride, tiles, to[r], sums_stride);
        rows = 0;
    };
    for (int dt = 0; dt < 3; ++dt)
        for (int k = 0; k < channels && frames[dt]; ++k) {
            a[rows] = frames[dt] + k;
            to[rows] = sums + (std::ptrdiff_t(dt) * channels + k) * sums_stride;
            if (++rows == 6)
                flush();
        }
    flush();
}

/// sums[frame][output][channel] of few outputs: vectors of the inputs, six at a time, times each output.
template <int L, int Outputs>
void narrow_outer(const float* const* frames, int channels, const float* v, int v_stride, int tiles,
                  float* sums) {
    const float* from[6];
    float* to[6];
    int vectors = 0;
    const auto flush = [&] {
        for (int r = vectors; r < 6; ++r) // what is computed again is not kept
            from[r] = from[0];
        Vec<L> sum[6][Outputs] = {};
        for (int i = 0; i < tiles && vectors > 0; ++i) {
            Vec<L> u[6];
#pragma GCC unroll 6
            for (int r = 0; r < 6; ++r)
                u[r] = load<L>(from[r] + std::ptrdiff_t(i) * channels);
#pragma GCC unroll 2
            for (int n = 0; n < Outputs; ++n)
#pragma GCC unroll 6
                for (int r = 0; r < 6; ++r)
                    sum[r][n] += v[std::ptrdiff_t(i) * v_stride + n] * u[r];
        }
        for (int r = 0; r < vectors; ++r)
            for (int n = 0; n < Outputs; ++n) {
                float* at = to[r] + std::ptrdiff_t(n) * channels;
                store<L>(at, load<L>(at) + sum[r][n]);
            }
        vectors = 0;
    };
    for (int dt = 0; dt < 3; ++dt)
        for (int k = 0; k < channels && frames[dt]; k += L) {
            from[vectors] = frames[dt] + k;
            to[vectors] = sums + std::ptrdiff_t(dt) * Outputs * channels + k;
            if (++vectors == 6)
                flush();
        }
    flush();
}

template <int LIn, int LOut>
void gradient_strip(const Winograd3dGradient& g, int y, int x, int tiles, float* scratch, float* sums) {
    const int in = stored(g.in_channels), out = stored(g.out_channels), padded = padded_tiles(tiles);
    const bool narrow = is_narrow(g.in_channels, g.out_channels);
    const std::ptrdiff_t slot = points * point_step(padded, in);
    float* patch = scratch;
    float* outputs = patch + patch_floats;
    InputRing ring;
    for (int i = 0; i < 3; ++i)
        ring.slots[i] = outputs + points * point_step(padded, out) + i * slot;
    for (int i = 0; i < g.shape.frames + 2; ++i) {
        ring.there[i % 3] = g.in[i] != nullptr;
        if (g.in[i])
            transform<LIn, side>(g.in[i], g.shape, in, y, x, tiles, padded, patch, ring.slots[i % 3], i > 2);
        if (i < 2)
            continue;
        const int t = i - 2;
        const std::ptrdiff_t frame = std::ptrdiff_t(g.shape.height) * g.shape.width * out;
        transform<LOut, tile>(g.out + t * frame, g.shape, out, y, x, tiles, padded, patch, outputs, t > 0);
        for (int p = 0; p < points; ++p) {
            if (t + 1 < g.shape.frames) {
                prefetch<side>(g.in[i + 1], g.shape, in, y, x, tiles, p);
                prefetch<tile>(g.out + (t + 1) * frame, g.shape, out, y, x, tiles, p);
            }
            const float* frames[3];
            for (int dt = 0; dt < 3; ++dt)
                frames[dt] = ring.there[(t + dt) % 3] ? ring.slots[(t + dt) % 3] + p * point_step(padded, in)
                                                      : nullptr;
            const float* v = outputs + p * point_step(padded, out);
            if (narrow) {
                float* of_point = sums + std::ptrdiff_t(p) * 3 * g.out_channels * in;
                if (g.out_channels == 2)
                    narrow_outer<LIn, 2>(frames, in, v, out, tiles, of_point);
                else
                    narrow_outer<LIn, 1>(frames, in, v, out, tiles, of_point);
                continue;
            }
            float* of_point = sums + std::ptrdiff_t(p) * 3 * g.in_channels * out;
            if (out < group)
                outer_rows<8, 1>(frames, g.in_channels, in, v, out, tiles, of_point, out);
            else
                for (int first = 0; first < out; first += group)
                    outer_rows<widest, group / widest>(frames, g.in_channels, in, v + first, out, tiles,
                                                       of_point + first, out);
        }
    }
}

void gradient(const Winograd3dGradient& g, int y, int x, int tiles, float* scratch, float* sums) {
    const bool in = stored(g.in_channels) % widest == 0, out = stored(g.out_channels) % widest == 0;
    if (in && out)
        gradient_strip<widest, widest>(g, y, x, tiles, scratch, sums);
    else if (in)
        gradient_strip<widest, 8>(g, y, x, tiles, scratch, sums);
    else if (out)
        gradient_strip<8, widest>(g, y, x, tiles, scratch, sums);
    else
        gradient_strip<8, 8>(g, y, x, tiles, scratch, sums);
}

} // namespace

const Winograd3dKernels MRI_WINOGRAD_TABLE{MRI_WINOGRAD_LANES == 16 ? "avx512" : "avx2", convolve, gradient};

} // namespace mri::winograd3d
