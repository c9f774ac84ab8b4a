// SPDX-License-Identifier: LGPL-2.1-or-later
// A patient that no network was trained on goes through the whole chain with the shipped weights.
#include "tests/support/gst_test.hpp"

#include <filesystem>

namespace {

using namespace mri;

double figure(const GstStructure* structure, const char* name) {
    double value = 0;
    EXPECT_TRUE(gst_structure_get_double(structure, name, &value)) << name;
    return value;
}

TEST(RealCine, TheNetworkStandsAboveTheReconstructionThatFeedsIt) {
    const std::string data = test::env("GST_MRI_DATA");
    if (data.empty())
        GTEST_SKIP() << "GST_MRI_DATA does not name the folder with the data";
    const std::string patient = data + "/sunnybrook/SCD0000301";
    if (!std::filesystem::is_directory(patient))
        GTEST_SKIP() << "GST_MRI_DATA has no sunnybrook/SCD0000301";
    const std::string weights = test::env("GST_MRI_MODELS_PATH") + "/unet.safetensors";
    if (!std::filesystem::exists(weights))
        GTEST_SKIP() << "models/weights has no unet.safetensors";

    const auto result =
        test::run_pipeline("mridicomsrc location=\"" + patient +
                               "\" width=192 height=192 ! mrisim spokes=13 ! mriframer "
                               "! mrirecon ! mricrop width=128 height=128 "
                               "! mriunet weights=\"" +
                               weights + "\" attach-input=true ! mrimetrics input=true ! fakesink",
                           500);
    ASSERT_TRUE(result.errors.empty()) << result.errors[0];
    ASSERT_TRUE(result.eos);
    EXPECT_TRUE(result.warnings.empty()) << result.warnings[0];
    const GstStructure* summary = nullptr;
    for (const auto& message : result.messages)
        if (gst_structure_has_name(message.get(), "mri-metrics-summary"))
            summary = message.get();
    ASSERT_NE(summary, nullptr);
    guint series = 0;
    EXPECT_TRUE(gst_structure_get_uint(summary, "series", &series));
    EXPECT_GT(series, 1u);

    const double psnr = figure(summary, "psnr"), moving = figure(summary, "psnr-moving");
    const double input = figure(summary, "input-psnr"), input_moving = figure(summary, "input-psnr-moving");
    RecordProperty("psnr", std::to_string(psnr));
    RecordProperty("psnr-moving", std::to_string(moving));
    RecordProperty("input-psnr", std::to_string(input));
    RecordProperty("input-psnr-moving", std::to_string(input_moving));
    std::printf("network %.2f dB, moving %.2f; mrirecon %.2f dB, moving %.2f; %u series\n", psnr, moving,
                input, input_moving, series);
    // Static background plus gridded residual had 29.6 and 24.6 dB on these images when its method was
    // chosen.
    EXPECT_GE(input, 29.6);
    EXPECT_GE(input_moving, 24.6);
    // A network that only smooths gains on the still pixels; the moving ones have to gain more.
    EXPECT_GE(psnr, input + 1);
    EXPECT_GE(moving, input_moving + 2);
}

} // namespace
