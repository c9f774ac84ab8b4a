// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/causal_unet/causal_unet.hpp"
#include "models/unet/unet.hpp"
#include "tests/support/network_support.hpp"

#include <chrono>
#include <filesystem>

using namespace mri;
using namespace mri::test;

namespace {

constexpr int side = 16;
constexpr int window = 8;

class MriTrain : public testing::Test {
  protected:
    std::string weights() const { return folder_.path("w.safetensors"); }
    std::string checkpoint() const { return folder_.path("c.safetensors"); }
    std::string line(const std::string& more = "") const {
        return "mritrain filters=2 patch=16 window=8 threads=1 precision=float32 validation=0.25 "
               "learning-rate=0.003 "
               "weights=" +
               weights() + " checkpoint=" + checkpoint() + " " + more;
    }
    /// A pipeline of appsrc and the element under test, fed by hand.
    struct Run {
        explicit Run(const std::string& train) {
            GError* error = nullptr;
            pipeline = adopt(GST_ELEMENT(gst_object_ref_sink(gst_parse_launch(
                ("appsrc name=src format=time block=true ! " + train + " name=train").c_str(), &error))));
            EXPECT_FALSE(error) << error->message;
            source = adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "src"));
            bus = adopt(gst_element_get_bus(pipeline.get()));
        }
        ~Run() { gst_element_set_state(pipeline.get(), GST_STATE_NULL); }

        bool play() {
            return gst_element_set_state(pipeline.get(), GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE;
        }
        /// Frames of a blob with alternating stripes over it, and the blob alone as truth.
        void feed(int series, int frames, bool with_truth = true, int truth_side = side) {
            const auto caps = image_info(side, side, series).to_caps();
            const auto truth_caps = image_info(truth_side, truth_side, series).to_caps();
            for (int f = 0; f < frames; ++f) {
                auto pixels = blob(side, side, f + series);
                for (std::size_t i = 0; i < pixels.size(); ++i)
                    pixels[i] += (static_cast<int>(i) + f) % 2 ? 0.1F : -0.1F;
                auto buffer = frame_of(pixels, f);
                if (with_truth)
                    add_side(buffer.get(), Role::truth,
                             buffer_of(blob(truth_side, truth_side, f + series)).get(), truth_caps.get());
                const auto sample = adopt(gst_sample_new(buffer.get(), caps.get(), nullptr, nullptr));
                GstFlowReturn flow = GST_FLOW_OK;
                g_signal_emit_by_name(source.get(), "push-sample", sample.get(), &flow);
            }
        }
        void end() {
            GstFlowReturn flow = GST_FLOW_OK;
            g_signal_emit_by_name(source.get(), "end-of-stream", &flow);
        }
        /// Messages up to EOS or an error.
        void wait(double seconds = 60) {
            const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
            while (!eos && errors.empty() && std::chrono::steady_clock::now() < deadline)
                if (auto message = adopt(gst_bus_timed_pop(bus.get(), 100 * GST_MSECOND)))
                    take(message.get());
        }
        void take(GstMessage* message) {
            GstProgressType type = GST_PROGRESS_TYPE_START;
            switch (GST_MESSAGE_TYPE(message)) {
            case GST_MESSAGE_EOS:
                eos = true;
                break;
            case GST_MESSAGE_ERROR: {
                GError* error = nullptr;
                gst_message_parse_error(message, &error, nullptr);
                errors.emplace_back(error->message);
                g_error_free(error);
                break;
            }
            case GST_MESSAGE_WARNING:
                ++warnings;
                break;
            case GST_MESSAGE_PROGRESS:
                gst_message_parse_progress(message, &type, nullptr, nullptr);
                progress.push_back(type);
                break;
            case GST_MESSAGE_ELEMENT:
                elements.emplace_back(gst_structure_copy(gst_message_get_structure(message)));
                break;
            default:
                break;
            }
        }
        void drain() {
            while (auto message = adopt(gst_bus_pop(bus.get())))
                take(message.get());
        }
        const GstStructure* last(const char* name) const {
            for (auto it = elements.rbegin(); it != elements.rend(); ++it)
                if (gst_structure_has_name(it->get(), name))
                    return it->get();
            return nullptr;
        }

        GstPtr<GstElement> pipeline;
        GstPtr<GstElement> source;
        GstPtr<GstBus> bus;
        bool eos = false;
        int warnings = 0;
        std::vector<std::string> errors;
        std::vector<GstProgressType> progress;
        std::vector<StructurePtr> elements;
    };

