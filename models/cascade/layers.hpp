// SPDX-License-Identifier: LGPL-2.1-or-later
// The convolutions of a cascade and the features between them, in one arithmetic or another, without
// LibTorch.
#pragma once

#include "models/cascade/cascade.hpp"
#include "plugins/math/base/threads.hpp"

#include <cstdint>
#include <memory>

namespace mri {

/// A row of pixels of a step towards the data: complex numbers (re, im, ...).
struct CascadeRow {
    float* x;
    const float* normal; ///< N x
    const float* right;  ///< b
    const float* mean;   ///< M
    float step;          ///< eta
    int width;
};

class CascadeLayers {
  public:
    /// The convolutions in bfloat16 or float32 of `file`, which holds cascade_tensors(options); null where
    /// this processor has none of our own for them: bfloat16 needs a multiple of 16 filters, float32 9 to
    /// 256.
    static std::unique_ptr<CascadeLayers> bfloat16(const CascadeOptions& options, const TensorFile& file);
    static std::unique_ptr<CascadeLayers> float32(const CascadeOptions& options, const TensorFile& file);

    virtual ~CascadeLayers() = default;
    virtual const char* instruction_set() const = 0;

    /// Makes room for shape.frames frames. Of a stream, whose features are kept apart from those of windows,
    /// they follow `before` others of the same size, of which the last two are still known. Throws
    /// Errc::no_memory for more than can be kept.
    virtual void prepare(bool stream, const WindowShape& shape, std::int64_t before) = 0;
    /// g = b - N x, x += eta g of a row, and (x - M, M, g) is what `block` is told of row y of frame t, which
    /// is counted from the first of this call; at the end there is no such block.
    virtual void data_step(int block, int t, int y, const CascadeRow& row) = 0;
    /// images += the block's convolutions of its input.
    virtual void convolve(ThreadPool& pool, int block, cfloat* images, bool cycle) = 0;
};

} // namespace mri
