// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/simd.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>

namespace mri::simd {

std::vector<Isa> available() {
    std::vector<Isa> list{Isa::portable};
#ifdef MRI_HAVE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        list.push_back(Isa::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        list.push_back(Isa::avx512);
#endif
    return list;
}

std::string_view name(Isa isa) {
    switch (isa) {
    case Isa::portable:
        return "portable";
    case Isa::avx2:
        return "avx2";
    case Isa::avx512:
        return "avx512";
    }
    return "unknown";
}

namespace {

std::atomic<int> chosen{-1};

void require(Isa isa) {
    auto list = available();
    if (std::find(list.begin(), list.end(), isa) == list.end())
        throw Error(Errc::unsupported,
                    "the instruction set " + std::string(name(isa)) + " is not available on this machine");
}

std::optional<Isa> from_environment() {
    const char* text = std::getenv("GST_MRI_ISA");
    if (!text || !*text)
        return std::nullopt;
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
        if (name(isa) == text) {
            require(isa);
            return isa;
        }
    throw Error(Errc::settings, "GST_MRI_ISA is \"" + std::string(text) + "\", not portable, avx2 or avx512");
}

} // namespace

Isa selected() {
    if (int c = chosen.load(); c >= 0)
        return Isa(c);
    if (auto isa = from_environment())
        return *isa;
    return available().back();
}

void select(Isa isa) {
    require(isa);
    chosen = int(isa);
}

const Kernels& kernels(Isa isa) {
    require(isa);
#ifdef MRI_HAVE_X86
    if (isa == Isa::avx512)
        return kernels_avx512;
    if (isa == Isa::avx2)
        return kernels_avx2;
#endif
    return kernels_portable;
}

} // namespace mri::simd
