// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/cascade/cascade.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/math/recon/reconstruct.hpp"
#include "tests/support/network_support.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>
#include <random>

using namespace mri;
using namespace mri::test;

namespace {

using cfloat = std::complex<float>;

/// Weights in which every layer does a little.
TensorFile small_cascade(bool causal = false) {
    const CascadeOptions options{.blocks = 2, .filters = 3, .layers = 2, .causal = causal};
    TensorFile file;
    std::mt19937 engine(1);
    std::normal_distribution<float> normal(0, 0.05f);
    for (const auto& [name, shape] : cascade_tensors(options)) {
        NamedTensor tensor{shape, {}};
        for (std::size_t i = 0; i < tensor.count(); ++i)
            tensor.values.push_back(name.ends_with("eta") ? 0.9f : normal(engine));
        file.tensors[name] = tensor;
    }
    file.metadata = cascade_metadata(options);
    file.metadata["window"] = "6";
    return file;
}

struct Output {
    std::vector<cfloat> pixels, start;
    std::optional<Consistency> consistency;
    std::vector<cfloat> kspace;
    std::shared_ptr<const TrajectoryData> trajectory;
    int width = 0, height = 0, samples = 0, coils = 0;
    double noise = 0; // as the caps of its k-space say
    GstClockTime pts = 0;
    bool truth = false;
};

class MriCascade : public testing::Test {
  protected:
    MriCascade() { write_safetensors(weights_, small_cascade()); }

    std::string cascade(const std::string& more = "") const {
        return "mricascade precision=float32 threads=1 attach-input=true weights=" + weights_ + " " + more;
    }
    static std::string scan(int frames, const std::string& simulation, const std::string& recon = "") {
        return "mriphantomsrc num-buffers=" + std::to_string(frames) +
               " width=32 height=24 ! mrisim spokes=5 " + simulation +
               " ! mriframer ! mrirecon window=6 attach-kspace=true " + recon + " ! ";
    }
    static std::vector<Output> outputs(const std::string& line) {
        std::vector<Output> out;
        const RunResult result =
            run_pipeline(line + " ! appsink name=out", 60, [&](const std::string&, GstSample* sample) {
                GstBuffer* buffer = gst_sample_get_buffer(sample);
                Output o;
                o.pixels = values_of<cfloat>(buffer);
                o.consistency = consistency_of(buffer);
                o.pts = GST_BUFFER_PTS(buffer);
                o.truth = side_of(buffer, Role::truth) != nullptr;
                GstSample* kspace = side_of(buffer, Role::kspace);
                GstSample* input = side_of(buffer, Role::input);
                ASSERT_TRUE(kspace && input);
                const auto info = KspaceInfo::from_caps(gst_sample_get_caps(kspace));
                o.width = info.width;
                o.height = info.height;
                o.samples = info.samples;
                o.coils = info.coils;
                o.noise = info.noise;
                o.kspace = values_of<cfloat>(gst_sample_get_buffer(kspace));
                o.trajectory = trajectory_of(gst_sample_get_buffer(kspace));
                o.start = values_of<cfloat>(gst_sample_get_buffer(input));
                out.push_back(std::move(o));
            });
        EXPECT_TRUE(result.eos);
        EXPECT_TRUE(result.errors.empty()) << result.errors.front();
        return out;
    }

    /// What comes of k-space frames is what comes of the images that `front` makes of them: the same
    /// arithmetic twice, one thread.
    void expect_as_behind(const std::string& front, const std::string& simulation, int frames,
                          const std::string& more = "") const {
        SCOPED_TRACE(front + " | " + simulation + " | " + more);
        const std::string scan = "mriphantomsrc num-buffers=" + std::to_string(frames) +
                                 " width=32 height=24 ! mrisim snr=30 seed=4 " + simulation +
                                 " ! mriframer ! ";
        const auto direct = outputs(scan + cascade(more));
        const auto expected =
            outputs(scan + front + " attach-kspace=true attach-sensitivities=true ! " + cascade(more));
        ASSERT_EQ(direct.size(), static_cast<std::size_t>(frames));
        ASSERT_EQ(expected.size(), direct.size());
        for (std::size_t t = 0; t < direct.size(); ++t) {
            EXPECT_EQ(direct[t].start, expected[t].start) << "frame " << t;
            EXPECT_EQ(direct[t].pixels, expected[t].pixels) << "frame " << t;
            EXPECT_NE(direct[t].pixels, direct[t].start);
            EXPECT_EQ(direct[t].kspace, expected[t].kspace);
            EXPECT_EQ(direct[t].pts, expected[t].pts);
            EXPECT_TRUE(direct[t].truth);
            ASSERT_TRUE(direct[t].consistency && expected[t].consistency);
            EXPECT_EQ(direct[t].consistency->residual, expected[t].consistency->residual);
        }
    }

