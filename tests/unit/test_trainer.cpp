// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/torch_state_dict.hpp"
#include "models/networks.hpp"
#include "models/training/trainer.hpp"
#include "models/training/window_cache.hpp"
#include "models/unet/unet.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <thread>

namespace {

using namespace mri;

class TrainerTest : public testing::Test {
  protected:
    std::string path(const std::string& name) const { return folder_ / name; }

    /// Two filters on 16 x 16: a step takes milliseconds.
    TrainOptions tiny(const std::string& name) const {
        TrainOptions o;
        o.network.filters = 2;
        o.network.mean_input = true;
        o.weights = path(name + ".safetensors");
        o.checkpoint = path(name + ".checkpoint");
        o.steps = 60;
        o.patch = 16;
        o.learning_rate = 3e-3;
        o.run = {"cpu", Precision::float32, 1};
        return o;
    }

    /// Two blocks of two layers with four filters.
    TrainOptions tiny_cascade(const std::string& name) const {
        TrainOptions o = tiny(name);
        o.kind = NetworkKind::cascade;
        o.cascade.blocks = 2;
        o.cascade.filters = 4;
        o.cascade.layers = 2;
        o.checkpoint.clear();
        return o;
    }

    /// What training a cascade on one series comes to.
    static TensorFile weights_trained_on(const TrainOptions& o, const std::vector<float>& truth,
                                         const WindowShape& shape) {
        Trainer trainer(o);
        trainer.add({}, truth, shape);
        trainer.run({});
        return read_weights(o.weights);
    }

