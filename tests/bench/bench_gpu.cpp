// SPDX-License-Identifier: LGPL-2.1-or-later
// The transform on a CUDA device, and the networks there beside the processor: what ./dev gpu-check prints. Needs neither
// GStreamer nor CLI11. Usage: bench_gpu [--json FILE]
#include "plugins/math/base/error.hpp"
#include "plugins/math/sampling/density.hpp"
#include "plugins/math/sampling/trajectory.hpp"
#include "plugins/math/transform/cuda/backend.hpp"
#include "plugins/math/transform/cuda/cuda_nufft.hpp"

#ifdef MRI_HAVE_TORCH
#include "models/cascade/cascade.hpp"
#include "models/causal_unet/causal_unet.hpp"
#include "models/crnn/crnn.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/unet/unet.hpp"
#endif

#include <algorithm>
#include <chrono>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

using namespace mri;

namespace {

using cfloat = std::complex<float>;

struct Case {
    const char* name;
    int size, spokes, samples;
};
constexpr Case cases[] = {{"15 x 384 on 192 x 192", 192, 15, 384}, {"402 x 512 on 256 x 256", 256, 402, 512}};
constexpr int coil_counts[] = {1, 8, 16, 32};

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                     values.end());
    return values[values.size() / 2];
}

std::vector<cfloat> randoms(std::size_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> value(-1, 1);
    std::vector<cfloat> out(count);
    for (cfloat& v : out) {
        const float re = value(engine);
        v = {re, value(engine)};
    }
    return out;
}

std::vector<float> radial(const Case& c, int first = 0) {
    std::vector<float> kxy(std::size_t{2} * static_cast<std::size_t>(c.spokes) *
                           static_cast<std::size_t>(c.samples));
    for (int s = 0; s < c.spokes; ++s)
        radial_spoke(
            spoke_angle(AngleScheme::tiny_golden, 7, static_cast<std::uint64_t>(first + s), c.spokes),
            c.samples, c.size,
            kxy.data() + std::size_t{2} * static_cast<std::size_t>(s) * static_cast<std::size_t>(c.samples));
    return kxy;
}

/// Medians of 20 calls after 3 that warm up: of the kernels by the device's clock, of the whole call by the host's.
struct Timing {
    double kernels = 0, call = 0; // ms
};
Timing time(CudaNufft& nufft, const std::function<void()>& call) {
    std::vector<double> kernels, calls;
    for (int i = 0; i < 23; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        call();
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
        if (i < 3)
            continue;
        kernels.push_back(nufft.kernel_milliseconds());
        calls.push_back(took.count());
    }
    return {median(kernels), median(calls)};
}

class Report {
  public:
    void add(const std::string& json) { rows_.push_back(json); }
    bool write(const char* path, const std::string& device) const {
        std::ofstream file(path);
        file << "{\"device\": \"" << device << "\", \"rows\": [\n";
        for (std::size_t i = 0; i < rows_.size(); ++i)
            file << "  " << rows_[i] << (i + 1 < rows_.size() ? ",\n" : "\n");
        file << "]}\n";
        return static_cast<bool>(file.flush());
    }

  private:
    std::vector<std::string> rows_;
};

template <class... Args>
std::string text(const char* format, Args... args) {
    char out[512];
    std::snprintf(out, sizeof out, format, args...);
    return out;
}

