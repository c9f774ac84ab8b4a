// SPDX-License-Identifier: LGPL-2.1-or-later
// The name libtorch.so, for compiled packages. Pure C++.
#pragma once

namespace mri {

/// Sees to it that the dynamic linker can satisfy "libtorch.so" for libraries that are opened later in this
/// process.
///
/// Every package that AOTInductor compiles asks for that library. It holds no code of its own: it brings
/// libtorch_cpu, which is here already, and in PyPI's wheel libtorch_cuda with all of CUDA's libraries, which
/// a machine without CUDA does not have and which one with it must not load for work on the processor. The
/// linker searches nothing whose SONAME is already there; so, unless there is a libtorch.so (loaded before,
/// or opened now when `cuda` says that a CUDA device is in use), an empty library with that name is opened.
///
/// Does nothing where that one cannot be found: opening the package then says what is missing.
void provide_libtorch_name(bool cuda);

} // namespace mri