    struct Expected {
        std::vector<cfloat> images; // [frame][y][x]
        std::vector<WindowOperator::Residual> residuals;
    };
    /// What the library makes of all these frames together.
    Expected library(const std::vector<Output>& frames, bool cycle = false) const {
        ReconstructionSpace space;
        space.width = frames[0].width;
        space.height = frames[0].height;
        space.aspect = 24.0 / 32.0;
        std::vector<cfloat> start;
        std::vector<std::vector<float>> areas;
        std::vector<SampledFrame> views;
        for (const Output& f : frames) {
            start.insert(start.end(), f.start.begin(), f.start.end());
            const SampledFrame view(f.trajectory->kxy, f.kspace, {}, f.trajectory->readouts);
            areas.push_back(sample_areas(space, {&view, 1}, Density::clipped));
            views.push_back(view.with(areas.back()));
        }
        Expected out{std::vector<cfloat>(start.size()), {}};
        out.residuals = Cascade::load(weights_, {"cpu", Precision::float32, 1})
                            .run({start, views, 1, {}}, out.images,
                                 {static_cast<int>(frames.size()), space.height, space.width}, cycle);
        return out;
    }

    /// Images with their k-space as they come to the element, frame `t` at t times 40 ms.
    static std::vector<GstPtr<GstBuffer>> inputs(int frames, GstPtr<GstCaps>& caps) {
        std::vector<GstPtr<GstBuffer>> out;
        const RunResult result =
            run_pipeline(live(frames) + "appsink name=out", 60, [&](const std::string&, GstSample* sample) {
                auto buffer = adopt(gst_buffer_copy(gst_sample_get_buffer(sample)));
                GST_BUFFER_PTS(buffer.get()) = out.size() * frame_time;
                GST_BUFFER_DURATION(buffer.get()) = frame_time;
                out.push_back(std::move(buffer));
                ImageInfo info = ImageInfo::from_caps(gst_sample_get_caps(sample));
                info.framerate = {25, 1};
                caps = info.to_caps();
            });
        EXPECT_TRUE(result.errors.empty());
        return out;
    }
    /// The k-space frames of images, as they come to the element by themselves.
    static std::vector<GstPtr<GstBuffer>> frames_of(const std::vector<GstPtr<GstBuffer>>& images,
                                                    GstPtr<GstCaps>& caps) {
        std::vector<GstPtr<GstBuffer>> out;
        for (const auto& image : images) {
            GstSample* kspace = side_of(image.get(), Role::kspace);
            auto buffer = adopt(gst_buffer_copy(gst_sample_get_buffer(kspace)));
            GST_BUFFER_PTS(buffer.get()) = GST_BUFFER_PTS(image.get());
            GST_BUFFER_DURATION(buffer.get()) = GST_BUFFER_DURATION(image.get());
            GST_BUFFER_FLAG_UNSET(buffer.get(), GST_BUFFER_FLAG_DISCONT);
            out.push_back(std::move(buffer));
            KspaceInfo info = KspaceInfo::from_caps(gst_sample_get_caps(kspace));
            info.framerate = {25, 1};
            caps = info.to_caps();
        }
        return out;
    }
    static std::vector<std::vector<cfloat>> pull_all(const Harness& h) {
        std::vector<std::vector<cfloat>> out;
        while (const auto buffer = adopt(gst_harness_try_pull(h.get())))
            out.push_back(values_of<cfloat>(buffer.get()));
        return out;
    }
    static std::string live(int frames) {
        return "mriphantomsrc num-buffers=" + std::to_string(frames) +
               " width=32 height=24 ! mrisim spokes=5 ! mriframer ! mrigrid background=20 combine=none "
               "attach-kspace=true ! ";
    }
    static guint64 count(const Harness& h, const char* field) {
        GstStructure* statistics = nullptr;
        g_object_get(adopt(gst_bin_get_by_name(GST_BIN(h->element), "net")).get(), "statistics", &statistics,
                     nullptr);
        const StructurePtr owner(statistics);
        guint64 value = 0;
        EXPECT_TRUE(gst_structure_get_uint64(statistics, field, &value)) << field;
        return value;
    }

