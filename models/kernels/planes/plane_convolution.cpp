// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/kernels/planes/plane_convolution.hpp"

#include "models/files/float_types.hpp"
#include "models/kernels/minimal_filtering.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/threads.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mri::planes {

namespace {

constexpr int line_words = 16; // of the cache
constexpr int reach = 15;      // pixels that a tap may lie aside: the zeros before a row
constexpr std::ptrdiff_t nearby_words = 512 * 1024 / sizeof(Word); // half of a core's second cache
// Pixels of a row that minimal filtering takes at a time: from 32 to 128 more are faster, since a block's
// weights serve more pixels; beyond that nothing but the room grows.
constexpr int most_across = 128;
// What its two ends cost for a channel and four rows, in products of a vector: measured.
constexpr double ends_of_input = 40, ends_of_output = 48;
constexpr std::size_t max_words = std::size_t{1} << 32;

int channels_per_word(Type type) {
    return type == Type::bfloat16 ? 2 : 1;
}

int words_of(Type type, int channels) {
    return (channels + channels_per_word(type) - 1) / channels_per_word(type);
}

Word word_of(Type type, float even, float odd) {
    if (type == Type::float32)
        return std::bit_cast<Word>(even);
    return static_cast<Word>(bfloat16_of(even)) | static_cast<Word>(bfloat16_of(odd)) << 16;
}

/// Words of a plane of so many cache lines or one more: an odd number of them, so that the planes of a row do
/// not compete for the same places.
std::ptrdiff_t spread_words(std::size_t lines) {
    return static_cast<std::ptrdiff_t>((lines | 1U) * line_words);
}

/// Numbers of channels, as equal as they can be, each a multiple of `together` (1 or 2) or 1.
std::vector<int> blocks_of(int outputs, int most, int together) {
    std::vector<int> out;
    for (int left = outputs, count = (outputs + most - 1) / most; left > 0; --count) {
        const int share = (left + count - 1) / count;
        const int size = left == 1 ? 1 : std::min(share + share % together, left - left % together);
        out.push_back(size);
        left -= size;
        count = std::max(count, 2); // an odd one is left over
    }
    return out;
}

/// Vectors of pixels in a row's tiles: few channels leave room for more of them; as equal as they can be.
int pixels_of(const PlaneKernels& kernel, int width, int outputs) {
    int most = 4;
    while (most > kernel.pixels && outputs > kernel.most_channels[most])
        --most;
    const int vectors = (width + kernel.lanes - 1) / kernel.lanes;
    const int tiles = (vectors + most - 1) / most;
    return (vectors + tiles - 1) / tiles;
}

/// Calls body(begin, end) for pieces of 0..count-1.
void in_pieces(ThreadPool& pool, int count, const std::function<void(int, int)>& body) {
    const int pieces = std::min(count, 8 * pool.threads());
    pool.parallel_for(pieces, [&](int piece, int) {
        const auto bound = [&](int i) {
            return static_cast<int>(static_cast<std::int64_t>(count) * i / pieces);
        };
        body(bound(piece), bound(piece + 1));
    });
}

/// A thread's room for what minimal filtering makes on the way, from the begin of a cache line on. It is kept
/// from call to call, for all layers; a piece's width bounds it to some 3.5 KB for each channel and frame.
Word* scratch(std::size_t words) {
    thread_local std::vector<Word> kept;
    if (kept.size() < words + line_words)
        kept.resize(words + line_words);
    Word* const begin = kept.data();
    return begin + (-reinterpret_cast<std::uintptr_t>(begin) / sizeof(Word)) % line_words;
}

/// Asks for a part of the rows that come next: they are too far apart for the processor to foresee.
void fetch_part(const std::vector<TapRow>& taps, std::ptrdiff_t plane, int part, int parts) {
    const Word* last = nullptr;
    for (const TapRow& tap : taps) {
        const Word* line = tap.row - reinterpret_cast<std::uintptr_t>(tap.row) / sizeof(Word) % line_words;
        if (last && std::abs(tap.row - last) <= 2 * reach) // the same row, another pixel
            continue;
        last = tap.row;
        const std::ptrdiff_t lines = tap.words * plane / line_words;
        const std::ptrdiff_t end = lines * (part + 1) / parts;
        for (std::ptrdiff_t i = lines * part / parts; i < end; ++i)
            __builtin_prefetch(line + i * line_words, 0, 2);
    }
}

} // namespace

