// SPDX-License-Identifier: LGPL-2.1-or-later
// Tests of networks, each with every kind of convolutions.
#pragma once

#include "plugins/math/transform/simd.hpp"

#include <gtest/gtest.h>
#include <string>

namespace mri::test {

/// With LibTorch's convolutions, and with our own for each instruction set that this processor has.
struct EveryConvolution : testing::TestWithParam<simd::Isa> {
    void SetUp() override { simd::select(GetParam()); }
    void TearDown() override { simd::select(simd::available().back()); }
};

inline auto every_convolution() {
    return testing::ValuesIn(simd::available());
}

inline std::string convolution_name(const testing::TestParamInfo<simd::Isa>& info) {
    return info.param == simd::Isa::portable ? "LibTorch" : std::string(simd::name(info.param));
}

} // namespace mri::test