    TempDir folder_;
    std::string weights_ = folder_.path("cascade.safetensors");
};

TEST_F(MriCascade, ComputesWhatTheLibraryDoes) {
    const std::vector<Output> frames = outputs(scan(6, "snr=30") + cascade("noise=0.5"));
    ASSERT_EQ(frames.size(), 6U);
    const auto [expected, residual] = library(frames);
    for (std::size_t t = 0; t < 6; ++t) {
        const std::size_t n = frames[t].pixels.size();
        EXPECT_TRUE(frames[t].truth);
        EXPECT_EQ(frames[t].pts, frames[0].pts + t * (frames[1].pts - frames[0].pts));
        for (std::size_t i = 0; i < n; ++i) // the same arithmetic twice, one thread
            ASSERT_EQ(frames[t].pixels[i], expected[t * n + i]);
        ASSERT_TRUE(frames[t].consistency);
        EXPECT_FLOAT_EQ(frames[t].consistency->residual, residual[t].relative);
        EXPECT_FLOAT_EQ(frames[t].consistency->noise_ratio, residual[t].rms / (std::sqrt(2.0) * 0.5));
        EXPECT_GT(residual[t].relative, 0.0);
    }
}

TEST_F(MriCascade, NoiseIsKnownFromTheScanUnlessSet) {
    // The scanner's own figure: of the first image, as mrisim's documentation says.
    const std::vector<Output> known = outputs(scan(6, "snr=20 seed=3") + cascade());
    const std::vector<Output> set = outputs(scan(6, "snr=20 seed=3") + cascade("noise=2"));
    ASSERT_EQ(known.size(), 6U);
    ASSERT_EQ(set.size(), 6U);
    ASSERT_GT(known[0].noise, 0.0);
    for (std::size_t t = 0; t < 6; ++t) {
        ASSERT_TRUE(known[t].consistency && set[t].consistency);
        EXPECT_GT(set[t].consistency->noise_ratio, 0.0);
        EXPECT_NEAR(known[t].consistency->noise_ratio * known[t].noise / 2, set[t].consistency->noise_ratio,
                    1e-6 * set[t].consistency->noise_ratio);
    }
}

TEST_F(MriCascade, LinksTheEndsOfACycle) {
    const std::vector<Output> frames = outputs(scan(6, "") + cascade("cycle=true"));
    ASSERT_EQ(frames.size(), 6U);
    const Expected linked = library(frames, true), open = library(frames);
    const std::size_t pixels = frames[0].pixels.size();
    double difference = 0, to_open = 0;
    for (std::size_t i = 0; i < linked.images.size(); ++i) {
        const cfloat value = frames[i / pixels].pixels[i % pixels];
        difference = std::max<double>(difference, std::abs(value - linked.images[i]));
        to_open = std::max<double>(to_open, std::abs(value - open.images[i]));
    }
    EXPECT_LT(difference, 1e-5);
    EXPECT_GT(to_open, 1e-3);

    write_safetensors(weights_, small_cascade(true));
    const RunResult result = run_pipeline(live(2) + cascade("cycle=true") + " ! fakesink");
    ASSERT_EQ(result.errors.size(), 1U);
    EXPECT_NE(result.errors[0].find("cycle"), std::string::npos) << result.errors[0];
}

TEST_F(MriCascade, BlendedWindowsTellTheMeanOfWhatTheyLeave) {
    const std::vector<Output> frames =
        outputs(scan(6, "snr=30") + cascade("window=4 hop=2 blend=mean noise=1"));
    ASSERT_EQ(frames.size(), 6U);
    const auto first = library({frames.begin(), frames.begin() + 4}).residuals;
    const auto second = library({frames.begin() + 2, frames.end()}).residuals;
    for (std::size_t t = 0; t < 6; ++t) {
        SCOPED_TRACE(t);
        std::vector<WindowOperator::Residual> of;
        if (t < 4)
            of.push_back(first[t]);
        if (t >= 2)
            of.push_back(second[t - 2]);
        double relative = 0, rms = 0;
        for (const auto& rest : of) {
            relative += rest.relative / static_cast<double>(of.size());
            rms += rest.rms / static_cast<double>(of.size());
        }
        ASSERT_TRUE(frames[t].consistency);
        EXPECT_NEAR(frames[t].consistency->residual, relative, 1e-6 * relative);
        EXPECT_NEAR(frames[t].consistency->noise_ratio, rms / std::sqrt(2.0), 1e-6 * rms);
    }
}

TEST_F(MriCascade, UsesTheSensitivitiesOfSeveralCoils) {
    const std::vector<Output> frames =
        outputs(scan(9, "coils=3", "combine=adaptive attach-sensitivities=true") + cascade());
    ASSERT_EQ(frames.size(), 9U);
    EXPECT_EQ(frames[0].coils, 3);
    for (const Output& f : frames) {
        ASSERT_TRUE(f.consistency);
        EXPECT_EQ(f.consistency->noise_ratio, 0.0) << "the noise is not known";
        // The maps explain most of the coils' signal; without them two thirds of it would be left.
        EXPECT_LT(f.consistency->residual, 0.5);
    }
}

TEST_F(MriCascade, ACausalOneGivesEachFrameAtOnce) {
    write_safetensors(weights_, small_cascade(true));
    const std::vector<Output> frames = outputs(live(7) + cascade("window=6 hop=3"));
    ASSERT_EQ(frames.size(), 7U);
    // All frames together through the library.
    const std::vector<cfloat> expected = library(frames).images;
    double error = 0, power = 0;
    for (std::size_t t = 0; t < 7; ++t)
        for (std::size_t i = 0; i < frames[t].pixels.size(); ++i) {
            error += std::norm(frames[t].pixels[i] - expected[t * frames[t].pixels.size() + i]);
            power += std::norm(expected[t * frames[t].pixels.size() + i]);
        }
    EXPECT_LT(error, 1e-8 * power); // float32 sums in another order: 1e-5 of the magnitude and less
}

/// Latency, frames that come too late, the end of the stream and the counts of both.
TEST_F(MriCascade, LateFramesAreSkippedAndCountedAndTheRestComesAtTheEnd) {
    GstPtr<GstCaps> image_caps, kspace_caps;
    const auto images = inputs(8, image_caps);
    const auto kspace = frames_of(images, kspace_caps);
    ASSERT_EQ(kspace.size(), 8U);
    for (const auto& [causal, from_kspace] :
         {std::pair(false, false), {true, false}, {false, true}, {true, true}}) {
        SCOPED_TRACE(std::string(causal ? "causal" : "windows") + (from_kspace ? ", k-space" : ", images"));
        const auto& frames = from_kspace ? kspace : images;
        const auto& caps = from_kspace ? kspace_caps : image_caps;
        write_safetensors(weights_, small_cascade(causal));
        auto h = harness("mricascade name=net precision=float32 threads=1 window=3 weights=" + weights_);
        BusWatch bus(h->element);
        auto query = adopt(gst_query_new_latency());
        EXPECT_FALSE(gst_pad_peer_query(h->sinkpad, query.get())) << "it is not known yet";
        gst_harness_set_src_caps(h.get(), gst_caps_ref(caps.get()));
        // The frames that one waits for, and the time of a window: of this tiny one above 0 and far below a
        // second.
        const GstClockTime waits = causal ? 0 : 2 * frame_time;
        const GstClockTime latency = gst_harness_query_latency(h.get());
        EXPECT_GT(latency, waits);
        EXPECT_LT(latency, waits + GST_SECOND);

        // Earliest = 120 + 2 * 60 ms: frames 0 to 5 end before or then, and so do two windows of three.
        gst_harness_push_upstream_event(
            h.get(), gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 1.0, 60 * GST_MSECOND, 121 * GST_MSECOND));
        for (const auto& frame : frames)
            ASSERT_EQ(gst_harness_push(h.get(), gst_buffer_ref(frame.get())), GST_FLOW_OK);
        EXPECT_EQ(count(h, "dropped"), 6U);
        EXPECT_EQ(gst_harness_buffers_received(h.get()), causal ? 2U : 0U);
        gst_harness_push_event(h.get(), gst_event_new_eos());
        ASSERT_EQ(gst_harness_buffers_received(h.get()), 2U) << "a window of two is filled up at the end";
        // A causal network needs the frames before, late or not.
        EXPECT_EQ(count(h, "frames"), causal ? 8U : 2U);
        EXPECT_EQ(count(h, "windows"), causal ? 8U : 1U);
        EXPECT_EQ(count(h, "dropped"), 6U);
        std::vector<std::vector<cfloat>> in_time;
        if (causal) {
            auto other = harness("mricascade precision=float32 threads=1 weights=" + weights_);
            gst_harness_set_src_caps(other.get(), gst_caps_ref(caps.get()));
            for (const auto& frame : frames)
                ASSERT_EQ(gst_harness_push(other.get(), gst_buffer_ref(frame.get())), GST_FLOW_OK);
            in_time = pull_all(other);
            ASSERT_EQ(in_time.size(), 8U);
        }
        for (const GstClockTime t : {6U, 7U}) {
            const auto image = adopt(gst_harness_try_pull(h.get()));
            ASSERT_TRUE(image);
            if (causal) {
                EXPECT_EQ(values_of<cfloat>(image.get()), in_time[t]);
            }
            EXPECT_EQ(GST_BUFFER_PTS(image.get()), t * frame_time);
            EXPECT_EQ(bool(GST_BUFFER_FLAG_IS_SET(image.get(), GST_BUFFER_FLAG_DISCONT)), t == 6);
        }
        EXPECT_TRUE(bus.errors().empty());
    }
}

