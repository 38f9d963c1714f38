#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Prints the medians of a Google Benchmark result file, and how far the repetitions lie apart."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    rows = json.load(file)["benchmarks"]

# In the order of the sources, where a floor stands beside what is held against it; repetitions are interleaved.
rows.sort(key=lambda row: (row["family_index"], row["per_family_instance_index"]))
medians = [row for row in rows if row.get("aggregate_name") == "median"]
# real_time is what the benchmark measured itself, where it does (manual time), and wall time elsewhere.
spread = {row["run_name"]: row["real_time"] for row in rows if row.get("aggregate_name") == "cv"}
if not medians:
    sys.exit("no benchmark ran")

names = {row["run_name"]: row["run_name"].removesuffix("/manual_time") for row in medians}
width = max(map(len, names.values()))
print(f"{'benchmark':{width}}  {'median time':>14}  {'spread':>7}")
for row in medians:
    time = f"{row['real_time']:,.1f} {row['time_unit']}"
    # The coefficient of variation: standard deviation over mean.
    print(f"{names[row['run_name']]:{width}}  {time:>14}  {spread[row['run_name']]:7.1%}")
