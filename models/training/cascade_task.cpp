// SPDX-License-Identifier: LGPL-2.1-or-later
// Training the cascade: each sample is a piece of the truth, scanned anew and reconstructed as mrirecon does.
#include "data_gen/scanner/simulate.hpp"
#include "models/cascade/module.hpp"
#include "models/common/intensity.hpp"
#include "models/torch/runtime.hpp"
#include "models/training/task.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/recon/network_start.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace mri {

namespace {

/// Scan of a series: the cascade's input and its target.
struct Scan {
    std::vector<SimulatedFrame> data;
    std::vector<std::vector<float>> areas;
    std::vector<cfloat> start; ///< [frame][y][x]
    std::vector<cfloat> maps;
    std::vector<cfloat> truth; ///< likewise, with the phase that the scanner saw
    float scale = 1;           ///< all images were divided by it

    /// The frames with their areas, where there are some.
    std::vector<SampledFrame> frames() const {
        std::vector<SampledFrame> out;
        for (std::size_t t = 0; t < data.size(); ++t)
            out.emplace_back(data[t].trajectory, data[t].data,
                             areas.empty() ? std::span<const float>() : std::span<const float>(areas[t]),
                             data[t].readouts);
        return out;
    }
};

/// Uniform numbers that are the same everywhere.
class Random {
  public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    double uniform(double low, double high) {
        return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
    }
    bool chance(double share) { return uniform(0, 1) < share; }
    /// 0 .. count - 1
    int below(int count) {
        return std::min(count - 1, static_cast<int>(uniform(0, static_cast<double>(count))));
    }
    std::uint64_t seed() { return engine_(); }

  private:
    std::mt19937_64 engine_;
};

/// Where frame `t` of a series is read when time runs from `first` at `rate`: to and fro, so that nothing
/// jumps.
double reflected(double t, int frames) {
    const double period = 2.0 * (frames - 1);
    const double inside = std::fmod(std::fmod(t, period) + period, period);
    return inside <= frames - 1 ? inside : period - inside;
}

/// Kernels [out][in][3][y][x] over the frame before, this and the next one, for a network that does not know
/// the next: it takes this one in its place. What stands still gives the same; what moves, training mends.
void fold_time(NamedTensor& kernels) {
    const auto plane = static_cast<std::size_t>(kernels.shape[3] * kernels.shape[4]);
    for (std::size_t k = 0; k < kernels.values.size(); k += 3 * plane)
        for (std::size_t i = k; i < k + plane; ++i) {
            float *before = &kernels.values[i], *now = before + plane, *next = now + plane;
            *next += *now; // the last of a causal kernel's frames is this one
            *now = *before;
            *before = 0;
        }
}

/// Whether the first frame could follow upon the last, as in a gated cine of one beat: the step between them
/// is no larger than the largest between neighbours.
bool is_cycle(std::span<const float> series, const WindowShape& shape) {
    const auto step = [&](int from, int to) {
        double sum = 0;
        for (std::size_t p = 0; p < shape.pixels(); ++p)
            sum += std::abs(series[static_cast<std::size_t>(to) * shape.pixels() + p] -
                            series[static_cast<std::size_t>(from) * shape.pixels() + p]);
        return sum;
    };
    double largest = 0;
    for (int t = 1; t < shape.frames; ++t)
        largest = std::max(largest, step(t - 1, t));
    return step(shape.frames - 1, 0) <= largest;
}

/// 1 within the circle that spokes of the field of view's width see, 0 in the corners, of which there are
/// too few samples to learn from: [1][y][x][1].
at::Tensor seen_by_spokes(const WindowShape& shape) {
    at::Tensor out = at::zeros({1, shape.height, shape.width, 1}, at::kFloat);
    float* value = out.data_ptr<float>();
    for (int y = 0; y < shape.height; ++y)
        for (int x = 0; x < shape.width; ++x)
            *value++ = std::hypot(2.0 * y / shape.height - 1, 2.0 * x / shape.width - 1) < 0.95 ? 1 : 0;
    return out;
}

class CascadeTask : public TrainingTask {
  public:
    CascadeTask(const TrainOptions& options, const ComputeTarget& target)
        : options_(options),
          device_(target.device),
          type_(target.type),
          module_(options.cascade, options.seed) {
        if (device_.is_cpu() && type_ == at::kFloat)
            module_.use_own_convolutions(options.run.threads);
    }

    TrainedModule& module() override { return module_; }
    int views() const override { return static_cast<int>(options_.scan.validation_spokes.size()); }