/// Where windows overlap, one that is left out takes its frames along, no others, and no frame is counted
/// twice.
TEST_F(MriCascade, LateWindowsThatOverlapLoseTheirOwnFramesAlone) {
    GstPtr<GstCaps> image_caps, kspace_caps;
    const auto images = inputs(16, image_caps);
    const auto kspace = frames_of(images, kspace_caps);
    ASSERT_EQ(kspace.size(), 16U);
    for (const bool from_kspace : {false, true}) {
        SCOPED_TRACE(from_kspace ? "k-space" : "images");
        write_safetensors(weights_, small_cascade(false));
        auto h =
            harness("mricascade name=net precision=float32 threads=1 window=4 hop=2 weights=" + weights_);
        BusWatch bus(h->element);
        gst_harness_set_src_caps(h.get(), gst_caps_ref((from_kspace ? kspace_caps : image_caps).get()));
        // Frames 0 to 8 end by 120 + 2 * 121 ms.
        gst_harness_push_upstream_event(
            h.get(), gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 1.0, 121 * GST_MSECOND, 120 * GST_MSECOND));
        for (const auto& frame : from_kspace ? kspace : images)
            ASSERT_EQ(gst_harness_push(h.get(), gst_buffer_ref(frame.get())), GST_FLOW_OK);
        gst_harness_push_event(h.get(), gst_event_new_eos());
        const std::uint64_t dropped = count(h, "dropped"), received = gst_harness_buffers_received(h.get());
        EXPECT_GE(dropped, 6U);
        EXPECT_LE(dropped, 9U) << "frames that were in time";
        EXPECT_EQ(count(h, "frames"), received);
        ASSERT_EQ(dropped + received, 16U);
        for (std::uint64_t t = dropped; t < 16; ++t) {
            const auto image = adopt(gst_harness_try_pull(h.get()));
            ASSERT_TRUE(image);
            EXPECT_EQ(GST_BUFFER_PTS(image.get()), t * frame_time);
            EXPECT_EQ(bool(GST_BUFFER_FLAG_IS_SET(image.get(), GST_BUFFER_FLAG_DISCONT)), t == dropped);
        }
        EXPECT_TRUE(bus.errors().empty());
    }
}

