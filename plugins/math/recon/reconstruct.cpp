// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/reconstruct.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/statistics.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/recon/background.hpp"
#include "plugins/math/recon/calibration.hpp"
#include "plugins/math/recon/sense.hpp"
#include "plugins/math/recon/temporal_tv.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/transform/fft.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>

namespace mri {

namespace {

/// 2^28 complex pixels or samples are 2 GiB: more is a mistake.
constexpr std::size_t most_values = std::size_t{1} << 28;

/// A Cartesian sample's area is one cell, shared by the samples on the same line; readouts are alike.
void cartesian_areas(const ReconstructionSpace& space, std::span<const SampledFrame> frames,
                     std::vector<float>& areas) {
    std::map<long, int> count;
    const auto line = [&space](const SampledFrame& frame, int readout) {
        const std::size_t first = static_cast<std::size_t>(readout) * frame.samples_per_readout();
        return std::lround(frame.kxy[2 * first + 1] * space.over_y);
    };
    for (const SampledFrame& frame : frames)
        for (int r = 0; r < frame.readouts; ++r)
            ++count[line(frame, r)];
    for (const SampledFrame& frame : frames)
        for (int r = 0; r < frame.readouts; ++r)
            areas.insert(areas.end(), static_cast<std::size_t>(frame.samples_per_readout()),
                         static_cast<float>(1 / (space.over_x * space.over_y * count[line(frame, r)])));
}

/// Images of Cartesian frames: by the FFT of the encoded field of view where that is a whole number of
/// reconstructed pixels along both axes, else by the same sums at the pixels, computed as chirp transforms.
class CartesianGrid {
  public:
    explicit CartesianGrid(const ReconstructionSpace& space)
        : space_(space), x_(space.width, space.over_x), y_(space.height, space.over_y) {
        if (x_.whole && y_.whole) {
            fft_.emplace(x_.cells, y_.cells, space.threads);
        } else {
            along_x_.emplace(x_.cells, space.width, x_.encoded, space.threads);
            along_y_.emplace(y_.cells, space.height, y_.encoded, space.threads);
            narrow_.resize(static_cast<std::size_t>(y_.cells) * static_cast<std::size_t>(space.width));
        }
        grid_.resize(static_cast<std::size_t>(x_.cells) * static_cast<std::size_t>(y_.cells));
        count_.resize(grid_.size());
    }

    /// [coil][height][width]; `scaled` averages repeated samples and divides by the pixels of the encoded field of
    /// view.
    void reconstruct(const SampledFrame& frame, bool scaled, cfloat* images) {
        const std::size_t points = frame.points();
        index_.resize(points);
        std::fill(count_.begin(), count_.end(), 0.0f);
        for (std::size_t i = 0; i < points; ++i) {
            // Whole cells of the encoded field of view; beyond the matrix that is reconstructed nothing is
            // kept.
            const double x = std::floor(frame.kxy[2 * i] * space_.over_x + x_.cells / 2 + 0.5);
            const double y = std::floor(frame.kxy[2 * i + 1] * space_.over_y + y_.cells / 2 + 0.5);
            const bool inside = x >= 0 && y >= 0 && x < x_.cells && y < y_.cells;
            index_[i] =
                inside ? static_cast<std::size_t>(y) * x_.cells + static_cast<std::size_t>(x) : nowhere;
            if (inside)
                count_[index_[i]] += 1;
        }
        const float scale =
            scaled ? 1 / (static_cast<float>(x_.encoded) * static_cast<float>(y_.encoded)) : 1;
        for (int c = 0; c < space_.coils; ++c) {
            const cfloat* samples = frame.samples.data() + static_cast<std::size_t>(c) * points;
            std::fill(grid_.begin(), grid_.end(), cfloat{});
            for (std::size_t i = 0; i < points; ++i)
                if (index_[i] != nowhere)
                    grid_[index_[i]] += samples[i] * (scaled ? scale / count_[index_[i]] : 1);
            transform(images + static_cast<std::size_t>(c) * space_.width * space_.height);
        }
    }

  private:
    static constexpr std::size_t nowhere = SIZE_MAX;

    /// One axis of the encoded field of view.
    struct Side {
        double encoded; ///< pixels of the reconstruction's size
        bool whole;     ///< their number is
        int cells;      ///< samples that are kept, the middle one (integer division) at the centre of k-space