    test::TempDir folder_;
};

constexpr WindowShape small{8, 24, 20};

/// A blob that moves, and the same with a checkerboard of alternating sign over it that a network can learn
/// to remove.
void make_pair(unsigned seed, std::vector<float>& input, std::vector<float>& truth) {
    std::mt19937 random(seed);
    const float cx = 6.0F + static_cast<float>(random() % 8);
    const float cy = 6.0F + static_cast<float>(random() % 12);
    input.clear();
    truth.clear();
    for (int t = 0; t < small.frames; ++t)
        for (int y = 0; y < small.height; ++y)
            for (int x = 0; x < small.width; ++x) {
                const float dx = static_cast<float>(x) - cx - static_cast<float>(t % 4);
                const float dy = static_cast<float>(y) - cy;
                const float v = 0.3F + 0.6F * std::exp(-(dx * dx + dy * dy) / 20.0F);
                truth.push_back(v);
                input.push_back(v + ((x + y + t) % 2 ? 0.1F : -0.1F));
            }
}

void fill(Trainer& trainer, int training = 6, int validation = 2) {
    std::vector<float> input;
    std::vector<float> truth;
    for (int i = 0; i < training + validation; ++i) {
        make_pair(static_cast<unsigned>(i), input, truth);
        trainer.add(input, truth, small, i >= training);
    }
}

TEST_F(TrainerTest, LearnsASmallProblem) {
    for (const Loss loss : {Loss::mse, Loss::l1, Loss::psnr, Loss::ssim}) {
        TrainOptions o = tiny("learn");
        o.loss = loss;
        o.steps = 150;
        Trainer trainer(o);
        fill(trainer);
        EXPECT_EQ(trainer.windows(), 6U);
        EXPECT_EQ(trainer.validation_windows(), 2U);
        const TrainResult result = trainer.run({});
        EXPECT_TRUE(result.finished);
        EXPECT_EQ(result.step, 150U);
        ASSERT_TRUE(result.input && result.validation);
        // The checkerboard is far above the noise of training: at least 3 dB go (mse reaches more than 6).
        EXPECT_GT(result.validation->psnr, result.input->psnr + 3.0) << static_cast<int>(loss);
        EXPECT_LT(result.validation->loss, result.input->loss) << static_cast<int>(loss);

        // The weights file is what the score says.
        Unet network = Unet::load(o.weights, o.run);
        EXPECT_EQ(network.unet(), o.network);
        EXPECT_EQ(network.trained_frames(), small.frames);
        std::vector<float> input;
        std::vector<float> truth;
        make_pair(6, input, truth);
        std::vector<float> output(input.size());
        network.run(input, output, small);
        const auto error = [&truth](const std::vector<float>& x) {
            double sum = 0;
            for (std::size_t i = 0; i < x.size(); ++i)
                sum += (x[i] - truth[i]) * (x[i] - truth[i]);
            return sum / static_cast<double>(x.size());
        };
        EXPECT_LT(error(output), 0.5 * error(input)) << "3 dB again";
    }
}

TEST_F(TrainerTest, TrainsACausalNetwork) {
    TrainOptions o = tiny("causal");
    o.kind = NetworkKind::causal_unet;
    o.causal.filters = 2;
    o.steps = 150;
    o.patch_frames = 8;
    Trainer trainer(o);
    fill(trainer);
    const TrainResult result = trainer.run({});
    ASSERT_TRUE(result.input && result.validation);
    // The checkerboard is all of the error at first: a network that halves it (it changes sign from frame to
    // frame, so one frame before is enough to see it) has learnt.
    EXPECT_GT(result.validation->psnr, result.input->psnr + 3.0);

    // The stream of the weights file is what the score says, from the frames on that it was judged on.
    CausalUnet network = CausalUnet::load(o.weights, o.run);
    EXPECT_EQ(network.options(), o.causal);
    std::vector<float> input;
    std::vector<float> truth;
    make_pair(6, input, truth);
    std::vector<float> output(input.size());
    for (std::size_t t = 0; t < static_cast<std::size_t>(small.frames); ++t)
        network.run(std::span(input).subspan(t * small.pixels(), small.pixels()),
                    std::span(output).subspan(t * small.pixels(), small.pixels()),
                    {1, small.height, small.width});
    const auto error = [&truth](const std::vector<float>& x) {
        double sum = 0;
        for (std::size_t i = 4 * small.pixels(); i < x.size(); ++i)
            sum += (x[i] - truth[i]) * (x[i] - truth[i]);
        return sum;
    };
    EXPECT_LT(error(output), 0.5 * error(input)) << "3 dB again";
}

TEST_F(TrainerTest, StartsAtTheInputsQuality) {
    TrainOptions o = tiny("start");
    o.steps = 1;
    o.learning_rate = 1e-12;
    Trainer trainer(o);
    fill(trainer);
    const TrainResult result = trainer.run({});
    EXPECT_NEAR(result.validation->psnr, result.input->psnr, 1e-3) << "conv6 begins with zeros";
}

TEST_F(TrainerTest, ResumesAsIfNeverStopped) {
    TrainOptions whole = tiny("whole");
    whole.steps = 40;
    whole.batch = 2;
    whole.validation_interval = 17;
    {
        Trainer trainer(whole);
        fill(trainer);
        trainer.run({});
    }
    TrainOptions part = whole;
    part.weights = path("part.safetensors");
    part.checkpoint = path("part.checkpoint");
    part.resume = true;
    {
        Trainer trainer(part);
        fill(trainer);
        std::stop_source stop;
        const auto at_validation = [&stop](const TrainProgress& progress) {
            if (progress.validation)
                stop.request_stop();
        };
        const TrainResult result = trainer.run(at_validation, stop.get_token());
        EXPECT_EQ(result.step, 17U);
        EXPECT_FALSE(result.finished);
    }
    {
        Trainer trainer(part);
        fill(trainer);
        EXPECT_EQ(trainer.run({}).step, 40U);
    }
    const TensorFile a = read_safetensors(whole.checkpoint);
    const TensorFile b = read_safetensors(part.checkpoint);
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    double largest = 0;
    for (const auto& [name, tensor] : a.tensors)
        for (std::size_t i = 0; i < tensor.values.size(); ++i)
            largest = std::max(
                largest, std::abs(static_cast<double>(tensor.values[i]) - b.tensors.at(name).values[i]));
    EXPECT_EQ(largest, 0.0) << "same arithmetic, same order, one thread: the same bits";
}

TEST_F(TrainerTest, ACheckpointIsAWeightsFileToo) {
    for (const double average : {0.0, 0.5}) {
        SCOPED_TRACE(average);
        TrainOptions o = tiny(average > 0 ? "averaged" : "last");
        o.steps = 3;
        o.average = average;
        Trainer trainer(o);
        fill(trainer);
        trainer.run({});
        const TensorFile raw = read_safetensors(o.checkpoint), weights = read_weights(o.checkpoint);
        EXPECT_EQ(weights.metadata.at("network") + "-checkpoint", raw.metadata.at("network"));
        ASSERT_EQ(weights.tensors.size(), read_weights(o.weights).tensors.size());
        double apart = 0;
        for (const auto& [name, tensor] : weights.tensors) {
            EXPECT_EQ(tensor.values, raw.tensors.at((average > 0 ? "average/" : "model/") + name).values);
            const auto& last = raw.tensors.at("model/" + name).values;
            for (std::size_t i = 0; i < last.size(); ++i)
                apart += std::abs(tensor.values[i] - last[i]);
        }
        EXPECT_EQ(apart > 0, average > 0);
        Unet network = Unet::load(o.checkpoint, {"cpu", Precision::float32, 1});
        EXPECT_EQ(network.unet().filters, o.network.filters);
    }
}

TEST_F(TrainerTest, BeginsWithTheWeightsOfAnother) {
    TrainOptions o = tiny("first");
    TrainResult first;
    {
        Trainer trainer(o);
        fill(trainer);
        first = trainer.run({});
    }
    o.initial = o.weights;
    o.weights = path("second.safetensors");
    o.checkpoint.clear();
    o.learning_rate = 1e-9; // what it began with, to all digits that are compared
    o.steps = 1;
    {
        Trainer trainer(o);
        fill(trainer);
        const TrainResult second = trainer.run({});
        ASSERT_TRUE(first.validation && second.validation);
        EXPECT_NEAR(second.validation->psnr, first.validation->psnr, 1e-3);
        EXPECT_GT(second.validation->psnr, second.input->psnr + 1.0) << "not what random weights give";
    }

    const auto refused = [&](const char* why) {
        try {
            const Trainer trainer(o);
            ADD_FAILURE() << "took " << o.initial;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(o.initial), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
        }
    };
    o.network.leak = 0.1F;
    refused("other options");
    o.network.leak = 0;
    o.kind = NetworkKind::causal_unet;
    refused("causal");
    o.initial = path("nowhere.safetensors");
    refused("");
}

/// What stands still is the same for a cascade over windows and for the causal one made of it, but where
/// zeros before the first frame still reach.
TEST_F(TrainerTest, ACausalCascadeBeginsWithAWindowedOne) {
    constexpr WindowShape shape{16, 16, 16};
    std::vector<float> truth;
    for (int t = 0; t < shape.frames; ++t)
        for (int i = 0; i < shape.height * shape.width; ++i)
            truth.push_back(0.2F + 0.05F * static_cast<float>(i % 7) +
                            0.03F * static_cast<float>(i / 16 % 5));
    TrainOptions o = tiny_cascade("window");
    o.steps = 30;
    const TensorFile window = weights_trained_on(o, truth, shape);
    o.initial = o.weights;
    o.weights = path("causal.safetensors");
    o.cascade.causal = true;
    o.steps = 1;
    o.learning_rate = 1e-9;
    const TensorFile causal = weights_trained_on(o, truth, shape);
    EXPECT_EQ(causal.metadata.at("time"), "causal");
    for (const auto& [name, tensor] : window.tensors) {
        const NamedTensor& other = causal.tensors.at(name);
        ASSERT_EQ(tensor.shape, other.shape) << name;
        if (tensor.shape.size() != 5)
            continue;
        for (std::size_t k = 0; k < tensor.values.size(); k += 27) {
            float sum = 0, sum_other = 0; // over time: what a still picture meets
            for (std::size_t i = 0; i < 27; i += 9) {
                sum += tensor.values[k + i];
                sum_other += other.values[k + i];
            }
            EXPECT_NEAR(sum_other, sum, 1e-6) << name;
            EXPECT_NEAR(other.values[k], 0.0, 1e-7) << name << ": of two frames before nothing was known";
            EXPECT_NEAR(other.values[k + 9], tensor.values[k], 1e-7) << name;
        }
    }
}

TEST_F(TrainerTest, ACascadeBeginsWithOneOfFewerBlocks) {
    constexpr WindowShape shape{4, 16, 16};
    std::vector<float> truth(shape.count());
    for (std::size_t i = 0; i < truth.size(); ++i)
        truth[i] = 0.2F + 0.05F * static_cast<float>(i % 7);
    TrainOptions o = tiny_cascade("small");
    o.steps = 5;
    const TensorFile small = weights_trained_on(o, truth, shape);
    o.initial = o.weights;
    o.weights = path("large.safetensors");
    o.cascade.blocks = 3;
    o.steps = 1;
    o.learning_rate = 1e-9;
    const TensorFile large = weights_trained_on(o, truth, shape);
    EXPECT_EQ(large.metadata.at("blocks"), "3");
    // Of blocks 0 and 1 the first is split: its parts add half as much each.
    const int source[] = {0, 0, 1};
    for (int block = 0; block < 3; ++block)
        for (const std::string what : {"conv.0.weight", "conv.1.weight", "eta"}) {
            const auto name = [&](int b) { return "blocks." + std::to_string(b) + "." + what; };
            const NamedTensor &is = large.tensors.at(name(block)),
                              &was = small.tensors.at(name(source[block]));
            ASSERT_EQ(is.shape, was.shape);
            const float share = what == "conv.1.weight" && block < 2 ? 0.5F : 1.0F;
            for (std::size_t i = 0; i < is.values.size(); ++i)
                ASSERT_NEAR(is.values[i], what == "eta" && block == 0 ? 1.0F : share * was.values[i], 1e-7)
                    << name(block);
        }

    // Blocks by name: 0 is left out, 2 split.
    o.initial = o.weights;
    o.weights = path("chosen.safetensors");
    o.initial_blocks = {1, 2, 2};
    const TensorFile chosen = weights_trained_on(o, truth, shape);
    for (int block = 0; block < 3; ++block) {
        const auto last = [&](const TensorFile& file, int b) -> const NamedTensor& {
            return file.tensors.at("blocks." + std::to_string(b) + ".conv.1.weight");
        };
        const NamedTensor &is = last(chosen, block),
                          &was = last(large, o.initial_blocks[static_cast<std::size_t>(block)]);
        for (std::size_t i = 0; i < is.values.size(); ++i)
            ASSERT_NEAR(is.values[i], (block == 0 ? 1.0F : 0.5F) * was.values[i], 1e-7) << block;
    }

    const auto refused = [&](std::vector<int> blocks, const std::string& why) {
        o.initial_blocks = std::move(blocks);
        try {
            const Trainer trainer(o);
            ADD_FAILURE() << why;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(o.initial), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
        }
    };
    refused({0, 1}, "names 2 blocks, the cascade has 3");
    refused({0, 1, 3}, "names block 3, they have 0 to 2");
    refused({0, 1, -1}, "names block -1");
    refused({0, 1, 0}, "block 0 again");
    o.cascade.blocks = 2;
    refused({}, "does not say which");
}

TEST_F(TrainerTest, RefusesForeignCheckpoints) {
    TrainOptions o = tiny("resume");
    o.steps = 1;
    {
        Trainer trainer(o);
        fill(trainer);
        trainer.run({});
    }
    o.resume = true;
    o.network.filters = 3;
    Trainer other(o);
    fill(other);
    try {
        other.run({});
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("resume.checkpoint"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("bottleneck"), std::string::npos) << e.what();
    }
}

TEST_F(TrainerTest, StopsWithinASecond) {
    TrainOptions o = tiny("stop");
    o.network.filters = 16;
    o.patch = 0;
    o.steps = 1000000;
    Trainer trainer(o);
    fill(trainer);
    std::chrono::steady_clock::time_point asked;
    std::stop_source stop;
    std::thread stopper([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(700));
        asked = std::chrono::steady_clock::now();
        stop.request_stop();
    });
    const TrainResult result = trainer.run({}, stop.get_token());
    const auto ended = std::chrono::steady_clock::now();
    stopper.join();
    EXPECT_FALSE(result.finished);
    EXPECT_LT(std::chrono::duration<double>(ended - asked).count(), 1.0);
    EXPECT_TRUE(std::filesystem::exists(o.checkpoint));
    EXPECT_TRUE(std::filesystem::exists(o.weights)) << "what was learnt so far is not lost";
}

