// SPDX-License-Identifier: LGPL-2.1-or-later
// The cascade in bfloat16 on the processor, without LibTorch.
#pragma once

#include "cascade.hpp"
#include "convolution3d.hpp"
#include "plugins/gridding/threads.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace mri {

/// What CascadeModule::reconstruct() computes in bfloat16, with convolutions of our own: features are rounded
/// to bfloat16 where LibTorch rounds them too, sums have another order. Between convolutions nothing passes
/// through memory but the features themselves.
class CascadeInference {
  public:
    /// Whether there is code for a cascade of these options on this processor: `filters` must be a multiple
    /// of 16.
    static bool covers(const CascadeOptions& options);

    /// `file` holds cascade_tensors(options); `threads` of the thread that calls run(), 0: one per core.
    CascadeInference(const CascadeOptions& options, const TensorFile& file, int threads);

    /// `data` has its window set; `start` and `output` are [frame][y][x] of `shape`. Where `goes_on`, of a
    /// causal cascade, the frames follow those of the last such call since reset(); with `cycle`, of a
    /// windowed one, the first follows upon the last. Returns how far each frame is from its samples. Throws
    /// Errc::no_memory for more frames than can be kept.
    std::vector<WindowOperator::Residual> run(WindowOperator& data, std::span<const cfloat> start,
                                              std::span<cfloat> output, const WindowShape& shape,
                                              bool goes_on, bool cycle);
    void reset();
    const char* instruction_set() const { return kernels_.name; }

  private:
    struct Block {
        std::vector<convolution3d::Weights> layers;
        float step = 0; ///< eta
    };
    /// The features that a series of frames needs.
    struct Features {
        WindowShape shape;                         ///< frames: of a call
        std::vector<convolution3d::Frames> inputs; ///< of each convolution, or shared by those of all blocks
        std::int64_t frames = 0;                   ///< before this call
        std::vector<cfloat> mean;                  ///< running, [y][x]
        int mean_frames = 0;
    };

    convolution3d::Frames& input(Features& features, int block, int layer) const;
    void prepare(Features& features, const WindowShape& shape, bool goes_on);
    void find_means(Features& features, std::span<const cfloat> start);
    void convolve(Features& features, int block, cfloat* images, bool cycle);

    CascadeOptions options_;
    const convolution3d::Kernels& kernels_;
    std::vector<Block> blocks_;
    ThreadPool pool_;
    Features window_, stream_;
    std::vector<cfloat> means_; ///< M: of each frame of a causal cascade, else one; [frame][y][x]
};

} // namespace mri