        Side(int pixels, double over) : encoded(pixels * over) {
            const double nearest = std::round(encoded);
            // Less than a pixel of the rim repeats the other side: what rounding of the fields of view leaves.
            if (!(encoded > pixels - 1) || encoded > 65536)
                throw Error(Errc::unsupported, "Cartesian data whose encoded field of view is " +
                                                   std::to_string(encoded) + " pixels of the " +
                                                   std::to_string(pixels) +
                                                   " that are reconstructed: it must not be smaller");
            // As good as whole: then the outermost pixel lies within a thousandth of its place.
            whole = nearest >= pixels && std::abs(encoded / nearest - 1) * pixels / 2 < 1e-3;
            if (whole)
                encoded = nearest;
            // Scanners round the number of lines up to even ones: a line beyond the resolution is theirs.
            cells = whole ? static_cast<int>(nearest) : 2 * (static_cast<int>(std::ceil(encoded / 2)) + 1);
        }
    };

    void transform(cfloat* image) {
        if (!fft_) {
            along_x_->rows(grid_.data(), y_.cells, narrow_.data());
            along_y_->columns(narrow_.data(), space_.width, image);
            return;
        }
        fft_->inverse(grid_.data(), true);
        const int left = x_.cells / 2 - space_.width / 2;
        const int top = y_.cells / 2 - space_.height / 2;
        for (int y = 0; y < space_.height; ++y, image += space_.width)
            std::copy_n(grid_.data() + static_cast<std::size_t>(top + y) * x_.cells + left, space_.width,
                        image);
    }

    ReconstructionSpace space_;
    Side x_, y_;
    std::optional<Fft2d> fft_; // or both of these
    std::optional<ChirpTransform> along_x_, along_y_;
    std::vector<cfloat> grid_;
    std::vector<cfloat> narrow_; // between the chirp transforms: [line][pixel]
    std::vector<float> count_;
    std::vector<std::size_t> index_;
};

/// Sensitivities from a running average of the coils' images. From frame to frame they hardly change: once
/// the average is there, most frames need not give their coils' images.
class AveragedCoils {
  public:
    /// Averages `most` sets of images, then forgets gradually.
    AveragedCoils(int coils, int width, int height, std::size_t most = 32)
        : coils_(coils),
          width_(width),
          height_(height),
          most_(most),
          average_(static_cast<std::size_t>(coils) * width * height),
          maps_(average_.size()) {}

    void forget() { frames_ = 0; }
    /// Other maps than those of the average, or, without any, the average from its start.
    void fix(std::span<const cfloat> maps) {
        fixed_ = !maps.empty();
        std::copy(maps.begin(), maps.end(), maps_.begin());
        frames_ = 0;
        ++version_;
    }
    /// Whether the next frame's images are wanted.
    bool wants_next() const { return fixed_ ? false : frames_ < most_ || (frames_ + 1) % every == 0; }
    /// The next frame, when they are not.
    void skip() { ++frames_; }
    std::span<const cfloat> maps() const { return maps_; }
    std::size_t version() const { return version_; }

    const cfloat* add(const cfloat* images) {
        if (fixed_)
            return maps_.data();
        ++frames_;
        // An average of complex images: the streaks of a rotating trajectory cancel, the coils' phases stay.
        const float share = 1.0f / static_cast<float>(std::min(frames_, most_));
        for (std::size_t p = 0; p < average_.size(); ++p)
            average_[p] = frames_ == 1 ? images[p] : average_[p] + (images[p] - average_[p]) * share;
        if (sensitivities_due(frames_, std::max<std::size_t>(most_ / 2, 1))) {
            estimate_sensitivities(average_.data(), coils_, width_, height_, maps_.data());
            ++version_;
        }
        return maps_.data();
    }

