#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Starts a VMM of this project on a machine that is modelled for it, with its guests; `./run vmm-vmx`, `vmm-svm` and
`vmm-kvm` build all of that and come here.

  vmx   on Bochs: boots the VMM from a disk that is made here (vmx/disk_layout.hpp says how)
  svm   on QEMU: the VMM is the kernel, the guests are its modules
  kvm   on this machine: the VMM is a program

On the last line of its log a VMM says how the run ended: "end of run: status 0xCODE" or "end of run: WORDS".
"""
import argparse
import contextlib
import ctypes
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

MACHINES = {
    "vmx": "Boots a guest on vmm-vmx, on a machine that Bochs models: VMX and EPT, and no IOMMU.",
    "svm": "Boots guests on vmm-svm, on a machine that QEMU models: SVM, nested paging, and VT-d.",
    "kvm": "Boots guests on vmm-kvm, which is a program, by this machine's /dev/kvm. They get no device.",
}
OUTCOME = """\
What the guests write to COM1 comes out of the standard output as they write it; what the VMM has to say (its COM2) out
of the standard error, or to --log. What a guest ends the run with at port 0xF4 decides the exit status:

  2 * code + 1   as QEMU's isa-debug-exit has it, modulo 256, so always odd; 99 for the code 0x31
  77             (kvm) there is no KVM here that could run it
  124            the time is over
  126            the run ended otherwise: without a VMM or guest that came to its end; the last line says how
  2              the command line is wrong, or something is missing
"""

WRONG = 2
TIME_IS_OVER = 124
NO_END = 126
SKIPPED = 77
# The VMM has a limit of its own, in the machine's time, and tells where its guest hangs when it is over. A machine that
# is modelled on a busy computer may take several times as long; only if the VMM hangs, too, this here ends it.
REAL_TIME_FACTOR = 5
GRACE = 20

MIB = 1 << 20
# All in MiB, as the main.cpp of each VMM has it. The guest of vmm-vmx has its machine's memory from 0 on; so there is
# one, the VMM lies above it, and the files of both behind the VMM.
GUEST_MEMORY = 64
MOST_GUEST_MEMORY = {"vmx": 190, "svm": 2048, "kvm": 2048}
SVM_OWN = 32
VMX_VMM_AT = 192
VMX_FILES_AT = 208
MOST_BOCHS_MEMORY = 2048
MOST_GUESTS = {"vmx": 1, "svm": 2, "kvm": 8}
# Words of a VMM that are said by options.
SAID_BY_OPTIONS = {"guests=": "--guests", "timeout=": "--timeout", "memory=": "--guest-memory"}

MARKER = re.compile(rb"^end of run: (.*?)\r?$", re.M)
PACKAGES = {
    "bochs": "bochs bochs-term bochsbios vgabios",
    "qemu-system-x86_64": "qemu-system-x86",
}


class Failure(Exception):
    """The run cannot take place, or is worth nothing: with what to do about it."""


# ------------------------------------------------------------------------------------------------------ what is booted

class File:
    """A guest or one of its modules: the bytes, and the words that its multiboot loader passes on."""

    def __init__(self, path, words):
        self.path = pathlib.Path(path)
        if not self.path.is_file():
            raise Failure(f"there is no file {path}")
        self.words = words

    def line(self, name):
        return f"{name} {self.words}".rstrip()


def read_files(args):
    """The guests in their order, one for each --guests; then the modules, which each guest gets."""
    paths = [path for each in args.guest for path in ([each] if os.path.isfile(each) else each.split(","))]
    count = args.guests or len(paths)
    most = MOST_GUESTS.get(args.machine, count)
    if count > most:
        raise Failure(f"{count} guests, where vmm-{args.machine} has room for {most}")
    if len(paths) > count:
        raise Failure(f"{len(paths)} files for {count} guest(s): --guests says how many there are")
    words = args.append or [""]
    if len(words) > count:
        raise Failure(f"--append is there {len(words)} times for {count} guest(s)")
    # What is said once is meant for all.
    guests = [File(paths[min(i, len(paths) - 1)], words[min(i, len(words) - 1)]) for i in range(count)]
    modules = [File(*(each.split("=", 1) + [""])[:2]) for each in args.module or []]
    return guests, modules


def vmm_words(args, guests):
    """The VMM's command line, behind its name: as many of the files as there are guests are theirs."""
    memory = [f"memory={args.guest_memory}"] if args.guest_memory else []
    return " ".join([f"guests={len(guests)}", f"timeout={args.timeout}", *memory, *(args.vmm_append or [])])


