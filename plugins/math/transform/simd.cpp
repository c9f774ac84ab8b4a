// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/simd.hpp"

#include "plugins/math/base/processor.hpp"

namespace mri::simd {

const TransformKernels& kernels() {
    switch (processor::selected()) {
#ifdef MRI_HAVE_X86
    case Isa::avx512:
        return kernels_avx512;
    case Isa::avx2:
        return kernels_avx2;
#endif
    default:
        return kernels_portable;
    }
}

} // namespace mri::simd
