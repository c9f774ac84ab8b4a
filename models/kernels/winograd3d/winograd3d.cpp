// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/kernels/winograd3d/winograd3d.hpp"

#include "models/kernels/minimal_filtering.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"

#include <algorithm>
#include <string>

namespace mri::winograd3d {

namespace {

using minimal_filtering::at_points;

void check(int in, int out) {
    if (in < 1 || out < 1 || in > most_channels || out > most_channels)
        throw Error(Errc::settings, "a convolution from " + std::to_string(in) + " to " +
                                        std::to_string(out) + " channels has no code of its own");
}

/// A strip of tiles and where it lies.
struct Strip {
    int y, x, tiles;
};

std::vector<Strip> strips_of(const Shape& shape) {
    const int rows = tiles_of(shape.height), columns = tiles_of(shape.width);
    const int pieces = (columns + most_tiles - 1) / most_tiles;
    std::vector<Strip> out;
    for (int y = 0; y < rows; ++y)
        for (int i = 0; i < pieces; ++i)
            out.push_back({y, columns * i / pieces, columns * (i + 1) / pieces - columns * i / pieces});
    return out;
}

std::size_t transformed(int channels) {
    return static_cast<std::size_t>(points) * (most_tiles * static_cast<std::size_t>(stored(channels)) + 16);
}

} // namespace

const Winograd3dKernels* kernels() {
#ifdef MRI_HAVE_X86
    switch (processor::selected()) {
    case Isa::avx512:
        return &kernels_avx512;
    case Isa::avx2:
        return &kernels_avx2;
    case Isa::portable:
        break;
    }
#endif
    return nullptr;
}

template <typename At>
void Winograd3dWeights::transform(const At& at) {
    const int outputs = std::min(stored(out_), group), groups = (out_ + group - 1) / group;
    const std::size_t per_point = static_cast<std::size_t>(in_ * (narrow() ? narrow_lanes : 3 * outputs));
    const std::size_t per_group = points * per_point;
    values_.assign(static_cast<std::size_t>(groups) * per_group, 0.0F);
    for (int o = 0; o < out_; ++o)
        for (int i = 0; i < in_; ++i)
            for (int t = 0; t < 3; ++t) {
                double half[side][3];
                for (int r = 0; r < side; ++r)
                    for (int x = 0; x < 3; ++x) {
                        half[r][x] = 0;
                        for (int y = 0; y < 3; ++y)
                            half[r][x] += at_points[r][y] * static_cast<double>(at(o, i, t, y, x));
                    }
                const std::size_t within =
                    narrow() ? static_cast<std::size_t>(i * narrow_lanes + (2 - t) * out_ + o)
                             : static_cast<std::size_t>((t * in_ + i) * outputs + o % group);
                float* to = values_.data() + static_cast<std::size_t>(o / group) * per_group + within;
                for (int r = 0; r < side; ++r)
                    for (int c = 0; c < side; ++c) {
                        double sum = 0;
                        for (int x = 0; x < 3; ++x)
                            sum += at_points[c][x] * half[r][x];
                        to[static_cast<std::size_t>(r * side + c) * per_point] = static_cast<float>(sum);
                    }
            }
}

Winograd3dWeights::Winograd3dWeights(std::span<const float> weights, int out, int in)
    : Winograd3dWeights(out, in) {
    check(in, out);
    if (weights.size() != static_cast<std::size_t>(out) * static_cast<std::size_t>(in) * 27)
        throw Error(Errc::settings, "a convolution was given kernels of another size");
    transform([&](int o, int i, int t, int y, int x) {
        return weights[static_cast<std::size_t>((((o * in + i) * 3 + t) * 3 + y) * 3 + x)];
    });
}

Winograd3dWeights Winograd3dWeights::transposed(std::span<const float> weights, int out, int in) {
    check(in, out);
    if (weights.size() != static_cast<std::size_t>(out) * static_cast<std::size_t>(in) * 27)
        throw Error(Errc::settings, "a convolution was given kernels of another size");
    Winograd3dWeights result(in, out);
    result.transform([&](int o, int i, int t, int y, int x) {
        return weights[static_cast<std::size_t>((((i * in + o) * 3 + 2 - t) * 3 + 2 - y) * 3 + 2 - x)];
    });
    return result;
}

Winograd3dConvolution::Winograd3dConvolution(const float* const* from, float* const* to,
                                             const Winograd3dWeights& weights, const Shape& s, bool rectify,
                                             bool sum)
    : in(from),
      out(to),
      kernels(weights.data()),
      in_channels(weights.in()),
      out_channels(weights.out()),
      narrow(weights.narrow()),
      shape(s),
      relu(rectify),
      add(sum) {}

std::size_t pending_floats(const Shape& shape) {
    return static_cast<std::size_t>(tiles_of(shape.height)) *
           static_cast<std::size_t>(tiles_of(shape.width)) * tile * tile * narrow_lanes;
}

std::size_t convolution_scratch(int in) {
    // products are computed a group of outputs at a time
    return patch_floats + std::size_t{points} * (most_tiles * group * 2 + 16) + 3 * transformed(in);
}

std::size_t gradient_scratch(int in, int out) {
    return patch_floats + transformed(out) + 3 * transformed(in);
}

std::size_t gradient_sums(int in, int out) {
    const int kept = is_narrow(in, out) ? stored(in) * out : in * stored(out);
    return std::size_t{points} * 3 * static_cast<std::size_t>(kept);
}

void convolve(ThreadPool& pool, Winograd3dScratch& scratch, const Winograd3dKernels& kernels,
              const Winograd3dConvolution& c) {
    if (c.add && !c.narrow)
        throw Error(Errc::failed, "a convolution can only be added to two channels");
    if (c.rectified && c.narrow)
        throw Error(Errc::failed, "a convolution to two channels knows no rectifier in front of them");
    if (c.pending && !c.narrow)
        throw Error(Errc::failed, "a convolution can only leave sums pending of two channels");
    const std::vector<Strip> strips = strips_of(c.shape);
    scratch.resize(static_cast<std::size_t>(pool.threads()));
    pool.parallel_for(static_cast<int>(strips.size()), [&](int index, int worker) {
        const Strip& strip = strips[static_cast<std::size_t>(index)];
        std::vector<float>& mine = scratch[static_cast<std::size_t>(worker)];
        mine.resize(std::max(mine.size(), convolution_scratch(c.in_channels)));
        kernels.convolve(c, strip.y, strip.x, strip.tiles, mine.data());
    });
}

void gradient(ThreadPool& pool, Winograd3dScratch& scratch, const Winograd3dKernels& kernels,
              const Winograd3dGradient& g, std::span<float> result) {
    check(g.in_channels, g.out_channels);
    if (result.size() !=
        static_cast<std::size_t>(g.out_channels) * static_cast<std::size_t>(g.in_channels) * 27)
        throw Error(Errc::failed, "a gradient was given room for kernels of another size");
    const std::vector<Strip> strips = strips_of(g.shape);
    const std::size_t sums = gradient_sums(g.in_channels, g.out_channels);
    // So many parts whatever the number of threads: float32 sums depend on their order.
    const int parts = std::min(12, static_cast<int>(strips.size()));
    scratch.resize(static_cast<std::size_t>(pool.threads()));
    std::vector<std::vector<float>> all(static_cast<std::size_t>(parts));
    pool.parallel_for(parts, [&](int part, int worker) {
        std::vector<float>& mine = scratch[static_cast<std::size_t>(worker)];
        mine.resize(std::max(mine.size(), gradient_scratch(g.in_channels, g.out_channels)));
        std::vector<float>& to = all[static_cast<std::size_t>(part)];
        to.resize(sums);
        const auto count = static_cast<int>(strips.size());
        for (int i = count * part / parts; i < count * (part + 1) / parts; ++i) {
            const Strip& strip = strips[static_cast<std::size_t>(i)];
            kernels.gradient(g, strip.y, strip.x, strip.tiles, mine.data(), to.data());
        }
    });
    std::vector<double> sum(sums);
    for (const std::vector<float>& part : all)
        std::transform(part.begin(), part.end(), sum.begin(), sum.begin(),
                       [](float a, double b) { return static_cast<double>(a) + b; });
    // G^T S G
    const bool lanes_are_inputs = is_narrow(g.in_channels, g.out_channels);
    const int in = g.in_channels, out = g.out_channels;
    const std::size_t per_point = sums / points;
    for (int o = 0; o < out; ++o)
        for (int i = 0; i < in; ++i)
            for (int t = 0; t < 3; ++t) {
                const std::size_t within = lanes_are_inputs
                                               ? static_cast<std::size_t>((t * out + o) * stored(in) + i)
                                               : static_cast<std::size_t>((t * in + i) * stored(out) + o);
                double half[3][side] = {};
                for (std::size_t y = 0; y < 3; ++y)
                    for (std::size_t c = 0; c < side; ++c)
                        for (std::size_t r = 0; r < side; ++r)
                            half[y][c] += at_points[r][y] * sum[(r * side + c) * per_point + within];
                for (std::size_t y = 0; y < 3; ++y)
                    for (std::size_t x = 0; x < 3; ++x) {
                        double value = 0;
                        for (std::size_t c = 0; c < side; ++c)
                            value += at_points[c][x] * half[y][c];
                        result[(static_cast<std::size_t>((o * in + i) * 3 + t) * 3 + y) * 3 + x] +=
                            static_cast<float>(value);
                    }
            }
}

} // namespace mri::winograd3d
