// SPDX-License-Identifier: LGPL-2.1-or-later
// Times the networks beside python's PyTorch of the same version with the same weights (networks_peer.py:
// eager, and torch.compile with freezing). Leaves networks.json in the current folder. Seconds are of the
// clock, cpu_seconds those of the processor, which count on a machine that others use too.
//
//     bench_networks [--network unet|causal-unet|crnn] [--precision float32|bfloat16] [--seconds S]
//     [--threads N]
//                    [--frames T] [--side N] [--filters F] [--iterations I]
#include "models/causal_unet/causal_unet.hpp"
#include "models/crnn/crnn.hpp"
#include "models/unet/unet.hpp"
#include "tests/bench/race.hpp"
#include "tests/bench/report.hpp"
#include "tests/support/torch_python.hpp"

#include <CLI/CLI.hpp>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <sstream>
#include <thread>

namespace {

using namespace mri;
using namespace mri::bench;
using cfloat = std::complex<float>;

struct Options {
    std::string network;
    std::string precision;
    double seconds = 20;
    int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    int frames = 20, side = 128, filters = 0, iterations = 5;
};

struct Row {
    std::string network, who, precision;
    double seconds = NAN, cpu_seconds = NAN, peak_mb = NAN, difference = NAN, ratio = NAN, cpu_ratio = NAN;
    std::string skipped = {};
};

/// The process's highest resident memory since the last reset, in MB.
double peak_mb() {
    std::ifstream in("/proc/self/status");
    for (std::string word; in >> word;)
        if (word == "VmHWM:") {
            double kilobytes = 0;
            in >> kilobytes;
            return kilobytes / 1024;
        }
    return NAN;
}
void reset_peak() {
    std::ofstream("/proc/self/clear_refs") << "5";
}

class Random {
  public:
    std::vector<float> values(std::size_t count, float spread) {
        std::vector<float> out(count);
        for (float& v : out)
            v = spread * normal_(engine_);
        return out;
    }
    NamedTensor tensor(const std::vector<std::int64_t>& shape, float spread) {
        NamedTensor out{shape, {}};
        out.values = values(out.count(), spread);
        return out;
    }