  private:
    static constexpr std::size_t every = 4; ///< frame counts after the first
    int coils_;
    int width_;
    int height_;
    std::size_t most_;
    std::size_t frames_ = 0;
    std::size_t version_ = 0;
    bool fixed_ = false;
    std::vector<cfloat> average_;
    std::vector<cfloat> maps_;
};

void combine_images(Combine combine, const cfloat* images, const cfloat* maps, int coils, std::size_t pixels,
                    cfloat* out) {
    if (combine == Combine::rss)
        root_sum_of_squares(images, coils, pixels, out);
    else if (combine == Combine::adaptive && coils > 1)
        combine_coils(images, maps, coils, pixels, out);
    else
        std::copy_n(images, pixels * static_cast<std::size_t>(coils), out);
}

} // namespace

void check_space(const ReconstructionSpace& space) {
    if (space.width < 1 || space.height < 1 || space.coils < 1)
        throw Error(Errc::format, "a reconstruction needs a size and at least one coil");
    if (!(space.aspect > 0) || !(space.over_x > 0) || !(space.over_y > 0) || !std::isfinite(space.aspect) ||
        !(space.over_x < 64) || !(space.over_y < 64))
        throw Error(Errc::format, "the encoded and the reconstructed field of view do not fit each other");
    checked_product({static_cast<std::size_t>(space.width), static_cast<std::size_t>(space.height),
                     static_cast<std::size_t>(space.coils)},
                    most_values, "a set of coil images");
}

void check_frame(const ReconstructionSpace& space, const SampledFrame& frame) {
    if (frame.coils() != static_cast<std::size_t>(space.coils))
        throw Error(Errc::format, "a k-space frame of " + std::to_string(frame.samples.size()) +
                                      " samples does not fit " + std::to_string(space.coils) + " coils of " +
                                      std::to_string(frame.points()) + " points");
}

int combined_channels(Combine combine, int coils) noexcept {
    return combine == Combine::none ? coils : 1;
}

std::vector<float> sample_areas(const ReconstructionSpace& space, std::span<const SampledFrame> frames,
                                Density density, PipeWeights* pipe) {
    std::size_t points = 0;
    int readouts = 0;
    bool even = true;
    for (const SampledFrame& frame : frames) {
        points += frame.points();
        readouts += frame.readouts;
        even = even && frame.samples_per_readout() == frames.front().samples_per_readout();
    }
    std::vector<float> areas;
    areas.reserve(points);
    if (density == Density::none) {
        areas.assign(points, 1.0f);
        return areas;
    }
    if (density == Density::file) {
        for (const SampledFrame& frame : frames) {
            if (frame.weights.empty())
                throw Error(Errc::format,
                            "the data bring no density weights of their own: set density to ramp");
            areas.insert(areas.end(), frame.weights.begin(), frame.weights.end());
        }
        return areas;
    }
    if (kind_of(space.trajectory).grid) {
        cartesian_areas(space, frames, areas);
        return areas;
    }
    std::vector<float> joined;
    std::span<const float> kxy;
    if (frames.size() == 1) {
        kxy = frames.front().kxy;
    } else {
        joined.reserve(2 * points);
        for (const SampledFrame& frame : frames)
            joined.insert(joined.end(), frame.kxy.begin(), frame.kxy.end());
        kxy = joined;
    }
    if (kind_of(space.trajectory).spokes && even && points > 0) {
        areas.resize(points);
        const int samples = frames.front().samples_per_readout();
        if (density == Density::ramp)
            ramp_weights(kxy, samples, readouts, areas.data(), space.aspect);
        else
            clipped_ramp_weights(kxy, samples, readouts, areas.data(), space.aspect, space.strip_limit);
        return areas;
    }
    if (pipe) {
        const auto known = pipe->weights(kxy);
        areas.assign(known.begin(), known.end());
    } else {
        areas = pipe_weights(kxy, space.width, space.height, 12, space.threads);
    }
    if (density == Density::clipped)
        for (float& area : areas)
            area = std::min(area, static_cast<float>(space.strip_limit));
    return areas;
}

struct FrameReconstruction::State {
    State(const ReconstructionSpace& s, Density d, Combine c)
        : space(s),
          density(d),
          combine(c),
          pixels(static_cast<std::size_t>(s.width) * static_cast<std::size_t>(s.height)),
          pipe(s.width, s.height, 12, s.threads) {
        if (kind_of(s.trajectory).grid)
            cartesian = std::make_unique<CartesianGrid>(s);
        else
            nufft = std::make_unique<DeviceNufft>(
                s.width, s.height, Nufft::Options{.tolerance = s.tolerance, .threads = s.threads}, s.device);
        if (c == Combine::adaptive && s.coils > 1)
            sensitivities = std::make_unique<AveragedCoils>(s.coils, s.width, s.height);
        if (c != Combine::none)
            images.resize(pixels * static_cast<std::size_t>(s.coils));
    }

