// SPDX-License-Identifier: LGPL-2.1-or-later
// Tests of networks, each with every kind of convolutions.
#pragma once

#include "plugins/math/base/processor.hpp"

#include <gtest/gtest.h>
#include <string>

namespace mri::test {

/// With LibTorch's convolutions, and with our own for each instruction set that this processor has.
struct EveryConvolution : testing::TestWithParam<Isa> {
    void SetUp() override { processor::select(GetParam()); }
    void TearDown() override { processor::select(processor::available().back()); }
};

inline auto every_convolution() {
    return testing::ValuesIn(processor::available());
}

inline std::string convolution_name(const testing::TestParamInfo<Isa>& info) {
    return info.param == Isa::portable ? "LibTorch" : std::string(processor::name(info.param));
}

} // namespace mri::test