const PlaneKernels* kernels([[maybe_unused]] Type type) {
#ifdef MRI_HAVE_X86
    const Isa isa = processor::selected();
    if (isa == Isa::avx512 && processor::has_bmi2()) {
        if (type == Type::float32)
            return &kernels_avx512_float32;
        if (processor::has_avx512_bf16() && !processor::has_amx_bf16())
            return &kernels_avx512_bfloat16;
    }
    if (isa != Isa::portable && type == Type::float32)
        return &kernels_avx2_float32;
#endif
    return nullptr;
}

Layout::Layout(Type t, int c, int h, int w)
    : type(t), channels(c), words(words_of(t, c)), height(h), width(w) {
    if (c < 1 || h < 1 || w < 1)
        throw Error(Errc::format, "frames without pixels or channels cannot be computed");
    const auto lines = (static_cast<std::size_t>(w) + line_words - 1) / line_words + 1;
    plane = spread_words(lines);
    frame = static_cast<std::ptrdiff_t>(checked_product(
        {static_cast<std::size_t>(plane), static_cast<std::size_t>(words), static_cast<std::size_t>(h)},
        max_words, "a frame of a network"));
    row = plane * words;
}

Frames::Frames(int count, const Layout& layout) : layout_(layout), count_(count) {
    const std::size_t words =
        checked_product({static_cast<std::size_t>(count), static_cast<std::size_t>(layout.frame)}, max_words,
                        "the features of a network") +
        2 * line_words;
    data_.reset(static_cast<Word*>(::operator new(words * sizeof(Word), std::align_val_t(alignment))));
#ifdef __linux__
    // Large pages: neighbours in time lie on as many others. Only advice, so failure is no error.
    ::madvise(data_.get(), words * sizeof(Word), MADV_HUGEPAGE);
#endif
    std::memset(data_.get(), 0, words * sizeof(Word));
}

std::vector<const Word*> Frames::inputs() const {
    std::vector<const Word*> out;
    for (int t = 0; t < count_; ++t)
        out.push_back(frame(t));
    return out;
}

std::vector<Word*> Frames::outputs(int first, int step) {
    std::vector<Word*> out;
    for (int t = first; t < count_; t += step)
        out.push_back(frame(t));
    return out;
}

void Frames::set(int t, std::span<const float> values) {
    const Layout& l = layout_;
    const int per_word = channels_per_word(l.type);
    const float* pixel = values.data();
    for (int y = 0; y < l.height; ++y)
        for (int x = 0; x < l.width; ++x, pixel += l.channels)
            for (int word = 0; word < l.words; ++word) {
                const int c = word * per_word;
                const bool two = per_word == 2 && c + 1 < l.channels;
                frame(t)[y * l.row + word * l.plane + x] =
                    word_of(l.type, pixel[c], two ? pixel[c + 1] : 0.0F);
            }
}

void Frames::get(int t, int channel, std::span<float> out) const {
    for (int y = 0; y < layout_.height; ++y)
        std::memcpy(out.data() + static_cast<std::ptrdiff_t>(y) * layout_.width,
                    frame(t) + y * layout_.row + channel * layout_.plane,
                    static_cast<std::size_t>(layout_.width) * sizeof(float));
}

Convolution::Convolution(Type type, std::vector<int> inputs, int outputs, std::vector<Tap> taps,
                         const Weight& weight, std::vector<float> bias, float slope)
    : type_(type),
      inputs_(std::move(inputs)),
      outputs_(outputs),
      taps_(std::move(taps)),
      bias_(std::move(bias)),
      slope_(slope) {
    bias_.resize(static_cast<std::size_t>(outputs), 0.0F);
    for (const Tap& tap : taps_) {
        if (std::abs(tap.dx) > reach)
            throw Error(Errc::settings, "a kernel of a network reaches at most 15 pixels");
        first_.push_back(per_output_);
        per_output_ +=
            static_cast<std::size_t>(words_of(type_, inputs_[static_cast<std::size_t>(tap.source)]));
    }
    const int per_word = channels_per_word(type_);
    for (int o = 0; o < outputs_; ++o)
        for (int k = 0; k < static_cast<int>(taps_.size()); ++k) {
            const int channels = inputs_[static_cast<std::size_t>(taps_[static_cast<std::size_t>(k)].source)];
            for (int i = 0; i < channels; i += per_word)
                weights_.push_back(word_of(type_, weight(k, o, i),
                                           per_word == 2 && i + 1 < channels ? weight(k, o, i + 1) : 0.0F));
        }
    if (type_ == Type::float32)
        find_columns();
}

