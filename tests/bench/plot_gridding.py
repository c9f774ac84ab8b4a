#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws how the cost of gridding grows: plot_gridding.py gridding.json gridding-cost.svg (no packages needed)."""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 200, 60, 40, 70
PANELS = [("coils", "coils", "coils"), ("spokes", "spokes", "spokes"), ("size", "size", "pixels a side")]
COLOURS = {"adjoint": "#1f77b4", "forward": "#d62728"}


def panel(rows, key, label, left):
    """One set of axes, both logarithmic; returns SVG elements."""
    xs = [row[key] for row in rows]
    ys = [row["milliseconds"] for row in rows]
    low_x, high_x = math.log10(min(xs)), math.log10(max(xs))
    low_y, high_y = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def at(x, y):
        return (left + WIDTH * (math.log10(x) - low_x) / max(high_x - low_x, 1e-9),
                TOP + HEIGHT * (high_y - math.log10(y)) / max(high_y - low_y, 1))

    out = [f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>']
    for decade in range(low_y, high_y + 1):
        y = at(min(xs), 10.0**decade)[1]
        out.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    for x in sorted(set(xs)):
        px = at(x, 10.0**low_y)[0]
        out.append(f'<text x="{px:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{x}</text>')
    for direction, colour in COLOURS.items():
        points = sorted((row[key], row["milliseconds"]) for row in rows if row["direction"] == direction)
        places = [at(x, y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    out.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{label}</text>')
    return out


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot_gridding.py gridding.json gridding-cost.svg")
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    total = LEFT + len(PANELS) * (WIDTH + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{TOP + HEIGHT + 50}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{total}" height="{TOP + HEIGHT + 50}" fill="white"/>',
           f'<text x="{LEFT}" y="20">Gridding, ms a frame on one thread: 8 coils, 15 spokes, readouts oversampled '
           'twice, 192 x 192 where nothing else is said</text>']
    for number, (case, key, label) in enumerate(PANELS):
        chosen = [row for row in rows if row["case"] == case]
        if not chosen:
            sys.exit(f"there are no rows of case {case}")
        out += panel(chosen, key, label, LEFT + number * (WIDTH + GAP))
    for number, (direction, colour) in enumerate(COLOURS.items()):
        out.append(f'<text x="{LEFT + 10}" y="{TOP + 18 + 16 * number}" fill="{colour}">{direction}</text>')
    out.append("</svg>")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


main()
