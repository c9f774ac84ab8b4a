// SPDX-License-Identifier: LGPL-2.1-or-later
// Memory layout of a cascade's features. Only for sources of this folder.
#pragma once

#include "models/cascade/cascade.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace mri {

/// The inputs of all convolutions, of windows and of a stream. `Ring` holds the last frames of a series: it
/// has grow(slots, first, last), which makes room and keeps the frames first, ..., last.
template <typename Ring>
class CascadeFeatures {
  public:
    /// In a stream the last layer's inputs are kept only where it `remembers` them.
    CascadeFeatures(const CascadeOptions& options, bool remembers)
        : options_(options), kept_layers_(remembers ? options.layers : options.layers - 1) {}

    /// As CascadeLayers::prepare(). A pixel takes at most `bytes`; make(first, slots) makes the ring of a
    /// block's first layer or of another one.
    template <typename Make>
    void prepare(bool stream, const WindowShape& shape, std::int64_t before, std::size_t bytes,
                 const Make& make) {
        // A window's features are not needed after the next layer: two rings take turns. Nor are those of a
        // stream that are not remembered: a ring for all blocks comes after the others.
        const int kept_rings = stream ? options_.blocks * kept_layers_ : 0;
        const int rings = stream ? kept_rings + options_.layers - kept_layers_ : std::min(3, options_.layers);
        const auto slots = [&](int ring) { return shape.frames + (ring < kept_rings ? past : 0); };
        constexpr std::size_t most_bytes = std::size_t{1} << 33;
        checked_product(
            {static_cast<std::size_t>(rings), static_cast<std::size_t>(slots(0)), shape.pixels(), bytes},
            most_bytes, "what a cascade keeps of frames");
        stream_ = stream;
        Kept& k = kept();
        if (k.rings.empty() || k.shape.height != shape.height || k.shape.width != shape.width) {
            k = {};
            std::vector<Ring> made;
            for (int i = 0; i < rings; ++i)
                made.push_back(make(stream ? i < kept_rings && i % kept_layers_ == 0 : i == 0, slots(i)));
            k.rings = std::move(made);
        }
        for (int i = 0; i < rings; ++i)
            k.rings[static_cast<std::size_t>(i)].grow(slots(i), std::max<std::int64_t>(0, before - past),
                                                      before - 1);
        k.shape = shape;
        k.before = before;
    }

    Ring& input(int block, int layer) {
        const int index = !stream_               ? (layer == 0 ? 0 : 1 + (layer - 1) % 2)
                          : layer < kept_layers_ ? block * kept_layers_ + layer
                                                 : options_.blocks * kept_layers_;
        return kept().rings[static_cast<std::size_t>(index)];
    }
    bool stream() const { return stream_; }
    const WindowShape& shape() const { return kept_[stream_ ? 1 : 0].shape; }
    std::int64_t before() const { return kept_[stream_ ? 1 : 0].before; }

  private:
    static constexpr int past = 2; ///< frames that a stream remembers
    struct Kept {
        WindowShape shape;
        std::int64_t before = 0;
        std::vector<Ring> rings; ///< of each convolution, or shared by those of all blocks
    };
    Kept& kept() { return kept_[stream_ ? 1 : 0]; }

    CascadeOptions options_;
    int kept_layers_; ///< of a stream
    std::array<Kept, 2> kept_;
    bool stream_ = false; ///< which of them is in use
};

} // namespace mri
