// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers of XML have a decimal point. gst-launch-1.0 sets the user's locale, and there std::to_string and
// the parser within libismrmrd may know a comma alone: 240.75 would be written as 240,75 and read as 240.
#pragma once

#include <locale.h>

namespace mri {

/// While one lives, this thread reads and writes numbers with a point.
class PlainNumbers {
  public:
    PlainNumbers() : plain_(newlocale(LC_ALL_MASK, "C", nullptr)), before_(uselocale(plain_)) {}
    ~PlainNumbers() {
        uselocale(before_);
        if (plain_)
            freelocale(plain_);
    }
    PlainNumbers(const PlainNumbers&) = delete;
    PlainNumbers& operator=(const PlainNumbers&) = delete;

  private:
    locale_t plain_, before_;
};

} // namespace mri
