// SPDX-License-Identifier: LGPL-2.1-or-later
// Times of the non-uniform transform, beside FINUFFT's and BART's if they are there. Leaves gridding.json in
// the current folder; plot_gridding.py draws its scaling rows.
//
//     FINUFFT_PREFIX=/path[:/another] bench_gridding [--seconds S] [--quick] [--bart]
//
// The whole table: W1 (192 x 192, 15 spokes x 384), W1b (15 x 192) and W2 (256 x 256, 34 x 512) with 1, 8, 16
// and 32 coils, both directions, on one thread and on two; then how the cost grows with coils, spokes and
// image size.
//
// A frame is: a new trajectory (tiny golden angle), then all coils, one direction. FINUFFT gets its
// coordinates in its own unit and its samples weighted, which costs it nothing here; ours are converted and
// weighted within the time. Of FINUFFT's settings (tolerance, oversampling, batch, sorting, FFTW effort) the
// fastest that keeps the same error bound is searched first. Runs of frames alternate between the contenders;
// times are medians over all frames. FINUFFT's settings are searched at up to 8 coils and kept for more.
//
// BART runs as a program of its own: time of six frames less that of one, over five, so that its start is not
// in it (its files are), median of three. Its tolerance is its own.
#include "plugins/math/base/processor.hpp"
#include "plugins/math/transform/nufft.hpp"
#include "tests/bench/race.hpp"
#include "tests/support/exact_dft.hpp"
#include "tests/support/temp_dir.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <numbers>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

using mri::cfloat;
using mri::bench::race;
using cdouble = std::complex<double>;

namespace {

template <class A, class B>
double relative_error(const A& a, const B& exact) {
    double num = 0, den = 0;
    for (std::size_t i = 0; i < exact.size(); i++) {
        num += std::norm(cdouble(a[i]) - exact[i]);
        den += std::norm(exact[i]);
    }
    return std::sqrt(num / den);
}

/// A case: image size, spokes and samples a frame, and a handful of trajectories that take turns.
struct Case {
    std::string name;
    int size, spokes, samples;
    static constexpr int frames = 5;
    std::vector<std::vector<float>> kxy;
    std::vector<std::vector<float>> x, y; // the same in radians per pixel, FINUFFT's unit
    std::vector<float> weights;
    std::vector<cfloat> kspace, images, images_out, kspace_out;
    std::vector<cdouble> exact_image, exact_samples; // of frame 0, coil 0
    static constexpr int max_coils = 32;

    std::size_t points() const { return std::size_t(spokes) * std::size_t(samples); }
    std::size_t pixels() const { return std::size_t(size) * std::size_t(size); }

    Case(std::string name_, int size_, int spokes_, int samples_)
        : name(std::move(name_)), size(size_), spokes(spokes_), samples(samples_) {
        const double angle = std::numbers::pi / ((1 + std::sqrt(5.0)) / 2 + 6); // seventh tiny golden angle
        for (int f = 0; f < frames; f++) {
            auto &k = kxy.emplace_back(), &fx = x.emplace_back(), &fy = y.emplace_back();
            for (int s = 0; s < spokes; s++)
                for (int i = 0; i < samples; i++) {
                    double a = angle * (f * spokes + s), r = (i - samples / 2) * double(size) / samples;
                    k.push_back(float(r * std::cos(a)));
                    k.push_back(float(r * std::sin(a)));
                    fx.push_back(float(2 * std::numbers::pi * double(k[k.size() - 2]) / size));
                    fy.push_back(float(2 * std::numbers::pi * double(k[k.size() - 1]) / size));
                    if (f == 0)
                        weights.push_back(float(std::abs(r) + 0.2));
                }
        }
        std::mt19937 gen(1);
        std::normal_distribution<float> d;
        kspace.resize(points() * max_coils);
        images.resize(pixels() * max_coils);
        images_out.resize(images.size());
        kspace_out.resize(kspace.size());
        for (auto& c : kspace)
            c = {d(gen), d(gen)};
        for (auto& c : images)
            c = {d(gen), d(gen)};
        exact_image.resize(pixels());
        for (std::size_t p = 0; p < points(); p++) {
            auto ex = mri::test::waves(kxy[0][2 * p], size, 1),
                 ey = mri::test::waves(kxy[0][2 * p + 1], size, 1);
            cdouble s = cdouble(kspace[p]) * double(weights[p]), sum = 0;
            for (std::size_t v = 0; v < ey.size(); v++) {
                cdouble f = s * ey[v], line = 0;
                const cfloat* m = &images[v * ex.size()];
                cdouble* out = &exact_image[v * ex.size()];
                for (std::size_t u = 0; u < ex.size(); u++) {
                    double er = ex[u].real(), ei = ex[u].imag(), mr = m[u].real(), mi = m[u].imag();
                    out[u] += cdouble(f.real() * er - f.imag() * ei, f.real() * ei + f.imag() * er);
                    line += cdouble(mr * er + mi * ei, mi * er - mr * ei);
                }
                sum += line * std::conj(ey[v]);
            }
            exact_samples.push_back(sum);
        }
    }
};

/// FINUFFT's guru interface through dlopen: the library is never linked, so that nothing depends on it.
class Finufft {
  public:
    /// The head of finufft_opts, the same in 2.4 to 2.6; the rest is filled by the library.
    struct Options {
        int modeord, spreadinterponly, debug, spread_debug, showwarn, nthreads, fftw, spread_sort,
            kerevalmeth, kerpad;
        double upsampfac;
        int spread_thread, maxbatchsize;
        char rest[256];
    };
    using Plan = void*;

