// SPDX-License-Identifier: LGPL-2.1-or-later
#define MRI_SIMD_LANES 4
#define MRI_SIMD_TABLE kernels_portable
#include "plugins/math/transform/simd_impl.hpp"