  private:
    std::mt19937 engine_{1};
    std::normal_distribution<float> normal_;
};

/// Random weights of these tensors; `inputs` says how many values a sum of one runs over, 0: it is a bias.
TensorFile random_weights(const TensorShapes& shapes, std::map<std::string, std::string> metadata,
                          const auto& inputs) {
    Random random;
    TensorFile file;
    file.metadata = std::move(metadata);
    for (const auto& [name, shape] : shapes) {
        const auto count = static_cast<float>(inputs(name, shape));
        file.tensors[name] = random.tensor(shape, count > 0 ? std::sqrt(2.0F / count) : 0.01F);
    }
    return file;
}

TensorFile unet_weights(int filters) {
    UnetOptions options;
    options.filters = filters;
    return random_weights(unet_tensors(options), unet_metadata(options), [](const auto&, const auto& shape) {
        return shape.size() == 5 ? 27 * shape[1] : 0;
    });
}

TensorFile causal_unet_weights(int filters) {
    CausalUnetOptions options;
    options.filters = filters;
    return random_weights(causal_unet_tensors(options), causal_unet_metadata(options),
                          [](const std::string& name, const auto& shape) {
                              return shape[1] * (name.starts_with("convT") ? 1 : shape.size() == 5 ? 27 : 9);
                          });
}

TensorFile crnn_weights(std::int64_t f) {
    Random random;
    TensorFile file;
    const auto layer = [&](const std::string& name, std::int64_t from, std::int64_t to) {
        file.tensors[name + ".weight"] =
            random.tensor({to, from, 3, 3}, std::sqrt(0.3F / (9.0F * static_cast<float>(from))));
        file.tensors[name + ".bias"] = random.tensor({to}, 0.01F);
    };
    layer("bcrnn.CRNN_model.i2h", 2, f);
    layer("bcrnn.CRNN_model.h2h", f, f);
    layer("bcrnn.CRNN_model.ih2ih", f, f);
    for (const char* name : {"conv1_x", "conv1_h", "conv2_x", "conv2_h", "conv3_x", "conv3_h"})
        layer(name, f, f);
    layer("conv4_x", f, 2);
    return file;
}

NamedTensor pairs_of(const std::vector<cfloat>& values, const WindowShape& w) {
    NamedTensor out{{w.frames, w.height, w.width, 2}, std::vector<float>(2 * values.size())};
    std::memcpy(out.values.data(), values.data(), out.values.size() * sizeof(float));
    return out;
}

/// Runs `work` within a time budget, at least once after a first run that is not counted: medians.
void time_row(Row& row, double seconds, const std::function<void()>& work) {
    work();
    std::vector<double> times, cpu_times;
    const double end = now() + 1000 * seconds;
    do {
        const double begin = now();
        const double cpu_begin = processor_now();
        work();
        times.push_back((now() - begin) / 1000);
        cpu_times.push_back((processor_now() - cpu_begin) / 1000);
    } while (now() + 1000 * times.back() < end && times.size() < 1000);
    row.seconds = median(times);
    row.cpu_seconds = median(cpu_times);
}

std::vector<Precision> precisions(const Options& o) {
    std::vector<Precision> out;
    if (o.precision != "bfloat16")
        out.push_back(Precision::float32);
    if (o.precision != "float32")
        out.push_back(Precision::bfloat16);
    return out;
}
const char* name_of(Precision precision) {
    return precision == Precision::bfloat16 ? "bfloat16" : "float32";
}

/// Runs the network; `file` receives what the peer needs: input and our outputs beside the weights.
std::vector<Row> run_ours(const std::string& network, const Options& o, TensorFile& file) {
    const WindowShape w{o.frames, o.side, o.side};
    Random random;
    std::vector<Row> rows;
    if (network == "unet") {
        file = unet_weights(o.filters > 0 ? o.filters : 32);
        const TensorFile weights = file;
        std::vector<float> input = random.values(w.count(), 0.3F);
        for (float& v : input)
            v = std::abs(v);
        std::vector<float> output(w.count());
        for (const Precision p : precisions(o)) {
            Unet net(weights, "bench", {"cpu", p, o.threads});
            reset_peak();
            rows.push_back({network, "ours", name_of(p)});
            time_row(rows.back(), o.seconds, [&] { net.run(input, output, w, 1.0F); });
            rows.back().peak_mb = peak_mb();
            file.tensors[std::string("bench.ours.") + name_of(p)] = {{w.frames, w.height, w.width}, output};
        }
        file.tensors["bench.input"] = {{w.frames, w.height, w.width}, input};
        return rows;
    }
    if (network == "causal-unet") { // a frame at a time, as it streams
        const int filters = o.filters > 0 ? o.filters : CausalUnetOptions().filters;
        file = causal_unet_weights(filters);
        const TensorFile weights = file;
        std::vector<float> input = random.values(w.count(), 0.3F);
        for (float& v : input)
            v = std::abs(v);
        std::vector<float> output(w.count());
        const WindowShape frame{1, w.height, w.width};
        for (const Precision p : precisions(o)) {
            CausalUnet net(weights, "bench", {"cpu", p, o.threads});
            reset_peak();
            const auto run = [&](int t) {
                const std::size_t at = static_cast<std::size_t>(t) * frame.count();
                net.run(std::span(input).subspan(at, frame.count()),
                        std::span(output).subspan(at, frame.count()), frame);
            };
            for (int t = 0; t < w.frames; ++t)
                run(t);
            file.tensors[std::string("bench.ours.") + name_of(p)] = {{w.frames, w.height, w.width}, output};
            rows.push_back({network, "ours", name_of(p)});
            int t = 0;
            time_row(rows.back(), o.seconds, [&] { run(t++ % w.frames); });
            rows.back().peak_mb = peak_mb();
        }
        file.tensors["bench.input"] = {{w.frames, w.height, w.width}, input};
        return rows;
    }
    file = crnn_weights(o.filters > 0 ? o.filters : 64);
    const TensorFile weights = file;
    const auto complex_values = [&] {
        const std::vector<float> parts = random.values(2 * w.count(), 0.3F);
        std::vector<cfloat> out(w.count());
        std::memcpy(static_cast<void*>(out.data()), parts.data(), parts.size() * sizeof(float));
        return out;
    };
    const std::vector<cfloat> image = complex_values();
    std::vector<cfloat> k0 = complex_values();
    std::vector<float> mask(w.count());
    for (std::size_t i = 0; i < mask.size(); ++i) { // every fourth line
        mask[i] = i / static_cast<std::size_t>(w.width) % 4 == 0 ? 1.0F : 0.0F;
        k0[i] *= mask[i];
    }
    std::vector<cfloat> output(w.count());
    for (const Precision p : precisions(o)) {
        Crnn net(weights, "bench", {o.iterations, std::numeric_limits<float>::infinity()},
                 {"cpu", p, o.threads});
        reset_peak();
        rows.push_back({network, "ours", name_of(p)});
        time_row(rows.back(), o.seconds, [&] { net.run(image, k0, mask, output, w); });
        rows.back().peak_mb = peak_mb();
        file.tensors[std::string("bench.ours.") + name_of(p)] = pairs_of(output, w);
    }
    file.tensors["bench.input"] = pairs_of(image, w);
    file.tensors["bench.k0"] = pairs_of(k0, w);
    file.tensors["bench.mask"] = {{w.frames, w.height, w.width}, mask};
    return rows;
}

/// The peer prints a line for each of its runs: who precision seconds cpu_seconds peak_mb difference, or
/// why there is none.
void run_peer(const std::string& network, const Options& o, const std::string& file, std::vector<Row>& rows) {
    const std::string script = std::string(MRI_BENCH_FOLDER) + "/networks_peer.py";
    if (test::torch_python().empty()) {
        rows.push_back({network, "python", "-"});
        rows.back().skipped = test::no_torch_python;
        return;
    }
    std::ostringstream command;
    command << "OMP_NUM_THREADS=" << o.threads << " '" << test::torch_python() << "' '" << script << "' "
            << network << " " << file << " " << o.threads << " " << o.seconds << " " << o.iterations << " "
            << (o.precision.empty() ? "both" : o.precision) << " > " << file << ".txt";
    if (std::system(command.str().c_str()) != 0) { // NOLINT: the command is the repository's own
        rows.push_back({network, "python", "-"});
        rows.back().skipped = "the python peer failed";
        return;
    }
    std::ifstream in(file + ".txt");
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        Row row;
        row.network = network;
        fields >> row.who >> row.precision;
        if (!(fields >> row.seconds >> row.cpu_seconds >> row.peak_mb >> row.difference)) {
            row.seconds = row.cpu_seconds = NAN;
            fields.clear();
            std::getline(fields >> std::ws, row.skipped);
        }
        rows.push_back(row);
    }
}

