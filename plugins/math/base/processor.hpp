// SPDX-License-Identifier: LGPL-2.1-or-later
// Which instructions there are: asked by everything that is compiled once per instruction set.
#pragma once

#include <string_view>
#include <vector>

namespace mri {

/// Instruction sets that inner loops are compiled for. avx2 stands for AVX2 and FMA, avx512 for AVX-512 F, DQ,
/// VL and BW.
enum class Isa { portable, avx2, avx512 };

namespace processor {

/// The sets that were compiled in and that this processor and its operating system run, the best one last.
std::vector<Isa> available();
/// "portable", "avx2" or "avx512".
std::string_view name(Isa isa);
/// The set that inner loops are taken from: the best available one, or what the environment variable
/// GST_MRI_ISA or select() said. Throws Errc::settings when GST_MRI_ISA names an unknown set,
/// Errc::unsupported when it names one that is not available.
Isa selected();
/// Overrides the choice for what asks later (tests, benches). Throws Errc::unsupported for a set that is not
/// available.
void select(Isa isa);

/// Instructions that some inner loops need beside avx512, whatever set is selected.
bool has_bmi2();
bool has_avx512_bf16();
/// Whether the processor multiplies matrices of bfloat16. The operating system is not asked.
bool has_amx_bf16();

} // namespace processor
} // namespace mri