TEST_F(TrainerTest, ReportsProgress) {
    TrainOptions o = tiny("progress");
    o.validation_interval = 20;
    Trainer trainer(o);
    fill(trainer);
    std::vector<std::uint64_t> validated;
    double last = 0;
    trainer.run([&](const TrainProgress& p) {
        if (p.validation)
            validated.push_back(p.step);
        EXPECT_GE(p.fraction, last);
        last = p.fraction;
        EXPECT_GT(p.loss, 0.0);
        EXPECT_GT(p.seconds_per_step, 0.0);
    });
    EXPECT_EQ(validated, (std::vector<std::uint64_t>{20, 40, 60}));
    EXPECT_EQ(last, 1.0);
}

TEST_F(TrainerTest, RefusesWhatCannotWork) {
    const auto refused = [this](auto change) {
        TrainOptions o = tiny("bad");
        change(o);
        EXPECT_THROW(Trainer{o}, Error);
    };
    refused([](TrainOptions& o) { o.weights.clear(); });
    refused([](TrainOptions& o) { o.batch = 0; });
    refused([](TrainOptions& o) { o.patch = 3; });
    refused([](TrainOptions& o) { o.network.filters = 0; });
    refused([](TrainOptions& o) { o.learning_rate = std::nan(""); });
    refused([](TrainOptions& o) { o.checkpoint.clear(), o.resume = true; });
    refused([](TrainOptions& o) { o.run.device = "tpu"; });

    Trainer trainer(tiny("bad"));
    EXPECT_THROW(trainer.run({}), Error) << "no windows";
    std::vector<float> input(small.count(), 1.0F);
    EXPECT_THROW(trainer.add(input, std::span(input).first(10), small), Error);
    input[7] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(trainer.add(input, std::vector<float>(small.count(), 1.0F), small), Error);
    EXPECT_THROW(trainer.add(std::vector<float>(small.count(), 1.0F), input, small), Error);
}

