// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "plugins/common/element_base.hpp"

#include <cstddef>
#include <gst/base/gstbasetransform.h>

namespace mri {

/// One buffer in, one buffer out, on GstBaseTransform.
class Transform : public Element {
  public:
    using GstParent = GstBaseTransform;
    static GType parent_type() { return GST_TYPE_BASE_TRANSFORM; }
    static void install(gpointer klass);
    static void set_up(Element& element);

    virtual bool start() { return true; }
    virtual void stop() {}
    /// Caps that are possible on the other pad; the default passes them through. `caps` may be several
    /// structures and not fixed.
    virtual GstPtr<GstCaps> transform_caps(GstPadDirection direction, GstCaps* caps);
    /// Both caps are fixed.
    virtual void set_caps(const GstCaps* in, const GstCaps* out) = 0;
    /// Bytes of the output buffer for this input. Not called for an element that is always_passthrough().
    virtual std::size_t output_size(GstBuffer*) { return 0; }
    /// Computes `out` from `in`; time stamps and metas are on it already and it is writable.
    virtual void transform(GstBuffer*, GstBuffer*) {}
    /// true: buffers pass unchanged through inspect().
    virtual bool always_passthrough() const { return false; }
    virtual void inspect(GstBuffer*) {}
    /// Sees each sink event before it goes on.
    virtual void event(GstEvent*) {}
};

} // namespace mri