    ReconstructionSpace space;
    Density density;
    Combine combine;
    std::size_t pixels;
    PipeWeights pipe;
    std::unique_ptr<CartesianGrid> cartesian;
    std::unique_ptr<DeviceNufft> nufft;
    std::unique_ptr<AveragedCoils> sensitivities;
    std::size_t set_version = 0; ///< of the sensitivities that the transform has
    std::vector<float> kxy;      ///< that `areas` belong to
    std::vector<float> areas;
    std::vector<cfloat> images; ///< of the coils

    void coil_images(const SampledFrame& frame, cfloat* out) {
        if (cartesian) {
            cartesian->reconstruct(frame, density != Density::none, out);
            return;
        }
        plan(frame);
        nufft->adjoint(frame.samples.data(), weights(), out, space.coils);
    }

    void rss_image(const SampledFrame& frame, cfloat* out) {
        plan(frame);
        nufft->adjoint_rss(frame.samples.data(), weights(), out, space.coils);
        float largest = 0;
        bool finite = true;
        for (std::size_t p = 0; p < pixels; ++p) {
            finite = finite && std::isfinite(out[p].real());
            largest = std::max(largest, out[p].real());
        }
        // Its squares are float32: those of 1e30 overflow, those of 1e-30 vanish.
        if (finite && largest > 1e-15f)
            return;
        coil_images(frame, images.data());
        root_sum_of_squares(images.data(), space.coils, pixels, out);
    }

    void sense_image(const SampledFrame& frame, cfloat* out) {
        plan(frame);
        if (set_version != sensitivities->version())
            nufft->set_sensitivities(sensitivities->maps().data(), space.coils);
        set_version = sensitivities->version();
        nufft->adjoint_sense(frame.samples.data(), weights(), out);
    }

    void plan(const SampledFrame& frame) {
        nufft->set_points(frame.kxy);
        const bool same = std::equal(frame.kxy.begin(), frame.kxy.end(), kxy.begin(), kxy.end());
        if (same && density != Density::file)
            return;
        areas = sample_areas(space, std::span(&frame, 1), density, &pipe);
        kxy.assign(frame.kxy.begin(), frame.kxy.end());
        // The scale goes into the weights: the images then need no second pass.
        if (density != Density::none)
            for (float& area : areas)
                area *= static_cast<float>(density_scale(space.width, space.height));
    }

