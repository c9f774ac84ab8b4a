// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/element_base.hpp"

namespace mri {

/// A bin of other elements; constructed() builds it.
class Bin : public Element {
  public:
    using GstParent = GstBin;
    static GType parent_type() { return GST_TYPE_BIN; }
    static void install(gpointer klass);

    GstBin* bin() const { return GST_BIN(gst()); }
    /// Before NULL -> READY: the place to choose children. May throw.
    virtual void prepare() {}
    /// After READY -> NULL.
    virtual void release() {}
    /// A child has posted that its stream is at its end. May throw.
    virtual void child_eos(GstElement*) {}
};

} // namespace mri
