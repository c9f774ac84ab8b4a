#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""layers.py on made-up trees: a tree by the rules passes, and each broken rule is found at its line."""

import os
import tempfile
import unittest

import layers

README = """# Map

| folder | holds | may include |
|---|---|---|
| `math/base` | errors | - |
| `math/fft` | transforms | `math/base` |
| `models/a`, `models/b` | networks | `math`, LibTorch |
| `common` | bases | `math`, GStreamer |
| `elements` | elements | `common`, `models`, GStreamer |
| `tests` | tests | everything |

| folder | holds |
|---|---|
| `else` | another table |
"""

TREE = {
    "plugins/README.md": README,
    "math/base/error.hpp": "#include <string>\n",
    "math/fft/fft.cpp": '#include "math/base/error.hpp"\n',
    "math/fft/kernels.cu": "#include <cuda.h>\n",
    "models/a/a.hpp": '#include "math/fft/fft.hpp"\n',
    "models/b/b.cpp": '#include "models/a/a.hpp"\n#include <torch/torch.h>\n',
    "math/fft/fft.hpp": "\n",
    "common/element.hpp": "#include <gst/gst.h>\n",
    # Two steps down, and none of LibTorch, which the row does not name.
    "elements/e.cpp": '#include "common/element.hpp"\n#include "math/base/error.hpp"\n#include "models/a/a.hpp"\n',
    "tests/test_e.cpp": '#include "elements/e.cpp"\n#include <gst/gst.h>\n#include <ATen/ATen.h>\n',
}


def problems(**changes):
    """The violations of TREE with other contents for some files; keys have __ for / and _DOT_ for the dot."""
    tree = dict(TREE)
    tree.update({name.replace("__", "/").replace("_DOT_", "."): text for name, text in changes.items()})
    with tempfile.TemporaryDirectory() as root:
        for name, text in tree.items():
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                f.write(text)
        return layers.check(root, list(tree))


class Layers(unittest.TestCase):
    def expect(self, name, line, part, **changes):
        found = problems(**changes)
        self.assertEqual(len(found), 1, found)
        self.assertEqual(found[0][:2], (name, line))
        self.assertIn(part, found[0][2])

    def test_a_tree_by_the_rules(self):
        self.assertEqual(problems(), [])

    def test_upwards(self):
        self.expect("math/base/error.hpp", 2, "math/base may not include math/fft",
                    math__base__error_DOT_hpp='\n#include "math/fft/fft.hpp"\n')
        self.expect("common/element.hpp", 1, "common may not include models/a",
                    common__element_DOT_hpp='#include "models/a/a.hpp"\n')
        self.expect("elements/e.cpp", 1, "elements may not include tests",
                    elements__e_DOT_cpp='#include "tests/test_e.cpp"\n')

    def test_a_path_that_is_not_the_full_one(self):
        for path in ("fft.hpp", "../fft/fft.hpp", "fft/fft.hpp"):
            self.expect("math/fft/fft.cpp", 1, "full path", math__fft__fft_DOT_cpp=f'#include "{path}"\n')

    def test_angle_brackets_do_not_go_round_the_table(self):
        self.expect("math/base/error.hpp", 1, "in quotes", math__base__error_DOT_hpp="#include <math/fft/fft.hpp>\n")

    def test_libraries_where_the_row_does_not_name_them(self):
        for header in ("gst/gst.h", "glib.h", "glib-object.h", "gio/gio.h"):
            self.expect("models/a/a.hpp", 1, "models/a may not include GStreamer",
                        models__a__a_DOT_hpp=f"#include <{header}>\n")
        for header in ("torch/torch.h", "ATen/ATen.h", "c10/core/Device.h"):
            self.expect("elements/e.cpp", 1, "elements may not include LibTorch",
                        elements__e_DOT_cpp=f"#  include <{header}>\n")

    def test_cuda_files_include_neither(self):
        for header in ("gst/gst.h", "torch/torch.h"):
            self.expect("tests/kernels.cu", 1, "a CUDA file may not include",
                        tests__kernels_DOT_cu=f"#include <{header}>\n")

    def test_a_row_for_a_file(self):
        row = "| `common/plain.hpp` | text | - |\n| `common` | bases |"
        tree = {"plugins__README_DOT_md": README.replace("| `common` | bases |", row).replace(
            "`math/base` |\n", "`math/base`, `common/plain.hpp` |\n")}
        self.assertEqual(problems(math__fft__fft_DOT_cpp='#include "common/plain.hpp"\n', common__plain_DOT_hpp="\n",
                                  **tree), [])
        self.expect("math/fft/fft.cpp", 1, "may not include common", common__plain_DOT_hpp="\n",
                    math__fft__fft_DOT_cpp='#include "common/element.hpp"\n', **tree)
        self.expect("common/plain.hpp", 1, "common/plain.hpp may not include GStreamer",
                    common__plain_DOT_hpp="#include <gst/gst.h>\n", **tree)

    def test_a_folder_without_a_row(self):
        self.expect("other/x.cpp", 1, "no row", other__x_DOT_cpp="\n")

    def test_the_table_itself(self):
        table = "plugins/README.md"

        def changed(old, new):
            self.assertIn(old, README)
            return {"plugins__README_DOT_md": README.replace(old, new)}

        self.expect(table, 6, "no folder math/gone", **changed("`math/fft` |", "`math/fft`, `math/gone` |"))
        self.expect(table, 8, "'Gtk' is neither", **changed("`math`, GStreamer", "`math`, Gtk, GStreamer"))
        self.expect(table, 8, "nowhere may be included and has no row",
                    **changed("`math`, GStreamer", "`math`, `nowhere`, GStreamer"))
        cycle = [p for p in problems(**changed("errors | - |", "errors | `math/fft` |")) if "cycle" in p[2]]
        self.assertEqual([p[:2] for p in cycle], [(table, 5), (table, 6)])
        self.assertTrue(problems(plugins__README_DOT_md="# No table\n"))


if __name__ == "__main__":
    unittest.main()