TEST_F(TrainerTest, WritesNothingWhereItCannot) {
    TrainOptions o = tiny("unwritable");
    std::filesystem::create_directory(path("gone"));
    o.weights = path("gone/file.safetensors");
    o.steps = 1;
    Trainer trainer(o);
    EXPECT_TRUE(std::filesystem::is_empty(path("gone")));
    fill(trainer);
    std::filesystem::remove(path("gone"));
    try {
        trainer.run({});
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::open_write);
    }
    for (const auto file : {&TrainOptions::weights, &TrainOptions::checkpoint}) {
        TrainOptions o = tiny("anywhere");
        o.*file = path("no-such-folder/file");
        try {
            Trainer{o};
            ADD_FAILURE() << "a file in a folder that is not there";
        } catch (const Error& e) {
            EXPECT_NE((std::string(e.what()) + e.detail()).find("no-such-folder"), std::string::npos)
                << e.what();
        }
    }
}

TEST_F(TrainerTest, CacheGivesBackWhatItTook) {
    const std::size_t bytes = small.count() * 2 * sizeof(float);
    WindowCache cache(2 * bytes + 1, 3 * bytes, folder_.path());
    std::vector<TrainingWindow> windows;
    for (unsigned i = 0; i < 5; ++i) {
        TrainingWindow window{small, 1.0F + static_cast<float>(i), {}, {}};
        make_pair(i, window.input, window.truth);
        windows.push_back(window);
        cache.add(window);
    }
    EXPECT_EQ(cache.in_memory(), 2U);
    EXPECT_EQ(cache.size(), 5U);
    for (const std::size_t i : {4, 0, 3, 1, 2, 4}) {
        const TrainingWindow& window = cache.at(i);
        EXPECT_EQ(window.shape, windows[i].shape);
        EXPECT_EQ(window.scale, windows[i].scale);
        EXPECT_EQ(window.input, windows[i].input);
        EXPECT_EQ(window.truth, windows[i].truth);
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder_.path())) << "the file has no name";
    try {
        cache.add(windows[0]);
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_memory);
    }
    WindowCache nowhere(0, bytes, path("missing"));
    EXPECT_THROW(nowhere.add(windows[0]), Error);
}

