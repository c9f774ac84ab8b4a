// SPDX-License-Identifier: LGPL-2.1-or-later
// How good the reconstructions are on real cine, by the elements themselves. Leaves quality.json in the
// current folder.
//
// Cine from DICOM files, its central 192 x 192 pixels, are scanned by mrisim (tiny golden angle that runs on
// over the frames; one coil and no noise unless asked for) and reconstructed by each method from the same
// k-space. Quality is mrimetrics' score: one linear fit a series, central 128 x 128 pixels, mean over the
// series. Seconds are those of the calling thread inside the elements, from k-space frames to images, median
// over the series; files, start-up and the network's warm-up are not in it.
#include "models/files/safetensors.hpp"
#include "pipelines/launcher/table.hpp"
#include "plugins/common/image_buffers.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/math/image/score.hpp"
#include "tests/bench/feed.hpp"
#include "tests/bench/race.hpp"
#include "tests/bench/report.hpp"
#include "tests/support/temp_dir.hpp"

#include <CLI/CLI.hpp>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <complex>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <thread>

namespace {

using namespace mri;
using bench::Feed;
using bench::Fields;
using bench::Item;

constexpr int matrix = 192;

struct Options {
    std::string location;
    std::string slices;
    std::vector<int> spokes{13, 9, 7};
    int coils = 1;
    int oversampling = 1;      ///< of the readouts
    std::optional<double> snr; ///< dB
    std::vector<std::string> weights;
    std::string precision = "auto"; ///< of the networks
    bool whole = false;
    bool bart = false;
    bool table = false;
    std::string live = "live.json"; ///< what `bench live` has left, for --table
};

/// A usage error: exit 2.
struct Usage {
    std::string text;
};

/// The frames of each series, in the order in which they came.
using Series = std::vector<std::vector<Item>>;

Series by_series(const std::vector<Item>& items) {
    Series all;
    int last = -1;
    for (const Item& item : items) {
        int number = 0;
        gst_structure_get_int(gst_caps_get_structure(item.caps.get(), 0), "series", &number);
        if (all.empty() || number != last)
            all.emplace_back();
        last = number;
        all.back().push_back(item);
    }
    return all;
}

/// Images of a method, [series][frame], and the seconds of each series.
struct Result {
    Series images;
    std::vector<double> seconds;
};

Result reconstruct(const std::string& elements, const Series& scans) {
    std::vector<Item> images;
    Feed feed(elements, [&](const Item& item) { images.push_back(item); });
    Result result;
    for (const auto& scan : scans) {
        // A window that a series does not fill is computed when the next begins: that time is the series'.
        const double before = bench::now();
        feed.set_caps(scan.front().caps.get());
        const double begin = bench::now();
        if (!result.seconds.empty())
            result.seconds.back() += (begin - before) / 1000;
        for (const Item& frame : scan)
            feed.push(frame.buffer.get());
        result.seconds.push_back((bench::now() - begin) / 1000);
    }
    const double before = bench::now();
    feed.end();
    result.seconds.back() += (bench::now() - before) / 1000;
    result.images = by_series(images);
    return result;
}

std::vector<float> magnitude_of(const Item& item) {
    return mri::magnitude_of(item.buffer.get(), ImageInfo::from_caps(item.caps.get()));
}

std::vector<float> truth_of(const Item& item) {
    GstSample* truth = side_of(item.buffer.get(), Role::truth);
    if (!truth)
        throw Error(Errc::format, "An image has lost its truth on the way");
    return mri::magnitude_of(gst_sample_get_buffer(truth), ImageInfo::from_caps(gst_sample_get_caps(truth)));
}

/// Means over series.
struct Quality {
    double psnr = 0, ssim = 0, psnr_moving = 0;
};

class Means {
  public:
    void add(const SeriesScore& score) {
        ++series_;
        sum_.psnr += score.fitted.psnr;
        sum_.ssim += score.fitted.ssim;
        if (!std::isnan(score.psnr_moving)) {
            ++moving_;
            sum_.psnr_moving += score.psnr_moving;
        }
    }
    Quality quality() const { return {sum_.psnr / series_, sum_.ssim / series_, sum_.psnr_moving / moving_}; }