    std::span<const float> weights() const {
        return density == Density::none ? std::span<const float>() : std::span<const float>(areas);
    }
};

FrameReconstruction::FrameReconstruction(const ReconstructionSpace& space, Density density, Combine combine) {
    check_space(space);
    state_ = std::make_unique<State>(space, density, combine);
}
FrameReconstruction::~FrameReconstruction() = default;
FrameReconstruction::FrameReconstruction(FrameReconstruction&&) noexcept = default;
FrameReconstruction& FrameReconstruction::operator=(FrameReconstruction&&) noexcept = default;

void FrameReconstruction::reconstruct(const SampledFrame& frame, cfloat* images) {
    State& s = *state_;
    check_frame(s.space, frame);
    if (s.combine == Combine::none) {
        s.coil_images(frame, images);
        return;
    }
    if (s.combine == Combine::rss && s.nufft) {
        s.rss_image(frame, images);
        return;
    }
    if (s.sensitivities && s.nufft && !s.sensitivities->wants_next()) {
        s.sensitivities->skip();
        s.sense_image(frame, images);
        return;
    }
    s.coil_images(frame, s.images.data());
    const cfloat* maps = s.sensitivities ? s.sensitivities->add(s.images.data()) : nullptr;
    combine_images(s.combine, s.images.data(), maps, s.space.coils, s.pixels, images);
}

void FrameReconstruction::forget_coils() {
    if (state_->sensitivities)
        state_->sensitivities->forget();
}

void FrameReconstruction::set_calibration(std::shared_ptr<const CoilCalibration> calibration) {
    if (state_->sensitivities)
        state_->sensitivities->fix(calibration ? std::span<const cfloat>(calibration->maps)
                                               : std::span<const cfloat>());
}

std::span<const cfloat> FrameReconstruction::sensitivities() const {
    return state_->sensitivities ? state_->sensitivities->maps() : std::span<const cfloat>();
}

std::size_t FrameReconstruction::sensitivities_version() const {
    return state_->sensitivities ? state_->sensitivities->version() : 0;
}

struct WindowReconstruction::State {
    State(const ReconstructionSpace& s, Density d, Combine c, const WindowOptions& o)
        : space(s),
          density(d),
          combine(c),
          options(o),
          pixels(static_cast<std::size_t>(s.width) * static_cast<std::size_t>(s.height)),
          pipe(s.width, s.height, 12, s.threads),
          pipe_together(s.width, s.height, 12, s.threads),
          background({.width = s.width,
                      .height = s.height,
                      .iterations = o.iterations,
                      .tolerance = s.tolerance,
                      .threads = s.threads,
                      .device = s.device}),
          images(pixels * static_cast<std::size_t>(s.coils)) {
        if (o.method == WindowMethod::sense)
            make_sense();
        else if (c == Combine::adaptive && s.coils > 1)
            maps.resize(images.size());
        if (o.method == WindowMethod::temporal_variation)
            variation = std::make_unique<TemporalTv>(TemporalTv::Options{.width = s.width,
                                                                         .height = s.height,
                                                                         .iterations = o.tv_iterations,
                                                                         .cycle = o.cycle,
                                                                         .tolerance = s.tolerance,
                                                                         .threads = s.threads,
                                                                         .device = s.device});
    }

    ReconstructionSpace space;
    Density density;
    Combine combine;
    WindowOptions options;
    std::size_t pixels;
    PipeWeights pipe, pipe_together; ///< of a frame, and of the window
    StaticBackground background;
    std::unique_ptr<TemporalTv> variation;
    std::unique_ptr<Sense> sense;
    std::unique_ptr<AveragedCoils> average; ///< of the backgrounds, for `sense`
    std::unique_ptr<FrameReconstruction> plain;
    std::vector<SampledFrame> frames;
    std::vector<std::vector<float>> areas;
    std::vector<cfloat> images;
    std::vector<cfloat> maps;
    std::shared_ptr<const CoilCalibration> calibration; ///< of Cartesian frames combined adaptively
    int step = 1;                                       ///< line_step() of the window
    bool by_sense = false;                              ///< its frames are solved by the coils' sensitivities
    bool alone = false;                                 ///< one frame, as its own gridded image
    double lambda = 0;                                  ///< in units of the images
    std::size_t solved_frames = 0;                      ///< of the window that the background was solved for
    std::size_t since_solved = 0;                       ///< frames that have come since

    void make_sense() {
        sense = std::make_unique<Sense>(Sense::Options{.width = space.width,
                                                       .height = space.height,
                                                       .iterations = options.sense_iterations,
                                                       .tolerance = space.tolerance,
                                                       .threads = space.threads,
                                                       .device = space.device});
    }

    bool adaptive() const { return combine == Combine::adaptive && space.coils > 1; }

    /// Takes the frames of a window with their own areas.
    void take(std::span<const SampledFrame> window) {
        for (const SampledFrame& frame : window)
            check_frame(space, frame);
        frames.assign(window.begin(), window.end());
        areas.resize(window.size());
        for (std::size_t i = 0; i < window.size(); ++i)
            areas[i] = sample_areas(frame_space(), window.subspan(i, 1), density, &pipe);
        step = mri::line_step(space, window);
        by_sense = options.method == WindowMethod::sense ||
                   (options.method == WindowMethod::background && calibration && step > 1);
        alone = false;
        if (by_sense && !sense)
            make_sense();
    }

    /// Whether the background would be aliased where something better is known.
    bool folded() const { return calibration && step > 1; }

    /// The temporal variation wants no sample to stand for more than its own strip: see temporal_tv.hpp.
    ReconstructionSpace frame_space() const {
        ReconstructionSpace result = space;
        if (variation)
            result.strip_limit = std::min(space.strip_limit, 1.0);
        return result;
    }