/// With what a causal network remembers the old one goes: the new one begins as with a series.
TEST_F(MriCascade, NewWeightsTakeOverWhilePlaying) {
    GstPtr<GstCaps> caps;
    const auto images = inputs(4, caps);
    ASSERT_EQ(images.size(), 4U);
    const std::string second = folder_.path("second.safetensors");
    for (const bool causal : {false, true}) {
        SCOPED_TRACE(causal ? "causal" : "windows");
        TensorFile file = small_cascade(causal);
        write_safetensors(weights_, file);
        file.tensors.at("blocks.1.eta").values = {0.5F};
        write_safetensors(second, file);
        const auto start = [&](const std::string& weights) {
            auto h = harness("mricascade name=net precision=float32 threads=1 window=4 weights=" + weights);
            gst_harness_set_src_caps(h.get(), gst_caps_ref(caps.get()));
            return h;
        };
        const auto push = [&](const Harness& h, std::size_t from, std::size_t to) {
            for (std::size_t f = from; f < to; ++f) {
                auto image = adopt(gst_buffer_copy(images[f % 4].get()));
                GST_BUFFER_PTS(image.get()) = f * frame_time;
                ASSERT_EQ(gst_harness_push(h.get(), image.release()), GST_FLOW_OK);
            }
        };
        auto h = start(weights_);
        BusWatch bus(h->element);
        push(h, 0, 4);
        g_object_set(adopt(gst_bin_get_by_name(GST_BIN(h->element), "net")).get(), "weights", second.c_str(),
                     nullptr);
        std::size_t pushed = 4;
        for (int attempt = 0; attempt < 3000 && count(h, "swaps") == 0; ++attempt, pushed += 4) {
            push(h, pushed, pushed + 4);
            g_usleep(10000);
        }
        ASSERT_EQ(count(h, "swaps"), 1U);
        push(h, pushed, pushed + 4);
        pushed += 4;
        EXPECT_TRUE(bus.errors().empty());
        EXPECT_TRUE(bus.warnings().empty());
        const auto out = pull_all(h);
        ASSERT_EQ(out.size(), pushed);

        auto old = start(weights_);
        push(old, 0, pushed);
        const auto before = pull_all(old);
        const auto changed = static_cast<std::size_t>(
            std::mismatch(out.begin(), out.end(), before.begin()).first - out.begin());
        ASSERT_LT(changed, pushed);
        EXPECT_GE(changed, 4U);
        EXPECT_EQ(changed % (causal ? 1 : 4), 0U) << "not between two windows";
        auto fresh = start(second);
        push(fresh, changed, pushed);
        EXPECT_EQ(pull_all(fresh),
                  std::vector(out.begin() + static_cast<std::ptrdiff_t>(changed), out.end()));
    }
}