  private:
    Quality sum_;
    double series_ = 0, moving_ = 0;
};

Quality score(const Series& images) {
    Means means;
    for (const auto& series : images) {
        const auto info = ImageInfo::from_caps(series.front().caps.get());
        Scorer scorer(info.width, info.height);
        for (const Item& image : series)
            scorer.add(magnitude_of(image), truth_of(image));
        means.add(scorer.finish());
    }
    return means.quality();
}

/// Each frame is the mean of its series.
Quality score_frozen(const Series& images) {
    Means means;
    for (const auto& series : images) {
        const auto info = ImageInfo::from_caps(series.front().caps.get());
        std::vector<cfloat> mean(info.pixels());
        for (const Item& image : series) {
            const Mapped<const cfloat> pixels(image.buffer.get());
            std::transform(mean.begin(), mean.end(), pixels.span().begin(), mean.begin(), std::plus<>());
        }
        std::vector<float> frozen;
        for (const cfloat value : mean)
            frozen.push_back(std::abs(value) / static_cast<float>(series.size()));
        Scorer scorer(info.width, info.height);
        for (const Item& image : series)
            scorer.add(frozen, truth_of(image));
        means.add(scorer.finish());
    }
    return means.quality();
}

// --- compressed sensing by BART
// ---------------------------------------------------------------------------------

constexpr std::size_t bart_dimensions = 16, bart_time = 10;

void write_cfl(const std::string& path, const std::vector<std::pair<std::size_t, std::size_t>>& sizes,
               const std::vector<cfloat>& values) {
    std::vector<std::size_t> dimensions(bart_dimensions, 1);
    for (const auto& [dimension, size] : sizes)
        dimensions[dimension] = size;
    std::ofstream header(path + ".hdr");
    header << "# Dimensions\n";
    for (const std::size_t size : dimensions)
        header << size << ' ';
    header << '\n';
    std::ofstream data(path + ".cfl", std::ios::binary);
    data.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(cfloat)));
    if (!header.flush() || !data.flush())
        throw Error(Errc::write, "'" + path + "' cannot be written");
}

std::vector<cfloat> read_cfl(const std::string& path, std::size_t count) {
    std::vector<cfloat> values(count);
    std::ifstream data(path + ".cfl", std::ios::binary);
    const auto bytes = static_cast<std::streamsize>(count * sizeof(cfloat));
    if (!data.read(reinterpret_cast<char*>(values.data()), bytes) || data.peek() != EOF)
        throw Error(Errc::read, "BART's images are not of the size that was asked for");
    return values;
}