    at::Tensor loss(const TrainingWindow& window, std::uint64_t seed) override {
        keep_torch_aside();
        Random random(seed);
        const WindowShape& from = window.shape;
        WindowShape shape = from;
        const std::vector<float> truth = draw(window, random, shape);
        SimulateSettings s;
        const double share =
            static_cast<double>(std::max(shape.width, shape.height)) / std::max(from.width, from.height);
        s.readouts = std::max(
            2, static_cast<int>(std::lround(
                   share * random.uniform(options_.scan.spokes_min - 0.5, options_.scan.spokes_max + 0.5))));
        // A piece has `share` as many spokes a frame as the whole. They turn as far where the step is as much
        // larger, and leave no wedge of k-space empty that the whole's fill.
        s.tiny_golden = nearest_tiny_golden(tiny_golden_step(s.tiny_golden) / share);
        s.first_spoke = random.below(100000);
        s.oversampling = random.chance(0.5) ? 2 : 1;
        s.phase = random.chance(0.5) ? random.uniform(0, 3) : 0.0;
        s.snr_db = random.chance(0.2) ? random.uniform(15, 35) : no_noise;
        s.motion = random.chance(0.3);
        s.coils = options_.scan.coils > 1 && random.chance(0.2) ? options_.scan.coils : 1;
        s.seed = random.seed();
        const bool cycle = !options_.cascade.causal && is_cycle(truth, shape) && random.chance(0.7);
        return loss_of_scan(scan(truth, shape, s), shape, s.coils, cycle, nullptr);
    }

    Judged judge(const TrainingWindow& window, int view, bool input_only) override {
        keep_torch_aside();
        const WindowShape shape{window.shape.frames, window.shape.height / 2 * 2, window.shape.width / 2 * 2};
        Random unused(0);
        WindowShape whole = shape;
        std::vector<float> truth = cut(window, 0, 0, whole);
        SimulateSettings s;
        s.readouts = options_.scan.validation_spokes[static_cast<std::size_t>(view)];
        const Scan data = scan(truth, shape, s);
        Judged out;
        out.shape = shape;
        std::vector<cfloat> images = data.start;
        out.loss = loss_of_scan(data, shape, 1, false, input_only ? nullptr : &images).item<double>();
        out.output.resize(images.size());
        std::transform(images.begin(), images.end(), out.output.begin(),
                       [&](cfloat v) { return std::abs(v) * data.scale; });
        out.truth = std::move(truth);
        return out;
    }

    std::map<std::string, NamedTensor> initial(const TensorFile& file,
                                               const std::string& name) const override {
        CascadeOptions from = cascade_options_of(file, name);
        const bool fold = options_.cascade.causal && !from.causal;
        if (fold) {
            from.causal = true;
            from.mean_frames = options_.cascade.mean_frames;
        }
        const CascadeOptions& to = options_.cascade;
        const std::vector<int> sources = sources_of_blocks(from.blocks, name);
        from.blocks = to.blocks;
        if (from != to)
            throw Error(Errc::decode, "training cannot begin with the weights '" + name +
                                          "': they are of a cascade with other options than those given");
        // More blocks come of splitting those there are: parts of one have its kernels, and the last layer's
        // share in equal parts. Blocks appended with random kernels learned next to nothing
        // (models/weights/cascade.md).
        std::map<std::string, NamedTensor> out;
        for (std::size_t block = 0; block < sources.size(); ++block) {
            const auto parts = std::count(sources.begin(), sources.end(), sources[block]);
            const auto take = [&](const std::string& what) -> NamedTensor& {
                return out["blocks." + std::to_string(block) + "." + what] =
                           file.tensors.at("blocks." + std::to_string(sources[block]) + "." + what);
            };
            for (int layer = 0; layer < to.layers; ++layer) {
                NamedTensor& kernels = take("conv." + std::to_string(layer) + ".weight");
                if (layer + 1 == to.layers)
                    for (float& value : kernels.values)
                        value /= static_cast<float>(parts);
                if (fold)
                    fold_time(kernels);
            }
            float& step = take("eta").values.front();
            if (block + 1 < sources.size() && sources[block + 1] == sources[block])
                step = 1; // the whole block's step comes after its last part
        }
        return out;
    }

