// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/printable.hpp"

#include <gtest/gtest.h>

using mri::printable;

TEST(Printable, KeepsText) {
    for (const char* text : {"", "conv1.weight", "Müller \\ 心 🫀", "a b~"})
        EXPECT_EQ(printable(text), text);
}

TEST(Printable, ShowsControlCharacters) {
    EXPECT_EQ(printable("\x1b[31mRED\x1b]0;t\x07"), "\\x1b[31mRED\\x1b]0;t\\x07");
    EXPECT_EQ(printable(std::string_view("a\0b\x7f", 4)), "a\\x00b\\x7f");
    EXPECT_EQ(printable("one\r\ntwo\t"), "one\\x0d\\x0atwo\\x09");
    EXPECT_EQ(printable("one\ntwo\t\r", true), "one\ntwo\t\\x0d");
    EXPECT_EQ(printable("\xc2\x9b"
                        "31m"),
              "\\xc2\\x9b31m"); // a control sequence in one character
    EXPECT_EQ(printable("\xc2\xa0"), "\xc2\xa0");
}

TEST(Printable, ShowsBytesThatAreNoText) {
    EXPECT_EQ(printable("\x9b"
                        "31m"),
              "\\x9b31m");
    EXPECT_EQ(printable("a\xe5\xbf"), "a\\xe5\\xbf");        // cut off
    EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b");          // overlong
    EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80"); // a surrogate
    EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}
