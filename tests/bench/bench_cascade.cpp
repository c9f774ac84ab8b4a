// SPDX-License-Identifier: LGPL-2.1-or-later
// Times the cascade with our own convolutions beside the same with LibTorch's, in turns: a window of frames,
// and a causal one frame by frame. Leaves cascade.json in the current folder.
//
//     bench_cascade [--weights FILE] [--blocks B] [--filters F] [--layers L] [--side N] [--frames T]
//                   [--spokes S] [--coils C] [--threads N] [--precision P] [--seconds S]
#include "models/cascade/cascade.hpp"
#include "models/files/torch_state_dict.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "tests/bench/race.hpp"
#include "tests/bench/report.hpp"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <thread>

namespace {

using namespace mri;
using namespace mri::bench;

struct Options {
    std::string weights;
    CascadeOptions cascade;
    int side = 192, frames = 20, spokes = 13, coils = 1;
    int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    Precision precision = Precision::automatic;
    double seconds = 10;
};

struct Times {
    std::vector<double> wall, processor;
    void measure(const std::function<void()>& work) {
        const double begin = now(), processor_begin = processor_now();
        work();
        wall.push_back(now() - begin);
        processor.push_back(processor_now() - processor_begin);
    }
    static double least(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
};

/// He-like weights, the last layers small: blocks change images by some per cent, as trained ones do.
TensorFile random_weights(const CascadeOptions& options) {
    TensorFile file;
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (const auto& [name, shape] : cascade_tensors(options)) {
        NamedTensor tensor{shape, {}};
        const bool step = shape.size() < 5;
        const float spread =
            step ? 0.0F
                 : (shape[0] == 2 ? 0.1F : 1.0F) * std::sqrt(2.0F / (27.0F * static_cast<float>(shape[1])));
        for (std::size_t i = 0; i < tensor.count(); ++i)
            tensor.values.push_back(step ? 0.9F : spread * normal(engine));
        file.tensors[name] = tensor;
    }
    file.metadata = cascade_metadata(options);
    return file;
}

/// Noise on golden radial spokes. What the values are does not change the time.
struct Series {
    explicit Series(const Options& o) : shape{o.frames, o.side, o.side}, coils(o.coils) {
        std::mt19937 engine(2);
        std::normal_distribution<float> normal;
        const auto noise = [&](std::size_t count) {
            std::vector<cfloat> out(count);
            for (cfloat& v : out)
                v = {normal(engine), normal(engine)};
            return out;
        };
        if (coils > 1)
            maps = synthetic_sensitivities(coils, o.side, o.side, 3);
        const auto samples_of_spoke = static_cast<std::size_t>(o.side);
        for (int t = 0; t < o.frames; ++t) {
            auto& k = kxy.emplace_back(2 * static_cast<std::size_t>(o.spokes) * samples_of_spoke);
            for (int s = 0; s < o.spokes; ++s)
                radial_spoke(spoke_angle(AngleScheme::tiny_golden, 7,
                                         static_cast<std::uint64_t>(t * o.spokes + s), o.spokes),
                             o.side, o.side, k.data() + 2 * static_cast<std::size_t>(s) * samples_of_spoke);
            auto& w = areas.emplace_back(k.size() / 2);
            clipped_ramp_weights(k, o.side, o.spokes, w.data());
            samples.push_back(noise(w.size() * static_cast<std::size_t>(coils)));
        }
        for (std::size_t t = 0; t < kxy.size(); ++t)
            frames.push_back({kxy[t], samples[t], areas[t]});
        start = noise(shape.count());
    }
    SampledWindow part(std::size_t first, std::size_t count) const {
        return {std::span(start).subspan(first * shape.pixels(), count * shape.pixels()),
                std::span(frames).subspan(first, count), coils, maps};
    }