void transforms(Report& report, bool device) {
    std::printf("%-24s %5s %-8s %10s %10s %9s %9s %9s %9s\n", "transform", "coils", "", "kernels ms",
                "call ms", "MB", "GB/s", "Mflop", "Gflop/s");
    for (const Case& c : cases) {
        const cuda::Design design = cuda::design(c.size, c.size, 5e-4);
        const std::vector<float> kxy = radial(c);
        const std::size_t points = kxy.size() / 2;
        std::vector<float> weights(points);
        ramp_weights(kxy, c.samples, c.spokes, weights.data());
        for (const int coils : coil_counts)
            for (const bool forward : {false, true}) {
                const cuda::Work work = forward ? cuda::forward_work(design, points, coils)
                                                : cuda::adjoint_work(design, points, coils);
                const char* direction = forward ? "forward" : "adjoint";
                const std::string head = text("%-24s %5d %-8s", c.name, coils, direction);
                const std::string name =
                    text("{\"transform\": \"%s\", \"coils\": %d, \"direction\": \"%s\", \"bytes\": %.0f, "
                         "\"flops\": %.0f, ",
                         c.name, coils, direction, work.bytes, work.flops);
                if (!device) {
                    std::printf("%s %10s %10s %9.1f %9s %9.0f %9s\n", head.c_str(), "no device", "",
                                work.bytes / 1e6, "", work.flops / 1e6, "");
                    report.add(name + "\"milliseconds\": null}");
                    continue;
                }
                CudaNufft nufft(c.size, c.size);
                nufft.set_points(kxy);
                std::vector<cfloat> samples = randoms(points * static_cast<std::size_t>(coils), 1);
                std::vector<cfloat> images =
                    randoms(static_cast<std::size_t>(c.size) * static_cast<std::size_t>(c.size * coils), 2);
                const Timing t = time(nufft, [&] {
                    if (forward)
                        nufft.forward(images.data(), samples.data(), coils);
                    else
                        nufft.adjoint(samples.data(), weights, images.data(), coils);
                });
                std::printf("%s %10.3f %10.3f %9.1f %9.0f %9.0f %9.0f\n", head.c_str(), t.kernels, t.call,
                            work.bytes / 1e6, work.bytes / t.kernels / 1e6, work.flops / 1e6,
                            work.flops / t.kernels / 1e6);
                report.add(name +
                           text("\"milliseconds\": %.4f, \"call_milliseconds\": %.4f}", t.kernels, t.call));
            }
    }
}

#ifdef MRI_HAVE_TORCH
constexpr WindowShape shape{20, 128, 128};

std::vector<float> magnitudes() {
    std::vector<float> out;
    for (const cfloat& v : randoms(shape.count(), 3))
        out.push_back(std::abs(v));
    return out;
}

/// A window of a scan of 13 spokes a frame, as the cascades take it.
struct Scan {
    Scan() {
        constexpr Case c{"", shape.width, 13, 2 * shape.width};
        for (int t = 0; t < shape.frames; ++t) {
            kxy.push_back(radial(c, t * c.spokes));
            data.push_back(randoms(kxy.back().size() / 2, static_cast<unsigned>(10 + t)));
            areas.emplace_back(data.back().size());
            clipped_ramp_weights(kxy.back(), c.samples, c.spokes, areas.back().data());
        }
        for (std::size_t t = 0; t < kxy.size(); ++t)
            frames.push_back({kxy[t], data[t], areas[t]});
        start = randoms(shape.count(), 4);
    }
    SampledWindow window() const { return {start, frames, 1, {}}; }
    std::vector<std::vector<float>> kxy, areas;
    std::vector<std::vector<cfloat>> data;
    std::vector<SampledFrame> frames;
    std::vector<cfloat> start;
};

struct Made {
    double seconds = 0;
    std::vector<float> values;
};

std::vector<float> parts(const std::vector<cfloat>& values) {
    const auto* first = reinterpret_cast<const float*>(values.data());
    return {first, first + 2 * values.size()};
}

template <class Network, class Run>
Made make(Network network, Run run) {
    Made made;
    made.seconds = network.warm_up(shape);
    made.values = run(network);
    return made;
}

