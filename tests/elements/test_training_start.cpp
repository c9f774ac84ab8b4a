// SPDX-License-Identifier: LGPL-2.1-or-later
// A network meets in a pipeline the images that it was trained on.
#include "models/training/task.hpp"
#include "plugins/common/metas.hpp"
#include "tests/support/gst_test.hpp"

#include <cmath>

using namespace mri;
using namespace mri::test;

namespace {

constexpr WindowShape shape{8, 48, 40};

/// Weights of a tiny cascade; its images play no part.
TensorFile tiny_cascade(const CascadeOptions& options) {
    TensorFile file;
    for (const auto& [name, dimensions] : cascade_tensors(options)) {
        NamedTensor tensor{dimensions, {}};
        tensor.values.assign(tensor.count(), 0.01F);
        file.tensors[name] = tensor;
    }
    file.metadata = cascade_metadata(options);
    file.metadata["window"] = std::to_string(shape.frames);
    return file;
}

} // namespace

TEST(TrainingStart, IsThePipelines) {
    const TempDir folder;
    for (const bool causal : {false, true}) {
        SCOPED_TRACE(causal ? "causal" : "windows");
        TrainOptions options;
        options.kind = NetworkKind::cascade;
        options.cascade = {.blocks = 1, .filters = 2, .layers = 2, .causal = causal};
        options.scan.validation_spokes = {7};
        const std::string weights = folder.path("tiny.safetensors");
        write_safetensors(weights, tiny_cascade(options.cascade));

        std::vector<float> truth, start;
        const auto append = [](std::vector<float>& to, GstSample* side) {
            ASSERT_TRUE(side);
            if (ImageInfo::from_caps(gst_sample_get_caps(side)).format == SampleFormat::f32) {
                const auto values = values_of<float>(gst_sample_get_buffer(side));
                to.insert(to.end(), values.begin(), values.end());
            } else {
                for (const auto& value : values_of<cfloat>(gst_sample_get_buffer(side)))
                    to.push_back(std::abs(value));
            }
        };
        const RunResult run = run_pipeline(
            "mriphantomsrc num-buffers=8 width=40 height=48 seed=3 ! mrisim spokes=7 ! mriframer ! "
            "mricascade precision=float32 attach-input=true weights=" +
                weights + " ! appsink name=out",
            60, [&](const std::string&, GstSample* sample) {
                append(truth, side_of(gst_sample_get_buffer(sample), Role::truth));
                append(start, side_of(gst_sample_get_buffer(sample), Role::input));
            });
        ASSERT_TRUE(run.eos);
        ASSERT_EQ(truth.size(), shape.count());
        ASSERT_EQ(start.size(), shape.count());

        const auto task = make_cascade_task(options, {at::Device(at::kCPU), at::kFloat});
        const auto judged = task->judge({shape, 1, {}, truth}, 0, true);
        ASSERT_EQ(judged.output.size(), start.size());
        double error = 0, power = 0;
        for (std::size_t i = 0; i < start.size(); ++i) {
            error += std::pow(judged.output[i] - start[i], 2);
            power += std::pow(start[i], 2);
        }
        // Training divides the images by their scale and multiplies them again: roundings of float32.
        EXPECT_LT(std::sqrt(error / power), 1e-6);
    }
}
