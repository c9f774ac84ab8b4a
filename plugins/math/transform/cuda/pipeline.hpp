// SPDX-License-Identifier: LGPL-2.1-or-later
// The sequence of kernels on a device and their threads: the same code over CUDA (module.cu) and
// over the host's stand-in (emulation.cpp).
#pragma once

#include "plugins/math/base/error.hpp"
#include "plugins/math/transform/cuda/kernels.cuh"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mri::cuda {

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};

/// Copies between the host and the device are cut into this many pieces at most.
inline constexpr int pieces = 8;

inline unsigned blocks(std::size_t items, std::size_t each) {
    return static_cast<unsigned>((items + each - 1) / each);
}

/// Memory of a runtime, grown and never shrunk.
template <class T, class Runtime, bool pinned = false>
class Buffer {
  public:
    explicit Buffer(Runtime& runtime) : runtime_(&runtime) {}
    ~Buffer() { drop(); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    T* data() const noexcept { return data_; }

    /// Room for `count` items; what was there is lost.
    T* room(std::size_t count) {
        if (count > size_) {
            drop();
            data_ = static_cast<T*>(pinned ? runtime_->allocate_pinned(count * sizeof(T))
                                           : runtime_->allocate(count * sizeof(T)));
            size_ = count;
        }
        return data_;
    }

  private:
    void drop() noexcept {
        if (data_)
            pinned ? runtime_->free_pinned(data_) : runtime_->free(data_);
        data_ = nullptr;
        size_ = 0;
    }

    Runtime* runtime_;
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// The transform over a runtime, which is a device with two streams (computing and copying) and a handful of
/// events:
///
///     void enter();                                    make the device the calling thread's
///     void* allocate(size_t), free(void*), allocate_pinned(size_t), free_pinned(void*)
///     void upload(void* to, const void* pinned, size_t)      on the copying stream
///     void uploaded();                                 computing waits for the copies until now
///     void download(void* pinned, const void* from, size_t, int event);   on the computing stream
///     void wait(int event);  void finish();            the host waits for an event, for everything
///     void launch(void (*kernel)(Args), Dim grid, Dim block, const Args&)
///     void fft(Complex* grids, int width, int height, int count, bool forward)
///     void mark(int which); double marked();           0 and 1, on the computing stream; ms between them, after finish()
///     std::string name()
///
/// Samples and images are copied piece by piece into pinned memory, so that the device reads a piece while
/// the host copies the next.
template <class Runtime>
class Transform : public Backend {
  public:
    /// Grids of more coils than fit into this are transformed in turns.
    static constexpr std::size_t most_grid_bytes = std::size_t{1} << 30;

    template <class... Args>
    Transform(const Design& design, std::size_t grid_bytes, Args&&... args)
        : design_(design), grid_bytes_(grid_bytes), runtime_(std::forward<Args>(args)...) {
        for (const Axis* axis : {&design_.x, &design_.y}) {
            auto& to = axis == &design_.x ? apodisation_x_ : apodisation_y_;
            const std::size_t bytes = axis->apodisation.size() * sizeof(float);
            std::memcpy(staging_.room(bytes), axis->apodisation.data(), bytes);
            runtime_.upload(to.room(axis->apodisation.size()), staging_.data(), bytes);
            runtime_.finish();
        }
        cursor_.room(1);
        tiles_.room(tiles());
        runtime_.uploaded();
    }

    ~Transform() override {
        try {
            runtime_.enter(); // memory is given back by whichever thread comes last
            runtime_.finish();
        } catch (...) {
        }
    }

    std::string device() const override { return runtime_.name(); }

    void set_points(const float* kxy, std::size_t points) override {
        if (points == points_ && binned_ != Binned::never &&
            std::memcmp(kxy, kxy_.data(), kxy_.size() * sizeof(float)) == 0)
            return; // a trajectory that stays is planned once
        runtime_.enter();
        binned_ = Binned::never;
        points_ = 0;
        const std::size_t bytes = 2 * points * sizeof(float);
        std::memcpy(staging_.room(bytes), kxy, bytes);
        runtime_.upload(positions_.room(2 * points), staging_.data(), bytes);
        runtime_.uploaded();
        cells_.room(points);
        weights_.room(2 * points * max_taps);
        PlaceArgs args{};
        args.kxy = positions_.data();
        args.points = static_cast<int>(points);
        args.taps = design_.taps;
        args.cells_x = design_.x.cells;
        args.cells_y = design_.y.cells;
        args.per_pixel_x = 1.0 / design_.x.pixels;
        args.per_pixel_y = 1.0 / design_.y.pixels;
        args.terms_x = design_.x.terms;
        args.terms_y = design_.y.terms;
        std::copy(design_.x.coefficients.begin(), design_.x.coefficients.end(), args.x);
        std::copy(design_.y.coefficients.begin(), design_.y.coefficients.end(), args.y);
        args.cells = cells_.data();
        args.weights = weights_.data();
        args.cursor = cursor_.data();
        // A block more than none, so that the cursor is set without points too.
        runtime_.launch(place, {std::max(1u, blocks(points, place_threads))}, {place_threads}, args);
        // The positions' staging is the next call's too.
        runtime_.finish();
        kxy_.assign(kxy, kxy + 2 * points);
        points_ = points;
        binned_ = Binned::not_yet;
    }

    void set_sensitivities(const cfloat* maps, int coils) override {
        runtime_.enter();
        const std::size_t count = pixels() * static_cast<std::size_t>(coils);
        maps_.room(count);
        inverse_power_.room(pixels());
        upload_pieces(maps_.data(), maps, pixels(), coils);
        runtime_.uploaded();
        PowerArgs args{maps_.data(), inverse_power_.data(), coils, static_cast<int>(pixels())};
        runtime_.launch(invert_power, {blocks(pixels(), 256)}, {256}, args);
        runtime_.finish();
    }

    void adjoint(const cfloat* samples, const float* density, Combination combination, cfloat* images,
                 int coils) override {
        runtime_.enter();
        bin_points();
        const bool apart = combination == Combination::none;
        samples_.room(points_ * static_cast<std::size_t>(coils));
        images_.room(pixels() * static_cast<std::size_t>(apart ? coils : 1));
        const int batch = prepare_grids(coils);
        if (density) {
            std::memcpy(staged_density_.room(points_), density, points_ * sizeof(float));
            runtime_.upload(density_.room(points_), staged_density_.data(), points_ * sizeof(float));
        }
        staged_samples_.room(points_ * static_cast<std::size_t>(coils));
        for (int first = 0; first < coils; first += batch) {
            const int count = std::min(batch, coils - first);
            const std::size_t offset = static_cast<std::size_t>(first) * points_;
            // Computing on one batch and copying the next overlap: the samples of each have their own memory.
            upload_pieces(samples_.data() + offset, samples + offset, points_, count, offset);
            runtime_.uploaded();
            if (first == 0)
                runtime_.mark(0);
            SpreadArgs s{samples_.data() + offset,
                         density ? density_.data() : nullptr,
                         cells_.data(),
                         weights_.data(),
                         tiles_.data(),
                         list_.data(),
                         grid_.data(),
                         static_cast<int>(points_),
                         count,
                         design_.taps,
                         design_.x.cells,
                         design_.y.cells,
                         tiles_x()};
            runtime_.launch(
                spread,
                {static_cast<unsigned>(tiles()), blocks(static_cast<std::size_t>(count), coils_per_thread)},
                {tile * tile}, s);
            runtime_.fft(grid_.data(), design_.x.cells, design_.y.cells, count, false);
            CropArgs c{grid_.data(),
                       apodisation_x_.data(),
                       apodisation_y_.data(),
                       maps_.data() ? maps_.data() + static_cast<std::size_t>(first) * pixels() : nullptr,
                       inverse_power_.data(),
                       images_.data() + (apart ? static_cast<std::size_t>(first) * pixels() : 0),
                       count,
                       design_.x.pixels,
                       design_.y.pixels,
                       design_.x.cells,
                       design_.y.cells,
                       combination,
                       first == 0,
                       first + count == coils};
            runtime_.launch(crop,
                            {blocks(static_cast<std::size_t>(design_.x.pixels), image_block_x),
                             blocks(static_cast<std::size_t>(design_.y.pixels), image_block_y),
                             apart ? static_cast<unsigned>(count) : 1},
                            {image_block_x, image_block_y}, c);
        }
        runtime_.mark(1);
        timed_ = true;
        download_pieces(images, images_.data(), pixels(), apart ? coils : 1);
        runtime_.finish();
    }

    void forward(const cfloat* images, bool combined, cfloat* samples, int coils) override {
        runtime_.enter();
        images_.room(pixels() * static_cast<std::size_t>(combined ? 1 : coils));
        samples_.room(points_ * static_cast<std::size_t>(coils));
        staged_samples_.room(pixels() * static_cast<std::size_t>(combined ? 1 : coils));
        const int batch = prepare_grids(coils);
        for (int first = 0; first < coils; first += batch) {
            const int count = std::min(batch, coils - first);
            const std::size_t offset = static_cast<std::size_t>(combined ? 0 : first) * pixels();
            if (!combined || first == 0) {
                upload_pieces(images_.data() + offset, images + offset, pixels(), combined ? 1 : count,
                              offset);
                runtime_.uploaded();
            }
            if (first == 0)
                runtime_.mark(0);
            PadArgs p{images_.data() + offset,
                      combined ? maps_.data() + static_cast<std::size_t>(first) * pixels() : nullptr,
                      apodisation_x_.data(),
                      apodisation_y_.data(),
                      grid_.data(),
                      design_.x.pixels,
                      design_.y.pixels,
                      design_.x.cells,
                      design_.y.cells};
            runtime_.launch(pad,
                            {blocks(static_cast<std::size_t>(design_.x.cells), image_block_x),
                             blocks(static_cast<std::size_t>(design_.y.cells), image_block_y),
                             static_cast<unsigned>(count)},
                            {image_block_x, image_block_y}, p);
            runtime_.fft(grid_.data(), design_.x.cells, design_.y.cells, count, true);
            InterpolateArgs i{grid_.data(),
                              cells_.data(),
                              weights_.data(),
                              samples_.data() + static_cast<std::size_t>(first) * points_,
                              static_cast<int>(points_),
                              count,
                              design_.taps,
                              design_.x.cells,
                              design_.y.cells};
            runtime_.launch(interpolate,
                            {blocks(points_, interpolate_threads),
                             blocks(static_cast<std::size_t>(count), coils_per_thread)},
                            {interpolate_threads}, i);
        }
        runtime_.mark(1);
        timed_ = true;
        download_pieces(samples, samples_.data(), points_, coils);
        runtime_.finish();
    }

    double kernel_milliseconds() override {
        if (!timed_)
            throw Error(Errc::failed, "no transform has run yet whose time could be told");
        runtime_.enter();
        return runtime_.marked();
    }

  private:
    template <class T>
    using OnDevice = Buffer<T, Runtime>;
    template <class T>
    using Pinned = Buffer<T, Runtime, true>;
    enum class Binned { never, not_yet, done };

    std::size_t pixels() const { return design_.x.apodisation.size() * design_.y.apodisation.size(); }
    int tiles_x() const { return (design_.x.cells + tile - 1) / tile; }
    std::size_t tiles() const {
        return static_cast<std::size_t>(tiles_x()) *
               static_cast<std::size_t>((design_.y.cells + tile - 1) / tile);
    }

    /// Tiles along an axis that a kernel can reach: two, or three around the end of a grid whose last tile is
    /// narrow.
    static std::size_t reached(const Axis& axis) { return axis.cells % tile ? 3 : 2; }

    void bin_points() {
        if (binned_ == Binned::done)
            return;
        list_.room(points_ * reached(design_.x) * reached(design_.y));
        BinArgs args{cells_.data(),   static_cast<int>(points_),
                     design_.taps,    design_.x.cells,
                     design_.y.cells, tiles_x(),
                     cursor_.data(),  tiles_.data(),
                     list_.data()};
        runtime_.launch(bin, {static_cast<unsigned>(tiles())}, {bin_threads}, args);
        binned_ = Binned::done;
    }

    /// Room for the grids of a batch; how many coils that is.
    int prepare_grids(int coils) {
        const std::size_t cells =
            static_cast<std::size_t>(design_.x.cells) * static_cast<std::size_t>(design_.y.cells);
        const std::size_t most = std::clamp<std::size_t>(grid_bytes_ / (cells * sizeof(Complex)), 1, 4096);
        const int batch = static_cast<int>(std::min(most, static_cast<std::size_t>(coils)));
        grid_.room(cells * static_cast<std::size_t>(batch));
        return batch;
    }

    /// Copies `count` items of `length` values; `at`: where in the staging memory, which holds them all.
    void upload_pieces(Complex* to, const cfloat* from, std::size_t length, int count, std::size_t at = 0) {
        Complex* staged = staged_samples_.room(at + length * static_cast<std::size_t>(count)) + at;
        const int each = (count + pieces - 1) / pieces;
        for (int first = 0; first < count; first += each) {
            const std::size_t offset = static_cast<std::size_t>(first) * length;
            const std::size_t bytes =
                static_cast<std::size_t>(std::min(each, count - first)) * length * sizeof(Complex);
            std::memcpy(static_cast<void*>(staged + offset), from + offset, bytes);
            runtime_.upload(to + offset, staged + offset, bytes);
        }
    }

    void download_pieces(cfloat* to, const Complex* from, std::size_t length, int count) {
        Complex* staged = staged_results_.room(length * static_cast<std::size_t>(count));
        const int each = (count + pieces - 1) / pieces;
        const auto bytes = [&](int first) {
            return static_cast<std::size_t>(std::min(each, count - first)) * length * sizeof(Complex);
        };
        for (int first = 0; first < count; first += each)
            runtime_.download(staged + static_cast<std::size_t>(first) * length,
                              from + static_cast<std::size_t>(first) * length, bytes(first), first / each);
        for (int first = 0; first < count; first += each) {
            runtime_.wait(first / each);
            std::memcpy(static_cast<void*>(to + static_cast<std::size_t>(first) * length),
                        staged + static_cast<std::size_t>(first) * length, bytes(first));
        }
    }

    Design design_;
    std::size_t grid_bytes_;
    Runtime runtime_; // before the buffers, which give back to it
    std::size_t points_ = 0;
    Binned binned_ = Binned::never;
    bool timed_ = false;     // both marks were set
    std::vector<float> kxy_; // that the plan on the device is for
    OnDevice<float> apodisation_x_{runtime_}, apodisation_y_{runtime_};
    OnDevice<float> positions_{runtime_}, weights_{runtime_}, density_{runtime_}, inverse_power_{runtime_};
    OnDevice<Cell> cells_{runtime_};
    OnDevice<Range> tiles_{runtime_};
    OnDevice<unsigned> list_{runtime_}, cursor_{runtime_};
    OnDevice<Complex> samples_{runtime_}, images_{runtime_}, maps_{runtime_}, grid_{runtime_};
    Pinned<std::byte> staging_{runtime_};
    Pinned<float> staged_density_{runtime_};
    Pinned<Complex> staged_samples_{runtime_}, staged_results_{runtime_};
};

} // namespace mri::cuda
