#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs examples/vmm/run.py with the arguments behind `--`, and says whether it ended as it should.

The standard output of such a run is the guest's word: what `--says` is looked for there; a line that begins with FAILED
is never right. `--log` is looked for in what the VMM and the runner have to say. Frames are those of the capture that
tshark (which nobody here wrote) finds, whole and in order.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SKIPPED = 77
RUNNER = pathlib.Path(__file__).resolve().parents[3] / "examples/vmm/run.py"


def frames_of(capture):
    """Each frame as a string of hexadecimal digits."""
    shown = subprocess.run(["tshark", "-r", capture, "-x"], capture_output=True, text=True, check=True).stdout
    frames = []
    for line in shown.splitlines():
        row = re.match(r"([0-9a-f]{4,})  ((?:[0-9a-f]{2} )+)", line)
        if row:
            if int(row[1], 16) == 0:
                frames.append("")
            frames[-1] += row[2].replace(" ", "")
    return frames


def driver_frames(mac):
    """What examples/vmm/guest/frame.hpp says that the guest sends as a driver, worked out once more: each frame as a
    string of hexadecimal digits."""
    lengths = [60, 61, 64, 127, 590, 1024, 1513, 1514]
    frames = []
    for number, (length, text) in enumerate([(length, b"plain") for length in lengths] + [(200, b"one of many")] * 200):
        head = (b"\xFF" * 6 + bytes.fromhex(mac.replace(":", "")) + b"\x88\xB5" + b"pt" + bytes(2) +
                number.to_bytes(4, "little") + text.ljust(24, b"\0"))
        frames.append((head + bytes((at + number) & 0xFF for at in range(len(head), length))).hex())
    return frames


def address_of(symbol, file):
    """In hexadecimal digits."""
    shown = subprocess.run(["nm", file], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^0*([0-9a-f]+) \w {re.escape(symbol)}$", shown, re.M)
    return found[1] if found else sys.exit(f"expect.py: {file} has no symbol {symbol}")


def main():
    if "--" not in sys.argv:
        sys.exit("expect.py: the runner's arguments are missing")
    middle = sys.argv.index("--")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--status", type=int, required=True)
    parser.add_argument("--says", action="append", default=[], metavar="REGEX", help="on the guest's COM1")
    parser.add_argument("--log", action="append", default=[], metavar="REGEX", help="on the standard error")
    parser.add_argument("--never", action="append", default=[], metavar="REGEX", help="in neither of them")
    parser.add_argument("--frame", action="append", default=[], metavar="REGEX",
                        help="one of them, in hexadecimal; several are looked for in their order")
    parser.add_argument("--driver-frames", metavar="MAC",
                        help="the capture holds these frames, byte for byte, and no other one")
    parser.add_argument("--skip-status", type=int, metavar="STATUS", help="of a run that says that it cannot be here")
    parser.add_argument("--skip-log", metavar="REGEX",
                        help="on the standard error of a run that cannot come to its end here: only what is "
                             "never right counts then")
    parser.add_argument("--address-of", metavar="SYMBOL", help="of the VMM: what ADDRESS in the runner's arguments means")
    args = parser.parse_args(sys.argv[1:middle])
    words = sys.argv[middle + 1:]
    if args.address_of:
        address = address_of(args.address_of, words[words.index("--vmm") + 1])
        words = [each.replace("ADDRESS", address) for each in words]

    with tempfile.TemporaryDirectory(prefix="pt-test-") as scratch:
        capture = pathlib.Path(scratch) / "capture.pcap"
        if args.frame or args.driver_frames:
            words += ["--capture", str(capture)]
        done = subprocess.run([sys.executable, RUNNER, *words], capture_output=True, text=True, errors="replace",
                              env={**os.environ, "TMPDIR": scratch})
        frames = frames_of(capture) if capture.exists() and capture.stat().st_size else []
        left = [each.name for each in pathlib.Path(scratch).iterdir() if each != capture]

    print(done.stdout, done.stderr, sep="\n---- log\n")
    if done.returncode == args.skip_status and "end of run: " not in done.stderr:  # or it is the guest's own
        return SKIPPED
    wrong = [f"left behind: {each}" for each in left]
    for each in ["^FAILED", *args.never]:
        found = re.search(f".*(?:{each}).*", done.stdout + "\n" + done.stderr, re.M)
        if found:
            wrong.append(f"there: {found[0]}")
    cannot = args.skip_log and re.search(f".*(?:{args.skip_log}).*", done.stderr, re.M)
    if cannot and not wrong:
        print("skipped:", cannot[0])
        return SKIPPED
    if done.returncode != args.status:
        wrong.append(f"exit status {done.returncode} instead of {args.status}")
    for text, wanted in [(done.stdout, args.says), (done.stderr, args.log)]:
        wrong += [f"nowhere: {each}" for each in wanted if not re.search(each, text, re.M)]
    if args.driver_frames:
        meant = driver_frames(args.driver_frames)
        if frames != meant:
            first = next((i for i, (a, b) in enumerate(zip(frames, meant)) if a != b), min(len(frames), len(meant)))
            wrong.append(f"{len(frames)} frames, {len(meant)} were meant; number {first} is the first that differs")
    rest = iter(frames)
    wrong += [f"no frame, or not in this order: {each}" for each in args.frame
              if not any(re.search(each, frame) for frame in rest)]
    for line in wrong:
        print("WRONG:", line)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
