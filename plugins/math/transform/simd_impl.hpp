// SPDX-License-Identifier: LGPL-2.1-or-later
// Passes of the non-uniform transform, and the table of an instruction set.
//
// Included once per instruction set, with MRI_SIMD_LANES and MRI_SIMD_TABLE defined. Everything
// is in an unnamed namespace and nothing but builtins is called: an inline function of the standard library
// compiled here with AVX-512 could be the copy that the linker keeps for the whole program.
#include "plugins/math/transform/simd.hpp"
#include "plugins/math/transform/simd_fft.hpp"
#include "plugins/math/transform/simd_spread.hpp"
#include "plugins/math/transform/simd_vector.hpp"

#include <cstddef>
#include <utility>

namespace mri::simd {
namespace {

struct ToSlot {
    MRI_INLINE void operator()(const AxisPlan::Step&, C value, C& slot) const { slot = value; }
};

/// Both directions keep what lies between the passes in the grid itself, so that a coil stays in the cache: a
/// vector of L complex numbers, real parts first, takes the place of L neighbouring cells.
///
/// Adjoint: row L b + j holds, in place of cells k0.., pixels L b.. of column ky = k0 + j. Forward: row x
/// holds, in place of cells k0.., pixel x of columns k0...
void adjoint_grid(const NufftPlan& plan, const float* samples, const float* weights, float* scratch) {
    float* grid = scratch + plan.grid_at;
    C* line = reinterpret_cast<C*>(scratch + plan.line_at);
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gx = plan.x.cells, gy = plan.y.cells, width = plan.x.pixels;

    __builtin_memset(grid, 0, sizeof(float) * stride * (gx + 2 * pad));
    if (weights) {
        float* weighted = scratch + plan.samples_at;
        multiply(samples, weights, weighted, plan.points, std::make_index_sequence<L>());
        samples = weighted;
    }
    spread<4>(plan, samples, grid);
    spread<3>(plan, samples, grid);
    spread<2>(plan, samples, grid);
    spread<1>(plan, samples, grid);
    if (plan.touches_pad)
        fold(plan, grid);

    float* origin = grid + pad * stride + 2 * pad;
    for (int k0 = 0; k0 < gy; k0 += L) {
        float* cell = origin + 2 * k0;
        C* out = line_transform(
            plan.x, line,
            [&](const AxisPlan::Step& s) {
                const float* c = cell + std::size_t(s.cell) * stride;
                return parts<true>(split(load(c), load(c + L)));
            },
            ToSlot());
        // the tables of the last block of pixels reach beyond the image: they are padded to whole blocks
        for (int x0 = 0; x0 < width; x0 += L)
            turn_tile(out, plan.x.pixel_slot + x0, plan.x.apod + x0, cell + std::size_t(x0) * stride, stride,
                      std::make_index_sequence<L>());
    }
}

/// The last pass of the adjoint transform of L columns of the image; put(offset in the image, value, lanes).
template <class Put>
MRI_INLINE void adjoint_columns(const NufftPlan& plan, int x0, float* scratch, Put put) {
    C* line = reinterpret_cast<C*>(scratch + plan.line_at);
    std::size_t stride = 2 * std::size_t(plan.stride);
    int width = plan.x.pixels, lanes = width - x0 < L ? width - x0 : L;
    const float* rows = scratch + plan.grid_at + (pad + std::size_t(x0)) * stride + 2 * pad;
    line_transform(
        plan.y, line,
        [&](const AxisPlan::Step& s) {
            auto k = unsigned(s.cell);
            const float* c = rows + std::size_t(k % L) * stride + k / L * 2 * L;
            return C{load(c), load(c + L)};
        },
        [&](const AxisPlan::Step& s, C value, C&) {
            if (s.pixel >= 0)
                put(2 * (std::size_t(s.pixel) * width + x0), parts<true>(value) * s.apod, lanes);
        });
}

void adjoint_store(const NufftPlan& plan, int x0, float* image, float* scratch) {
    adjoint_columns(plan, x0, scratch,
                    [&](std::size_t at, C value, int lanes) { store_some(image + at, value, lanes); });
}
void adjoint_add_product(const NufftPlan& plan, int x0, const float* map, float* image, float* scratch) {
    adjoint_columns(plan, x0, scratch, [&](std::size_t at, C value, int lanes) {
        C sum = load_some(image + at, lanes), m = load_some(map + at, lanes);
        sum.re += m.re * value.re + m.im * value.im;
        sum.im += m.re * value.im - m.im * value.re;
        store_some(image + at, sum, lanes);
    });
}
void adjoint_add_square(const NufftPlan& plan, int x0, float* image, float* scratch) {
    adjoint_columns(plan, x0, scratch, [&](std::size_t at, C value, int lanes) {
        C sum = load_some(image + at, lanes);
        sum.re += value.re * value.re + value.im * value.im;
        store_some(image + at, sum, lanes);
    });
}

void forward(const NufftPlan& plan, const float* image, float* samples, float* scratch) {
    float* grid = scratch + plan.grid_at;
    C* line = reinterpret_cast<C*>(scratch + plan.line_at);
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gy = plan.y.cells, width = plan.x.pixels;

    float* origin = grid + pad * stride + 2 * pad;
    for (int x0 = 0; x0 < width; x0 += L) {
        int lanes = width - x0 < L ? width - x0 : L;
        const float* column_of_image = image + 2 * x0;
        C* out = line_transform(
            plan.y, line,
            [&](const AxisPlan::Step& s) {
                return s.pixel < 0
                           ? C{zero(), zero()}
                           : load_some(column_of_image + 2 * std::size_t(s.pixel) * width, lanes) * s.apod;
            },
            ToSlot());
        for (int k0 = 0; k0 < gy; k0 += L)
            turn_tile(out, plan.y.slot + k0, origin + std::size_t(x0) * stride + 2 * k0, stride,
                      std::make_index_sequence<L>());
    }
    for (int k0 = 0; k0 < gy; k0 += L) {
        float* cell = origin + 2 * k0;
        line_transform(
            plan.x, line,
            [&](const AxisPlan::Step& s) {
                if (s.pixel < 0)
                    return C{zero(), zero()};
                const float* c = cell + std::size_t(s.pixel) * stride;
                return C{load(c), load(c + L)} * s.apod;
            },
            [&](const AxisPlan::Step& s, C value, C&) {
                Vec a, b;
                merge(value, a, b);
                float* c = cell + std::size_t(s.cell) * stride;
                store(c, a);
                store(c + L, b);
            });
    }
    unfold(plan, grid);
    interpolate<4>(plan, grid, samples);
    interpolate<3>(plan, grid, samples);
    interpolate<2>(plan, grid, samples);
    interpolate<1>(plan, grid, samples);
}

} // namespace

const TransformKernels MRI_SIMD_TABLE = {
    L,    adjoint_grid, adjoint_store, adjoint_add_product, adjoint_add_square, forward, place,
    taps, columns,      rows};

} // namespace mri::simd