void Convolution::find_columns() {
    std::vector<int> found; // of each column's taps
    for (std::size_t k = 0; k < taps_.size(); ++k) {
        const Tap& tap = taps_[k];
        const auto same = [&](const Column& c) {
            return c.source == tap.source && c.dt == tap.dt && c.dx == tap.dx;
        };
        auto column = std::find_if(columns_.begin(), columns_.end(), same);
        if (column == columns_.end()) {
            columns_.push_back({tap.source, tap.dt, tap.dx, {}, per_output_at_point_});
            per_output_at_point_ += static_cast<std::size_t>(inputs_[static_cast<std::size_t>(tap.source)]);
            column = std::prev(columns_.end());
            found.push_back(0);
        }
        const int bit = std::abs(tap.dy) <= 1 ? 1 << (tap.dy + 1) : 0;
        int& bits = found[static_cast<std::size_t>(column - columns_.begin())];
        if (bit == 0 || (bits & bit) != 0) {
            columns_.clear();
            return;
        }
        bits |= bit;
        column->taps[tap.dy + 1] = k;
    }
    if (std::any_of(found.begin(), found.end(), [](int bits) { return bits != 7; }))
        columns_.clear();
}

/// Frames of a source that an output frame takes, less one.
int Convolution::reach_over_time(std::size_t source) const {
    int earliest = std::numeric_limits<int>::max(), latest = std::numeric_limits<int>::min();
    for (const Tap& tap : taps_)
        if (static_cast<std::size_t>(tap.source) == source) {
            earliest = std::min(earliest, tap.dt);
            latest = std::max(latest, tap.dt);
        }
    return std::max(latest - earliest, 0);
}

void Convolution::pack(const PlaneKernels& kernel, int pixels) {
    if (packed_.kernel == &kernel && packed_.pixels == pixels)
        return;
    packed_ = {&kernel, pixels, blocks_of(outputs_, kernel.most_channels[pixels], kernel.together), {}};
    packed_.weights.reserve(weights_.size());
    std::size_t first = 0;
    for (const int block : packed_.blocks) {
        for (std::size_t word = 0; word < per_output_; ++word)
            for (std::size_t o = 0; o < static_cast<std::size_t>(block); ++o)
                packed_.weights.push_back(weights_[(first + o) * per_output_ + word]);
        first += static_cast<std::size_t>(block);
    }
}

void Convolution::pack_points(const PlaneKernels& kernel, int pixels) {
    using namespace minimal_filtering;
    if (packed_points_.kernel == &kernel && packed_points_.pixels == pixels)
        return;
    packed_points_ = {
        &kernel, pixels, blocks_of(outputs_, kernel.most_channels[pixels], kernel.together), {}};
    packed_points_.weights.reserve(weights_.size() * points / minimal_filtering::taps);
    const auto at_point = [&](int point, int output, const Column& column, int word) {
        double sum = 0;
        for (int k = 0; k < minimal_filtering::taps; ++k)
            sum +=
                at_points[point][k] * static_cast<double>(std::bit_cast<float>(
                                          weights_[static_cast<std::size_t>(output) * per_output_ +
                                                   first_[column.taps[k]] + static_cast<std::size_t>(word)]));
        return std::bit_cast<Word>(static_cast<float>(sum));
    };
    for (int point = 0; point < points; ++point) {
        int first = 0;
        for (const int block : packed_points_.blocks) {
            for (const Column& column : columns_)
                for (int word = 0; word < inputs_[static_cast<std::size_t>(column.source)]; ++word)
                    for (int o = first; o < first + block; ++o)
                        packed_points_.weights.push_back(at_point(point, o, column, word));
            first += block;
        }
    }
}

