#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/map_cost.svg: what it costs to map a guest's memory in 4-KiB pages, by its size.

    docs/pictures/map_cost.py build/bench/results.json > docs/pictures/map_cost.csv     takes the figures over
    docs/pictures/map_cost.py > docs/pictures/map_cost.svg                              draws them
"""
import csv
import json
import math
import pathlib
import re
import sys

FIGURES = pathlib.Path(__file__).with_suffix(".csv")
UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Row of the results, what the picture calls it, colour, dashes.
LINES = [
    ("general/ept_map_4k_size", "pt, general registers", "#b3541e", ""),
    ("general/floor_fill_size", "plain loop, general registers", "#b3541e", "2 5"),
    ("native/ept_map_4k_size", "pt, vector registers", "#1e5fb3", ""),
    ("native/floor_fill_size", "plain loop, vector registers", "#1e5fb3", "2 5"),
]
WIDTH, HEIGHT = 860, 560
LEFT, RIGHT, TOP, BOTTOM = 92, 30, 56, 64
X = (2**20, 2**40)    # bytes of guest memory
Y = (1e1, 1e9)        # nanoseconds
Y_NAMES = ["10 ns", "100 ns", "1 &#181;s", "10 &#181;s", "100 &#181;s", "1 ms", "10 ms", "100 ms", "1 s"]


def take_over(results):
    """The medians of the rows by size, in nanoseconds, as CSV."""
    with open(results, encoding="utf-8") as file:
        rows = json.load(file)["benchmarks"]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["row", "bytes", "nanoseconds"])
    for row in rows:
        match = re.fullmatch(r"(\w+/\w+_size)/(\d+)([MGT]iB)", row["run_name"])
        if match and row.get("aggregate_name") == "median":
            out.writerow([match[1], int(match[2]) * UNITS[match[3]], f"{row['real_time']:.1f}"])


def x_of(size):
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(size / X[0]) / math.log(X[1] / X[0])


def y_of(time):
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(time / Y[0]) / math.log(Y[1] / Y[0])


def text(x, y, words, size=14, anchor="middle", weight="normal", turned=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-family="sans-serif" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="#1b2733"{turned}>{words}</text>')


def line(x1, y1, x2, y2, colour, width=1.0, dashes=""):
    dashed = f' stroke-dasharray="{dashes}" stroke-linecap="round"' if dashes else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dashed}/>')


def name_of(size):
    unit = max((name for name in UNITS if UNITS[name] <= size), key=UNITS.get)
    return f"{size // UNITS[unit]} {unit}"


def main():
    if len(sys.argv) == 2:
        return take_over(sys.argv[1])
    points = {}
    with open(FIGURES, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            points.setdefault(row["row"], []).append((int(row["bytes"]), float(row["nanoseconds"])))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->',
           '<title>One call that maps a guest in 4-KiB pages: time by size</title>',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           text(WIDTH / 2, 30, "One call that maps a guest in 4-KiB pages", 18, weight="bold")]
    for i, name in enumerate(Y_NAMES):
        y = y_of(Y[0] * 10**i)
        out.append(line(LEFT, y, WIDTH - RIGHT, y, "#d5dde6"))
        out.append(text(LEFT - 10, y + 5, name, anchor="end"))
    for power in range(20, 41, 2):
        x = x_of(2**power)
        out.append(line(x, TOP, x, HEIGHT - BOTTOM, "#d5dde6"))
        if power % 4 == 0:
            out.append(text(x, HEIGHT - BOTTOM + 22, name_of(2**power)))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "guest memory", 15))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(20, middle, "time", 15, turned=f' transform="rotate(-90 20 {middle:.1f})"'))

    out.append(f'<rect x="{LEFT + 8}" y="{TOP + 8}" width="460" height="{12 + 24 * len(LINES)}" fill="#ffffff"/>')
    for i, (row, name, colour, dashes) in enumerate(LINES):
        places = " ".join(f"{x_of(size):.1f},{y_of(time):.1f}" for size, time in points[row])
        dashed = f' stroke-dasharray="{dashes}" stroke-linecap="round"' if dashes else ""
        out.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2.4"{dashed}/>')
        y = TOP + 28 + 24 * i
        out.append(line(LEFT + 22, y - 5, LEFT + 66, y - 5, colour, 2.4, dashes))
        size, time = points[row][-1]
        out.append(text(LEFT + 76, y, f"{name}: {time / (size / 4096):.2f} ns a page at {name_of(size)}", anchor="start"))
    out.append("</svg>")
    print("\n".join(out))
    return None


if __name__ == "__main__":
    main()
