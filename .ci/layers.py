#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""layers.py [ROOT]: holds the #include lines of all C++ files against the table in plugins/README.md.

The rules: each folder with C++ files has a row; #include "..." gives the full path of a file of the tree; a file
includes its own row's folders, those that the row names, and what these may include in their turn; GStreamer's and
LibTorch's headers only where the row itself names them, and never in a .cu or .cuh file; the table has no cycle.
Each violation is printed as FILE:LINE: RULE, and the exit status is 1.
"""

import os
import re
import subprocess
import sys

TABLE = "plugins/README.md"
SOURCES = (".cpp", ".hpp", ".h", ".cu", ".cuh", ".cpp.in")
LIBRARIES = {
    "GStreamer": re.compile(r"^(gst|glib|gio|gobject|gmodule)(/|-|\.h$|object\.h$)"),
    "LibTorch": re.compile(r"^(torch|ATen|c10|caffe2)/"),
}
EVERYTHING = "everything"
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


class Row:
    def __init__(self, line, folders, allowed, libraries):
        self.line, self.folders, self.allowed, self.libraries = line, folders, allowed, libraries


def read_table(text):
    """The rows below the header that ends in `may include`, and the problems of the table itself."""
    rows, problems, inside = [], [], False
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == "folder" and cells[-1] == "may include":
            inside = True
        elif inside and not set(line) <= set("|-: "):
            allowed, libraries = re.findall(r"`([^`]+)`", cells[-1]), set()
            words = re.sub(r"`[^`]+`", " ", cells[-1]).replace(",", " ").split()
            for word in words:
                if word in LIBRARIES:
                    libraries.add(word)
                elif word == EVERYTHING:
                    libraries.update(LIBRARIES)
                    allowed.append(EVERYTHING)
                elif word != "-":
                    problems.append((TABLE, number, f"'{word}' is neither a `folder`, GStreamer, LibTorch nor everything"))
            rows.append(Row(number, re.findall(r"`([^`]+)`", cells[0]), allowed, libraries))
    if not rows:
        problems.append((TABLE, 1, "has no table with the columns 'folder' and 'may include'"))
    return rows, problems


def is_under(path, folder):
    return path == folder or path.startswith(folder + "/")


def row_of(path, rows):
    """The row of a file or folder: the one that names the longest folder above it."""
    found, length = None, -1
    for row in rows:
        for folder in row.folders:
            if is_under(path, folder) and len(folder) > length:
                found, length = row, len(folder)
    return found


def direct(row, rows):
    """The rows that a row names. A folder stands for itself and for those below it that have rows of their own."""
    if EVERYTHING in row.allowed:
        return [other for other in rows if other is not row]
    return [other for other in rows if other is not row
            for folder in row.allowed if any(is_under(f, folder) or row_of(folder, rows) is other for f in other.folders)]


def reachable(row, rows):
    """The rows whose files the row's files may include: itself, and all below it."""
    seen, open_ = [row], [row]
    while open_:
        for other in direct(open_.pop(), rows):
            if other not in seen:
                seen.append(other)
                open_.append(other)
    return seen


def check(root, files):
    """The violations among the files (paths relative to root), as (file, line, rule)."""
    with open(os.path.join(root, TABLE), encoding="utf-8") as f:
        rows, problems = read_table(f.read())
    tree = set(files)
    sources = sorted(f for f in files if f.endswith(SOURCES))
    for row in rows:
        for folder in row.folders:
            if not any(is_under(f, folder) for f in tree):
                problems.append((TABLE, row.line, f"there is no folder {folder}"))
        for folder in row.allowed:
            if folder != EVERYTHING and not any(is_under(folder, f) or is_under(f, folder)
                                                for other in rows for f in other.folders):
                problems.append((TABLE, row.line, f"{folder} may be included and has no row"))
        if any(row in direct(other, rows) for other in reachable(row, rows) if other is not row):
            problems.append((TABLE, row.line, f"{row.folders[0]} may include itself by way of another row: a cycle"))
    below = {id(row): reachable(row, rows) for row in rows}
    for name in sources:
        row = row_of(name, rows)
        if not row:
            problems.append((name, 1, f"its folder has no row in {TABLE}"))
            continue
        with open(os.path.join(root, name), encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                quoted, system = match.groups()
                for library, pattern in LIBRARIES.items():
                    if not pattern.match(quoted or system):
                        continue
                    if name.endswith((".cu", ".cuh")):
                        problems.append((name, number, f"a CUDA file may not include {library}"))
                    elif library not in row.libraries:
                        problems.append((name, number, f"{row.folders[0]} may not include {library}"))
                if system in tree:
                    problems.append((name, number, f"{system} is a file of the tree: include it in quotes"))
                if not quoted or any(p.match(quoted) for p in LIBRARIES.values()):
                    continue
                if quoted not in tree:
                    problems.append((name, number, f'"{quoted}" is not the full path of a file of the tree'))
                elif row_of(quoted, rows) not in below[id(row)]:
                    problems.append((name, number, f"{row.folders[0]} may not include {os.path.dirname(quoted)}"))
    return problems


def main(arguments):
    root = arguments[0] if arguments else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            check=True, capture_output=True, text=True).stdout.split("\0")
    # What git lists and the folder lacks is a deletion that is not committed yet.
    problems = check(root, [f for f in listed if f and os.path.exists(os.path.join(root, f))])
    for name, number, rule in sorted(problems):
        print(f"{name}:{number}: {rule}")
    if problems:
        print(f"{TABLE} has the table of what may include what", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
