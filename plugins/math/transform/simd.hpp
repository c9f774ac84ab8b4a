// SPDX-License-Identifier: LGPL-2.1-or-later
// The inner loops of the transforms, compiled once per instruction set and chosen at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mri::simd {

/// Lanes of the widest instruction set; buffers are laid out so that any of them can be used.
constexpr int max_lanes = 16;
/// Width in grid cells of the square window through which samples reach the grid: any kernel is at most this
/// wide.
constexpr int window = 8;
/// Cells around the grid into which windows at the edge reach; folded back after spreading.
constexpr int pad = 8;
/// Samples that may share one window.
constexpr int max_group = 4;

/// One pass of a Stockham transform: radix r, m twiddled butterflies, stride s.
struct FftPass {
    int radix, m, s;
    const float* twiddles; ///< [m][radix-1] (re, im): exp(-2 pi i p j / (radix m))
    const float* roots;    ///< [radix] (re, im), only for radices without a codelet
                           ///< of their own
};

/// A transform of one length as the inner loops see it; owned by FftLine (fft.hpp).
struct FftPlan {
    int n = 0;
    int passes = 0;
    FftPass pass[32] = {};
    // Bluestein's chirp transform, for lengths with large prime factors
    const FftPlan* inner = nullptr; ///< power of two, at least 2n-1
    const float* chirp = nullptr;   ///< [n] (re, im): exp(-pi i j^2 / n)
    const float* filter = nullptr;  ///< [inner->n] (re, im): transform of the
                                    ///< conjugate chirp over inner->n
    /// vectors of a line buffer
    int buffer() const { return inner ? inner->n : n; }
};

/// One axis of the grid as the inner loops see it. A transform of its length takes `cells` inputs in the
/// order of `in` and gives outputs in the order of `out`; the pixels of the image are `pixels` of the cells.
struct AxisPlan {
    /// an input or an output of a transform
    struct Step {
        std::int32_t cell;  ///< index in natural order
        std::int32_t pixel; ///< the pixel it stands for on the image's side, -1 = none
        float apod;         ///< that pixel's factor, 0 for none
    };
    int pixels, cells;
    int factor;                     ///< A when the length is A x 16 and done in two steps, 0 when
                                    ///< `fft` does it
    const FftPlan* fft;             ///< any length
    const float* twiddles;          ///< [16][A-1] (re, im) when A is even
    const Step *in, *out;           ///< [cells]
    const std::int32_t* slot;       ///< [cells]: where the output of a cell lies in the work buffer
    const std::int32_t* pixel_slot; ///< [pixels]: where the output that stands for a pixel lies
    const float* apod;              ///< [pixels]: 1 / transform of the kernel, with the sign
                                    ///< of the grid's shift
    // slot, pixel_slot and apod are padded with valid entries to a multiple of max_lanes
};

/// The lengths A x 16 that have code of their own.
constexpr int two_step_factors[] = {5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24};
/// Slots from one row of the work buffer of two steps to the next (16 would map rows to the same sets of the
/// cache).
constexpr int two_step_row = 17;

/// Neighbouring samples first..first+count-1 that share the window whose first cell is at `offset` (complex
/// cells).
struct Group {
    std::int32_t offset, first;
};

/// A non-uniform transform as the inner loops see it; owned by Nufft.
///
/// The grid of one coil is [rows][stride] complex, interleaved; rows run along kx, columns along ky, and cell
/// (0, 0) lies at row `pad`, column `pad`. That the fast axis is ky saves one of the two transpositions.
struct NufftPlan {
    AxisPlan x, y;
    int stride; ///< complex cells from one row (kx) to the next
    int points;
    const float* taps; ///< [points][2][window]: kernel along ky, kernel along kx,
                       ///< both placed in the window
    const Group* groups[max_group];
    int group_count[max_group]; ///< groups[c] holds groups of c + 1 samples
    bool touches_pad;           ///< some window reaches into the padding
    // scratch of one worker, offsets in floats
    long grid_at, line_at, samples_at;
};

/// Placement of points on the grid, for kx and ky in turns as the coordinates come.
struct Placement {
    double per_pixel[2]; ///< 1 / pixels
    double cells[2];
    double half; ///< half the kernel's width in cells
};

/// The functions one instruction set provides. Every pointer to scratch is aligned to 64 bytes.
struct TransformKernels {
    int lanes;
    /// samples [points] complex -> what lies between the two passes, in scratch, of one coil
    void (*adjoint_grid)(const NufftPlan&, const float* samples, const float* weights, float* scratch);
    /// from there to columns x0..x0+lanes-1 of the coil's image [height][width] complex
    void (*adjoint_store)(const NufftPlan&, int x0, float* image, float* scratch);
    /// the same, with image += conj(map) times the coil's image; map [height][width] complex
    void (*adjoint_add_product)(const NufftPlan&, int x0, const float* map, float* image, float* scratch);
    /// the same, with image += |the coil's image|^2
    void (*adjoint_add_square)(const NufftPlan&, int x0, float* image, float* scratch);
    /// image [height][width] complex -> samples [points] complex, of one coil
    void (*forward)(const NufftPlan&, const float* image, float* samples, float* scratch);
    /// 2 n coordinates kx, ky, ... -> first cell of the kernel (down to -window/2) and where the first tap
    /// lies in that cell, from -1 to 1. Returns the largest magnitude as a float's bits: NaN is above
    /// infinity, infinity above the rest.
    std::uint32_t (*place)(const Placement&, const float* kxy, std::size_t n, std::int32_t* first, float* z);
    /// evaluates the kernel's polynomials: taps [n][2][window], ky before kx; table [..][degree+1][2][window]
    /// is indexed by shift [n], z [n][2] has kx before ky
    void (*taps)(const float* table, int degree, const std::uint8_t* shift, const float* z, std::size_t n,
                 float* taps);
    /// transforms columns x0..x0+lanes-1 of an image [height][width] in place; shift: index of the origin, 0
    /// or n/2
    void (*columns)(const FftPlan&, float* image, int width, int x0, int shift, bool inverse, float* scratch);
    /// the same for rows y0..y0+lanes-1
    void (*rows)(const FftPlan&, float* image, int height, int y0, int shift, bool inverse, float* scratch);
};

/// The table of processor::selected(). Throws what that throws.
const TransformKernels& kernels();

extern const TransformKernels kernels_portable;
#ifdef MRI_HAVE_X86
extern const TransformKernels kernels_avx2;
extern const TransformKernels kernels_avx512;
#endif

} // namespace mri::simd