    std::string path;

    static std::unique_ptr<Finufft> open(const std::string& prefix) {
        for (const char* name : {"/lib/libfinufft.so", "/libfinufft.so", "/lib64/libfinufft.so", ""})
            if (std::filesystem::is_regular_file(prefix + name)) {
                if (void* lib = dlopen((prefix + name).c_str(), RTLD_NOW | RTLD_LOCAL)) {
                    auto f = std::make_unique<Finufft>();
                    f->path = prefix + name;
                    f->load(lib, "finufftf_default_opts", f->default_opts);
                    f->load(lib, "finufftf_makeplan", f->makeplan);
                    f->load(lib, "finufftf_setpts", f->setpts);
                    f->load(lib, "finufftf_execute", f->execute);
                    f->load(lib, "finufftf_destroy", f->destroy);
                    return f;
                } else {
                    std::fprintf(stderr, "%s\n", dlerror());
                }
            }
        return nullptr;
    }

    void (*default_opts)(Options*) = nullptr;
    int (*makeplan)(int, int, const std::int64_t*, int, int, float, Plan*, Options*) = nullptr;
    int (*setpts)(Plan, std::int64_t, float*, float*, float*, std::int64_t, float*, float*, float*) = nullptr;
    int (*execute)(Plan, cfloat*, cfloat*) = nullptr;
    int (*destroy)(Plan) = nullptr;

    struct Settings {
        float eps;
        double upsampling;
        int batch, sort, effort;
    };

    Plan make(const Case& c, bool adjoint, int coils, int threads, Settings s) {
        Options o;
        std::memset(&o, 0, sizeof o);
        default_opts(&o);
        o.nthreads = threads;
        o.upsampfac = s.upsampling;
        o.maxbatchsize = s.batch;
        o.spread_sort = s.sort;
        o.fftw = s.effort;
        o.showwarn = 0;
        std::int64_t modes[3] = {c.size, c.size, 1};
        Plan plan = nullptr;
        return makeplan(adjoint ? 1 : 2, 2, modes, adjoint ? 1 : -1, coils, s.eps, &plan, &o) <= 1 ? plan
                                                                                                   : nullptr;
    }

    void frame(Plan plan, Case& c, int f, bool adjoint, std::vector<cfloat>& weighted) {
        auto i = std::size_t(f % Case::frames);
        setpts(plan, std::int64_t(c.points()), c.x[i].data(), c.y[i].data(), nullptr, 0, nullptr, nullptr,
               nullptr);
        if (adjoint)
            execute(plan, weighted.data(), c.images_out.data());
        else
            execute(plan, c.kspace_out.data(), c.images.data());
    }

