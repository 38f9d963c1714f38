#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Prints the medians of a Google Benchmark result file, and how far the repetitions lie apart."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    rows = json.load(file)["benchmarks"]

medians = [row for row in rows if row.get("aggregate_name") == "median"]
spread = {row["run_name"]: row["cpu_time"] for row in rows if row.get("aggregate_name") == "cv"}
if not medians:
    sys.exit("no benchmark ran")

width = max(len(row["run_name"]) for row in medians)
print(f"{'benchmark':{width}}  {'median CPU time':>18}  {'spread':>7}")
for row in medians:
    time = f"{row['cpu_time']:,.1f} {row['time_unit']}"
    # The coefficient of variation: standard deviation over mean.
    print(f"{row['run_name']:{width}}  {time:>18}  {spread[row['run_name']]:7.1%}")