    WindowShape shape;
    int coils;
    std::vector<std::vector<float>> kxy, areas;
    std::vector<std::vector<cfloat>> samples;
    std::vector<cfloat> maps, start;
    std::vector<SampledFrame> frames;
};

double relative_difference(const std::vector<cfloat>& a, const std::vector<cfloat>& b) {
    double sum = 0, power = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        sum += std::norm(a[i] - b[i]);
        power += std::norm(b[i]);
    }
    return std::sqrt(sum / power);
}

/// One that takes LibTorch's convolutions; gridding, planned by the first window, stays as it is.
Cascade with_torch(const TensorFile& file, const RunOptions& run) {
    const Isa best = processor::selected();
    processor::select(Isa::portable);
    Cascade out(file, "bench", run);
    processor::select(best);
    return out;
}

/// In turns, whole series (a causal one frame by frame); times are of a series, or of a frame.
std::vector<Fields> compare(const Options& o, const TensorFile& file, const Series& series) {
    const RunOptions run{"cpu", o.precision, o.threads};
    const bool causal = cascade_options_of(file, "bench").causal;
    const auto steps = causal ? series.frames.size() : 1, count = series.frames.size() / steps;
    Cascade networks[] = {Cascade(file, "bench", run), with_torch(file, run)};
    std::vector<cfloat> images[2];
    Times times[2], data;
    WindowOperator consistency({.width = o.side, .height = o.side, .threads = o.threads});
    std::vector<cfloat> product(count * series.shape.pixels());
    const auto series_by = [&](int who, bool timed) {
        images[who].resize(series.shape.count());
        networks[who].reset();
        for (std::size_t i = 0; i < steps; ++i) {
            const SampledWindow window = series.part(i * count, count);
            const std::span output = std::span(images[who]).subspan(i * product.size(), product.size());
            const WindowShape shape{static_cast<int>(count), o.side, o.side};
            const auto work = [&] {
                if (causal)
                    networks[who].stream(window, output, shape);
                else
                    networks[who].run(window, output, shape);
            };
            if (timed)
                times[who].measure(work);
            else
                work();
        }
    };
    // What a cascade asks of its data: the samples once, and N x before, after each block, and for the
    // figures.
    const auto data_alone = [&] {
        for (std::size_t i = 0; i < steps; ++i)
            data.measure([&] {
                const SampledWindow window = series.part(i * count, count);
                consistency.set_window(window.frames, window.coils, window.maps);
                for (int k = 0; k < networks[0].options().blocks + 2; ++k)
                    consistency.normal(window.start, product);
            });
    };
    series_by(0, false);
    series_by(1, false);
    const double end = now() + 1000 * o.seconds;
    for (int round = 0; round < 3 || (now() < end && round < 1000); ++round) {
        series_by(0, true);
        series_by(1, true);
        data_alone();
    }

    const double difference = relative_difference(images[0], images[1]);
    std::vector<Fields> rows;
    for (const int who : {0, 1}) {
        const Times& t = times[who];
        const double whole = median(t.wall), transforms = median(data.wall);
        const double ratio = median(times[1].wall) / whole;
        const char* what = causal ? "frame" : "window";
        std::printf("%-7s %-12s %9s %9s %10s %9s %9s %7s\n", what, networks[who].convolutions().c_str(),
                    fixed(whole, 1).c_str(), fixed(Times::least(t.wall), 1).c_str(),
                    fixed(median(t.processor), 1).c_str(), fixed(transforms, 1).c_str(),
                    fixed(whole - transforms, 1).c_str(), fixed(ratio, 2).c_str());
        rows.push_back(Fields()
                           .add("what", what)
                           .add("convolutions", networks[who].convolutions())
                           .add("precision", networks[who].precision())
                           .add("median_ms", whole)
                           .add("least_ms", Times::least(t.wall))
                           .add("processor_median_ms", median(t.processor))
                           .add("processor_least_ms", Times::least(t.processor))
                           .add("data_median_ms", transforms)
                           .add("data_processor_least_ms", Times::least(data.processor))
                           .add("times_as_fast_as_libtorch", ratio)
                           .add("relative_difference_of_images", difference));
    }
    return rows;
}

int run_all(const Options& o) {
    const Series series(o);
    std::vector<TensorFile> files;
    if (!o.weights.empty()) {
        files.push_back(read_weights(o.weights));
    } else {
        CascadeOptions options = o.cascade;
        check_cascade_options(options);
        files.push_back(random_weights(options));
        options.causal = true;
        files.push_back(random_weights(options));
    }
    std::printf("%-7s %-12s %9s %9s %10s %9s %9s %7s\n", "ms", "convolutions", "median", "least", "processor",
                "data", "the rest", "ratio");
    std::vector<Fields> rows;
    for (const TensorFile& file : files)
        for (Fields& row : compare(o, file, series))
            rows.push_back(row);
    const CascadeOptions used = cascade_options_of(files.front(), "bench");
    Fields report;
    report.add("threads", static_cast<double>(o.threads))
        .add("side", static_cast<double>(o.side))
        .add("frames", static_cast<double>(o.frames))
        .add("spokes", static_cast<double>(o.spokes))
        .add("coils", static_cast<double>(o.coils))
        .add("blocks", static_cast<double>(used.blocks))
        .add("filters", static_cast<double>(used.filters))
        .add("layers", static_cast<double>(used.layers))
        .add("rows", rows);
    report.save("cascade.json");
    std::printf("cascade.json\n");
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    Options o;
    CLI::App app("Times the cascade with our own convolutions beside the same with LibTorch's.");
    app.add_option("--weights", o.weights, "A weights file; random weights without one");
    app.add_option("--blocks", o.cascade.blocks, "Of random weights")->check(CLI::Range(1, 100));
    app.add_option("--filters", o.cascade.filters, "Of random weights")->check(CLI::Range(1, 256));
    app.add_option("--layers", o.cascade.layers, "Of random weights, in a block")->check(CLI::Range(2, 100));
    app.add_option("--side", o.side, "Of the images, in pixels")->check(CLI::Range(8, 1024));
    app.add_option("--frames", o.frames, "Of the series")->check(CLI::Range(3, 1000));
    app.add_option("--spokes", o.spokes, "Of a frame")->check(CLI::Range(1, 1000));
    app.add_option("--coils", o.coils, "Of the scan")->check(CLI::Range(1, 64));
    app.add_option("--threads", o.threads, "Of both sides")->check(CLI::Range(1, 256));
    app.add_option("--precision", o.precision, "auto, float32 or bfloat16: auto is what the elements take")
        ->transform(
            CLI::CheckedTransformer(std::map<std::string, Precision>{{"auto", Precision::automatic},
                                                                     {"float32", Precision::float32},
                                                                     {"bfloat16", Precision::bfloat16}}))
        ->default_str("auto");
    app.add_option("--seconds", o.seconds, "For each comparison, at least three rounds");
    CLI11_PARSE(app, argc, argv);
    try {
        return run_all(o);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench_cascade: %s\n", e.what());
        return 1;
    }
}