  private:
    template <class F>
    void load(void* lib, const char* name, F& f) {
        f = reinterpret_cast<F>(dlsym(lib, name));
        if (!f) {
            std::fprintf(stderr, "%s lacks %s\n", path.c_str(), name);
            std::exit(1);
        }
    }
};

struct Row {
    std::string what, direction;
    int coils, threads;
    double ms, error;
    std::string isa;
    int size, spokes;
    std::vector<std::pair<double, double>> peers;  // ms, error
    std::optional<std::pair<double, double>> bart; // ms, error
    double gain = NAN;                             // of these threads over one
};

/// Which build of FINUFFT a library is: the wheel brings its own OpenMP along.
std::string build_of(const std::string& path) {
    const auto folder = std::filesystem::path(path).parent_path();
    return std::filesystem::exists(folder.parent_path() / "finufft.libs") ? "PyPI wheel" : "native build";
}

std::string json(const std::vector<Row>& rows, const std::vector<std::string>& peers) {
    std::ostringstream o;
    o << "{\n  \"finufft\": [";
    for (std::size_t i = 0; i < peers.size(); i++)
        o << (i ? ", " : "") << '"' << build_of(peers[i]) << '"';
    o << "],\n  \"rows\": [\n";
    for (std::size_t i = 0; i < rows.size(); i++) {
        const auto& r = rows[i];
        o << "    {\"case\": \"" << r.what << "\", \"direction\": \"" << r.direction
          << "\", \"coils\": " << r.coils << ", \"threads\": " << r.threads << ", \"isa\": \"" << r.isa
          << "\", \"milliseconds\": " << r.ms << ", \"error\": " << r.error << ", \"ratio_to_finufft\": ";
        if (r.peers.empty())
            o << "null";
        else
            o << r.peers[0].first / r.ms;
        if (r.bart)
            o << ", \"bart_milliseconds\": " << r.bart->first << ", \"bart_error\": " << r.bart->second
              << ", \"ratio_to_bart\": " << r.bart->first / r.ms;
        if (std::isfinite(r.gain))
            o << ", \"gain_over_one_thread\": " << r.gain;
        o << ", \"size\": " << r.size << ", \"spokes\": " << r.spokes << ", \"peers\": [";
        for (std::size_t p = 0; p < r.peers.size(); p++)
            o << (p ? ", " : "") << "{\"milliseconds\": " << r.peers[p].first
              << ", \"error\": " << r.peers[p].second << ", \"ratio\": " << r.peers[p].first / r.ms << "}";
        o << "]}" << (i + 1 < rows.size() ? "," : "") << "\n";
    }
    o << "  ]\n}\n";
    return o.str();
}

constexpr double tolerance = 5e-4;

Row run(Case& c, bool adjoint, int coils, int threads, mri::Isa isa,
        std::vector<std::unique_ptr<Finufft>>& libs, double seconds) {
    mri::processor::select(isa);
    mri::Nufft nufft(c.size, c.size, {.tolerance = tolerance, .threads = threads});
    auto ours = [&](int f) {
        nufft.set_points(c.kxy[std::size_t(f % Case::frames)]);
        if (adjoint)
            nufft.adjoint(c.kspace.data(), c.weights, c.images_out.data(), coils);
        else
            nufft.forward(c.images.data(), c.kspace_out.data(), coils);
    };
    auto error = [&] {
        return adjoint ? relative_error(c.images_out, c.exact_image)
                       : relative_error(c.kspace_out, c.exact_samples);
    };
    std::vector<cfloat> weighted = c.kspace;
    for (std::size_t i = 0; i < weighted.size(); i++)
        weighted[i] *= c.weights[i % c.points()];

    Row row{c.name,
            adjoint ? "adjoint" : "forward",
            coils,
            threads,
            0,
            0,
            std::string(mri::processor::name(isa)),
            c.size,
            c.spokes,
            {},
            {},
            NAN};
    ours(0);
    row.error = error();
    std::vector<std::function<void(int)>> contenders{ours};
    std::vector<std::pair<Finufft*, Finufft::Plan>> plans;
    for (auto& lib : libs) {
        // the fastest settings that keep the tolerance
        double best = 1e30, best_error = 0;
        Finufft::Plan best_plan = nullptr;
        // Planning and trying 32 settings on many coils would take longer than the race.
        static std::map<std::tuple<std::string, std::string, bool, int>, Finufft::Settings> known;
        const auto key = std::tuple(lib->path, c.name, adjoint, threads);
        if (coils > 8 && known.count(key)) {
            best_plan = lib->make(c, adjoint, coils, threads, known[key]);
            lib->frame(best_plan, c, 0, adjoint, weighted);
            best_error = error();
        } else
            for (double upsampling : {1.25, 2.0})
                for (float eps : {1e-3f, 5e-4f, 2e-4f, 1e-4f}) {
                    bool kept = false;
                    for (int batch : {1, 0})
                        for (int sort : {0, 1})
                            for (int effort : {64, 0}) { // FFTW_ESTIMATE, FFTW_MEASURE
                                Finufft::Plan plan = lib->make(c, adjoint, coils, threads,
                                                               {eps, upsampling, batch, sort, effort});
                                if (!plan)
                                    continue;
                                lib->frame(plan, c, 0, adjoint, weighted);
                                double e = error();
                                if (!(e <= tolerance)) {
                                    lib->destroy(plan);
                                    continue;
                                }
                                kept = true;
                                double t = race({[&](int f) { lib->frame(plan, c, f, adjoint, weighted); }},
                                                0.02)[0];
                                if (t < best) {
                                    if (best_plan)
                                        lib->destroy(best_plan);
                                    best = t;
                                    best_error = e;
                                    best_plan = plan;
                                    known[key] = {eps, upsampling, batch, sort, effort};
                                } else {
                                    lib->destroy(plan);
                                }
                            }
                    if (kept) // smaller eps only costs more
                        break;
                }
        if (!best_plan)
            continue;
        plans.emplace_back(lib.get(), best_plan);
        row.peers.emplace_back(best, best_error);
        contenders.push_back(
            [&, l = lib.get(), best_plan](int f) { l->frame(best_plan, c, f, adjoint, weighted); });
    }
    auto times = race(contenders, seconds);
    row.ms = times[0];
    for (std::size_t i = 0; i < row.peers.size(); i++)
        row.peers[i].first = times[i + 1];
    for (auto [lib, plan] : plans)
        lib->destroy(plan);
    return row;
}

void write_cfl(const std::string& path, std::vector<std::size_t> sizes, const std::vector<cfloat>& values) {
    sizes.resize(16, 1);
    std::ofstream header(path + ".hdr");
    header << "# Dimensions\n";
    for (const std::size_t size : sizes)
        header << size << ' ';
    header << '\n';
    std::ofstream(path + ".cfl", std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(cfloat)));
}