void networks(Report& report, bool device) {
    std::printf("\n%-28s %10s %10s %12s   (%d x %d x %d, float32)\n", "network", "cpu s", "cuda s",
                "difference", shape.width, shape.height, shape.frames);
    const std::vector<float> input = magnitudes();
    const Scan scan;
    const auto of_file = [&](const std::string& name) {
        return read_weights(std::string(MRI_MODELS_FOLDER) + "/weights/" + name);
    };
    TensorFile crnn =
        read_safetensors(std::string(MRI_MODELS_FOLDER) + "/../tests/golden/crnn/small.safetensors");
    std::erase_if(crnn.tensors, [](const auto& item) { return item.first.starts_with("golden."); });
    const auto cascade = [&](const char* name, bool causal, const RunOptions& o) {
        return make(Cascade(of_file(name), name, o), [&](Cascade& network) {
            std::vector<cfloat> out(shape.count());
            causal ? network.stream(scan.window(), out, shape) : network.run(scan.window(), out, shape);
            return parts(out);
        });
    };
    const std::pair<const char*, std::function<Made(const RunOptions&)>> all[] = {
        {"U-Net",
         [&](const RunOptions& o) {
             return make(Unet(of_file("unet.safetensors"), "unet", o), [&](Unet& network) {
                 std::vector<float> out(shape.count());
                 network.run(input, out, shape, 1.0F);
                 return out;
             });
         }},
        {"causal U-Net",
         [&](const RunOptions& o) {
             return make(CausalUnet(of_file("causal-unet.safetensors"), "causal-unet", o),
                         [&](CausalUnet& network) {
                             std::vector<float> out(shape.count());
                             network.run(input, out, shape);
                             return out;
                         });
         }},
        {"CRNN (small), radial",
         [&](const RunOptions& o) {
             return make(Crnn(crnn, "crnn", {}, o), [&](Crnn& network) {
                 std::vector<cfloat> out(shape.count());
                 network.run(scan.window(), out, shape);
                 return parts(out);
             });
         }},
        {"cascade", [&](const RunOptions& o) { return cascade("cascade.safetensors", false, o); }},
        {"causal cascade",
         [&](const RunOptions& o) { return cascade("causal-cascade.safetensors", true, o); }},
    };
    for (const auto& [name, compute] : all) {
        const Made host = compute({"cpu", Precision::float32, 0});
        const std::string head = text("{\"network\": \"%s\", \"cpu_seconds\": %.4f, ", name, host.seconds);
        if (!device) {
            std::printf("%-28s %10.3f %10s\n", name, host.seconds, "no device");
            report.add(head + "\"cuda_seconds\": null}");
            continue;
        }
        try {
            const Made gpu = compute({"cuda", Precision::float32, 0});
            double error = 0, power = 0;
            for (std::size_t i = 0; i < host.values.size(); ++i) {
                error += std::pow(static_cast<double>(gpu.values[i]) - host.values[i], 2);
                power += std::pow(static_cast<double>(host.values[i]), 2);
            }
            const double difference = std::sqrt(error / power);
            std::printf("%-28s %10.3f %10.3f %12.1e\n", name, host.seconds, gpu.seconds, difference);
            report.add(head + text("\"cuda_seconds\": %.4f, \"difference\": %.3e}", gpu.seconds, difference));
        } catch (const Error& e) {
            if (e.code() != Errc::no_device)
                throw;
            // A GPU for the transform and a LibTorch without CUDA.
            std::printf("%-28s %10.3f %10s   %s\n", name, host.seconds, "none", e.what());
            report.add(head + "\"cuda_seconds\": null}");
        }
    }
}
#endif

int run(const char* json) {
    std::string why;
    const bool device = CudaNufft::devices(&why) > 0;
    const std::string name = device ? CudaNufft(16, 16).device() : "none: " + why;
    std::printf("device: %s\n\n", name.c_str());
    Report report;
    transforms(report, device);
#ifdef MRI_HAVE_TORCH
    networks(report, device);
#else
    std::printf("\nnetworks: this build is without LibTorch\n");
#endif
    if (json && !report.write(json, name)) {
        std::fprintf(stderr, "bench_gpu: '%s' cannot be written\n", json);
        return 1;
    }
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    const char* json = nullptr;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            json = argv[++i];
            continue;
        }
        std::fprintf(stderr, "usage: bench_gpu [--json FILE]\n");
        return 2;
    }
    try {
        return run(json);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench_gpu: %s\n", e.what());
        return 1;
    }
}
