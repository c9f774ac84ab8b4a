#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# make_registry.sh REGISTRY [PLUGIN_FOLDER...]: writes a GStreamer registry that knows the folders' plugins.
set -eu
GST_REGISTRY=$1
shift
GST_PLUGIN_PATH=$(IFS=:; echo "$*")
export GST_REGISTRY GST_PLUGIN_PATH
unset GST_REGISTRY_UPDATE
rm -f "$GST_REGISTRY"
gst-inspect-1.0 --exists fakesink
test -s "$GST_REGISTRY"