    std::vector<SampledFrame> all_sampled() const {
        std::vector<SampledFrame> result;
        for (std::size_t i = 0; i < frames.size(); ++i)
            result.push_back(sampled(i));
        return result;
    }

    void solve_background() {
        std::vector<float> together = sample_areas(space, frames, density, &pipe_together);
        if (density == Density::file)
            // The file's areas are those of a frame alone: in the window each frame has its share.
            for (float& area : together)
                area /= static_cast<float>(frames.size());
        background.solve(all_sampled(), together, space.coils);
        if (calibration)
            maps = calibration->maps;
        else if (!maps.empty())
            estimate_sensitivities(background.background().data(), space.coils, space.width, space.height,
                                   maps.data());
        if (variation)
            lambda = options.lambda * brightness();
        solved_frames = frames.size();
        since_solved = 0;
    }

    SampledFrame sampled(std::size_t i) const { return frames[i].with(areas[i]); }

    std::span<const cfloat> sensitivities() const { return average ? average->maps() : maps; }

    void prepare_sense() {
        if (space.coils == 1) {
            sense->set_sensitivities({}, 1);
            return;
        }
        if (calibration) {
            maps = calibration->maps;
            sense->set_sensitivities(maps, space.coils);
            return;
        }
        if (!average)
            average = std::make_unique<AveragedCoils>(space.coils, space.width, space.height,
                                                      std::max<std::size_t>(32 / frames.size(), 1));
        average->add(background.background().data());
        sense->set_sensitivities(average->maps(), space.coils);
    }

    /// One frame by CG-SENSE: [height][width].
    void sense_image(std::size_t index, cfloat* out) {
        if (folded() && options.from_background) {
            combine_coils(calibration->images.data(), maps.data(), space.coils, pixels, out);
            sense->scale_to(sampled(index), {out, pixels});
        } else if (options.from_background)
            combine_images(space.coils > 1 ? Combine::adaptive : Combine::none,
                           background.background().data(), sensitivities().data(), space.coils, pixels, out);
        else
            std::fill_n(out, pixels, cfloat{});
        sense->solve(sampled(index), options.l2, {out, pixels});
    }

    void with_residual(std::size_t index, cfloat* out) {
        background.residual(index, sampled(index), images.data());
        arrays::add_scaled(images.data(), 1, background.background().data(), images.size());
        combine_images(combine, images.data(), maps.data(), space.coils, pixels, out);
    }

    /// The coils' plain gridded images of a frame into `images`.
    void grid(std::size_t index) {
        if (!plain)
            plain = std::make_unique<FrameReconstruction>(
                space, density == Density::file ? Density::file : Density::ramp, Combine::none);
        plain->reconstruct(frames[index], images.data());
    }

