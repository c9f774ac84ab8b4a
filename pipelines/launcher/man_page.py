#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""man_page.py PROGRAM VERSION OUTPUT: a manual page (section 1) from --help of a program and of its subcommands.

Reads what CLI11 prints: sentences, "Usage: ...", headings that end in a colon with rows "  NAME   meaning" below, and
closing paragraphs, of which "Exit codes: CODE meaning; ..." becomes a table. The page holds no date.
"""

import os
import re
import subprocess
import sys


def help_of(program, *command):
    return subprocess.run([program, *command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + text if text.startswith(".") else text


class Help:
    def __init__(self, text):
        self.summary, self.closing, self.rows, self.usage = [], [], {}, ""
        heading = None
        for line in text.splitlines():
            row = re.match(r"  (\S.*?)(?:\s{2,}|$)(.*)", line)
            if line.startswith("Usage: "):
                self.usage = line[len("Usage: "):]
            elif re.fullmatch(r"[A-Z]\w+:", line):
                heading = self.rows.setdefault(line[:-1], [])
            elif row and heading is not None:
                heading.append(row.groups())
            elif line.strip():
                (self.closing if self.usage else self.summary).append(line.strip())


def table(rows):
    for term, meaning in rows:
        yield from (".TP", f"\\fB{escape(term)}\\fR", escape(meaning))


def page(program, version):
    name = os.path.basename(program)
    whole = Help(help_of(program))
    exits = [text for text in whole.closing if text.startswith("Exit codes: ")]
    yield f'.TH "{escape(name.upper())}" 1 "" "gst\\-mri {version}" "User Commands"'
    summary = " ".join(whole.summary)
    yield from (".SH NAME", f"{escape(name)} \\- {escape(whole.summary[0].rstrip('.'))}")
    yield from (".SH SYNOPSIS", f"\\fB{escape(whole.usage)}\\fR")
    yield from (".SH DESCRIPTION", escape(summary))
    for text in whole.closing:
        if text not in exits:
            yield from (".PP", escape(text))
    yield ".SH OPTIONS"
    yield from table(whole.rows.get("Options", []))
    yield ".SH COMMANDS"
    for command, _ in whole.rows.get("Subcommands", []):
        part = Help(help_of(program, command))
        yield from (f".SS {escape(part.usage.replace('[OPTIONS] ', '').replace(' [OPTIONS]', ''))}",
                    escape(" ".join(part.summary)))
        options = [row for row in part.rows.get("Options", []) if row[0] != "-h,--help"]
        yield from table(part.rows.get("Positionals", []) + options)
    for text in exits:
        yield ".SH EXIT STATUS"
        yield from table(re.match(r"(\d+) (.*)", code).groups()
                         for code in re.split(r"[;,] (?=\d)", text[len("Exit codes: "):].rstrip(".")))


if __name__ == "__main__":
    with open(sys.argv[3], "w", encoding="utf-8") as out:
        out.write("\n".join(page(sys.argv[1], sys.argv[2])) + "\n")
