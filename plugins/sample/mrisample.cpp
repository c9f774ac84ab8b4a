// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mrisample
//
// Scales and shifts real images: out = gain * in + offset. The element to copy for one of your own; it is
// built for the tests alone.
//
// Latency: none. Caps: application/x-mri-image of format F32LE in and out, the same.
//
// |[
// gst-launch-1.0 mriphantomsrc num-buffers=10 ! mrisample gain=2 offset=1 ! fakesink
// ]|
#include "plugins/common/element.hpp"

#include <algorithm>

namespace {

using namespace mri;

// The defaults of the properties stand here and nowhere else.
struct SampleSettings {
    double gain = 1;
    double offset = 0;
    bool count = false;
};

class MriSample : public Configured<Transform, SampleSettings> {
  public:
    static constexpr ElementInfo info{"mrisample", "GstMriSample", "MRI sample", "Filter/Converter/MRI",
                                      "Scales and shifts real images"};
    static constexpr const char* sink_caps = MRI_IMAGE_F32_CAPS; // nullptr: no such pad
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<MriSample>& p) {
        using S = SampleSettings;
        p.real("gain", "Factor of each pixel", -1e6, 1e6, &S::gain, Mutable::playing);
        p.real("offset", "Value added to each pixel, in the unit of the output", -1e6, 1e6, &S::offset,
               Mutable::playing);
        p.boolean("count", "Post an element message mri-sample with the number of frames at the end",
                  &S::count);
    }

  protected:
    // State lives between start() and stop().
    bool start() override {
        frames_ = 0;
        return true;
    }
    void set_caps(const GstCaps* in, const GstCaps*) override { image_ = ImageInfo::from_caps(in); }
    std::size_t output_size(GstBuffer*) override { return image_.bytes(); }
    void transform(GstBuffer* in, GstBuffer* out) override {
        const SampleSettings s = settings();
        image_.check_size(gst_buffer_get_size(in)); // throws: one error on the bus, the flow ends
        const Mapped<const float> from(in);
        const Mapped<float> to(out);
        std::transform(from.span().begin(), from.span().end(), to.span().begin(),
                       [&s](float pixel) { return static_cast<float>(s.gain * pixel + s.offset); });
        ++frames_;
    }
    void event(GstEvent* event) override {
        if (GST_EVENT_TYPE(event) == GST_EVENT_EOS && settings().count)
            post_message(
                StructurePtr(gst_structure_new("mri-sample", "frames", G_TYPE_UINT64, frames_, nullptr)));
    }

  private:
    ImageInfo image_;    // streaming thread, as the next one
    guint64 frames_ = 0; // since start()
};

} // namespace

MRI_ELEMENT(mrisample, MriSample)
