// SPDX-License-Identifier: LGPL-2.1-or-later
#define MRI_SIMD_LANES 8
#define MRI_SIMD_TABLE kernels_avx2
#include "plugins/math/transform/simd_impl.hpp"