/// Whether minimal filtering takes less time than the direct sum, counted in products of a vector.
bool Convolution::filtering_pays(const PlaneKernels& kernel, const Target& target) const {
    using namespace minimal_filtering;
    if (!kernel.to_points || target.step != 1 || columns_.empty())
        return false;
    const int height = target.layout.height, strips = (height + sums - 1) / sums;
    const auto frames = static_cast<double>(target.frames.size());
    // A tile of fewer outputs than four waits for its loads.
    const double products = static_cast<double>(per_output_at_point_) * std::max(outputs_, 4);
    double ends = ends_of_output * outputs_;
    for (std::size_t s = 0; s < inputs_.size(); ++s)
        ends += ends_of_input * inputs_[s] * (frames + reach_over_time(s)) / frames;
    // The direct sum leaves out the rows above and below the frame; what gains nearly nothing is left to it.
    return strips * (points * products + ends) < 0.9 * (minimal_filtering::taps * height - 2) * products;
}

/// A piece of work is four rows, up to `most_across` wide, frame after frame: what the taps over time share
/// is brought to the points once. All products of a point come before those of the next: its planes and its
/// weights are what has to stay in the second cache.
void Convolution::run_filtering(ThreadPool& pool, const PlaneKernels& kernel, std::span<const Source> sources,
                                const Target& target, const std::vector<const Word*>* add) {
    using namespace minimal_filtering;
    const Layout& in = sources[0].layout;
    const Layout& out = target.layout;
    const int lanes = kernel.lanes;
    const int frames = static_cast<int>(target.frames.size());
    const int strips = (in.height + sums - 1) / sums;
    const int across = (in.width + most_across - 1) / most_across;
    const int part = ((in.width + across - 1) / across + lanes - 1) / lanes * lanes;
    const int pixels = pixels_of(kernel, part, outputs_);
    pack_points(kernel, pixels);

    int aside = 0;
    for (const Column& column : columns_)
        aside = std::max(aside, std::abs(column.dx));
    const std::ptrdiff_t plane =
        spread_words(static_cast<std::size_t>(part + 2 * aside + lanes + line_words - 1) / line_words);
    // In a thread's room: zeros, the sums at the points, and of each source as many frames at the points as
    // an output takes, a ring.
    const std::ptrdiff_t sums_at = plane;
    std::ptrdiff_t room = sums_at + points * outputs_ * plane;
    struct PointRing {
        std::ptrdiff_t first, slot;
        int size, place;
    };
    std::vector<PointRing> rings;
    int slots = 0;
    for (std::size_t s = 0; s < sources.size(); ++s) {
        const int size = reach_over_time(s) + 1;
        rings.push_back({room, points * sources[s].layout.row / in.plane * plane, size, slots});
        room += size * rings.back().slot;
        slots += size;
    }
    static constexpr float none[16] = {}; // no bias

    // Runs of frames take the ones before them once more: only where strips are too few for the threads.
    const int runs = std::clamp(4 * pool.threads() / (strips * across), 1, frames);
    pool.parallel_for(strips * across * runs, [&](int piece, int) {
        const int run = piece / (strips * across), y = piece / across % strips * sums;
        const int x = piece % across * part, width = std::min(part, in.width - x);
        if (width <= 0)
            return;
        Word* const mine = scratch(static_cast<std::size_t>(room));
        std::fill_n(mine, plane, Word{0});
        std::vector<int> held(static_cast<std::size_t>(slots), -1);
        std::vector<TapRow> taps;
        const auto at_points_of = [&](std::size_t s, int frame) -> Word* {
            const Source& source = sources[s];
            const PointRing& ring = rings[s];
            if (frame < 0 || frame >= static_cast<int>(source.frames.size()) ||
                !source.frames[static_cast<std::size_t>(frame)])
                return nullptr;
            const int slot = frame % ring.size;
            Word* const to = mine + ring.first + slot * ring.slot;
            int& there = held[static_cast<std::size_t>(ring.place + slot)];
            if (there == frame)
                return to;
            PlaneRow rows[points];
            for (int r = 0; r < points; ++r) {
                const int row = y - 1 + r;
                const Word* from = source.frames[static_cast<std::size_t>(frame)] + x - aside;
                rows[r] = row < 0 || row >= in.height ? PlaneRow{mine, 0}
                                                      : PlaneRow{from + row * source.layout.row, in.plane};
            }
            kernel.to_points(rows, source.layout.words, width + 2 * aside,
                             {to, plane, source.layout.words * plane});
            there = frame;
            return to;
        };
        for (int t = frames * run / runs; t < frames * (run + 1) / runs; ++t) {
            taps.clear();
            for (const Column& column : columns_) {
                const auto s = static_cast<std::size_t>(column.source);
                if (const Word* from = at_points_of(s, t + sources[s].lead + column.dt))
                    taps.push_back({from + aside + column.dx, sources[s].layout.words, column.first});
            }
            for (int point = 0; point < points; ++point) {
                int first = 0;
                for (const int block : packed_points_.blocks) {
                    const Word* weights =
                        packed_points_.weights.data() +
                        static_cast<std::size_t>(point * outputs_ + first) * per_output_at_point_;
                    Word* const to = mine + sums_at + (point * outputs_ + first) * plane;
                    for (int at = 0; at < width; at += lanes * pixels) {
                        const int vectors = std::min(pixels, (width - at + lanes - 1) / lanes);
                        kernel.tile(vectors, block,
                                    {taps.data(), taps.size(), plane, weights, none, 1.0F, nullptr, to, plane,
                                     1, false, at, part});
                    }
                    first += block;
                }
                for (TapRow& tap : taps) // the next point's planes follow
                    tap.row += tap.words * plane;
            }
            const std::ptrdiff_t at = y * out.row + x;
            kernel.to_rows({mine + sums_at, plane, outputs_ * plane},
                           {bias_.data(), slope_, add ? (*add)[static_cast<std::size_t>(t)] + at : nullptr,
                            target.frames[static_cast<std::size_t>(t)] + at, out.plane, out.row, outputs_,
                            std::min(sums, in.height - y), width});
        }
    });
}