    /// 99.5th percentile of the combined background's magnitude: what lambda is relative to.
    double brightness() {
        std::vector<float> magnitude(pixels);
        const std::span<const cfloat> still = background.background();
        for (std::size_t p = 0; p < pixels; ++p) {
            float power = 0;
            for (int c = 0; c < space.coils; ++c)
                power += std::norm(still[static_cast<std::size_t>(c) * pixels + p]);
            magnitude[p] = std::sqrt(power);
        }
        return lower_percentile(magnitude, 99.5);
    }
};

WindowReconstruction::WindowReconstruction(const ReconstructionSpace& space, Density density, Combine combine,
                                           const WindowOptions& options) {
    check_space(space);
    if (density == Density::none)
        throw Error(Errc::settings, "a background cannot be solved without density weights");
    if (options.method == WindowMethod::temporal_variation && space.coils > 1 && combine != Combine::adaptive)
        throw Error(Errc::settings, "temporal variation combines the coils itself: set combine to adaptive");
    if (options.method == WindowMethod::sense && space.coils > 1 && combine != Combine::adaptive)
        throw Error(Errc::settings, "CG-SENSE combines the coils itself: set combine to adaptive");
    state_ = std::make_unique<State>(space, density, combine, options);
}
WindowReconstruction::~WindowReconstruction() = default;
WindowReconstruction::WindowReconstruction(WindowReconstruction&&) noexcept = default;
WindowReconstruction& WindowReconstruction::operator=(WindowReconstruction&&) noexcept = default;

void WindowReconstruction::solve(std::span<const SampledFrame> frames) {
    State& s = *state_;
    s.take(frames);
    if (!s.by_sense || !s.folded())
        s.solve_background();
    if (s.by_sense)
        s.prepare_sense();
    if (s.variation)
        s.variation->solve(s.all_sampled(), s.space.coils, s.maps, s.lambda);
}

void WindowReconstruction::solve_alone(const SampledFrame& frame) {
    State& s = *state_;
    if (s.options.method != WindowMethod::background)
        throw Error(Errc::settings, "a frame by itself is for the method with a background");
    s.take({&frame, 1});
    if (s.by_sense) {
        s.prepare_sense();
        return;
    }
    s.grid(0);
    if (s.calibration)
        s.maps = s.calibration->maps;
    else if (!s.maps.empty())
        estimate_sensitivities(s.images.data(), s.space.coils, s.space.width, s.space.height, s.maps.data());
    s.alone = true;
}

void WindowReconstruction::set_calibration(std::shared_ptr<const CoilCalibration> calibration) {
    State& s = *state_;
    s.calibration = s.adaptive() ? std::move(calibration) : nullptr;
    s.average.reset();
    if (s.options.method == WindowMethod::sense)
        s.maps.clear();
}

int WindowReconstruction::line_step() const {
    return state_->step;
}

bool WindowReconstruction::by_sense() const {
    return state_->by_sense;
}

void WindowReconstruction::slide(std::span<const SampledFrame> frames, std::size_t fresh) {
    State& s = *state_;
    if (!s.variation)
        throw Error(Errc::settings, "only the temporal variation goes on from window to window");
    const std::size_t kept = frames.size() - std::min(fresh, frames.size());
    if (kept > s.areas.size())
        throw Error(Errc::failed, "a window goes on from " + std::to_string(kept) + " frames of " +
                                      std::to_string(s.areas.size()));
    if (kept == 0 || s.solved_frames == 0) {
        solve(frames);
        return;
    }
    for (const SampledFrame& frame : frames.subspan(kept))
        check_frame(s.space, frame);
    s.frames.assign(frames.begin(), frames.end());
    s.areas.erase(s.areas.begin(), s.areas.end() - static_cast<std::ptrdiff_t>(kept));
    for (std::size_t i = kept; i < frames.size(); ++i)
        s.areas.push_back(sample_areas(s.frame_space(), frames.subspan(i, 1), s.density, &s.pipe));
    s.since_solved += fresh;
    const bool anew = frames.size() >= 2 * s.solved_frames || s.since_solved >= frames.size();
    if (anew)
        s.solve_background();
    s.variation->slide(s.all_sampled(), fresh, s.space.coils, s.maps, anew && !s.maps.empty(), s.lambda,
                       s.options.slide_iterations, s.options.slide_gradient_steps);
}

void WindowReconstruction::forget() {
    state_->solved_frames = 0;
    state_->average.reset();
}

void WindowReconstruction::reconstruct(std::size_t index, cfloat* images) {
    State& s = *state_;
    if (index >= s.frames.size())
        throw Error(Errc::failed, "the window has no frame " + std::to_string(index));
    if (s.alone) {
        s.grid(index);
        combine_images(s.combine, s.images.data(), s.maps.data(), s.space.coils, s.pixels, images);
        return;
    }
    if (s.by_sense) {
        s.sense_image(index, s.images.data());
        combine_images(s.combine == Combine::adaptive ? Combine::none : s.combine, s.images.data(), nullptr,
                       1, s.pixels, images);
        return;
    }
    if (!s.variation) {
        s.with_residual(index, images);
        return;
    }
    combine_images(s.combine == Combine::adaptive ? Combine::none : s.combine,
                   s.variation->image(index).data(), nullptr, 1, s.pixels, images);
}

std::span<const cfloat> WindowReconstruction::sensitivities() const {
    return state_->sensitivities();
}

void WindowReconstruction::gridded(std::size_t index, cfloat* images) {
    State& s = *state_;
    if (index >= s.frames.size())
        throw Error(Errc::failed, "the window has no frame " + std::to_string(index));
    s.grid(index);
    combine_images(s.combine, s.images.data(), s.sensitivities().data(), s.space.coils, s.pixels, images);
}

} // namespace mri
