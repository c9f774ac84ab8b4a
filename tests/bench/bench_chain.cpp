// SPDX-License-Identifier: LGPL-2.1-or-later
// What the live chain costs: a scan of the phantom with 13 spokes, 8 coils and readouts oversampled twice,
// through framing, reconstruction, network and video. Leaves chain.json in the current folder.
//
// Stages: milliseconds a frame inside each element, all of them in one thread, so that no stage waits for
// another's processor; the first window, with all first-time work, is left out. Rates: readouts a second that
// a source can deliver. Share: the same frames through mriframer ! mrigrid and through the library's own
// calls, in turns; medians; the images have to be the same to the bit.
#include "pipelines/launcher/stage_times.hpp"
#include "pipelines/launcher/table.hpp"
#include "plugins/common/kspace_frame.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/math/recon/reconstruct.hpp"
#include "tests/bench/feed.hpp"
#include "tests/bench/race.hpp"
#include "tests/bench/report.hpp"
#ifdef MRI_HAVE_ISMRMRD
#include "tests/support/ismrmrd_files.hpp"
#endif

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>

namespace {

using namespace mri;
using bench::Feed;
using bench::Fields;
using bench::fixed;
using bench::Item;

constexpr int window = 20; // frames that mrirecon and the network take together
constexpr int spokes = 13;
constexpr double tr_ms = 3;

struct Options {
    std::string weights = "unet.safetensors";
    bool no_network = false;
    int threads = 0;
    int windows = 5;
    double seconds = 3; // for each contender of the share
};

std::string phantom(int frames) {
    return "mriphantomsrc frames=" + std::to_string(frames) + " width=192 height=192 framerate=1000/39";
}

std::string scanner(int coils, int oversampling) {
    return "mrisim spokes=" + std::to_string(spokes) + " coils=" + std::to_string(coils) +
           " oversampling=" + std::to_string(oversampling) + " snr=30";
}

std::vector<Item> collect(const std::string& line) {
    std::vector<Item> items;
    bench::run_line(line, [&](const Item& item) { items.push_back(item); });
    return items;
}

// --- stages
// -----------------------------------------------------------------------------------------------------

struct ChainTimes {
    double frames_a_second = 0;
    std::vector<StageTimes::Stage> stages; // their times are those of `frames`
    int frames = 0;
};

/// Runs the chain for one window more than `windows`. `link` stands between the elements.
ChainTimes run_chain(const Options& o, const std::string& link) {
    const std::string threads = " threads=" + std::to_string(o.threads);
    std::string line = phantom(window * (o.windows + 1)) + link + scanner(8, 2) + " alignment=readout" +
                       link + "mriframer" + link + "mrirecon window=" + std::to_string(window) + threads +
                       link + "mricrop width=128 height=128";
    if (!o.no_network)
        line += link + "mriunet weights=\"" + o.weights + "\" window=" + std::to_string(window) + threads;
    line += link + "mrivideo scale=2";

    int frames = 0;
    double begin = 0, end = 0;
    std::vector<StageTimes::Stage> before, after;
    bench::run_line(line, [&](const Item&) {
        ++frames;
        if (frames != window && frames != window * (o.windows + 1))
            return;
        (frames == window ? before : after) = StageTimes::install().stages();
        (frames == window ? begin : end) = bench::now();
    });
    if (frames != window * (o.windows + 1))
        throw Error(Errc::failed, "Of " + std::to_string(window * (o.windows + 1)) + " frames " +
                                      std::to_string(frames) + " came out of the chain");
    ChainTimes times;
    times.frames = window * o.windows;
    times.frames_a_second = 1000 * times.frames / (end - begin);
    std::map<std::string, StageTimes::Stage> first;
    for (const auto& stage : before)
        first[stage.name] = stage;
    for (auto stage : after) {
        const auto& was = first[stage.name];
        stage.wall -= was.wall;
        stage.cpu -= was.cpu;
        if (stage.buffers_in + stage.buffers_out > was.buffers_in + was.buffers_out)
            times.stages.push_back(stage);
    }
    return times;
}

void measure_stages(const Options& o, Fields& json) {
    StageTimes::install();
    const auto times = run_chain(o, " ! ");
    std::vector<std::vector<std::string>> rows;
    std::vector<Fields> fields;
    double whole = 0; // of what runs at the scanner: not the phantom, not the simulated scanner
    for (const auto& stage : times.stages) {
        if (stage.name == "benchmark-end")
            continue;
        // No call from upstream encloses a source: it has processor time alone.
        const bool source = stage.buffers_in == 0;
        const double wall = static_cast<double>(source ? stage.cpu : stage.wall) / 1e6 / times.frames;
        const std::string name = stage.name.substr(0, stage.name.find_last_not_of("0123456789") + 1);
        if (name != "mriphantomsrc" && name != "mrisim")
            whole += wall;
        rows.push_back({name, fixed(wall, 3)});
        fields.push_back(Fields().add("stage", name).add("milliseconds", wall));
    }
    rows.push_back({"from mriframer to the end", fixed(whole, 3)});
    rows.push_back({"time to scan a frame", fixed(spokes * tr_ms, 3)});
    const auto queued =
        run_chain(o, " ! queue max-size-buffers=0 max-size-bytes=67108864 max-size-time=0 ! ");
    std::cout << "\nStages of the live chain, " << times.frames << " frames"
              << (o.no_network ? ", no network" : "") << "\n"
              << format_table({"stage", "ms a frame"}, rows)
              << "\nframes a second: " << fixed(times.frames_a_second, 1) << " in one thread, "
              << fixed(queued.frames_a_second, 1) << " with a queue between the stages; the scanner makes "
              << fixed(1000 / (spokes * tr_ms), 1) << "\n"
              << std::flush;
    json.add("frames", times.frames)
        .add("stages", fields)
        .add("milliseconds_a_frame", whole)
        .add("frames_a_second_one_thread", times.frames_a_second)
        .add("frames_a_second_queues", queued.frames_a_second);
}

// --- rates
// ------------------------------------------------------------------------------------------------------

/// Readouts a second that mrisim makes of images that are there already.
double rate_of_mrisim(int frames, int coils, int oversampling) {
    const auto images = collect(phantom(frames));
    std::size_t readouts = 0;
    Feed feed(scanner(coils, oversampling) + " alignment=readout", [&](const Item&) { ++readouts; });
    feed.set_caps(images.front().caps.get());
    feed.push(images.front().buffer.get());
    readouts = 0;
    const double begin = bench::now();
    for (std::size_t i = 1; i < images.size(); ++i)
        feed.push(images[i].buffer.get());
    return 1000 * static_cast<double>(readouts) / (bench::now() - begin);
}

#ifdef MRI_HAVE_ISMRMRD
/// Readouts a second of ismrmrdsrc ! mriframer, from the first frame to the last, on a file that the system
/// has in memory.
double rate_of_ismrmrdsrc(int frames, int coils, int oversampling) {
    std::vector<test::FileRow> rows;
    for (const Item& item :
         collect(phantom(frames) + " ! " + scanner(coils, oversampling) + " alignment=readout")) {
        const auto info = KspaceInfo::from_caps(item.caps.get());
        auto row = test::file_row(info.samples, info.coils, 2);
        const Readout head = readouts_of(item.buffer.get()).front();
        row.head.flags = head.flags;
        row.head.scan_counter = head.scan_counter;
        row.head.idx.repetition = head.repetition;
        row.trajectory = trajectory_of(item.buffer.get())->kxy;
        const Mapped<const cfloat> samples(item.buffer.get());
        row.data.assign(samples.span().begin(), samples.span().end());
        rows.push_back(std::move(row));
    }
    test::HeaderOptions header;
    header.encoded_width = 192 * oversampling;
    header.encoded_height = header.width = header.height = 192;
    header.fov = 300;
    header.encoded_fov = header.fov * static_cast<float>(oversampling);
    header.type = ISMRMRD::TrajectoryType::RADIAL;
    header.lines = spokes;
    header.repetitions = frames;
    const test::TempDir folder;
    test::write_ismrmrd(folder / "scan.h5", test::header_xml(header), rows);
    rows.clear();

    double begin = 0, end = 0;
    int seen = 0;
    bench::run_line("ismrmrdsrc location=\"" + folder / "scan.h5" + "\" trajectory-unit=cycles ! mriframer",
                    [&](const Item&) {
                        end = bench::now();
                        if (++seen == 1)
                            begin = end;
                    });
    if (seen != frames)
        throw Error(Errc::failed, "ismrmrdsrc ! mriframer made " + std::to_string(seen) + " frames of " +
                                      std::to_string(frames));
    return 1000.0 * (frames - 1) * spokes / (end - begin);
}
#endif

void measure_rates(const Options& o, Fields& json) {
    const int frames = 20 * o.windows;
    std::vector<std::vector<std::string>> rows;
    std::vector<Fields> fields;
    const auto add = [&](const std::string& source, double rate) {
        const double megabytes = rate * 8 * 384 * sizeof(cfloat) / 1e6;
        rows.push_back({source, fixed(rate, 0), fixed(megabytes, 0)});
        fields.push_back(Fields()
                             .add("source", source)
                             .add("readouts_a_second", rate)
                             .add("megabytes_a_second", megabytes));
    };
    add("mrisim", rate_of_mrisim(frames, 8, 2));
#ifdef MRI_HAVE_ISMRMRD
    add("ismrmrdsrc ! mriframer", rate_of_ismrmrdsrc(frames, 8, 2));
#endif
    rows.push_back({"a scanner, TR 3 ms", fixed(1000 / tr_ms, 0)});
    std::cout << "\nReadouts of 8 coils x 384 samples\n"
              << format_table({"source", "a second", "MB/s"}, rows) << std::flush;
    json.add("rates", fields);
}

// --- GStreamer's share
// ------------------------------------------------------------------------------------------

struct Share {
    double elements_ms = 0, library_ms = 0;
    double ratio() const { return elements_ms / library_ms; }
};

Share measure_share(const Options& o, int coils, int oversampling) {
    constexpr int frames = 11;
    const auto readouts =
        collect(phantom(frames) + " ! " + scanner(coils, oversampling) + " alignment=readout");
    const auto info = KspaceInfo::from_caps(readouts.front().caps.get());
    const auto first = [](int frame) { return static_cast<std::size_t>(frame % frames) * spokes; };

    std::vector<float> element_image;
    bool keep = false;
    Feed feed("mriframer ! mrigrid threads=1", [&](const Item& item) {
        if (!keep)
            return;
        const Mapped<const float> pixels(item.buffer.get());
        element_image.assign(pixels.span().begin(), pixels.span().end());
    });
    feed.set_caps(readouts.front().caps.get());
    const auto elements = [&](int frame) {
        for (std::size_t r = 0; r < spokes; ++r)
            feed.push(readouts[first(frame) + r].buffer.get());
    };

    // The readouts as an application of its own would hold them.
    struct Plain {
        std::vector<cfloat> samples; // [coil][sample]
        std::vector<float> kxy;
    };
    std::vector<Plain> plain;
    for (const Item& item : readouts) {
        const Mapped<const cfloat> samples(item.buffer.get());
        plain.push_back(
            {{samples.span().begin(), samples.span().end()}, trajectory_of(item.buffer.get())->kxy});
    }
    FrameReconstruction reconstruction(space_of(info, 5e-4, 1), Density::ramp, Combine::rss);
    const auto per_readout = static_cast<std::size_t>(info.samples);
    std::vector<cfloat> samples(per_readout * spokes * info.coils);
    std::vector<float> kxy(per_readout * spokes * 2);
    std::vector<cfloat> image(static_cast<std::size_t>(info.width) * info.height);
    std::vector<float> library_image(image.size());
    const auto library = [&](int frame) {
        for (std::size_t r = 0; r < spokes; ++r) {
            const Plain& readout = plain[first(frame) + r];
            for (std::size_t c = 0; c < static_cast<std::size_t>(info.coils); ++c)
                std::copy_n(&readout.samples[c * per_readout], per_readout,
                            &samples[(c * spokes + r) * per_readout]);
            std::copy(readout.kxy.begin(), readout.kxy.end(), &kxy[r * per_readout * 2]);
        }
        reconstruction.reconstruct({kxy, samples, {}, spokes}, image.data());
        std::transform(image.begin(), image.end(), library_image.begin(),
                       [](const cfloat& value) { return value.real(); });
    };

    keep = true;
    elements(3);
    keep = false;
    library(3);
    if (element_image != library_image)
        throw Error(Errc::failed, "Elements and library do not compute the same image");
    const auto ms = bench::race({elements, library}, o.seconds);
    return {ms[0], ms[1]};
}

void measure_shares(const Options& o, Fields& json) {
    std::vector<std::vector<std::string>> rows;
    std::vector<Fields> fields;
    for (const auto& [coils, oversampling] : {std::pair{1, 1}, {8, 2}, {16, 2}}) {
        const Share share = measure_share(o, coils, oversampling);
        rows.push_back({std::to_string(coils) + " x " + std::to_string(192 * oversampling),
                        fixed(share.elements_ms, 3), fixed(share.library_ms, 3), fixed(share.ratio(), 3)});
        fields.push_back(Fields()
                             .add("coils", coils)
                             .add("samples", 192 * oversampling)
                             .add("elements_milliseconds", share.elements_ms)
                             .add("library_milliseconds", share.library_ms)
                             .add("ratio", share.ratio()));
    }
    std::cout
        << "\nThe same frames through mriframer ! mrigrid and through the library, one thread, ms a frame\n"
        << format_table({"coils x samples", "elements", "library", "ratio"}, rows) << std::flush;
    json.add("share", fields);
}

Options parse(int argc, char** argv) {
    CLI::App app("What the live chain costs: tables, and chain.json in the current folder");
    Options o;
    bool quick = false;
    app.add_option("--weights", o.weights, "Weights of the network")->capture_default_str();
    app.add_flag("--no-network", o.no_network, "Leave the network out");
    app.add_option("--threads", o.threads, "Threads of reconstruction and network (0: one per core)")
        ->check(CLI::Range(0, 256));
    app.add_flag("--quick", quick, "Shorter and less exact");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error) == 0 ? 0 : 2);
    }
    if (quick) {
        o.windows = 1;
        o.seconds = 0.2;
    }
    return o;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const Options options = parse(argc, argv);
        gst_init(nullptr, nullptr);
        Fields json;
        measure_shares(options, json); // before hooks are in every push
        measure_rates(options, json);
        measure_stages(options, json);
        json.save("chain.json");
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "bench_chain: " << error.what() << "\n";
        return 1;
    }
}
