// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/coils/sensitivities.hpp"
#include "plugins/math/transform/cuda/device.hpp"

#include <gtest/gtest.h>

#include <random>

using namespace mri;
using Kind = ComputeDevice::Kind;

TEST(ComputeDevice, ReadsItsNames) {
    EXPECT_EQ(ComputeDevice::parse("auto").kind, Kind::automatic);
    EXPECT_EQ(ComputeDevice::parse("cpu").kind, Kind::cpu);
    EXPECT_EQ(ComputeDevice::parse("cuda").kind, Kind::cuda);
    EXPECT_EQ(ComputeDevice::parse("cuda").index, 0);
    EXPECT_EQ(ComputeDevice::parse("cuda:12").index, 12);
    for (const char* text :
         {"", "CUDA", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999", "gpu", "cpu "})
        try {
            ComputeDevice::parse(text);
            ADD_FAILURE() << text;
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Errc::settings);
        }
}

TEST(ComputeDevice, ResolvesToWhatIsThere) {
    std::string why, reason = "of before";
    const int count = CudaNufft::devices(&why);
    EXPECT_EQ(ComputeDevice::parse("cpu").resolve(reason).kind, Kind::cpu);
    EXPECT_EQ(reason, "");
    const ComputeDevice best = ComputeDevice::parse("auto").resolve(reason);
    EXPECT_EQ(best.kind, count > 0 ? Kind::cuda : Kind::cpu);
    EXPECT_EQ(reason, why) << "a fall-back has its reason";
    try {
        ComputeDevice::parse("cuda:" + std::to_string(count)).resolve(reason);
        ADD_FAILURE() << "there is no such device";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::no_device);
        EXPECT_NE(std::string(e.what()).find(count == 0 ? why : "counted from 0"), std::string::npos)
            << e.what();
    }
    if (count > 0) {
        EXPECT_EQ(ComputeDevice::parse("cuda").resolve(reason).kind, Kind::cuda);
    }
}

TEST(DeviceNufft, CombinesOnTheProcessorToo) {
    constexpr int w = 24, h = 20, coils = 3, points = 200;
    std::mt19937 gen(1);
    std::normal_distribution<float> normal;
    std::vector<float> k, weights;
    for (int i = 0; i < points; ++i) {
        k.push_back(4 * normal(gen));
        k.push_back(3 * normal(gen));
        weights.push_back(std::abs(normal(gen)));
    }
    std::vector<cfloat> samples(points * coils);
    for (auto& s : samples)
        s = {normal(gen), normal(gen)};
    Nufft plain(w, h);
    DeviceNufft nufft(w, h, {}, ComputeDevice::parse("cpu"));
    plain.set_points(k);
    nufft.set_points(k);
    EXPECT_EQ(nufft.points(), static_cast<std::size_t>(points));
    std::vector<cfloat> images(w * h * coils), same(images.size()), expected(w * h), one(w * h);
    plain.adjoint(samples.data(), weights, images.data(), coils);
    nufft.adjoint(samples.data(), weights, same.data(), coils);
    EXPECT_EQ(same, images);
    root_sum_of_squares(images.data(), coils, w * h, expected.data());
    nufft.adjoint_rss(samples.data(), weights, one.data(), coils);
    const auto near = [](const std::vector<cfloat>& a, const std::vector<cfloat>& b) {
        float error = 0, power = 0;
        for (std::size_t i = 0; i < b.size(); ++i) {
            error += std::norm(a[i] - b[i]);
            power += std::norm(b[i]);
        }
        // Sums of three products, with and without fused multiply-adds: float32 rounding of 6e-8 each.
        return error < 1e-12f * power;
    };
    EXPECT_TRUE(near(one, expected));
    std::vector<cfloat> a(samples.size()), b(samples.size());
    plain.forward(images.data(), a.data(), coils);
    nufft.forward(images.data(), b.data(), coils);
    EXPECT_EQ(b, a);

    std::vector<cfloat> maps(images.size());
    for (auto& m : maps)
        m = {normal(gen), normal(gen)};
    EXPECT_THROW(nufft.adjoint_sense(samples.data(), weights, one.data()), Error);
    EXPECT_THROW(nufft.forward_sense(one.data(), b.data()), Error);
    nufft.set_sensitivities(maps.data(), coils);
    nufft.adjoint_sense(samples.data(), weights, one.data());
    plain.adjoint_sense(samples.data(), weights, maps.data(), expected.data(), coils);
    EXPECT_EQ(one, expected);
    nufft.forward_sense(one.data(), b.data());
    plain.forward_sense(one.data(), maps.data(), a.data(), coils);
    EXPECT_EQ(b, a);
}
