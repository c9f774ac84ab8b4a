// SPDX-License-Identifier: LGPL-2.1-or-later
// An empty library that bears the name libtorch.so: see libtorch_name.hpp.