/// Milliseconds a frame and error of `bart nufft`; nothing when it does not run.
std::optional<std::pair<double, double>> run_bart(const Case& c, bool adjoint, int coils, int threads) {
    const mri::test::TempDir temporary;
    const std::string folder = temporary.path();
    const std::size_t samples = static_cast<std::size_t>(c.samples),
                      spokes = static_cast<std::size_t>(c.spokes), n = static_cast<std::size_t>(c.size),
                      all = static_cast<std::size_t>(coils);
    const std::string at =
        "cd '" + folder + "' && OMP_NUM_THREADS=" + std::to_string(threads) + " bart nufft ";
    const auto seconds_of = [&](std::size_t frames) {
        std::vector<cfloat> points, data;
        for (std::size_t f = 0; f < frames; ++f) {
            const auto& k = c.kxy[f % Case::frames];
            for (std::size_t i = 0; i < k.size(); i += 2)
                points.insert(points.end(), {k[i], k[i + 1], 0});
            const auto& from = adjoint ? c.kspace : c.images;
            const std::size_t count = all * (adjoint ? c.points() : c.pixels());
            data.insert(data.end(), from.begin(), from.begin() + static_cast<std::ptrdiff_t>(count));
            if (adjoint)
                for (std::size_t i = 0; i < count; ++i)
                    data[f * count + i] *= c.weights[i % c.points()];
        }
        write_cfl(folder + "/points", {3, samples, spokes, 1, 1, 1, 1, 1, 1, 1, frames}, points);
        if (adjoint)
            write_cfl(folder + "/in", {1, samples, spokes, all, 1, 1, 1, 1, 1, 1, frames}, data);
        else
            write_cfl(folder + "/in", {n, n, 1, all, 1, 1, 1, 1, 1, 1, frames}, data);
        const std::string size = std::to_string(n);
        const std::string command =
            at + (adjoint ? "-a -d" + size + ":" + size + ":1 " : std::string()) + "points in out >log 2>&1";
        const double begin = mri::bench::now();
        const bool well = std::system(command.c_str()) == 0;
        return well ? mri::bench::now() - begin : NAN;
    };
    std::vector<double> times;
    for (int k = 0; k < 3; ++k)
        times.push_back((seconds_of(6) - seconds_of(1)) / 5);
    std::vector<cfloat> first(adjoint ? c.pixels() : c.points());
    std::ifstream(folder + "/out.cfl", std::ios::binary)
        .read(reinterpret_cast<char*>(first.data()),
              static_cast<std::streamsize>(first.size() * sizeof(cfloat)));
    for (cfloat& value : first) // its transforms are divided by the root of the pixels
        value *= static_cast<float>(n);
    const double ms = mri::bench::median(times);
    if (!std::isfinite(ms))
        return std::nullopt;
    return std::pair(ms,
                     adjoint ? relative_error(first, c.exact_image) : relative_error(first, c.exact_samples));
}

} // namespace

