// SPDX-License-Identifier: LGPL-2.1-or-later
// Everything that an element needs, by one include.
//
// An element is one C++ class behind one GObject: a base (Transform, Source, Regroup, Windowed, Sink or Bin)
// with its settings, a row for each property, the functions of the base that it overrides, and MRI_ELEMENT at
// the end of its file. plugins/sample/mrisample.cpp is the one to copy; plugins/README.md has the steps.
//
// Each virtual function of a base is called through guarded(), the exception firewall: an exception becomes
// exactly one error message on the bus (an element posts no second one until it is started again), and the
// flow returns GST_FLOW_ERROR. settings() is a copy taken under a lock: take it once a buffer. State lives
// between start() and stop().
#pragma once

#include "plugins/common/bin.hpp"
#include "plugins/common/caps.hpp"
#include "plugins/common/element_base.hpp"
#include "plugins/common/gst_ptr.hpp"
#include "plugins/common/metas.hpp"
#include "plugins/common/properties.hpp"
#include "plugins/common/registration.hpp"
#include "plugins/common/regroup.hpp"
#include "plugins/common/sink.hpp"
#include "plugins/common/source.hpp"
#include "plugins/common/transform.hpp"
#include "plugins/common/window.hpp"
#include "plugins/common/windowed.hpp"

// Standard headers that elements get from here.
#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>