TEST_F(TrainerTest, SamplesAreCutAndVariedTogether) {
    TrainingWindow window{small, 1.0F, {}, {}};
    window.input.resize(small.count());
    std::iota(window.input.begin(), window.input.end(), 0.0F);
    window.truth = window.input;
    for (float& value : window.truth)
        value *= 2.0F;
    bool reversed = false;
    bool turned = false;
    bool began_later = false;
    for (std::uint64_t seed = 0; seed < 64; ++seed) {
        const TrainingSample sample = draw_sample(window, {8, true, true}, seed);
        ASSERT_EQ(sample.shape, (WindowShape{8, 8, 8}));
        ASSERT_EQ(sample.input.size(), 2 * sample.truth.size());
        for (std::size_t i = 0; i < sample.truth.size(); ++i) {
            // Both channels add up to the magnitude, and input and truth are of the same pixel and the same
            // gain. Values reach 4000 in float32: 4000 x 2^-23 a rounding, some roundings.
            ASSERT_NEAR(2.0F * (sample.input[2 * i] + sample.input[2 * i + 1]), sample.truth[i], 0.01F);
        }
        const float first = sample.truth.front();
        const float last = sample.truth.back();
        reversed |= sample.truth[0] > sample.truth[7 * 64];
        turned |= std::abs(sample.truth[1] - sample.truth[0]) > 10.0F;
        ASSERT_NE(first, last);
        const TrainingSample again = draw_sample(window, {8, true, true}, seed);
        ASSERT_EQ(again.input, sample.input) << "the same seed gives the same sample";
    }
    EXPECT_TRUE(reversed);
    EXPECT_TRUE(turned);
    const TrainingSample whole = draw_sample(window, {0, false, false}, 1);
    EXPECT_EQ(whole.input, window.input);
    EXPECT_EQ(whole.truth, window.truth);
    EXPECT_THROW(draw_sample({{2, 8, 8}, 1.0F, std::vector<float>(128), std::vector<float>(128)}, {}, 1),
                 Error);

    // For a network that looks back alone time runs on, and the mean began with the window.
    for (std::uint64_t seed = 0; seed < 64; ++seed) {
        const TrainingSample sample = draw_sample(window, {8, true, true, 1000, 4}, seed);
        ASSERT_EQ(sample.shape, (WindowShape{4, 8, 8}));
        ASSERT_LT(sample.truth[0], sample.truth[3 * 64]) << "time is reversed";
        for (std::size_t i = 0; i < sample.truth.size(); ++i)
            ASSERT_NEAR(2.0F * (sample.input[2 * i] + sample.input[2 * i + 1]), sample.truth[i], 0.01F);
        // Values rise by a frame's pixels (times the gain, 0.9 to 1.1) from frame to frame, so that the first
        // frame is half its number in the window above the mean over all up to it.
        const float gain = (sample.truth[64] - sample.truth[0]) / 2.0F / static_cast<float>(small.pixels());
        const float number = sample.input[0] * 2.0F / (gain * static_cast<float>(small.pixels()));
        ASSERT_NEAR(number, std::round(number), 0.01F);
        ASSERT_LT(number, 4.5F);
        began_later |= number > 0.5F;
    }
    EXPECT_TRUE(began_later);

    std::vector<std::size_t> order = shuffled(100, 7);
    EXPECT_EQ(order, shuffled(100, 7));
    EXPECT_NE(order, shuffled(100, 8));
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); ++i)
        EXPECT_EQ(order[i], i);
}