def mebibytes(size):
    return -(-size // MIB)


def open_new(path):
    """For writing: before a machine starts for nothing."""
    try:
        return open(path, "wb")
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None


# ---------------------------------------------------------------------------------------------------- how it is watched

class Line:
    """A serial port of the machine: a FIFO that the emulator writes to as to a file, so that every byte is here at
    once."""

    def __init__(self, path, sinks):
        os.mkfifo(path)
        # For reading and writing: so it has no end, however often the emulator opens it.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.sinks = sinks
        self.text = b""

    def read(self):
        """False: there is nothing now."""
        try:
            some = os.read(self.fd, 65536)
        except BlockingIOError:
            return False
        self.take(some)
        return True

    def take(self, some):
        # Of a guest that talks all the time only the last words are kept.
        self.text = (self.text + some)[-65536:]
        for sink in list(self.sinks):
            try:
                sink.write(some)
                sink.flush()
            except BrokenPipeError:
                self.sinks.remove(sink)  # nobody listens any more; the run goes on


class Interrupted(Exception):
    """^C"""


def end_with_parent():
    """In an emulator that is about to start: it ends with this program, however that ends."""
    prctl_set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(prctl_set_parent_death_signal, signal.SIGKILL)


def execute(command, lines, limit, directory, output):
    """Runs an emulator until it ends by itself, and gives its status as subprocess has it; None: it was killed, because
    `limit` seconds were over. Nothing of it is left in either case."""
    try:
        # A session of its own: ^C is for this program, which ends the emulator then.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                 cwd=directory, env={**os.environ, "TERM": "xterm"}, start_new_session=True,
                                 preexec_fn=end_with_parent)
    except FileNotFoundError:
        package = PACKAGES.get(command[0])
        raise Failure(f"there is no {command[0]}: ./run setup installs it (on Debian: apt-get install {package})"
                      if package else f"there is no {command[0]}") from None
    ended = os.pidfd_open(child.pid)
    deadline = time.monotonic() + limit
    waiting = [line.fd for line in lines] + [ended]
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            ready, _, _ = select.select(waiting, [], [], left)
            for line in lines:
                if line.fd in ready:
                    line.read()
            if ended in ready:
                return child.wait()
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        os.close(ended)
        for line in lines:
            while line.read():
                pass


# ------------------------------------------------------------------------------------------------------ Bochs, for VMX

def disk_constants():
    """The numbers that disk_layout.hpp has."""
    text = (HERE / "vmx/disk_layout.hpp").read_text(encoding="utf-8")
    return {name: int(value, 0) for name, value in re.findall(r"constexpr std::uint\d+_t (\w+) = (\w+);", text)}