    static double number(const GstStructure* structure, const char* field) {
        double value = std::nan("");
        EXPECT_TRUE(structure && gst_structure_get_double(structure, field, &value)) << field;
        return value;
    }

    TempDir folder_;
};

TEST_F(MriTrain, LearnsAndTellsOfIt) {
    Run run(line("steps=150 validation-interval=50 description=blobs"));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 8; ++series)
        run.feed(series, window);
    run.end();
    run.wait();
    ASSERT_TRUE(run.eos);
    EXPECT_TRUE(run.errors.empty());
    EXPECT_EQ(run.warnings, 0);
    const GstStructure* done = run.last("mri-train-done");
    ASSERT_TRUE(done);
    // A checkerboard over smooth blobs: half of its power at the very least goes in 150 steps.
    EXPECT_GT(number(done, "validation-psnr"), number(done, "input-psnr") + 3.0);
    ASSERT_GE(run.progress.size(), 3U);
    EXPECT_EQ(run.progress.front(), GST_PROGRESS_TYPE_START);
    EXPECT_EQ(run.progress.back(), GST_PROGRESS_TYPE_COMPLETE);
    int validations = 0;
    for (const auto& structure : run.elements)
        validations += gst_structure_has_field(structure.get(), "validation-psnr") &&
                       gst_structure_has_name(structure.get(), "mri-train");
    EXPECT_EQ(validations, 3);

    const Unet network = Unet::load(weights(), {"cpu", Precision::float32, 1});
    EXPECT_EQ(network.trained_frames(), window);
    EXPECT_EQ(network.metadata().at("training.windows"), "6");
    EXPECT_EQ(network.metadata().at("validation.windows"), "2");
    EXPECT_EQ(network.metadata().at("training.data"), "blobs");
}

TEST_F(MriTrain, TrainsACausalNetwork) {
    Run run(line("network=causal-unet patch-frames=4 steps=4"));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 4; ++series)
        run.feed(series, window);
    run.end();
    run.wait();
    ASSERT_TRUE(run.eos);
    EXPECT_TRUE(run.errors.empty());
    const auto network = CausalUnet::load(weights(), {"cpu", Precision::float32, 1});
    EXPECT_EQ(network.options().filters, 2);
    EXPECT_EQ(network.metadata().at("training.patch-frames"), "4");
}

TEST_F(MriTrain, KeepsTheRightWindowsForValidation) {
    const struct {
        const char* property;
        const char* training;
        const char* validating;
    } cases[] = {{"validation=0.5", "2", "2"},
                 {"validation=0", "4", nullptr},
                 {"validation-windows=1", "3", "1"},
                 {"validation-series=1,3-9", "2", "2"}};
    for (const auto& c : cases) {
        Run run(line(std::string("steps=1 ") + c.property));
        ASSERT_TRUE(run.play());
        for (int series = 0; series < 4; ++series)
            run.feed(series, window);
        run.end();
        run.wait();
        ASSERT_TRUE(run.eos) << c.property;
        const TensorFile file = read_safetensors(weights());
        EXPECT_EQ(file.metadata.at("training.windows"), c.training) << c.property;
        if (c.validating)
            EXPECT_EQ(file.metadata.at("validation.windows"), c.validating) << c.property;
        else
            EXPECT_FALSE(file.metadata.contains("validation.windows"));
    }
}