int run_all(const Options& o) {
    std::vector<Row> all;
    for (const std::string network : {"unet", "causal-unet", "crnn"}) {
        if (!o.network.empty() && o.network != network)
            continue;
        TensorFile file;
        std::vector<Row> rows = run_ours(network, o, file);
        const std::string path = "networks-" + network + ".safetensors";
        write_safetensors(path, file);
        run_peer(network, o, path, rows);
        for (Row& row : rows) {
            if (row.who != "ours")
                continue;
            double best = NAN, cpu_best = NAN; // fmin() leaves NaN out
            for (const Row& other : rows)
                if (other.who != "ours" && other.precision == row.precision) {
                    best = std::fmin(best, other.seconds);
                    cpu_best = std::fmin(cpu_best, other.cpu_seconds);
                }
            row.ratio = row.seconds / best;
            row.cpu_ratio = row.cpu_seconds / cpu_best;
        }
        all.insert(all.end(), rows.begin(), rows.end());
    }
    std::printf("\n%-11s %-16s %-9s %9s %9s %9s %11s %7s %7s\n", "", "", "", "seconds", "cpu s", "peak MB",
                "difference", "ratio", "cpu");
    std::vector<Fields> rows;
    for (const Row& row : all) {
        std::printf("%-11s %-16s %-9s %9s %9s %9s %11s %7s %7s %s\n", row.network.c_str(), row.who.c_str(),
                    row.precision.c_str(), fixed(row.seconds, 4).c_str(), fixed(row.cpu_seconds, 4).c_str(),
                    fixed(row.peak_mb, 0).c_str(), fixed(row.difference, 6).c_str(),
                    fixed(row.ratio, 2).c_str(), fixed(row.cpu_ratio, 2).c_str(), row.skipped.c_str());
        Fields fields;
        fields.add("network", row.network)
            .add("ours", row.who == "ours")
            .add("who", row.who)
            .add("precision", row.precision)
            .add("seconds", row.seconds)
            .add("cpu_seconds", row.cpu_seconds)
            .add("peak_mb", row.peak_mb)
            .add("difference", row.difference)
            .add("ratio_to_best_python", row.ratio)
            .add("cpu_ratio_to_best_python", row.cpu_ratio);
        if (!row.skipped.empty())
            fields.add("skipped", row.skipped);
        rows.push_back(fields);
    }
    Fields report;
    report.add("threads", static_cast<double>(o.threads))
        .add("frames", static_cast<double>(o.frames))
        .add("side", static_cast<double>(o.side))
        .add("rows", rows);
    report.save("networks.json");
    std::printf("networks.json\n");
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    Options o;
    CLI::App app("Times the networks beside python's PyTorch.");
    app.add_option("--network", o.network, "One alone")
        ->check(CLI::IsMember({"unet", "causal-unet", "crnn"}));
    app.add_option("--precision", o.precision, "float32 or bfloat16 alone")
        ->check(CLI::IsMember({"float32", "bfloat16"}));
    app.add_option("--seconds", o.seconds, "For each row, at least one run");
    app.add_option("--threads", o.threads, "Of both sides");
    app.add_option("--frames", o.frames, "Of the window")->check(CLI::Range(1, 1000));
    app.add_option("--side", o.side, "Of the images, in pixels")->check(CLI::Range(8, 1024));
    app.add_option("--filters", o.filters, "0: 32 of the U-Net, 16 of the causal one, 64 of the CRNN");
    app.add_option("--iterations", o.iterations, "Of the CRNN");
    CLI11_PARSE(app, argc, argv);
    try {
        return run_all(o);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench_networks: %s\n", e.what());
        return 1;
    }
}