TEST_F(MriCascade, KspaceInWindowsBeginsAsBehindMrirecon) {
    for (const std::string coils : {"coils=1", "coils=4"}) {
        expect_as_behind("mrirecon window=6", "spokes=5 " + coils, 12);
        // A series that is shorter than a window.
        expect_as_behind("mrirecon window=6", "spokes=5 " + coils, 4);
        expect_as_behind("mrirecon window=6", "trajectory=cartesian acceleration=4 " + coils, 12);
    }
    expect_as_behind("mrirecon window=6", "trajectory=spiral spokes=5 coils=4", 6);
}

// As in training, a window knows nothing of frames outside of it: where windows overlap, each is what a series of its
// frames alone would give.
TEST_F(MriCascade, EachWindowBeginsFromItsOwnFrames) {
    GstPtr<GstCaps> image_caps, caps;
    const auto frames = frames_of(inputs(13, image_caps), caps);
    ASSERT_EQ(frames.size(), 13U);
    const auto run = [&](const std::string& more, std::size_t from, std::size_t to) {
        auto h = harness(cascade("window=6 " + more));
        gst_harness_set_src_caps(h.get(), gst_caps_ref(caps.get()));
        for (std::size_t f = from; f < to; ++f)
            gst_harness_push(h.get(), gst_buffer_ref(frames[f].get()));
        gst_harness_push_event(h.get(), gst_event_new_eos());
        return pull_all(h);
    };
    const auto all = run("hop=2", 0, 13);
    ASSERT_EQ(all.size(), 13U);
    std::size_t emitted = 0;
    for (const std::size_t start : {0U, 2U, 4U, 6U, 7U}) {
        const auto window = run("", start, start + 6);
        ASSERT_EQ(window.size(), 6U);
        // The central two of a window, and what is left at the end.
        for (const std::size_t end = start == 7 ? 13 : start + 4; emitted < end; ++emitted)
            EXPECT_EQ(all[emitted], window[emitted - start]) << "frame " << emitted << " of window " << start;
    }
    EXPECT_EQ(emitted, 13U);
}

TEST_F(MriCascade, KspaceFrameByFrameBeginsAsBehindMrigrid) {
    write_safetensors(weights_, small_cascade(true));
    // Sensitivities are found anew for the last time with frame 16, and count from frame 24 on.
    for (const std::string coils : {"coils=1", "coils=4"})
        expect_as_behind("mrigrid background=20 combine=adaptive", "spokes=5 " + coils, 26);
}