TEST_F(MriTrain, StopsWithinASecondAndResumes) {
    guint64 stopped_at = 0;
    {
        Run run(line("steps=1000000"));
        ASSERT_TRUE(run.play());
        for (int series = 0; series < 4; ++series)
            run.feed(series, window);
        run.end();
        run.wait(1.5);
        EXPECT_FALSE(run.eos);
        const auto start = std::chrono::steady_clock::now();
        gst_element_set_state(run.pipeline.get(), GST_STATE_NULL);
        EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 1.0);
    }
    ASSERT_TRUE(std::filesystem::exists(checkpoint()));
    EXPECT_TRUE(std::filesystem::exists(weights()));
    stopped_at = std::stoull(read_safetensors(checkpoint()).metadata.at("step"));
    EXPECT_GT(stopped_at, 0U);

    Run run(line("resume=true steps=" + std::to_string(stopped_at + 5)));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 4; ++series)
        run.feed(series, window);
    run.end();
    run.wait();
    EXPECT_TRUE(run.eos);
    EXPECT_EQ(read_safetensors(checkpoint()).metadata.at("step"), std::to_string(stopped_at + 5));
}

TEST_F(MriTrain, ThePropertyStopEndsTrainingWithFilesAndEos) {
    Run run(line("steps=1000000"));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 4; ++series)
        run.feed(series, window);
    run.end();
    run.wait(1.5);
    EXPECT_FALSE(run.eos);
    const auto train = adopt(gst_bin_get_by_name(GST_BIN(run.pipeline.get()), "train"));
    g_object_set(train.get(), "stop", TRUE, nullptr);
    run.wait(2);
    EXPECT_TRUE(run.eos);
    EXPECT_TRUE(std::filesystem::exists(checkpoint()));
    EXPECT_TRUE(std::filesystem::exists(weights()));
}

TEST_F(MriTrain, ThePropertyStopBeforeTheEndOfTheDataTrainsNothing) {
    Run run(line("steps=1000000"));
    ASSERT_TRUE(run.play());
    run.feed(0, window);
    const auto train = adopt(gst_bin_get_by_name(GST_BIN(run.pipeline.get()), "train"));
    g_object_set(train.get(), "stop", TRUE, nullptr);
    run.end();
    run.wait(2);
    EXPECT_TRUE(run.eos);
    EXPECT_FALSE(std::filesystem::exists(weights()));
}

TEST_F(MriTrain, APauseWhileItTrainsEndsTraining) {
    Run run(line("steps=1000000"));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 4; ++series)
        run.feed(series, window);
    run.end();
    run.wait(1.0);
    gst_element_set_state(run.pipeline.get(), GST_STATE_PAUSED);
    EXPECT_EQ(gst_element_get_state(run.pipeline.get(), nullptr, nullptr, 5 * GST_SECOND),
              GST_STATE_CHANGE_SUCCESS);
    gst_element_set_state(run.pipeline.get(), GST_STATE_PLAYING);
    run.wait(5);
    EXPECT_TRUE(run.eos);
    EXPECT_EQ(run.progress.back(), GST_PROGRESS_TYPE_CANCELED);
}