/// Total variation in time, alternating directions: bart pics -S -i60 -R T:1024:0:WEIGHT on one series. Its
/// differences go round, so it takes the series as a cycle, like the rows with cycle=true.
/// Returns its seconds, the writing and reading of files by bart itself included.
double run_bart(const test::TempDir& folder, const std::string& weight) {
    std::vector<std::string> words{"bart", "pics",   "-S",     "-i60",    "-R",    "T:1024:0:" + weight,
                                   "-t",   "points", "kspace", "uniform", "images"};
    std::vector<gchar*> argv;
    for (auto& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    gchar* text = nullptr;
    GError* raw = nullptr;
    gint status = 0;
    const double begin = bench::now();
    g_spawn_sync(folder.path().c_str(), argv.data(), nullptr,
                 static_cast<GSpawnFlags>(G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL), nullptr, nullptr,
                 nullptr, &text, &status, &raw);
    const double seconds = (bench::now() - begin) / 1000;
    const GString_ptr output(text);
    const GErrorPtr error(raw);
    if (error)
        throw Error(Errc::failed, std::string("bart does not run: ") + error->message);
    if (status != 0)
        throw Error(Errc::failed, std::string("bart pics failed: ") + (text ? text : ""));
    return seconds;
}

struct BartResult {
    Quality quality;
    double seconds = 0;
    std::string weight;
};

/// The best of several weights, by PSNR.
BartResult compressed_sensing(const Series& scans) {
    std::map<std::string, std::pair<Means, std::vector<double>>> results;
    const test::TempDir folder;
    for (const auto& scan : scans) {
        const auto info = KspaceInfo::from_caps(scan.front().caps.get());
        std::vector<cfloat> kspace, points;
        for (const Item& frame : scan) {
            const Mapped<const cfloat> samples(frame.buffer.get());
            kspace.insert(kspace.end(), samples.span().begin(), samples.span().end());
            const auto trajectory = trajectory_of(frame.buffer.get());
            for (std::size_t i = 0; i < trajectory->kxy.size(); i += 2)
                points.insert(points.end(), {trajectory->kxy[i], trajectory->kxy[i + 1], 0});
        }
        const std::size_t samples = static_cast<std::size_t>(info.samples), frames = scan.size();
        const std::size_t readouts = kspace.size() / samples / frames;
        write_cfl(folder / "kspace", {{1, samples}, {2, readouts}, {bart_time, frames}}, kspace);
        write_cfl(folder / "points", {{0, 3}, {1, samples}, {2, readouts}, {bart_time, frames}}, points);
        write_cfl(folder / "uniform", {{0, matrix}, {1, matrix}}, std::vector<cfloat>(matrix * matrix, 1));
        for (const char* weight : {"0.003", "0.004", "0.005"}) {
            auto& [means, seconds] = results[weight];
            seconds.push_back(run_bart(folder, weight));
            const auto images = read_cfl(folder / "images", matrix * matrix * frames);
            Scorer scorer(matrix, matrix);
            for (std::size_t f = 0; f < frames; ++f) {
                std::vector<float> image;
                for (std::size_t p = 0; p < matrix * matrix; ++p)
                    image.push_back(std::abs(images[f * matrix * matrix + p]));
                scorer.add(image, truth_of(scan[f]));
            }
            means.add(scorer.finish());
        }
    }
    BartResult best;
    best.quality.psnr = -std::numeric_limits<double>::infinity();
    for (const auto& [weight, result] : results)
        if (result.first.quality().psnr > best.quality.psnr)
            best = {result.first.quality(), bench::median(result.second), weight};
    return best;
}

// --- the table
// --------------------------------------------------------------------------------------------------

/// What a weights file is run by, told by the beginning of its name; empty: by nothing here.
std::string element_of(const std::string& file) {
    const std::string name = std::filesystem::path(file).filename();
    const auto begins = [&name](const char* with) { return name.starts_with(with); };
    return begins("unet") || begins("causal-unet")         ? "mriunet"
           : begins("cascade") || begins("causal-cascade") ? "mricascade"
                                                           : "";
}

/// Whether its frames wait for no later ones.
bool is_causal(const std::string& file) {
    return std::filesystem::path(file).filename().string().starts_with("causal");
}

/// Files unet*, cascade*, causal-unet* and causal-cascade*.safetensors in the folders of GST_MRI_MODELS_PATH.
std::vector<std::string> shipped_weights() {
    std::vector<std::string> files;
    const char* path = std::getenv("GST_MRI_MODELS_PATH");
    std::stringstream folders(path ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');) {
        std::error_code error;
        for (const auto& entry : std::filesystem::directory_iterator(folder, error))
            if (entry.path().extension() == ".safetensors" && !element_of(entry.path()).empty())
                files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end(), std::greater<>()); // the better ones last
    return files;
}

std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (const char c : text)
        result += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return result + '"';
}

Series scan(const Options& options, int spokes, int beats = 1) {
    std::vector<Item> frames;
    bench::run_line("mridicomsrc location=" + quoted(options.location) + " slices=" + quoted(options.slices) +
                        " width=" + std::to_string(matrix) + " height=" + std::to_string(matrix) +
                        " repeat=" + std::to_string(beats) + " ! mrisim spokes=" + std::to_string(spokes) +
                        " coils=" + std::to_string(options.coils) +
                        " oversampling=" + std::to_string(options.oversampling) +
                        (options.snr ? " snr=" + std::to_string(*options.snr) : "") + " ! mriframer",
                    [&](const Item& item) { frames.push_back(item); });
    if (frames.empty())
        throw Error(Errc::read, "'" + options.location + "' gave no images");
    return by_series(frames);
}

/// One method's figures at one number of spokes.
struct Row {
    std::string method;
    std::string weights; ///< empty where there is no network
    int spokes = 0;
    Quality quality;
    double seconds = 0; ///< a series of one beat
};

struct Measured {
    std::vector<Row> rows;
    std::size_t series = 0;
};

