// SPDX-License-Identifier: LGPL-2.1-or-later
// How long after a frame's last readout its picture is there, at the scanner's pace. Leaves live.json in the
// current folder.
//
// The phantom is scanned beforehand (13 spokes, TR 3 ms, 8 coils and one, readouts oversampled twice); its
// readouts are then pushed one each TR into a pipeline of mriframer and the chain that is measured, which has
// a thread of its own. A picture's latency runs from the push of its frame's last readout to its arrival at
// the sink; it is late when the next frame is complete by then. The first frames, with all first-time work,
// are not counted. --chain adds chains to those that are there.
#include "models/files/weights.hpp"
#include "pipelines/launcher/table.hpp"
#include "plugins/common/metas.hpp"
#include "tests/bench/feed.hpp"
#include "tests/bench/race.hpp"
#include "tests/bench/report.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>

namespace {

using namespace mri;
using bench::Fields;
using bench::fixed;
using bench::Item;

constexpr int spokes = 13;
constexpr double tr_ms = 3;
constexpr int compressed = 4;     // virtual coils
constexpr int first_counted = 60; // frames: three windows

struct Options {
    std::string weights = "unet.safetensors";
    std::string causal_weights = "causal-unet.safetensors";
    std::vector<std::string> cascade_weights{"causal-cascade.safetensors", "causal-cascade-5.safetensors"};
    int coils = 8;
    int threads = 0;
    int frames = 360;
    std::vector<std::string> more; // name=elements
};

/// What follows mriframer.
struct Chain {
    std::string name;
    std::string elements;
    int coils = 1;
    std::string missing; // why it cannot be run
};

struct Latency {
    std::vector<double> ms; // of the frames that came, sorted
    std::size_t expected = 0;

    double share(double part) const {
        if (ms.empty())
            return NAN;
        const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(ms.size())));
        return ms[std::max<std::size_t>(rank, 1) - 1];
    }
    std::size_t late() const {
        return static_cast<std::size_t>(
            std::count_if(ms.begin(), ms.end(), [](double value) { return value > spokes * tr_ms; }));
    }
    std::size_t dropped() const { return expected - ms.size(); }
};

std::vector<Item> scan(const Options& o, int coils) {
    std::vector<Item> readouts;
    bench::run_line("mriphantomsrc width=192 height=192 framerate=1000/39 frames=" +
                        std::to_string(o.frames) + " ! mrisim spokes=" + std::to_string(spokes) +
                        " coils=" + std::to_string(coils) + " oversampling=2 snr=30 alignment=readout",
                    [&](const Item& item) { readouts.push_back(item); });
    if (readouts.size() != static_cast<std::size_t>(o.frames * spokes))
        throw Error(Errc::failed, "The scan has " + std::to_string(readouts.size()) + " readouts, not " +
                                      std::to_string(o.frames * spokes));
    return readouts;
}

/// When pictures came, by their time stamps; filled on the streaming thread.
struct Arrivals {
    std::mutex mutex; // guards at
    std::map<GstClockTime, double> at;

    static void handoff(GstElement*, GstBuffer* buffer, GstPad*, gpointer self_) {
        auto& self = *static_cast<Arrivals*>(self_);
        const double now = bench::now();
        const std::lock_guard lock(self.mutex);
        self.at.emplace(GST_BUFFER_PTS(buffer), now);
    }
};

