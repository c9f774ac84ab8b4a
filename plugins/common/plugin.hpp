// SPDX-License-Identifier: LGPL-2.1-or-later
// The entry of a plugin in one line, for the one file of a plugin that has it.
#pragma once

#include <gst/gst.h>
#include <initializer_list>

#ifndef PACKAGE // GST_PLUGIN_DEFINE names the source module by it
#define PACKAGE "gst-mri"
#endif

/// Defines the plugin NAME (file libgstNAME.so) of elements by the functions that MRI_ELEMENT defines:
///
///     MRI_PLUGIN(mrisample, "What it does in one sentence", "1.0", "LGPL", mri_register_mrisample)
///
/// LICENCE is one that GStreamer knows ("LGPL", "MIT/X11", "BSD", "Proprietary" ...): it refuses others.
#define MRI_PLUGIN(NAME, DESCRIPTION, VERSION, LICENCE, ...)                                                 \
    static gboolean mri_plugin_init(GstPlugin* plugin) {                                                     \
        for (auto* const register_element : {__VA_ARGS__})                                                   \
            if (!register_element(plugin))                                                                   \
                return FALSE;                                                                                \
        return TRUE;                                                                                         \
    }                                                                                                        \
    GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, NAME, DESCRIPTION, mri_plugin_init, VERSION,     \
                      LICENCE, PACKAGE, "Unknown package origin")