/// Each shipped file is of one network of the table, which reads its options as they were written.
TEST(Networks, TheTableReadsTheShippedWeights) {
    std::set<std::string> shipped;
    for (const auto& entry : std::filesystem::directory_iterator(
             std::filesystem::path(find_weights("unet.safetensors")).parent_path()))
        if (entry.path().extension() == ".safetensors")
            shipped.insert(entry.path());
    ASSERT_FALSE(shipped.empty());
    for (const std::string& path : shipped) {
        const TensorFile file = read_weights(path);
        const NetworkRow& row = network_in(file);
        for (const NetworkRow& other : networks)
            EXPECT_EQ(other.holds(file), &other == &row) << path << ": " << other.nick;
        ASSERT_TRUE(row.training) << path;
        const NetworkTraining& training = training_of(row.training->kind);
        const NetworkOptions options = training.options_of(file, path);
        EXPECT_NO_THROW(training.check(options)) << path;
        const auto metadata = training.metadata(options);
        EXPECT_EQ(metadata.at("network"), file.metadata.at("network")) << path;
        for (const auto& [key, value] : metadata)
            if (file.metadata.contains(key)) { // a file may be older than an option
                EXPECT_EQ(value, file.metadata.at(key)) << path << ": " << key;
            }
    }
}

/// State dicts from elsewhere name no network: what is no U-Net is taken for a CRNN.
TEST(Networks, TheTableKnowsStateDictsFromElsewhere) {
    TensorFile file;
    EXPECT_STREQ(network_in(file).nick, "crnn");
    file.tensors["conv1.weight"] = {{1}, {0.0F}};
    EXPECT_STREQ(network_in(file).nick, "unet");
    file.metadata["network"] = "someone else's";
    EXPECT_STREQ(network_in(file).nick, "unet") << "whose reader refuses it";
    EXPECT_THROW(network_in(file).script(file, "file"), Error);
}

} // namespace