Latency measure(const Chain& chain, const std::vector<Item>& readouts) {
    const std::string line = "appsrc name=scanner is-live=true format=time max-bytes=0 ! "
                             "queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! mriframer ! " +
                             chain.elements + " ! fakesink name=end sync=false signal-handoffs=true";
    GError* problem = nullptr;
    GstElement* built = gst_parse_launch_full(line.c_str(), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &problem);
    const GErrorPtr reason(problem);
    if (!built)
        throw Error(Errc::settings, "The chain '" + chain.name +
                                        "' cannot be built: " + (reason ? reason->message : "unknown"));
    const auto pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(built)));
    auto source = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "scanner"));
    auto sink = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "end"));
    Arrivals arrivals;
    g_signal_connect(sink.get(), "handoff", G_CALLBACK(Arrivals::handoff), &arrivals);
    struct Stop {
        GstElement* pipeline;
        ~Stop() { gst_element_set_state(pipeline, GST_STATE_NULL); }
    } stop{pipeline.get()};
    auto bus = adopt(gst_element_get_bus(pipeline.get()));
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);

    std::map<GstClockTime, double> complete; // by the frame's time stamp, which is its first readout's
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < readouts.size(); ++i) {
        // A readout is there when it has been acquired.
        std::this_thread::sleep_until(
            begin + std::chrono::duration_cast<Clock::duration>(
                        std::chrono::duration<double, std::milli>(static_cast<double>(i + 1) * tr_ms)));
        if (i % spokes == spokes - 1)
            complete[GST_BUFFER_PTS(readouts[i + 1 - spokes].buffer.get())] = bench::now();
        auto sample =
            adopt(gst_sample_new(readouts[i].buffer.get(), readouts[i].caps.get(), nullptr, nullptr));
        GstFlowReturn flow = GST_FLOW_OK;
        g_signal_emit_by_name(source.get(), "push-sample", sample.get(), &flow);
        if (flow != GST_FLOW_OK)
            break; // the bus says why
    }
    GstFlowReturn flow = GST_FLOW_OK;
    g_signal_emit_by_name(source.get(), "end-of-stream", &flow);
    auto last = adopt(gst_bus_timed_pop_filtered(
        bus.get(), 60 * GST_SECOND, static_cast<GstMessageType>(GST_MESSAGE_EOS | GST_MESSAGE_ERROR)));
    if (!last)
        throw Error(Errc::failed, "The chain '" + chain.name + "' did not end");
    if (GST_MESSAGE_TYPE(last.get()) == GST_MESSAGE_ERROR) {
        gst_message_parse_error(last.get(), &problem, nullptr);
        const GErrorPtr error(problem);
        throw Error(Errc::failed, "The chain '" + chain.name + "' failed: " + error->message);
    }

    Latency latency;
    int frame = 0;
    for (const auto& [pts, when] : complete) {
        if (frame++ < first_counted)
            continue;
        ++latency.expected;
        const auto arrived = arrivals.at.find(pts);
        if (arrived != arrivals.at.end())
            latency.ms.push_back(arrived->second - when);
    }
    std::sort(latency.ms.begin(), latency.ms.end());
    return latency;
}

std::string why_missing(const std::string& weights) {
    try {
        const std::string path = find_weights(weights);
        return std::filesystem::exists(path) ? "" : "'" + path + "' does not exist";
    } catch (const Error& error) {
        return error.what();
    }
}

std::vector<Chain> chains(const Options& o) {
    const std::string threads = " threads=" + std::to_string(o.threads);
    const std::string grid = "mrigrid background=20" + threads + " ! mricrop width=128 height=128";
    std::vector<Chain> all{{"windows of 20: mrirecon, U-Net",
                            "mrirecon window=20" + threads +
                                " ! mricrop width=128 height=128 ! queue ! mriunet window=20 weights=\"" +
                                o.weights + "\"" + threads,
                            o.coils, why_missing(o.weights)},
                           {"causal: mrigrid background=20 alone", grid, o.coils, ""},
                           {"causal: mrigrid background=20, causal U-Net",
                            grid + " ! mriunet weights=\"" + o.causal_weights + "\"" + threads, o.coils,
                            why_missing(o.causal_weights)}};
    for (const std::string& weights : o.cascade_weights) {
        const auto add = [&](int coils, bool compress) {
            const std::string before =
                compress ? "mricompress coils=" + std::to_string(compressed) + " ! " : "";
            all.push_back(
                {"causal: " + before + "mrigrid background=20, " +
                     std::filesystem::path(weights).stem().string(),
                 before +
                     "mrigrid background=20 combine=adaptive attach-kspace=true attach-sensitivities=true" +
                     threads + " ! queue ! mricascade weights=\"" + weights + "\"" + threads,
                 coils, why_missing(weights)});
        };
        add(1, false);
        if (o.coils > compressed)
            add(o.coils, true);
        if (o.coils > 1)
            add(o.coils, false);
    }
    for (const std::string& text : o.more) {
        const auto equals = text.find('=');
        if (equals == std::string::npos || equals == 0)
            throw Error(Errc::settings, "--chain wants NAME=ELEMENTS, not '" + text + "'");
        all.push_back({text.substr(0, equals), text.substr(equals + 1), o.coils, ""});
    }
    return all;
}