/// Runs every method on one scan. With options.table only those of the table.
Measured measure(const Options& options, const std::vector<std::string>& weights, int spokes) {
    const std::string recon = "mrirecon";
    const Series scans = scan(options, spokes);
    Series two_beats; // for causal networks
    Measured result;
    result.series = scans.size();
    const auto add = [&](const std::string& method, const Quality& quality, double seconds,
                         const std::string& file = {}) {
        result.rows.push_back({method, file, spokes, quality, seconds});
    };
    const auto gridded = reconstruct("mrigrid", scans);
    add("gridded frame", score(gridded.images), bench::median(gridded.seconds));
    const auto background = reconstruct(recon, scans);
    if (!options.table)
        add("mean of mrirecon, frozen", score_frozen(background.images), bench::median(background.seconds));
    add("mrirecon", score(background.images), bench::median(background.seconds));
    const auto variation = reconstruct("mrirecon method=tv", scans);
    add("mrirecon method=tv", score(variation.images), bench::median(variation.seconds));
    if (!options.table) {
        const auto cycle = reconstruct("mrirecon method=tv cycle=true", scans);
        add("mrirecon method=tv cycle=true", score(cycle.images), bench::median(cycle.seconds));
    }
    for (const auto& file : weights) {
        const std::string element = element_of(file);
        const std::string network_line =
            element + " precision=" + options.precision + " weights=" + quoted(file);
        const std::string name = element + " " + std::filesystem::path(file).stem().string();
        const bool cascade = element == "mricascade";
        if (is_causal(file)) {
            if (two_beats.empty())
                two_beats = scan(options, spokes, 2);
            const std::string grid = cascade ? "mrigrid background=20 combine=adaptive "
                                               "attach-kspace=true attach-sensitivities=true"
                                             : "mrigrid background=20 ! mricrop width=128 height=128";
            auto network = reconstruct(grid + " ! " + network_line, two_beats);
            for (auto& images : network.images) // the first beat runs in
                images.erase(images.begin(), images.begin() + static_cast<std::ptrdiff_t>(images.size() / 2));
            add(name + ", second beat", score(network.images), bench::median(network.seconds) / 2, file);
            continue;
        }
        const std::string before = cascade         ? " combine=adaptive attach-kspace=true "
                                                     "attach-sensitivities=true"
                                   : options.whole ? ""
                                                   : " ! mricrop width=128 height=128";
        const auto network = reconstruct(recon + before + " ! " + network_line, scans);
        add(name, score(network.images), bench::median(network.seconds), file);
        if (cascade && !options.table) {
            const auto closed = reconstruct(recon + before + " ! " + network_line + " cycle=true", scans);
            add(name + ", cycle=true", score(closed.images), bench::median(closed.seconds), file);
        }
    }
    if (options.bart) {
        const auto best = compressed_sensing(scans);
        add("bart pics, weight " + best.weight, best.quality, best.seconds);
    }
    return result;
}

void run(const Options& options, const std::vector<std::string>& weights) {
    const std::string of_scan =
        (options.coils > 1 ? ", " + std::to_string(options.coils) + " coils" : std::string()) +
        (options.oversampling > 1
             ? ", readouts oversampled " + std::to_string(options.oversampling) + " times"
             : std::string()) +
        (options.snr ? ", " + bench::fixed(*options.snr, 1) + " dB" : std::string());
    std::vector<Fields> json;
    std::size_t series = 0;
    for (const int spokes : options.spokes) {
        const Measured measured = measure(options, weights, spokes);
        series = measured.series;
        std::vector<std::vector<std::string>> rows;
        for (const Row& row : measured.rows) {
            rows.push_back({row.method, bench::fixed(row.quality.psnr, 2), bench::fixed(row.quality.ssim, 3),
                            bench::fixed(row.quality.psnr_moving, 2), bench::fixed(row.seconds, 2)});
            json.push_back(Fields()
                               .add("method", row.method)
                               .add("spokes", row.spokes)
                               .add("psnr", row.quality.psnr)
                               .add("ssim", row.quality.ssim)
                               .add("psnr_moving", row.quality.psnr_moving)
                               .add("seconds", row.seconds));
        }
        std::cout << "\n"
                  << spokes << " spokes a frame" << of_scan << ", mean of " << series << " series\n"
                  << format_table({"method", "PSNR dB", "SSIM", "moving dB", "s a series"}, rows)
                  << std::flush;
    }
    Fields()
        .add("location", std::filesystem::path(options.location).filename().string())
        .add("series", static_cast<double>(series))
        .add("coils", options.coils)
        .add("oversampling", options.oversampling)
        .add("snr", options.snr ? bench::fixed(*options.snr, 1) : "inf")
        .add("precision", options.precision)
        .add("network_input", options.whole ? "whole" : "crop 128")
        .add("rows", json)
        .save("quality.json");
}

// --- the table in Markdown
// --------------------------------------------------------------------------------------------------

/// What the table says of a method beside its figures.
struct Use {
    const char* method; ///< "mrirecon", or the stem of a weights file
    const char* job;
    const char* where;
};