void Convolution::run(ThreadPool& pool, std::span<const Source> sources, const Target& target,
                      const std::vector<const Word*>* add) {
    const PlaneKernels* kernel = kernels(type_);
    if (!kernel)
        throw Error(Errc::failed, "this processor has no kernels for such convolutions");
    const Layout& in = sources[0].layout;
    const Layout& out = target.layout;
    const bool out_float = type_ != Type::float32 && out.type == Type::float32;
    bool fits = sources.size() == inputs_.size() && out.channels == outputs_ &&
                out.height == in.height * target.step && out.width == in.width * target.step &&
                (!add || add->size() == target.frames.size());
    for (std::size_t s = 0; s < sources.size(); ++s)
        fits = fits && sources[s].layout == Layout(type_, inputs_[s], in.height, in.width);
    if (!fits)
        throw Error(Errc::failed, "a convolution was given frames of another shape");
    if (filtering_pays(*kernel, target))
        return run_filtering(pool, *kernel, sources, target, add);
    const int lanes = kernel->lanes;
    const int pixels = pixels_of(*kernel, in.width, outputs_);
    pack(*kernel, pixels);

    // A row's neighbours in time follow one another, as many as stay near until the next row is computed.
    const int frames = static_cast<int>(target.frames.size());
    std::ptrdiff_t row = 0;
    for (const Source& source : sources)
        row += source.layout.row;
    int over = 0;
    for (std::size_t s = 0; s < sources.size(); ++s)
        over = std::max(over, reach_over_time(s));
    // Three rows of each; frames that share no input gain nothing from it.
    const int together =
        over == 0 ? 1
                  : static_cast<int>(std::clamp<std::ptrdiff_t>(nearby_words / (3 * row) - over, 1, frames));
    const auto place = [&](int r) {
        const int first = r / (together * in.height) * together;
        const int count = std::min(together, frames - first);
        const int rest = r - first * in.height;
        return std::pair(first + rest % count, rest / count);
    };
    const auto rows_of = [&](int r, std::vector<TapRow>& taps) {
        const auto [t, y] = place(r);
        taps.clear();
        for (std::size_t k = 0; k < taps_.size(); ++k) {
            const Tap& tap = taps_[k];
            const Source& source = sources[static_cast<std::size_t>(tap.source)];
            const int frame = t + source.lead + tap.dt;
            const int row = y + tap.dy;
            if (row < 0 || row >= in.height || frame < 0 || frame >= static_cast<int>(source.frames.size()) ||
                !source.frames[static_cast<std::size_t>(frame)])
                continue;
            taps.push_back({source.frames[static_cast<std::size_t>(frame)] + row * source.layout.row + tap.dx,
                            source.layout.words, first_[k]});
        }
    };
    const int tiles =
        (in.width + lanes * pixels - 1) / (lanes * pixels) * static_cast<int>(packed_.blocks.size());
    in_pieces(pool, frames * in.height, [&](int begin, int end) {
        std::vector<TapRow> taps, next;
        rows_of(begin, next);
        for (int r = begin; r < end; ++r) {
            std::swap(taps, next);
            next.clear();
            if (r + 1 < end)
                rows_of(r + 1, next);
            const auto [t, y] = place(r);
            const std::ptrdiff_t at = (y * target.step + target.y0) * out.row;
            Word* to = target.frames[static_cast<std::size_t>(t)] + at + target.x0;
            const Word* from = add ? (*add)[static_cast<std::size_t>(t)] + at : nullptr;
            int tile = 0;
            for (int x = 0; x < in.width; x += lanes * pixels) {
                const int vectors = std::min(pixels, (in.width - x + lanes - 1) / lanes);
                int first = 0;
                for (const int block : packed_.blocks) {
                    fetch_part(next, in.plane, tile++, tiles);
                    const std::ptrdiff_t plane =
                        (out_float ? first : first / channels_per_word(type_)) * out.plane;
                    kernel->tile(vectors, block,
                                 {taps.data(), taps.size(), in.plane,
                                  packed_.weights.data() + static_cast<std::size_t>(first) * per_output_,
                                  bias_.data() + first, slope_, from ? from + plane : nullptr, to + plane,
                                  out.plane, target.step, out_float, x, in.width});
                    first += block;
                }
            }
        }
    });
}