int main(int argc, char** argv) {
    double seconds = 1;
    bool quick = false, bart = false;
    for (int i = 1; i < argc; i++) {
        std::string arg = argv[i];
        if (arg == "--seconds" && i + 1 < argc)
            seconds = std::atof(argv[++i]);
        else if (arg == "--quick")
            quick = true;
        else if (arg == "--bart")
            bart = true;
        else {
            std::fprintf(stderr, "usage: bench_gridding [--seconds S] [--quick] [--bart]\n");
            return 2;
        }
    }
    std::vector<std::unique_ptr<Finufft>> libs;
    std::vector<std::string> names;
    if (const char* prefixes = std::getenv("FINUFFT_PREFIX")) {
        std::istringstream list(prefixes);
        for (std::string prefix; std::getline(list, prefix, ':');)
            if (auto lib = Finufft::open(prefix)) {
                names.push_back(lib->path);
                libs.push_back(std::move(lib));
            }
    }
    if (libs.empty())
        std::printf("FINUFFT_PREFIX names no FINUFFT: our times alone\n");
    for (std::size_t i = 0; i < names.size(); i++)
        std::printf("FINUFFT %zu: %s, %s\n", i + 1, build_of(names[i]).c_str(), names[i].c_str());

    std::printf("%-6s %5s %7s %-8s %-8s %9s %9s", "case", "coils", "threads", "isa", "what", "ms", "error");
    for (std::size_t i = 0; i < libs.size(); i++)
        std::printf(" %8s%zu %8s %6s", "FINUFFT", i + 1, "error", "ratio");
    std::printf("%s %8s\n", bart ? "      BART    error  ratio" : "", "gain");
    std::vector<Row> rows;
    auto best = mri::processor::selected();
    auto add = [&](Case& c, int coils, int threads, mri::Isa isa, bool peers) {
        std::vector<std::unique_ptr<Finufft>> none;
        for (bool adjoint : {true, false}) {
            auto& r = rows.emplace_back(run(c, adjoint, coils, threads, isa, peers ? libs : none, seconds));
            if (bart && peers)
                r.bart = run_bart(c, adjoint, coils, threads);
            for (const Row& one : rows)
                if (threads > 1 && one.threads == 1 && one.what == r.what && one.coils == coils &&
                    one.direction == r.direction && one.isa == r.isa)
                    r.gain = one.ms / r.ms;
            std::printf("%-6s %5d %7d %-8s %-8s %9.4f %9.2e", r.what.c_str(), coils, threads, r.isa.c_str(),
                        r.direction.c_str(), r.ms, r.error);
            for (auto [ms, error] : r.peers)
                std::printf(" %9.4f %8.2e %6.2f", ms, error, ms / r.ms);
            if (r.bart)
                std::printf(" %9.2f %8.2e %6.1f", r.bart->first, r.bart->second, r.bart->first / r.ms);
            if (std::isfinite(r.gain))
                std::printf(" %8.2f", r.gain);
            std::printf("\n");
            std::fflush(stdout);
        }
    };
    struct Workload {
        const char* name;
        int size, spokes, samples;
    };
    for (const Workload& w : {Workload{"W1", 192, 15, 384}, {"W1b", 192, 15, 192}, {"W2", 256, 34, 512}}) {
        Case c(w.name, w.size, w.spokes, w.samples);
        for (const int coils : quick ? std::vector{1, 16} : std::vector{1, 8, 16, 32})
            for (const int threads : {1, 2})
                add(c, coils, threads, best, true);
        if (quick)
            break;
    }
    if (!quick) {
        Case w1("W1", 192, 15, 384);
        for (auto isa : mri::processor::available())
            if (isa != best)
                add(w1, 16, 1, isa, false);
    }
    // One thing grows, the others stay: 8 coils, 15 spokes of twice the size, 192 pixels.
    for (const int spokes : quick ? std::vector{15, 60} : std::vector{5, 15, 30, 60, 120, 240}) {
        Case c("spokes", 192, spokes, 384);
        add(c, 8, 1, best, false);
    }
    for (const int size : quick ? std::vector{128, 256} : std::vector{64, 128, 192, 256, 320, 384, 512}) {
        Case c("size", size, 15, 2 * size);
        add(c, 8, 1, best, false);
    }
    {
        Case c("coils", 192, 15, 384);
        for (const int coils : quick ? std::vector{1, 8} : std::vector{1, 2, 4, 8, 16, 32})
            add(c, coils, 1, best, false);
    }
    mri::processor::select(best);
    std::ofstream file("gridding.json");
    file << json(rows, names);
    return file.flush() ? 0 : 1;
}