  private:
    /// Which of the `given` blocks of the weights `name` each block begins with.
    std::vector<int> sources_of_blocks(int given, const std::string& name) const {
        const int blocks = options_.cascade.blocks;
        std::vector<int> sources = options_.initial_blocks;
        const auto refuse = [&](const std::string& why) {
            throw Error(Errc::decode, "training cannot begin with the weights '" + name + "': " + why);
        };
        if (sources.empty()) {
            if (given > blocks)
                refuse("they have " + std::to_string(given) + " blocks, the cascade has " +
                       std::to_string(blocks) + ", and initial-blocks does not say which");
            for (int block = 0; block < blocks; ++block)
                sources.push_back(block * given / blocks);
        }
        if (sources.size() != static_cast<std::size_t>(blocks))
            refuse("initial-blocks names " + std::to_string(sources.size()) + " blocks, the cascade has " +
                   std::to_string(blocks));
        for (std::size_t i = 0; i < sources.size(); ++i) {
            const std::string which = "initial-blocks names block " + std::to_string(sources[i]);
            if (sources[i] < 0 || sources[i] >= given)
                refuse(which + ", they have 0 to " + std::to_string(given - 1));
            if (i > 0 && sources[i] != sources[i - 1] &&
                std::find(sources.begin(), sources.begin() + static_cast<std::ptrdiff_t>(i), sources[i]) !=
                    sources.begin() + static_cast<std::ptrdiff_t>(i))
                refuse(which + " again, not beside its other part");
        }
        return sources;
    }

    /// One thread for LibTorch where convolutions are our own: its idle threads would wait in their way.
    void keep_torch_aside() const {
        if (module_.own_convolutions())
            set_torch_threads(1);
    }

    /// The piece of `shape` at (x, y), in the units of the stream.
    static std::vector<float> cut(const TrainingWindow& window, int x, int y, const WindowShape& shape) {
        std::vector<float> out;
        out.reserve(shape.count());
        for (int t = 0; t < shape.frames; ++t)
            for (int row = 0; row < shape.height; ++row) {
                const float* line =
                    window.truth.data() + (static_cast<std::size_t>(t) * window.shape.pixels() +
                                           static_cast<std::size_t>(y + row) * window.shape.width + x);
                for (int i = 0; i < shape.width; ++i)
                    out.push_back(line[i] * window.scale);
            }
        return out;
    }

    /// A random square, turned and mirrored, with time at a random pace.
    std::vector<float> draw(const TrainingWindow& window, Random& random, WindowShape& shape) const {
        const int patch = options_.patch > 0 ? options_.patch / 2 * 2 : 1 << 20;
        shape.width = std::min(patch, shape.width / 2 * 2);
        shape.height = std::min(patch, shape.height / 2 * 2);
        // Mostly around the middle, where the heart is: the mean of three uniform numbers.
        const auto place = [&](int room) {
            const double mean = (random.uniform(0, 1) + random.uniform(0, 1) + random.uniform(0, 1)) / 3;
            return std::min(room, static_cast<int>(mean * (room + 1)));
        };
        const int x = place(window.shape.width - shape.width);
        const int y = place(window.shape.height - shape.height);
        const std::vector<float> piece = cut(window, x, y, shape);
        if (!options_.augment)
            return piece;
        const int frames = shape.frames;
        const bool paced = random.chance(0.5);
        const double rate = paced ? random.uniform(0.4, 1.5) : 1.0;
        const double first = paced ? random.uniform(0, frames) : 0.0;
        const bool back = random.chance(0.5), mirror = random.chance(0.5),
                   turn = shape.width == shape.height && random.chance(0.5), upside = random.chance(0.5);
        std::vector<float> out(piece.size());
        const std::size_t pixels = shape.pixels();
        for (int t = 0; t < frames; ++t) {
            const double at = reflected(first + rate * (back ? frames - 1 - t : t), frames);
            const int low = std::min(static_cast<int>(at), frames - 1), high = std::min(low + 1, frames - 1);
            const auto part = static_cast<float>(at - low);
            const float* a = piece.data() + static_cast<std::size_t>(low) * pixels;
            const float* b = piece.data() + static_cast<std::size_t>(high) * pixels;
            float* to = out.data() + static_cast<std::size_t>(t) * pixels;
            for (int row = 0; row < shape.height; ++row)
                for (int column = 0; column < shape.width; ++column) {
                    const int r = upside ? shape.height - 1 - row : row,
                              c = mirror ? shape.width - 1 - column : column;
                    const auto i = static_cast<std::size_t>(turn ? c * shape.width + r : r * shape.width + c);
                    *to++ = (1 - part) * a[i] + part * b[i];
                }
        }
        return out;
    }

