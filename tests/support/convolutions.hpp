// SPDX-License-Identifier: LGPL-2.1-or-later
// Tests of networks, each with both kinds of convolutions.
#pragma once

#include "plugins/gridding/simd.hpp"

#include <gtest/gtest.h>
#include <string>

namespace mri::test {

/// With convolutions of our own where this processor has them, and with LibTorch's.
struct EveryConvolution : testing::TestWithParam<simd::Isa> {
    void SetUp() override { simd::select(GetParam()); }
    void TearDown() override { simd::select(simd::available().back()); }
};

inline auto every_convolution() {
    return testing::Values(simd::Isa::portable, simd::available().back());
}

inline std::string convolution_name(const testing::TestParamInfo<simd::Isa>& info) {
    return info.index == 0 ? "LibTorch" : "Own";
}

} // namespace mri::test