def disk(boot_sector, vmm, words, files):
    """The bytes of a disk, and its number of cylinders, of 16 * 63 sectors each."""
    layout = disk_constants()
    size = layout["sector_size"]

    def sectors(count):
        return -(-count // size)

    def encoded(line, room, whose):
        line = line.encode()
        if b"\0" in line or len(line) >= room:
            raise Failure(f"the command line of {whose} is longer than {room - 1} bytes")
        return line + b"\0"

    if len(boot_sector) != size or boot_sector[-2:] != b"\x55\xAA":
        raise Failure("the boot sector is none")
    if sectors(len(vmm)) > layout["directory_sector"] - layout["vmm_sector"]:
        raise Failure(f"the VMM is too large for its place on the disk: {len(vmm)} bytes")
    if len(files) > layout["most_files"]:
        raise Failure(f"{len(files)} files, where the disk has room for {layout['most_files']}")

    image = bytearray()

    def put(sector, what):
        at = sector * size
        end = at + sectors(len(what)) * size
        image.extend(bytes(max(0, end - len(image))))
        image[at:at + len(what)] = what

    # Multiboot's information: flags (bit 2: there is a command line), the number of the VMM's sectors where multiboot
    # has a field that does not count here, ..., and where the command line is.
    text_at = layout["command_line_offset"]
    information = struct.pack("<5I", 1 << 2, sectors(len(vmm)), 0, 0, layout["information_address"] + text_at)
    put(0, boot_sector)
    put(layout["information_sector"], information.ljust(text_at, b"\0") + encoded(words, size - text_at, "the VMM"))
    put(layout["vmm_sector"], vmm)
    directory = layout["directory_sector"]
    put(directory, struct.pack("<QI", layout["directory_magic"], len(files)))
    first = directory + 1 + len(files)
    for number, (name, file) in enumerate(files):
        contents = file.path.read_bytes()
        put(directory + 1 + number,
            struct.pack("<II", first, len(contents)) + encoded(file.line(name), layout["words_size"], name))
        put(first, contents)
        first += sectors(len(contents))

    cylinder = 16 * 63 * size
    cylinders = -(-len(image) // cylinder)
    return bytes(image).ljust(cylinders * cylinder, b"\0"), cylinders


def bochs_configuration(memory, cylinders, extra):
    """Nothing of the machine depends on real time (sync=none, and a fixed date), so a run is like the last one. Paths
    are relative to the directory that Bochs is started in."""
    return "\n".join([
        "config_interface: textconfig",
        "display_library: term",
        "cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0",
        f"memory: guest={memory}, host={memory}",
        "romimage: file=/usr/share/bochs/BIOS-bochs-latest",
        "vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest",
        "boot: disk",
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
        f"ata0-master: type=disk, mode=flat, path=disk.img, cylinders={cylinders}, heads=16, spt=63",
        "clock: sync=none, time0=946681200",
        "com1: enabled=1, mode=file, dev=com1",
        "com2: enabled=1, mode=file, dev=com2",
        "log: log.txt",
        "panic: action=fatal",
        "error: action=report",
        "info: action=ignore",
        "debug: action=ignore",
        "sound: waveoutdrv=dummy",
        "speaker: enabled=0",
        "pci: enabled=1, chipset=i440fx, slot1=e1000",
        # The null network logs what is sent in the directory that Bochs is started in.
        "e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=null, ethdev=none",
        *extra,
        "",
    ])


def null_network_frames(directory):
    """What the null network has logged: the bytes of all frames in one file; in another one, for people to read, when
    and how long each of them was."""
    data, text = directory / "eth_null-tx.log", directory / "eth_null-txdump.txt"
    data = data.read_bytes() if data.is_file() else b""
    text = text.read_text(errors="replace") if text.is_file() else ""
    frames, at = [], 0
    for length in re.findall(r"^a packet from guest to host, length (\d+)", text, re.M):
        frames.append(data[at:at + int(length)])
        at += int(length)
    if at != len(data):
        raise Failure("the logs of Bochs' network do not belong together")
    return frames


def write_pcap(path, frames):
    """A capture file of Ethernet frames. When each was sent is not known: a microsecond lies between two."""
    with open(path, "wb") as capture:
        capture.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, 1))
        for number, frame in enumerate(frames):
            capture.write(struct.pack("<IIII", number // 1000000, number % 1000000, len(frame), len(frame)) + frame)


def bochs_memory(asked, files):
    """In MiB: the files lie behind the VMM, each in whole sectors; and at the end, firmware has a piece."""
    firmware = 64 << 10
    least = VMX_FILES_AT + mebibytes(sum(-(-file.path.stat().st_size // 512) * 512 for file in files) + firmware)
    memory = asked or max(256, least)
    if not least <= memory <= MOST_BOCHS_MEMORY:
        raise Failure(f"vmx: --memory: at least {least} MiB (the VMM lies at {VMX_VMM_AT} MiB, its files behind it), "
                      f"at most {MOST_BOCHS_MEMORY} MiB")
    return memory


def run_vmx(args, guests, modules, lines, directory, limit):
    memory = bochs_memory(args.memory, guests + modules)
    image, cylinders = disk(pathlib.Path(args.boot_sector).read_bytes(), pathlib.Path(args.vmm).read_bytes(),
                            "vmm " + vmm_words(args, guests), named(guests + modules))
    (directory / "disk.img").write_bytes(image)
    (directory / "configuration").write_text(bochs_configuration(memory, cylinders, args.machine_options or []))
    # Debian's Bochs has its debugger built in, and waits for its first command.
    (directory / "commands").write_text("continue\n")
    with open(directory / "terminal.txt", "wb") as terminal:
        status = execute(["bochs", "-unlock", "-q", "-f", "configuration", "-rc", "commands"], lines, limit, directory,
                         terminal)
    if args.capture:
        write_pcap(args.capture, null_network_frames(directory))
    # Bochs' exit status says nothing: it is 1 when a guest shuts the machine down. Its log has a line for each EPT
    # violation.
    log = directory / "log.txt"
    return status, log.read_text(errors="replace")[-2000:] if log.is_file() else ""


# ------------------------------------------------------------------------------------------------------- QEMU, for SVM

def qemu_list(words):
    """As QEMU reads a list that commas part: its own commas are doubled."""
    return ",".join(word.replace(",", ",,") for word in words)


def qemu_memory(args, files, guests):
    """In MiB: in one piece, from 1 MiB up, lie the VMM, the files, the VMM's tables, and the guests."""
    least = SVM_OWN + mebibytes(sum(file.path.stat().st_size for file in files)) + guests * (
        args.guest_memory or GUEST_MEMORY)
    memory = args.memory or max(512, least)
    piece = memory if memory < 2816 else 2048  # QEMU's q35: what is more lies above 4 GiB
    if least > piece:
        raise Failure(f"svm: --memory: the guests and the VMM want {least} MiB below 4 GiB, and there {piece} MiB are")
    return memory


def run_svm(args, guests, modules, lines, directory, limit):
    # A module's words are behind its path and a space, so the path has none; and the VMM sees only the name.
    files = named(guests + modules)
    for name, file in files:
        if not (directory / name).exists():
            (directory / name).symlink_to(file.path.resolve())
    command = [
        "qemu-system-x86_64", "-machine", "q35,kernel-irqchip=split", "-accel", "tcg",
        # The machine's time is counted in instructions and passes at once where nothing is to be done.
        "-icount", "shift=4,sleep=off", "-cpu", "max", "-m", str(qemu_memory(args, guests + modules, len(guests))),
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
        "-chardev", "file,id=com1,path=com1", "-serial", "chardev:com1",
        "-chardev", "file,id=com2,path=com2", "-serial", "chardev:com2",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-device", "intel-iommu,intremap=on,aw-bits=48",
    ]
    for number in range(args.nics or len(guests)):
        # No ROM: firmware would look for a network to boot from.
        command += ["-netdev", f"hubport,id=n{number},hubid={number if args.wires == 'apart' else 0}",
                    "-device", f"{args.nic or 'e1000e'},netdev=n{number},addr={3 + number}.0,romfile=,"
                               f"mac=52:54:00:12:34:{0x56 + number:x}"]
    if args.capture:
        command += ["-object", "filter-dump,id=capture,netdev=n0,file=" +
                    str(pathlib.Path(args.capture).resolve()).replace(",", ",,")]
    (directory / "vmm").symlink_to(pathlib.Path(args.vmm).resolve())
    command += ["-kernel", "vmm", "-append", vmm_words(args, guests),
                "-initrd", qemu_list(file.line(name) for name, file in files)]
    for options in args.machine_options or []:
        command += shlex.split(options)
    with open(directory / "terminal.txt", "wb") as terminal:
        status = execute(command, lines, limit, directory, terminal)
    return status, (directory / "terminal.txt").read_text(errors="replace")[-2000:]


def named(files):
    """Each file with a name of its own, without what a command line has another meaning for."""
    taken = {}
    result = []
    for file in files:
        stem = name = re.sub(r"[^\w.+-]", "_", file.path.name) or "file"
        number = 1
        while name in ("vmm", "com1", "com2", "terminal.txt") or taken.setdefault(name, file.path) != file.path:
            number += 1
            name = f"{number}-{stem}"
        result.append((name, file))
    return result


# ------------------------------------------------------------------------------------------------------------ /dev/kvm

def run_kvm(args, guests, modules, lines, directory, limit):
    # The guest's COM1 and the VMM's log are files to it as they are to an emulator.
    command = [str(pathlib.Path(args.vmm).resolve()), "--com1", "com1", "--log", "com2", "--timeout", str(args.timeout)]
    if args.guest_memory:
        command += ["--memory", str(args.guest_memory)]
    for guest in guests:
        command += ["--guest", str(guest.path.resolve()), "--append", guest.words]
    for module in modules:
        command += ["--module", f"{module.path.resolve()}={module.words}"]
    with open(directory / "terminal.txt", "wb") as terminal:
        status = execute(command, lines, limit, directory, terminal)
    return status, (directory / "terminal.txt").read_text(errors="replace")[-2000:]


# --------------------------------------------------------------------------------------------------------- the verdict

def judge(kind, status, log, said, limit):
    """The exit status of this program, and a line about it (None: the VMM has said all)."""
    markers = MARKER.findall(log)
    end = markers[-1].decode(errors="replace").strip() if markers else None
    if end == "time limit":
        return TIME_IS_OVER, "the time of the run is over: the guest did not come to its end (its state is above)"
    code = re.fullmatch(r"status (0x[0-9a-fA-F]+|\d+)", end or "")
    if code:
        return (2 * int(code[1], 0) + 1) & 0xFF, None
    if end:
        return NO_END, f"the guest did not come to its end: {end}"
    if status is None:
        return TIME_IS_OVER, f"the VMM hung, too: killed after {limit:.0f} s of real time\n{said}"
    if status < 0:
        return NO_END, f"ended by signal {-status} ({signal.Signals(-status).name})\n{said}"
    if kind == "svm" and status > 1 and status % 2:
        return status, None  # isa-debug-exit; 1 is QEMU's own for any error
    if kind == "kvm" and status == SKIPPED:
        return SKIPPED, said.strip() or "skipped"
    if kind == "kvm" and status == WRONG:
        return WRONG, said.strip() or "the VMM does not take its command line"
    return NO_END, f"the VMM did not come to its end (exit status {status})\n{said}"


def number(text):
    """A number of something, of which there is some."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"wants a number above 0, not {text}")
    return int(text)


def seconds(text):
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"wants seconds, not {text}")
    return float(text)


def parse(words):
    # Who is called in the name of another command shows that one's name, and the options of its machine only; and
    # not what that command says itself.
    called = kind = None
    if words[:1] == ["--as"] and len(words) > 2:
        called, kind = words[1:3]
        words = words[2:]
    parser = argparse.ArgumentParser(prog=called or "run.py", formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=f"{MACHINES.get(kind, __doc__)}\n\n{OUTCOME}", allow_abbrev=False)
    parser.add_argument("machine", choices=list(MACHINES), help=argparse.SUPPRESS if called else None)
    belongs_to = {}

    def option(name, text, of=tuple(MACHINES), **more):
        if called and (kind not in of or name in ("--vmm", "--boot-sector")):
            text = argparse.SUPPRESS
        elif not called and len(of) < len(MACHINES):
            text = f"{', '.join(of)}: {text}"
        belongs_to[name] = (parser.add_argument(name, help=text, **more).dest, of)

    option("--vmm", "vmx: as it lies in memory; svm: ELF; kvm: a program", required=True, metavar="FILE")
    option("--boot-sector", "boot_sector.bin; otherwise the one beside the VMM", ("vmx",), metavar="FILE")
    option("--guest", f"a multiboot-1 kernel{' (default: the own guest of this project)' if called else ''}; of fewer "
                      "files than guests, the last one is booted again",
           required=not called, action="append", metavar="FILE" if kind == "vmx" else "FILE[,FILE]")
    option("--append", "the guest's command line; once for all guests, or once for each in their order" +
           {"vmx": " (default, for the own guest: no-loopback)",
            "kvm": " (default, for the own guest: nic=none)"}.get(kind, ""), action="append", metavar="WORDS")
    option("--module", "a module for each guest", action="append", metavar="FILE[=WORDS]")
    option("--guests", "how many guests (default: as many as files; at most: vmx 1, svm 2)", type=number, metavar="N")
    option("--guest-memory", f"of each guest: an even number, 4 to {MOST_GUEST_MEMORY.get(kind, 2048)} "
                             f"(default: {GUEST_MEMORY})", type=number, metavar="MIB")
    option("--timeout", "time limit in seconds of the machine's time (default: 60)", type=number, default=60,
           metavar="S")
    option("--real-time-limit", "when a run is killed whose VMM hangs, too "
                                f"(default: {REAL_TIME_FACTOR} * --timeout + {GRACE})", type=seconds, metavar="S")
    option("--vmm-append", "words for the VMM itself: audit=never (the default is audit=each-step), or story, which "
                           "makes one of its log", ("vmx", "svm"), action="append", metavar="WORDS")
    option("--capture", "what went over the wire", ("vmx", "svm"), metavar="FILE.pcap")
    option("--log", "what the VMM has to say goes there", metavar="FILE")
    option("--memory", "of the machine (default: vmx 256, svm 512, or what the guests need)", ("vmx", "svm"),
           type=number, metavar="MIB")
    option("--nic", "its model (default: e1000e)", ("svm",), choices=["e1000e", "e1000"])
    option("--nics", "how many (default: one for each guest)", ("svm",), type=int, choices=range(1, 9), metavar="N")
    option("--wires", "whether all NICs are on one wire, or each is on its own (default: one)", ("svm",),
           choices=["one", "apart"])
    option("--machine-options", "more for QEMU's command line, or a line of Bochs' configuration", ("vmx", "svm"),
           action="append", metavar="OPTIONS")

    args = parser.parse_args(words)
    args.called = parser.prog
    for name, (place, of) in belongs_to.items():
        if args.machine not in of and getattr(args, place) is not None:
            parser.error(f"{name} is nothing to vmm-{args.machine}: it is for " + " and ".join(f"vmm-{m}" for m in of))
    most = MOST_GUEST_MEMORY[args.machine]
    if args.guest_memory is not None and (args.guest_memory % 2 or not 4 <= args.guest_memory <= most):
        parser.error(f"--guest-memory: vmm-{args.machine} wants an even number of MiB, 4 to {most}")
    for word in " ".join(args.vmm_append or []).split():
        for start, name in SAID_BY_OPTIONS.items():
            if word.startswith(start):
                parser.error(f"--vmm-append: {word} is said by {name}")
    return args


def run(args):
    if not pathlib.Path(args.vmm).is_file():
        raise Failure(f"there is no VMM {args.vmm}: ./run vmm-{args.machine} builds it")
    if args.machine == "vmx":
        args.boot_sector = args.boot_sector or pathlib.Path(args.vmm).with_name("boot_sector.bin")
        if not pathlib.Path(args.boot_sector).is_file():
            raise Failure(f"there is no boot sector {args.boot_sector}: ./run vmm-vmx builds it")
    guests, modules = read_files(args)
    limit = args.real_time_limit or args.timeout * REAL_TIME_FACTOR + GRACE

    with contextlib.ExitStack() as at_end:
        log = at_end.enter_context(open_new(args.log)) if args.log else sys.stderr.buffer
        # A FIFO is opened by who writes: its reader would take this for its end.
        if args.capture and not pathlib.Path(args.capture).is_fifo():
            open_new(args.capture).close()
        # Together with Bochs' lock files and whatever else an emulator leaves behind, it is gone at the end.
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="pt-vmm-"))
        at_end.callback(shutil.rmtree, scratch, ignore_errors=True)
        lines = []
        for name, sink in [("com1", sys.stdout.buffer), ("com2", log)]:
            lines.append(Line(scratch / name, [sink]))
            at_end.callback(os.close, lines[-1].fd)
        start = {"vmx": run_vmx, "svm": run_svm, "kvm": run_kvm}[args.machine]
        status, said = start(args, guests, modules, lines, scratch, limit)
        return judge(args.machine, status, lines[1].text, said, limit)


def stop(*_):
    raise Interrupted


def main():
    args = parse(sys.argv[1:])
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        status, why = run(args)
    except Interrupted:
        status, why = 128 + signal.SIGINT, "interrupted"
    except (Failure, OSError) as failure:
        status, why = WRONG, str(failure)
    if why:
        print(f"{args.called}: {why.rstrip()}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
