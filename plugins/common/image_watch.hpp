// SPDX-License-Identifier: LGPL-2.1-or-later
// A look at each image that a reconstruction or a network made: what is no picture is not passed on in silence.
#pragma once

#include "plugins/common/element.hpp"
#include "plugins/math/image/magnitude.hpp"

#include <cmath>
#include <fmt/format.h>
#include <optional>
#include <string>
#include <utility>

namespace mri {

/// What follows on an image that is none.
enum class BadImage { mark, stop };

/// The row of the property on-bad-image.
template <class Impl, class Settings>
void add_bad_image(Properties<Impl>& p, BadImage Settings::*member) {
    p.choice("on-bad-image",
             "What follows on an image with values that are not finite, or far above its start", member,
             {{BadImage::mark, "mark", "Pass it on, flagged as corrupted, with one warning a series"},
              {BadImage::stop, "stop", "End with an error"}});
}

/// Of one stream; streaming thread.
class ImageWatch {
  public:
    /// A network's image is at most so many times as bright as the one that it started from: a diverging one
    /// passes that within a few frames.
    static constexpr float most_gain = 1000;

    /// A series begins: its first bad image is told.
    void begin(BadImage action) {
        action_ = action;
        told_ = false;
    }

    /// Looks at an image of float values, complex ones as two; `start` is the largest_value() of what a network was
    /// given. Flags a bad image (GST_BUFFER_FLAG_CORRUPTED) and warns, or throws Errc::failed, as begin() said.
    void look(Element& element, GstBuffer* image, std::optional<float> start = {}) {
        const float largest = largest_value(Mapped<const float>(image).span());
        std::string what;
        if (std::isnan(largest)) {
            what = "has values that are not finite";
        } else if (start) {
            if (!(*start > 0) || largest <= most_gain * *start)
                return;
            what = fmt::format("is {:.0f} times as bright as the image that the network was given",
                               static_cast<double>(largest) / *start);
        } else {
            return;
        }
        const GstClockTime pts = GST_BUFFER_PTS(image);
        const std::string text =
            fmt::format("The image{} {}",
                        GST_CLOCK_TIME_IS_VALID(pts) ? fmt::format(" at {:.3f} s", pts / 1e9) : "", what);
        if (action_ == BadImage::stop)
            throw Error(Errc::failed, text);
        GST_BUFFER_FLAG_SET(image, GST_BUFFER_FLAG_CORRUPTED);
        if (!std::exchange(told_, true))
            element.post_warning(text +
                                 ": it is flagged as corrupted, and so is each such image of this series");
    }

  private:
    BadImage action_ = BadImage::mark;
    bool told_ = false;
};

} // namespace mri
