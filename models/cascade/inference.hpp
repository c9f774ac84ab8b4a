// SPDX-License-Identifier: LGPL-2.1-or-later
// The cascade on the processor, without LibTorch.
#pragma once

#include "models/cascade/cascade.hpp"
#include "models/cascade/layers.hpp"
#include "models/common/running_mean.hpp"
#include "plugins/math/base/threads.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mri {

/// CascadeModule::reconstruct() with convolutions of our own. Between convolutions nothing
/// passes through memory but the features themselves, and those are kept from window to window.
class CascadeInference {
  public:
    /// `file` holds cascade_tensors(options); `threads` of the thread that calls run(), 0: one per core.
    CascadeInference(const CascadeOptions& options, const TensorFile& file,
                     std::unique_ptr<CascadeLayers> layers, int threads);

    /// `data` has its window set; `start` and `output` are [frame][y][x] of `shape`. Where `goes_on`, of a
    /// causal cascade, the frames follow those of the last such call since reset(); with `cycle`, of a
    /// windowed one, the first follows upon the last. Returns how far each frame is from its samples. Throws
    /// Errc::no_memory for more frames than can be kept.
    std::vector<WindowOperator::Residual> run(WindowOperator& data, std::span<const cfloat> start,
                                              std::span<cfloat> output, const WindowShape& shape,
                                              bool goes_on, bool cycle);
    void reset();
    const char* instruction_set() const { return layers_->instruction_set(); }

  private:
    /// Memory of a stream's earlier frames; empty outside of a stream.
    struct KnownFrames {
        explicit KnownFrames(int mean_frames) : mean(mean_frames) {}
        int height = 0, width = 0;
        std::int64_t count = 0;
        RunningMean mean; ///< of the start, [y][x][2]
    };

    void find_means(RunningMean& running, std::span<const cfloat> start, const WindowShape& shape);

    CascadeOptions options_;
    std::unique_ptr<CascadeLayers> layers_;
    std::vector<float> steps_; ///< eta of each block
    ThreadPool pool_;
    KnownFrames stream_;
    std::vector<cfloat> means_; ///< M: of each frame of a causal cascade, else one; [frame][y][x]
};

} // namespace mri