    /// Scans a series and makes the cascade's start of it.
    Scan scan(std::span<const float> series, const WindowShape& shape, const SimulateSettings& settings) {
        Scan out;
        const std::size_t pixels = shape.pixels();
        Simulator simulator(settings, shape.width, shape.height);
        for (std::size_t t = 0; t < static_cast<std::size_t>(shape.frames); ++t) {
            const std::vector<cfloat> seen = simulator.seen(series.subspan(t * pixels, pixels));
            out.truth.insert(out.truth.end(), seen.begin(), seen.end());
        }
        const auto image = [&](std::size_t t) {
            return std::span<const cfloat>(out.truth).subspan(t * pixels, pixels);
        };
        for (std::size_t t = 0; t < static_cast<std::size_t>(shape.frames); ++t)
            out.data.push_back(simulator.acquire(
                image(t), t > 0 ? image(t - 1) : std::span<const cfloat>(),
                t + 1 < static_cast<std::size_t>(shape.frames) ? image(t + 1) : std::span<const cfloat>()));
        ReconstructionSpace space;
        space.width = shape.width;
        space.height = shape.height;
        space.aspect = static_cast<double>(shape.height) / shape.width;
        space.coils = settings.coils;
        const auto views = out.frames();
        out.areas = network_areas(space, views, options_.cascade.strip_limit);
        out.start.resize(shape.count());
        StartRecipe recipe;
        recipe.background_frames = options_.cascade.mean_frames;
        NetworkStart start(space, options_.cascade.causal ? StartKind::running : StartKind::windows, recipe);
        if (options_.cascade.causal)
            for (std::size_t t = 0; t < views.size(); ++t)
                start.next(views[t], std::span(out.start).subspan(t * pixels, pixels));
        else
            start.window(views, out.start);
        out.maps.assign(start.sensitivities().begin(), start.sensitivities().end());
        // The network needs no scale; the loss does.
        std::vector<float> magnitude(out.start.size());
        std::transform(out.start.begin(), out.start.end(), magnitude.begin(),
                       [](cfloat v) { return std::abs(v); });
        out.scale = intensity_scale(magnitude, views.size());
        for (std::vector<cfloat>* values : {&out.start, &out.truth})
            for (cfloat& value : *values)
                value /= out.scale;
        for (SimulatedFrame& frame : out.data)
            for (cfloat& value : frame.data)
                value /= out.scale;
        return out;
    }

    at::Tensor series(std::span<const cfloat> values, const WindowShape& shape) const {
        at::Tensor out = at::empty({shape.frames, shape.height, shape.width, 2}, at::kFloat);
        std::memcpy(out.data_ptr<float>(), values.data(), values.size_bytes());
        return out.to(device_);
    }

    /// Of the cascade's images, which `images` receives, or of the start where `images` is null and gradients
    /// are off.
    at::Tensor loss_of_scan(const Scan& data, const WindowShape& shape, int coils, bool cycle,
                            std::vector<cfloat>* images) {
        at::Tensor x = series(data.start, shape);
        if (images || at::GradMode::is_enabled()) {
            const auto frames = data.frames();
            const auto window = window_operator(nullptr, shape, options_.run.threads, device_);
            window->set_window(frames, coils, data.maps);
            x = module_.reconstruct(x, RadialConsistency(window, device_), type_, nullptr, cycle);
        }
        if (images) {
            const at::Tensor host = x.detach().to(at::kCPU).contiguous();
            std::memcpy(static_cast<void*>(images->data()), host.const_data_ptr<float>(),
                        images->size() * sizeof(cfloat));
        }
        at::Tensor truth = series(data.truth, shape);
        if (const std::int64_t cold = cold_frames(shape); cold > 0) {
            x = x.narrow(0, cold, shape.frames - cold);
            truth = truth.narrow(0, cold, shape.frames - cold);
        }
        const at::Tensor counts = seen_by_spokes(shape).to(device_);
        x = x * counts;
        truth = truth * counts;
        if (coils > 1) { // the combined image has a phase of its own
            const auto magnitude = [](const at::Tensor& v) { return (v.square().sum(3) + 1e-8).sqrt(); };
            return loss_of(options_.loss, magnitude(x), magnitude(truth));
        }
        return loss_of(options_.loss, x, truth);
    }

    /// Frames that do not count: a causal start has little of a background in its first ones.
    std::int64_t cold_frames(const WindowShape& shape) const {
        return options_.cascade.causal ? std::min(shape.frames / 2, 8) : 0;
    }

    const TrainOptions options_;
    const at::Device device_;
    const at::ScalarType type_;
    CascadeModule module_;
};

} // namespace

std::unique_ptr<TrainingTask> make_cascade_task(const TrainOptions& options, const ComputeTarget& target) {
    return std::make_unique<CascadeTask>(options, target);
}

} // namespace mri