constexpr Use uses[] = {
    {"gridded frame", "each frame alone", "`mrigrid`"},
    {"mrirecon", "windows, no network", "`mrirecon`"},
    {"mrirecon method=tv", "windows, no network, slow", "`mrirecon method=tv`"},
    {"unet", "windows; images alone", "`mrirecon ! mriunet`"},
    {"cascade", "windows; keeps to the samples: the best images", "`mrirecon ! mricascade`"},
    {"cascade-9", "the same at a third of the work", "`mrirecon ! mricascade`"},
    {"causal-unet", "frame by frame, live, many coils", "`mrigrid background=20 ! mriunet`"},
    {"causal-cascade", "frame by frame; keeps to the samples", "`mrigrid background=20 ! mricascade`"},
    {"causal-cascade-5", "the same at 0.45 of the work", "`mrigrid background=20 ! mricascade`"},
};

/// 1234567 as "1,234,567".
std::string grouped(std::size_t number) {
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3; at -= 3)
        text.insert(at - 3, ",");
    return text;
}

std::string parameters_of(const std::string& file) {
    std::size_t count = 0;
    for (const auto& [name, tensor] : read_safetensors(file).tensors)
        count += tensor.count();
    return grouped(count);
}

/// Milliseconds from the last readout to the picture, median / 99th percentile, of each chain of `bench live` that runs
/// these weights; "-" where there is none.
std::string live_of(const std::string& json, const std::string& weights) {
    if (weights.empty() || !std::filesystem::exists(json))
        return "-";
    std::string cell;
    const std::string name = '"' + std::filesystem::path(weights).filename().string() + '"';
    for (const auto& chain : YAML::LoadFile(json)["chains"]) { // JSON is YAML too
        const auto elements = chain["elements"].as<std::string>();
        if (elements.find("weights=" + name) == std::string::npos)
            continue;
        const bool compressed = elements.find("mricompress coils=4") != std::string::npos;
        const auto frames = chain["frames"].as<int>(), late = chain["late"].as<int>();
        cell += (cell.empty() ? "" : "<br>") + chain["coils"].as<std::string>() +
                (compressed                      ? " to 4 coils: "
                 : chain["coils"].as<int>() == 1 ? " coil: "
                                                 : " coils: ") +
                (2 * late > frames ? "falls behind"
                                   : bench::fixed(chain["median_milliseconds"].as<double>(), 0) + " / " +
                                         bench::fixed(chain["percentile_99_milliseconds"].as<double>(), 0));
    }
    return cell.empty() ? "-" : cell;
}

/// Name of the processor, and which of the instructions that the kernels ask for it has.
std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    std::string model = "unknown processor", has;
    for (std::string line; std::getline(file, line) && has.empty();) {
        if (line.starts_with("model name"))
            model = line.substr(line.find(": ") + 2);
        if (!line.starts_with("flags"))
            continue;
        std::stringstream words(line);
        for (std::string word; words >> word;)
            if (word == "avx2" || word == "avx512f" || word == "avx512_bf16" || word == "amx_bf16")
                has += (has.empty() ? "" : ", ") + word;
    }
    return model + " with " + (has.empty() ? "neither AVX2 nor AVX-512" : has) + ", " +
           std::to_string(std::thread::hardware_concurrency()) + " cores";
}

void print_markdown(Options options, const std::vector<std::string>& weights) {
    struct Cells {
        std::string weights, one, eight;
        double seconds = 0;
    };
    std::map<std::string, Cells> cells; // by Use::method
    for (const bool many : {false, true}) {
        options.coils = many ? 8 : 1;
        options.oversampling = many ? 2 : 1;
        options.snr = many ? std::optional<double>(30) : std::nullopt;
        for (std::size_t i = 0; i < options.spokes.size(); ++i)
            for (const Row& row : measure(options, weights, options.spokes[i]).rows) {
                const std::string stem = std::filesystem::path(row.weights).stem().string();
                Cells& cell = cells[stem.empty() ? row.method : stem];
                cell.weights = row.weights;
                std::string& text = many ? cell.eight : cell.one;
                text += (text.empty() ? "" : "<br>") + bench::fixed(row.quality.psnr, 1) + " / " +
                        bench::fixed(row.quality.ssim, 2) + " / " + bench::fixed(row.quality.psnr_moving, 1);
                if (!many && i == 0)
                    cell.seconds = row.seconds;
            }
    }
    std::string spokes;
    for (const int n : options.spokes)
        spokes += (spokes.empty() ? "" : ", ") + std::to_string(n);
    std::cout << "| network | for | elements | parameters | one coil, no noise | 8 coils, 30 dB | s a series "
                 "| ms a frame, "
                 "live |\n|---|---|---|---|---|---|---|---|\n";
    for (const Use& use : uses) {
        const auto found = cells.find(use.method);
        if (found == cells.end())
            continue;
        const Cells& cell = found->second;
        const std::string name = std::string(use.method);
        std::cout << "| " << (cell.weights.empty() ? "none" : "[" + name + "](" + name + ".md)") << " | "
                  << use.job << " | " << use.where << " | "
                  << (cell.weights.empty() ? "-" : parameters_of(cell.weights)) << " | " << cell.one << " | "
                  << cell.eight << " | " << bench::fixed(cell.seconds, 2) << " | "
                  << live_of(options.live, cell.weights) << " |\n";
    }
    std::cout << "\nPSNR in dB / SSIM / PSNR of the moving pixels at " << spokes << " spokes a frame. "
              << processor() << ".\n";
}

