// SPDX-License-Identifier: LGPL-2.1-or-later
// The entry of a plugin outside the tree: a declaration for each of its elements, and one line.
#include "plugins/common/plugin.hpp"

gboolean mri_register_mrisample(GstPlugin* plugin);

MRI_PLUGIN(mrisample, "An element of one's own", "1.0", "LGPL", mri_register_mrisample)