void max_pool(ThreadPool& pool, const std::vector<const Word*>& in, const Layout& in_layout,
              const std::vector<Word*>& out, const Layout& out_layout, bool over_time) {
    const PlaneKernels* kernel = kernels(in_layout.type);
    const std::size_t frames = over_time ? 2 : 1;
    if (!kernel || in.size() != frames * out.size() || in_layout.words != out_layout.words ||
        in_layout.height != 2 * out_layout.height || in_layout.width != 2 * out_layout.width)
        throw Error(Errc::failed, "a pooling was given frames of another shape");
    in_pieces(pool, static_cast<int>(out.size()) * out_layout.height, [&](int begin, int end) {
        for (int r = begin; r < end; ++r) {
            const auto t = static_cast<std::size_t>(r / out_layout.height);
            const int y = r % out_layout.height;
            const Word* rows[4];
            int count = 0;
            for (std::size_t f = 0; f < frames; ++f)
                for (int dy = 0; dy < 2; ++dy)
                    rows[count++] = in[frames * t + f] + (2 * y + dy) * in_layout.row;
            kernel->pool(rows, count, in_layout.words, in_layout.plane, out[t] + y * out_layout.row,
                         out_layout.plane, out_layout.width);
        }
    });
}

void add(ThreadPool& pool, Word* a, const Word* b, const Layout& layout) {
    const PlaneKernels* kernel = kernels(layout.type);
    if (!kernel)
        throw Error(Errc::failed, "this processor has no kernels for such convolutions");
    in_pieces(pool, layout.height, [&](int begin, int end) {
        // Zeros between the rows stay zeros; the ones before the first belong to the frame before.
        for (int y = begin; y < end; ++y)
            kernel->add(a + y * layout.row, b + y * layout.row, static_cast<int>(layout.row) - line_words);
    });
}

} // namespace mri::planes
