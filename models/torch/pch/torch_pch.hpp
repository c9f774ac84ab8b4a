// SPDX-License-Identifier: LGPL-2.1-or-later
// Compiled once for all sources of this folder: ATen takes ten seconds to parse.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
