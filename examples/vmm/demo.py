#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""`./run demo`: vmm-svm with one guest and one NIC, told as it happens: what the VMM does on the left margin, what its
guest says behind a bar; then the frames that left the NIC, and what it all comes to.

    demo.py --vmm vmm-svm.elf --guest guest.elf --capture out.pcap

The exit status is 0 if everything was as it is told: the frames are in the capture, the aimed DMA was blocked, and each
audit found that the guest reaches what it owns and nothing else."""
import argparse
import os
import pathlib
import re
import selectors
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BAR = "                                        | "
SENT = [b"a frame through VT-d", b"and another one"]


def frames_of(path):
    """The frames in a capture file (pcap, little-endian)."""
    data = path.read_bytes()
    at = 24
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16:at + 16 + size]
        at += 16 + size


def show_frame(frame):
    for at in range(0, len(frame), 16):
        row = frame[at:at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        print(f"    {at:04x}  {row.hex(' '):<47}  {text}")


def follow(command):
    """Runs it and shows both of its outputs line by line; gives the exit status and what the VMM said."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    said = {process.stdout: b"", process.stderr: b""}
    log = []
    selector = selectors.DefaultSelector()
    for pipe in said:
        selector.register(pipe, selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            piece = os.read(key.fileobj.fileno(), 4096)
            if not piece:
                selector.unregister(key.fileobj)
            lines = (said[key.fileobj] + piece).split(b"\n")
            said[key.fileobj] = lines.pop()
            if not piece and said[key.fileobj]:
                lines = [said[key.fileobj]]
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if key.fileobj is process.stderr:
                    log.append(text)
                    print(text, flush=True)
                else:
                    print(BAR + text if text else BAR.rstrip(), flush=True)
    return process.wait(), "\n".join(log)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vmm", required=True, type=pathlib.Path)
    parser.add_argument("--guest", required=True, type=pathlib.Path)
    parser.add_argument("--capture", required=True, type=pathlib.Path)
    args = parser.parse_args()

    print("A hypervisor made of pt boots on a PC that QEMU models: SVM, nested paging, VT-d, an 82574L. It gives the NIC\n"
          "to a guest, whose own driver moves its registers, sends a frame, then aims the NIC at memory that is not the\n"
          "guest's, and goes on. On the left the hypervisor tells; behind the bar, the guest.")
    status, log = follow([
        sys.executable, str(HERE / "run.py"), "svm", "--vmm", str(args.vmm), "--guest", str(args.guest),
        "--append", "tour", "--vmm-append", "story", "--capture", str(args.capture), "--timeout", "60"])

    frames = list(frames_of(args.capture)) if args.capture.is_file() else []
    print("\nThe wire")
    for frame in frames:
        if not any(frame):
            print("  a frame of zeros: the NIC's read was blocked, and QEMU's sends zeros for what it could not read.\n"
                  "  Nothing of anybody's memory is in it.")
        else:
            print(f"  a frame of {len(frame)} bytes:")
            show_frame(frame)

    expected = [
        (status == 99, "the guest's driver found everything as on a PC of its own"),
        (all(any(text in frame for frame in frames) for text in SENT), "both of its frames left the NIC"),
        (bool(re.search(r"^blocked: ", log, re.M)) and all(
            any(text in frame for text in SENT) or not any(frame) for frame in frames),
         "the NIC, aimed at somebody else's memory, was blocked by VT-d, and nothing of that left"),
        (bool(re.search(r"^audited [1-9]\d* times, 0 findings", log, re.M)),
         "after each change, an audit of the tables: the guest reaches what it owns, and nothing else"),
    ]
    print("\nWhat it comes to")
    for holds, claim in expected:
        print(f"  {'ok' if holds else 'FAILED'}: {claim}")
    return 0 if all(holds for holds, _ in expected) else 1


if __name__ == "__main__":
    sys.exit(main())
