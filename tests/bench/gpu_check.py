#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tests of a build folder that want a GPU, then bench_gpu: gpu_check.py BUILD_FOLDER [--json FILE]

Prints a line for each test case and the bench's tables. Exit code 0: nothing failed, with or without a device; 1:
a test or the bench failed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

NEED_NO_TORCH = ["cuda_device", "cuda_nufft"]
TESTS = NEED_NO_TORCH + ["torch_device", "cuda_networks"]


def cases_of(report):
    """(name, outcome, reason) of each case in GoogleTest's JSON."""
    for suite in report.get("testsuites", []):
        for case in suite.get("testsuite", []):
            name = f"{case['classname']}.{case['name']}"
            if case.get("failures"):
                yield name, "failed", " ".join(case["failures"][0]["failure"].split())
            elif case.get("result") == "SKIPPED" or case.get("skipped"):
                reasons = case.get("skipped") or [{}]
                yield name, "skipped", " ".join(reasons[0].get("message", "").split())
            elif case.get("status") == "RUN":
                yield name, "passed", ""


def run_test(folder, name, environment):
    program = os.path.join(folder, "tests", "test_" + name)
    if not os.path.exists(program):
        if name in NEED_NO_TORCH:
            return [(name, "failed", "not built")]
        return [(name, "skipped", "not built: this build is without LibTorch")]
    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(temporary, "report.json")
        done = subprocess.run([program, "--gtest_output=json:" + path], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
        try:
            with open(path, encoding="utf-8") as file:
                cases = list(cases_of(json.load(file)))
        except (OSError, ValueError):
            cases = []
    if done.returncode != 0 and not any(outcome == "failed" for _, outcome, _ in cases):
        cases.append((name, "failed", f"the program ended with {done.returncode}: {done.stdout.strip()[-300:]}"))
    return cases


def main():
    parser = argparse.ArgumentParser(prog="./dev gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = dict(os.environ)
    environment.setdefault("GST_MRI_GOLDEN_DIR", os.path.join(source, "tests", "golden"))
    module = os.path.join(arguments.folder, "plugins/math/transform/cuda/libgstmri-cuda.so.0")
    environment["GST_MRI_CUDA_MODULE"] = os.path.abspath(module)

    tests = []
    print(f"{'test':<58} outcome")
    for name in TESTS:
        for case, outcome, reason in run_test(arguments.folder, name, environment):
            tests.append({"test": name, "case": case, "outcome": outcome, "reason": reason})
            print(f"{case:<58} {outcome}{': ' + reason[:120] if reason else ''}", flush=True)
    count = {outcome: sum(t["outcome"] == outcome for t in tests) for outcome in ("passed", "failed", "skipped")}
    print(f"\n{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped\n", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(temporary, "bench.json")
        program = os.path.join(arguments.folder, "tests/bench/bench_gpu")
        bench = subprocess.run([program, "--json", path], env=environment, check=False)
        if bench.returncode == 0 and arguments.json:
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
            report["tests"] = tests
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=1)
    return 1 if count["failed"] or bench.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
