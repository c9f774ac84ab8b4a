#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Adds up the test cases of meson's logs: summary.py BUILD_FOLDER...

Prints each skipped case with its reason, each failed one, and last 'N passed, N failed, N skipped'.
Exits with 1 when a case failed or no case ran.
"""
import json
import os
import sys
import xml.etree.ElementTree as ElementTree


def cases_of(folder):
    """The test cases of each test: {test: [(case, outcome, reason)]}."""
    path = os.path.join(folder, "meson-logs", "testlog.junit.xml")
    cases = {}
    if not os.path.exists(path):
        return cases
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        # Meson names the suites of GoogleTest 'project.project:kind / test.suite'.
        parts = suite.get("name", "").split(".", 2)
        if len(parts) < 3:
            continue
        for case in suite.iter("testcase"):
            if case.get("status") == "notrun":  # a DISABLED_ case
                continue
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                outcome, reason = "failed", ""
            elif skipped is not None:
                outcome, reason = "skipped", skipped.get("message") or skipped.text or ""
            else:
                outcome, reason = "passed", ""
            name = f"{parts[2]}.{case.get('name')}"
            cases.setdefault(parts[1].split(" / ")[-1], []).append((name, outcome, " ".join(reason.split())))
    return cases


def results_of(folder):
    """What meson says of each test: [(test, result)]."""
    path = os.path.join(folder, "meson-logs", "testlog.json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines if line.strip()]
    return [(entry["name"].split(" / ")[-1], entry["result"]) for entry in entries]


def main(folders):
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for folder in folders:
        label = os.path.basename(os.path.normpath(folder))
        cases = cases_of(folder)
        for test, result in results_of(folder):
            good = result in ("OK", "EXPECTEDFAIL", "SKIP")
            listed = list(cases.get(test, []))
            # A crash or a timeout leaves no failed case behind, and counts as one.
            if not good and not any(outcome == "failed" for _, outcome, _ in listed):
                listed.append(("(whole program)", "failed", ""))
            if not listed:
                listed = [("(whole program)", "skipped" if result == "SKIP" else "passed", "")]
            for name, outcome, reason in listed:
                count[outcome] += 1
                if outcome == "failed":
                    print(f"failed: {label}: {test}: {name} ({result})")
                elif outcome == "skipped":
                    print(f"skipped: {label}: {test}: {name}: {reason or 'no reason given'}")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 0 if count["failed"] == 0 and count["passed"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