TEST_F(MriTrain, APauseBeforeTheEndDoesNot) {
    Run run(line("steps=20"));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 2; ++series)
        run.feed(series, window);
    EXPECT_EQ(gst_element_set_state(run.pipeline.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
    EXPECT_EQ(gst_element_set_state(run.pipeline.get(), GST_STATE_PLAYING), GST_STATE_CHANGE_SUCCESS);
    for (int series = 2; series < 4; ++series)
        run.feed(series, window);
    run.end();
    run.wait();
    EXPECT_TRUE(run.eos);
    ASSERT_FALSE(run.progress.empty());
    EXPECT_EQ(run.progress.back(), GST_PROGRESS_TYPE_COMPLETE);
}

/// A change of state that is still pending when the next one is asked for can be lost inside GStreamer, and
/// with it EOS. So none ever is, whether data have come or not.
TEST_F(MriTrain, ChangesOfStateWaitForNoData) {
    Run run(line("steps=2"));
    const auto becomes = [&](GstState state) {
        return gst_element_set_state(run.pipeline.get(), state) == GST_STATE_CHANGE_SUCCESS;
    };
    for (int cycle = 0; cycle < 3; ++cycle) {
        EXPECT_TRUE(becomes(GST_STATE_PAUSED));
        EXPECT_TRUE(becomes(GST_STATE_PLAYING));
    }
    for (int series = 0; series < 4; ++series) { // while data are on their way, too
        run.feed(series, window);
        EXPECT_TRUE(becomes(GST_STATE_PAUSED));
        EXPECT_TRUE(becomes(GST_STATE_PLAYING));
    }
    run.end();
    run.wait();
    EXPECT_TRUE(run.eos);
}

TEST_F(MriTrain, AFlushWhileItTrainsGivesUp) {
    Run run(line("steps=1000000"));
    ASSERT_TRUE(run.play());
    for (int series = 0; series < 4; ++series)
        run.feed(series, window);
    run.end();
    run.wait(1.0);
    const auto train = adopt(gst_bin_get_by_name(GST_BIN(run.pipeline.get()), "train"));
    const auto pad = adopt(gst_element_get_static_pad(train.get(), "sink"));
    gst_pad_send_event(pad.get(), gst_event_new_flush_start());
    gst_pad_send_event(pad.get(), gst_event_new_flush_stop(TRUE));
    run.drain();
    EXPECT_FALSE(run.eos) << "its EOS was flushed";
    EXPECT_TRUE(run.errors.empty());
    EXPECT_EQ(run.progress.back(), GST_PROGRESS_TYPE_CANCELED);
}

TEST_F(MriTrain, SaysWhatIsNotTrainedOn) {
    Run run(line("steps=1 validation=0"));
    ASSERT_TRUE(run.play());
    run.feed(0, window);
    run.feed(1, window - 1); // a window never crosses into the next series
    run.end();
    run.wait();
    EXPECT_TRUE(run.eos);
    EXPECT_EQ(run.warnings, 1);
    EXPECT_EQ(read_safetensors(weights()).metadata.at("training.windows"), "1");
}

TEST_F(MriTrain, OneErrorForWhatCannotBeTrainedOn) {
    const auto errors = [this](const std::string& more, auto&& feed) {
        Run run(line(more));
        if (run.play()) {
            feed(run);
            run.end();
        }
        run.wait(20);
        gst_element_set_state(run.pipeline.get(), GST_STATE_NULL);
        run.drain();
        EXPECT_FALSE(run.eos);
        // The source adds its own error when a flow ends in one; ours is the first.
        EXPECT_GE(run.errors.size(), 1U) << more;
        return run.errors.empty() ? std::string() : run.errors.front();
    };
    const auto whole = [](Run& run) { run.feed(0, window); };
    EXPECT_NE(errors("steps=1", [](Run& run) { run.feed(0, window, false); }).find("without its truth"),
              std::string::npos);
    EXPECT_NE(errors("steps=1", [](Run& run) { run.feed(0, window, true, side + 2); }).find("18 x 18"),
              std::string::npos);
    EXPECT_NE(errors("steps=1", [](Run& run) { run.feed(0, window - 1); }).find("nothing to train on"),
              std::string::npos);
    EXPECT_NE(errors("steps=1 validation=1", whole).find("beside those kept for validation"),
              std::string::npos);
    EXPECT_NE(errors("validation-series=a", whole).find("validation-series"), std::string::npos);
    EXPECT_NE(errors("network=cascade initial-weights=a initial-blocks=0-2000000000", whole)
                  .find("initial-blocks are numbers below 100"),
              std::string::npos);
    EXPECT_NE(errors("network=cascade initial-blocks=0", whole).find("initial-weights"), std::string::npos);
    EXPECT_NE(errors("device=abacus", whole).find("abacus"), std::string::npos);
    EXPECT_NE(errors("steps=1 weights=/nowhere/at/all.safetensors", whole).find("/nowhere/at/all"),
              std::string::npos);
    EXPECT_NE(errors("cache-size=0 spill-folder=/nowhere/at/all", whole).find("/nowhere/at/all"),
              std::string::npos);
}

TEST_F(MriTrain, StartsAndStopsAgain) {
    EXPECT_TRUE(cycle_states("mritrain").empty());
    Run run(line("steps=3 validation=0"));
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(run.play());
        run.feed(0, window);
        run.end();
        run.eos = false;
        run.wait();
        EXPECT_TRUE(run.eos);
        gst_element_set_state(run.pipeline.get(), GST_STATE_NULL);
    }
}

} // namespace