TEST_F(MriCascade, KspaceIsForgottenWhereASeriesEnds) {
    GstPtr<GstCaps> image_caps, caps;
    const auto frames = frames_of(inputs(5, image_caps), caps);
    ASSERT_EQ(frames.size(), 5U);
    for (const bool causal : {false, true}) {
        write_safetensors(weights_, small_cascade(causal));
        const auto start = [&] {
            auto h = harness("mricascade precision=float32 threads=1 window=4 weights=" + weights_);
            gst_harness_set_src_caps(h.get(), gst_caps_ref(caps.get()));
            return h;
        };
        const auto push = [&](const Harness& h, std::size_t f, bool lost = false) {
            auto buffer = adopt(gst_buffer_copy(frames[f].get()));
            if (lost)
                GST_BUFFER_FLAG_SET(buffer.get(), GST_BUFFER_FLAG_DISCONT);
            ASSERT_EQ(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
        };
        const auto finish = [&](const Harness& h) {
            gst_harness_push_event(h.get(), gst_event_new_eos());
            return pull_all(h);
        };
        auto fresh = start();
        push(fresh, 3);
        push(fresh, 4);
        const auto expected = finish(fresh);
        ASSERT_EQ(expected.size(), 2U);
        const auto last_two = [](std::vector<std::vector<cfloat>> all) {
            all.erase(all.begin(), all.end() - 2);
            return all;
        };

        auto lost = start();
        push(lost, 0);
        push(lost, 1);
        EXPECT_EQ(gst_harness_buffers_received(lost.get()), causal ? 2U : 0U);
        push(lost, 3, true);
        EXPECT_EQ(gst_harness_buffers_received(lost.get()), causal ? 3U : 2U) << "not drained";
        push(lost, 4);
        auto all = finish(lost);
        ASSERT_EQ(all.size(), 4U);
        EXPECT_EQ(last_two(all), expected);

        auto flushed = start();
        push(flushed, 0);
        push(flushed, 1);
        gst_harness_push_event(flushed.get(), gst_event_new_flush_start());
        gst_harness_push_event(flushed.get(), gst_event_new_flush_stop(TRUE));
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        gst_harness_push_event(flushed.get(), gst_event_new_segment(&segment));
        push(flushed, 3);
        push(flushed, 4);
        all = finish(flushed);
        ASSERT_GE(all.size(), 2U);
        EXPECT_EQ(last_two(all), expected);

        auto next = start();
        push(next, 0);
        push(next, 1);
        KspaceInfo info = KspaceInfo::from_caps(caps.get());
        info.series = 1;
        gst_harness_set_src_caps(next.get(), info.to_caps().release());
        EXPECT_EQ(gst_harness_buffers_received(next.get()), 2U) << "not drained";
        const auto out = adopt(gst_pad_get_current_caps(next->sinkpad));
        const ImageInfo made = ImageInfo::from_caps(out.get());
        EXPECT_EQ(made, ([&] {
                      ImageInfo image = image_info(32, 24, 1, SampleFormat::c64);
                      image.fov_x = info.fov_x;
                      image.fov_y = info.fov_y;
                      return image;
                  }()));
        push(next, 3);
        push(next, 4);
        all = finish(next);
        ASSERT_EQ(all.size(), 4U);
        EXPECT_EQ(last_two(all), expected);
    }
}

TEST_F(MriCascade, LatencyOfKspaceIsWhatTheFirstFrameWaits) {
    GstPtr<GstCaps> image_caps, caps;
    const auto frames = frames_of(inputs(14, image_caps), caps);
    ASSERT_EQ(frames.size(), 14U);
    for (const std::size_t hop : {1U, 2U, 4U, 5U, 6U}) {
        auto h =
            harness("mricascade name=net precision=float32 threads=1 window=6 hop=" + std::to_string(hop) +
                    " weights=" + weights_);
        gst_harness_set_live(h.get(), TRUE);
        gst_harness_set_src_caps(h.get(), gst_caps_ref(caps.get()));
        std::size_t waited = 0;
        while (gst_harness_buffers_received(h.get()) == 0 && waited < frames.size())
            ASSERT_EQ(gst_harness_push(h.get(), gst_buffer_ref(frames[waited++].get())), GST_FLOW_OK);
        ASSERT_GT(gst_harness_buffers_received(h.get()), 0U);
        const GstClockTime latency = gst_harness_query_latency(h.get());
        // The time of a window of this tiny network and its start: above 0 and far below a second.
        EXPECT_GT(latency, (waited - 1) * frame_time) << "hop " << hop;
        EXPECT_LT(latency, (waited - 1) * frame_time + GST_SECOND) << "hop " << hop;
    }
}

TEST_F(MriCascade, TheStartFromKspaceCountsAsPreparation) {
    GstPtr<GstCaps> image_caps, kspace_caps;
    const auto images = inputs(6, image_caps);
    const auto kspace = frames_of(images, kspace_caps);
    ASSERT_EQ(kspace.size(), 6U);
    const auto prepared = [&](const std::vector<GstPtr<GstBuffer>>& frames, const GstPtr<GstCaps>& caps) {
        auto h = harness("mricascade name=net precision=float32 threads=1 window=6 weights=" + weights_);
        gst_harness_set_src_caps(h.get(), gst_caps_ref(caps.get()));
        for (const auto& frame : frames)
            gst_harness_push(h.get(), gst_buffer_ref(frame.get()));
        EXPECT_EQ(count(h, "windows"), 1U);
        GstStructure* statistics = nullptr;
        g_object_get(adopt(gst_bin_get_by_name(GST_BIN(h->element), "net")).get(), "statistics", &statistics,
                     nullptr);
        const StructurePtr owner(statistics);
        double prepare = 0, longest = 0;
        EXPECT_TRUE(gst_structure_get_double(statistics, "prepare-milliseconds", &prepare));
        EXPECT_TRUE(gst_structure_get_double(statistics, "longest-milliseconds", &longest));
        EXPECT_GE(longest, prepare);
        return prepare;
    };
    // Conjugate gradients take a hundred times as long as copying images; on a busy machine not always.
    bool longer = false;
    for (int attempt = 0; attempt < 5 && !longer; ++attempt)
        longer = prepared(kspace, kspace_caps) > 3 * prepared(images, image_caps);
    EXPECT_TRUE(longer);
}

TEST_F(MriCascade, KspaceWithTruthIsScored) {
    const RunResult result = run_pipeline(
        "mriphantomsrc num-buffers=6 width=32 height=24 ! mrisim spokes=5 coils=4 ! mriframer ! " +
        cascade() + " name=net ! mrimetrics input=true ! fakesink");
    EXPECT_TRUE(result.eos);
    EXPECT_TRUE(result.errors.empty()) << result.errors.front();
    EXPECT_TRUE(result.warnings.empty()) << result.warnings.front();
    int scores = 0;
    for (const auto& message : result.messages)
        scores += gst_structure_has_name(message.get(), "mri-metrics");
    EXPECT_EQ(scores, 2) << "of the image and of its start";
}

TEST_F(MriCascade, OneErrorForKspaceThatItCannotUse) {
    GstPtr<GstCaps> image_caps, caps;
    const auto frames = frames_of(inputs(1, image_caps), caps);
    ASSERT_EQ(frames.size(), 1U);
    const auto error = [&](KspaceInfo info, GstPtr<GstBuffer> buffer) -> std::string {
        auto h = harness("mricascade precision=float32 threads=1 weights=" + weights_);
        BusWatch bus(h->element);
        gst_harness_set_src_caps(h.get(), info.to_caps().release());
        EXPECT_NE(gst_harness_push(h.get(), buffer.release()), GST_FLOW_OK);
        gst_harness_push_event(h.get(), gst_event_new_eos());
        const auto errors = bus.errors();
        EXPECT_EQ(errors.size(), 1U);
        return errors.empty() ? std::string() : errors.front();
    };
    const auto frame = [&] { return adopt(gst_buffer_copy(frames[0].get())); };
    const KspaceInfo info = KspaceInfo::from_caps(caps.get());
    KspaceInfo wrong = info;
    wrong.alignment = Alignment::readout;
    EXPECT_NE(error(wrong, frame()).find("mriframer"), std::string::npos);
    wrong = info;
    wrong.samples += 1;
    EXPECT_NE(error(wrong, frame()).find("not a whole number of readouts"), std::string::npos);
    wrong = info;
    wrong.samples /= 2;
    EXPECT_NE(error(wrong, frame()).find("has a trajectory of"), std::string::npos);
    wrong = info;
    wrong.coils = max_coils;
    wrong.width = wrong.height = max_side;
    EXPECT_NE(error(wrong, frame()).find("a set of coil images"), std::string::npos);
    EXPECT_NE(error(info, buffer_of(values_of<cfloat>(frames[0].get()))).find("trajectory meta"),
              std::string::npos);

    // What says so first is the element, and not its source.
    const RunResult result =
        run_pipeline("mriphantomsrc num-buffers=1 ! mrisim alignment=readout ! " + cascade() + " ! fakesink");
    ASSERT_FALSE(result.errors.empty());
    EXPECT_NE(result.errors.front().find("mriframer"), std::string::npos) << result.errors.front();

    write_safetensors(weights_, small_cascade(true));
    wrong = info;
    wrong.trajectory = Trajectory::cartesian;
    EXPECT_NE(error(wrong, frame()).find("not for Cartesian ones"), std::string::npos);
}

TEST_F(MriCascade, OneErrorForWhatItCannotUse) {
    const auto error = [](const std::string& line) -> std::string {
        const RunResult result = run_pipeline(line + " ! fakesink");
        EXPECT_FALSE(result.errors.empty()) << line; // a source may add that its stream ended
        return result.errors.empty() ? std::string() : result.errors.front();
    };
    EXPECT_NE(
        error("mriphantomsrc num-buffers=6 width=32 height=32 ! mrisim spokes=5 ! mriframer ! mrirecon ! " +
              cascade())
            .find("attach-kspace=true"),
        std::string::npos);
    EXPECT_NE(error(scan(6, "coils=3", "combine=adaptive") + cascade()).find("attach-sensitivities=true"),
              std::string::npos);
    EXPECT_NE(error(scan(6, "") + "mricrop width=16 height=16 ! " + cascade()).find("came with k-space"),
              std::string::npos);
    EXPECT_NE(error(scan(6, "") + "mricascade weights=/nowhere.safetensors").find("nowhere"),
              std::string::npos);
    write_safetensors(weights_, small_network());
    EXPECT_NE(error(scan(6, "") + cascade()).find("holds no cascade"), std::string::npos);
}

} // namespace
