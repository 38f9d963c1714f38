#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Joins result files of Google Benchmark into one, and prints the medians.

report.py RESULTS.json PART.json...

Where a row has a floor, the table says how many times the floor's median it takes, and how often it
may.
"""
import json
import re
import sys

# What must be reached: row, what it is held against, greatest ratio of the medians for `general` and `native`. Rows
# without a flavour are compiled as `general` ones are.
TARGETS = [
    ("ept_map_4k_1GiB", "floor_fill_1GiB", 1.10, 1.15),
    ("vtd_map_4k_1GiB", "floor_fill_1GiB", 1.10, 1.15),
    ("ept_map_4k_64GiB", "floor_fill_64GiB", 1.10, 1.10),
    ("ept_map_2m_64GiB", "floor_fill_32768", 1.5, 1.5),
    ("ept_map_1g_64GiB", "floor_fill_64", 4, 4),
    ("vtd_map_4k_1GiB_noncoherent", "floor_fill_clwb_1GiB", 1.3, 1.3),
    ("ept_map_4k_single_inorder", "floor_walk_store_inorder", 2.0, 2.0),
    ("ept_map_4k_cursor_inorder", "floor_walk_store_inorder", 1.4, 1.4),
    ("ept_map_4k_single_random", "floor_walk_store_random", 1.25, 1.25),
    ("ept_unmap_4k_1GiB", "floor_fill_1GiB", 0.04, 0.04),
    ("ept_unmap_4k_single_inorder", "floor_walk_store_inorder", 3, 3),
    ("ept_unmap_4k_single_random", "floor_walk_store_random", 1.25, 1.25),
    ("ept_translate_dependent", "floor_chase_dependent", 1.03, 1.03),
    ("ept_translate_independent", "floor_chase_independent", 1.45, 1.45),
    ("ept_split_2m", "floor_fill_512", 1.5, 1.5),
    ("ept_join_2m", "floor_read_512", 1.5, 1.5),
    ("ept_map_4k_1GiB_2threads", "ept_map_4k_1GiB", 0.56, 0.56),
    ("lapic_highest_pending", "floor_lapic_scan", 1.3, 1.3),
    ("lapic_highest_pending_chain", "floor_lapic_scan_chain", 1.3, 1.3),
    ("lapic_accept_inject_eoi", "floor_lapic_scan", 4, 4),
    ("lapic_ipi_fixed", "floor_atomic_or", 3, 3),
    ("io_bitmap_range_64k", "floor_memset_8KiB", 1.2, 1.2),
    ("io_bitmap_range_32", "floor_or_word", 3, 3),
    ("exit_io_dispatch", "floor_indirect_call", 2, 2),
    ("e1000e_send_reclaim_batch32", "floor_store16_batch32", 2.2, 2.2),
    ("e1000e_send_reclaim_single", "floor_store16_single", 2.5, 2.5),
    ("e1000e_tso_16_fragments", "floor_store16_17", 2, 2),
    ("vtd_queue_submit_page", "floor_store16_single", 3, 3),
    ("vtd_unmap_512_batched", "vtd_unmap_512_single", 0.5, 0.5),
    ("vtd_dmar_lookup", "floor_dmar_scan", 4, 4),
    ("interrupt_to_vmx_entry", "floor_interrupt", 3, 3),
    ("interrupt_to_svm_entry", "floor_interrupt", 3, 3),
    ("interrupt_elsewhere_to_entry", "floor_interrupt_elsewhere", 5, 5),
    ("io_exit_forwarded", "floor_port_forwarded", 4, 4),
    ("config_read_by_exits", "floor_config_read", 3, 3),
    ("msi_x_write_by_exit", "floor_msi_x_write", 20, 20),
    ("bar_move", "floor_bar_move", 20, 20),
    ("bar_move_decoding_off", "floor_bar_move_decoding_off", 40, 40),
    ("assign", "floor_assign", 4, 4),
    ("remove", "floor_remove", 7, 7),
    ("audit_pages_million", "floor_read_tables", 16, 16),
    ("audit_dma_million", "floor_read_tables", 20, 20),
    ("audit_pages_2m", "floor_read_tables_2m", 20, 20),
]
# What Google Benchmark adds to a name to say how it was measured.
DECORATION = re.compile(r"/(manual_time|real_time|process_time|iterations:\d+|repeats:\d+)")


def joined(parts):
    """One result file from several: the context of the first, all rows, in the order of the sources."""
    results = {"context": parts[0]["context"], "benchmarks": []}
    for part in parts:
        rows = part["benchmarks"]
        # Repetitions are interleaved.
        rows.sort(key=lambda row: (row["family_index"], row["per_family_instance_index"]))
        for row in rows:
            row["name"] = DECORATION.sub("", row["name"])
            row["run_name"] = DECORATION.sub("", row["run_name"])
        results["benchmarks"] += rows
    return results


def time(nanoseconds):
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:,.2f} {unit}"
    return f"{nanoseconds:,.2f} ns"


def verdict(name, medians):
    """The columns ratio, target and verdict; whether a target is missed."""
    flavour, slash, row = name.rpartition("/")
    for target_row, floor, general, native in TARGETS:
        held_against = medians.get(flavour + slash + floor)
        if target_row == row and held_against:
            ratio = medians[name] / held_against
            target = native if flavour == "native" else general
            text = f"{ratio:6.3f}  {'<= ' + format(target, 'g'):>8}  {'ok' if ratio <= target else 'MISSED':6}  {floor}"
            return text, ratio > target
    return "", False


def main():
    destination, *sources = sys.argv[1:]
    parts = []
    for source in sources:
        with open(source, encoding="utf-8") as file:
            text = file.read()
        if text.strip():  # empty where the filter let nothing through
            parts.append(json.loads(text))
    if not any(part["benchmarks"] for part in parts):
        sys.exit("no benchmark ran")
    results = joined(parts)
    with open(destination, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")

    failed = [row for row in results["benchmarks"] if row.get("error_occurred")]
    for row in failed:
        print(f"{row['name']}: {row['error_message']}")

    unit = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    # real_time is what the benchmark measured itself, where it does (manual time), and wall time elsewhere.
    aggregates = [row for row in results["benchmarks"] if row.get("aggregate_name")]
    medians = {row["run_name"]: row["real_time"] * unit[row["time_unit"]]
               for row in aggregates if row["aggregate_name"] == "median"}
    # The coefficient of variation: standard deviation over mean.
    spread = {row["run_name"]: row["real_time"] for row in aggregates if row["aggregate_name"] == "cv"}
    width = max(map(len, medians), default=0)
    if medians:
        print(f"{'benchmark':{width}}  {'median':>12}  {'spread':>7}  {'ratio':>6}  {'target':>8}          held against")
    missed = 0
    for name, median in medians.items():
        columns, is_missed = verdict(name, medians)
        missed += is_missed
        print(f"{name:{width}}  {time(median):>12}  {spread[name]:7.1%}  {columns}".rstrip())
    if missed:
        print(f"{missed} targets missed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