Options parse(int argc, char** argv) {
    CLI::App app(
        "Last readout to picture at the scanner's pace: a table, and live.json in the current folder");
    Options o;
    bool quick = false;
    app.add_option("--weights", o.weights, "Weights of the windowed U-Net")->capture_default_str();
    app.add_option("--causal-weights", o.causal_weights, "Weights of the causal U-Net")
        ->capture_default_str();
    app.add_option("--cascade-weights", o.cascade_weights, "Weights of causal cascades")
        ->capture_default_str();
    app.add_option("--coils", o.coils, "Receive coils")->check(CLI::Range(1, 64))->capture_default_str();
    app.add_option("--threads", o.threads, "Threads of reconstruction and network (0: one per core)")
        ->check(CLI::Range(0, 256));
    app.add_option("--frames", o.frames, "Frames of the scan; the first 60 are not counted")
        ->check(CLI::Range(first_counted + 1, 100000))
        ->capture_default_str();
    app.add_option("--chain", o.more,
                   "Another chain, NAME=ELEMENTS, a launch line from frames of k-space to pictures");
    app.add_flag("--quick", quick, "Shorter and less exact");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error) == 0 ? 0 : 2);
    }
    if (quick)
        o.frames = first_counted + 40;
    return o;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const Options options = parse(argc, argv);
        gst_init(nullptr, nullptr);
        const auto all = chains(options);
        std::map<int, std::vector<Item>> scans; // by the coils
        std::vector<std::vector<std::string>> rows;
        std::vector<Fields> fields;
        for (const Chain& chain : all) {
            if (!chain.missing.empty()) {
                std::cout << "left out: " << chain.name << ": " << chain.missing << "\n";
                continue;
            }
            std::vector<Item>& readouts = scans[chain.coils];
            if (readouts.empty())
                readouts = scan(options, chain.coils);
            const Latency l = measure(chain, readouts);
            rows.push_back({chain.name, std::to_string(chain.coils), fixed(l.share(0.5), 1),
                            fixed(l.share(0.99), 1), fixed(l.share(1), 1), std::to_string(l.late()),
                            std::to_string(l.dropped())});
            fields.push_back(Fields()
                                 .add("chain", chain.name)
                                 .add("elements", chain.elements)
                                 .add("coils", chain.coils)
                                 .add("median_milliseconds", l.share(0.5))
                                 .add("percentile_99_milliseconds", l.share(0.99))
                                 .add("longest_milliseconds", l.share(1))
                                 .add("frames", static_cast<double>(l.expected))
                                 .add("late", static_cast<double>(l.late()))
                                 .add("dropped", static_cast<double>(l.dropped())));
        }
        std::cout << "\nLast readout to picture, ms; " << options.frames - first_counted << " frames of "
                  << spokes << " spokes x 384 samples; late: above the " << fixed(spokes * tr_ms, 0)
                  << " ms of a frame\n"
                  << format_table({"chain", "coils", "median", "99 %", "longest", "late", "dropped"}, rows)
                  << std::flush;
        Fields().add("frame_milliseconds", spokes * tr_ms).add("chains", fields).save("live.json");
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "bench_live: " << error.what() << "\n";
        return 1;
    }
}
