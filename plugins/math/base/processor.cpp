// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/processor.hpp"

#include "plugins/math/base/error.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>

#ifdef MRI_HAVE_X86
#include <cpuid.h>
#endif

namespace mri::processor {

namespace {

std::atomic<int> chosen{-1};

void require(Isa isa) {
    const std::vector<Isa> list = available();
    if (std::find(list.begin(), list.end(), isa) == list.end())
        throw Error(Errc::unsupported,
                    "the instruction set " + std::string(name(isa)) + " is not available on this machine");
}

std::optional<Isa> from_environment() {
    const char* text = std::getenv("GST_MRI_ISA");
    if (!text || !*text)
        return std::nullopt;
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
        if (name(isa) == text) {
            require(isa);
            return isa;
        }
    throw Error(Errc::settings, "GST_MRI_ISA is \"" + std::string(text) + "\", not portable, avx2 or avx512");
}

} // namespace

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

Isa selected() {
    if (const int c = chosen.load(); c >= 0)
        return static_cast<Isa>(c);
    if (const auto isa = from_environment())
        return *isa;
    return available().back();
}

void select(Isa isa) {
    require(isa);
    chosen = static_cast<int>(isa);
}

#ifdef MRI_HAVE_X86

bool has_bmi2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("bmi2");
}

bool has_avx512_bf16() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16");
}

bool has_amx_bf16() {
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1U) != 0;
    }();
    return has;
}

#else

bool has_bmi2() {
    return false;
}

bool has_avx512_bf16() {
    return false;
}

bool has_amx_bf16() {
    return false;
}

#endif

} // namespace mri::processor
