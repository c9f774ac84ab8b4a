// SPDX-License-Identifier: LGPL-2.1-or-later
#define MRI_WINOGRAD_LANES 8
#define MRI_WINOGRAD_TABLE kernels_avx2
#include "models/kernels/winograd3d/winograd3d_impl.hpp"