Options parse(int argc, char** argv) {
    CLI::App app("Quality of the reconstructions on real cine: a table, and quality.json in the current "
                 "folder");
    Options o;
    app.add_option("--location", o.location,
                   "Folder with cine DICOM (default: sunnybrook/SCD0000301 in GST_MRI_DATA)");
    app.add_option("--slices", o.slices, "Slices, counted from 1, as 1,3-5,8- (default: all)");
    app.add_option("--spokes", o.spokes, "Spokes a frame")->delimiter(',')->check(CLI::Range(1, 1000));
    app.add_option("--coils", o.coils, "Receive coils")->check(CLI::Range(1, 64));
    app.add_option("--oversampling", o.oversampling, "Of the readouts")->check(CLI::Range(1, 4));
    app.add_option("--snr", o.snr, "Signal over noise in dB, as of mrisim (default: no noise)")
        ->check(CLI::Range(-20.0, 200.0));
    app.add_option(
           "--weights", o.weights,
           "Weights files unet*, cascade*, causal-unet* and causal-cascade*.safetensors, in place of those "
           "shipped")
        ->check(CLI::ExistingFile)
        ->check([](const std::string& file) {
            return element_of(file).empty() ? "'" + file +
                                                  "': the name must begin with unet, cascade, causal-unet or "
                                                  "causal-cascade"
                                            : std::string();
        });
    app.add_option("--precision", o.precision, "Of the networks: auto, float32 or bfloat16")
        ->check(CLI::IsMember({"auto", "float32", "bfloat16"}));
    app.add_flag("--whole", o.whole, "Give the U-Net the whole image, not its central 128 x 128 pixels");
    app.add_flag("--bart", o.bart,
                 "Add compressed sensing by `bart pics`, the best of several weights (slow)");
    auto* table = app.add_flag(
        "--table", o.table,
        "Print the table of the shipped networks in Markdown: one coil without noise, and 8 coils, "
        "readouts oversampled twice, 30 dB");
    app.add_option("--live", o.live, "What `bench live` has left, for --table's last column")
        ->capture_default_str();
    for (const char* fixed : {"--coils", "--oversampling", "--snr", "--bart"})
        table->excludes(app.get_option(fixed));
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error) == 0 ? 0 : 2);
    }
    if (o.location.empty()) {
        const char* data = std::getenv("GST_MRI_DATA");
        if (!data || !*data)
            throw Usage{"GST_MRI_DATA does not name the folder with the data, and no --location is given"};
        o.location = std::string(data) + "/sunnybrook/SCD0000301";
    }
    if (!std::filesystem::is_directory(o.location))
        throw Usage{"'" + o.location + "' is no folder"};
    if (o.bart && o.coils > 1)
        throw Usage{"--bart is of one coil: its sensitivity is known"};
    if (o.bart && !GString_ptr(g_find_program_in_path("bart")))
        throw Usage{"--bart: there is no program bart"};
    return o;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const Options options = parse(argc, argv);
        gst_init(nullptr, nullptr);
        const auto weights = options.weights.empty() ? shipped_weights() : options.weights;
        if (weights.empty())
            std::cerr
                << "There are no weights of a known name in GST_MRI_MODELS_PATH: the table has no network\n";
        if (options.table)
            print_markdown(options, weights);
        else
            run(options, weights);
        return 0;
    } catch (const Usage& usage) {
        std::cerr << "bench_quality: " << usage.text << "\n";
        return 2;
    } catch (const std::exception& error) {
        std::cerr << "bench_quality: " << error.what() << "\n";
        return 1;
    }
}
